"""fairlearn's MetricFrame of a split."""

from functools import partial

import fairlearn.metrics
import numpy as np
from sklearn.metrics import accuracy_score

BINARY = ("true_positive_rate", "false_positive_rate")


def metric_frame(counts, attribute, classes, positive):
    """Build the MetricFrame of one fit on one split.

    Parameters
    ----------
    counts : Counts
    attribute : Attribute
    classes : list
    positive : int or None

    Returns
    -------
    frame : MetricFrame
        Over the rows of known group.
    """
    known = counts.groups >= 0
    labels = np.empty(len(classes), dtype=object)
    labels[:] = classes
    functions = {"count": fairlearn.metrics.count, "accuracy": accuracy_score}
    for code in range(len(labels)) if positive is None else [positive]:
        end = f"_{labels[code]}" if positive is None else ""
        functions[f"selection_rate{end}"] = partial(
            fairlearn.metrics.selection_rate, pos_label=labels[code]
        )
    if positive is not None and len(labels) == 2:
        for name in BINARY:
            functions[name] = partial(
                getattr(fairlearn.metrics, name), pos_label=labels[positive]
            )
    names = attribute.encoder.index()[counts.groups[known]].to_frame(index=False)
    kind = np.asarray(classes).dtype
    true, predicted = (
        labels[codes[known]].astype(kind) for codes in (counts.true, counts.predicted)
    )
    return fairlearn.metrics.MetricFrame(
        metrics=functions, y_true=true, y_pred=predicted, sensitive_features=names
    )
