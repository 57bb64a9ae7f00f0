"""What every estimator around a net does: code rows, train, predict."""

import contextlib
import copy
import warnings
from numbers import Real

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_class_weight
from sklearn.utils.validation import check_is_fitted

from fairskorch import _attributes, _building, _settings
from fairskorch import _preparation as prep
from fairskorch._marks import SAMPLED, row_marks
from fairskorch._params import NestedParams
from fairskorch._probabilities import joined_probabilities
from fairskorch.batches import GroupedRows
from fairskorch.exceptions import ConstantPredictionWarning
from fairskorch.inputs import InputFormat, refuse_items
from fairskorch.monitor import cell_sample
from fairskorch.rates import widest

#: Training rows that a constant prediction is looked for in.
CHECKED_ROWS = 2000


class NeuralClassifier(ClassifierMixin, NestedParams):
    """Base of the estimators that train a net.

    A derived class has the parameters of `FairNeuralClassifier` that are read here,
    and a `fit` made of these steps: `_training_rows`, `_settle`, and, inside
    randomness of its own, `_held_out_rows` and `_train`.
    """

    # Parameters that a derived class need not have.
    monitor_metrics = monitor_attributes = penalty_attributes = early_stopping = None
    flood = ema_decay = None
    penalty_schedule = "constant"
    penalty_data = "train"

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
        return joined_probabilities(self._logits(GroupedRows(X, layout=layout)))

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

    #: The parameter that says how groups are compared.
    _compared_name = "penalty"

    @property
    def _compared(self):
        """How groups are compared, None where they are not."""
        return self.penalty

    def _find_penalty(self):
        largest = self._largest_weight()
        found = _settings.find_penalty(self._owner, self.penalty, largest)
        _settings.check_schedule(self._owner, found, self.penalty_schedule)
        return found

    def _auto_sampler(self):
        return "shuffle" if self.penalty is None else "balanced_classes"

    def _penalty_settings(self, given, n_batches):
        """Return what the net is told of its penalty, by the net's names."""
        return _building.penalty_settings(self, given, n_batches)

    @property
    def _owner(self):
        return type(self).__name__

    def _known_marks(self):
        """Return marks of a sample of the rows that were fitted on, and that chose."""
        own = vars(self)
        return {"fitted": own.get("_marks"), "chosen": own.get("_valid_marks")}

    def _marks_of(self, X):
        """Return marks of rows as `fit` would keep them; None for a Dataset."""
        exact = self.precision == "float64"
        X, layout = self._format.read(self, X, reset=False, exact=exact)
        return row_marks(GroupedRows(X, layout=layout))

    def _largest_weight(self):
        """Return the largest penalty weight that is asked for."""
        return self.penalty_weight

    def _logits(self, rows):
        """Yield logits, batch by batch, on the device and as wide as it has them."""
        shift = self._prior_shift
        for logits in self.net_.forward_iter(rows):
            logits = logits.to(widest(logits.device))
            yield logits if shift is None else logits + shift.to(logits)

    @contextlib.contextmanager
    def _unchanged_on_error(self):
        """Put all attributes back when something fails on the way.

        Inside, attributes are replaced and never changed in place.
        """
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
        refuse_items(X, owner)
        if isinstance(X, torch.utils.data.Dataset):
            y, groups = prep.read_items(owner, X, y, groups)
        if groups is None and self._compared is not None:
            raise ValueError(
                prep.missing_groups_message(owner, self._compared, self._compared_name)
            )
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
        if not (weights > 0).all():
            raise ValueError(
                f"class_weight of {self._owner} must be positive for every class; got "
                f"{self.class_weight}."
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
        if groups_val is None and self._compared is not None:
            raise ValueError(
                f"{owner}.fit got X_val without groups_val; the gap of held-out rows "
                "needs their groups."
            )
        exact = self.precision == "float64"
        X, layout = self._format.read(
            self, X_val, name="X_val", reset=False, exact=exact
        )
        rows = GroupedRows(X, layout=layout)
        y = prep.checked_target(owner, y_val, len(rows), name="y_val")
        codes = prep.encode_known(owner, y, self.classes_, name="y_val")
        group_codes = attributes = None
        if groups_val is not None and self._encoder is not None:
            frame = prep.checked_groups(owner, groups_val, rows, name="groups_val")
            _attributes.check_attributes(owner, self._named_columns(), frame)
            frame, attributes = self._coded(frame)
            group_codes = prep.known_groups(
                owner, self._encoder, frame, name="groups_val", new="warn"
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
            rows, valid = prep.split_rows(
                owner, fraction, rows, given_y, rng, subjects=subjects
            )
            drawn = None if isinstance(fraction, Real) else valid
        if self.penalty_data == "holdout":
            rows, others = prep.split_penalty_rows(
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

    def _settle(self, *, epochs, ramp, going_on):
        """Decide what is "auto", and return the seed of this call."""
        self.device_ = _settings.pick_device(self._owner, self.device)
        self.precision_ = self.precision
        if self.precision == "auto":
            on_cuda = self.device_.startswith("cuda")
            self.precision_ = "bfloat16" if on_cuda else "float32"
        self.sampler_ = self.sampler
        if self.sampler == "auto":
            self.sampler_ = self._auto_sampler()
        self.lr_ = _settings.pick_lr(self.lr, self.optimizer)
        self.penalty_warmup_ = 0
        if ramp:
            self.penalty_warmup_ = _settings.pick_warmup(self.penalty_warmup, epochs)
        if going_on:
            seeds = copy.deepcopy(self._seeds)
        else:
            seeds = np.random.RandomState(_settings.draw_seed(self.random_state))
        self._seeds = seeds
        seed = int(seeds.randint(np.iinfo(np.int32).max))
        # A warm start holds out the same rows again: others were trained on.
        if not going_on or not hasattr(self, "_split_seed"):
            self._split_seed = seed
        return seed

    def _refuse_partial(self):
        """Refuse what needs rows that partial_fit does not hold out."""
        if self.early_stopping is not None:
            raise ValueError(
                f"early_stopping of {self._owner} needs held-out rows, and partial_fit "
                "holds none out; use fit, or early_stopping=None."
            )
        if self.penalty_data == "holdout":
            raise ValueError(
                f"penalty_data='holdout' of {self._owner} keeps rows for the penalty "
                "alone, and partial_fit cannot tell which of earlier calls it kept; "
                "use fit, or penalty_data='train'."
            )

    def _train(self, rows, valid, *, going_on, epochs, partial=False):
        if self.early_stopping is not None and valid is None:
            raise ValueError(
                f"early_stopping of {self._owner} needs held-out rows: a "
                "validation_fraction above 0 and rows enough, or X_val, y_val and "
                "groups_val."
            )
        # Calls of partial_fit are parts of a stream, not epochs of their own.
        n_batches = None if partial else -(-len(rows) // self.batch_size)
        if going_on:
            net = _building.go_on(self.net_, self, epochs, n_batches)
        else:
            net = _building.build_net(self, epochs, n_batches)
            _building.check_outputs(self._owner, net, rows, len(self.classes_))
        _building.run(net, rows, valid)
        self.net_ = net
        self.history_ = _building.history_frame(net)
        self.n_iter_ = len(self.history_)
        stopping = dict(net.callbacks_).get("early_stopping")
        self.best_epoch_ = getattr(stopping, "best_epoch_", None)
        if not partial:
            self._marks = _marks_of_all(rows)
            chose = self.best_epoch_ is not None
            self._valid_marks = row_marks(valid, SAMPLED) if chose else None

    def _correct_prior(self, rows, *, add):
        """Settle what `prior_correction` adds to logits; `add` rows to earlier ones."""
        self._prior_shift = None
        if not self.prior_correction:
            return
        weights = self._class_weights(self.classes_[rows.y.numpy()], False)
        masses = _building.class_masses(
            self.net_,
            rows,
            len(self.classes_),
            None if weights is None else torch.as_tensor(weights),
        )
        before = getattr(self, "_class_masses", None)
        self._class_masses = masses + before if add and before is not None else masses
        self._prior_shift = _building.prior_shift(self._class_masses)

    def _warn_if_constant(self, train, valid):
        """Warn when one class is predicted for all rows that are looked at."""
        size = max(CHECKED_ROWS, 0 if valid is None else len(valid))
        if len(train) > size:
            train = train.subset(cell_sample(train.y, train.groups, size))
        predicted = set()
        for part in filter(None, (valid, train)):
            for logits in self._logits(part):
                predicted.update(logits.argmax(dim=1).unique().tolist())
            if len(predicted) > 1:
                return
        warnings.warn(
            f"{self._owner} predicts one class for every row that was looked at, so "
            "its gaps are 0 for no merit. Try a smaller penalty_weight, "
            "sampler='balanced_classes', a longer penalty_warmup or more max_epochs.",
            ConstantPredictionWarning,
            stacklevel=4,
        )


def _marks_of_all(rows):
    """Mark training rows, those of the penalty among them."""
    parts = [part for part in (rows, rows.penalty_rows) if part is not None]
    marks = [row_marks(part, SAMPLED // len(parts)) for part in parts]
    return None if marks[0] is None else np.concatenate(marks)
