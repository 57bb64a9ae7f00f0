"""Many copies of one network as one module, with one more dimension in front.

A network of linear layers and functions of single numbers is copied with its linear
layers replaced by batched ones: matrix products of all copies are one call. Others go
through `torch.func.vmap`.
"""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from fairskorch._steps import HOOKS

#: Layers that act on each number by itself, whatever dimensions there are.
ELEMENTWISE = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU),
    *(nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardswish),
    *(nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.Tanhshrink, nn.LogSigmoid),
)

#: Layers that `torch.func.vmap` cannot run, or that keep a state of their own kind.
UNMAPPED = (nn.RNNBase, nn.RNNCellBase)

#: Differences of outputs that rounding makes, relative and absolute.
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}


class CannotStack(Exception):
    """A network cannot be stacked; the message says why."""


class LayerStack(nn.Module):
    """Copies of a network whose layers are batched.

    Parameters
    ----------
    modules : list of torch.nn.Module
        Networks of one kind, one for each set of rows.
    n_copies : int
        Copies of each.

    Raises
    ------
    CannotStack
        When a layer has no batched form.
    """

    def __init__(self, modules, n_copies):
        super().__init__()
        self.shape = len(modules), n_copies
        first = modules[0]
        _refuse_hooks(first)
        self.layers = {}
        owned = set()
        batched = copy.deepcopy(first)
        for name, layer in first.named_modules():
            kind = BATCHED.get(type(layer))
            if kind is None:
                if type(layer) in ELEMENTWISE or next(layer.children(), None):
                    continue
                raise CannotStack(f"{type(layer).__name__} has no batched form here")
            others = [module.get_submodule(name) for module in modules]
            self.layers[name] = kind(others, n_copies)
            owned |= {id(t) for t in (*layer.parameters(), *layer.buffers())}
            if name:
                parent, _, own = name.rpartition(".")
                setattr(batched.get_submodule(parent), own, self.layers[name])
            else:
                batched = self.layers[name]
        tensors = [*first.parameters(), *first.buffers()]
        if len(tensors) > len(owned) or not {id(t) for t in tensors} <= owned:
            raise CannotStack(f"{type(first).__name__} has weights outside its layers")
        if not all(t.requires_grad for t in first.parameters()):
            raise CannotStack(f"{type(first).__name__} has weights that are frozen")
        _reuse_memory(batched)
        self.batched = batched
        inside = {id(t) for layer in self.layers.values() for t in layer.parameters()}
        if {id(t) for t in batched.parameters()} != inside:
            raise CannotStack(f"{type(first).__name__} uses a layer in two places")

    @property
    def couples_rows(self):
        """Whether what a row becomes depends on other rows of its batch."""
        return any(isinstance(x, BatchedNorm) for x in self.layers.values())

    @property
    def draws(self):
        """Whether a step draws random numbers."""
        return any(isinstance(x, SharedDropout) for x in self.layers.values())

    def forward(self, X):
        """Return outputs (n_sets, n_copies, n_rows, ...) of X (n_sets, n_rows, ...)."""
        n_sets, n_copies = self.shape
        X = X.unsqueeze(1).expand(n_sets, n_copies, *X.shape[1:]).flatten(0, 1)
        return self.batched(X).unflatten(0, self.shape)

    def state(self, i, j):
        """Return the state dict of copy j for set i."""
        place = i * self.shape[1] + j
        return {
            f"{name}.{key}" if name else key: value
            for name, layer in self.layers.items()
            for key, value in layer.state(place).items()
        }

    def is_finite(self):
        """Tell which copies have finite weights: (n_sets, n_copies), bool."""
        return _finite(self.parameters()).unflatten(0, self.shape)


class MappedStack(nn.Module):
    """Copies of a network that `torch.func.vmap` runs at once, for one set of rows.

    Parameters
    ----------
    modules : list of one torch.nn.Module
    n_copies : int

    Raises
    ------
    CannotStack
        When a layer cannot be mapped.
    """

    couples_rows = True
    draws = True

    def __init__(self, modules, n_copies):
        super().__init__()
        (module,) = modules
        self.shape = 1, n_copies
        _refuse_hooks(module)
        strange = [type(m).__name__ for m in module.modules() if _unmapped(m)]
        if strange:
            raise CannotStack(f"torch.func.vmap does not run {strange[0]}")
        if not all(t.requires_grad for t in module.parameters()):
            raise CannotStack(f"{type(module).__name__} has weights that are frozen")
        # Mapped tensors whose channels come last cannot be asked how they lie.
        module = copy.deepcopy(module).to(memory_format=torch.contiguous_format)
        weights, self.buffered = torch.func.stack_module_state(
            [copy.deepcopy(module) for _ in range(n_copies)]
        )
        self.names = list(weights)
        self.weights = nn.ParameterList(weights.values())
        # In a list, or its weights would be those of this module as well.
        self.plain = [copy.deepcopy(module).to("meta")]

    def forward(self, X):
        """Return outputs (1, n_copies, n_rows, ...) for X (1, n_rows, ...)."""
        (plain,) = self.plain
        plain.train(self.training)

        def run(weights, buffers, X):
            return torch.func.functional_call(plain, (weights, buffers), (X,))

        # The same draws as each network would make alone.
        run = torch.func.vmap(run, (0, 0, None), randomness="same")
        weights = dict(zip(self.names, self.weights, strict=True))
        return run(weights, self.buffered, X[0].contiguous()).unsqueeze(0)

    def state(self, i, j):
        """Return the state dict of copy j."""
        named = dict(zip(self.names, self.weights, strict=True)) | self.buffered
        return {name: value[j].detach() for name, value in named.items()}

    def is_finite(self):
        """Tell which copies have finite weights: (1, n_copies), bool."""
        return _finite(self.parameters()).unsqueeze(0)


