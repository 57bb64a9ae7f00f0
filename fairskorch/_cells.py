"""Rows sorted and numbered by their cells."""

import numpy as np
import torch


def order_of_cells(cell):
    """Return the stable order of rows by cell.

    Parameters
    ----------
    cell : ndarray or Tensor of shape (n_samples,), int64
        On the CPU.

    Returns
    -------
    order : ndarray or Tensor of shape (n_samples,), int64
        Row numbers.
    """
    if isinstance(cell, torch.Tensor):
        return torch.from_numpy(order_of_cells(cell.numpy()))
    short = np.iinfo(np.int16)
    if cell.size and short.min <= cell.min() and cell.max() <= short.max:
        # NumPy has a radix sort for such numbers, six times as fast.
        cell = cell.astype(np.int16)
    return np.argsort(cell, kind="stable")


def numbered_strata(strata):
    """Give the strata that occur numbers from 0 on, in the order of their codes.

    Parameters
    ----------
    strata : Tensor of shape (n_samples,), int64
        Codes, on the CPU.

    Returns
    -------
    order : Tensor of shape (n_samples,), int64
        Row numbers, sorted by stratum.
    stratum : Tensor of shape (n_samples,), int64
        The number of each row's stratum.
    counts : Tensor of shape (n_strata,), int64
        Rows in each.
    """
    order = order_of_cells(strata)
    codes = strata[order]
    begins = torch.ones(len(codes), dtype=torch.bool)
    begins[1:] = codes[1:] != codes[:-1]
    stratum = torch.empty_like(order)
    stratum[order] = begins.cumsum(0) - 1
    return order, stratum, torch.bincount(stratum)
