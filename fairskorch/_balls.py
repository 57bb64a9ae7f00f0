"""Balls that weights are kept in, around those that they start from."""

import torch

from fairskorch.rates import widest

#: Least distance that is divided by.
TINY = 1e-30


def project(weights, start, radius):
    """Move weights to the nearest point of a ball, in place, without a wait.

    Parameters
    ----------
    weights, start : list of Tensor
        Together one vector each; the ball is around `start`.
    radius : float
        In the units of the weights, Frobenius norm. Weights inside stay bit for bit.
    """
    parts = [
        torch.linalg.vector_norm(w - s, dtype=widest(w.device))
        for w, s in zip(weights, start, strict=True)
    ]
    distance = torch.linalg.vector_norm(torch.stack(parts))
    back = 1 - radius / distance.clamp_min(max(radius, TINY))
    for weight, origin in zip(weights, start, strict=True):
        weight.lerp_(origin, back.to(weight.dtype))


def balls_of(module, scope):
    """Return the weights that move, in one list or in one for each layer."""
    parts = [list(part.parameters(recurse=False)) for part in module.modules()]
    parts = [[w for w in part if w.requires_grad] for part in parts]
    parts = [part for part in parts if part]
    return parts if scope == "layer" else [[w for part in parts for w in part]]
