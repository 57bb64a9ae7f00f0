"""Choose among candidates by held-out accuracy and gap: Pareto front and rules.

Candidates are the rows of a table: settings of a search (`cv_results_`), weights of a
path (`path_`) or epochs of a fit (`history_`). Only their held-out scores are read,
never those of training rows.
"""

import numpy as np
import pandas as pd

from fairskorch._candidates import Candidates, dominated
from fairskorch._rules import (
    DistanceToOptimum,
    FairestWithin,
    Knee,
    MostAccurateWithin,
    SelectionRule,
)

__all__ = [
    "SelectionRule",
    "distance_to_optimum",
    "fairest_within",
    "knee",
    "most_accurate_within",
    "pareto_front",
]


def most_accurate_within(metric, bound, *, accuracy=None, one_standard_error=False):
    """Make the rule: the most accurate candidate whose gap keeps a bound.

    Parameters
    ----------
    metric : str
        Score that compares groups, by its key in `scoring` or its name in `path_`,
        such as "equalized_odds_difference". A search's scores are negated where they
        are differences (see `fairskorch.metrics.fairness_scorer`); the rule undoes
        that. A key that is no name of `fairskorch.metrics` counts as a negated
        difference if no score is above 0.
    bound : float
        Largest gap that is allowed, on the scale of the metric, at least 0; for a
        ratio or the accuracy of the worst group the smallest value.
    accuracy : str, optional
        Score that is to be large; by default "score", "balanced_accuracy" or
        "accuracy", the first that is there.
    one_standard_error : bool, default=False
        Whether to reckon with the noise of folds: the bound is to be kept with one
        standard error of the mean to spare, and candidates within one standard error
        of the most accurate count as equal to it.

    Returns
    -------
    rule : SelectionRule
        A callable for ``refit``. Candidates with a nan in a fold are not chosen; of
        equal ones the one that is better in the other score is, then that of the
        smallest `penalty_weight`, then the first. Where none keeps the bound it takes
        the one that is nearest and warns
        (`~fairskorch.exceptions.InfeasibleWarning`): a long search should not be lost
        to a narrow bound.

    Raises
    ------
    ValueError
        For a bound that is no number of at least 0.
    TypeError
        For a name that is no string.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairskorch.selection import most_accurate_within
    >>> path = pd.DataFrame({
    ...     "penalty_weight": [0.0, 1.0, 2.0],
    ...     "valid_balanced_accuracy": [0.90, 0.88, 0.84],
    ...     "valid_equalized_odds_difference": [0.20, 0.04, 0.02],
    ... })
    >>> rule = most_accurate_within("equalized_odds_difference", 0.05)
    >>> rule(path)
    1
    """
    if metric is None:
        raise TypeError("metric of most_accurate_within must be the name of a score.")
    return MostAccurateWithin(metric, bound, accuracy, one_standard_error)


def fairest_within(
    accuracy_drop=0.01, *, metric=None, accuracy=None, one_standard_error=False
):
    """Make the rule: the smallest gap among candidates that are accurate enough.

    Parameters
    ----------
    accuracy_drop : float, default=0.01
        How much less than the most accurate candidate is enough, on the scale of the
        score, at least 0.
    metric : str, optional
        Score that compares groups, see `most_accurate_within`; by default the only one
        there is.
    accuracy : str, optional
        Score that is to be large, see `most_accurate_within`.
    one_standard_error : bool, default=False
        Whether candidates within one standard error of the smallest gap count as
        equal to it, so that the one of smallest weight among them is chosen.

    Returns
    -------
    rule : SelectionRule
        A callable for ``refit``; nan and ties as in `most_accurate_within`.

    Raises
    ------
    ValueError
        For a drop that is no number of at least 0.
    TypeError
        For a name that is no string.

    Examples
    --------
    >>> from fairskorch.selection import fairest_within
    >>> rule = fairest_within(accuracy_drop=0.02)
    >>> rule({
    ...     "param_penalty_weight": [0.0, 1.0, 2.0],
    ...     "mean_test_accuracy": [0.90, 0.89, 0.84],
    ...     "mean_test_gap": [-0.20, -0.04, -0.02],
    ... })
    1
    """
    return FairestWithin(accuracy_drop, metric, accuracy, one_standard_error)


