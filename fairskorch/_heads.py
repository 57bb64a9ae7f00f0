"""Train many linear heads on the same features as one batched problem.

Heads are independent. Those on the same set of rows (a fold, a draw) share one matrix
product; sets lie along the leading dimension. Optimisers that work element by element
move each head as if it were alone.
"""

import inspect
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from fairskorch._objective import HeadObjective, head_loss
from fairskorch.exceptions import NonFiniteLossError
from fairskorch.metrics import from_counts
from fairskorch.penalties._many import head_statistics, membership

#: Logits that are looked at together when heads are evaluated.
EVALUATED = 2**24


class HeadData(NamedTuple):
    """Features and codes of all rows, on one device; groups are -1 where unknown."""

    features: torch.Tensor
    target: torch.Tensor
    groups: torch.Tensor
    n_classes: int
    n_groups: int


class Heads(NamedTuple):
    """Weights (n_sets, n_classes, n_features, n_heads) and (n_sets, n_classes, 1, …).

    Attributes
    ----------
    weight, bias : Tensor
    """

    weight: torch.Tensor
    bias: torch.Tensor


class Settings(NamedTuple):
    """How heads are trained; `batch_size` None is all rows of a set at once."""

    optimizer: type
    optimizer_params: dict
    max_epochs: int
    batch_size: int | None
    seed: int


