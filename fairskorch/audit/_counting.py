"""Counts of one split, one way of grouping and one fit."""

from functools import cached_property

import numpy as np
import torch

from fairskorch.intervals import design_effects
from fairskorch.intervals._subjects import shared_error
from fairskorch.metrics import METRICS
from fairskorch.rates import confusion_statistics


class Counts:
    """Rows of a split, counted by group, true and predicted class.

    Parameters
    ----------
    true, predicted, groups : ndarray of shape (n_samples,), int64
        Codes; -1 for an unknown group.
    sizes : tuple (n_groups, n_classes)
    subjects : ndarray of shape (n_samples,), int64, or None
    """

    def __init__(self, true, predicted, groups, sizes, subjects):
        self.true, self.predicted, self.groups = true, predicted, groups
        self.n_groups, self.n_classes = sizes
        self.subjects = subjects
        self._effects = {}

    @cached_property
    def statistic(self):
        """Counts by group, true class and predicted class, as a statistic."""
        codes = map(torch.from_numpy, (self.true, self.predicted, self.groups))
        return confusion_statistics(*codes, self.n_groups, self.n_classes)

    @cached_property
    def everyone(self):
        """The same of all rows as one group, those of unknown group too."""
        n = self.n_classes
        counts = np.bincount(self.true * n + self.predicted, minlength=n * n)
        counts = torch.from_numpy(counts.reshape(1, n, n)).double()
        return torch.cat([counts.sum(-1, keepdim=True), counts], dim=-1)

    def of(self, name):
        """Statistic that a metric is of: accuracies need no group."""
        overall = METRICS[name].compare == "overall"
        return self.everyone if overall else self.statistic

    def joint(self, other, overall=False):
        """Count rows by group, class and the predictions of two classifiers.

        Parameters
        ----------
        other : Counts
            Of the same rows.
        overall : bool
            Whether all rows are one group.

        Returns
        -------
        counts : Tensor of shape (n_groups, n, n, n)
        """
        n = self.n_classes
        # A pair of predictions is one of n * n "predicted classes".
        pair = (self.true * n + self.predicted) * n + other.predicted
        n_groups = 1 if overall else self.n_groups
        cell = pair if overall else (1 + self.groups) * n**3 + pair
        counts = np.bincount(cell, minlength=(n_groups + (not overall)) * n**3)
        counts = torch.from_numpy(counts.reshape(-1, n, n, n)).double()
        return counts if overall else counts[1:]

    def design(self, name, positive, other=None):
        """Design effects of the rates that a metric compares, or None.

        Parameters
        ----------
        name : str
            A metric.
        positive : int or None
            As of `fairskorch.metrics.from_counts`.
        other : Counts, optional
            Of another classifier: then of the differences of rates.

        Returns
        -------
        design : ndarray of shape (n_rates, n_compared_classes, n_groups)
        """
        if self.subjects is None:
            return None
        metric = METRICS[name]
        overall = metric.compare == "overall"
        found = [self.effects(rate, overall, other) for rate in metric.rates]
        if positive is None and self.n_classes == 2:
            positive = 1
        if metric.one_vs_rest and positive is not None:
            found = [x[positive : positive + 1] for x in found]
        found = np.stack(found)
        if overall and "recall" in metric.rates:
            hits = self._hits(None).astype(float)
            if other is not None:
                hits -= other._hits(None)
            found = found * shared_error(hits, self.true, self.subjects, self.n_classes)
        return found

    def effects(self, rate, overall=False, other=None):
        """Design effects of a rate: shape (n_classes, n_groups), or (n_classes, 1)."""
        key = rate, overall, id(other)
        if key not in self._effects:
            groups = np.zeros_like(self.groups) if overall else self.groups
            n_groups = 1 if overall else self.n_groups
            # Accuracy is one rate, whatever the class.
            classes = [None] if rate == "accuracy" else range(self.n_classes)
            self._effects[key] = np.stack(
                [self._effect(rate, c, groups, n_groups, other) for c in classes]
            )
        return self._effects[key]

    def subjects_by_cell(self):
        """Count subjects by group and class: shape (n_groups, n_classes)."""
        known = self.groups >= 0
        cells = (self.groups * self.n_classes + self.true)[known]
        n_cells = self.n_groups * self.n_classes
        pairs = np.unique(self.subjects[known] * n_cells + cells)
        counts = np.bincount(pairs % n_cells, minlength=n_cells)
        return counts.reshape(self.n_groups, self.n_classes)

    def _effect(self, rate, label, groups, n_groups, other):
        hits = self._hits(label)
        if other is not None:
            hits = hits.astype(float) - other._hits(label)
        cells = groups
        if rate in ("true_positive_rate", "recall"):
            cells = np.where(self.true == label, groups, -1)
        elif rate == "false_positive_rate":
            cells = np.where(self.true != label, groups, -1)
        return design_effects(hits, cells, self.subjects, n_groups)

    def _hits(self, label):
        return self.predicted == (self.true if label is None else label)
