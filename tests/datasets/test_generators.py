"""Data made on the spot: biased digits and Gaussians with known Bayes values."""

import fairlearn.metrics
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from fairskorch.datasets import make_biased_classification, make_biased_digits


def blue(bunch):
    return (bunch.sensitive_features["colour"] == "blue").to_numpy()


def test_digits_fields():
    digits = make_biased_digits(random_state=0)
    assert digits.data.shape == (3000, 3, 16, 16) and digits.data.dtype == np.uint8
    assert digits.target.shape == (3000,) and digits.target.dtype == np.int64
    assert list(digits.sensitive_features) == ["colour"]
    assert digits.target_names.tolist() == ["0 to 4", "5 to 9"]
    assert "CC BY 4.0" in digits.DESCR and "10.24432/C50P49" in digits.DESCR
    np.testing.assert_array_equal(
        digits.target, load_digits().target[digits.subject] >= 5
    )


def test_digits_are_used_equally_often():
    counts = np.bincount(make_biased_digits(random_state=0).subject, minlength=1797)
    assert set(counts) == {1, 2} and len(counts) == 1797


def test_digits_cells_follow_the_parameters():
    made_with = -0.5
    digits = make_biased_digits(20_000, correlation=made_with, random_state=0)
    y, g = digits.target, blue(digits)
    assert abs(g.mean() - 0.3) < 0.015
    assert abs(np.corrcoef(y, g)[0, 1] - made_with) < 0.02
    assert abs(((y == 1) & g).mean() - 0.035) < 0.01
    free = make_biased_digits(
        20_000, correlation=0.0, minority_share=0.5, random_state=0
    )
    assert abs(np.corrcoef(free.target, blue(free))[0, 1]) < 0.05


def test_digits_colour_reveals_the_group():
    digits = make_biased_digits(1000, random_state=0)
    mean = digits.data.mean(axis=(2, 3))
    assert ((mean[:, 2] > mean[:, 0]) == blue(digits)).mean() > 0.97


def test_digits_without_noise_or_shift_are_the_digits():
    digits = make_biased_digits(
        200, image_size=8, image_noise=0, max_shift=0, random_state=0
    )
    for image, subject in zip(digits.data, digits.subject, strict=True):
        original = load_digits().images[subject]
        seen = np.corrcoef(image[1].ravel(), original.ravel())[0, 1]
        assert seen > 0.999


def test_digits_shift_moves_whole_images():
    still = make_biased_digits(50, image_noise=0, max_shift=0, random_state=0)
    moved = make_biased_digits(50, image_noise=0, max_shift=2, random_state=0)
    assert (still.data != moved.data).any(axis=(1, 2, 3)).mean() > 0.8


def test_digits_label_noise_flips_that_share():
    digits = make_biased_digits(10_000, label_noise=0.2, random_state=0)
    clean = load_digits().target[digits.subject] >= 5
    assert abs((digits.target != clean).mean() - 0.2) < 0.02


def test_digits_parity_and_size():
    digits = make_biased_digits(100, target="parity", image_size=24, random_state=0)
    assert digits.data.shape == (100, 3, 24, 24)
    assert digits.target_names.tolist() == ["even", "odd"]
    np.testing.assert_array_equal(
        digits.target, load_digits().target[digits.subject] % 2
    )


