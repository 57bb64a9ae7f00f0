"""What a report can be of: fits, predictions, post-processors, columns, subjects."""

import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from fairlearn.postprocessing import ThresholdOptimizer
from fairlearn.reductions import DemographicParity, ExponentiatedGradient
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from fairskorch import metrics
from fairskorch.audit import fairness_report
from fairskorch.metrics import METRICS

GAP = "equalized_odds_difference"
OF_SCORES = [
    name + end
    for name in ("roc_auc", "brier_score", "calibration_error")
    for end in ("", "_difference")
]


def make(n=600, seed=0, n_classes=2):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    sex = np.where(rng.random(n) < 0.4, "f", "m")
    age = np.where(rng.random(n) < 0.3, "old", "young")
    X[:, 2] = sex == "m"
    score = X[:, 0] + (sex == "m") + 0.5 * (age == "old") + rng.normal(size=n)
    y = np.digitize(score, np.quantile(score, np.arange(1, n_classes) / n_classes))
    return X, y, pd.DataFrame({"sex": sex, "age": age})


def by_sex(split):
    X, y, groups = split
    return X, y, groups["sex"].to_numpy()


TRAIN, TEST = make(seed=0), make(seed=1)
ONE = {"train": by_sex(TRAIN), "test": by_sex(TEST)}
BOTH = {"train": TRAIN, "test": TEST}


@pytest.fixture(scope="module")
def model():
    return LogisticRegression().fit(*TRAIN[:2])


@pytest.fixture(scope="module")
def other():
    return LogisticRegression(C=1e-3).fit(*TRAIN[:2])


def test_each_column_alone_and_all_crossed(model, other):
    options = {"baseline": other, "random_state": 0, "metrics": [*METRICS, "roc_auc"]}
    report = fairness_report(model, **BOTH, **options)
    table = report.table
    assert table.index.names == ["metric", "by"]
    assert table.loc["accuracy"].index.tolist() == ["all rows"]
    assert table.loc[GAP].index.tolist() == ["sex", "age", "sex x age"]
    single = fairness_report(model, **ONE, **options).table
    pd.testing.assert_frame_equal(
        table.xs("sex", level="by"), single.loc[table.xs("sex", level="by").index]
    )
    X, y, groups = TEST
    for by, columns in {"age": groups["age"], "sex x age": groups}.items():
        for name in (GAP, "worst_cell_accuracy", "demographic_parity_ratio"):
            value = getattr(metrics, name)(
                y, model.predict(X), sensitive_features=columns
            )
            assert table.loc[(name, by), ("test", "value")] == pytest.approx(value)


def test_columns_of_groups_are_found_by_their_names(model):
    X, y, groups = TEST
    turned = fairness_report(model, train=TRAIN, test=(X, y, groups[["age", "sex"]]))
    expected = fairness_report(model, **BOTH)
    pd.testing.assert_frame_equal(turned.table, expected.table)
    pd.testing.assert_frame_equal(turned.by_group, expected.by_group)


def test_groups_of_each_column_and_of_all(model, other):
    report = fairness_report(model, **BOTH, baseline=other, random_state=0)
    groups = report.by_group.loc["test"]
    assert groups.index.tolist() == [
        *(("f", "overall"), ("m", "overall"), ("overall", "old"), ("overall", "young")),
        *(("f", "old"), ("f", "young"), ("m", "old"), ("m", "young")),
        ("overall", "overall"),
    ]
    X, y, frame = TEST
    right = model.predict(X) == y
    found = groups["accuracy", "value"]
    assert found["f", "overall"] == pytest.approx(right[frame["sex"] == "f"].mean())
    assert found["overall", "old"] == pytest.approx(right[frame["age"] == "old"].mean())
    assert found["overall", "overall"] == pytest.approx(right.mean())
    before = other.predict(X) == y
    changes = report.changes["accuracy"]
    assert changes.index.tolist() == groups.index.tolist()[:-1]
    for (sex, age), change in changes.iterrows():
        rows = (frame["sex"] == sex) | (sex == "overall")
        rows &= (frame["age"] == age) | (age == "overall")
        value = right[rows].mean() - before[rows].mean()
        assert change["value"] == pytest.approx(value)
        assert change["low"] <= value <= change["high"]


