"""Penalties that compare rates of scores between groups."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from fairskorch.penalties._base import GroupPenalty
from fairskorch.rates import (
    Rates,
    false_positive_rates,
    mean_values,
    miss_rates,
    true_positive_rates,
)

_SIGMOID_BACK = torch.ops.aten.sigmoid_backward.default

DENOMINATORS = ("conditional", "joint")
RUNNING = ("scores", "predictions")


class RatePenalty(GroupPenalty):
    """A penalty on rates of scores; see the classes that derive from it."""

    def __init__(
        self,
        n_groups: int,
        n_classes: int = 2,
        *,
        reduction: str = "max",
        rates: str = "conditional",
        memory: float = 0,
        slope: float = 1,
        running: str = "predictions",
    ) -> None:
        super().__init__(
            n_groups, n_classes, reduction=reduction, memory=memory, slope=slope
        )
        if running not in RUNNING:
            raise ValueError(
                f"running of {type(self).__name__} must be one of {RUNNING}; "
                f"got {running!r}."
            )
        if rates not in DENOMINATORS:
            raise ValueError(
                f"rates of {type(self).__name__} must be one of {DENOMINATORS}; "
                f"got {rates!r}."
            )
        self.rates = rates
        self.running = running

    def remembered(self, values: Tensor, logits: Tensor) -> Tensor:
        """Return the scores, or the hard predictions in their place."""
        if self.running == "scores":
            return values
        if self.n_classes == 2:
            # Half rounds to even: at a tie class 0 is predicted.
            return values.round()
        classes = torch.arange(self.n_classes, device=logits.device)
        return (logits.argmax(-1, keepdim=True) == classes).to(values.dtype)

    def values(self, logits: Tensor, target: Tensor) -> Tensor:
        """Score each row: ``(n_samples, 1 or n_classes)``."""
        return self.scores(logits)

    @property
    def knows_row_effect(self) -> bool:
        """Whether `row_effect` stands in for autograd: for scores of two classes."""
        return self.n_classes == 2 and self._scores_as_usual

    @property
    def _scores_as_usual(self) -> bool:
        kind = type(self)
        return (
            kind.values is RatePenalty.values
            and kind.scores is GroupPenalty.scores
            and kind.row_values is GroupPenalty.row_values
        )

    def row_effect(self, slopes: Tensor, values: Tensor) -> Tensor:
        """Differentiate the scores of two classes in closed form."""
        inner = _SIGMOID_BACK(slopes, values)
        return inner * self._contrast(inner)

    def head_values(self, logits: Tensor, target: Tensor, loss: Tensor) -> Tensor:
        """Score the rows of many heads without a copy of their logits."""
        if not self._scores_as_usual:
            return super().head_values(logits, target, loss)
        if logits.ndim > loss.ndim:
            return self.scores(logits)
        scaled = logits if self.slope == 1 else self.slope * logits
        return scaled.sigmoid().unsqueeze(-1)


class DemographicParity(RatePenalty):
    r"""Gap in mean scores between groups, whatever the true class.

    .. math:: \max_g E[s \mid A = g] - \min_g E[s \mid A = g]

    with :math:`s` the score of the positive class; for more than two classes one gap
    a class. In [0, 1] for ``reduction="max"``, and 0 at parity.

    Parameters
    ----------
    n_groups : int
        Number of groups.
    n_classes : int, default=2
        Number of classes.
    reduction : {"max", "sum", "mean"}, default="max"
        How the gaps of several classes are joined.
    rates : {"conditional", "joint"}, default="conditional"
        Both divide by the size of the group here.
    memory : float in [0, 1), default=0
        Decay of the running statistics, see `GroupPenalty`.
    slope : float, default=1
        Factor on the logits, see `GroupPenalty`.
    running : {"predictions", "scores"}, default="predictions"
        What the running statistics sum: scores, or hard predictions, whose gap is the
        one that is measured in the end. The gradient is that of scores either way.

    See Also
    --------
    fairskorch.metrics.demographic_parity_difference : The gap of hard predictions.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.penalties import DemographicParity
    >>> penalty = DemographicParity(n_groups=2)
    >>> logits = torch.tensor([2.0, 2.0, 0.0, 0.0])
    >>> penalty(logits, torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 1, 1]))
    tensor(0.3808)
    """

    metric: ClassVar[str] = "demographic_parity_difference"

    def effect(
        self, statistic: Tensor, running: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Differentiate the gap of two classes in closed form."""
        return self.pooled_gap_effect(statistic, running)

    def compare(self, statistic: Tensor) -> Rates:
        """Mean score by group: ``(1 or n_classes, n_groups)``."""
        return mean_values(statistic)


