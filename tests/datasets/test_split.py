"""Disjoint parts by subject."""

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given

from fairskorch.datasets import split_by_subject

subjects = st.lists(
    st.one_of(st.integers(0, 12), st.sampled_from(["ann", "bob"]), st.none()),
    min_size=1,
    max_size=80,
)
shares = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(subjects, shares, st.integers(0, 3), st.integers(0, 99), st.booleans())
def test_parts_are_disjoint_by_row_and_by_subject(subject, parts, rest, seed, strata):
    sizes = np.array(parts) / (sum(parts) + rest)
    known = [s for s in subject if s is not None]
    n_subjects = len(set(known)) + len(subject) - len(known)
    assume(n_subjects >= len(sizes))
    stratify = [i % 3 for i in range(len(subject))] if strata else None
    result = split_by_subject(subject, sizes, seed, stratify=stratify)
    assert isinstance(result, tuple) and len(result) == len(sizes)
    rows = np.concatenate(result)
    assert len(set(rows)) == len(rows)
    if rest == 0:
        assert sorted(rows) == list(range(len(subject)))
    seen = [{subject[i] for i in part} - {None} for part in result]
    assert sum(map(len, seen)) == len(set().union(*seen))
    largest = max([known.count(s) for s in set(known)] + [1])
    for part, size in zip(result, sizes, strict=True):
        assert len(part) > 0 and part.dtype == np.int64
        assert (np.diff(part) > 0).all()
        if (sizes * len(subject) >= largest).all():
            assert abs(len(part) - size * len(subject)) <= largest + 1e-9
    again = split_by_subject(subject, sizes, seed, stratify=stratify)
    for a, b in zip(result, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_default_is_the_split_of_a_study():
    parts = split_by_subject(np.arange(1000), random_state=0)
    assert [len(part) for part in parts] == [600, 150, 50, 200]
    other = split_by_subject(np.arange(1000), random_state=1)
    assert not np.array_equal(parts[0], other[0])


def test_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()
    split_by_subject(np.arange(50), random_state=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_each_row_is_as_likely_as_any_other():
    counts = np.zeros(20)
    for seed in range(400):
        counts[split_by_subject(np.arange(20), (0.5, 0.5), seed)[0]] += 1
    assert abs(counts - 200).max() < 50  # five standard deviations


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_subjects_stand_alone(missing):
    subject = pd.Series([missing] * 40, dtype=object)
    a, b = split_by_subject(subject, (0.5, 0.5), random_state=0)
    assert len(a) == len(b) == 20


def test_rare_stratum_is_shared_out():
    cells = np.repeat([0, 1, 2], [1000, 960, 40])
    for seed in range(5):
        parts = split_by_subject(np.arange(2000), random_state=seed, stratify=cells)
        counts = np.array([np.bincount(cells[part], minlength=3) for part in parts])
        expected = np.outer([0.6, 0.15, 0.05, 0.2], [1000, 960, 40])
        assert abs(counts - expected).max() <= 3


def test_subject_goes_by_its_rarest_label():
    subject = np.repeat(np.arange(100), 4)
    label = np.zeros(400, dtype=int)
    label[::40] = 1  # ten subjects with one row each
    a, b = split_by_subject(subject, (0.5, 0.5), random_state=0, stratify=label)
    assert label[a].sum() == label[b].sum() == 5


def test_missing_strata_are_a_stratum():
    strata = np.array([None] * 10 + ["a"] * 90, dtype=object)
    a, _ = split_by_subject(np.arange(100), (0.5, 0.5), 0, stratify=strata)
    assert (a < 10).sum() == 5


def test_one_giant_subject_leaves_no_part_empty():
    subject = np.r_[np.zeros(997, dtype=int), 1, 2, 3]
    for seed in range(10):
        parts = split_by_subject(subject, (0.25, 0.25, 0.25, 0.25), seed)
        assert sorted(len(part) for part in parts) == [1, 1, 1, 997]


def test_no_subjects_known():
    with pytest.raises(ValueError, match=r"Got None instead.*np\.arange\(n_samples\)"):
        split_by_subject(None)


def test_fewer_subjects_than_parts():
    with pytest.raises(ValueError, match="Got 2 subjects for 4 parts"):
        split_by_subject(["a", "b", "a"])
    with pytest.raises(ValueError, match="Got 0 subjects"):
        split_by_subject([])


@pytest.mark.parametrize(
    "sizes", [(), 0.5, (0.5, 0.6), (0.5, 0.0), (0.5, -0.1), ("a",), (np.nan,)]
)
def test_sizes_must_be_shares(sizes):
    with pytest.raises(ValueError, match="'sizes' parameter of split_by_subject must"):
        split_by_subject(np.arange(10), sizes)


def test_shapes():
    with pytest.raises(
        ValueError, match=r"'subject' parameter .* shape \(n_samples,\)"
    ):
        split_by_subject(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="Got 3 labels for 4 rows"):
        split_by_subject(np.arange(4), (0.5, 0.5), stratify=[0, 1, 0])
