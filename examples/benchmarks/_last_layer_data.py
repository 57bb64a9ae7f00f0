"""Data of the last-layer study: parts without a common subject, and presets."""

from typing import NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split

from fairskorch.datasets import (
    load_celeba,
    load_cifar10,
    load_ham10000,
    load_utkface,
    split_by_subject,
)

TASKS = ("celeba", "ham_age", "ham_sex")
PRESETS = ("repro_celeba", "repro_utk_age", "repro_utk_race", "repro_cifar10s")

#: Learning rate and epochs of the new layer in the reproduction, by preset, and what it
#: reports for the method on test rows: mean and standard deviation of ten runs.
REPRODUCTION = {
    "repro_celeba": (1e-3, 1000, {"bacc": (89.3, 0.4), "DEO": (12.7, 2.6)}),
    "repro_utk_age": (5e-3, 1500, {"bacc": (78.0, 3.7), "DEO": (26.9, 9.1)}),
    "repro_utk_race": (1e-3, 1500, {"bacc": (88.9, 0.2), "DEO": (6.9, 1.2)}),
    "repro_cifar10s": (1e-3, 1000, {"bacc": (80.3, 0.2), "DEO": (7.4, 0.8)}),
}

#: Share of training rows whose group goes with their class in the reproduction.
BIAS = 0.9


class Task(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray  # objects; None where unknown
    subject: np.ndarray | None
    parts: dict | None = None  # official row numbers, where there are such


def load(name, root, cache, image_size, part="train"):
    """Return the rows of a task or preset."""
    cache = {"cache": cache}
    if name in ("celeba", "repro_celeba"):
        size = 64 if name.startswith("repro") else image_size
        data = load_celeba(root / "celeba", image_size=size, **cache)
        groups = data.sensitive_features["Male"].astype(object).to_numpy()
        parts = None
        if name == "repro_celeba" and data.partition is not None:
            kinds = ("train", "valid", "test")
            parts = {kind: np.flatnonzero(data.partition == kind) for kind in kinds}
            parts = parts if all(map(len, parts.values())) else None
        return Task(data.data, data.target, groups, data.subject, parts)
    if name.startswith("ham"):
        by = "sex" if name == "ham_sex" else "age_60"
        data = load_ham10000(
            root / "ham10000", sensitive=by, image_size=image_size, **cache
        )
        groups = data.sensitive_features[by].to_numpy(dtype=object)
        return Task(data.data, data.target, groups, data.subject)
    if name == "repro_cifar10s":
        train, test = (load_cifar10(root, part=p, **cache) for p in ("train", "test"))
        numbers = np.arange(len(train.target) + len(test.target))
        later = len(train.target)
        # 2,000 of the originals choose and fine-tune, 9,000 are tested in both forms.
        held = np.isin(test.subject, np.unique(test.subject)[:1000])
        parts = {
            "train": numbers[:later],
            "valid": numbers[later:][held],
            "test": numbers[later:][~held],
        }
        return Task(
            np.concatenate([train.data, test.data]),
            np.concatenate([train.target, test.target]),
            np.concatenate(
                [d.sensitive_features["colour"].to_numpy(object) for d in (train, test)]
            ),
            None,
            parts,
        )
    data = load_utkface(root / "UTKFace", target="gender", **cache)
    if name == "repro_utk_race":
        race = data.sensitive_features["race"].to_numpy()
        white = race.astype(str) == str(np.sort(np.unique(race.astype(str)))[-1])
        keep, groups = np.ones(len(race), bool), np.where(white, "white", "other")
    else:
        keep = (data.age <= 10) | (data.age >= 20)
        groups = np.where(data.age <= 10, "child", "adult")
    rows = np.flatnonzero(keep)
    return Task(data.data[rows], data.target[rows], groups[rows].astype(object), None)


def split(task, seed, name):
    """Return row numbers of the parts of one run."""
    if task.parts is not None:
        return task.parts
    cell = np.array([f"{y}/{g}" for y, g in zip(task.y, task.groups, strict=True)])
    if name in PRESETS and task.subject is None:
        train, rest = train_test_split(
            np.arange(len(cell)), test_size=0.3, stratify=cell, random_state=seed
        )
        valid, test = train_test_split(
            rest, test_size=0.5, stratify=cell[rest], random_state=seed
        )
        return {"train": skewed(task, train, seed), "valid": valid, "test": test}
    subject = np.arange(len(cell)) if task.subject is None else task.subject
    names = ("train", "fine_tune", "selection", "test")
    parts = split_by_subject(subject, random_state=seed, stratify=cell)
    parts = dict(zip(names, parts, strict=True))
    if name in PRESETS:
        parts["valid"] = np.sort(np.r_[parts["fine_tune"], parts["selection"]])
    return parts


def skewed(task, rows, seed):
    """Drop rows until the share `BIAS` of each class has the group of that class."""
    rng = np.random.default_rng(seed)
    group, y = task.groups[rows].astype(str), task.y[rows]
    kinds = np.unique(group)
    kept = []
    for label in (0, 1):
        own = rows[(group == kinds[label]) & (y == label)]
        other = rows[(group != kinds[label]) & (y == label)]
        n_other = min(len(other), round(len(own) * (1 - BIAS) / BIAS))
        n_own = min(len(own), round(n_other * BIAS / (1 - BIAS)))
        kept += [rng.permutation(own)[:n_own], rng.permutation(other)[:n_other]]
    return np.sort(np.concatenate(kept))
