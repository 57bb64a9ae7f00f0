"""Displays: what they draw is what the metrics and intervals say."""

import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
import sklearn
from matplotlib import pyplot as plt
from matplotlib.cbook import is_math_text
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate

from fairskorch import FairNeuralClassifier
from fairskorch.audit import fairness_report
from fairskorch.display import (
    FairnessGapDisplay,
    FairnessHistoryDisplay,
    ParetoFrontDisplay,
)
from fairskorch.metrics import equalized_odds_difference, fairness_scorer
from fairskorch.selection import knee, pareto_front

EO = "equalized_odds_difference"

pytestmark = pytest.mark.filterwarnings(
    "ignore::fairskorch.exceptions.ConstantPredictionWarning"
)


@pytest.fixture(autouse=True)
def no_window():
    before = matplotlib.get_backend()
    matplotlib.use("agg")
    yield
    plt.close("all")
    matplotlib.use(before)


@pytest.fixture(scope="module")
def rows(table):
    X, y, groups = table
    return np.column_stack([X, groups == "b"]), y, groups


@pytest.fixture(scope="module")
def search(rows):
    X, y, groups = rows
    with sklearn.config_context(enable_metadata_routing=True):
        return GridSearchCV(
            LogisticRegression(),
            {"C": [1e-3, 0.01, 0.1, 1.0]},
            scoring={"accuracy": "accuracy", EO: fairness_scorer(EO)},
            refit=knee(),
            cv=3,
            return_train_score=True,
        ).fit(X, y, sensitive_features=groups)


@pytest.fixture(scope="module")
def folds(rows):
    X, y, groups = rows
    with sklearn.config_context(enable_metadata_routing=True):
        return cross_validate(
            FairNeuralClassifier(max_epochs=4, random_state=0).set_fit_request(
                sensitive_features=True
            ),
            X,
            y,
            cv=3,
            params={"sensitive_features": groups},
            return_estimator=True,
            return_indices=True,
        )


