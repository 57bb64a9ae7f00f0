"""A fit under a bound against a plain fit, and against twenty refits.

    python bench_constrained.py
    python bench_constrained.py --only reduction --data-root DATA

``mlp``: the whole `fit` on a CPU, one thread, by the plain fit of as many epochs.
``cnn``: the same on CUDA. ``rows``: an epoch of 500,000 rows and 100 groups on CUDA, by
a plain one, three times: with a round of the game on every row; with one on a row of
each cell, so that what is left is what steps cost; and the difference of the two, the
multipliers on every row, as a share of a plain epoch. ``members``: how many networks
are deployed. ``reduction``: fairlearn's
ExponentiatedGradient(EqualizedOdds(difference_bound=0.05)) over the plain estimator, on
Adult (sex; sex x race) and ACSIncome, both under this moment; it takes hours, and its
runs are those of constrained_study.py, which keeps them under ``--runs`` and does none
twice. Held-out figures are over groups with at least 50 positive test rows: the
violation is the largest distance of a group's rate from that of all rows, the gap that
between two groups. Intervals are of 95 % over seeds. CPU seconds of bounded fits
include reading them in all ways to deploy.
"""

import argparse
import json
from functools import partial
from statistics import mean

import constrained_study
import torch
from _references import SmallCNN, make_images, make_table
from _study_tables import interval
from _timing import alternate, machine, parse, report, timed, verdict

from fairskorch import FairConstrainedClassifier, FairNeuralClassifier

#: Fits of the study that are compared.
REDUCED, OURS = "eg 0.05", ("moment 0.05", "moment proxy 0.05")


def fits(data, **params):
    """Return plain and bounded fits of the same settings, as functions."""
    common = {"random_state": 0, **params}
    plain = FairNeuralClassifier(penalty=None, **common)
    bounded = FairConstrainedClassifier(**common)
    return {"plain": timed(plain.fit, *data), "bounded": timed(bounded.fit, *data)}


def mlp_rows(args):
    n_rows, epochs = (2000, 2) if args.quick else (20_000, 20)
    data = make_table(n_rows)
    for batch in (128, 512):
        both = fits(data, max_epochs=epochs, batch_size=batch, device="cpu")
        rounds = alternate(both, args.repeats)
        yield line(f"CPU, MLP 64-64, batch {batch}", rounds, 1.25)


def cnn_rows(args):
    if not torch.cuda.is_available():
        yield {"what": "CUDA, CNN 64 px: no CUDA device"}
        return
    n_rows, epochs = (2000, 3) if args.quick else (20_000, 12)
    data = make_images(n_rows, size=64)
    for name, module in (("auto", "auto"), ("3 convolutions, 28 px", SmallCNN)):
        if module is SmallCNN:
            data = make_images(n_rows, size=28, channels=1)
        both = fits(data, module=module, max_epochs=epochs, batch_size=256)
        yield line(f"CUDA, CNN {name}", alternate(both, args.repeats), 1.10)


def many_rows(args):
    device = "CUDA" if torch.cuda.is_available() else "CPU"
    if device == "CPU" and not args.quick:
        yield {"what": "CUDA, 500,000 rows x 100 groups: no CUDA device"}
        return
    n_rows, epochs = (20_000, 3) if args.quick else (500_000, 6)
    data = make_table(n_rows, n_groups=100)
    common = {"max_epochs": epochs, "batch_size": 512, "random_state": 0}
    common |= {"validation_fraction": 0, "monitor": None}

    def epoch(clf):
        # The first epochs read the data and capture the step.
        return clf.fit(*data).history_["seconds"].iloc[2:].mean()

    common_bounds = {"rounds": 1, "deploy": "last", **common}
    fits = {
        "plain": FairNeuralClassifier(penalty=None, **common),
        "bounded": FairConstrainedClassifier(multiplier_rows="all", **common_bounds),
        # One row of each cell: the same steps, and rounds that read next to nothing.
        "fewest": FairConstrainedClassifier(multiplier_rows=1, **common_bounds),
    }
    rounds = alternate(
        {name: partial(epoch, clf) for name, clf in fits.items()}, args.repeats
    )
    what = f"{device}, an epoch of {n_rows:,} rows x 100 groups, MLP"
    row = line(f"{what}: steps, and a round on every row", rounds, 1.05)
    yield {**row, "must": ""}
    yield {**line(f"{what}: steps alone", rounds, 1.05, "fewest"), "must": ""}
    share = rounds.ratio("bounded", "plain") - rounds.ratio("fewest", "plain")
    reading = rounds.median("bounded") - rounds.median("fewest")
    yield {
        "what": f"{what}: the multipliers on every row, by a plain epoch",
        "plain": f"{rounds.median('plain'):.3f}",
        "bounded": f"{reading:.3f}",
        "ratio": f"{share:.3f}",
        "must": verdict(share, most=0.05),
    }


