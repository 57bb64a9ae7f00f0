"""Data in the layouts of their releases, drawn at random: images and tables."""

import csv

import numpy as np
import pandas as pd
from PIL import Image

CELEBA_COLUMNS = ("Blond_Hair", "Male", "Young")


def write_image(path, seed=0, size=(40, 50), mode="RGB", shades=(0, 256)):
    """Write a smooth image (width x height) that differs by seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    coarse = rng.integers(*shades, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    image.convert(mode).save(path)
    return path


def write_celeba(root, attributes, people, partitions, shades=None):
    """Write faces with attributes (rows of `CELEBA_COLUMNS`, 1 or -1)."""
    names = [f"{i:06d}.jpg" for i in range(1, len(attributes) + 1)]
    for i, name in enumerate(names):
        kinds = {} if shades is None else {"shades": shades[i]}
        write_image(root / "img_align_celeba" / name, seed=i, **kinds)
    rows = [
        f"{name} {' '.join(f'{value:2d}' for value in row)}"
        for name, row in zip(names, attributes, strict=True)
    ]
    # The official header ends in a blank.
    head = [str(len(names)), f"{' '.join(CELEBA_COLUMNS)} "]
    (root / "list_attr_celeba.txt").write_text("\n".join(head + rows) + "\n")
    named = {"identity_CelebA": people, "list_eval_partition": partitions}
    for name, values in named.items():
        lines = [f"{n} {v}\n" for n, v in zip(names, values, strict=True)]
        (root / f"{name}.txt").write_text("".join(lines))
    return root


def write_ham10000(root, rows, shades=None):
    """Write images of lesions, by their rows, in the two official folders."""
    head = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
    for i, row in enumerate(rows):
        kinds = {} if shades is None else {"shades": shades[i]}
        folder = f"HAM10000_images_part_{1 + 2 * i // len(rows)}"
        write_image(root / folder / f"{row[1]}.jpg", seed=i, size=(50, 40), **kinds)
    with open(root / "HAM10000_metadata.csv", "w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return root


def write_studies(root, n_rows=3000, n_images=340):
    """Write all that the studies read: tables, faces and lesions.

    In each, one group has the positive class more often, and what is seen of a row
    tells its class with errors. Subjects of images have two images of one kind.
    """
    rng = np.random.default_rng(0)
    y, group, other, score = _drawn(rng, n_rows)
    folder = root / "tabular"
    folder.mkdir(parents=True)
    for name, make in {
        "adult": _adult,
        "compas": _compas,
        "acsincome_2018_100k": _acsincome,
    }.items():
        frame = pd.DataFrame(make(rng, y, group, other, score))
        frame.to_csv(folder / f"{name}.csv.gz", index=False)
    y, group, other, score = (part.repeat(2) for part in _drawn(rng, n_images // 2))
    darkest = np.clip(60 + 35 * score, 0, 190).astype(int)
    shades = [(int(shade), int(shade) + 60) for shade in darkest]
    people = np.arange(n_images) // 2
    write_celeba(
        root / "celeba", 2 * np.c_[y, group, other] - 1, people, people % 3, shades
    )
    sexes = np.where(group == 1, "male", "female").astype(object)
    sexes[: n_images // 20] = "unknown"
    rows = [
        [
            *(f"HAM_{people[i]}", f"ISIC_{i}", "mel" if y[i] else "nv", "histo"),
            *(70.0 if other[i] else 45.0, sexes[i], "back"),
        ]
        for i in range(n_images)
    ]
    write_ham10000(root / "ham10000", rows, shades)
    return root


def _drawn(rng, n):
    group, other = rng.integers(0, 2, (2, n))
    y = (rng.random(n) < 0.35 + 0.2 * group + 0.1 * other).astype(int)
    return y, group, other, 2.0 * y + 0.5 * group + rng.normal(size=n)


def _some(rng, names, n):
    return np.array(names.split())[rng.integers(0, len(names.split()), n)]


def _adult(rng, y, group, other, score):
    n = len(y)
    return {
        "age": (40 + 5 * score).astype(int),
        "workclass": _some(rng, "Private State-gov", n),
        "fnlwgt": rng.integers(10_000, 90_000, n),
        "education": np.where(score > 1, "Bachelors", "HS-grad"),
        "education_num": (9 + score).astype(int),
        "race": np.where(other == 1, "White", "Black"),
        "sex": np.where(group == 1, "Male", "Female"),
        "hours_per_week": (40 + 3 * rng.normal(size=n)).astype(int),
        "income": y,
        "split": _some(rng, "train test", n),
    }


def _compas(rng, y, group, other, score):
    n = len(y)
    race = np.where(group == 1, "African-American", "Caucasian").astype(object)
    race[: n // 10] = "Other"
    return {
        "id": np.arange(n),
        "sex": np.where(other == 1, "Male", "Female"),
        "age": (40 - 5 * score).astype(int),
        "age_cat": "25 - 45",
        "race": race,
        "priors_count": np.clip(2 * score, 0, None).astype(int),
        "days_b_screening_arrest": -1.0,
        "c_charge_degree": _some(rng, "F M", n),
        "c_charge_desc": _some(rng, "Arson Battery", n),
        "is_recid": y,
        "decile_score": rng.integers(1, 11, n),
        "score_text": _some(rng, "Low High", n),
        "two_year_recid": y,
        "propublica_filter": (np.arange(n) % 8 > 0).astype(int),
    }


def _acsincome(rng, y, group, other, score):
    n = len(y)
    return {
        "row_in_folktables": np.arange(n),
        "PINCP": y,
        "RAC1P": np.where(other == 1, 0, rng.integers(1, 9, n)),
        "SCHL": (16 + score).astype(int),
        "POBP": rng.integers(1, 60, n),
        "SEX": np.where(group == 1, 1, 2),
        "OCCP": rng.integers(1, 10, n) * 900,
        "RELP": rng.integers(0, 3, n),
        "COW": rng.integers(1, 4, n),
        "MAR": rng.integers(1, 4, n),
        "WKHP": (40 + 4 * score).astype(int),
        "AGEP": (40 + 5 * score).astype(int),
        "part": _some(rng, "train validation", n),
    }
