"""What the default settings are worth on held-out rows of real images and tables.

Three arms with the same augmentation: ``plain`` (no penalty, shuffled batches),
``balance`` (the default's batches, no penalty) and ``default`` (the EO penalty).
Images: repeated stratified group 5-fold, counts pooled, paired bootstrap over subjects.
Tables: mean of seeds, each with its own split. ``--sweep`` runs other settings, too.

    python defaults_study.py --data-root DATA --out out/defaults
    python defaults_study.py --data-root DATA --out out/defaults --report

A run that was finished is not run again, so the study can be stopped at any time.
"""

import argparse
import json
import os
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold, train_test_split
from sklearn.preprocessing import StandardScaler

from fairskorch import FairNeuralClassifier
from fairskorch.datasets import load_celeba, load_ham10000
from fairskorch.exceptions import ConstantPredictionWarning
from fairskorch.metrics import from_counts
from fairskorch.rates import confusion_statistics

IMAGE_TASKS = ("celeba", "ham_age", "ham_sex")
TABLE_TASKS = ("adult", "acsincome", "compas")
IMAGE_SIZE = 48
N_FOLDS = 5
#: Seeds of tables start here; settings were chosen on smaller ones.
FIRST_SEED = 10

ARMS = {
    "plain": {"penalty": None, "sampler": "shuffle"},
    "balance": {"penalty": None, "sampler": "balanced_classes"},
    "default": {},
}


class Task(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray  # objects; None where unknown
    subject: np.ndarray


def load(name, root, cache):
    """Return the rows of a task."""
    if name == "celeba":
        data = load_celeba(root / "celeba", image_size=IMAGE_SIZE, cache=cache)
        groups = data.sensitive_features["Male"].astype(object).to_numpy()
        return Task(data.data, data.target, groups, data.subject)
    if name.startswith("ham"):
        by = "sex" if name == "ham_sex" else "age_60"
        data = load_ham10000(
            root / "ham10000", sensitive=by, image_size=IMAGE_SIZE, cache=cache
        )
        groups = data.sensitive_features[by].to_numpy(dtype=object)
        return Task(data.data, data.target, groups, data.subject)
    frame = pd.read_csv(root / "tabular" / TABLES[name][0])
    _, target, positive, group, drop = TABLES[name]
    if name == "compas":
        frame = frame[frame.propublica_filter == 1]
        frame = frame[frame.race.isin(["African-American", "Caucasian"])]
    y = (frame[target] == positive).astype(int).to_numpy()
    groups = frame[group].astype(object).to_numpy()
    frame = frame.drop(columns=[target, *drop]).reset_index(drop=True)
    coded = CODED.get(name, [])
    frame = frame.astype(dict.fromkeys(coded, str))
    X = pd.get_dummies(frame, dtype=float)
    return Task(X.to_numpy(), y, groups, np.arange(len(y)))


# file, target, its positive value, group, columns that are not used (sensitive ones)
TABLES = {
    "adult": (
        "adult.csv.gz",
        "income",
        1,
        "sex",
        ["sex", "race", "fnlwgt", "split"],
    ),
    "acsincome": (
        "acsincome_2018_100k.csv.gz",
        "PINCP",
        1,
        "SEX",
        ["SEX", "RAC1P", "row_in_folktables", "part", "POBP"],
    ),
    "compas": (
        "compas.csv.gz",
        "two_year_recid",
        1,
        "race",
        [
            *("id", "sex", "race", "age_cat", "days_b_screening_arrest"),
            *("c_charge_desc", "is_recid", "decile_score", "score_text"),
            "propublica_filter",
        ],
    ),
}
#: Whole numbers that are codes of categories.
CODED = {"acsincome": ["OCCP", "RELP", "COW", "MAR"]}


def split(task_name, task, repeat, fold):
    """Return training and test rows of one run."""
    if task_name in TABLE_TASKS:
        return train_test_split(
            np.arange(len(task.y)), test_size=0.3, stratify=task.y, random_state=repeat
        )
    cell = np.array([f"{y}/{g}" for y, g in zip(task.y, task.groups, strict=True)])
    folds = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=repeat)
    return list(folds.split(cell, cell, task.subject))[fold]


