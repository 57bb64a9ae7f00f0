"""From parameters and data to a net that is ready to train."""

import contextlib
import copy
import inspect

import numpy as np
import pandas as pd
import torch
from sklearn.utils import check_random_state
from skorch.callbacks import Callback, LRScheduler
from skorch.helper import predefined_split
from torch.optim.lr_scheduler import CosineAnnealingLR

from fairskorch._validation import (
    InvalidParameterError,
    check_nested_names,
    did_you_mean,
    signature_names,
)
from fairskorch.augment import AUGMENTATIONS
from fairskorch.modules import MLP, SmallResNet
from fairskorch.nets import GroupPenaltyNet
from fairskorch.penalties import ALIASES, GroupPenalty
from fairskorch.progress import EpochProgressBar
from fairskorch.sampling import EpochSampler

#: How rates are estimated in training, unless the user says otherwise: a running
#: memory, since the gap of one batch is mostly its own noise, and scores that follow
#: the hard predictions.
PENALTY_DEFAULTS = {"memory": 0.95, "slope": 4.0}

#: Columns of skorch's history that are its own bookkeeping.
BOOKKEEPING = ("batches", "event_lr")


def find_penalty(owner, penalty, weight):
    """Return the penalty class of an alias or class, or None."""
    if penalty is None:
        return None
    if isinstance(penalty, str):
        if penalty not in ALIASES:
            raise InvalidParameterError(
                f"The 'penalty' parameter of {owner} must be None, a class or one of "
                f"{sorted(ALIASES)}. Got {penalty!r} instead."
                + did_you_mean(penalty, ALIASES)
            )
        penalty = ALIASES[penalty]
    if not (inspect.isclass(penalty) and issubclass(penalty, GroupPenalty)):
        raise InvalidParameterError(
            f"The 'penalty' parameter of {owner} must be None, an alias or a class "
            f"derived from fairskorch.penalties.GroupPenalty. Got {penalty!r} instead."
        )
    if weight > penalty.max_weight:
        raise InvalidParameterError(
            f"The 'penalty_weight' parameter of {owner} must be at most "
            f"{penalty.max_weight} with {penalty.__name__}. Got {weight!r} instead."
        )
    return penalty


def pick_device(owner, device):
    """Return the name of the device to train on."""
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind = torch.device(device).type
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device of {owner} is {str(device)!r}, and PyTorch sees no CUDA device; "
            "use device='auto' or 'cpu'."
        )
    return str(device)


def pick_lr(lr, optimizer):
    """Return the learning rate to start from."""
    if lr != "auto":
        return lr
    return 1e-2 if optimizer is torch.optim.SGD else 1e-3


def draw_seed(random_state):
    """Return an integer seed; without a random_state from the system's entropy."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


@contextlib.contextmanager
def own_randomness(seed, device):
    """Seed PyTorch inside, and give the caller's generators back as they were."""
    kind = torch.device(device).type
    cuda = list(range(torch.cuda.device_count())) if kind == "cuda" else []
    mps = torch.mps.get_rng_state() if kind == "mps" else None
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            if mps is not None:
                torch.mps.set_rng_state(mps)


def build_net(estimator, epochs):
    """Build and initialise the net of an estimator that knows its data."""
    e = estimator
    module = _module(e)
    callbacks = _callbacks(e, epochs)
    given = {name: getattr(e, name) for name in e._extra_names()}
    _check_names(e, module, callbacks, given)
    params = {"callbacks__print_log": None, **given}
    known = signature_names(module) or []
    if not isinstance(module, torch.nn.Module):
        for name, value in _data_params(e).items():
            if name in known:
                params.setdefault(f"module__{name}", value)
    if "reduction" in (signature_names(e.criterion) or []):
        params.setdefault("criterion__reduction", "none")
    params.update(_penalty_params(e, given))
    net = GroupPenaltyNet(
        copy.deepcopy(module) if isinstance(module, torch.nn.Module) else module,
        criterion=e.criterion,
        optimizer=e.optimizer,
        lr=e.lr_,
        max_epochs=epochs,
        batch_size=e.batch_size,
        penalty=e._penalty_class,
        penalty_weight=e.penalty_weight,
        penalty_warmup=e.penalty_warmup_,
        sampler=e.sampler_,
        augment=AUGMENTATIONS.get(e.augment, e.augment)
        if isinstance(e.augment, str)
        else e.augment,
        precision=e.precision_,
        monitor=e.monitor,
        callbacks=callbacks,
        device=e.device_,
        verbose=0,
        **params,
    )
    return net.initialize()


def _penalty_params(estimator, given):
    """Return the parameters of the penalty by their full names."""
    penalty = estimator._penalty_class
    if penalty is None:
        return {}
    known = signature_names(penalty) or []
    defaults = {name: v for name, v in PENALTY_DEFAULTS.items() if name in known}
    asked = {
        name.removeprefix("penalty__"): value
        for name, value in given.items()
        if name.startswith("penalty__")
    }
    sizes = {"n_groups": len(estimator.groups_), "n_classes": len(estimator.classes_)}
    params = {**defaults, **asked, **sizes}
    return {f"penalty__{name}": value for name, value in params.items()}


