"""From the weights that a game kept to the classifier that is deployed."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from fairskorch._mixtures import best_iterate, shrink
from fairskorch.constraints._measures import excess_of, interval_of, value_of

#: Candidates that are counted on all rows where rounds read a part of them.
CANDIDATES = 6

#: How much tighter bounds are for some of the candidates.
MARGINS = (0.0, 0.02)

#: Violations up to this are no matter: less than what a few rows make.
FEASIBLE = 1e-3


class Candidates(NamedTuple):
    """Networks among which to choose, with what they do on the same rows.

    Attributes
    ----------
    numbers : ndarray of int
        Places in the store.
    objectives : ndarray of shape (n,)
        Weighted share of wrong predictions.
    offsets : ndarray of shape (n, n_forms)
        Forms at free levels of 0, those of slack at their own.
    violations : ndarray of shape (n,)
        Largest form, each by the root of its share.
    """

    numbers: np.ndarray
    objectives: np.ndarray
    offsets: np.ndarray
    violations: np.ndarray


def candidates(game, numbers, sums):
    """Judge networks by what `ConstraintGame.sums` returned for each.

    Parameters
    ----------
    game : ConstraintGame
    numbers : ndarray of int
    sums : Tensor of shape (n, 1 + n_groups, n_classes, n_sums)

    Returns
    -------
    candidates : Candidates
    """
    forms = game.forms
    sums = sums.to(forms.constants.device)
    rates = forms.rates(game.counted(sums))
    offsets = forms.offsets(rates)
    levels = forms.free_levels(offsets)
    for numbers_, owed in _owed(forms, offsets):
        levels[:, numbers_] = owed
        slack = torch.isin(forms.levels, numbers_) & (forms.slopes != 0)
        offsets = offsets + slack * forms.slopes * levels[:, forms.levels]
        levels[:, numbers_] = 0
    weight, wrong = sums[..., -2].sum((-2, -1)), sums[..., -1].sum((-2, -1))
    # What a rare cell is left by tells less.
    values = forms.values(offsets, levels) * forms.shares.sqrt()
    return Candidates(
        np.asarray(numbers),
        (wrong / weight).cpu().numpy(),
        offsets.cpu().numpy(),
        values.amax(-1).cpu().numpy(),
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


def mix(game, found, margin=0.0):
    """Return the weights of the least wrong mixture that keeps all bounds."""
    forms = game.forms
    slopes = (forms.slopes * forms.free[forms.levels]).cpu().numpy()
    return shrink(
        found.objectives,
        found.offsets + margin,
        forms.levels.cpu().numpy(),
        slopes,
        forms.n_levels,
        forms.shares.sqrt().cpu().numpy(),
    )


def shortlist(game, found):
    """Return the places in the store of those that may be members in the end."""
    chosen = [best_iterate(found.objectives, found.violations)]
    chosen.append(int(found.violations.argmin()))
    for margin in MARGINS:
        chosen += np.flatnonzero(mix(game, found, margin)).tolist()
    return found.numbers[list(dict.fromkeys(chosen))[:CANDIDATES]]


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


def violations(game, measures, parts, random_state):
    """Return what each constraint comes to on some parts of the rows.

    Parameters
    ----------
    game : ConstraintGame
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
    forms, n_values = game.forms, game.forms.columns.n_values
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
