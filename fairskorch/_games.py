"""What multipliers charge the network for, in sums over rows and in each step."""

import copy

import torch
from torch import Tensor

from fairskorch._cross_entropy import by_logits, cross_entropy
from fairskorch.penalties import GroupPenalty
from fairskorch.penalties._base import as_columns
from fairskorch.rates import cell_codes, raise_half, widest

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
        counts = torch.as_tensor(counts, dtype=torch.float64)
        self.shape, self.n_cells = counts.shape, counts.numel()
        self.register_buffer("masses", torch.empty(*counts.shape, 1).double())
        self.register_buffer("bases", forms.bases_of(counts.unsqueeze(-1)))
        self.register_buffer("levels", torch.zeros_like(forms.free))
        shape = (self.n_cells, forms.columns.n_values)
        self.register_buffer("slopes", torch.zeros(shape))
        self.register_buffer("weight", torch.ones(()))
        self.refer_to(counts)

    def placed(self, device, dtype):
        """Go to a device; what a step reads takes its type, the game stays exact."""
        kind = torch.device(device)
        self.to(kind) if kind.type != "mps" else self.to(kind, torch.float32)
        for name in ("slopes", "weight", "contrast"):
            setattr(self, name, getattr(self, name).to(dtype))
        self.refresh()
        return self

    def refer_to(self, counts):
        """Take the rows that rates refer to: counts by group and class."""
        shares = (counts / counts.sum()).unsqueeze(-1)
        self.masses.copy_(shares)
        self.bases.copy_(self.forms.bases_of(shares))

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
        return (values * slopes).sum() / len(logits) + self._rest()

    def lagrangian(
        self, task, logits, target, groups, weight=None, loss=None, reference=None
    ):
        """Return the task loss, with the derivative of the whole Lagrangian.

        A step needs no value of what the multipliers add.
        """
        values = self.soft_values(as_columns(logits), target, loss, reference)
        slopes = self._slopes(target, groups, weight)
        value = (values * slopes).sum() / len(logits)
        value = torch.addcmul(value, task, self.weight)
        return value - value.detach() + task.detach()

    def descent(self, logits, target, charges, weight=None):
        """Return the cross-entropy of rows, and the gradient of the Lagrangian.

        Of two classes whose scores are their probabilities, in as few operations as
        a device needs; those of the cross-entropy are the ones of its own gradient.

        Parameters
        ----------
        logits : Tensor of shape (n_samples, 2)
            Without a gradient.
        target : Tensor of shape (n_samples,), int64
        charges : Tensor of shape (n_samples,)
            `charges` of each row's cell, by the number of rows.
        weight : Tensor of shape (n_samples,), optional
            Of each row in the cross-entropy.

        Returns
        -------
        task : scalar Tensor
            Mean cross-entropy.
        by_logits : Tensor of shape (n_samples, 2)
        """
        task, logs, slopes = cross_entropy(logits, target, self.weight, weight)
        # The score is the probability of class 1, and that by its logarithm itself.
        score = logs.select(1, 1).exp()
        slopes.select(1, 1).addcmul_(score, charges)
        return task, by_logits(slopes, logs)

    def charges(self):
        """Return what multipliers charge for a score of class 1: (n_cells,)."""
        return self.slopes[:, 0]

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
        offsets = self.forms.offsets(self.forms.rates(statistic.to(self.masses.dtype)))
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
        total = rows.new_zeros(self.n_cells, rows.shape[1])
        total.index_add_(0, cell, rows)
        return total.view(*self.shape, -1)

    def _counted(self, logits, cell):
        """Return `sums` of two classes from counts of predictions alone."""
        said = logits[:, 1] > logits[:, 0]
        # No bincount: on CUDA it reads the largest number and waits for it.
        table = self.masses.new_zeros(2 * self.n_cells)
        each = table.new_ones(1).expand(len(cell))
        table = table.index_add_(0, torch.add(said, cell, alpha=2), each)
        table = table.view(*self.shape, 2)
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
        self.player.move(forms, forms.values(offsets, levels) * forms.shares)
        self.refresh()

    def refresh(self):
        """Look up what multipliers charge for the values of each cell."""
        effect = self.forms.effect(self.player.multipliers, self.bases)
        self.slopes.copy_(effect[..., 1:].roll(-1, 0).flatten(0, 1))
        self.weight.copy_(self.player.objective)

    def _rest(self):
        """Return what the weighted forms hold beside the values of rows."""
        multipliers, forms = self.player.multipliers, self.forms
        counted = forms.effect(multipliers, self.bases)[..., :1] * self.masses
        constant = multipliers * forms.values(forms.constants, self.levels)
        return (counted.sum() + constant.sum()).to(self.slopes.dtype)