def go_on(net, estimator, epochs):
    """Let a net that was trained go on with what may change between calls."""
    e = estimator
    given = {name: getattr(e, name) for name in e._extra_names()}
    _check_names(e, _module(e), list(e.callbacks or []), given)
    params = _penalty_params(e, given)
    before = {f"penalty__{k}": v for k, v in net.get_params_for("penalty").items()}
    if net.penalty is not e._penalty_class or before != params:
        for name in before.keys() - params.keys():
            delattr(net, name)
        net.penalty = e._penalty_class
        vars(net).update(params)
        net.initialize_penalty()
    net.set_params(
        max_epochs=epochs,
        batch_size=e.batch_size,
        penalty_weight=e.penalty_weight,
        penalty_warmup=0,
        lr=e.lr_,
    )
    for group in net.optimizer_.param_groups:
        group.pop("initial_lr", None)
    schedule = dict(net.callbacks_).get("lr_schedule")
    if schedule is not None:
        schedule.set_params(T_max=epochs)


def check_outputs(owner, net, rows, n_classes):
    """Refuse a network whose outputs are not one logit a class, before it trains."""
    fields, _ = next(iter(net.get_iterator(rows.subset([0, len(rows) - 1]))))
    with torch.no_grad():
        net._set_training(False)
        outputs = net.module_(fields["X"])
    shape = tuple(getattr(outputs, "shape", ()))
    if shape != (2, n_classes):
        raise ValueError(
            f"The module of {owner} returns {shape or type(outputs).__name__} for 2 "
            f"rows; expected logits of shape (2, {n_classes}), one column a class."
        )


def run(net, rows, valid):
    """Train on rows, with held-out rows for whatever looks at them."""
    net.train_split = None if valid is None else predefined_split(valid)
    try:
        net.partial_fit(rows)
    finally:
        # Or the held-out data would be stored with the net.
        net.train_split = None


def history_frame(net):
    """Return the history of a net as a DataFrame of the epochs that were finished."""
    done = [row for row in net.history if "objective" in row and "dur" in row]
    frame = pd.DataFrame(done)
    drop = [c for c in frame if c in BOOKKEEPING or c.endswith("_best")]
    return frame.drop(columns=drop).rename(columns={"dur": "seconds"})


def prior_shift(net, rows, class_weight):
    """Return what to add to logits for probabilities under the rows' class shares."""
    sampler = EpochSampler(net.sampler, rows.y, rows.groups, net.batch_size)
    drawn = torch.ones(len(rows), dtype=torch.float64)
    if not sampler.unbiased:
        drawn = drawn / sampler.importance
    if class_weight is not None:
        drawn = drawn * class_weight[rows.y]
    shares = torch.bincount(rows.y).double() / len(rows)
    learnt = torch.bincount(rows.y, weights=drawn) / drawn.sum()
    return (shares / learnt).log()


def _module(estimator):
    module = estimator.module
    if isinstance(module, str) and module == "auto":
        return MLP if len(estimator._format.shape) == 1 else SmallResNet
    if not callable(module):
        raise InvalidParameterError(
            f"The 'module' parameter of {estimator._owner} must be 'auto', a class or "
            f"factory of a torch.nn.Module, or an instance. Got {module!r} instead."
        )
    return module


def _data_params(estimator):
    """Return what a module may want to know of the data."""
    shape = estimator._format.shape
    return {
        "n_features": int(np.prod(shape)),
        "in_channels": shape[0],
        "n_classes": len(estimator.classes_),
    }


def _callbacks(estimator, epochs):
    own, given = [], list(estimator.callbacks or [])
    instances = [c[1] if isinstance(c, tuple) else c for c in given]
    for callback in instances:
        kind = callback if inspect.isclass(callback) else type(callback)
        if callback is not None and not issubclass(kind, Callback):
            raise InvalidParameterError(
                f"The 'callbacks' parameter of {estimator._owner} must hold callbacks "
                f"of skorch. Got {callback!r} instead."
            )
    scheduled = any(isinstance(c, LRScheduler) or c is LRScheduler for c in instances)
    # An epoch of partial_fit knows of no end that a schedule could fall to.
    if estimator.lr == "auto" and epochs > 1 and not scheduled:
        # Without last_epoch a later call would go on with a cosine that has ended.
        schedule = LRScheduler(policy=CosineAnnealingLR, T_max=epochs, last_epoch=-1)
        own.append(("lr_schedule", schedule))
    if estimator.verbose:
        own.append(("progress", EpochProgressBar()))
    return own + given


def _check_names(estimator, module, callbacks, given):
    instance = isinstance(module, torch.nn.Module)
    names = [c[0] if isinstance(c, tuple) else _class_name(c) for c in callbacks]
    penalty = estimator._penalty_class
    parts = {
        "module": signature_names(type(module) if instance else module),
        "criterion": signature_names(estimator.criterion),
        "optimizer": _without(signature_names(estimator.optimizer), "params"),
        "callbacks": ["epoch_timer", "monitor", "lr_schedule", "progress", *names],
        "iterator_train": ["num_workers"],
        "iterator_valid": ["num_workers"],
        "penalty": _without(
            signature_names(penalty) if penalty else [], "n_groups", "n_classes"
        ),
    }
    if parts["optimizer"] is not None:
        parts["optimizer"].append("param_groups")
    if penalty is None:
        # A search may set them beside penalty=None, where they say nothing.
        parts["penalty"] = None
    check_nested_names(estimator._owner, given, parts, estimator._own_names())
    nested = [name for name in given if name.startswith("module__")]
    if instance and nested:
        raise ValueError(
            f"module of {estimator._owner} is an instance of {type(module).__name__}, "
            f"so {nested[0]!r} has no effect; pass the class instead."
        )


def _class_name(callback):
    return (callback if inspect.isclass(callback) else type(callback)).__name__


def _without(names, *left_out):
    return None if names is None else [n for n in names if n not in left_out]
