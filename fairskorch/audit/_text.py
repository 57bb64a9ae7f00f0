"""A report in words: as plain text, as Markdown, and as a section of a model card."""

import numpy as np
import pandas as pd

from fairskorch.audit._findings import shown
from fairskorch.audit._measures import SCORE_METRICS
from fairskorch.audit._splits import DIFFERENCE, VERSUS

#: What a metric is, in words that need no source.
MEANINGS = {
    "accuracy": "share of rows predicted right",
    "balanced_accuracy": "mean over classes of the share predicted right",
    "demographic_parity_difference": "largest difference between groups in the share "
    "predicted positive; 0 at parity",
    "demographic_parity_ratio": "smallest by largest share predicted positive; 1 at "
    "parity",
    "equal_opportunity_difference": "largest difference between groups in the "
    "true-positive rate; 0 at parity",
    "equalized_odds_difference": "the larger of the largest differences between groups "
    "in true- and in false-positive rate; 0 at parity",
    "equalized_odds_ratio": "the smaller of the smallest ratios between groups of "
    "true- and of false-positive rates; 1 at parity",
    "average_odds_difference": "mean of the largest differences between groups in "
    "true- and in false-positive rate; 0 at parity",
    "accuracy_difference": "largest difference between groups in accuracy; 0 at parity",
    "worst_group_accuracy": "accuracy of the group where it is smallest",
    "worst_cell_accuracy": "share predicted right in the group and class where it is "
    "smallest",
    "roc_auc": "chance that a row of a class has a higher score than one of another",
    "brier_score": "mean squared error of the probabilities; 0 is best",
    "calibration_error": "mean distance of probabilities from observed shares, over "
    "ten bins; 0 is best",
}


def plain(report):
    """Return the table, its caption and its warnings."""
    text = cells(report.table).to_string()
    return "\n".join([text, caption(report), *(f"! {w}" for w in report.warnings)])


def markdown(report):
    """Return the same as Markdown."""
    table = _table(cells(report.table))
    notes = "".join(f"- {sentence}\n" for sentence in report.warnings)
    return f"{table}\n\n{caption(report)}\n" + (f"\n{notes}" if notes else "")


def cells(table):
    """Write each value with its interval."""
    signed = (DIFFERENCE, VERSUS)
    columns = {}
    for key in table.columns.unique(0):
        sign = "+" if key in signed else ""
        columns[key] = [number(*row, sign) for row in table[key].to_numpy()]
    return pd.DataFrame(columns, index=table.index)


def number(value, low, high, sign=""):
    """Write one value with its limits."""
    if np.isnan(value):
        return "not estimable"
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def caption(report):
    """Say how many rows, and what the brackets are."""
    m = report._m
    counts = ", ".join(f"{key} {n}" for key, n in sizes(m).items())
    fits = len(m.fits["test", m.attributes[-1].title])
    spread = (
        f" Means of {fits} fits, whose spread is in the intervals." if fits > 1 else ""
    )
    own = [key for key in m.keys if key in report._by_subject]
    by = f" By subject: {', '.join(own)}." if own else ""
    return (
        f"Rows: {counts}.{spread} In brackets: {m.level:.0%} intervals.{by} "
        "A difference whose interval starts at 0 cannot be told from parity."
    )


def who(report):
    """Say what was measured, and against what."""
    own, other = (
        names[0] if len(set(names)) == 1 else ", ".join(names)
        for names in (report._names["fit"], report._names["baseline"] or [""])
    )
    fits = len(report._names["fit"])
    many = f" ({fits} fits)" if fits > 1 else ""
    return f"Measured: {own}{many}." + (f" Baseline: {other}." if other else "")


def sizes(m):
    """Return the number of rows of each split."""
    title = m.attributes[-1].title
    return {key: len(m.fits[key, title][0].counts.true) for key in m.keys}


def meaning(name):
    """Say what a metric is."""
    if name in MEANINGS:
        return MEANINGS[name]
    return (
        f"largest difference between groups in {SCORE_METRICS[name].rate}; 0 at parity"
    )


def uncertainty(report):
    """Say what the intervals are of, a sentence each."""
    m = report._m
    fits = len(m.fits["test", m.attributes[-1].title])
    said = [
        f"{m.level:.0%} intervals, each by itself: Wilson's for rates, Newcombe's for "
        "differences of two groups, projected to the gap; none is from resampling a "
        "gap.",
    ]
    if any(name in SCORE_METRICS for name in m.metrics):
        said.append(
            "Metrics of probabilities: limits of a rate with the variance that "
            f"{m.n_boot} draws of a Bayesian bootstrap have; of a calibration error, "
            "what such draws are off."
        )
    if m.baseline:
        said.append(
            "Differences from the baseline: group by group on the same rows, "
            f"{m.n_boot} draws of the counts of rows where both disagree."
        )
    own = [key for key in m.keys if key in report._by_subject]
    other = [key for key in m.keys if key not in own]
    if own:
        said.append(f"Rows of one subject count as dependent on {', '.join(own)}.")
    if other:
        said.append(f"Rows count as independent on {', '.join(other)}.")
    if fits > 1:
        said.append(
            f"Values are means of {fits} fits; intervals hold for the mean of all fits "
            "that could have been made, not for one of them."
        )
    else:
        said.append("Intervals are of new rows for this one fit, not of other fits.")
    return said


