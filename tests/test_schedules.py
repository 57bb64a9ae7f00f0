"""Weights of the penalty that move: by a rule, or by the penalty's own value."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from fairskorch import FairNeuralClassifier
from fairskorch.schedules import Ascent

pytestmark = pytest.mark.filterwarnings(
    "ignore::fairskorch.exceptions.ConstantPredictionWarning"
)


def quick(**params):
    return FairNeuralClassifier(
        **{"max_epochs": 4, "random_state": 0, "penalty_warmup": 0, **params}
    )


def weights(clf):
    return clf.history_["penalty_weight"].to_numpy()


def one_step(data, **params):
    """Steps of plain descent on all rows, in float64."""
    return quick(
        optimizer=torch.optim.SGD,
        lr=0.5,
        batch_size=1000,
        validation_fraction=0,
        precision="float64",
        sampler="shuffle",
        monitor="all",
        penalty__memory=0,
        **params,
    ).fit(*data)


@pytest.mark.parametrize("start", [0.0, 2.0])
def test_the_weight_climbs_by_the_penalty(start, table):
    X, y, groups = table
    clf = one_step(table, penalty_weight=start, penalty_schedule=Ascent(0.5))
    # What is minimised is of the weights before a step, the history of those after.
    penalty = clf.history_["train_penalty"].to_numpy()
    added = np.diff(np.r_[start, weights(clf)])
    np.testing.assert_allclose(added[1:], 0.5 * penalty[:-1], rtol=1e-9)
    loss = clf.history_["train_loss"].to_numpy()
    objective = clf.history_["objective"].to_numpy()
    expected = loss[:-1] + weights(clf)[:-1] * penalty[:-1]
    np.testing.assert_allclose(objective[1:], expected, rtol=1e-9)


def test_the_name_is_the_default_rate(table):
    X, _, _ = table
    named = quick(penalty_schedule="ascent").fit(*table)
    given = quick(penalty_schedule=Ascent(0.01)).fit(*table)
    np.testing.assert_array_equal(named.predict_proba(X), given.predict_proba(X))
    at_rest = quick(penalty_schedule=Ascent(0)).fit(*table)
    constant = quick().fit(*table)
    np.testing.assert_allclose(
        at_rest.predict_proba(X), constant.predict_proba(X), atol=1e-6
    )
    assert not np.allclose(named.predict_proba(X), constant.predict_proba(X))


def test_the_ramp_goes_on_top(table):
    clf = quick(penalty_schedule="ascent", penalty_warmup=2, penalty_weight=1.0)
    clf.fit(*table)
    assert weights(clf)[0] == 0
    assert 0.5 < weights(clf)[1] < 0.6
    assert 1 < weights(clf)[2] < weights(clf)[3]
    halves = quick(penalty_schedule=lambda epoch, n: 1 / (n - epoch), penalty_warmup=2)
    halves.set_params(penalty_weight=1.0).fit(*table)
    np.testing.assert_allclose(weights(halves), [0, 0.5 / 3, 1 / 2, 1])


def test_hooks_see_the_same_training(table):
    class Hook(Callback):
        def on_batch_end(self, net, **kwargs):
            pass

    X, _, _ = table
    plain = quick(penalty_schedule=Ascent(0.1)).fit(*table)
    hooked = quick(penalty_schedule=Ascent(0.1), callbacks=[Hook()]).fit(*table)
    np.testing.assert_allclose(
        hooked.predict_proba(X), plain.predict_proba(X), atol=1e-5
    )
    np.testing.assert_allclose(weights(hooked), weights(plain), rtol=1e-4)


def test_the_weight_is_kept_from_call_to_call(table):
    clf = quick(penalty_schedule=Ascent(0.1), warm_start=True).fit(*table)
    before = weights(clf)[-1]
    clf = pickle.loads(pickle.dumps(clf))
    clf.fit(*table)
    assert (np.diff(weights(clf)) > 0).all()
    assert weights(clf)[4] > before
    clf.partial_fit(*table)
    assert weights(clf)[-1] > weights(clf)[-2]
    clf.set_params(penalty_schedule="constant").fit(*table)
    assert (weights(clf)[-4:] == 0.7).all()


@pytest.mark.parametrize("penalty_data", ["train", "holdout"])
def test_copies_and_searches(penalty_data, table):
    X, y, groups = table
    clf = quick(penalty_schedule="ascent", penalty_data=penalty_data)
    first = clf.fit(X, y, groups).predict_proba(X)
    np.testing.assert_array_equal(clone(clf).fit(*table).predict_proba(X), first)
    schedules = ["constant", Ascent(0.1), lambda epoch, n: epoch / n]
    search = GridSearchCV(quick(max_epochs=1), {"penalty_schedule": schedules}, cv=2)
    search.fit(X, y, sensitive_features=groups)
    assert len(search.cv_results_["params"]) == 3


def test_without_a_penalty_nothing_climbs(table):
    X, y, _ = table
    clf = quick(penalty=None, penalty_schedule="ascent").fit(X, y)
    assert clf.net_.penalty_multiplier_ is None
    expected = quick(penalty=None).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"penalty_schedule": "ascend"}, "'penalty_schedule' parameter"),
        ({"penalty_schedule": "ascent", "penalty": "mmf"}, "is a share of at most 1"),
        ({"penalty_schedule": lambda e, n: -1.0}, r"\(0, 4\); got -1\.0"),
        ({"penalty_schedule": lambda e, n: None}, "got None"),
        (
            {"penalty_schedule": lambda e, n: 1 + e, "penalty": "mmf"},
            r"weight of 1\.5 in epoch 3, and that of MaxMinLoss is at most 1",
        ),
    ],
)
def test_what_cannot_move_is_refused(params, message, table):
    clf = quick(**{"penalty_weight": 0.5, **params})
    with pytest.raises(ValueError, match=message):
        clf.fit(*table)
    assert not hasattr(clf, "net_")


def test_a_rate_is_a_number():
    with pytest.raises(ValueError, match="rate of Ascent must be a number"):
        Ascent(-1)