def stack(modules, n_copies, X, *, mapped=False):
    """Stack networks, and make sure that the stack computes what they do.

    Parameters
    ----------
    modules : list of torch.nn.Module
        Networks of one kind, one for each set of rows.
    n_copies : int
        Copies of each.
    X : Tensor
        A few rows to compare outputs on.
    mapped : bool, default=False
        Whether `torch.func.vmap` may be used, for one network.

    Returns
    -------
    stacked : LayerStack or MappedStack
        In training mode.

    Raises
    ------
    CannotStack
        When a layer cannot be stacked, or outputs differ.
    """
    try:
        stacked = LayerStack(modules, n_copies)
        _compare(stacked, modules, X)
        if not stacked.draws and _draws(stacked, X):
            name = type(modules[0]).__name__
            raise CannotStack(f"{name} draws random numbers outside its layers")
    except CannotStack:
        if not mapped or len(modules) > 1:
            raise
        stacked = MappedStack(modules, n_copies)
        _compare(stacked, modules, X)
    return stacked.train()


@torch.no_grad()
def _compare(stacked, modules, X):
    stacked.eval()
    try:
        with _in_full_precision():
            found = stacked(X.expand(len(modules), *X.shape))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = str(error).partition("\n")[0]
        raise CannotStack(f"the stacked network fails ({reason})") from error
    for own, module in zip(found, modules, strict=True):
        training = module.training
        with _in_full_precision():
            expected = module.eval()(X).expand_as(own[0])
        module.train(training)
        if not all(torch.allclose(o, expected, **TOLERANCE) for o in own[[0, -1]]):
            name = type(module).__name__
            raise CannotStack(f"the stacked {name} computes something else")


def _in_full_precision():
    """Have convolutions on CUDA round as float32 does, whatever way they are taken."""
    cudnn = torch.backends.cudnn
    return cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        benchmark_limit=cudnn.benchmark_limit,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    )


@torch.no_grad()
def _draws(stacked, X):
    """Tell whether a training step moves the random generator."""
    state = torch.cuda.get_rng_state if X.is_cuda else torch.get_rng_state
    before = state()
    copy.deepcopy(stacked).train()(X.expand(stacked.shape[0], *X.shape))
    return not torch.equal(before, state())


class BatchedLinear(nn.Module):
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


class BatchedLayerNorm(nn.Module):
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


class BatchedNorm(nn.Module):
    """Batch norms of tables, one for each copy: more columns to one batch norm."""

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


class BatchedFlatten(nn.Module):
    """Flatten what comes after the rows."""

    def __init__(self, layers, n_copies):
        super().__init__()
        if (layers[0].start_dim, layers[0].end_dim) != (1, -1):
            raise CannotStack("Flatten with other dimensions has no batched form")

    def forward(self, X):
        return X.flatten(2)

    def state(self, place):
        return {}


class SharedDropout(nn.Module):
    """Dropout with one draw for all copies, the one that each would make alone."""

    def __init__(self, layers, n_copies):
        super().__init__()
        self.p = layers[0].p

    def forward(self, X):
        if not self.training or not self.p:
            return X
        return X * F.dropout(torch.ones_like(X[0]), self.p)

    def state(self, place):
        return {}


#: Layers by the batched form that they have.
BATCHED = {
    nn.Linear: BatchedLinear,
    nn.LayerNorm: BatchedLayerNorm,
    nn.BatchNorm1d: BatchedNorm,
    nn.Flatten: BatchedFlatten,
    nn.Dropout: SharedDropout,
}


def _reuse_memory(batched):
    """Let ReLUs write over what only they read, the outputs of linear layers."""
    for part in batched.modules():
        if not isinstance(part, nn.Sequential):
            continue
        for i in range(1, len(part)):
            if type(part[i]) is nn.ReLU and isinstance(part[i - 1], BatchedLinear):
                part[i] = nn.ReLU(inplace=True)


def _copies(parts, n_copies):
    """Return parameters of all networks, each n_copies times, as one."""
    parts = torch.stack([part.detach() for part in parts])
    return nn.Parameter(parts.repeat_interleave(n_copies, 0))


def _state(layer, place, *names):
    parts = {name: getattr(layer, name) for name in names}
    return {n: p[place].detach() for n, p in parts.items() if p is not None}


def _finite(weights):
    found = [torch.isfinite(w.detach().flatten(1)).all(1) for w in weights]
    return torch.stack(found).all(0)


def _unmapped(module):
    # Batch norm without running statistics counts batches on the host.
    norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
    return isinstance(module, UNMAPPED) or (norm and module.momentum is None)


def _refuse_hooks(module):
    for part in module.modules():
        if any(getattr(part, name) for name in HOOKS):
            raise CannotStack(f"{type(part).__name__} has hooks")
        if hasattr(part, "parametrizations"):
            raise CannotStack(f"{type(part).__name__} has parametrizations")
