"""Train against held-out: what a fitted classifier does to groups on each."""

from functools import cached_property, partial

import fairlearn.metrics
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import accuracy_score

from fairskorch.groups import GroupEncoder, as_frame
from fairskorch.intervals import (
    difference_interval,
    metric_interval,
    paired_interval,
    rate_interval,
)
from fairskorch.metrics import METRICS, from_counts
from fairskorch.metrics._counts import lookup, reasons
from fairskorch.metrics._inputs import check_rows, label_codes, positive_class
from fairskorch.metrics._table import overall_index, rate_columns, with_overall
from fairskorch.rates import confusion_statistics

__all__ = ["FairnessReport", "fairness_report"]

DEFAULT_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "equalized_odds_difference",
    "demographic_parity_difference",
    "worst_group_accuracy",
)
RATE_NAMES = (
    "accuracy",
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
)
STATISTICS = ("value", "low", "high")
DIFFERENCE = "difference"
VERSUS = "versus baseline"

#: Cells of fewer rows are named in the warnings.
SMALL_CELL = 20


def fairness_report(
    estimator,
    *,
    train,
    test,
    splits=None,
    baseline=None,
    metrics=None,
    n_boot=1000,
    confidence_level=0.95,
    random_state=None,
    pos_label=None,
):
    """Measure a fitted classifier on training and held-out rows, with intervals.

    `predict` is called once a split; everything else is computed from counts by
    group, true and predicted class.

    Parameters
    ----------
    estimator : fitted classifier
        Anything with a `predict` that takes the `X` of the splits.
    train, test : tuple (X, y, groups)
        The rows it was fitted on, and rows it has not seen. Groups have the shape
        (n_samples,) or (n_samples, k); columns are crossed. Rows of unknown group
        count in accuracy and balanced accuracy only.
    splits : dict of str to tuple (X, y, groups), optional
        Further splits by name, such as "validation".
    baseline : fitted classifier, optional
        Another classifier; the report then holds the paired difference on the test
        rows.
    metrics : list of str, optional
        "accuracy", "balanced_accuracy" and scalar functions of `fairskorch.metrics`.
        By default these two, equalized_odds_difference,
        demographic_parity_difference and worst_group_accuracy.
    n_boot : int, default=1000
        Draws of the Bayesian bootstrap behind the comparison with `baseline`.
    confidence_level : float, default=0.95
        Of every interval, each by itself.
    random_state : int, RandomState instance or None, default=None
        Makes these draws reproducible; the global generator is never touched.
    pos_label : label, optional
        The positive class: by default the larger of two labels; of more, each is
        held against the rest.

    Returns
    -------
    report : FairnessReport

    Raises
    ------
    ValueError
        If two splits are one object or share their `X`, a split is no triple, a
        length differs, a split's name is reserved, a metric is unknown (the message
        guesses which one was meant), or no row has a known group.

    See Also
    --------
    fairskorch.intervals : How the intervals are made, and why none of them comes
        from resampling a gap.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from fairskorch.audit import fairness_report
    >>> rng = np.random.RandomState(0)
    >>> X, groups = rng.normal(size=(800, 2)), rng.choice(["f", "m"], size=800)
    >>> y = (X[:, 0] + (groups == "m") + rng.normal(size=800) > 0.5).astype(int)
    >>> model = LogisticRegression().fit(X[:400], y[:400])
    >>> report = fairness_report(
    ...     model,
    ...     train=(X[:400], y[:400], groups[:400]),
    ...     test=(X[400:], y[400:], groups[400:]),
    ... )
    >>> report.table["test"].loc["equalized_odds_difference"].round(3).tolist()
    [0.142, 0.0, 0.248]
    """
    named = {"train": train, "test": test, **(splits or {})}
    _check_splits(named, splits or {})
    names = list(DEFAULT_METRICS if metrics is None else metrics)
    for name in names:
        lookup(name, METRICS, "metric of fairness_report")
    rows, labels = {}, {}
    for key, (X, y, groups) in named.items():
        owner = f"fairness_report, split {key!r},"
        labels[f"y of {key}"], predicted, frame = check_rows(
            y, estimator.predict(X), groups, owner
        )
        labels[f"the prediction of {key}"] = predicted
        rows[key] = frame
    if baseline is not None:
        predicted = baseline.predict(test[0])
        labels["the baseline's prediction"] = check_rows(
            test[1], predicted, test[2], "fairness_report, baseline,"
        )[1]
    classes, coded = label_codes(labels, "fairness_report")
    needs = any(METRICS[name].one_vs_rest for name in names)
    classes, positive, shift = positive_class(
        classes, pos_label, "fairness_report", needs
    )
    coded = [torch.from_numpy(codes + shift) for codes in coded]
    encoder = _encode(rows)
    counted = {}
    for i, (key, frame) in enumerate(rows.items()):
        groups = torch.from_numpy(encoder.transform(frame))
        counted[key] = _Split(coded[2 * i], coded[2 * i + 1], groups, encoder, classes)
    other = coded[-1] if baseline is not None else None
    table = _table(
        names, counted, positive, other, n_boot, confidence_level, random_state
    )
    return FairnessReport(table, counted, positive, confidence_level)


