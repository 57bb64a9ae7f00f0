"""Probabilities at the border: as scikit-learn wants them, under the rows' shares."""

import numpy as np
import torch

from fairskorch.rates import widest
from fairskorch.sampling import EpochSampler


def probabilities(logits):
    """Return the probability of each class.

    Parameters
    ----------
    logits : Tensor of shape (..., n_classes)
        On any device.

    Returns
    -------
    probabilities : ndarray of shape (..., n_classes), float64
    """
    if widest(logits.device) != torch.float64:
        logits = logits.cpu()
    logits = logits.double()
    if logits.is_cuda:
        return torch.softmax(logits, -1).cpu().numpy()
    # Classes first: a CPU then takes several rows at a time.
    shares = torch.softmax(logits.movedim(-1, 0), 0)
    return shares.movedim(0, -1).contiguous().numpy()


def joined_probabilities(parts, axis=0):
    """Return the probabilities of several batches of logits, as one array."""
    return np.concatenate([probabilities(part) for part in parts], axis)


def class_masses(net, rows, n_classes, class_weight):
    """Return the rows of each class, and the weight that training gave them.

    Parameters
    ----------
    net : GroupPenaltyNet
    rows : GroupedRows
    n_classes : int
    class_weight : Tensor of shape (n_classes,) or None

    Returns
    -------
    masses : Tensor of shape (2, n_classes), float64
        Both sum to the number of rows.
    """
    sampler = EpochSampler(net.sampler, rows.y, rows.groups, net.batch_size)
    drawn = torch.ones(len(rows), dtype=torch.float64)
    if not sampler.unbiased:
        drawn = drawn / sampler.importance
    if class_weight is not None:
        drawn = drawn * class_weight[rows.y]
    learnt = torch.bincount(rows.y, weights=drawn, minlength=n_classes)
    counts = torch.bincount(rows.y, minlength=n_classes).double()
    return torch.stack([counts, learnt * (len(rows) / learnt.sum())])


def prior_shift(masses):
    """Return what to add to logits for probabilities under the rows' class shares."""
    counts, learnt = masses
    seen = (counts > 0) & (learnt > 0)
    ratio = torch.where(seen, counts, 1.0) / torch.where(seen, learnt, 1.0)
    return ratio.log()
