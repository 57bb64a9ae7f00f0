import builtins
import re

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.tree import DecisionTreeClassifier

from fairskorch import metrics
from fairskorch.audit import FairnessReport, fairness_report
from fairskorch.metrics import METRICS

DEFAULT = [
    "accuracy",
    "balanced_accuracy",
    "equalized_odds_difference",
    "demographic_parity_difference",
    "worst_group_accuracy",
]


def make(n=600, seed=0, n_classes=2, shift=1):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    groups = np.where(rng.random(n) < 0.4, "f", "m")
    score = X[:, 0] + shift * (groups == "m") + rng.normal(size=n)
    y = np.digitize(score, np.quantile(score, np.arange(1, n_classes) / n_classes))
    return X, y, groups


TRAIN, TEST = make(seed=0), make(seed=1)
APART, HELD_OUT, VALIDATION = (make(900, seed, shift=2) for seed in (3, 4, 5))


@pytest.fixture(scope="module")
def model():
    return LogisticRegression().fit(*TRAIN[:2])


@pytest.fixture(scope="module")
def tree():
    return DecisionTreeClassifier(random_state=0).fit(*APART[:2])


@pytest.fixture(scope="module")
def report(model, tree):
    return fairness_report(
        tree,
        train=APART,
        test=HELD_OUT,
        splits={"validation": VALIDATION},
        baseline=model,
        random_state=0,
    )


def expected(name, y, predicted, groups):
    if name == "accuracy":
        return accuracy_score(y, predicted)
    if name == "balanced_accuracy":
        return balanced_accuracy_score(y, predicted)
    return getattr(metrics, name)(y, predicted, sensitive_features=groups)


def test_table_holds_every_metric_on_every_split(report, tree):
    table = report.table
    assert isinstance(report, FairnessReport)
    assert list(table.index) == DEFAULT
    assert table.index.name == "metric"
    parts = ["train", "test", "validation", "difference", "versus baseline"]
    assert list(table.columns) == [
        (part, s) for part in parts for s in ("value", "low", "high")
    ]
    splits = {"train": APART, "test": HELD_OUT, "validation": VALIDATION}
    for key, (X, y, groups) in splits.items():
        for name in DEFAULT:
            value = expected(name, y, tree.predict(X), groups)
            assert table.loc[name, (key, "value")] == pytest.approx(value, abs=1e-12)
    for part in parts:
        assert (table[part, "low"] <= table[part, "value"]).all()
        assert (table[part, "value"] <= table[part, "high"]).all()


def test_differences(report, model):
    table = report.table
    np.testing.assert_allclose(
        table["difference", "value"], table["test", "value"] - table["train", "value"]
    )
    X, y, groups = HELD_OUT
    baseline = [expected(name, y, model.predict(X), groups) for name in DEFAULT]
    np.testing.assert_allclose(
        table["versus baseline", "value"], table["test", "value"] - baseline
    )


def test_a_tree_that_knows_its_rows_is_found_out(report):
    assert report.table.loc["equalized_odds_difference", ("train", "value")] == 0
    (sentence,) = [s for s in report.warnings if s.startswith("equalized_odds")]
    assert "is 0.000 on train" in sentence
    assert "further from parity where rows were not seen" in sentence
    low = report.table.loc["equalized_odds_difference", ("difference", "low")]
    assert f"interval {low:+.3f} to" in sentence


class ReadOff:
    """Predict what the first column says."""

    def predict(self, X):
        return X[:, 0]