def not_measured(report):
    """Say what the report does not tell, a sentence each."""
    m = report._m
    names = m.attributes[-1].encoder.names_
    said = []
    if len(names) == 1:
        said.append(f"Any attribute but {names[0]}, and its crossings with others.")
    else:
        said.append(f"Any attribute but {', '.join(map(str, names))}.")
    if not any(name in SCORE_METRICS for name in m.metrics):
        said.append("How good the probabilities are (area, Brier score, calibration).")
    if len(m.fits["test", m.attributes[-1].title]) == 1:
        said.append("How much another seed or another training sample changes.")
    if "test" not in report._by_subject:
        said.append("Whether several rows are of one subject.")
    for finding in report.warnings:
        if finding.kind in ("not estimable", "unknown groups", "left out"):
            said.append(str(finding))
    said.append("Rows that differ from these in place, time or how they were recorded.")
    said.append("Whether labels are right, and as right in every group.")
    return said


def card(report):
    """Return a section for a model card."""
    m = report._m
    crossed = m.attributes[-1]
    lines = [
        "## Fairness: training against held-out rows",
        "",
        "### What was measured",
        "",
    ]
    lines += [f"- {who(report)}"]
    lines += [f"- `{name}`: {meaning(name)}." for name in m.metrics]
    if m.positive is not None:
        lines.append(f"- The positive class is {m.classes[m.positive]!r}.")
    else:
        lines.append(f"- Each of the classes {m.classes} is held against the rest.")
    if m.baseline:
        lines.append("- Each also against the baseline, on the same test rows.")
    lines += ["", "### On whom", ""]
    lines.append(_table(_counts(m, crossed)))
    lines += ["", "### With which uncertainty", ""]
    lines += [f"- {sentence}" for sentence in uncertainty(report)]
    lines += ["", "### What was found", "", _table(cells(report.table)), ""]
    groups = _table(_group_cells(report))
    lines += ["By group, on test rows:", "", groups, ""]
    if report.warnings:
        lines += ["What a reader must know:", ""]
        lines += [f"- {sentence}" for sentence in report.warnings] + [""]
    lines += ["### What was not measured", ""]
    lines += [f"- {sentence}" for sentence in not_measured(report)]
    return "\n".join(lines) + "\n"


def _counts(m, attribute):
    """Count rows by group and split, those of unknown group at the end."""
    columns = {}
    for key in m.keys:
        counts = m.fits[key, attribute.title][0].counts
        size = counts.statistic[..., 0].sum(-1).numpy().astype(int)
        columns[key] = [*size, int((counts.groups < 0).sum())]
    labels = [*map(shown, attribute.labels), "unknown"]
    return pd.DataFrame(columns, index=pd.Index(labels, name=attribute.title))


def _group_cells(report, limit=40):
    """Write the rates of each group on test rows."""
    table = report.by_group.loc["test"]
    columns = {"rows": table["count", "value"].tolist()}
    for rate in table.columns.unique(0)[1:]:
        columns[rate] = [number(*row) for row in table[rate].to_numpy()]
    labels = [shown(label) for label in table.index]
    index = pd.Index(labels, name=" x ".join(map(str, table.index.names)))
    frame = pd.DataFrame(columns, index=index)
    if len(frame) > limit:
        more = [f"{len(frame) - limit} more"]
        rest = pd.DataFrame("", index=more, columns=frame.columns)
        frame = pd.concat([frame.iloc[:limit], rest])
        frame.index.name = index.name
    return frame


def _table(frame):
    """Write a frame as a Markdown table."""
    names = [str(name) for name in frame.index.names]
    lines = [[*names, *map(str, frame.columns)]]
    lines.append(["---"] * len(lines[0]))
    for label, *row in frame.itertuples(name=None):
        own = label if isinstance(label, tuple) else (label,)
        lines.append([*map(str, own), *map(str, row)])
    # A label may hold what ends a cell or a row.
    rows = (
        [" ".join(text.replace("|", "\\|").splitlines()) for text in line]
        for line in lines
    )
    return "\n".join("| " + " | ".join(line) + " |" for line in rows)