def test_a_row_may_be_unknown_in_one_column(model):
    X, y, groups = TEST
    groups = groups.astype(object)
    groups.loc[:9, "age"] = None
    report = fairness_report(model, train=TRAIN, test=(X, y, groups))
    assert report.warnings == [
        "test: 10 rows of unknown age count only in metrics that compare no groups, "
        "such as accuracy."
    ]
    counts = report.by_group["count", "value"].loc["test"]
    assert counts["f", "overall"] == (groups["sex"] == "f").sum()
    assert counts["overall", "overall"] == 590
    gap = metrics.equalized_odds_difference(
        y, model.predict(X), sensitive_features=groups["sex"]
    )
    assert report.table.loc[(GAP, "sex"), ("test", "value")] == pytest.approx(gap)


@pytest.fixture(scope="module")
def fits():
    rng = np.random.default_rng(0)
    X, y, _ = TRAIN
    draws = [rng.integers(0, 600, 60) for _ in range(4)]
    return [LogisticRegression().fit(X[i], y[i]) for i in draws]


def test_several_fits(fits, other):
    options = {"baseline": other, "random_state": 0, "metrics": [*METRICS, "roc_auc"]}
    report = fairness_report(fits, **ONE, **options)
    alone = [fairness_report(fit, **ONE, **options) for fit in fits]
    for key in ("train", "test", "difference", "versus baseline"):
        mean = np.mean([r.table[key, "value"] for r in alone], axis=0)
        np.testing.assert_allclose(report.table[key, "value"], mean, atol=1e-12)
    for i, one in enumerate(alone):
        np.testing.assert_array_equal(
            report.fits["test", i], one.table["test", "value"]
        )
    # What fits differ by is added to what rows differ by.
    widths = [np.mean([r.table["test", s] for r in alone], 0) for s in ("low", "high")]
    assert (report.table["test", "low"] <= widths[0] + 1e-9).all()
    assert (report.table["test", "high"] >= widths[1] - 1e-9).all()
    wider = report.table["test"].loc["accuracy"]
    assert wider["high"] - wider["low"] > 1.2 * (widths[1] - widths[0])[9]
    assert report.table["test", "low"].min() >= 0
    assert "Means of 4 fits" in report.to_markdown()
    groups = report.by_group["accuracy", "value"]["test", "f"]
    assert groups == pytest.approx(
        np.mean([r.by_group["accuracy", "value"]["test", "f"] for r in alone])
    )


def test_fits_are_compared_in_pairs(fits, model):
    report = fairness_report(fits, **ONE, baseline=fits, random_state=0)
    assert (report.table["versus baseline", "value"] == 0).all()
    one = fairness_report(model, **ONE, baseline=fits, random_state=0)
    against = fairness_report(fits, **ONE, baseline=model, random_state=0)
    np.testing.assert_allclose(
        one.table["versus baseline", "value"],
        -against.table["versus baseline", "value"],
    )
    with pytest.raises(ValueError, match="as many as estimator has; got 3 and 4"):
        fairness_report(fits, **ONE, baseline=fits[:3])


def test_given_predictions_are_the_same_report(model, other):
    options = {"metrics": [*METRICS, *OF_SCORES], "random_state": 0}
    expected = fairness_report(model, **ONE, baseline=other, **options)
    given = {
        key: (model.predict(X), model.predict_proba(X))
        for key, (X, _, _) in ONE.items()
    }
    rows = {key: (None, y, groups) for key, (_, y, groups) in ONE.items()}
    # Of two labels the probability of the larger is enough.
    X = ONE["test"][0]
    baseline = {"test": (other.predict(X), other.predict_proba(X)[:, 1])}
    report = fairness_report(given, **rows, baseline=baseline, **options)
    pd.testing.assert_frame_equal(report.table, expected.table)
    assert report.warnings == expected.warnings
    labels = {key: pair[0] for key, pair in given.items()}
    pd.testing.assert_frame_equal(
        fairness_report(labels, **rows).table, fairness_report(model, **ONE).table
    )


