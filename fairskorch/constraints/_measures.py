"""The number that a user bounds, from rates, and its interval from counts."""

import numpy as np
import torch
from scipy.stats import norm

from fairskorch.intervals import Interval, difference_interval, rate_interval

#: Draws of the bootstrap of cells, for numbers that are no comparison of groups.
DRAWS = 1000

#: Kinds that are kept by being large.
FROM_BELOW = ("f", "g")


def value_of(measure, rates):
    """Return the number that a constraint bounds, for all leading dimensions.

    Parameters
    ----------
    measure : Measure
    rates : Tensor of shape (..., n_groups + 2, n_rates)
        As `Forms.rates` returns them.

    Returns
    -------
    value : Tensor of shape (...)
        ``nan`` where no group has a rate to compare.
    """
    kind = measure.kind
    found = [_at(rates, rate, places) for rate, places in measure.rates]
    found = [r for r in found if r.shape[-1]]
    if not found:
        return torch.full(rates.shape[:-2], torch.nan, dtype=rates.dtype)
    if kind == "gap":
        parts = [r.amax(-1) - r.amin(-1) for r in found]
    elif kind == "ratio":
        parts = [_lack(r.amin(-1), r.amax(-1)) for r in found]
    elif kind == "largest":
        parts = [r.amax(-1) for r in found]
    elif kind == "f":
        (*hits,), (*said,) = found[::2], found[1::2]
        parts = [
            -(2 * h / (1 + s)).squeeze(-1) for h, s in zip(hits, said, strict=True)
        ]
    elif kind == "g":
        product = torch.stack([r.squeeze(-1) for r in found]).prod(0)
        parts = [-(product ** (1 / len(found)))]
    else:
        ratio = 1.0 if kind == "difference" else float(kind.partition(" ")[2])
        known = rates.shape[-2] - 2
        parts = []
        for rate, places in measure.rates:
            if len(places):
                own, all_ = _at(rates, rate, places), rates[..., known, rate, None]
                parts += [(ratio * own - all_).amax(-1), (ratio * all_ - own).amax(-1)]
    value = torch.stack(parts).amax(0)
    return -value if kind in FROM_BELOW else value


def excess_of(measure, value):
    """Return by how much a number leaves its bound: at most 0 where it is kept."""
    return (
        measure.bound - value if measure.kind in FROM_BELOW else value - measure.bound
    )


def interval_of(measure, forms, statistic, squares, confidence_level, rng):
    """Return the limits of the number that a constraint bounds.

    Rates have Wilson's limits, mean losses normal ones; differences follow as in
    `fairskorch.intervals`, for all comparisons at once in their lower limit. Numbers
    that compare no groups have a bootstrap's limits.

    Parameters
    ----------
    measure : Measure
    forms : Forms
        On the CPU.
    statistic : Tensor of shape (1 + n_groups, n_classes, 1 + n_values)
        Counts and sums, expected ones of a mixture.
    squares : Tensor of shape (1 + n_groups, n_classes, 1 + n_values)
        Sums of squared values.
    confidence_level : float
    rng : numpy.random.Generator

    Returns
    -------
    low, high : float
    """
    tail = 1 - confidence_level
    rates, bases = forms.rates(statistic), forms.bases_of(statistic)
    spread = (forms.rates(squares) - rates**2).clamp_min(0).sqrt().numpy()
    value = float(value_of(measure, rates))
    if not np.isfinite(value):
        return Interval(np.nan, np.nan)
    if measure.kind in FROM_BELOW or not _compares(measure, forms):
        low, high = _bootstrap(measure, forms, statistic, tail, rng)
        return Interval(min(low, value), max(high, value))
    many = sum(len(p) * max(len(p) - 1, 1) for _, p in measure.rates)
    lows, highs = [], []
    for rate, places in measure.rates:
        if not len(places):
            continue
        mean, n = (x[places, rate].numpy() for x in (rates, bases))
        # The side that is a claim of disparity holds for all comparisons at once.
        for level, ends, side in (
            (1 - 2 * tail / 2 / max(many, 2), lows, 0),
            (confidence_level, highs, 1),
        ):
            limits = _limits(mean, n, spread[places, rate], level, forms.is_score[rate])
            if measure.kind == "gap":
                found = _pairs(mean, limits)[side]
            elif measure.kind == "largest":
                found = limits[side]
            elif measure.kind == "ratio":
                found = _ratios(limits)[side]
            else:
                rest = _rest(statistic, forms, rate, places)
                found = _against_rest(measure, mean, n, limits, rest, level)[side]
            ends.append(found.max())
    low = max(lows) if measure.kind in ("largest", "ratio") else max(0, max(lows))
    return Interval(min(low, value), max(max(highs), value))


