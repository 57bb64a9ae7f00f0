"""Metrics with intervals, from predicted labels."""

import numpy as np

from fairskorch.intervals import metric_interval
from fairskorch.metrics import METRICS, from_counts
from fairskorch.metrics._counts import lookup
from fairskorch.metrics._inputs import count_rows


def count(owner, y_true, y_pred, sensitive_features, times=1):
    """Count rows by group, class and prediction; and all of them as one group.

    Parameters
    ----------
    owner : str
        For messages.
    y_true, y_pred, sensitive_features : array-like
        Labels, predictions and groups.
    times : int, default=1
        How often each row comes, as in pooled folds; it counts once.

    Returns
    -------
    counts : dict of bool to (statistic, positive)
        For True, of all rows as one group.
    """
    parts = {}
    for overall in (False, True):
        groups = np.zeros(len(y_true), int) if overall else sensitive_features
        found = count_rows(y_true, y_pred, groups, owner=owner)
        parts[overall] = found.statistic / times, found.positive
    return parts


def interval(name, counts, confidence_level):
    """Return a metric with its limits: three floats."""
    overall = lookup(name).compare == "overall"
    statistic, positive = counts[overall]
    low, high = metric_interval(
        name, statistic, confidence_level=confidence_level, positive=positive
    )
    return tuple(
        float(x) for x in (from_counts(name, statistic, positive=positive), low, high)
    )


def parity_of(name):
    """Return the value of a metric at parity, None where it has none."""
    # A history has the columns behind the metric: "…_difference_by_sex".
    name = name.partition("_by_")[0]
    return METRICS[name].parity if name in METRICS else None


def sign_of(name):
    """Return -1 where smaller values of a metric are better, else 1."""
    return lookup(name).sign
