"""Many copies of one network as one module, with one more dimension in front.

A network of linear layers and functions of single numbers is copied with its linear
layers replaced by batched ones: matrix products of all copies are one call. Others go
through `torch.func.vmap`.
"""

import copy
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fairskorch._batched_layers import (
    BATCHED,
    ELEMENTWISE,
    BatchedLinear,
    CannotStack,
    MappedDropout,
)
from fairskorch._settings import own_randomness
from fairskorch._steps import HOOKS
from fairskorch.rates import raise_half

#: Layers that `torch.func.vmap` cannot run, or that keep a state of their own kind.
UNMAPPED = (nn.RNNBase, nn.RNNCellBase)

#: Differences of outputs that rounding makes, relative and absolute.
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}

#: How far weights of copies lie apart when outputs are compared: a share of their mean
#: size, and something where that is 0.
SPREAD = 0.1, 0.01


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
        return any(x.couples_rows for x in self.layers.values())

    @property
    def draws(self):
        """Whether a step draws random numbers."""
        return any(x.draws for x in self.layers.values())

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
        plain = copy.deepcopy(module).to("meta")
        for part in plain.modules():
            if isinstance(part, _BatchNorm):
                # Mapped, its backward pass on CUDA wants statistics as wide as rows.
                part.register_forward_pre_hook(_raise_inputs)
            for name, inside in part.named_children():
                if type(inside) is nn.Dropout:
                    setattr(part, name, MappedDropout(inside.p))
        # In a list, or its weights would be those of this module as well.
        self.plain = [plain]

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
    except CannotStack:
        if not mapped or len(modules) > 1:
            raise
        stacked = MappedStack(modules, n_copies)
        _compare(stacked, modules, X)
    return stacked.train()


@torch.no_grad()
def _compare(stacked, modules, X):
    """Refuse a stack that computes something else, predicting or in training."""
    trial = copy.deepcopy(stacked)
    with own_randomness(0, X.device):
        # Copies that are alike would not show that they look at each other.
        share, least = SPREAD
        for weight in trial.parameters():
            size = share * weight.abs().mean() + least
            weight.add_(torch.randn_like(weight) * size)
    last = stacked.shape[1] - 1
    places = [(i, j) for i in range(len(modules)) for j in {0, last}]
    alone = [copy.deepcopy(modules[i]) for i, _ in places]
    for place, module in zip(places, alone, strict=True):
        module.load_state_dict(trial.state(*place))
    for training in (False, True):
        with failures(), _in_full_precision(), own_randomness(0, X.device):
            found = trial.train(training)(X.expand(len(modules), *X.shape))
        for place, module in zip(places, alone, strict=True):
            with _in_full_precision(), own_randomness(0, X.device):
                expected = module.train(training)(X)
            if not torch.allclose(found[place], expected, **TOLERANCE):
                raise CannotStack(
                    f"the stacked {type(module).__name__} computes something else"
                )


@contextmanager
def failures():
    """Say of an error inside that a stacked network fails, and why."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = str(error).partition("\n")[0]
        raise CannotStack(f"the stacked network fails ({reason})") from error


def _raise_inputs(layer, given):
    return tuple(raise_half(values) for values in given)


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


def _reuse_memory(batched):
    """Let ReLUs write over what only they read, the outputs of linear layers."""
    for part in batched.modules():
        if not isinstance(part, nn.Sequential):
            continue
        for i in range(1, len(part)):
            if type(part[i]) is nn.ReLU and isinstance(part[i - 1], BatchedLinear):
                part[i] = nn.ReLU(inplace=True)


def _finite(weights):
    found = [torch.isfinite(w.detach().flatten(1)).all(1) for w in weights]
    return torch.stack(found).all(0)


def _unmapped(module):
    # Batch norm without running statistics counts batches on the host.
    norm = isinstance(module, _BatchNorm)
    return isinstance(module, UNMAPPED) or (norm and module.momentum is None)


def _refuse_hooks(module):
    for part in module.modules():
        if any(getattr(part, name) for name in HOOKS):
            raise CannotStack(f"{type(part).__name__} has hooks")
        if hasattr(part, "parametrizations"):
            raise CannotStack(f"{type(part).__name__} has parametrizations")
