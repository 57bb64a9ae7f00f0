"""Collect the forms of some constraints: `fairskorch.constraints._forms` uses them."""

import numpy as np

from fairskorch.constraints._forms import Forms, pooled


class Columns:
    """Which values of a row are summed: scores of classes, then others.

    Parameters
    ----------
    n_classes : int
    others : tuple of {"loss", "square", "churn"}
        The task loss, the squared error of the score of class 1, and whether the
        prediction differs from a given one.
    """

    def __init__(self, n_classes, others=()):
        self.n_classes = n_classes
        self.n_scores = 1 if n_classes == 2 else n_classes
        self.others = tuple(others)
        self.n_values = self.n_scores + len(self.others)

    def zeros(self):
        """Return no weight on counts and values: ``(n_classes, 1 + n_values)``."""
        return np.zeros((self.n_classes, 1 + self.n_values))

    def predicted(self, c):
        """Return the weights ``(1 + n_values,)`` that sum predictions of a class."""
        weights = np.zeros(1 + self.n_values)
        if self.n_scores > 1:
            weights[1 + c] = 1
        elif c == 1:
            weights[1] = 1
        else:
            weights[:2] = 1, -1
        return weights

    def other(self, name):
        """Return the weights ``(1 + n_values,)`` that sum a value of another kind."""
        weights = np.zeros(1 + self.n_values)
        weights[1 + self.n_scores + self.others.index(name)] = 1
        return weights


class FormsBuilder:
    """Collect the forms of some constraints.

    Parameters
    ----------
    columns : Columns
    groups : sequence
        Group labels in code order.
    classes : sequence
        Class labels in code order.
    counts : ndarray of shape (1 + n_groups, n_classes)
        Training rows by group and class, those of unknown group first.
    seen : ndarray of the same shape
        Rows that the multipliers move on.
    """

    def __init__(self, columns, groups, classes, counts, seen):
        self.columns = columns
        self.groups = list(groups)
        self.classes = list(classes)
        self.counts = (pooled(np.asarray(counts)), pooled(np.asarray(seen)))
        self.n_groups = len(self.groups)
        self.weights, self.bases = [], []
        self.parts = []
        self.labels = []
        self.n_levels = 0
        self.slacks = []

    @property
    def known(self):
        """Place of all rows of known group."""
        return self.n_groups

    @property
    def everyone(self):
        """Place of all rows."""
        return self.n_groups + 1

    def rate(self, weights, base):
        """Add a rate: sums by `weights` over the rows of the classes in `base`.

        Returns
        -------
        rate : int
        """
        self.weights.append(weights)
        self.bases.append(base)
        return len(self.bases) - 1

    def level(self):
        """Add a free level and return its number."""
        self.n_levels += 1
        return self.n_levels - 1

    def present(self, rate, places):
        """Return those places that have rows of a rate, in training and where seen."""
        base = self.bases[rate]
        rows = [counts @ base for counts in self.counts]
        return np.asarray([p for p in places if min(r[p] for r in rows) > 0], int)

    def add(
        self,
        rate,
        places,
        label,
        side,
        factor=1.0,
        other=(0, 0.0),
        level=None,
        slope=0.0,
        constant=0.0,
    ):
        """Add a form for each of some places.

        Parameters
        ----------
        rate : int
        places : array of int
        label : tuple
            Name of constraint, of rate and of class.
        side : {"above", "below"}
            Which way the rate would leave its bound.
        factor : float
        other : (int, float)
            A second place of the same rate, and its factor.
        level : int, optional
        slope, constant : float
        """
        for place in places:
            group = self.groups[place] if place < self.n_groups else "all"
            self.labels.append((*label, group, side))
            self.parts.append(
                (place, factor, *other, rate, level or 0, slope, constant)
            )

    def build(self):
        """Return the forms.

        Returns
        -------
        forms : Forms
        """
        return Forms(self)
