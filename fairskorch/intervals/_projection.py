"""From limits of signed quantities to limits of gaps, ratios and minima.

Rates have the shape (..., n_rates, n_classes, n_groups). `limits` is a function of a
number of standard errors that returns their lower and upper limits, so that whatever
has such limits is projected in one way: rates of counts, means of scores, areas.
"""

import numpy as np
from scipy.stats import norm

from fairskorch.intervals._rates import difference_interval

AXES = (-3, -2, -1)


def mean_of_rates(rates, limits, occurs, tail):
    """Return the limits of the mean over the classes that occur."""
    low, high = limits(norm.isf(tail / 2))
    n = np.maximum(occurs.sum(AXES), 1)
    mean = np.where(occurs, rates, 0).sum(AXES) / n
    down = np.where(occurs, (rates - low) ** 2, 0).sum(AXES)
    up = np.where(occurs, (high - rates) ** 2, 0).sum(AXES)
    return mean - np.sqrt(down) / n, mean + np.sqrt(up) / n


def smallest(limits, occurs, tail):
    """Return the limits of the smallest of independent rates."""
    n = np.maximum(occurs.sum(AXES, keepdims=True), 1)
    low, _ = limits(norm.isf(tail / 2))
    _, high = limits(norm.isf(tail / 2 / n))
    return (
        np.where(occurs, low, np.inf).min(AXES),
        np.where(occurs, high, np.inf).min(AXES),
    )


def between_groups(
    rates, limits, here, tail, compare, average=False, agg="max", parity=None
):
    """Return the limits of a largest difference or a smallest ratio.

    Parameters
    ----------
    rates : ndarray of shape (..., n_rates, n_classes, n_groups)
    limits : callable
    here : ndarray of bool of shape (..., 1, 1, n_groups)
        Groups that are compared.
    tail : float
    compare : {"difference", "ratio"}
    average : bool
        Whether rates are averaged before classes are joined.
    agg : {"max", "mean"}
    parity : {0, 1}, optional
        Where the limits of the rates themselves are cut off; see
        `difference_interval`.
    """
    n_rates, n_classes, n_groups = rates.shape[-3:]
    averaged = n_rates if average else 1
    if agg == "mean":
        averaged = n_rates * n_classes
    n_here = here.sum(-1, keepdims=True)
    n_compared = np.maximum(n_here * (n_here - 1), 2) * n_rates * n_classes
    # The side that is a claim of disparity is simultaneous over all comparisons.
    claim = limits(norm.isf(tail / n_compared))
    bound = limits(norm.isf(tail / 2 / averaged))
    pairs = here[..., :, None] & here[..., None, :] & ~np.eye(n_groups, dtype=bool)
    if compare == "difference":
        low = difference_limits(rates, *claim, parity)[0]
        high = difference_limits(rates, *bound, parity)[1]
        low = np.where(pairs, low, 0).max((-2, -1))
        high = np.where(pairs, high, 0).max((-2, -1))
    else:
        low = _ratio_limits(rates, *bound)[0]
        high = _ratio_limits(rates, *claim)[1]
        low = np.where(pairs, low, 1).min((-2, -1))
        high = np.where(pairs, high, 1).min((-2, -1))
    if average or agg == "mean":
        low, high = (x.mean(-2, keepdims=True) for x in (low, high))
    if agg == "mean":
        return low.mean((-2, -1)), high.mean((-2, -1))
    if compare == "difference":
        return low.max((-2, -1)), high.max((-2, -1))
    return low.min((-2, -1)), high.min((-2, -1))


def difference_limits(rates, low, high, parity=None):
    """Return the limits of all differences of two groups: shape (..., G, G)."""
    rates = np.nan_to_num(rates)
    a, b = rates[..., :, None], rates[..., None, :]
    own = low[..., :, None], high[..., :, None]
    other = low[..., None, :], high[..., None, :]
    return difference_interval(a, own, b, other, parity)


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
