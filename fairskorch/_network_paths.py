"""Networks of all penalty weights on all folds: side by side, or one after another."""

import itertools
import logging
import signal
import threading
import time
import warnings
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from tqdm.auto import tqdm

from fairskorch import _building, _parts, _paths, _settings
from fairskorch._batched_layers import CannotStack
from fairskorch._features import take_rows
from fairskorch._network_scores import measures
from fairskorch._side_by_side import Part, SideBySide, can_join, obstacle
from fairskorch.classifier import FairNeuralClassifier
from fairskorch.exceptions import (
    ConstantPredictionWarning,
    EmptyCellWarning,
    NonFiniteLossError,
    UnscaledImagesWarning,
)

logger = logging.getLogger(__name__)

#: Parameters that training side by side heeds; others must be as by default.
HEEDED = {
    *("module", "penalty", "penalty_weight", "penalty_warmup", "criterion"),
    *("optimizer", "lr", "max_epochs", "batch_size", "sampler", "augment", "channels"),
    *("class_weight", "prior_correction", "monitor", "device", "precision", "capture"),
    *("random_state", "warm_start", "verbose"),
}

#: Parts whose parameters it heeds.
HEEDED_PARTS = ("module", "penalty", "optimizer")

#: Steps that a measurement takes, before it looks at the clock and while it does, and
#: how many times as fast one way has to be to end it after the first of these.
UNTIMED, TIMED, DECIDED = 2, 30, 2


class Data(NamedTuple):
    """What was given to `fit`; y and groups are None beside a Dataset."""

    X: Any
    y: Any
    groups: Any
    weight: Any
    subjects: Any

    def take(self, numbers):
        """Return arguments of `fit` for some rows."""
        groups = None if self.groups is None else self.groups.iloc[numbers]
        return {
            "X": take_rows(self.X, numbers),
            "y": None if self.y is None else self.y[numbers],
            "sensitive_features": groups,
            "sample_weight": None if self.weight is None else self.weight[numbers],
            "subjects": None if self.subjects is None else self.subjects[numbers],
        }


