"""The game between a network and multipliers, inside the training of a net."""

import copy

import torch
from torch import Tensor

from fairskorch._mixtures import Snapshots
from fairskorch._penalised_loss import DTYPES
from fairskorch.batches import Batches
from fairskorch.nets import GroupPenaltyNet
from fairskorch.penalties import GroupPenalty
from fairskorch.penalties._base import as_columns
from fairskorch.rates import cell_codes, raise_half, widest

#: Least distance that is divided by.
TINY = 1e-30

#: Metrics that the history has for constraints of a name.
METRICS = {
    "ae": "accuracy_difference",
    "di": "demographic_parity_ratio",
    "dp": "demographic_parity_difference",
    "eopp": "equal_opportunity_difference",
    "mmf": "worst_group_accuracy",
    "BoundedGroupLoss": "worst_group_accuracy",
    "DemographicParity": "demographic_parity_difference",
    "ErrorRateParity": "accuracy_difference",
    "TruePositiveRateParity": "equal_opportunity_difference",
}


class ConstraintGame(GroupPenalty):
    r"""What the multipliers add to the task loss: :math:`\sum_i \lambda_i h_i(\theta)`.

    The forms :math:`h_i` are those of `fairskorch.constraints._forms` on scores, with
    the training rows' counts as denominators. They are linear in scores, so their
    derivative is one number for each cell and value, which is made once a round; a
    batch looks it up, and its mean is an unbiased estimate however rare a cell is.

    Parameters
    ----------
    n_groups, n_classes : int
    forms : Forms
    player : LagrangianPlayer or ProxyPlayer
    counts : Tensor of shape (1 + n_groups, n_classes)
        Training rows by group and class, those of unknown group first.
    slope : float
        Factor on the logits before they become scores.
    hard : bool
        Whether the multipliers see hard predictions, or the scores themselves.
    """

    def __init__(self, n_groups, n_classes=2, *, forms, player, counts, slope, hard):
        super().__init__(max(n_groups, 1), n_classes, slope=slope)
        # A net may be built again from the same parameters.
        self.forms = copy.deepcopy(forms)
        self.player = copy.deepcopy(player)
        self.hard = hard
        self.plain = n_classes == 2 and not forms.columns.others
        self.metric = METRICS.get(forms.labels[0][0], "equalized_odds_difference")
        counts = torch.as_tensor(counts, dtype=torch.float64).unsqueeze(-1)
        self.register_buffer("counts", counts)
        self.register_buffer("levels", torch.zeros_like(forms.free))
        shape = (counts[..., 0].numel(), forms.columns.n_values)
        self.register_buffer("slopes", torch.zeros(shape))
        self.register_buffer("rest", torch.zeros(()))
        self.register_buffer("weight", torch.ones(()))

    def placed(self, device, dtype):
        """Go to a device; what a step reads takes its type, the game stays exact."""
        kind = torch.device(device)
        self.to(kind) if kind.type != "mps" else self.to(kind, torch.float32)
        for name in ("slopes", "rest", "weight", "contrast"):
            setattr(self, name, getattr(self, name).to(dtype))
        self._refresh()
        return self

    def penalise(
        self,
        logits: Tensor,
        target: Tensor,
        groups: Tensor,
        weight: Tensor | None = None,
        loss: Tensor | None = None,
        memory: Tensor | None = None,
        reference: Tensor | None = None,
    ) -> Tensor:
        """Return the forms of a batch, weighted by the multipliers.

        Parameters are those of `GroupPenalty.penalise`, and `reference`, the classes
        that a constraint on churn compares with.
        """
        logits = as_columns(logits)
        values = self.soft_values(logits, target, loss, reference)
        slopes = self._slopes(target, groups, weight)
        return (values * slopes).sum() / len(logits) + self.rest

    def lagrangian(
        self, task, logits, target, groups, weight=None, loss=None, reference=None
    ):
        """Return the task loss, with the derivative of the whole Lagrangian.

        A step needs no value of what the multipliers add.
        """
        values = self.soft_values(as_columns(logits), target, loss, reference)
        slopes = self._slopes(target, groups, weight)
        value = (values * slopes).sum() / len(logits)
        return torch.addcmul(value - value.detach(), task, self.weight)

    def derivative(self, logits, slopes):
        """Return what multipliers add to the gradient by logits of two classes.

        Parameters
        ----------
        logits : Tensor of shape (n_samples, 2)
        slopes : Tensor of shape (n_samples,)
            Those of each row's cell, by the number of rows.

        Returns
        -------
        derivative : Tensor of shape (n_samples, 2)
        """
        scores = torch.mv(logits.detach(), self.contrast).sigmoid_()
        by_score = torch.ops.aten.sigmoid_backward(slopes, scores)
        return torch.outer(by_score, self.contrast)

    def _slopes(self, target, groups, weight):
        # Unknown groups have code -1, and their slopes are the last.
        slopes = self.slopes[torch.add(target, groups, alpha=self.n_classes)]
        return slopes if weight is None else slopes * weight.unsqueeze(1)

    def row_values(self, logits, target, loss=None):
        """Score rows as `GroupPenalty.row_values`; churn is left out."""
        return self.soft_values(logits, target, loss)

    def evaluate(self, statistic, running=None):
        """Return the forms of complete sums of rows of known group, weighted.

        A rate of all rows is that of these, and without groups there is none.
        """
        if self.forms.n_groups:
            statistic = torch.nn.functional.pad(statistic, (0, 0, 0, 0, 1, 0))
        offsets = self.forms.offsets(self.forms.rates(statistic.to(self.counts.dtype)))
        values = self.forms.values(offsets, self.levels)
        return (self.player.multipliers * values).sum(-1)

    def soft_values(self, logits, target, loss=None, reference=None):
        """Score each row: ``(n_samples, n_values)``, with a gradient."""
        values = [self.scores(logits)]
        for name in self.forms.columns.others:
            if name == "loss":
                if loss is None:
                    loss = torch.nn.functional.cross_entropy(
                        logits, target, reduction="none"
                    )
                values.append(loss.unsqueeze(1))
            elif name == "square":
                values.append((self._second(logits) - target.unsqueeze(1)).square())
            elif reference is None:
                values.append(torch.zeros_like(values[0][:, :1]))
            else:
                shares = torch.softmax(self.slope * raise_half(logits), 1)
                values.append(1 - shares.gather(1, reference.unsqueeze(1)))
        return torch.cat(values, 1)

    def hard_values(self, logits, target, loss=None, reference=None):
        """Judge each row by its most probable class: ``(n_samples, n_values)``."""
        values = self.soft_values(logits, target, loss, reference)
        predicted = logits.argmax(1, keepdim=True)
        n_scores = self.forms.columns.n_scores
        kinds = torch.arange(n_scores, device=logits.device) + (n_scores == 1)
        values[:, :n_scores] = (predicted == kinds).to(values.dtype)
        for i, name in enumerate(self.forms.columns.others):
            if name == "churn" and reference is not None:
                changed = predicted != reference.unsqueeze(1)
                values[:, n_scores + i] = changed.squeeze(1).to(values.dtype)
        return values

    def _second(self, logits):
        return torch.softmax(raise_half(logits), 1)[:, 1:2]

    @torch.no_grad()
    def sums(self, logits, target, fields, loss, hard):
        """Sum values, weights and weighted errors over the cells of some rows.

        Returns
        -------
        sums : Tensor of shape (1 + n_groups, n_classes, 3 + 2 * n_values)
            Counts, values, their squares, weights, and weights of wrong predictions.
        """
        logits = as_columns(logits)
        cell = cell_codes(target, fields["groups"], self.n_classes)
        weight = fields.get("weight")
        if hard and self.plain and weight is None:
            return self._counted(logits, cell)
        judge = self.hard_values if hard else self.soft_values
        values = judge(logits, target, loss, fields.get("reference"))
        values = values.to(widest(values.device))
        weight = torch.ones_like(target) if weight is None else weight
        weight = weight.to(values.dtype).unsqueeze(1)
        wrong = weight * (logits.argmax(1) != target).unsqueeze(1)
        ones = torch.ones_like(weight)
        rows = torch.cat([ones, values, values.square(), weight, wrong], 1)
        total = rows.new_zeros(self.counts.numel(), rows.shape[1])
        total.index_add_(0, cell, rows)
        return total.view(*self.counts.shape[:2], -1)

    def _counted(self, logits, cell):
        """Return `sums` of two classes from counts of predictions alone."""
        said = logits[:, 1] > logits[:, 0]
        table = torch.bincount(2 * cell + said, minlength=2 * self.counts.numel())
        table = table.to(self.counts.dtype).view(*self.counts.shape[:2], 2)
        count, second = table.sum(-1), table[..., 1]
        wrong = torch.stack([second[:, 0], table[:, 1, 0]], 1)
        return torch.stack([count, second, second, count, wrong], -1)

    def counted(self, sums):
        """Return the statistic that forms read, of what `sums` returns."""
        return sums[..., : 1 + self.forms.columns.n_values]

    @torch.no_grad()
    def play(self, sums):
        """Let the players of multipliers and of slack move.

        Parameters
        ----------
        sums : Tensor
            Of all rows that multipliers move on, as `sums` returns them.
        """
        forms = self.forms
        offsets = forms.offsets(forms.rates(self.counted(sums)))
        levels = forms.free_levels(offsets)
        levels = forms.slack_levels(levels, self.player.multipliers)
        self.levels.copy_(levels)
        self.player.move(forms, forms.values(offsets, levels))
        self._refresh()

    def _refresh(self):
        slopes, rest = self.forms.effect(
            self.player.multipliers, self.levels, self.counts
        )
        # Batches give means, and the derivative is by sums over all rows.
        slopes = slopes.roll(-1, 0).flatten(0, 1)
        self.slopes.copy_(slopes * self.counts.sum())
        self.rest.copy_(rest)
        self.weight.copy_(self.player.objective)


