"""Labels, groups and weights of rows, checked and brought to counts."""

import numbers
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from fairskorch.groups import GroupEncoder, as_frame
from fairskorch.rates import cell_statistics, confusion_statistics

__all__ = ["Counts", "check_rows", "count_rows", "label_codes", "positive_class"]


class Counts(NamedTuple):
    """Counts of rows by group, true and predicted class, with their labels."""

    statistic: torch.Tensor
    classes: list
    positive: int | None
    encoder: GroupEncoder
    n_unknown: int


def count_rows(
    y_true,
    y_pred,
    sensitive_features,
    *,
    owner,
    pos_label=None,
    sample_weight=None,
    needs_positive=True,
):
    """Check the arguments of the metric `owner` and count their rows.

    Returns
    -------
    counts : Counts
        Rows of unknown group are in no cell of the statistic.
    """
    y_true, y_pred, frame = check_rows(y_true, y_pred, sensitive_features, owner)
    classes, (true, predicted) = label_codes(
        {"y_true": y_true, "y_pred": y_pred}, owner
    )
    # The codes stand: a label that joins the classes is placed by its own code below.
    classes, positive, shift = positive_class(classes, pos_label, owner, needs_positive)
    encoder = GroupEncoder().fit(frame)
    groups = encoder.transform(frame)
    n_unknown = int((groups < 0).sum())
    if n_unknown == len(groups):
        raise ValueError(
            f"sensitive_features of {owner} must name the group of at least one row; "
            "every row's is missing."
        )
    tensors = [torch.from_numpy(a) for a in (true + shift, predicted + shift, groups)]
    sizes = len(encoder.labels_), len(classes)
    if sample_weight is None:
        statistic = confusion_statistics(*tensors, *sizes)
    else:
        weight = torch.from_numpy(_check_weight(sample_weight, len(groups), owner))
        hot = torch.nn.functional.one_hot(tensors[1], len(classes)).double()
        statistic = cell_statistics(hot, tensors[0], tensors[2], *sizes, weight)
    return Counts(statistic, classes, positive, encoder, n_unknown)


def check_rows(y_true, y_pred, sensitive_features, owner):
    """Return two arrays of labels and a frame of groups, equally long."""
    if not hasattr(sensitive_features, "__len__"):
        raise ValueError(
            f"sensitive_features of {owner} must give the group of each row; got "
            f"{sensitive_features!r}."
        )
    y_true = as_labels(y_true, "y_true", owner)
    y_pred = as_labels(y_pred, "y_pred", owner)
    if isinstance(sensitive_features, dict):
        sensitive_features = pd.DataFrame(sensitive_features)
    lengths = len(y_true), len(y_pred), len(sensitive_features)
    if len(set(lengths)) > 1 or not lengths[0]:
        raise ValueError(
            f"y_true, y_pred and sensitive_features of {owner} must have the same "
            f"number of rows, at least one; got {lengths[0]}, {lengths[1]} and "
            f"{lengths[2]}."
        )
    return y_true, y_pred, as_frame(sensitive_features)


def as_labels(values, parameter, owner):
    """Return labels as an array of shape (n_samples,)."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values.ravel()
    if values.ndim != 1:
        raise ValueError(
            f"{parameter} of {owner} must hold one label a row, shape (n_samples,); "
            f"got the shape {values.shape}. Scores become labels by a threshold or "
            "an argmax."
        )
    return values


def label_codes(named, owner):
    """Code several arrays of labels over the union of their labels.

    Parameters
    ----------
    named : dict of str to ndarray of shape (n,)
        Parameter name to labels. Numbers of an array that follows the first are
        refused as scores where they are neither whole nor labels of the first.
    owner : str
        Who is named in errors.

    Returns
    -------
    classes : list
        Sorted labels, as Python objects.
    codes : list of ndarray of int64
        One array for each of `named`.
    """
    arrays = list(named.values())
    if {a.dtype.kind for a in arrays} - set("biuf"):
        arrays = [a.astype(object) for a in arrays]
    codes, classes = pd.factorize(np.concatenate(arrays))
    parts = np.split(codes, np.cumsum([len(a) for a in arrays])[:-1])
    for parameter, part in zip(named, parts, strict=True):
        if (part < 0).any():
            raise ValueError(
                f"{parameter} of {owner} must hold no missing label; row "
                f"{int(np.argmax(part < 0))} is missing."
            )
    kinds = {_kind(label) for label in classes.tolist()}
    if len(kinds) > 1:
        raise ValueError(
            f"{' and '.join(named)} of {owner} must hold labels of one kind; got "
            f"{' and '.join(sorted(kinds))} (for example "
            f"{next(iter(classes.tolist()))!r})."
        )
    if kinds == {"numbers"}:
        _refuse_scores(classes, parts, list(named), owner)
    order = np.argsort(classes, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return classes[order].tolist(), [rank[part] for part in parts]


def positive_class(classes, pos_label, owner, needed=True):
    """Find the code of the class that is compared.

    Returns
    -------
    classes : list
        With the missing one of two labels where it is known which that is.
    positive : int or None
        None where each class is compared with the rest.
    shift : int
        What the codes of the given classes move by, a label having come before.
    """
    if pos_label is not None and pos_label not in classes and len(classes) > 1:
        raise ValueError(
            f"pos_label of {owner} must be one of the labels {classes}; got "
            f"{pos_label!r}."
        )
    if len(classes) == 1 and needed:
        only = classes[0]
        if pos_label is not None and pos_label != only:
            return [only, pos_label], 1, 0
        if isinstance(only, numbers.Number) and only in (-1, 0, 1):
            other = {-1: 1, 0: 1, 1: 0}[only]
            pair = sorted([only, type(only)(other)])
            positive = 1 if pos_label is None else pair.index(only)
            return pair, positive, pair.index(only)
        if pos_label is None:
            raise ValueError(
                f"{owner} compares one of two labels, but y_true and y_pred hold only "
                f"{only!r}; give pos_label."
            )
    if pos_label is not None:
        return classes, classes.index(pos_label) if needed else None, 0
    return classes, 1 if needed and len(classes) == 2 else None, 0


def _kind(label):
    if isinstance(label, str):
        return "strings"
    return "numbers" if isinstance(label, numbers.Number) else type(label).__name__


def _refuse_scores(classes, parts, names, owner):
    values = np.asarray(classes, dtype=float)
    own = np.unique(parts[0])
    odd = np.setdiff1d(np.flatnonzero(values != np.round(values)), own)
    if len(odd):
        holds = [bool(np.isin(odd[0], part)) for part in parts]
        holder = names[holds.index(True)]
        raise ValueError(
            f"{holder} of {owner} must hold labels; got {values[odd[0]]:g}, which is "
            f"no label of {names[0]}. Turn scores into labels first, for example "
            "(scores >= 0.5).astype(int)."
        )


def _check_weight(sample_weight, n_samples, owner):
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n_samples,):
        raise ValueError(
            f"sample_weight of {owner} must have the shape ({n_samples},); got "
            f"{weight.shape}."
        )
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise ValueError(
            f"sample_weight of {owner} must be finite and not negative; got "
            f"values from {weight.min():g} to {weight.max():g}."
        )
    return weight
