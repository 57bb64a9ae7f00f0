"""What the last-layer estimators share: features, the layer, and its training."""

import copy
import logging
import warnings
from numbers import Integral, Real

import numpy as np
import pandas as pd
import torch
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from fairskorch import _settings
from fairskorch._features import Backbone, is_net
from fairskorch._fine_tuning_rows import RowsOfFineTuner
from fairskorch._heads import (
    HeadData,
    Settings,
    evaluate_heads,
    fresh_head,
    optimizer_settings,
    train_heads,
)
from fairskorch._marks import SAMPLED, row_marks, share_found
from fairskorch._neural import NeuralClassifier
from fairskorch._probabilities import joined_probabilities
from fairskorch._validation import (
    HasMethods,
    Interval,
    StrOptions,
    check_nested_names,
    signature_names,
)
from fairskorch.batches import GroupedRows
from fairskorch.exceptions import ConstantPredictionWarning
from fairskorch.modules import uncompiled
from fairskorch.rates import widest

logger = logging.getLogger(__name__)

#: Rows of the history at most, so that looking costs little.
LOOKS = 20

#: Parameters of an optimiser that the estimator has itself.
OWN = ("params", "lr")


class FineTuner(RowsOfFineTuner, NeuralClassifier):
    """Base of the estimators that fit a new last layer on a network's features."""

    #: What is trained, where a derived class has no such parameter.
    scope = "last_layer"

    #: The net that was trained, where it is more than a last layer.
    net_ = None

    # Searches and splitters own the name `groups`; routing asks for the other.
    __metadata_request__fit = {"groups": UNUSED}

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit"])],
        "penalty": "no_validation",
        "balance": [None, StrOptions({"cells", "weights"})],
        "class_weight": [None, dict, StrOptions({"balanced"})],
        "init": [StrOptions({"fresh", "warm"})],
        "fine_tune_fraction": [
            Interval(Real, 0, 1, closed="neither"),
            HasMethods(["split", "get_n_splits"]),
        ],
        "optimizer": [callable],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "head": [str],
        "precision": [StrOptions({"auto", "float32", "float64"})],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def predict_proba(self, X):
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor or Dataset
            Rows of the kind that `estimator_` takes.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes), float64
            Rows sum to 1; columns are in the order of `classes_`. They refer to the
            population that was balanced by `balance` and `class_weight`.
        """
        check_is_fitted(self, "coef_")
        return joined_probabilities(self._logits_of(X))

    def to_module(self):
        """Return the network with its new last layer, on its own.

        Returns
        -------
        module : torch.nn.Module
            A copy in eval mode, on the device of the network. It takes what the
            wrapped network takes and returns what that returns: logits, or what the
            network makes of them.
        """
        check_is_fitted(self, "coef_")
        if self.net_ is not None:
            return copy.deepcopy(uncompiled(self.net_.module_)).eval()
        weight, bias = map(torch.as_tensor, (self.coef_, self.intercept_))
        return self._backbone().with_head(self.head_, weight, bias)

    def _backbone(self):
        return Backbone(self._owner, self.estimator_)

    def _known_marks(self):
        """Return marks of a sample of the rows that were fitted on, and that chose."""
        check_is_fitted(self, "coef_")
        base = getattr(self.estimator_, "_known_marks", dict)()
        parts = [vars(self).get("_marks"), base.get("fitted")]
        parts = [part for part in parts if part is not None]
        fitted = np.concatenate(parts) if parts else None
        return {"fitted": fitted, "chosen": base.get("chosen")}

    def _marks_of(self, X):
        """Return marks of rows as `fit` would keep them; None for a Dataset."""
        rows = self._backbone().rows(X)
        return row_marks(rows) if isinstance(rows, GroupedRows) else None

    def _logits_of(self, X):
        backbone = self._backbone()
        if self.net_ is not None:
            yield from self.net_.forward_iter(backbone.tunable_rows(X))
            return
        features = backbone.features(backbone.rows(X), self.head_)
        # Float64 keeps what a row says apart from the rows beside it.
        features = features.to(widest(features.device))
        weight, bias = (
            torch.as_tensor(part).to(features) for part in (self.coef_, self.intercept_)
        )
        yield torch.addmm(bias, features, weight.T)

    def _check_names(self):
        closure = self.scope != "last_layer"
        _settings.check_optimizer(self._owner, self.optimizer, closure=closure)
        given = self._extra_names()
        penalty = self._penalty_class
        known = signature_names(penalty) if penalty else None
        optimizer = signature_names(self.optimizer)
        parts = {
            "penalty": known and [n for n in known if not n.startswith("n_")],
            "optimizer": optimizer and [n for n in optimizer if n not in OWN],
        }
        check_nested_names(self._owner, given, parts, self._own_names())
        settings = optimizer_settings(
            self.optimizer, self._params_of("optimizer"), self.lr
        )
        weights = [torch.zeros(1, requires_grad=True)]
        _settings.build_part(self, "optimizer", self.optimizer, weights, **settings)

    def _params_of(self, part):
        names = [n for n in self._extra_names() if n.startswith(f"{part}__")]
        return {n.removeprefix(f"{part}__"): getattr(self, n) for n in names}

    def _cached(self, X, rows):
        """Find the head and compute the features of some rows, once.

        Returns
        -------
        data : HeadData
            Features and codes in the order of `rows`.
        """
        owner = self._owner
        self.device_ = _settings.pick_device(owner, self.device)
        backbone = self._backbone()
        read = backbone.rows(X, rows.index.numpy())
        self.head_ = backbone.find_head(read, self.head)
        self._learn_format(backbone)
        self._report_overlap(backbone, read)
        is_rows = isinstance(read, GroupedRows)
        self._marks = row_marks(read, SAMPLED) if is_rows else None
        features = backbone.features(read, self.head_).to(self.device_)
        if self.precision != "auto":
            features = features.to(getattr(torch, self.precision))
        if not bool(torch.isfinite(features).all()):
            raise ValueError(
                f"The features that {owner} gets from the network are not finite: it "
                "holds or computes NaN or infinity for some rows."
            )
        n_groups = 0 if self.groups_ is None else len(self.groups_)
        target, groups = rows.y.to(self.device_), rows.groups.to(self.device_)
        return HeadData(features, target, groups, len(self.classes_), n_groups)

    def _report_overlap(self, backbone, read):
        """Say how many of the rows that the network was trained on come again."""
        if self.overlap_ is not None:
            return
        marks = getattr(backbone.classifier, "_marks", None)
        again = row_marks(read) if isinstance(read, GroupedRows) else None
        self.overlap_ = share_found(marks, again)
        if self.overlap_ > 0:
            logger.warning(
                "%s is fitted on rows that its network was trained on: %.0f %% of "
                "those come again. Their features fit their labels better than those "
                "of new rows do.",
                self._owner,
                100 * self.overlap_,
            )

    def _learn_format(self, backbone):
        """Take over what scikit-learn's estimators know of the columns of X."""
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                delattr(self, name)
            for part in (*backbone.steps[:1], self.estimator_):
                if hasattr(part, name):
                    setattr(self, name, getattr(part, name))
                    break

    def _built_penalty(self, data):
        if self._penalty_class is None:
            return None
        penalty = self._penalty_class(
            data.n_groups, data.n_classes, **self._params_of("penalty")
        )
        return penalty.to(data.features.device, data.features.dtype)

    def _check_start(self):
        """Refuse to start from a last layer whose outputs stand for other classes."""
        if self.init == "fresh":
            return
        classifier = self._backbone().classifier
        # A plain skorch classifier knows codes alone.
        if is_net(classifier) or not hasattr(classifier, "classes_"):
            return
        before, now = np.asarray(classifier.classes_).tolist(), self.classes_.tolist()
        if before != now:
            raise ValueError(
                f"init='warm' of {self._owner} starts from a last layer for the "
                f"classes {before[:10]}, and y has {now[:10]}; use init='fresh'."
            )

    def _start(self, features, n_classes, seed):
        """Return the weights that heads start from."""
        if self.init == "fresh":
            return fresh_head(features.shape[1], n_classes, seed, features)
        layer = self._backbone().layer(self.head_)
        weight = layer.weight.detach()
        bias = layer.bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        if len(weight) == 1 and n_classes == 2:
            # The logit of class 1 alone.
            weight = torch.cat([torch.zeros_like(weight), weight])
            bias = torch.cat([torch.zeros_like(bias), bias])
        if len(weight) != n_classes:
            raise ValueError(
                f"init='warm' of {self._owner} starts from a last layer of "
                f"{len(weight)} outputs, and y has {n_classes} classes; use "
                "init='fresh'."
            )
        return weight, bias

    def _training(self, seed):
        params = optimizer_settings(
            self.optimizer, self._params_of("optimizer"), self.lr
        )
        size = None if self.batch_size == "auto" else self.batch_size
        return Settings(self.optimizer, params, self.max_epochs, size, seed)

    def _train_layer(self, data, sets, penalty_weight, seed):
        """Train the layer that is kept: the mean of those of all sets."""
        penalty = self._built_penalty(data)
        first = sets[0].rows
        records, seen = [], looks(self.max_epochs)

        def watch(epoch, heads):
            bar.update()
            if epoch in seen:
                values = evaluate_heads(data, heads, [first], penalty)
                values = {f"train_{name}": v[0, 0] for name, v in values.items()}
                records.append({"epoch": epoch, **values})

        settings = self._training(seed)
        start = self._start(data.features, data.n_classes, seed)
        weights = torch.tensor([float(penalty_weight)])
        with tqdm(total=self.max_epochs, unit="epoch", disable=not self.verbose) as bar:
            heads = train_heads(data, sets, penalty, weights, start, settings, watch)
        weight, bias = (part.mean(0)[..., 0].cpu() for part in heads)
        self.coef_, self.intercept_ = weight.numpy(), bias[:, 0].numpy()
        self.history_ = pd.DataFrame(records)
        self.n_iter_ = self.max_epochs
        logits = data.features[first].cpu().numpy() @ self.coef_.T + self.intercept_
        self._warn_of_one_class(logits.argmax(1))

    def _warn_of_one_class(self, predicted):
        if len(np.unique(predicted)) == 1:
            warnings.warn(
                f"{self._owner} predicts one class for every row that it was fitted "
                "on, so its gaps are 0 for no merit. Try a smaller penalty_weight, "
                "balance='cells', another lr or more max_epochs.",
                ConstantPredictionWarning,
                stacklevel=7,
            )


def looks(max_epochs):
    """Return the epochs after which the history gets a row."""
    step = -(-max_epochs // LOOKS)
    return {*range(step, max_epochs, step), max_epochs}
