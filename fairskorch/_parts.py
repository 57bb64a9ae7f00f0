"""The parts of a net that a user may give: what they stand for, whether they fit."""

import inspect
import warnings

import numpy as np
import torch
from skorch.callbacks import Callback, LRScheduler
from torch.optim.lr_scheduler import CosineAnnealingLR

from fairskorch._progress import EpochProgressBar
from fairskorch._settings import build_part
from fairskorch._validation import (
    InvalidParameterError,
    check_nested_names,
    required_names,
    signature_names,
)
from fairskorch.modules import MLP, SmallResNet, uncompiled
from fairskorch.stopping import BestEpoch


def module_of(estimator):
    """Return the class, factory or instance that `module` stands for."""
    module = estimator.module
    if isinstance(estimator.criterion, torch.nn.Module):
        raise InvalidParameterError(
            f"The 'criterion' parameter of {estimator._owner} must be a class, whose "
            "parameters are given as criterion__... . Got an instance of "
            f"{type(estimator.criterion).__name__} instead."
        )
    if isinstance(module, str) and module == "auto":
        return MLP if len(estimator._format.shape) == 1 else SmallResNet
    if not callable(module):
        raise InvalidParameterError(
            f"The 'module' parameter of {estimator._owner} must be 'auto', a class or "
            f"factory of a torch.nn.Module, or an instance. Got {module!r} instead."
        )
    return module


def data_params(estimator):
    """Return what a module may want to know of the data."""
    shape = estimator._format.shape
    return {
        "n_features": int(np.prod(shape)),
        "in_channels": shape[0],
        "n_classes": len(estimator.classes_),
    }


def callbacks_of(estimator, epochs):
    """Return the callbacks of a fit: those of the parameters, and the user's own."""
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
    stopping = []
    if estimator.early_stopping is not None:
        # Last, so that a rule finds what other callbacks record.
        best = BestEpoch(
            estimator.early_stopping, estimator.patience, estimator.accuracy_drop
        )
        stopping.append(("early_stopping", best))
    return own + given + stopping


def check_names(estimator, module, callbacks, given):
    """Refuse parameters of parts by names that the parts do not have."""
    instance = isinstance(module, torch.nn.Module)
    names = [c[0] if isinstance(c, tuple) else _class_name(c) for c in callbacks]
    # skorch numbers callbacks of one name.
    names += [f"{n}_{i + 1}" for n in names for i in range(names.count(n))]
    penalty = estimator._penalty_class
    parts = {
        "module": signature_names(type(module) if instance else module),
        "criterion": _without(signature_names(estimator.criterion), "reduction"),
        "optimizer": _without(signature_names(estimator.optimizer), "params", "lr"),
        "callbacks": ["epoch_timer", "monitor", "lr_schedule", "progress", *names],
        "iterator_train": ["num_workers"],
        "iterator_valid": ["num_workers"],
        "compile": _without(signature_names(torch.compile), "model"),
        "penalty": _without(
            signature_names(penalty) if penalty else [], "n_groups", "n_classes"
        ),
    }
    if parts["optimizer"] is not None:
        parts["optimizer"].append("param_groups")
    if "penalty" not in estimator._own_names():
        del parts["penalty"]
    elif penalty is None:
        # A search may set them beside penalty=None, where they say nothing.
        parts["penalty"] = None
    nested = [name for name in given if name != "compile"]  # skorch's own switch
    check_nested_names(estimator._owner, nested, parts, estimator._own_names())
    nested = [name for name in given if name.startswith("module__")]
    if instance and nested:
        raise ValueError(
            f"module of {estimator._owner} is an instance of {type(module).__name__}, "
            f"so {nested[0]!r} has no effect; pass the class instead."
        )


def check_complete(estimator, module, given):
    """Refuse a module class with a parameter that nobody gives a value."""
    if isinstance(module, torch.nn.Module):
        return
    for name in required_names(module):
        if f"module__{name}" not in given:
            raise ValueError(
                f"The module of {estimator._owner} needs a value for {name!r}: pass "
                f"module__{name}=... . Those called 'n_features', 'in_channels' and "
                "'n_classes' come from the data."
            )


def name_part(estimator, arguments):
    """Say which part of a net that cannot be built is at fault."""
    module = arguments["module"]
    if not isinstance(module, torch.nn.Module):
        module = build_part(estimator, "module", module, **_of("module", arguments))
    if not isinstance(module, torch.nn.Module):
        raise InvalidParameterError(
            f"The 'module' parameter of {estimator._owner} must be a class or factory "
            f"of a torch.nn.Module. Got one that returns {module!r} instead."
        )
    weights = list(module.parameters())
    if not weights:
        raise ValueError(
            f"The module of {estimator._owner}, {type(module).__name__}, has no "
            "parameters, so there is nothing to train."
        )
    criterion = arguments["criterion"]
    build_part(estimator, "criterion", criterion, **_of("criterion", arguments))
    params = {"lr": arguments["lr"], **_of("optimizer", arguments)}
    params.pop("param_groups", None)  # skorch's own
    build_part(estimator, "optimizer", arguments["optimizer"], weights, **params)


def check_outputs(owner, net, rows, n_classes):
    """Refuse a network or criterion that does not fit the data, before it trains."""
    fields, target = next(iter(net.get_iterator(rows.subset([0, len(rows) - 1]))))
    with torch.no_grad():
        net._set_training(False)
        # Two rows first would have the compiler expect batches of changing size, and
        # its code for those is slower.
        try:
            outputs = uncompiled(net.module_)(fields["X"])
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            given = fields["X"]
            raise ValueError(
                f"The module of {owner} fails on 2 rows, a tensor of shape "
                f"{tuple(given.shape)} and {given.dtype}: {error}"
            ) from error
        shape = tuple(getattr(outputs, "shape", ()))
        if shape != (2, n_classes):
            raise ValueError(
                f"The module of {owner} returns {shape or type(outputs).__name__} for "
                f"2 rows; expected logits of shape (2, {n_classes}), one column a "
                "class."
            )
        if bool((outputs >= 0).all() & ((outputs.sum(1) - 1).abs() < 1e-3).all()):
            raise ValueError(
                f"The module of {owner} returns probabilities; expected logits. Leave "
                "its softmax out: predict_proba applies one."
            )
        if isinstance(net.criterion_, torch.nn.NLLLoss) and bool(
            (outputs.logsumexp(1).abs() > 1e-3).any()
        ):
            # Of logits it has no smallest value.
            raise ValueError(
                f"criterion {type(net.criterion_).__name__} of {owner} compares "
                "log-probabilities, and its module returns logits; expected "
                "CrossEntropyLoss, the default, or a module that ends in a "
                "log-softmax."
            )
        # As many rows as classes would let a criterion of numbers broadcast.
        places = torch.arange(n_classes + 1, device=outputs.device) % 2
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                net.criterion_(outputs[places], target[places])
        except (RuntimeError, ValueError, TypeError) as error:
            raise ValueError(
                f"criterion {type(net.criterion_).__name__} of {owner} cannot compare "
                f"logits of shape {(len(places), n_classes)} with class codes of shape "
                f"{(len(places),)}: {error}"
            ) from error


def _of(part, arguments):
    """Return the parameters of a part by their own names."""
    start = f"{part}__"
    return {
        name.removeprefix(start): value
        for name, value in arguments.items()
        if name.startswith(start)
    }


def _class_name(callback):
    return (callback if inspect.isclass(callback) else type(callback)).__name__


def _without(names, *left_out):
    return None if names is None else [n for n in names if n not in left_out]
