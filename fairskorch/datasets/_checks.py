"""Checks of what a user hands to this package, made before any work is done."""

from numbers import Integral, Real
from os import PathLike
from pathlib import Path

from fairskorch._names import did_you_mean


def check_int(value, name, owner, minimum=1):
    """Return `value` as an int of at least `minimum`, or raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ValueError(
            f"The {name!r} parameter of {owner} must be an int in the range "
            f"[{minimum}, inf). Got {value!r} instead."
        )
    return int(value)


def check_real(value, name, owner, low=0.0, high=1.0, *, inclusive=True):
    """Return `value` as a float between `low` and `high`, or raise ValueError."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    inside = real and (low <= value <= high if inclusive else low < value < high)
    if not inside:
        left, right = ("[", "]") if inclusive else ("(", ")")
        raise ValueError(
            f"The {name!r} parameter of {owner} must be a number in the range "
            f"{left}{low}, {high}{right}. Got {value!r} instead."
        )
    return float(value)


def check_choice(value, choices, name, owner):
    """Return `value` if it is one of `choices`, or raise with "did you mean"."""
    choices = list(choices)
    if value not in choices:
        raise ValueError(
            f"The {name!r} parameter of {owner} must be one of {choices}. "
            f"Got {value!r} instead.{did_you_mean(value, choices, listed=True)}"
        )
    return value


def as_names(value, name, owner):
    """Return one name or several as a list of distinct names."""
    names = [value] if isinstance(value, str) else list(value or ())
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"The {name!r} parameter of {owner} must be a name or a list of distinct "
            f"names. Got {value!r} instead."
        )
    return names


def check_folder(root, owner, layout):
    """Return `root` as a Path to an existing folder, or say what belongs there."""
    if not isinstance(root, str | PathLike):
        raise TypeError(
            f"The 'root' parameter of {owner} must be the path of a folder. "
            f"Got {root!r} instead. {layout}"
        )
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"The 'root' parameter of {owner} must be an existing folder. "
            f"Got {str(folder)!r} instead. {layout}"
        )
    return folder


def find_file(folder, names, owner, layout):
    """Return the first of the relative paths `names` that exists under `folder`."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{owner}: no {names[0]} in {str(folder)!r}. {layout}")
