"""Sums and counts of every group x class cell: the one place that knows cells.

A *statistic* is a tensor of shape ``(..., n_groups, n_classes, 1 + n_values)``: for
each cell of group and true class the number of rows, then the sums of one or more
values of a row (a score, a loss, a prediction). Statistics add up, so a batch, an
epoch, a running memory and several processes are handled by the same code, and the
rates below are computed once the sums are complete.

Rates come as a pair of tensors ``(rates, present)``, both of shape
``(..., n_rates, n_groups)``: a rate without a row to estimate it is 0, not present and
passes no gradient. Leading dimensions are kept, so draws of a bootstrap are one call.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Rates",
    "cell_statistics",
    "confusion_statistics",
    "false_positive_rates",
    "gaps",
    "mean_values",
    "miss_rates",
    "true_positive_rates",
]

#: Factor that makes a softmax the largest entry's, shared where others are within about
#: 1e-7 of it: rates of hard predictions are often equal up to rounding, which should
#: not choose a group. A power of two is exact.
SHARP = 2.0**24

#: Below every rate times `SHARP`; twice it is finite in float32.
ABSENT = -(2.0**126)


class Rates(NamedTuple):
    """Rates by group, and whether each could be estimated.

    Parameters
    ----------
    rates : Tensor of shape (..., n_rates, n_groups)
        0 where not present.
    present : Tensor of the same shape, bool
        Whether there was a row.
    """

    rates: Tensor
    present: Tensor


def cell_statistics(
    values: Tensor,
    target: Tensor,
    groups: Tensor,
    n_groups: int,
    n_classes: int,
    weight: Tensor | None = None,
) -> Tensor:
    """Count the rows of every group x class cell and sum their values.

    Parameters
    ----------
    values : Tensor of shape (n_samples, n_values)
        Half precision is raised to float32; float64 stays.
    target : Tensor of shape (n_samples,), int64
        Class codes.
    groups : Tensor of shape (n_samples,), int64
        Group codes; rows of code -1 are in no cell.
    n_groups, n_classes : int
        Fixed numbers; never inferred from the rows.
    weight : Tensor of shape (n_samples,), optional
        What a row counts for; 1 if not given.

    Returns
    -------
    statistic : Tensor of shape (n_groups, n_classes, 1 + n_values)
        In each cell the number of rows, or their weight, then the sums.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.rates import cell_statistics
    >>> scores = torch.tensor([[0.9], [0.5], [0.2]])
    >>> target, groups = torch.tensor([1, 1, 0]), torch.tensor([0, 0, 0])
    >>> cell_statistics(scores, target, groups, n_groups=1, n_classes=2)
    tensor([[[1.0000, 0.2000],
             [2.0000, 1.4000]]])
    """
    values = raise_half(values)
    if weight is not None:
        weight = weight.to(values.dtype).unsqueeze(1)
    cell = cell_codes(target, groups, n_classes)
    return cell_sums(values, cell, n_groups, n_classes, weight)


def cell_codes(target: Tensor, groups: Tensor, n_classes: int) -> Tensor:
    """Return each row's cell, numbered from ``n_classes`` on.

    Rows of unknown group are in spare cells in front, so that none has to be dropped.
    """
    return torch.add(target + n_classes, groups, alpha=n_classes)


def cell_sums(
    values: Tensor,
    cell: Tensor,
    n_groups: int,
    n_classes: int,
    weight: Tensor | None = None,
) -> Tensor:
    """Sum floats over `cell_codes`, as `cell_statistics`; the weight is a column."""
    if weight is None:
        weight = values.new_ones(len(values), 1)
    else:
        values = values * weight
    rows = torch.cat([weight, values], dim=1)
    n_columns = rows.shape[1]
    sums = rows.new_zeros((1 + n_groups) * n_classes, n_columns)
    sums.index_add_(0, cell, rows)
    return sums.view(1 + n_groups, n_classes, n_columns).narrow(0, 1, n_groups)


def confusion_statistics(
    target: Tensor, predicted: Tensor, groups: Tensor, n_groups: int, n_classes: int
) -> Tensor:
    """Count rows by group, true class and predicted class, as a statistic.

    The values of a row are the indicators of its predicted class, so the rates of
    hard predictions and those of scores are the same functions.

    Parameters
    ----------
    target, predicted : Tensor of shape (n_samples,), int64
        Class codes.
    groups : Tensor of shape (n_samples,), int64
        Group codes; rows of code -1 are in no cell.
    n_groups, n_classes : int
        Fixed numbers; never inferred from the rows.

    Returns
    -------
    statistic : Tensor of shape (n_groups, n_classes, 1 + n_classes), float64
        In each cell the number of rows, then how many are predicted each class.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.rates import confusion_statistics
    >>> target, predicted = torch.tensor([0, 1, 1]), torch.tensor([1, 1, 0])
    >>> confusion_statistics(target, predicted, torch.tensor([0, 0, 0]), 1, 2)
    tensor([[[1., 0., 1.],
             [2., 1., 1.]]], dtype=torch.float64)
    """
    cell = cell_codes(target, groups, n_classes)
    cell = torch.add(predicted, cell, alpha=n_classes)
    counts = torch.bincount(cell, minlength=(1 + n_groups) * n_classes**2)
    counts = counts.view(1 + n_groups, n_classes, n_classes)[1:]
    counts = counts.to(widest(counts.device))
    return torch.cat([counts.sum(-1, keepdim=True), counts], dim=-1)


def mean_values(statistic: Tensor) -> Rates:
    """Return the mean value of each group, whatever the class.

    Of indicators of predicted classes these are selection rates.

    Parameters
    ----------
    statistic : Tensor of shape (..., n_groups, n_classes, 1 + n_values)
        Counts and sums.

    Returns
    -------
    rates : Rates of shape (..., n_values, n_groups)
        Absent where a group has no row.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.rates import confusion_statistics, mean_values
    >>> target, predicted = torch.tensor([0, 1, 1, 0]), torch.tensor([1, 1, 0, 0])
    >>> groups = torch.tensor([0, 0, 1, 1])
    >>> counts = confusion_statistics(target, predicted, groups, 2, 2)
    >>> mean_values(counts).rates[1]
    tensor([1., 0.], dtype=torch.float64)
    """
    totals = statistic.sum(-2)
    return _ratio(totals[..., 1:], totals[..., :1])


def true_positive_rates(statistic: Tensor) -> Rates:
    """Return the mean value of class c among each group's rows of class c.

    Parameters
    ----------
    statistic : Tensor of shape (..., n_groups, n_classes, 1 + n_values)
        Counts and sums; with one value it belongs to class 1 of two, else value c to
        class c.

    Returns
    -------
    rates : Rates of shape (..., n_compared, n_groups)
        One rate a value; absent where a group has no row of the class.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.rates import confusion_statistics, true_positive_rates
    >>> target, predicted = torch.tensor([0, 1, 1, 0]), torch.tensor([1, 1, 0, 0])
    >>> groups = torch.tensor([0, 0, 1, 1])
    >>> counts = confusion_statistics(target, predicted, groups, 2, 2)
    >>> true_positive_rates(counts).rates[1]
    tensor([1., 0.], dtype=torch.float64)
    """
    hits, own, _, _ = _one_vs_rest(statistic)
    return _ratio(hits, own)


def false_positive_rates(statistic: Tensor, joint: bool = False) -> Rates:
    """Return the mean value of class c among each group's rows of other classes.

    Parameters
    ----------
    statistic : Tensor of shape (..., n_groups, n_classes, 1 + n_values)
        Counts and sums; with one value it belongs to class 1 of two, else value c to
        class c.
    joint : bool, default=False
        Whether the sum is divided by the size of the whole group instead.

    Returns
    -------
    rates : Rates of shape (..., n_compared, n_groups)
        One rate a value; absent where a group has no row to divide by.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.rates import confusion_statistics, false_positive_rates
    >>> target, predicted = torch.tensor([0, 1, 1, 0]), torch.tensor([1, 1, 0, 0])
    >>> groups = torch.tensor([0, 0, 1, 1])
    >>> counts = confusion_statistics(target, predicted, groups, 2, 2)
    >>> false_positive_rates(counts).rates[1]
    tensor([1., 0.], dtype=torch.float64)
    """
    hits, own, sums, size = _one_vs_rest(statistic)
    return _ratio(sums - hits, size.expand_as(own) if joint else size - own)


def miss_rates(statistic: Tensor, joint: bool = False) -> Rates:
    """Return one minus the mean value of class c among each group's rows of class c.

    Parameters
    ----------
    statistic : Tensor of shape (..., n_groups, n_classes, 1 + n_values)
        Counts and sums; with one value it belongs to class 1 of two, else value c to
        class c.
    joint : bool, default=False
        Whether the sum of misses is divided by the size of the whole group instead:
        the form whose gap is 0 for unequal classifiers when base rates differ.

    Returns
    -------
    rates : Rates of shape (..., n_compared, n_groups)
        One rate a value; absent where a group has no row to divide by.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.rates import confusion_statistics, miss_rates
    >>> target, predicted = torch.tensor([0, 1, 1, 0]), torch.tensor([1, 1, 0, 0])
    >>> groups = torch.tensor([0, 0, 1, 1])
    >>> counts = confusion_statistics(target, predicted, groups, 2, 2)
    >>> miss_rates(counts, joint=True).rates[1]
    tensor([0.0000, 0.5000], dtype=torch.float64)
    """
    hits, own, _, size = _one_vs_rest(statistic)
    return _ratio(own - hits, size.expand_as(own) if joint else own)


def gaps(rates: Tensor, present: Tensor) -> Tensor:
    """Return the largest minus the smallest rate of the groups that are present.

    Parameters
    ----------
    rates : Tensor of shape (..., n_rates, n_groups)
        Rates by group.
    present : Tensor of the same shape, bool
        Which of them count.

    Returns
    -------
    gaps : Tensor of shape (..., n_rates)
        0 at parity; exactly 0, with a zero gradient, where fewer than two groups are
        present.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.rates import confusion_statistics, gaps, mean_values
    >>> target, predicted = torch.tensor([0, 1, 1, 0]), torch.tensor([1, 1, 0, 0])
    >>> groups = torch.tensor([0, 0, 1, 1])
    >>> counts = confusion_statistics(target, predicted, groups, 2, 2)
    >>> gaps(*mean_values(counts))
    tensor([1., 1.], dtype=torch.float64)
    """
    infinity = float("inf")
    top = rates.masked_fill(~present, -infinity).amax(-1)
    bottom = rates.masked_fill(~present, infinity).amin(-1)
    return torch.where(present.sum(-1) >= 2, top - bottom, torch.zeros_like(top))


def gap_slopes(
    rates: Tensor, signs: Tensor, reduction: str = "max"
) -> tuple[Tensor, Tensor]:
    """Join gaps, and differentiate: the closed form of what autograd finds in `gaps`.

    Parameters
    ----------
    rates : Tensor of shape (..., n_groups, n_rates)
        nan where absent.
    signs : Tensor of shape (2, 1, 1)
        ``-SHARP`` and ``SHARP``; a constant, which the device should hold already.
    reduction : {"max", "sum", "mean"}, default="max"
        How the gaps are joined.

    Returns
    -------
    value : Tensor of shape (...)
        The joined gaps.
    slopes : Tensor of shape (..., n_groups, n_rates)
        Derivative of the value; equal extremes share it.
    """
    n_rates = rates.shape[-1]
    if rates.ndim > 2:
        signs = signs.view(2, *[1] * rates.ndim)
    # How far down and how far up: the largest of each are the two ends of a gap.
    ends = (rates * signs).nan_to_num_(ABSENT)
    best = ends.amax(-2, keepdim=True)
    if reduction == "max" and n_rates > 1:
        # Each end as the gap that it forms with the best other end.
        gap = ends.add_(best.flip(0)).flatten(-2)
        value = gap.amax((0, -1)).relu_()
        shares = gap.softmax(-1)
    else:
        value = best.sum(0).relu_().sum((-2, -1))
        shares = ends.softmax(-2).flatten(-2)
    down, up = shares.unbind()
    slopes = (up - down).view(rates.shape)
    if reduction == "mean":
        value, slopes = value / n_rates, slopes / n_rates
    return value / SHARP, slopes


def widest(device: torch.device) -> torch.dtype:
    """Return the widest float of a device, for sums over many rows."""
    return torch.float32 if device.type == "mps" else torch.float64


def raise_half(values: Tensor) -> Tensor:
    """Raise half precision and integers to float32; leave float32 and float64."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def _one_vs_rest(statistic: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return, by group: value c in class c, rows of class c, value c, all rows."""
    counts, values = statistic[..., 0], statistic[..., 1:]
    n_classes, n_values = values.shape[-2:]
    if n_values == n_classes:
        hits = values.diagonal(dim1=-2, dim2=-1)
        own = counts
    else:
        hits = values[..., 1, :]
        own = counts[..., 1:]
    return hits, own, values.sum(-2), counts.sum(-1, keepdim=True)


def _ratio(numerator: Tensor, denominator: Tensor) -> Rates:
    """Divide where there are rows; groups move to the last dimension."""
    present = denominator > 0
    rates = numerator / torch.where(present, denominator, 1.0)
    rates = torch.where(present, rates, torch.zeros_like(rates))
    return Rates(rates.transpose(-1, -2), present.expand_as(rates).transpose(-1, -2))
