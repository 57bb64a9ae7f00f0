"""Disjoint parts of a data set, no subject in two of them."""

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

OWNER = "split_by_subject"


def split_by_subject(
    subject, sizes=(0.6, 0.15, 0.05, 0.2), random_state=None, *, stratify=None
):
    """Split rows into disjoint parts so that no subject is in two parts.

    Parameters
    ----------
    subject : array-like of shape (n_samples,)
        Whom or what a row shows. A row whose subject is missing (None, NaN) is
        taken for a subject of its own.
    sizes : sequence of float, default=(0.6, 0.15, 0.05, 0.2)
        Share of the rows in each part; each above 0, at most 1 in sum. What a sum
        below 1 leaves over is in no part. The default is the split of a study: train,
        penalty or fine-tuning, selection, test.
    random_state : int, RandomState instance or None, default=None
        Makes the split reproducible when given as an int.
    stratify : array-like of shape (n_samples,), default=None
        Labels, of a class or of a group x class cell, whose shares are kept about
        equal in all parts. A subject with several labels goes by the rarest of them.

    Returns
    -------
    parts : tuple of ndarray of shape (n_rows_of_the_part,), int64
        Row numbers of each part in ascending order. No part is empty; each holds its
        share of the rows up to the number of rows of the largest subject, unless that
        would leave a part empty.

    Raises
    ------
    ValueError
        If there are fewer subjects than parts, or an argument is out of its range.

    Examples
    --------
    >>> from fairskorch.datasets import split_by_subject
    >>> train, test = split_by_subject(
    ...     ["ann", "ann", "bob", "cy", "cy", "dee"], sizes=(0.5, 0.5), random_state=0
    ... )
    >>> train, test
    (array([2, 5]), array([0, 1, 3, 4]))
    """
    codes = _subject_codes(subject)
    shares = _check_sizes(sizes)
    strata = _check_strata(stratify, len(codes))
    rows = np.bincount(codes)
    if len(rows) < len(shares):
        raise ValueError(
            f"The 'subject' parameter of {OWNER} must hold at least as many subjects "
            f"as 'sizes' has parts. Got {len(rows)} subjects for {len(shares)} parts."
        )
    rng = check_random_state(random_state)
    order = _spread(rows, _stratum_of(codes, strata, len(rows)), rng)
    middles = np.cumsum(rows[order]) - rows[order] / 2
    cuts = np.searchsorted(middles, np.cumsum(shares) * len(codes))
    if np.isclose(np.sum(shares), 1.0):
        cuts[-1] = len(rows)
    cuts = _at_least_one_each(cuts, len(rows))
    part = np.full(len(rows), len(shares))
    for i, (start, stop) in enumerate(zip([0, *cuts[:-1]], cuts, strict=True)):
        part[order[start:stop]] = i
    return tuple(np.flatnonzero(part[codes] == i) for i in range(len(shares)))


def _subject_codes(subject):
    if subject is None:
        raise ValueError(
            f"The 'subject' parameter of {OWNER} must be an array of shape "
            "(n_samples,). Got None instead: the data do not say what a row shows. "
            "Pass np.arange(n_samples) if each row shows another subject."
        )
    values = pd.Series(_one_dimensional(subject, "subject"))
    codes, known = pd.factorize(values)
    missing = codes < 0
    codes[missing] = len(known) + np.arange(missing.sum())
    return codes


def _check_sizes(sizes):
    shares = np.asarray(sizes)
    sound = shares.ndim == 1 and shares.size > 0 and shares.dtype.kind in "fiu"
    if not (sound and (shares > 0).all() and shares.sum() <= 1 + 1e-9):
        raise ValueError(
            f"The 'sizes' parameter of {OWNER} must hold shares above 0 that sum to at "
            f"most 1. Got {sizes!r} instead."
        )
    return shares.astype(float)


def _check_strata(stratify, n_samples):
    if stratify is None:
        return np.zeros(n_samples, dtype=np.intp)
    codes, _ = pd.factorize(
        pd.Series(_one_dimensional(stratify, "stratify")), use_na_sentinel=False
    )
    if len(codes) != n_samples:
        raise ValueError(
            f"The 'stratify' parameter of {OWNER} must have one label a row. Got "
            f"{len(codes)} labels for {n_samples} rows."
        )
    return codes


def _one_dimensional(values, name):
    if not isinstance(values, pd.Series | np.ndarray):
        values = list(values)
        array = np.empty(len(values), dtype=object)
        array[:] = values
        values = array
    if values.ndim != 1:
        raise ValueError(
            f"The {name!r} parameter of {OWNER} must have the shape (n_samples,). "
            f"Got {values.shape} instead."
        )
    return values.to_numpy() if isinstance(values, pd.Series) else values


def _stratum_of(codes, strata, n_subjects):
    """Return the stratum of each subject: the rarest label among its rows."""
    by_frequency = np.argsort(-np.bincount(strata), kind="stable")
    rarity = np.argsort(by_frequency)[strata]
    rarest = np.zeros(n_subjects, dtype=np.intp)
    np.maximum.at(rarest, codes, rarity)
    return rarest


def _spread(rows, stratum, rng):
    """Order subjects at random with each stratum evenly spread over the order."""
    order = rng.permutation(len(rows))
    position = np.empty(len(rows))
    for value in np.unique(stratum):
        members = order[stratum[order] == value]
        middles = np.cumsum(rows[members]) - rows[members] / 2
        position[members] = (middles / rows[members].sum() + rng.uniform()) % 1.0
    return np.argsort(position, kind="stable")


def _at_least_one_each(cuts, n_subjects):
    """Move cuts as little as need be so that no part is without a subject."""
    steps = np.arange(1, len(cuts) + 1)
    cuts = np.maximum.accumulate(np.maximum(cuts, 1) - steps) + steps
    return np.minimum(cuts, n_subjects - len(cuts) + steps)
