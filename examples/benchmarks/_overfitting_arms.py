"""Arms of the overfitting study: experiments, and the settings of each arm.

Settings that two experiments share are fitted once.
"""

import torch

from fairskorch.modules import MLP, SmallResNet

GAP = "equalized_odds_difference"

#: All arms draw batches alike, so that what differs is the penalty.
COMMON = {"sampler": "balanced_classes", "monitor_metrics": ["accuracy_difference"]}

#: Scores as they are and one batch at a time: what the papers penalise.
PLAIN_RATES = {"penalty__memory": 0, "penalty__slope": 1}


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


def models(task, form):
    """Return the models of a task by name: settings, the largest last."""
    linear = {"module": Linear, "max_epochs": form["linear_epochs"]}
    flat = task == "digits" and form["digits"] == "mlp"
    if flat or task in ("adult", "acsincome"):
        dense = {"module__hidden": (128, 128), "max_epochs": form["table_epochs"]}
        return {
            "linear": {**linear, "lr": 1e-3 if flat else 1e-2},
            "mlp": {"module": FlatMLP, "lr": 1e-3 if flat else 3e-3, **dense},
        }
    found = {"linear": linear}
    widths = (8,) if task == "digits" else form["widths"]
    for width in widths:
        found[f"cnn{width}"] = {
            "module": SmallResNet,
            "module__width": width,
            "max_epochs": form["image_epochs"],
        }
    return found


def narrow(model):
    """Return the same network, several times as narrow."""
    if "module__hidden" in model:
        return {"module__hidden": (16,)}
    return {"module__width": max(2, model["module__width"] // 4)}


def penalised(alias, weight, **params):
    return {"penalty": alias, "penalty_weight": weight, **params}


PLAIN = penalised("eo", 0.0)


def arms(task, form):
    """Yield (experiment, model, arm, settings) of a task."""
    known = models(task, form)
    *_, large = known
    for model in known:
        yield "e1", model, "plain", PLAIN
        for alias in ("ae", "eo", "mmf", "di"):
            for weight in form["weights"]:
                # The weight of max-min is a share, and all of it is the papers'.
                if alias == "mmf" and weight != form["weights"][0]:
                    continue
                share = 1.0 if alias == "mmf" else weight
                yield "e1", model, f"{alias} {share:g}", penalised(alias, share)
    for alias in ("ae", "eo", "mmf", "dp", "di"):
        rates = {} if alias in ("ae", "mmf") else PLAIN_RATES
        for weight in (0.0, 1.0):
            settings = penalised(alias, weight, monitor="all", **rates)
            yield "e2", large, f"{alias} {weight:g}", settings
    apart = {"penalty_data": "holdout"}
    for weight in (0.0, *form["weights"]):
        for name, rows in (("train", {}), ("holdout", apart)):
            settings = penalised("eo", weight, **rows)
            yield "e3", large, f"{name} {weight:g}", settings
    if task != "digits":
        for model in known:
            yield "e4", model, "plain", PLAIN
            yield "e4", model, "eo 1", penalised("eo", 1.0)
    for weight in form["sweep"]:
        yield "e11", large, f"eo {weight:g}", penalised("eo", weight)
    for rates in ("conditional", "joint"):
        for sampler in ("shuffle", "balanced_cells"):
            settings = penalised("eo", 1.0, penalty__rates=rates, sampler=sampler)
            yield "e13", large, f"{rates}, {sampler}", settings
    rescue = {
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
        "narrow": narrow(known[large]),
        "ascent": {"penalty_schedule": "ascent"},
    }
    if task != "adult" and task != "acsincome":
        rescue["augment"] = {"augment": "shift" if task == "digits" else "flip+shift"}
    for name, settings in rescue.items():
        for weight in (0.0, 1.0):
            if name == "ascent" and weight == 0:
                continue
            full = penalised("eo", weight, **settings)
            yield "e15", large, f"{name}, eo {weight:g}", full
    for sampler in ("shuffle", "stratified", "balanced_classes"):
        for size in form["batches"]:
            settings = penalised(
                "eo", 1.0, sampler=sampler, batch_size=size, **PLAIN_RATES
            )
            yield "e16", large, f"{sampler}, {size}", settings


#: How much is run: on a CPU within minutes, or on a GPU.
FORMS = {
    "small": {
        "tasks": ("adult", "acsincome", "digits"),
        "seeds": 5,
        "linear_epochs": 40,
        "table_epochs": 60,
        "digits": "mlp",
        "weights": (1.0, 4.0),
        "sweep": (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
        "batches": (64, 128, 512),
    },
    "full": {
        "tasks": ("celeba", "ham_age", "ham_sex", "adult", "acsincome", "digits"),
        "seeds": 5,
        "linear_epochs": 40,
        "table_epochs": 60,
        "digits": "cnn",
        "image_epochs": 30,
        "widths": (8, 32),
        "weights": (1.0, 4.0),
        "sweep": (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
        "batches": (32, 128, 512, 2048),
    },
}
