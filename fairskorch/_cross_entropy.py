"""Cross-entropy and its derivative in one go, with the kernels that autograd runs.

A small network's step is mostly calls. What is known of the derivative is written out
here, so that autograd has the network alone to go through.
"""

import torch
from torch.nn import CrossEntropyLoss

_LOSS = torch.ops.aten.nll_loss_forward.default
_LOSS_BACK = torch.ops.aten.nll_loss_backward.default
_SOFTMAX_BACK = torch.ops.aten._log_softmax_backward_data.default
_NONE, _MEAN = 0, 1

#: A class code that no row has.
_IGNORED = -100


def is_plain(criterion, weighted):
    """Return whether a criterion is the mean cross-entropy of rows, maybe weighted."""
    return (
        type(criterion) is CrossEntropyLoss
        and criterion.reduction in (("none",) if weighted else ("none", "mean"))
        and criterion.weight is None
        and criterion.label_smoothing == 0
        and criterion.ignore_index < 0
    )


def cross_entropy(logits, target, share, weight=None):
    """Return the mean cross-entropy, and its derivative by the log-probabilities.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_classes)
        Without a gradient.
    target : Tensor of shape (n_samples,), int64
    share : scalar Tensor
        What the derivative is multiplied by.
    weight : Tensor of shape (n_samples,), optional
        Of each row in the mean.

    Returns
    -------
    task : scalar Tensor
        In nats.
    logs, by_logs : Tensor of shape (n_samples, n_classes)
        Log-probabilities, and the derivative of ``share * task`` by them.
    """
    logs = torch.log_softmax(logits, 1)
    if weight is None:
        task, count = _LOSS(logs, target, None, _MEAN, _IGNORED)
        by_logs = _LOSS_BACK(share, logs, target, None, _MEAN, _IGNORED, count)
        return task, logs, by_logs
    losses, count = _LOSS(logs, target, None, _NONE, _IGNORED)
    total = weight.sum()
    task = (losses * weight).sum() / total
    weight = weight * (share / total)
    by_logs = _LOSS_BACK(weight, logs, target, None, _NONE, _IGNORED, count)
    return task, logs, by_logs


def by_logits(by_logs, logs):
    """Return the derivative by logits, from that by their log-probabilities."""
    return _SOFTMAX_BACK(by_logs, logs, 1, logs.dtype)
