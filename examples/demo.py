"""Three fits on images with a colour cue, and what each is worth on held-out rows.

Handwritten digits in two ink colours; the colour is the group of an image. One small
network is trained without a penalty, with the equalized-odds (EO) penalty as a plain
training loop would add it, and with the defaults of fairskorch; all see the same random
shifts of the images. Prints a table and
what it says; draws ``out/demo.png``. ``--readme`` puts both into the README.
"""

import argparse
import re
import shutil
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from matplotlib.figure import Figure

from fairskorch import FairNeuralClassifier
from fairskorch.audit import fairness_report
from fairskorch.datasets import make_biased_digits, split_by_subject

ROOT = Path(__file__).resolve().parents[1]
GAP, HITS = "equalized_odds_difference", "balanced_accuracy"
METRICS = {"accuracy": "accuracy", HITS: "balanced accuracy", GAP: "EO gap"}
SPLITS = {"train": "training", "test": "held-out"}
# Full weight from the first step, on the probabilities of one shuffled batch.
PLAIN_LOOP = {
    "sampler": "shuffle",
    "penalty_warmup": 0,
    "penalty__memory": 0,
}
# Nothing is held out inside fit: all rows called training are trained on. Digits are
# shifted at random, and never mirrored.
COMMON = {
    "augment": "shift",
    "max_epochs": 12,
    "validation_fraction": 0,
    "monitor": None,
    "random_state": 0,
}
DEFAULTS = "EO, defaults"
ARMS = {"no penalty": {"penalty": None}, "EO, plain loop": PLAIN_LOOP, DEFAULTS: {}}
MARKS = "<!-- demo: written by examples/demo.py --readme -->", "<!-- demo: end -->"


def table(reports):
    """Lay out the metrics of all fits as Markdown."""
    lines = [["fit", "rows", *METRICS.values()]]
    for arm, report in reports.items():
        for split, rows in SPLITS.items():
            found = (report.table.loc[metric, split] for metric in METRICS)
            lines.append(
                [arm, rows, *("{:.3f} [{:.3f}, {:.3f}]".format(*f) for f in found)]
            )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    padded = (map(str.ljust, line, widths) for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def verdict(value, low, high):
    """Say what the interval of a difference allows to say."""
    word = "neither smaller nor larger for sure"
    if high < 0 or low > 0:
        word = "smaller" if high < 0 else "larger"
    return f"{word} ({value:+.3f} [{low:+.3f}, {high:+.3f}])"


def sentences(reports, constant):
    """Say in a sentence a fit what the table shows, whichever way it came out."""
    own = reports[DEFAULTS].table.loc[GAP]
    first = (
        f"'{DEFAULTS}' has an EO gap of {own['train', 'value']:.3f} on its training "
        f"rows and of {own['test', 'value']:.3f} on held-out rows; the second is "
        f"{verdict(*own['difference'])}."
    )
    if DEFAULTS in constant:
        first = f"'{DEFAULTS}' predicts one class for every row; its gap is no result."
    lines = [first]
    for arm in list(ARMS)[:-1]:
        rows = reports[arm].table["versus baseline"]
        gap = f"has an EO gap that is {verdict(*rows.loc[GAP])}"
        if arm in constant:
            gap = "predicts one class for every row, so that its gap is no result"
        lines.append(
            f"'{arm}', compared with it on held-out rows, {gap}, and its balanced "
            f"accuracy is {verdict(*rows.loc[HITS])}."
        )
    return "\n".join(f"- {line}" for line in lines)


def draw(reports, path):
    """Draw both sides of every fit, in shapes and greys that print."""
    figure = Figure(figsize=(7.4, 2.9), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(reports))[::-1]
    looks = {"train": ("s", "0.6", 0.12), "test": ("o", "0.0", -0.12)}
    for panel, metric in zip(panels, [HITS, GAP], strict=True):
        for split, (marker, grey, above) in looks.items():
            found = [report.table.loc[metric, split] for report in reports.values()]
            value, low, high = np.array(found).T
            panel.errorbar(
                value,
                places + above,
                xerr=[value - low, high - value],
                fmt=marker,
                color=grey,
                capsize=3,
                label=f"{SPLITS[split]} rows",
            )
        panel.set_xlabel(f"{METRICS[metric]}, 95 % interval")
        panel.set_ylim(-0.5, len(reports) - 0.5)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(places, list(reports))
    panels[0].set_xlim(0.45, 1.02)
    panels[0].axvline(0.5, color="0.4", linestyle=":")
    panels[0].annotate("constant answer", (0.51, 2.4), va="top", fontsize=8)
    panels[1].set_xlim(left=-0.02)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=2)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


def write_readme(text, figure):
    """Put the table and the figure where the README shows them."""
    path = ROOT / "README.md"
    start, end = map(re.escape, MARKS)
    new = f"{MARKS[0]}\n{text}\n{MARKS[1]}"
    block = re.compile(f"{start}.*{end}", re.DOTALL)
    path.write_text(block.sub(lambda _: new, path.read_text()))
    shutil.copy(figure, ROOT / "docs" / "_static" / "demo.png")
    print("Written: README.md and docs/_static/demo.png")


def main():
    """Fit, report, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readme", action="store_true", help="renew the README, too")
    options = parser.parse_args()
    # One thread: on batches this small, two wait for each other on a busy machine.
    torch.set_num_threads(1)

    data = make_biased_digits(random_state=0)
    group = data.sensitive_features["colour"]
    cell = group + data.target.astype(str)
    # A digit is shown once or twice; none is on both sides.
    parts = split_by_subject(data.subject, (0.6, 0.4), random_state=0, stratify=cell)
    train, test = ((data.data[i], data.target[i], group.iloc[i]) for i in parts)
    print(f"{len(parts[0])} training images, {len(parts[1])} held-out images")

    fits = {}
    for arm, params in ARMS.items():
        start = perf_counter()
        fits[arm] = FairNeuralClassifier(**COMMON, **params).fit(*train)
        print(f"{arm}: fitted in {perf_counter() - start:.0f} s", flush=True)
    reports = {
        arm: fairness_report(
            clf,
            train=train,
            test=test,
            metrics=list(METRICS),
            baseline=None if arm == DEFAULTS else fits[DEFAULTS],
            random_state=0,
        )
        for arm, clf in fits.items()
    }
    constant = [arm for arm, f in fits.items() if len(set(f.predict(test[0]))) == 1]
    figure = ROOT / "out" / "demo.png"
    draw(reports, figure)
    text = f"{table(reports)}\n\n{sentences(reports, constant)}"
    print(f"\n{text}\n\nIn brackets: 95 % intervals. Figure: out/{figure.name}")
    if options.readme:
        write_readme(text, figure)


if __name__ == "__main__":
    main()
