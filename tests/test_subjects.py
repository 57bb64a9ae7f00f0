"""Intervals of rows that share a subject, and of fits that share rows."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from fairskorch.intervals import (
    Interval,
    design_effects,
    fits_interval,
    metric_interval,
    paired_interval,
)
from fairskorch.intervals._subjects import shared_error
from fairskorch.metrics import from_counts

#: Subjects a cell, rows of each, chances of a prediction of class 1, and whether a
#: subject has rows of both classes.
SETTINGS = {
    "parity": (40, 6, [[0.2, 0.7]] * 2, False),
    "gap .05": (40, 6, [[0.2, 0.7], [0.2, 0.75]], False),
    "gap .2": (40, 6, [[0.2, 0.6], [0.2, 0.8]], False),
    "parity, 5 subjects of 4 rows at .95": (5, 4, [[0.05, 0.95]] * 2, False),
    "gap .2, 5 subjects of 4 rows": (5, 4, [[0.2, 0.75], [0.2, 0.95]], False),
    "parity, rows of both classes": (40, 6, [[0.2, 0.7]] * 2, True),
    "gap .2, rows of both classes": (40, 6, [[0.2, 0.6], [0.2, 0.8]], True),
}
NAMES = (
    "accuracy",
    "balanced_accuracy",
    "worst_group_accuracy",
    "equal_opportunity_difference",
    "equalized_odds_difference",
    "demographic_parity_difference",
)


def draw(setting, n_sets, rng, n_classifiers=1, alike=0.3):
    """Draw rows of subjects who are hard or easy: hits by classifier, and codes."""
    n_subjects, n_rows, chances, mixed = SETTINGS[setting]
    chances = np.asarray(chances)
    shape = (n_sets, len(chances), 2, n_subjects, n_rows)
    kinds = shape[:2] + ((1,) if mixed else (2,)) + (n_subjects, 1)
    sides = []
    for _ in range(n_classifiers):
        own = np.sqrt(alike) * rng.normal(size=kinds)
        score = own + np.sqrt(1 - alike) * rng.normal(size=shape)
        # Easy subjects are predicted right in either class.
        score[:, :, 1] *= -1
        sides.append(score > norm.isf(chances)[..., None, None])
    codes = [
        np.broadcast_to(x, shape).ravel()
        for x in np.ogrid[tuple(slice(n) for n in shape)][:3]
    ]
    subject = np.broadcast_to(np.arange(np.prod(kinds)).reshape(kinds), shape)
    return [side.ravel() for side in sides], *codes, subject.ravel()


def statistic(hits, sets, groups, true, n_sets, n_groups=2):
    cell = ((sets * n_groups + groups) * 2 + true) * 2 + hits
    counts = np.bincount(cell, minlength=n_sets * n_groups * 4)
    counts = counts.reshape(n_sets, n_groups, 2, 2).astype(float)
    return torch.tensor(np.concatenate([counts.sum(-1, keepdims=True), counts], -1))


def expectation(setting):
    chances = np.asarray(SETTINGS[setting][2])
    counts = np.stack([1 - chances, chances], -1)
    return torch.tensor(np.concatenate([np.ones_like(counts[..., :1]), counts], -1))


def design(name, hits, sets, groups, true, subjects, n_sets):
    """Design effects of all sets at once, each set having cells of its own."""
    place = sets * 2 + groups
    right = hits == true
    if name == "accuracy":
        return design_effects(right, sets, subjects, n_sets).reshape(-1, 1, 1, 1)
    if name == "balanced_accuracy":
        found = design_effects(right, sets * 2 + true, subjects, n_sets * 2)
        factor = [
            shared_error(right[own], true[own], subjects[own], 2)
            for own in np.split(np.arange(len(sets)), n_sets)
        ]
        return found.reshape(-1, 1, 2, 1) * np.reshape(factor, (-1, 1, 1, 1))
    if name == "worst_group_accuracy":
        return design_effects(right, place, subjects, n_sets * 2).reshape(-1, 1, 1, 2)
    if name == "demographic_parity_difference":
        return design_effects(hits, place, subjects, n_sets * 2).reshape(-1, 1, 1, 2)
    found = design_effects(hits, place * 2 + true, subjects, n_sets * 4)
    odds = found.reshape(-1, 2, 2).transpose(0, 2, 1)[:, ::-1, None]
    return odds[:, :1] if name == "equal_opportunity_difference" else odds


def coverage(interval, truth):
    low, high = interval
    return ((low <= truth + 1e-9) & (truth <= high + 1e-9)).mean()


def check_coverage(name, setting, n_sets):
    (hits,), *codes = draw(setting, n_sets, np.random.default_rng(0))
    sets = statistic(hits, *codes[:3], n_sets)
    truth = float(from_counts(name, expectation(setting)))
    interval = metric_interval(name, sets, design=design(name, hits, *codes, n_sets))
    assert coverage(interval, truth) >= 0.93
    # An interval of everything would cover too.
    assert np.mean(interval.high - interval.low) < 0.75


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", NAMES)
def test_coverage_by_subject(name, setting):
    check_coverage(name, setting, 400)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", NAMES)
def test_coverage_by_subject_over_5000_sets(name, setting):
    check_coverage(name, setting, 5000)


def test_as_if_independent_rows_of_a_subject_cover_too_little():
    (hits,), *codes = draw("parity", 400, np.random.default_rng(0))
    interval = metric_interval(
        "equalized_odds_difference", statistic(hits, *codes[:3], 400)
    )
    assert coverage(interval, 0.0) < 0.85


@pytest.mark.parametrize(
    "setting", ["parity", "gap .2", "gap .2, 5 subjects of 4 rows"]
)
def test_coverage_of_paired_differences_by_subject(setting):
    name, n_sets = "equal_opportunity_difference", 400
    sides, sets, groups, true, subjects = draw(
        setting, n_sets, np.random.default_rng(1), 2
    )
    cell = ((((sets * 2 + groups) * 2 + true) * 2) + sides[0]) * 2 + sides[1]
    joint = np.bincount(cell, minlength=n_sets * 16).reshape(-1, 2, 2, 2, 2) * 1.0
    codes = sets, groups, true, subjects
    designs = [design(name, hits, *codes, n_sets) for hits in sides]
    designs.append(design(name, sides[0] * 1.0 - sides[1], *codes, n_sets))
    kwargs = {"n_boot": 200, "random_state": 0}
    value, interval = paired_interval(
        name, torch.tensor(joint), designs=tuple(designs), **kwargs
    )
    assert coverage(interval, 0.0) >= 0.93
    _, narrow = paired_interval(name, torch.tensor(joint), **kwargs)
    assert np.mean(narrow.high - narrow.low) < np.mean(interval.high - interval.low)
    assert ((interval.low <= value) & (value <= interval.high)).all()


def test_design_effect_of_equal_rows_is_their_number():
    rng = np.random.default_rng(0)
    subjects = np.arange(500).repeat(4)
    one = design_effects(
        rng.random(500).repeat(4) < 0.6, np.zeros(2000, int), subjects, 1
    )
    assert one == pytest.approx(4, abs=0.2)
    none = design_effects(rng.random(2000) < 0.6, np.zeros(2000, int), subjects, 1)
    assert none == pytest.approx(1, abs=0.1)


def test_design_effect_where_nothing_varies_is_kishs():
    subjects = np.repeat(np.arange(200), 3)
    cells = np.zeros(600, dtype=int)
    for hits in (np.zeros(600), np.ones(600)):
        assert design_effects(hits, cells, subjects, 1) == pytest.approx(3, rel=0.02)


def test_design_effect_of_few_subjects():
    cells, hits = np.array([0, 0, 0, 1, 2, 2, -1]), np.array([1, 0, 1, 1, 0, 1, 1])
    found = design_effects(hits, cells, np.array([0, 0, 0, 1, 2, 3, 4]), 4)
    assert found[0] > 1e6  # one subject
    assert found[1:].tolist() == [1, 1, 1]  # one row; a row each; no row
    low, high = metric_interval(
        "accuracy",
        torch.tensor([[[2.0, 1, 1], [1.0, 0, 1]]]),
        design=found[:1].reshape(1, 1, 1),
    )
    assert low < 1e-3
    assert high > 1 - 1e-3


def test_error_shared_by_rates():
    rng = np.random.default_rng(0)
    subjects, cells = np.arange(1000).repeat(2), np.tile([0, 1], 1000)
    alike = (rng.random(1000) < 0.5).repeat(2)
    assert shared_error(alike, cells, subjects, 2) == pytest.approx(2, abs=0.01)
    opposite = alike ^ (cells == 1)
    assert shared_error(opposite, cells, subjects, 2) == 1
    assert shared_error(np.ones(2000), cells, subjects, 2) == 1


def check_fits_coverage(n_fits, spread, n_sets):
    """Fits whose rates differ by seed, measured on the same rows."""
    name, rows = "equal_opportunity_difference", 150
    rng = np.random.default_rng(0)
    base = np.array([0.75, 0.75])
    chance = np.clip(base + spread * rng.normal(size=(n_sets, n_fits, 2)), 0, 1)
    # The rows are the same: what is hard for one fit is hard for others.
    hard = rng.normal(size=(n_sets, 1, 2, rows))
    score = np.sqrt(0.6) * hard + np.sqrt(0.4) * rng.normal(
        size=(n_sets, n_fits, 2, rows)
    )
    hits = (score < norm.ppf(chance)[..., None]).sum(-1).astype(float)
    many = np.clip(base + spread * rng.normal(size=(200_000, 2)), 0, 1)
    truth = np.ptp(many, axis=1).mean()
    own = np.stack([np.full_like(hits, rows), rows - hits, hits], -1)
    sets = torch.tensor(np.stack([own, own], -2))
    values = from_counts(name, sets).numpy()
    intervals = [metric_interval(name, sets[:, i]) for i in range(n_fits)]
    value, interval = fits_interval(values.T, intervals)
    np.testing.assert_allclose(value, values.mean(1))
    return coverage(interval, truth), np.mean(interval.high - interval.low)


@pytest.mark.parametrize("n_fits", [2, 5])
@pytest.mark.parametrize("spread", [0.0, 0.05, 0.15])
def test_coverage_over_fits(n_fits, spread):
    covered, width = check_fits_coverage(n_fits, spread, 500)
    assert covered >= 0.93
    assert width < 0.5 or n_fits == 2


@pytest.mark.slow
@pytest.mark.parametrize("n_fits", [2, 5])
@pytest.mark.parametrize("spread", [0.0, 0.05, 0.15])
def test_coverage_over_fits_5000_sets(n_fits, spread):
    assert check_fits_coverage(n_fits, spread, 5000)[0] >= 0.93


def test_one_fit_keeps_its_interval():
    value, interval = fits_interval([[0.2, np.nan]], [Interval([0.1, 0], [0.4, 1])])
    np.testing.assert_array_equal(value, [0.2, np.nan])
    np.testing.assert_array_equal(interval.low, [0.1, 0])
    np.testing.assert_array_equal(interval.high, [0.4, 1])


def test_fits_that_agree_add_nothing():
    one = Interval(0.1, 0.4)
    value, interval = fits_interval([0.2] * 4, [one] * 4)
    np.testing.assert_allclose([value, *interval], [0.2, 0.1, 0.4])
    _, wider = fits_interval([0.1, 0.3, 0.1, 0.3], [one] * 4)
    assert wider.low < 0.1
    assert wider.high > 0.4


def test_fits_bad_level():
    with pytest.raises(ValueError, match=r"in \(0, 1\)"):
        fits_interval([0.2], [Interval(0.1, 0.4)], 95)
