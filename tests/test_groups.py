import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairskorch.groups import GroupEncoder

LABELS = st.one_of(st.integers(-3, 3), st.sampled_from(["a", "b", "-1"]), st.none())


@given(st.lists(LABELS, max_size=30))
def test_codes_lead_back_to_labels(labels):
    encoder = GroupEncoder().fit(labels)
    codes = encoder.transform(labels)
    assert codes.dtype == np.int64
    for code, label in zip(codes, labels, strict=True):
        if label is None:
            assert code == -1
        else:
            assert encoder.labels_[code] == label


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=30))
def test_only_crossings_that_occur_are_groups(rows):
    encoder = GroupEncoder().fit(rows)
    codes = encoder.transform(rows)
    expected = {row for row in rows if None not in row}
    assert set(encoder.labels_) == expected
    for code, row in zip(codes, rows, strict=True):
        assert (code == -1) == (None in row)
        if code >= 0:
            assert encoder.labels_[code] == row


@pytest.mark.parametrize(
    "labels",
    [
        ["m", "f", "m"],
        np.array(["m", "f", "m"]),
        pd.Series(["m", "f", "m"], name="sex"),
        pd.Series(["m", "f", "m"], dtype="string"),
        pd.Series(["m", "f", "m"], dtype="category"),
        pd.DataFrame({"sex": ["m", "f", "m"]}),
    ],
    ids=lambda v: type(v).__name__,
)
def test_all_containers_give_the_same_groups(labels):
    encoder = GroupEncoder().fit(labels)
    assert encoder.labels_.tolist() == ["f", "m"]
    assert encoder.transform(labels).tolist() == [1, 0, 1]


def test_minus_one_is_a_label_like_any_other():
    encoder = GroupEncoder().fit(torch.tensor([1, -1, 1]))
    assert encoder.labels_.tolist() == [-1, 1]
    assert encoder.transform([-1, 1]).tolist() == [0, 1]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, float("nan")])
def test_missing_values_are_unknown(missing):
    column = pd.Series(["a", missing, "b"], dtype=object)
    assert GroupEncoder().fit(column).transform(column).tolist() == [0, -1, 1]
    both = pd.DataFrame({"first": ["x", "x", "y"], "second": column})
    assert GroupEncoder().fit(both).transform(both).tolist() == [0, -1, 1]


def test_labels_of_mixed_types_are_ordered_by_type_and_text():
    encoder = GroupEncoder().fit(["b", 2, "a", 1])
    assert encoder.labels_.tolist() == [1, 2, "a", "b"]


def test_new_labels_are_unknown_and_listed():
    encoder = GroupEncoder().fit(["a", "b"])
    assert encoder.transform(["b", "c", None]).tolist() == [1, -1, -1]
    assert encoder.unseen(["b", "c", None, "d", "c"]) == ["c", "d"]


def test_no_known_label_gives_no_group():
    encoder = GroupEncoder().fit([None, None])
    assert len(encoder.labels_) == 0
    assert encoder.transform([None, "a"]).tolist() == [-1, -1]


def test_index_names_the_columns():
    frame = pd.DataFrame({"sex": ["f", "m"], "old": [True, False]})
    assert GroupEncoder().fit(frame).index().names == ["sex", "old"]
    assert GroupEncoder().fit(frame["sex"]).index().name == "sex"


@pytest.mark.parametrize("shape", [(3, 0), (3, 2, 2), ()])
def test_impossible_shapes_are_refused(shape):
    with pytest.raises((ValueError, TypeError)):
        GroupEncoder().fit(np.zeros(shape))


def test_other_number_of_columns_is_refused():
    encoder = GroupEncoder().fit(["a", "b"])
    with pytest.raises(
        ValueError, match="has 2 columns; the groups were learnt from 1"
    ):
        encoder.transform([["a", "b"], ["b", "a"]])


def test_columns_are_found_by_their_names():
    frame = pd.DataFrame({"a": [True, True, False], "b": [True, False, False]})
    encoder = GroupEncoder().fit(frame)
    expected = encoder.transform(frame)
    assert encoder.transform(frame[["b", "a"]]).tolist() == expected.tolist()
    assert encoder.transform(frame.to_numpy()).tolist() == expected.tolist()
    new = pd.DataFrame({"b": ["x"], "a": [False]})
    assert encoder.unseen(new) == [(False, "x")]


def test_columns_of_one_name_are_refused():
    frame = pd.DataFrame([[0, 1], [1, 1]], columns=["a", "a"])
    with pytest.raises(ValueError, match="different names; got several called 'a'"):
        GroupEncoder().fit(frame)


@pytest.mark.parametrize("learnt", [bool, int, np.uint8, np.float16, ">i4", float])
def test_groups_are_found_by_what_they_equal(learnt):
    values = np.array([0, 1, 1, 0])
    encoder = GroupEncoder().fit(values.astype(learnt))
    for kind in (bool, int, np.float16, ">f8"):
        np.testing.assert_array_equal(encoder.transform(values.astype(kind)), values)
