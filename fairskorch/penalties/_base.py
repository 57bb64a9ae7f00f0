"""The penalty's interface: statistics in, one number and signed violations out."""

from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fairskorch.rates import (
    SHARP,
    Rates,
    cell_codes,
    cell_statistics,
    cell_sums,
    gap_slopes,
    gaps,
    raise_half,
)

REDUCTIONS = ("max", "sum", "mean")

#: In place of a count of 0 under a numerator of at most 1.
TINY = torch.finfo(torch.float32).tiny

#: What `GroupPenalty.effect` is the derivative of.
DERIVED = ("compare", "join", "reduce", "evaluate")


class GroupPenalty(nn.Module):
    """Base of all penalties: a differentiable number that compares groups.

    A penalty works in three steps, and a new one defines the parts that differ:

    1. `values` gives each row one or more numbers (its score, its loss);
    2. `compare` turns their sums over group x class cells, a *statistic* of
       `fairskorch.rates`, into rates by group;
    3. `join` turns the rates into one number.

    Statistics add up. What is computed from one batch, from an epoch, from a running
    memory or from several processes is therefore the same code on other sums, and a
    penalty holds no data itself.

    Training calls `penalise`. The statistic is tiny, so it is differentiated by
    itself, outside the graph of the network, and each row is handed its share of the
    derivative. Some penalties know that derivative in closed form (`effect`); one that
    derives from them and compares otherwise is differentiated by autograd again. Where
    the derivative by the logits is known, too (`row_effect`), and the task loss is the
    cross-entropy, training calls `derivative` in its place, which is the same numbers.

    Parameters
    ----------
    n_groups : int
        Number of groups, fixed; codes run from 0 to ``n_groups - 1``.
    n_classes : int, default=2
        Number of classes. Two classes are compared by the scores of class 1, more
        by each class against the rest.
    reduction : {"max", "sum", "mean"}, default="max"
        How the gaps of several rates and classes become one number.
    memory : float in [0, 1), default=0
        Decay of a running sum of the statistics of earlier batches. Value and sign
        of the penalty then come from the running sums and its gradient from the
        batch. The sums live in the net that trains, not here.
    slope : float, default=1
        Factor on the logits before they become scores: 1 scores by probability; the
        larger it is, the closer are the scores to hard predictions.

    Attributes
    ----------
    metric : str
        The metric of `fairskorch.metrics` that measures on hard predictions what the
        penalty measures on scores.
    undo_sampling : bool
        Whether the statistic weighs rows so that it refers to the training rows even
        where batches are drawn from a balanced population.
    within_cells : bool
        Whether nothing but rows of one class and group is averaged: then it does not
        matter how often a sampler draws each class or cell.
    max_weight : float
        Largest weight that has a meaning.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.penalties import GroupPenalty
    >>> from fairskorch.rates import mean_values
    >>> class ScoreGap(GroupPenalty):
    ...     metric = "demographic_parity_difference"
    ...     def values(self, logits, target):
    ...         return self.scores(logits)
    ...     def compare(self, statistic):
    ...         return mean_values(statistic)
    >>> logits, target = torch.tensor([2.0, 2.0, 0.0, 0.0]), torch.tensor([1, 0, 1, 0])
    >>> ScoreGap(n_groups=2)(logits, target, torch.tensor([0, 0, 1, 1]))
    tensor(0.3808)
    """

    contrast: Tensor
    signs: Tensor
    spare: Tensor
    metric: ClassVar[str]
    undo_sampling: ClassVar[bool] = True
    within_cells: bool = False
    max_weight: ClassVar[float] = float("inf")

    def __init__(
        self,
        n_groups: int,
        n_classes: int = 2,
        *,
        reduction: str = "max",
        memory: float = 0,
        slope: float = 1,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"reduction of {owner} must be one of {REDUCTIONS}; got {reduction!r}."
            )
        if n_groups < 1 or n_classes < 2:
            raise ValueError(
                f"{owner} needs n_groups >= 1 and n_classes >= 2; "
                f"got n_groups={n_groups!r} and n_classes={n_classes!r}."
            )
        if not 0 <= memory < 1:
            raise ValueError(
                f"memory of {owner} must be a decay in [0, 1); got {memory!r}."
            )
        if not 0 < slope < float("inf"):
            raise ValueError(
                f"slope of {owner} must be a positive number; got {slope!r}."
            )
        self.n_groups = n_groups
        self.n_classes = n_classes
        self.reduction = reduction
        self.memory = memory
        self._slope = slope
        # Constants, on the device before a step needs them.
        contrast = torch.tensor([-slope, slope], dtype=torch.float32)
        self.register_buffer("contrast", contrast, persistent=False)
        signs = torch.tensor([-SHARP, SHARP]).view(2, 1, 1)
        self.register_buffer("signs", signs, persistent=False)
        spare = torch.zeros(n_classes, 1)
        self.register_buffer("spare", spare, persistent=False)

    @property
    def slope(self) -> float:
        """Factor on the logits before they become scores; constants are made of it."""
        return self._slope

    def __init_subclass__(cls, **options: Any) -> None:
        """Forget what was known of a comparison where that is redefined."""
        super().__init_subclass__(**options)
        for name in ("effect", "within_cells"):
            for kind in cls.__mro__:
                if name in vars(kind):
                    break
                # A mixin may come before the class that knows it.
                if not vars(kind).keys().isdisjoint(DERIVED):
                    setattr(cls, name, getattr(GroupPenalty, name))
                    break

    def values(self, logits: Tensor, target: Tensor) -> Tensor:
        """Give each row its numbers: ``(n_samples, n_values)``."""
        raise TypeError(f"{type(self).__name__} does not define values().")

    def compare(self, statistic: Tensor) -> Rates:
        """Turn sums over cells into rates by group: ``(..., n_rates, n_groups)``.

        Leading dimensions of the statistic, one entry for each of many heads, stay.
        """
        raise TypeError(f"{type(self).__name__} does not define compare().")

    def join(self, rates: Tensor, present: Tensor) -> Tensor:
        """Turn rates by group into one number, 0 at parity."""
        return self.reduce(gaps(rates, present))

    def combine(self, task: Tensor, value: Tensor, weight: float | Tensor) -> Tensor:
        """Join task loss and penalty: ``task + weight * value``, linear in both."""
        if isinstance(weight, Tensor):
            return torch.addcmul(task, value, weight)
        return torch.add(task, value, alpha=weight)

    def statistic(
        self,
        logits: Tensor,
        target: Tensor,
        groups: Tensor,
        weight: Tensor | None = None,
        loss: Tensor | None = None,
    ) -> Tensor:
        """Sum what the penalty needs over the cells of some rows.

        Parameters
        ----------
        logits : Tensor of shape (n_samples, n_classes) or (n_samples,)
            Outputs of the network; one column is the logit of class 1 of two.
        target : Tensor of shape (n_samples,), int64
            Class codes.
        groups : Tensor of shape (n_samples,), int64
            Group codes, -1 where unknown.
        weight : Tensor of shape (n_samples,), optional
            What a row counts for.
        loss : Tensor of shape (n_samples,), optional
            Task loss of each row, which penalties on losses compare.

        Returns
        -------
        statistic : Tensor of shape (n_groups, n_classes, 1 + n_values)
            Additive over rows.
        """
        values = self.row_values(as_columns(logits), target, loss)
        return cell_statistics(
            values, target, groups, self.n_groups, self.n_classes, weight
        )

    def row_values(
        self, logits: Tensor, target: Tensor, loss: Tensor | None = None
    ) -> Tensor:
        """Return `values`; penalties on losses take the given ones instead."""
        return self.values(logits, target)

    def head_values(self, logits: Tensor, target: Tensor, loss: Tensor) -> Tensor:
        """Return `row_values` of many heads on the same rows.

        Parameters
        ----------
        logits : Tensor of shape (..., n_heads) or (..., n_heads, n_classes)
            Outputs of all heads; of two classes the logit of class 1.
        target : Tensor of shape (...), int64
            Class codes.
        loss : Tensor of shape (..., n_heads)
            Task loss of each row under each head.

        Returns
        -------
        values : Tensor of shape (..., n_heads, n_values)
        """
        rows = logits.flatten(0, loss.ndim - 1)
        codes = target.unsqueeze(-1).expand_as(loss).flatten()
        values = self.row_values(as_columns(rows), codes, loss.flatten())
        return raise_half(values).view(*loss.shape, -1)

    @torch.no_grad()
    def new_memory(self) -> Tensor | None:
        """Return running sums before the first batch, None where `memory` is 0.

        They have the type and device of the penalty: ``penalty.to(device, dtype)``.
        """
        if not self.memory:
            return None
        row = self.contrast.new_zeros(1, self.n_classes)
        code = torch.zeros(1, dtype=torch.long, device=row.device)
        return torch.zeros_like(self.statistic(row, code, code))

    def remembered(self, values: Tensor, logits: Tensor) -> Tensor:
        """Return what a memory sums in the place of values, without a gradient."""
        return values

    def penalise(
        self,
        logits: Tensor,
        target: Tensor,
        groups: Tensor,
        weight: Tensor | None = None,
        loss: Tensor | None = None,
        memory: Tensor | None = None,
    ) -> Tensor:
        """Return the penalty of a batch, to be differentiated once.

        Parameters
        ----------
        logits : Tensor of shape (n_samples, n_classes) or (n_samples,)
            Outputs of the network; one column is the logit of class 1 of two.
        target : Tensor of shape (n_samples,), int64
            Class codes.
        groups : Tensor of shape (n_samples,), int64
            Group codes, -1 where unknown.
        weight : Tensor of shape (n_samples,), optional
            What a row counts for.
        loss : Tensor of shape (n_samples,), optional
            Task loss of each row, which penalties on losses compare.
        memory : Tensor of shape (n_groups, n_classes, 1 + n_values), optional
            Running sums, at first those of `new_memory`. They decay by the parameter
            `memory`, the batch is added **in place**, and value and sign come from
            them.

        Returns
        -------
        penalty : scalar Tensor

        Examples
        --------
        >>> import torch
        >>> from fairskorch.penalties import EqualizedOdds
        >>> penalty = EqualizedOdds(n_groups=2, memory=0.9, running="scores")
        >>> memory = penalty.new_memory()
        >>> logits = torch.tensor([2.0, -2.0, 0.0, 0.0])
        >>> target, groups = torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 1, 1])
        >>> penalty.penalise(logits, target, groups, memory=memory)
        tensor(0.3808)
        >>> penalty.penalise(0 * logits, target, groups, memory=memory)
        tensor(0.1804)
        """
        logits = as_columns(logits)
        if self.knows_row_effect:
            value, slopes = self.derivative(logits, target, groups, weight, memory)
            # Autograd keeps no inference tensor.
            return _Linear.apply(logits, slopes.clone(), value.clone())
        values = raise_half(self.row_values(logits, target, loss))
        with torch.no_grad():
            value, slopes = self._by_values(
                values, logits, target, groups, weight, memory
            )
        return _Linear.apply(values, slopes, value)

    def derivative(
        self,
        logits: Tensor,
        target: Tensor,
        groups: Tensor,
        weight: Tensor | None = None,
        memory: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the penalty of a batch and its derivative by the logits.

        For penalties that know their `row_effect`; parameters are those of `penalise`.

        Returns
        -------
        penalty : scalar Tensor
        slopes : Tensor of shape (n_samples, n_classes)
            Of penalties of this package both are inference tensors on the CPU.
        """
        with self._untracked(logits):
            values = raise_half(self.row_values(logits, target))
            value, slopes = self._by_values(
                values, logits, target, groups, weight, memory
            )
            return value, self.row_effect(slopes, values)

    def _untracked(self, logits: Tensor) -> AbstractContextManager[object]:
        # A fifth faster than no_grad where the host does small operations; but whoever
        # keeps a tensor or calls autograd inside, as a user's class may, meets errors.
        own = type(self).__module__.startswith(f"{__package__}.")
        return torch.inference_mode() if own and logits.is_cpu else torch.no_grad()

    def _by_values(
        self,
        values: Tensor,
        logits: Tensor,
        target: Tensor,
        groups: Tensor,
        weight: Tensor | None,
        memory: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the penalty of a batch and its derivative by the rows' values."""
        summed = values if memory is None else self.remembered(values, logits)
        if weight is not None:
            weight = weight.to(values.dtype).unsqueeze(1)
        cell = cell_codes(target, groups, self.n_classes)
        statistic = cell_sums(summed, cell, self.n_groups, self.n_classes, weight)
        running = None
        if memory is not None:
            running = torch.add(statistic, memory, alpha=self.memory, out=memory)
        value, effect = self.effect(statistic, running)
        # Of no effect are rows of unknown group, in the spare cells in front.
        effect = effect.flatten(0, 1)
        effect = torch.cat([self.spare.expand(-1, effect.shape[1]), effect])
        slopes = effect.index_select(0, cell)
        if weight is not None:
            slopes.mul_(weight)
        return value, slopes

    @classmethod
    def is_summed(cls) -> bool:
        """Whether `head_values` and `effect` say all that `penalise` does."""
        return cls.penalise is GroupPenalty.penalise

    @property
    def is_added(self) -> bool:
        """Whether training may add `derivative` to that of the task loss itself."""
        kind = type(self)
        return (
            self.knows_row_effect
            and kind.is_summed()
            and kind.combine is GroupPenalty.combine
        )

    @property
    def knows_row_effect(self) -> bool:
        """Whether `row_effect` stands in for autograd."""
        return False

    def row_effect(self, slopes: Tensor, values: Tensor) -> Tensor:
        """Return the derivative by the logits, from that by the values.

        Parameters
        ----------
        slopes, values : Tensor of shape (n_samples, n_values)

        Returns
        -------
        slopes : Tensor of shape (n_samples, n_classes)
        """
        raise TypeError(f"{type(self).__name__} does not define row_effect().")

    def effect(
        self, statistic: Tensor, running: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the penalty of a statistic and its derivative by the summed values.

        Parameters
        ----------
        statistic : Tensor of shape (..., n_groups, n_classes, 1 + n_values)
            Sums of a batch, of one head or of many.
        running : Tensor of the same shape, optional
            Sums that give the value, as in `evaluate`.

        Returns
        -------
        penalty : Tensor of shape (...)
        effect : Tensor of shape (..., n_groups, n_classes, n_values)
        """
        # Inference tensors, which these may be, have no gradient.
        with torch.inference_mode(False), torch.enable_grad():
            statistic = statistic.clone().detach().requires_grad_()
            running = None if running is None else running.clone().detach()
            value = self.evaluate(statistic, running)
            (effect,) = torch.autograd.grad(value.sum(), statistic)
        return value.detach(), effect[..., 1:]

    def gap_effect(
        self, statistic: Tensor, running: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return `effect` of the gaps in mean value, one for each class's cells.

        Statistics are those of `effect`, of one value; classes may be summed up.
        """
        rows, sums = (statistic if running is None else running).unbind(-1)
        value, slopes = gap_slopes(sums / rows, self.signs, self.reduction)
        # Cells without a row are never looked up, or by rows of weight 0.
        rows = statistic.select(-1, 0).clamp_min(TINY)
        return value, slopes.div_(rows).unsqueeze(-1)

    def pooled_gap_effect(
        self, statistic: Tensor, running: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return `effect` of the gap in mean value, whatever the class."""
        if statistic.shape[-1] > 2:
            return GroupPenalty.effect(self, statistic, running)
        known = None if running is None else running.sum(-2, keepdim=True)
        value, effect = self.gap_effect(statistic.sum(-2, keepdim=True), known)
        return value, effect.expand(*effect.shape[:-2], self.n_classes, -1)

    def evaluate(self, statistic: Tensor, running: Tensor | None = None) -> Tensor:
        """Return the penalty of a complete statistic.

        Parameters
        ----------
        statistic : Tensor of shape (..., n_groups, n_classes, 1 + n_values)
            Sums that carry the gradient.
        running : Tensor of the same shape, optional
            Sums, those of `statistic` among them, that give the value: the gradient
            is then the one that the rates of `statistic` would have at that value.

        Returns
        -------
        penalty : Tensor of shape (...)
        """
        rates, present = self.compare(statistic)
        if running is not None:
            remembered, known = self.compare(running)
            rates = torch.where(present, rates + (remembered - rates).detach(), 0.0)
            rates = rates + torch.where(present, 0.0, remembered).detach()
            present = known
        return self.join(rates, present)

    def forward(self, logits: Tensor, target: Tensor, groups: Tensor) -> Tensor:
        """Return the penalty of these rows, a scalar that is 0 at parity.

        Parameters
        ----------
        logits : Tensor of shape (n_samples, n_classes) or (n_samples,)
        target : Tensor of shape (n_samples,), int64
        groups : Tensor of shape (n_samples,), int64
            Group codes, -1 where unknown.

        Returns
        -------
        penalty : scalar Tensor
            Exactly 0, with a zero gradient, where fewer than two groups are present.
        """
        return self.penalise(logits, target, groups)

    def violations(self, logits: Tensor, target: Tensor, groups: Tensor) -> Tensor:
        """Return each group's rate minus the mean over present groups.

        Parameters
        ----------
        logits : Tensor of shape (n_samples, n_classes) or (n_samples,)
        target : Tensor of shape (n_samples,), int64
        groups : Tensor of shape (n_samples,), int64
            Group codes, -1 where unknown.

        Returns
        -------
        violations : Tensor of shape (n_constraints,)
            Signed, zero at parity and for a group that is not present; all groups of
            the first rate, then all groups of the next.
        """
        rates, present = self.compare(self.statistic(logits, target, groups))
        n_present = present.sum(-1, keepdim=True)
        mean = rates.sum(-1, keepdim=True) / n_present.clamp(min=1)
        signed = torch.where(present & (n_present >= 2), rates - mean, 0.0)
        return signed.flatten()

    def reduce(self, parts: Tensor) -> Tensor:
        """Join gaps by `reduction`."""
        if self.reduction == "max":
            return parts.amax(-1)
        return parts.sum(-1) if self.reduction == "sum" else parts.mean(-1)

    def scores(self, logits: Tensor) -> Tensor:
        """Return the scores of the compared classes: ``(n_samples, 1 or n_classes)``.

        Two classes: the score of class 1. More: one column a class.
        """
        logits = raise_half(logits)
        if self.n_classes > 2:
            return F.softmax(self.slope * logits, dim=-1)
        # Half the operations of a softmax of which one column is kept.
        return (logits @ self._contrast(logits)).sigmoid().unsqueeze(1)

    def _contrast(self, logits: Tensor) -> Tensor:
        if logits.dtype == torch.float64:
            # Not every device holds float64, and float32 rounds the slope.
            return self.slope * self.contrast.sign().double()
        return self.contrast

    def extra_repr(self) -> str:
        """Show the parameters in the module's repr."""
        return (
            f"n_groups={self.n_groups}, n_classes={self.n_classes}, "
            f"reduction={self.reduction!r}, memory={self.memory}, slope={self.slope}"
        )


class _Linear(torch.autograd.Function):
    """A known number whose derivative by what belongs to rows is known as well."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, slopes: Tensor, number: Tensor) -> Tensor:
        ctx.save_for_backward(slopes)
        return number

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return gradient * slopes, None, None


def as_columns(logits: Tensor) -> Tensor:
    """Bring the logit of class 1 of two into two columns; leave columns as they are."""
    if logits.ndim == 1:
        return torch.stack([torch.zeros_like(logits), logits], dim=1)
    return logits
