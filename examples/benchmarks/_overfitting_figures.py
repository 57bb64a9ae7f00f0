"""Figures of the overfitting study, readable in grey."""

import matplotlib
import numpy as np
from _overfitting_arms import GAP, MAIN
from matplotlib import pyplot
from matplotlib.ticker import LogLocator, NullFormatter

#: The networks that figures show: linear models are in the tables.
DEEP = ("mlp", MAIN)

#: What arms and penalties are called in figures.
ARMS = {"plain": "no penalty", "eo 1": "EO penalty"}
PENALTIES = {
    "ae": "accuracy equality",
    "eo": "equalized odds",
    "mmf": "max-min loss",
    "dp": "demographic parity",
    "di": "disparate impact",
}

SWEPT = {
    "train gap": "EO gap, training rows",
    "test gap": "EO gap, test rows",
    "test bacc": "balanced accuracy, test rows",
}

#: What tasks are called in figures.
TITLES = {
    "celeba": "CelebA, by sex",
    "ham_age": "HAM10000, by age",
    "ham_sex": "HAM10000, by sex",
    "adult": "Adult, by sex",
    "acsincome": "ACSIncome, by sex",
    "digits": "coloured digits",
}


def figures(frame, histories, folder):
    """Draw what the tables say, into a folder."""
    matplotlib.use("Agg")

    folder.mkdir(parents=True, exist_ok=True)
    for name, (draw, experiment) in {
        "curves": (_curves, "e1"),
        "penalties": (_penalties, "e2"),
        "sweep": (_sweep, "e11"),
    }.items():
        part = frame[(frame["experiment"] == experiment) & frame["model"].isin(DEEP)]
        tasks = part.groupby("task", sort=False)["seed"].nunique()
        if not len(tasks):
            continue
        across = min(3, len(tasks))
        down = -(-len(tasks) // across)
        figure, axes = pyplot.subplots(
            down,
            across,
            figsize=(3.6 * across, 3.1 * down + 0.3),
            squeeze=False,
            layout="constrained",
        )
        for ax, (task, n_seeds) in zip(axes.flat, tasks.items(), strict=False):
            draw(ax, task, frame, histories)
            few = ", one seed" if n_seeds == 1 else ""
            ax.set_title(TITLES.get(task, task) + few)
        for ax in axes.flat[len(tasks) :]:
            ax.set_axis_off()
        known = axes[0, 0].get_legend_handles_labels()
        figure.legend(*known, loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(folder / f"generalisation_{name}.png", dpi=120)
        pyplot.close(figure)


def _mean(histories, experiment, task, arm, name):
    """Return the mean over seeds of a column of the history of the main network."""
    known = [k for k in histories if k[:2] == (experiment, task) and k[3] == arm]
    columns = [histories[k].get(name) for k in known if k[2] in DEEP]
    columns = [c for c in columns if c]
    return np.nanmean(np.array(columns, dtype=float), axis=0) if columns else None


def _curves(ax, task, frame, histories):
    for arm, colour in zip(ARMS, ("0.55", "0"), strict=True):
        for side, line in (("train", "-"), ("valid", "--")):
            values = _mean(histories, "e1", task, arm, f"{side}_{GAP}")
            if values is not None:
                shown = "held-out" if side == "valid" else "training"
                label = f"{ARMS[arm]}: {shown}"
                ax.plot(*_smooth(values), line, color=colour, label=label)
    ax.set_xlabel("epoch")
    ax.set_ylabel("equalized odds difference")
    ax.set_ylim(bottom=0)


def _penalties(ax, task, frame, histories):
    lines = ("-", "--", "-.", ":", (0, (1, 4)))
    for alias, line in zip(PENALTIES, lines, strict=True):
        norm = _mean(histories, "e2", task, f"{alias} 0", "penalty_gradient_norm")
        if norm is not None:
            ax.plot(*_smooth(norm), linestyle=line, color="0", label=PENALTIES[alias])
    loss = _mean(histories, "e2", task, "ae 0", "train_loss")
    if loss is not None:
        ax.plot(*_smooth(loss), color="0.7", linewidth=3, label="training loss (nats)")
    ax.set_xlabel("epoch")
    ax.set_ylabel("gradient norm of the penalty")
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def _smooth(values):
    """Return epochs, and means over some of them: one epoch is mostly noise."""
    width = 9 if len(values) > 30 else 3
    epochs = np.arange(1, len(values) + 1)
    if len(values) < width:
        return epochs, values
    window = np.ones(width) / width
    return epochs[width // 2 : -(width // 2)], np.convolve(values, window, "valid")


def _sweep(ax, task, frame, histories):
    part = frame[(frame.task == task) & (frame.experiment == "e11")]
    if not len(part):
        return
    part = part.assign(weight=part["arm"].str.split().str[-1].astype(float))
    grouped = part.groupby("weight")
    styles = (("-", "0"), ("--", "0"), (":", "0.4"))
    for column, (line, colour) in zip(SWEPT, styles, strict=True):
        mean, spread = grouped[column].mean(), grouped[column].std()
        place = np.arange(len(mean))
        ax.errorbar(
            place,
            mean,
            spread,
            linestyle=line,
            color=colour,
            label=SWEPT[column],
            capsize=2,
        )
        ax.set_xticks(place, [f"{w:g}" for w in mean.index])
    ax.set_xlabel("penalty weight")
    ax.set_ylabel("EO gap; balanced accuracy")
    ax.set_ylim(0, 1)
