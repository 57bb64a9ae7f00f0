"""What many heads on the same rows minimise, differentiated by their logits."""

import torch
from torch.nn import functional as F

from fairskorch.penalties import GroupPenalty
from fairskorch.penalties._many import penalty_slopes


class HeadObjective:
    """Cross-entropy and penalty of many heads, each with a penalty weight of its own.

    Parameters
    ----------
    penalty : GroupPenalty or None
        On the device, in the type that is computed in.
    weights : Tensor of shape (n_heads,)
        Penalty weights, the same for every set of rows.
    n_sets : int
        Number of sets of rows.
    n_classes : int
    """

    def __init__(self, penalty, weights, n_sets, n_classes):
        self.penalty, self.weights, self.n_classes = penalty, weights, n_classes
        self.memory = None
        if penalty is None:
            return
        memory = penalty.new_memory()
        if memory is not None:
            shape = (n_sets, len(weights), *memory.shape)
            self.memory = torch.zeros(shape, dtype=weights.dtype, device=weights.device)
        reads = type(penalty).row_values is not GroupPenalty.row_values
        self.reads_loss = reads
        self.ramp(1.0)

    def ramp(self, share):
        """Let penalties count for a share of their weights from now on."""
        if self.penalty is None:
            return
        # Task loss and penalty are joined linearly, so these shares are constants.
        with torch.enable_grad():
            task = torch.zeros_like(self.weights).requires_grad_()
            value = torch.zeros_like(self.weights).requires_grad_()
            joined = self.penalty.combine(task, value, self.weights * share).sum()
            shares = torch.autograd.grad(joined, (task, value))
        self.task_share, self.penalty_share = shares
        plain = bool((self.task_share == 1).all())
        self.task_share = None if plain else self.task_share

    @torch.no_grad()
    def slopes(self, logits, target, weight, members):
        """Differentiate the objective of every head by its logits.

        Parameters
        ----------
        logits : Tensor of shape (n_sets, n_rows, n_heads[, n_classes])
            Of two classes the logit of class 1.
        target : Tensor of shape (n_sets, n_rows), int64
        weight : Tensor of shape (n_sets, n_rows)
            Share of each row in the task loss.
        members : Tensor of shape (n_sets, n_cells, n_rows) or None
            See `fairskorch.penalties._many.membership`.

        Returns
        -------
        slopes : Tensor of the shape of logits
        """
        weight = weight.unsqueeze(-1)
        two = logits.ndim == 3
        if two:
            slopes = (logits.sigmoid() - target.unsqueeze(-1)).mul_(weight)
        else:
            slopes = torch.softmax(logits, -1)
            slopes -= F.one_hot(target, self.n_classes).unsqueeze(2)
            slopes *= weight.unsqueeze(-1)
        if self.penalty is None:
            return slopes
        if self.task_share is not None:
            slopes *= self.task_share if two else self.task_share.unsqueeze(-1)
        with torch.enable_grad():
            logits = logits.detach().requires_grad_()
            if self.reads_loss:
                loss = head_loss(logits, target)
            else:
                loss = logits.new_zeros(()).expand(logits.shape[:3])
            values = self.penalty.head_values(logits, target, loss)
        effect = penalty_slopes(
            self.penalty,
            values.detach(),
            logits.detach(),
            members,
            self.penalty_share,
            self.memory,
        )
        (more,) = torch.autograd.grad(values, logits, effect)
        return slopes.add_(more)


def head_loss(logits, target):
    """Return the cross-entropy of each row under each head, in nats."""
    target = target.unsqueeze(-1)
    if logits.ndim == 3:
        return F.softplus(torch.where(target > 0, -logits, logits))
    own = target.expand(logits.shape[:-1]).unsqueeze(-1)
    return logits.logsumexp(-1) - logits.gather(-1, own).squeeze(-1)
