"""Reading splits: rows, labels, groups by attribute, subjects."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from fairskorch.groups import (
    UNKNOWN,
    GroupEncoder,
    as_frame,
    in_order,
    refuse_names,
)

#: Columns of the table that are no split.
DIFFERENCE = "difference"
VERSUS = "versus baseline"


class Split(NamedTuple):
    """The rows of one split as they were given, checked.

    Attributes
    ----------
    X, y : array-like
    given : array-like
        Groups as they were given, for a `predict` that needs them.
    frame : DataFrame of shape (n_samples, k)
        The same, as objects.
    left_out : int
        Rows that a classifier which needs the group cannot predict.
    keep : ndarray of int64 or None
        Numbers of the rows that stayed, where some were left out.
    """

    X: object
    y: object
    given: object
    frame: pd.DataFrame
    left_out: int = 0
    keep: np.ndarray | None = None


class Attribute(NamedTuple):
    """One way to divide rows into groups: a sensitive column, or all of them crossed.

    Attributes
    ----------
    title : str
        Name of the column, or names joined by " x ".
    columns : list of int
    encoder : GroupEncoder
    codes : dict of str to ndarray of shape (n_samples,), int64
        Of each split.
    """

    title: str
    columns: list
    encoder: GroupEncoder
    codes: dict

    @property
    def labels(self):
        """Labels of the groups in code order."""
        return self.encoder.labels_.tolist()


def read_splits(train, test, further):
    """Check the splits of `fairness_report`, and bring their groups into frames."""
    if not (isinstance(further, dict) and all(isinstance(k, str) for k in further)):
        raise ValueError(
            "splits of fairness_report must be a dict of the name of a split, a "
            f"string, to (X, y, groups); got {_kinds(further)}."
        )
    reserved = {"train", "test", DIFFERENCE, VERSUS} & set(further)
    if reserved:
        raise ValueError(
            f"splits of fairness_report must not use the name {sorted(reserved)[0]!r}."
        )
    read = {}
    for key, split in {"train": train, "test": test, **further}.items():
        if not (isinstance(split, tuple | list) and len(split) == 3):
            raise ValueError(
                f"The split {key!r} of fairness_report must be (X, y, groups); got "
                f"{type(split).__name__}"
                + (f" of {len(split)}." if hasattr(split, "__len__") else ".")
            )
        X, y, groups = split
        owner = f"fairness_report, split {key!r},"
        for what, of, rows in (("y", "label", y), ("groups", "group", groups)):
            if not hasattr(rows, "__len__"):
                raise ValueError(
                    f"{what} of {owner} must give the {of} of each row; got {rows!r}."
                )
        refuse_names(owner, groups, X)
        frame = as_frame(groups)
        lengths = len(y), len(frame)
        if lengths[0] != lengths[1] or not lengths[0]:
            raise ValueError(
                f"y and groups of {owner} must have the same number of rows, at least "
                f"one; got {lengths[0]} and {lengths[1]}."
            )
        read[key] = Split(X, y, groups, frame)
    widths = {key: split.frame.shape[1] for key, split in read.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(
            "The groups of all splits of fairness_report must have the same columns; "
            f"got {widths} columns."
        )
    return read


def _kinds(further):
    """Say what was given for `splits`."""
    if isinstance(further, dict):
        return f"the names {list(further)}"
    return type(further).__name__


def only_known(splits):
    """Leave out rows of unknown group, which a classifier cannot predict."""
    found = {}
    for key, split in splits.items():
        known = split.frame.notna().all(axis=1).to_numpy()
        if not known.all():
            keep = np.flatnonzero(known)
            if not len(keep):
                raise ValueError(
                    f"The split {key!r} of fairness_report has no row of known group, "
                    "and the classifier needs the group to predict."
                )
            X, y, given = (_take(x, keep) for x in split[:3])
            frame = split.frame.iloc[keep].reset_index(drop=True)
            split = Split(X, y, given, frame, int((~known).sum()), keep)
        found[key] = split
    return found


def _take(rows, keep):
    if isinstance(rows, dict):
        rows = pd.DataFrame(rows)
    if hasattr(rows, "iloc"):
        return rows.iloc[keep]
    return rows[keep] if hasattr(rows, "shape") else [rows[i] for i in keep]


def attributes_of(splits):
    """Learn the groups of each column, and of all columns crossed, over all splits.

    Returns
    -------
    attributes : list of Attribute
        The last one has all columns.
    """
    names = next(iter(splits.values())).frame.columns
    frames = [
        in_order(split.frame, names).set_axis(names, axis=1)
        for split in splits.values()
    ]
    stacked = pd.concat(frames, ignore_index=True)
    ends = np.cumsum([len(frame) for frame in frames])[:-1]
    columns = [[j] for j in range(len(names))]
    if len(names) > 1:
        columns.append(list(range(len(names))))
    found = []
    for chosen in columns:
        encoder = GroupEncoder()
        codes = encoder.fit_transform(stacked.iloc[:, chosen])
        title = " x ".join(map(str, names[chosen]))
        parts = dict(zip(splits, np.split(codes, ends), strict=True))
        if len(chosen) == 1 and "overall" in encoder.labels_.tolist():
            raise ValueError(
                f"groups of fairness_report must call no group of {title!r} 'overall', "
                "which is what the rows over all groups are called."
            )
        found.append(Attribute(title, chosen, encoder, parts))
    if not len(found[-1].labels):
        raise ValueError(
            "groups of fairness_report must name the group of at least one row; every "
            "row's is missing."
        )
    return found


def read_subjects(subjects, splits):
    """Code the subjects of splits, those of one name alike.

    Returns
    -------
    codes : dict of str to ndarray of shape (n_samples,), int64
        A row of missing subject is a subject of its own.
    """
    if subjects is not None and not isinstance(subjects, dict):
        raise ValueError(
            "subjects of fairness_report must be a dict of split name to the subject "
            f"of each row; got {type(subjects).__name__}."
        )
    arrays = {}
    for key, ids in (subjects or {}).items():
        if key not in splits:
            raise ValueError(
                f"subjects of fairness_report names the split {key!r}; the splits are "
                f"{list(splits)}."
            )
        ids, keep = np.asarray(ids), splits[key].keep
        expected = len(splits[key].frame) + splits[key].left_out
        if ids.shape != (expected,):
            raise ValueError(
                f"subjects of fairness_report, split {key!r}, must name the subject of "
                f"each of its {expected} rows; got the shape {ids.shape}."
            )
        arrays[key] = (ids if keep is None else ids[keep]).astype(object)
    if not arrays:
        return {}
    codes, levels = pd.factorize(np.concatenate(list(arrays.values())))
    missing = codes == UNKNOWN
    codes[missing] = len(levels) + np.arange(missing.sum())
    ends = np.cumsum([len(a) for a in arrays.values()])[:-1]
    parts = np.split(codes.astype(np.int64), ends)
    return dict(zip(arrays, parts, strict=True))