def _at(rates, rate, places):
    return rates[..., torch.as_tensor(np.asarray(places, int)), rate]


def _lack(low, high):
    return torch.where(high > 0, 1 - low / torch.where(high > 0, high, 1.0), 0.0)


def _compares(measure, forms):
    return all(max(places, default=0) < forms.n_groups for _, places in measure.rates)


def _limits(mean, n, spread, level, is_score):
    if is_score:
        return rate_interval(np.clip(mean, 0, 1), n, level)
    half = norm.isf((1 - level) / 2) * spread / np.sqrt(np.maximum(n, 1))
    return Interval(mean - half, mean + half)


def _pairs(mean, limits):
    """Return the limits of all differences of two groups, those with itself 0."""
    first = [x[:, None] for x in (mean, *limits)]
    second = [x[None] for x in (mean, *limits)]
    low, high = difference_interval(first[0], first[1:], second[0], second[1:])
    same = np.eye(len(mean), dtype=bool)
    return np.where(same, 0, low), np.where(same, 0, high)


def _ratios(limits):
    """Return the limits of one minus the ratio of two groups, at their worst."""
    low, high = (np.asarray(x) for x in limits)
    with np.errstate(divide="ignore", invalid="ignore"):
        least = 1 - high[:, None] / low[None]
        most = 1 - low[:, None] / high[None]
    same = np.eye(len(low), dtype=bool)
    clean = [np.nan_to_num(np.clip(x, 0, 1), nan=0.0) for x in (least, most)]
    return tuple(np.where(same, 0, x) for x in clean)


def _rest(statistic, forms, rate, places):
    """Return the rate of all rows of known group but those of each place."""
    known = statistic.clone()
    known[0] = 0
    sums = forms.rates(known) * forms.bases_of(known)
    bases = forms.bases_of(known)
    all_sum, all_n = sums[forms.n_groups, rate], bases[forms.n_groups, rate]
    n = all_n - bases[places, rate]
    mean = (all_sum - sums[places, rate]) / n.clamp_min(1)
    return mean.numpy(), n.numpy()


def _against_rest(measure, mean, n, limits, rest, level):
    """Return the limits of how far groups are from all rows, themselves among them."""
    others, n_others = rest
    share = n_others / (n + n_others)
    theirs = rate_interval(np.clip(others, 0, 1), n_others, level)
    low, high = (
        np.nan_to_num(share * x)
        for x in difference_interval(mean, limits, others, theirs)
    )
    if measure.kind == "difference":
        return np.maximum(low, -high), np.maximum(high, -low)
    # rho r - r_all = (r - r_all) - (1 - rho) r, and the reverse for the other side.
    ratio = float(measure.kind.partition(" ")[2])
    all_ = share * others + (1 - share) * mean
    above = low - (1 - ratio) * mean, high - (1 - ratio) * mean
    below = -high - (1 - ratio) * all_, -low - (1 - ratio) * all_
    return np.maximum(above[0], below[0]), np.maximum(above[1], below[1])


def _bootstrap(measure, forms, statistic, tail, rng):
    """Return quantiles over draws of the cells' sums, each value a Bernoulli one."""
    counts = statistic[..., :1].numpy()
    chance = np.clip(statistic[..., 1:].numpy() / np.maximum(counts, 1), 0, 1)
    shape = (DRAWS, *chance.shape)
    draws = rng.binomial(
        np.broadcast_to(counts, chance.shape).astype(int), chance, shape
    )
    drawn = torch.as_tensor(
        np.concatenate([np.broadcast_to(counts, (*shape[:-1], 1)), draws], -1)
    )
    values = value_of(measure, forms.rates(drawn.double())).numpy()
    return np.nanquantile(values, [tail / 2, 1 - tail / 2])
