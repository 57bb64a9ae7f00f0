import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate

from fairskorch import metrics
from fairskorch.exceptions import InestimableWarning
from fairskorch.metrics import METRICS, fairness_scorer
from fairskorch.penalties import ALIASES

SCALARS = [name for name, metric in METRICS.items() if metric.compare != "overall"]
NAME = "equalized_odds_difference"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    groups = np.where(rng.random(600) < 0.4, "f", "m")
    y = (X[:, 0] + (groups == "m") + rng.normal(size=600) > 0.5).astype(int)
    return X, y, groups


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.parametrize("name", SCALARS)
def test_sign_and_value(name, data, routing):
    X, y, groups = data
    model = LogisticRegression().fit(X, y)
    value = getattr(metrics, name)(y, model.predict(X), sensitive_features=groups)
    sign = -1 if name.endswith("difference") else 1
    found = fairness_scorer(name)(model, X, y, sensitive_features=groups)
    assert found == pytest.approx(sign * value, abs=1e-15)


def test_keyword_arguments_reach_the_metric(data, routing):
    X, y, groups = data
    model = LogisticRegression().fit(X, y)
    scorer = fairness_scorer(NAME, agg="mean", pos_label=0)
    expected = -metrics.equalized_odds_difference(
        y, model.predict(X), sensitive_features=groups, agg="mean", pos_label=0
    )
    assert scorer(model, X, y, sensitive_features=groups) == expected


@pytest.mark.parametrize("enabled", [False, True])
def test_built_under_any_configuration(enabled, data):
    with sklearn.config_context(enable_metadata_routing=enabled):
        scorer = fairness_scorer(NAME)
        assert sklearn.get_config()["enable_metadata_routing"] is enabled
    with sklearn.config_context(enable_metadata_routing=True):
        request = scorer.get_metadata_routing().score.requests
    assert request == {"sensitive_features": True}


def test_cross_validate_on_train_and_held_out_rows(data, routing):
    X, y, groups = data
    result = cross_validate(
        LogisticRegression(),
        X,
        y,
        cv=3,
        n_jobs=2,
        return_train_score=True,
        return_estimator=True,
        return_indices=True,
        scoring={"gap": fairness_scorer(NAME), "accuracy": "accuracy"},
        params={"sensitive_features": groups},
    )
    for side in ("train", "test"):
        expected = [
            -metrics.equalized_odds_difference(
                y[rows], model.predict(X[rows]), sensitive_features=groups[rows]
            )
            for model, rows in zip(
                result["estimator"], result["indices"][side], strict=True
            )
        ]
        np.testing.assert_allclose(result[f"{side}_gap"], expected, atol=1e-15)


def test_grid_search_chooses_by_it(data, routing):
    X, y, groups = data
    search = GridSearchCV(
        LogisticRegression(),
        {"C": [1e-3, 1.0]},
        cv=3,
        n_jobs=2,
        scoring=fairness_scorer(NAME),
        return_train_score=True,
    ).fit(X, y, sensitive_features=groups)
    scores = search.cv_results_["mean_test_score"]
    assert (scores <= 0).all()
    assert np.isfinite(search.cv_results_["mean_train_score"]).all()
    assert search.best_index_ == scores.argmax()
    assert clone(search).scoring is not None


def test_sample_weight_can_be_requested_too(data, routing):
    X, y, groups = data
    weight = np.random.default_rng(0).random(len(y))
    model = LogisticRegression().fit(X, y)
    scorer = fairness_scorer(NAME).set_score_request(
        sensitive_features=True, sample_weight=True
    )
    found = scorer(model, X, y, sensitive_features=groups, sample_weight=weight)
    assert found == -metrics.equalized_odds_difference(
        y, model.predict(X), sensitive_features=groups, sample_weight=weight
    )


def test_copies(data, routing):
    X, y, groups = data
    model = LogisticRegression().fit(X, y)
    scorer = fairness_scorer(NAME, agg="mean")
    expected = scorer(model, X, y, sensitive_features=groups)
    for copy in (pickle.loads(pickle.dumps(scorer)), clone(scorer, safe=False)):
        assert copy(model, X, y, sensitive_features=groups) == expected
        assert repr(copy) == repr(scorer)
    assert NAME in repr(scorer)
    assert "agg=mean" in repr(scorer)
    assert "0x" not in repr(scorer)


def test_without_groups_it_says_what_to_do(data):
    X, y, _ = data
    model = LogisticRegression().fit(X, y)
    with pytest.raises(ValueError, match="enable_metadata_routing=True.*params="):
        fairness_scorer(NAME)(model, X, y)
    with pytest.raises(ValueError, match="was called without groups"):
        cross_validate(
            LogisticRegression(),
            X,
            y,
            cv=2,
            scoring=fairness_scorer(NAME),
            error_score="raise",
        )


def test_a_split_that_cannot_be_scored_is_nan(data, routing):
    X, y, _ = data
    model = LogisticRegression().fit(X, y)
    with pytest.warns(InestimableWarning, match="only the group"):
        found = fairness_scorer(NAME)(model, X, y, sensitive_features=[0] * len(y))
    assert np.isnan(found)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("equalised_odds_difference", f"Did you mean '{NAME}'"),
        ("acuracy_difference", "Did you mean 'accuracy_difference'"),
        ("accuracy", "Unknown metric of fairness_scorer 'accuracy'"),
        (None, "Known are"),
    ],
)
def test_unknown_name(name, message):
    with pytest.raises(ValueError, match=message):
        fairness_scorer(name)


@pytest.mark.parametrize("alias", sorted(ALIASES.keys() - {"mindiff"}))
def test_the_name_of_a_penalty_suggests_its_metric(alias):
    kind = ALIASES[alias]
    for name in (alias, kind.__name__):
        with pytest.raises(ValueError, match=f"Did you mean '{kind.metric}'"):
            fairness_scorer(name)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        (NAME, {"aggregate": "mean"}, "takes agg, pos_label; got aggregate"),
        ("worst_group_accuracy", {"agg": "mean"}, "no further argument; got agg"),
        (NAME, {"sensitive_features": [0]}, "got sensitive_features"),
        (NAME, {"sample_weight": [0]}, "got sample_weight"),
    ],
)
def test_unknown_argument(name, kwargs, message):
    with pytest.raises(TypeError, match=message):
        fairness_scorer(name, **kwargs)
