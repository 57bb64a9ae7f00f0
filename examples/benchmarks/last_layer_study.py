"""What a new last layer is worth on held-out rows of real images.

Parts: ``factorial`` (rows that the network was trained on or held out; balanced or not;
no penalty, EO, AE, MMF, DI), ``scope`` (last layer, batch norm, all, from scratch under
the same penalty) and ``sweep`` (the path of weights, and where the chosen one lands).
Ten seeds, each with its own split and network; no subject is in two parts.

    python last_layer_study.py --data-root DATA --out out/last_layer
    python last_layer_study.py --data-root DATA --out out/last_layer --report \\
        --figures out/figures

``--tasks repro_celeba`` and the like run the settings of an independent reproduction
(arXiv:2401.03695) on the full data, and show its numbers beside. What was finished is
not run again, so the study can be stopped at any time.
"""

import argparse
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from _last_layer_data import PRESETS, REPRODUCTION, TASKS, load, split
from _last_layer_figures import figures
from _last_layer_tables import GAP, MEASURES, PARTS, PENALTIES, WORST, summarise
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import EarlyStopping, LRScheduler
from torch.optim.lr_scheduler import StepLR

from fairskorch import (
    FairLastLayerClassifier,
    FairLastLayerClassifierCV,
    FairNeuralClassifier,
)
from fairskorch.exceptions import ConstantPredictionWarning
from fairskorch.groups import GroupEncoder
from fairskorch.metrics import from_counts
from fairskorch.modules import ResNet18, SmallResNet
from fairskorch.rates import confusion_statistics


def measure(clf, task, rows, prefix):
    """Measure a classifier on some rows."""
    encoder = GroupEncoder().fit(task.groups)
    classes, y = np.unique(task.y, return_inverse=True)
    predicted = np.searchsorted(classes, clf.predict(task.X[rows]))
    groups = encoder.transform(task.groups[rows])
    counts = confusion_statistics(
        *(torch.as_tensor(part) for part in (y[rows], predicted, groups)),
        len(encoder.labels_),
        len(classes),
    )
    everyone = counts.sum(0, keepdim=True)
    found = {}
    for name in (*MEASURES.values(), WORST):
        if name in ("accuracy", "balanced_accuracy"):
            value = from_counts(name, everyone)
        elif len(classes) > 2 and name not in ("accuracy_difference", WORST):
            # The mean over classes, as the reproduction has it, not the worst.
            each = [from_counts(name, counts, positive=c) for c in range(len(classes))]
            value = sum(each) / len(each)
        else:
            value = from_counts(name, counts)
        found[f"{prefix}_{name}"] = float(value)
    return found


def timed_fit(clf, task, rows):
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf.fit(task.X[rows], task.y[rows], sensitive_features=task.groups[rows])
    constant = any(issubclass(w.category, ConstantPredictionWarning) for w in caught)
    return {"seconds": time.perf_counter() - start, "constant": constant}


def network(task, parts, args, seed, **params):
    """Train the plain network of a seed."""
    settings = {
        "module": SmallResNet,
        "module__width": args.width,
        "penalty": None,
        "augment": "flip+shift",
        "max_epochs": args.epochs,
        "device": args.device,
        "random_state": seed,
    }
    if args.resnet:
        settings |= {"module": ResNet18, "module__width": args.width}
    return FairNeuralClassifier(**{**settings, **params})


def stored_network(name, task, parts, args, seed):
    """Return the network of a seed, trained or read."""
    path = args.out / name / f"network-{seed}.joblib"
    if path.exists():
        return joblib.load(path)
    clf = network(task, parts, args, seed)
    timed_fit(clf, task, parts["train"])
    path.parent.mkdir(parents=True, exist_ok=True)
    joblib.dump(clf, path)
    return clf


def settings(args, seed):
    return {
        "max_epochs": args.layer_epochs,
        "device": args.device,
        "random_state": seed,
    }


def sides(clf, task, fitted_on, test):
    return measure(clf, task, fitted_on, "fit") | measure(clf, task, test, "test")


def factorial(task, parts, plain, args, seed):
    """Rows, balance and penalty, all with all."""
    yield {"arm": "network"} | sides(plain, task, parts["train"], parts["test"])
    for rows in ("train", "fine_tune"):
        for balance in (None, "cells"):
            for name, params in PENALTIES.items():
                clf = FairLastLayerClassifier(
                    FrozenEstimator(plain),
                    balance=balance,
                    **params,
                    **settings(args, seed),
                )
                note = timed_fit(clf, task, parts[rows])
                arm = {"rows": rows, "balance": str(balance), "penalty": name}
                arm["arm"] = "/".join(arm.values())
                yield arm | note | sides(clf, task, parts[rows], parts["test"])


def scope(task, parts, plain, args, seed):
    """More and more of the network under one penalty."""
    rows = parts["fine_tune"]
    for name in ("last_layer", "batch_norm", "all"):
        whole = {} if name == "last_layer" else {"max_epochs": args.scope_epochs}
        clf = FairLastLayerClassifier(
            FrozenEstimator(plain),
            scope=name,
            init="warm",
            **PENALTIES["eo"],
            **{**settings(args, seed), **whole},
        )
        note = timed_fit(clf, task, rows)
        yield {"arm": name} | note | sides(clf, task, rows, parts["test"])
    both = np.sort(np.r_[parts["train"], rows])
    clf = network(
        task,
        parts,
        args,
        seed,
        sampler="balanced_cells",
        validation_fraction=0,
        **PENALTIES["eo"],
    )
    note = timed_fit(clf, task, both)
    yield {"arm": "scratch"} | note | sides(clf, task, both, parts["test"])


