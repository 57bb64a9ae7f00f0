r"""Intervals of group metrics from counts.

A gap is a largest minus a smallest rate. Resampling it fails near parity: every draw
of an absolute gap is above 0, so a percentile interval never reaches the truth 0.
Here only *signed* quantities get intervals, and the gap follows by projection:

- A rate has Wilson's score interval.
- A difference of two groups' rates has Newcombe's interval, which combines the two
  Wilson intervals ("method of variance estimates recovery", MOVER).
- A gap lies between the largest lower and the largest upper limit of the signed
  differences, and not below 0. Its lower limit holds for all differences at once
  (Bonferroni); its upper limit needs no such correction, since the largest of the
  upper limits is above that of the pair where the true gap is.
- Ratios and minima follow in the same way, means from limits at a split level.
- Two classifiers on the same rows are compared group by group, on the rows where they
  disagree (Bayesian bootstrap of those counts). The difference of their gaps then lies
  between the differences at the comparisons where either gap may be.

References
----------
Wilson. Probable inference, the law of succession, and statistical inference. Journal
of the American Statistical Association, 1927. Newcombe. Interval estimation for the
difference between independent proportions. Statistics in Medicine, 1998. Zou and
Donner. Construction of confidence limits about effect measures: a general approach.
Statistics in Medicine, 2008. Rubin. The Bayesian bootstrap. Annals of Statistics, 1981.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import norm

from fairskorch.metrics import METRICS, from_counts
from fairskorch.metrics._counts import compared_rates

__all__ = [
    "Interval",
    "difference_interval",
    "metric_interval",
    "paired_interval",
    "rate_difference_interval",
    "rate_interval",
]


#: Level at which a comparison is ruled out as the one where a gap is.
SCREEN = 0.01


class Interval(NamedTuple):
    """Lower and upper limit, arrays of one shape."""

    low: np.ndarray
    high: np.ndarray


def rate_interval(rate, trials, confidence_level=0.95):
    """Compute Wilson's score interval of a rate.

    Parameters
    ----------
    rate : array-like
        Observed rates, in [0, 1].
    trials : array-like
        Rows behind each rate; broadcast against `rate`.
    confidence_level : float, default=0.95
        In (0, 1).

    Returns
    -------
    interval : Interval of float64 arrays
        In [0, 1], the rate inside; ``nan`` where there is no row.

    Examples
    --------
    >>> from fairskorch.intervals import rate_interval
    >>> low, high = rate_interval(0.95, 20)
    >>> print(f"{low:.3f} {high:.3f}")
    0.764 0.991
    """
    return Interval(*_wilson(rate, trials, norm.isf(_tail(confidence_level) / 2)))


def rate_difference_interval(rate_a, trials_a, rate_b, trials_b, confidence_level=0.95):
    """Compute Newcombe's interval of the difference of two groups' rates.

    Parameters
    ----------
    rate_a, trials_a, rate_b, trials_b : array-like
        Observed rates and the rows behind them, broadcast against each other.
    confidence_level : float, default=0.95
        In (0, 1).

    Returns
    -------
    interval : Interval of float64 arrays
        Limits of ``rate_a - rate_b``, signed, in [-1, 1]; ``nan`` where a group has
        no row.

    Examples
    --------
    >>> from fairskorch.intervals import rate_difference_interval
    >>> low, high = rate_difference_interval(56 / 70, 70, 48 / 80, 80)
    >>> print(f"{low:.4f} {high:.4f}")
    0.0524 0.3339
    """
    return difference_interval(
        rate_a,
        rate_interval(rate_a, trials_a, confidence_level),
        rate_b,
        rate_interval(rate_b, trials_b, confidence_level),
    )


def difference_interval(value_a, interval_a, value_b, interval_b, parity=None):
    """Combine the intervals of two independent estimates into one of ``a - b``.

    Parameters
    ----------
    value_a : array-like
        An estimate, for example from test rows.
    interval_a : Interval
        Its interval, at the confidence level that is wanted of the difference.
    value_b : array-like
        An estimate from other rows, for example those of training.
    interval_b : Interval
        Its interval.
    parity : {0, 1}, optional
        Where the intervals of gaps (0) or of ratios (1) are cut off. An estimate whose
        interval reaches parity is biased away from it, so there the limits alone are
        used.

    Returns
    -------
    interval : Interval of float64 arrays
        ``nan`` where an estimate is.
    """
    a, b = np.asarray(value_a, dtype=float), np.asarray(value_b, dtype=float)
    down = np.hypot(a - interval_a[0], interval_b[1] - b)
    up = np.hypot(interval_a[1] - a, b - interval_b[0])
    low, high = a - b - down, a - b + up
    if parity is not None:
        ends = [
            np.asarray(x)[()] == parity
            for x in (interval_a[parity], interval_b[parity])
        ]
        # At parity 0 it is the lower limits that are cut off, at 1 the upper ones.
        cut_low, cut_high = ends if parity == 0 else ends[::-1]
        low = np.where(cut_low, interval_a[0] - interval_b[1], low)
        high = np.where(cut_high, interval_a[1] - interval_b[0], high)
    return Interval(low, high)


def metric_interval(
    name, statistic, *, confidence_level=0.95, agg="max", positive=None
):
    """Compute the interval of a metric from counts, for all leading dimensions.

    Parameters
    ----------
    name : str
        As of `fairskorch.metrics.from_counts`.
    statistic : Tensor of shape (..., n_groups, n_classes, 1 + n_classes)
        Counts of independent rows, no weights.
    confidence_level : float, default=0.95
        In (0, 1). With more than two groups or rates the interval covers more often.
    agg : {"max", "mean"}, default="max"
        See `fairskorch.metrics.from_counts`.
    positive : int, optional
        See `fairskorch.metrics.from_counts`.

    Returns
    -------
    interval : Interval of float64 arrays of shape (...)
        In [0, 1], the metric inside; ``nan`` where the metric is. A difference whose
        lower limit is 0 cannot be told from parity: read its upper limit.

    Raises
    ------
    ValueError
        For an unknown `name` or `agg`, or a level that is not in (0, 1).

    Examples
    --------
    >>> import torch
    >>> from fairskorch.intervals import metric_interval
    >>> cell = [[20.0, 19.0, 1.0], [20.0, 1.0, 19.0]]
    >>> low, high = metric_interval(
    ...     "equalized_odds_difference", torch.tensor([cell, cell])
    ... )
    >>> print(f"{low:.3f} {high:.3f}")
    0.000 0.191
    """
    tail = _tail(confidence_level)
    value = from_counts(name, statistic, agg=agg, positive=positive).numpy()
    metric = METRICS[name]
    rates, trials = (x.numpy() for x in compared_rates(name, statistic, positive))
    if metric.compare == "overall":
        low, high = _mean_of_rates(rates, trials, tail)
    elif metric.compare == "smallest":
        low, high = _smallest(rates, trials, tail)
    else:
        low, high = _between_groups(metric, rates, trials, tail, agg, statistic)
    missing = np.isnan(value)
    # The estimate is inside by construction, up to rounding.
    low = np.clip(np.where(missing, np.nan, np.minimum(low, value)), 0, 1)
    high = np.clip(np.where(missing, np.nan, np.maximum(high, value)), 0, 1)
    return Interval(low, high)


def paired_interval(
    name,
    joint,
    *,
    n_boot=1000,
    confidence_level=0.95,
    positive=None,
    random_state=None,
):
    """Compute the interval of the difference of a metric between two classifiers.

    Both predict the same rows, so only the rows where they disagree tell them apart.

    Parameters
    ----------
    name : str
        As of `fairskorch.metrics.from_counts`; classes are joined by their worst.
    joint : Tensor of shape (..., n_groups, n_classes, n_classes, n_classes)
        Counts of rows by group, true class, prediction of a and prediction of b.
    n_boot : int, default=1000
        Draws of the Bayesian bootstrap, all at once.
    confidence_level : float, default=0.95
        In (0, 1).
    positive : int, optional
        See `from_counts`.
    random_state : int, RandomState instance or None, default=None
        Makes the draws reproducible; the global generator is never touched.

    Returns
    -------
    value : ndarray of shape (...), float64
        The metric of a minus the metric of b; ``nan`` where one cannot be estimated.
    interval : Interval of float64 arrays of shape (...)
        In [-1, 1], the value inside. For ratios and averages the pairing is not used,
        and the interval is wider than need be.

    Raises
    ------
    ValueError
        For an unknown name or a level that is not in (0, 1).

    Examples
    --------
    >>> import torch
    >>> from fairskorch.intervals import paired_interval
    >>> cell = [[[60.0, 2.0], [18.0, 20.0]]] * 2
    >>> value, (low, high) = paired_interval(
    ...     "accuracy", torch.tensor([cell, cell]), random_state=0
    ... )
    >>> float(value)
    0.0
    """
    tail = _tail(confidence_level)
    # Indices: ... g y a b. Where a says the class and b does not, and the reverse.
    both = joint.diagonal(dim1=-2, dim2=-1)
    size = joint.sum((-2, -1)).unsqueeze(-1)
    says_a, says_b = joint.sum(-1), joint.sum(-2)
    tables = [torch.cat([size, x], -1) for x in (says_a, says_b)]
    value_a, value_b = (from_counts(name, t, positive=positive).numpy() for t in tables)
    value = value_a - value_b
    metric = METRICS[name]
    uses_pairs = metric.compare != "ratio" and not metric.average
    # Two intervals are intersected below, so the wider one is taken at half the risk.
    level = 1 - tail / 2 if uses_pairs else confidence_level
    kwargs = {"confidence_level": level, "positive": positive}
    intervals = [metric_interval(name, t, **kwargs) for t in tables]
    found = difference_interval(
        value_a, intervals[0], value_b, intervals[1], metric.parity
    )
    if uses_pairs:
        only = [torch.cat([size, x - both], -1) for x in (says_a, says_b)]
        (more, trials), (less, _) = (compared_rates(name, t, positive) for t in only)
        change = _disagreement(
            more.numpy(), less.numpy(), trials.numpy(), tail, n_boot, random_state
        )
        sides = [compared_rates(name, t, positive)[0].numpy() for t in tables]
        paired = _paired(metric, change, sides, trials.numpy(), size.numpy())
        if metric.compare == "overall":
            found = paired
        else:
            # Both hold: the pairing narrows where the comparison is clear, the
            # gaps' own limits where it is not.
            found = np.fmax(found[0], paired[0]), np.fmin(found[1], paired[1])
    low = np.clip(np.minimum(found[0], value), -1, 1)
    high = np.clip(np.maximum(found[1], value), -1, 1)
    missing = np.isnan(value)
    return value, Interval(
        np.where(missing, np.nan, low), np.where(missing, np.nan, high)
    )


def _disagreement(more, less, trials, tail, n_boot, random_state):
    """Return each rate of a minus that of b with its limits: shape (..., K, C, G)."""
    rng = _generator(random_state)
    # Two rows are added, so that a cell where both agree is not taken as sure.
    counts = [more * trials + 0.5, less * trials + 0.5]
    counts.append((1 - more - less) * trials + 1)
    up, down, rest = (
        rng.standard_gamma(np.maximum(c, 0.5), size=(n_boot, *c.shape)) for c in counts
    )
    draws = (up - down) / (up + down + rest)
    low, high = np.quantile(draws, [tail / 2, 1 - tail / 2], axis=0)
    value = more - less
    return value, np.minimum(low, value), np.maximum(high, value)


def _paired(metric, change, sides, trials, size):
    """Project the changes of rates to the change of a metric."""
    value, low, high = change
    axes = (-3, -2, -1)
    occurs = trials > 0
    if metric.compare == "overall":
        n = np.maximum(occurs.sum(axes), 1)
        mean, down, up = (
            np.where(occurs, x, 0).sum(axes) / n**power
            for x, power in (
                (value, 1),
                ((value - low) ** 2, 2),
                ((high - value) ** 2, 2),
            )
        )
        return mean - np.sqrt(down), mean + np.sqrt(up)
    z = norm.isf(SCREEN / 2 / np.maximum(occurs.sum(axes, keepdims=True), 1))
    if metric.compare == "smallest":
        possible = []
        for rates in sides:
            least, most = _wilson(rates, trials, z)
            bound = np.where(occurs, most, np.inf).min(axes, keepdims=True)
            possible.append(occurs & (np.nan_to_num(least, nan=2.0) <= bound))
        # At the worst cell of b the metric of a is at most a's rate there.
        low, high = (
            np.where(possible[0], low, np.inf).min(axes),
            np.where(possible[1], high, -np.inf).max(axes),
        )
        return low, high
    n_groups = trials.shape[-1]
    n_here = occurs.sum(axes, keepdims=True) * max(n_groups - 1, 1)
    z = norm.isf(SCREEN / 2 / np.maximum(n_here, 1))
    here = (size.sum((-2, -1)) > 0)[..., None, None, :]
    pairs = here[..., :, None] & here[..., None, :] & ~np.eye(n_groups, dtype=bool)
    axes = (-4, -3, -2, -1)
    possible = []
    for rates in sides:
        least, most = _difference_limits(rates, *_wilson(rates, trials, z))
        least = np.where(pairs, least, -np.inf)
        top = least.max(axes, keepdims=True)
        possible.append(pairs & (most >= top))
    low, high = _difference_limits(value, low, high)
    # At the widest gap of a, the gap of b is at least the one seen there.
    return (
        np.where(possible[1], low, np.inf).min(axes),
        np.where(possible[0], high, -np.inf).max(axes),
    )


def _generator(random_state):
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**31 - 1)
    return np.random.default_rng(random_state)


def _mean_of_rates(rates, trials, tail):
    """Return the limits of the mean over the classes that occur."""
    low, high = _wilson(rates, trials, norm.isf(tail / 2))
    axes = (-3, -2, -1)
    occurs = trials > 0
    n = np.maximum(occurs.sum(axes), 1)
    mean = np.where(occurs, rates, 0).sum(axes) / n
    down = np.where(occurs, (rates - low) ** 2, 0).sum(axes)
    up = np.where(occurs, (high - rates) ** 2, 0).sum(axes)
    return mean - np.sqrt(down) / n, mean + np.sqrt(up) / n


def _smallest(rates, trials, tail):
    """Return the limits of the smallest of independent rates."""
    axes = (-3, -2, -1)
    occurs = trials > 0
    n = np.maximum(occurs.sum(axes, keepdims=True), 1)
    low, _ = _wilson(rates, trials, norm.isf(tail / 2))
    _, high = _wilson(rates, trials, norm.isf(tail / 2 / n))
    return (
        np.where(occurs, low, np.inf).min(axes),
        np.where(occurs, high, np.inf).min(axes),
    )


def _between_groups(metric, rates, trials, tail, agg, statistic):
    """Return the limits of a largest difference or a smallest ratio."""
    n_rates, n_classes, n_groups = rates.shape[-3:]
    averaged = n_rates if metric.average else 1
    if agg == "mean":
        averaged = n_rates * n_classes
    here = (statistic[..., 0].sum(-1) > 0).numpy()[..., None, None, :]
    n_here = here.sum(-1, keepdims=True)
    n_compared = np.maximum(n_here * (n_here - 1), 2) * n_rates * n_classes
    # The side that is a claim of disparity is simultaneous over all comparisons.
    claim = _wilson(rates, trials, norm.isf(tail / n_compared))
    bound = _wilson(rates, trials, norm.isf(tail / 2 / averaged))
    pairs = here[..., :, None] & here[..., None, :] & ~np.eye(n_groups, dtype=bool)
    if metric.compare == "difference":
        low = _difference_limits(rates, *claim)[0]
        high = _difference_limits(rates, *bound)[1]
        low = np.where(pairs, low, 0).max((-2, -1))
        high = np.where(pairs, high, 0).max((-2, -1))
    else:
        low = _ratio_limits(rates, *bound)[0]
        high = _ratio_limits(rates, *claim)[1]
        low = np.where(pairs, low, 1).min((-2, -1))
        high = np.where(pairs, high, 1).min((-2, -1))
    if metric.average or agg == "mean":
        low, high = (x.mean(-2, keepdims=True) for x in (low, high))
    if agg == "mean":
        return low.mean((-2, -1)), high.mean((-2, -1))
    if metric.compare == "difference":
        return low.max((-2, -1)), high.max((-2, -1))
    return low.min((-2, -1)), high.min((-2, -1))


def _difference_limits(rates, low, high):
    """Return the limits of all differences of two groups: shape (..., G, G)."""
    a, b = np.nan_to_num(rates)[..., :, None], np.nan_to_num(rates)[..., None, :]
    return difference_interval(
        a, (low[..., :, None], high[..., :, None]), b,
        (low[..., None, :], high[..., None, :]),
    )  # fmt: skip


def _ratio_limits(rates, low, high):
    """Return the limits of all ratios of two groups, on the scale of logarithms."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = [np.log(x) for x in (rates, low, high)]
        value, below, above = (x[..., :, None] for x in logs)
        value_b, below_b, above_b = (x[..., None, :] for x in logs)
        least, most = difference_interval(
            value, (below, above), value_b, (below_b, above_b)
        )
        # Where a rate is 0 its logarithm is not there: both limits at their worst.
        box = below - above_b, above - below_b
    zero = ~np.isfinite(value) | ~np.isfinite(value_b)
    with np.errstate(over="ignore", invalid="ignore"):
        least = np.exp(np.where(zero, box[0], least))
        most = np.exp(np.where(zero, box[1], most))
    return least, most


def _wilson(rate, trials, z):
    """Return Wilson's limits for a number of standard errors."""
    p, n = np.asarray(rate, dtype=float), np.asarray(trials, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1 + z**2 / n
        centre = (p + z**2 / (2 * n)) / scale
        half = z / scale * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        low = np.where(p <= 0, 0.0, centre - half)
        high = np.where(p >= 1, 1.0, centre + half)
    rows = n > 0
    return (
        np.where(rows, np.clip(low, 0, p), np.nan),
        np.where(rows, np.clip(high, p, 1), np.nan),
    )


def _tail(confidence_level):
    if not 0 < confidence_level < 1:
        raise ValueError(
            f"confidence_level must be in (0, 1), such as 0.95; got {confidence_level}."
        )
    return 1 - confidence_level
