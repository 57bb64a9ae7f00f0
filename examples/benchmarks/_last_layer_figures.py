"""Figures of the study of new last layers, readable in grey."""

import numpy as np
import pandas as pd
from _last_layer_tables import GAP, interval

from fairskorch.selection import pareto_front

SCORE = "balanced_accuracy"
NAMES = {
    "celeba": "CelebA, by sex",
    "ham_age": "HAM10000, by age",
    "ham_sex": "HAM10000, by sex",
}
SCOPES = {
    "last_layer": "last layer",
    "batch_norm": "batch norm",
    "all": "all",
    "scratch": "from scratch",
}


def figures(tasks, out, folder):
    """Draw the sweep and the scopes of some tasks into a folder."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    for part, draw in {"sweep": _sweep, "scope": _scope}.items():
        found = {task: sorted((out / task).glob(f"{part}-*.csv")) for task in tasks}
        # A study that was stopped has no run of some.
        found = {task: files for task, files in found.items() if files}
        if not found:
            continue
        figure, axes = pyplot.subplots(
            1,
            len(found),
            figsize=(3.6 * len(found), 3.4),
            squeeze=False,
            layout="constrained",
        )
        for ax, (task, files) in zip(axes[0], found.items(), strict=True):
            draw(ax, pd.concat(map(pd.read_csv, files), ignore_index=True))
            ax.set_title(NAMES.get(task, task))
        known = axes[0, 0].get_legend_handles_labels()
        figure.legend(*known, loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(folder / f"last_layer_{part}.png", dpi=120)
        pyplot.close(figure)


def _sweep(ax, frame):
    """Draw each weight by its means over seeds: fitted rows, folds held out, test."""
    mean = frame.groupby("penalty_weight").mean(numeric_only=True).reset_index()
    for side, label, style in (
        ("train", "fitted rows", {"marker": "s", "color": "0.7"}),
        ("test", "test rows", {"marker": "^", "color": "0.45"}),
        ("valid", "held-out folds", {"marker": "o", "color": "0"}),
    ):
        gap, score = mean[f"{side}_{GAP}"], mean[f"{side}_{SCORE}"]
        ax.plot(gap, score, linestyle="", markersize=4, label=label, **style)
    table = mean[["penalty_weight", f"valid_{GAP}", f"valid_{SCORE}"]]
    front = pareto_front(table)
    ax.plot(front[GAP], front[SCORE], "-", color="0", label="front, held-out")
    for which in (0, -1):
        row = mean.iloc[which]
        place = (row[f"valid_{GAP}"], row[f"valid_{SCORE}"])
        text = f"{row['penalty_weight']:g}"
        ax.annotate(text, place, (4, -10), textcoords="offset points")
    ax.margins(0.1)
    ax.set(xlabel="equalized odds difference", ylabel="balanced accuracy")


def _scope(ax, frame):
    """Draw the gap of fitted and of test rows for each scope, with intervals."""
    for side, label, shift, style in (
        ("fit", "fitted rows", -0.1, {"fmt": "s", "color": "0.6"}),
        ("test", "test rows", 0.1, {"fmt": "o", "color": "0"}),
    ):
        found = [
            interval(frame.loc[frame["arm"] == arm, f"{side}_{GAP}"]) for arm in SCOPES
        ]
        mean, low, high = np.array(found).T
        places = np.arange(len(SCOPES)) + shift
        ax.errorbar(
            places, mean, [mean - low, high - mean], capsize=3, label=label, **style
        )
    ax.set_xticks(range(len(SCOPES)), SCOPES.values(), rotation=20)
    ax.set(ylabel="equalized odds difference", ylim=(0, None))
