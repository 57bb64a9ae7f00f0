"""Which sensitive features make the groups, and which are monitored beside them."""

from fairskorch._names import did_you_mean
from fairskorch._validation import InvalidParameterError
from fairskorch.groups import GroupEncoder
from fairskorch.metrics import METRICS

#: Metrics that need no group.
OVERALL = ("accuracy", "balanced_accuracy")


def check_metrics(owner, metrics, monitor, known_groups):
    """Refuse metrics that do not exist, or that rows without groups cannot have."""
    if metrics and monitor is None:
        raise ValueError(
            f"monitor_metrics of {owner} has no effect with monitor=None; use "
            "monitor='sample' or 'all'."
        )
    for name in metrics or ():
        if name not in METRICS:
            raise InvalidParameterError(
                f"The 'monitor_metrics' parameter of {owner} must hold names of "
                f"fairskorch.metrics.METRICS. Got {name!r} instead."
                + did_you_mean(name, METRICS)
            )
        if not known_groups and name not in OVERALL:
            raise ValueError(
                f"monitor_metrics of {owner} holds {name!r}, which needs the group of "
                "every row: fit(X, y, groups)."
            )


def check_stopping(estimator, known_groups):
    """Refuse to stop by what will not be known.

    Parameters
    ----------
    estimator : NeuralClassifier
        Its attributes that are monitored are learnt.
    known_groups : bool
        Whether rows have groups.
    """
    rule, owner = estimator.early_stopping, estimator._owner
    if rule is None:
        return
    if estimator.monitor is None:
        raise ValueError(
            f"early_stopping of {owner} reads what the monitor records; it cannot do "
            "without: monitor='sample' or 'all'."
        )
    if not isinstance(rule, str):
        return
    name, by, attribute = rule.partition("_by_")
    plain = ["loss", *OVERALL] + (["penalty"] if estimator.penalty is not None else [])
    if name not in METRICS and rule not in plain:
        raise InvalidParameterError(
            f"The 'early_stopping' parameter of {owner} must be None, a rule or what "
            f"the monitor records. Got {rule!r} instead."
            + did_you_mean(name, [*METRICS, *plain])
        )
    if by and attribute not in estimator._watched:
        raise InvalidParameterError(
            f"early_stopping={rule!r} of {owner} needs {attribute!r} among "
            f"monitor_attributes; there are {list(estimator._watched)}."
        )
    if name not in plain and not known_groups:
        raise ValueError(
            f"early_stopping={rule!r} of {owner} needs the group of every row: "
            "fit(X, y, groups)."
        )


def recorded_metrics(estimator):
    """Return the metrics that the monitor records: those asked for or stopped by."""
    metrics = list(estimator.monitor_metrics or ())
    rule = estimator.early_stopping
    name = rule.partition("_by_")[0] if isinstance(rule, str) else None
    return metrics + [name] if name in METRICS and name not in metrics else metrics


def check_attributes(owner, params, frame):
    """Refuse columns that the sensitive features do not have.

    Parameters
    ----------
    owner : str
        For messages.
    params : dict of str to (list or None)
        Name of a parameter, and the columns that it names.
    frame : DataFrame or None
        The sensitive features.
    """
    for name, wanted in params.items():
        if wanted is None:
            continue
        if name == "penalty_attributes" and not len(wanted):
            raise InvalidParameterError(
                f"The '{name}' parameter of {owner} must be None, for all columns of "
                f"the sensitive features, or name one at least. Got {wanted!r} instead."
            )
        if frame is None:
            raise ValueError(
                f"{name} of {owner} names columns of the sensitive features, and none "
                "were given: fit(X, y, groups)."
            )
        for entry in wanted:
            for column in columns_of(entry):
                if column not in frame.columns:
                    raise ValueError(
                        f"{name} of {owner} names {column!r}, and the sensitive "
                        "features have no such column."
                        + did_you_mean(column, frame.columns)
                    )


def columns_of(entry):
    """Return the columns of an attribute: one, or several that are crossed."""
    return list(entry) if isinstance(entry, tuple) else [entry]


def learn_attributes(frame, attributes):
    """Learn the groups of each attribute.

    Returns
    -------
    encoders : dict of str to (list of str, GroupEncoder)
        By the name of the attribute in the history.
    """
    found = {}
    for entry in attributes or ():
        columns = columns_of(entry)
        found["_".join(columns)] = columns, GroupEncoder().fit(frame[columns])
    return found


def code_attributes(frame, encoders):
    """Code rows by each attribute; what was not learnt is unknown.

    Returns
    -------
    codes : dict of str to ndarray of int64
    """
    return {
        name: encoder.transform(frame[columns])
        for name, (columns, encoder) in encoders.items()
    }
