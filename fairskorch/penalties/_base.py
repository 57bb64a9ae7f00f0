"""The penalty's interface: statistics in, one number and signed violations out."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairskorch.rates import Rates, cell_statistics, gaps, raise_half

REDUCTIONS = ("max", "sum", "mean")


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
    max_weight : float
        Largest weight that has a meaning.
    """

    metric: ClassVar[str]
    undo_sampling: ClassVar[bool] = True
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
        self.slope = slope

    def values(self, logits: Tensor, target: Tensor) -> Tensor:
        """Give each row its numbers: ``(n_samples, n_values)``."""
        raise TypeError(f"{type(self).__name__} does not define values().")

    def compare(self, statistic: Tensor) -> Rates:
        """Turn sums over cells into rates by group: ``(n_rates, n_groups)``."""
        raise TypeError(f"{type(self).__name__} does not define compare().")

    def join(self, rates: Tensor, present: Tensor) -> Tensor:
        """Turn rates by group into one number, 0 at parity."""
        return self.reduce(gaps(rates, present))

    def combine(self, task: Tensor, value: Tensor, weight: float | Tensor) -> Tensor:
        """Join task loss and penalty: ``task + weight * value``."""
        return task + weight * value

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
        values = self.values(as_columns(logits), target)
        return cell_statistics(
            values, target, groups, self.n_groups, self.n_classes, weight
        )

    def remembered(
        self,
        statistic: Tensor,
        logits: Tensor,
        target: Tensor,
        groups: Tensor,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return what of these rows goes into the running sums, without a gradient.

        Parameters
        ----------
        statistic : Tensor of shape (n_groups, n_classes, 1 + n_values)
            The statistic of the rows.
        logits, target, groups, weight
            The rows, as in `statistic`.

        Returns
        -------
        remembered : Tensor of the shape of `statistic`
        """
        return statistic.detach()

    def evaluate(self, statistic: Tensor, running: Tensor | None = None) -> Tensor:
        """Return the penalty of a complete statistic.

        Parameters
        ----------
        statistic : Tensor of shape (n_groups, n_classes, 1 + n_values)
            Sums that carry the gradient.
        running : Tensor of the same shape, optional
            Sums, those of `statistic` among them, that give the value: the gradient
            is then the one that the rates of `statistic` would have at that value.

        Returns
        -------
        penalty : scalar Tensor
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
        return self.evaluate(self.statistic(logits, target, groups))

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
        scores = F.softmax(self.slope * raise_half(logits), dim=1)
        return scores[:, 1:] if self.n_classes == 2 else scores

    def extra_repr(self) -> str:
        """Show the parameters in the module's repr."""
        return (
            f"n_groups={self.n_groups}, n_classes={self.n_classes}, "
            f"reduction={self.reduction!r}, memory={self.memory}, slope={self.slope}"
        )


def as_columns(logits: Tensor) -> Tensor:
    """Bring the logit of class 1 of two into two columns; leave columns as they are."""
    if logits.ndim == 1:
        return torch.stack([torch.zeros_like(logits), logits], dim=1)
    return logits
