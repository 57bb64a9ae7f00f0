"""How the penalty's weight moves while a network trains."""

import math
from dataclasses import dataclass
from numbers import Real

__all__ = ["Ascent", "SCHEDULES"]


@dataclass(frozen=True)
class Ascent:
    r"""The weight climbs by the penalty's own value, batch by batch.

    After each step the weight, which starts at `penalty_weight`, becomes

    .. math:: w \leftarrow w + \text{rate} \cdot r_t \cdot \text{penalty},

    with :math:`r_t` the ramp. A penalty is at least 0, so the weight only climbs, the
    faster the wider the gap: the ascent in the multiplier of FNNC [1]_, which starts
    at 10 and takes Adam's steps in the place of these.

    Parameters
    ----------
    rate : float, default=0.01
        What a step adds to the weight at a penalty of 1; at least 0.

    References
    ----------
    .. [1] Padala, Gujar. FNNC: Achieving Fairness through Neural Networks. IJCAI 2020.

    Examples
    --------
    >>> from fairskorch import FairNeuralClassifier
    >>> from fairskorch.datasets import make_biased_classification
    >>> from fairskorch.schedules import Ascent
    >>> data = make_biased_classification(n_samples=500, random_state=0)
    >>> clf = FairNeuralClassifier(penalty_schedule=Ascent(rate=0.1), max_epochs=4,
    ...                            penalty_warmup=0, random_state=0)
    >>> clf = clf.fit(data.data, data.target, data.sensitive_features)
    >>> bool(clf.history_["penalty_weight"].is_monotonic_increasing)
    True
    """

    rate: float = 0.01

    def __post_init__(self):
        if not (isinstance(self.rate, Real) and 0 <= self.rate < math.inf):
            raise ValueError(
                f"rate of Ascent must be a number of at least 0; got {self.rate!r}."
            )


#: Names that estimators accept.
SCHEDULES = {"constant": None, "ascent": Ascent()}


def factor(schedule, epoch, n_epochs):
    """Ask a schedule of one's own for what it makes of the weight in an epoch.

    Parameters
    ----------
    schedule : callable
    epoch : int
        Number of epochs of this call before it.
    n_epochs : int
        Epochs of this call.

    Returns
    -------
    factor : float
    """
    value = schedule(epoch, n_epochs)
    if not (isinstance(value, Real) and 0 <= value < math.inf):
        raise ValueError(
            "A penalty_schedule must return a factor of at least 0 for "
            f"(epoch, n_epochs) = ({epoch}, {n_epochs}); got {value!r}."
        )
    return float(value)