class NetworkPath:
    """Train and measure the networks of all penalty weights on all folds.

    Parameters
    ----------
    owner : str
        For messages.
    template : FairNeuralClassifier
        What to fit for each weight.
    data : Data
    rows : GroupedRows
        All rows that may be trained on, with codes.
    labels : tuple of ndarray
        Labels of classes and of groups.
    folds : list of tuple of ndarray
        Numbers of training and held-out rows, among `rows`.
    weights : ndarray of shape (n_weights,)
    metrics : list of str
        Metrics of groups to add.
    scoring : None, str or callable
    """

    def __init__(
        self, owner, template, data, rows, labels, folds, weights, metrics, scoring
    ):
        self.owner, self.template, self.data, self.rows = owner, template, data, rows
        self.classes, self.groups = labels
        self.folds, self.weights = folds, weights
        self.metrics, self.scoring = metrics, scoring
        shape = len(folds), len(weights)
        self.failed = np.zeros(shape, dtype=bool)
        self.known = set()
        self.scores = np.full(shape, np.nan)
        self.sides = {"train": {}, "valid": {}}

    def run(self, stacking):
        """Train all networks.

        Parameters
        ----------
        stacking : {"auto", True, False}

        Returns
        -------
        stacked : bool
            Whether they were trained side by side.
        """
        with warnings.catch_warnings():
            # The last fit says it of all rows; here it would be said for each network.
            warnings.simplefilter("ignore", ConstantPredictionWarning)
            warnings.simplefilter("ignore", EmptyCellWarning)
            warnings.simplefilter("ignore", UnscaledImagesWarning)
            stacked = self._choose(stacking)
            if stacked:
                self._side_by_side()
            else:
                self._one_after_another()
        if self.failed.any(0).all():
            raise NonFiniteLossError(
                f"Of each penalty weight of {self.owner} a network became NaN or "
                f"infinite, {self.failed.sum()} of {self.failed.size} in all, so there "
                "is none to choose. Try a smaller lr or penalty_weights, standardise "
                "X, or clip gradients with skorch's GradientNormClipping."
            )
        if self.failed.any():
            warnings.warn(
                f"{self.failed.sum()} of the {self.failed.size} networks of "
                f"{self.owner} became NaN or infinite, with penalty weights "
                f"{self.weights[self.failed.any(0)].tolist()}; their scores are nan.",
                FitFailedWarning,
                stacklevel=4,
            )
        if self.scoring is None:
            unknown = np.full(self.failed.shape, np.nan)
            self.scores = self.sides["valid"].get("balanced_accuracy", unknown)
        return stacked

    def _choose(self, stacking):
        """Decide how to train, and say it in one line of the log."""
        on_cuda = _settings.pick_device(self.owner, self.template.device)[:4] == "cuda"
        # On a CPU it computes the same, and takes longer.
        self.mapped = on_cuda or stacking is True
        reason = self._reason() if stacking is not False else "stack=False"
        stacked, level = reason is None, logging.INFO
        if stacking is True and not stacked:
            level = logging.WARNING
        elif stacked and stacking == "auto" and on_cuda:
            together, alone = measured(self)
            stacked = together < alone
            reason = (
                f"a measurement promises {together:.3g} s side by side, {alone:.3g} s "
                "one after another"
            )
        way = "side by side" if stacked else "one after another"
        said = way if reason is None else f"{way}: {reason}"
        n = self.failed.size
        logger.log(level, "%s trains %d networks %s.", self.owner, n, said)
        return stacked

    def _reason(self):
        """Return why networks cannot be trained side by side, or None."""
        if len(self.weights) < 2:
            return "there is one weight"
        template = self.template
        plain = FairNeuralClassifier()
        for name, value in template.get_params(deep=False).items():
            part = name.partition("__")[0]
            if part != name and (
                part not in HEEDED_PARTS or name == "optimizer__param_groups"
            ):
                return f"{name} is given"
            if name == part and name not in HEEDED:
                usual = 0 if name == "validation_fraction" else getattr(plain, name)
                # A splitter or a list compares as another.
                if value is not usual and not (
                    isinstance(value, int | float) and value == usual
                ):
                    return f"{name}={value!r} is not as by default"
        self.first = self._prepared(0)
        part = self.first[1]
        found = obstacle(part.net)
        if found:
            return found
        try:
            SideBySide([part], self.weights, self.mapped)
        except CannotStack as error:
            return str(error)
        return None

    def _estimator(self):
        """Return an estimator that is not fitted; messages name the search."""
        estimator = clone(self.template)
        estimator._named_as = self.owner
        return estimator

    def _prepared(self, i):
        """Return an estimator that is about to train on a fold, and its net."""
        estimator = self._estimator()
        train = self.folds[i][0]
        given = self.data.take(self.rows.index.numpy()[train])
        groups, _ = given.pop("sensitive_features"), given.pop("subjects")
        rows, _ = estimator._training_rows(**given, groups=groups, going_on=False)
        epochs = estimator.max_epochs
        seed = estimator._settle(epochs=epochs, ramp=True, going_on=False)
        with _settings.own_randomness(seed, estimator.device_):
            n_batches = -(-len(rows) // estimator.batch_size)
            net = _building.build_net(estimator, epochs, n_batches)
            n_classes = len(estimator.classes_)
            _parts.check_outputs(estimator._owner, net, rows, n_classes)
            batches = net.get_iterator(rows, training=True)
            # Where the stream of random numbers stands when the first step begins.
            state = _stream(batches.device)
        estimator.net_ = net
        estimator._correct_prior(rows, add=False)
        return estimator, Part(net, batches), state

    def _side_by_side(self):
        others = range(1, len(self.folds))
        prepared = [self.first, *(self._prepared(i) for i in others)]
        for numbers, trainer in self._trainers([part for _, part, _ in prepared]):
            device = trainer.parts[0].batches.device
            with _settings.own_randomness(0, device):
                _set_stream(device, prepared[numbers[0]][2])
                for _ in self._bar(range(self.template.max_epochs), "epoch"):
                    trainer.epoch()
            logits, finite = trainer.logits(self.rows), trainer.is_finite()
            for place, i in enumerate(numbers):
                estimator = prepared[i][0]
                for j in range(len(self.weights)):
                    if self.scoring is not None:
                        estimator.net_.module_.load_state_dict(trainer.state(place, j))
                    found = logits[place, j].double()
                    if estimator._prior_shift is not None:
                        found = found + estimator._prior_shift
                    self._measure(i, j, estimator, found, finite[place, j])

    def _trainers(self, parts):
        """Yield numbers of folds that are trained together, and what trains them."""
        n_outputs = len(self.weights) * len(self.classes)
        if can_join(parts, n_outputs):
            try:
                trainer = SideBySide(parts, self.weights, False)
            except CannotStack:
                pass
            else:
                yield range(len(parts)), trainer
                return
        for i, part in enumerate(parts):
            yield [i], SideBySide([part], self.weights, self.mapped)

    def _bar(self, items, unit):
        return tqdm(items, disable=not self.template.verbose, unit=unit)

    def _one_after_another(self):
        given, fold = None, None
        left = [p for p in np.ndindex(self.failed.shape) if p not in self.known]
        for i, j in self._bar(left, "fit"):
            if fold != i:
                given = self.data.take(self.rows.index.numpy()[self.folds[i][0]])
                fold = i
            self._fit_one(i, j, given)

    def _fit_one(self, i, j, given):
        estimator = self._estimator()
        estimator.set_params(penalty_weight=float(self.weights[j]), verbose=0)
        if not (estimator.callbacks or getattr(estimator, "early_stopping", None)):
            estimator.set_params(monitor=None)  # nobody looks
        self.known.add((i, j))
        try:
            with _noticed_interrupts() as noticed:
                estimator.fit(**given)
        except NonFiniteLossError:
            self._measure(i, j, None, None, False)
            return
        if noticed:
            # A single fit keeps what it has; here it would count as trained.
            raise KeyboardInterrupt
        parts = [part.cpu().double() for part in estimator._logits(self.rows)]
        self._measure(i, j, estimator, torch.cat(parts), True)

    def _measure(self, i, j, estimator, logits, finite):
        """Note what a network says of the rows of its fold."""
        finite = finite and bool(torch.isfinite(logits).all())
        self.failed[i, j] = not finite
        if not finite:
            return
        rows = self.rows
        for side, part in zip(("train", "valid"), self.folds[i], strict=True):
            part = torch.as_tensor(part)
            found = measures(
                estimator.net_,
                logits[part],
                rows.y[part],
                rows.groups[part],
                0 if self.groups is None else len(self.groups),
                self.metrics,
            )
            for name, value in found.items():
                table = self.sides[side].setdefault(
                    name, np.full(self.failed.shape, np.nan)
                )
                table[i, j] = value
        if self.scoring is not None:
            numbers = rows.index.numpy()[self.folds[i][1]]
            given = self.data.take(numbers)
            y = self.classes[rows.y.numpy()[self.folds[i][1]]]
            groups = given["sensitive_features"]
            self.scores[i, j] = _paths.held_out_score(
                self.owner, estimator, self.scoring, given["X"], y, groups
            )


def measured(path):
    """Estimate how long both ways take.

    One network is trained whole, at the speed that it has alone, and is not trained
    again; of the stack a few steps are enough, since they are all alike.

    Returns
    -------
    together, alone : float
        Seconds of all steps, side by side and one network after another.
    """
    _, part, _ = path._prepared(0)
    device = part.batches.device
    given = path.data.take(path.rows.index.numpy()[path.folds[0][0]])
    start = _clock(device)
    path._fit_one(0, 0, given)
    alone = (_clock(device) - start) * path.failed.size
    trainer = SideBySide([part], path.weights, path.mapped)
    n_steps = len(part.batches) * path.template.max_epochs * len(path.folds)

    def steps(batches, n):
        start = _clock(device)
        for batch in itertools.islice(batches, n):
            trainer.step([batch])
        return (_clock(device) - start) / n * n_steps

    with _settings.own_randomness(0, device):
        batches = _endless(part.batches)
        steps(batches, UNTIMED)
        together = steps(batches, 1)
        if max(together, alone) < DECIDED * min(together, alone):
            together = steps(batches, TIMED)
    return together, alone


@contextmanager
def _noticed_interrupts():
    """Note what Ctrl-C does elsewhere: skorch ends a fit by it, as callbacks do."""
    noticed = []
    if threading.current_thread() is not threading.main_thread():
        yield noticed
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number, frame):
        noticed.append(number)
        before(number, frame)

    if callable(before):
        signal.signal(signal.SIGINT, note)
    try:
        yield noticed
    finally:
        if callable(before):
            signal.signal(signal.SIGINT, before)


def _endless(batches):
    while True:
        yield from batches


def _clock(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _stream(device):
    """Return where the generators of PyTorch stand."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), cuda


def _set_stream(device, state):
    host, cuda = state
    torch.set_rng_state(host)
    if cuda is not None:
        torch.cuda.set_rng_state(cuda, device)
