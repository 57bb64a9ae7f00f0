"""Limits of rates, and of differences of two estimates."""

from numbers import Real
from typing import NamedTuple

import numpy as np
from scipy.stats import norm


class Interval(NamedTuple):
    """Lower and upper limit of an interval.

    Parameters
    ----------
    low, high : ndarray
        Of one shape, ``nan`` where nothing can be estimated.

    Examples
    --------
    >>> from fairskorch.intervals import rate_interval
    >>> interval = rate_interval(0.5, 100)
    >>> bool(interval.low < 0.5 < interval.high)
    True
    """

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
    return Interval(*wilson(rate, trials, norm.isf(tail_of(confidence_level) / 2)))


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
        Of the difference; ``nan`` where an estimate is.

    Examples
    --------
    >>> from fairskorch.intervals import difference_interval, rate_interval
    >>> test, train = rate_interval(0.5, 100), rate_interval(0.8, 400)
    >>> low, high = difference_interval(0.5, test, 0.8, train)
    >>> print(f"{low:.3f} {high:.3f}")
    -0.403 -0.195
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


def wilson(rate, trials, z):
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


def tail_of(confidence_level):
    """Return the share of cases that an interval may miss."""
    if not (isinstance(confidence_level, Real) and 0 < confidence_level < 1):
        raise ValueError(
            "confidence_level must be in (0, 1), such as 0.95; got "
            f"{confidence_level!r}."
        )
    return 1 - confidence_level
