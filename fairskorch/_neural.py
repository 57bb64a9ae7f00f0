"""What every estimator around a net does: code rows, train, predict."""

import contextlib
from numbers import Integral

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_class_weight
from sklearn.utils.validation import check_is_fitted

from fairskorch import _building
from fairskorch import _preparation as prep
from fairskorch._params import NestedParams
from fairskorch.batches import GroupedRows
from fairskorch.inputs import InputFormat, refuse_items

#: Share of the epochs over which the penalty's weight ramps up.
WARMUP = 0.5


class NeuralClassifier(ClassifierMixin, NestedParams):
    """Base of the estimators that train a net.

    A derived class has the parameters of `FairNeuralClassifier` that are read here,
    and a `fit` made of these steps: `_training_rows`, `_settle`, and, inside
    randomness of its own, `_held_out_rows` and `_train`.
    """

    def predict_proba(self, X):
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor or Dataset
            Rows of the kind and shape that were fitted on.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes), float64
            Rows sum to 1; columns are in the order of `classes_`. After training on
            balanced batches they refer to the balanced population, unless
            `prior_correction` is set.
        """
        check_is_fitted(self, "net_")
        X, layout = self._format.read(self, X, reset=False)
        parts = list(self.net_.forward_iter(GroupedRows(X, layout=layout)))
        logits = torch.cat([part.cpu() for part in parts]).double()
        if self._prior_shift is not None:
            logits = logits + self._prior_shift
        return torch.softmax(logits, dim=1).numpy()

    def predict(self, X):
        """Return the most probable class.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor or Dataset
            Rows of the kind and shape that were fitted on.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        """
        most_probable = self.predict_proba(X).argmax(axis=1)
        return self.classes_[most_probable]

    @property
    def _owner(self):
        return type(self).__name__

    @contextlib.contextmanager
    def _unchanged_on_error(self):
        """Put all attributes back when something fails on the way."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _training_rows(
        self, X, y, groups, sample_weight, *, going_on, classes=None, partial=False
    ):
        """Check the data, learn classes, groups and format, and code the rows."""
        owner = self._owner
        self._penalty_class = _building.find_penalty(
            owner, self.penalty, self.penalty_weight
        )
        refuse_items(X, owner)
        if isinstance(X, torch.utils.data.Dataset) and y is None:
            y, groups = prep.read_items(X)
        if groups is None and self._penalty_class is not None:
            raise ValueError(prep.missing_groups_message(owner, self.penalty))
        if not going_on:
            self._format = InputFormat(owner, self.channels)
        X, layout = self._format.read(self, X, reset=not going_on)
        rows = GroupedRows(X, layout=layout)
        y = prep.checked_target(owner, y, len(rows))
        frame = None if groups is None else prep.checked_groups(owner, groups, rows)
        weight = prep.checked_weight(owner, sample_weight, len(rows))
        if weight is not None and not weight.all():
            keep = np.flatnonzero(weight)
            rows, y, weight = rows.subset(keep), y[keep], weight[keep]
            frame = None if frame is None else frame.iloc[keep].reset_index(drop=True)
        if going_on:
            codes = prep.encode_known(owner, y, self.classes_)
            if not partial:
                prep.check_same(owner, "classes", self.classes_, self.classes_[codes])
        else:
            self.classes_, codes = prep.encode_classes(owner, y, classes)
        group_codes = self._code_groups(frame, codes, going_on, partial)
        if self.class_weight is not None:
            class_weight = self._class_weight(y, partial)[codes]
            weight = class_weight if weight is None else weight * class_weight
        return rows.labelled(codes, group_codes, weight)

    def _code_groups(self, frame, codes, going_on, partial):
        owner = self._owner
        if going_on and partial:
            if frame is None or self._encoder is None:
                return None
            return prep.known_groups(
                owner, self._encoder, frame, name="groups", new="raise"
            )
        before = self.groups_ if going_on else None
        self._encoder = self.groups_ = self.group_counts_ = group_codes = None
        if frame is not None:
            self._encoder, group_codes, self.group_counts_ = prep.encode_groups(
                owner, frame, self.penalty, self.classes_, codes
            )
            self.groups_ = self._encoder.labels_
        if going_on:
            prep.check_same(owner, "groups", before, self.groups_)
        # What partial_fit has not seen yet may still come.
        if self.group_counts_ is not None and self.penalty is not None and not partial:
            prep.warn_of_empty_cells(owner, self.group_counts_)
        return group_codes

    def _class_weight(self, y, partial):
        if partial and self.class_weight == "balanced":
            raise ValueError(
                f"class_weight='balanced' of {self._owner} needs all rows, which "
                "partial_fit does not see; pass a dict of weights."
            )
        return compute_class_weight(self.class_weight, classes=self.classes_, y=y)

    def _held_out_rows(self, X_val, y_val, groups_val):
        owner = self._owner
        if X_val is None:
            if y_val is not None or groups_val is not None:
                raise ValueError(f"{owner}.fit got y_val or groups_val without X_val.")
            return None
        if isinstance(X_val, torch.utils.data.Dataset) and y_val is None:
            y_val, groups_val = prep.read_items(X_val)
        if groups_val is None and self._penalty_class is not None:
            raise ValueError(
                f"{owner}.fit got X_val without groups_val; the gap of held-out rows "
                "needs their groups."
            )
        X, layout = self._format.read(self, X_val, name="X_val", reset=False)
        rows = GroupedRows(X, layout=layout)
        y = prep.checked_target(owner, y_val, len(rows), name="y_val")
        codes = prep.encode_known(owner, y, self.classes_, name="y_val")
        group_codes = None
        if groups_val is not None and self._encoder is not None:
            frame = prep.checked_groups(owner, groups_val, rows, name="groups_val")
            group_codes = prep.known_groups(
                owner, self._encoder, frame, name="groups_val", new="warn"
            )
        return rows.labelled(codes, group_codes, None)

    def _settle(self, *, epochs, ramp, going_on):
        """Decide what is "auto", and return the seed of this call."""
        self.device_ = _building.pick_device(self._owner, self.device)
        self.precision_ = self.precision
        if self.precision == "auto":
            on_cuda = self.device_.startswith("cuda")
            self.precision_ = "bfloat16" if on_cuda else "float32"
        self.sampler_ = self.sampler
        if self.sampler == "auto":
            self.sampler_ = "shuffle" if self.penalty is None else "balanced_classes"
        self.lr_ = _building.pick_lr(self.lr, self.optimizer)
        warmup = WARMUP if self.penalty_warmup == "auto" else self.penalty_warmup
        if not isinstance(warmup, Integral):
            warmup = warmup * epochs
        self.penalty_warmup_ = warmup if ramp else 0
        if not going_on:
            first = _building.draw_seed(self.random_state)
            self._seeds = np.random.RandomState(first)
        return int(self._seeds.randint(np.iinfo(np.int32).max))

    def _train(self, rows, valid, *, going_on, epochs):
        if going_on:
            net = self.net_
            _building.go_on(net, self, epochs)
        else:
            net = _building.build_net(self, epochs)
            _building.check_outputs(self._owner, net, rows, len(self.classes_))
        _building.run(net, rows, valid)
        self.net_ = net
        self.history_ = _building.history_frame(net)
        self.n_iter_ = len(self.history_)
        self._prior_shift = None
        if self.prior_correction:
            class_weight = None
            if self.class_weight is not None:
                class_weight = torch.as_tensor(
                    self._class_weight(self.classes_[rows.y.numpy()], False)
                )
            self._prior_shift = _building.prior_shift(net, rows, class_weight)
