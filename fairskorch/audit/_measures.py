"""One metric on one split, with its interval; and between classifiers."""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from fairskorch.intervals import (
    Interval,
    difference_interval,
    metric_interval,
    paired_interval,
)
from fairskorch.intervals._metric import inside
from fairskorch.intervals._paired import project_change
from fairskorch.intervals._projection import between_groups
from fairskorch.intervals._rates import tail_of
from fairskorch.intervals._scores import score_change
from fairskorch.metrics import METRICS, from_counts
from fairskorch.metrics._counts import lookup

#: What "overall" metrics are of, beside those of counts: they need scores.
_SCORES = ("roc_auc", "brier_score", "calibration_error")


class ScoreMetric(NamedTuple):
    """A metric of scores: a rate of `SCORE_RATES`, or its largest difference."""

    rate: str
    compare: str
    average: bool = False
    one_vs_rest: bool = True

    @property
    def parity(self):
        """Where noise pushes it away from: 0 of gaps, and of calibration errors."""
        biased = self.compare == "difference" or self.rate == "calibration_error"
        return 0 if biased else None


SCORE_METRICS = {
    **{rate: ScoreMetric(rate, "overall") for rate in _SCORES},
    **{f"{rate}_difference": ScoreMetric(rate, "difference") for rate in _SCORES},
}

#: Everything that a report can hold.
ALL_METRICS = {**METRICS, **SCORE_METRICS}


def find_metrics(names):
    """Check the names of metrics.

    Returns
    -------
    names : list of str
    """
    if isinstance(names, str):
        names = [names]
    names = list(names)
    if not names:
        raise ValueError("metrics of fairness_report must name at least one metric.")
    for name in names:
        lookup(name, ALL_METRICS, "metric of fairness_report")
    return list(dict.fromkeys(names))


class Measured(NamedTuple):
    """One fit on one split under one way of grouping.

    Attributes
    ----------
    counts : Counts
    scores : dict of str to ScoreRate
        Empty where no score is known.
    positive : int or None
    level : float
    """

    counts: object
    scores: dict
    positive: int | None
    level: float

    def estimate(self, name):
        """Return the value of a metric and its Interval."""
        if name in SCORE_METRICS:
            return self._score_estimate(SCORE_METRICS[name], self.level)
        statistic = self.counts.of(name)
        kwargs = {"positive": self.positive}
        value = from_counts(name, statistic, **kwargs).numpy()
        design = self.counts.design(name, self.positive)
        return value, metric_interval(
            name, statistic, confidence_level=self.level, design=design, **kwargs
        )

    def change(self, name, other, n_boot, seed):
        """Return this metric minus that of another classifier, and its Interval."""
        if name in SCORE_METRICS:
            return self._score_change(SCORE_METRICS[name], other)
        designs = None
        if self.counts.subjects is not None:
            designs = (
                self.counts.design(name, self.positive),
                other.counts.design(name, self.positive),
                self.counts.design(name, self.positive, other.counts),
            )
        return paired_interval(
            name,
            self.counts.joint(other.counts, METRICS[name].compare == "overall"),
            n_boot=n_boot,
            confidence_level=self.level,
            positive=self.positive,
            random_state=seed,
            designs=designs,
        )

    def _score_estimate(self, metric, level):
        if metric.rate not in self.scores:
            return np.array(np.nan), Interval(np.array(np.nan), np.array(np.nan))
        rate = self.scores[metric.rate]
        tail = tail_of(level)
        if metric.compare == "overall":
            value = rate.value[-1]
            low, high = (x[-1] for x in rate.limits(norm.isf(tail / 2)))
        else:
            here = self._here()
            values = rate.value[:-2]
            value = _gap(values, here)
            parity = 0 if metric.rate == "calibration_error" else None
            low, high = between_groups(
                values[None, None],
                _by_group(rate),
                here[None, None],
                tail,
                "difference",
                parity=parity,
            )
        return np.array(value), inside(np.array(value), low, high)

    def _score_change(self, metric, other):
        tail = tail_of(self.level)
        paired = metric.rate != "calibration_error" and all(
            metric.rate in side.scores for side in (self, other)
        )
        gap = metric.compare == "difference"
        # As for counts: two intervals are intersected.
        level = 1 - tail / 2 if paired and gap else self.level
        value_a, a = self._score_estimate(metric, level)
        value_b, b = other._score_estimate(metric, level)
        value = value_a - value_b
        low, high = difference_interval(value_a, a, value_b, b, metric.parity)
        if paired:
            rates = [m.scores[metric.rate] for m in (self, other)]
            change, limits = score_change(metric.rate, *rates)
            bounds = limits(norm.isf(tail / 2))
            if not gap:
                low, high = (x[-1] for x in bounds)
            else:
                here = self._here()[None, None]
                parts = [x[None, None, :-2] for x in (change, *bounds)]
                sides = [(r.value[None, None, :-2], _by_group(r)) for r in rates]
                found = project_change("difference", parts, sides, here, here)
                low, high = np.fmax(low, found[0]), np.fmin(high, found[1])
        return value, inside(value, low, high, least=-1)

    def _here(self):
        return (self.counts.statistic[..., 0].sum(-1) > 0).numpy()


def _by_group(rate):
    """Return limits of the groups alone, in the shape of rates of counts."""

    def limits(z):
        low, high = rate.limits(np.asarray(z).reshape(-1)[0])
        return low[None, None, :-2], high[None, None, :-2]

    return limits


def _gap(values, here):
    values = values[here]
    if len(values) < 2 or np.isnan(values).any():
        return np.nan
    return float(np.ptp(values))
