"""Errors and warnings of fairskorch; each is also one that users already catch."""

from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "ConstantPredictionWarning",
    "EmptyCellWarning",
    "InestimableWarning",
    "InfeasibleConstraintWarning",
    "InfeasibleWarning",
    "NonFiniteLossError",
    "UnknownGroupWarning",
    "UnscaledImagesWarning",
]


class ConstantPredictionWarning(ConvergenceWarning):
    """A fit ended with one and the same class predicted for every row.

    Such a classifier treats all groups alike and is worth nothing: a gap of 0
    that comes with it is no result.
    """


class EmptyCellWarning(UserWarning):
    """A group has no training row of some class, so a rate of it is unknown."""


class InestimableWarning(UserWarning):
    """A metric is ``nan`` because a group has no row that it is computed from."""


class InfeasibleWarning(UserWarning):
    """No candidate keeps the bound of a selection rule; the nearest was chosen."""


class InfeasibleConstraintWarning(ConvergenceWarning):
    """The deployed classifier leaves a bound on the rows that multipliers saw.

    The message names the constraint and by how much: the smallest violation that was
    reached.
    """


class UnknownGroupWarning(UserWarning):
    """Rows hold a group that was not seen in training; they count in no group."""


class UnscaledImagesWarning(UserWarning):
    """Images of floats look like bytes, which would be divided by 255."""


class NonFiniteLossError(ArithmeticError):
    """The training loss became NaN or infinite; nothing was fitted."""
