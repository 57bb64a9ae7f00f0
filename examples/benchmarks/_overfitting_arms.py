"""Arms of the overfitting study: experiments, and the settings of each arm.

Settings that two experiments share are fitted once.
"""

import torch
from _overfitting_data import PHOTOGRAPHS, TABLES

from fairskorch.modules import MLP, SmallResNet

GAP = "equalized_odds_difference"

#: What is run first; E17 chooses among the runs of E11 and E15.
EXPERIMENTS = ("e1", "e3", "e15", "e11", "e4", "e13", "e2", "e16")

#: All arms draw batches alike, so that what differs is the penalty.
COMMON = {"sampler": "balanced_classes"}

#: Scores as they are and one batch at a time: what the papers penalise.
PLAIN_RATES = {"penalty__memory": 0, "penalty__slope": 1}

#: What one photograph data set is enough for, and what both are.
ONCE = {"e13": ("celeba",), "e16": ("celeba",)}
TWICE = dict.fromkeys(("e2", "e15"), ("celeba", "ham_age"))

#: Epochs of linear models, of MLPs and of networks of photographs.
LINEAR_EPOCHS, MLP_EPOCHS, CNN_EPOCHS = 40, 60, 20

#: The network of all experiments, and the one that E1 has beside it.
MAIN, WIDE = "cnn16", "cnn32"


class Linear(torch.nn.Module):
    """A linear model of any rows."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.head = torch.nn.Linear(n_features, n_classes)

    def forward(self, X):
        return self.head(X.flatten(1))


class FlatMLP(MLP):
    """An MLP on the numbers of an image."""

    def forward(self, X):
        return super().forward(X.flatten(1))


def models(task):
    """Return the settings of the models of a task by name."""
    linear = {"module": Linear, "max_epochs": LINEAR_EPOCHS}
    if task not in PHOTOGRAPHS:
        flat = task == "digits"
        dense = {"module__hidden": (128, 128), "max_epochs": MLP_EPOCHS}
        return {
            "linear": {**linear, "lr": 1e-3 if flat else 1e-2},
            "mlp": {"module": FlatMLP, "lr": 1e-3 if flat else 3e-3, **dense},
        }
    wide = {"module": SmallResNet, "max_epochs": CNN_EPOCHS}
    return {
        "linear": linear,
        MAIN: {**wide, "module__width": int(MAIN[3:])},
        WIDE: {**wide, "module__width": int(WIDE[3:])},
    }


def penalised(alias, weight, **params):
    return {"penalty": alias, "penalty_weight": weight, **params}


PLAIN = penalised("eo", 0.0)


def arms(task):
    """Yield (experiment, model, arm, settings) of a task."""
    known = models(task)
    main = MAIN if MAIN in known else "mlp"
    for model in known:
        yield from ((*arm[:1], model, *arm[1:]) for arm in _overfitting(task, model))
    everywhere = (_own_rows, _sweep, _rates, _regularisers, _decay, _batches)
    for experiment, arm, settings in (x for part in everywhere for x in part(task)):
        chosen = {**ONCE, **TWICE}.get(experiment)
        if task not in PHOTOGRAPHS or chosen is None or task in chosen:
            yield experiment, main, arm, settings


def _overfitting(task, model):
    yield "e1", "plain", PLAIN
    single = task in PHOTOGRAPHS and model != MAIN
    for alias in ("ae", "eo", "mmf", "di"):
        # The weight of max-min is a share, and all of it is the papers'.
        for weight in (1.0,) if single or alias == "mmf" else (1.0, 4.0):
            yield "e1", f"{alias} {weight:g}", penalised(alias, weight)
    if task != "digits":  # which have one attribute
        yield "e4", "plain", PLAIN
        yield "e4", "eo 1", penalised("eo", 1.0)


def _own_rows(task):
    apart = {"penalty_data": "holdout"}
    for weight in (0.0, 1.0, 4.0):
        for name, rows in (("train", {}), ("holdout", apart)):
            yield "e3", f"{name} {weight:g}", penalised("eo", weight, **rows)
    for rows in ("train", "holdout"):
        bounded = {"constraint": "eo", "bound": 0.05, "multiplier_data": rows}
        yield "e3", f"bound .05, {rows}", bounded


def _sweep(task):
    weights = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    if task in PHOTOGRAPHS:
        weights = (0.0, 0.25, 1.0, 4.0, 16.0)
    for weight in weights:
        yield "e11", f"eo {weight:g}", penalised("eo", weight)


def _rates(task):
    for rates in ("conditional", "joint"):
        for sampler in ("shuffle", "balanced_cells"):
            settings = penalised("eo", 1.0, penalty__rates=rates, sampler=sampler)
            yield "e13", f"{rates}, {sampler}", settings


def _regularisers(task):
    found = {
        "none": {},
        "weight decay .1": {"optimizer__weight_decay": 0.1},
        "weight decay 1": {"optimizer__weight_decay": 1.0},
        "early stopping": {
            "early_stopping": GAP,
            "accuracy_drop": 0.02,
            "patience": None,
        },
        "flood .3": {"flood": 0.3},
        "ema .99": {"ema_decay": 0.99},
        "narrow": {"module__hidden": (16,)},
        "ascent": {"penalty_schedule": "ascent"},
    }
    if task in PHOTOGRAPHS:
        # A step is 1e-3 at most: the milder decay takes less than a tenth away.
        del found["weight decay .1"]
        found["narrow"] = {"module__width": 4}
    if task not in TABLES:
        found["augment"] = {"augment": "shift" if task == "digits" else "flip+shift"}
    for name, settings in found.items():
        for weight in (0.0, 1.0):
            if name != "ascent" or weight:
                arm = f"{name}, eo {weight:g}"
                yield "e15", arm, penalised("eo", weight, **settings)


def _decay(task):
    for alias in ("ae", "eo", "mmf", "dp", "di"):
        rates = {} if alias in ("ae", "mmf") else PLAIN_RATES
        # That penalties of selection rates lower themselves is another matter.
        for weight in (0.0,) if alias in ("dp", "di") else (0.0, 1.0):
            settings = penalised(alias, weight, monitor="all", **rates)
            yield "e2", f"{alias} {weight:g}", settings


def _batches(task):
    sizes = (64, 512, 2048) if task in PHOTOGRAPHS else (64, 128, 512)
    for sampler in ("shuffle", "stratified", "balanced_classes"):
        for size in sizes:
            settings = penalised(
                "eo", 1.0, sampler=sampler, batch_size=size, **PLAIN_RATES
            )
            yield "e16", f"{sampler}, {size}", settings
