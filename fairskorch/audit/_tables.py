"""The tables of a report: by metric, by group, by fit, and changes by group."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm

from fairskorch.audit._measures import ALL_METRICS, SCORE_METRICS
from fairskorch.audit._splits import DIFFERENCE, VERSUS
from fairskorch.intervals import (
    difference_interval,
    fits_interval,
    metric_interval,
    rate_interval,
)
from fairskorch.intervals._paired import generator, rate_change
from fairskorch.intervals._rates import tail_of
from fairskorch.intervals._scores import score_change
from fairskorch.metrics._table import overall_index, rate_columns, with_overall

STATISTICS = ("value", "low", "high")
RATE_NAMES = (
    "accuracy",
    "balanced_accuracy",
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
)
ALL_ROWS = "all rows"


class Measurement(NamedTuple):
    """Everything that was counted.

    Attributes
    ----------
    metrics : list of str
    keys : list of str
        Names of the splits.
    attributes : list of Attribute
    fits : dict of (str, str) to list of Measured
        By split and title of the attribute, one a fit.
    baseline : dict of str to list of Measured
        Of the test rows, by title; empty without a baseline.
    classes : list
    positive : int or None
    level : float
    n_boot : int
    seed : int
    """

    metrics: list
    keys: list
    attributes: list
    fits: dict
    baseline: dict
    classes: list
    positive: int | None
    level: float
    n_boot: int
    seed: int

    def rows(self):
        """Yield each metric with the attributes that it is compared by."""
        for name in self.metrics:
            grouped = ALL_METRICS[name].compare != "overall"
            for attribute in self.attributes if grouped else self.attributes[-1:]:
                yield name, attribute, grouped


def metric_table(m):
    """Tabulate every metric on every split, their difference, and the baseline's.

    Returns
    -------
    table, fits : DataFrame
        Values with limits, and the values of each fit.
    """
    rows, single, labels = [], [], []
    for name, attribute, grouped in m.rows():
        row, values, estimates = {}, {}, {}
        for key in m.keys:
            found = [f.estimate(name) for f in m.fits[key, attribute.title]]
            estimates[key] = found
            row[key] = _joined(found, m.level, 0)
            values[key] = [float(value) for value, _ in found]
        parity = ALL_METRICS[name].parity
        changes = [
            (a[0] - b[0], difference_interval(*a, *b, parity))
            for a, b in zip(estimates["test"], estimates["train"], strict=True)
        ]
        row[DIFFERENCE] = _joined(changes, m.level)
        if m.baseline:
            pairs = zip(
                m.fits["test", attribute.title],
                m.baseline[attribute.title],
                strict=True,
            )
            changes = [a.change(name, b, m.n_boot, m.seed) for a, b in pairs]
            row[VERSUS] = _joined(changes, m.level)
            values[VERSUS] = [float(value) for value, _ in changes]
        rows.append(
            {
                (key, s): float(number)
                for key, numbers in row.items()
                for s, number in zip(STATISTICS, numbers, strict=True)
            }
        )
        single.append(
            {(k, i): v for k, found in values.items() for i, v in enumerate(found)}
        )
        labels.append((name, attribute.title if grouped else ALL_ROWS))
    if len(m.attributes) > 1:
        index = pd.MultiIndex.from_tuples(labels, names=["metric", "by"])
    else:
        index = pd.Index([name for name, _ in labels], name="metric")
    table, fits = pd.DataFrame(rows, index=index), pd.DataFrame(single, index=index)
    for frame, second in ((table, "statistic"), (fits, "fit")):
        frame.columns = pd.MultiIndex.from_tuples(
            frame.columns, names=["split", second]
        )
    return table, fits


def group_table(m):
    """Tabulate the rates of each group on each split, with their limits."""
    parts = {}
    for key in m.keys:
        found = []
        for attribute in m.attributes:
            columns = [_rates_of(f, m) for f in m.fits[key, attribute.title]]
            joined = {
                title: _joined([c[title] for c in columns], m.level, 0)
                for title in columns[0]
            }
            count = m.fits[key, attribute.title][0].counts.statistic[..., 0].sum(-1)
            count = np.append(count.numpy(), float(count.sum())).astype(np.int64)
            frame = _frame({("count", "value"): count}, joined)
            frame.index = _index(m, attribute)
            frame = frame[frame["count", "value"] > 0]
            # Over all rows of known group: once, for the crossing of all columns.
            found.append(frame if attribute is m.attributes[-1] else frame.iloc[:-1])
        parts[key] = pd.concat(found)
    table = pd.concat(parts, names=["split"])
    table.columns.names = ["rate", "statistic"]
    return table


def change_table(m):
    """Tabulate how the rates of each group differ from the baseline's, on test rows."""
    found = []
    for attribute in m.attributes:
        pairs = list(
            zip(
                m.fits["test", attribute.title],
                m.baseline[attribute.title],
                strict=True,
            )
        )
        columns = [_changes_of(a, b, m) for a, b in pairs]
        joined = {
            title: _joined([c[title] for c in columns], m.level) for title in columns[0]
        }
        count = pairs[0][0].counts.statistic[..., 0].sum(-1).numpy().astype(np.int64)
        frame = _frame({("count", "value"): count}, joined)
        frame.index = _index(m, attribute)[:-1]
        found.append(frame[frame["count", "value"] > 0])
    table = pd.concat(found)
    table.columns.names = ["rate", "statistic"]
    return table


