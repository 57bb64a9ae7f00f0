"""The penalty that compares whole distributions of scores."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from fairskorch.penalties._base import GroupPenalty
from fairskorch.rates import Rates, mean_values

#: Terms of the series are kept until they fall below this share of the first.
PRECISION = 1e-13


class MinDiff(GroupPenalty):
    r"""Squared maximum mean discrepancy between the groups' score distributions.

    As a penalty of training it was proposed in [1]_. For groups :math:`g, h` with
    scores :math:`s, s'` in [0, 1] and the kernel
    :math:`k(s, s') = \exp(-(s - s')^2 / b^2)`:

    .. math:: E_{gg}[k] + E_{hh}[k] - 2 E_{gh}[k]

    and the largest of it over all pairs of groups. In [0, 2], 0 where the
    distributions agree. Pairs of a row with itself count (the biased estimate), so a
    small batch reads above 0 at parity; a memory mends that.

    Parameters
    ----------
    n_groups : int
        Number of groups.
    n_classes : int, default=2
        Number of classes; for more than two, each class's scores are compared.
    reduction : {"max", "sum", "mean"}, default="max"
        How several classes are joined.
    given : {None, "class"}, default=None
        Rows whose scores are compared: all, or those that belong to the class (of
        two classes: the positive one).
    bandwidth : float, default=0.1
        :math:`b`, on the scale of scores.
    memory : float in [0, 1), default=0
        Decay of the running statistics, see `GroupPenalty`.
    slope : float, default=1
        Factor on the logits, see `GroupPenalty`.

    Notes
    -----
    On an interval the kernel equals a short cosine series up to rounding, so the mean
    of a few sines and cosines of the scores stands for a group's distribution: the
    cost is linear in the rows, and statistics of batches add up.

    References
    ----------
    .. [1] Prost, Qian, Chen, Chi, Chen, Beutel. Toward a better trade-off between
       performance and fairness with kernel-based distribution matching. 2019,
       arXiv:1910.11779.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.penalties import MinDiff
    >>> penalty = MinDiff(n_groups=2)
    >>> logits = torch.tensor([2.0, 2.0, 0.0, 0.0])
    >>> penalty(logits, torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 1, 1]))
    tensor(2.0000)
    """

    metric: ClassVar[str] = "demographic_parity_difference"
    amplitude: Tensor
    frequency: Tensor

    def __init__(
        self,
        n_groups: int,
        n_classes: int = 2,
        *,
        reduction: str = "max",
        given: str | None = None,
        bandwidth: float = 0.1,
        memory: float = 0,
        slope: float = 1,
    ) -> None:
        super().__init__(
            n_groups, n_classes, reduction=reduction, memory=memory, slope=slope
        )
        if given not in (None, "class"):
            raise ValueError(
                f"given of MinDiff must be None or 'class'; got {given!r}."
            )
        if not 0 < bandwidth < math.inf:
            raise ValueError(
                f"bandwidth of MinDiff must be positive and finite; got {bandwidth!r}."
            )
        self.given = given
        self.bandwidth = bandwidth
        amplitude, frequency = _cosine_series(bandwidth)
        # Derived from the bandwidth alone, so they travel with the device only.
        self.register_buffer("amplitude", amplitude, persistent=False)
        self.register_buffer("frequency", frequency, persistent=False)

    def values(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sines and cosines of each score: ``(n_samples, n_scores * n_features)``."""
        scores = self.scores(logits)
        angle = scores.unsqueeze(-1) * self.frequency.to(scores)
        features = torch.cat([angle.cos(), angle.sin()], dim=-1)
        return (features * self.amplitude.to(scores).repeat(2)).flatten(1)

    def compare(self, statistic: Tensor) -> Rates:
        """Mean features of each group: ``(n_scores * n_features, n_groups)``."""
        if self.given is None:
            return mean_values(statistic)
        n_scores = 1 if self.n_classes == 2 else self.n_classes
        counts, values = statistic[..., :1], statistic[..., 1:]
        values = values.unflatten(-1, (n_scores, -1))
        first = self.n_classes - n_scores
        # Cell (class c, score c): (..., n_groups, n_features, n_scores).
        own = values[..., first:, :, :].diagonal(dim1=-3, dim2=-2)
        own_counts = counts[..., first:, :].transpose(-2, -1)
        rows = [
            mean_values(torch.cat([count, value], dim=-1).unsqueeze(-2))
            for count, value in zip(own_counts.unbind(-1), own.unbind(-1), strict=True)
        ]
        return Rates(
            torch.cat([part.rates for part in rows], dim=-2),
            torch.cat([part.present for part in rows], dim=-2),
        )

    def join(self, rates: Tensor, present: Tensor) -> Tensor:
        """Largest squared distance between two groups' mean features."""
        n_features = 2 * len(self.frequency)
        means = rates.unflatten(-2, (-1, n_features)).transpose(-1, -2)
        known = present.unflatten(-2, (-1, n_features))[..., 0, :]
        # Centred first, the products keep their digits; means of absent groups are 0.
        n_known = known.sum(-1).clamp(min=1)[..., None, None]
        shift = means.sum(-2, keepdim=True) / n_known
        means = torch.where(known.unsqueeze(-1), means - shift.detach(), 0.0)
        products = means @ means.transpose(-1, -2)
        squares = products.diagonal(dim1=-2, dim2=-1)
        distance = squares.unsqueeze(-2) + squares.unsqueeze(-1) - 2 * products
        pair = known.unsqueeze(-2) & known.unsqueeze(-1)
        largest = torch.where(pair, distance, 0.0).flatten(-2).amax(-1).clamp(min=0)
        return self.reduce(largest)

    def violations(self, logits: Tensor, target: Tensor, groups: Tensor) -> Tensor:
        """Refuse: distributions are compared, not rates."""
        raise TypeError("MinDiff compares no rates, so it has no violations.")


def _cosine_series(bandwidth: float) -> tuple[Tensor, Tensor]:
    """Amplitudes and frequencies of the Gaussian kernel on differences in [-1, 1].

    Made periodic with period 1 + 6 bandwidths the kernel keeps its values on the
    interval up to exp(-36), and its Fourier coefficients are those of the Gaussian.
    """
    period = 1 + 6 * bandwidth
    cut = 2 * math.sqrt(-math.log(PRECISION)) / bandwidth
    n_terms = math.ceil(cut * period / (2 * math.pi))
    frequency = 2 * math.pi / period * torch.arange(n_terms + 1, dtype=torch.float64)
    power = bandwidth * math.sqrt(math.pi) / period
    coefficient = power * torch.exp(-((bandwidth * frequency / 2) ** 2))
    coefficient[1:] *= 2
    return coefficient.sqrt(), frequency
