"""Flooding and averaged weights, and that they survive copies, searches and hooks."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fairskorch import FairNeuralClassifier

pytestmark = pytest.mark.filterwarnings(
    "ignore::fairskorch.exceptions.ConstantPredictionWarning"
)


class WithNorm(torch.nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(n_features)
        self.head = torch.nn.Linear(n_features, n_classes)

    def forward(self, X):
        return self.head(self.norm(X))


def quick(**params):
    return FairNeuralClassifier(
        **{
            "module": WithNorm,
            "max_epochs": 3,
            "random_state": 0,
            "lr": 0.01,
            "batch_size": 64,
            **params,
        }
    )


def state(clf):
    return {k: v.double() for k, v in clf.net_.module_.state_dict().items()}


def assert_same(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerance)


class Hook(Callback):
    """Sees every batch, so that steps are taken one by one."""

    def __init__(self, look=lambda net: None):
        self.look = look

    def __deepcopy__(self, memo):
        return self

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            self.look(net)


# Averages -------------------------------------------------------------------------


def test_the_average_is_torchs(table):
    averages = []

    def look(net):
        if not averages:
            averages.append(
                AveragedModel(
                    net.module_,
                    multi_avg_fn=get_ema_multi_avg_fn(0.9),
                    use_buffers=True,
                )
            )
        averages[0].update_parameters(net.module_)

    hooked = quick(callbacks=[Hook(look)]).fit(*table)
    averaged = quick(ema_decay=0.9).fit(*table)
    expected = averages[0].module.state_dict()
    found = averaged.net_.module_.state_dict()
    for name in ("norm.weight", "norm.running_mean", "norm.running_var", "head.weight"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)
    last = hooked.net_.module_.state_dict()["head.weight"]
    assert not torch.allclose(found["head.weight"], last)
    by_hook = quick(ema_decay=0.9, callbacks=[Hook()]).fit(*table)
    assert_same(state(by_hook), state(averaged), rtol=1e-5, atol=1e-6)


def test_the_average_is_what_is_monitored(table):
    X, y, groups = table
    clf = quick(ema_decay=0.95, monitor="all", validation_fraction=0)
    clf.fit(X, y, groups)
    right = np.mean(clf.predict(X) == y)
    assert clf.history_["train_accuracy"].iloc[-1] == pytest.approx(right)
    chance = clf.predict_proba(X)[np.arange(400), y]
    loss = clf.history_["train_loss"].iloc[-1]
    assert loss == pytest.approx(-np.log(chance).mean(), rel=1e-5)


def test_training_goes_on_from_the_weights_and_their_average(table):
    # Parts of a stream are one training: nothing is lost between calls.
    X, y, groups = table
    often, hooked = (
        quick(ema_decay=0.9, callbacks=callbacks) for callbacks in (None, [Hook()])
    )
    for _ in range(3):
        often.partial_fit(X, y, groups)
        hooked.partial_fit(X, y, groups)
    assert_same(state(often), state(hooked), rtol=1e-5, atol=1e-6)
    raw = quick()
    for _ in range(3):
        raw.partial_fit(X, y, groups)
    often.net_._average.hide(often.net_.module_)
    assert_same(state(often), state(raw), rtol=1e-5, atol=1e-6)


def test_warm_start_with_and_without_an_average(table):
    X, _, _ = table
    clf = quick(ema_decay=0.9, warm_start=True).fit(*table)
    before = clf.predict_proba(X)
    clf.set_params(ema_decay=None, lr=1e-12).fit(*table)
    # From the averaged weights, which the network has.
    np.testing.assert_allclose(clf.predict_proba(X), before, atol=0.02)
    clf.set_params(ema_decay=0.5, lr=0.01).fit(*table)
    assert clf.n_iter_ == 9
    assert not np.allclose(clf.predict_proba(X), before)


def test_the_best_epoch_of_an_average_is_gone_on_from(table):
    X, _, _ = table
    clf = quick(ema_decay=0.9, early_stopping="loss", patience=None, warm_start=True)
    clf.fit(*table)
    before = clf.predict_proba(X)
    seen = []

    class Look(Callback):
        def on_batch_begin(self, net, training=False, **kwargs):
            if training and not seen:
                seen.append(copy.deepcopy(net.module_.state_dict()))

    kept = copy.deepcopy(clf.net_.module_.state_dict())
    clf.set_params(callbacks=[Look()]).fit(*table)
    for name, value in seen[0].items():
        torch.testing.assert_close(value, kept[name])
    assert not np.array_equal(before, clf.predict_proba(X))


def test_an_interrupted_epoch_leaves_the_average(table):
    class Interrupt(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            if training and len(net.history) == 2:
                raise KeyboardInterrupt

    clf = quick(ema_decay=0.999, callbacks=[Interrupt()]).fit(*table)
    assert clf.net_._average.shown
    assert clf.n_iter_ == 1


# Flooding -------------------------------------------------------------------------


def descent(table, flood, **params):
    """One full-batch step of plain descent in float64."""
    clf = quick(
        module="auto",
        optimizer=torch.optim.SGD,
        lr=1.0,
        batch_size=1000,
        max_epochs=1,
        validation_fraction=0,
        precision="float64",
        sampler="shuffle",
        monitor=None,
        penalty_warmup=0,
        flood=flood,
        **params,
    )
    return clf.fit(*table)


def test_below_the_level_the_task_loss_climbs(table):
    plain = descent(table, None, penalty=None)
    low, high = (descent(table, b, penalty=None) for b in (1e-3, 10.0))
    assert_same(state(low), state(plain))
    loss = plain.history_["objective"][0]
    assert high.history_["objective"][0] == pytest.approx(20 - loss)
    origin = clone(plain).set_params(lr=1e-300).fit(*table)
    middle = {
        name: (value + state(high)[name]) / 2 for name, value in state(plain).items()
    }
    # As far up as the plain step went down.
    assert_same(middle, state(origin), rtol=1e-9, atol=1e-12)


def test_the_penalty_is_not_flooded(table):
    common = {"penalty_weight": 2.0, "penalty__memory": 0}
    plain = descent(table, None, **common).history_["objective"][0]
    task = descent(table, None, penalty=None).history_["objective"][0]
    flooded = descent(table, 10.0, **common).history_["objective"][0]
    assert flooded == pytest.approx(20 - task + (plain - task))


def test_a_flooded_network_does_not_learn_by_heart(rng):
    X = rng.normal(size=(200, 8))
    data = X, rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    losses = {
        flood: quick(
            module="auto",
            penalty=None,
            max_epochs=60,
            flood=flood,
            monitor="all",
            validation_fraction=0,
        )
        .fit(*data)
        .history_["train_loss"]
        .iloc[-1]
        for flood in (None, 0.4)
    }
    assert losses[None] < 0.2
    assert losses[0.4] == pytest.approx(0.4, abs=0.1)


# Both -----------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{"flood": 0.6}, {"ema_decay": 0.9}])
def test_copies_searches_and_pickles(params, table):
    X, y, groups = table
    clf = quick(**params).fit(X, y, groups)
    expected = clf.predict_proba(X)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), expected)
    other = clone(clf).fit(X, y, groups)
    np.testing.assert_array_equal(other.predict_proba(X), expected)
    assert not np.array_equal(quick().fit(X, y, groups).predict_proba(X), expected)
    again.set_params(warm_start=True).fit(X, y, groups)
    clf.set_params(warm_start=True).fit(X, y, groups)
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    (name,) = params
    search = GridSearchCV(quick(max_epochs=1), {name: [None, params[name]]}, cv=2)
    assert search.fit(X, y, sensitive_features=groups).best_index_ in (0, 1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"flood": 0}, "'flood' parameter"),
        ({"ema_decay": 1.0}, "'ema_decay' parameter"),
        ({"ema_decay": 0}, "'ema_decay' parameter"),
    ],
)
def test_values_without_a_meaning_are_refused(params, message, table):
    with pytest.raises(ValueError, match=message):
        quick(**params).fit(*table)
