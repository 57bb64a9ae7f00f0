"""Which epoch is kept, on which rows it is chosen, and when training stops."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EarlyStopping

from fairskorch import FairNeuralClassifier
from fairskorch._marks import row_marks
from fairskorch.batches import GroupedRows
from fairskorch.exceptions import InestimableWarning
from fairskorch.selection import distance_to_optimum, fairest_within
from fairskorch.stopping import BestEpoch

pytestmark = pytest.mark.filterwarnings(
    "ignore::fairskorch.exceptions.ConstantPredictionWarning"
)

GAP = "equalized_odds_difference"


def quick(**params):
    return FairNeuralClassifier(
        **{"max_epochs": 8, "random_state": 0, "lr": 0.01, **params}
    )


class Snapshots(Callback):
    """Keep what a net predicts after each epoch."""

    def __init__(self, X):
        self.X = X
        self.found = []

    def __deepcopy__(self, memo):
        return self

    def on_epoch_end(self, net, **kwargs):
        self.found.append(net.predict_proba(GroupedRows(self.X)))


class WithNorm(torch.nn.Sequential):
    def __init__(self, n_features, n_classes):
        super().__init__(
            torch.nn.Linear(n_features, 8),
            torch.nn.BatchNorm1d(8),
            torch.nn.ReLU(),
            torch.nn.Linear(8, n_classes),
        )


def expected_epoch(history, name, drop):
    """The plain reading of the rule, epoch by epoch."""
    accuracy = history["valid_balanced_accuracy"]
    sign = 1 if name.endswith("difference") or name in ("loss", "penalty") else -1
    best = None
    for i in range(len(history)):
        floorless = name in ("loss", "accuracy", "balanced_accuracy")
        if not floorless and accuracy[i] < accuracy.max() - drop:
            continue
        key = sign * history[f"valid_{name}"][i], 0 if floorless else -accuracy[i]
        if best is None or key < best[0]:
            best = key, i
    return best[1]


@pytest.mark.parametrize(
    "name", [GAP, "loss", "penalty", "balanced_accuracy", "worst_group_accuracy"]
)
@pytest.mark.parametrize("module", ["auto", WithNorm])
def test_the_weights_are_those_of_the_best_epoch(name, module, table):
    X, y, groups = table
    seen = Snapshots(X)
    clf = quick(
        module=module,
        early_stopping=name,
        patience=None,
        accuracy_drop=0.05,
        validation_fraction=0.3,
        callbacks=[seen],
    ).fit(X, y, groups)
    assert clf.n_iter_ == 8
    best = expected_epoch(clf.history_, name, 0.05)
    assert clf.best_epoch_ == clf.history_["epoch"][best] == best + 1
    np.testing.assert_allclose(clf.predict_proba(X), seen.found[best], atol=1e-6)


def test_an_epoch_that_becomes_best_later_is_still_at_hand(rng):
    # An accurate late epoch makes early ones too inaccurate, not the middle ones.
    for _ in range(200):
        n = int(rng.integers(1, 9))
        history = pd.DataFrame(
            {
                "valid_balanced_accuracy": rng.integers(0, 5, n) / 5,
                f"valid_{GAP}": rng.integers(0, 5, n) / 5,
            }
        )
        rule = BestEpoch(accuracy_drop=0.2)
        chosen = rule.choose(history)
        assert chosen == expected_epoch(history, GAP, 0.2)
        for seen in range(chosen + 1, n + 1):
            assert rule._wanted(history[:seen])[chosen]


def test_training_stops_when_nothing_is_better(table):
    X, y, groups = table
    clf = quick(early_stopping="loss", patience=2, max_epochs=80, lr=0.05)
    clf.fit(X, y, groups, X_val=X[:50], y_val=1 - y[:50], groups_val=groups[:50])
    ramp = 40
    assert clf.n_iter_ == max(clf.best_epoch_, ramp) + 2 < 80
    clf.set_params(penalty_warmup=0).fit(
        X, y, groups, X_val=X[:50], y_val=1 - y[:50], groups_val=groups[:50]
    )
    assert clf.n_iter_ == clf.best_epoch_ + 2
    plain = clone(clf).set_params(penalty=None, penalty_warmup="auto")
    plain.fit(X, y, groups, X_val=X[:50], y_val=1 - y[:50], groups_val=groups[:50])
    assert plain.n_iter_ == plain.best_epoch_ + 2


def test_a_rule_of_ones_own_gets_the_history(table):
    X, y, groups = table
    sizes, seen = [], Snapshots(X)

    def third(history):
        sizes.append(len(history))
        assert f"overfit_{GAP}" in history
        return min(2, len(history) - 1)

    clf = quick(early_stopping=third, patience=3, penalty_warmup=0, callbacks=[seen])
    clf.fit(X, y, groups)
    assert sizes == [1, 2, 3, 4, 5, 6]
    assert clf.best_epoch_ == 3
    np.testing.assert_allclose(clf.predict_proba(X), seen.found[2], atol=1e-6)
    with pytest.raises(ValueError, match=r"position of a row of the history.*got 0\.5"):
        quick(early_stopping=lambda history: 0.5).fit(X, y, groups)


@pytest.mark.parametrize(
    "rule", [fairest_within(accuracy_drop=0.02), distance_to_optimum()], ids=str
)
def test_rules_of_selection_choose_epochs(rule, table):
    X, y, groups = table
    seen = Snapshots(X)
    clf = quick(early_stopping=rule, patience=None, callbacks=[seen])
    clf.fit(X, y, groups)
    best = rule(clf.history_)
    assert clf.best_epoch_ == best + 1
    np.testing.assert_allclose(clf.predict_proba(X), seen.found[best], atol=1e-6)


def test_metrics_that_are_not_watched_otherwise_are_for_this(table):
    X, y, groups = table
    frame = pd.DataFrame({"sex": groups, "old": X[:, 1] > 0})
    clf = quick(
        penalty_attributes=["sex"],
        monitor_attributes=["old"],
        early_stopping="accuracy_difference_by_old",
        max_epochs=2,
    ).fit(X, y, frame)
    assert clf.history_["valid_accuracy_difference_by_old"].notna().all()


def test_without_it_the_last_epoch_is_kept(table):
    X, y, groups = table
    clf = quick(max_epochs=2).fit(X, y, groups)
    assert clf.best_epoch_ is None
    assert clf._valid_marks is None


def test_skorchs_own_stopping_works_beside_it(table):
    X, y, groups = table
    stop = EarlyStopping(monitor="train_loss", patience=2, lower_is_better=False)
    clf = quick(early_stopping="loss", patience=None, callbacks=[stop])
    clf.fit(X, y, groups)
    assert clf.n_iter_ == 3
    # The epoch that it stopped in counts, too.
    assert clf.best_epoch_ == expected_epoch(clf.history_, "loss", 0) + 1


def test_warm_start_chooses_among_new_epochs(table):
    X, y, groups = table
    seen = Snapshots(X)
    clf = quick(early_stopping="loss", patience=None, warm_start=True, callbacks=[seen])
    clf.set_params(max_epochs=4).fit(X, y, groups).fit(X, y, groups)
    best = 4 + expected_epoch(clf.history_[4:].reset_index(drop=True), "loss", 0)
    assert clf.best_epoch_ == best + 1
    np.testing.assert_allclose(clf.predict_proba(X), seen.found[best], atol=1e-6)
    with pytest.raises(ValueError, match="partial_fit holds none out"):
        clf.partial_fit(X, y, groups)
    clf.set_params(early_stopping=None).partial_fit(X, y, groups)
    assert clf.best_epoch_ is None


def test_rows_that_chose_are_marked(table):
    X, y, groups = table
    held = X[300:], y[300:], groups[300:]
    clf = quick(max_epochs=2, early_stopping=GAP)
    clf.fit(*(part[:300] for part in table), **dict(zip(VAL, held, strict=True)))
    chose = row_marks(GroupedRows(X[300:]))
    np.testing.assert_array_equal(clf._valid_marks, chose)
    assert not np.isin(clf._marks, chose).any()


VAL = ("X_val", "y_val", "groups_val")


def test_a_gap_that_cannot_be_told_keeps_the_last_epoch(table):
    X, y, groups = table
    one = groups == "a"
    held = dict(zip(VAL, (X[one], y[one], groups[one]), strict=True))
    clf = quick(early_stopping=GAP, max_epochs=2)
    with pytest.warns(InestimableWarning, match="could not be estimated on the held"):
        clf.fit(X, y, groups, **held)
    assert clf.best_epoch_ == 2


def test_searches_copies_and_pickles(table):
    X, y, groups = table
    search = GridSearchCV(
        quick(max_epochs=2), {"early_stopping": [None, GAP, "loss"]}, cv=2
    )
    search.fit(X, y, sensitive_features=groups)
    clf = quick(early_stopping=GAP, max_epochs=3).fit(X, y, groups)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    kept = dict(clf.net_.callbacks_)["early_stopping"]
    assert kept.weights_ == {}


def test_a_rule_that_is_no_column_suggests_one():
    history = pd.DataFrame({f"valid_{GAP}": [0.1], "valid_balanced_accuracy": [0.8]})
    with pytest.raises(ValueError, match=f"no column .* Did you mean '{GAP}'"):
        BestEpoch("eo").choose(history)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"early_stopping": GAP, "validation_fraction": 0}, "needs held-out rows"),
        ({"early_stopping": GAP, "monitor": None}, "reads what the monitor records"),
        ({"early_stopping": "equal_odds"}, "Did you mean 'equalized_odds"),
        ({"early_stopping": "equalized_odds"}, f"Did you mean '{GAP}'"),
        ({"early_stopping": "accuracy_by_age"}, "needs 'age' among monitor_attr"),
        ({"early_stopping": "penalty", "penalty": None}, "'early_stopping' parameter"),
        ({"early_stopping": True}, "a name .such as 'balanced_acc.* Got True instead"),
        ({"early_stopping": GAP, "patience": 0}, "'patience' parameter"),
    ],
)
def test_what_cannot_stop_is_refused(params, message, table):
    clf = quick(**params)
    with pytest.raises(ValueError, match=message):
        clf.fit(*table)
    assert not hasattr(clf, "net_")


def test_groups_are_needed_where_a_gap_stops(table):
    X, y, _ = table
    with pytest.raises(ValueError, match="needs the group of every row"):
        quick(penalty=None, early_stopping=GAP).fit(X, y)
    assert quick(penalty=None, early_stopping="loss", max_epochs=2).fit(X, y)