def test_pipelines_and_searches(model):
    pipe = make_pipeline(StandardScaler(), LogisticRegression(C=1e6))
    pipe = pipe.fit(*TRAIN[:2])
    search = GridSearchCV(pipe, {"logisticregression__C": [1e6]}, cv=2)
    tables = [
        fairness_report(m, **ONE, metrics=[GAP, "roc_auc"], random_state=0).table
        for m in (pipe, search.fit(*TRAIN[:2]))
    ]
    pd.testing.assert_frame_equal(*tables)
    X, y, groups = ONE["test"]
    gap = metrics.equalized_odds_difference(
        y, pipe.predict(X), sensitive_features=groups
    )
    assert tables[0].loc[GAP, ("test", "value")] == pytest.approx(gap)


@pytest.fixture(scope="module")
def thresholds(model):
    return ThresholdOptimizer(
        estimator=model,
        constraints="equalized_odds",
        prefit=True,
        predict_method="predict_proba",
    ).fit(*TRAIN[:2], sensitive_features=TRAIN[2]["sex"])


def test_a_post_processor_gets_groups_and_a_seed(thresholds, model):
    report = fairness_report(thresholds, **ONE, baseline=model, random_state=7)
    X, y, groups = ONE["test"]
    predicted = thresholds.predict(X, sensitive_features=groups, random_state=7)
    expected = metrics.equalized_odds_difference(
        y, predicted, sensitive_features=groups
    )
    assert report.table.loc[GAP, ("test", "value")] == pytest.approx(expected)
    # As the last step of a pipeline too.
    pipe = make_pipeline(StandardScaler(with_mean=False, with_std=False), thresholds)
    pipe.steps[0][1].fit(X)
    again = fairness_report(pipe, **ONE, baseline=model, random_state=7)
    pd.testing.assert_frame_equal(again.table, report.table)


def test_rows_of_unknown_group_cannot_be_post_processed(thresholds, model):
    X, y, groups = ONE["test"]
    hidden = groups.astype(object)
    hidden[:20] = None
    rows = {"train": ONE["train"], "test": (X, y, hidden)}
    subjects = {"test": np.arange(600)}
    report = fairness_report(
        model, **rows, baseline=thresholds, random_state=0, subjects=subjects
    )
    assert report.warnings == [
        "test: 20 rows of unknown group are left out of everything; the classifier "
        "needs the group to predict."
    ]
    kept = fairness_report(
        model,
        train=ONE["train"],
        test=(X[20:], y[20:], groups[20:]),
        baseline=thresholds,
        random_state=0,
    )
    pd.testing.assert_frame_equal(report.table["test"], kept.table["test"])
    with pytest.raises(ValueError, match="'test' .* has no row of known group"):
        fairness_report(thresholds, train=ONE["train"], test=(X, y, np.full(600, None)))


def test_a_report_can_be_pickled(model, other):
    report = fairness_report(
        model, **BOTH, baseline=other, metrics=[GAP, *OF_SCORES], random_state=0
    )
    again = pickle.loads(pickle.dumps(report))
    pd.testing.assert_frame_equal(again.by_group, report.by_group)
    assert repr(again) == repr(report)


def test_a_randomised_classifier_gets_a_seed():
    X, y, groups = ONE["train"]
    with warnings.catch_warnings():
        # fairlearn's own use of pandas.
        warnings.simplefilter("ignore")
        mixture = ExponentiatedGradient(
            LogisticRegression(), DemographicParity(), max_iter=3
        ).fit(X, y, sensitive_features=groups)
    tables = [
        fairness_report(mixture, **ONE, random_state=seed).table for seed in (3, 3)
    ]
    pd.testing.assert_frame_equal(*tables)
    right = mixture.predict(ONE["test"][0], random_state=3) == ONE["test"][1]
    assert tables[0].loc["accuracy", ("test", "value")] == pytest.approx(right.mean())


