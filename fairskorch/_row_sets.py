"""Rows that a head is trained on: balanced over cells, with a weight each."""

from typing import NamedTuple

import numpy as np
from sklearn.utils import compute_class_weight

from fairskorch._cells import order_of_cells


class RowSet(NamedTuple):
    """Rows that some heads are trained on.

    Attributes
    ----------
    rows : ndarray of int64
    weight, share : ndarray of float64
        What each row counts for in the task loss, and in rates.
    """

    rows: np.ndarray
    weight: np.ndarray
    share: np.ndarray


def balanced_set(rows, numbers, balance, class_weight, classes, n_groups, rng):
    """Balance some rows, and say what each of them counts for.

    Parameters
    ----------
    rows : GroupedRows
    numbers : ndarray of int64
        Which of them may be used.
    balance : {None, "cells", "weights"}
    class_weight : None, "balanced" or dict
    classes : ndarray of shape (n_classes,)
        Labels in code order.
    n_groups : int or None
        None where groups are not known at all, so that cells are classes.
    rng : RandomState

    Returns
    -------
    row_set : RowSet
    """
    y, groups = rows.y.numpy()[numbers], rows.groups.numpy()[numbers]
    share = np.ones(len(numbers))
    if balance is not None:
        # A row of unknown group is in no cell.
        chosen = np.flatnonzero((groups >= 0) | (n_groups is None))
        if not len(chosen):
            raise ValueError(
                f"there is no row of known group, which balance={balance!r} needs."
            )
        cell = np.maximum(groups, 0) * len(classes) + y
        _, cell, counts = np.unique(
            cell[chosen], return_inverse=True, return_counts=True
        )
        if balance == "cells":
            chosen = np.sort(chosen[_equal_draw(cell, counts, rng)])
            share = share[chosen]
        else:
            share = len(chosen) / (len(counts) * counts[cell])
        numbers, y = numbers[chosen], y[chosen]
    weight = share * _class_weights(class_weight, classes, y, share)[y]
    if rows.weight is not None:
        weight = weight * rows.weight.numpy()[numbers]
    return RowSet(numbers, weight, share)


def _equal_draw(cell, counts, rng):
    """Draw as many rows of every cell as the smallest has, without replacement."""
    order = rng.permutation(len(cell))
    order = order[order_of_cells(cell[order])]
    place = np.arange(len(cell)) - np.repeat(np.cumsum(counts) - counts, counts)
    return order[place < counts.min()]


def _class_weights(class_weight, classes, codes, share):
    """Return the weight of each class in the task loss, beside the share of rows."""
    if class_weight is None:
        return np.ones(len(classes))
    if isinstance(class_weight, dict):
        return compute_class_weight(class_weight, classes=classes, y=classes)
    counts = np.bincount(codes, share, minlength=len(classes))
    return counts.max() / np.where(counts > 0, counts, 1)
