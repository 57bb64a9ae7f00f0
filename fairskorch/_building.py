"""From parameters and data to a net that is ready to train."""

import copy
import inspect
import warnings

import numpy as np
import pandas as pd
import torch
from skorch.callbacks import Callback, LRScheduler
from skorch.helper import predefined_split
from torch.optim.lr_scheduler import CosineAnnealingLR

from fairskorch._attributes import recorded_metrics
from fairskorch._settings import build_part
from fairskorch._validation import (
    InvalidParameterError,
    check_nested_names,
    required_names,
    signature_names,
)
from fairskorch.augment import AUGMENTATIONS
from fairskorch.modules import MLP, SmallResNet, uncompiled
from fairskorch.nets import GroupPenaltyNet
from fairskorch.progress import EpochProgressBar
from fairskorch.sampling import EpochSampler
from fairskorch.stopping import BestEpoch

#: Decay of the running statistics in training, unless the user says otherwise: the gap
#: of one batch is mostly its own noise. It is less where an epoch has few batches:
#: sums that lag behind by more than a third of an epoch make the gap swing.
MEMORY = 0.95

#: What a net that goes on keeps as it is.
KEPT = ("module", "criterion", "optimizer", "precision", "device")

#: Columns of skorch's history that are its own bookkeeping.
BOOKKEEPING = ("batches", "event_lr", "finished")


def build_net(estimator, epochs, n_batches, kind=GroupPenaltyNet):
    """Build and initialise the net of an estimator that knows its data."""
    arguments = _arguments(estimator, epochs, n_batches)
    if isinstance(arguments["module"], torch.nn.Module):
        arguments["module"] = copy.deepcopy(arguments["module"])
    net = kind(**arguments)
    try:
        return net.initialize()
    except Exception:
        _name_part(estimator, arguments)
        raise


def _name_part(estimator, arguments):
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


def _of(part, arguments):
    """Return the parameters of a part by their own names."""
    start = f"{part}__"
    return {
        name.removeprefix(start): value
        for name, value in arguments.items()
        if name.startswith(start)
    }


def go_on(net, estimator, epochs, n_batches):
    """Return a copy of a trained net, ready to go on with what parameters say now.

    A copy, so that the net is as it was should the training fail. Callbacks are the
    same objects in both, as users hold on to theirs.
    """
    arguments = _arguments(estimator, epochs, n_batches)
    for name, value in arguments.items():
        part = name.partition("__")[0]
        if name.startswith("optimizer__"):
            continue
        if part in KEPT and not _alike(value, getattr(net, name, None)):
            raise ValueError(
                f"{estimator._owner} goes on with the network and optimiser that it "
                f"has, so {name!r} cannot change; fit with warm_start=False."
            )
    same = {id(callback): callback for _, callback in net.callbacks_}
    net = copy.deepcopy(net, same)
    optimizer = {n: v for n, v in arguments.items() if n.startswith("optimizer__")}
    before = {f"penalty__{k}": v for k, v in net.get_params_for("penalty").items()}
    now = {n: v for n, v in arguments.items() if n.startswith("penalty__")}
    another = net.penalty is not estimator._penalty_class or before != now
    for name in before.keys() - now.keys():
        delattr(net, name)
    changed = {n: v for n, v in arguments.items() if n.partition("__")[0] not in KEPT}
    vars(net).update(changed)
    net.set_params(lr=estimator.lr_, **optimizer)
    for group in net.optimizer_.param_groups:
        group.pop("initial_lr", None)  # or a schedule would go on from its end
    if another:
        net.initialize_penalty()
    net.initialize_callbacks()
    return net


