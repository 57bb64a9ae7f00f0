"""Checks of parameters; the only importer of scikit-learn's private names."""

import inspect

from sklearn.base import _fit_context
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    StrOptions,
)
from sklearn.utils.validation import _check_sample_weight

from fairskorch._names import did_you_mean

__all__ = [
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "NameLike",
    "StrOptions",
    "check_nested_names",
    "check_sample_weight",
    "fit_context",
    "required_names",
    "signature_names",
    "takes",
]

#: Validates parameters by `_parameter_constraints` before a method runs.
fit_context = _fit_context(prefer_skip_nested_validation=True)


#: What skorch and scikit-learn call what has another name here.
ELSEWHERE = {"learning_rate": "lr", "train_split": "validation_fraction"}

#: Brings sample weights into an array, or refuses them.
check_sample_weight = _check_sample_weight


class NameLike(StrOptions):
    """Constraint of a parameter that is any string; the options are examples."""

    def is_satisfied_by(self, val):
        """Tell whether a value is a string; the name itself is judged elsewhere."""
        return isinstance(val, str)

    def __str__(self):
        return f"a name (such as {' or '.join(map(repr, sorted(self.options)))})"


def signature_names(part):
    """Return the names of a callable's parameters, or None where it takes any."""
    try:
        parameters = inspect.signature(part).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]


def required_names(part):
    """Return the names of a callable's parameters that have no default."""
    try:
        parameters = inspect.signature(part).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]


def takes(part, *args):
    """Tell whether a callable can be called with these arguments, as far as known."""
    try:
        inspect.signature(part).bind(*args)
    except TypeError:
        return False
    except ValueError:
        pass
    return True


def check_nested_names(owner, given, parts, own):
    """Refuse parameter names that no part of an estimator has.

    Parameters
    ----------
    owner : str
        Name of the estimator's class, for messages.
    given : iterable of str
        Names beyond the estimator's own signature.
    parts : dict of str to (list of str or None)
        Prefix, and the names that may follow it after a double underscore; None where
        any may.
    own : iterable of str
        Names of the estimator's own signature, for suggestions.

    Raises
    ------
    ValueError
        For the first name that is not known, with a suggestion.
    """
    for name in sorted(given):
        prefix, separator, rest = name.partition("__")
        if not separator:
            inside = [f"{p}__{name}" for p, has in parts.items() if name in (has or ())]
            known = inside or [*own, *(f"{p}__" for p in parts)]
            hint = did_you_mean(ELSEWHERE.get(name, name), known)
            raise ValueError(f"{owner} has no parameter {name!r}.{hint}")
        if prefix not in parts:
            hint = did_you_mean(prefix, parts)
            raise ValueError(
                f"{owner} has no parameter {name!r}: it has no part {prefix!r}.{hint}"
            )
        known = parts[prefix]
        if known is not None and rest.partition("__")[0] not in known:
            hint = did_you_mean(rest, known)
            raise ValueError(
                f"{owner} has no parameter {name!r}: {prefix} takes no {rest!r}.{hint}"
            )
