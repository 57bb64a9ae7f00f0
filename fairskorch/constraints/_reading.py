"""From the parameters `constraint` and `bound` to constraints, each with its bound."""

import copy
from numbers import Real

import numpy as np

from fairskorch._names import did_you_mean
from fairskorch._validation import InvalidParameterError
from fairskorch.constraints._moments import read_moment
from fairskorch.constraints._specs import ALIASES, BoundedWorst, Moment, Overall


def read_constraints(owner, constraint, bound):
    """Return the constraints that a parameter names, and a bound for each.

    Parameters
    ----------
    owner : str
        For messages.
    constraint : str, object or list of them
    bound : float or list of float
        One for all, or one for each; None in the place of a moment's.

    Returns
    -------
    specs : list of (object, float)
        Names are all different.
    """
    many = isinstance(constraint, list | tuple)
    given = list(constraint) if many else [constraint]
    if not given:
        raise InvalidParameterError(
            f"The 'constraint' parameter of {owner} is an empty list; None trains "
            "without a constraint."
        )
    bounds = list(bound) if isinstance(bound, list | tuple) else [bound] * len(given)
    if len(bounds) != len(given):
        raise InvalidParameterError(
            f"The 'bound' parameter of {owner} must be one number or one for each "
            f"constraint: got {len(bounds)} bounds and {len(given)} constraints."
        )
    specs = [_find(owner, one) for one in given]
    for one, spec, limit in zip(given, specs, bounds, strict=True):
        if not isinstance(spec, Moment | BoundedWorst):
            _check_bound(owner, one, spec, limit)
    return list(zip(_told_apart(specs), bounds, strict=True))


def _told_apart(specs):
    """Give numbers to constraints of one name: a ratio and a difference, say."""
    names = [spec.name for spec in specs]
    for i, name in enumerate(names):
        if names.count(name) > 1:
            # A name stands for the same object wherever it is used.
            specs[i] = copy.copy(specs[i])
            specs[i].name = f"{name}_{names[: i + 1].count(name)}"
    return specs


def _find(owner, constraint):
    if isinstance(constraint, Overall):
        return constraint
    if isinstance(constraint, str):
        if constraint in ALIASES:
            return ALIASES[constraint]
        if constraint == "mindiff":
            raise InvalidParameterError(
                f"constraint='mindiff' of {owner} compares distributions of scores, "
                "which no bound on rates says; use 'dp' or 'eopp', or "
                "FairNeuralClassifier(penalty='mindiff')."
            )
        hint = did_you_mean(constraint, ALIASES, listed=True)
    else:
        found = read_moment(owner, constraint)
        if found is not None:
            kind, *arguments = found
            return {"parity": Moment, "loss": BoundedWorst}[kind](*arguments)
        hint = ""
    raise InvalidParameterError(
        f"The 'constraint' parameter of {owner} must be None, one of "
        f"{sorted(ALIASES)}, an object of fairskorch.constraints, a moment of "
        f"fairlearn.reductions such as EqualizedOdds(difference_bound=0.05), or a list "
        f"of them. Got {constraint!r} instead.{hint}"
    )


def _check_bound(owner, constraint, spec, bound):
    number = isinstance(bound, Real) and not isinstance(bound, bool)
    if number and 0 <= bound <= spec.largest and bound != np.inf:
        return
    limits = "at least 0" if spec.largest == np.inf else "in [0, 1]"
    raise InvalidParameterError(
        f"The 'bound' parameter of {owner} for constraint {constraint!r} must be a "
        f"number {limits}. Got {bound!r} instead."
    )
