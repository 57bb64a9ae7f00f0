"""Every metric of this package as a function of counts, for all draws at once."""

from typing import NamedTuple

import torch

from fairskorch import rates
from fairskorch._names import did_you_mean

__all__ = ["METRICS", "Metric", "compared_rates", "from_counts", "lookup"]


class Metric(NamedTuple):
    """What a metric is made of.

    Attributes
    ----------
    rates : tuple of str
        The rates of a group that it reads, names of `RATES`.
    compare : {"difference", "ratio", "smallest", "overall"}
        Largest minus smallest rate over groups, smallest by largest, the smallest
        itself, or the rate of all rows, groups aside.
    average : bool
        Whether several rates of a class are averaged before classes are joined.
    """

    rates: tuple
    compare: str
    average: bool = False

    @property
    def sign(self):
        """Direction: -1 where smaller values are better, 1 where greater are."""
        return -1 if self.compare == "difference" else 1

    @property
    def parity(self):
        """Value where all groups are alike; None where the metric is no comparison."""
        return {"difference": 0, "ratio": 1}.get(self.compare)

    @property
    def one_vs_rest(self):
        """Whether the metric takes each class against the rest."""
        return bool({"accuracy", "recall"}.isdisjoint(self.rates))


_ODDS = ("true_positive_rate", "false_positive_rate")

#: The metrics by name.
METRICS = {
    "demographic_parity_difference": Metric(("selection_rate",), "difference"),
    "demographic_parity_ratio": Metric(("selection_rate",), "ratio"),
    "equal_opportunity_difference": Metric(("true_positive_rate",), "difference"),
    "equalized_odds_difference": Metric(_ODDS, "difference"),
    "equalized_odds_ratio": Metric(_ODDS, "ratio"),
    "average_odds_difference": Metric(_ODDS, "difference", average=True),
    "accuracy_difference": Metric(("accuracy",), "difference"),
    "worst_group_accuracy": Metric(("accuracy",), "smallest"),
    "worst_cell_accuracy": Metric(("recall",), "smallest"),
    "accuracy": Metric(("accuracy",), "overall"),
    "balanced_accuracy": Metric(("recall",), "overall"),
}


def lookup(name, names=METRICS, owner="metric"):
    """Return the entry of a name, or say which name was probably meant."""
    if isinstance(name, str) and name in names:
        return names[name]
    raise ValueError(f"Unknown {owner} {name!r}.{did_you_mean(name, names)}")


def _hits_as_value(statistic):
    """Statistic of the one value "was predicted right"."""
    hits = statistic[..., 1:].diagonal(dim1=-2, dim2=-1)
    return torch.stack([statistic[..., 0], hits], dim=-1)


def _size(statistic):
    return statistic[..., 0].sum(-1).unsqueeze(-2)


def _own(statistic):
    return statistic[..., 0].transpose(-1, -2)


#: For each rate: its values by class and group, and the rows it is estimated from.
RATES = {
    "selection_rate": (rates.mean_values, _size),
    "true_positive_rate": (rates.true_positive_rates, _own),
    "false_positive_rate": (
        rates.false_positive_rates,
        lambda statistic: _size(statistic) - _own(statistic),
    ),
    "accuracy": (lambda s: rates.mean_values(_hits_as_value(s)), _size),
    "recall": (rates.true_positive_rates, _own),
}


def compared_rates(name, statistic, positive=None):
    """Rates of each group that a metric compares, and the rows behind them.

    Parameters
    ----------
    name : str
        A metric of `METRICS`.
    statistic : Tensor of shape (..., n_groups, n_classes, 1 + n_classes)
        Counts as `fairskorch.rates.confusion_statistics` returns them.
    positive : int, optional
        See `from_counts`.

    Returns
    -------
    rates, trials : Tensor of shape (..., n_rates, n_compared_classes, n_groups)
        float64; a rate of no row is 0. For the metrics "accuracy" and
        "balanced_accuracy" all rows are one group.
    """
    metric = lookup(name)
    statistic = statistic.double()
    n_classes = statistic.shape[-2]
    if metric.compare == "overall":
        statistic = statistic.sum(-3, keepdim=True)
    if positive is None and n_classes == 2:
        positive = 1
    values, trials = [], []
    for rate in metric.rates:
        function, rows = RATES[rate]
        value = function(statistic).rates
        count = rows(statistic).expand_as(value)
        if metric.one_vs_rest and positive is not None:
            value = value[..., positive : positive + 1, :]
            count = count[..., positive : positive + 1, :]
        values.append(value)
        trials.append(count)
    return torch.stack(values, dim=-3), torch.stack(trials, dim=-3)