@pytest.mark.parametrize("n_classes", [2, 3])
def test_metrics_of_probabilities(n_classes):
    train, test = (by_sex(make(800, seed, n_classes)) for seed in (0, 1))
    model = LogisticRegression().fit(*train[:2])
    other = LogisticRegression(C=1e-3).fit(*train[:2])
    report = fairness_report(
        model, train=train, test=test, baseline=other, metrics=OF_SCORES, random_state=0
    )
    X, y, groups = test

    def area(classifier, rows):
        chance = classifier.predict_proba(X[rows])
        if n_classes == 2:
            return roc_auc_score(y[rows], chance[:, 1])
        return roc_auc_score(y[rows], chance, multi_class="ovr")

    table = report.table
    values = [area(model, groups == g) for g in "fm"]
    everyone = np.ones(len(y), bool)
    assert table.loc["roc_auc", ("test", "value")] == pytest.approx(
        area(model, everyone)
    )
    gap = table.loc["roc_auc_difference", ("test", "value")]
    assert gap == pytest.approx(np.ptp(values))
    np.testing.assert_allclose(
        report.by_group["roc_auc", "value"].loc["test"],
        [*values, area(model, everyone)],
    )
    change = area(model, everyone) - area(other, everyone)
    found = table.loc["roc_auc"]["versus baseline"]
    assert found["value"] == pytest.approx(change)
    assert table.notna().all(axis=None)
    for key in table.columns.unique(0):
        assert (table[key, "low"] <= table[key, "value"]).all()
        assert (table[key, "value"] <= table[key, "high"]).all()
    assert report.warnings == []


def test_overall_is_over_rows_of_known_group(model):
    X, y, groups = by_sex(TEST)
    known = np.arange(len(y)) % 3 > 0
    report = fairness_report(
        model,
        train=by_sex(TRAIN),
        test=(X, y, np.where(known, groups, None)),
        metrics=["accuracy", "roc_auc", "brier_score"],
    )
    alone = fairness_report(
        model,
        train=by_sex(TRAIN),
        test=(X[known], y[known], groups[known]),
        metrics=["accuracy", "roc_auc", "brier_score"],
    )
    found, expected = (r.by_group.loc["test", "overall"] for r in (report, alone))
    values = [rate for rate in found.index if rate[1] == "value"]
    np.testing.assert_allclose(found[values], expected[values], rtol=1e-12)
    every = roc_auc_score(y, model.predict_proba(X)[:, 1])
    assert report.table["test", "value"]["roc_auc"] == pytest.approx(every)


def test_the_same_classifier_is_no_other(model):
    report = fairness_report(
        model, **ONE, baseline=model, metrics=[*METRICS, *OF_SCORES], random_state=0
    )
    changes = report.table["versus baseline"]
    assert (changes["value"] == 0).all()
    assert (changes["low"] <= 0).all()
    assert (changes["high"] >= 0).all()
    single = report.table["test"].loc["roc_auc"]
    assert changes.loc["roc_auc", "high"] < 0.2 * (single["high"] - single["low"])


def test_scores_without_a_scale_have_an_area_only():
    model = LinearSVC().fit(*TRAIN[:2])
    report = fairness_report(
        model, **ONE, metrics=["roc_auc", "brier_score_difference"], random_state=0
    )
    X, y, _ = ONE["test"]
    area = roc_auc_score(y, model.decision_function(X))
    assert report.table.loc["roc_auc", ("test", "value")] == pytest.approx(area)
    turned = fairness_report(model, **ONE, metrics=["roc_auc"], pos_label=0)
    assert turned.table.loc["roc_auc", ("test", "value")] == pytest.approx(area)
    assert (
        "test: brier_score_difference is not estimable: it needs probabilities, and "
        "there are only scores." in report.warnings
    )


def test_scores_of_several_classes_are_no_probabilities():
    train, test = (by_sex(make(300, seed, 3)) for seed in (0, 1))
    model = LinearSVC().fit(*train[:2])
    with pytest.raises(ValueError, match="needs probabilities, which LinearSVC"):
        fairness_report(model, train=train, test=test, metrics=["roc_auc"])


