"""The penalty of many heads at once: each has the same rows and logits of its own."""

import torch
from torch import Tensor

from fairskorch.penalties._base import GroupPenalty

__all__ = ["membership", "penalty_slopes"]


def membership(
    target: Tensor,
    groups: Tensor,
    n_groups: int,
    n_classes: int,
    weight: Tensor,
) -> Tensor:
    """Say which row counts for how much in which cell.

    Parameters
    ----------
    target, groups : Tensor of shape (..., n_samples), int64
        Codes of class and group, -1 where the group is unknown.
    n_groups, n_classes : int
    weight : Tensor of shape (..., n_samples)
        What a row counts for in rates; its type is that of the result.

    Returns
    -------
    membership : Tensor of shape (..., n_groups * n_classes, n_samples)
        Sums over cells, and the way back to rows, are matrix products with it: the
        same order of summation on every device, however many heads there are.
    """
    cells = torch.arange(n_groups * n_classes, device=target.device)
    # A row of unknown group is in a cell of negative number, of which there is none.
    own = groups * n_classes + torch.where(groups < 0, 0, target)
    return (own.unsqueeze(-2) == cells.unsqueeze(1)) * weight.unsqueeze(-2)


@torch.no_grad()
def penalty_slopes(
    penalty: GroupPenalty,
    values: Tensor,
    logits: Tensor,
    members: Tensor,
    scale: Tensor,
    memory: Tensor | None = None,
) -> Tensor:
    """Return the derivative of every head's penalty by the values of rows.

    Parameters
    ----------
    penalty : GroupPenalty
    values : Tensor of shape (n_sets, n_rows, n_heads, n_values)
        What `GroupPenalty.head_values` gives; a set of rows has its own heads.
    logits : Tensor
        Those that the values belong to.
    members : Tensor of shape (n_sets, n_cells, n_rows)
        See `membership`; all 0 for rows that only fill up a set.
    scale : Tensor of shape (n_heads,)
        Factor on each head's penalty.
    memory : Tensor of shape (n_sets, n_heads, n_groups, n_classes, 1 + n_values), \
            optional
        Running sums, changed in place as in `GroupPenalty.penalise`.

    Returns
    -------
    slopes : Tensor of the shape of values
    """
    summed = values if memory is None else penalty.remembered(values, logits)
    statistic = head_statistics(penalty, summed, members)
    running = None
    if memory is not None:
        running = torch.add(statistic, memory, alpha=penalty.memory, out=memory)
    _, effect = penalty.effect(statistic, running)
    # Scaled by cell, of which there are few, rather than by row.
    effect = effect.flatten(2, 3) * scale[:, None, None]
    effect = effect.transpose(1, 2).flatten(2)
    return torch.bmm(members.mT, effect).view_as(values)


def head_statistics(penalty: GroupPenalty, values: Tensor, members: Tensor) -> Tensor:
    """Sum the values of every head over cells, as `penalty_slopes` takes them.

    Returns
    -------
    statistic : Tensor of shape (n_sets, n_heads, n_groups, n_classes, 1 + n_values)
    """
    n_sets, _, n_heads, n_values = values.shape
    cells = (penalty.n_groups, penalty.n_classes)
    sums = torch.bmm(members, values.flatten(2))
    sums = sums.view(n_sets, *cells, n_heads, n_values).permute(0, 3, 1, 2, 4)
    rows = members.sum(-1).view(n_sets, 1, *cells, 1).expand(-1, n_heads, -1, -1, -1)
    return torch.cat([rows, sums], dim=-1)
