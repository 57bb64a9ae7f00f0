"""What bounds are worth on held-out rows, beside other ways to them.

Arms: plain training, and thresholds on its scores; `FairNeuralClassifier` with several
penalty weights; fairlearn's ExponentiatedGradient over the plain estimator (on tables:
it wants rows of numbers, and refits too often for images); and
`FairConstrainedClassifier` with every game, source of multipliers' rows and bound, each
trained once and read in every way to deploy it. ``--claims`` sweeps rounds, radius and
width, after everything else. All figures are expectations over a randomised
classifier's draws.

    python constrained_study.py --data-root DATA --out out/constrained
    python constrained_study.py --data-root DATA --out out/constrained \\
        --tasks celeba ham_age --device cuda --jobs 12 --claims --minutes 9
    python constrained_study.py --data-root DATA --out out/constrained --report

A fit that was finished is not run again, so the study can be stopped at any time.
"""

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import torch
from _constrained_arms import fits
from _constrained_data import IMAGES, TASKS, load, split
from _constrained_runs import Run
from _constrained_tables import report

_load = lru_cache(maxsize=1)(load)


def folder(out, task, n_rows):
    """Return where runs of a task lie."""
    return Path(out) / (task if n_rows is None else f"{task}-{n_rows}")


def run(args, task, name, seed, settings):
    """Do one fit on one split, and store what it does."""
    torch.set_num_threads(1)
    rows = _load(task, args.data_root, args.rows, args.cache, args.size)
    common = {"random_state": seed, "device": args.device}
    if args.epochs:
        common["max_epochs"] = args.epochs
    found = Run(split(rows, seed), rows.least, common).fit(*settings)
    path = folder(args.out, task, args.rows) / f"{name}-{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    aside.write_text(json.dumps(found))
    aside.replace(path)
    return f"{task} {path.stem} {found['all_seconds']:.1f} s"


def planned(args):
    """Return the fits that are left, sweeps last, by seed."""
    jobs = []
    for claims in (False, True) if args.claims else (False,):
        for seed in args.seeds:
            for task in args.tasks:
                for name, settings in fits(task, claims).items():
                    path = folder(args.out, task, args.rows) / f"{name}-{seed}.json"
                    wanted = not args.only or any(map(name.startswith, args.only))
                    job = (task, name, seed, settings)
                    if wanted and job not in jobs and not path.exists():
                        jobs.append(job)
    return jobs


def options():
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="folder for decoded images")
    parser.add_argument("--tasks", choices=TASKS, nargs="+", default=list(TASKS))
    parser.add_argument("--only", nargs="+", help="names of fits, or their beginnings")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--rows", type=int, help="so many rows alone")
    parser.add_argument("--epochs", type=int, help="epochs, to try it")
    parser.add_argument("--size", type=int, default=48, help="pixels of images")
    parser.add_argument("--claims", action="store_true", help="sweep for the claims")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after these")
    parser.add_argument("--report", action="store_true", help="report only")
    parser.add_argument("--rst", type=Path, help="write the tables for the docs there")
    return parser


def main():
    args = options().parse_args()
    args.cache = args.cache or args.out / "cache"
    failed = 0
    if not args.report:
        end = time.monotonic() + 60 * args.minutes
        jobs = planned(args)
        print(f"{len(jobs)} fits are left", flush=True)
        for task in set(args.tasks).intersection(IMAGES):
            # Decodes once what all processes read.
            load(task, args.data_root, args.rows, args.cache, args.size)
        with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
            waiting = [pool.submit(run, args, *job) for job in jobs]
            for (task, name, seed, _), future in zip(jobs, waiting, strict=True):
                if time.monotonic() > end:
                    future.cancel()
                elif error := future.exception():
                    # One that fails is left, and named; the others go on.
                    failed += 1
                    kind = type(error).__name__
                    print(f"FAILED {task} {name}-{seed}: {kind}: {error}", flush=True)
                else:
                    print(future.result(), flush=True)
        print(f"{len(planned(args))} fits are left, {failed} failed", flush=True)
    report(args.out, args.tasks, args.rst)
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
