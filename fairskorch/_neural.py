"""What every estimator around a net does: settle, train, predict."""

import contextlib
import copy
import warnings

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from fairskorch import _building, _parts, _settings
from fairskorch._estimator_rows import RowsOfEstimator
from fairskorch._marks import SAMPLED, row_marks
from fairskorch._params import NestedParams
from fairskorch._probabilities import (
    class_masses,
    joined_probabilities,
    prior_shift,
)
from fairskorch.exceptions import ConstantPredictionWarning
from fairskorch.modules import uncompiled
from fairskorch.monitor import cell_sample
from fairskorch.rates import widest

#: Training rows that a constant prediction is looked for in.
CHECKED_ROWS = 2000

#: Rows that are read first, since they mostly show more than one class.
FIRST_ROWS = 256


class NeuralClassifier(RowsOfEstimator, ClassifierMixin, NestedParams):
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
        return joined_probabilities(self._logits(self._read_rows(X)))

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

    #: Who is named in messages, where that is not the estimator: a search, of its fits.
    _named_as = None

    @property
    def _owner(self):
        return self._named_as or type(self).__name__

    def _known_marks(self):
        """Return marks of a sample of the rows that were fitted on, and that chose."""
        check_is_fitted(self, "net_")
        own = vars(self)
        return {"fitted": own.get("_marks"), "chosen": own.get("_valid_marks")}

    def _marks_of(self, X):
        """Return marks of rows as `fit` would keep them; None for a Dataset."""
        return row_marks(self._read_rows(X, exact=True))

    def _largest_weight(self):
        """Return the largest penalty weight that is asked for."""
        return self.penalty_weight

    def _logits(self, rows):
        """Yield logits, batch by batch, on the device and as wide as it has them."""
        yield from map(self._corrected, self.net_.forward_iter(rows))

    def _corrected(self, logits):
        """Return logits as wide as the device has them, their prior corrected."""
        logits = logits.to(widest(logits.device))
        shift = self._prior_shift
        return logits if shift is None else logits + shift.to(logits)

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

    def _settle(self, *, epochs, ramp, going_on):
        """Decide what is "auto", and return the seed of this call."""
        _settings.check_optimizer(self._owner, self.optimizer)
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
            _parts.check_outputs(self._owner, net, rows, len(self.classes_))
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
        masses = class_masses(
            self.net_,
            rows,
            len(self.classes_),
            None if weights is None else torch.as_tensor(weights),
        )
        before = getattr(self, "_class_masses", None)
        self._class_masses = masses + before if add and before is not None else masses
        self._prior_shift = prior_shift(self._class_masses)

    def _warn_if_constant(self, train, valid):
        """Warn when one class is predicted for all rows that are looked at."""
        net, predicted = self.net_, set()
        # To compile for a few rows would take far longer than they do.
        module = uncompiled(net.module_)
        net._set_training(False)
        with torch.no_grad():
            for part in _looked_at(train, valid):
                for fields, _ in net.get_iterator(part):
                    logits = self._corrected(net.infer_with(module, fields))
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


def _looked_at(train, valid):
    """Yield rows to look for a second predicted class in, a few of them first."""
    if valid is not None:
        yield from (valid.subset(slice(FIRST_ROWS)), valid)
    size = max(CHECKED_ROWS, 0 if valid is None else len(valid))
    if len(train) > size:
        train = train.subset(cell_sample(train.y, train.groups, size))
    yield train


def _marks_of_all(rows):
    """Mark training rows, those of the penalty among them."""
    parts = [part for part in (rows, rows.penalty_rows) if part is not None]
    marks = [row_marks(part, SAMPLED // len(parts)) for part in parts]
    return None if marks[0] is None else np.concatenate(marks)
