"""What bounds are worth on held-out rows of real tables, beside other ways to them.

Arms: plain training; `FairNeuralClassifier` with several penalty weights; fairlearn's
ExponentiatedGradient and ThresholdOptimizer over the plain estimator; and
`FairConstrainedClassifier` with every game, source of multipliers' rows and way to
deploy. ``--claims`` sweeps rounds, radius and width. All figures are expectations over
a randomised classifier's draws; held-out gaps are over groups with at least 50 positive
test rows.

    python constrained_study.py --data-root DATA --out out/constrained
    python constrained_study.py --data-root DATA --out out/constrained --report

A run that was finished is not run again, so the study can be stopped at any time.
"""

import argparse
import json
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _constrained_data import TASKS, kept_groups, load, split
from fairlearn.postprocessing import ThresholdOptimizer
from fairlearn.reductions import EqualizedOdds, ExponentiatedGradient

from fairskorch import FairConstrainedClassifier, FairNeuralClassifier

BOUNDS = (0.02, 0.05, 0.1)
PENALTY_WEIGHTS = (0.3, 0.7, 1.5)

#: Sweeps behind the claims, at the bound 0.05: rounds, radius, width.
SWEEPS = {
    **{f"epochs {n}": {"max_epochs": n} for n in (5, 10, 20, 40, 80)},
    **{f"radius {r:g}": {"radius": r} for r in (0.5, 1, 2, 4, 8)},
    **{f"width {w}": {"module__hidden": (w, w)} for w in (16, 64, 256)},
    **{
        f"width {w} radius 2": {"module__hidden": (w, w), "radius": 2}
        for w in (16, 64, 256)
    },
    "surrogate": {"multiplier_rates": "scores"},
}


def arms(claims):
    """Return the models by name; each takes a seed."""
    found = {"plain": _plain}
    for weight in PENALTY_WEIGHTS:
        found[f"penalty {weight:g}"] = _penalised(weight)
    found["threshold"] = lambda seed: ThresholdOptimizer(
        estimator=_plain(seed), constraints="equalized_odds", predict_method="predict"
    )
    for bound in BOUNDS:
        found[f"eg {bound:g}"] = _reduced(bound)
        found[f"moment {bound:g}"] = _constrained(
            constraint=EqualizedOdds(difference_bound=bound)
        )
        for game in ("lagrangian", "proxy"):
            for data in ("train", "holdout"):
                for deploy in ("mixture", "best", "last", "uniform"):
                    found[f"{game} {data} {deploy} {bound:g}"] = _constrained(
                        game=game, multiplier_data=data, deploy=deploy, bound=bound
                    )
    if claims:
        for name, params in SWEEPS.items():
            for deploy in ("uniform", "last", "mixture"):
                found[f"{name} {deploy}"] = _constrained(deploy=deploy, **params)
    return found


def _plain(seed):
    return FairNeuralClassifier(penalty=None, random_state=seed, device="cpu")


def _penalised(weight):
    return lambda seed: FairNeuralClassifier(
        penalty_weight=weight, random_state=seed, device="cpu"
    )


def _reduced(bound):
    return lambda seed: ExponentiatedGradient(
        _plain(seed), EqualizedOdds(difference_bound=bound)
    )


def _constrained(**params):
    return lambda seed: FairConstrainedClassifier(
        random_state=seed, device="cpu", **params
    )


def chance(model, X, groups):
    """Return the probability that a model's answer is 1, row by row."""
    if isinstance(model, FairConstrainedClassifier):
        with torch.no_grad():
            inputs = torch.as_tensor(X)
            said = [m(inputs).argmax(1).numpy() for m in model.estimators_]
        return np.tensordot(model.estimator_weights_, said, 1)
    if isinstance(model, ExponentiatedGradient):
        return model._pmf_predict(X)[:, 1]
    if isinstance(model, ThresholdOptimizer):
        return model._pmf_predict(X, sensitive_features=groups)[:, 1]
    return model.predict(X).astype(float)


def gap(p, y, groups, names):
    """Return the equalized odds difference over some groups."""
    gaps = []
    for c in (0, 1):
        rates = [p[(groups == g) & (y == c)].mean() for g in names]
        gaps.append(max(rates) - min(rates))
    return max(gaps)


@lru_cache(maxsize=1)
def _loaded(task, root, n_rows):
    return load(task, Path(root), n_rows)


def run(job):
    """Fit one arm on one split, and store what it does."""
    task, arm, seed, root, out, n_rows, claims = job
    torch.set_num_threads(1)
    data = split(_loaded(task, root, n_rows), seed)
    model = arms(claims)[arm](seed)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(*data.train[:2], sensitive_features=data.train[2])
    seconds = time.perf_counter() - start
    names = kept_groups(*data.test[1:])
    found = {"seconds": seconds}
    for part, (X, y, groups) in zip(("train", "test"), data, strict=True):
        p = chance(model, X, groups)
        found[f"{part}_accuracy"] = float(np.where(y == 1, p, 1 - p).mean())
        found[f"{part}_gap"] = float(gap(p, y, groups, names))
    if isinstance(model, FairConstrainedClassifier):
        found["members"] = len(model.estimators_)
        found["train_violation"] = model.train_violation_
        found["n_forms"] = model.multipliers_.shape[1]
        found["n_rounds"] = len(model.multipliers_)
        found["multiplier_sum"] = float(model.multipliers_.iloc[-1].sum())
    path = Path(out) / task / f"{arm}-{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    aside.write_text(json.dumps(found))
    aside.replace(path)
    return f"{task} {arm} seed {seed}: {found}"


def report(out, tasks):
    """Print the mean and spread over seeds of every arm."""
    for task in tasks:
        rows = []
        for path in sorted((out / task).glob("*.json")):
            arm, _, seed = path.stem.rpartition("-")
            rows.append({"arm": arm, "seed": seed, **json.loads(path.read_text())})
        if not rows:
            continue
        frame = pd.DataFrame(rows).drop(columns="seed")
        by_arm = frame.groupby("arm", sort=False)
        table = by_arm.mean()
        table.insert(0, "seeds", by_arm.size())
        table["test_gap_sd"] = by_arm["test_gap"].std()
        print(f"\n{task}")
        print(table.round(4).to_string())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", choices=TASKS, nargs="+", default=list(TASKS))
    parser.add_argument("--arms", nargs="+", help="names of arms, or their beginnings")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--rows", type=int, help="first rows of a table alone")
    parser.add_argument("--claims", action="store_true", help="sweep for the claims")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="print, and run nothing")
    args = parser.parse_args()
    if args.report:
        report(args.out, args.tasks)
        return
    names = list(arms(args.claims))
    if args.arms:
        names = [n for n in names if any(n.startswith(a) for a in args.arms)]
    jobs = [
        (task, arm, seed, str(args.data_root), str(args.out), args.rows, args.claims)
        for task in args.tasks
        for seed in args.seeds
        for arm in names
        if not (args.out / task / f"{arm}-{seed}.json").exists()
    ]
    context = get_context("spawn")
    with ProcessPoolExecutor(args.jobs, mp_context=context) as pool:
        for line in pool.map(run, jobs):
            print(line, flush=True)


if __name__ == "__main__":
    main()
