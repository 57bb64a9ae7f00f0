import numpy as np
import pytest
import torch
from scipy.stats import norm

from fairskorch.intervals import (
    Interval,
    difference_interval,
    metric_interval,
    paired_interval,
    rate_difference_interval,
    rate_interval,
)
from fairskorch.metrics import METRICS, from_counts

SMALL = np.array([[500, 500], [500, 20]])
#: Rows of each group x class cell, and the chance there of a prediction of class 1.
SETTINGS = {
    "parity": (200, [[0.2, 0.7], [0.2, 0.7]]),
    "gap .05": (200, [[0.2, 0.7], [0.2, 0.75]]),
    "gap .2": (200, [[0.2, 0.6], [0.2, 0.8]]),
    "parity, all cells of 20 rows at .95": (20, [[0.05, 0.95], [0.05, 0.95]]),
    "parity, one cell of 20 rows at .95": (SMALL, [[0.1, 0.95], [0.1, 0.95]]),
    "gap .2, one cell of 20 rows at .95": (SMALL, [[0.1, 0.75], [0.1, 0.95]]),
    "four groups at parity": (100, [[0.2, 0.8]] * 4),
    "four groups, gap .2": (60, [[0.05, 0.8], [0.1, 0.8], [0.15, 0.75], [0.1, 0.95]]),
}
#: The same for two classifiers a and b on the same rows.
PAIRED = {
    "both at parity": (200, [[0.2, 0.7]] * 2, [[0.2, 0.7]] * 2),
    "parity against .2": (200, [[0.2, 0.7]] * 2, [[0.2, 0.6], [0.2, 0.8]]),
    "parity against .05": (200, [[0.2, 0.7]] * 2, [[0.2, 0.7], [0.2, 0.75]]),
    "both .2": (200, [[0.2, 0.6], [0.2, 0.8]], [[0.2, 0.6], [0.2, 0.8]]),
    "cells of 20 rows": (20, [[0.05, 0.95]] * 2, [[0.05, 0.95]] * 2),
    "one cell of 20 rows": (SMALL, [[0.05, 0.95]] * 2, [[0.05, 0.75], [0.05, 0.95]]),
    "four groups": (100, [[0.2, 0.8]] * 4, [[0.2, 0.8]] * 3 + [[0.2, 0.6]]),
}


def statistic(counts):
    """Add the number of rows in front of the counts of predictions."""
    return torch.tensor(np.concatenate([counts.sum(-1, keepdims=True), counts], -1))


def draw(rows, chances, n_sets, rng):
    """Draw sets of rows of two classes, and the statistic of their expectation."""
    chances = np.asarray(chances, dtype=float)
    rows = np.broadcast_to(rows, chances.shape)
    hits = rng.binomial(rows, chances, size=(n_sets, *chances.shape)).astype(float)
    expected = np.stack([rows * (1 - chances), rows * chances], -1)
    return statistic(np.stack([rows - hits, hits], -1)), statistic(expected)


def coverage(interval, truth):
    low, high = interval
    return ((low <= truth + 1e-9) & (truth <= high + 1e-9)).mean()


def check_coverage(name, setting, n_sets):
    sets, expected = draw(*SETTINGS[setting], n_sets, np.random.default_rng(0))
    truth = float(from_counts(name, expected))
    interval = metric_interval(name, sets)
    assert coverage(interval, truth) >= 0.93
    # An interval of everything would cover too.
    assert np.mean(interval.high - interval.low) < (
        0.97 if METRICS[name].compare == "ratio" else 0.5
    )


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", METRICS)
def test_coverage(name, setting):
    check_coverage(name, setting, 2000)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", METRICS)
def test_coverage_over_5000_sets(name, setting):
    check_coverage(name, setting, 5000)


def check_difference_coverage(name, setting, n_sets):
    rng = np.random.default_rng(1)
    rows, *sides = PAIRED[setting]
    found, truths = [], []
    for chances in sides:
        sets, expected = draw(rows, chances, n_sets, rng)
        truths.append(float(from_counts(name, expected)))
        found += [from_counts(name, sets).numpy(), metric_interval(name, sets)]
    interval = difference_interval(*found, METRICS[name].parity)
    assert coverage(interval, truths[0] - truths[1]) >= 0.93


DIFFERENCES = (
    "balanced_accuracy",
    "worst_group_accuracy",
    "equalized_odds_difference",
    "demographic_parity_ratio",
)


@pytest.mark.parametrize("setting", PAIRED)
@pytest.mark.parametrize("name", DIFFERENCES)
def test_coverage_of_differences_between_splits(name, setting):
    check_difference_coverage(name, setting, 2000)


