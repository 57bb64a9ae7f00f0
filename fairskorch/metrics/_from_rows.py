"""A metric of rows: they are counted, and a ``nan`` is explained."""

import warnings

from fairskorch.exceptions import InestimableWarning
from fairskorch.metrics._counts import METRICS, from_counts, reasons
from fairskorch.metrics._inputs import count_rows


def from_rows(
    name, y_true, y_pred, sensitive_features, sample_weight, agg="max", pos_label=None
):
    """Compute a metric for the function of its name, whose caller is warned."""
    counts = count_rows(
        y_true,
        y_pred,
        sensitive_features,
        owner=name,
        pos_label=pos_label,
        sample_weight=sample_weight,
        needs_positive=METRICS[name].one_vs_rest,
    )
    statistic, classes, positive, encoder, _ = counts
    value = float(from_counts(name, statistic, agg=agg, positive=positive))
    if value != value:
        labels = encoder.labels_.tolist()
        why = "; ".join(reasons(name, statistic, labels, classes, positive))
        warnings.warn(f"{name} is nan: {why}.", InestimableWarning, stacklevel=3)
    return value
