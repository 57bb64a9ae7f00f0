"""Penalties that compare the mean loss between groups."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from fairskorch.penalties._base import GroupPenalty
from fairskorch.rates import Rates, mean_values, raise_half


class LossPenalty(GroupPenalty):
    """A penalty on mean losses; see the classes that derive from it."""

    # The loss that is compared is the one that is minimised, on the same population.
    undo_sampling: ClassVar[bool] = False

    def __init__(
        self,
        n_groups: int,
        n_classes: int = 2,
        *,
        reduction: str = "max",
        memory: float = 0,
    ) -> None:
        super().__init__(n_groups, n_classes, reduction=reduction, memory=memory)

    def values(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of each row in nats: ``(n_samples, 1)``."""
        loss = F.cross_entropy(raise_half(logits), target, reduction="none")
        return loss.unsqueeze(1)

    def row_values(
        self, logits: Tensor, target: Tensor, loss: Tensor | None = None
    ) -> Tensor:
        """Return the loss that is given, else the cross-entropy."""
        if loss is None:
            return self.values(logits, target)
        return loss.unsqueeze(1)

    def head_values(self, logits: Tensor, target: Tensor, loss: Tensor) -> Tensor:
        """Return the losses of many heads."""
        if type(self).row_values is not LossPenalty.row_values:
            return super().head_values(logits, target, loss)
        return loss.unsqueeze(-1)

    def compare(self, statistic: Tensor) -> Rates:
        """Mean loss by group: ``(1, n_groups)``."""
        return mean_values(statistic)


class AccuracyEquality(LossPenalty):
    r"""Gap in mean cross-entropy between groups.

    .. math:: \max_g E[\ell \mid A = g] - \min_g E[\ell \mid A = g]

    In nats, at least 0, and 0 at parity. An estimator puts its own task loss in the
    place of the cross-entropy. Training rows on which every loss is small
    have a small gap, too: a network that fits its training data exactly passes.

    Parameters
    ----------
    n_groups : int
        Number of groups.
    n_classes : int, default=2
        Number of classes; the loss itself is compared, not one class at a time.
    reduction : {"max", "sum", "mean"}, default="max"
        There is one gap, so all three agree.
    memory : float in [0, 1), default=0
        Decay of the running statistics, see `GroupPenalty`.

    See Also
    --------
    fairskorch.metrics.accuracy_difference : The gap in accuracy.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.penalties import AccuracyEquality
    >>> penalty = AccuracyEquality(n_groups=2)
    >>> logits = torch.tensor([2.0, -2.0, 0.0, 0.0])
    >>> penalty(logits, torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 1, 1]))
    tensor(0.5662)
    """

    metric: ClassVar[str] = "accuracy_difference"

    def effect(
        self, statistic: Tensor, running: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Differentiate the gap in closed form."""
        return self.pooled_gap_effect(statistic, running)


class MaxMinLoss(LossPenalty):
    r"""The worst group's mean cross-entropy, in place of the mean over all rows.

    The penalty is :math:`\max_g E[\ell \mid A = g]` in nats. It has no value at
    parity; a weight :math:`w \in [0, 1]` moves from the mean to the worst group:

    .. math:: (1 - w) \, E[\ell] + w \, \max_g E[\ell \mid A = g]

    Parameters
    ----------
    n_groups : int
        Number of groups.
    n_classes : int, default=2
        Number of classes; the loss itself is compared, not one class at a time.
    reduction : {"max", "sum", "mean"}, default="max"
        There is one worst group, so all three agree.
    over : {"groups", "cells"}, default="groups"
        Worst group, or worst cell of group and true class.
    memory : float in [0, 1), default=0
        Decay of the running statistics, see `GroupPenalty`.

    See Also
    --------
    fairskorch.metrics.worst_group_accuracy : The smallest accuracy of a group.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.penalties import MaxMinLoss
    >>> penalty = MaxMinLoss(n_groups=2)
    >>> logits = torch.tensor([2.0, -2.0, 0.0, 0.0])
    >>> penalty(logits, torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 1, 1]))
    tensor(0.6931)
    """

    metric: ClassVar[str] = "worst_group_accuracy"
    max_weight: ClassVar[float] = 1.0

    def __init__(
        self,
        n_groups: int,
        n_classes: int = 2,
        *,
        reduction: str = "max",
        over: str = "groups",
        memory: float = 0,
    ) -> None:
        super().__init__(n_groups, n_classes, reduction=reduction, memory=memory)
        if over not in ("groups", "cells"):
            raise ValueError(
                f"over of MaxMinLoss must be 'groups' or 'cells'; got {over!r}."
            )
        self.over = over

    def compare(self, statistic: Tensor) -> Rates:
        """Mean loss by group ``(..., 1, n_groups)`` or cell ``(..., 1, n_cells)``."""
        if self.over == "groups":
            return mean_values(statistic)
        return mean_values(statistic.flatten(-3, -2).unsqueeze(-2))

    def join(self, rates: Tensor, present: Tensor) -> Tensor:
        """Return the largest of at least two present means, else 0."""
        worst = rates.masked_fill(~present, -float("inf")).amax(-1)
        return torch.where(present.sum(-1) >= 2, worst, 0.0).sum(-1)

    def combine(self, task: Tensor, value: Tensor, weight: float | Tensor) -> Tensor:
        """Join task loss and penalty: ``(1 - weight) * task + weight * value``."""
        return torch.lerp(task, value, weight)

    def violations(self, logits: Tensor, target: Tensor, groups: Tensor) -> Tensor:
        """Refuse: a worst group has no parity to be away from."""
        raise TypeError("MaxMinLoss compares no rates, so it has no violations.")