def test_changes_of_several_classes():
    words = np.array(["low", "mid", "top"])
    train, test = (
        (X, words[y], groups)
        for X, y, groups in map(by_sex, (make(800, s, 3) for s in (0, 1)))
    )
    model, other = (LogisticRegression(C=C).fit(*train[:2]) for C in (1, 1e-3))
    report = fairness_report(model, train=train, test=test, baseline=other)
    X, _, groups = test
    rows = groups == "f"
    change = (model.predict(X) == "mid")[rows].mean()
    change -= (other.predict(X) == "mid")[rows].mean()
    found = report.changes["selection_rate_mid"].loc["f"]
    assert found["value"] == pytest.approx(change)
    assert found["low"] < change < found["high"]


def test_a_label_that_a_classifier_does_not_know():
    train, (X, y, groups) = (by_sex(make(300, seed)) for seed in (0, 1))
    y = np.where(np.arange(300) < 30, 2, y)
    model = LogisticRegression().fit(*train[:2])
    report = fairness_report(
        model, train=train, test=(X, y, groups), metrics=["brier_score"]
    )
    errors = np.column_stack([model.predict_proba(X), np.zeros(300)]) - np.eye(3)[y]
    found = report.table.loc["brier_score", ("test", "value")]
    assert found == pytest.approx((errors**2).sum(1).mean() / 2)


def test_a_baseline_with_scores_only(model):
    names = ["roc_auc", "brier_score"]
    linear = LinearSVC().fit(*TRAIN[:2])
    report = fairness_report(model, **ONE, baseline=linear, metrics=names)
    assert report.table["test"].notna().all(axis=None)
    assert report.table["versus baseline", "value"].notna().tolist() == [True, False]


class Hard:
    """Predict, and give no probability."""

    def predict(self, X):
        return (X[:, 0] > 0).astype(int)


def test_a_baseline_without_probabilities(model):
    report = fairness_report(model, **ONE, baseline=Hard(), metrics=["roc_auc", GAP])
    assert report.warnings == [
        "versus baseline: roc_auc is not estimable: the baseline gives no "
        "probabilities."
    ]
    assert report.table.loc[GAP].notna().all()


def test_too_few_rows_for_an_area_is_said(model):
    X, y, groups = ONE["test"]
    groups = groups.copy()
    groups[:6] = "x"
    report = fairness_report(
        model, train=ONE["train"], test=(X, y, groups), metrics=["roc_auc_difference"]
    )
    assert (
        "test: roc_auc_difference is not estimable: fewer than 5 rows of each class in "
        "group 'x'." in report.warnings
    )


def test_subjects_make_intervals_wider(model, other):
    X, y, groups = (np.repeat(part, 5, axis=0) for part in ONE["test"])
    rows = {"train": ONE["train"], "test": (X, y, groups)}
    options = {
        "metrics": [*METRICS, *OF_SCORES],
        "baseline": other,
        "random_state": 0,
    }
    subjects = {"test": np.arange(600).repeat(5)}
    report = fairness_report(model, **rows, subjects=subjects, **options)
    naive = fairness_report(model, **rows, **options)
    once = fairness_report(model, **ONE, **options)
    widths = [
        (r.table["test", "high"] - r.table["test", "low"]).drop(
            ["worst_cell_accuracy", "calibration_error", "calibration_error_difference"]
        )
        for r in (report, naive, once)
    ]
    assert (widths[0] > 1.2 * widths[1]).all()
    # Rows that are all alike tell as much as one of them.
    assert (widths[0] / widths[2]).mean() == pytest.approx(1, abs=0.1)
    pd.testing.assert_frame_equal(report.table["train"], naive.table["train"])
    np.testing.assert_array_equal(
        report.table["test", "value"], naive.table["test", "value"]
    )
    low, high = (report.table["versus baseline", s] for s in ("low", "high"))
    narrow = naive.table["versus baseline"]
    assert (high - low).loc["accuracy"] > 1.5 * (narrow["high"] - narrow["low"])[
        "accuracy"
    ]
    groups = report.by_group.loc["test"], naive.by_group.loc["test"]
    for rate in ("accuracy", "balanced_accuracy", "selection_rate", "roc_auc"):
        wide, narrow = ((g[rate, "high"] - g[rate, "low"]) for g in groups)
        assert (wide > 1.5 * narrow).all()
    assert (
        report.changes["accuracy", "value"] == naive.changes["accuracy", "value"]
    ).all()
    assert "By subject: test." in report.to_markdown()


