"""What the counts of a report say that its table does not."""

import numpy as np
import torch

from fairskorch.audit._findings import Finding, listed, quoted, shown
from fairskorch.audit._measures import ALL_METRICS, SCORE_METRICS
from fairskorch.audit._splits import DIFFERENCE, VERSUS
from fairskorch.audit._tables import ALL_ROWS, recall_changes
from fairskorch.intervals._scores import FEWEST
from fairskorch.metrics._counts import reasons

#: Cells of fewer rows are named, and cells of fewer subjects.
SMALL_CELL = 20
FEW_SUBJECTS = 5

#: Share of rows below which all classes but one are hardly predicted, and how many
#: times as many rows must truly be of them.
RARE, TIMES = 0.02, 5

#: By how much a gap must close before it is asked who paid for it.
CLOSED = 0.02


def findings_of(m, table):
    """Say what a reader of the table must know.

    Parameters
    ----------
    m : Measurement
    table : DataFrame
        As of `metric_table`.

    Returns
    -------
    findings : list of Finding
    """
    found = []
    for key in m.keys:
        found += _constants(m, key)
        found += _inestimable(m, key, table)
        for attribute in m.attributes:
            found += _cells(m, key, attribute)
    found += _overfitted(m, table)
    found += _hidden(m, table)
    if m.baseline:
        found += _inestimable(m, VERSUS, table)
        found += _moved(m, table)
        for attribute in m.attributes:
            found += _levelled_down(m, attribute)
    return found


def _row(m, name, attribute):
    """Label of a metric in the table, and the words for it."""
    if len(m.attributes) == 1:
        return name, name
    if ALL_METRICS[name].compare == "overall":
        return (name, ALL_ROWS), name
    return (name, attribute.title), f"{name} by {attribute.title}"


def _by(m, attribute):
    return f" by {attribute.title}" if len(m.attributes) > 1 else ""


def _constants(m, key):
    """Fits that predict one class for every row, or nearly."""
    fits = m.fits[key, m.attributes[-1].title]
    found = []
    for i, fit in enumerate(fits):
        who = f"{key}, fit {i + 1}" if len(fits) > 1 else key
        counts = fit.counts.everyone[0]
        true, predicted = counts[:, 0], counts[:, 1:].sum(0)
        n_rows, top = float(true.sum()), int(predicted.argmax())
        others, truly = (float(1 - x[top] / n_rows) for x in (predicted, true))
        evidence = {
            "split": key,
            "class": m.classes[top],
            "predicted_share": 1 - others,
            "true_share": 1 - truly,
        }
        if others == 0 and truly > 0:
            found.append(
                Finding(
                    f"{who}: every row is predicted {m.classes[top]!r}; a gap of 0 "
                    "that comes with it is no result.",
                    "constant prediction",
                    evidence,
                )
            )
        elif others < RARE and others * TIMES < truly:
            found.append(
                Finding(
                    f"{who}: {1 - others:.1%} of the rows are predicted "
                    f"{m.classes[top]!r}, and {1 - truly:.1%} are of that class; small "
                    "gaps that come with so nearly constant a prediction are no "
                    "result.",
                    "nearly constant prediction",
                    evidence,
                )
            )
    return found


def _inestimable(m, key, table):
    """Metrics without a value, and why."""
    found = []
    for name, attribute, _ in m.rows():
        label, words = _row(m, name, attribute)
        if not np.isnan(table[key, "value"][label]):
            continue
        if key == VERSUS:
            if np.isnan(table["test", "value"][label]):
                continue
            why = ["the baseline's value is not estimable"]
            if name in SCORE_METRICS:
                why = ["the baseline gives no probabilities"]
        else:
            why = _why(m, key, name, attribute)
        found.append(
            Finding(
                f"{key}: {words} is not estimable: {'; '.join(why)}.",
                "not estimable",
                {"split": key, "metric": name, "by": attribute.title, "why": why},
            )
        )
    return found


