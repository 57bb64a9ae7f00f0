"""Layers of many copies of a network, with one more dimension in front.

The next layer that can be batched is a class here, with a line in `BATCHED`.
"""

import torch
from torch import nn
from torch.nn import functional as F

#: Layers that act on each number by itself, whatever dimensions there are.
ELEMENTWISE = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU),
    *(nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardswish),
    *(nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.Tanhshrink, nn.LogSigmoid),
)


class CannotStack(Exception):
    """A network cannot be stacked; the message says why."""


class BatchedLayer(nn.Module):
    """Base of a layer that takes the rows of all copies, (n, n_rows, ...), at once.

    It is built from the layers of several networks, each of which has `n_copies`.
    """

    #: Whether what a row becomes depends on other rows of its batch.
    couples_rows = False

    #: Whether a step draws random numbers.
    draws = False

    def state(self, place):
        """Return the state dict of the layer of one copy."""
        return {}


class BatchedLinear(BatchedLayer):
    """Linear layers, one for each copy."""

    def __init__(self, layers, n_copies):
        super().__init__()
        # As products need it: a gradient in another order would be copied at each step.
        self.weight = _copies([layer.weight.mT for layer in layers], n_copies)
        self.bias = None
        if layers[0].bias is not None:
            self.bias = _copies([layer.bias for layer in layers], n_copies)

    def forward(self, X):
        if self.bias is None:
            return torch.bmm(X, self.weight)
        return torch.baddbmm(self.bias.unsqueeze(1), X, self.weight)

    def state(self, place):
        state = _state(self, place, "weight", "bias")
        return state | {"weight": state["weight"].mT}


class BatchedLayerNorm(BatchedLayer):
    """Layer norms over the last dimension, one for each copy."""

    def __init__(self, layers, n_copies):
        super().__init__()
        first = layers[0]
        if len(first.normalized_shape) > 1:
            raise CannotStack("LayerNorm over several dimensions has no batched form")
        self.size, self.eps = first.normalized_shape, first.eps
        for name in ("weight", "bias"):
            parts = [getattr(layer, name) for layer in layers]
            known = parts[0] is not None
            setattr(self, name, _copies(parts, n_copies) if known else None)

    def forward(self, X):
        X = F.layer_norm(X, self.size, eps=self.eps)
        if self.weight is not None:
            X = X * self.weight.unsqueeze(1)
        return X if self.bias is None else X + self.bias.unsqueeze(1)

    def state(self, place):
        return _state(self, place, "weight", "bias")


class BatchedNorm(BatchedLayer):
    """Batch norms of tables, one for each copy: more columns to one batch norm."""

    couples_rows = True

    def __init__(self, layers, n_copies):
        super().__init__()
        first = layers[0]
        if first.momentum is None or not (first.affine and first.track_running_stats):
            raise CannotStack("BatchNorm1d with these settings has no batched form")
        self.eps, self.momentum = first.eps, first.momentum
        for name in ("weight", "bias"):
            parts = [getattr(layer, name) for layer in layers]
            setattr(self, name, _copies(parts, n_copies))
        for name in ("running_mean", "running_var"):
            parts = [getattr(layer, name) for layer in layers]
            self.register_buffer(name, _copies(parts, n_copies).detach())
        self.steps = torch.zeros((), dtype=torch.long)

    def forward(self, X):
        wide = X.transpose(0, 1).flatten(1)
        if self.training:
            self.steps += 1
        stats = (self.running_mean.view(-1), self.running_var.view(-1))
        affine = (self.weight.view(-1), self.bias.view(-1))
        wide = F.batch_norm(
            wide, *stats, *affine, self.training, self.momentum, self.eps
        )
        return wide.unflatten(1, X.shape[::2]).transpose(0, 1)

    def state(self, place):
        names = ("weight", "bias", "running_mean", "running_var")
        return {
            **_state(self, place, *names),
            "num_batches_tracked": self.steps.clone(),
        }


class BatchedFlatten(BatchedLayer):
    """Flatten what comes after the rows."""

    def __init__(self, layers, n_copies):
        super().__init__()
        if (layers[0].start_dim, layers[0].end_dim) != (1, -1):
            raise CannotStack("Flatten with other dimensions has no batched form")

    def forward(self, X):
        return X.flatten(2)


class SharedDropout(BatchedLayer):
    """Dropout with one draw for all copies, the one that each would make alone."""

    draws = True

    def __init__(self, layers, n_copies):
        super().__init__()
        self.p = layers[0].p

    def forward(self, X):
        return _one_draw(X, self.p) if self.training and self.p else X


class MappedDropout(nn.Dropout):
    """Dropout that draws what a network alone would, under `torch.func.vmap`."""

    def forward(self, X):
        return _OutsideMap.apply(X, self.p) if self.training and self.p else X


class _OutsideMap(torch.autograd.Function):
    """Dropout whose draw is not mapped, as a mapped one differs on CUDA."""

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Do nothing: it must be there, and rows that are not mapped never come."""

    @staticmethod
    def vmap(info, in_dims, X, p):
        return _one_draw(X.movedim(in_dims[0], 0), p), 0


def _one_draw(X, p):
    """Drop from each of X what `torch.nn.functional.dropout` drops from the first."""
    kept = F.dropout(torch.ones_like(X[0]), p) > 0
    return X * kept * (0.0 if p == 1 else 1 / (1 - p))


#: Layers by the batched form that they have.
BATCHED = {
    nn.Linear: BatchedLinear,
    nn.LayerNorm: BatchedLayerNorm,
    nn.BatchNorm1d: BatchedNorm,
    nn.Flatten: BatchedFlatten,
    nn.Dropout: SharedDropout,
}


def _copies(parts, n_copies):
    """Return parameters of all networks, each n_copies times, as one."""
    parts = torch.stack([part.detach() for part in parts])
    return nn.Parameter(parts.repeat_interleave(n_copies, 0))


def _state(layer, place, *names):
    parts = {name: getattr(layer, name) for name in names}
    return {n: p[place].detach() for n, p in parts.items() if p is not None}
