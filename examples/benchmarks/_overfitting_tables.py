"""Tables, verdicts and files of the overfitting study."""

import json

import numpy as np
import pandas as pd
from _overfitting_arms import GAP, arms, models
from _overfitting_figures import figures
from _overfitting_verdicts import VANISH, verdicts
from _study_tables import by_task, interval, joined, list_table, overall

#: Columns of a table: title, where it is read, and whether smaller is better.
COLUMNS = {
    "train acc": ("train", "accuracy"),
    "train gap": ("train", "A", GAP),
    "test gap": ("test", "A", GAP),
    "train acc gap": ("train", "A", "accuracy_difference"),
    "test acc gap": ("test", "A", "accuracy_difference"),
    "test bacc": ("test", "balanced_accuracy"),
    "test worst cell": ("test", "A", "worst_cell_accuracy"),
    "penalty rows' gap": ("penalty", "A", GAP),
    "valid gap": ("valid", "A", GAP),
    "valid bacc": ("valid", "balanced_accuracy"),
    "gap of other attribute": ("test", "B", GAP),
    "gap of crossing": ("test", "AB", GAP),
}

GAPS = ["train gap", "test gap"]

#: Of each experiment: its heading, and the columns that it shows.
SHOWN = {
    "e1": (
        "Overfitting (E1)",
        ["train acc", *GAPS, "train acc gap", "test acc gap", "test bacc"],
    ),
    "e3": (
        "A penalty or multipliers on rows of their own (E3)",
        ["train gap", "penalty rows' gap", "test gap", "test bacc"],
    ),
    "e4": (
        "Other attributes (E4)",
        ["test gap", "gap of other attribute", "gap of crossing", "test bacc"],
    ),
    "e11": ("The sweep of weights (E11)", [*GAPS, "valid gap", "test bacc"]),
    "e13": ("Joint against conditional rates (E13)", [*GAPS, "test bacc"]),
    "e15": ("Regularisers (E15)", ["train acc", *GAPS, "test bacc"]),
    "e16": ("Batch size and sampler (E16)", ["train acc", *GAPS, "test bacc"]),
}


def read(args, key):
    """Return one row a run, by experiment, and the histories beside them."""
    rows, histories = [], {}
    for task in args.tasks:
        known = models(task)
        for experiment, model, arm, settings in arms(task):
            name = key(model, {**known[model], **settings})
            for path in sorted((args.out / task).glob(f"{name}-*.json")):
                run = json.loads(path.read_text())
                seed = int(path.stem.rpartition("-")[2])
                place = experiment, task, model, arm, seed
                histories[place] = run["history"]
                rows.append(_row(place, run))
    return pd.DataFrame(rows), histories


def _row(place, run):
    found = dict(
        zip(("experiment", "task", "model", "arm", "seed"), place, strict=True)
    )
    for title, (part, *path) in COLUMNS.items():
        value = run["measures"].get(part, {})
        for step in path:
            value = value.get(step, np.nan) if isinstance(value, dict) else np.nan
        found[title] = value
    found["by group"] = run["measures"]["test"]["by_group"]
    found["by cell"] = run["measures"]["test"]["by_cell"]
    found["constant"], found["seconds"] = run["constant"], run["seconds"]
    return found


def summarise(frame, columns):
    """Return mean and half width of the 95 % interval over seeds, by arm."""
    groups = frame.groupby(["task", "model", "arm"], sort=False)
    table = []
    for (task, model, arm), part in groups:
        row = {"task": task, "model": model, "arm": arm, "runs": len(part)}
        for column in columns:
            row[column], row[f"{column} ±"] = interval(part[column])
        row["constant"] = int(part["constant"].sum())
        table.append(row)
    return pd.DataFrame(table)


def vanishing(histories):
    """Return loss, penalty and gradients of the first and last epoch (E2)."""
    rows = []
    for (experiment, task, model, arm, seed), history in histories.items():
        if experiment != "e2":
            continue
        row = {"task": task, "model": model, "arm": arm, "seed": seed}
        for name in VANISH:
            row[f"{name}, first"], row[f"{name}, last"] = (
                history[name][0],
                history[name][-1],
            )
        rows.append(row)
    return pd.DataFrame(rows)


