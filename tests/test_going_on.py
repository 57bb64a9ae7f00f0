"""Calls after the first: what they keep, what they change, what they refuse."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping

from fairskorch import FairNeuralClassifier
from fairskorch.exceptions import ConstantPredictionWarning, NonFiniteLossError
from fairskorch.penalties import ALIASES

pytestmark = pytest.mark.filterwarnings(
    "ignore::fairskorch.exceptions.ConstantPredictionWarning"
)


def quick(**params):
    return FairNeuralClassifier(**{"max_epochs": 2, "random_state": 0, **params})


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_call_that_fails_leaves_the_trained_network_as_it_was(method, table):
    X, y, _ = table
    clf = quick(penalty=None, warm_start=True).fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(lr=1e30)
    with pytest.raises(NonFiniteLossError):
        for _ in range(20):
            getattr(clf, method)(X * 1e6, y)
            before = clf.predict_proba(X)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    clf.set_params(lr=1e-3)
    assert np.isfinite(getattr(clf, method)(X, y).predict_proba(X)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": torch.optim.SGD},
        {"module__hidden": (8,)},
        {"criterion__label_smoothing": 0.1},
        {"precision": "float64"},
    ],
)
def test_what_cannot_change_is_refused(change, table):
    X, y, groups = table
    clf = quick(warm_start=True).fit(X, y, groups).set_params(**change)
    with pytest.raises(ValueError, match=f"'{next(iter(change))}' cannot change"):
        clf.fit(X, y, groups)


def test_what_may_change_does(table):
    X, y, groups = table
    clf = quick(warm_start=True, lr=1e-3).fit(X, y, groups)
    clf.set_params(
        sampler="shuffle",
        batch_size=50,
        monitor="all",
        lr=5e-4,
        optimizer__weight_decay=0.9,
        callbacks=[EarlyStopping(patience=99)],
        max_epochs=3,
    ).fit(X, y, groups)
    net = clf.net_
    assert net.sampler == clf.sampler_ == "shuffle"
    assert net.batch_size == 50
    assert net.optimizer_.param_groups[0]["weight_decay"] == 0.9
    assert net.optimizer_.param_groups[0]["lr"] == 5e-4
    assert "EarlyStopping" in dict(net.callbacks_)
    assert clf.n_iter_ == 5
    assert (
        clf.history_["task_gradient_norm"].notna().tolist() == [False] * 2 + [True] * 3
    )


def test_callbacks_stay_the_objects_that_were_given(table):
    class Count(Callback):
        epochs = 0

        def on_epoch_end(self, net, **kwargs):
            self.epochs += 1

    X, y, groups = table
    count = Count()
    clf = quick(warm_start=True, callbacks=[count]).fit(X, y, groups)
    clf.fit(X, y, groups)
    assert count.epochs == 4


def test_parameters_are_checked_at_every_call(table):
    X, y, groups = table
    clf = quick().partial_fit(X, y, groups)
    with pytest.raises(ValueError, match="'penalty_weight' parameter"):
        clf.set_params(penalty_weight=-1.0).partial_fit(X, y, groups)
    with pytest.raises(ValueError, match="partial_fit got both groups"):
        quick().partial_fit(X, y, groups, sensitive_features=groups)


def test_groups_and_classes_are_those_of_the_first_call(table):
    X, y, groups = table
    clf = quick(penalty=None).partial_fit(X, y)
    with pytest.raises(ValueError, match="fixed at the first call, which had no gro"):
        clf.partial_fit(X, y, groups)
    clf = quick(penalty=None).fit(X, y).set_params(penalty="eo")
    with pytest.raises(ValueError, match="fixed at the first call, which had no gro"):
        clf.partial_fit(X, y, groups)
    clf = quick().partial_fit(X, y, groups, classes=[0, 1])
    with pytest.raises(ValueError, match="the classes of the first call"):
        clf.partial_fit(X, y, groups, classes=[0, 1, 2])
    clf = quick(warm_start=True).fit(X, y, groups)
    only_a = groups == "a"
    with pytest.raises(ValueError, match=r"got no row of \['b'\]"):
        clf.fit(X[only_a], y[only_a], groups[only_a])


def test_groups_of_other_type_are_other_groups(table):
    X, y, groups = table
    codes = np.where(groups == "a", 2, 10)
    clf = quick(warm_start=True).fit(X, y, codes)
    with pytest.raises(ValueError, match="not fitted on"):
        clf.fit(X, y, codes.astype(str))


def test_counts_of_groups_add_up_over_partial_fit(table):
    X, y, groups = table
    clf = quick().partial_fit(X[:200], y[:200], groups[:200])
    clf.partial_fit(X[200:], y[200:], groups[200:])
    assert clf.group_counts_.to_numpy().sum() == 400


def test_prior_correction_adds_up_over_partial_fit(table):
    X, y, groups = table
    clf = quick(prior_correction=True)
    clf.partial_fit(X[:300], y[:300], groups[:300], classes=[0, 1, 2])
    rare = y[300:] == 1
    clf.partial_fit(X[300:][rare], y[300:][rare], groups[300:][rare])
    probabilities = clf.predict_proba(X)
    assert np.isfinite(probabilities).all()
    masses = clf._class_masses
    np.testing.assert_allclose(
        masses[0], [*np.bincount(np.r_[y[:300], y[300:][rare]]), 0]
    )
    np.testing.assert_allclose(masses.sum(1), 300 + rare.sum())


def test_a_constant_that_the_correction_brings_is_reported(rng):
    X = rng.normal(size=(400, 3))
    y = (np.arange(400) % 20 == 0).astype(int)
    clf = quick(penalty=None, sampler="balanced_classes", prior_correction=True)
    with pytest.warns(ConstantPredictionWarning):
        clf.fit(X, y)
    assert set(clf.predict(X)) == {0}


def test_a_constant_that_a_callback_leaves_is_reported(table):
    class Zero(Callback):
        def on_train_end(self, net, **kwargs):
            with torch.no_grad():
                net.module_.head.weight.zero_()

    X, y, groups = table
    with pytest.warns(ConstantPredictionWarning):
        quick(callbacks=[Zero()]).fit(X, y, groups)


def test_an_error_before_the_first_epoch_is_not_hidden_by_the_bar(table):
    class Broken(Callback):
        def on_train_begin(self, net, **kwargs):
            raise RuntimeError("out of order")

    X, y, groups = table
    # In the place of the monitor it is called before the bar is opened.
    with pytest.raises(RuntimeError, match="out of order"):
        quick(verbose=1, callbacks__monitor=Broken()).fit(X, y, groups)


@pytest.mark.parametrize("alias", ["ae", "mmf"])
def test_penalties_on_losses_compare_the_task_loss(alias, table):
    X, y, groups = table
    clf = quick(
        penalty=alias,
        penalty_weight=1,
        criterion__label_smoothing=0.9,
        monitor="all",
        validation_fraction=0,
    ).fit(X, y, groups)
    with torch.no_grad():
        logits = clf.net_.module_(torch.as_tensor(X))
        loss = torch.nn.functional.cross_entropy(
            logits, torch.as_tensor(y), label_smoothing=0.9, reduction="none"
        )
    means = [float(loss[groups == g].mean()) for g in ("a", "b")]
    expected = max(means) - (min(means) if alias == "ae" else 0)
    found = clf.history_["train_penalty"].iloc[-1]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert type(clf.net_.penalty_) is ALIASES[alias]


def test_a_held_out_part_without_known_groups_has_no_gap(table):
    X, y, groups = table
    clf = quick().fit(X, y, groups, X_val=X, y_val=y, groups_val=[None] * 400)
    assert clf.history_["valid_equalized_odds_difference"].isna().all()
    assert clf.history_["valid_accuracy"].notna().all()
    few = np.full(400, None, dtype=object)
    for g in ("a", "b"):
        for c in (0, 1):
            few[np.flatnonzero((groups == g) & (y == c))[0]] = g
    assert quick().fit(X, y, few).n_iter_ == 2
    plain = quick(penalty=None).fit(X, y, groups, X_val=X[:3], y_val=y[:3])
    assert plain.history_["valid_equalized_odds_difference"].isna().all()


def test_a_splitter_divides_the_rows_that_were_given(table):
    from sklearn.model_selection import PredefinedSplit

    X, y, groups = table
    weight = (np.arange(400) % 4 > 0).astype(float)
    fold = np.where(np.arange(400) < 100, 0, -1)
    seen = {}

    class Look(Callback):
        def on_epoch_begin(self, net, dataset_train, dataset_valid, **kwargs):
            seen["rows"] = dataset_train.index, dataset_valid.index

    quick(validation_fraction=PredefinedSplit(fold), callbacks=[Look()]).fit(
        X, y, groups, sample_weight=weight
    )
    kept = np.flatnonzero(weight)
    train, valid = seen["rows"]
    np.testing.assert_array_equal(valid, kept[kept < 100])
    np.testing.assert_array_equal(train, kept[kept >= 100])