def run(job):
    """Fit one arm on one split, and store what it predicts for the test rows."""
    task_name, arm, params, repeat, fold, root, cache, device, out = job
    torch.set_num_threads(1)
    task = load(task_name, root, cache)
    train, test = split(task_name, task, repeat, fold)
    X_train, X_test = task.X[train], task.X[test]
    settings = {"device": device, "random_state": 100 * repeat + fold}
    if task_name in TABLE_TASKS:
        scaler = StandardScaler().fit(X_train)
        X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    else:
        settings["augment"] = "flip+shift"
    clf = FairNeuralClassifier(**{**settings, **params})
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf.fit(X_train, task.y[train], task.groups[train])
    constant = any(issubclass(w.category, ConstantPredictionWarning) for w in caught)
    last = clf.history_.iloc[-1].to_dict()
    note = {
        "seconds": time.perf_counter() - start,
        "constant": constant,
        "last": {k: v for k, v in last.items() if v == v},
        "device": clf.device_,
    }
    probability = clf.predict_proba(X_test)[:, 1].astype(np.float32)
    path = out / task_name / arm / f"{repeat}-{fold}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp.npz")
    np.savez(aside, rows=test, probability=probability, note=json.dumps(note))
    aside.replace(path)
    return f"{task_name} {arm} {repeat}-{fold} {note['seconds']:.1f} s"


def cells(task, rows, predicted):
    """Return cell codes of rows: group x class x prediction, -1 if no group."""
    known = sorted({g for g in task.groups if g is not None}, key=str)
    group = np.array([-1 if g is None else known.index(g) for g in task.groups[rows]])
    return group, task.y[rows], predicted.astype(int), len(known)


def measure(statistic):
    """Return the metrics of counts with any leading dimensions."""
    everyone = statistic.sum(-3, keepdim=True)
    names = ("equalized_odds_difference", "worst_cell_accuracy")
    return {
        "accuracy": from_counts("accuracy", everyone).numpy(),
        "balanced_accuracy": from_counts("balanced_accuracy", everyone).numpy(),
        **{name: from_counts(name, statistic).numpy() for name in names},
    }


def bootstrap_counts(task, runs, draws):
    """Return pooled counts of each draw of subjects: (n_draws + 1, G, K, 1 + K).

    The first entry is the sample itself. Draws are weights of subjects, the same for
    every arm, so that differences are paired.
    """
    _, subject = np.unique(task.subject, return_inverse=True)
    rng = np.random.default_rng(0)
    n_subjects = subject.max() + 1
    weights = np.ones((draws + 1, n_subjects), dtype=np.float32)
    for i in range(draws):
        chosen = rng.integers(0, n_subjects, n_subjects)
        weights[i + 1] = np.bincount(chosen, minlength=n_subjects)
    total = None
    for run_ in runs:
        rows = run_["rows"]
        group, y, predicted, n_groups = cells(task, rows, run_["probability"] > 0.5)
        known = group >= 0
        cell = (group * 4 + y * 2 + predicted)[known]
        indicator = np.zeros((known.sum(), n_groups * 4), dtype=np.float32)
        indicator[np.arange(len(cell)), cell] = 1
        part = weights[:, subject[rows[known]]] @ indicator
        total = part if total is None else total + part
    counts = torch.as_tensor(total, dtype=torch.float64)
    counts = counts.reshape(len(total), -1, 2, 2)
    return torch.cat([counts.sum(-1, keepdim=True), counts], dim=-1)


def read_runs(out, task_name, arm):
    runs = []
    for path in sorted((out / task_name / arm).glob("[0-9]*-[0-9].npz")):
        with np.load(path) as stored:
            runs.append(
                {
                    "rows": stored["rows"],
                    "probability": stored["probability"],
                    **json.loads(str(stored["note"])),
                }
            )
    return runs


def report_images(out, task_name, task, draws):
    arms = sorted(p.name for p in (out / task_name).iterdir())
    found = {arm: read_runs(out, task_name, arm) for arm in arms}
    values = {
        arm: measure(bootstrap_counts(task, runs, draws)) for arm, runs in found.items()
    }
    rows = []
    for arm, metrics in values.items():
        row = {"task": task_name, "arm": arm, "runs": len(found[arm])}
        row["constant"] = sum(r["constant"] for r in found[arm])
        for name, drawn in metrics.items():
            row[name] = drawn[0]
        history = [r["last"] for r in found[arm]]
        row["train_gap"] = np.mean(
            [h.get("train_equalized_odds_difference", np.nan) for h in history]
        )
        row["seconds"] = np.median([r["seconds"] for r in found[arm]])
        for other in ("plain", "balance"):
            if other in values and other != arm and draws:
                for name, short in (
                    ("equalized_odds_difference", "gap"),
                    ("balanced_accuracy", "bacc"),
                    ("worst_cell_accuracy", "worst"),
                ):
                    change = (metrics[name] - values[other][name])[1:]
                    low, high = np.nanquantile(change, [0.05, 0.95])
                    row[f"{short}-{other}"] = f"[{low:+.3f}, {high:+.3f}]"
        rows.append(row)
    return pd.DataFrame(rows)


