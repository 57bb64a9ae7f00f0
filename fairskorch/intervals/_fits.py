"""Several fits of one method: the rows they share, and the seeds they do not."""

import numpy as np
from scipy.stats import t as student

from fairskorch.intervals._rates import Interval, tail_of

__all__ = ["fits_interval"]


def fits_interval(values, intervals, confidence_level=0.95):
    """Combine the intervals of several fits into one of their mean.

    The rows are the same for all fits, so their noise does not average out: the mean
    of the limits stands for it. Seeds are independent: Student's t of the values
    stands for them. Both are combined as independent ("MOVER").

    Parameters
    ----------
    values : array-like of shape (n_fits, ...)
        A quantity of each fit.
    intervals : sequence of Interval
        The interval of each fit, at `confidence_level`.
    confidence_level : float, default=0.95
        In (0, 1).

    Returns
    -------
    value : ndarray of shape (...)
        Mean over fits; ``nan`` where that of a fit is.
    interval : Interval of float64 arrays of shape (...)
        Limits of the mean over fits that could have been made. With one fit, its own
        interval: then nothing is said of other seeds.

    Raises
    ------
    ValueError
        For a level that is not in (0, 1).

    Examples
    --------
    >>> from fairskorch.intervals import Interval, fits_interval
    >>> intervals = [Interval(0.0, 0.2), Interval(0.1, 0.3), Interval(0.2, 0.4)]
    >>> value, (low, high) = fits_interval([0.1, 0.2, 0.3], intervals)
    >>> print(f"{value:.3f} {low:.3f} {high:.3f}")
    0.200 -0.068 0.468
    """
    tail = tail_of(confidence_level)
    values = np.asarray(values, dtype=float)
    lows, highs = (np.array([i[side] for i in intervals]) for side in (0, 1))
    value, low, high = values.mean(0), lows.mean(0), highs.mean(0)
    if len(values) == 1:
        return value, Interval(low, high)
    error = values.std(0, ddof=1) / np.sqrt(len(values))
    reach = student.isf(tail / 2, len(values) - 1) * error
    return value, Interval(
        value - np.hypot(value - low, reach), value + np.hypot(high - value, reach)
    )