def joint_counts(setting, n_sets, rng):
    """Draw rows that two classifiers predict, alike more often than by chance."""
    rows, *sides = PAIRED[setting]
    a, b = (np.asarray(side, dtype=float) for side in sides)
    rows = np.broadcast_to(rows, a.shape)
    both = 0.6 * np.minimum(a, b) + 0.4 * a * b
    chances = np.stack([1 - a - b + both, b - both, a - both, both], -1)
    counts = rng.multinomial(rows, chances, size=(n_sets, *a.shape)).astype(float)
    expected = rows[..., None] * chances
    return [torch.tensor(c.reshape(*c.shape[:-1], 2, 2)) for c in (counts, expected)]


def marginals(joint):
    return [statistic(joint.sum(axis).numpy()) for axis in (-1, -2)]


def check_paired_coverage(name, setting, n_sets, n_boot=200):
    joint, expected = joint_counts(setting, n_sets, np.random.default_rng(2))
    truth = np.subtract(*(float(from_counts(name, t)) for t in marginals(expected)))
    value, interval = paired_interval(name, joint, n_boot=n_boot, random_state=0)
    assert coverage(interval, truth) >= 0.93
    assert ((interval.low <= value) & (value <= interval.high)).all()


PAIRED_NAMES = (
    "accuracy",
    "balanced_accuracy",
    "worst_group_accuracy",
    "equalized_odds_difference",
    "demographic_parity_difference",
    "average_odds_difference",
)