def test_a_ratio_that_falls_is_found_out():
    y, groups = np.arange(800) % 2, np.repeat(["f", "m"], 400)
    alike = np.arange(800) // 2 % 2
    apart = np.where(groups == "m", np.arange(800) // 2 % 4 > 0, alike).astype(int)
    report = fairness_report(
        ReadOff(),
        train=(alike.reshape(-1, 1), y, groups),
        test=(apart.reshape(-1, 1), y, groups),
        metrics=["demographic_parity_ratio", "demographic_parity_difference"],
    )
    ratio, gap = report.warnings
    assert ratio.startswith("demographic_parity_ratio is 1.000 on train and 0.667 on")
    assert gap.startswith("demographic_parity_difference is 0.000 on train and 0.250")


def test_nothing_to_warn_of(model):
    report = fairness_report(model, train=TRAIN, test=TEST)
    assert report.warnings == []
    assert "versus baseline" not in report.table.columns.unique(0)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_every_metric(n_classes):
    train, test = make(900, 0, n_classes), make(900, 1, n_classes)
    model = LogisticRegression().fit(*train[:2])
    other = LogisticRegression(C=1e-3).fit(*train[:2])
    report = fairness_report(
        model,
        train=train,
        test=test,
        baseline=other,
        metrics=list(METRICS),
        n_boot=100,
    )
    for name in METRICS:
        value = expected(name, test[1], model.predict(test[0]), test[2])
        found = report.table.loc[name]
        assert found["test", "value"] == pytest.approx(value, abs=1e-12)
        other_value = expected(name, test[1], other.predict(test[0]), test[2])
        assert found["versus baseline", "value"] == pytest.approx(value - other_value)
    assert report.table.notna().all(axis=None)


def test_the_same_seed_gives_the_same_report(model, tree):
    one, two, three = (
        fairness_report(
            tree, train=TRAIN, test=TEST, baseline=model, n_boot=50, random_state=seed
        ).table
        for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(one, two)
    assert not one.equals(three)


def test_confidence_level(model):
    wide = fairness_report(model, train=TRAIN, test=TEST, confidence_level=0.99)
    narrow = fairness_report(model, train=TRAIN, test=TEST, confidence_level=0.8)
    for key in ("train", "test", "difference"):
        assert (wide.table[key, "low"] <= narrow.table[key, "low"]).all()
        assert (wide.table[key, "high"] >= narrow.table[key, "high"]).all()
    assert "99% intervals" in wide.to_markdown()


class Counting:
    """Predict by a rule, and count the calls."""

    def __init__(self):
        self.calls = 0

    def predict(self, X):
        self.calls += 1
        return (X[:, 0] > 0).astype(int)


def test_predict_is_called_once_a_split():
    model, baseline = Counting(), Counting()
    report = fairness_report(
        model, train=TRAIN, test=TEST, splits={"b": make(seed=3)}, baseline=baseline
    )
    assert len(report.by_group) + len(report.frames) > 0
    assert "|" in report.to_markdown()
    assert (model.calls, baseline.calls) == (3, 1)


def test_by_group(report, tree):
    X, y, groups = HELD_OUT
    table = report.by_group
    assert table.index.names == ["split", "group"]
    assert list(table.loc["test"].index) == ["f", "m", "overall"]
    frame = metrics.group_metrics(y, tree.predict(X), sensitive_features=groups)
    for name in ("accuracy", "selection_rate", "true_positive_rate"):
        np.testing.assert_allclose(table.loc["test"][name, "value"], frame[name])
        assert (table[name, "low"] < table[name, "high"]).all()
    assert table.loc["test"]["count", "value"].tolist() == frame["count"].tolist()


def test_frames(report, tree):
    X, y, groups = HELD_OUT
    frame = report.frames["test"]
    assert isinstance(frame, MetricFrame)
    assert list(report.frames) == ["train", "test", "validation"]
    assert report.frames is report.frames
    assert frame.overall["accuracy"] == pytest.approx(tree.score(X, y))
    np.testing.assert_allclose(
        frame.by_group["true_positive_rate"].astype(float),
        report.by_group.loc["test"]["true_positive_rate", "value"][:2],
    )


def test_frames_of_several_classes_and_columns():
    words = np.array(["low", "mid", "top"])
    (X, y, sex), (Xt, yt, sext) = make(900, 0, 3), make(900, 1, 3)
    model = LogisticRegression().fit(X, words[y])
    old = np.arange(900) % 3 > 0
    columns = pd.DataFrame({"sex": sex, "old": old})
    test_columns = pd.DataFrame({"sex": sext, "old": old})
    report = fairness_report(
        model, train=(X, words[y], columns), test=(Xt, words[yt], test_columns)
    )
    frame = report.frames["train"]
    assert frame.by_group.index.names == ["sex", "old"]
    assert list(frame.by_group)[2:] == [f"selection_rate_{w}" for w in words]
    assert report.by_group.index.names == ["split", "sex", "old"]
    expected = (model.predict(X) == "mid")[(sex == "f") & old].mean()
    found = report.by_group["selection_rate_mid", "value"]["train", "f", True]
    assert found == pytest.approx(expected)
    assert frame.by_group.loc[("f", True), "selection_rate_mid"] == expected


def test_pos_label(model):
    a = fairness_report(model, train=TRAIN, test=TEST)
    b = fairness_report(model, train=TRAIN, test=TEST, pos_label=0)
    name = ("selection_rate", "value")
    np.testing.assert_allclose(a.by_group[name], 1 - b.by_group[name])
    np.testing.assert_allclose(
        b.frames["test"].overall["selection_rate"],
        b.by_group[name]["test", "overall"],
    )


def test_constant_prediction_is_no_result():
    model = DummyClassifier(strategy="constant", constant=0).fit(*TRAIN[:2])
    report = fairness_report(model, train=TRAIN, test=TEST)
    for key in ("train", "test"):
        assert (
            f"{key}: every row is predicted 0; a gap of 0 that comes with it is no "
            "result." in report.warnings
        )


def test_small_and_empty_cells_are_named(model):
    X, y, groups = TEST
    y, groups = np.where(np.arange(600) < 5, 1, y), groups.copy()
    groups[:5] = "x"
    report = fairness_report(model, train=TRAIN, test=(X, y, groups))
    text = "\n".join(report.warnings)
    assert (
        "test: equalized_odds_difference is not estimable: no row of class 0 " in text
    )
    assert "train: no row of group 'x'." in text
    assert "hardly known: 'x' x class 0 (0), 'x' x class 1 (5)." in text
    assert "train: cells below" not in text
    row = report.table.loc["equalized_odds_difference"]
    assert row["test"].isna().all()
    assert row["difference"].isna().all()
    assert row["train"].notna().all()
    assert "not estimable" in report.to_markdown()


def test_rows_of_unknown_group(model):
    X, y, groups = TEST
    labels = groups.astype(object)
    labels[::10] = None
    report = fairness_report(model, train=TRAIN, test=(X, y, labels))
    assert report.warnings == [
        "test: 60 rows of unknown group count only in metrics that compare no groups, "
        "such as accuracy."
    ]
    known = np.arange(600) % 10 > 0
    table = report.table["test", "value"]
    assert table["accuracy"] == pytest.approx(model.score(X, y))
    gap = expected(DEFAULT[2], y[known], model.predict(X[known]), groups[known])
    assert table[DEFAULT[2]] == pytest.approx(gap, abs=1e-12)
    assert report.by_group["count", "value"]["test", "overall"] == 540
    assert report.frames["test"].overall["count"] == 540


def test_a_split_without_any_known_group(model):
    report = fairness_report(model, train=TRAIN, test=(*TEST[:2], [None] * 600))
    assert (
        "test: worst_group_accuracy is not estimable: no group has rows."
        in report.warnings
    )
    assert list(report.frames) == ["train"]
    assert report.table.loc["accuracy"].notna().all()


def test_one_group_only(model):
    one = (*TRAIN[:2], ["a"] * 600), (*TEST[:2], ["a"] * 600)
    report = fairness_report(model, train=one[0], test=one[1])
    assert (
        "test: equalized_odds_difference is not estimable: only the group 'a' has "
        "rows, so there is nothing to compare." in report.warnings
    )
    assert report.table.loc["worst_group_accuracy"].notna().all()


def test_markdown_html_and_text(report):
    text = report.to_markdown()
    lines = text.splitlines()
    assert lines[0] == "| metric | train | test | validation | difference | " + (
        "versus baseline |"
    )
    assert set(lines[1]) <= set("|- ")
    row = report.table.loc["accuracy"]
    cell = "{:.3f} [{:.3f}, {:.3f}]".format(*row["test"])
    assert lines[2].startswith("| accuracy | ")
    assert cell in lines[2]
    assert "{:+.3f} [{:+.3f}".format(*row["difference"]) in lines[2]
    assert all(line.count("|") == 7 for line in lines[:7])
    assert "Rows: train 900, test 900, validation 900." in text
    html = report._repr_html_()
    assert "Bold: a difference whose interval leaves 0 out." in html
    assert cell in re.sub(r"<[^>]*>", "", html)
    assert "<li>" in html
    assert cell in repr(report)
    assert repr(report) == str(report)
    for sentence in report.warnings:
        assert f"- {sentence}" in lines
        assert f"! {sentence}" in repr(report)


def test_html_is_escaped(model):
    labels = np.where(TEST[2] == "f", "<b>", "m")
    few = np.arange(600) < 10
    labels[few] = "<i>"
    report = fairness_report(model, train=(*TRAIN[:2], labels), test=TEST)
    assert report.warnings
    assert "<i>" not in report._repr_html_()


def test_plot(report):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    axes = report.plot()
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [
        "train",
        "test",
        "validation",
    ]
    assert [t.get_text() for t in axes.get_yticklabels()][2] == (
        "equalized odds difference"
    )
    assert "95% interval" in axes.get_xlabel()
    lines = [c.lines[0] for c in axes.containers]
    np.testing.assert_allclose(
        lines[1].get_xdata(), report.table["test", "value"].to_numpy()
    )
    # The train marks are darker than the others, so that grey tells them apart.
    assert len({line.get_color() for line in lines}) == 3
    named = fairness_report(
        {"train": TRAIN[1], "test": TEST[1]},
        train=(None, TRAIN[1], pd.DataFrame({"$\\frac$": TRAIN[2], "b": TRAIN[1]})),
        test=(None, TEST[1], pd.DataFrame({"$\\frac$": TEST[2], "b": TEST[1]})),
    )
    named.plot().figure.canvas.draw()
    figure, mine = plt.subplots()
    assert report.plot(ax=mine) is mine
    plt.close("all")


def test_plot_without_matplotlib(report, monkeypatch):
    original = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(
        ImportError, match=r"needs matplotlib; install fairskorch\[plot"
    ):
        report.plot()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": TRAIN}, "splits 'train' and 'test' .* are the same rows"),
        ({"test": (TRAIN[0], *TEST[1:])}, "'train' and 'test' .* the same rows"),
        ({"splits": {"more": TEST}}, "'test' and 'more' .* the same rows"),
        ({"splits": {"difference": make()}}, "must not use the name 'difference'"),
        ({"splits": {"train": make()}}, "must not use the name 'train'"),
        ({"test": TEST[:2]}, r"'test' .* must be \(X, y, groups\); got tuple of 2"),
        ({"test": 3}, r"must be \(X, y, groups\); got int\."),
        ({"test": (*TEST[:2], TEST[2][:9])}, "split 'test', .* got 600 and 9"),
        ({"test": (*TEST[:2], None)}, "split 'test', must give the group"),
        ({"test": (TEST[0], None, TEST[2])}, "y of .* 'test', must give the label"),
        ({"splits": [make()]}, "must be a dict .*; got list"),
        ({"splits": {1: make()}}, r"must be a dict .*; got the names \[1\]"),
        (
            {"test": (*TEST[:2], ["overall"] * 600)},
            "must call no group of 'group' 'overall'",
        ),
        ({"random_state": -1}, "whole number that is not negative, .*; got -1"),
        ({"random_state": "a"}, "random_state must be None, .*; got 'a'"),
        ({"confidence_level": "95%"}, "confidence_level must be .*; got '95%'"),
        (
            {"test": (*TEST[:2], np.column_stack([TEST[2], TEST[2]]))},
            "must have the same columns; got {'train': 1, 'test': 2}",
        ),
        (
            {"test": (pd.DataFrame({"sex": TEST[2]}), TEST[1], ["sex"])},
            r"split 'test', must hold .*: pass groups=X\[\['sex'\]\]",
        ),
        ({"metrics": ["equalized_odds"]}, "Did you mean 'equalized_odds_difference'"),
        ({"confidence_level": 95}, r"confidence_level must be in \(0, 1\)"),
        ({"pos_label": 7}, r"pos_label of fairness_report .* \[0, 1\]; got 7"),
        (
            {"train": (*TRAIN[:2], [None] * 600), "test": (*TEST[:2], [None] * 600)},
            "every row's is missing",
        ),
    ],
)
def test_bad_input(model, changes, message):
    with pytest.raises(ValueError, match=message):
        fairness_report(model, **({"train": TRAIN, "test": TEST} | changes))
