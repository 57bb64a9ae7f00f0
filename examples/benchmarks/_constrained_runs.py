"""Fits of the constrained study, and what is measured of each.

All figures are expectations over the draws of a randomised classifier.
"""

import time
import warnings

import numpy as np
import pandas as pd
import torch
from _constrained_arms import WAYS
from fairlearn.postprocessing import ThresholdOptimizer
from fairlearn.reductions import EqualizedOdds, ExponentiatedGradient
from sklearn.base import BaseEstimator, ClassifierMixin

from fairskorch import FairConstrainedClassifier, FairNeuralClassifier

#: Test rows on which a network is compared with its linearisation.
LINEAR_ROWS = 2000


class ReadAllWays(FairConstrainedClassifier):
    """One training, read in every way to deploy it.

    `deploy` decides nothing before training has ended, yet a fit has one answer. So the
    step that chooses members is taken once for each way.
    """

    def _play(self, rows, seen, valid, seed):
        self.rows_ = {"fit": rows.index.numpy(), "multiplier": seen.index.numpy()}
        super()._play(rows, seen, valid, seed)

    def _choose(self, *given):
        asked, self.answers_, self.seconds_ = self.deploy, {}, {}
        for way in WAYS:
            self.deploy = way
            start = time.perf_counter()
            counted = super()._choose(*given)
            self.seconds_[way] = time.perf_counter() - start
            self.answers_[way] = self.net_.members_, self.estimator_weights_
        self.deploy = asked
        return counted

    def answers(self, X):
        """Return the chance of answer 1 of each row, by way, and of each kept network.

        The last way is the one that was fitted with.
        """
        own = self.net_.members_
        self.net_.members_ = [m for part, _ in self.answers_.values() for m in part]
        said = self._outputs(X)[0].argmax(-1)
        self.net_.members_ = own
        chances, start = {}, 0
        for way, (members, weights) in self.answers_.items():
            part = said[start : start + len(members)]
            start += len(members)
            chances[way] = np.tensordot(weights, part, 1)
            if way == "uniform":
                kept = part
        return chances, kept


class _Scores(ClassifierMixin, BaseEstimator):
    """A classifier whose rows are its scores."""

    classes_ = np.array([0, 1])

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        scores = np.asarray(X)[:, 0]
        return np.c_[1 - scores, scores]


def measured(p, y, groups, names):
    """Measure chances of answer 1.

    Returns
    -------
    measures : dict of str to float
        ``gap`` is the equalized odds difference over `names`, ``gap_all`` that over
        all groups, ``deviation`` the largest distance of a group of `names` from all
        rows, which is what fairlearn's moment bounds.
    """
    codes, found = pd.factorize(groups)
    cell = 2 * codes + y
    size = np.bincount(cell, minlength=2 * len(found))
    rates = np.bincount(cell, p, 2 * len(found)) / np.maximum(size, 1)
    rates = np.where(size > 0, rates, np.nan).reshape(-1, 2)
    overall = np.array([p[y == c].mean() for c in (0, 1)])
    kept = rates[np.isin(found, names)]
    return {
        "accuracy": float(np.where(y == 1, p, 1 - p).mean()),
        "balanced_accuracy": float((1 - overall[0] + overall[1]) / 2),
        "gap": float((np.nanmax(kept, 0) - np.nanmin(kept, 0)).max()),
        "gap_all": float((np.nanmax(rates, 0) - np.nanmin(rates, 0)).max()),
        "deviation": float(np.nanmax(np.abs(kept - overall))),
        "constant": bool((p.max() < 0.5) or (p.min() > 0.5)),
    }


def kept_groups(y, groups, least):
    """Return the groups with enough positive rows for a held-out figure."""
    names, counts = np.unique(groups[y == 1], return_counts=True)
    return names[counts >= least]


def departure(clf, first, X):
    """Return how far a network is from its linearisation at the start.

    The norm of the difference of logits by the norm of their change in training.
    """
    last, first = clf.net_.module_.cpu(), first.cpu()
    X = torch.as_tensor(X[:LINEAR_ROWS])
    start = {k: v.detach() for k, v in first.named_parameters()}
    step = {k: v.detach() - start[k] for k, v in last.named_parameters()}

    def logits(weights):
        return torch.func.functional_call(first, weights, (X,))

    before, change = torch.func.jvp(logits, (start,), (step,))
    with torch.no_grad():
        after = last(X)
    return float((after - before - change).norm() / (after - before).norm())


