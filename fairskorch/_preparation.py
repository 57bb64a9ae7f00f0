"""From what users hand to ``fit`` to rows with class and group codes."""

import warnings

import numpy as np
import pandas as pd
from sklearn import get_config
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    assert_all_finite,
    column_or_1d,
)

from fairskorch._validation import check_sample_weight
from fairskorch.exceptions import EmptyCellWarning, UnknownGroupWarning
from fairskorch.groups import UNKNOWN, GroupEncoder, as_frame

#: Empty cells that a warning names; the rest is counted.
NAMED_CELLS = 5


def given_groups(owner, method, groups, sensitive_features):
    """Return the one of two names of an argument that was given."""
    if groups is not None and sensitive_features is not None:
        raise ValueError(
            f"{owner}.{method} got both groups and sensitive_features; they are two "
            "names of one argument: pass one."
        )
    return groups if sensitive_features is None else sensitive_features


def missing_groups_message(owner, penalty, name):
    """Say that groups did not arrive, and how they do."""
    message = (
        f"{owner} with {name}={penalty!r} needs the group of every training row: "
        "fit(X, y, groups)"
    )
    if get_config()["enable_metadata_routing"]:
        return (
            f"{message}. Inside another estimator request them with "
            ".set_fit_request(sensitive_features=True) and pass sensitive_features=... "
            "to its fit; an argument named groups belongs to the splitter."
        )
    return (
        f"{message}. Searches give an argument named groups to the splitter alone: "
        "pass sensitive_features=... to their fit, and step__sensitive_features=... "
        "through a Pipeline; or call sklearn.set_config(enable_metadata_routing=True) "
        "and .set_fit_request(sensitive_features=True)."
    )


def read_items(owner, dataset, y, groups):
    """Read classes and groups from a Dataset that yields (x, y, group)."""
    if y is not None or groups is not None:
        raise ValueError(
            f"{owner} got y or groups beside a Dataset, which brings its own: it "
            "yields (x, y, group) and comes alone."
        )
    if not hasattr(dataset, "__len__"):
        raise TypeError(
            f"{owner} needs a Dataset with a length and rows by number; got an "
            f"iterable one, {type(dataset).__name__}."
        )
    items = []
    for i in range(len(dataset)):
        item = dataset[i]
        if not isinstance(item, tuple | list) or len(item) != 3:
            size = f" of {len(item)} entries" if isinstance(item, tuple | list) else ""
            raise ValueError(
                f"A Dataset given to {owner} must yield (x, y, group); item {i} is a "
                f"{type(item).__name__}{size}. Where the group is unknown, "
                "or nothing compares groups, yield (x, y, None)."
            )
        items.append((_plain(item[1]), _plain(item[2])))
    return np.asarray([y for y, _ in items]), [group for _, group in items]


def checked_target(owner, y, n_rows, *, name="y"):
    """Return class labels as a 1-D array, or refuse what is none."""
    if y is None:
        raise ValueError(
            f"{owner} requires y to be passed, but the target {name} is None."
        )
    if hasattr(y, "detach"):
        y = y.detach().cpu().numpy()
    y = column_or_1d(y, warn=True)
    check_lengths(owner, name, y, n_rows)
    assert_all_finite(y, input_name=name, estimator_name=owner)
    if y.dtype == object:
        if pd.isna(y).any():
            raise ValueError(
                f"{name} of {owner} holds missing values; each row has a class."
            )
        kinds = {type(label).__name__ for label in y}
        if len(kinds) > 1 and not _sortable(y):
            raise ValueError(
                f"{name} of {owner} mixes labels of the types {sorted(kinds)}, which "
                "have no order; expected labels of one type."
            )
    check_classification_targets(y)
    return y


def _sortable(labels):
    try:
        np.unique(labels)
    except TypeError:
        return False
    return True


def checked_groups(owner, groups, rows, *, name="groups"):
    """Return groups as a DataFrame of as many rows as X."""
    frame = as_frame(groups)
    check_lengths(owner, name, frame, len(rows))
    return frame


def checked_weight(owner, sample_weight, n_rows):
    """Return non-negative weights of rows, or None."""
    if sample_weight is None:
        return None
    if not np.any(np.asarray(sample_weight)):
        raise ValueError(f"sample_weight of {owner} is zero for every row.")
    return check_sample_weight(
        sample_weight,
        np.empty((n_rows, 1)),
        dtype=np.float64,
        ensure_non_negative=True,
    )


def check_lengths(owner, name, values, n_rows):
    """Refuse arguments of other length than X."""
    if len(values) != n_rows:
        raise ValueError(
            f"{name} of {owner} has {len(values)} rows and X has {n_rows}; "
            "they must agree."
        )