@pytest.mark.parametrize("make", [make_biased_digits, make_biased_classification])
def test_random_state(make):
    a, b, c = (make(60, random_state=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(a.data, b.data)
    np.testing.assert_array_equal(a.target, b.target)
    assert a.sensitive_features.equals(b.sensitive_features)
    assert (a.data != c.data).any()
    d = make(60, random_state=np.random.RandomState(3))
    np.testing.assert_array_equal(a.data, d.data)


@pytest.mark.parametrize("make", [make_biased_digits, make_biased_classification])
def test_global_random_state_is_left_alone(make):
    before = np.random.get_state()[1].copy()
    make(60, random_state=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_samples", 1), ("n_samples", 10.0), ("target", "digit"), ("image_size", 7)]
    + [("minority_share", 0), ("minority_share", 1.0), ("correlation", -1.1)]
    + [("correlation", "high"), ("label_noise", 0.6), ("image_noise", -0.1)]
    + [("image_noise", True), ("max_shift", -1)],
)
def test_digits_parameters(name, value):
    with pytest.raises(
        ValueError, match=f"'{name}' parameter of make_biased_digits mu"
    ):
        make_biased_digits(**{name: value})


def test_digits_correlation_out_of_reach_says_the_bound():
    with pytest.raises(ValueError, match=r"lie in \[-0\.65\d, 0\.65\d\] for minority"):
        make_biased_digits(correlation=-0.9)


CASES = {
    "default": {},
    "blind": {"reveal_group": False},
    "three groups": {"n_groups": 3, "n_features": 6},
    "three classes": {"n_classes": 3},
    "three of both, blind": {
        "n_groups": 3,
        "n_classes": 3,
        "reveal_group": False,
        "n_features": 1,
    },  # fmt: skip
    "one group": {"n_groups": 1},
    "given": {
        "group_shares": [0.5, 0.5],
        "class_shares": [[0.9, 0.1], [0.4, 0.6]],
        "separations": [1.0, 3.0],
        "reveal_group": False,
    },
}


def gaps_of(counts):
    """Gaps as fairlearn defines them, from counts: group x class x predicted."""
    classes = range(counts.shape[1])
    selected, true, false = [], [], []
    for k in classes if len(classes) > 2 else [1]:
        others = counts[:, [j for j in classes if j != k]].sum(axis=1)
        everyone = counts.sum(axis=1)
        selected.append(np.ptp(everyone[:, k] / everyone.sum(axis=1)))
        true.append(np.ptp(counts[:, k, k] / counts[:, k].sum(axis=1)))
        false.append(np.ptp(others[:, k] / others.sum(axis=1)))
    return {
        "demographic_parity_difference": max(selected),
        "equal_opportunity_difference": max(true),
        "equalized_odds_difference": max(true + false),
    }


@pytest.mark.parametrize("case", CASES)
def test_bayes_values_by_monte_carlo(case):
    kwargs = {"n_features": 4} | CASES[case]
    made = make_biased_classification(1_000_000, random_state=0, **kwargs)
    groups = made.sensitive_features["group"].to_numpy()
    shape = made.bayes_rates.shape
    cells = np.ravel_multi_index((groups, made.target, made.bayes_target), shape)
    counts = np.bincount(cells, minlength=np.prod(shape)).reshape(shape)
    correct = np.einsum("gkk->k", counts)
    assert abs(correct.sum() / 1e6 - made.bayes_accuracy) < 2e-3
    balanced = (correct / counts.sum(axis=(0, 2))).mean()
    assert abs(balanced - made.bayes_balanced_accuracy) < 3e-3
    measured = counts / counts.sum(axis=2, keepdims=True)
    np.testing.assert_allclose(made.bayes_rates, measured, atol=8e-3)
    for name, value in gaps_of(counts).items():
        assert abs(value - made[f"bayes_{name}"]) < 8e-3
    np.testing.assert_allclose(made.bayes_rates.sum(axis=2), 1.0, atol=1e-12)


def test_gaps_are_those_of_fairlearn():
    made = make_biased_classification(2000, random_state=0)
    groups = made.sensitive_features["group"].to_numpy()
    counts = np.zeros((2, 2, 2))
    np.add.at(counts, (groups, made.target, made.bayes_target), 1)
    rows = {"y_true": made.target, "y_pred": made.bayes_target}
    for name, value in gaps_of(counts).items():
        gap = getattr(fairlearn.metrics, name)
        assert value == pytest.approx(gap(**rows, sensitive_features=groups), abs=1e-12)


def test_bayes_closed_form_for_two_classes():
    made = make_biased_classification(10, random_state=0)
    separation = np.array([2.0, 1.5])
    positive = np.array([0.5, 0.2])
    threshold = np.log((1 - positive) / positive) / separation
    tpr = norm.sf(threshold - separation / 2)
    fpr = norm.sf(threshold + separation / 2)
    np.testing.assert_allclose(made.bayes_rates[:, 1, 1], tpr, atol=1e-12)
    np.testing.assert_allclose(made.bayes_rates[:, 0, 1], fpr, atol=1e-12)
    opportunity = made.bayes_equal_opportunity_difference
    assert opportunity == pytest.approx(np.ptp(tpr), abs=1e-12)
    odds = made.bayes_equalized_odds_difference
    assert odds == pytest.approx(max(np.ptp(tpr), np.ptp(fpr)), abs=1e-12)
    correct = positive * tpr + (1 - positive) * (1 - fpr)
    assert made.bayes_accuracy == pytest.approx([2 / 3, 1 / 3] @ correct, abs=1e-12)


def test_no_learner_beats_bayes_and_a_good_one_reaches_it():
    made = make_biased_classification(
        200_000, separations=[2, 2], reveal_group=True, random_state=0
    )
    half = slice(0, 100_000), slice(100_000, None)
    model = LogisticRegression().fit(made.data[half[0]], made.target[half[0]])
    score = model.score(made.data[half[1]], made.target[half[1]])
    assert abs(score - made.bayes_accuracy) < 5e-3


def test_equal_groups_have_no_gap():
    made = make_biased_classification(
        10, class_shares=[[0.7, 0.3]] * 2, separations=[1, 1], random_state=0
    )
    assert made.bayes_equalized_odds_difference == 0
    assert made.bayes_demographic_parity_difference == 0


def test_classification_fields():
    made = make_biased_classification(50, 7, n_groups=3, n_classes=4, random_state=0)
    assert made.data.shape == (50, 7) and made.data.dtype == np.float64
    groups = made.sensitive_features["group"].to_numpy()
    np.testing.assert_array_equal(made.data[:, -3:].argmax(axis=1), groups)
    assert made.subject.tolist() == list(range(50))
    assert len(made.target_names) == 4 and made.bayes_rates.shape == (3, 4, 4)
    blind = make_biased_classification(50, 7, reveal_group=False, random_state=0)
    assert len(np.unique(blind.data)) == 350


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_samples", 0), ("n_features", 2), ("n_groups", 0), ("n_classes", 1)]
    + [("reveal_group", "yes"), ("group_shares", [0.5, 0.6])]
    + [("group_shares", [1.0]), ("class_shares", [[0.5, 0.5], [1.0, 0.0]])]
    + [("separations", [1.0, np.inf]), ("separations", ["a", "b"])],
)
def test_classification_parameters(name, value):
    match = f"'{name}' parameter of make_biased_classification must"
    with pytest.raises(ValueError, match=match):
        make_biased_classification(**{name: value})
