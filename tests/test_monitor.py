"""What the history says: exact numbers, of any metric between any groups."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from fairskorch import FairNeuralClassifier, metrics
from fairskorch.batches import GroupedRows
from fairskorch.modules import MLP
from fairskorch.monitor import FairnessMonitor
from fairskorch.nets import GroupPenaltyNet

pytestmark = pytest.mark.filterwarnings(
    "ignore::fairskorch.exceptions.ConstantPredictionWarning"
)

ASKED = ["demographic_parity_difference", "equalized_odds_ratio", "worst_cell_accuracy"]


def quick(**params):
    return FairNeuralClassifier(**{"max_epochs": 2, "random_state": 0, **params})


@pytest.fixture
def two_columns(table):
    """The table's groups beside an older half, unknown for some."""
    X, y, groups = table
    age = np.where(X[:, 1] > 0, "old", "young").astype(object)
    age[:20] = None
    return X, y, pd.DataFrame({"sex": groups, "age": age})


def halves(data, **params):
    """Train on 300 rows and monitor the other 100, so that all rows are known."""
    X, y, frame = data
    return quick(monitor="all", **params).fit(
        X[:300],
        y[:300],
        frame[:300],
        X_val=X[300:],
        y_val=y[300:],
        groups_val=frame[300:],
    )


@pytest.mark.parametrize("part", ["train", "valid"])
def test_metrics_and_attributes_are_those_of_predictions(part, two_columns):
    X, y, frame = two_columns
    clf = halves(
        two_columns,
        penalty_attributes=["sex"],
        monitor_metrics=ASKED,
        monitor_attributes=["age", ("sex", "age")],
    )
    rows = slice(0, 300) if part == "train" else slice(300, 400)
    predicted, row = clf.predict(X[rows]), clf.history_.iloc[-1]
    asked = [*ASKED, "equalized_odds_difference"]
    columns = {"": "sex", "_by_age": "age", "_by_sex_age": ["sex", "age"]}
    for suffix, column in columns.items():
        for name in asked:
            expected = getattr(metrics, name)(
                y[rows], predicted, sensitive_features=frame[rows][column]
            )
            found = row[f"{part}_{name}{suffix}"]
            assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)
            over = row[f"overfit_{name}{suffix}"]
            difference = row[f"valid_{name}{suffix}"] - row[f"train_{name}{suffix}"]
            assert over == pytest.approx(difference, nan_ok=True)


def test_watching_changes_nothing_that_is_trained(two_columns):
    X, _, frame = two_columns
    plain = halves((*two_columns[:2], frame[["sex"]]))
    watched = halves(
        two_columns,
        penalty_attributes=["sex"],
        monitor_metrics=ASKED,
        monitor_attributes=["age"],
    )
    np.testing.assert_array_equal(plain.predict_proba(X), watched.predict_proba(X))
    assert watched.groups_.tolist() == ["a", "b"]
    pd.testing.assert_frame_equal(
        plain.history_.drop(columns="seconds"),
        watched.history_[plain.history_.columns].drop(columns="seconds"),
    )


def test_columns_of_an_array_have_numbers(two_columns):
    X, y, frame = two_columns
    clf = quick(penalty_attributes=["group_0"], monitor_attributes=["group_1"])
    clf.fit(X, y, frame.to_numpy())
    assert clf.groups_.tolist() == ["a", "b"]
    assert "valid_equalized_odds_difference_by_group_1" in clf.history_
    again = clone(clf)
    assert again.get_params()["monitor_attributes"] == ["group_1"]


def test_without_penalty_and_over_calls(two_columns):
    X, y, frame = two_columns
    clf = quick(penalty=None, monitor_attributes=["age"], warm_start=True)
    clf.fit(X, y, frame).set_params(monitor_attributes=["sex"]).fit(X, y, frame)
    name = "train_equalized_odds_difference_by_"
    assert clf.history_[name + "age"].notna().tolist() == [True, True, False, False]
    assert clf.history_[name + "sex"].notna().tolist() == [False, False, True, True]
    part = quick(monitor_attributes=["age"], penalty_attributes=["sex"])
    part.partial_fit(X, y, frame)
    part.partial_fit(X, y, frame.assign(age="new"))
    assert part.history_[name + "age"].notna().tolist() == [True, False]
    overall = quick(penalty=None, monitor_metrics=["accuracy"]).fit(X, y)
    assert "valid_accuracy" in overall.history_


def test_three_hundred_groups_and_one(rng):
    X = rng.normal(size=(1200, 3))
    frame = pd.DataFrame(
        {"half": np.arange(1200) // 2 % 2, "many": np.arange(1200) // 4, "one": "x"}
    )
    clf = quick(
        penalty_attributes=["half"],
        monitor_attributes=["many", "one"],
        monitor_metrics=["accuracy_difference"],
    ).fit(X, np.arange(1200) % 2, frame)
    assert clf.history_["valid_accuracy_difference_by_many"].between(0, 1).all()
    # One group has nothing to be compared with.
    assert "valid_accuracy_difference_by_one" not in clf.history_


def test_the_net_watches_codes(table):
    X, y, groups = table
    codes = (groups == "b").astype(int)
    other = (X[:, 1] > 0).astype(int)
    net = GroupPenaltyNet(
        MLP,
        module__n_features=5,
        module__n_classes=2,
        criterion__reduction="none",
        max_epochs=1,
        verbose=0,
        monitor_metrics=["accuracy_difference"],
    )
    net.fit({"X": X, "groups": codes, "attributes": {"other": other}}, y)
    right = net.predict(X) == y
    gap = abs(right[other == 0].mean() - right[other == 1].mean())
    found = net.history[-1, "train_accuracy_difference_by_other"]
    assert found == pytest.approx(gap, abs=1e-12)
    rows = GroupedRows(X, y, codes, attributes={"other": other}).subset([3, 5])
    assert rows.attributes["other"].tolist() == other[[3, 5]].tolist()
    assert isinstance(dict(net.callbacks_)["monitor"], FairnessMonitor)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"monitor_metrics": ["equalised_odds_difference"]}, "Did you mean 'equalized"),
        ({"monitor_metrics": ["dp"]}, "Did you mean 'demographic_parity_difference'"),
        ({"monitor_metrics": ["accuracy"], "monitor": None}, "no effect with monitor="),
        ({"monitor_attributes": ["agee"]}, "no such column. Did you mean 'age'"),
        ({"penalty_attributes": ["race"]}, "penalty_attributes of FairNeural.*'race'"),
        ({"monitor_attributes": "age"}, "'monitor_attributes' parameter"),
    ],
)
def test_what_cannot_be_watched_is_refused(params, message, two_columns):
    with pytest.raises(ValueError, match=message):
        quick(**params).fit(*two_columns)


def test_groups_are_needed_to_watch_them(table):
    X, y, _ = table
    plain = quick(penalty=None)
    for name in ("monitor_attributes", "penalty_attributes"):
        with pytest.raises(ValueError, match=f"{name} of .* none were given"):
            clone(plain).set_params(**{name: ["sex"]}).fit(X, y)
    with pytest.raises(ValueError, match="'accuracy_difference', which needs the gr"):
        plain.set_params(monitor_metrics=["accuracy_difference"]).fit(X, y)


def test_held_out_rows_need_the_same_columns(two_columns):
    X, y, frame = two_columns
    clf = quick(penalty_attributes=["sex"], monitor_attributes=["age"])
    with pytest.raises(ValueError, match="names 'age', and the sensitive features"):
        clf.fit(X, y, frame, X_val=X, y_val=y, groups_val=frame[["sex"]])
    assert not hasattr(clf, "net_")
