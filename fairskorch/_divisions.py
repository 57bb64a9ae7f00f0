"""How rows are divided: those that are held out, and those of the penalty alone."""

from numbers import Real

import numpy as np

from fairskorch._cells import order_of_cells


def split_rows(
    owner, fraction, rows, y, rng, name="validation_fraction", subjects=None
):
    """Hold out rows, the same share of every cell.

    Parameters
    ----------
    owner : str
        For messages.
    fraction : float, int or splitter
        Share of rows; 0 for none. A splitter's first split is taken.
    rows : GroupedRows
        Rows that may be trained on.
    y : ndarray
        Classes of all rows that were given, which a splitter divides.
    rng : RandomState
    name : str, default="validation_fraction"
        What messages call the fraction.
    subjects : ndarray of int, optional
        Whom each of the rows that were given shows: all rows of one subject stay
        together. Then subjects are held out, the same share of every cell that the
        first row of a subject is in.

    Returns
    -------
    train, valid : GroupedRows
        `valid` is None where no row is held out.
    """
    if not isinstance(fraction, Real):
        # Rows of weight 0 were dropped since, so places differ from row numbers.
        numbers = rows.index.numpy()
        split = _first_split(owner, fraction, y, name)
        parts = [np.isin(numbers, part) for part in split]
        return tuple(rows.subset(np.flatnonzero(part)) for part in parts)
    if fraction == 0:
        return rows, None
    y, groups = rows.y.numpy(), rows.groups.numpy()
    cell = (groups + 1) * (y.max() + 1) + y
    if subjects is None:
        held = _held(cell, fraction, rng)
    else:
        own = subjects[rows.index.numpy()]
        _, first, subject = np.unique(own, return_index=True, return_inverse=True)
        held = _held(cell[first], fraction, rng)[subject]
    if not held.any():
        return rows, None
    return rows.subset(np.flatnonzero(~held)), rows.subset(np.flatnonzero(held))


def _held(cell, fraction, rng):
    """Choose a share of every cell; the first of each stays."""
    order = rng.permutation(len(cell))
    order = order[order_of_cells(cell[order])]
    # A place counts the rows held out so far; where it passes a whole number a row is
    # taken. Cells follow each other, so small ones share what they are too small for.
    place = (np.arange(len(cell)) + rng.uniform()) * fraction
    chosen = np.floor(place) > np.floor(place - fraction)
    # Training is to see whatever occurs at all: of a cell the first row stays, and the
    # next one goes in its place if there is one.
    sorted_cell = cell[order]
    first = np.r_[True, sorted_cell[1:] != sorted_cell[:-1]]
    chosen[0] = False  # or it would be, whatever the fraction
    chosen[1:] |= (chosen & first)[:-1] & ~first[1:]
    chosen[first] = False
    held = np.zeros(len(cell), dtype=bool)
    held[order[chosen]] = True
    return held


def split_penalty_rows(
    owner, fraction, rows, y, rng, subjects=None, *, valid=None, penalised=True
):
    """Take rows out of the training rows for the penalty alone.

    Rows of unknown group stay where they are drawn one by one: they would count
    nowhere.

    Parameters
    ----------
    owner, fraction, rows, y, rng, subjects
        As in `split_rows`.
    valid : GroupedRows, optional
        Rows that another splitter held out.
    penalised : bool, default=True
        Whether there is a penalty, which needs two groups.

    Returns
    -------
    task, penalty : GroupedRows
    """
    name = "penalty_fraction"
    share = isinstance(fraction, Real)
    check_apart(owner, fraction, y, name, valid)
    known = rows.groups.numpy() >= 0
    if share and subjects is None and known.any():
        some = rows.subset(np.flatnonzero(known))
        _, penalty = split_rows(owner, fraction, some, y, rng)
        chosen = np.zeros(0) if penalty is None else penalty.index.numpy()
        stay = ~np.isin(rows.index.numpy(), chosen)
        task = rows.subset(np.flatnonzero(stay))
    else:
        task, penalty = split_rows(owner, fraction, rows, y, rng, name, subjects)
    codes = np.zeros(0) if penalty is None else penalty.groups.numpy()
    n_groups = len(np.unique(codes[codes >= 0]))
    if not len(codes) or not len(task) or (penalised and n_groups < 2):
        raise ValueError(
            f"penalty_data='holdout' of {owner} leaves rows of {n_groups} groups for "
            f"the penalty, which compares two at least; penalty_fraction={fraction!r} "
            "is too small."
        )
    return task, penalty


def check_apart(owner, fraction, y, name, valid):
    """Raise where a splitter holds out rows that another one held out before."""
    if isinstance(fraction, Real) or valid is None:
        return
    _, second = _first_split(owner, fraction, y, name)
    if np.isin(second, valid.index.numpy()).any():
        raise ValueError(
            f"The splitters given as validation_fraction and {name} of {owner} hold "
            "out some rows both; their second parts must be disjoint."
        )


def _first_split(owner, splitter, y, name):
    try:
        train, valid = next(iter(splitter.split(np.zeros(len(y)), y)))
    except ValueError as error:
        given = ", or pass X_val, y_val, groups_val"
        raise ValueError(
            f"The splitter given as {name} of {owner} cannot split: {error}. It is "
            "called with X and y alone, since sensitive groups are no cross-validation "
            "groups; hold out subjects with sklearn.model_selection.PredefinedSplit"
            + (f"{given}." if name == "validation_fraction" else ".")
        ) from error
    if len(np.intersect1d(train, valid)) or len(train) == 0 or len(valid) == 0:
        raise ValueError(
            f"The splitter given as {name} of {owner} must give two disjoint "
            "parts with at least one row each."
        )
    return train, valid