def report_tables(out, task_name, task):
    rows = []
    for arm in sorted(p.name for p in (out / task_name).iterdir()):
        parts = []
        runs = read_runs(out, task_name, arm)
        for r in runs:
            group, y, predicted, n_groups = cells(
                task, r["rows"], r["probability"] > 0.5
            )
            statistic = confusion_statistics(
                *(torch.as_tensor(v) for v in (y, predicted, group)), n_groups, 2
            )
            part = {k: float(v) for k, v in measure(statistic).items()}
            part["log_loss"] = log_loss(y, r["probability"].astype(float))
            part["train_gap"] = r["last"].get("train_equalized_odds_difference")
            parts.append({**part, "seconds": r["seconds"], "constant": r["constant"]})
        frame = pd.DataFrame(parts)
        row = {"task": task_name, "arm": arm, "runs": len(runs)}
        row["constant"] = int(frame.pop("constant").sum())
        row |= frame.mean().to_dict()
        row["gap_sd"] = frame.equalized_odds_difference.std()
        rows.append(row)
    return pd.DataFrame(rows)


def work(args, arms, cache):
    """Run what is left, as far as the time allows; return whether all went well."""
    jobs = []
    for task in args.tasks:
        tabular = task in TABLE_TASKS
        first = FIRST_SEED if tabular else 0
        repeats = args.seeds if tabular else args.repeats
        for repeat in range(first, first + repeats):
            for fold in range(1 if tabular else N_FOLDS):
                for arm, params in arms.items():
                    done = args.out / task / arm / f"{repeat}-{fold}.npz"
                    if not done.exists():
                        job = (task, arm, params, repeat, fold, args.data_root)
                        jobs.append((*job, cache, args.device, args.out))
        load(task, args.data_root, cache)  # once, before many do it at a time
    end, failed = time.monotonic() + 60 * args.minutes, 0
    # Short jobs in the order of folds: a stop leaves whole folds of all arms.
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(run, job): job for job in jobs}
        for future, (task, arm, _, repeat, fold, *_) in waiting.items():
            if time.monotonic() > end:
                future.cancel()
                continue
            try:
                print(future.result(), flush=True)
            except Exception:  # the others are worth having
                print(f"FAILED {task} {arm} {repeat}-{fold}", flush=True)
                traceback.print_exc()
                failed += 1
    return not failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="folder for decoded images")
    parser.add_argument("--tasks", nargs="+", default=[*IMAGE_TASKS, *TABLE_TASKS])
    parser.add_argument("--repeats", type=int, default=2, help="of 5 folds (images)")
    parser.add_argument("--seeds", type=int, default=5, help="of tables")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--sweep", type=Path, help="JSON: more arms, name to settings")
    parser.add_argument("--arms", nargs="*", help="which arms; all if not given")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after these")
    parser.add_argument("--report", action="store_true", help="report only")
    args = parser.parse_args()
    arms = {**ARMS, **(json.loads(args.sweep.read_text()) if args.sweep else {})}
    arms = {a: p for a, p in arms.items() if args.arms is None or a in args.arms}
    cache = args.cache or args.out / "cache"
    well = args.report or work(args, arms, cache)
    pd.set_option("display.width", 250, "display.max_columns", 40)
    for task in args.tasks:
        if not (args.out / task).exists():
            continue
        data = load(task, args.data_root, cache)
        if task in TABLE_TASKS:
            frame = report_tables(args.out, task, data)
        else:
            frame = report_images(args.out, task, data, args.draws)
        frame.to_csv(args.out / f"{task}.csv", index=False)
        print(frame.round(3).to_string(index=False), flush=True)
    raise SystemExit(not well)


if __name__ == "__main__":
    main()