class DisparateImpact(DemographicParity):
    r"""One minus the smallest ratio of mean scores between groups.

    .. math:: 1 - \min_g E[s \mid A = g] \,/\, \max_g E[s \mid A = g]

    with :math:`s` the score of the positive class; for more than two classes one
    ratio a class. In [0, 1] for ``reduction="max"``, 0 at parity; where no group has
    any score the ratio is taken as 1.

    Parameters
    ----------
    n_groups : int
        Number of groups.
    n_classes : int, default=2
        Number of classes.
    reduction : {"max", "sum", "mean"}, default="max"
        How several classes are joined.
    rates : {"conditional", "joint"}, default="conditional"
        Both divide by the size of the group here.
    memory : float in [0, 1), default=0
        Decay of the running statistics, see `GroupPenalty`.
    slope : float, default=1
        Factor on the logits, see `GroupPenalty`.
    running : {"predictions", "scores"}, default="predictions"
        What the running statistics sum: scores, or hard predictions, whose gap is the
        one that is measured in the end. The gradient is that of scores either way.

    See Also
    --------
    fairskorch.metrics.demographic_parity_ratio : The ratio of hard predictions.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.penalties import DisparateImpact
    >>> penalty = DisparateImpact(n_groups=2)
    >>> logits = torch.tensor([2.0, 2.0, 0.0, 0.0])
    >>> penalty(logits, torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 1, 1]))
    tensor(0.4323)
    """

    metric: ClassVar[str] = "demographic_parity_ratio"

    def join(self, rates: Tensor, present: Tensor) -> Tensor:
        """One minus the ratio of the smallest to the largest rate."""
        infinity = float("inf")
        top = rates.masked_fill(~present, -infinity).amax(-1)
        bottom = rates.masked_fill(~present, infinity).amin(-1)
        comparable = (present.sum(-1) >= 2) & (top > 0)
        # Both where's: a division by 0 in the branch not taken would pass on NaN.
        ratio = bottom / torch.where(comparable, top, 1.0)
        return self.reduce(torch.where(comparable, 1 - ratio, 0.0))


