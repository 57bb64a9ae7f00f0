"""Tasks of the constrained study: rows, classes, groups, and their splits."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from fairskorch.datasets import load_celeba, load_ham10000, split_by_subject

TABLES = ("adult", "adult_sex_race", "compas", "acsincome")
IMAGES = ("celeba", "ham_age", "ham_sex")
TASKS = (*TABLES, *IMAGES)

#: Groups with fewer positive test rows are left out of held-out figures of tables.
LEAST_POSITIVES = 50


class Task(NamedTuple):
    """Rows of known group."""

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    subject: np.ndarray | None = None
    #: Positive test rows that a group needs to count there.
    least: int = LEAST_POSITIVES


class Split(NamedTuple):
    """Training and test rows: X, y and groups of each."""

    train: tuple
    test: tuple


def load(name, root, n_rows=None, cache=None, size=48):
    """Return the rows of a task.

    Parameters
    ----------
    name : str
        One of `TASKS`.
    root : Path
        A folder with ``tabular/``, ``celeba/`` and ``ham10000/``.
    n_rows : int, optional
        Take the first rows of a table alone, or so many images, evenly spaced.
    cache : Path, optional
        Folder for decoded images.
    size : int
        Pixels of images.
    """
    if name in TABLES:
        X, y, groups = _table(name, root)
        return Task(X[:n_rows], y[:n_rows], groups[:n_rows])
    if name == "celeba":
        data = load_celeba(root / "celeba", image_size=size, cache=cache)
        groups = data.sensitive_features["Male"]
    else:
        by = "sex" if name == "ham_sex" else "age_60"
        data = load_ham10000(
            root / "ham10000", sensitive=by, image_size=size, cache=cache
        )
        groups = data.sensitive_features[by]
    # Of a few dozen images the group is not known.
    rows = np.flatnonzero(groups.notna())
    if n_rows is not None:
        some = min(n_rows, len(rows))
        rows = rows[np.linspace(0, len(rows) - 1, some).astype(int)]
    names = groups.to_numpy()[rows].astype(str)
    X, y, subject = (part[rows] for part in (data.data, data.target, data.subject))
    # Blond men are too few for the rule of the tables.
    return Task(X, y, names, subject, least=0)


def _table(name, root):
    if name.startswith("adult"):
        frame = pd.read_csv(root / "tabular" / "adult.csv.gz")
        y = frame["income"]
        columns = ["sex", "race"] if name.endswith("race") else ["sex"]
        drop = ["income", "sex", "race", "fnlwgt", "split"]
        coded = []
    elif name == "compas":
        frame = pd.read_csv(root / "tabular" / "compas.csv.gz")
        frame = frame[frame.propublica_filter == 1]
        frame = frame[frame.race.isin(["African-American", "Caucasian"])]
        y, columns = frame["two_year_recid"], ["race"]
        drop = ["id", "sex", "race", "age_cat", "days_b_screening_arrest"]
        drop += ["c_charge_desc", "is_recid", "decile_score", "score_text"]
        drop += ["propublica_filter", "two_year_recid"]
        coded = []
    else:
        frame = pd.read_csv(root / "tabular" / "acsincome_2018_100k.csv.gz")
        y, columns = frame["PINCP"], ["SEX"]
        drop = ["PINCP", "SEX", "RAC1P", "row_in_folktables", "part", "POBP"]
        # A column for each of 500 occupations would be most of the table.
        frame["OCCP"] = frame["OCCP"] // 100
        coded = ["OCCP", "RELP", "COW", "MAR"]
    groups = frame[columns].astype(str).agg("/".join, axis=1).to_numpy()
    y = (y == 1).astype(int).to_numpy()
    frame = frame.drop(columns=drop).astype(dict.fromkeys(coded, str))
    return pd.get_dummies(frame, dtype=np.float32).to_numpy(np.float32), y, groups


def split(task, seed):
    """Return rows to train on, 70 % of a table or 75 % of the images, and to test.

    Tables are standardised by their training rows; no subject of images is in both.
    """
    X, y, groups = task.X, task.y, task.groups
    if task.subject is not None:
        cell = np.array([f"{c}/{g}" for c, g in zip(y, groups, strict=True)])
        parts = split_by_subject(task.subject, (0.75, 0.25), seed, stratify=cell)
        return Split(*((X[rows], y[rows], groups[rows]) for rows in parts))
    parts = train_test_split(
        np.arange(len(y)), test_size=0.3, stratify=y, random_state=seed
    )
    scaler = StandardScaler().fit(X[parts[0]])
    return Split(
        *(
            (scaler.transform(X[rows]).astype(np.float32), y[rows], groups[rows])
            for rows in parts
        )
    )
