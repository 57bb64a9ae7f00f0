import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from fairskorch import augment
from fairskorch.batches import Batches, GroupedRows
from fairskorch.sampling import EpochSampler


class Pairs(Dataset):
    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], 0, "a"


def collect(batches):
    parts = list(batches)
    return torch.cat([fields["X"] for fields, _ in parts]), torch.cat(
        [target for _, target in parts]
    )


@pytest.fixture
def array(rng):
    return rng.integers(0, 256, (23, 3, 4, 5)).astype(np.uint8)


def variants(array, tmp_path):
    read_only = array.copy()
    read_only.setflags(write=False)
    np.save(tmp_path / "x.npy", array)
    return {
        "array": array,
        "read-only array": read_only,
        "memory map": np.load(tmp_path / "x.npy", mmap_mode="r"),
        "tensor": torch.as_tensor(array),
        "Dataset": Pairs(array),
    }


def test_all_sources_give_the_same_batches(array, tmp_path, device):
    expected = torch.as_tensor(array).float() / 255
    for name, source in variants(array, tmp_path).items():
        rows = GroupedRows(source, y=np.arange(23) % 2, groups=np.arange(23) % 3)
        X, y = collect(Batches(rows, 10, device=device))
        torch.testing.assert_close(X.cpu(), expected, msg=name)
        assert y.cpu().tolist() == (np.arange(23) % 2).tolist()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_rows_of_a_dataset_keep_their_codes_with_workers(array, num_workers):
    rows = GroupedRows(Pairs(array), y=np.arange(23), groups=np.arange(23))
    part = rows.subset(np.arange(20))
    sampler = EpochSampler("shuffle", part.y, part.groups, 7)
    batches = Batches(part, 7, sampler, num_workers=num_workers)
    for _ in range(2):
        seen = []
        for fields, target in batches:
            expected = torch.as_tensor(array[target.numpy()]).float() / 255
            torch.testing.assert_close(fields["X"], expected)
            assert torch.equal(fields["groups"], target)
            seen += target.tolist()
        assert sorted(seen) == list(range(20))


def test_layouts_put_channels_first(array):
    first, _ = collect(Batches(GroupedRows(array), 23))
    last = GroupedRows(array.transpose(0, 2, 3, 1), layout="last")
    torch.testing.assert_close(collect(Batches(last, 23))[0], first)
    gray = GroupedRows(array[:, 0], layout="gray")
    torch.testing.assert_close(collect(Batches(gray, 23))[0], first[:, :1])


def test_a_subset_shares_the_data(array):
    rows = GroupedRows(array, y=np.arange(23), weight=np.arange(23.0))
    part = rows.subset([5, 3]).subset([1])
    assert part.source is rows.source
    (fields, target) = part[0]
    assert target == 3
    assert fields["weight"] == 3
    torch.testing.assert_close(fields["X"], torch.as_tensor(array[3]).float() / 255)


def test_weights_of_stratified_batches_hold_the_importance(rng):
    y = torch.as_tensor((rng.random(100) < 0.04).astype(int))
    weight = torch.as_tensor(rng.random(100))
    rows = GroupedRows(np.zeros((100, 1)), y, torch.zeros(100), weight)
    sampler = EpochSampler("stratified", rows.y, rows.groups, 10)
    assert (sampler.importance < 1).any()
    batches = Batches(rows, 10, sampler, dtype=torch.float64, importance=True)
    for fields, _ in batches:
        assert (fields["importance"] > 0).all()
    torch.testing.assert_close(batches.fields["weight"], weight * sampler.importance)


def test_flip_mirrors_whole_images_about_half_of_the_time(device):
    torch.manual_seed(0)
    images = torch.rand(400, 2, 3, 5, device=device)
    found = augment.flip(images)
    mirrored = (found == images.flip(3)).flatten(1).all(1)
    same = (found == images).flatten(1).all(1)
    assert (mirrored ^ same).all()
    assert 140 < int(mirrored.sum()) < 260


def test_shift_moves_by_at_most_a_tenth_and_repeats_edges(device):
    torch.manual_seed(0)
    ramp = torch.arange(20.0, device=device)
    images = (ramp[:, None] * 100 + ramp).expand(64, 1, 20, 20)
    found = augment.shift(images)
    middle = found[:, 0, 10, 10] - images[:, 0, 10, 10]
    rows, columns = (middle / 100).round(), middle - 100 * (middle / 100).round()
    assert rows.abs().max() == 2
    assert columns.abs().max() == 2
    assert found.min() >= 0
    assert found.max() <= 1919
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) > 10


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"groups": [0, 1, 1, 0]}, r"groups of .* each of 3 rows; got the shape \(4,"),
        ({"groups": [[0], [1], [1]]}, r"each of 3 rows; got the shape \(3, 1\)"),
        ({"y": [0, 1]}, r"y of .* each of 3 rows; got the shape \(2,\)"),
        ({"attributes": {"sex": [0]}}, "sex of GroupedRows must hold a code for each"),
        ({"groups": ["f", "m", "f"]}, "codes from 0 on; got <U1.*GroupEncoder"),
    ],
)
def test_codes_of_other_rows_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        GroupedRows(np.zeros((3, 2)), **given)
