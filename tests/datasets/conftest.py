"""Tiny data sets in the official layouts, written with pillow."""

import csv

import numpy as np
import pytest
from data_folders import write_celeba, write_ham10000
from data_folders import write_image as _write_image


@pytest.fixture(scope="session")
def write_image():
    return _write_image


@pytest.fixture
def celeba(tmp_path):
    """Six images of three persons, in the three partitions."""
    blond, male = [1, -1, 1, -1, 1, -1], [1, 1, -1, -1, -1, -1]
    attributes = np.column_stack([blond, male, np.ones(6, int)])
    people, partitions = [7, 7, 8, 8, 9, 9], [0, 0, 1, 1, 2, 2]
    return write_celeba(tmp_path / "celeba", attributes, people, partitions)


@pytest.fixture
def ham10000(tmp_path):
    """Six images of five lesions, in the two official folders of images."""
    rows = [
        ["HAM_1", "ISIC_1", "mel", "histo", "60.0", "male", "back"],
        ["HAM_1", "ISIC_2", "mel", "histo", "60.0", "male", "back"],
        ["HAM_2", "ISIC_3", "nv", "histo", "59.0", "female", "back"],
        ["HAM_3", "ISIC_4", "bcc", "histo", "85.0", "female", "face"],
        ["HAM_4", "ISIC_5", "akiec", "histo", "", "unknown", "face"],
        ["HAM_5", "ISIC_6", "bkl", "histo", "0.0", "male", "face"],
    ]
    return write_ham10000(tmp_path / "ham10000", rows)


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