def member_rows(args):
    for n_groups in (2, 10):
        data = make_table(2000 if args.quick else 20_000, n_groups=n_groups)
        clf = FairConstrainedClassifier(
            max_epochs=3 if args.quick else 20, random_state=0, device="cpu"
        ).fit(*data)
        n_forms = clf.multipliers_.shape[1]
        members = len(clf.estimators_)
        yield {
            "what": f"members, {n_groups} groups",
            "bounded": str(members),
            "must": verdict(members, most=n_forms + 1),
        }


def reduction_rows(args):
    if args.data_root is None:
        yield {"what": "ExponentiatedGradient: needs --data-root"}
        return
    if args.quick:
        args.seeds, args.rows = args.seeds[:1], 3000
    for task in args.tasks:
        given = ["--data-root", args.data_root, "--out", args.runs, "--tasks", task]
        given += ["--seeds", *map(str, args.seeds), "--only", REDUCED, *OURS]
        if args.rows:
            given += ["--rows", str(args.rows)]
        study = constrained_study.options().parse_args(given)
        # By seed, and all sides of one after another.
        for job in constrained_study.planned(study):
            print(constrained_study.run(study, *job), flush=True)
        folder = constrained_study.folder(study.out, task, study.rows)
        found = {
            name: [
                json.loads((folder / f"{name}-{seed}.json").read_text())
                for seed in args.seeds
            ]
            for name in (REDUCED, *OURS)
        }
        for name in OURS:
            yield compared(f"{folder.name}, {name}", found[REDUCED], found[name])


def compared(what, theirs, ours):
    """Compare the reduction with a bounded fit, seed by seed."""
    work = [
        a["cpu_seconds"] / b["cpu_seconds"] for a, b in zip(theirs, ours, strict=True)
    ]
    theirs = [run["readings"]["eg"] for run in theirs]
    ours = [run["readings"]["mixture"] for run in ours]
    pairs = list(zip(theirs, ours, strict=True))
    ratio = mean(a["seconds"] / b["seconds"] for a, b in pairs)
    row = {
        "what": f"{what}: ExponentiatedGradient / bounded",
        "plain": f"{mean(r['seconds'] for r in theirs):.1f}",
        "bounded": f"{mean(r['seconds'] for r in ours):.1f}",
        "ratio": f"{ratio:.1f}",
        "must": verdict(ratio, least=10),
        "ratio of CPU seconds": f"{mean(work):.1f}",
    }
    for title, name, limit in (
        ("violation", "deviation", {"most": 0.01}),
        ("gap", "gap", {"most": 0.01}),
        ("accuracy", "accuracy", {"least": -0.005}),
    ):
        change, half = interval([b["test"][name] - a["test"][name] for a, b in pairs])
        said = verdict(change, **limit)
        row[f"held-out {title}, ours - theirs"] = f"{change:+.4f} ± {half:.4f} ({said})"
    return row


def line(what, rounds, most, name="bounded"):
    ratio = rounds.ratio(name, "plain")
    return {
        "what": what,
        "plain": f"{rounds.median('plain'):.3f}",
        "bounded": f"{rounds.median(name):.3f}",
        "ratio": f"{ratio:.3f}",
        "must": verdict(ratio, most=most),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {
        "mlp": mlp_rows,
        "cnn": cnn_rows,
        "rows": many_rows,
        "members": member_rows,
        "reduction": reduction_rows,
    }
    parser.add_argument("--only", choices=parts, nargs="+", default=list(parts))
    parser.add_argument("--data-root", help="folder with the tables of the study")
    parser.add_argument("--runs", default="out/constrained")
    tables = ["adult", "adult_sex_race", "acsincome"]
    parser.add_argument("--tasks", nargs="+", default=tables, help="of the study")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10, 15)))
    parser.add_argument("--rows", type=int, help="first rows of the tables alone")
    args = parse(parser)
    torch.set_num_threads(1)
    print(machine())
    rows = (row for name in args.only for row in parts[name](args))
    report(f"Seconds, median of {args.repeats} alternating rounds", rows, args)


if __name__ == "__main__":
    main()