class FairnessReport:
    """What `fairness_report` found; it is made there, not by hand.

    Parameters
    ----------
    table : DataFrame
        See the attribute.
    splits : dict
        Counts and codes of the rows of each split.
    positive : int or None
        Code of the class that is compared; None for each in turn.
    confidence_level : float
        See the attribute.

    Attributes
    ----------
    table : DataFrame
        One row a metric. Columns are a MultiIndex of split and "value", "low",
        "high": each split, then "difference" (test minus train) and, with a baseline,
        "versus baseline" (on the test rows, this classifier minus the baseline).
        ``nan`` where a metric cannot be estimated; `warnings` says why.
    by_group : DataFrame
        One row a split and group, and "overall" over the rows of known group. Columns
        are a MultiIndex of rate and "value", "low", "high" (Wilson), and
        ("count", "value").
    frames : dict of str to MetricFrame
        fairlearn's MetricFrame of each split, built when first asked for.
    warnings : list of str
        What a reader of the table must know, a sentence each.
    confidence_level : float
        Of every interval.
    """

    def __init__(self, table, splits, positive, confidence_level):
        self.table = table
        self.confidence_level = confidence_level
        self._splits = splits
        self._positive = positive
        self.warnings = _warnings(table, splits, positive, confidence_level)

    @cached_property
    def by_group(self):
        """Rates of each group on each split, with Wilson intervals."""
        parts = {
            key: split.by_group(self._positive, self.confidence_level)
            for key, split in self._splits.items()
        }
        return pd.concat(parts, names=["split"])

    @cached_property
    def frames(self):
        """MetricFrame (fairlearn's) of each split that has rows of known group."""
        return {
            key: split.metric_frame(self._positive)
            for key, split in self._splits.items()
            if split.n_unknown < len(split.groups)
        }

    def to_markdown(self):
        """Write the table, its warnings below, as Markdown.

        Returns
        -------
        text : str
        """
        shown = _texts(self.table)
        lines = [["metric", *shown.columns], ["---"] * (shown.shape[1] + 1)]
        lines += [[name, *row] for name, *row in shown.itertuples(name=None)]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        notes = "".join(f"- {sentence}\n" for sentence in self.warnings)
        return f"{text}\n\n{self._caption()}\n" + (f"\n{notes}" if notes else "")

    def plot(self, ax=None):
        """Draw every metric on every split, with its interval.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        ax : matplotlib Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        if ax is None:
            try:
                import matplotlib.pyplot as plt
            except ImportError as error:
                raise ImportError(
                    "FairnessReport.plot needs matplotlib; install fairskorch[plot]."
                ) from error
            _, ax = plt.subplots(figsize=(6.4, 0.8 + 0.6 * len(self.table)))
        keys = list(self._splits)
        places = np.arange(len(self.table))[::-1]
        for i, key in enumerate(keys):
            value, low, high = (self.table[key, s].to_numpy() for s in STATISTICS)
            ax.errorbar(
                value,
                places + 0.15 * ((len(keys) - 1) / 2 - i),
                xerr=[value - low, high - value],
                fmt="osD^v"[i % 5],
                # Grey and shape tell the splits apart, in print too.
                color=str(0.65 * (1 - i / max(len(keys) - 1, 1))),
                capsize=3,
                label=key,
            )
        ax.set_yticks(places, [name.replace("_", " ") for name in self.table.index])
        ax.set_ylim(-0.6, len(self.table) - 0.4)
        ax.set_xlim(-0.02, 1.02)
        ax.set_xlabel(f"value, {self.confidence_level:.0%} interval")
        ax.grid(axis="x", alpha=0.3)
        ax.legend(loc="best")
        return ax

    def _caption(self):
        counts = ", ".join(f"{key} {len(s.true)}" for key, s in self._splits.items())
        return (
            f"Rows: {counts}. In brackets: {self.confidence_level:.0%} intervals. "
            "A difference whose interval starts at 0 cannot be told from parity."
        )

    def __repr__(self):
        text = _texts(self.table).to_string()
        return "\n".join([text, self._caption(), *(f"! {w}" for w in self.warnings)])

    def _repr_html_(self):
        from html import escape

        notes = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.warnings)
        table = _texts(self.table).to_html()
        return f"{table}<p>{escape(self._caption())}</p><ul>{notes}</ul>"


class _Split:
    """Codes of one split's rows, and their counts."""

    def __init__(self, true, predicted, groups, encoder, classes):
        self.true, self.predicted, self.groups = true, predicted, groups
        self.encoder, self.classes = encoder, classes
        sizes = len(encoder.labels_), len(classes)
        self.statistic = confusion_statistics(true, predicted, groups, *sizes)
        everyone = torch.zeros_like(groups)
        self.everyone = confusion_statistics(true, predicted, everyone, 1, sizes[1])
        self.n_unknown = int((groups < 0).sum())

    def counts(self, name):
        """Statistic that a metric is of: accuracies need no group."""
        overall = METRICS[name].compare == "overall"
        return self.everyone if overall else self.statistic

    def joint(self, other):
        """Count rows by group, class and the predictions of two classifiers.

        Returns
        -------
        counts : dict of bool to Tensor of shape (n_groups, n, n, n)
            For True, of all rows as one group.
        """
        n = len(self.classes)
        # A pair of predictions is one of n * n "predicted classes".
        pair = (self.true * n + self.predicted) * n + other
        known = self.groups >= 0
        n_groups = len(self.encoder.labels_)
        cell = (self.groups * n**3 + pair)[known]
        cells = torch.bincount(cell, minlength=n_groups * n**3)
        unknown = torch.bincount(pair[~known], minlength=n**3).reshape(1, n, n, n)
        grouped = cells.reshape(n_groups, n, n, n)
        everyone = grouped.sum(0, keepdim=True) + unknown
        return {True: everyone.double(), False: grouped.double()}

    def by_group(self, positive, confidence_level):
        both = with_overall(self.statistic)
        columns = {("count", "value"): both[..., 0].sum(-1).numpy().astype(np.int64)}
        for name in RATE_NAMES:
            found = rate_columns(name, both, self.classes, positive)
            for title, (value, trials) in found.items():
                low, high = rate_interval(value, trials, confidence_level)
                columns |= dict(
                    zip(
                        [(title, s) for s in STATISTICS],
                        (value, low, high),
                        strict=True,
                    )
                )
        frame = pd.DataFrame(columns, index=overall_index(self.encoder.index()))
        frame.columns.names = ["rate", "statistic"]
        return frame[frame["count", "value"] > 0]

    def metric_frame(self, positive):
        known = (self.groups >= 0).numpy()
        labels = np.empty(len(self.classes), dtype=object)
        labels[:] = self.classes
        functions = {"count": fairlearn.metrics.count, "accuracy": accuracy_score}
        codes = range(len(labels)) if positive is None else [positive]
        for code in codes:
            end = f"_{labels[code]}" if positive is None else ""
            functions[f"selection_rate{end}"] = partial(
                fairlearn.metrics.selection_rate, pos_label=labels[code]
            )
        if positive is not None and len(labels) == 2:
            for name in RATE_NAMES[2:]:
                functions[name] = partial(
                    getattr(fairlearn.metrics, name), pos_label=labels[positive]
                )
        names = self.encoder.index()[self.groups.numpy()[known]].to_frame(index=False)
        kind = np.asarray(self.classes).dtype
        true, predicted = (
            labels[x.numpy()[known]].astype(kind) for x in (self.true, self.predicted)
        )
        return fairlearn.metrics.MetricFrame(
            metrics=functions,
            y_true=true,
            y_pred=predicted,
            sensitive_features=names,
        )