def fresh_head(n_features, n_classes, seed, like):
    """Draw the initial weights of a linear layer, as PyTorch does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(n_features, n_classes)
    return layer.weight.detach().to(like), layer.bias.detach().to(like)


def train_heads(data, sets, penalty, weights, start, settings, watch=None):
    """Train a head for each set of rows and each penalty weight.

    Parameters
    ----------
    data : HeadData
    sets : list of fairskorch._row_sets.RowSet
    penalty : GroupPenalty or None
    weights : Tensor of shape (n_heads,)
        Penalty weights, the same for every set.
    start : tuple of Tensor
        Weights (n_classes, n_features) and bias (n_classes,) to start from.
    settings : Settings
    watch : callable, optional
        Called with the number of epochs done and the `Heads`, after each epoch.

    Returns
    -------
    heads : Heads
        Sets in the order given.

    Raises
    ------
    NonFiniteLossError
        When weights are not finite in the end.
    """
    batches = [_n_batches(len(s.rows), settings.batch_size) for s in sets]
    done = {}
    # Sets take steps together, so they need as many; folds nearly always have.
    for n_batches in dict.fromkeys(batches):
        places = [i for i, n in enumerate(batches) if n == n_batches]
        some = [sets[i] for i in places]
        trainer = _Trainer(data, some, penalty, weights, start, settings, n_batches)
        for epoch in range(settings.max_epochs):
            trainer.epoch()
            if watch is not None:
                watch(epoch + 1, trainer.heads)
        trained = zip(*(part.detach() for part in trainer.heads), strict=True)
        done |= dict(zip(places, trained, strict=True))
    ordered = zip(*(done[i] for i in range(len(sets))), strict=True)
    heads = Heads(*map(torch.stack, ordered))
    if not all(bool(torch.isfinite(part).all()) for part in heads):
        raise NonFiniteLossError(
            "Weights of the last layer became NaN or infinite. Try a smaller lr or "
            "penalty_weight, or standardise what the last layer gets."
        )
    return heads


class _Trainer:
    """Weights, optimiser and rows of heads that take their steps together."""

    def __init__(self, data, sets, penalty, weights, start, settings, n_batches):
        self.data, self.n_batches = data, n_batches
        features = data.features
        n_sets, n_heads = len(sets), len(weights)
        weight, bias = (part.to(features) for part in start)
        weight = weight[None, :, :, None].repeat(n_sets, 1, 1, n_heads)
        bias = bias[None, :, None, None].repeat(n_sets, 1, 1, n_heads)
        self.heads = Heads(weight.requires_grad_(), bias.requires_grad_())
        kind, params = settings.optimizer, dict(settings.optimizer_params)
        self.optimizer = kind(list(self.heads), **params)
        self.sizes = [len(s.rows) for s in sets]
        self.generators = [torch.Generator().manual_seed(settings.seed) for _ in sets]
        # One place more than the longest set has rows: what fills up batches.
        width = max(self.sizes) + (n_batches > 1)
        rows = _filled([s.rows for s in sets], width).to(features.device)
        self.weight = _filled([s.weight for s in sets], width).to(features)
        share = _filled([s.share for s in sets], width).to(features)
        self.objective = HeadObjective(
            penalty, weights.to(features), n_sets, data.n_classes
        )
        self.members = None
        if penalty is not None:
            codes = data.target[rows], data.groups[rows]
            self.members = membership(*codes, data.n_groups, data.n_classes, share)
        self.rows, self.target = rows, data.target[rows]
        self.whole = None
        if n_batches == 1:
            X = features[rows.flatten()].view(*rows.shape, -1)
            self.whole = [(X, self.target, self.weight, self.members)]

    @torch.no_grad()
    def epoch(self):
        """Take the steps of an epoch, all heads at once."""
        for X, target, weight, members in self.whole or self._batches():
            self._step(X, target, weight / weight.sum(1, keepdim=True), members)

    def _batches(self):
        """Cut each set's rows, in an order of its own, into batches."""
        filler = self.rows.shape[1] - 1
        orders = [
            _alike(torch.randperm(n, generator=g), self.n_batches, filler)
            for n, g in zip(self.sizes, self.generators, strict=True)
        ]
        width = max(order.shape[1] for order in orders)
        orders = [F.pad(o, (0, width - o.shape[1]), value=filler) for o in orders]
        order = torch.stack(orders).to(self.rows.device).flatten(1)

        def cut(values):
            return values.gather(1, order).view(len(order), -1, width).unbind(1)

        members = [None] * self.n_batches
        if self.members is not None:
            wide = order.unsqueeze(1).expand(-1, self.members.shape[1], -1)
            members = self.members.gather(2, wide).unflatten(2, (-1, width)).unbind(2)
        parts = (*map(cut, (self.rows, self.target, self.weight)), members)
        for rows, target, weight, cells in zip(*parts, strict=True):
            X = self.data.features.index_select(0, rows.flatten())
            yield X.view(*rows.shape, -1), target, weight, cells

    def _step(self, X, target, weight, members):
        logits = head_logits(X, self.heads)
        gradient = self.objective.slopes(logits, target, weight, members)
        flat = gradient.flatten(2)
        of_weight, of_bias = torch.bmm(X.mT, flat), flat.sum(1, keepdim=True)
        for part, slope in zip(self.heads, (of_weight, of_bias), strict=True):
            if gradient.ndim == 3:
                part.grad = torch.stack([-slope, slope], dim=1)
            else:
                n_classes = self.data.n_classes
                slope = slope.unflatten(2, (-1, n_classes)).permute(0, 3, 1, 2)
                # Fused optimisers go through memory as if it were.
                part.grad = slope.contiguous()
        self.optimizer.step()


def head_logits(X, heads):
    """Return the logits of all heads.

    Parameters
    ----------
    X : Tensor of shape (n_sets, n_rows, n_features)
    heads : Heads

    Returns
    -------
    logits : Tensor of shape (n_sets, n_rows, n_heads[, n_classes])
        Of two classes only their difference matters to any loss, score or prediction,
        which halves the work: the logit of class 1.
    """
    weight, bias = (part.detach() for part in heads)
    n_classes = weight.shape[1]
    if n_classes == 2:
        return torch.baddbmm(bias[:, 1] - bias[:, 0], X, weight[:, 1] - weight[:, 0])
    weight, bias = (part.permute(0, 2, 3, 1).flatten(2) for part in (weight, bias))
    return torch.baddbmm(bias, X, weight).unflatten(2, (-1, n_classes))