def check_same(owner, what, before, now):
    """Refuse to go on with other classes than those of the first call."""
    before, now = list(before), list(now)
    if before != now:
        raise ValueError(
            f"{owner} goes on with the {what} of the first call, {before[:10]}; "
            f"got {now[:10]}."
        )


def check_all_there(owner, counts):
    """Refuse a warm start without rows of some group."""
    absent = counts.index[counts.sum(axis=1) == 0].tolist()
    if absent:
        raise ValueError(
            f"{owner} goes on with the groups of the first call; got no row of "
            f"{absent[:10]}."
        )


def encode_classes(owner, y, classes=None):
    """Return the sorted classes and each row's class code."""
    found = np.unique(y if classes is None else classes)
    if len(found) < 2:
        raise ValueError(
            f"{owner} needs at least two classes in y; got one class: {found.tolist()}."
        )
    return found, encode_known(owner, y, found)


def encode_known(owner, y, classes, *, name="y"):
    """Return the class code of each row; a class that is not known is refused."""
    codes = np.searchsorted(classes, y).clip(0, len(classes) - 1)
    strange = classes[codes] != y
    if strange.any():
        raise ValueError(
            f"{name} holds classes that {owner} does not know: "
            f"{np.unique(y[strange]).tolist()}; known are {classes.tolist()}."
        )
    return codes


def learn_groups(owner, frame, penalty, name="penalty"):
    """Learn the groups, and code those of the rows; a penalty needs two."""
    encoder = GroupEncoder()
    codes = encoder.fit_transform(frame)
    labels = encoder.labels_.tolist()
    if penalty is not None and len(labels) < 2:
        what = f"one group only: {labels}" if labels else "no known group"
        raise ValueError(
            f"{owner} with {name}={penalty!r} compares groups, and there is {what}. "
            f"Use {name}=None, or pass groups with at least two labels."
        )
    return encoder, codes


def count_rows(encoder, group_codes, classes, codes):
    """Count rows by group and class, as a DataFrame."""
    n_classes = len(classes)
    # Rows of unknown group come first, and are left out.
    cell = (group_codes + 1) * n_classes + codes
    n_cells = (1 + len(encoder.labels_)) * n_classes
    table = np.bincount(cell, minlength=n_cells).reshape(-1, n_classes)[1:]
    return pd.DataFrame(table, index=encoder.index(), columns=classes.tolist())


def known_groups(owner, encoder, frame, *, name, new):
    """Code groups that were learnt before; new ones raise or count as unknown."""
    codes = encoder.transform(frame)
    unseen = encoder.unseen(frame) if (codes == UNKNOWN).any() else []
    if unseen:
        text = f"{name} holds groups that {owner} was not fitted on: {unseen[:5]}"
        if new == "raise":
            raise ValueError(
                f"{text}; groups are fixed at the first call: "
                f"{encoder.labels_.tolist()[:10]}."
            )
        warnings.warn(
            f"{text}; these rows count in no group.", UnknownGroupWarning, stacklevel=6
        )
    return codes


def coded_subjects(owner, subjects, n_rows):
    """Return a number for each subject, or None."""
    if subjects is None:
        return None
    values = np.asarray(subjects, dtype=object)
    if values.ndim != 1 and values.shape != (n_rows, 1):
        raise ValueError(
            f"subjects of {owner} must be 1-D, whom each of {n_rows} rows shows; got "
            f"an array of shape {values.shape}."
        )
    values = values.ravel()
    check_lengths(owner, "subjects", values, n_rows)
    codes, _ = pd.factorize(values)
    if (codes < 0).any():
        raise ValueError(
            f"subjects of {owner} holds missing values; each row shows a subject."
        )
    return codes


def warn_of_empty_cells(owner, counts):
    """Warn of groups without a row of some class, and name the first of them."""
    empty = np.argwhere(counts.to_numpy() == 0)
    if not len(empty):
        return
    groups, classes = counts.index.tolist(), counts.columns.tolist()
    named = ", ".join(
        f"group {groups[g]!r} has no row of class {classes[c]!r}"
        for g, c in empty[:NAMED_CELLS]
    )
    more = len(empty) - NAMED_CELLS
    rest = f" (and {more} more cells)" if more > 0 else ""
    warnings.warn(
        f"{owner}: {named}{rest}. Rates of an empty cell are left out of the penalty.",
        EmptyCellWarning,
        stacklevel=6,
    )


def _plain(value):
    """Return the Python object in a tensor or array; several values as a tuple."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(value) if isinstance(value, list) else value
