"""Kept weights, and how a few of them become one classifier."""

import copy

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.stats import rankdata

#: Weight under which a member of a mixture is rounding.
NEGLIGIBLE = 1e-9

#: Price of leaving all forms by 1, where objectives are at most 1.
PRICE = 1e4


class Snapshots:
    """Weights and buffers of one network at several times, where it lies itself.

    Floats are kept as differences to the first state in half precision, each with
    the scale of its largest: two bytes a number. None is moved off a device, as that
    would wait for it in the midst of training.

    Parameters
    ----------
    module : torch.nn.Module
    """

    def __init__(self, module):
        self.module = _bare(module)
        self.first = _vector(self.module).clone()
        self.scales, self.differences, self.rest = [], [], []

    def __len__(self):
        return len(self.scales)

    def take(self, module):
        """Keep what a network of this kind is now."""
        module = _bare(module)
        difference = _vector(module) - self.first
        scale = difference.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
        self.differences.append((difference / scale).half())
        self.scales.append(scale)
        self.rest.append([b.clone() for b in _integers(module)])

    def network(self, i):
        """Return a network with the weights of one time, in eval mode."""
        module = copy.deepcopy(self.module).eval().requires_grad_(False)
        return self.put(i, module)

    def put(self, i, module):
        """Give the weights of one time to a network of this kind, and return it."""
        kept = self.differences[i].to(self.first.dtype)
        vector = torch.addcmul(self.first, kept, self.scales[i])
        start = 0
        with torch.no_grad():
            for tensor in _floats(module):
                part = vector[start : start + tensor.numel()]
                tensor.copy_(part.view_as(tensor))
                start += tensor.numel()
            for tensor, value in zip(_integers(module), self.rest[i], strict=True):
                tensor.copy_(value)
        return module


def _bare(module):
    """Return the network inside one that `torch.compile` has wrapped."""
    return getattr(module, "_orig_mod", module)


def _floats(module):
    tensors = [*module.parameters(), *module.buffers()]
    return [t for t in tensors if t.is_floating_point()]


def _integers(module):
    return [b for b in module.buffers() if not b.is_floating_point()]


def _vector(module):
    return torch.cat([t.detach().flatten() for t in _floats(module)])


def shrink(objectives, offsets, levels=None, slopes=None, n_levels=0, precision=None):
    r"""Return the mixture of least objective among those that keep all forms.

    .. math::
        \min_{p, c} \sum_k p_k f_k \quad \text{s.t.} \quad
        \sum_k p_k g_{ki} + s_i c_{l(i)} \le v / r_i, \quad p \ge 0, \; \sum_k p_k = 1

    with :math:`v = 0`, or, where no mixture keeps all forms, the least :math:`v` that
    one reaches: it has a price at which it comes before the objective. A vertex of
    this linear program has at most m + 1 members, for m forms.

    Parameters
    ----------
    objectives : ndarray of shape (n_members,)
    offsets : ndarray of shape (n_members, n_forms)
        Forms at levels of 0.
    levels : ndarray of shape (n_forms,), optional
        Number of each form's free level.
    slopes : ndarray of shape (n_forms,), optional
        Factor on it; 0 where a form has none.
    n_levels : int, default=0
    precision : ndarray of shape (n_forms,), optional
        Factor :math:`r_i` on what a form is left by; 1 if not given.

    Returns
    -------
    weights : ndarray of shape (n_members,)
        They sum to 1.
    """
    n, m = offsets.shape
    if n == 1:
        return np.ones(1)
    free = np.zeros((m, n_levels))
    if n_levels:
        free[np.arange(m), levels] = slopes
    precision = np.ones(m) if precision is None else precision
    # A simplex method ends in a vertex.
    found = linprog(
        np.hstack([objectives, np.zeros(n_levels), PRICE]),
        np.hstack([offsets.T, free, -1 / precision[:, None]]),
        np.zeros(m),
        np.hstack([np.ones(n), np.zeros(n_levels + 1)])[None],
        np.ones(1),
        bounds=[(0, None)] * n + [(None, None)] * n_levels + [(0, None)],
        method="highs-ds",
    ).x
    weights = np.where(found[:n] > NEGLIGIBLE, found[:n], 0.0)
    return weights / weights.sum()


def best_iterate(objectives, violations):
    """Return the member whose worse rank, of objective and violation, is the best.

    Parameters
    ----------
    objectives : ndarray of shape (n_members,)
    violations : ndarray of shape (n_members,)
        Largest form of each; those at most 0 are alike.

    Returns
    -------
    member : int
    """
    ranks = np.maximum(
        rankdata(objectives, method="min"),
        rankdata(np.maximum(violations, 0), method="min"),
    )
    return int(np.lexsort((objectives, ranks))[0])


def row_hashes(X):
    """Return an int64 that equal rows share and others hardly do.

    Parameters
    ----------
    X : Tensor of shape (n_rows, ...)
        Read as float32, 0 and -0 alike.

    Returns
    -------
    hashes : Tensor of shape (n_rows,), int64
    """
    numbers = (X.float() + 0.0).flatten(1).contiguous().view(torch.int32).long()
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(2**62, numbers.shape[1:], generator=generator)
    # Products and sums wrap around, the same on every device.
    return (numbers * (2 * factors + 1).to(X.device)).sum(1)


def draws(hashes, seed):
    """Return a number in [0, 1) for each row, fixed by its hash and the seed.

    Parameters
    ----------
    hashes : ndarray of int64
    seed : int

    Returns
    -------
    numbers : ndarray of float64
    """
    mixed = _mixed(hashes.view(np.uint64) ^ _mixed(np.full(1, seed, np.uint64)))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(values):
    """Spread every bit over all others (the finaliser of splitmix64)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))