def from_counts(name, statistic, *, agg="max", positive=None):
    r"""Compute a metric from counts of hard predictions, for all draws at once.

    Every other way to a number in this package (a scalar function, a scorer, an
    epoch of training, a draw of a bootstrap) ends here.

    Parameters
    ----------
    name : str
        One of the scalar functions of `fairskorch.metrics`, "accuracy" or
        "balanced_accuracy" (the mean recall over the classes that occur).
    statistic : Tensor of shape (..., n_groups, n_classes, 1 + n_classes)
        Counts, or sums of weights, by group, true class and predicted class as
        `fairskorch.rates.confusion_statistics` returns them. They add up: the sum
        of the statistics of batches is the statistic of an epoch.
    agg : {"max", "mean"}, default="max"
        How the rates and classes that a metric compares become one number: the
        worst of them (the largest difference, the smallest ratio) or their mean.
    positive : int, optional
        Code of the class to compare with the rest. By default the class of code 1
        where there are two, and each class in turn where there are more.

    Returns
    -------
    value : Tensor of shape (...), float64
        ``nan`` where a group that has rows has none for a rate that is compared,
        or where fewer than two groups have rows to compare. A group without any
        row is left out. Nothing warns here; the scalar functions do.

    Raises
    ------
    ValueError
        For an unknown `name` or `agg`.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.metrics import from_counts
    >>> from fairskorch.rates import confusion_statistics
    >>> target = torch.tensor([0, 1, 1, 0, 1, 1])
    >>> predicted = torch.tensor([0, 1, 1, 0, 1, 0])
    >>> groups = torch.tensor([0, 0, 0, 1, 1, 1])
    >>> counts = confusion_statistics(target, predicted, groups, 2, 2)
    >>> from_counts("equalized_odds_difference", counts)
    tensor(0.5000, dtype=torch.float64)
    """
    metric = lookup(name)
    worst = _is_worst(agg)
    values, trials = compared_rates(name, statistic, positive)
    present = trials > 0
    nan = torch.full_like(values[..., 0, 0, 0], torch.nan)
    if metric.compare == "overall":
        known = torch.where(present, values, torch.nan)
        return known.flatten(-3).nanmean(-1)

    here = (_size(statistic) > 0).unsqueeze(-3).expand_as(present)
    if metric.compare == "smallest":
        wanted = here & present.any(-1, keepdim=True)
        lowest = values.masked_fill(~wanted, torch.inf).flatten(-3).amin(-1)
        bad = (wanted & ~present).flatten(-3).any(-1) | ~wanted.flatten(-3).any(-1)
        return torch.where(bad, nan, lowest)

    bad = (here & ~present).any(-1) | (here.sum(-1) < 2)
    if metric.compare == "difference":
        joined = rates.gaps(values, here)
        if metric.average:
            joined = joined.mean(-2, keepdim=True)
        joined = joined.flatten(-2)
        joined = joined.amax(-1) if worst else joined.mean(-1)
    else:
        top = values.amax(-1)
        bottom = values.masked_fill(~here, torch.inf).amin(-1)
        # 0 / 0 compares nothing: such a rate leaves the join, as in fairlearn.
        defined = (top > 0).flatten(-2)
        ratios = (bottom / torch.where(top > 0, top, 1.0)).flatten(-2)
        if worst:
            joined = ratios.masked_fill(~defined, torch.inf).amin(-1)
        else:
            total = torch.where(defined, ratios, 0.0).sum(-1)
            joined = total / defined.sum(-1).clamp(min=1)
        joined = torch.where(defined.any(-1), joined, nan)
    return torch.where(bad.flatten(-2).any(-1), nan, joined)


def _is_worst(agg):
    """Tell the worst from the mean; fairlearn's word for the first is known too."""
    if agg not in ("max", "worst_case", "mean"):
        raise ValueError(f"agg must be 'max' or 'mean'; got {agg!r}.")
    return agg != "mean"


def reasons(name, statistic, groups, classes, positive=None, limit=5):
    """Say in words why a metric of one statistic is ``nan``.

    Parameters
    ----------
    name, statistic, positive
        As of `from_counts`, without leading dimensions.
    groups, classes : sequence
        Labels in code order.
    limit : int, default=5
        How many empty cells are named; the rest is counted.

    Returns
    -------
    reasons : list of str
        Clauses without a full stop; empty where nothing is wrong.
    """
    metric = lookup(name)
    values, trials = compared_rates(name, statistic, positive)
    size = _size(statistic).flatten()
    if metric.compare == "overall":
        return [] if size.sum() > 0 else ["there is no row"]
    shown = classes
    if metric.one_vs_rest and (positive is not None or len(classes) == 2):
        shown = [classes[1 if positive is None else positive]]
    here = (size > 0).expand_as(trials)
    clauses = []
    if metric.compare != "smallest" and int((size > 0).sum()) < 2:
        only = [repr(groups[i]) for i in torch.nonzero(size > 0).flatten().tolist()]
        clauses.append(
            f"only the group {only[0]} has rows, so there is nothing to compare"
            if only
            else "no group has rows"
        )
    elif not bool((size > 0).any()):
        clauses.append("no group has rows")
    empty = here & (trials == 0)
    if metric.compare == "smallest":
        empty = empty & (trials > 0).any(-1, keepdim=True)
    cells = torch.nonzero(empty).tolist()
    named = [
        _empty_cell(metric.rates[rate], shown[label], groups[group], classes)
        for rate, label, group in cells[:limit]
    ]
    if len(cells) > limit:
        named.append(f"and {len(cells) - limit} more")
    clauses += named
    if metric.compare == "ratio" and not clauses and not bool((values > 0).any()):
        clauses.append(f"{' and '.join(metric.rates)} are 0 in every group")
    return clauses


def _empty_cell(rate, label, group, classes):
    """Name the rows that are missing for a rate."""
    if rate != "false_positive_rate":
        return f"no row of class {label!r} in group {group!r}"
    if len(classes) == 2:
        other = next(c for c in classes if c != label)
        return f"no row of class {other!r} in group {group!r}"
    return f"no row of a class other than {label!r} in group {group!r}"
