"""Data of the overfitting study: rows with two attributes, parts without overlap."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from fairskorch.datasets import (
    load_celeba,
    load_ham10000,
    make_biased_digits,
    split_by_subject,
)

TABLES = ("adult", "acsincome")
PHOTOGRAPHS = ("celeba", "ham_age", "ham_sex")

#: What takes minutes on a CPU, and all.
SMALL = (*TABLES, "digits")
TASKS = (*PHOTOGRAPHS, *SMALL)

#: Rows of a table that are trained on, with those of the penalty, and that choose.
TRAIN_ROWS, VALID_ROWS = 1500, 750
#: Those of the penalty among them.
PENALTY_ROWS = 375
#: Rows of a table that are tested on at most.
TEST_ROWS = 20_000

#: Shares of images: train, penalty, valid, test. One in fifty photographs is of the
#: rarest cell, so the test is large; what is trained on can be fitted exactly.
SHARES = {"digits": (0.45, 0.15, 0.15, 0.25)}
SHARES |= dict.fromkeys(PHOTOGRAPHS, (0.25, 0.15, 0.15, 0.45))


class Task(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    attributes: pd.DataFrame  # the first is penalised; None where unknown
    subject: np.ndarray | None = None


def load(name, root, cache, image_size):
    """Return the rows of a task."""
    if name == "digits":
        data = make_biased_digits(random_state=0)
        return Task(data.data, data.target, data.sensitive_features, data.subject)
    if name == "celeba":
        data = load_celeba(
            root / "celeba",
            sensitive=["Male", "Young"],
            image_size=image_size,
            cache=cache,
        )
        return Task(data.data, data.target, data.sensitive_features, data.subject)
    if name.startswith("ham"):
        columns = ["sex", "age_60"] if name == "ham_sex" else ["age_60", "sex"]
        data = load_ham10000(
            root / "ham10000", sensitive=columns, image_size=image_size, cache=cache
        )
        frame = data.sensitive_features[columns]
        return Task(data.data, data.target, frame, data.subject)
    return _table(name, root)


def _table(name, root):
    if name == "adult":
        frame = pd.read_csv(root / "tabular" / "adult.csv.gz")
        y = frame["income"].to_numpy()
        race = np.where(frame["race"] == "White", "white", "other")
        attributes = pd.DataFrame({"sex": frame["sex"], "race": race})
        drop = ["income", "sex", "race", "fnlwgt", "split"]
    else:
        frame = pd.read_csv(root / "tabular" / "acsincome_2018_100k.csv.gz")
        y = frame["PINCP"].to_numpy()
        sex = np.where(frame["SEX"] == 1, "Male", "Female")
        race = np.where(frame["RAC1P"] == 0, "white", "other")
        attributes = pd.DataFrame({"sex": sex, "race": race})
        drop = ["PINCP", "SEX", "RAC1P", "row_in_folktables", "part", "POBP"]
        frame = frame.astype(dict.fromkeys(["OCCP", "RELP", "COW", "MAR"], str))
    X = pd.get_dummies(frame.drop(columns=drop), dtype=np.float32)
    # Categories of a hundred rows say little in 1,500.
    X = X.loc[:, (X != 0).mean() > 0.002]
    return Task(X.to_numpy(np.float32), y, attributes.astype(object))


def split(name, task, seed):
    """Return row numbers: train, penalty, valid and test.

    The penalty's rows are trained on like the others unless an arm keeps them apart.
    """
    first = task.attributes.iloc[:, 0].astype(str).to_numpy()
    cell = np.array([f"{y}/{g}" for y, g in zip(task.y, first, strict=True)])
    names = ("train", "penalty", "valid", "test")
    if name not in TABLES:
        subject = np.arange(len(cell)) if task.subject is None else task.subject
        parts = split_by_subject(subject, SHARES[name], seed, stratify=cell)
        return dict(zip(names, parts, strict=True))
    rest, parts = np.arange(len(cell)), []
    for size in (TRAIN_ROWS - PENALTY_ROWS, PENALTY_ROWS, VALID_ROWS):
        part, rest = train_test_split(
            rest, train_size=size, stratify=cell[rest], random_state=seed
        )
        parts.append(part)
    return dict(zip(names, (*parts, rest[:TEST_ROWS]), strict=True))


def scaled(name, task, parts):
    """Return X, tables standardised by their training rows."""
    if name in TABLES:
        rows = np.r_[parts["train"], parts["penalty"]]
        scaler = StandardScaler().fit(task.X[rows])
        return scaler.transform(task.X).astype(np.float32)
    return task.X