class EqualOpportunity(RatePenalty):
    r"""Gap in mean scores between groups among rows of the positive class.

    .. math:: \max_g E[s \mid Y = 1, A = g] - \min_g E[s \mid Y = 1, A = g]

    with :math:`s` the score of the positive class, so a gap in true-positive rates;
    for more than two classes one gap a class. In [0, 1] for ``reduction="max"``, and
    0 at parity. A group without a row of the class is left out of it.

    Parameters
    ----------
    n_groups : int
        Number of groups.
    n_classes : int, default=2
        Number of classes.
    reduction : {"max", "sum", "mean"}, default="max"
        How the gaps of several classes are joined.
    rates : {"conditional", "joint"}, default="conditional"
        ``"joint"`` compares the *missed* scores of the class divided by the size of
        the whole group, see `EqualizedOdds`.
    memory : float in [0, 1), default=0
        Decay of the running statistics, see `GroupPenalty`.
    slope : float, default=1
        Factor on the logits, see `GroupPenalty`.
    running : {"predictions", "scores"}, default="predictions"
        What the running statistics sum: scores, or hard predictions, whose gap is the
        one that is measured in the end. The gradient is that of scores either way.

    See Also
    --------
    fairskorch.metrics.equal_opportunity_difference : The gap of hard predictions.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.penalties import EqualOpportunity
    >>> penalty = EqualOpportunity(n_groups=2)
    >>> logits = torch.tensor([2.0, -2.0, 0.0, 0.0])
    >>> penalty(logits, torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 1, 1]))
    tensor(0.3808)
    """

    metric: ClassVar[str] = "equal_opportunity_difference"

    @property
    def within_cells(self) -> bool:  # type: ignore[override]
        """Whether rates are those of one class's rows."""
        return self.rates != "joint"

    def effect(
        self, statistic: Tensor, running: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Differentiate the gap of two classes in closed form."""
        if statistic.shape[-2:] != (2, 2) or self.rates == "joint":
            return super().effect(statistic, running)
        positive = None if running is None else running[..., 1:, :]
        value, effect = self.gap_effect(statistic[..., 1:, :], positive)
        return value, F.pad(effect, (0, 0, 1, 0))

    def compare(self, statistic: Tensor) -> Rates:
        """True-positive rates by group: ``(1 or n_classes, n_groups)``."""
        if self.rates == "joint":
            return miss_rates(statistic, joint=True)
        return true_positive_rates(statistic)


class EqualizedOdds(RatePenalty):
    r"""Gaps in mean scores between groups, within each true class.

    The gap in true-positive rates and the gap in false-positive rates,

    .. math::

        \max_g E[s \mid Y = y, A = g] - \min_g E[s \mid Y = y, A = g],
        \qquad y \in \{1, 0\}

    with :math:`s` the score of the positive class; for more than two classes two gaps
    a class, one against the rest. In [0, 1] for ``reduction="max"``, 0 at parity.
    A group without a row of a class is left out of that rate.

    Parameters
    ----------
    n_groups : int
        Number of groups.
    n_classes : int, default=2
        Number of classes.
    reduction : {"max", "sum", "mean"}, default="max"
        How the gaps are joined: ``"max"`` is fairlearn's difference, ``"sum"`` the
        form of [1]_ and [2]_.
    rates : {"conditional", "joint"}, default="conditional"
        ``"joint"`` divides false positives and misses by the size of the whole group,
        as the code of [2]_ does; two groups with different base rates can then
        differ in every error rate and still have a gap of 0. For replication.
    memory : float in [0, 1), default=0
        Decay of the running statistics, see `GroupPenalty`.
    slope : float, default=1
        Factor on the logits, see `GroupPenalty`.
    running : {"predictions", "scores"}, default="predictions"
        What the running statistics sum: scores, or hard predictions, whose gap is the
        one that is measured in the end. The gradient is that of scores either way.

    See Also
    --------
    fairskorch.metrics.equalized_odds_difference : The gap of hard predictions.

    References
    ----------
    .. [1] Padala, Gujar. FNNC: Achieving Fairness through Neural Networks. IJCAI 2020.
    .. [2] Mao, Deng, Yao, Ye, Kawaguchi, Zou. Last-Layer Fairness Fine-tuning is
       Simple and Effective for Neural Networks. arXiv:2304.03935, 2023.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.penalties import EqualizedOdds
    >>> penalty = EqualizedOdds(n_groups=2, reduction="sum")
    >>> logits = torch.tensor([2.0, -2.0, 0.0, 0.0])
    >>> penalty(logits, torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 1, 1]))
    tensor(0.7616)
    """

    metric: ClassVar[str] = "equalized_odds_difference"

    @property
    def within_cells(self) -> bool:  # type: ignore[override]
        """Whether rates are those of one class's rows; of three, two make a rest."""
        return self.rates != "joint" and self.n_classes == 2

    def effect(
        self, statistic: Tensor, running: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Differentiate the gaps of two classes in closed form."""
        if statistic.shape[-2:] != (2, 2) or self.rates == "joint":
            return super().effect(statistic, running)
        return self.gap_effect(statistic, running)

    def compare(self, statistic: Tensor) -> Rates:
        """True-positive, then false-positive rates: ``(2 or 2 n_classes, n_groups)``.

        With joint rates: misses, then false positives, by size of the group.
        """
        joint = self.rates == "joint"
        of_class = (
            miss_rates(statistic, joint=True)
            if joint
            else true_positive_rates(statistic)
        )
        of_rest = false_positive_rates(statistic, joint=joint)
        return Rates(
            torch.cat([of_class.rates, of_rest.rates], dim=-2),
            torch.cat([of_class.present, of_rest.present], dim=-2),
        )
