"""Metrics of probabilities: their values, and what their intervals cover."""

from functools import cache

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from fairskorch.intervals import _scores
from fairskorch.intervals._projection import between_groups
from fairskorch.intervals._scores import SCORE_RATES, score_change, score_rates

Z = norm.isf(0.025)
#: Rows of each group, and how well its scores tell classes apart; the probabilities
#: are those of the first.
SETTINGS = {
    "parity": ((200, 200), (1, 1)),
    "gap": ((200, 200), (2, 1)),
    "20 rows": ((20, 20), (1, 1)),
    "20 rows, gap": ((20, 400), (2, 1)),
    "20 rows, hardly an error": ((20, 20), (3, 3)),
}


def draw(rows, power, rng):
    """Draw two groups: probabilities of class 1, labels, groups."""
    parts = []
    for group, (n, own) in enumerate(zip(rows, power, strict=True)):
        y = np.arange(n) % 2
        score = rng.normal(size=n) + own * y
        chance = 1 / (1 + np.exp(-(power[0] * score - power[0] ** 2 / 2)))
        parts.append((chance, y, np.full(n, group)))
    return [np.concatenate(x) for x in zip(*parts, strict=True)]


def rates(
    chance, y, groups, n_groups=2, names=SCORE_RATES, n_boot=100, seed=0, **kwargs
):
    options = {"positive": 1, "subjects": None, **kwargs}
    chances = chance if isinstance(chance, list) else [chance]
    columns = [np.stack([1 - c, c], 1) if c.ndim == 1 else c for c in chances]
    found = score_rates(
        names,
        columns,
        y,
        groups,
        n_groups,
        n_boot=n_boot,
        rng=np.random.default_rng(seed),
        **options,
    )
    return found if isinstance(chance, list) else found[0]


def plain_calibration_error(chance, y):
    found = 0
    for low in np.arange(10) / 10:
        rows = (chance > low) & (chance <= low + 0.1)
        if rows.any():
            found += rows.mean() * abs(chance[rows].mean() - y[rows].mean())
    return found


def test_values_are_scikit_learns(rng):
    chance, y, groups = draw((300, 150), (1, 2), rng)
    chance = np.round(chance, 2)  # ties
    groups[:10] = -1
    found = rates(chance, y, groups)
    sets = groups == 0, groups == 1, groups >= 0, groups >= -1
    for place, rows in enumerate(sets):
        own = {name: found[name].value[place] for name in SCORE_RATES}
        assert own["roc_auc"] == pytest.approx(roc_auc_score(y[rows], chance[rows]))
        assert own["brier_score"] == pytest.approx(
            np.mean((chance[rows] - y[rows]) ** 2)
        )
        assert own["calibration_error"] == pytest.approx(
            plain_calibration_error(chance[rows], y[rows]), abs=0.01
        )


def test_values_of_several_classes(rng):
    y = rng.integers(0, 3, 500)
    scores = rng.normal(size=(500, 3)) + np.eye(3)[y]
    chance = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    groups = rng.integers(0, 2, 500)
    found = rates(chance, y, groups, positive=None)
    for place, rows in enumerate((groups == 0, groups == 1, groups >= 0, groups >= 0)):
        own = {name: found[name].value[place] for name in SCORE_RATES}
        area = roc_auc_score(y[rows], chance[rows], multi_class="ovr")
        assert own["roc_auc"] == pytest.approx(area)
        errors = (chance[rows] - np.eye(3)[y[rows]]) ** 2
        assert own["brier_score"] == pytest.approx(errors.sum(1).mean() / 2)
        right = chance[rows].argmax(1) == y[rows]
        assert own["calibration_error"] == pytest.approx(
            plain_calibration_error(chance[rows].max(1), right), abs=1e-9
        )
    for rate in found.values():
        low, high = rate.limits(Z)
        assert (low < rate.value).all()
        assert (rate.value < high).all()


def test_scores_without_a_scale_have_the_area_of_their_ranks(rng):
    chance, y, groups = draw((100, 100), (1, 1), rng)
    options = {"positive": 1, "subjects": None, "n_boot": 50}
    (found,) = score_rates(
        ["roc_auc"], [np.log(chance)], y, groups, 2, rng=rng, **options
    )
    expected = rates(chance, y, groups, names=["roc_auc"])["roc_auc"].value
    np.testing.assert_allclose(found["roc_auc"].value, expected)


def test_too_few_rows_are_not_estimable(rng):
    chance, y, groups = draw((200, 40), (1, 1), rng)
    y[groups == 1] = np.arange(40) < 4
    few = rates(chance, y, groups, n_groups=3)
    assert np.isnan(few["roc_auc"].value).tolist() == [False, True, True, False, False]
    for name in ("brier_score", "calibration_error"):
        missing = [False, False, True, False, False]
        assert np.isnan(few[name].value).tolist() == missing
        assert np.isnan(few[name].limits(Z)[0]).tolist() == missing


