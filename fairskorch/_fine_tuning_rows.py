"""Which rows a network is trained on, and which its new last layer."""

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import has_fit_parameter
from torch.utils.data import Dataset

from fairskorch import _preparation as prep
from fairskorch import _settings
from fairskorch._divisions import split_rows
from fairskorch._features import is_net, take_rows
from fairskorch._row_sets import balanced_set
from fairskorch.batches import GroupedRows


class RowsOfFineTuner:
    """The part of a last-layer estimator that codes and divides its rows."""

    def _coded_rows(self, X, y, groups, sample_weight, weight):
        """Check all but X, learn classes and groups, and code the rows.

        Returns
        -------
        rows : GroupedRows
            Rows of sample weight above 0, without their X; `index` numbers them.
        y : ndarray
            Classes of all rows, for a splitter.
        """
        owner = self._owner
        self._penalty_class = _settings.find_penalty(owner, self.penalty, weight)
        if self.scope == "last_layer":
            _settings.check_heads(owner, self._penalty_class)
        self._check_names()
        y, groups = self._with_items(X, y, groups)
        n_rows = _n_rows(X)
        rows = GroupedRows(np.empty((n_rows, 0), dtype=np.float32))
        y = prep.checked_target(owner, y, n_rows)
        self.classes_, codes = prep.encode_classes(owner, y)
        self._class_weights(y, False)  # which refuses some
        self._encoder = self.groups_ = self.group_counts_ = group_codes = None
        if groups is not None:
            frame = prep.checked_groups(owner, groups, rows)
            self._encoder, group_codes = prep.learn_groups(owner, frame, self.penalty)
            self.groups_ = self._encoder.labels_
        weight = prep.checked_weight(owner, sample_weight, n_rows)
        rows = rows.labelled(codes, group_codes, weight)
        if weight is not None and not weight.all():
            rows = rows.subset(np.flatnonzero(weight))
        if self._penalty_class is not None:
            # What its parameters cannot be is said before an estimator is fitted.
            sizes = len(self.groups_), len(self.classes_)
            self._penalty_class(*sizes, **self._params_of("penalty"))
        return rows, y

    def _fit_estimator(self, X, y, groups, sample_weight, rows, seed):
        """Fit the wrapped estimator on rows that are not kept, or take it as it is.

        Returns
        -------
        rows : GroupedRows
            Those to fine-tune on.
        """
        owner = self._owner
        self.overlap_ = 0.0
        if isinstance(self.estimator, FrozenEstimator):
            self.estimator_ = self.estimator.estimator
            self.overlap_ = None
            self._check_start()
            return rows
        rng = np.random.RandomState(seed)
        base, kept = split_rows(
            owner, self.fine_tune_fraction, rows, y, rng, "fine_tune_fraction"
        )
        if kept is None:
            base, kept = _last_of_cells(owner, rows)
        estimator = clone(self.estimator)
        if estimator.get_params().get("random_state", 0) is None:
            estimator.set_params(random_state=rng.randint(np.iinfo(np.int32).max))
        numbers = base.index.numpy()
        given = {}
        if groups is not None and has_fit_parameter(estimator, "sensitive_features"):
            frame = prep.checked_groups(owner, groups, y)
            given["sensitive_features"] = take_rows(frame, numbers)
        if sample_weight is not None and has_fit_parameter(estimator, "sample_weight"):
            given["sample_weight"] = np.asarray(sample_weight)[numbers]
        if isinstance(X, Dataset):
            self.estimator_ = estimator.fit(take_rows(X, numbers))
            return kept
        # A plain skorch classifier has no labels, only codes.
        labels = base.y.numpy() if is_net(estimator) else y[numbers]
        self.estimator_ = estimator.fit(take_rows(X, numbers), labels, **given)
        return kept

    def _row_sets(self, rows, numbers, seed, n_draws):
        """Balance some rows, by one draw or several; see `balanced_set`."""
        rng = np.random.RandomState(seed)
        n_groups = None if self.groups_ is None else len(self.groups_)
        arguments = (self.balance, self.class_weight, self.classes_, n_groups, rng)
        try:
            return [balanced_set(rows, numbers, *arguments) for _ in range(n_draws)]
        except ValueError as error:
            raise ValueError(f"{self._owner}: {error}") from error

    def _count(self, rows, numbers):
        """Count the rows that a head is fitted on, and warn of empty cells."""
        if self._encoder is None:
            return
        self.group_counts_ = prep.count_rows(
            self._encoder,
            rows.groups.numpy()[numbers],
            self.classes_,
            rows.y.numpy()[numbers],
        )
        if self.penalty is not None:
            prep.warn_of_empty_cells(self._owner, self.group_counts_)


def _last_of_cells(owner, rows):
    """Keep the last row of every cell that has two, where a share of rows is none."""
    cell = (rows.groups * (rows.y.max() + 1) + rows.y).numpy()
    _, last, counts = np.unique(cell[::-1], return_index=True, return_counts=True)
    kept = np.sort(len(cell) - 1 - last[counts > 1])
    if not len(kept):
        raise ValueError(
            f"{owner} keeps no row of {len(rows)} for fine-tuning: no cell of group "
            "and class has two. Give more rows."
        )
    others = np.setdiff1d(np.arange(len(cell)), kept)
    return rows.subset(others), rows.subset(kept)


def _n_rows(X):
    return X.shape[0] if getattr(X, "shape", ()) else len(X)
