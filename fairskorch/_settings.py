"""What parameters stand for: aliases, devices, and what "auto" becomes."""

import contextlib
import inspect
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_random_state

from fairskorch._names import did_you_mean
from fairskorch._validation import InvalidParameterError, required_names, takes
from fairskorch.penalties import ALIASES, GroupPenalty
from fairskorch.schedules import Ascent

#: Share of the epochs over which the penalty's weight ramps up.
WARMUP = 0.5


def find_penalty(owner, penalty, weight):
    """Return the penalty class of an alias or class, or None."""
    if penalty is None:
        return None
    if isinstance(penalty, str):
        if penalty not in ALIASES:
            raise InvalidParameterError(
                f"The 'penalty' parameter of {owner} must be None, a class derived "
                f"from fairskorch.penalties.GroupPenalty, or one of {_aliases()}. Got "
                f"{penalty!r} instead." + did_you_mean(penalty, ALIASES, listed=True)
            )
        penalty = ALIASES[penalty]
    if not (inspect.isclass(penalty) and issubclass(penalty, GroupPenalty)):
        hint = ""
        if isinstance(penalty, GroupPenalty):
            hint = " Pass the class; its parameters are penalty__reduction and so on."
        raise InvalidParameterError(
            f"The 'penalty' parameter of {owner} must be None, an alias or a class "
            f"derived from fairskorch.penalties.GroupPenalty. Got {penalty!r} instead."
            f"{hint}"
        )
    if weight > penalty.max_weight:
        raise InvalidParameterError(
            f"The 'penalty_weight' parameter of {owner} must be at most "
            f"{penalty.max_weight} with {penalty.__name__}. Got {weight!r} instead."
        )
    return penalty


def check_heads(owner, penalty):
    """Refuse a penalty that is more than what many heads compute of it."""
    if penalty is not None and not penalty.is_summed():
        raise ValueError(
            f"penalty {penalty.__name__} of {owner} has a penalise() of its own, which "
            "last layers do not call: they take its values, compare and join. Put the "
            "difference there."
        )


def _aliases():
    return ", ".join(f"{name!r} ({kind.__name__})" for name, kind in ALIASES.items())


def check_schedule(owner, penalty, schedule):
    """Refuse a weight that climbs where it is a share, and a call that must fail."""
    if callable(schedule) and not takes(schedule, 0, 1):
        raise InvalidParameterError(
            f"The 'penalty_schedule' parameter of {owner} must take (epoch, n_epochs) "
            f"where it is a callable. Got {schedule!r} instead."
        )
    ascends = isinstance(schedule, Ascent) or schedule == "ascent"
    if ascends and penalty is not None and penalty.max_weight < float("inf"):
        raise ValueError(
            f"penalty_schedule={schedule!r} of {owner} lets the weight climb, and that "
            f"of {penalty.__name__} is a share of at most {penalty.max_weight}; use "
            "'constant' or a schedule of your own."
        )


def pick_device(owner, device):
    """Return the name of the device to train on."""
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(
            f"device of {owner} must be 'auto' or a device of PyTorch such as 'cpu', "
            f"'cuda' or 'cuda:1'; got {device!r}."
        ) from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device of {owner} is {str(device)!r}, and PyTorch sees no CUDA device; "
            "use device='auto' or 'cpu'."
        )
    return str(device)


def check_optimizer(owner, optimizer, *, closure=True):
    """Refuse a class that is no optimiser, or one that needs what it will not get.

    Parameters
    ----------
    owner : str
        For messages.
    optimizer : type or callable
    closure : bool, default=True
        Whether a step may ask for the loss again.
    """
    what = "a class of torch.optim"
    known = not inspect.isclass(optimizer) or issubclass(
        optimizer, torch.optim.Optimizer
    )
    asks = "closure" in required_names(getattr(optimizer, "step", None))
    if known and (closure or not asks):
        return
    if known:
        what += " whose steps need gradients only, no closure, such as SGD or Adam"
    raise InvalidParameterError(
        f"The 'optimizer' parameter of {owner} must be {what}. Got {optimizer!r} "
        "instead."
    )


def build_part(estimator, part, kind, *args, **params):
    """Build a part of an estimator, or say what it was given that it cannot take.

    Parameters
    ----------
    estimator : NestedParams
        Whose parameters a message names.
    part : str
        What comes before the double underscore.
    kind : callable
    *args, **params
        All that it is given.
    """
    try:
        return kind(*args, **params)
    except Exception as error:
        names = [n for n in estimator._extra_names() if n.startswith(f"{part}__")]
        given = ", ".join(f"{name}={getattr(estimator, name)!r}" for name in names)
        raise ValueError(
            f"{part} {getattr(kind, '__name__', kind)} of {estimator._owner} cannot be "
            f"built{' with ' if given else ''}{given}: {error}"
        ) from error


def pick_lr(lr, optimizer):
    """Return the learning rate to start from."""
    if lr != "auto":
        return lr
    return 1e-2 if optimizer is torch.optim.SGD else 1e-3


def pick_warmup(warmup, epochs):
    """Return the epochs of the ramp; a share leaves one epoch of full weight."""
    if warmup == "auto":
        warmup = WARMUP
    if isinstance(warmup, Integral):
        return warmup
    return min(warmup * epochs, epochs - 1)


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
