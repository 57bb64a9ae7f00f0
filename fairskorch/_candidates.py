"""Held-out scores of candidates, in whatever table they come."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from fairskorch._names import did_you_mean
from fairskorch.metrics import METRICS

#: Scores that stand for accuracy where none is named, the first that is there.
ACCURACIES = ("score", "balanced_accuracy", "accuracy")

#: Further columns of a path or history in which smaller values are better.
SMALLER = ("loss", "penalty")

#: Means over folds that differ by less are equal up to rounding.
DIGITS = 12
ROUNDING = 10.0**-DIGITS


class Score(NamedTuple):
    """A held-out score of all candidates, in its own unit.

    Attributes
    ----------
    name : str
    value : ndarray of shape (n_candidates,)
        Mean over folds, nan where a fold is nan. Differences are not negated.
    sign : {-1, 1}
        -1 where smaller values are better.
    error : ndarray of shape (n_candidates,)
        Standard error of the mean over folds, nan where there is one fold.
    """

    name: str
    value: np.ndarray
    sign: int
    error: np.ndarray

    @property
    def quality(self):
        """Return the values with a sign by which greater is better."""
        return self.sign * self.value


class Candidates:
    """The held-out scores in a table of candidates.

    Parameters
    ----------
    results : dict or DataFrame
        `cv_results_`, `path_` or `history_`.
    """

    def __init__(self, results):
        frame = results if isinstance(results, pd.DataFrame) else None
        if frame is None and isinstance(results, dict):
            frame = pd.DataFrame(results)
        columns = [] if frame is None else [str(c) for c in frame.columns]
        self.frame = frame
        for self.prefix in ("mean_test_", "valid_"):
            names = [c.removeprefix(self.prefix) for c in columns if self._starts(c)]
            self.names = [n for n in names if not n.endswith(("_se", "_best"))]
            if self.names:
                break
        else:
            raise ValueError(
                "A selection rule reads held-out scores: cv_results_ of a search "
                "('mean_test_...'), or path_ or history_ ('valid_...'); got "
                f"{type(results).__name__} without such a column."
            )
        if not len(frame):
            raise ValueError("There is no candidate to choose from: no row of results.")

    def _starts(self, column):
        return column.startswith(self.prefix)

    @property
    def searched(self):
        """Whether the table is that of a search of scikit-learn."""
        return self.prefix == "mean_test_"

    @property
    def settings(self):
        """Columns that tell candidates apart."""
        if self.searched:
            return [c for c in self.frame if str(c).startswith("param_")]
        return [c for c in ("penalty_weight", "epoch") if c in self.frame]

    def weights(self):
        """Return the penalty weights, infinite where unknown; 0 for epochs."""
        none = np.zeros(len(self.frame))
        if "epoch" in self.frame:
            return none
        found = [c for c in self.settings if str(c).endswith("penalty_weight")]
        if len(found) != 1:
            return none
        weights = pd.to_numeric(self.frame[found[0]], errors="coerce")
        return weights.fillna(np.inf).to_numpy(dtype=float)

    def accuracy(self, name):
        """Return the score that is called accuracy."""
        if name is None:
            name = next((n for n in ACCURACIES if n in self.names), None)
        if name is None:
            raise ValueError(
                "Say which score is to be large with accuracy=...: results hold "
                f"{self.names}."
            )
        return self.score(name)

    def metric(self, name, accuracy):
        """Return the score that compares groups."""
        if name is None:
            others = [n for n in self.names if n not in (accuracy.name, *SMALLER)]
            known = [n for n in others if is_group_metric(n)]
            some = known or (others if self.searched else [])
            if len(some) != 1:
                raise ValueError(
                    "Say which score compares groups with metric=...: results hold "
                    f"{self.names}."
                )
            (name,) = some
        return self.score(name)

    def score(self, name):
        """Return the score of a name."""
        if name not in self.names:
            called = " A search calls scores by their keys in scoring."
            raise ValueError(
                f"Results hold no held-out score {name!r}."
                f"{did_you_mean(name, self.names)}{called if self.searched else ''}"
            )
        value = self.frame[self.prefix + name].to_numpy(dtype=float)
        sign = self._sign(name, value)
        if self.searched:
            value = sign * value
            # Adding 0 turns -0.0 into 0.0.
            value = value + 0.0
            folds = self.frame[self._splits(name)].to_numpy(dtype=float)
            error = standard_error(folds, axis=1)
        else:
            column = f"valid_{name}_se"
            error = np.full(len(value), np.nan)
            if column in self.frame:
                error = self.frame[column].to_numpy(dtype=float)
        return Score(name, value, sign, error)

    def train_values(self, score):
        """Return the same score of training rows, None where it is not there."""
        prefix = "mean_train_" if self.searched else "train_"
        if prefix + score.name not in self.frame:
            return None
        value = self.frame[prefix + score.name].to_numpy(dtype=float)
        return score.sign * value + 0.0 if self.searched else value

    def same_in_training(self, score):
        """Return the score, by a name under which training rows have it, too."""
        names = [n for n in self.names if f"train_{n}" in self.frame]
        for other in map(self.score, names):
            if np.array_equal(other.value, score.value, equal_nan=True):
                return other
        return score

    @property
    def n_folds(self):
        """Number of folds, None where the table does not tell."""
        return len(self._splits(self.names[0])) or None

    def _splits(self, name):
        suffix = f"_test_{name}"
        return [
            c
            for c in self.frame
            if str(c).endswith(suffix) and c[5 : -len(suffix)].isdigit()
        ]

    def _sign(self, name, value):
        sign = direction(name)
        if metric_of(name) in METRICS:
            if self.searched and sign < 0 and np.nanmax([*value, -1]) > ROUNDING:
                raise ValueError(
                    f"The scores {name!r} are above 0, so that a search would prefer "
                    f"the largest gap; use fairness_scorer({name!r}), which negates "
                    "differences."
                )
            return sign
        if self.searched:
            return 1 if np.nanmax([*value, -1]) > 0 else -1
        return sign


def metric_of(name):
    """Return the metric of a score; a history has "<metric>_by_<column>", too."""
    return name.partition("_by_")[0]


def direction(name):
    """Return -1 where smaller values of a score are better, 1 where greater are."""
    metric = metric_of(name)
    if metric in METRICS:
        return METRICS[metric].sign
    return -1 if metric in SMALLER else 1


def dominated(*scores):
    """Tell which candidates another one beats: no score worse and one better."""
    quality = np.stack([score.quality for score in scores])
    known = np.isfinite(quality).all(0)
    quality = np.where(known, quality, -np.inf)
    by = quality[:, None, :] - np.where(known, quality, 0)[:, :, None]
    # by[s, i, j]: how much better j is than i.
    return ((by >= 0).all(0) & (by > 0).any(0)).any(1)


def standard_error(folds, axis):
    """Return the standard error of a mean over folds, nan of one fold."""
    n_folds = folds.shape[axis]
    if n_folds < 2:
        return np.full(np.delete(folds.shape, axis), np.nan)
    return folds.std(axis, ddof=1) / np.sqrt(n_folds)


def is_group_metric(name):
    """Tell whether a name is that of a metric that compares groups."""
    return name in METRICS and METRICS[name].compare != "overall"
