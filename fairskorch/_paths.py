"""What searches over penalty weights share: weights, folds, the path, the choice."""

from numbers import Integral

import numpy as np
import pandas as pd
import sklearn
from sklearn.metrics import check_scoring
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, check_cv

from fairskorch import _settings
from fairskorch._candidates import is_group_metric, standard_error
from fairskorch._names import did_you_mean
from fairskorch._rules import SelectionRule, as_rule
from fairskorch._validation import InvalidParameterError
from fairskorch.metrics import METRICS

#: Smallest and largest positive weight that is tried by default.
WEIGHT_RANGE = (1e-2, 1e1)

#: What a path holds beside the metrics that compare groups.
ALWAYS = ("score", "loss", "penalty", "accuracy", "balanced_accuracy")


def pick_weights(owner, penalty, given):
    """Return the penalty weights of a search; a number asks for so many."""
    if isinstance(given, Integral):
        kind = _settings.find_penalty(owner, penalty, 0)
        top = min(WEIGHT_RANGE[1], kind.max_weight)
        positive = np.geomspace(WEIGHT_RANGE[0], top, given - 1)
        return np.concatenate([[0.0], positive])
    weights = np.asarray(given, dtype=float)
    if weights.ndim != 1 or not len(weights) or not (weights >= 0).all():
        raise InvalidParameterError(
            f"The 'penalty_weights' parameter of {owner} must be a number of weights "
            f"or weights of at least 0. Got {given!r} instead."
        )
    return weights


def rule_metrics(owner, refit):
    """Return the metrics of groups that a rule reads; a wrong name is refused."""
    rule = as_rule(refit)
    if not isinstance(rule, SelectionRule):
        return []
    for name in rule.names:
        if name not in ALWAYS and name not in METRICS:
            raise ValueError(
                f"refit of {owner} is {rule!r}, and path_ has no score {name!r}."
                f"{did_you_mean(name, [*ALWAYS, *METRICS])}"
            )
    return [name for name in rule.names if is_group_metric(name)]


def split_folds(owner, cv, cells, index, y, subjects=None):
    """Return numbers of training and held-out rows, by fold.

    Parameters
    ----------
    owner : str
    cv : int, splitter or iterable
        A number of folds have the same share of every cell.
    cells : ndarray of shape (n_rows,)
        Cell of group and class of the rows that may be trained on.
    index : ndarray of shape (n_rows,)
        Their numbers among all rows, to which other folds refer.
    y : ndarray
        Classes of all rows.
    subjects : ndarray, optional
        Whom each of all rows shows.
    """
    if isinstance(cv, Integral):
        if subjects is None:
            return list(StratifiedKFold(cv).split(cells, cells))
        return list(StratifiedGroupKFold(cv).split(cells, cells, subjects[index]))
    splitter = check_cv(cv, y, classifier=True)
    folds = [
        tuple(np.flatnonzero(np.isin(index, part)) for part in fold)
        for fold in splitter.split(
            np.zeros(len(y)), y, subjects if uses_groups(cv) else None
        )
    ]
    if not all(len(train) and len(test) for train, test in folds):
        raise ValueError(
            f"A fold of cv of {owner} has no row to train on or none to score: "
            f"{len(index)} of the {len(y)} rows are fitted on."
        )
    if subjects is not None:
        shown = subjects[index]
        if any(np.isin(shown[test], shown[train]).any() for train, test in folds):
            raise ValueError(
                f"A fold of cv of {owner} has rows of one subject on both sides; use a "
                "number of folds, or a splitter such as GroupKFold."
            )
    return folds


def uses_groups(cv):
    """Tell whether a splitter asks for whom it is to keep together."""
    if not hasattr(cv, "get_metadata_routing"):
        return False
    return bool(cv.get_metadata_routing().split.requests.get("groups"))


def held_out_score(estimator, scoring, X, y, groups):
    """Score an estimator, with the groups where the scorer asks for them."""
    scorer = check_scoring(estimator, scoring)
    given = {"sensitive_features": groups} if _requests_groups(scorer) else {}
    # Without routing scikit-learn would keep the groups from the scorer.
    with sklearn.config_context(enable_metadata_routing=bool(given)):
        return scorer(estimator, X, y, **given)


def _requests_groups(scorer):
    if not hasattr(scorer, "get_metadata_routing"):
        return False
    requests = scorer.get_metadata_routing().score.requests
    return bool(requests.get("sensitive_features"))


def path_frame(weights, train, valid, scores):
    """Return the path as a DataFrame, one row a weight.

    Parameters
    ----------
    weights : ndarray of shape (n_weights,)
    train, valid : dict of str to ndarray of shape (n_folds, n_weights)
    scores : ndarray of shape (n_folds, n_weights)
    """
    columns = {"penalty_weight": weights}
    columns |= {f"train_{name}": values.mean(0) for name, values in train.items()}
    valid = {**valid, "score": scores}
    columns |= {f"valid_{name}": values.mean(0) for name, values in valid.items()}
    columns |= {
        f"valid_{name}_se": standard_error(values, axis=0)
        for name, values in valid.items()
    }
    columns |= {
        f"overfit_{name}": (valid[name] - train[name]).mean(0)
        for name in train
        if name not in ("loss", "penalty")
    }
    return pd.DataFrame(columns)


def choose_row(owner, refit, path):
    """Return the position of the weight that is taken."""
    chosen = as_rule(refit)(path)
    if not isinstance(chosen, Integral) or not 0 <= chosen < len(path):
        raise ValueError(
            f"refit of {owner} must return the position of a row of path_, 0 to "
            f"{len(path) - 1}; got {chosen!r}."
        )
    return int(chosen)