def _check_splits(named, further):
    reserved = {"train", "test", DIFFERENCE, VERSUS} & set(further)
    if reserved:
        raise ValueError(
            f"splits of fairness_report must not use the name {sorted(reserved)[0]!r}."
        )
    for key, split in named.items():
        if not (isinstance(split, tuple | list) and len(split) == 3):
            raise ValueError(
                f"The split {key!r} of fairness_report must be (X, y, groups); got "
                f"{type(split).__name__}"
                + (f" of {len(split)}." if hasattr(split, "__len__") else ".")
            )
    keys = list(named)
    for i, key in enumerate(keys):
        for other in keys[:i]:
            if named[key] is named[other] or named[key][0] is named[other][0]:
                raise ValueError(
                    f"The splits {other!r} and {key!r} of fairness_report are the same "
                    "rows; a classifier is held out from none of them."
                )


def _encode(frames):
    """Learn the groups of all splits, so that they carry the same codes."""
    widths = {key: frame.shape[1] for key, frame in frames.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(
            "The groups of all splits of fairness_report must have the same columns; "
            f"got {widths} columns."
        )
    names = next(iter(frames.values())).columns
    stacked = pd.concat([f.set_axis(names, axis=1) for f in frames.values()])
    encoder = GroupEncoder().fit(as_frame(stacked))
    if not len(encoder.labels_):
        raise ValueError(
            "groups of fairness_report must name the group of at least one row; every "
            "row's is missing."
        )
    return encoder


def _table(names, splits, positive, other, n_boot, level, random_state):
    kwargs = {"confidence_level": level, "positive": positive}
    joint = None if other is None else splits["test"].joint(other)
    rows = {}
    for name in names:
        row, found = {}, {}
        for key, split in splits.items():
            counts = split.counts(name)
            value = from_counts(name, counts, positive=positive).numpy()
            found[key] = value, metric_interval(name, counts, **kwargs)
            row[key] = value, *found[key][1]
        difference = difference_interval(
            *found["test"], *found["train"], METRICS[name].parity
        )
        row[DIFFERENCE] = found["test"][0] - found["train"][0], *difference
        if joint is not None:
            value, interval = paired_interval(
                name,
                joint[METRICS[name].compare == "overall"],
                n_boot=n_boot,
                random_state=random_state,
                **kwargs,
            )
            row[VERSUS] = value, *interval
        rows[name] = {
            (key, s): float(number)
            for key, numbers in row.items()
            for s, number in zip(STATISTICS, numbers, strict=True)
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.columns = pd.MultiIndex.from_tuples(
        table.columns, names=["split", "statistic"]
    )
    table.index.name = "metric"
    return table


def _warnings(table, splits, positive, confidence_level):
    """Say what a reader of the table must know."""
    sentences = []
    for key, split in splits.items():
        labels, classes = split.encoder.labels_.tolist(), split.classes
        counts = split.everyone[0]
        occurring = torch.nonzero(counts[:, 1:].sum(0)).flatten()
        if len(occurring) == 1 and int((counts[:, 0] > 0).sum()) > 1:
            sentences.append(
                f"{key}: every row is predicted {classes[int(occurring[0])]!r}; a gap "
                "of 0 that comes with it is no result."
            )
        for name in table.index:
            if np.isnan(table.loc[name, (key, "value")]):
                why = reasons(name, split.counts(name), labels, classes, positive)
                sentences.append(f"{key}: {name} is not estimable: {'; '.join(why)}.")
        size = split.statistic[..., 0]
        absent = [labels[i] for i in torch.nonzero(size.sum(-1) == 0).flatten()]
        if absent:
            sentences.append(f"{key}: no row of group {_listed(map(repr, absent))}.")
        small = [
            f"{labels[g]!r} x class {classes[c]!r} ({int(size[g, c])})"
            for g, c in torch.nonzero(size < SMALL_CELL).tolist()
            if labels[g] not in absent
        ]
        if small:
            sentences.append(
                f"{key}: cells below {SMALL_CELL} rows, whose rates are hardly known: "
                f"{_listed(small)}."
            )
        if split.n_unknown:
            sentences.append(
                f"{key}: {split.n_unknown} rows of unknown group count in accuracy "
                "and balanced accuracy only."
            )
    for name in table.index:
        parity = METRICS[name].parity
        low, high = (table.loc[name, (DIFFERENCE, s)] for s in ("low", "high"))
        if (parity == 0 and low > 0) or (parity == 1 and high < 0):
            values = [table.loc[name, (key, "value")] for key in ("train", "test")]
            sentences.append(
                f"{name} is {values[0]:.3f} on train and {values[1]:.3f} on test rows: "
                "further from parity where rows were not seen (difference "
                f"{values[1] - values[0]:+.3f}, {confidence_level:.0%} interval "
                f"{low:+.3f} to {high:+.3f})."
            )
    return sentences


def _listed(items, limit=5):
    items = list(items)
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def _texts(table):
    """Write each value with its interval."""
    signed = (DIFFERENCE, VERSUS)
    columns = {}
    for key in table.columns.unique(0):
        sign = "+" if key in signed else ""
        columns[key] = [
            "not estimable"
            if np.isnan(v)
            else f"{v:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"
            for v, low, high in table[key].to_numpy()
        ]
    return pd.DataFrame(columns, index=table.index)
