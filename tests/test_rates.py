import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from fairskorch import rates


def rows(n_groups, n_classes, n=200, seed=0, unknown=0.1):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, n_groups, n)
    groups[rng.random(n) < unknown] = -1
    target = rng.integers(0, n_classes, n)
    predicted = rng.integers(0, n_classes, n)
    return [torch.as_tensor(v) for v in (target, predicted, groups)]


def statistic_of(target, predicted, groups, n_groups, n_classes):
    return rates.confusion_statistics(target, predicted, groups, n_groups, n_classes)


@pytest.mark.parametrize(("n_groups", "n_classes"), [(1, 2), (2, 2), (4, 3), (300, 2)])
def test_confusion_statistics_are_confusion_matrices_by_group(
    n_groups, n_classes, device
):
    target, predicted, groups = rows(n_groups, n_classes)
    found = statistic_of(
        *(v.to(device) for v in (target, predicted, groups)), n_groups, n_classes
    ).cpu()
    assert found.dtype == torch.float64
    for g in range(n_groups):
        own = groups == g
        expected = np.zeros((n_classes, n_classes))
        if own.any():
            expected = confusion_matrix(
                target[own], predicted[own], labels=range(n_classes)
            )
        np.testing.assert_array_equal(found[g, :, 1:], expected)
        np.testing.assert_array_equal(found[g, :, 0], expected.sum(1))


@given(
    st.integers(1, 5), st.integers(2, 4), st.integers(0, 60), st.integers(0, 2**31 - 1)
)
@settings(deadline=None, max_examples=50)
def test_statistics_of_parts_add_up(n_groups, n_classes, n, seed):
    target, predicted, groups = rows(n_groups, n_classes, n, seed)
    values = torch.randn(n, 3, dtype=torch.float64)
    cut = n // 3
    whole = rates.cell_statistics(values, target, groups, n_groups, n_classes)
    parts = [
        rates.cell_statistics(values[s], target[s], groups[s], n_groups, n_classes)
        for s in (slice(None, cut), slice(cut, None))
    ]
    torch.testing.assert_close(whole, parts[0] + parts[1])
    assert whole[..., 0].sum() == (groups >= 0).sum()


def test_weights_count_like_repeated_rows():
    target, _, groups = rows(2, 2, 50)
    values = torch.rand(50, 1, dtype=torch.float64)
    times = torch.randint(0, 4, (50,))
    weighted = rates.cell_statistics(values, target, groups, 2, 2, weight=times)
    again = torch.repeat_interleave(torch.arange(50), times)
    repeated = rates.cell_statistics(values[again], target[again], groups[again], 2, 2)
    torch.testing.assert_close(weighted, repeated)


def test_rates_of_an_empty_cell_are_absent_and_pass_no_gradient():
    scores = torch.tensor([[0.2], [0.6], [0.9]], requires_grad=True)
    statistic = rates.cell_statistics(
        scores, torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1]), 3, 2
    )
    found = rates.true_positive_rates(statistic)
    assert found.present.tolist() == [[True, False, False]]
    assert found.rates[0].tolist() == pytest.approx([0.6, 0, 0])
    found.rates.sum().backward()
    assert scores.grad.flatten().tolist() == [0, 1, 0]


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_before_anything_is_summed(half):
    values = torch.full((5000, 1), 0.1, dtype=half)
    zeros = torch.zeros(5000, dtype=torch.long)
    statistic = rates.cell_statistics(values, zeros, zeros, 1, 2)
    assert statistic.dtype == torch.float32
    assert statistic[0, 0, 0] == 5000


def test_gaps_need_two_present_groups():
    values = torch.tensor([[0.1, 0.7, 0.4], [0.1, 0.7, 0.4], [0.1, 0.7, 0.4]])
    present = torch.tensor(
        [[True, True, True], [True, False, True], [False, True, False]]
    )
    assert rates.gaps(values, present).tolist() == pytest.approx([0.6, 0.3, 0.0])


@pytest.mark.parametrize("reduction", ["max", "sum", "mean"])
def test_slopes_of_gaps_are_those_of_autograd(reduction):
    values = torch.rand(
        5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    values[1, 0] = values[4, 1] = float("nan")
    values[1:, 2] = float("nan")  # one group: no gap
    present = ~values.isnan()
    known = values.nan_to_num().requires_grad_()
    gaps = rates.gaps(known.T, present.T)
    joined = {"max": gaps.amax, "sum": gaps.sum, "mean": gaps.mean}[reduction](-1)
    joined.backward()
    signs = torch.tensor([-rates.SHARP, rates.SHARP]).view(2, 1, 1)
    value, slopes = rates.gap_slopes(values, signs, reduction)
    torch.testing.assert_close(value, joined.detach())
    torch.testing.assert_close(slopes, known.grad)


def test_leading_dimensions_are_draws():
    target, predicted, groups = rows(3, 3)
    one = statistic_of(target, predicted, groups, 3, 3)
    two = statistic_of(predicted, target, groups, 3, 3)
    both = torch.stack([one, two])
    for function in (
        rates.mean_values,
        rates.true_positive_rates,
        rates.false_positive_rates,
        rates.miss_rates,
    ):
        found = function(both)
        for i, single in enumerate((one, two)):
            torch.testing.assert_close(found.rates[i], function(single).rates)
            torch.testing.assert_close(found.present[i], function(single).present)


def test_a_batch_of_one_group_is_counted_under_that_group():
    ones = torch.ones(5, dtype=torch.long)
    counts = statistic_of(ones, ones, ones, 2, 2)
    assert counts[0].sum() == 0
    assert counts[1, 1].tolist() == [5, 0, 5]
