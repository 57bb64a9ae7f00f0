"""Two classifiers on the same rows."""

from functools import partial
from numbers import Integral

import numpy as np
import torch
from scipy.stats import norm

from fairskorch.intervals._metric import inside, metric_interval
from fairskorch.intervals._projection import AXES, difference_limits
from fairskorch.intervals._rates import difference_interval, tail_of, wilson
from fairskorch.metrics import METRICS, from_counts
from fairskorch.metrics._counts import RATES, compared_rates

#: Level at which a comparison is ruled out as the one where a gap is.
SCREEN = 0.01


def paired_interval(
    name,
    joint,
    *,
    n_boot=1000,
    confidence_level=0.95,
    positive=None,
    random_state=None,
    designs=None,
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
        See `fairskorch.metrics.from_counts`.
    random_state : int, RandomState instance or None, default=None
        Makes the draws reproducible; the global generator is never touched.
    designs : tuple of three ndarray, optional
        For rows of one subject: what `design_effects` found for the rates of a, for
        those of b, and for their differences.

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
    tail = tail_of(confidence_level)
    size, tables, only = two_tables(joint)
    value_a, value_b = (from_counts(name, t, positive=positive).numpy() for t in tables)
    value = value_a - value_b
    metric = METRICS[name]
    uses_pairs = metric.compare != "ratio" and not metric.average
    # Two intervals are intersected below, so the wider one is taken at half the risk.
    level = 1 - tail / 2 if uses_pairs else confidence_level
    design_a, design_b, design = (None,) * 3 if designs is None else designs
    intervals = [
        metric_interval(
            name, table, confidence_level=level, positive=positive, design=own
        )
        for table, own in zip(tables, (design_a, design_b), strict=True)
    ]
    low, high = difference_interval(
        value_a, intervals[0], value_b, intervals[1], metric.parity
    )
    if uses_pairs:
        (more, trials), (less, _) = (
            [x.numpy() for x in compared_rates(name, t, positive)] for t in only
        )
        rng = generator(random_state)
        change = disagreement(more, less, trials, tail, n_boot, rng, design)
        sides = []
        for table, own in zip(tables, (design_a, design_b), strict=True):
            rates = compared_rates(name, table, positive)[0].numpy()
            told = trials if own is None else trials / own
            sides.append((rates, partial(wilson, rates, told)))
        here = (size.sum((-2, -1)) > 0).numpy()[..., None, None, :]
        paired = project_change(metric.compare, change, sides, trials > 0, here)
        if metric.compare == "overall":
            low, high = paired
        else:
            # Both hold: the pairing narrows where the comparison is clear, the
            # gaps' own limits where it is not.
            low, high = np.fmax(low, paired[0]), np.fmin(high, paired[1])
    return value, inside(value, low, high, least=-1)


def two_tables(joint):
    """Return the sizes of cells, the statistics of a and b, and those of either alone.

    Alone: where a says a class and b does not, and the reverse.
    """
    # Indices: ... g y a b.
    both = joint.diagonal(dim1=-2, dim2=-1)
    size = joint.sum((-2, -1)).unsqueeze(-1)
    says = joint.sum(-1), joint.sum(-2)
    tables = [torch.cat([size, x], -1) for x in says]
    return size, tables, [torch.cat([size, x - both], -1) for x in says]


def rate_change(rate, joint, tail, n_boot, rng, design=None):
    """Return how a rate of each class and group changes from b to a, with limits.

    Returns
    -------
    value, low, high : ndarray of shape (..., n_classes, n_groups)
        ``nan`` where there is no row.
    """
    function, rows = RATES[rate]
    (more, trials), (less, _) = (
        (function(t).rates.numpy(), rows(t)) for t in two_tables(joint)[2]
    )
    trials = trials.expand(more.shape).numpy()
    found = disagreement(more, less, trials, tail, n_boot, rng, design)
    return tuple(np.where(trials > 0, x, np.nan) for x in found)


def disagreement(more, less, trials, tail, n_boot, rng, design=None):
    """Return each rate of a minus that of b with its limits: shape (..., K, C, G)."""
    rows = trials if design is None else trials / design
    # Two rows are added, so that a cell where both agree is not taken as sure.
    counts = [more * rows + 0.5, less * rows + 0.5, (1 - more - less) * rows + 1]
    up, down, rest = (
        rng.standard_gamma(np.maximum(c, 0.5), size=(n_boot, *c.shape)) for c in counts
    )
    draws = (up - down) / (up + down + rest)
    low, high = np.quantile(draws, [tail / 2, 1 - tail / 2], axis=0)
    value = more - less
    return value, np.minimum(low, value), np.maximum(high, value)


def project_change(compare, change, sides, occurs, here):
    """Project the changes of rates to the change of a metric.

    Parameters
    ----------
    compare : {"overall", "smallest", "difference"}
    change : tuple of ndarray of shape (..., n_rates, n_classes, n_groups)
        Value, lower and upper limit of a minus b.
    sides : list of (rates, limits)
        Those of a and of b; limits as of `fairskorch.intervals._projection`.
    occurs, here : ndarray of bool
        Rates that have rows, and groups that have.
    """
    value, low, high = change
    if compare == "overall":
        n = np.maximum(occurs.sum(AXES), 1)
        mean, down, up = (
            np.where(occurs, x, 0).sum(AXES) / n**power
            for x, power in (
                (value, 1),
                ((value - low) ** 2, 2),
                ((high - value) ** 2, 2),
            )
        )
        return mean - np.sqrt(down), mean + np.sqrt(up)
    z = norm.isf(SCREEN / 2 / np.maximum(occurs.sum(AXES, keepdims=True), 1))
    if compare == "smallest":
        possible = []
        for _, limits in sides:
            least, most = limits(z)
            bound = np.where(occurs, most, np.inf).min(AXES, keepdims=True)
            possible.append(occurs & (np.nan_to_num(least, nan=2.0) <= bound))
        # At the worst cell of b the metric of a is at most a's rate there.
        low, high = (
            np.where(possible[0], low, np.inf).min(AXES),
            np.where(possible[1], high, -np.inf).max(AXES),
        )
        return low, high
    n_groups = occurs.shape[-1]
    n_here = occurs.sum(AXES, keepdims=True) * max(n_groups - 1, 1)
    z = norm.isf(SCREEN / 2 / np.maximum(n_here, 1))
    pairs = here[..., :, None] & here[..., None, :] & ~np.eye(n_groups, dtype=bool)
    axes = (-4, -3, -2, -1)
    possible = []
    for rates, limits in sides:
        least, most = difference_limits(rates, *limits(z))
        least = np.where(pairs, least, -np.inf)
        top = least.max(axes, keepdims=True)
        possible.append(pairs & (most >= top))
    low, high = difference_limits(value, low, high)
    # At the widest gap of a, the gap of b is at least the one seen there.
    return (
        np.where(possible[1], low, np.inf).min(axes),
        np.where(possible[0], high, -np.inf).max(axes),
    )


def generator(random_state):
    """Return a generator of its own from whatever scikit-learn takes as a seed."""
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**31 - 1)
    whole = isinstance(random_state, Integral) and random_state >= 0
    if not (random_state is None or whole):
        raise ValueError(
            "random_state must be None, a whole number that is not negative, or a "
            f"RandomState; got {random_state!r}."
        )
    return np.random.default_rng(random_state)
