"""`FairLastLayerClassifier` with more of the network than its last layer."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from fairskorch import FairLastLayerClassifier, FairNeuralClassifier


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(5, 8), nn.BatchNorm1d(8)
        self.second, self.norm2 = nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 2)

    def forward(self, X):
        X = self.norm(self.first(X)).relu()
        return self.head(self.norm2(self.second(X)).relu())


@pytest.fixture(scope="module")
def plain(table):
    X, y, groups = table
    return FairNeuralClassifier(Normed, penalty=None, max_epochs=4, random_state=0).fit(
        X, y
    )


def quick(fitted, scope, **params):
    params = {"max_epochs": 8, "random_state": 0, "device": "cpu", **params}
    return FairLastLayerClassifier(FrozenEstimator(fitted), scope=scope, **params)


HEAD = {"head.weight", "head.bias"}
NORMS = {"norm.weight", "norm.bias", "norm2.weight", "norm2.bias"}
STATISTICS = {
    f"{norm}.{name}"
    for norm in ("norm", "norm2")
    for name in ("running_mean", "running_var", "num_batches_tracked")
}


def head(name):
    return name.startswith("head")


def second(name):
    return name.startswith(("head", "second"))


#: The scope, and which parameters and statistics it changes.
SCOPES = {
    "batch_norm": ("batch_norm", HEAD | NORMS | STATISTICS),
    "all": (
        "all",
        HEAD | NORMS | STATISTICS | {"first.weight", "second.weight", "second.bias"},
    ),
    "head": (head, HEAD),
    "second": (
        second,
        HEAD | {"second.weight", "second.bias"},
    ),
}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("penalty", [None, "eo"])
def test_what_a_scope_changes(scope, penalty, plain, table):
    X, y, groups = table
    given, expected = SCOPES[scope]
    before = copy.deepcopy(plain.net_.module_.state_dict())
    clf = quick(plain, given, penalty=penalty, init="warm").fit(X, y, groups)
    kept = plain.net_.module_.state_dict()
    assert all(torch.equal(before[name], kept[name]) for name in before)
    after = clf.to_module().state_dict()
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    # A bias in front of batch norm gets no gradient but rounding.
    assert changed - {"first.bias", "second.bias"} == expected - {"second.bias"}
    with torch.no_grad():
        logits = clf.to_module()(torch.as_tensor(X)).double()
    np.testing.assert_allclose(clf.predict_proba(X), logits.softmax(1), atol=1e-6)
    np.testing.assert_array_equal(clf.coef_, after["head.weight"])
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))


def test_a_chosen_head_is_the_last_layer(plain, table):
    X, y, groups = table
    params = {
        "penalty__memory": 0,
        "batch_size": 400,
        "max_epochs": 30,
        "balance": None,
        "penalty_weight": 0.5,
    }
    for init in ("warm", "fresh"):
        one = quick(plain, lambda name: "head" in name, init=init, **params)
        other = quick(plain, "last_layer", init=init, **params)
        one.fit(X, y, groups), other.fit(X, y, groups)
        np.testing.assert_allclose(one.coef_, other.coef_, atol=1e-5)
        assert set(one.history_) == set(other.history_)
        assert one.history_["epoch"].tolist() == other.history_["epoch"].tolist()


def test_a_skorch_net(table):
    X, y, groups = table
    net = NeuralNetClassifier(
        Normed, criterion=nn.CrossEntropyLoss, max_epochs=2, verbose=0
    ).fit(X, y)
    clf = quick(net, "all", max_epochs=60, penalty=None).fit(X, y, groups)
    assert clf.score(X, y) > 0.7
    assert clf.predict_proba(X).shape == (400, 2)


@pytest.mark.filterwarnings("ignore::fairskorch.exceptions.ConstantPredictionWarning")
def test_images(images):
    X, y, groups = images
    fitted = FairNeuralClassifier(penalty=None, max_epochs=1, random_state=0).fit(X, y)
    params = {"penalty": None, "balance": None, "batch_size": 16, "max_epochs": 30}
    clf = quick(fitted, "batch_norm", lr=0.02, **params).fit(X, y, groups)
    assert clf.score(X, y) > 0.9


def test_scopes_that_are_refused(plain, table):
    X, y, groups = table
    for scope, params, message in (
        (lambda name: False, {}, "chooses no parameter"),
        (lambda name: "norm" in name, {}, "leaves the last layer, 'head', with random"),
        ("all", {"n_draws": 2}, "there is one draw"),
        ("head", {}, "'scope' parameter"),
    ):
        with pytest.raises(ValueError, match=message):
            quick(plain, scope, **params).fit(X, y, groups)
    module = nn.Sequential(nn.Linear(5, 2), nn.Softmax(1))
    net = NeuralNetClassifier(module, max_epochs=1, verbose=0).fit(X, y)
    with pytest.raises(ValueError, match="must be logits of all classes"):
        quick(net, "all").fit(X, y, groups)
    with pytest.raises(ValueError, match="trains batch norm, and Sequential has none"):
        net = NeuralNetClassifier(nn.Sequential(nn.Linear(5, 2)), verbose=0)
        quick(net.initialize(), "batch_norm").fit(X, y, groups)


class Interrupted(torch.optim.SGD):
    def __init__(self, params, *, lr, at):
        super().__init__(params, lr=lr)
        self.left = at

    def step(self, closure=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().step(closure)


@pytest.mark.parametrize(("at", "n_epochs"), [(1, 0), (20, 2), (110, 13), (400, 40)])
def test_an_interrupt_leaves_the_epochs_that_were_trained(at, n_epochs, plain, table):
    X, y, groups = table
    params = {"optimizer": Interrupted, "optimizer__at": at, "balance": None}
    clf = quick(plain, "all", max_epochs=40, batch_size=50, **params)
    clf.fit(X, y, groups)
    assert clf.n_iter_ == n_epochs
    assert len(clf.history_) == n_epochs // 2
    assert clf.predict(X).shape == (400,)