@pytest.mark.parametrize("setting", PAIRED)
@pytest.mark.parametrize("name", PAIRED_NAMES)
def test_coverage_of_paired_differences(name, setting):
    check_paired_coverage(name, setting, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("setting", PAIRED)
@pytest.mark.parametrize("name", PAIRED_NAMES)
def test_coverage_of_paired_differences_over_5000_sets(name, setting):
    check_paired_coverage(name, setting, 5000)


def test_why_a_gap_is_not_resampled():
    sets, _ = draw(*SETTINGS["parity"], 200, np.random.default_rng(0))
    counts = sets[..., None, :, :, 1:].numpy()
    draws = np.random.default_rng(0).standard_gamma(
        np.broadcast_to(counts, (200, 300, 2, 2, 2))
    )
    gaps = from_counts("equalized_odds_difference", statistic(draws)).numpy()
    low = np.quantile(gaps, 0.025, axis=1)
    assert (low <= 0).mean() == 0
    assert coverage(metric_interval("equalized_odds_difference", sets), 0.0) > 0.9


def test_wilson_solves_the_score_equation():
    rate, n, z = np.array([0.05, 0.5, 0.95]), 40, norm.isf(0.025)
    for limit in rate_interval(rate, n):
        score = (rate - limit) / np.sqrt(limit * (1 - limit) / n)
        np.testing.assert_allclose(np.abs(score), z, rtol=1e-9)


def test_wilson_at_the_ends():
    low, high = rate_interval([0.0, 1.0, 0.0], [20, 20, 0])
    z2 = norm.isf(0.025) ** 2
    np.testing.assert_allclose(low, [0, 20 / (20 + z2), np.nan])
    np.testing.assert_allclose(high, [z2 / (20 + z2), 1, np.nan])


def test_newcombe_published_example():
    # Newcombe 1998, table II, method 10, cases (a), (c) and (h).
    cases = [
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((10, 10, 0, 10), (0.6075, 1.0)),
    ]
    for (x, m, y, n), expected in cases:
        found = rate_difference_interval(x / m, m, y / n, n)
        np.testing.assert_allclose(found, expected, atol=6e-5)


def test_two_groups_one_rate_is_newcombe_projected():
    apart = torch.tensor([[[70.0, 14, 56]], [[80.0, 32, 48]]]).expand(2, 2, 3)
    low, high = metric_interval("demographic_parity_difference", apart)
    signed = rate_difference_interval(0.8, 140, 0.6, 160)
    np.testing.assert_allclose([low, high], signed)
    near = torch.tensor([[[100.0, 40, 60]], [[100.0, 45, 55]]]).expand(2, 2, 3)
    low, high = metric_interval("demographic_parity_difference", near)
    signed = rate_difference_interval(0.6, 200, 0.55, 200)
    assert signed.low < 0
    np.testing.assert_allclose([low, high], [0, max(-signed.low, signed.high)])


@pytest.mark.parametrize("agg", ["max", "mean"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", METRICS)
def test_estimate_inside_and_bounds_nested(name, n_classes, agg):
    rng = np.random.default_rng(5)
    sets = statistic(rng.integers(0, 9, size=(300, 3, n_classes, n_classes)) * 1.0)
    sets[:30, 1] = 0
    value = from_counts(name, sets, agg=agg).numpy()
    wide = metric_interval(name, sets, agg=agg, confidence_level=0.99)
    narrow = metric_interval(name, sets, agg=agg, confidence_level=0.5)
    missing = np.isnan(value)
    assert not missing.all()
    for limits in (wide, narrow):
        assert (np.isnan(limits.low) == missing).all()
        assert (np.isnan(limits.high) == missing).all()
    order = np.stack([wide.low, narrow.low, value, narrow.high, wide.high])
    order = order[:, ~missing]
    assert (np.diff(order, axis=0) >= -1e-12).all()
    assert order.min() >= 0
    assert order.max() <= 1


@pytest.mark.parametrize("name", METRICS)
def test_more_rows_narrow_it(name):
    sets, _ = draw(*SETTINGS["gap .2"], 1, np.random.default_rng(0))
    few, many = metric_interval(name, sets), metric_interval(name, 100 * sets)
    assert (many.high - many.low) < 0.25 * (few.high - few.low)


def test_300_groups():
    sets, _ = draw(50, np.full((300, 2), [0.2, 0.8]), 1, np.random.default_rng(0))
    low, high = metric_interval("equalized_odds_difference", sets[0])
    assert low == 0
    assert 0 < high < 1


def test_ratio_with_a_group_that_is_never_chosen():
    sets = torch.tensor([[[50.0, 50, 0]] * 2, [[50.0, 25, 25]] * 2])
    low, high = metric_interval("demographic_parity_ratio", sets)
    assert low == 0
    assert 0 < high < 0.2


def test_difference_at_parity_uses_the_limits():
    value, interval = 0.08, Interval(0.0, 0.2)
    found = difference_interval(value, interval, 0.3, Interval(0.1, 0.5), 0)
    assert found.low == pytest.approx(0 - 0.5)
    assert found.high == pytest.approx(0.08 - 0.3 + np.hypot(0.12, 0.2))
    found = difference_interval(0.9, Interval(0.7, 1.0), 0.5, Interval(0.4, 0.6), 1)
    assert found.high == pytest.approx(1.0 - 0.4)
    assert found.low == pytest.approx(0.4 - np.hypot(0.2, 0.1))


@pytest.mark.parametrize("name", METRICS)
def test_paired_difference_is_signed_and_swaps(name):
    joint, _ = joint_counts("parity against .2", 20, np.random.default_rng(0))
    a, b = (from_counts(name, t).numpy() for t in marginals(joint))
    value, (low, high) = paired_interval(name, joint, n_boot=2000, random_state=0)
    np.testing.assert_allclose(value, a - b, atol=1e-12)
    back, (low_b, high_b) = paired_interval(
        name, joint.transpose(-1, -2), n_boot=2000, random_state=0
    )
    np.testing.assert_allclose(back, -value, atol=1e-12)
    np.testing.assert_allclose(low_b, -high, atol=0.02)
    np.testing.assert_allclose(high_b, -low, atol=0.02)


def test_pairing_narrows_the_interval():
    joint, _ = joint_counts("both .2", 1, np.random.default_rng(0))
    agreeing = torch.diag_embed(joint[0].sum(-1))
    name = "equal_opportunity_difference"
    value, (low, high) = paired_interval(name, agreeing, random_state=0)
    alone = metric_interval(name, marginals(agreeing)[0])
    assert value == 0
    assert high - low < 0.3 * (alone.high - alone.low)


def test_paired_not_estimable_and_multiclass():
    rng = np.random.default_rng(0)
    joint = torch.tensor(rng.integers(1, 9, size=(3, 3, 3, 3)) * 1.0)
    for name in METRICS:
        value, (low, high) = paired_interval(name, joint, n_boot=50, random_state=0)
        assert low <= value <= high
    joint[1, 2] = 0
    value, interval = paired_interval("equalized_odds_difference", joint, n_boot=50)
    assert np.isnan([value, *interval]).all()
    value, interval = paired_interval("worst_group_accuracy", joint, n_boot=50)
    assert np.isfinite([value, *interval]).all()
    joint[1] = 0
    value, interval = paired_interval("equalized_odds_difference", joint, n_boot=50)
    assert np.isfinite([value, *interval]).all()


def test_random_state_repeats_and_leaves_the_global_one():
    joint, _ = joint_counts("both .2", 3, np.random.default_rng(0))
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    found = [
        paired_interval("accuracy", joint, n_boot=50, random_state=seed)[1].low
        for seed in (0, 0, 1, np.random.RandomState(0), np.random.RandomState(0), None)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[3], found[4])
    assert (found[0] != found[2]).any()
    np.testing.assert_array_equal(before[0], np.random.get_state()[1])
    assert torch.equal(before[1], torch.get_rng_state())


@pytest.mark.parametrize("level", [0, 1, 95, -0.1])
def test_bad_level(level):
    with pytest.raises(ValueError, match=rf"in \(0, 1\), such as 0.95; got {level}"):
        rate_interval(0.5, 10, level)
