"""What each name of a constraint means: which rates, which bound."""

from typing import NamedTuple

import numpy as np


class Measure(NamedTuple):
    """A constraint as its user sees it: one number and its bound.

    Attributes
    ----------
    name : str
    bound : float
    kind : str
        How rates become the number, see `fairskorch.constraints._measures`.
    rates : list of (int, ndarray of int)
        Rates and the places that they are compared at.
    """

    name: str
    bound: float
    kind: str
    rates: list


class Gap:
    """The largest minus the smallest rate of a group is bounded from above.

    Parameters
    ----------
    name : str
    rates : tuple of str
        Names of rates, of every compared class or, for "loss", of none.
    relative : bool, default=False
        Whether one minus the ratio of the smallest to the largest is bounded.
    """

    needs_groups = True
    largest = 1.0

    def __init__(self, name, rates, relative=False):
        self.name = name
        self.rates = rates
        self.relative = relative
        self.others = ("loss",) if "loss" in rates else ()
        if "loss" in rates:
            self.largest = np.inf

    def add_to(self, builder, bound):
        """Add two forms for each rate and group; return the `Measure`."""
        compared = []
        for label, rate in add_rates(builder, self.rates):
            places = builder.present(rate, range(builder.n_groups))
            level = builder.level()
            half = 0.0 if self.relative else bound / 2
            share = 1 - bound if self.relative else 1.0
            common = {"rate": rate, "places": places, "label": (self.name, *label)}
            common["level"] = level
            builder.add(**common, side="above", slope=-1.0, constant=-half)
            builder.add(
                **common, side="below", factor=-1.0, slope=share, constant=-half
            )
            compared.append((rate, places))
        kind = "ratio" if self.relative else "gap"
        return Measure(self.name, bound, kind, compared)


class Worst:
    """The largest mean loss or error rate of a group is bounded from above."""

    needs_groups = True
    largest = np.inf

    def __init__(self, name, value):
        self.name = name
        self.value = value
        self.others = () if value == "error" else (value,)

    def add_to(self, builder, bound):
        """Add a form for each group; return the `Measure`."""
        ((label, rate),) = add_rates(builder, (self.value,))
        places = builder.present(rate, range(builder.n_groups))
        builder.add(rate, places, (self.name, *label), "above", constant=-bound)
        return Measure(self.name, bound, "largest", [(rate, places)])


class Moment:
    """A moment of fairlearn: each group against all rows of known group."""

    needs_groups = True
    largest = np.inf

    def __init__(self, name, rates, ratio, slack):
        self.name = name
        self.rates = rates
        self.ratio = ratio
        self.slack = slack
        self.others = ()

    def add_to(self, builder, bound):
        """Add two forms for each rate and group; the moment has its own bound."""
        compared = []
        for label, rate in add_rates(builder, self.rates):
            places = builder.present(rate, range(builder.n_groups))
            common = {"rate": rate, "places": places, "label": (self.name, *label)}
            common["constant"] = -self.slack
            known = builder.known
            builder.add(**common, side="above", factor=self.ratio, other=(known, -1.0))
            builder.add(**common, side="below", factor=-1.0, other=(known, self.ratio))
            compared.append((rate, places))
        kind = "difference" if self.ratio == 1 else f"ratio {self.ratio!r}"
        return Measure(self.name, self.slack, kind, compared)


class BoundedWorst(Worst):
    """A worst group's loss whose bound a moment of fairlearn brings."""

    def __init__(self, name, value, upper_bound):
        super().__init__(name, value)
        self.upper_bound = upper_bound

    def add_to(self, builder, bound):
        """Add a form for each group; the moment has its own bound."""
        return super().add_to(builder, self.upper_bound)


class Overall:
    """A constraint on all rows, whatever their group."""

    needs_groups = False
    largest = 1.0
    others: tuple = ()

    def __repr__(self):
        return f"{type(self).__name__}()"

    def __eq__(self, other):
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self):
        return hash(type(self))


class FMeasure(Overall):
    r"""The F-measure is at least the bound.

    .. math:: F = \frac{2\,TP}{2\,TP + FP + FN} \ge b

    over all rows, of known group or not; in [0, 1], 1 for predictions without an
    error. For two classes it is that of class ``classes_[1]``, for more each class's
    against the rest. It is no comparison of groups, so it is best put beside one:
    ``constraint=["eo", FMeasure()], bound=[0.05, 0.6]``. As ``2 TP - b (2 TP + FP +
    FN)`` is linear in counts, it needs no player of slack. It is one of the non-convex
    constraints of [1]_.

    References
    ----------
    .. [1] Chen, Wang, Kolar. Provably Training Overparameterized Neural Network
       Classifiers with Non-convex Constraints. Electronic Journal of Statistics
       16(2), 2022. arXiv:2012.15274.

    Examples
    --------
    >>> from fairskorch import FairConstrainedClassifier
    >>> from fairskorch.constraints import FMeasure
    >>> FairConstrainedClassifier(constraint=FMeasure(), bound=0.6)
    FairConstrainedClassifier(bound=0.6, constraint=FMeasure())
    """

    name = "f_measure"

    def add_to(self, builder, bound):
        """Add a form for each compared class; return the `Measure`."""
        columns, everyone = builder.columns, [builder.everyone]
        measured = []
        for c in compared_classes(builder):
            own = np.eye(columns.n_classes)[c]
            weights = bound * np.tile(columns.predicted(c), (columns.n_classes, 1))
            weights[c, 0] += bound
            weights[c] -= 2 * columns.predicted(c)
            rate = builder.rate(weights, own)
            label = (self.name, "shortfall", builder.classes[c])
            builder.add(rate, everyone, label, "below")
            hits = builder.rate(own[:, None] * columns.predicted(c), own)
            said = np.tile(columns.predicted(c), (columns.n_classes, 1))
            measured += [(hits, everyone), (builder.rate(said, own), everyone)]
        return Measure(self.name, bound, "f", measured)


