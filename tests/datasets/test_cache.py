"""The cache: found again, rebuilt when its sources change, never half-written."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from fairskorch.datasets import load_images
from fairskorch.datasets._cache import load_or_build


@pytest.fixture
def source(tmp_path, write_image):
    names = [f"{i}.png" for i in range(5)]
    for i, name in enumerate(names):
        write_image(tmp_path / "root" / name, seed=i)
    return pd.DataFrame({"path": names, "target": range(5), "group": "a"})


@pytest.fixture
def load(source, tmp_path):
    def call(table=source, root=tmp_path / "root", **kwargs):
        kwargs = {"image_size": 8, "cache": tmp_path / "cache"} | kwargs
        return load_images(table, root, **kwargs).data

    return call


def arrays(tmp_path):
    return sorted((tmp_path / "cache").glob("*.npy"))


def test_cached_equals_decoded_and_is_read_only(load, tmp_path):
    decoded = load(cache=None)
    assert type(decoded) is np.ndarray
    for _ in range(2):
        cached = load()
        assert isinstance(cached, np.memmap) and cached.dtype == np.uint8
        np.testing.assert_array_equal(cached, decoded)
        with pytest.raises(ValueError, match="read-only"):
            cached[0] = 0


def test_nothing_is_written_into_root(load, tmp_path):
    before = sorted((tmp_path / "root").rglob("*"))
    load()
    assert sorted((tmp_path / "root").rglob("*")) == before


def test_second_load_reads_the_map(load, tmp_path):
    load()
    [path] = arrays(tmp_path)
    # A mark inside the map shows that later loads read it and decode nothing.
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 255
    path.write_bytes(raw)
    assert load()[-1, -1, -1, -1] == raw[-1]
    assert arrays(tmp_path) == [path]


@pytest.mark.parametrize("change", ["content", "time"])
def test_changed_file_rebuilds_and_replaces(load, tmp_path, change, write_image):
    first = np.array(load())
    [old] = arrays(tmp_path)
    path = tmp_path / "root" / "3.png"
    if change == "content":
        write_image(path, seed=99)
    else:
        os.utime(path, ns=(0, 0))
    second = load()
    [new] = arrays(tmp_path)
    assert new != old
    assert (second[3] == first[3]).all() == (change == "time")
    np.testing.assert_array_equal(np.delete(second, 3, 0), np.delete(first, 3, 0))


def test_sizes_modes_and_tables_keep_apart(load, source, tmp_path):
    whole = [
        load(),
        load(image_size=12),
        load(mode="L"),
        load(source[:3]),
        load(source[::-1]),
    ]
    stamps = {path: path.stat().st_mtime_ns for path in arrays(tmp_path)}
    assert len(stamps) == 5
    again = [
        load(),
        load(image_size=12),
        load(mode="L"),
        load(source[:3]),
        load(source[::-1]),
    ]
    for a, b in zip(whole, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert {path: path.stat().st_mtime_ns for path in arrays(tmp_path)} == stamps


def test_equal_names_in_two_roots_keep_apart(load, tmp_path, write_image):
    for i in range(5):
        write_image(tmp_path / "other" / f"{i}.png", seed=50 + i)
    first, second = load(), load(root=tmp_path / "other")
    assert len(arrays(tmp_path)) == 2
    assert (first != second).any()


@pytest.mark.parametrize("damage", ["cut array", "no array", "record", "other array"])
def test_damaged_cache_is_rebuilt(load, tmp_path, damage):
    whole = np.array(load())
    [array] = arrays(tmp_path)
    [record] = (tmp_path / "cache").glob("*.json")
    if damage == "cut array":
        array.write_bytes(array.read_bytes()[:-10])
    elif damage == "no array":
        array.unlink()
    elif damage == "record":
        record.write_text("{}")
    else:
        np.save(array, np.zeros(3, dtype=np.uint8))
    np.testing.assert_array_equal(load(), whole)
    assert arrays(tmp_path) == [array]


class Stop(BaseException):
    """As a KeyboardInterrupt is: no Exception."""


def build(folder, chunks, checksum=0):
    return load_or_build(
        chunks,
        (4, 2),
        cache=folder,
        owner="load_x",
        title="x",
        root=folder,
        made_from=[("a", 1, checksum)],
        recipe={},
    )


def full():
    yield np.ones((3, 2), dtype=np.uint8)
    yield np.full((1, 2), 2, dtype=np.uint8)


def broken():
    yield np.zeros((3, 2), dtype=np.uint8)
    raise Stop


def test_interrupted_build_leaves_nothing(tmp_path):
    with pytest.raises(Stop):
        build(tmp_path, broken)
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(build(tmp_path, full)[:, 0], [1, 1, 1, 2])


def test_interrupted_rebuild_keeps_the_old_cache(tmp_path):
    build(tmp_path, full)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Stop):
        build(tmp_path, broken, checksum=1)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files
    np.testing.assert_array_equal(build(tmp_path, broken)[:, 0], [1, 1, 1, 2])


def test_concurrent_builds_agree(load, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: np.array(load(n_jobs=1)), range(8)))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_open_map_outlives_a_rebuild(load, tmp_path, write_image):
    first = load()
    before = np.array(first)
    write_image(tmp_path / "root" / "0.png", seed=99)
    load()
    np.testing.assert_array_equal(first, before)


def test_cache_must_be_a_folder(load, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="'cache' parameter of load_images"):
        load(cache=tmp_path / "file")
    with pytest.raises(ValueError, match="'cache' parameter of load_images must be"):
        load(cache=True)
