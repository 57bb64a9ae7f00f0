"""Rows of one subject: how much less they tell than as many independent rows."""

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

__all__ = ["design_effects"]

#: Subjects added to a cell, half of them always and half never hit, so that few
#: subjects who happen to agree are not taken as sure.
ADDED = 0.5

#: Effect a row of what tells nothing.
NOTHING = 1e9

#: Tail at which few subjects cost what Student's t costs against the normal.
TAIL = 0.025


def design_effects(hits, cells, subjects, n_cells):
    """Say how much more each rate varies than if its rows were independent.

    The variance of a ratio of sums over subjects (linearised), by the binomial
    variance of as many rows; multiplied by what Student's t with the number of
    subjects costs. At a rate of 0 or 1, where no variance is seen, it is Kish's
    effect of subjects whose rows are all alike.

    Parameters
    ----------
    hits : array-like of shape (n_samples,)
        What the rate is the mean of: 0 or 1, or a difference of two such.
    cells : ndarray of shape (n_samples,), int64
        Which rate a row counts in; -1 for none.
    subjects : ndarray of shape (n_samples,), int64
        Codes of subjects.
    n_cells : int
        Number of rates.

    Returns
    -------
    effects : ndarray of shape (n_cells,), float64
        At least 1: rows divided by it are the number of independent rows that would
        tell as much. For one subject alone, which tells nothing of others, so large
        that an interval is everything; 1 where there is no row.

    Examples
    --------
    >>> import numpy as np
    >>> from fairskorch.intervals import design_effects
    >>> subjects = np.arange(400).repeat(5)
    >>> alike = np.random.default_rng(0).random(400).repeat(5) < 0.7
    >>> float(design_effects(alike, np.zeros(2000, dtype=int), subjects, 1)[0].round(1))
    5.0
    """
    keep = cells >= 0
    hits, cells, subjects = np.asarray(hits, float)[keep], cells[keep], subjects[keep]
    n_subjects = int(subjects.max(initial=0)) + 1
    # One entry a cell and subject that occurs in it.
    pairs, inverse = np.unique(cells * n_subjects + subjects, return_inverse=True)
    cell = pairs // n_subjects
    rows = np.bincount(inverse)
    sums = np.bincount(inverse, hits)
    total, squares, hit, hit_squares, found = (
        np.bincount(where, what, minlength=n_cells)
        for where, what in (
            (cell, rows.astype(float)),
            (cell, rows.astype(float) ** 2),
            (cell, sums),
            (cells, hits**2),
            (cell, np.ones(len(cell))),
        )
    )
    size = np.maximum(total, 1)
    rate = hit / size
    residual = np.bincount(cell, (sums - rate[cell] * rows) ** 2, minlength=n_cells)
    kish = squares / size
    independent = hit_squares - size * rate**2
    with np.errstate(divide="ignore", invalid="ignore"):
        small = found / (found - 1)
        effect = (small * residual + ADDED * kish**2) / (independent + ADDED * kish)
        few = student.isf(TAIL, found - 1) / norm.isf(TAIL)
        effect = np.maximum(effect, 1) * np.maximum(few, 1) ** 2
    effect = np.where(found > 1, effect, total * NOTHING)
    # Each row of a subject of its own: nothing is known of dependence, none is there.
    return np.where(found == total, 1.0, effect)


def shared_error(hits, cells, subjects, n_cells):
    """Say how much more the mean of several rates varies than if they were independent.

    A subject whose rows are in several cells moves several rates at once.

    Parameters
    ----------
    hits, cells, subjects, n_cells
        As of `design_effects`.

    Returns
    -------
    factor : float
        At least 1.
    """
    keep = cells >= 0
    hits, cells, subjects = np.asarray(hits, float)[keep], cells[keep], subjects[keep]
    size = np.maximum(np.bincount(cells, minlength=n_cells), 1)
    rate = np.bincount(cells, hits, n_cells) / size
    errors = (hits - rate[cells]) / size[cells]
    together = (np.bincount(subjects, errors) ** 2).sum()
    _, pairs = np.unique(subjects * n_cells + cells, return_inverse=True)
    apart = (np.bincount(pairs, errors) ** 2).sum()
    return float(max(1, together / apart)) if apart > 0 else 1.0