def recall_changes(m, attribute):
    """Return how the recall of each class and group changes: value, low, high."""
    tail, rng = tail_of(m.level), generator(m.seed)
    pairs = zip(
        m.fits["test", attribute.title], m.baseline[attribute.title], strict=True
    )
    found = []
    for a, b in pairs:
        design = None
        if a.counts.subjects is not None:
            design = a.counts.effects("recall", other=b.counts)
        joint = a.counts.joint(b.counts)
        value, *limits = rate_change("recall", joint, tail, m.n_boot, rng, design)
        found.append((value, limits))
    return _joined(found, m.level)


def _joined(found, level, least=-1):
    """Join the estimates of several fits: value, and limits in [least, 1]."""
    value, (low, high) = fits_interval(
        [value for value, _ in found], [limits for _, limits in found], level
    )
    return value, np.clip(low, least, 1), np.clip(high, least, 1)


def _frame(first, joined):
    columns = dict(first)
    for title, numbers in joined.items():
        for s, number in zip(STATISTICS, numbers, strict=True):
            columns[title, s] = number
    return pd.DataFrame(columns)


def _index(m, attribute):
    """Index of one attribute's groups and "overall", with a level for each column."""
    whole = m.attributes[-1]
    own = overall_index(attribute.encoder.index())
    if attribute is whole:
        return own
    rows = [
        tuple(label if j in attribute.columns else "overall" for j in whole.columns)
        for label in own
    ]
    return pd.MultiIndex.from_tuples(rows, names=whole.encoder.names_)


def _rates_of(measured, m):
    """Return each column of `group_table`: value and limits, of groups and overall."""
    counts, found = measured.counts, {}
    both = with_overall(counts.statistic)
    for name in RATE_NAMES:
        if name == "balanced_accuracy":
            found[name] = _balanced(measured)
            continue
        design = None
        if counts.subjects is not None:
            design = _with_overall_effects(counts, name)
        columns = rate_columns(name, both, m.classes, m.positive)
        one = m.positive if m.positive is not None and len(columns) == 1 else 0
        for i, (title, (value, trials)) in enumerate(columns.items()):
            if design is not None:
                trials = trials / design[0 if name == "accuracy" else one + i]
            found[title] = value, rate_interval(value, trials, m.level)
    z = norm.isf(tail_of(m.level) / 2)
    for rate in dict.fromkeys(
        SCORE_METRICS[n].rate for n in m.metrics if n in SCORE_METRICS
    ):
        if rate in measured.scores:
            own = measured.scores[rate]
            found[rate] = own.value[:-1], tuple(x[:-1] for x in own.limits(z))
    return found


def _balanced(measured):
    """Mean recall over classes of each group, and of all, each as if it were alone."""
    counts, name = measured.counts, "balanced_accuracy"
    both = with_overall(counts.statistic)
    value, _ = rate_columns(name, both, range(counts.n_classes), None)[name]
    design = None
    if counts.subjects is not None:
        effects = _with_overall_effects(counts, "recall")
        design = effects.T[:, None, :, None]
    low, high = metric_interval(
        name, both.unsqueeze(-3), confidence_level=measured.level, design=design
    )
    missing = np.isnan(value)
    return value, (np.where(missing, np.nan, low), np.where(missing, np.nan, high))


def _with_overall_effects(counts, rate):
    """Design effects of groups and of all rows of known group at the end."""
    return np.concatenate([counts.effects(rate), counts.effects(rate, True)], axis=1)


def _changes_of(a, b, m):
    """Return each column of `change_table` for one pair of fits."""
    tail, rng = tail_of(m.level), generator(m.seed)
    joint, found = a.counts.joint(b.counts), {}
    for rate in ("accuracy", *RATE_NAMES[2:]):
        design = None
        if a.counts.subjects is not None:
            design = a.counts.effects(rate, other=b.counts)
        parts = rate_change(rate, joint, tail, m.n_boot, rng, design)
        if rate == "accuracy":
            titles, codes = [rate], [0]
        elif m.positive is None:
            titles = [f"{rate}_{c}" for c in m.classes]
            codes = range(len(m.classes))
        else:
            titles, codes = [rate], [m.positive]
        for title, code in zip(titles, codes, strict=True):
            value, low, high = (x[code] for x in parts)
            found[title] = value, (low, high)
    z = norm.isf(tail / 2)
    for rate in (r for r in a.scores if r in b.scores):
        value, limits = score_change(rate, a.scores[rate], b.scores[rate])
        found[rate] = value[:-2], tuple(x[:-2] for x in limits(z))
    return found