@cache
def truth(setting):
    """Values of so many rows that they are those of the population."""
    rows, power = SETTINGS[setting]
    share = 400_000 // sum(rows)
    chance, y, groups = draw([n * share for n in rows], power, np.random.default_rng(9))
    return {k: r.value for k, r in rates(chance, y, groups, n_boot=2).items()}


def gap_limits(name, rate):
    def limits(z):
        return [x[None, None, :2] for x in rate.limits(np.ravel(z)[0])]

    parity = 0 if name == "calibration_error" else None
    here = np.ones((1, 1, 2), dtype=bool)
    values = rate.value[None, None, :2]
    return between_groups(values, limits, here, 0.05, "difference", parity=parity)


def check_coverage(setting, n_sets, least):
    rng, covered = np.random.default_rng(0), {name: [] for name in SCORE_RATES}
    widths = {name: [] for name in SCORE_RATES}
    for i in range(n_sets):
        for name, rate in rates(*draw(*SETTINGS[setting], rng), seed=i).items():
            low, high = (
                np.append(x, gap)
                for x, gap in zip(rate.limits(Z), gap_limits(name, rate), strict=True)
            )
            true = truth(setting)[name]
            true = np.append(true, np.ptp(true[:2]))
            covered[name].append((low <= true + 1e-9) & (true <= high + 1e-9))
            widths[name].append(high - low)
    for name in SCORE_RATES:
        assert np.mean(covered[name], axis=0).min() >= least, name
        assert np.mean(widths[name]) < 0.5


@pytest.mark.parametrize("setting", SETTINGS)
def test_coverage(setting):
    # Three standard errors of so few sets below what 5,000 must reach.
    check_coverage(setting, 100, 0.87)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_coverage_over_5000_sets(setting):
    check_coverage(setting, 5000, 0.93)


def test_subjects_widen_and_cover(rng):
    covered, wider = [], []
    for i in range(150):
        chance, y, groups = draw((60, 60), (1, 1), rng)
        chance, y, groups = (x.repeat(4) for x in (chance, y, groups))
        subjects = np.arange(120).repeat(4)
        found = rates(chance, y, groups, subjects=subjects, seed=i)["roc_auc"]
        low, high = found.limits(Z)
        covered.append((low <= norm.cdf(1 / 2**0.5)) & (norm.cdf(1 / 2**0.5) <= high))
        plain = rates(chance, y, groups, names=["roc_auc"], seed=i)["roc_auc"].limits(Z)
        wider.append((high - low) / (plain[1] - plain[0]))
    assert np.mean(covered, axis=0).min() >= 0.92
    assert np.mean(wider) == pytest.approx(2, abs=0.15)


def test_changes_of_two_classifiers_cover(rng):
    covered = {name: [] for name in SCORE_RATES}
    narrower = []
    for i in range(150):
        chance, y, groups = draw((150, 150), (1, 1), rng)
        logit = np.log(chance / (1 - chance))
        noise = rng.normal(size=(2, 300))
        # Two that are equally good, and mostly agree.
        sides = [1 / (1 + np.exp(-(logit + 0.3 * x))) for x in noise]
        a, b = rates(sides, y, groups, seed=i)
        for name in SCORE_RATES:
            value, limits = score_change(name, a[name], b[name])
            low, high = limits(Z)
            assert ((low <= value) & (value <= high)).all()
            covered[name].append((low <= 0) & (high >= 0))
        single = a["roc_auc"].limits(Z)
        change = score_change("roc_auc", a["roc_auc"], b["roc_auc"])[1](Z)
        narrower.append((change.high - change.low) / (single[1] - single[0]))
    for name in SCORE_RATES:
        assert np.mean(covered[name], axis=0).min() >= 0.9
    assert np.mean(narrower) < 0.7


def test_many_rows_share_weights_and_tell_the_same(rng, monkeypatch):
    chance, y, groups = draw((3000, 1000), (1, 2), rng)
    each = rates(chance, y, groups, n_boot=800)
    monkeypatch.setattr(_scores, "MANY_ROWS", 100)
    shared = rates(chance, y, groups, n_boot=800)
    for name in SCORE_RATES:
        np.testing.assert_array_equal(each[name].value, shared[name].value)
        widths = [np.subtract(*r[name].limits(Z)[::-1]) for r in (each, shared)]
        np.testing.assert_allclose(*widths, rtol=0.15)


def test_memory_is_bounded_by_chunks(rng, monkeypatch):
    data = draw((200, 200), (1, 1), rng)
    whole = rates(*data, n_boot=60)
    monkeypatch.setattr(_scores, "CHUNK", 400 * 7)
    parts = rates(*data, n_boot=60)
    for name in SCORE_RATES:
        np.testing.assert_array_equal(whole[name].value, parts[name].value)
        # Other draws of the same.
        for one, other in zip(
            whole[name].limits(Z), parts[name].limits(Z), strict=True
        ):
            np.testing.assert_allclose(one, other, atol=0.04)
    assert parts["roc_auc"].draws.shape == (60, 4)
