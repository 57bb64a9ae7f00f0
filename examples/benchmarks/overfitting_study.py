"""Do fairness penalties generalise? Train against held-out gaps, claim by claim.

Experiments: ``e1`` overfitting curves, ``e2`` penalties and their gradients while the
training loss vanishes, ``e3`` a penalty, or multipliers, on rows of their own, ``e4``
other attributes and the crossing, ``e11`` the sweep of weights, ``e13`` joint against
conditional rates, ``e15`` regularisers, ``e16`` batch size and sampler, ``e17``
selection rules on the runs of the sweep and of the regularisers. A plain run serves
every comparison.

    python overfitting_study.py --data-root DATA --out out/overfitting --small --jobs 2
    python overfitting_study.py --data-root DATA --out out/overfitting --minutes 9
    python overfitting_study.py --data-root DATA --out out/overfitting --report

What was finished is not run again: call it until it says that nothing is left. The
small form takes an hour of a CPU core and needs two tables; the full one has the
photographs as well, and takes all GPUs that it sees. Networks of photographs are
trained there, all else on CPU cores meanwhile. Seeds are run one after another, and of
a seed the experiments that matter most come first.
"""

import argparse
import hashlib
import json
import os
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from _overfitting_arms import COMMON, EXPERIMENTS, arms, models
from _overfitting_data import PHOTOGRAPHS, SMALL, TASKS, load, scaled, split
from _overfitting_tables import report
from sklearn.model_selection import PredefinedSplit

from fairskorch import FairConstrainedClassifier, FairNeuralClassifier
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

#: Three of the tasks are the same images or as small as tables.
_load = lru_cache(maxsize=6)(load)

#: Where this process trains.
_device = "cpu"


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
            right, n_rows = counts[..., 1:].diagonal(dim1=-2, dim2=-1), counts[..., 0]
            found["by_group"] = (right.sum(-1) / n_rows.sum(-1)).tolist()
            found["by_cell"] = (right / n_rows).tolist()
    everyone = confusion_statistics(
        *(torch.as_tensor(part) for part in (task.y[rows], predicted)),
        torch.zeros(len(rows), dtype=torch.long),
        1,
        2,
    )
    for name in ("accuracy", "balanced_accuracy"):
        found[name] = float(from_counts(name, everyone))
    return found


def build(model, settings, apart):
    """Return the estimator of an arm, and whether it keeps rows apart.

    Parameters
    ----------
    model, settings : dict
        Settings of the model, and of the arm.
    apart : splitter
        What holds out the rows of penalty or multipliers.
    """
    settings = {**COMMON, **model, **settings}
    if "constraint" in settings:
        held_out = settings["multiplier_data"] == "holdout"
        if held_out:
            settings["multiplier_fraction"] = apart
        return FairConstrainedClassifier(**settings), held_out
    settings["monitor_metrics"] = ["accuracy_difference"]
    held_out = settings.get("penalty_data") == "holdout"
    if held_out:
        settings["penalty_fraction"] = apart
    return FairNeuralClassifier(**settings), held_out


def fit(job, model, settings, device):
    """Fit one arm on one split, and return what there is to know."""
    task_name, seed, *source = job
    task = _load(task_name, *source)
    parts = split(task_name, task, seed)
    X = scaled(task_name, task, parts)
    rows = np.sort(np.r_[parts["train"], parts["penalty"]])
    first = task.attributes.iloc[:, [0]]
    apart = PredefinedSplit(np.where(np.isin(rows, parts["penalty"]), 0, -1))
    clf, held_out = build(model, settings, apart)
    clf.set_params(device=device, random_state=seed)
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
    measured = {"train": rows, "valid": parts["valid"], "test": parts["test"]}
    if held_out:
        measured |= {"train": parts["train"], "penalty": parts["penalty"]}
    history = clf.history_
    columns = [f"{side}_{name}" for side in ("train", "valid") for name in KEPT]
    columns += ["task_gradient_norm", "penalty_gradient_norm"]
    return {
        "seconds": time.perf_counter() - start,
        "constant": any(issubclass(k, ConstantPredictionWarning) for k in kinds),
        "device": clf.device_,
        "measures": {
            part: measure(task, numbers, clf.predict(X[numbers]))
            for part, numbers in measured.items()
        },
        "history": {c: history[c].round(5).tolist() for c in columns if c in history},
    }


