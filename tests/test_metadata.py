"""Groups on their way through scikit-learn, with metadata routing on and off."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    RandomizedSearchCV,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.helper import SliceDataset

from fairskorch import FairNeuralClassifier
from fairskorch.metrics import equalized_odds_difference, fairness_scorer

# Two epochs on few rows may well end in one class; that is tested elsewhere.
pytestmark = pytest.mark.filterwarnings(
    "ignore::fairskorch.exceptions.ConstantPredictionWarning"
)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def quick(**params):
    return FairNeuralClassifier(**{"max_epochs": 2, "random_state": 0, **params})


class Recorder(FairNeuralClassifier):
    """Remembers which groups arrived with which rows."""

    def fit(self, X, y=None, groups=None, *, sensitive_features=None):
        self.arrived_ = np.asarray(X)[:, 0], np.asarray(sensitive_features)
        return super().fit(X, y, sensitive_features=sensitive_features)

    __metadata_request__fit = {"groups": sklearn.utils.metadata_routing.UNUSED}


def test_searches_slice_groups_with_their_rows_routing_off(table):
    X, y, groups = table
    codes = (groups == "b").astype(float)
    X = np.column_stack([codes, X])
    search = GridSearchCV(
        Recorder(max_epochs=1, random_state=0), {"penalty_weight": [0.5, 1]}, cv=3
    )
    search.fit(X, y, sensitive_features=codes)
    column, arrived = search.best_estimator_.arrived_
    np.testing.assert_array_equal(column, arrived)
    np.testing.assert_array_equal(search.predict(X), search.best_estimator_.predict(X))


@pytest.mark.parametrize("search", [GridSearchCV, RandomizedSearchCV])
def test_searches_with_routing_and_a_scorer_of_groups(search, table, routing):
    X, y, groups = table
    more = {"n_iter": 2} if search is RandomizedSearchCV else {}
    found = search(
        quick().set_fit_request(sensitive_features=True),
        {"penalty_weight": [0.1, 1.0], "penalty__slope": [1]},
        scoring={
            "gap": fairness_scorer("equalized_odds_difference"),
            "accuracy": "accuracy",
        },
        refit="accuracy",
        return_train_score=True,
        cv=2,
        **more,
    ).fit(X, y, sensitive_features=groups)
    results = pd.DataFrame(found.cv_results_)
    for column in ("mean_train_gap", "mean_test_gap", "mean_train_accuracy"):
        assert results[column].notna().all()
    assert (results["mean_test_gap"] <= 0).all()


def test_groups_given_to_a_search_go_to_the_splitter_and_fit_says_so(table):
    X, y, groups = table
    search = GridSearchCV(
        quick(), {"penalty_weight": [1]}, cv=GroupKFold(2), error_score="raise"
    )
    with pytest.raises(ValueError, match="pass sensitive_features=... to their fit"):
        search.fit(X, y, groups=groups)


def test_with_routing_on_the_message_names_the_request(table, routing):
    X, y, groups = table
    search = GridSearchCV(
        quick().set_fit_request(sensitive_features=True),
        {"penalty_weight": [1]},
        cv=GroupKFold(2),
        error_score="raise",
    )
    with pytest.raises(ValueError, match=r"set_fit_request\(sensitive_features=True"):
        search.fit(X, y, groups=groups)


def test_groups_is_not_requestable(routing):
    requests = FairNeuralClassifier().get_metadata_routing()
    assert "groups" not in requests.fit.requests
    assert "groups" not in requests.partial_fit.requests
    assert "sensitive_features" in requests.fit.requests
    with pytest.raises(TypeError, match="groups"):
        FairNeuralClassifier().set_fit_request(groups=True)


@pytest.mark.parametrize("on", [False, True])
def test_subjects_split_while_sensitive_features_train(on, table):
    X, y, groups = table
    subjects = np.arange(400) // 4
    with sklearn.config_context(enable_metadata_routing=on):
        # Off, an argument named groups reaches the splitter and fit takes params.
        clf = quick()
        params = {"sensitive_features": groups}
        splits = GroupKFold(4)
        if on:
            clf.set_fit_request(sensitive_features=True)
            params["groups"] = subjects
        else:
            splits = list(splits.split(X, y, subjects))
        result = cross_validate(
            clf,
            X,
            y,
            cv=splits,
            params=params,
            return_estimator=True,
            return_indices=True,
            return_train_score=True,
            n_jobs=2,
        )
    for train, test in zip(
        result["indices"]["train"], result["indices"]["test"], strict=True
    ):
        assert not set(subjects[train]) & set(subjects[test])
    for fitted in result["estimator"]:
        assert fitted.groups_.tolist() == ["a", "b"]


def test_a_pipeline_passes_groups_to_its_step(table):
    X, y, groups = table
    pipe = make_pipeline(StandardScaler(), quick())
    pipe.fit(X, y, fairneuralclassifier__sensitive_features=groups)
    assert pipe.predict(X).shape == (400,)
    with pytest.raises(ValueError, match="step__sensitive_features"):
        make_pipeline(StandardScaler(), quick()).fit(X, y)


def test_a_pipeline_transforms_held_out_rows(table, routing):
    X, y, groups = table
    train, held = slice(0, 300), slice(300, 400)
    clf = quick().set_fit_request(
        sensitive_features=True, X_val=True, y_val=True, groups_val=True
    )
    pipe = make_pipeline(StandardScaler(), clf, transform_input=["X_val"])
    pipe.fit(
        X[train] * 100 + 7,
        y[train],
        sensitive_features=groups[train],
        X_val=X[held] * 100 + 7,
        y_val=y[held],
        groups_val=groups[held],
    )
    scaler = StandardScaler().fit(X[train] * 100 + 7)
    direct = quick().fit(
        scaler.transform(X[train] * 100 + 7),
        y[train],
        groups[train],
        X_val=scaler.transform(X[held] * 100 + 7),
        y_val=y[held],
        groups_val=groups[held],
    )
    pd.testing.assert_frame_equal(
        pipe[-1].history_.drop(columns="seconds"),
        direct.history_.drop(columns="seconds"),
    )
    # Held-out rows on their raw scale would have a loss of another order.
    assert pipe[-1].history_["valid_loss"].max() < 5


def test_a_search_over_a_pipeline_with_routing(table, routing):
    X, y, groups = table
    pipe = make_pipeline(
        StandardScaler(), quick().set_fit_request(sensitive_features=True)
    )
    search = GridSearchCV(
        pipe,
        {"fairneuralclassifier__penalty_weight": [0.1, 1]},
        scoring=fairness_scorer("equalized_odds_difference"),
        cv=2,
        n_jobs=2,
    ).fit(X, y, sensitive_features=groups)
    gap = equalized_odds_difference(y, search.predict(X), sensitive_features=groups)
    assert search.score(X, y, sensitive_features=groups) == pytest.approx(-gap)


def test_calibration_passes_groups_on(table, routing):
    X, y, groups = table
    calibrated = CalibratedClassifierCV(
        quick(max_epochs=5).set_fit_request(sensitive_features=True), cv=2
    ).fit(X, y, sensitive_features=groups)
    assert calibrated.predict_proba(X).shape == (400, 2)
    for inner in calibrated.calibrated_classifiers_:
        assert inner.estimator.groups_.tolist() == ["a", "b"]


def test_bagging_passes_groups_on(table, routing):
    X, y, groups = table
    bagged = BaggingClassifier(
        quick().set_fit_request(sensitive_features=True),
        n_estimators=2,
        random_state=0,
    ).fit(X, y, sensitive_features=groups)
    assert bagged.predict(X).shape == (400,)
    assert all(e.groups_.tolist() == ["a", "b"] for e in bagged.estimators_)


@pytest.mark.parametrize("wrapper", [CalibratedClassifierCV, BaggingClassifier])
def test_where_groups_cannot_arrive_fit_says_what_to_do(wrapper, table):
    X, y, _ = table
    with pytest.raises(ValueError, match="enable_metadata_routing=True"):
        wrapper(quick()).fit(X, y)


def test_images_in_a_search(images):
    X, y, groups = images
    search = GridSearchCV(quick(), {"penalty_weight": [0, 1]}, cv=2)
    search.fit(X, y, sensitive_features=groups)
    assert search.predict(X).shape == (60,)


def test_slices_of_a_dataset_in_a_search(images):
    X, y, groups = images
    data = [(x / 255, t, g) for x, t, g in zip(X, y, groups, strict=True)]
    search = GridSearchCV(quick(), {"penalty_weight": [0, 1]}, cv=2)
    search.fit(SliceDataset(data, idx=0), y, sensitive_features=groups)
    assert search.best_estimator_.predict(X / 255).shape == (60,)
