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
    if limit is not None and len(numbers) > limit:
        numbers = numbers[np.linspace(0, len(numbers) - 1, limit).astype(int)]
    return content_marks(data, numbers)


def content_marks(data, numbers=None):
    """Return a mark for some rows of an array, or for all; see `row_marks`."""
    if not hasattr(data, "shape") or not hasattr(data, "dtype"):
        return None
    size = int(np.prod(data.shape[1:]))
    places = np.unique(np.linspace(0, size - 1, min(size, LOOKED_AT)).astype(int))
    whole = len(places) == size and numbers is None
    places = np.unravel_index(places, data.shape[1:])
    n_rows = data.shape[0] if numbers is None else len(numbers)
    marks = [np.empty(0, dtype=np.uint64)]
    for start in range(0, n_rows, STEP):
        stop = min(start + STEP, n_rows)
        if whole:
            part = data[start:stop]
        else:
            part = np.arange(start, stop) if numbers is None else numbers[start:stop]
            part = data[(part[:, None], *(p[None] for p in places))]
        marks.append(_hashed(np.asarray(part).reshape(stop - start, -1)))
    return np.concatenate(marks)


def share_found(marks, others):
    """Return the share of marks that are among others, nan where either is unknown."""
    if marks is None or others is None:
        return float("nan")
    return float(np.isin(marks, others).mean())


def _hashed(values):
    """Sum the words of each row, mixed and multiplied by fixed odd numbers."""
    values = np.ascontiguousarray(values)
    if values.dtype.kind == "f":
        # Neither the sign of zero nor further digits make a row another one.
        values = values.astype(np.float32) + np.float32(0)
    width = values.dtype.itemsize
    # Words as wide as numbers are: fewer of them are faster.
    kind = np.dtype(f"u{width}") if width in (1, 2, 4, 8) else np.dtype(np.uint8)
    words = values.view(kind).reshape(len(values), -1).astype(np.uint64)
    # Whole numbers as floats differ in their high bits only.
    words ^= words >> np.uint64(32)
    factors = np.random.RandomState(0).randint(
        0, 2**63, words.shape[1], dtype=np.uint64
    )
    return (words * (2 * factors + 1)).sum(1, dtype=np.uint64)
