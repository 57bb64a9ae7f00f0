"""Tables of the constrained study: rows, classes, groups, and their splits."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

#: Groups with fewer positive test rows are left out of held-out figures.
LEAST_POSITIVES = 50

TASKS = ("adult", "adult_sex_race", "compas", "acsincome")


class Split(NamedTuple):
    """Training and test rows: X, y and groups of each."""

    train: tuple
    test: tuple


def load(name, root, n_rows=None):
    """Return X, y and groups of a task.

    Parameters
    ----------
    name : {"adult", "adult_sex_race", "compas", "acsincome"}
    root : Path
        A folder with ``tabular/``.
    n_rows : int, optional
        Take the first rows alone.
    """
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
    X = pd.get_dummies(frame, dtype=np.float32).to_numpy(np.float32)
    return tuple(part[:n_rows] for part in (X, y, groups))


def split(data, seed):
    """Return 70 % of the rows to train on, standardised, and the others to test."""
    X, y, groups = data
    train, test = train_test_split(
        np.arange(len(y)), test_size=0.3, stratify=y, random_state=seed
    )
    scaler = StandardScaler().fit(X[train])
    return Split(
        *(
            (scaler.transform(X[rows]).astype(np.float32), y[rows], groups[rows])
            for rows in (train, test)
        )
    )


def kept_groups(y, groups):
    """Return the groups with enough positive rows for a held-out figure."""
    names, counts = np.unique(groups[y == 1], return_counts=True)
    return names[counts >= LEAST_POSITIVES]
