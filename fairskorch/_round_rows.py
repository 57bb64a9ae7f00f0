"""Rows that a round of the game reads, and what each of them stands for."""

import numpy as np
import torch

from fairskorch._cells import order_of_cells

#: Rows that a round reads: a share of the training rows, and no fewer than these.
READ_SHARE, READ_LEAST = 0.125, 2048


def cell_counts(rows, n_groups, n_classes):
    """Count rows by group and class, those of unknown group first.

    Parameters
    ----------
    rows : GroupedRows
    n_groups, n_classes : int
        With no group, all rows are of unknown group.

    Returns
    -------
    counts : Tensor of shape (1 + n_groups, n_classes), float64
    """
    cell = _cells(rows, n_groups, n_classes)
    counts = torch.bincount(cell, minlength=(1 + n_groups) * n_classes)
    return counts.view(1 + n_groups, n_classes).double()


def rows_of_round(limit, n_train, seen, n_groups, n_classes, first=None):
    """Return rows that a round reads, small cells whole, and what each stands for.

    Parameters
    ----------
    limit : {"auto", "all"} or int
        How many rows to read.
    n_train : int
        Training rows.
    seen : GroupedRows
        Those that multipliers move on.
    n_groups, n_classes : int
    first : Tensor of int64, optional
        Rows to take before others of their cells, as they are read anyway: drawn
        without a look at X, so that the part stands for its cells all the same.

    Returns
    -------
    part : GroupedRows
    scale : Tensor of shape (1 + n_groups, n_classes)
    """
    counts = cell_counts(seen, n_groups, n_classes)
    if limit == "auto":
        limit = max(READ_LEAST, int(READ_SHARE * n_train))
    if limit == "all" or len(seen) <= limit:
        return seen, torch.ones_like(counts)
    sizes = counts.flatten().long()
    cell = _cells(seen, n_groups, n_classes)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(seen), generator=generator)
    read = torch.zeros(len(seen), dtype=torch.bool)
    if first is not None:
        read[first] = True
    order = torch.cat([order[read[order]], order[~read[order]]])
    order = order[order_of_cells(cell[order])]
    place = torch.arange(len(order)) - (sizes.cumsum(0) - sizes)[cell[order]]
    part = seen.subset(order[place < _cap(sizes.numpy(), limit)].sort().values)
    kept = cell_counts(part, n_groups, n_classes)
    return part, counts / kept.clamp_min(1)


def _cells(rows, n_groups, n_classes):
    groups = rows.groups if n_groups else torch.full_like(rows.groups, -1)
    return (groups + 1) * n_classes + rows.y


def _cap(sizes, limit):
    """Return how many rows of a cell to read so that all are about as many as that."""
    ordered = np.sort(sizes[sizes > 0])
    before = np.concatenate([[0], np.cumsum(ordered)[:-1]])
    left = np.arange(len(ordered), 0, -1)
    # Cells smaller than their share leave the rest to the others.
    shares = (limit - before) / left
    fits = ordered > shares
    return max(1, int(shares[fits.argmax()] if fits.any() else ordered[-1]))
