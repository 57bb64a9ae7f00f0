"""Probabilities at the border: what a network puts out, as scikit-learn wants it."""

import numpy as np
import torch

from fairskorch.rates import widest


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