def knee(*, metric=None, accuracy=None, one_standard_error=False):
    """Make the rule: the point where the Pareto front bends most.

    Accuracy and gap are scaled to [0, 1] over the front. The knee is the point
    farthest beyond the straight line between the ends of the front: from there on
    either side costs much of the other. A front of one or two points, or a straight
    one, has no knee; the smallest weight on it is taken.

    Parameters
    ----------
    metric : str, optional
        Score that compares groups, see `most_accurate_within`; by default the only one
        there is.
    accuracy : str, optional
        Score that is to be large, see `most_accurate_within`.
    one_standard_error : bool, default=False
        Whether points within one standard error of the farthest count as equal to it,
        so that the one of smallest weight among them is chosen.

    Returns
    -------
    rule : SelectionRule
        A callable for ``refit``; nan and ties as in `most_accurate_within`.

    Raises
    ------
    TypeError
        For a name that is no string.

    Examples
    --------
    >>> from fairskorch.selection import knee
    >>> knee()({
    ...     "mean_test_accuracy": [0.90, 0.89, 0.80],
    ...     "mean_test_gap": [-0.20, -0.04, -0.02],
    ... })
    1
    """
    return Knee(metric, accuracy, one_standard_error)


def distance_to_optimum(*, metric=None, accuracy=None, one_standard_error=False):
    """Make the rule: the candidate nearest to the best of both scores.

    The optimum has the largest accuracy and the smallest gap that any candidate has;
    the distance to it is Euclidean, on the scales of the scores themselves, so that a
    point of accuracy counts as much as a point of gap.

    Parameters
    ----------
    metric : str, optional
        Score that compares groups, see `most_accurate_within`; by default the only one
        there is.
    accuracy : str, optional
        Score that is to be large, see `most_accurate_within`.
    one_standard_error : bool, default=False
        Whether candidates within one standard error of the nearest count as equal to
        it, so that the one of smallest weight among them is chosen.

    Returns
    -------
    rule : SelectionRule
        A callable for ``refit``; nan and ties as in `most_accurate_within`.

    Raises
    ------
    TypeError
        For a name that is no string.

    Examples
    --------
    >>> from fairskorch.selection import distance_to_optimum
    >>> distance_to_optimum()({
    ...     "mean_test_accuracy": [0.90, 0.89, 0.80],
    ...     "mean_test_gap": [-0.20, -0.04, -0.02],
    ... })
    1
    """
    return DistanceToOptimum(metric, accuracy, one_standard_error)


def pareto_front(results, metric=None, *, accuracy=None):
    """Return the candidates that no other one beats in accuracy and gap at once.

    Parameters
    ----------
    results : dict or DataFrame
        `cv_results_` of a search, `path_` or `history_`. Held-out scores are read.
    metric : str or list of str, optional
        Scores that compare groups, see `most_accurate_within`; by default the only one
        there is.
    accuracy : str, optional
        Score that is to be large, see `most_accurate_within`.

    Returns
    -------
    front : DataFrame
        One row a candidate, its index the position in `results`, from the smallest gap
        to the most accurate. Columns are the settings (``penalty_weight``,
        ``param_...`` or ``epoch``), the scores in their own units (differences not
        negated), and ``<score>_se``, the standard error of the mean over folds.
        Candidates with a nan are left out, equal ones all kept.

    Raises
    ------
    ValueError
        When a score is not there, or nan for every candidate.

    Examples
    --------
    >>> from fairskorch.selection import pareto_front
    >>> front = pareto_front({
    ...     "param_penalty_weight": [0.0, 0.5, 1.0, 2.0],
    ...     "mean_test_accuracy": [0.90, 0.86, 0.88, 0.80],
    ...     "mean_test_gap": [-0.20, -0.10, -0.04, -0.02],
    ... })
    >>> front.drop(columns=["accuracy_se", "gap_se"])
       param_penalty_weight  accuracy   gap
    3                   2.0      0.80  0.02
    2                   1.0      0.88  0.04
    0                   0.0      0.90  0.20
    """
    candidates = Candidates(results)
    first = candidates.accuracy(accuracy)
    names = [metric] if metric is None or isinstance(metric, str) else list(metric)
    scores = [first, *(candidates.metric(name, first) for name in names)]
    known = np.isfinite([score.value for score in scores]).all(0)
    if not known.any():
        raise ValueError(
            f"There is no front: of {[s.name for s in scores]} one is nan in a fold of "
            "every candidate."
        )
    columns = {str(c): candidates.frame[c].to_numpy() for c in candidates.settings}
    columns |= {score.name: score.value for score in scores}
    columns |= {f"{score.name}_se": score.error for score in scores}
    front = pd.DataFrame(columns)[known & ~dominated(*scores)]
    order = [score.quality[front.index] for score in scores]
    return front.iloc[np.lexsort((-order[0], *(-o for o in order[:0:-1])))]