class ConstrainedNet(GroupPenaltyNet):
    """A net that plays a game with multipliers while it trains.

    Its penalty is a `ConstraintGame`. After every few steps a *round* is played: the
    network is held still, its hard predictions of the rows in `game_rows` are
    counted, the multipliers move on these counts, and the weights are kept.

    Parameters
    ----------
    module : type or callable
        The network; returns logits of shape (n_samples, n_classes).
    rounds : int, default=2
        Rounds in an epoch, evenly spaced; at most one a step.
    radius : float, optional
        The weights stay in a ball around those that they start from.
    radius_scope : {"network", "layer"}, default="network"
        Whether there is one ball for all weights, or one for each layer.
    **kwargs
        As `GroupPenaltyNet`.
    """

    cuda_dependent_attributes_ = [
        *GroupPenaltyNet.cuda_dependent_attributes_,
        "members_",
    ]

    _game_batches = _store = _balls = _start = _scale = _rows = None

    def __init__(
        self, module, *args, rounds=2, radius=None, radius_scope="network", **kwargs
    ):
        self.rounds = rounds
        self.radius = radius
        self.radius_scope = radius_scope
        super().__init__(module, *args, **kwargs)

    def initialize_penalty(self):
        """Build the game; its own numbers stay in float64."""
        if self.penalty is None:
            return super().initialize_penalty()
        dtype = DTYPES[self.precision]
        game = self.initialized_instance(self.penalty, self.get_params_for("penalty"))
        self.penalty_ = game.placed(self.device, dtype)
        self.penalty_memory_ = self.penalty_multiplier_ = None
        self._ramped_weight = torch.ones((), dtype=dtype, device=self.device)
        return self

    @property
    def _undoes_sampling(self):
        """Whether drawn rows count otherwise than the rows that rates refer to."""
        return self.penalty_ is not None and self.sampler != "shuffle"

    def get_iterator(self, dataset, training=False):
        """Cut rows into batches; those of a step bring slopes in place of groups."""
        batches = super().get_iterator(dataset, training)
        looked_up = training and self.penalty_ is not None and self.penalty_.plain
        if looked_up and isinstance(batches, Batches) and not self._has_step_hooks():
            self._rows = RowSlopes(batches, self.penalty_)
        return batches

    def descend(self, outputs, fields, target):
        """Give the weights the gradient of the Lagrangian; return the task loss."""
        if "slopes" not in fields:
            return super().descend(outputs, fields, target)
        task = self._mean_loss(self.criterion_(outputs, target), fields)
        game, slopes = self.penalty_, fields["slopes"]
        if len(slopes) != self._rows.batch_size:
            slopes = slopes * (self._rows.batch_size / len(slopes))
        by_outputs = game.derivative(outputs, slopes)
        torch.autograd.backward([task, outputs], [game.weight, by_outputs])
        return task

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return task loss, and in training what the multipliers add to it."""
        loss = self.criterion_(y_pred, y_true)
        task = self._mean_loss(loss, X)
        if not training or self.penalty_ is None:
            return task
        return self.penalty_.lagrangian(
            task,
            y_pred,
            y_true,
            X["groups"],
            X["importance"] if self._undoes_sampling else None,
            loss if loss.ndim else None,
            X.get("reference"),
        )

    def start_game(self, rows, scale, n_steps, first_kept, keep_every):
        """Prepare for rounds.

        Parameters
        ----------
        rows : GroupedRows
            What the multipliers see in a round.
        scale : Tensor of shape (1 + n_groups, n_classes)
            Rows that a row of a cell stands for.
        n_steps : int
            Steps in an epoch.
        first_kept, keep_every : int
            Round from which on weights are kept, and after how many again.
        """
        self._game_batches = None
        if self.penalty_ is not None:
            self._game_batches = self.get_iterator(rows, training=False)
            self._scale = scale.to(self.device).unsqueeze(-1)
            self._scale = self._scale.to(self.penalty_.counts.dtype)
        self._n_steps = n_steps
        self._n_done = 0
        self._keeping = (first_kept, keep_every)
        self._store = Snapshots(self.module_)
        self._seen, self._paths = [], []
        self._balls = self._start = None
        if self.radius is not None:
            self._balls = _balls(self.module_, self.radius_scope)
            self._start = [[w.detach().clone() for w in ball] for ball in self._balls]

    def end_game(self):
        """Let go of the rows, and return what the rounds left.

        Returns
        -------
        store : Snapshots
        seen : Tensor of shape (n_kept, 1 + n_groups, n_classes, n_sums) or None
            What the multipliers saw of the weights that were kept, as
            `ConstraintGame.sums` returns it.
        paths : Tensor of shape (n_rounds, n_forms) or None
            Multipliers after each round.
        """
        store, seen, paths = self._store, self._seen, self._paths
        self._forget_game()
        if not seen:
            return store, None, None
        return store, torch.stack(seen).cpu(), torch.stack(paths).cpu()

    def _forget_game(self):
        self._game_batches = self._store = self._balls = self._start = None
        self._rows = None
        self._seen, self._paths = [], []

    def __getstate__(self):
        game = ("_game_batches", "_store", "_balls", "_start", "_scale", "_rows")
        return {**super().__getstate__(), **dict.fromkeys(game)}

    @torch.no_grad()
    def after_update(self):
        """Bring the weights back into their balls."""
        super().after_update()
        if self.radius is None:
            return
        for ball, start in zip(self._balls, self._start, strict=True):
            project(ball, start, self.radius)

    def after_step(self):
        """Play a round when it is due."""
        before = self._n_done * self.rounds // self._n_steps
        self._n_done += 1
        if self._game_batches is None:
            return
        if self._n_done * self.rounds // self._n_steps > before:
            self._play_round()

    def _play_round(self):
        self._set_training(False)
        sums = self.sums_of(self.module_, self._game_batches, self.penalty_.hard)
        sums = sums * self._scale
        n_played, (first, every) = len(self._paths), self._keeping
        if n_played >= first and (n_played - first) % every == 0:
            self._store.take(self.module_)
            self._seen.append(sums)
        self.penalty_.play(sums)
        if self._rows is not None:
            self._rows.refresh()
        self._paths.append(self.penalty_.player.multipliers.clone())
        self._set_training(True)

    @torch.no_grad()
    def sums_of(self, module, batches, hard=True):
        """Return `ConstraintGame.sums` of all rows under a network in eval mode."""
        total = 0
        for fields, target in batches:
            logits = self.infer_with(module, fields)
            loss = None
            if "loss" in self.penalty_.forms.columns.others:
                loss = self.criterion_(logits, target)
                loss = loss if loss.ndim else None
            total = total + self.penalty_.sums(logits, target, fields, loss, hard)
        return total

    def on_epoch_end(self, net, **kwargs):
        """Record what the multipliers are and what they saw last."""
        if self._paths:
            game = self.penalty_
            self.history.record("multiplier_sum", float(game.player.multipliers.sum()))
        return super().on_epoch_end(net, **kwargs)


class RowSlopes:
    """What the multipliers of two classes charge for the score of each row.

    They change once a round, so a step picks those of its rows and nothing else: the
    slopes of cells by the number of rows in a batch.

    Parameters
    ----------
    batches : Batches
        Training batches; get a field ``"slopes"`` in place of groups.
    game : ConstraintGame
    """

    def __init__(self, batches, game):
        self.game = game
        groups = batches.fields.pop("groups")
        self.cell = torch.add(batches.y, groups, alpha=game.n_classes)
        self.batch_size = batches.batch_size
        share = batches.fields.pop("importance", torch.ones(()))
        self.share = (share / self.batch_size).to(game.slopes)
        # In one place, where a captured step finds them.
        self.slopes = game.slopes.new_zeros(len(self.cell))
        batches.fields["slopes"] = self.slopes
        self.refresh()

    def refresh(self):
        """Look them up again."""
        torch.take(self.game.slopes, self.cell, out=self.slopes).mul_(self.share)


def project(weights, start, radius):
    """Move weights to the nearest point of a ball, in place, without a wait.

    Parameters
    ----------
    weights, start : list of Tensor
        Together one vector each; the ball is around `start`.
    radius : float
        In the units of the weights, Frobenius norm. Weights inside stay bit for bit.
    """
    parts = [
        torch.linalg.vector_norm(w - s, dtype=widest(w.device))
        for w, s in zip(weights, start, strict=True)
    ]
    distance = torch.linalg.vector_norm(torch.stack(parts))
    back = 1 - radius / distance.clamp_min(max(radius, TINY))
    for weight, origin in zip(weights, start, strict=True):
        weight.lerp_(origin, back.to(weight.dtype))


def _balls(module, scope):
    """Return the weights that move, in one list or in one for each layer."""
    parts = [list(part.parameters(recurse=False)) for part in module.modules()]
    parts = [[w for w in part if w.requires_grad] for part in parts]
    parts = [part for part in parts if part]
    return parts if scope == "layer" else [[w for part in parts for w in part]]