def fairest_of_the_good(path):
    """Return the smallest held-out gap among scores within .02 of the best."""
    good = path["valid_score"] >= path["valid_score"].max() - 0.02
    gap = path[f"valid_{GAP}"].where(good)
    # A fold without a row of some cell cannot tell any gap.
    return int(gap.argmin() if gap.notna().any() else path["valid_score"].argmax())


def sweep(task, parts, plain, args, seed):
    """Search the weight on held-out rows; where do two rules land?"""
    rows = parts["fine_tune"]
    search = FairLastLayerClassifierCV(
        FrozenEstimator(plain),
        penalty_weights=args.weights,
        refit=fairest_of_the_good,
        **settings(args, seed),
    )
    note = timed_fit(search, task, rows)
    for _, row in search.path_.iterrows():
        clf = FairLastLayerClassifier(
            FrozenEstimator(plain),
            penalty_weight=row["penalty_weight"],
            **settings(args, seed),
        )
        timed_fit(clf, task, rows)
        chosen = row["penalty_weight"] == search.penalty_weight_
        best = row["valid_score"] == search.path_["valid_score"].max()
        yield {
            "arm": f"{row['penalty_weight']:.4g}",
            **row.to_dict(),
            "chosen": bool(chosen),
            "best_score": bool(best),
            "search_seconds": note["seconds"],
            **measure(clf, task, parts["selection"], "selection"),
            **measure(clf, task, parts["test"], "test"),
        }


def reproduce(name, task, parts, args, seed):
    """Run the settings of the paper's code, as the reproduction did."""
    both = np.sort(np.r_[parts["train"], parts["valid"]])
    lr, epochs, _ = REPRODUCTION[name]
    plain = FairNeuralClassifier(
        ResNet18,
        module__small_images=False,
        penalty=None,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__weight_decay=5e-4,
        lr=1e-3,
        max_epochs=args.epochs if args.quick else 100,
        batch_size=1024,
        # Its stopping rule, nearly: three epochs without a better held-out loss.
        callbacks=[
            ("step", LRScheduler(policy=StepLR, step_size=20, gamma=0.5)),
            ("stop", EarlyStopping("valid_loss", patience=20, load_best=True)),
        ],
        device=args.device,
        random_state=seed,
    )
    plain.fit(
        task.X[parts["train"]],
        task.y[parts["train"]],
        X_val=task.X[parts["valid"]],
        y_val=task.y[parts["valid"]],
    )
    yield {"arm": "network"} | sides(plain, task, parts["train"], parts["test"])
    joint = {"penalty__reduction": "sum", "penalty__rates": "joint"}
    modes = {
        "B1": (parts["train"], None, {"penalty": None}),
        "B2": (parts["valid"], None, {"penalty": None}),
        "B3": (both, "cells", {"penalty": None}),
        "M1": (parts["valid"], None, {**PENALTIES["eo"], **joint}),
        "M2": (both, "cells", {**PENALTIES["eo"], **joint}),
    }
    how = {**settings(args, seed), "lr": lr}
    how["max_epochs"] = args.layer_epochs if args.quick else epochs
    for mode, (rows, balance, params) in modes.items():
        clf = FairLastLayerClassifier(
            FrozenEstimator(plain), balance=balance, **params, **how
        )
        note = timed_fit(clf, task, rows)
        yield {"arm": mode} | note | sides(clf, task, rows, parts["test"])


def store(path, rows):
    """Write rows beside their place first: a file that is there is whole."""
    frame = pd.DataFrame(list(rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    frame.to_csv(aside, index=False)
    aside.replace(path)
    print(path, flush=True)


def run(name, args, end):
    task = None
    wanted = ("reproduction",) if name in PRESETS else args.parts
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for part in wanted:
            path = args.out / name / f"{part}-{seed}.csv"
            if path.exists() or time.monotonic() > end:
                continue
            task = task or load(name, args.data_root, args.cache, args.image_size)
            parts = split(task, seed, name)
            if args.quick:
                parts = {k: v[:: max(1, len(v) // 300)] for k, v in parts.items()}
            if part == "reproduction":
                rows = reproduce(name, task, parts, args, seed)
            else:
                plain = stored_network(name, task, parts, args, seed)
                rows = globals()[part](task, parts, plain, args, seed)
            store(path, ({"task": name, "seed": seed, **row} for row in rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="folder for decoded images")
    parser.add_argument("--tasks", nargs="+", choices=TASKS + PRESETS, default=TASKS)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=25, help="of the network")
    parser.add_argument("--layer-epochs", type=int, default=1000)
    parser.add_argument("--scope-epochs", type=int, default=50)
    parser.add_argument("--weights", type=int, default=10, help="of the sweep")
    parser.add_argument("--image-size", type=int, default=48)
    parser.add_argument("--width", type=int, default=16, help="of the network")
    parser.add_argument("--resnet", action="store_true", help="a ResNet-18")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after these")
    parser.add_argument("--quick", action="store_true", help="few rows: does it run?")
    parser.add_argument("--report", action="store_true", help="report only")
    parser.add_argument("--figures", type=Path, help="folder to draw into")
    args = parser.parse_args()
    args.cache = args.cache or args.out / "cache"
    end = time.monotonic() + 60 * args.minutes
    for name in args.tasks:
        if not args.report:
            run(name, args, end)
        pd.set_option("display.width", 250, "display.max_columns", 40)
        summarise(name, args)
    if args.figures:
        figures([name for name in args.tasks if name in TASKS], args.out, args.figures)


if __name__ == "__main__":
    main()