def _arguments(estimator, epochs, n_batches):
    """Return everything that the net of an estimator is built from."""
    e = estimator
    module = _module(e)
    callbacks = _callbacks(e, epochs)
    given = {name: getattr(e, name) for name in e._extra_names()}
    _check_names(e, module, callbacks, given)
    augment = e.augment
    if isinstance(augment, str):
        if len(e._format.shape) == 1:
            raise ValueError(
                f"augment={augment!r} of {e._owner} changes images, and X is a table; "
                "use augment=None."
            )
        augment = AUGMENTATIONS[augment]
    known = signature_names(module) or []
    if isinstance(module, torch.nn.Module):
        known = []
    data = {f"module__{n}": v for n, v in _data_params(e).items() if n in known}
    _check_complete(e, module, {**data, **given})
    rows = {}
    if "reduction" in (signature_names(e.criterion) or []):
        rows["criterion__reduction"] = "none"
    return {
        "module": module,
        "criterion": e.criterion,
        "optimizer": e.optimizer,
        "lr": e.lr_,
        "max_epochs": epochs,
        "batch_size": e.batch_size,
        "sampler": e.sampler_,
        "augment": augment,
        "precision": e.precision_,
        "capture": e.capture,
        "monitor": e.monitor,
        "monitor_metrics": recorded_metrics(e),
        "callbacks": callbacks,
        "callbacks__print_log": None,
        "classes": np.arange(len(e.classes_)),
        "device": e.device_,
        "verbose": 0,
        **data,
        **rows,
        **given,
        **e._penalty_settings(given, n_batches),
    }


def _alike(value, other):
    if isinstance(value, torch.nn.Module):
        return type(value) is type(other)
    return value is other or bool(np.all(value == other))


def penalty_settings(estimator, given, n_batches):
    """Return the penalty, its weight and its parameters by their full names."""
    penalty = estimator._penalty_class
    common = {
        "penalty": penalty,
        "penalty_weight": estimator.penalty_weight,
        "penalty_warmup": estimator.penalty_warmup_,
        "penalty_schedule": estimator.penalty_schedule,
        "flood": estimator.flood,
        "ema_decay": estimator.ema_decay,
    }
    if penalty is None:
        return common
    known = signature_names(penalty) or []
    defaults = {"memory": default_memory(n_batches)} if "memory" in known else {}
    asked = {
        name.removeprefix("penalty__"): value
        for name, value in given.items()
        if name.startswith("penalty__")
    }
    sizes = {"n_groups": len(estimator.groups_), "n_classes": len(estimator.classes_)}
    params = {**defaults, **asked, **sizes}
    return {**common, **{f"penalty__{name}": v for name, v in params.items()}}


def default_memory(n_batches):
    """Return the decay of running statistics where an epoch has so many batches."""
    return MEMORY if n_batches is None else min(MEMORY, max(0, 1 - 3 / n_batches))


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


def run(net, rows, valid):
    """Train on rows, with held-out rows for whatever looks at them."""
    net.train_split = None if valid is None else predefined_split(valid)
    others = rows.penalty_rows
    net.penalty_split = None if others is None else predefined_split(others)
    try:
        net.partial_fit(rows)
    finally:
        # Or the held-out data would be stored with the net.
        net.train_split = net.penalty_split = None
        progress = dict(net.callbacks_).get("progress")
        if progress is not None:
            progress.on_train_end(net)


def history_frame(net):
    """Return the history of a net as a DataFrame of the epochs that were finished."""
    frame = pd.DataFrame([row for row in net.history if row.get("finished")])
    drop = [c for c in frame if c in BOOKKEEPING or c.endswith("_best")]
    return frame.drop(columns=drop).rename(columns={"dur": "seconds"})


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


def _module(estimator):
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


def _check_complete(estimator, module, given):
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
    stopping = []
    if estimator.early_stopping is not None:
        # Last, so that a rule finds what other callbacks record.
        best = BestEpoch(
            estimator.early_stopping, estimator.patience, estimator.accuracy_drop
        )
        stopping.append(("early_stopping", best))
    return own + given + stopping


def _check_names(estimator, module, callbacks, given):
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


def _class_name(callback):
    return (callback if inspect.isclass(callback) else type(callback)).__name__


def _without(names, *left_out):
    return None if names is None else [n for n in names if n not in left_out]
