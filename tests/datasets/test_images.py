"""Decoding, crop and resize, seen through load_images."""

import builtins

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fairskorch.datasets import load_images


@pytest.fixture
def table(tmp_path, write_image):
    names = [f"{i}.jpg" for i in range(150)]
    for i, name in enumerate(names):
        write_image(tmp_path / name, seed=i)
    return pd.DataFrame({"path": names, "target": 0, "group": "a"})


def one(tmp_path, name, **kwargs):
    frame = pd.DataFrame({"path": [name], "target": [0], "group": ["a"]})
    return load_images(frame, tmp_path, **kwargs).data[0]


def test_parallel_equals_serial(table, tmp_path):
    serial = load_images(table, tmp_path, n_jobs=1, image_size=16).data
    assert serial.shape == (150, 3, 16, 16) and serial.dtype == np.uint8
    assert len(np.unique(serial.reshape(150, -1), axis=0)) == 150
    for n_jobs in (2, -1, None):
        again = load_images(table, tmp_path, n_jobs=n_jobs, image_size=16).data
        np.testing.assert_array_equal(again, serial)


def test_rows_keep_the_order_of_the_table(table, tmp_path):
    straight = load_images(table, tmp_path, image_size=8).data
    back = load_images(table[::-1], tmp_path, image_size=8).data
    np.testing.assert_array_equal(back, straight[::-1])


def test_progress_bar_only_if_asked(table, tmp_path, capsys):
    load_images(table, tmp_path, image_size=8)
    assert capsys.readouterr().err == ""
    load_images(table, tmp_path, image_size=8, verbose=1)
    assert "150/150" in capsys.readouterr().err


@pytest.mark.parametrize("size", [(60, 20), (20, 60)])
def test_centre_crop(tmp_path, size):
    pixels = np.zeros((60, 20, 3), dtype=np.uint8)
    pixels[20:40] = (10, 200, 30)
    if size == (60, 20):
        pixels = pixels.transpose(1, 0, 2)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = one(tmp_path, "a.png", image_size=10)
    np.testing.assert_array_equal(data[:, 3, 4], [10, 200, 30])
    assert (data == data[:, :1, :1]).all()


def test_resize_is_antialiased(tmp_path):
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    Image.fromarray(board.astype(np.uint8)).save(tmp_path / "a.png")
    data = one(tmp_path, "a.png", image_size=8, mode="L")
    assert data.shape == (1, 8, 8)
    assert abs(data.astype(int) - 127).max() <= 4


def test_reduced_jpeg_decoding_is_near_the_whole_one(tmp_path, write_image):
    path = write_image(tmp_path / "a.jpg", size=(400, 400))
    with Image.open(path) as image:
        whole = np.asarray(image.resize((24, 24), Image.Resampling.BILINEAR))
    data = one(tmp_path, "a.jpg", image_size=24)
    assert abs(data.transpose(1, 2, 0).astype(int) - whole).max() <= 6


def test_small_image_is_enlarged(tmp_path):
    Image.new("RGB", (3, 3), (1, 2, 3)).save(tmp_path / "a.png")
    data = one(tmp_path, "a.png", image_size=12)
    np.testing.assert_array_equal(data, np.full((3, 12, 12), 1) + [[[0]], [[1]], [[2]]])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(tmp_path, mode):
    suffix = {"CMYK": "tif", "YCbCr": "tif"}.get(mode, "png")
    Image.new("RGB", (9, 9), (255, 255, 255)).convert(mode).save(
        tmp_path / f"a.{suffix}"
    )
    data = one(tmp_path, f"a.{suffix}", image_size=9)
    assert data.shape == (3, 9, 9) and data.min() >= 254


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (9, 9), 1)
    image.putpalette([0, 0, 0, 250, 5, 5])
    image.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    np.testing.assert_array_equal(
        one(tmp_path, "a.png", image_size=4)[:, 0, 0], [250, 5, 5]
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, orientation):
    upright = np.zeros((32, 32), dtype=np.uint8)
    upright[:16, :16] = 250
    upright[:16, 16:] = 120
    stored = {
        1: upright,
        2: np.fliplr(upright),
        3: np.rot90(upright, 2),
        4: np.flipud(upright),
        5: upright.T,
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    data = one(tmp_path, "a.jpg", image_size=32, mode="L")[0]
    assert abs(data.astype(int) - upright)[4:12, 4:28:8].max() < 10
    assert data[24, 8] < 10


def test_more_than_8_bits_are_refused(tmp_path):
    deep = np.full((9, 9), 40_000, dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="more than 8 bits a channel"):
        one(tmp_path, "a.png")


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
@pytest.mark.parametrize("cached", [False, True])
def test_damaged_image_names_path_and_row(table, tmp_path, damage, cached):
    bad = tmp_path / "97.jpg"
    whole = bad.read_bytes()
    content = {"cut": whole[: len(whole) // 2], "text": b"no image", "empty": b""}
    bad.write_bytes(content[damage])
    cache = tmp_path / "cache"
    with pytest.raises(ValueError, match=r"97\.jpg' \(row 97\) cannot be decoded"):
        load_images(table, tmp_path, n_jobs=2, cache=cache if cached else None)
    assert list(cache.glob("**/*")) == []


def test_out_of_memory_is_not_taken_for_damage(table, tmp_path, monkeypatch):
    def resize(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", resize)
    with pytest.raises(MemoryError):
        load_images(table, tmp_path)


def test_absent_image_names_path_and_row(table, tmp_path):
    (tmp_path / "31.jpg").unlink()
    cache = tmp_path / "cache"
    with pytest.raises(FileNotFoundError, match=r"31\.jpg' \(row 31\) is not on disk"):
        load_images(table, tmp_path, cache=cache)
    assert not cache.exists()


@pytest.mark.parametrize("size", [0, -1, 2.0, "64", True, None])
def test_image_size_must_be_a_positive_int(table, tmp_path, size):
    with pytest.raises(ValueError, match="'image_size' parameter of load_images must"):
        load_images(table, tmp_path, image_size=size)


@pytest.mark.parametrize("n_jobs", [0, 1.5, "two", True])
def test_n_jobs_must_be_an_int(table, tmp_path, n_jobs):
    with pytest.raises(ValueError, match="'n_jobs' parameter of load_images must"):
        load_images(table, tmp_path, n_jobs=n_jobs)


def test_absent_pillow_says_how_to_install_it(table, tmp_path, monkeypatch):
    real = builtins.__import__

    def without_pillow(name, *args, **kwargs):
        if name.split(".")[0] == "PIL":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pillow)
    with pytest.raises(ImportError, match=r'pip install "fairskorch\[images\]"'):
        load_images(table, tmp_path)


def test_import_needs_no_pillow():
    import subprocess
    import sys

    code = "import sys; sys.modules['PIL'] = None; import fairskorch.datasets"
    subprocess.run([sys.executable, "-c", code], check=True)
