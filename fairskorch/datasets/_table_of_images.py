"""Any table of image paths, labels and groups."""

import os

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from fairskorch.datasets._checks import as_names, check_choice, check_folder
from fairskorch.datasets._images import CHANNELS, check_reading, read_images
from fairskorch.datasets._tables import read_table, require_columns, require_values

OWNER = "load_images"
LAYOUT = "The paths of the table are taken relative to it."


def load_images(
    csv,
    root,
    *,
    path="path",
    target="target",
    sensitive="group",
    subject=None,
    mode="RGB",
    image_size=64,
    cache=None,
    n_jobs=None,
    verbose=0,
):
    """Load images, labels and groups that a table lists.

    Parameters
    ----------
    csv : path-like or DataFrame
        The table, one row an image, or the CSV file that holds it.
    root : path-like
        Folder that the paths in the table start from. Nothing is written here.
    path : str, default="path"
        Column of the paths of the images.
    target : str, default="target"
        Column of the labels, of any kind; none may be missing.
    sensitive : str or list of str, default="group"
        Column or columns that make the groups; missing values stay missing.
    subject : str, default=None
        Column that says whom or what an image shows.
    mode : {"RGB", "L"}, default="RGB"
        Colour (3 channels) or grey (1 channel).
    image_size : int, default=64
        Height and width in pixels after the centre crop to a square.
    cache : path-like, default=None
        Folder, made if need be, where the decoded images are kept and found again
        until a file, its size or its time changes.
    n_jobs : int, default=None
        Threads that decode; None for all available cores, -1 likewise.
    verbose : int, default=0
        Above 0 for a progress bar.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        data : ndarray or memmap of shape (n_samples, c, image_size, image_size), uint8
            Images with 3 or 1 channels; a read-only memory map where `cache` is given.
        target : ndarray of shape (n_samples,)
            Labels as the table has them.
        sensitive_features : DataFrame of shape (n_samples, n_sensitive)
            The columns `sensitive`.
        subject : ndarray of shape (n_samples,) or None
            The column `subject`; None without one.
        filenames : ndarray of shape (n_samples,)
            Paths as the table has them.
        DESCR : str
            A line on the table; the licence of the images is yours to know.

    Raises
    ------
    FileNotFoundError
        If the table, the folder or an image is absent.
    ValueError
        If a column is missing, a path or label is empty, an image is damaged or a
        parameter is out of range. Rows are counted from 0, the header aside.
    ImportError
        If pillow is not installed.

    Notes
    -----
    Images are turned upright by their EXIF orientation, and the first frame of an
    animation is taken. More than 8 bits a channel is an error, never a clipped image.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import pandas as pd
    >>> from PIL import Image
    >>> from fairskorch.datasets import load_images
    >>> table = pd.DataFrame({"path": ["a.png"], "target": ["cat"], "group": ["day"]})
    >>> with tempfile.TemporaryDirectory() as root:
    ...     Image.new("RGB", (80, 60), "red").save(pathlib.Path(root, "a.png"))
    ...     images = load_images(table, root, image_size=32)
    >>> images.data.shape
    (1, 3, 32, 32)
    >>> images.data[0, :, 0, 0]
    array([255,   0,   0], dtype=uint8)
    """
    reading = {"cache": cache, "n_jobs": n_jobs, "verbose": verbose}
    check_reading(OWNER, image_size=image_size, **reading)
    check_choice(mode, CHANNELS, "mode", OWNER)
    sensitive = as_names(sensitive, "sensitive", OWNER)
    folder = check_folder(root, OWNER, LAYOUT)
    table, where = _as_table(csv)
    needed = [path, target, *sensitive, *([] if subject is None else [subject])]
    require_columns(table, needed, OWNER, where)
    require_values(table[path], OWNER, f"the column {path!r}")
    require_values(table[target], OWNER, f"the column {target!r}")
    filenames = [str(name) for name in table[path]]
    return Bunch(
        data=read_images(
            filenames, folder, owner=OWNER, image_size=image_size, mode=mode, **reading
        ),
        target=_labels(table[target]),
        sensitive_features=table[sensitive].reset_index(drop=True),
        subject=None if subject is None else table[subject].to_numpy(dtype=object),
        filenames=np.array(filenames),
        DESCR=f"{len(table)} images listed in {where}: target {target!r}, "
        f"sensitive {sensitive}.",
    )


def _as_table(csv):
    if isinstance(csv, pd.DataFrame):
        return csv, "the DataFrame"
    if not isinstance(csv, str | os.PathLike):
        raise ValueError(
            f"The 'csv' parameter of {OWNER} must be the path of a CSV file or a "
            f"DataFrame. Got {type(csv).__name__} instead."
        )
    if not os.path.isfile(csv):
        raise FileNotFoundError(
            f"The 'csv' parameter of {OWNER} must be an existing CSV file with one row "
            f"an image. Got {os.fspath(csv)!r} instead."
        )
    return read_table(csv, OWNER), repr(os.fspath(csv))


def _labels(values):
    """Return labels as numpy's own numbers or strings where they are of one kind."""
    if all(isinstance(value, str) for value in values):
        return values.to_numpy(dtype=str)
    return values.to_numpy()
