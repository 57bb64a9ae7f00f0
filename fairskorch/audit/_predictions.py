"""Asking a classifier: labels, scores where they are wanted, groups where needed."""

import inspect
from typing import NamedTuple

import numpy as np
from sklearn.pipeline import Pipeline


class Predictions(NamedTuple):
    """What a classifier says of the rows of one split.

    Attributes
    ----------
    labels : array-like of shape (n_samples,)
    scores : ndarray of shape (n_samples, n_classes) or (n_samples,), or None
        Probabilities; one dimension for scores of the positive class.
    classes : list or None
        Labels of the columns; None where they are those of all labels, sorted.
    """

    labels: object
    scores: np.ndarray | None
    classes: list | None


def as_fits(model, parameter="estimator"):
    """Bring one fit, or several, into a list."""
    fits = list(model) if isinstance(model, list | tuple) else [model]
    if not fits:
        raise ValueError(
            f"{parameter} of fairness_report must hold at least one fit; got an empty "
            "list."
        )
    for fit in fits:
        if not isinstance(fit, dict) and not hasattr(fit, "predict"):
            raise ValueError(
                f"{parameter} of fairness_report must have predict, or be a dict of "
                "split name to predictions, or be a list of such; got "
                f"{type(fit).__name__}."
            )
    return [getattr(fit, "best_estimator_", fit) for fit in fits]


def name_of(model, with_parameters):
    """Return what a fit is called: its class, those of all steps of a pipeline."""
    if isinstance(model, dict):
        return "given predictions"
    steps = [s for _, s in model.steps] if isinstance(model, Pipeline) else [model]
    if with_parameters:
        return " + ".join(" ".join(repr(step).split()) for step in steps)
    return " + ".join(type(step).__name__ for step in steps)


def needs_groups(model):
    """Tell whether `predict` has a parameter for groups, as post-processors have."""
    return not isinstance(model, dict) and "sensitive_features" in _parameters(model)


def predictions_of(model, key, split, wants_scores, seed, role="estimator"):
    """Ask a classifier for one split.

    Parameters
    ----------
    model : fitted classifier or dict
    key : str
        Name of the split.
    split : Split
    wants_scores : bool
    seed : int
        For a `predict` that draws.
    role : str
        What messages call it.

    Returns
    -------
    predictions : Predictions
    """
    if isinstance(model, dict):
        return _given(model, key, split, role)
    if split.X is None:
        raise ValueError(
            f"The split {key!r} of fairness_report has X=None, which only a dict of "
            f"predictions can do without; {role} is {type(model).__name__}."
        )
    options, known = {}, _parameters(model)
    if "sensitive_features" in known:
        options["sensitive_features"] = split.given
    if "random_state" in known:
        options["random_state"] = seed
    labels = model.predict(split.X, **options)
    scores = classes = None
    if wants_scores:
        scores, classes = _scores(model, split.X)
    return Predictions(labels, scores, classes)


def _parameters(model):
    """Return the names of the parameters of `predict`, a pipeline's last step's."""
    if isinstance(model, Pipeline):
        model = model.steps[-1][1]
    try:
        return set(inspect.signature(model.predict).parameters)
    except (TypeError, ValueError):
        return set()


def _scores(model, X):
    classes = getattr(model, "classes_", None)
    classes = None if classes is None else np.asarray(classes).tolist()
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(X), dtype=np.float64), classes
    if hasattr(model, "decision_function"):
        scores = np.asarray(model.decision_function(X), dtype=np.float64)
        return (scores, classes) if scores.ndim == 1 else (None, None)
    return None, None


def _given(model, key, split, role):
    if key not in model:
        raise ValueError(
            f"{role} of fairness_report is a dict of predictions of {list(model)}; it "
            f"lacks the split {key!r}."
        )
    found = model[key]
    scores = None
    if isinstance(found, tuple):
        if len(found) != 2:
            raise ValueError(
                f"{role} of fairness_report, split {key!r}, must be labels, or a pair "
                f"of labels and probabilities; got a tuple of {len(found)}."
            )
        found, scores = found
        scores = np.asarray(scores, dtype=np.float64)
    if split.keep is not None:
        found = np.asarray(found)[split.keep]
        scores = None if scores is None else scores[split.keep]
    return Predictions(found, scores, None)


def aligned_scores(predictions, classes, n_rows, owner):
    """Order the columns of scores as the classes of the report.

    Parameters
    ----------
    predictions : Predictions
    classes : list
        Labels of the report.
    n_rows : int
    owner : str
        Who is named in errors.

    Returns
    -------
    scores : ndarray of shape (n_samples, n_classes) or (n_samples,), or None
    """
    scores = predictions.scores
    if scores is None:
        return None
    expected = f"({n_rows},) or ({n_rows}, {len(classes)})"
    if len(scores) != n_rows or scores.ndim > 2:
        raise ValueError(
            f"Probabilities of {owner} must have the shape {expected}; got "
            f"{scores.shape}."
        )
    if not np.isfinite(scores).all():
        raise ValueError(
            f"Probabilities of {owner} must be finite; got NaN or infinity."
        )
    if scores.ndim == 1:
        if predictions.classes is None and scores.min() >= 0 and scores.max() <= 1:
            # Given by hand: the probability of the larger of two labels.
            if len(classes) != 2:
                raise ValueError(
                    f"Probabilities of {owner} must have the shape "
                    f"({n_rows}, {len(classes)}); got {scores.shape}."
                )
            return np.stack([1 - scores, scores], axis=1)
        return scores
    own = classes if predictions.classes is None else predictions.classes
    if scores.shape[1] != len(own):
        raise ValueError(
            f"Probabilities of {owner} must have the shape {expected}, one column for "
            f"each of the labels {own}; got {scores.shape}."
        )
    if scores.min() < 0 or scores.max() > 1 + 1e-6:
        raise ValueError(
            f"Probabilities of {owner} must be in [0, 1]; got values from "
            f"{scores.min():g} to {scores.max():g}."
        )
    # A label that the classifier does not know has no chance.
    found = np.zeros((n_rows, len(classes)))
    for column, label in enumerate(own):
        if label in classes:
            found[:, classes.index(label)] = scores[:, column]
    return found
