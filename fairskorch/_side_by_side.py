"""Train the networks of many penalty weights, and of many folds, in the same steps.

Networks of a fold see the same batches, so they share rows, groups and cells; each step
moves all of them. What a network becomes is, up to rounding, what it would be alone.
"""

import copy
from typing import NamedTuple

import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

from fairskorch._batched_layers import CannotStack
from fairskorch._objective import HeadObjective
from fairskorch._settings import own_randomness
from fairskorch._stacks import failures, stack
from fairskorch.batches import Batches
from fairskorch.nets import GroupPenaltyNet
from fairskorch.penalties._many import membership

#: Optimisers that move each weight by itself.
ELEMENTWISE = (
    *(torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.NAdam),
    *(torch.optim.RAdam, torch.optim.RMSprop, torch.optim.Adagrad),
    *(torch.optim.Adamax, torch.optim.Adadelta),
)

#: Bytes of training rows and outputs of folds that are trained side by side.
TOGETHER = 2**28

#: Rows that a stack is tried on.
TRIED = 16

#: Rows times weights that are predicted at a time: few enough for what layers return to
#: stay in the memory next to a processor, or in that of a device.
EVALUATED = {"cpu": 2**12, "cuda": 2**15, "mps": 2**13}


class Part(NamedTuple):
    """An initialised net and the batches that it is to be trained on."""

    net: GroupPenaltyNet
    batches: Batches


def obstacle(net):
    """Return why networks like this cannot be trained in the same steps, or None."""
    if type(net.optimizer_) not in ELEMENTWISE:
        return f"{type(net.optimizer_).__name__} does not move each weight by itself"
    if len(net.optimizer_.param_groups) > 1:
        return "the optimiser has groups of parameters"
    criterion = net.criterion_
    plain = type(criterion) is torch.nn.CrossEntropyLoss and criterion.weight is None
    if not plain or criterion.label_smoothing or criterion.ignore_index >= 0:
        return f"the criterion is a {type(criterion).__name__} with own settings"
    if net.compile:
        return "the module is compiled"
    if net.penalty_ is not None and not net.penalty_.is_summed():
        return f"{type(net.penalty_).__name__} has a penalise() of its own"
    return None


def can_join(parts, n_outputs):
    """Tell whether folds are alike and small enough to take their steps together."""
    first = parts[0]
    if len({(len(p.batches), _n_groups(p.net)) for p in parts}) > 1:
        return False
    rows = [p.batches.rows for p in parts]
    numbers = sum(len(r) * (r.source.numbers_in_row + n_outputs) for r in rows)
    return 4 * numbers <= TOGETHER and first.batches.augment is None


def stack_of(parts, n_weights, mapped):
    """Return the stack of networks of some parts.

    Raises
    ------
    CannotStack
        When a layer cannot be stacked, or parts need steps of their own.
    """
    first = parts[0]
    modules = [part.net.module_ for part in parts]
    stacked = stack(modules, n_weights, _few_rows(first), mapped=mapped)
    if len(parts) > 1 and (stacked.couples_rows or stacked.draws):
        raise CannotStack("rows of a batch depend on each other or on a draw")
    return stacked


