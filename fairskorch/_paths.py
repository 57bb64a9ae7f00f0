"""What searches over penalty weights share: weights, folds, the path, the choice."""

import warnings
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
    try:
        weights = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        weights = np.empty(0)  # which is refused with the others
    known = (weights >= 0) & np.isfinite(weights)
    if weights.ndim != 1 or not len(weights) or not known.all():
        raise InvalidParameterError(
            f"The 'penalty_weights' parameter of {owner} must be a number of weights "
            f"or finite weights of at least 0. Got {given!r} instead."
        )
    return weights


def check_search(estimator):
    """Refuse folds and scores of a search that cannot be, before anything is fitted."""
    cv = estimator.cv
    if isinstance(cv, list | tuple) and not cv:
        raise InvalidParameterError(
            f"The 'cv' parameter of {type(estimator).__name__} must be a number of "
            f"folds, a splitter or an iterable of folds. Got {cv!r} instead, without a "
            "fold."
        )
    if estimator.scoring is not None:
        check_scoring(estimator, estimator.scoring)


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


def split_folds(owner, cv, rows, y, subjects=None):
    """Return numbers of training and held-out rows, by fold.

    Parameters
    ----------
    owner : str
    cv : int, splitter or iterable
        A number of folds have the same share of every cell.
    rows : GroupedRows
        Those that may be trained on; their `index`, to which other folds refer, is
        among all rows.
    y : ndarray
        Classes of all rows.
    subjects : ndarray, optional
        Whom each of all rows shows.
    """
    index = rows.index.numpy()
    if isinstance(cv, Integral):
        folds = _equal_folds(owner, cv, rows, subjects)
    else:
        splitter = check_cv(cv, y, classifier=True)
        given = subjects if uses_groups(cv) else None
        folds = [
            tuple(np.flatnonzero(np.isin(index, part)) for part in fold)
            for fold in splitter.split(np.zeros(len(y)), y, given)
        ]
    if not folds:
        raise ValueError(f"cv of {owner} has no fold; got {cv!r}.")
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


def _equal_folds(owner, n_folds, rows, subjects):
    """Divide rows into folds of the same share of every cell."""
    y, groups = rows.y.numpy(), rows.groups.numpy()
    shown = None if subjects is None else subjects[rows.index.numpy()]
    n, what = len(y), "rows"
    if subjects is not None:
        n, what = len(np.unique(shown)), "subjects"
    if n < n_folds:
        raise ValueError(
            f"cv={n_folds} of {owner} asks for more folds than there are {what}, {n}."
        )
    n_classes = int(y.max()) + 1
    cells = (groups + 1) * n_classes + y
    if subjects is not None:
        # At least one of what is shared out must have a row for each fold.
        parts = (cells, y, np.zeros_like(y))
        shared = next(p for p in parts if np.bincount(p).max() >= n_folds)
        with warnings.catch_warnings():
            # It means cells by classes.
            warnings.filterwarnings("ignore", "The least populated class in y")
            return list(StratifiedGroupKFold(n_folds).split(shared, shared, shown))
    fold = np.empty(len(y), dtype=np.int64)
    rare = np.bincount(cells)[cells] < n_folds
    common, others = np.flatnonzero(~rare), np.flatnonzero(rare)
    if len(common):
        parts = StratifiedKFold(n_folds).split(cells[common], cells[common])
        for i, (_, test) in enumerate(parts):
            fold[common[test]] = i
    # Rows of rare cells are dealt out, cell by cell, so that none is in one fold only.
    # The first folds have the odd rows of other cells.
    order = np.lexsort((groups[others], y[others]))
    fold[others[order]] = n_folds - 1 - np.arange(len(others)) % n_folds
    return [
        (np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(n_folds)
    ]


def uses_groups(cv):
    """Tell whether a splitter asks for whom it is to keep together."""
    if not hasattr(cv, "get_metadata_routing"):
        return False
    return bool(cv.get_metadata_routing().split.requests.get("groups"))


def held_out_score(owner, estimator, scoring, X, y, groups):
    """Score an estimator, with the groups where the scorer asks for them."""
    scorer = check_scoring(estimator, scoring)
    given = {"sensitive_features": groups} if _requests_groups(scorer) else {}
    # Without routing scikit-learn would keep the groups from the scorer.
    with sklearn.config_context(enable_metadata_routing=bool(given)):
        score = scorer(estimator, X, y, **given)
    if np.ndim(score) or np.asarray(score).dtype.kind not in "biuf":
        raise ValueError(
            f"scoring of {owner} must return a number; {scorer!r} returned {score!r}."
        )
    return score


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
