"""The last layer is found in networks of many kinds, and its inputs are its inputs."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from fairskorch import FairLastLayerClassifier, FairNeuralClassifier
from fairskorch.modules import ResNet18


class NestedHead(nn.Module):
    """A head inside a block, and a linear layer beside the path to the output."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 8), nn.ReLU())
        self.side = nn.Linear(8, 2)
        out = nn.Sequential(nn.Dropout(), nn.Linear(8, 2))
        self.block = nn.ModuleDict({"out": out})

    def forward(self, X):
        features = self.body(X)
        logits = self.block["out"](features)
        self.side(features)
        return logits


class Reused(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, X):
        return self.layer(self.layer(X).relu())


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(5, 2), nn.Linear(5, 2)

    def forward(self, X):
        return self.one(X), self.other(X)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 2)

    def forward(self, X):
        return 3 * self.layer(X)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 2)

    def forward(self, X):
        return self.layer(X[:, :1, None]).squeeze(1)


class Narrow(nn.Module):
    """Returns one column, which a network of one logit squeezes away."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(5, 4), nn.Linear(4, 1)

    def forward(self, X):
        return self.head(self.body(X).relu()).squeeze(1)


def fair(module, **params):
    return FairNeuralClassifier(
        module, penalty=None, max_epochs=1, random_state=0, **params
    )


def skorch_net(module, **params):
    return NeuralNetClassifier(module, max_epochs=1, verbose=0, **params)


def batch_norm():
    body = nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout()
    return nn.Sequential(*body, nn.Linear(6, 2))


def two_layers():
    return fair(nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 2)))


def probabilities():
    return skorch_net(nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2), nn.Softmax(1)))


def log_probabilities():
    module = nn.Sequential(nn.Linear(5, 2), nn.LogSoftmax(1))
    return skorch_net(module, criterion=nn.CrossEntropyLoss)


def one_logit():
    return NeuralNetBinaryClassifier(Narrow, max_epochs=1, verbose=0)


def in_pipeline():
    return make_pipeline(StandardScaler(), fair("auto"))


#: How to build it, the name of its head, and the features that the head gets.
TABLES = {
    "auto": (lambda: fair("auto"), "head", 64),
    "sequential": (two_layers, "1", 7),
    "only a linear layer": (lambda: fair(nn.Linear(5, 2)), "", 5),
    "dropout before the head": (lambda: fair(batch_norm()), "3", 6),
    "nested": (lambda: fair(NestedHead()), "block.out.1", 8),
    "skorch net of probabilities": (probabilities, "1", 4),
    "skorch net of log probabilities": (log_probabilities, "0", 5),
    "skorch net of logits": (
        lambda: skorch_net(batch_norm(), criterion=nn.CrossEntropyLoss),
        "3",
        6,
    ),
    "one logit": (one_logit, "head", 4),
    "step of a pipeline": (in_pipeline, "head", 64),
    "float64": (lambda: fair(nn.Linear(5, 2), precision="float64"), "", 5),
}


def network(fitted):
    last = fitted[-1] if hasattr(fitted, "steps") else fitted
    return getattr(last, "net_", last).module_


def tuned(fitted, **params):
    params = {"max_epochs": 30, "random_state": 0, **params}
    return FairLastLayerClassifier(FrozenEstimator(fitted), **params)


@pytest.mark.filterwarnings("ignore::fairskorch.exceptions.ConstantPredictionWarning")
@pytest.mark.parametrize("kind", TABLES)
def test_the_head_of_tables(kind, table):
    X, y, groups = table
    build, head, width = TABLES[kind]
    y_type = np.float32 if kind == "one logit" else np.int64
    fitted = build().fit(X, y.astype(y_type))
    before = copy.deepcopy(network(fitted).state_dict())
    asked = FrozenEstimator(fitted).predict_proba(X)
    clf = tuned(fitted).fit(X, y, groups)
    assert clf.head_ == head
    assert clf.coef_.shape == (2, width)
    after = network(fitted).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    np.testing.assert_array_equal(fitted.predict_proba(X), asked)

    # Its own module on what the network takes says the same.
    inside = X
    if kind == "step of a pipeline":
        inside = fitted[0].transform(X)
    module = clf.to_module()
    dtype = torch.float64 if kind == "float64" else torch.float32
    with torch.no_grad():
        outputs = module(torch.as_tensor(np.asarray(inside), dtype=dtype)).double()
    if kind == "one logit":
        outputs = torch.stack([torch.zeros_like(outputs), outputs], 1)
    if kind != "skorch net of probabilities":
        outputs = outputs.softmax(1)
    np.testing.assert_allclose(clf.predict_proba(X), outputs, atol=1e-6)
    assert not np.allclose(clf.predict_proba(X), asked, atol=1e-3)


@pytest.mark.filterwarnings("ignore::fairskorch.exceptions.ConstantPredictionWarning")
@pytest.mark.parametrize("kind", TABLES)
def test_a_warm_start_without_training_is_the_network(kind, table):
    X, y, groups = table
    y_type = np.float32 if kind == "one logit" else np.int64
    fitted = TABLES[kind][0]().fit(X, y.astype(y_type))
    clf = tuned(fitted, init="warm", lr=1e-12, max_epochs=1).fit(X, y, groups)
    np.testing.assert_allclose(clf.predict_proba(X), fitted.predict_proba(X), atol=1e-5)


@pytest.mark.filterwarnings("ignore::fairskorch.exceptions.ConstantPredictionWarning")
@pytest.mark.parametrize("module", ["auto", lambda: ResNet18(3, 2, width=4)])
def test_the_head_of_images(module, images):
    X, y, groups = images
    fitted = fair(module).fit(X, y)
    clf = tuned(fitted).fit(X, y, groups)
    assert clf.head_ == "head"
    with torch.no_grad():
        outputs = clf.to_module()(torch.as_tensor(X / np.float32(255))).double()
    np.testing.assert_allclose(clf.predict_proba(X), outputs.softmax(1), atol=1e-5)
    assert clf.n_features_in_ == X[0].size


class Inner(nn.Module):
    """The network returns what its first layer says; the others are decoys."""

    def __init__(self):
        super().__init__()
        self.said, self.decoy = nn.Linear(5, 2), nn.Linear(5, 2)

    def forward(self, X):
        said = self.said(X)
        self.decoy(X)
        return said


def test_a_head_can_be_named(table):
    X, y, groups = table
    fitted = fair(Inner()).fit(X, y)
    assert tuned(fitted, head="said").fit(X, y, groups).head_ == "said"
    with pytest.raises(ValueError, match="not return the outputs of its layer 'decoy'"):
        tuned(fitted, head="decoy").fit(X, y, groups)
    with pytest.raises(ValueError, match=r"head='sad' .* it has \['said', 'decoy'\]"):
        tuned(fitted, head="sad").fit(X, y, groups)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(5)), "has no torch.nn.Linear"),
        (Two(), "returns 2 outputs"),
        (Scaled(), "does not return the outputs of any of its linear layers"),
        (Reused(), "uses its last layer, 'layer', more than once"),
        (Tokens(), r"gets inputs of shape \(2, 1, 1\)"),
    ],
)
def test_networks_that_are_refused(module, message, table):
    X, y, groups = table
    net = skorch_net(module).initialize()
    with pytest.raises(ValueError, match=message):
        tuned(net).fit(X, y, groups)


def test_rows_of_a_type_that_the_network_cannot_take_are_refused(table):
    X, y, groups = table
    net = skorch_net(nn.Linear(5, 2)).initialize()
    with pytest.raises(ValueError, match="fails on the first rows .*astype.'float32'"):
        tuned(net).fit(X.astype(np.float64), y, groups)


def test_features_that_are_not_finite(table):
    X, y, groups = table
    fitted = fair("auto").fit(X, y)
    with torch.no_grad():
        next(fitted.net_.module_.parameters())[0] = np.nan
    with pytest.raises(ValueError, match="features .* are not finite"):
        tuned(fitted).fit(X, y, groups)


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        (StandardScaler(), TypeError, "got StandardScaler, which holds no network"),
        (skorch_net(nn.Linear(5, 2)), ValueError, "network is not initialised"),
    ],
)
def test_estimators_that_are_refused(estimator, error, message, table):
    X, y, groups = table
    with pytest.raises(error, match=message):
        tuned(estimator).fit(X, y, groups)


def test_warm_start_needs_as_many_classes(table):
    X, y, groups = table
    # It knows codes alone; what knows labels is tested with the last layer.
    fitted = skorch_net(nn.Sequential(nn.Linear(5, 2))).fit(X, y)
    three = np.arange(len(y)) % 3
    with pytest.raises(ValueError, match="of 2 outputs, and y has 3 classes"):
        tuned(fitted, init="warm").fit(X, three, groups)
    fresh = tuned(fitted, lr=1e-3).fit(X, three, groups)
    assert fresh.predict_proba(X).shape == (400, 3)


@pytest.mark.filterwarnings("ignore")  # of the compiler
def test_a_compiled_network_gives_the_features_of_the_network_in_it(table):
    X, y, groups = table
    settings = {"penalty": None, "max_epochs": 1, "random_state": 0, "device": "cpu"}
    compiled = {"compile": True, "compile__backend": "eager"}
    found = []
    for more in ({}, compiled):
        network = FairNeuralClassifier(**settings, **more).fit(X, y)
        clf = FairLastLayerClassifier(
            FrozenEstimator(network), max_epochs=3, random_state=0
        )
        clf.fit(X, y, groups)
        found.append(clf)
    np.testing.assert_allclose(*(clf.coef_ for clf in found), atol=1e-6)
    module = found[1].to_module()
    assert type(module) is type(found[0].to_module())
    pickle.loads(pickle.dumps(found[1])).predict(X[:2])
