"""Tables of the constrained study: means and 95 % intervals over seeds."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from _constrained_arms import BOUNDS, SWEPT
from _constrained_verdicts import verdicts
from _study_tables import interval, list_table, number, overall

PARTS = ("fit", "multiplier", "test")

#: Columns of the tables.
SHOWN = (
    "train violation",
    "test violation",
    "train gap",
    "test gap",
    "accuracy",
    "balanced accuracy",
    "seconds",
    "members",
)


def read(out, tasks):
    """Return one row for each fit and way to read it."""
    rows = []
    # All rows, or so many alone.
    folders = [[out / task, *sorted(out.glob(f"{task}-*"))] for task in tasks]
    for folder in filter(Path.is_dir, chain(*folders)):
        for path in sorted(folder.glob("*.json")):
            name, _, seed = path.stem.rpartition("-")
            run = json.loads(path.read_text())
            place = {"task": folder.name, "fit": name, "seed": int(seed)}
            rows += [
                {**place, **_row(name, way, reading, run)}
                for way, reading in run["readings"].items()
            ]
    return pd.DataFrame(rows)


def _row(name, way, reading, run):
    first, _, last = name.partition(" ")
    bound = np.nan
    if way not in ("plain", "threshold", "penalty"):
        games = ("lagrangian", "proxy", "eg", "moment")
        bound = float(last.split()[-1]) if first in games else SWEPT
    # A moment bounds distances from all rows, the other bounds those between groups.
    own = "deviation" if first in ("eg", "moment") else None
    fit, test = reading["fit"], reading["test"]
    seen = reading.get("multiplier", fit)
    return {
        "way": way,
        "bound": bound,
        "train violation": seen[own or "gap_all"] - bound,
        "test violation": test[own or "gap"] - bound,
        "train gap": fit["gap"],
        "test gap": test["gap"],
        "seen gap": seen["gap_all"],
        "train accuracy": fit["accuracy"],
        "seen accuracy": seen["accuracy"],
        "accuracy": test["accuracy"],
        "balanced accuracy": test["balanced_accuracy"],
        "seconds": reading["seconds"],
        "members": reading.get("members", run.get("members", 1)),
        "constant": test["constant"],
        "n_forms": run.get("n_forms"),
        "departure": run.get("departure"),
        "snapshots": run.get("snapshots"),
    }


def summarise(part):
    """Return mean and half width of the 95 % interval over seeds, by method."""
    table = []
    for (fit, way), runs in part.groupby(["fit", "way"], sort=False):
        row = {"fit": fit, "way": way, "runs": len(runs)}
        for column in SHOWN:
            row[column], row[f"{column} ±"] = interval(runs[column])
        row["constant"] = int(runs["constant"].sum())
        table.append(row)
    order = {name: i for i, name in enumerate(_order())}
    table = pd.DataFrame(table)
    place = table["fit"].map(order).fillna(len(order))
    return table.iloc[np.argsort(place, kind="stable")].reset_index(drop=True)


def _order():
    names = ["plain", "penalty 0.3", "penalty 0.7", "penalty 1.5"]
    names += [f"eg {b:g}" for b in BOUNDS]
    names += ["moment 0.05", "moment proxy 0.05"]
    for bound in BOUNDS:
        for game in ("lagrangian", "proxy"):
            names += [f"{game} {source} {bound:g}" for source in ("train", "holdout")]
    return names


def report(out, tasks, rst=None):
    """Print tables and verdicts, and write them as CSV, and for the docs."""
    frame = read(out, tasks)
    if not len(frame):
        print("no run is there to report")
        return
    pd.set_option("display.width", 250, "display.max_columns", 40)
    pd.set_option("display.max_colwidth", 200)
    tables = {}
    for task, part in frame.groupby("task", sort=False):
        table = tables[task] = summarise(part)
        table.to_csv(out / f"{task}.csv", index=False)
        print(f"\n{task}\n{table.round(3).to_string(index=False)}")
    claims = verdicts(frame)
    if len(claims):
        claims.to_csv(out / "claims.csv", index=False)
        print(f"\n{claims.to_string(index=False)}\n\n{overall(claims).to_string()}")
    if rst:
        _write_rst(rst, frame, tables, claims)


def _write_rst(path, frame, tables, claims):
    n_fits = len(frame.drop_duplicates(["task", "fit", "seed"]))
    lines = [f".. {n_fits} fits; by constrained_study.py --rst.", ""]
    if len(claims):
        lines += list_table("Verdicts by claim", overall(claims))
        lines += list_table("Verdicts by data set", claims)
    for heading, (columns, wanted) in ACROSS.items():
        wide = {task: _cells(table, columns, wanted) for task, table in tables.items()}
        wide = pd.DataFrame(wide)
        order = [label for label in _labels() if label in wide.index]
        wide = wide.loc[order].fillna("").rename_axis("").reset_index()
        lines += list_table(heading, wide)
    path.write_text("\n".join(lines).rstrip() + "\n")


def _cells(table, columns, wanted):
    """Return the figures of each method as one text."""
    cells = {}
    for row in table.to_dict("records"):
        label = _label(row["fit"], row["way"])
        if label not in _labels() or not wanted(row):
            continue
        first, *rest = columns
        text = number(row[first]) + number(row[f"{first} ±"], " ± ")
        text = "; ".join([text, *(number(row[c]) for c in rest)])
        if row["constant"]:
            text += f" ({row['constant']} constant)"
        cells[label] = text
    return cells


def _label(fit, way):
    if way in ("uniform", "last", "best"):
        return f"{fit}, {way}" if fit.endswith(" 0.05") else None
    return "threshold" if way == "threshold" else fit


def _labels():
    labels = []
    for name in _order():
        labels.append(name)
        if name == "plain":
            labels.append("threshold")
        if name.endswith(" 0.05"):
            labels += [f"{name}, {way}" for way in ("best", "last", "uniform")]
    return labels


def _bounded(row):
    return row["fit"].startswith(("lagrangian", "proxy"))


#: Tables of the docs: figures of a cell, and of which rows.
ACROSS = {
    "Held-out gap; accuracy; balanced accuracy": (
        ["test gap", "accuracy", "balanced accuracy"],
        lambda row: row["way"] != "uniform",
    ),
    "Violation on the multipliers' rows": (["train violation"], _bounded),
    "Violation on held-out rows": (["test violation"], _bounded),
    "Seconds": (["seconds"], lambda row: row["way"] not in ("uniform", "best", "last")),
}
