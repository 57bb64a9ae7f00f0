"""CIFAR-10S from binary batches."""

import numpy as np
import pytest

from fairskorch.datasets import load_cifar10


def originals(root, *names):
    folder = root / "cifar-10-batches-bin"
    raw = [np.fromfile(folder / name, dtype=np.uint8) for name in names]
    return np.concatenate(raw).reshape(-1, 3073)[:, 1:].reshape(-1, 3, 32, 32)


TRAIN = [f"data_batch_{i}.bin" for i in range(1, 6)]


def is_grey(bunch):
    return (bunch.sensitive_features["colour"] == "grey").to_numpy()


@pytest.mark.parametrize("skew", [0.95, 0.5, 0.0, 1.0])
def test_share_of_grey_images_in_each_class(cifar10, skew):
    images = load_cifar10(cifar10, skew=skew)
    grey = is_grey(images)
    for label in range(10):
        share = skew if label < 5 else 1 - skew
        assert grey[images.target == label].sum() == round(share * 20)


def test_pixels(cifar10):
    images = load_cifar10(cifar10, skew=0.7)
    before, grey = originals(cifar10, *TRAIN), is_grey(images)
    np.testing.assert_array_equal(images.data[~grey], before[~grey])
    luma = np.tensordot(before[grey], [0.299, 0.587, 0.114], axes=(1, 0))
    assert abs(images.data[grey] - luma[:, None]).max() <= 1
    assert (images.data[grey] == images.data[grey][:, :1]).all()
    assert images.subject.tolist() == list(range(200))
    assert images.target.tolist() == list(range(10)) * 20
    assert images.filenames[40] == "cifar-10-batches-bin/data_batch_2.bin"
    assert images.target_names[9] == "truck"
    assert "Krizhevsky" in images.DESCR


def test_the_test_part_holds_both_versions(cifar10):
    images = load_cifar10(cifar10, part="test")
    assert len(images.data) == len(images.filenames) == 40
    np.testing.assert_array_equal(
        images.data[:20], originals(cifar10, "test_batch.bin")
    )
    assert is_grey(images).tolist() == [False] * 20 + [True] * 20
    np.testing.assert_array_equal(images.target[:20], images.target[20:])
    np.testing.assert_array_equal(images.subject[:20], images.subject[20:])
    # Subjects of the training part end before 50,000.
    assert images.subject.min() == 50_000


def test_random_state_decides(cifar10):
    a, b, c = (load_cifar10(cifar10, random_state=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(a.data, b.data)
    assert (is_grey(a) != is_grey(c)).any()


def test_grey_classes(cifar10):
    images = load_cifar10(cifar10, skew=1.0, grey_classes=[9])
    np.testing.assert_array_equal(is_grey(images), images.target == 9)


def test_cache_follows_the_choice_of_grey_images(cifar10, tmp_path):
    cache = tmp_path / "cache"
    for kwargs in ({}, {"random_state": 1}, {"part": "test"}, {"skew": 0.5}):
        for _ in range(2):
            images = load_cifar10(cifar10, cache=cache, **kwargs)
            assert isinstance(images.data, np.memmap)
            expected = load_cifar10(cifar10, **kwargs)
            np.testing.assert_array_equal(images.data, expected.data)


def test_folder_of_batches_itself(cifar10):
    images = load_cifar10(cifar10 / "cifar-10-batches-bin")
    assert images.filenames[0] == "data_batch_1.bin" and len(images.data) == 200


def test_absent(cifar10, tmp_path):
    (cifar10 / "cifar-10-batches-bin" / "data_batch_3.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_3\.bin.*Get the binary"):
        load_cifar10(cifar10)
    with pytest.raises(FileNotFoundError, match="'root' parameter of load_cifar10"):
        load_cifar10(tmp_path / "absent")


@pytest.mark.parametrize("content", [b"", b"\1" * 3072, b"\12" * 3073])
def test_damaged(cifar10, content):
    (cifar10 / "cifar-10-batches-bin" / "data_batch_5.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"data_batch_5\.bin' must hold records"):
        load_cifar10(cifar10)


@pytest.mark.parametrize(
    ("name", "value"),
    [("part", "valid"), ("skew", 1.5), ("skew", "x"), ("grey_classes", [10])]
    + [("grey_classes", ["cat"]), ("cache", 3)],
)
def test_parameters(cifar10, name, value):
    with pytest.raises(ValueError, match=f"'{name}' parameter of load_cifar10 must"):
        load_cifar10(cifar10, **{name: value})