def run(job, model_name, model, settings, path, end):
    """Fit, and store the result under its name; return a line on it.

    Nothing is done after `end`. An arm that fails is reported, and the others go on.
    """
    if time.time() > end:
        return None
    try:
        result = fit(job, model, settings, _device)
    except Exception:
        return f"FAILED {job[0]} {model_name} {settings}\n{traceback.format_exc()}"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    aside.write_text(json.dumps(result))
    aside.replace(path)
    name = f"{job[0]} {model_name} {path.stem}"
    return f"{name} {result['device']} {result['seconds']:.1f} s"


def take_device(devices):
    """Give a process its device for good: a CPU core, or one of the GPUs."""
    global _device
    _device, number = devices.get()
    if number is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = number
    torch.set_num_threads(1)


def gpus():
    """Return the numbers of the GPUs that can be seen."""
    numbers = [str(i) for i in range(torch.cuda.device_count())]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[: len(numbers)] if visible else numbers


def pool(devices):
    """Return a pool with a process for each of these devices."""
    context = get_context("spawn")
    queue = context.Queue()
    for device in devices:
        queue.put(device)
    return ProcessPoolExecutor(
        len(devices), mp_context=context, initializer=take_device, initargs=(queue,)
    )


def planned(args):
    """Return the runs that are to be done, each once, by path: what matters first."""
    jobs = {}
    known = {task: (models(task), list(arms(task))) for task in args.tasks}
    for seed in range(args.seeds):
        for wanted in EXPERIMENTS:
            if wanted not in args.only:
                continue
            for task, (settings_of, found) in known.items():
                job = task, seed, args.data_root, args.cache, args.size
                for experiment, model, _, settings in found:
                    if experiment != wanted:
                        continue
                    name = key(model, {**settings_of[model], **settings})
                    path = args.out / task / f"{name}-{seed}.json"
                    jobs[path] = job, model, settings_of[model], settings, path
    return {path: job for path, job in jobs.items() if not path.exists()}


def work(args):
    """Run what is left, as far as the time allows; return whether all went well."""
    end = time.time() + 60 * args.minutes
    jobs = list(planned(args).values())
    print(f"{len(jobs)} runs are left", flush=True)
    found = gpus() if args.device == "auto" else []
    cores = pool([("cpu", None)] * args.jobs)
    devices = [("cuda", number) for number in found * args.gpu_jobs]
    cards = pool(devices) if devices else cores
    done = failed = 0
    with cores, cards:
        photographs = [task for task in args.tasks if task in PHOTOGRAPHS]
        source = args.data_root, args.cache, args.size
        # Decoded once, then read from the cache by all.
        for ready in [cores.submit(prepare, task, *source) for task in photographs]:
            ready.result()
        waiting = [
            (cards if job[1].startswith("cnn") else cores).submit(run, *job, end)
            for job in jobs
        ]
        for future in as_completed(waiting):
            line = future.result()
            if line is not None:
                print(line, flush=True)
                failed += line.startswith("FAILED")
                done += not line.startswith("FAILED")
    print(f"{done} runs done, {len(planned(args))} are left, {failed} failed")
    return not failed


def prepare(*source):
    """Decode the images of a task, where its cache lacks them."""
    load(*source)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="folder for decoded images")
    parser.add_argument("--small", action="store_true", help="what a CPU can do")
    parser.add_argument("--tasks", nargs="+", choices=TASKS)
    parser.add_argument("--only", nargs="+", default=EXPERIMENTS, choices=EXPERIMENTS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--size", type=int, default=48, help="pixels of photographs")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu"))
    parser.add_argument("--jobs", type=int, default=1, help="fits at a time on cores")
    parser.add_argument("--gpu-jobs", type=int, default=3, help="and on each GPU")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after these")
    parser.add_argument("--report", action="store_true", help="report only")
    parser.add_argument("--figures", type=Path, help="folder of the figures")
    parser.add_argument("--rst", type=Path, help="write the tables for the docs there")
    args = parser.parse_args()
    args.tasks = args.tasks or (SMALL if args.small else TASKS)
    args.cache = args.cache or args.out / "cache"
    well = args.report or work(args)
    report(args, key)
    raise SystemExit(not well)


if __name__ == "__main__":
    main()
