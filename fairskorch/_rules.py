"""Rules that choose one of several candidates; `fairskorch.selection` makes them."""

import warnings
from numbers import Real

import numpy as np

from fairskorch._candidates import DIGITS, ROUNDING, Candidates, dominated
from fairskorch.exceptions import InfeasibleWarning


class SelectionRule:
    """Base of the rules: a callable that chooses one of several candidates.

    A rule is made by one of the functions of this module. It is given as ``refit`` to
    `sklearn.model_selection.GridSearchCV`, `~fairskorch.FairLastLayerClassifierCV` and
    so on, or called by hand.

    Parameters
    ----------
    metric : str or None
        Score that compares groups.
    accuracy : str or None
        Score that is to be large.
    one_standard_error : bool
        Whether differences within one standard error count as none.

    Examples
    --------
    >>> from fairskorch.selection import SelectionRule, fairest_within
    >>> rule = fairest_within(accuracy_drop=0.02)
    >>> isinstance(rule, SelectionRule)
    True
    >>> rule({"mean_test_accuracy": [0.90, 0.89], "mean_test_gap": [-0.20, -0.04]})
    1
    """

    def __init__(self, metric, accuracy, one_standard_error):
        for name, value in (("metric", metric), ("accuracy", accuracy)):
            if value is not None and not isinstance(value, str):
                raise TypeError(
                    f"{name} of {self._made_by} must be the name of a score; got "
                    f"{value!r}."
                )
        self.metric = metric
        self.accuracy = accuracy
        self.one_standard_error = bool(one_standard_error)

    def __call__(self, results):
        """Return the position of the candidate that is chosen.

        Parameters
        ----------
        results : dict or DataFrame
            `cv_results_`, `path_` or `history_`.

        Returns
        -------
        position : int

        Raises
        ------
        ValueError
            When a score is not there, or nan for every candidate.

        Warns
        -----
        InfeasibleWarning
            When no candidate keeps the bound; the one that is nearest was chosen.
        """
        position, problem = self._select(results)
        if problem:
            warnings.warn(problem, InfeasibleWarning, stacklevel=2)
        return position

    def choose(self, results):
        """Return the same position as a call, without a warning.

        For who chooses again and again, as after each epoch.

        Parameters
        ----------
        results : dict or DataFrame
            `cv_results_`, `path_` or `history_`.

        Returns
        -------
        position : int
        """
        return self._select(results)[0]

    @property
    def names(self):
        """Names of scores that the rule was told to read, a list of str."""
        return [n for n in (self.metric, self.accuracy) if n is not None]

    def __repr__(self):
        return f"{self._made_by}({', '.join(self._arguments())})"

    def _arguments(self):
        for name in ("metric", "accuracy"):
            if getattr(self, name) is not None:
                yield f"{name}={getattr(self, name)!r}"
        if self.one_standard_error:
            yield "one_standard_error=True"

    def _select(self, results):
        """Return a position and, where it breaks the rule, a sentence that says so."""
        candidates = Candidates(results)
        accuracy = candidates.accuracy(self.accuracy)
        metric = candidates.metric(self.metric, accuracy)
        known = np.isfinite(accuracy.value) & np.isfinite(metric.value)
        if not known.any():
            raise ValueError(
                f"{self!r} has nothing to choose from: {accuracy.name!r} or "
                f"{metric.name!r} is nan in a fold of every candidate. Use fewer "
                "folds, or folds with the same share of each group and class."
            )
        if self.one_standard_error and not np.isfinite(accuracy.error[known]).all():
            raise ValueError(
                f"{self!r} needs the scores of at least two folds; these candidates "
                "have one each."
            )
        return self._pick(candidates, accuracy, metric, known)

    def _first(self, candidates, quality, error, allowed, other=None):
        """Return the best candidate; of equal ones that of the smallest weight.

        Those that are exactly equal are told apart by the other score first: the
        smaller weight among them might be worse in it.
        """
        ranked = np.where(allowed, quality, -np.inf)
        best = int(ranked.argmax())
        slack = error[best] if self.one_standard_error else 0.0
        tied = np.flatnonzero(ranked >= ranked[best] - slack - ROUNDING)
        keys = [candidates.weights()[tied]]
        if other is not None and not self.one_standard_error:
            keys.append(-other[tied].round(DIGITS))
        return int(tied[np.lexsort(keys)[0]])


