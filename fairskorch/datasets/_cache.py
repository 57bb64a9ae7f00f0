"""Decoded images kept in a folder that the user names.

A cache is two files. ``<title>-<list>.json`` holds a checksum of everything the
array was made from and the name of the array's own file, which carries the checksum
too and never changes once it has its name. Either file is written aside and renamed,
the array first: whoever reads at any moment finds a complete cache or none.
"""

import contextlib
import hashlib
import json
import os
import uuid
from pathlib import Path

import numpy as np

#: Part of the checksum: raise it whenever equal files decode to other pixels.
FORMAT = 1


def check_cache(cache, owner):
    """Return the folder of the cache as a Path, or None."""
    if cache is None:
        return None
    if not isinstance(cache, str | os.PathLike):
        raise ValueError(
            f"The 'cache' parameter of {owner} must be None or the path of a folder. "
            f"Got {cache!r} instead."
        )
    folder = Path(cache).expanduser()
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(
            f"The 'cache' parameter of {owner} must be the path of a folder, which is "
            f"made if need be. Got the file {str(folder)!r} instead."
        )
    return folder


def load_or_build(chunks, shape, *, cache, owner, title, root, made_from, recipe):
    """Return an array of uint8 from its cache, or make it and its cache.

    Parameters
    ----------
    chunks : callable
        Called without arguments, yields arrays that make up the result in order.
    shape : tuple of int
        Shape of the result.
    cache : path-like or None
        Folder of the cache; None to hold the result in memory.
    owner : str
        Public function, for messages.
    title : str
        Start of the file names.
    root : Path
        Folder of the data set; data sets in different folders keep apart caches.
    made_from : list of (str, int, int)
        Name, size and modification time of the files.
    recipe : dict
        All else that decides about the pixels.

    Returns
    -------
    data : ndarray or read-only memmap of the shape `shape`, uint8
    """
    folder = check_cache(cache, owner)
    if folder is None:
        return _gather(chunks(), shape)
    names = [item[0] for item in made_from]
    which = _digest([str(Path(root).resolve()), names])[:12]
    checksum = _digest([FORMAT, list(shape), recipe, made_from])
    record = folder / f"{title}-{which}.json"
    data = _open(record, checksum, shape)
    return _build(record, checksum, chunks(), shape) if data is None else data


def _gather(chunks, shape):
    data = np.empty(shape, dtype=np.uint8)
    start = 0
    for chunk in chunks:
        data[start : start + len(chunk)] = chunk
        start += len(chunk)
    return data


def _digest(value):
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _data_file(record, checksum):
    return record.with_name(f"{record.stem}-{checksum[:12]}.npy")


def _open(record, checksum, shape):
    """Map the array that belongs to `checksum`; None if there is no sound one."""
    try:
        if json.loads(record.read_text("utf-8"))["checksum"] != checksum:
            return None
        data = np.load(_data_file(record, checksum), mmap_mode="r")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return data if data.shape == shape and data.dtype == np.uint8 else None


def _build(record, checksum, chunks, shape):
    record.parent.mkdir(parents=True, exist_ok=True)
    target = _data_file(record, checksum)
    with _written_aside(target) as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk).data)
    # Mapped before anyone, told by the record, could replace it.
    data = np.load(target, mmap_mode="r")
    with _written_aside(record) as file:
        content = {"checksum": checksum, "data": target.name, "shape": shape}
        file.write(json.dumps(content, indent=1).encode())
    for old in record.parent.glob(f"{record.stem}-*.npy"):
        if old != target:
            # Where files in use cannot be removed, the next build does it.
            with contextlib.suppress(OSError):
                old.unlink()
    return data


@contextlib.contextmanager
def _written_aside(target):
    """Open a file that takes the name `target` once it is complete."""
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(aside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)
