"""Tables of the last-layer study: means, paired intervals, verdicts."""

import numpy as np
import pandas as pd
from _last_layer_data import REPRODUCTION
from scipy import stats

PARTS = ("factorial", "scope", "sweep")
GAP = "equalized_odds_difference"
WORST = "worst_cell_accuracy"
#: Gaps on the two sides that differ by less count as equal.
MARGIN = 0.05
#: The reproduction's names of measures.
MEASURES = {
    "acc": "accuracy",
    "bacc": "balanced_accuracy",
    "SPD": "demographic_parity_difference",
    "DEO": GAP,
    "EOD": "equal_opportunity_difference",
    "AAOD": "average_odds_difference",
    "AED": "accuracy_difference",
}
PENALTIES = {
    "none": {"penalty": None},
    "eo": {"penalty": "eo", "penalty_weight": 2.0},
    "ae": {"penalty": "ae", "penalty_weight": 2.0},
    "mmf": {"penalty": "mmf", "penalty_weight": 1.0, "penalty__over": "cells"},
    "di": {"penalty": "di", "penalty_weight": 2.0},
}
SHOWN = ("balanced_accuracy", GAP, WORST)


def interval(values, level=0.95):
    """Return mean and t interval of differences over seeds."""
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return np.full(3, np.nan)
    error = values.std(ddof=1) / np.sqrt(len(values))
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * error
    return np.array([values.mean(), values.mean() - half, values.mean() + half])


def described(frame):
    """Return mean and standard deviation over seeds of what is shown, by arm."""
    columns = [f"{s}_{n}" for s in ("fit", "test") for n in SHOWN]
    columns = [c for c in columns if c in frame]
    by = frame.groupby("arm", sort=False)
    table = by[columns].agg(["mean", "std"])
    table.columns = [f"{c}{'' if kind == 'mean' else '_sd'}" for c, kind in table]
    if "constant" in frame:
        constant = frame["constant"].fillna(False).astype(bool)
        table["constant"] = constant.groupby(frame["arm"], sort=False).sum()
    return table.assign(seeds=by["seed"].nunique())


def against(frame, arm, other):
    """Return paired differences on test rows of two arms, with intervals."""
    wide = frame.pivot(index="seed", columns="arm", values=[f"test_{n}" for n in SHOWN])
    row = {"arm": arm, "against": other}
    for name in SHOWN:
        values = wide[f"test_{name}"]
        mean, low, high = interval(values[arm] - values[other])
        row[name] = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
    return row


def verdict(frame, arm):
    """Say whether gaps on the fitted rows and on test rows agree (two one-sided)."""
    part = frame[frame["arm"] == arm]
    # One class for every row has no gap on either side, which says nothing.
    part = part[~part["constant"].astype(bool)]
    mean, low, high = interval(part[f"test_{GAP}"] - part[f"fit_{GAP}"], level=0.9)
    if low > -MARGIN and high < MARGIN:
        said = "agree"
    elif low > MARGIN or high < -MARGIN:
        said = "differ"
    else:
        said = "undecided"
    return {"arm": arm, "test - fit": mean, "low": low, "high": high, "gaps": said}


def claim(verdicts):
    """Judge the paper's claim: the last layer's gaps agree, the network's do not."""
    gaps = {row["arm"]: row["gaps"] for row in verdicts}
    last, whole = gaps.get("last_layer"), [gaps.get("all"), gaps.get("scratch")]
    if last == "agree" and all(w == "differ" for w in whole):
        return "confirmed"
    if last == "differ" or all(w == "agree" for w in whole):
        return "refuted"
    return "undecided"


def show(title, frame):
    print(f"\n{title}\n{frame.round(3).to_string()}", flush=True)


def summarise(name, args):
    """Print and write the tables of a task."""
    folder = args.out / name
    for part in ("reproduction", *PARTS):
        files = sorted(folder.glob(f"{part}-*.csv"))
        if not files:
            continue
        frame = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
        frame["arm"] = frame["arm"].astype(str)
        table = described(frame)
        table.to_csv(folder / f"{part}.csv")
        show(f"{name}, {part}", table)
        if part == "factorial":
            pairs = []
            for rows in ("train", "fine_tune"):
                pairs.append((f"{rows}/cells/none", f"{rows}/None/none"))
                for balance in ("None", "cells"):
                    for penalty in list(PENALTIES)[1:]:
                        start = f"{rows}/{balance}"
                        pairs.append((f"{start}/{penalty}", f"{start}/none"))
            paired = pd.DataFrame([against(frame, *pair) for pair in pairs])
            paired.to_csv(folder / "factorial_paired.csv", index=False)
            show("paired differences on test rows, 95 % intervals", paired)
        elif part == "scope":
            verdicts = [verdict(frame, arm) for arm in frame["arm"].unique()]
            pd.DataFrame(verdicts).to_csv(folder / "scope_gaps.csv", index=False)
            show(f"gaps within {MARGIN}, 90 % intervals", pd.DataFrame(verdicts))
            print(
                f"the last layer generalises and the network does not: "
                f"{claim(verdicts)}"
            )
        elif part == "sweep":
            for rule in ("chosen", "best_score"):
                show(f"rule: {rule}", described(frame[frame[rule]].assign(arm=rule)))
        else:
            published(name, frame)


def published(name, frame):
    """Show the published numbers beside those of M2, in percent."""
    m2 = frame[frame["arm"] == "M2"]
    rows = {}
    for short, metric in MEASURES.items():
        values = 100 * m2[f"test_{metric}"]
        mean, sd = REPRODUCTION[name][2].get(short, (np.nan, np.nan))
        rows[short] = {
            "mean": values.mean(),
            "sd": values.std(),
            "published": mean,
            "published sd": sd,
        }
    show(f"{name}: M2 beside the reproduction, percent", pd.DataFrame(rows).T)