def test_subjects_of_several_classes_and_unknown_ones():
    train, test = (by_sex(make(600, seed, 3)) for seed in (0, 1))
    model = LogisticRegression().fit(*train[:2])
    subjects = np.arange(600).astype(object) // 3
    subjects[::7] = None
    report = fairness_report(
        model, train=train, test=test, subjects={"test": subjects}, metrics=[*METRICS]
    )
    assert report.table.notna().all(axis=None)
    assert report.by_group.notna().all(axis=None)


def test_no_subjects_are_none(model):
    report = fairness_report(model, **ONE, subjects={})
    pd.testing.assert_frame_equal(report.table, fairness_report(model, **ONE).table)


@pytest.mark.parametrize(
    ("subjects", "message"),
    [
        ({"validation": [1] * 600}, "names the split 'validation'; the splits are"),
        ({"test": [1] * 599}, r"each of its 600 rows; got the shape \(599,\)"),
        (
            [1] * 600,
            "must be a dict of split name to the subject of each row; got list",
        ),
    ],
)
def test_bad_subjects(model, subjects, message):
    with pytest.raises(ValueError, match=message):
        fairness_report(model, **ONE, subjects=subjects)


def test_many_groups(model):
    X, y, _ = make(9000, 2)
    groups = np.arange(9000) % 300
    Xt, yt, _ = make(9000, 3)
    report = fairness_report(
        model,
        train=(X, y, groups),
        test=(Xt, yt, groups),
        baseline=LogisticRegression(C=1e-3).fit(X, y),
        metrics=["accuracy", GAP, "roc_auc"],
        n_boot=50,
    )
    assert report.table.notna().all(axis=None)
    assert len(report.by_group.loc["test"]) == 301
    assert len(report.changes) == 300
    (cells,) = {w.kind for w in report.warnings}
    assert cells == "small cells"
    assert re.search(r"\) and \d{3} more\.$", report.warnings[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimator": {"train": [0] * 600}}, "it lacks the split 'test'"),
        ({"estimator": []}, "must hold at least one fit; got an empty list"),
        ({"estimator": "clf"}, "must have predict, or be a dict .* got str"),
        ({"baseline": 3}, "baseline of fairness_report must have predict"),
        ({"test": (None, *ONE["test"][1:])}, "'test' .* has X=None, which only a dict"),
        ({"n_boot": 1}, "n_boot .* whole number of at least 2; got 1"),
        ({"metrics": []}, "must name at least one metric"),
        ({"metrics": ["roc_auc_diff"]}, "Did you mean 'roc_auc_difference'"),
        (
            {"estimator": Hard(), "metrics": ["roc_auc"]},
            "needs probabilities, which Hard",
        ),
        (
            {"estimator": {"train": ([0] * 600, 1, 2), "test": [0] * 600}},
            "a pair of labels and probabilities; got a tuple of 3",
        ),
        (
            {"estimator": {"train": [0] * 600, "test": [0] * 599}},
            "split 'test', must have 600 rows; got 599",
        ),
        (
            {
                "estimator": {k: ([0] * 600, np.full((600, 3), 0.3)) for k in ONE},
                "metrics": ["roc_auc"],
            },
            r"one column for each of the labels \[0, 1\]; got \(600, 3\)",
        ),
        (
            {
                "estimator": {k: ([0] * 600, np.full((600, 2), 3.0)) for k in ONE},
                "metrics": ["roc_auc"],
            },
            r"must be in \[0, 1\]; got values from 3 to 3",
        ),
        (
            {
                "estimator": {k: ([0] * 600, np.full(600, np.nan)) for k in ONE},
                "metrics": ["roc_auc"],
            },
            "must be finite",
        ),
    ],
)
def test_bad_input(model, changes, message):
    arguments = {"estimator": model, **ONE} | changes
    with pytest.raises(ValueError, match=message):
        fairness_report(arguments.pop("estimator"), **arguments)