class GMean(Overall):
    r"""The geometric mean of all classes' recalls is at least the bound.

    .. math:: \left(\prod_c P(\hat Y = c \mid Y = c)\right)^{1/C} \ge b

    over all rows; in [0, 1], 1 for predictions without an error, and 0 where a class
    is never found, however rare it is; one of the non-convex constraints of [1]_. It
    is no linear function of rates, so a third player, of slack, chooses what recall
    each class owes: the cheapest numbers :math:`\xi_c` at the multipliers of the
    moment, with :math:`\prod_c \xi_c \ge b^C`.

    References
    ----------
    .. [1] Chen, Wang, Kolar. Provably Training Overparameterized Neural Network
       Classifiers with Non-convex Constraints. Electronic Journal of Statistics
       16(2), 2022. arXiv:2012.15274.

    Examples
    --------
    >>> from fairskorch import FairConstrainedClassifier
    >>> from fairskorch.constraints import GMean
    >>> FairConstrainedClassifier(constraint=GMean(), bound=0.7)
    FairConstrainedClassifier(bound=0.7, constraint=GMean())
    """

    name = "g_mean"

    def add_to(self, builder, bound):
        """Add a form and a level of slack for each class; return the `Measure`."""
        columns, everyone = builder.columns, [builder.everyone]
        numbers, forms, measured = [], [], []
        for c in range(columns.n_classes):
            own = np.eye(columns.n_classes)[c]
            rate = builder.rate(own[:, None] * columns.predicted(c), own)
            if not len(builder.present(rate, everyone)):
                continue
            numbers.append(builder.level())
            forms.append(len(builder.parts))
            label = (self.name, "recall", builder.classes[c])
            common = {"factor": -1.0, "level": numbers[-1], "slope": 1.0}
            builder.add(rate, everyone, label, "below", **common)
            measured.append((rate, everyone))
        builder.slacks.append((numbers, forms, max(bound, 1e-6) ** len(numbers)))
        return Measure(self.name, bound, "g", measured)


class Churn(Overall):
    r"""The share of rows predicted otherwise than before is at most the bound.

    .. math:: P(\hat Y(X) \ne \hat Y_0(X)) \le b

    over all rows, with :math:`\hat Y_0` the predictions of a given classifier; in
    [0, 1], 0 for the same prediction of every row. It is one of the constraints of
    [1]_.

    Parameters
    ----------
    classifier : object
        A fitted classifier, whose `predict` takes X as it is given to `fit` and
        returns labels among those of `y`. It is asked once, and is not changed.

    References
    ----------
    .. [1] Chen, Wang, Kolar. Provably Training Overparameterized Neural Network
       Classifiers with Non-convex Constraints. Electronic Journal of Statistics
       16(2), 2022. arXiv:2012.15274.

    Examples
    --------
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.linear_model import LogisticRegression
    >>> from fairskorch import FairConstrainedClassifier
    >>> from fairskorch.constraints import Churn
    >>> before = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    >>> clf = FairConstrainedClassifier(
    ...     constraint=["eo", Churn(FrozenEstimator(before))], bound=[0.05, 0.1]
    ... )
    """

    name = "churn"
    others = ("churn",)

    def __init__(self, classifier):
        self.classifier = classifier

    def __repr__(self):
        return f"Churn({self.classifier!r})"

    def __hash__(self):
        return hash(type(self))

    def add_to(self, builder, bound):
        """Add one form; return the `Measure`."""
        columns, everyone = builder.columns, [builder.everyone]
        weights = np.tile(columns.other("churn"), (columns.n_classes, 1))
        rate = builder.rate(weights, np.ones(columns.n_classes))
        label = (self.name, "churn", "all")
        builder.add(rate, everyone, label, "above", constant=-bound)
        return Measure(self.name, bound, "largest", [(rate, everyone)])


#: The constraints with short names.
ALIASES = {
    "ae": Gap("ae", ("loss",)),
    "di": Gap("di", ("selection_rate",), relative=True),
    "dp": Gap("dp", ("selection_rate",)),
    "eo": Gap("eo", ("true_positive_rate", "false_positive_rate")),
    "eopp": Gap("eopp", ("true_positive_rate",)),
    "mmf": Worst("mmf", "loss"),
}


def compared_classes(builder):
    """Return class 1 of two, or all of more."""
    n_classes = builder.columns.n_classes
    return [1] if n_classes == 2 else list(range(n_classes))


def add_rates(builder, names):
    """Add rates by name; return the label of each, a name and a class, and its number.

    Names are "selection_rate", "true_positive_rate" and "false_positive_rate", each of
    every compared class, and "error", "loss" and "square", which belong to no class.
    """
    columns = builder.columns
    ones = np.ones(columns.n_classes)
    found = []
    for name in names:
        if name == "error":
            wrong = columns.zeros()
            for c in range(columns.n_classes):
                wrong[c, 0] = 1
                wrong[c] -= columns.predicted(c)
            found.append(((name, "all"), builder.rate(wrong, ones)))
        elif name in ("loss", "square"):
            weights = np.tile(columns.other(name), (columns.n_classes, 1))
            found.append(((name, "all"), builder.rate(weights, ones)))
        else:
            for c in compared_classes(builder):
                own = np.eye(columns.n_classes)[c]
                base = {
                    "selection_rate": ones,
                    "true_positive_rate": own,
                    "false_positive_rate": 1 - own,
                }[name]
                rate = builder.rate(base[:, None] * columns.predicted(c), base)
                found.append(((name, builder.classes[c]), rate))
    return found