class MostAccurateWithin(SelectionRule):
    _made_by = "most_accurate_within"

    def __init__(self, metric, bound, accuracy, one_standard_error):
        super().__init__(metric, accuracy, one_standard_error)
        self.bound = _number(self._made_by, "bound", bound)

    def _arguments(self):
        first, *others = super()._arguments()
        yield from (first.partition("=")[2], repr(self.bound), *others)

    def _pick(self, candidates, accuracy, metric, known):
        slack = metric.error if self.one_standard_error else 0.0
        quality = np.where(known, metric.quality - slack, -np.inf)
        allowed = quality >= metric.sign * self.bound - ROUNDING
        if allowed.any():
            scores = accuracy.quality, accuracy.error, allowed, metric.quality
            return self._first(candidates, *scores), None
        scores = quality, np.zeros_like(quality), known, accuracy.quality
        nearest = self._first(candidates, *scores)
        side = "at most" if metric.sign < 0 else "at least"
        spare = " by one standard error" if self.one_standard_error else ""
        return nearest, (
            f"No candidate has a held-out {metric.name} of {side} {self.bound}{spare}; "
            f"the nearest, {metric.value[nearest]:.4g}, was chosen."
        )


class FairestWithin(SelectionRule):
    _made_by = "fairest_within"

    def __init__(self, accuracy_drop, metric, accuracy, one_standard_error):
        super().__init__(metric, accuracy, one_standard_error)
        self.accuracy_drop = _number(self._made_by, "accuracy_drop", accuracy_drop)

    def _arguments(self):
        yield f"accuracy_drop={self.accuracy_drop!r}"
        yield from super()._arguments()

    def _pick(self, candidates, accuracy, metric, known):
        quality = np.where(known, accuracy.quality, -np.inf)
        allowed = quality >= quality.max() - self.accuracy_drop - ROUNDING
        scores = metric.quality, metric.error, allowed, accuracy.quality
        return self._first(candidates, *scores), None


class Knee(SelectionRule):
    _made_by = "knee"

    def _pick(self, candidates, accuracy, metric, known):
        front = known & ~dominated(accuracy, metric)
        height, error = -1.0, 0.0
        for score in (accuracy, metric):
            quality = score.quality
            low, span = quality[front].min(), np.ptp(quality[front])
            # A front of one point, or of equal ones, has no extent.
            span = span if span > 0 else 1.0
            height = height + (quality - low) / span
            error = np.hypot(error, score.error / span)
        return self._first(candidates, height, error, front), None


class DistanceToOptimum(SelectionRule):
    _made_by = "distance_to_optimum"

    def _pick(self, candidates, accuracy, metric, known):
        a, m = (s.quality[known].max() - s.quality for s in (accuracy, metric))
        distance = np.hypot(a, m)
        far = np.where(distance > 0, distance, 1.0)
        error = np.hypot(a * accuracy.error, m * metric.error) / far
        return self._first(candidates, -distance, error, known), None


class _Best(SelectionRule):
    """The best value of one score, as scikit-learn's ``refit`` of a name."""

    _made_by = "refit"

    def __init__(self, name):
        super().__init__(None, name, False)

    def __repr__(self):
        return f"refit={self.accuracy!r}"

    def _select(self, results):
        candidates = Candidates(results)
        score = candidates.score(self.accuracy)
        known = np.isfinite(score.value)
        if not known.any():
            raise ValueError(
                f"{self!r} has nothing to choose from: it is nan in a fold of every "
                "candidate; use fewer folds or another scoring."
            )
        return self._first(candidates, score.quality, score.error, known), None


def as_rule(refit):
    """Return the callable of a `refit`, which may be the name of a score."""
    return _Best(refit) if isinstance(refit, str) else refit


def _number(owner, name, value):
    if not isinstance(value, Real) or not 0 <= value < np.inf:
        raise ValueError(
            f"{name} of {owner} must be a number of at least 0; got {value!r}."
        )
    return value