@torch.no_grad()
def evaluate_heads(data, heads, sets, penalty, metrics=()):
    """Compute loss, penalty and metrics of every head on rows of its set.

    Parameters
    ----------
    data : HeadData
    heads : Heads
    sets : list of ndarray of int64
        Row numbers, one array for each set of heads. Rows count alike.
    penalty : GroupPenalty or None
    metrics : iterable of str, default=()
        Metrics of groups beside the one that belongs to the penalty.

    Returns
    -------
    values : dict of str to ndarray of shape (n_sets, n_heads)
        As `fairskorch.monitor.evaluate`.
    """
    parts = [
        _evaluate(data, Heads(*(p[i : i + 1] for p in heads)), rows, penalty, metrics)
        for i, rows in enumerate(sets)
    ]
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def _evaluate(data, heads, rows, penalty, metrics):
    device = data.features.device
    n_heads = heads.weight.shape[-1]
    step = max(1, EVALUATED // (n_heads * data.n_classes))
    total, counts, statistic = 0.0, 0.0, 0.0
    known = data.n_groups * data.n_classes
    for part in torch.as_tensor(rows, device=device).split(step):
        target, groups = data.target[part], data.groups[part]
        logits = head_logits(data.features[part].unsqueeze(0), heads)
        loss = head_loss(logits, target.unsqueeze(0))
        total = total + loss.sum(1).squeeze(0)
        # Accuracy needs no group: rows of unknown group are counted in a spare one.
        spare = torch.where(groups < 0, data.n_groups, groups)
        one = torch.ones(len(part), dtype=loss.dtype, device=device)
        members = membership(target, spare, data.n_groups + 1, data.n_classes, one)
        predicted = (logits > 0).long() if logits.ndim == 3 else logits.argmax(-1)
        hits = F.one_hot(predicted[0], data.n_classes).to(loss.dtype).flatten(1)
        sums = (members @ hits).unflatten(1, (n_heads, -1)).transpose(0, 1)
        counts = counts + sums
        if penalty is not None:
            values = penalty.head_values(logits, target.unsqueeze(0), loss)
            cells = members[None, :known]
            statistic = statistic + head_statistics(penalty, values, cells)[0]
    counts = counts.cpu().double().unflatten(1, (-1, data.n_classes))
    counts = torch.cat([counts.sum(-1, keepdim=True), counts], dim=-1)
    found = {"loss": total / len(rows)}
    if penalty is not None:
        found["penalty"] = penalty.evaluate(statistic)
    for name in ("accuracy", "balanced_accuracy"):
        found[name] = from_counts(name, counts.sum(1, keepdim=True))
    if data.n_groups > 1:
        own = getattr(penalty, "metric", "equalized_odds_difference")
        for metric in dict.fromkeys((own, *metrics)):
            found[metric] = from_counts(metric, counts[:, : data.n_groups])
    return {name: value.cpu().double().numpy() for name, value in found.items()}


def optimizer_settings(kind, params, lr):
    """Return the arguments of an optimiser; SGD as in the paper's code."""
    known = inspect.signature(kind).parameters
    if kind is torch.optim.SGD:
        params = {"momentum": 0.9, "weight_decay": 5e-4, **params}
    if "fused" in known and not {"fused", "foreach"} & params.keys():
        params = {"fused": True, **params}
    return {"lr": lr, **params}


def _n_batches(n_rows, batch_size):
    return 1 if batch_size is None else -(-n_rows // batch_size)


def _filled(arrays, width):
    """Stack arrays of different lengths; what is missing is 0."""
    arrays = [np.pad(values, (0, width - len(values))) for values in arrays]
    return torch.as_tensor(np.stack(arrays))


def _alike(order, n_batches, filler):
    """Cut an order into batches whose sizes differ by at most one, as rows."""
    short, longer = divmod(len(order), n_batches)
    width = short + (longer > 0)
    sizes = torch.full((n_batches,), short)
    sizes[:longer] += 1
    out = torch.full((n_batches, width), filler)
    out[torch.arange(width) < sizes.unsqueeze(1)] = order
    return out