def _why(m, key, name, attribute):
    fit = m.fits[key, attribute.title][0]
    labels = attribute.labels
    if name not in SCORE_METRICS:
        return reasons(name, fit.counts.of(name), labels, m.classes, m.positive)
    metric = SCORE_METRICS[name]
    if metric.rate not in fit.scores:
        return ["it needs probabilities, and there are only scores"]
    if metric.compare == "overall":
        return [f"fewer than {FEWEST} rows of a class that is compared"]
    size = fit.counts.statistic[..., 0]
    here = (size.sum(-1) > 0).tolist()
    if sum(here) < 2:
        return reasons("accuracy_difference", fit.counts.statistic, labels, m.classes)
    few = [
        quoted(labels[g])
        for g, value in enumerate(fit.scores[metric.rate].value[:-2])
        if here[g] and np.isnan(value)
    ]
    what = "rows of each class" if metric.rate == "roc_auc" else "rows"
    return [f"fewer than {FEWEST} {what} in group {listed(few)}"]


def _cells(m, key, attribute):
    """Name groups without rows, cells with few, and rows of no group."""
    labels, classes = attribute.labels, m.classes
    counts = m.fits[key, attribute.title][0].counts
    by = _by(m, attribute)
    size, found = counts.statistic[..., 0], []
    base = {"split": key, "by": attribute.title}
    absent = [labels[i] for i in torch.nonzero(size.sum(-1) == 0).flatten()]
    if absent:
        found.append(
            Finding(
                f"{key}: no row of group {listed(map(quoted, absent))}{by}.",
                "absent group",
                {**base, "groups": absent},
            )
        )
    small = {
        (labels[g], classes[c]): int(size[g, c])
        for g, c in torch.nonzero(size < SMALL_CELL).tolist()
        if labels[g] not in absent
    }
    if small:
        said = [f"{quoted(g)} x class {c!r} ({n})" for (g, c), n in small.items()]
        found.append(
            Finding(
                f"{key}: cells below {SMALL_CELL} rows{by}, whose rates are hardly "
                f"known: {listed(said)}.",
                "small cells",
                {**base, "cells": small},
            )
        )
    if counts.subjects is not None:
        persons = counts.subjects_by_cell()
        few = {
            (labels[g], classes[c]): int(persons[g, c])
            for g, c in np.argwhere((persons > 0) & (persons < FEW_SUBJECTS))
        }
        if few:
            said = [f"{quoted(g)} x class {c!r} ({n})" for (g, c), n in few.items()]
            found.append(
                Finding(
                    f"{key}: cells of fewer than {FEW_SUBJECTS} subjects{by}, who tell "
                    f"little of others: {listed(said)}.",
                    "small cells",
                    {**base, "subjects": few},
                )
            )
    n_unknown = int((counts.groups < 0).sum())
    # A crossing is unknown where one of its columns is, which was said.
    if n_unknown and len(attribute.columns) == 1:
        what = f"unknown {attribute.title}" if by else "unknown group"
        found.append(
            Finding(
                f"{key}: {n_unknown} rows of {what} count only in metrics that compare "
                "no groups, such as accuracy.",
                "unknown groups",
                {**base, "rows": n_unknown},
            )
        )
    return found


def _overfitted(m, table):
    """Gaps that are wider where rows were not seen."""
    found = []
    for name, attribute, grouped in m.rows():
        metric = ALL_METRICS[name]
        if not grouped:
            continue
        label, words = _row(m, name, attribute)
        low, high = (table[DIFFERENCE, s][label] for s in ("low", "high"))
        if (metric.parity == 0 and low > 0) or (metric.parity == 1 and high < 0):
            train, test = (table[key, "value"][label] for key in ("train", "test"))
            found.append(
                Finding(
                    f"{words} is {train:.3f} on train and {test:.3f} on test rows: "
                    "further from parity where rows were not seen (difference "
                    f"{test - train:+.3f}, {m.level:.0%} interval {low:+.3f} to "
                    f"{high:+.3f}).",
                    "overfitted gap",
                    {
                        "metric": name,
                        "by": attribute.title,
                        "train": train,
                        "test": test,
                        "low": low,
                        "high": high,
                    },
                )
            )
    return found


def _gaps(m):
    """Names of the metrics that compare groups and have a parity."""
    return [
        name
        for name in m.metrics
        if ALL_METRICS[name].parity is not None
        and ALL_METRICS[name].compare != "overall"
    ]


