"""Do fairness penalties generalise? Train against held-out gaps, claim by claim.

Experiments: ``e1`` overfitting curves, ``e2`` penalties and their gradients while the
training loss vanishes, ``e3`` a penalty on rows of its own, ``e4`` other attributes
and the crossing, ``e11`` the sweep of weights, ``e13`` joint against conditional
rates, ``e15`` regularisers, ``e16`` batch size and sampler, ``e17`` selection rules on
the runs of the sweep and of the regularisers. A plain run serves every comparison.

    python overfitting_study.py --data-root DATA --out out/overfitting --small --jobs 2
    python overfitting_study.py --data-root DATA --out out/overfitting --minutes 9
    python overfitting_study.py --data-root DATA --out out/overfitting --report

What was finished is not run again: call it until it says that nothing is left. The
small form takes minutes on a CPU and needs two tables; the full one a GPU and the
images.
"""

import argparse
import hashlib
import json
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from _overfitting_arms import COMMON, FORMS, arms, models
from _overfitting_data import load, scaled, split
from _overfitting_tables import report
from sklearn.model_selection import PredefinedSplit

from fairskorch import FairNeuralClassifier
from fairskorch.exceptions import ConstantPredictionWarning
from fairskorch.groups import GroupEncoder
from fairskorch.metrics import from_counts
from fairskorch.rates import confusion_statistics

MEASURES = (
    "equalized_odds_difference",
    "accuracy_difference",
    "worst_cell_accuracy",
    "accuracy",
    "balanced_accuracy",
)
#: What is kept of the history, of both sides.
KEPT = ("loss", "penalty", "accuracy", "balanced_accuracy", MEASURES[0], MEASURES[1])

_load = lru_cache(maxsize=3)(load)


def key(model, settings):
    """Name a run by all that it is made of."""
    text = repr(sorted(settings.items(), key=lambda item: item[0]))
    return f"{model}-{hashlib.sha1(text.encode()).hexdigest()[:10]}"


def measure(task, rows, predicted):
    """Measure predictions between groups of either attribute and of the crossing."""
    a, b = task.attributes.columns[0], task.attributes.columns[-1]
    found = {}
    for name, columns in {"A": [a], "B": [b], "AB": [a, b]}.items():
        frame = task.attributes[columns]
        encoder = GroupEncoder().fit(frame)
        groups = encoder.transform(frame.iloc[rows])
        counts = confusion_statistics(
            *(torch.as_tensor(part) for part in (task.y[rows], predicted, groups)),
            len(encoder.labels_),
            2,
        )
        found[name] = {m: float(from_counts(m, counts)) for m in MEASURES}
        if name == "A":
            right = counts[..., 1:].diagonal(dim1=-2, dim2=-1).sum(-1)
            found["by_group"] = (right / counts[..., 0].sum(-1)).tolist()
    everyone = confusion_statistics(
        *(torch.as_tensor(part) for part in (task.y[rows], predicted)),
        torch.zeros(len(rows), dtype=torch.long),
        1,
        2,
    )
    for name in ("accuracy", "balanced_accuracy"):
        found[name] = float(from_counts(name, everyone))
    return found


def fit(job, model, settings):
    """Fit one arm on one split, and return what there is to know."""
    task_name, seed, root, cache, size, device = job
    task = _load(task_name, root, cache, size)
    parts = split(task_name, task, seed)
    X = scaled(task_name, task, parts)
    rows = np.sort(np.r_[parts["train"], parts["penalty"]])
    first = task.attributes.iloc[:, [0]]
    settings = {**COMMON, **model, **settings}
    if settings.get("penalty_data") == "holdout":
        apart = np.where(np.isin(rows, parts["penalty"]), 0, -1)
        settings["penalty_fraction"] = PredefinedSplit(apart)
        fitted = parts["train"]
    else:
        fitted = rows
    clf = FairNeuralClassifier(**settings, device=device, random_state=seed)
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf.fit(
            X[rows],
            task.y[rows],
            first.iloc[rows],
            X_val=X[parts["valid"]],
            y_val=task.y[parts["valid"]],
            groups_val=first.iloc[parts["valid"]],
        )
    kinds = [w.category for w in caught]
    measured = {"train": fitted, "valid": parts["valid"], "test": parts["test"]}
    if fitted is not rows:
        measured["penalty"] = parts["penalty"]
    history = clf.history_
    columns = [f"{side}_{name}" for side in ("train", "valid") for name in KEPT]
    columns += ["task_gradient_norm", "penalty_gradient_norm"]
    return {
        "seconds": time.perf_counter() - start,
        "constant": any(issubclass(k, ConstantPredictionWarning) for k in kinds),
        "best_epoch": clf.best_epoch_ or clf.n_iter_,
        "device": clf.device_,
        "measures": {
            part: measure(task, numbers, clf.predict(X[numbers]))
            for part, numbers in measured.items()
        },
        "history": {c: history[c].round(5).tolist() for c in columns if c in history},
    }


def run(job, model_name, model, settings, path):
    """Fit, and store the result under its name."""
    torch.set_num_threads(1)
    result = fit(job, model, settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    aside.write_text(json.dumps(result))
    aside.replace(path)
    return f"{job[0]} {path.stem} {model_name} {result['seconds']:.1f} s"


def planned(args, form):
    """Return the runs that are to be done, each once, by path."""
    jobs = {}
    for seed in range(args.seeds or form["seeds"]):
        for task in args.tasks:
            known = models(task, form)
            for experiment, model, _, settings in arms(task, form):
                if experiment not in args.only:
                    continue
                name = key(model, {**known[model], **settings})
                path = args.out / task / f"{name}-{seed}.json"
                job = (task, seed, args.data_root, args.cache, args.size, args.device)
                jobs[path] = (job, model, known[model], settings, path)
    return {path: job for path, job in jobs.items() if not path.exists()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="folder for decoded images")
    parser.add_argument("--small", action="store_true", help="what a CPU can do")
    parser.add_argument("--tasks", nargs="+")
    experiments = ["e1", "e2", "e3", "e4", "e11", "e13", "e15", "e16"]
    parser.add_argument("--only", nargs="+", default=experiments, choices=experiments)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--size", type=int, default=48, help="pixels of photographs")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after these")
    parser.add_argument("--report", action="store_true", help="report only")
    parser.add_argument("--figures", type=Path, help="folder of the figures")
    parser.add_argument("--rst", type=Path, help="write the tables for the docs there")
    args = parser.parse_args()
    form = FORMS["small" if args.small else "full"]
    args.tasks = args.tasks or form["tasks"]
    args.cache = args.cache or args.out / "cache"
    if not args.report:
        end = time.monotonic() + 60 * args.minutes
        jobs = list(planned(args, form).values())
        print(f"{len(jobs)} runs are left", flush=True)
        done = 0
        # By seed, so that a stop leaves whole seeds of all arms.
        with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
            waiting = [pool.submit(run, *job) for job in jobs]
            for future in waiting:
                if time.monotonic() > end:
                    future.cancel()
                elif not future.cancelled():
                    print(future.result(), flush=True)
                    done += 1
        print(f"{done} runs done, {len(planned(args, form))} are left", flush=True)
    report(args, form, key)


if __name__ == "__main__":
    main()