def test_the_front_that_is_drawn(search):
    display = ParetoFrontDisplay.from_estimator(search)
    results = search.cv_results_
    shown = display.candidates
    np.testing.assert_allclose(shown["gap"], -results[f"mean_test_{EO}"])
    np.testing.assert_allclose(shown["accuracy"], results["mean_test_accuracy"])
    np.testing.assert_allclose(shown["train_gap"], -results[f"mean_train_{EO}"])
    splits = np.array([results[f"split{i}_test_{EO}"] for i in range(3)])
    error = splits.std(0, ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(shown["gap_high"] - shown["gap"], error)
    front = pareto_front(results).index
    assert sorted(shown.index[shown["front"]]) == sorted(front)
    assert display.chosen == search.best_index_
    drawn = display.points_.lines[0].get_xydata()
    np.testing.assert_allclose(drawn, shown[["gap", "accuracy"]])
    texts = [t.get_text() for t in display.ax_.get_legend().get_texts()]
    assert any("± 1 standard error over 3 folds" in t for t in texts)
    assert "training" in texts
    assert display.ax_.get_xlabel() == "equalized odds difference (0 = parity)"


def test_axes_are_taken_and_given(search):
    figure, ax = plt.subplots()
    display = ParetoFrontDisplay.from_cv_results(search.cv_results_, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert display.chosen is None
    again = display.plot()
    assert again is display
    assert display.ax_ is not ax


def test_a_path_and_a_table_without_training_scores(search):
    path = pd.DataFrame(
        {
            "penalty_weight": [0.0, 1.0, 2.0],
            "train_balanced_accuracy": [0.99, 0.98, 0.97],
            f"train_{EO}": [0.0, 0.0, 0.0],
            "valid_balanced_accuracy": [0.9, 0.88, 0.8],
            f"valid_{EO}": [0.2, 0.1, np.nan],
            "valid_score": [0.9, 0.88, 0.8],
        }
    )
    display = ParetoFrontDisplay.from_cv_results(path, rule=knee())
    assert display.accuracy_name == "balanced_accuracy"
    assert display.candidates["label"].tolist() == ["0", "1", "2"]
    assert display.candidates["front"].tolist() == [True, True, False]
    assert display.chosen == 0
    held_out = path.drop(columns=[c for c in path if c.startswith("train_")])
    display = ParetoFrontDisplay.from_cv_results(held_out)
    assert display.accuracy_name == "score"
    assert "train_gap" not in display.candidates
    with pytest.raises(TypeError, match="a search with path_ or cv_results_; got Log"):
        ParetoFrontDisplay.from_estimator(search.best_estimator_)
    with pytest.raises(ValueError, match="no held-out score 'gap'"):
        ParetoFrontDisplay.from_cv_results(path, "gap")


def test_classifiers_by_their_predictions(rows):
    X, y, groups = rows
    flat, good = np.ones(len(y), int), LogisticRegression().fit(X, y).predict(X)
    display = ParetoFrontDisplay.from_predictions(
        y, {"flat": flat, "good": good}, sensitive_features=groups
    )
    shown = display.candidates.set_index("label")
    gap = equalized_odds_difference(y, good, sensitive_features=groups)
    assert shown.loc["good", "gap"] == pytest.approx(gap)
    assert shown.loc["flat", "accuracy"] == 0.5
    assert (shown["gap_low"] <= shown["gap"]).all()
    assert (shown["gap"] < shown["gap_high"]).all()
    texts = [t.get_text() for t in display.ax_.texts]
    assert sorted(texts) == ["flat", "good"]


def test_gaps_are_those_of_the_report(rows):
    X, y, groups = rows
    train, test = ((X[s], y[s], groups[s]) for s in (slice(200), slice(200, None)))
    clf = LogisticRegression().fit(*train[:2])
    metrics = [EO, "demographic_parity_ratio", "worst_group_accuracy", "accuracy"]
    display = FairnessGapDisplay.from_estimator(
        clf, *test[:2], sensitive_features=test[2], train=train, metrics=metrics
    )
    report = fairness_report(clf, train=train, test=test, metrics=metrics)
    for row in display.gaps.itertuples():
        side = {"training": "train", "held-out": "test"}[row.rows]
        expected = report.table.loc[row.metric, side]
        np.testing.assert_allclose(row[3:], expected.to_numpy())
    assert set(display.bars_) == {"training", "held-out"}
    assert display.ax_.get_xlabel() == "value (0, 1 = parity; bars: 95% intervals)"
    labels = [t.get_text() for t in display.ax_.get_yticklabels()]
    assert labels == [name.replace("_", " ") for name in metrics]
    alone = FairnessGapDisplay.from_estimator(
        clf, *test[:2], sensitive_features=test[2], confidence_level=0.5
    )
    assert len(alone.gaps) == 4
    assert alone.ax_.get_title() == "held-out rows"
    narrow = alone.gaps.iloc[0]
    assert narrow["high"] < display.gaps.query("rows == 'held-out'").iloc[0]["high"]


@pytest.mark.parametrize("frames", [False, True])
def test_gaps_of_all_folds(frames, folds, rows):
    X, y, groups = rows
    names = [f"x{i}" for i in range(X.shape[1])]
    results = folds
    if frames:
        X, groups = pd.DataFrame(X, columns=names), pd.Series(groups, name="g")
        results = cross_validate(
            LogisticRegression(), X, y, cv=3, return_estimator=True, return_indices=True
        )
    display = FairnessGapDisplay.from_cv_results(
        results, X, y, sensitive_features=groups, metrics=[EO]
    )
    pooled = np.empty(len(y), int)
    for clf, held in zip(results["estimator"], results["indices"]["test"], strict=True):
        pooled[held] = clf.predict(X.iloc[held] if frames else X[held])
    alone = FairnessGapDisplay.from_predictions(
        y, pooled, sensitive_features=groups, metrics=[EO]
    )
    held_out = display.gaps[display.gaps["rows"] == "held-out"]
    np.testing.assert_allclose(
        held_out[["value", "low", "high"]], alone.gaps[["value", "low", "high"]]
    )
    train = display.gaps[display.gaps["rows"] == "training"].iloc[0]
    # As wide as of 400 rows, not of the 800 predictions.
    width = held_out.iloc[0]["high"] - held_out.iloc[0]["low"]
    assert train["high"] - train["low"] > 0.6 * width


def test_a_metric_that_cannot_be_told_is_drawn_as_nothing():
    y, groups = np.array([0, 1, 0, 0]), np.array(["a", "a", "b", "b"])
    display = FairnessGapDisplay.from_predictions(
        y,
        1 - y,
        sensitive_features=groups,
        metrics=[EO, "equal_opportunity_difference"],
    )
    display.figure_.canvas.draw()
    assert display.gaps["value"].isna().tolist() == [True, True]


def test_histories(folds):
    fits = folds["estimator"]
    display = FairnessHistoryDisplay.from_estimator(fits[0])
    x, y = display.lines_["held-out"].get_data()
    assert x.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(y, fits[0].history_[f"valid_{EO}"])
    assert display.ax_.get_ylabel() == "equalized odds difference (0 = parity)"
    display = FairnessHistoryDisplay.from_cv_results(folds, "balanced_accuracy")
    mean = np.mean([f.history_["train_balanced_accuracy"] for f in fits], axis=0)
    np.testing.assert_allclose(display.lines_["training"].get_ydata(), mean)
    assert len(display.ax_.collections) == 2
    with pytest.raises(ValueError, match="has the metric 'gap'; columns are"):
        FairnessHistoryDisplay.from_estimator(fits, "gap")


def test_the_epoch_that_was_kept(table):
    clf = FairNeuralClassifier(early_stopping="loss", max_epochs=6, random_state=0)
    display = FairnessHistoryDisplay.from_estimator(clf.fit(*table), "loss")
    assert display.kept == clf.best_epoch_
    assert "weights kept" in [t.get_text() for t in display.ax_.texts]


def test_a_history_without_groups_or_held_out_rows(rows):
    X, y, _ = rows
    clf = FairNeuralClassifier(
        penalty=None, max_epochs=2, validation_fraction=0, random_state=0
    )
    display = FairnessHistoryDisplay.from_estimator(clf.fit(X, y))
    assert display.metric_name == "balanced_accuracy"
    assert set(display.lines_) == {"training"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: FairnessGapDisplay.from_cv_results(
                {"estimator": []}, [[0]], [0], sensitive_features=[0]
            ),
            r"return_indices=True; cv_results has no \['indices'\]",
        ),
        (
            lambda: FairnessGapDisplay.from_predictions(
                [0, 1], [0, 1], sensitive_features=["a", "b"], train=([0], [1])
            ),
            r"train of FairnessGapDisplay must be \(y_true, y_pred, groups\)",
        ),
        (
            lambda: FairnessGapDisplay.from_predictions(
                [0, 1], [0, 1], sensitive_features=["a", "b"], metrics=["accuraci"]
            ),
            "Did you mean 'accuracy'",
        ),
        (lambda: FairnessHistoryDisplay.from_cv_results({}), "has no 'estimator'"),
        (
            lambda: FairnessGapDisplay.from_predictions(
                [0, 1], [0, 1], sensitive_features=["a", "b"], metrics=[]
            ),
            "metrics of FairnessGapDisplay must name at least one",
        ),
        (lambda: FairnessHistoryDisplay.from_estimator([]), "needs at least one fit"),
        (
            lambda: FairnessHistoryDisplay.from_estimator(
                LogisticRegression().fit([[0], [1]], [0, 1])
            ),
            "needs fits that have a history_; got LogisticRegression",
        ),
        (
            lambda: ParetoFrontDisplay.from_predictions(
                [0, 1], [[0, 1]], sensitive_features=["a", "b"]
            ),
            "must be a dict of the name .*; got list",
        ),
        (
            lambda: ParetoFrontDisplay.from_predictions(
                [0, 1], {}, sensitive_features=["a", "b"]
            ),
            "must be a dict of the name .*; got nothing",
        ),
        (
            lambda: ParetoFrontDisplay.from_cv_results({}, rule="knee"),
            r"rule of .* such as knee\(\); got 'knee'",
        ),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_one_metric_by_its_name_and_rows_in_lists(rows):
    X, y, groups = rows
    model = LogisticRegression()
    folds = cross_validate(
        model, X, y, cv=3, return_estimator=True, return_indices=True
    )
    lists = np.asarray(X).tolist(), np.asarray(y).tolist()
    display, expected = (
        FairnessGapDisplay.from_cv_results(
            folds, *given, sensitive_features=groups, metrics=metrics
        )
        for given, metrics in ((lists, EO), ((X, y), [EO, EO]))
    )
    pd.testing.assert_frame_equal(display.gaps, expected.gaps)
    assert len(display.gaps) == 2


def test_a_gap_by_one_attribute_has_a_parity_too(rows):
    X, y, groups = rows
    clf = FairNeuralClassifier(
        max_epochs=2,
        random_state=0,
        monitor_metrics=[EO],
        monitor_attributes=["sex"],
    ).fit(X, y, pd.DataFrame({"sex": groups, "old": X[:, 0] > 0}))
    display = FairnessHistoryDisplay.from_estimator(clf, f"{EO}_by_sex")
    assert display.ax_.get_ylabel().endswith("(0 = parity)")
    assert display.ax_.get_ylim()[0] <= 0


def test_histories_of_different_lengths(rows):
    X, y, groups = rows
    fits = [
        FairNeuralClassifier(max_epochs=n, random_state=0).fit(X, y, groups)
        for n in (1, 3)
    ]
    display = FairnessHistoryDisplay.from_estimator(fits, "loss")
    curves = display.curves["held-out"]
    assert np.isnan(curves[0, 1:]).all()
    np.testing.assert_array_equal(curves[1], fits[1].history_["valid_loss"])


def test_a_dollar_begins_no_formula():
    cv_results = {
        "param_$a$": ["$x$", r"$\frac$"],
        "mean_test_accuracy": [0.9, 0.8],
        "mean_test_gap_by_$b$": [-0.2, -0.1],
    }
    display = ParetoFrontDisplay.from_cv_results(
        cv_results, "gap_by_$b$", rule=lambda results: 1
    )
    display.figure_.canvas.draw()
    texts = [display.ax_.get_xlabel(), *(t.get_text() for t in display.ax_.texts)]
    legend = display.ax_.get_legend().get_texts()
    assert not any(is_math_text(text) for text in texts)
    assert not any(is_math_text(text.get_text()) for text in legend)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    display = FairnessHistoryDisplay({"held-out": np.ones((1, 2))}, metric_name=EO)
    message = r"FairnessHistoryDisplay needs matplotlib; install fairskorch\[plot\]"
    with pytest.raises(ImportError, match=message):
        display.plot()