def _hidden(m, table):
    """Gaps between crossed groups that no column alone shows."""
    found, crossed = [], m.attributes[-1]
    if len(m.attributes) == 1:
        return found
    for name in _gaps(m):
        sign = 1 if ALL_METRICS[name].parity == 0 else -1
        near, far = ("low", "high") if sign > 0 else ("high", "low")
        own = table["test", near][name, crossed.title]
        alone = {a.title: table["test", far][name, a.title] for a in m.attributes[:-1]}
        if all(sign * (own - other) > 0 for other in alone.values()):
            values = {
                a.title: table["test", "value"][name, a.title] for a in m.attributes
            }
            single = listed(f"{values[title]:.3f} by {title}" for title in alone)
            found.append(
                Finding(
                    f"test: {name} is {values[crossed.title]:.3f} by {crossed.title} "
                    f"and {single} (their {m.level:.0%} intervals do not meet): what "
                    "crossed groups get does not show in either column.",
                    "gap in a crossing",
                    {"metric": name, "values": values},
                )
            )
    return found


def _moved(m, table):
    """Gaps that a classifier closed for one grouping and opened for another."""
    found = []
    for name in _gaps(m):
        sign = 1 if ALL_METRICS[name].parity == 0 else -1
        changes = {}
        for attribute in m.attributes:
            label, _ = _row(m, name, attribute)
            value, low, high = table[VERSUS].loc[label]
            ends = (low, high) if sign > 0 else (-high, -low)
            changes[attribute.title] = value, low, high, ends
        closed = [title for title, x in changes.items() if x[3][1] < 0]
        opened = [title for title, x in changes.items() if x[3][0] > 0]
        if closed and opened:
            parts = [
                f"by {title} it changes by {changes[title][0]:+.3f} "
                f"({changes[title][1]:+.3f} to {changes[title][2]:+.3f})"
                for title in closed + opened
            ]
            found.append(
                Finding(
                    f"test: {name} moved from {listed(closed)} to {listed(opened)}: "
                    f"against the baseline, {listed(parts)}.",
                    "gap moved",
                    {
                        "metric": name,
                        "closed": {title: changes[title][:3] for title in closed},
                        "opened": {title: changes[title][:3] for title in opened},
                    },
                )
            )
    return found


def _levelled_down(m, attribute):
    """Gaps that closed because the better group lost, and the worse did not gain."""
    fits = m.fits["test", attribute.title]
    before, after = (
        np.mean([_recalls(x) for x in side], axis=0)
        for side in (m.baseline[attribute.title], fits)
    )
    change, low, high = recall_changes(m, attribute)
    found, labels = [], attribute.labels
    for c, label in enumerate(m.classes):
        old, new = before[c], after[c]
        if np.isnan(old).all() or np.sum(~np.isnan(old)) < 2:
            continue
        best, worst = int(np.nanargmax(old)), int(np.nanargmin(old))
        gaps = np.nanmax(old) - np.nanmin(old), np.nanmax(new) - np.nanmin(new)
        lost, gained = -change[c, best], change[c, worst]
        # Surely lost, and at most a little gained, of which nothing is sure.
        if gaps[0] - gaps[1] < CLOSED or high[c, best] >= 0:
            continue
        if low[c, worst] > 0 or gained > lost / 4:
            continue
        changes = {
            labels[g]: (float(change[c, g]), float(low[c, g]), float(high[c, g]))
            for g in range(len(labels))
            if not np.isnan(change[c, g])
        }
        gain = "did not gain" + (" for sure" if gained > 0 else "")
        said = [
            f"{shown(labels[g])} {change[c, g]:+.3f} "
            f"({low[c, g]:+.3f} to {high[c, g]:+.3f})"
            for g in (best, worst)
        ]
        found.append(
            Finding(
                f"test: levelling down{_by(m, attribute)}: the gap in recall of class "
                f"{label!r} went from {gaps[0]:.3f} to {gaps[1]:.3f} because the "
                f"better group lost, {said[0]}, while the worse {gain}, "
                f"{said[1]}.",
                "levelling down",
                {
                    "by": attribute.title,
                    "class": label,
                    "before": float(gaps[0]),
                    "after": float(gaps[1]),
                    "changes": changes,
                },
            )
        )
    return found


def _recalls(measured):
    statistic = measured.counts.statistic.numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            np.diagonal(statistic[..., 1:], axis1=-2, axis2=-1) / statistic[..., 0]
        ).T
