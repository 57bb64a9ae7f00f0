"""How an estimator takes rows: checked, coded by class and group, divided."""

from numbers import Real

import numpy as np
import torch
from sklearn.utils import compute_class_weight

from fairskorch import _attributes
from fairskorch import _preparation as prep
from fairskorch._divisions import split_penalty_rows, split_rows
from fairskorch._inputs import InputFormat, refuse_items
from fairskorch.batches import GroupedRows
from fairskorch.groups import refuse_names


class RowsOfEstimator:
    """The part of an estimator that makes rows of what it is given."""

    def _training_rows(
        self, X, y, groups, sample_weight, *, going_on, classes=None, partial=False
    ):
        """Check the data, learn classes, groups and format, and code the rows.

        Returns
        -------
        rows : GroupedRows
            Rows of weight above 0.
        y : ndarray
            Classes of all rows, for a splitter.
        """
        owner = self._owner
        self._penalty_class = self._find_penalty()
        y, groups = self._with_items(X, y, groups)
        if not going_on:
            self._format = InputFormat(owner, self.channels)
        exact = self.precision == "float64"
        X, layout = self._format.read(self, X, reset=not going_on, exact=exact)
        rows = GroupedRows(X, layout=layout)
        y = given_y = prep.checked_target(owner, y, len(rows))
        frame = None if groups is None else prep.checked_groups(owner, groups, rows)
        weight = prep.checked_weight(owner, sample_weight, len(rows))
        if weight is not None and not weight.all():
            keep = np.flatnonzero(weight)
            rows, y, weight = rows.subset(keep), y[keep], weight[keep]
            frame = None if frame is None else frame.iloc[keep].reset_index(drop=True)
        frame, attributes = self._columns(frame, keep=going_on and partial)
        if going_on:
            if classes is not None:
                prep.check_same(owner, "classes", self.classes_, np.unique(classes))
            codes = prep.encode_known(owner, y, self.classes_)
            if not partial:
                prep.check_same(owner, "classes", self.classes_, np.unique(y))
        else:
            self.classes_, codes = prep.encode_classes(owner, y, classes)
        group_codes = self._code_groups(frame, codes, going_on, partial)
        class_weight = self._class_weights(y, partial)
        if class_weight is not None:
            class_weight = class_weight[codes]
            weight = class_weight if weight is None else weight * class_weight
        return rows.labelled(codes, group_codes, weight, attributes), given_y

    def _with_items(self, X, y, groups):
        """Return classes and groups, those of a Dataset's items where X is one."""
        owner = self._owner
        refuse_items(X, owner)
        refuse_names(owner, groups, X)
        if isinstance(X, torch.utils.data.Dataset):
            y, groups = prep.read_items(owner, X, y, groups)
        if groups is None and self._compared is not None:
            raise ValueError(
                prep.missing_groups_message(owner, self._compared, self._compared_name)
            )
        return y, groups

    def _columns(self, frame, keep):
        """Divide sensitive features into those of the groups and codes of others."""
        owner = self._owner
        _attributes.check_metrics(
            owner, self.monitor_metrics, self.monitor, frame is not None
        )
        _attributes.check_attributes(owner, self._named_columns(), frame)
        if not keep:
            watched = self.monitor_attributes
            self._watched = _attributes.learn_attributes(frame, watched)
        _attributes.check_stopping(self, frame is not None)
        return self._coded(frame)

    def _named_columns(self):
        names = ("penalty_attributes", "monitor_attributes")
        return {name: getattr(self, name) for name in names}

    def _coded(self, frame):
        """Return the columns of the groups, and the codes of what is monitored."""
        if frame is None:
            return None, None
        codes = _attributes.code_attributes(frame, self._watched)
        wanted = self.penalty_attributes
        return (frame if wanted is None else frame[list(wanted)]), codes

    def _code_groups(self, frame, codes, going_on, partial):
        """Learn the groups, or demand those that were learnt, and count their rows."""
        owner = self._owner
        if not going_on:
            self._encoder = self.groups_ = self.group_counts_ = None
            if frame is None:
                return None
            self._encoder, group_codes = prep.learn_groups(
                owner, frame, self._compared, self._compared_name
            )
            self.groups_ = self._encoder.labels_
        elif (frame is None) != (self._encoder is None):
            if frame is None and partial:
                return None
            had = "no groups" if self._encoder is None else "groups"
            raise ValueError(
                f"Groups of {owner} are fixed at the first call, which had {had}; "
                "fit anew to change that."
            )
        elif frame is None:
            return None
        else:
            group_codes = prep.known_groups(
                owner, self._encoder, frame, name="groups", new="raise"
            )
        counts = prep.count_rows(self._encoder, group_codes, self.classes_, codes)
        if going_on and partial:
            counts = counts + self.group_counts_
        elif going_on:
            prep.check_all_there(owner, counts)
        self.group_counts_ = counts
        # What partial_fit has not seen yet may still come.
        if self._compared is not None and not partial:
            prep.warn_of_empty_cells(owner, counts)
        return group_codes

    def _class_weights(self, y, partial):
        """Return a weight for each class, or None."""
        if self.class_weight is None:
            return None
        if partial and self.class_weight == "balanced":
            raise ValueError(
                f"class_weight='balanced' of {self._owner} needs all rows, which "
                "partial_fit does not see; pass a dict of weights."
            )
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        if not ((weights > 0) & np.isfinite(weights)).all():
            raise ValueError(
                f"class_weight of {self._owner} must be positive for every class, and "
                f"finite; got {self.class_weight}."
            )
        return weights

    def _held_out_rows(self, X_val, y_val, groups_val):
        owner = self._owner
        if X_val is None:
            if y_val is not None or groups_val is not None:
                raise ValueError(f"{owner}.fit got y_val or groups_val without X_val.")
            return None
        if isinstance(X_val, torch.utils.data.Dataset):
            y_val, groups_val = prep.read_items(owner, X_val, y_val, groups_val)
        refuse_names(owner, groups_val, X_val, suffix="_val")
        if groups_val is None and self._compared is not None:
            raise ValueError(
                f"{owner}.fit got X_val without groups_val; the gap of held-out rows "
                "needs their groups."
            )
        held_out = self._read_rows(X_val, name="X_val", exact=True)
        return self._known_rows(held_out, y_val, groups_val, suffix="_val", new="warn")

    def _read_rows(self, X, *, name="X", exact=False):
        """Bring X of the format that was learnt into rows.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor or Dataset
        name : str, default="X"
            What messages call it.
        exact : bool, default=False
            Whether tables are kept in float64 where the net computes in it.
        """
        exact = exact and self.precision == "float64"
        X, layout = self._format.read(self, X, name=name, reset=False, exact=exact)
        return GroupedRows(X, layout=layout)

    def _known_rows(self, rows, y, groups, *, suffix="", new="raise"):
        """Code rows by the classes and groups that were learnt.

        Parameters
        ----------
        rows : GroupedRows
        y : array-like of shape (n_samples,)
        groups : array-like of shape (n_samples,) or (n_samples, k), or None
        suffix : str, default=""
            What follows "y" and "groups" in messages.
        new : {"raise", "warn"}, default="raise"
            What a group does that was not learnt.
        """
        owner = self._owner
        y = prep.checked_target(owner, y, len(rows), name=f"y{suffix}")
        codes = prep.encode_known(owner, y, self.classes_, name=f"y{suffix}")
        group_codes = attributes = None
        if groups is not None and self._encoder is not None:
            name = f"groups{suffix}"
            frame = prep.checked_groups(owner, groups, rows, name=name)
            _attributes.check_attributes(owner, self._named_columns(), frame)
            frame, attributes = self._coded(frame)
            group_codes = prep.known_groups(
                owner, self._encoder, frame, name=name, new=new
            )
        return rows.labelled(codes, group_codes, None, attributes)

    def _divided(self, rows, held_out, given_y, subjects, rng):
        """Divide rows into those of task loss, monitor and, if wanted, penalty.

        Parameters
        ----------
        rows : GroupedRows
        held_out : tuple
            X_val, y_val and groups_val, all None to divide the rows.
        given_y : ndarray
            Classes of all rows that were given.
        subjects : array-like or None
            Whom each of them shows.
        rng : RandomState

        Returns
        -------
        rows : GroupedRows
            Paired with those of the penalty alone, if there are such.
        valid : GroupedRows or None
        """
        owner = self._owner
        subjects = prep.coded_subjects(owner, subjects, len(given_y))
        valid = self._held_out_rows(*held_out)
        fraction, drawn = self.validation_fraction, None
        if valid is None:
            rows, valid = split_rows(
                owner, fraction, rows, given_y, rng, subjects=subjects
            )
            drawn = None if isinstance(fraction, Real) else valid
        if self.penalty_data == "holdout":
            rows, others = split_penalty_rows(
                owner,
                self.penalty_fraction,
                rows,
                given_y,
                rng,
                subjects,
                valid=drawn,
                penalised=self._penalty_class is not None,
            )
            rows = rows.paired(others)
        return rows, valid
