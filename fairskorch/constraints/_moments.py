"""What fairlearn's moments mean, read from the objects themselves."""

import inspect

from fairlearn.reductions import (
    AbsoluteLoss,
    BoundedGroupLoss,
    DemographicParity,
    EqualizedOdds,
    ErrorRateParity,
    FalsePositiveRateParity,
    Moment,
    SquareLoss,
    TruePositiveRateParity,
    UtilityParity,
    ZeroOneLoss,
)

from fairskorch._validation import InvalidParameterError

#: The rates that a moment compares with those of all rows.
RATES = {
    DemographicParity: ("selection_rate",),
    EqualizedOdds: ("true_positive_rate", "false_positive_rate"),
    TruePositiveRateParity: ("true_positive_rate",),
    FalsePositiveRateParity: ("false_positive_rate",),
    ErrorRateParity: ("error",),
}

#: The value of a row that a loss is the mean of. For labels 0 and 1 the absolute error
#: of a prediction that is 1 with the probability of its score is an error rate.
LOSSES = {ZeroOneLoss: "error", AbsoluteLoss: "error", SquareLoss: "square"}


def read_moment(owner, moment):
    """Return what a moment says, or None where it is none.

    Returns
    -------
    found : tuple or None
        ``("parity", name, rates, ratio, slack)`` or
        ``("loss", name, value, upper_bound)``.
    """
    if inspect.isclass(moment) and issubclass(moment, Moment):
        raise InvalidParameterError(
            f"The 'constraint' parameter of {owner} is the class {moment.__name__}; "
            f"pass an instance, which says its bound: {moment.__name__}(...)."
        )
    if not isinstance(moment, Moment):
        return None
    name = type(moment).__name__
    if isinstance(moment, UtilityParity) and type(moment) in RATES:
        return "parity", name, RATES[type(moment)], moment.ratio, moment.eps
    if isinstance(moment, BoundedGroupLoss):
        value = LOSSES.get(type(moment.reduction_loss))
        if value is None or moment.upper_bound is None:
            raise InvalidParameterError(
                f"BoundedGroupLoss given as constraint of {owner} needs an upper_bound "
                "and one of ZeroOneLoss(), AbsoluteLoss(0, 1) and SquareLoss(0, 1)."
            )
        return "loss", name, value, moment.upper_bound
    known = sorted(kind.__name__ for kind in [*RATES, BoundedGroupLoss])
    raise InvalidParameterError(
        f"The 'constraint' parameter of {owner} is a {name}, and the moments that are "
        f"known are {known}."
    )
