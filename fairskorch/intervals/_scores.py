"""Metrics of scores by group, with a bootstrap of weights.

A draw gives every row, or every subject, a random weight of mean 1 (the Bayesian
bootstrap); a metric of a draw is then a ratio of weighted sums, and the sums of many
draws are one sparse product. Rows that the sums cannot tell apart share a weight of
their own size, so that a million rows cost as much as some thousands.

The draws give the variance of a metric in each group, not its interval: an area under
the curve of 1, or a gap of 0, has draws that never leave it. The variance becomes a
number of rows that would give it to a rate, and from there on everything is as for
rates (Wilson, Newcombe, projection).
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.stats import norm
from scipy.stats import t as student

from fairskorch.intervals._rates import Interval, difference_interval, wilson

__all__ = ["SCORE_RATES", "ScoreRate", "score_change", "score_rates"]

#: What is computed of scores, in [0, 1] each: 1 is best for the first, 0 for others.
SCORE_RATES = ("roc_auc", "brier_score", "calibration_error")

#: Bins of equal width between which calibration is compared.
CALIBRATION_BINS = 10

#: Ranks that draws tell apart, with one classifier and with two.
RANKS = {1: 512, 2: 64}

#: Rows above which those of equal ranks share a weight.
MANY_ROWS = 20_000

#: Numbers held at a time.
CHUNK = 2**22

#: Rows of each class, or of each outcome, added to a group in a draw.
ADDED = 0.5

#: Rows of each class that an area needs, and rows of a group that the others need.
FEWEST = 5


class ScoreRate(NamedTuple):
    """A metric of scores in each group, over rows of known group, and over all.

    Attributes
    ----------
    value : ndarray of shape (n_groups + 2,), float64
        ``nan`` where it is not estimable.
    limits : callable
        From a number of standard errors to two arrays of the shape of `value`.
    draws : ndarray of shape (n_draws, n_groups + 2), or None
        Kept where two classifiers can be compared draw by draw.
    """

    value: np.ndarray
    limits: object
    draws: np.ndarray | None


def score_rates(
    names, columns, true, groups, n_groups, *, positive, subjects, n_boot, rng
):
    """Compute metrics of the scores of one or more classifiers, on the same draws.

    Parameters
    ----------
    names : collection of str
        Of `SCORE_RATES`.
    columns : list of ndarray of shape (n_samples, n_classes) or (n_samples,)
        Probabilities of each classifier; one dimension for scores of the class
        `positive` that have no scale, of which only the area is computed.
    true, groups : ndarray of shape (n_samples,), int64
        Codes; -1 for a row of unknown group, which counts over all rows only.
    n_groups : int
    positive : int or None
        The class whose scores are used; None for each class in turn (the area) and
        for the most probable one (calibration).
    subjects : ndarray of shape (n_samples,), int64, or None
        Codes of subjects, who are drawn instead of rows.
    n_boot : int
    rng : numpy.random.Generator

    Returns
    -------
    rates : list of dict of str to ScoreRate
        One a classifier.
    """
    spots = np.where(groups >= 0, groups, n_groups)
    parts = [_Classifier(names, c, true, positive, len(columns)) for c in columns]
    units, counts = _units(parts, true, spots, subjects)
    sums = _Sums(spots, n_groups + 2, units, len(counts), subjects is not None)
    prepared = [
        {
            name: _METRICS[name](part, sums)
            for name in names
            if part.scaled or name == "roc_auc"
        }
        for part in parts
    ]
    widest = max(
        [len(counts), *(m.width for found in prepared for m in found.values())]
    )
    step = max(1, CHUNK // widest)
    for start in range(0, n_boot, step):
        size = min(step, n_boot - start)
        weights = rng.standard_gamma(counts[:, None], (len(counts), size))
        weights /= counts[:, None]
        total = sums.draw(sums.rows, weights)
        # Both classifiers get the same rows added.
        added = rng.standard_gamma(ADDED, (4, n_groups + 1, size))
        added = np.concatenate([added, added[:, -1:]], 1) * sums.alike[:, None]
        for found in prepared:
            for metric in found.values():
                metric.draw(weights, total, added)
    return [{k: m.result() for k, m in found.items()} for found in prepared]


def score_change(name, a, b):
    """Return the change from b to a in each group, and its limits as a callable."""
    change = a.value - b.value

    def limits(z):
        (low_a, high_a), (low_b, high_b) = a.limits(z), b.limits(z)
        if name == "calibration_error":
            return difference_interval(
                a.value, (low_a, high_a), b.value, (low_b, high_b), 0
            )
        x, y = a.draws - a.draws.mean(0), b.draws - b.draws.mean(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            rho = (x * y).sum(0) / np.sqrt((x**2).sum(0) * (y**2).sum(0))
        rho = np.nan_to_num(rho)
        down, up = a.value - low_a, high_a - a.value
        down_b, up_b = b.value - low_b, high_b - b.value
        below = down**2 + up_b**2 - 2 * rho * down * up_b
        above = up**2 + down_b**2 - 2 * rho * up * down_b
        return Interval(
            change - np.sqrt(np.maximum(below, 0)),
            change + np.sqrt(np.maximum(above, 0)),
        )

    return change, limits


class _Classifier:
    """The scores of one classifier, as each metric reads them."""

    def __init__(self, names, scores, true, positive, n_classifiers):
        self.scaled = scores.ndim == 2
        if scores.ndim == 1:
            scores = scores[:, None]
            hits = (true == positive)[:, None]
        elif positive is not None:
            hits = (true == positive)[:, None]
            scores = scores[:, [positive]]
        else:
            hits = true[:, None] == np.arange(scores.shape[1])
        self.scores, self.hits = scores, hits
        if "roc_auc" in names:
            n_ranks = RANKS[min(n_classifiers, 2)]
            self.ranks = [_ranks(column, n_ranks) for column in scores.T]
        if positive is None:
            # Half, so that it is in [0, 1] as for two classes.
            self.squares = ((scores - hits) ** 2).sum(1) / 2
            top = scores.argmax(1)
            confidence, outcome = scores.max(1), hits[np.arange(len(top)), top]
        else:
            confidence, outcome = scores[:, 0], hits[:, 0]
            self.squares = (confidence - outcome) ** 2
        self.confidence, self.excess = confidence, confidence - outcome
        places = np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1
        self.bins = np.clip(places, 0, CALIBRATION_BINS - 1)


def _ranks(scores, most):
    """Code scores by their order, those of neighbours alike if there are too many."""
    codes, levels = pd.factorize(scores, sort=True)
    if len(levels) <= most:
        return codes.astype(np.int64)
    place = np.bincount(codes).cumsum()[codes] - 1
    return (place * most) // len(scores)


def _units(parts, true, spots, subjects):
    """Say which rows share a weight, and how many do."""
    if subjects is not None:
        codes, _ = pd.factorize(subjects)
        return codes, np.ones(codes.max() + 1)
    if len(true) <= MANY_ROWS:
        return np.arange(len(true)), np.ones(len(true))
    codes = spots * (true.max() + 1) + true
    for part in parts:
        for ranks in (*getattr(part, "ranks", []), part.bins):
            codes = pd.factorize(codes * (ranks.max() + 1) + ranks)[0].astype(np.int64)
    return codes, np.bincount(codes).astype(float)


class _Sums:
    """Sums by group of many draws at once.

    Those of unknown group are in the last but one spot, and are replaced there by the
    total of all others; the last spot is the total of all.
    """

    def __init__(self, spots, n_spots, units, n_units, by_subject):
        self.spots, self.n_spots = spots, n_spots
        self.units, self.n_units = units, n_units
        self.rows = self.matrix(np.ones(len(units)))
        self.size = self.draw(self.rows, np.ones((n_units, 1)))[:, 0]
        # How alike the rows of a unit are is not known: they are taken as one.
        self.alike, self.degrees = np.ones(n_spots), np.full(n_spots, np.inf)
        if by_subject:
            squares = self.rows.power(2).sum(axis=1)
            self.degrees = (self.rows > 0).sum(axis=1).astype(float) - 1
            for last in (-2, -1):
                rows = self.rows[:last].sum(axis=0)
                squares[last] = (rows**2).sum()
                self.degrees[last] = (rows > 0).sum() - 1
            with np.errstate(invalid="ignore"):
                self.alike = np.nan_to_num(squares / self.size)

    def matrix(self, values, cells=0, n_cells=1):
        """Prepare the sums of values over groups and cells within them."""
        where = (self.spots * n_cells + cells, self.units)
        shape = self.n_spots * n_cells, self.n_units
        found = csr_array((np.asarray(values, dtype=float), where), shape=shape)
        found.sum_duplicates()
        return found

    def draw(self, matrix, weights, n_cells=None):
        """Return sums of shape (n_groups + 2, n_draws), cells in between if any."""
        found = matrix @ weights
        if n_cells is not None:
            found = found.reshape(self.n_spots, n_cells, -1)
        return _with_totals(found)

    def plain(self, values, cells=0, n_cells=1):
        """Return the sums of the rows themselves."""
        size = self.n_spots * n_cells
        found = np.bincount(self.spots * n_cells + cells, values, size)
        return _with_totals(found.reshape(self.n_spots, n_cells))


def _with_totals(found):
    found[-1] = found[:-1].sum(0)
    found[-2] = found[:-2].sum(0)
    return found


class _Mean:
    """A metric whose limits are those of a rate with the same variance."""

    def __init__(self):
        self.draws = []

    def result(self):
        draws = np.concatenate(self.draws, axis=-1).T
        centre, variance = draws.mean(0), draws.var(0, ddof=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            rows = np.where(variance > 0, centre * (1 - centre) / variance, 0)
        limits = partial(_rate_limits, self.value, np.maximum(rows, 1e-9), self.degrees)
        return ScoreRate(self.value, limits, draws)


class _Area(_Mean):
    """Area under the ROC curve, averaged over classes."""

    def __init__(self, part, sums):
        super().__init__()
        self.sums = sums
        # Of few rows the variance itself is uncertain.
        self.degrees = np.minimum(sums.degrees, sums.size - 2)
        self.n_ranks = [ranks.max() + 1 for ranks in part.ranks]
        self.width = 2 * max(self.n_ranks) * sums.n_spots
        self.matrices, values, few = [], [], np.zeros(sums.n_spots, dtype=bool)
        ones = np.ones(len(part.scores))
        for scores, hits, ranks in zip(
            part.scores.T, part.hits.T, part.ranks, strict=True
        ):
            n_cells = 2 * (ranks.max() + 1)
            cells = hits * (ranks.max() + 1) + ranks
            self.matrices.append(sums.matrix(ones, cells, n_cells))
            values.append(_exact_area(scores, hits, sums))
            counts = sums.plain(ones, hits.astype(np.int64), 2)
            few |= (counts < FEWEST).any(1)
        self.value = np.where(few, np.nan, np.mean(values, axis=0))

    def draw(self, weights, total, added):
        areas = []
        for matrix, n_ranks in zip(self.matrices, self.n_ranks, strict=True):
            masses = self.sums.draw(matrix, weights, 2 * n_ranks)
            below, above = masses[:, :n_ranks], masses[:, n_ranks:]
            # One of each class at either end: half of the pairs they form are wrong.
            for mass, (first, last) in ((below, added[:2]), (above, added[2:])):
                mass[:, 0] += first / 2
                mass[:, -1] += last / 2
            rank = below.cumsum(1) - below / 2
            area = np.einsum("grd,grd->gd", above, rank)
            with np.errstate(invalid="ignore", divide="ignore"):
                areas.append(area / above.sum(1) / below.sum(1))
        self.draws.append(np.mean(areas, axis=0))


class _Brier(_Mean):
    """Mean squared error of the probabilities."""

    def __init__(self, part, sums):
        super().__init__()
        self.sums, self.width, self.degrees = sums, sums.n_spots, sums.degrees
        self.matrix = sums.matrix(part.squares)
        few = sums.size < FEWEST
        mean = sums.plain(part.squares)[:, 0] / np.maximum(sums.size, 1)
        self.value = np.where(few, np.nan, mean)

    def draw(self, weights, total, added):
        found = self.sums.draw(self.matrix, weights)
        self.draws.append((found + added[0]) / (total + added[0] + added[1]))


class _Calibration:
    """Mean over bins of how far confidence is off: a sum of absolute values.

    Noise makes such a sum larger, as it makes a gap. By the triangle inequality it is
    above the truth by no more than the sum of the absolute errors, and below it by
    no more than it varies itself.
    """

    def __init__(self, part, sums):
        self.sums, self.bins = sums, CALIBRATION_BINS
        self.width = sums.n_spots * self.bins
        self.matrix = sums.matrix(part.excess, part.bins, self.bins)
        size = np.maximum(sums.size, 1)[:, None]
        self.found = sums.plain(part.excess, part.bins, self.bins) / size
        rows = sums.plain(np.ones(len(part.bins)), part.bins, self.bins)
        confidence = sums.plain(part.confidence, part.bins, self.bins)
        # Half a row of either outcome in each bin, so that few rows are not sure.
        self.occurs = rows > 0
        self.confidence = confidence / np.maximum(rows, 1)
        few = sums.size < FEWEST
        self.value = np.where(few, np.nan, np.abs(self.found).sum(1))
        self.off, self.sizes = [], []

    def draw(self, weights, total, added):
        found = self.sums.draw(self.matrix, weights, self.bins)
        p = self.confidence[..., None]
        one, none = added[0][:, None], added[1][:, None]
        mean = ADDED * self.sums.alike[:, None, None]
        noise = (one - mean) * (p - 1) + (none - mean) * p
        found += noise * self.occurs[..., None]
        with np.errstate(invalid="ignore", divide="ignore"):
            found /= total[:, None]
        self.sizes.append(np.abs(found).sum(1))
        self.off.append(np.abs(found - self.found[..., None]).sum(1))

    def result(self):
        off, sizes = (np.concatenate(x, axis=-1) for x in (self.off, self.sizes))
        numbers = off.mean(1), off.std(1, ddof=1), sizes.std(1, ddof=1)
        limits = partial(_sum_limits, self.value, *numbers, self.sums.degrees)
        return ScoreRate(self.value, limits, None)


def _rate_limits(value, rows, degrees, z):
    return wilson(value, rows, _heavier(z, degrees))


def _sum_limits(value, mean, spread, own, degrees, z):
    z = _heavier(z, degrees)
    return Interval(
        np.clip(value - mean - z * spread, 0, 1), np.clip(value + z * own, 0, 1)
    )


def _heavier(z, degrees):
    """Turn standard errors of the normal into those of Student's t."""
    if np.isinf(degrees).all():
        return z
    found = student.isf(norm.sf(z), np.maximum(degrees, 1))
    # One subject tells nothing of others.
    return np.where(degrees >= 1, found, 1e9)


def _exact_area(scores, hits, sums):
    """Return the area of each group from all ranks, ties counting half."""
    found = _areas(scores, hits, sums.spots, sums.n_spots)
    known = sums.spots < sums.n_spots - 2
    one = np.zeros_like(sums.spots)
    found[-2:] = [
        _areas(scores[rows], hits[rows], one[rows], 1)[0] for rows in (known, one == 0)
    ]
    return found


def _areas(scores, hits, spots, n_spots):
    rank = pd.Series(scores).groupby(spots).rank().to_numpy()
    positives = np.bincount(spots, hits, n_spots)
    negatives = np.bincount(spots, ~hits, n_spots)
    wins = np.bincount(spots, rank * hits, n_spots) - positives * (positives + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return wins / (positives * negatives)


_METRICS = {"roc_auc": _Area, "brier_score": _Brier, "calibration_error": _Calibration}
