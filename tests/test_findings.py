"""What a report warns of, and with which evidence."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csc_matrix, csr_array
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fairskorch import FairLastLayerClassifier, FairNeuralClassifier
from fairskorch.audit import Finding, _overlap, fairness_report

OPPORTUNITY = "equal_opportunity_difference"


class ReadOff:
    """Predict what a column says."""

    def __init__(self, column):
        self.column = column

    def predict(self, X):
        return X[:, self.column].astype(int)


def rows(shares, n=200, seed=0):
    """Draw columns of predictions whose true-positive rates are given.

    `shares` has the shape (columns, groups); every group has n rows of class 1 and n of
    class 0, none of which is predicted positive.
    """
    rng = np.random.default_rng(seed)
    shares = np.asarray(shares, dtype=float)
    n_columns, n_groups = shares.shape
    y = np.tile(np.repeat([1, 0], n), n_groups)
    groups = np.repeat(np.arange(n_groups), 2 * n)
    X = np.zeros((len(y), n_columns + 1))
    for column, group in np.ndindex(n_columns, n_groups):
        hits = np.flatnonzero((y == 1) & (groups == group))
        X[hits[: round(n * shares[column, group])], column] = 1
    # Rows of their own, so that none looks like another.
    X[:, -1] = rng.random(len(y))
    return X, y, groups


def kinds(report):
    return [finding.kind for finding in report.warnings]


def report_of(shares, groups=None, n=200, **options):
    train, test = rows(shares, n, seed=0), rows(shares, n, seed=1)
    if groups is not None:
        train, test = ((X, y, groups(g)) for X, y, g in (train, test))
    return fairness_report(
        ReadOff(0),
        train=train,
        test=test,
        baseline=ReadOff(1) if len(shares) > 1 else None,
        metrics=["accuracy", OPPORTUNITY],
        random_state=0,
        **options,
    )


def test_levelling_down():
    report = report_of([[0.5, 0.5], [0.5, 0.8]])
    (found,) = report.warnings
    assert found.kind == "levelling down"
    assert "the gap in recall of class 1 went from 0.300 to 0.000" in found
    assert "1 -0.300 (" in found
    assert found.evidence["before"] == pytest.approx(0.3)
    value, low, high = found.evidence["changes"][1]
    assert value == pytest.approx(-0.3)
    assert low < value < high < 0
    assert found.evidence["changes"][0][0] == 0
    changes = report.changes["true_positive_rate", "value"]
    np.testing.assert_allclose(changes, [0, -0.3])


@pytest.mark.parametrize(
    "shares",
    [
        [[0.8, 0.8], [0.5, 0.8]],  # the worse group gained
        [[0.65, 0.65], [0.5, 0.8]],  # both paid
        [[0.5, 0.6], [0.5, 0.6]],  # nothing closed
        [[0.3, 0.7], [0.6, 0.7]],  # the worse group lost
    ],
)
def test_no_levelling_down(shares):
    assert "levelling down" not in kinds(report_of(shares))


def test_the_gap_moved_to_another_column():
    def columns(groups):
        return pd.DataFrame({"sex": groups // 2, "age": groups % 2})

    #                 sex, age: 00   01   10   11
    report = report_of([[0.5, 0.8, 0.5, 0.8], [0.5, 0.5, 0.8, 0.8]], columns)
    moved = [w for w in report.warnings if w.kind == "gap moved"]
    assert len(moved) == 1
    assert moved[0].startswith(f"test: {OPPORTUNITY} moved from sex to age: ")
    assert moved[0].evidence["closed"]["sex"][0] == pytest.approx(-0.3)
    assert moved[0].evidence["opened"]["age"][0] == pytest.approx(0.3)


def test_a_gap_that_only_a_crossing_shows():
    def columns(groups):
        return pd.DataFrame({"sex": groups // 2, "age": groups % 2})

    report = report_of([[0.8, 0.4, 0.4, 0.8]], columns)
    (found,) = report.warnings
    assert found.kind == "gap in a crossing"
    assert "is 0.400 by sex x age and 0.000 by sex, 0.000 by age" in found
    assert found.evidence["values"]["sex x age"] == pytest.approx(0.4)
    assert report_of([[0.8, 0.8, 0.4, 0.4]], columns).warnings == []


def test_a_nearly_constant_prediction():
    report = report_of([[0.02, 0.02]])
    nearly = [w for w in report.warnings if w.kind == "nearly constant prediction"]
    assert [w.evidence["split"] for w in nearly] == ["train", "test"]
    assert nearly[1].startswith(
        "test: 99.0% of the rows are predicted 0, and 50.0% are of that class"
    )
    assert "nearly constant prediction" not in kinds(report_of([[0.2, 0.2]]))


def test_rare_classes_are_no_constant_prediction():
    rng = np.random.default_rng(0)
    sets = []
    for _ in range(2):
        y = (rng.random(4000) < 0.01).astype(int)
        X = np.column_stack(
            [np.where(rng.random(4000) < 0.002, 1 - y, y), rng.random(4000)]
        )
        sets.append((X, y, rng.integers(0, 2, 4000)))
    report = fairness_report(ReadOff(0), train=sets[0], test=sets[1])
    assert set(kinds(report)) <= {"small cells"}


def test_constant_fits_are_named():
    train, test = rows([[0.5, 0.5], [0, 0]]), rows([[0.5, 0.5], [0, 0]], seed=1)
    report = fairness_report([ReadOff(0), ReadOff(1)], train=train, test=test)
    assert "train, fit 2: every row is predicted 0" in report.warnings[0]
    assert kinds(report) == ["constant prediction"] * 2


def test_the_gravest_comes_first():
    X, y, groups = rows([[0.0, 0.0]], seed=1)
    unknown = groups.astype(object)
    unknown[:3] = None
    report = fairness_report(ReadOff(0), train=rows([[0.0, 0.0]]), test=(X, y, unknown))
    assert kinds(report) == ["constant prediction"] * 2 + ["unknown groups"]


def test_cells_of_crossed_groups_are_named_as_in_the_table():
    def columns(groups):
        return pd.DataFrame({"sex": groups // 2, "age": groups % 2})

    report = report_of([[0.8, 0.8, 0.8, 0.8]], columns, n=10)
    named = [w for w in report.warnings if w.kind == "small cells" and "x age" in w]
    assert (
        "by sex x age, whose rates are hardly known: 0 x 0 x class 0 (10)" in named[0]
    )
    assert (0, 0) in {group for group, _ in named[0].evidence["cells"]}


def test_a_finding_is_a_string_with_evidence():
    found = Finding("test: something.", "small cells", {"cells": 3})
    again = pickle.loads(pickle.dumps(found))
    assert again == found == "test: something."
    assert (again.kind, again.evidence) == ("small cells", {"cells": 3})


TRAIN, TEST = rows([[0.5, 0.6]], seed=0), rows([[0.5, 0.6]], seed=1)


def same_rows(X, y, groups):
    order = np.random.default_rng(0).permutation(len(y))
    return {
        "copy": (X.copy(), y, groups),
        "in another order": (X[order], y[order], groups[order]),
        "of another type": (X.astype(np.float32), y, groups),
        "a part": (X[::3], y[::3], groups[::3]),
        "with others": tuple(
            np.concatenate([a[:300], b[:200]])
            for a, b in zip((X, y, groups), TEST, strict=True)
        ),
    }


@pytest.mark.parametrize("name", same_rows(*TRAIN))
def test_the_same_rows_are_refused(name):
    with pytest.raises(ValueError, match="'train' and 'test' .* are the same rows"):
        fairness_report(ReadOff(0), train=TRAIN, test=same_rows(*TRAIN)[name])


def test_the_same_rows_of_frames_and_few_values_are_refused():
    X, y, groups = TRAIN
    frames = [pd.DataFrame(X, columns=list("ab")).assign(c="x") for _ in range(2)]

    class First:
        def predict(self, X):
            return X["a"].astype(int)

    with pytest.raises(ValueError, match="same rows"):
        fairness_report(
            First(), train=(frames[0], y, groups), test=(frames[1], y, groups)
        )
    # Where rows are alike anyway, only the whole is evidence.
    few = X[:, :1]
    with pytest.raises(ValueError, match="same rows"):
        fairness_report(
            ReadOff(0), train=(few, y, groups), test=(few.copy(), y, groups)
        )
    other = (few[::-1].copy(), y[::-1].copy(), groups[::-1].copy())
    assert (
        fairness_report(ReadOff(0), train=(few, y, groups), test=other).warnings == []
    )


CONTAINERS = {
    "tensor": lambda X: torch.tensor(X),
    "half tensor": lambda X: torch.tensor(X).bfloat16(),
    "list": lambda X: X.tolist(),
    "sparse array": csr_array,
    "sparse matrix": csc_matrix,
    "objects": lambda X: X.astype(object),
    "images": lambda X: np.repeat(X, 50, axis=1).reshape(len(X), 4, 5, 5),
}


class Given:
    """Predict anything."""

    def predict(self, X):
        return np.arange(X.shape[0] if hasattr(X, "shape") else len(X)) % 2


@pytest.mark.parametrize("kind", CONTAINERS)
def test_the_same_rows_of_any_container_are_refused(kind):
    X, y, groups = TRAIN
    a, b = (CONTAINERS[kind](X) for _ in range(2))
    with pytest.raises(ValueError, match="same rows"):
        fairness_report(Given(), train=(a, y, groups), test=(b, y, groups))
    other = CONTAINERS[kind](TEST[0])
    report = fairness_report(Given(), train=(a, y, groups), test=(other, y, groups))
    assert report.warnings == []


def test_rows_without_content_to_look_at_are_told_by_the_object():
    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 800

    _, y, groups = TRAIN
    rows, ragged = Rows(), [[0.0] * (i % 3) for i in range(800)]
    report = fairness_report(Given(), train=(rows, y, groups), test=(ragged, *TEST[1:]))
    assert report.warnings == []
    with pytest.raises(ValueError, match="same rows"):
        fairness_report(Given(), train=(rows, y, groups), test=(rows, *TEST[1:]))


def test_some_shared_rows_are_counted():
    mixed = tuple(
        np.concatenate([a, b[:100]]) for a, b in zip(TEST, TRAIN, strict=True)
    )
    (found,) = fairness_report(ReadOff(0), train=TRAIN, test=mixed).warnings
    assert found.kind == "shared rows"
    assert found.startswith("train and test: 100 of 800 rows")
    assert found.evidence["rows"] == 100


def test_some_shared_rows_of_many_are_counted_about(monkeypatch):
    monkeypatch.setattr(_overlap, "COMPARED", 150)
    mixed = tuple(
        np.concatenate([a, b[:160]]) for a, b in zip(TEST, TRAIN, strict=True)
    )
    (found,) = fairness_report(ReadOff(0), train=TRAIN, test=mixed).warnings
    assert found.evidence["share"] == pytest.approx(0.2, abs=0.1)
    assert found.evidence["rows"] == pytest.approx(160, abs=80)
    with pytest.raises(ValueError, match="same rows"):
        fairness_report(ReadOff(0), train=TRAIN, test=[x[::-1] for x in TRAIN])


def test_shared_subjects_are_counted():
    subjects = {"train": np.arange(800) // 2, "test": 390 + np.arange(800) // 2}
    report = fairness_report(ReadOff(0), train=TRAIN, test=TEST, subjects=subjects)
    (found,) = report.warnings
    assert found.startswith("train and test share 10 subjects (20 rows of test)")
    assert found.evidence == {"splits": ("train", "test"), "subjects": 10, "rows": 20}
    apart = {"train": np.arange(800), "test": 800 + np.arange(800)}
    report = fairness_report(ReadOff(0), train=TRAIN, test=TEST, subjects=apart)
    assert report.warnings == []


def test_cells_of_few_subjects_are_named():
    subjects = np.arange(800)
    subjects[:200] = np.arange(200) % 3
    report = fairness_report(
        ReadOff(0), train=TRAIN, test=TEST, subjects={"test": subjects}
    )
    (found,) = report.warnings
    assert found == (
        "test: cells of fewer than 5 subjects, who tell little of others: "
        "0 x class 1 (3)."
    )
    assert found.evidence["subjects"] == {(0, 1): 3}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(3):
        X = rng.normal(size=(200, 4))
        groups = np.where(rng.random(200) < 0.5, "a", "b")
        found.append((X, (X[:, 0] + rng.normal(size=200) > 0).astype(int), groups))
    return found


@pytest.fixture(scope="module")
def network(data):
    (X, y, groups), (X_val, y_val, groups_val), _ = data
    stopping = {"early_stopping": "equalized_odds_difference"}
    return FairNeuralClassifier(max_epochs=3, random_state=0, **stopping).fit(
        X, y, groups, X_val=X_val, y_val=y_val, groups_val=groups_val
    )


def test_rows_that_an_estimator_knows_are_not_held_out(data, network):
    train, valid, test = data
    kinds_of = [
        (w.kind, w.evidence.get("split"), w.evidence.get("role"))
        for w in fairness_report(network, train=valid, test=train).warnings
    ]
    assert ("rows that chose", "test", "fitted") in kinds_of
    assert ("not trained on", "train", None) in kinds_of
    report = fairness_report(network, train=train, test=test, splits={"valid": valid})
    (found,) = [w for w in report.warnings if w.kind == "rows that chose"]
    assert found == (
        "valid: 100% of the rows that FairNeuralClassifier had its epoch or its weight "
        "chosen by are among these, so they are not held out."
    )
    assert found.evidence == {
        "split": "valid",
        "share": 1.0,
        "estimator": 0,
        "role": "chosen",
    }


def test_rows_that_were_only_watched_are_held_out(data):
    (X, y, groups), valid, test = data
    names = dict(zip(("X_val", "y_val", "groups_val"), valid, strict=True))
    watched = FairNeuralClassifier(max_epochs=1, random_state=0).fit(
        X, y, groups, **names
    )
    report = fairness_report(watched, train=data[0], test=test, splits={"valid": valid})
    assert "rows that chose" not in kinds(report)


def test_a_new_last_layer_knows_its_rows_and_those_of_its_network(data, network):
    train, valid, test = data
    head = FairLastLayerClassifier(
        FrozenEstimator(network), max_epochs=20, random_state=0
    ).fit(*test)
    report = fairness_report(head, train=train, test=test)
    shares = {w.evidence["split"]: w.evidence["share"] for w in report.warnings}
    assert 0.4 < shares["test"] < 0.6


def test_an_estimator_at_the_end_of_a_pipeline_is_asked_too(data):
    train, _, test = data
    pipe = make_pipeline(
        StandardScaler(),
        FairNeuralClassifier(penalty=None, max_epochs=2, random_state=0),
    ).fit(*test[:2])
    report = fairness_report(FrozenEstimator(pipe), train=train, test=test)
    assert "rows that chose" in kinds(report)


@pytest.mark.parametrize(
    "estimator", [FairNeuralClassifier(), FairLastLayerClassifier(DummyClassifier())]
)
def test_an_estimator_that_was_not_fitted_is_refused(data, estimator):
    train, _, test = data
    with pytest.raises(NotFittedError, match=f"{type(estimator).__name__} instance is"):
        fairness_report(estimator, train=train, test=test)


def test_other_estimators_are_asked_nothing(data):
    train, _, test = data
    model = LogisticRegression().fit(*test[:2])
    assert kinds(fairness_report(model, train=train, test=test)) == []
