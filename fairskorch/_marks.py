"""Tell whether rows were trained on, without keeping them."""

import numpy as np

#: Training rows whose marks are kept.
SAMPLED = 512

#: Numbers of a row that its mark is made from, evenly spaced.
LOOKED_AT = 64

#: Rows whose marks are made at a time.
STEP = 4096


def row_marks(rows, limit=None):
    """Return a number for each row that equal rows share and others hardly do.

    Parameters
    ----------
    rows : GroupedRows
    limit : int, optional
        Largest number of rows to look at, evenly spaced.

    Returns
    -------
    marks : ndarray of uint64 or None
        None where rows come one at a time, from a Dataset.
    """
    data, numbers = rows.source.data, rows.index.numpy()
    if not hasattr(data, "shape"):
        return None
    if limit is not None and len(numbers) > limit:
        numbers = numbers[np.linspace(0, len(numbers) - 1, limit).astype(int)]
    size = int(np.prod(data.shape[1:]))
    places = np.unique(np.linspace(0, size - 1, min(size, LOOKED_AT)).astype(int))
    places = np.unravel_index(places, data.shape[1:])
    marks = [
        _hashed(np.asarray(data[(part[:, None], *(p[None] for p in places))]))
        for part in np.array_split(numbers, -(-len(numbers) // STEP))
    ]
    return np.concatenate(marks)


def share_found(marks, others):
    """Return the share of marks that are among others, nan where either is unknown."""
    if marks is None or others is None:
        return float("nan")
    return float(np.isin(marks, others).mean())


def _hashed(values):
    """Sum the bytes of each row, multiplied by fixed odd numbers that wrap around."""
    values = np.ascontiguousarray(values)
    bytes_ = values.view(np.uint8).reshape(len(values), -1).astype(np.uint64)
    factors = np.random.RandomState(0).randint(
        0, 2**63, bytes_.shape[1], dtype=np.uint64
    )
    return (bytes_ * (2 * factors + 1)).sum(1, dtype=np.uint64)