def rules(frame):
    """Return what rules choose among the runs of sweep and regularisers (E17)."""
    candidates = frame[frame.experiment.isin(["e11", "e15"])]
    candidates = candidates.drop_duplicates(["task", "seed", "arm"])
    rows = []
    for (task, seed), part in candidates.groupby(["task", "seed"], sort=False):
        accuracy, gap = part["valid bacc"].to_numpy(), part["valid gap"].to_numpy()
        near = np.where(accuracy >= accuracy.max() - 0.02, gap, np.inf)
        bounded = np.where(gap <= 0.05, accuracy, -np.inf)
        chosen = {
            "most accurate": accuracy.argmax(),
            "smallest gap": gap.argmin(),
            "fairest within .02": near.argmin(),
            "most accurate within gap .05": bounded.argmax()
            if np.isfinite(bounded).any()
            else gap.argmin(),
            "distance to optimum": np.hypot(1 - accuracy, gap).argmin(),
        }
        for rule, i in chosen.items():
            best = part.iloc[i]
            rows.append(
                {
                    "task": task,
                    "model": "chosen",
                    "arm": rule,
                    "seed": seed,
                    "constant": best["constant"],
                    **best[["valid gap", "test gap", "test bacc"]],
                }
            )
    return pd.DataFrame(rows), _spread(candidates, pd.DataFrame(rows))


def _spread(candidates, chosen):
    """Compare what a rule changes with what a method does: sd of mean test values."""
    rows = []
    for task in chosen["task"].unique():
        row = {"task": task}
        for what, frame in (("rules", chosen), ("methods", candidates)):
            means = frame[frame.task == task].groupby("arm")[["test gap", "test bacc"]]
            for column, value in means.mean().std().items():
                row[f"sd of {column} over {what}"] = value
        rows.append(row)
    return pd.DataFrame(rows)


def report(args, key):
    """Write CSV files, figures and the tables of the docs, and print them."""
    frame, histories = read(args, key)
    if not len(frame):
        print("no run is there to report")
        return
    tables = {}
    for experiment, (heading, columns) in SHOWN.items():
        part = frame[frame.experiment == experiment]
        if len(part):
            tables[heading] = experiment, summarise(part, columns)
    decay = vanishing(histories)
    if len(decay):
        columns = [c for c in decay if c not in ("task", "model", "arm", "seed")]
        heading = "Penalties and gradients while the loss vanishes (E2)"
        tables[heading] = "e2", summarise(decay.assign(constant=0), columns)
    chosen, spread = rules(frame)
    if len(chosen):
        columns = ["valid gap", "test gap", "test bacc"]
        tables["Rules of selection (E17)"] = "e17", summarise(chosen, columns)
        tables["Rules against methods (E17)"] = "e17_spread", spread
    claims = verdicts(frame, decay)
    pd.set_option("display.width", 250, "display.max_columns", 40)
    for heading, (name, table) in tables.items():
        table.to_csv(args.out / f"{name}.csv", index=False)
        print(f"\n{heading}\n{table.round(3).to_string(index=False)}")
    claims.to_csv(args.out / "claims.csv", index=False)
    frame.drop(columns=["by group", "by cell"]).to_csv(
        args.out / "runs.csv", index=False
    )
    print(f"\nClaims\n{claims.to_string(index=False)}")
    print(f"\n{by_task(claims).to_string(index=False)}")
    print(f"\n{overall(claims).to_string(index=False)}")
    if args.figures:
        figures(frame, histories, args.figures)
    if args.rst:
        _write_rst(args.rst, tables, claims, frame)


def _write_rst(path, tables, claims, frame):
    seeds, total = frame["seed"].nunique(), len(frame)
    lines = [
        f".. {total} fits of arms, {seeds} seeds; by overfitting_study.py --rst.",
        "",
        *list_table("Verdicts by claim", overall(claims)),
        *list_table("Verdicts by data set", by_task(claims)),
        *list_table("Verdicts by data set and arm", claims),
    ]
    for heading, (_, table) in tables.items():
        lines += list_table(heading, joined(table))
        if "runs" in table and table["runs"].min() < 2:
            lines[-1:] = ["", "Rows without an interval have one seed so far.", ""]
    path.write_text("\n".join(lines).rstrip() + "\n")
