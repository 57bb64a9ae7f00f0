"""Tiny data sets in the official layouts, written with pillow."""

import csv

import numpy as np
import pytest
from PIL import Image


def _write_image(path, seed=0, size=(40, 50), mode="RGB"):
    """Write a smooth image (width x height) that differs by seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    image.convert(mode).save(path)
    return path


@pytest.fixture(scope="session")
def write_image():
    return _write_image


@pytest.fixture
def celeba(tmp_path):
    """Six images of three persons, in the three partitions."""
    root = tmp_path / "celeba"
    names = [f"{i:06d}.jpg" for i in range(1, 7)]
    for i, name in enumerate(names):
        _write_image(root / "img_align_celeba" / name, seed=i)
    blond, male = [1, -1, 1, -1, 1, -1], [1, 1, -1, -1, -1, -1]
    rows = [f"{n} {b:2d} {m:2d}  1" for n, b, m in zip(names, blond, male, strict=True)]
    # The official header ends in a blank.
    head = ["6", "Blond_Hair Male Young "]
    (root / "list_attr_celeba.txt").write_text("\n".join(head + rows) + "\n")
    people = [f"{n} {i}" for n, i in zip(names, [7, 7, 8, 8, 9, 9], strict=True)]
    (root / "identity_CelebA.txt").write_text("\n".join(people) + "\n")
    parts = [f"{n} {i}" for n, i in zip(names, [0, 0, 1, 1, 2, 2], strict=True)]
    (root / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return root


@pytest.fixture
def ham10000(tmp_path):
    """Six images of five lesions, in the two official folders of images."""
    root = tmp_path / "ham10000"
    rows = [
        ["HAM_1", "ISIC_1", "mel", "histo", "60.0", "male", "back"],
        ["HAM_1", "ISIC_2", "mel", "histo", "60.0", "male", "back"],
        ["HAM_2", "ISIC_3", "nv", "histo", "59.0", "female", "back"],
        ["HAM_3", "ISIC_4", "bcc", "histo", "85.0", "female", "face"],
        ["HAM_4", "ISIC_5", "akiec", "histo", "", "unknown", "face"],
        ["HAM_5", "ISIC_6", "bkl", "histo", "0.0", "male", "face"],
    ]
    head = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
    for i, row in enumerate(rows):
        folder = f"HAM10000_images_part_{1 + i // 3}"
        _write_image(root / folder / f"{row[1]}.jpg", seed=i, size=(50, 40))
    with open(root / "HAM10000_metadata.csv", "w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return root


@pytest.fixture
def utkface(tmp_path):
    """Four faces with full names, two files with parts missing."""
    root = tmp_path / "UTKFace"
    names = [
        "19_0_0_20170109150557335.jpg.chip.jpg",
        "20_1_4_20170109150557336.jpg.chip.jpg",
        "45_1_2_20170109150557337.jpg",
        "60_0_3_20170109150557338.jpg.chip.jpg",
        "39_1_20170116174525125.jpg.chip.jpg",
        "53__0_20170116184028385.jpg",
    ]
    for i, name in enumerate(names):
        _write_image(root / name, seed=i, size=(30, 30))
    return root


@pytest.fixture
def chexpert(tmp_path):
    """Five views of three patients below the folder of the release."""
    root = tmp_path / "CheXpert-v1.0-small"
    head = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "Edema"]
    head += ["Pleural Effusion"]
    views = [
        ("patient00001/study1/view1_frontal.jpg", "Female", 68, "Frontal", "1.0"),
        ("patient00001/study1/view2_lateral.jpg", "Female", 68, "Lateral", "1.0"),
        ("patient00002/study1/view1_frontal.jpg", "Male", 59, "Frontal", "-1.0"),
        ("patient00002/study2/view1_frontal.jpg", "Male", 60, "Frontal", ""),
        ("patient00003/study1/view1_frontal.jpg", "Unknown", 0, "Frontal", "0.0"),
    ]
    rows = []
    for i, (name, sex, age, view, label) in enumerate(views):
        _write_image(root / "train" / name, seed=i, size=(48, 40), mode="L")
        path = f"CheXpert-v1.0-small/train/{name}"
        rows.append([path, sex, age, view, "AP", "0.0", label])
    with open(root / "train.csv", "w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return root


@pytest.fixture
def cifar10(tmp_path):
    """Five training batches of forty records, a test batch of twenty."""
    root = tmp_path / "cifar"
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    files = [(f"data_batch_{i}.bin", 40) for i in range(1, 6)] + [
        ("test_batch.bin", 20)
    ]
    for name, n in files:
        records = rng.integers(0, 256, (n, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(n) % 10
        records.tofile(folder / name)
    return root
