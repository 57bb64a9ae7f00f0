"""From parameters and data to a net that is ready to train."""

import copy

import numpy as np
import pandas as pd
import torch
from skorch.helper import predefined_split

from fairskorch import _parts
from fairskorch._attributes import recorded_metrics
from fairskorch._validation import signature_names
from fairskorch.augment import AUGMENTATIONS
from fairskorch.nets import GroupPenaltyNet

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
        _parts.name_part(estimator, arguments)
        raise


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
    module = _parts.module_of(e)
    callbacks = _parts.callbacks_of(e, epochs)
    given = {name: getattr(e, name) for name in e._extra_names()}
    _parts.check_names(e, module, callbacks, given)
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
    data = {f"module__{n}": v for n, v in _parts.data_params(e).items() if n in known}
    _parts.check_complete(e, module, {**data, **given})
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