class Run:
    """One fit on one split.

    Parameters
    ----------
    data : Split
    least : int
        Positive test rows that a group needs to count.
    common : dict
        Settings of all networks.
    """

    def __init__(self, data, least, common):
        self.data, self.common = data, common
        self.names = kept_groups(*data.test[1:], least)

    def fit(self, kind, settings):
        """Return what there is to know of a fit.

        ``readings`` holds for each way to read it its seconds, and measures of the
        rows that gave the weights a gradient (``fit``), of those that multipliers saw,
        and of those that nothing saw (``test``).
        """
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = getattr(self, f"_{kind}")(dict(settings))
        found["all_seconds"] = time.perf_counter() - start
        found["cpu_seconds"] = self.cpu_seconds
        return found

    def _train(self, model, name="groups"):
        X, y, groups = self.data.train
        start, work = time.perf_counter(), time.process_time()
        model.fit(X, y, **{name: groups})
        # What a busy machine disturbs least.
        self.cpu_seconds = time.process_time() - work
        return time.perf_counter() - start

    def _both(self, answers):
        """Apply a function of X and groups to both parts of the data."""
        return {k: answers(X, groups) for k, (X, _, groups) in self.data_by_part}

    @property
    def data_by_part(self):
        return self.data._asdict().items()

    def _reading(self, seconds, chances, rows=None):
        """Measure chances on training rows, or parts of them, and on test rows."""
        found = {"seconds": seconds}
        for part, (_, y, groups) in self.data_by_part:
            p = chances[part]
            parts = {"test": slice(None)}
            if part == "train":
                parts = rows or {"fit": slice(None)}
            for name, some in parts.items():
                found[name] = measured(p[some], y[some], groups[some], self.names)
        return found

    def _plain(self, settings):
        model = FairNeuralClassifier(**{**self.common, **settings, "penalty": None})
        trained = self._train(model)
        plain = self._both(lambda X, _: model.predict(X))
        start = time.perf_counter()
        scores = self._both(lambda X, _: model.predict_proba(X)[:, 1:])
        _, y, groups = self.data.train
        optimizer = ThresholdOptimizer(
            estimator=_Scores(),
            constraints="equalized_odds",
            prefit=True,
            predict_method="predict_proba",
        ).fit(scores["train"], y, sensitive_features=groups)
        chances = {
            k: optimizer._pmf_predict(scores[k], sensitive_features=groups)[:, 1]
            for k, (_, _, groups) in self.data_by_part
        }
        moved = trained + time.perf_counter() - start
        return {
            "readings": {
                "plain": self._reading(trained, plain),
                "threshold": self._reading(moved, chances),
            },
            "device": str(model.device_),
        }

    def _penalty(self, settings):
        model = FairNeuralClassifier(**{**self.common, **settings})
        trained = self._train(model)
        chances = self._both(lambda X, _: model.predict(X))
        return {
            "readings": {"penalty": self._reading(trained, chances)},
            "device": str(model.device_),
        }

    def _eg(self, settings):
        network = FairNeuralClassifier(**{**self.common, "penalty": None})
        bound = EqualizedOdds(difference_bound=settings["bound"])
        model = ExponentiatedGradient(network, bound)
        trained = self._train(model, "sensitive_features")
        chances = self._both(lambda X, _: model._pmf_predict(X)[:, 1])
        return {
            "readings": {"eg": self._reading(trained, chances)},
            "members": int((model.weights_ > 0).sum()),
            "n_fits": int(model.n_oracle_calls_),
        }

    def _game(self, settings):
        linear = settings.pop("linear", False)
        if "moment" in settings:
            bound = settings.pop("moment")
            settings["constraint"] = EqualizedOdds(difference_bound=bound)
        settings = {**self.common, **settings}
        model = ReadAllWays(**settings)
        trained = self._train(model) - sum(model.seconds_.values())
        both = self._both(lambda X, _: model.answers(X))
        readings = {}
        for way in WAYS:
            chances = {part: answers[way] for part, (answers, _) in both.items()}
            seconds = trained + model.seconds_[way]
            readings[way] = self._reading(seconds, chances, model.rows_)
            readings[way]["members"] = len(model.answers_[way][1])
        each = [
            self._reading(0, {k: kept[i] for k, (_, kept) in both.items()}, model.rows_)
            for i in range(len(both["test"][1]))
        ]
        found = {
            "readings": readings,
            "snapshots": {
                part: [one[part]["gap_all"] for one in each]
                for part in ("multiplier", "test")
            },
            "n_forms": model.multipliers_.shape[1],
            "n_rounds": len(model.multipliers_),
            "multiplier_sum": float(model.multipliers_.iloc[-1].sum()),
            "device": str(model.device_),
        }
        if linear:
            # A ball of radius 0 leaves the network where it starts.
            settings.update(radius=0, max_epochs=1, deploy="last")
            start = FairConstrainedClassifier(**settings).fit(*self.data.train)
            first = start.estimators_[0]
            found["departure"] = departure(model, first, self.data.test[0])
        return found
