"""From the weights that a game kept to the classifier that is deployed."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from fairskorch._mixtures import best_iterate, shrink
from fairskorch.constraints._measures import excess_of, interval_of, value_of

#: Networks that are counted on all rows at most, unless more are members at first.
CANDIDATES = 6

#: Violations up to this are no matter: less than what a few rows make.
FEASIBLE = 1e-3


class Candidates(NamedTuple):
    """Networks among which to choose, with what they do on the same rows.

    Attributes
    ----------
    objectives : ndarray of shape (n,)
        Weighted share of wrong predictions.
    offsets : ndarray of shape (n, n_forms)
        Forms at free levels of 0, those of slack at their own.
    violations : ndarray of shape (n,)
        Largest form, each by the root of its share.
    """

    objectives: np.ndarray
    offsets: np.ndarray
    violations: np.ndarray


def candidates(forms, sums):
    """Judge networks by what `ConstraintGame.sums` returned for each.

    Parameters
    ----------
    forms : Forms
    sums : Tensor of shape (n, 1 + n_groups, n_classes, n_sums)

    Returns
    -------
    candidates : Candidates
    """
    rates = forms.rates(sums[..., : 1 + forms.columns.n_values])
    offsets = forms.offsets(rates)
    levels = forms.free_levels(offsets)
    for numbers, owed in _owed(forms, offsets):
        levels[:, numbers] = owed
        slack = torch.isin(forms.levels, numbers) & (forms.slopes != 0)
        offsets = offsets + slack * forms.slopes * levels[:, forms.levels]
        levels[:, numbers] = 0
    weight, wrong = sums[..., -2].sum((-2, -1)), sums[..., -1].sum((-2, -1))
    # What a rare cell is left by tells less.
    values = forms.values(offsets, levels) * forms.shares.sqrt()
    return Candidates(
        (wrong / weight).numpy(), offsets.numpy(), values.amax(-1).numpy()
    )


def _owed(forms, offsets):
    """Yield the recalls that each constraint on a product demands of all classes.

    In proportion to the candidates' mean recalls, so that it costs them the least.
    """
    for i, product in enumerate(forms.products):
        recalls = -offsets[:, getattr(forms, f"slack_forms_{i}")].mean(0)
        logs = recalls.clamp_min(1e-3).log()
        low, high = torch.zeros_like(logs[:1]), torch.ones_like(logs[:1])
        # Recalls are at most 1: what is cut off there, the others owe in addition.
        low, high = low - 20, high + 20
        for _ in range(60):
            middle = (low + high) / 2
            too_low = (logs + middle).clamp_max(0).sum() < np.log(product)
            low = torch.where(too_low, middle, low)
            high = torch.where(too_low, high, middle)
        yield getattr(forms, f"slack_levels_{i}"), (logs + high).clamp_max(0).exp()


def mixture(forms, found):
    """Return the weights of the least wrong mixture that keeps all bounds."""
    return shrink(
        found.objectives,
        found.offsets,
        forms.levels.numpy(),
        (forms.slopes * forms.free[forms.levels]).numpy(),
        forms.n_levels,
        forms.shares.sqrt().numpy(),
    )


def best(forms, found):
    """Return a weight of 1 for the network whose worse rank is the best."""
    chosen = best_iterate(found.objectives, found.violations)
    return np.eye(len(found.objectives))[chosen]


#: What weights the members get, by the name of `deploy`.
RULES = {"mixture": mixture, "best": best}


def choose(forms, rule, sums, n_rows, count):
    """Choose members, all of them counted on all rows.

    Rounds read a part of the rows, and stored weights are rounded: what they told of
    a network holds until it is counted. Those that are chosen are, until the choice
    among counted ones keeps its bounds as well and is no more wrong than by a standard
    error of what rounds saw: to look further would be to chase noise.

    Parameters
    ----------
    forms : Forms
        On the CPU.
    rule : callable
        One of `RULES`.
    sums : Tensor of shape (n, 1 + n_groups, n_classes, n_sums)
        What rounds told of each network.
    n_rows : int
        Rows that a round read.
    count : callable
        Takes places of networks and returns their sums over all rows.

    Returns
    -------
    numbers : ndarray of int
        Places of the members.
    weights : ndarray of float
        Of each.
    sums : Tensor
        Of each, over all rows.
    """
    sums, counted = sums.clone(), []
    while True:
        found = candidates(forms, sums)
        weights = rule(forms, found)
        chosen = np.argsort(-weights, kind="stable")[: np.count_nonzero(weights)]
        new = [i for i in chosen.tolist() if i not in counted]
        if not new:
            break
        room = max(CANDIDATES - len(counted), 0) if counted else len(new)
        if counted:
            wanted, weights = weights, np.zeros(len(sums))
            weights[counted] = rule(forms, candidates(forms, sums[counted]))
            if not room or _as_good(forms, found, weights, wanted, n_rows):
                break
        sums[new[:room]] = count(new[:room])
        counted += new[:room]
    numbers = np.flatnonzero(weights)
    return numbers, weights[numbers], sums[numbers]


def _as_good(forms, found, weights, wanted, n_rows):
    """Tell whether a mixture is as good as one of which less is known."""
    wrong, least = weights @ found.objectives, wanted @ found.objectives
    weight = forms.shares.sqrt()
    left, less = (
        float((forms.values(offsets, forms.free_levels(offsets)) * weight).max())
        for offsets in torch.as_tensor(np.stack([weights, wanted]) @ found.offsets)
    )
    error = np.sqrt(least * (1 - least) / n_rows)
    return wrong <= least + error and left <= max(less, 0) + FEASIBLE


def expected_sums(sums, weights):
    """Return the sums that a randomised classifier has in expectation.

    Parameters
    ----------
    sums : Tensor of shape (n_members, ...)
    weights : ndarray of shape (n_members,)

    Returns
    -------
    sums : Tensor
    """
    return torch.tensordot(torch.as_tensor(weights, dtype=sums.dtype), sums, 1)


def violations(forms, measures, parts, random_state):
    """Return what each constraint comes to on some parts of the rows.

    Parameters
    ----------
    forms : Forms
        On the CPU.
    measures : list of Measure
    parts : dict of str to Tensor or None
        Expected sums of each part, None where it has no row.
    random_state : int

    Returns
    -------
    table : DataFrame
        One row for each part and constraint; columns ``value``, ``bound``,
        ``violation`` (above 0 where the bound is left) and the limits ``low`` and
        ``high`` of the violation.
    """
    n_values = forms.columns.n_values
    rng = np.random.default_rng(random_state)
    rows = []
    for part, sums in parts.items():
        for measure in measures:
            row = {"part": part, "constraint": measure.name, "bound": measure.bound}
            rows.append(row)
            if sums is None:
                row.update(dict.fromkeys(("value", "violation", "low", "high"), np.nan))
                continue
            statistic = sums[..., : 1 + n_values]
            squares = torch.cat([sums[..., :1], sums[..., 1 + n_values : -2]], -1)
            value = float(value_of(measure, forms.rates(statistic)))
            limits = interval_of(measure, forms, statistic, squares, 0.95, rng)
            ends = sorted(excess_of(measure, float(x)) for x in limits)
            row.update(value=value, violation=excess_of(measure, value))
            row.update(low=ends[0], high=ends[1])
    columns = ["part", "constraint", "value", "bound", "violation", "low", "high"]
    return pd.DataFrame(rows, columns=columns).set_index(["part", "constraint"])
