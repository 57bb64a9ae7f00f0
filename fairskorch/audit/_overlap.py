"""The same rows where there should be others: told by marks of their content."""

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, issparse
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from fairskorch._marks import content_marks
from fairskorch.audit._findings import Finding

#: Share of rows that come again above which splits are taken for the same rows.
SAME = 0.5

#: Rows of the smaller of two splits that are looked for in the other, about.
COMPARED = 20_000

#: Share of rows that come again below which it may be chance.
CHANCE = 0.01


def check_rows_apart(splits):
    """Refuse splits that hold the same rows, and name those that share some.

    Only rows that occur once in their split are looked at: where most rows have a
    double (few columns of few values), equal rows are no evidence.

    Returns
    -------
    findings : list of Finding
    """
    findings, marks = [], {}
    keys = list(splits)
    for i, key in enumerate(keys):
        marks[key] = _marks(splits[key].X)
        for other in keys[:i]:
            share, n_rows = _shared(
                splits[key], marks[key], splits[other], marks[other]
            )
            if share >= SAME:
                raise ValueError(
                    f"The splits {other!r} and {key!r} of fairness_report are the same "
                    f"rows ({share:.0%} of the smaller one's are in the other); a "
                    "classifier is held out from none of them."
                )
            if share > CHANCE:
                found = round(share * n_rows)
                findings.append(
                    Finding(
                        f"{other} and {key}: {found} of {n_rows} rows that have no "
                        "double in their own split are in both; whoever was fitted or "
                        "chosen by one is not held out from the other.",
                        "shared rows",
                        {"splits": (other, key), "rows": found, "share": share},
                    )
                )
    return findings


def check_rows_known(estimators, splits):
    """Say which splits hold rows that an estimator was fitted on, or chosen by.

    Returns
    -------
    findings : list of Finding
    """
    findings = []
    for number, estimator in enumerate(estimators):
        who = type(estimator).__name__
        if len(estimators) > 1:
            who = f"fit {number + 1} ({who})"
        inner, steps = _inner(estimator)
        known = getattr(inner, "_known_marks", dict)()
        for key, split in splits.items() if known else ():
            X = split.X
            for step in steps:
                X = step.transform(X)
            marks = inner._marks_of(X)
            if marks is None or _distinct(marks).mean() < SAME:
                continue
            for role, own in known.items():
                if own is None:
                    continue
                share = float(np.isin(own, marks).mean())
                evidence = {"split": key, "share": share, "estimator": number}
                if key == "train" and role == "fitted" and share < SAME:
                    findings.append(
                        Finding(
                            f"train: only {share:.0%} of the rows that {who} was "
                            "fitted on are among these, so it shows less of what was "
                            "fitted than its name says.",
                            "not trained on",
                            evidence,
                        )
                    )
                elif key != "train" and share > CHANCE:
                    did = {
                        "fitted": "was fitted on",
                        "chosen": "had its epoch or its weight chosen by",
                    }[role]
                    findings.append(
                        Finding(
                            f"{key}: {share:.0%} of the rows that {who} {did} are "
                            "among these, so they are not held out.",
                            "rows that chose",
                            {**evidence, "role": role},
                        )
                    )
    return findings


def _inner(estimator):
    """Return the estimator inside pipelines and frozen ones, and the steps before."""
    steps = []
    while True:
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif isinstance(estimator, Pipeline):
            before = [step for _, step in estimator.steps[:-1]]
            steps += [s for s in before if s is not None and s != "passthrough"]
            estimator = estimator.steps[-1][1]
        else:
            return estimator, steps


def check_subjects(subjects):
    """Name the splits that share subjects.

    Returns
    -------
    findings : list of Finding
    """
    findings, keys = [], list(subjects)
    for i, key in enumerate(keys):
        for other in keys[:i]:
            both = np.intersect1d(subjects[other], subjects[key])
            if len(both):
                rows = int(np.isin(subjects[key], both).sum())
                findings.append(
                    Finding(
                        f"{other} and {key} share {len(both)} subjects ({rows} rows of "
                        f"{key}): what was learnt of them is not new to it.",
                        "shared subjects",
                        {
                            "splits": (other, key),
                            "subjects": len(both),
                            "rows": rows,
                        },
                    )
                )
    return findings


def _shared(a, marks_a, b, marks_b):
    """Return the share of the smaller split that is in the other, and of how many."""
    if a is b or (a.X is not None and a.X is b.X):
        return 1.0, len(a.frame)
    if marks_a is None or marks_b is None:
        return 0.0, 0
    if len(marks_a) == len(marks_b) and (marks_a == marks_b).all():
        labels = (np.asarray(s.y) for s in (a, b))
        if np.array_equal(*labels) and a.frame.equals(b.frame):
            return 1.0, len(marks_a)
    if len(marks_a) > len(marks_b):
        marks_a, marks_b = marks_b, marks_a
    # By their content, so that rows that are alike are all kept or all left out.
    every = np.uint64(max(1, len(marks_a) // COMPARED))
    marks_a, marks_b = (
        m[(m >> np.uint64(40)) % every == 0] for m in (marks_a, marks_b)
    )
    if not len(marks_a):
        return 0.0, 0
    codes, _ = pd.factorize(np.concatenate([marks_a, marks_b]))
    own, other = (
        np.bincount(part, minlength=codes.max() + 1)
        for part in np.split(codes, [len(marks_a)])
    )
    once = own == 1
    if once.sum() < SAME * len(marks_a):
        return 0.0, 0
    return float((other[once] > 0).mean()), int(once.sum()) * int(every)


def _distinct(marks):
    codes, levels = pd.factorize(marks)
    return (np.bincount(codes, minlength=len(levels)) == 1)[codes]


def _marks(X):
    """Return a mark for each row, or None where rows come one at a time."""
    if hasattr(X, "iloc"):
        return pd.util.hash_pandas_object(pd.DataFrame(X), index=False).to_numpy()
    if issparse(X):
        return _sparse_marks(coo_array(X))
    if hasattr(X, "detach"):
        X = X.detach().cpu()
        X = (X.float() if X.is_floating_point() else X).numpy()
    if isinstance(X, list | tuple):
        try:
            X = np.asarray(X)
        except ValueError:
            return None
    if getattr(getattr(X, "dtype", None), "kind", "") == "O":
        rows = pd.DataFrame(X.reshape(len(X), -1))
        return pd.util.hash_pandas_object(rows, index=False).to_numpy()
    return content_marks(X) if getattr(X, "ndim", 0) else None


def _sparse_marks(X):
    X.sum_duplicates()
    X.eliminate_zeros()
    values = X.data.astype(np.float32)
    words = pd.util.hash_array(values) * (pd.util.hash_array(X.col) | np.uint64(1))
    marks = np.zeros(X.shape[0], dtype=np.uint64)
    np.add.at(marks, X.row, words)
    return marks
