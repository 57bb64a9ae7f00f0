"""Rules and Pareto front, on tables of searches, of paths and of epochs."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

from fairskorch import FairNeuralClassifier
from fairskorch.exceptions import InfeasibleWarning
from fairskorch.metrics import fairness_scorer
from fairskorch.selection import (
    distance_to_optimum,
    fairest_within,
    knee,
    most_accurate_within,
    pareto_front,
)

EO = "equalized_odds_difference"
RULES = [
    most_accurate_within(EO, 0.1),
    fairest_within(accuracy_drop=0.05),
    knee(),
    distance_to_optimum(),
]


def results(accuracy, gap, name=EO, weights=None, sign=-1):
    """Write folds (n_folds, n_candidates) as the table of a search."""
    table = {}
    for key, folds, s in (("accuracy", accuracy, 1), (name, gap, sign)):
        folds = s * np.atleast_2d(np.asarray(folds, float))
        table |= {f"split{i}_test_{key}": fold for i, fold in enumerate(folds)}
        table[f"mean_test_{key}"] = folds.mean(0)
        table[f"mean_train_{key}"] = np.ones(folds.shape[1])
    n = len(table["mean_test_accuracy"])
    values = np.arange(n) if weights is None else weights
    table["param_penalty_weight"] = np.ma.array(values, dtype=object)
    return table


def path(accuracy, gap, name=EO, weights=None):
    """Write the same folds as a path."""
    table = pd.DataFrame(
        {"penalty_weight": np.arange(np.shape(accuracy)[-1], dtype=float)}
    )
    if weights is not None:
        table["penalty_weight"] = weights
    for key, folds in (("accuracy", accuracy), (name, gap)):
        folds = np.atleast_2d(np.asarray(folds, float))
        table[f"valid_{key}"] = folds.mean(0)
        if len(folds) > 1:
            table[f"valid_{key}_se"] = folds.std(0, ddof=1) / np.sqrt(len(folds))
    return table


def epochs(accuracy, gap, name=EO, weights=None):
    """Write means as the history of a fit."""
    table = path(np.mean(np.atleast_2d(accuracy), 0), np.mean(np.atleast_2d(gap), 0))
    return table.assign(epoch=np.arange(1, len(table) + 1), train_accuracy=1.0)


ACCURACY = [0.90, 0.87, 0.88, 0.86, 0.70]
GAP = [0.30, 0.12, 0.08, 0.05, 0.01]


@pytest.mark.parametrize("table", [results, path, epochs])
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (most_accurate_within(EO, 0.1), 2),
        (most_accurate_within(EO, 0.05), 3),
        (most_accurate_within(EO, 1), 0),
        (fairest_within(accuracy_drop=0.01), 0),
        (fairest_within(accuracy_drop=0.04), 3),
        (fairest_within(accuracy_drop=0.5), 4),
        (knee(), 3),
        (distance_to_optimum(), 3),
    ],
    ids=repr,
)
def test_each_rule_on_each_kind_of_table(rule, expected, table):
    chosen = rule(table(ACCURACY, GAP))
    assert type(chosen) is int
    assert chosen == rule.choose(table(ACCURACY, GAP)) == expected


def test_rules_as_plain_loops_say(rng):
    for _ in range(50):
        accuracy, gap = rng.random((2, 7)).round(1)
        accuracy[0] = gap[0] = 0.2
        good = [i for i in range(7) if gap[i] <= 0.3]
        expected = min(good, key=lambda i: (-accuracy[i], gap[i], i))
        assert most_accurate_within(EO, 0.3)(results(accuracy, gap)) == expected
        good = [i for i in range(7) if accuracy[i] >= max(accuracy) - 0.2 - 1e-9]
        expected = min(good, key=lambda i: (gap[i], -accuracy[i], i))
        assert fairest_within(0.2)(results(accuracy, gap)) == expected
        far = np.hypot(max(accuracy) - accuracy, min(gap) - gap)
        expected = min(range(7), key=lambda i: (round(far[i], 9), i))
        assert distance_to_optimum()(results(accuracy, gap)) == expected
        front = [
            i
            for i in range(7)
            if not any(
                accuracy[j] >= accuracy[i]
                and gap[j] <= gap[i]
                and (accuracy[j], gap[j]) != (accuracy[i], gap[i])
                for j in range(7)
            )
        ]
        found = pareto_front(results(accuracy, gap))
        assert sorted(found.index) == front
        assert found[EO].is_monotonic_increasing
        assert found["accuracy"].is_monotonic_increasing
        assert knee()(results(accuracy, gap)) in front


def test_only_held_out_scores_are_read():
    table, other = results(ACCURACY, GAP), results(ACCURACY, GAP)
    other["mean_train_accuracy"] = np.arange(5.0)
    other[f"mean_train_{EO}"] = -np.arange(5.0)
    assert all(rule(table) == rule(other) for rule in RULES)
    for wrong in (
        pd.DataFrame({"train_accuracy": [0.9], f"train_{EO}": [0.1]}),
        {"mean_train_accuracy": [0.9]},
        [0.9, 0.1],
        None,
    ):
        with pytest.raises(ValueError, match="reads held-out scores"):
            knee()(wrong)
    with pytest.raises(ValueError, match="no candidate"):
        knee()(path(ACCURACY, GAP).iloc[:0])


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("table", [results, path])
def test_a_fold_that_is_nan_makes_a_candidate_infeasible(rule, table):
    accuracy, gap = np.tile(ACCURACY, (3, 1)), np.tile(GAP, (3, 1))
    best = rule(table(accuracy, gap))
    gap[1, best] = np.nan
    second = rule(table(accuracy, gap))
    assert second != best
    accuracy[0, second] = np.nan
    assert rule(table(accuracy, gap)) not in (best, second)
    gap[2] = np.nan
    with pytest.raises(ValueError, match="is nan in a fold of every candidate"):
        rule(table(accuracy, gap))
    with pytest.raises(ValueError, match="There is no front"):
        pareto_front(table(accuracy, gap))


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_ties_go_to_the_smaller_weight_then_to_the_first(rule):
    accuracy, gap = [0.5, 0.9, 0.9, 0.9], [0.4, 0.1, 0.1, 0.1]
    assert rule(path(accuracy, gap)) == 1
    assert rule(path(accuracy, gap, weights=[0, 2.0, 0.5, 1.0])) == 2
    assert rule(results(accuracy, gap, weights=[0, 2.0, 0.5, 0.5])) == 2
    # The ramp of a fit is no weight to choose by.
    assert rule(epochs(accuracy, gap).assign(penalty_weight=[4, 3, 2, 1])) == 1
    # Means over folds that are equal but for rounding.
    split = np.array([[0.1, 0.3], [0.2, 0.2], [0.3, 0.1]]) + [[0, 1e-17]]
    assert rule(results(split, np.full((3, 2), 0.1))) == 0


def test_the_other_score_tells_equal_candidates_apart():
    flat = path([0.5, 0.8, 0.7], [0.0, 0.0, 0.0])
    assert fairest_within(1)(flat) == 1
    assert most_accurate_within(EO, 1)(path([0.8] * 3, [0.3, 0.2, 0.25])) == 1
    with pytest.warns(InfeasibleWarning):
        chosen = most_accurate_within(EO, 0.1)(path([0.5, 0.8], [0.3, 0.3]))
    assert chosen == 1


def test_weights_of_a_pipeline_and_settings_without_one():
    table = results([0.9, 0.9], [0.1, 0.1], weights=[2, 1])
    table["param_net__penalty_weight"] = table.pop("param_penalty_weight")
    assert knee()(table) == 1
    table["param_net__penalty_weight"] = np.ma.array([2, 1], mask=[0, 1], dtype=object)
    assert knee()(table) == 0
    table["param_lr"] = table.pop("param_net__penalty_weight")
    assert knee()(table) == 0


def test_signs_of_scores():
    accuracy, value = [0.9, 0.8, 0.7], [0.5, 0.7, 0.9]
    for name in ("demographic_parity_ratio", "worst_group_accuracy", "own"):
        rule = most_accurate_within(name, 0.6)
        assert rule(results(accuracy, value, name, sign=1)) == 1
    assert most_accurate_within("gap", 0.6)(results(accuracy, value, "gap")) == 0
    assert most_accurate_within("gap", 0)(results(accuracy, [0, 0, 0], "gap")) == 0
    front = pareto_front(results(accuracy, value, "gap"), "gap")
    assert front["gap"].tolist() == [0.5]
    with pytest.raises(ValueError, match=r"use fairness_scorer\('equalized_odds"):
        knee()(results(accuracy, value, sign=1))
    table = path(accuracy, value, "loss")
    assert most_accurate_within("loss", 0.7)(table) == 0


def test_nothing_within_the_bound_takes_the_nearest_and_warns():
    rule = most_accurate_within(EO, 0.001)
    with pytest.warns(InfeasibleWarning, match="of at most 0.001; the nearest, 0.01,"):
        assert rule(results(ACCURACY, GAP)) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rule.choose(results(ACCURACY, GAP)) == 4
    rule = most_accurate_within("worst_group_accuracy", 0.95)
    with pytest.warns(InfeasibleWarning, match="of at least 0.95"):
        chosen = rule(results([0.9, 0.8], [0.7, 0.8], "worst_group_accuracy", sign=1))
    assert chosen == 1


def folds(mean, spread):
    """Two folds around each mean, of that standard error."""
    return np.array([np.subtract(mean, spread), np.add(mean, spread)])


@pytest.mark.parametrize("table", [results, path])
@pytest.mark.parametrize(
    ("rule", "plain", "careful"),
    [
        (lambda **k: most_accurate_within(EO, 0.06, **k), 2, 1),
        (lambda **k: most_accurate_within(EO, 0.045, **k), 2, 3),
        (lambda **k: fairest_within(0.1, **k), 3, 2),
        (lambda **k: distance_to_optimum(**k), 2, 2),
    ],
)
def test_differences_within_a_standard_error_are_none(rule, plain, careful, table):
    accuracy, gap = [0.80, 0.88, 0.90, 0.85], [0.05, 0.045, 0.04, 0.03]
    noisy = table(folds(accuracy, 0.03), folds(gap, 0.011))
    assert rule()(noisy) == plain
    assert rule(one_standard_error=True)(noisy) == careful
    quiet = table(folds(accuracy, 1e-6), folds(gap, 1e-6))
    assert rule(one_standard_error=True)(quiet) == plain


@pytest.mark.parametrize("rule", [knee, distance_to_optimum])
def test_errors_of_both_scores_join(rule):
    # Candidates 1 and 2 are nearly alike; the second is better by .005 in one score.
    accuracy, gap = [0.9, 0.895, 0.895, 0.6], [0.4, 0.105, 0.1, 0.05]
    for spreads, expected in (((0.0, 0.0), 2), ((0.2, 0.0), 1), ((0.0, 0.02), 1)):
        noisy = path(folds(accuracy, spreads[0]), folds(gap, spreads[1]))
        # On the front as well, so that the knee can be either.
        noisy.loc[1, "valid_accuracy"] += 1e-4
        assert rule()(noisy) == 2
        assert rule(one_standard_error=True)(noisy) == expected


def test_one_standard_error_needs_folds():
    for table in (results, path, epochs):
        with pytest.raises(ValueError, match="at least two folds"):
            knee(one_standard_error=True)(table(ACCURACY, GAP))
    front = pareto_front(results(folds(ACCURACY, 0.02), folds(GAP, 0.01)))
    np.testing.assert_allclose(front["accuracy_se"], 0.02)
    np.testing.assert_allclose(front[f"{EO}_se"], 0.01)


def test_a_front_without_a_bend_has_no_knee():
    assert knee()(path([0.9, 0.8, 0.7], [0.3, 0.2, 0.1])) == 0
    assert knee()(path([0.9, 0.7], [0.3, 0.1], weights=[1.0, 0.5])) == 1
    assert knee()(path([0.9, 0.7], [0.1, 0.3])) == 0
    # A front that bends the other way.
    assert knee()(path([0.9, 0.75, 0.7], [0.3, 0.25, 0.1])) == 0


def test_the_front_in_several_metrics():
    table = path([0.9, 0.8, 0.7], [0.2, 0.2, 0.3])
    table["valid_worst_group_accuracy"] = [0.5, 0.6, 0.7]
    assert pareto_front(table, EO).index.tolist() == [0]
    front = pareto_front(table, [EO, "worst_group_accuracy"])
    assert sorted(front.index) == [0, 1, 2]
    assert front.columns.tolist() == [
        *("penalty_weight", "accuracy", EO, "worst_group_accuracy"),
        *("accuracy_se", f"{EO}_se", "worst_group_accuracy_se"),
    ]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: most_accurate_within(EO, -0.1), ValueError, "bound of most_accurate"),
        (lambda: most_accurate_within(EO, "x"), ValueError, "number of at least 0"),
        (lambda: most_accurate_within(EO, np.nan), ValueError, "got nan"),
        (lambda: most_accurate_within(None, 0.1), TypeError, "name of a score"),
        (lambda: fairest_within(accuracy_drop=-1), ValueError, "accuracy_drop of"),
        (lambda: knee(metric=3), TypeError, "metric of knee must be the name"),
        (lambda: knee(accuracy=3), TypeError, "accuracy of knee must be the name"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_scores_that_are_not_there_or_not_clear():
    table = results(ACCURACY, GAP)
    with pytest.raises(ValueError, match="Did you mean 'equalized_odds_difference'"):
        most_accurate_within("equalised_odds_difference", 0.1)(table)
    with pytest.raises(ValueError, match="Did you mean 'equalized_odds_difference'"):
        most_accurate_within("eo", 0.1)(table)
    with pytest.raises(ValueError, match="'gap'. A search calls .* keys in scoring"):
        most_accurate_within(EO, 0.1)(results(ACCURACY, GAP, "gap"))
    with pytest.raises(ValueError, match="Say which score is to be large"):
        knee(metric=EO)({f"mean_test_{EO}": [-0.1]})
    with pytest.raises(ValueError, match=r"metric=\.\.\.: results hold \['accuracy'\]"):
        knee()({"mean_test_accuracy": [0.9]})
    table["mean_test_demographic_parity_difference"] = table[f"mean_test_{EO}"]
    with pytest.raises(ValueError, match="Say which score compares groups"):
        knee()(table)
    assert knee(metric=EO)(table) == 3
    with pytest.raises(ValueError, match="Say which score compares groups"):
        knee()(path(ACCURACY, GAP, "own"))


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_rules_are_copied_stored_and_shown(rule):
    table = results(ACCURACY, GAP)
    for again in (pickle.loads(pickle.dumps(rule)), copy.deepcopy(rule)):
        assert repr(again) == repr(rule)
        assert again(table) == rule(table)
    made = eval(repr(rule))
    assert vars(made) == vars(rule)


def test_reprs():
    rule = most_accurate_within("gap", 0.05, accuracy="auc", one_standard_error=True)
    expected = (
        "most_accurate_within('gap', 0.05, accuracy='auc', one_standard_error=True)"
    )
    assert repr(rule) == expected
    assert repr(fairest_within()) == "fairest_within(accuracy_drop=0.01)"
    assert repr(knee(metric="gap")) == "knee(metric='gap')"


@pytest.mark.parametrize("search", [GridSearchCV, RandomizedSearchCV])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_rules_refit_searches_of_scikit_learn(rule, search, table):
    X, y, groups = table
    X = np.column_stack([X, groups == "b"])
    scoring = {"accuracy": "accuracy", EO: fairness_scorer(EO)}
    more = {"n_iter": 3, "random_state": 0} if search is RandomizedSearchCV else {}
    with sklearn.config_context(enable_metadata_routing=True):
        found = search(
            LogisticRegression(),
            {"C": [1e-3, 0.03, 1.0]},
            scoring=scoring,
            refit=rule,
            cv=3,
            return_train_score=True,
            **more,
        ).fit(X, y, sensitive_features=groups)
    assert found.best_index_ == rule(found.cv_results_)
    assert rule(pd.DataFrame(found.cv_results_)) == found.best_index_
    assert hasattr(found, "best_estimator_")
    front = pareto_front(found.cv_results_)
    assert front[EO].between(0, 1).all()
    assert "param_C" in front


@pytest.mark.filterwarnings("ignore::fairskorch.exceptions.ConstantPredictionWarning")
def test_rules_stop_a_fit(table):
    params = {"max_epochs": 5, "penalty_warmup": 0, "random_state": 0}
    for rule in (most_accurate_within(EO, 0.9), *RULES[1:]):
        clf = FairNeuralClassifier(early_stopping=rule, patience=None, **params)
        clf.fit(*table)
        chosen = clf.history_.iloc[rule.choose(clf.history_)]
        assert clf.best_epoch_ == chosen["epoch"]
    clf.set_params(early_stopping=most_accurate_within("worst_group_accuracy", 1.0))
    clf.set_params(monitor_metrics=["worst_group_accuracy"])
    with pytest.warns(InfeasibleWarning) as caught:
        clf.fit(*table)
    # Once for the fit, not after every epoch.
    assert sum(w.category is InfeasibleWarning for w in caught) == 1


def test_signs_between_the_groups_of_a_column():
    name = f"{EO}_by_age"
    table = path([0.9, 0.8], [0.3, 0.1], name)
    assert most_accurate_within(name, 0.2)(table) == 1
    assert pareto_front(table, name)[name].tolist() == [0.1, 0.3]


@pytest.mark.filterwarnings("ignore::fairskorch.exceptions.ConstantPredictionWarning")
def test_rules_choose_an_epoch_of_a_history(table):
    clf = FairNeuralClassifier(max_epochs=4, random_state=0).fit(*table)
    for rule in RULES:
        assert 0 <= rule.choose(clf.history_) < 4
    assert len(pareto_front(clf.history_)) >= 1
