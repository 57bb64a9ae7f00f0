"""A table of metrics, one row a group."""

import numpy as np
import pandas as pd
import torch
from fairlearn.metrics import MetricFrame

from fairskorch import rates
from fairskorch.metrics._counts import RATES, lookup
from fairskorch.metrics._inputs import check_rows, count_rows

__all__ = ["group_metrics", "rate_columns"]

#: Columns of `group_metrics` by name: a rate of `RATES`, or what makes one of it.
COLUMNS = {
    "count": None,
    "accuracy": None,
    "balanced_accuracy": None,
    "selection_rate": "selection_rate",
    "true_positive_rate": "true_positive_rate",
    "false_positive_rate": "false_positive_rate",
    "true_negative_rate": "false_positive_rate",
    "false_negative_rate": "true_positive_rate",
}
DEFAULT = list(COLUMNS)[:6]


def group_metrics(y_true, y_pred, *, sensitive_features, metrics=None, pos_label=None):
    """Tabulate metrics by group and over all rows.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels, numbers or strings.
    y_pred : array-like of shape (n_samples,)
        Predicted labels, not scores.
    sensitive_features : array-like of shape (n_samples,) or (n_samples, k)
        Groups; several columns are crossed (combinations that occur). Rows of
        unknown group (``None``, ``NaN``, ``pd.NA``) are left out of every number.
    metrics : list of str, or dict of str to str or callable, optional
        Columns: "count" (rows), "accuracy", "balanced_accuracy" (mean recall over
        classes), "selection_rate", "true_positive_rate", "false_positive_rate",
        "true_negative_rate", "false_negative_rate". A callable takes
        ``(y_true, y_pred)`` of a group, as those of fairlearn's MetricFrame do; a
        list may hold names, callables and dicts of them. By default the first six.
    pos_label : label, optional
        The class that the rates are of: by default the larger of two labels. For
        more than two, each class gets a column, ``true_positive_rate_<label>``.

    Returns
    -------
    table : DataFrame of float64, "count" of int64
        One row a group, named by its label, and a last row "overall" over all rows
        of known group. A MultiIndex with the names of the columns where several are
        crossed. ``nan`` where a group has no row that a rate is computed from.
        ``table.attrs["n_unknown"]`` is the number of rows left out.

    Raises
    ------
    ValueError
        As `demographic_parity_difference`, and for an unknown metric name or two
        columns of one name.

    See Also
    --------
    fairlearn.metrics.MetricFrame : Any metric by group, with control features.

    Examples
    --------
    >>> from fairskorch.metrics import group_metrics
    >>> group_metrics(
    ...     [0, 1, 1, 0, 1], [0, 1, 1, 1, 0],
    ...     sensitive_features=["f", "f", "m", "m", None],
    ...     metrics=["count", "accuracy", "false_positive_rate"],
    ... )
             count  accuracy  false_positive_rate
    group
    f            2      1.00                  0.0
    m            2      0.50                  1.0
    overall      4       0.75                 0.5
    """
    wanted = _wanted(DEFAULT if metrics is None else metrics)
    # Only rates of one class against the rest need to know which class that is.
    named = [entry for entry in wanted.values() if isinstance(entry, str)]
    counts = count_rows(
        y_true,
        y_pred,
        sensitive_features,
        owner="group_metrics",
        pos_label=pos_label,
        needs_positive=any(COLUMNS[name] for name in named),
    )
    both = with_overall(counts.statistic)
    columns = {}
    for title, entry in wanted.items():
        if isinstance(entry, str):
            found = rate_columns(entry, both, counts.classes, counts.positive)
            for name, (values, _) in found.items():
                columns[title + name[len(entry) :]] = values
        else:
            columns[title] = _apply(entry, y_true, y_pred, sensitive_features, counts)
    index = overall_index(counts.encoder.index())
    table = pd.DataFrame(columns, index=index)
    if "count" in wanted.values():
        titles = [t for t, entry in wanted.items() if entry == "count"]
        table = table.astype(dict.fromkeys(titles, np.int64))
    table.attrs["n_unknown"] = counts.n_unknown
    return table


def rate_columns(name, statistic, classes, positive):
    """Values and rows behind them of a column, by group.

    Returns
    -------
    columns : dict of str to (ndarray, ndarray), each of shape (n_groups,)
        One entry, or one a class, the label appended to the name. ``nan`` where
        there is no row.
    """
    size = statistic[..., 0].sum(-1)
    if name == "count":
        return {name: (size.numpy(), size.numpy())}
    if name == "balanced_accuracy":
        recall, present = rates.true_positive_rates(statistic)
        value = torch.where(present, recall, torch.nan).mean(-2)
        return {name: (value.numpy(), size.numpy())}
    function, rows = RATES[COLUMNS[name] or name]
    values = function(statistic).rates
    trials = rows(statistic).expand_as(values)
    values = torch.where(trials > 0, values, torch.nan)
    if name in ("true_negative_rate", "false_negative_rate"):
        values = 1 - values
    if name == "accuracy":
        titles, codes = [name], [0]
    elif positive is None:
        titles, codes = [f"{name}_{c}" for c in classes], range(len(classes))
    else:
        titles, codes = [name], [positive]
    return {
        title: (values[code].numpy(), trials[code].numpy())
        for title, code in zip(titles, codes, strict=True)
    }


def with_overall(statistic):
    """Append the sum over groups as a last group."""
    return torch.cat([statistic, statistic.sum(-3, keepdim=True)], dim=-3)


def overall_index(index):
    """Append the label "overall" to an index of groups."""
    if isinstance(index, pd.MultiIndex):
        last = ("overall",) * index.nlevels
        return pd.MultiIndex.from_tuples([*index, last], names=index.names)
    return pd.Index([*index, "overall"], name=index.name, dtype=object)


def _wanted(metrics):
    """Bring the ways to ask for columns into one dict of title to name or callable."""
    if isinstance(metrics, str) or callable(metrics):
        metrics = [metrics]
    if isinstance(metrics, dict):
        metrics = [metrics]
    wanted = {}
    for entry in metrics:
        if not isinstance(entry, dict):
            entry = {getattr(entry, "__name__", entry): entry}
        for title, column in entry.items():
            if wanted.setdefault(title, column) != column:
                raise ValueError(
                    f"metrics of group_metrics has two columns called {title!r}; name "
                    "them with a dict of title to metric."
                )
    for entry in wanted.values():
        if not callable(entry):
            lookup(entry, COLUMNS, "metric of group_metrics")
    return wanted


def _apply(function, y_true, y_pred, sensitive_features, counts):
    """Call a function of labels on the rows of each group and on all of them."""
    y_true, y_pred, frame = check_rows(
        y_true, y_pred, sensitive_features, "group_metrics"
    )
    groups = counts.encoder.transform(frame)
    known = groups >= 0
    frame = MetricFrame(
        metrics=function,
        y_true=y_true[known],
        y_pred=y_pred[known],
        sensitive_features=groups[known],
    )
    return np.append(np.asarray(frame.by_group, dtype=float), float(frame.overall))