class SideBySide:
    """The networks of some folds, one for each penalty weight of each.

    Parameters
    ----------
    parts : list of Part
        Of one fold, or of several with as many batches.
    weights : ndarray of shape (n_weights,)
        Penalty weights.
    mapped : bool
        Whether `torch.func.vmap` may be used.

    Raises
    ------
    CannotStack
        When a layer cannot be stacked, or a step of training fails.
    """

    def __init__(self, parts, weights, mapped):
        net = parts[0].net
        self.parts, self.net = parts, net
        self.stacked = stack_of(parts, len(weights), mapped)
        self._try()
        kind = type(net.optimizer_)
        _, params = net.get_params_for_optimizer("optimizer", [])
        self.optimizer = kind(list(self.stacked.parameters()), **params)
        self.schedule = None
        if "lr_schedule" in dict(net.callbacks_):
            self.schedule = CosineAnnealingLR(self.optimizer, T_max=net.max_epochs)
        dtype = torch.float64 if net.precision == "float64" else torch.float32
        self.weights = torch.as_tensor(weights, dtype=dtype, device=net.device)
        n_classes = len(net.classes)
        penalty = net.penalty_
        self.objective = HeadObjective(penalty, self.weights, len(parts), n_classes)
        self.n_epochs = 0

    def _try(self):
        """Go through a copy and back as in training, as the way back alone may fail."""
        X = torch.stack([_few_rows(part) for part in self.parts])
        with failures(), own_randomness(0, X.device):
            self.net.infer_with(copy.deepcopy(self.stacked), X).sum().backward()

    def epoch(self):
        """Take the steps of an epoch."""
        warmup = self.net.penalty_warmup
        self.objective.ramp(min(1.0, self.n_epochs / warmup) if warmup else 1.0)
        for batches in zip(*(part.batches for part in self.parts), strict=True):
            self.step(batches)
        if self.schedule is not None:
            self.schedule.step()
        self.n_epochs += 1

    def step(self, batches):
        """Move all networks by one batch of each part."""
        fields, target = _joined(batches)
        self.optimizer.zero_grad()
        outputs = self.net.infer_with(self.stacked, fields["X"])
        logits = outputs.detach()
        two = logits.shape[-1] == 2
        # The objective has sets, rows, heads: a row is seen by all heads.
        logits = logits[..., 1] - logits[..., 0] if two else logits
        logits = logits.transpose(1, 2)
        slopes = self.objective.slopes(
            logits.contiguous(), target, fields["weight"], self._members(fields, target)
        ).transpose(1, 2)
        if two:
            slopes = torch.stack([-slopes, slopes], dim=-1)
        outputs.backward(slopes)
        self.optimizer.step()

    def _members(self, fields, target):
        penalty = self.net.penalty_
        if penalty is None:
            return None
        share = fields["counts"]
        if self.net._undoes_sampling:
            share = share * fields["importance"]
        return membership(
            target, fields["groups"], penalty.n_groups, penalty.n_classes, share
        )

    @torch.no_grad()
    def logits(self, rows):
        """Return logits (n_parts, n_weights, n_rows, n_classes), on the CPU.

        Parameters
        ----------
        rows : GroupedRows
        """
        self.stacked.eval()
        found = []
        for fields, _ in self.net.get_iterator(rows, training=False):
            X = fields["X"]
            few = max(1, EVALUATED[X.device.type] // len(self.weights))
            for some in X.split(few):
                some = some.expand(len(self.parts), *some.shape)
                found.append(self.net.infer_with(self.stacked, some).cpu())
        self.stacked.train()
        return torch.cat(found, dim=2)

    def state(self, i, j):
        """Return the state dict of the network of part i and weight j."""
        return self.stacked.state(i, j)

    def is_finite(self):
        """Tell which networks are finite: ndarray (n_parts, n_weights) of bool."""
        return self.stacked.is_finite().cpu().numpy()


@torch.no_grad()
def _few_rows(part):
    fields, _ = part.batches.batch(torch.arange(TRIED) % len(part.batches.rows))
    return fields["X"]


def _n_groups(net):
    return 0 if net.penalty_ is None else net.penalty_.n_groups


def _joined(batches):
    """Join the batches of several folds; rows that fill them up count for nothing."""
    width = max(len(target) for _, target in batches)
    parts = []
    for fields, target in batches:
        ones = torch.ones(len(target), dtype=fields["X"].dtype, device=target.device)
        weight = fields.get("weight", ones)
        part = {
            "X": fields["X"],
            "groups": fields["groups"],
            "weight": weight / weight.sum(),
            "counts": ones,
            "importance": fields.get("importance", ones),
            "target": target,
        }
        missing = width - len(target)
        if missing:
            part = {
                name: _padded(values, missing, -1 if name == "groups" else 0)
                for name, values in part.items()
            }
        parts.append(part)
    joined = {name: torch.stack([p[name] for p in parts]) for name in parts[0]}
    return joined, joined.pop("target")


def _padded(values, missing, filler):
    return F.pad(values, (0, 0) * (values.ndim - 1) + (0, missing), value=filler)
