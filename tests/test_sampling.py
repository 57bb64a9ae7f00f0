import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairskorch.sampling import SAMPLERS, EpochSampler

STRATA = {
    "stratified": lambda y, g: (g + 1) * 10 + y,
    "balanced_cells": lambda y, g: (g + 1) * 10 + y,
    "balanced_classes": lambda y, g: y,
}


def rows(n=1003, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = (torch.rand(n, generator=generator) < 0.1).long()
    groups = (torch.rand(n, generator=generator) < 0.2).long()
    groups[torch.rand(n, generator=generator) < 0.05] = -1
    return y, groups, generator


@pytest.mark.parametrize("sampler", SAMPLERS)
@given(n=st.integers(1, 300), batch_size=st.integers(1, 130), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_an_epoch_has_ceil_n_over_batch_batches_of_like_size(
    sampler, n, batch_size, seed
):
    y, groups, generator = rows(n, seed)
    batches = EpochSampler(sampler, y, groups, batch_size).epoch(generator)
    assert len(batches) == math.ceil(n / batch_size)
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    drawn = torch.cat(batches)
    assert drawn.min() >= 0
    assert drawn.max() < n
    if sampler.startswith("balanced") and len(batches) > 7:
        assert sizes == {batch_size}
    else:
        assert len(drawn) == n


def test_no_batch_is_left_with_a_single_row():
    y, groups, generator = rows(129)
    sizes = [len(b) for b in EpochSampler("shuffle", y, groups, 128).epoch(generator)]
    assert sizes == [65, 64]


def test_shuffle_draws_each_row_once_in_new_order():
    y, groups, generator = rows()
    sampler = EpochSampler("shuffle", y, groups, 128)
    first, second = (torch.cat(sampler.epoch(generator)) for _ in range(2))
    assert torch.equal(first.sort().values, torch.arange(1003))
    assert torch.equal(second.sort().values, torch.arange(1003))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("sampler", STRATA)
def test_every_stratum_is_in_every_batch(sampler):
    y, groups, generator = rows()
    stratum = STRATA[sampler](y, groups)
    names = stratum.unique()
    for batch in EpochSampler(sampler, y, groups, 128).epoch(generator):
        assert torch.equal(stratum[batch].unique(), names)


@pytest.mark.parametrize("sampler", ["balanced_classes", "balanced_cells"])
def test_balanced_batches_hold_strata_equally_often(sampler):
    y, groups, generator = rows()
    stratum = STRATA[sampler](y, groups)
    for batch in EpochSampler(sampler, y, groups, 128).epoch(generator):
        counts = stratum[batch].unique(return_counts=True)[1]
        assert counts.max() - counts.min() <= 1


def test_rows_of_unknown_group_form_a_cell_of_their_class():
    y, groups, generator = rows()
    batch = EpochSampler("balanced_cells", y, groups, 120).epoch(generator)[0]
    unknown = groups[batch] == -1
    assert abs(int(unknown.sum()) - len(batch) / 3) < 2  # two of six cells
    assert set(y[batch][unknown].tolist()) == {0, 1}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("batch_size", [4, 128])
def test_importance_brings_means_back_to_the_rows(sampler, batch_size):
    y, groups, generator = rows()
    values = torch.arange(1003.0) / 1003 + y + (groups == 1)
    drawn = EpochSampler(sampler, y, groups, batch_size)
    total = weight = 0.0
    for _ in range(60):
        order = torch.cat(drawn.epoch(generator))
        total += (drawn.importance[order] * values[order]).sum()
        weight += drawn.importance[order].sum()
    assert float(total / weight) == pytest.approx(float(values.mean()), rel=0.02)


def test_stratified_batches_give_an_unbiased_task_loss():
    y, groups, generator = rows()
    loss = 1.0 + 5 * y + 3 * (groups == 1)
    sampler = EpochSampler("stratified", y, groups, 64)
    assert sampler.unbiased
    weight = sampler.importance
    means = [
        (weight[b] * loss[b]).sum() / weight[b].sum()
        for _ in range(100)
        for b in sampler.epoch(generator)
    ]
    assert float(sum(means) / len(means)) == pytest.approx(float(loss.mean()), rel=0.01)


@pytest.mark.parametrize("sampler", ["stratified", "balanced_cells"])
def test_more_cells_than_rows_take_turns(sampler):
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(300).repeat_interleave(4)
    y = torch.arange(1200) % 2
    drawn = EpochSampler(sampler, y, groups, 100)
    assert drawn.n_strata == 600
    seen = groups[torch.cat(drawn.epoch(generator))]
    assert len(seen.unique()) == 300
    batch = drawn.epoch(generator)[0]
    assert len((groups[batch] * 2 + y[batch]).unique()) == 100


def test_the_generator_is_the_only_source_of_randomness():
    y, groups, _ = rows()
    for sampler in SAMPLERS:
        drawn = EpochSampler(sampler, y, groups, 64)
        torch.manual_seed(1)
        first = torch.cat(drawn.epoch(torch.Generator().manual_seed(5)))
        torch.manual_seed(2)
        again = torch.cat(drawn.epoch(torch.Generator().manual_seed(5)))
        assert torch.equal(first, again)


def test_cells_may_have_codes_of_any_size():
    target = torch.tensor([0, 1] * 8)
    groups = torch.tensor([0, 0, 1, 1] * 4)
    small = EpochSampler("balanced_cells", target, groups, 4)
    large = EpochSampler("balanced_cells", target, groups * 10**12, 4)
    assert torch.equal(large.counts, small.counts)
    assert torch.equal(large.importance, small.importance)
    drawn = (s.epoch(torch.Generator().manual_seed(0)) for s in (small, large))
    assert all(map(torch.equal, *drawn))
