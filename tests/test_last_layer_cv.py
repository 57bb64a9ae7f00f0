"""`FairLastLayerClassifierCV`: every head is the one that would be fitted alone."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, PredefinedSplit, StratifiedKFold

from fairskorch import (
    FairLastLayerClassifier,
    FairLastLayerClassifierCV,
    FairNeuralClassifier,
)
from fairskorch.exceptions import EmptyCellWarning
from fairskorch.metrics import equalized_odds_difference, fairness_scorer
from fairskorch.selection import (
    distance_to_optimum,
    fairest_within,
    knee,
    most_accurate_within,
)

WEIGHTS = [0.0, 0.5, 2.0]
FOLDS = StratifiedKFold(3)


@pytest.fixture(scope="module")
def plain(table):
    X, y, groups = table
    return FairNeuralClassifier(penalty=None, max_epochs=4, random_state=0).fit(X, y)


def search(fitted, **params):
    params = {
        "penalty_weights": WEIGHTS,
        "cv": FOLDS,
        "max_epochs": 50,
        "random_state": 0,
        **params,
    }
    return FairLastLayerClassifierCV(FrozenEstimator(fitted), **params)


def one(fitted, weight, **params):
    params = {"max_epochs": 50, "random_state": 0, **params}
    return FairLastLayerClassifier(
        FrozenEstimator(fitted), penalty_weight=weight, **params
    )


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"balance": None},
        {"balance": "weights", "penalty": "dp"},
        {"batch_size": 20},
        {"n_draws": 2},
        {"init": "warm", "optimizer": torch.optim.Adam},
        {"penalty": "ae", "class_weight": None},
    ],
    ids=str,
)
def test_scores_are_those_of_fits_one_by_one(params, plain, table):
    X, y, groups = table
    params = {"precision": "float64", **params}
    found = search(plain, **params).fit(X, y, groups)
    assert found.scores_.shape == found.disparities_.shape == (3, 3)
    metric = found.path_.columns[found.path_.columns.str.startswith("overfit_")]
    assert len(metric) == 3
    for i, (train, test) in enumerate(FOLDS.split(X, y)):
        for j, weight in enumerate(WEIGHTS):
            clf = one(plain, weight, **params).fit(X[train], y[train], groups[train])
            expected = balanced_accuracy_score(y[test], clf.predict(X[test]))
            np.testing.assert_allclose(found.scores_[i, j], expected, rtol=1e-12)
            if "penalty" not in params:
                gap = equalized_odds_difference(
                    y[test], clf.predict(X[test]), sensitive_features=groups[test]
                )
                np.testing.assert_allclose(found.disparities_[i, j], gap, atol=1e-12)
    final = one(plain, found.penalty_weight_, **params).fit(X, y, groups)
    np.testing.assert_array_equal(found.coef_, final.coef_)
    np.testing.assert_array_equal(found.predict_proba(X), final.predict_proba(X))


@pytest.mark.parametrize("batch_size", ["auto", 20])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_heads_of_folds_are_those_of_single_fits(
    precision, batch_size, plain, table, monkeypatch
):
    import fairskorch.last_layer_cv as module

    X, y, groups = table
    kept = []

    def listening(*args):
        kept.append(module_train(*args))
        return kept[-1]

    module_train = module.train_heads
    monkeypatch.setattr(module, "train_heads", listening)
    params = {"precision": precision, "batch_size": batch_size}
    search(plain, **params).fit(X, y, groups)
    (heads,) = kept
    for i, (train, _) in enumerate(FOLDS.split(X, y)):
        for j, weight in enumerate(WEIGHTS):
            alone = one(plain, weight, **params).fit(X[train], y[train], groups[train])
            together = heads.weight[i, ..., j].numpy()
            if precision == "float64":
                np.testing.assert_allclose(together, alone.coef_, rtol=0, atol=1e-8)
            else:
                difference = np.linalg.norm(together - alone.coef_)
                assert difference < 1e-4 * np.linalg.norm(alone.coef_)


def test_the_choice_of_a_grid_search(plain, table):
    X, y, groups = table
    grid = GridSearchCV(
        one(plain, 0.0),
        {"penalty_weight": WEIGHTS},
        cv=FOLDS,
        scoring="balanced_accuracy",
    ).fit(X, y, sensitive_features=groups)
    found = search(plain).fit(X, y, groups)
    np.testing.assert_allclose(
        found.path_["valid_score"], grid.cv_results_["mean_test_score"], atol=1e-9
    )
    assert found.penalty_weight_ == grid.best_params_["penalty_weight"]
    np.testing.assert_array_equal(found.predict(X), grid.predict(X))


def test_the_path_is_the_mean_over_folds(plain, table):
    X, y, groups = table
    found = search(plain).fit(X, y, groups)
    path = found.path_
    assert path["penalty_weight"].tolist() == WEIGHTS
    np.testing.assert_allclose(path["valid_score"], found.scores_.mean(0))
    for name, folds in (
        ("score", found.scores_),
        ("equalized_odds_difference", found.disparities_),
    ):
        error = folds.std(0, ddof=1) / np.sqrt(3)
        np.testing.assert_allclose(path[f"valid_{name}_se"], error)
    gap = "equalized_odds_difference"
    np.testing.assert_allclose(path[f"valid_{gap}"], found.disparities_.mean(0))
    np.testing.assert_allclose(
        path[f"overfit_{gap}"], path[f"valid_{gap}"] - path[f"train_{gap}"]
    )
    assert path["train_penalty"].is_monotonic_decreasing
    assert {"train_loss", "valid_loss", "train_accuracy"} <= set(path)


def test_default_weights(plain, table):
    X, y, groups = table
    found = search(plain, penalty_weights=10, max_epochs=2).fit(X, y, groups)
    weights = found.penalty_weights_
    assert weights[0] == 0
    np.testing.assert_allclose(weights[1:], np.geomspace(0.01, 10, 9))
    found = search(plain, penalty_weights=4, penalty="mmf", max_epochs=2)
    found.fit(X, y, groups)
    np.testing.assert_allclose(found.penalty_weights_, [0, 0.01, 0.1, 1])


def test_folds_of_a_number_have_the_same_cells(plain, table):
    X, y, groups = table
    cell = 2 * (groups == "b") + y
    by_cell = list(StratifiedKFold(4).split(X, cell))
    found = search(plain, cv=4, max_epochs=2).fit(X, y, groups)
    other = search(plain, cv=by_cell, max_epochs=2).fit(X, y, groups)
    assert found.scores_.shape == (4, 3)
    np.testing.assert_array_equal(found.scores_, other.scores_)
    np.testing.assert_array_equal(found.disparities_, other.disparities_)


def test_folds_refer_to_rows_as_given(plain, table):
    X, y, groups = table
    fold = np.arange(400) % 3
    weight = np.where(np.arange(400) < 30, 0.0, 1.0)
    found = search(plain, cv=PredefinedSplit(fold)).fit(
        X, y, groups, sample_weight=weight
    )
    other = search(plain, cv=PredefinedSplit(fold[30:])).fit(
        X[30:], y[30:], groups[30:]
    )
    np.testing.assert_array_equal(found.scores_, other.scores_)
    with pytest.raises(ValueError, match="370 of the 400 rows"):
        search(plain, cv=[(np.arange(30, 400), np.arange(30))]).fit(
            X, y, groups, sample_weight=weight
        )


def test_scorers(plain, table):
    X, y, groups = table
    found = search(plain, scoring="balanced_accuracy").fit(X, y, groups)
    plainly = search(plain).fit(X, y, groups)
    np.testing.assert_allclose(found.scores_, plainly.scores_)
    areas = search(plain, scoring="roc_auc").fit(X, y, groups).scores_
    assert (areas[:, 0] > 0.8).all()
    assert (search(plain, scoring="neg_log_loss").fit(X, y, groups).scores_ < 0).all()
    scorer = fairness_scorer("equalized_odds_difference")
    found = search(plain, scoring=scorer).fit(X, y, groups)
    np.testing.assert_allclose(-found.scores_, found.disparities_)


def test_rules_and_names(plain, table):
    X, y, groups = table
    for refit in (
        "score",
        "equalized_odds_difference",
        "worst_group_accuracy",
        most_accurate_within("demographic_parity_difference", 0.15),
        fairest_within(0.02, one_standard_error=True),
        knee(),
        distance_to_optimum(metric="worst_group_accuracy"),
    ):
        found = search(plain, refit=refit, penalty_weights=6).fit(X, y, groups)
        chosen = found.path_["penalty_weight"] == found.penalty_weight_
        if callable(refit):
            assert chosen.to_numpy().nonzero()[0] == refit(found.path_)
        else:
            values = found.path_[f"valid_{refit}"]
            best = values.min() if refit.endswith("difference") else values.max()
            assert values[chosen].item() == best
    parity = most_accurate_within("demographic_parity_difference", 0.15)
    found = search(plain, refit=parity, scoring=None).fit(X, y, groups)
    gaps = search(plain, penalty="dp", penalty_weights=[0.0]).fit(X, y, groups)
    np.testing.assert_allclose(
        found.path_["valid_demographic_parity_difference"][0],
        gaps.disparities_.mean(),
    )


def test_callables(plain, table):
    X, y, groups = table
    seen = []

    def last(path):
        seen.append(path)
        return len(path) - 1

    found = search(plain, refit=last).fit(X, y, groups)
    assert found.penalty_weight_ == WEIGHTS[-1]
    assert seen[0] is found.path_
    for wrong in (3, -1, 0.5, None):
        with pytest.raises(ValueError, match="position of a row of path_, 0 to 2"):
            search(plain, refit=lambda path, wrong=wrong: wrong).fit(X, y, groups)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"penalty": None}, "must not be None"),
        ({"penalty_weights": [-1, 1]}, "weights of at least 0"),
        ({"penalty_weights": []}, "weights of at least 0"),
        ({"penalty_weights": [np.nan]}, "weights of at least 0"),
        ({"penalty_weights": 1}, "'penalty_weights' parameter"),
        ({"penalty": "mmf", "penalty_weights": [2]}, "at most 1.0"),
        ({"refit": 3}, "'refit' parameter"),
        ({"refit": "acuracy"}, "path_ has no score 'acuracy'. Did you mean 'accuracy'"),
        ({"refit": knee(metric="gap")}, "path_ has no score 'gap'"),
        ({"scoring": "balanced"}, "'balanced'"),
        ({"penalty_weights": ["a", "b"]}, r"parameter of .*CV .* Got \['a', 'b'\]"),
        ({"penalty_weights": [1, np.inf]}, "finite weights of at least 0"),
        ({"cv": []}, r"'cv' parameter of FairLastLayerClassifierCV .* Got \[\]"),
        ({"cv": 401}, "cv=401 of .* more folds than there are rows, 400"),
        ({"optimizer": torch.optim.LBFGS}, "gradients only, no closure"),
    ],
)
def test_bad_parameters(params, message, plain, table):
    X, y, groups = table
    with pytest.raises(ValueError, match=message):
        search(plain, **params).fit(X, y, groups)


@pytest.mark.parametrize("said", ["good", [1.0], None])
def test_a_score_is_a_number(said, plain, table):
    clf = search(plain, scoring=lambda clf, X, y: said, max_epochs=1)
    with pytest.raises(ValueError, match="scoring of .*CV must return a number; .* re"):
        clf.fit(*table)
    assert not hasattr(clf, "coef_")


def test_folds_of_rare_groups(plain, table, rng):
    X, y, groups = table
    rare = groups.copy()
    rare[:3] = "c"
    found = search(plain, cv=5, balance=None, max_epochs=2).fit(X, y, rare)
    assert np.isfinite(found.scores_).all()
    # Where no cell is rare, folds are scikit-learn's.
    cells = np.unique(groups, return_inverse=True)[1] * 2 + y
    plainly = search(plain, cv=5, max_epochs=2).fit(X, y, groups)
    folds = list(StratifiedKFold(5).split(X, cells))
    listed = search(plain, cv=folds, max_epochs=2).fit(X, y, groups)
    np.testing.assert_array_equal(plainly.scores_, listed.scores_)
    many = np.arange(400) // 4
    with pytest.warns(EmptyCellWarning):
        found = search(plain, cv=5, balance=None, max_epochs=2).fit(X, y, many)
    assert found.scores_.shape == (5, 3)


def test_an_unfitted_estimator(table):
    X, y, groups = table
    base = FairNeuralClassifier(penalty=None, max_epochs=2)
    found = FairLastLayerClassifierCV(
        base, penalty_weights=3, cv=2, max_epochs=20, random_state=0
    ).fit(X, y, groups)
    again = clone(found).fit(X, y, sensitive_features=groups)
    np.testing.assert_array_equal(found.predict_proba(X), again.predict_proba(X))
    stored = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(found.predict_proba(X), stored.predict_proba(X))
    assert found.to_module()(torch.as_tensor(X)).shape == (400, 2)
