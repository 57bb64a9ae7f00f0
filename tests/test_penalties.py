"""Penalties against plain loops, against fairlearn, and on what others forgot."""

import itertools

import fairlearn.metrics as fm
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairskorch import penalties as P
from fairskorch.rates import mean_values

RATES = (P.DemographicParity, P.DisparateImpact, P.EqualOpportunity, P.EqualizedOdds)
ALL = (*RATES, P.AccuracyEquality, P.MaxMinLoss, P.MinDiff)
REDUCE = {"max": max, "sum": sum, "mean": lambda v: sum(v) / len(v)}


def rows(n_groups=2, n_classes=2, n=60, seed=0, unknown=0.1, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, n_groups, n)
    groups[rng.random(n) < unknown] = -1
    logits = torch.as_tensor(rng.normal(size=(n, n_classes)), dtype=dtype)
    target = torch.as_tensor(rng.integers(0, n_classes, n))
    return logits, target, torch.as_tensor(groups)


def softmax(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def loop_rates(kind, logits, target, groups, slope=1, joint=False):
    """Rates by plain loops: a list of {group: rate}, absent groups left out."""
    scores = softmax(slope * logits)
    n_classes = scores.shape[1]
    compared = [1] if n_classes == 2 else range(n_classes)
    found = []
    for part in ("all",) if kind in ("dp", "di") else ("own", "rest"):
        for c in compared:
            if kind == "eopp" and part == "rest":
                continue
            rates = {}
            for g in sorted(set(groups) - {-1}):
                group = groups == g
                own = group & (target == c)
                if part == "all":
                    rows_, value = group, scores[group, c].sum()
                elif part == "own" and joint:
                    rows_, value = own, (1 - scores[own, c]).sum()
                elif part == "own":
                    rows_, value = own, scores[own, c].sum()
                else:
                    rest = group & (target != c)
                    rows_, value = rest, scores[rest, c].sum()
                size = group.sum() if joint else rows_.sum()
                if size:
                    rates[g] = value / size
            found.append(rates)
    return found


def loop_penalty(kind, logits, target, groups, reduction="max", **options):
    parts = []
    for rates in loop_rates(kind, logits, target, groups, **options):
        values = list(rates.values())
        if len(values) < 2:
            parts.append(0.0)
        elif kind == "di":
            parts.append(1 - min(values) / max(values))
        else:
            parts.append(max(values) - min(values))
    return REDUCE[reduction](parts)


@pytest.mark.parametrize("reduction", ["max", "sum", "mean"])
@pytest.mark.parametrize(("n_groups", "n_classes"), [(2, 2), (5, 2), (3, 4), (300, 2)])
@pytest.mark.parametrize("kind", ["dp", "di", "eopp", "eo"])
def test_rate_penalties_equal_a_plain_loop(
    kind, n_groups, n_classes, reduction, device, dtype
):
    logits, target, groups = rows(n_groups, n_classes, n=700)
    penalty = P.ALIASES[kind](n_groups, n_classes, reduction=reduction, slope=1.7)
    found = penalty.to(device)(
        logits.to(device, dtype), target.to(device), groups.to(device)
    )
    expected = loop_penalty(
        kind, logits.numpy(), target.numpy(), groups.numpy(), reduction, slope=1.7
    )
    assert found.shape == ()
    assert found.dtype == dtype
    assert float(found) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    if dtype == torch.float64:
        assert float(found) == pytest.approx(expected, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("kind", ["eopp", "eo"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_joint_rates_divide_by_the_size_of_the_group(kind, n_classes):
    logits, target, groups = rows(3, n_classes)
    penalty = P.ALIASES[kind](3, n_classes, rates="joint", reduction="sum")
    expected = loop_penalty(
        kind, logits.numpy(), target.numpy(), groups.numpy(), "sum", joint=True
    )
    assert float(penalty(logits, target, groups)) == pytest.approx(expected, rel=1e-12)


def test_joint_rates_score_a_large_gap_as_none():
    # Base rates of blond hair in CelebA: 2.03 % of men, 24.2 % of women. All blond men
    # are missed and 8.4 % of blond women, and the joint gap is about 0.
    n = 100_000
    groups = torch.arange(2).repeat_interleave(n)
    target = torch.zeros(2 * n, dtype=torch.long)
    target[:2030] = 1
    target[n : n + 24200] = 1
    logits = torch.where(target == 1, 50.0, -50.0)
    logits[:2030] = -50.0
    logits[n : n + 2030] = -50.0
    joint = P.EqualizedOdds(2, rates="joint")(logits, target, groups)
    conditional = P.EqualizedOdds(2)(logits, target, groups)
    assert float(joint) == pytest.approx(0, abs=1e-6)
    assert float(conditional) == pytest.approx(1 - 2030 / 24200, abs=1e-6)


def loop_losses(logits, target, groups, cells=False):
    loss = -np.log(softmax(logits)[np.arange(len(target)), target])
    keys = [(g, y) if cells else g for g, y in zip(groups, target, strict=True)]
    present = sorted({k for k, g in zip(keys, groups, strict=True) if g >= 0})
    return [
        np.mean([v for v, k in zip(loss, keys, strict=True) if k == c]) for c in present
    ]


@pytest.mark.parametrize(("n_groups", "n_classes"), [(2, 2), (4, 3)])
def test_loss_penalties_equal_a_plain_loop(n_groups, n_classes, device):
    data = rows(n_groups, n_classes)
    arrays = [v.numpy() for v in data]
    data = [v.to(device) for v in data]
    by_group = loop_losses(*arrays)
    by_cell = loop_losses(*arrays, cells=True)
    gap = P.AccuracyEquality(n_groups, n_classes).to(device)(*data)
    worst = P.MaxMinLoss(n_groups, n_classes).to(device)(*data)
    over_cells = P.MaxMinLoss(n_groups, n_classes, over="cells").to(device)
    worst_cell = over_cells(*data)
    assert float(gap) == pytest.approx(max(by_group) - min(by_group), rel=1e-12)
    assert float(worst) == pytest.approx(max(by_group), rel=1e-12)
    assert float(worst_cell) == pytest.approx(max(by_cell), rel=1e-12)


def loop_mmd(scores, groups, bandwidth):
    def mean_kernel(a, b):
        return np.exp(-(((a[:, None] - b[None]) / bandwidth) ** 2)).mean()

    parts = [scores[groups == g] for g in sorted(set(groups) - {-1})]
    return max(
        mean_kernel(a, a) + mean_kernel(b, b) - 2 * mean_kernel(a, b)
        for a, b in itertools.combinations(parts, 2)
    )


@pytest.mark.parametrize("bandwidth", [0.05, 0.1, 0.5])
@pytest.mark.parametrize(("n_groups", "n_classes"), [(2, 2), (4, 3)])
def test_mindiff_equals_the_kernel_of_all_pairs(n_groups, n_classes, bandwidth, device):
    logits, target, groups = rows(n_groups, n_classes, n=120)
    scores = softmax(1.5 * logits.numpy())
    compared = [1] if n_classes == 2 else range(n_classes)
    expected = max(loop_mmd(scores[:, c], groups.numpy(), bandwidth) for c in compared)
    penalty = P.MinDiff(n_groups, n_classes, bandwidth=bandwidth, slope=1.5).to(device)
    found = penalty(logits.to(device), target.to(device), groups.to(device))
    assert float(found) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_mindiff_given_the_class_compares_rows_of_the_class(n_classes):
    logits, target, groups = rows(3, n_classes, n=200)
    scores = softmax(logits.numpy())
    compared = [1] if n_classes == 2 else range(n_classes)
    expected = [
        loop_mmd(scores[own, c], groups.numpy()[own], 0.1)
        for c in compared
        for own in [target.numpy() == c]
    ]
    found = P.MinDiff(3, n_classes, given="class", reduction="sum")(
        logits, target, groups
    )
    assert float(found) == pytest.approx(sum(expected), rel=1e-9)


FAIRLEARN = {
    "dp": fm.demographic_parity_difference,
    "eopp": fm.equal_opportunity_difference,
    "eo": fm.equalized_odds_difference,
    "di": lambda *a, **k: 1 - fm.demographic_parity_ratio(*a, **k),
}


@pytest.mark.parametrize("kind", FAIRLEARN)
@pytest.mark.parametrize("n_groups", [2, 6])
def test_hard_scores_give_fairlearns_differences(kind, n_groups):
    logits, target, groups = rows(n_groups, n=400, unknown=0)
    predicted = (logits[:, 1] > logits[:, 0]).long()
    steep = P.ALIASES[kind](n_groups, slope=1e6)
    expected = FAIRLEARN[kind](target, predicted, sensitive_features=groups)
    assert float(steep(logits, target, groups)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["dp", "eopp", "eo", "ae"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_violations_are_signed_distances_from_the_mean_of_present_groups(
    kind, n_classes
):
    logits, target, groups = rows(4, n_classes, n=200)
    groups[groups == 2] = -1  # an absent group
    found = P.ALIASES[kind](4, n_classes).violations(logits, target, groups)
    if kind == "ae":
        losses = loop_losses(logits.numpy(), target.numpy(), groups.numpy())
        expected = [dict(zip((0, 1, 3), losses, strict=True))]
    else:
        expected = loop_rates(kind, logits.numpy(), target.numpy(), groups.numpy())
    assert found.shape == (4 * len(expected),)
    for part, rates in zip(found.reshape(-1, 4), expected, strict=True):
        mean = np.mean(list(rates.values()))
        for g in range(4):
            assert float(part[g]) == pytest.approx(
                rates[g] - mean if g in rates else 0, abs=1e-12
            )


@pytest.mark.parametrize("penalty", [P.MaxMinLoss, P.MinDiff])
def test_what_compares_no_rates_has_no_violations(penalty):
    with pytest.raises(TypeError, match="compares no rates"):
        penalty(2).violations(*rows())


@pytest.mark.parametrize("penalty", ALL)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_gradients_are_right(penalty, n_classes):
    logits, target, groups = rows(3, n_classes, n=25, seed=3)
    module = penalty(3, n_classes)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: module(z, target, groups), (logits,))


@pytest.mark.parametrize("penalty", ALL)
@pytest.mark.parametrize(
    "case", ["one group", "all unknown", "no rows", "one row", "one group unknown rest"]
)
def test_fewer_than_two_groups_give_exactly_zero_with_zero_gradient(penalty, case):
    logits, target, groups = rows(2, n=20)
    if case == "one group":
        groups = torch.ones_like(groups)
    elif case == "all unknown":
        groups = torch.full_like(groups, -1)
    elif case == "no rows":
        logits, target, groups = logits[:0], target[:0], groups[:0]
    elif case == "one row":
        logits, target, groups = logits[:1], target[:1], torch.zeros(1).long()
    else:
        groups = torch.where(torch.arange(20) < 5, 0, -1)
    logits.requires_grad_()
    value = penalty(2)(logits, target, groups)
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("penalty", ALL)
def test_no_row_of_a_class_leaves_finite_values_and_gradients(penalty):
    logits, _, groups = rows(2, n=20)
    logits.requires_grad_()
    for target in (torch.zeros(20).long(), torch.ones(20).long()):
        value = penalty(2)(logits, target, groups)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(logits.grad).all()


def test_an_absent_group_is_not_a_group_with_rate_zero():
    logits, target, groups = rows(2, n=40, unknown=0)
    wide = P.EqualizedOdds(3)(logits, target, groups)
    narrow = P.EqualizedOdds(2)(logits, target, groups)
    assert float(wide) == float(narrow)


def test_disparate_impact_without_any_score_is_parity():
    logits = torch.full((6, 2), 0.0, dtype=torch.float64)
    logits[:, 0] = 1e4
    logits.requires_grad_()
    value = P.DisparateImpact(2)(
        logits, torch.zeros(6).long(), torch.tensor([0, 1] * 3)
    )
    value.backward()
    assert value.item() == 0
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("penalty", ALL)
def test_one_logit_is_two_logits(penalty):
    logits, target, groups = rows(2)
    single = logits[:, 1] - logits[:, 0]
    one = penalty(2)(single, target, groups)
    two = penalty(2)(logits, target, groups)
    assert float(one) == pytest.approx(float(two), rel=1e-12)


@pytest.mark.parametrize("penalty", ALL)
@given(seed=st.integers(0, 2**31 - 1))
@settings(deadline=None, max_examples=15)
def test_order_of_rows_and_names_of_groups_do_not_matter(penalty, seed):
    logits, target, groups = rows(4, 3, n=50, seed=seed)
    module = penalty(4, 3)
    value = float(module(logits, target, groups))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(50, generator=generator)
    rename = torch.cat([torch.randperm(4, generator=generator), torch.tensor([-1])])
    again = float(module(logits[order], target[order], rename[groups[order]]))
    assert again == pytest.approx(value, rel=1e-9, abs=1e-12)
    assert value >= 0


@pytest.mark.parametrize("penalty", ALL)
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_and_float64_stays(penalty, half, device):
    logits, target, groups = (v.to(device) for v in rows(2, n=300))
    module = penalty(2).to(device)
    low = module(logits.to(half), target, groups)
    assert low.dtype == torch.float32
    exact = module(logits.to(half).double(), target, groups)
    assert exact.dtype == torch.float64
    assert float(low) == pytest.approx(float(exact), abs=1e-4)


@pytest.mark.parametrize("penalty", ALL)
def test_a_penalty_holds_no_data_and_no_parameter(penalty):
    module = penalty(2)
    before = {k: v.clone() for k, v in module.named_buffers()}
    logits, target, groups = rows(2)
    kept = [v.clone() for v in (logits, target, groups)]
    module(logits, target, groups)
    assert not list(module.parameters())
    assert not module.state_dict()
    assert all(torch.equal(v, before[k]) for k, v in module.named_buffers())
    for now, then in zip((logits, target, groups), kept, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize("penalty", ALL)
def test_statistics_of_batches_sum_to_the_value_of_all_rows(penalty):
    logits, target, groups = rows(3, n=200)
    module = penalty(3)
    parts = [
        module.statistic(logits[s], target[s], groups[s])
        for s in (slice(0, 64), slice(64, 65), slice(65, 200))
    ]
    whole = module(logits, target, groups)
    assert float(module.evaluate(sum(parts))) == pytest.approx(float(whole), rel=1e-9)


@pytest.mark.parametrize("penalty", ALL)
def test_a_memory_gives_the_value_and_the_batch_the_gradient(penalty):
    logits, target, groups = rows(2, n=80)
    past = rows(2, n=500, seed=9)
    module = penalty(2)
    logits.requires_grad_()
    batch = module.statistic(logits, target, groups)
    running = batch.detach() + module.statistic(*past)
    value = module.evaluate(batch, running)
    expected = module.evaluate(running)
    assert value.item() == pytest.approx(expected.item(), rel=1e-9)
    value.backward()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["dp", "di", "eopp", "eo"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_running_predictions_give_the_gap_of_hard_predictions(kind, n_classes):
    logits, target, groups = rows(3, n_classes, n=200)
    module = P.ALIASES[kind](3, n_classes, running="predictions", memory=0.5).double()
    steep = P.ALIASES[kind](3, n_classes, slope=1e6)
    logits.requires_grad_()
    value = module.penalise(logits, target, groups, memory=module.new_memory())
    value.backward()
    expected = steep(logits.detach(), target, groups)
    assert value.item() == pytest.approx(expected.item(), abs=1e-9)
    assert logits.grad.abs().sum() > 0


def test_a_tied_score_counts_as_class_0_in_running_predictions():
    module = P.DemographicParity(2, running="predictions", memory=0.5)
    memory = module.new_memory()
    tied = torch.zeros(4, 2)
    module.penalise(
        tied, torch.zeros(4).long(), torch.tensor([0, 0, 1, 1]), memory=memory
    )
    assert memory[..., 0].sum() == 4
    assert memory[..., 1].sum() == 0


def slow_penalty(module, logits, target, groups, weight, loss, memory):
    """The penalty by autograd through everything; memory is a list of past sums."""

    def sums(values):
        cells = torch.nn.functional.one_hot(groups + 1, module.n_groups + 1)[:, 1:]
        classes = torch.nn.functional.one_hot(target, module.n_classes)
        each = torch.cat([torch.ones_like(values[:, :1]), values], 1)
        return torch.einsum(
            "n,ng,nc,nv->gcv", weight, cells.double(), classes.double(), each
        )

    values = module.values(logits, target) if loss is None else loss[:, None]
    statistic = sums(values)
    rates, present = module.compare(statistic)
    if memory is not None:
        if getattr(module, "running", "scores") == "predictions":
            hard = torch.nn.functional.one_hot(logits.argmax(1), module.n_classes)
            values = (hard[:, 1:] if module.n_classes == 2 else hard).double()
        memory.append(sums(values).detach())
        past = enumerate(reversed(memory))
        remembered, known = module.compare(
            sum(module.memory**age * part for age, part in past)
        )
        # Rates of the batch carry the gradient, those of the memory the value.
        carried = torch.where(present, rates - rates.detach(), 0.0)
        rates, present = remembered + carried, known
    return module.join(rates, present)


VARIANTS = [
    *((kind, {"running": r}) for kind in RATES for r in ("scores", "predictions")),
    *((kind, {"rates": "joint"}) for kind in (P.EqualOpportunity, P.EqualizedOdds)),
    (P.AccuracyEquality, {}),
    (P.MaxMinLoss, {}),
    (P.MaxMinLoss, {"over": "cells"}),
    (P.MinDiff, {}),
    (P.MinDiff, {"given": "class"}),
]


@pytest.mark.parametrize("reduction", ["max", "sum", "mean"])
@pytest.mark.parametrize(("n_groups", "n_classes"), [(2, 2), (6, 2), (3, 3)])
@pytest.mark.parametrize("memory", [0, 0.8])
@pytest.mark.parametrize(("penalty", "options"), VARIANTS)
def test_training_has_the_values_and_gradients_of_plain_autograd(
    penalty, options, memory, n_groups, n_classes, reduction
):
    options = {**options, "reduction": reduction, "memory": memory}
    if "running" in options:
        options["slope"] = 1.7
    module = penalty(n_groups, n_classes, **options).double()
    past, running = ([], module.new_memory()) if memory else (None, None)
    for seed, n in enumerate((12, 90, 5, 40)):
        logits, target, groups = rows(n_groups, n_classes, n=n, seed=seed)
        weight = rows(n_groups, n=n, seed=7)[0][:, 0].exp()
        logits.requires_grad_()
        loss = None
        if seed % 2 and not hasattr(module, "running"):
            loss = torch.nn.functional.cross_entropy(
                logits, target, reduction="none", label_smoothing=0.1
            )
            loss = (
                loss if isinstance(module, (P.AccuracyEquality, P.MaxMinLoss)) else None
            )
        found = module.penalise(logits, target, groups, weight, loss, running)
        (gradient,) = torch.autograd.grad(found, logits, retain_graph=True)
        expected = slow_penalty(module, logits, target, groups, weight, loss, past)
        (slow,) = torch.autograd.grad(expected, logits)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(gradient, slow, rtol=1e-7, atol=1e-12)


def test_a_memory_is_written_in_place_and_float64_stays(dtype):
    module = P.EqualizedOdds(3, memory=0.5, running="scores").to(dtype)
    memory = module.new_memory()
    assert memory.dtype == dtype
    assert torch.equal(memory, torch.zeros(3, 2, 2, dtype=dtype))
    assert P.EqualizedOdds(3).new_memory() is None
    where = memory.data_ptr()
    logits, target, groups = rows(3, dtype=dtype)
    value = module.penalise(logits, target, groups, memory=memory)
    assert value.dtype == dtype
    once = module.statistic(logits, target, groups)
    torch.testing.assert_close(memory, once)
    module.penalise(logits, target, groups, memory=memory)
    torch.testing.assert_close(memory, 1.5 * once)
    assert memory.data_ptr() == where
    assert not memory.requires_grad


@pytest.mark.parametrize("penalty", ALL)
def test_rows_of_weight_0_have_no_effect(penalty):
    logits, target, groups = rows(3, n=40)
    weight = torch.ones(40, dtype=torch.float64)
    weight[groups == 1] = 0
    logits.requires_grad_()
    value = penalty(3).penalise(logits, target, groups, weight)
    value.backward()
    without = torch.where(groups == 1, -1, groups)
    expected = penalty(3)(logits, target, without)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[groups == 1].abs().sum() == 0


JOINT = [(kind, {"rates": "joint"}) for kind in (P.EqualOpportunity, P.EqualizedOdds)]


@pytest.mark.parametrize(("penalty", "options"), [(kind, {}) for kind in ALL] + JOINT)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("memory", [0, 0.8])
def test_weights_of_cells_matter_unless_rates_are_those_of_cells(
    penalty, options, n_classes, memory
):
    if penalty in RATES:
        options = {"reduction": "sum", **options}
    penalty = penalty(3, n_classes, memory=memory, **options).double()
    logits, target, groups = rows(3, n_classes, seed=1)
    logits.requires_grad_()
    weight = torch.arange(1.0, 1 + 4 * n_classes).view(4, n_classes)[groups, target]
    found = []
    for counts in (None, weight.double()):
        value = penalty.penalise(
            logits, target, groups, counts, None, penalty.new_memory()
        )
        (gradient,) = torch.autograd.grad(value, logits)
        found.append(torch.cat([value.detach().view(1), gradient.flatten()]))
    assert torch.allclose(*found, rtol=1e-9) == penalty.within_cells


def test_a_penalty_that_compares_otherwise_compares_no_cells():
    class Pooled(P.EqualizedOdds):
        def compare(self, statistic):
            return mean_values(statistic)

    assert P.EqualizedOdds(n_groups=2).within_cells
    assert not Pooled(n_groups=2).within_cells


@pytest.mark.parametrize("reduction", ["max", "sum"])
def test_equal_extremes_share_the_gradient(reduction):
    # Two groups at the top, one at the bottom, in both classes alike.
    logits = torch.tensor([1.0, 1, -1], dtype=torch.float64).repeat(2).requires_grad_()
    target = torch.arange(2).repeat_interleave(3)
    P.EqualizedOdds(3, reduction=reduction)(
        logits, target, torch.arange(3).repeat(2)
    ).backward()
    first = logits.grad[0]
    assert first > 0
    expected = first * torch.tensor([1, 1, -2, 1, 1, -2])
    torch.testing.assert_close(logits.grad, expected)
    flat = torch.zeros(6, requires_grad=True)
    P.EqualizedOdds(3, reduction=reduction)(
        flat, target, torch.arange(3).repeat(2)
    ).backward()
    assert flat.grad.abs().sum() == 0


class Squared(P.EqualizedOdds):
    def join(self, rates, present):
        return super().join(rates, present) ** 2


class Squares:
    def join(self, rates, present):
        return super().join(rates, present) ** 2


class SquaredByMixin(Squares, P.EqualizedOdds):
    pass


@pytest.mark.parametrize("kind", [Squared, SquaredByMixin])
def test_a_derived_penalty_is_differentiated_as_it_compares(kind):
    logits, target, groups = rows(3)
    logits.requires_grad_()
    plain, squared = P.EqualizedOdds(3), kind(3)
    value = plain(logits, target, groups)
    (gradient,) = torch.autograd.grad(value, logits)
    found = squared(logits, target, groups)
    (slopes,) = torch.autograd.grad(found, logits)
    assert found.item() == pytest.approx(value.item() ** 2, rel=1e-12)
    torch.testing.assert_close(slopes, 2 * value.item() * gradient)


@pytest.mark.parametrize("penalty", [P.DemographicParity, P.EqualizedOdds])
def test_a_derived_penalty_may_compare_more_values(penalty):
    class Both(penalty):
        def values(self, logits, target):
            return torch.softmax(self.slope * logits, 1)

    # Of two classes the gap in one score is the gap in the other.
    logits, target, groups = rows(3)
    assert Both(3, reduction="mean")(logits, target, groups).item() == pytest.approx(
        penalty(3, reduction="mean")(logits, target, groups).item(), rel=1e-12
    )


@pytest.mark.parametrize("penalty", [P.EqualizedOdds, P.MaxMinLoss])
def test_the_weight_may_be_a_number_or_a_tensor(penalty):
    task, value = torch.tensor(2.0), torch.tensor(3.0)
    number = penalty(2).combine(task, value, 0.25)
    assert number == (2.75 if penalty is P.EqualizedOdds else 2.25)
    assert penalty(2).combine(task, value, torch.tensor(0.25)) == number


def test_the_gap_of_a_batch_is_mostly_noise_and_a_memory_is_not():
    # An exactly fair predictor, 5 % minority, 10 % base rate.
    generator = torch.Generator().manual_seed(0)
    penalty = P.EqualizedOdds(2)
    running, batches, remembered = None, [], []
    for _ in range(400):
        groups = (torch.rand(128, generator=generator) < 0.05).long()
        target = (torch.rand(128, generator=generator) < 0.1).long()
        logits = torch.randn(128, generator=generator) + 2 * target
        statistic = penalty.statistic(logits, target, groups)
        running = statistic if running is None else statistic + 0.99 * running
        batches.append(float(penalty.evaluate(statistic)))
        remembered.append(float(penalty.evaluate(statistic, running)))
    assert np.mean(batches) > 0.08
    assert np.mean(remembered[100:]) < np.mean(batches) / 2


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("eo", {"reduction": "median"}, "reduction of EqualizedOdds must be one of"),
        ("eo", {"rates": "marginal"}, "rates of EqualizedOdds must be one of"),
        ("eo", {"running": "labels"}, "running of EqualizedOdds must be one of"),
        ("eo", {"memory": 1}, "memory of EqualizedOdds must be a decay"),
        ("dp", {"slope": 0}, "slope of DemographicParity must be a positive"),
        (
            "dp",
            {"slope": float("inf")},
            "slope of DemographicParity must be a positive",
        ),
        ("mmf", {"over": "rows"}, "over of MaxMinLoss must be"),
        ("mindiff", {"given": "group"}, "given of MinDiff must be"),
        ("mindiff", {"bandwidth": 0}, "bandwidth of MinDiff must be positive"),
        ("ae", {"n_classes": 1}, "AccuracyEquality needs n_groups >= 1 and n_classes"),
    ],
)
def test_bad_parameters_are_named(kind, options, message):
    with pytest.raises(ValueError, match=message):
        P.ALIASES[kind](2, **options)


def test_the_slope_is_fixed_at_construction():
    # Constants are made of it: one that was set later would be heeded here and there.
    penalty = P.EqualizedOdds(2, slope=3)
    assert penalty.slope == 3
    with pytest.raises(AttributeError, match="slope"):
        penalty.slope = 1


def test_a_new_penalty_defines_values_and_comparison():
    class Empty(P.GroupPenalty):
        pass

    with pytest.raises(TypeError, match="Empty does not define values"):
        Empty(2)(*rows())
    with pytest.raises(TypeError, match="Empty does not define compare"):
        Empty(2).compare(torch.zeros(2, 2, 2))
    assert "n_groups=2" in repr(P.EqualizedOdds(2))
