"""The interval of a metric: limits of rates, projected."""

import numpy as np

from fairskorch.intervals._projection import between_groups, mean_of_rates, smallest
from fairskorch.intervals._rates import Interval, tail_of, wilson
from fairskorch.metrics import METRICS, from_counts
from fairskorch.metrics._counts import compared_rates


def metric_interval(
    name, statistic, *, confidence_level=0.95, agg="max", positive=None, design=None
):
    """Compute the interval of a metric from counts, for all leading dimensions.

    Parameters
    ----------
    name : str
        As of `fairskorch.metrics.from_counts`.
    statistic : Tensor of shape (..., n_groups, n_classes, 1 + n_classes)
        Counts of rows, no weights; of independent ones unless `design` is given.
    confidence_level : float, default=0.95
        In (0, 1). With more than two groups or rates the interval covers more often.
    agg : {"max", "mean"}, default="max"
        See `fairskorch.metrics.from_counts`.
    positive : int, optional
        See `fairskorch.metrics.from_counts`.
    design : ndarray of shape (..., n_rates, n_compared_classes, n_groups), optional
        What `design_effects` found for rows of one subject, for each rate that the
        metric compares; 1 for independent rows.

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
    tail = tail_of(confidence_level)
    value = from_counts(name, statistic, agg=agg, positive=positive).numpy()
    metric = METRICS[name]
    rates, trials = (x.numpy() for x in compared_rates(name, statistic, positive))
    if design is not None:
        trials = trials / design

    def limits(z):
        return wilson(rates, trials, z)

    if metric.compare == "overall":
        low, high = mean_of_rates(rates, limits, trials > 0, tail)
    elif metric.compare == "smallest":
        low, high = smallest(limits, trials > 0, tail)
    else:
        here = (statistic[..., 0].sum(-1) > 0).numpy()[..., None, None, :]
        low, high = between_groups(
            rates, limits, here, tail, metric.compare, metric.average, agg
        )
    return inside(value, low, high)


def inside(value, low, high, least=0):
    """Clip limits to [least, 1], the estimate inside; missing where it is."""
    missing = np.isnan(value)
    # It is inside by construction, up to rounding.
    low = np.clip(np.where(missing, np.nan, np.minimum(low, value)), least, 1)
    high = np.clip(np.where(missing, np.nan, np.maximum(high, value)), least, 1)
    return Interval(low, high)
