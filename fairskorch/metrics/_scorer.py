"""The metrics as scikit-learn scorers that ask for the groups themselves."""

import inspect

import sklearn
from sklearn.metrics import make_scorer

from fairskorch.metrics import _differences, _ratios, _worst
from fairskorch.metrics._counts import METRICS, lookup

__all__ = ["fairness_scorer"]

#: The functions that a scorer can be made of, by name.
FUNCTIONS = {
    name: getattr(module, name)
    for module in (_differences, _ratios, _worst)
    for name in module.__all__
}


class _GroupScore:
    """A metric by name, refusing rows without groups; pickled by that name."""

    def __init__(self, name):
        self.__name__ = name

    def __call__(self, y_true, y_pred, sensitive_features=None, **kwargs):
        if sensitive_features is None:
            raise ValueError(
                f"The scorer of {self.__name__} was called without groups. Call "
                "sklearn.set_config(enable_metadata_routing=True) and pass "
                'params={"sensitive_features": groups} to cross_validate, or '
                "sensitive_features=groups to the fit of a search or to the scorer; "
                f"by hand: {self.__name__}(y, estimator.predict(X), "
                "sensitive_features=groups)."
            )
        metric = FUNCTIONS[self.__name__]
        return metric(y_true, y_pred, sensitive_features=sensitive_features, **kwargs)


def fairness_scorer(name, **kwargs):
    """Make a scikit-learn scorer of a metric that is computed from groups.

    The scorer requests ``sensitive_features``, so that searches and cross-validation
    hand it the groups of each split once metadata routing is enabled. Greater is
    better: differences are negated, ratios and worst accuracies stay.

    Parameters
    ----------
    name : str
        A scalar function of `fairskorch.metrics`, such as
        "equalized_odds_difference".
    **kwargs
        Further arguments of that function, such as ``agg`` or ``pos_label``.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y, sensitive_features=groups)``, with predictions of
        `predict`. It can be built with routing off, copied and pickled, but only
        with routing on does scikit-learn let the groups through. Called without
        groups it raises a ValueError that says what to do.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For an argument that the metric does not take.

    Warns
    -----
    InestimableWarning
        When a split cannot be scored: the score is ``nan``.

    See Also
    --------
    sklearn.metrics.make_scorer : What the result is made with; its
        ``set_score_request`` is there to request ``sample_weight`` too.

    Examples
    --------
    >>> import numpy as np
    >>> import sklearn
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_validate
    >>> from fairskorch.metrics import fairness_scorer
    >>> rng = np.random.RandomState(0)
    >>> X, groups = rng.normal(size=(200, 2)), rng.randint(2, size=200)
    >>> y = (X[:, 0] + groups > 0.5).astype(int)
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     result = cross_validate(
    ...         LogisticRegression(), X, y, cv=2, return_train_score=True,
    ...         scoring={"gap": fairness_scorer("equalized_odds_difference")},
    ...         params={"sensitive_features": groups},
    ...     )
    >>> bool((result["train_gap"] <= 0).all())
    True
    """
    scorable = {key: m for key, m in METRICS.items() if m.compare != "overall"}
    metric = lookup(name, scorable, "metric of fairness_scorer")
    allowed = list(inspect.signature(FUNCTIONS[name]).parameters)[3:]
    unknown = sorted(set(kwargs) - set(allowed) | set(kwargs) & {"sample_weight"})
    if unknown:
        free = [key for key in allowed if key != "sample_weight"]
        raise TypeError(
            f"fairness_scorer({name!r}) takes "
            f"{', '.join(free) if free else 'no further argument'}; got "
            f"{', '.join(unknown)}."
        )
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_scorer(
            _GroupScore(name), greater_is_better=metric.sign > 0, **kwargs
        )
        return scorer.set_score_request(sensitive_features=True)
