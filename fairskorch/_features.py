"""The features that a fitted network computes for its last linear layer."""

import copy

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array
from skorch import NeuralNet
from torch import nn
from torch.utils.data import Dataset, Subset

from fairskorch.batches import GroupedRows
from fairskorch.modules import uncompiled

#: What a network may do with the outputs of its head: each leaves the probabilities
#: that are meant as they are.
AFTER_HEAD = (
    lambda outputs: outputs,
    lambda outputs: torch.log_softmax(outputs, dim=-1),
    lambda outputs: torch.softmax(outputs, dim=-1),
)


class Backbone:
    """A fitted network, seen up to its last linear layer.

    Nothing of the network is changed: it runs in eval mode and is listened to.

    Parameters
    ----------
    owner : str
        Name of the estimator's class, for messages.
    fitted : estimator
        A fitted `FairNeuralClassifier` or skorch classifier, or a pipeline or frozen
        estimator around one.
    """

    def __init__(self, owner, fitted):
        self.owner = owner
        self.steps = []
        while isinstance(fitted, FrozenEstimator | Pipeline):
            if isinstance(fitted, FrozenEstimator):
                fitted = fitted.estimator
            else:
                self.steps += [step for _, step in fitted.steps[:-1]]
                fitted = fitted.steps[-1][1]
        self.classifier = fitted
        self.net = getattr(fitted, "net_", fitted)
        if not isinstance(self.net, NeuralNet):
            raise TypeError(
                f"estimator of {owner} must be a FairNeuralClassifier or a skorch "
                "classifier, unfitted, or fitted and inside a FrozenEstimator; got "
                f"{type(fitted).__name__}, which holds no network. A bare module goes "
                "into an initialised skorch classifier."
            )
        if not getattr(self.net, "initialized_", False):
            raise ValueError(
                f"estimator of {owner} is frozen and its network is not initialised; "
                "fit it first, or pass it without FrozenEstimator."
            )
        self.module = uncompiled(self.net.module_)
        if self.module is not self.net.module_:
            # What was compiled has no room for those who listen to its layers.
            self.net = _with_module(self.net, self.module)

    def rows(self, X, numbers=None):
        """Bring X into the rows that the network reads; all of it is checked.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor or Dataset
        numbers : ndarray of int64, optional
            Rows that are wanted; all if not given.

        Returns
        -------
        rows : Dataset
        """
        rows = self._read(X)
        if numbers is None or len(numbers) == len(rows):
            return rows
        return _subset(rows, numbers)

    def _read(self, X):
        for step in self.steps:
            if step is not None and step != "passthrough":
                X = step.transform(X)
        if not hasattr(self.classifier, "_format"):
            return self.net.get_dataset(X)
        exact = self.classifier.precision_ == "float64"
        X, layout = self.classifier._format.read(
            self.classifier, X, reset=False, exact=exact
        )
        return GroupedRows(X, layout=layout)

    def tunable_rows(self, X, numbers=None):
        """Bring X into rows that the network can be trained on, as `rows` does."""
        rows = self._read(X)
        rows = rows if isinstance(rows, GroupedRows) else GroupedRows(rows.X)
        return rows if numbers is None else rows.subset(numbers)

    def find_head(self, rows, name):
        """Return the name of the linear layer whose outputs the network returns.

        Parameters
        ----------
        rows : Dataset
            What `rows` returned; two of them are tried.
        name : str
            The layer that is meant, or ``"auto"``.

        Returns
        -------
        name : str
        """
        found = {
            label: part
            for label, part in self.module.named_modules()
            if isinstance(part, nn.Linear)
        }
        kind = type(self.module).__name__
        if not found:
            raise ValueError(
                f"{self.owner} fits a new last linear layer, and {kind} has no "
                "torch.nn.Linear."
            )
        if name != "auto" and name not in found:
            raise ValueError(
                f"head={name!r} of {self.owner} is no torch.nn.Linear of {kind}; it "
                f"has {list(found)}."
            )
        calls = []
        hooks = [
            part.register_forward_hook(
                lambda part, inputs, outputs, label=label: calls.append(
                    (label, inputs[0], outputs)
                )
            )
            for label, part in found.items()
        ]
        part = _subset(rows, np.arange(min(2, len(rows))))
        try:
            outputs = next(iter(self.net.forward_iter(part)))
        except RuntimeError as error:
            raise ValueError(
                f"The network of {self.owner} fails on the first rows of X: {error}. A "
                "skorch classifier gets X as it is given; mostly it wants "
                "X.astype('float32')."
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        if not isinstance(outputs, torch.Tensor):
            raise ValueError(
                f"{kind} returns {len(outputs)} outputs, and {self.owner} fits one "
                "last layer; wrap a module that returns its logits alone."
            )
        for label, inputs, said in reversed(calls):
            form = _returned(said, outputs)
            if name in ("auto", label) and form is not None:
                self._check_use(label, inputs, calls)
                # An exact softmax or one logit is no input of the cross-entropy.
                self.says_logits = form < 2 and self.layer(label).out_features > 1
                return label
        which = f"its layer {name!r}" if name != "auto" else "any of its linear layers"
        raise ValueError(
            f"{kind} does not return the outputs of {which} (or their softmax), so "
            f"{self.owner} cannot replace its last layer; its linear layers are "
            f"{list(found)}."
        )

    def _check_use(self, label, inputs, calls):
        if inputs.ndim != 2:
            raise ValueError(
                f"The last layer of the network, {label!r}, gets inputs of shape "
                f"{tuple(inputs.shape)}; {self.owner} needs one row of features for "
                "each row of X."
            )
        if sum(called == label for called, _, _ in calls) > 1:
            raise ValueError(
                f"The network uses its last layer, {label!r}, more than once; "
                f"{self.owner} cannot replace it."
            )

    def features(self, rows, head):
        """Compute what the head gets for each row, once, in eval mode.

        Parameters
        ----------
        rows : Dataset
        head : str
            Name of the last linear layer.

        Returns
        -------
        features : Tensor of shape (n_rows, n_features)
            On the device of the network, in float32 or float64.
        """
        caught = []
        hook = self.module.get_submodule(head).register_forward_pre_hook(
            lambda part, inputs: caught.append(inputs[0].detach())
        )
        try:
            for _ in self.net.forward_iter(rows):
                pass
        finally:
            hook.remove()
        features = torch.cat(caught)
        return features if features.dtype == torch.float64 else features.float()

    def layer(self, head):
        """Return the head of the network."""
        return self.module.get_submodule(head)

    def with_head(self, head, weight, bias):
        """Return a copy of the network with another head, in eval mode.

        Parameters
        ----------
        head : str
            Name of the last linear layer.
        weight : Tensor of shape (n_classes, n_features)
        bias : Tensor of shape (n_classes,)

        Returns
        -------
        module : torch.nn.Module
        """
        old = self.layer(head)
        if old.out_features == 1 and len(weight) == 2:
            weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
        new = nn.Linear(
            weight.shape[1],
            len(weight),
            device=old.weight.device,
            dtype=old.weight.dtype,
        )
        with torch.no_grad():
            new.weight.copy_(weight)
            new.bias.copy_(bias)
        if not head:
            return new.eval()
        module = copy.deepcopy(self.module)
        module.set_submodule(head, new)
        return module.eval()


def is_net(estimator):
    """Tell a plain skorch net from an estimator around one."""
    return isinstance(estimator, NeuralNet)


def indexable(X):
    """Return X as something that has a length and rows; sparse matrices have none."""
    if hasattr(X, "tocsr"):
        return check_array(X)  # which says that dense data is needed
    if isinstance(X, Dataset) or hasattr(X, "__len__"):
        return X
    return np.asarray(X)


def take_rows(X, rows):
    """Return some rows of X, whatever its kind."""
    if isinstance(X, Dataset):
        return Subset(X, rows.tolist())
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    if isinstance(X, list | tuple):
        return [X[i] for i in rows]
    return X[rows]


def _subset(rows, numbers):
    if isinstance(rows, GroupedRows):
        return rows.subset(numbers)
    return Subset(rows, numbers.tolist())


def _with_module(net, module):
    """Return a net that shares all with another one except for its module."""
    # A plain copy: skorch's own would copy the weights too.
    other = object.__new__(type(net))
    vars(other).update(vars(net), module_=module)
    return other


def _returned(said, outputs):
    """Tell in which form a network returns what a layer of it said, None if in none."""
    said = said.detach().to(outputs)
    if said.numel() != outputs.numel():
        return None
    for number, form in enumerate(AFTER_HEAD):
        formed = form(said).reshape(outputs.shape)
        if torch.allclose(formed, outputs, 1e-4, 1e-5, equal_nan=True):
            return number
    return None
