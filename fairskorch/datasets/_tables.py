"""Label tables: reading them, and columns out of them."""

import numpy as np
import pandas as pd

from fairskorch._names import did_you_mean


def read_table(path, owner, **kwargs):
    """Read a text table, or say which file is not one."""
    try:
        return pd.read_csv(path, **kwargs)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as err:
        raise ValueError(
            f"{owner}: {str(path)!r} cannot be read as a table: {err}"
        ) from err


def require_columns(frame, columns, owner, where):
    """Raise ValueError unless `frame` has all of `columns` and at least one row."""
    for column in columns:
        if column not in frame.columns:
            raise ValueError(
                f"{owner}: no column {column!r} in {where}; it has "
                f"{[str(name) for name in frame.columns]}."
                f"{did_you_mean(column, frame.columns, listed=True)}"
            )
    if not len(frame):
        raise ValueError(f"{owner}: {where} has no rows.")


def require_values(values, owner, where):
    """Raise ValueError if a value is missing, naming the first such row."""
    missing = np.flatnonzero(pd.isna(values))
    if len(missing):
        raise ValueError(
            f"{owner}: {len(missing)} values of {where} are missing, the first in row "
            f"{missing[0]}; fill them or leave those rows out."
        )


def age_groups(ages, threshold):
    """Label ages in years by a threshold; a missing age keeps no label."""
    ages = np.asarray(ages, dtype=float)
    labels = np.where(ages >= threshold, f">={threshold}", f"<{threshold}")
    labels = labels.astype(object)
    labels[np.isnan(ages)] = None
    return pd.Series(labels, dtype=object)
