"""CIFAR-10S: CIFAR-10 where colour is tied to the class."""

import os

import numpy as np
import pandas as pd
from sklearn.utils import Bunch, check_random_state

from fairskorch.datasets._cache import check_cache, load_or_build
from fairskorch.datasets._checks import (
    check_choice,
    check_folder,
    check_real,
    find_file,
)

OWNER = "load_cifar10"
LAYOUT = (
    "Get the binary version, cifar-10-binary.tar.gz, from "
    "https://www.cs.toronto.edu/~kriz/cifar.html and unpack it into 'root', which then "
    "holds data_batch_1.bin to data_batch_5.bin and test_batch.bin in "
    "cifar-10-batches-bin/."
)
FOLDER = "cifar-10-batches-bin"
FILES = {
    "train": [f"data_batch_{i}.bin" for i in range(1, 6)],
    "test": ["test_batch.bin"],
}
CLASSES = np.array(
    ["airplane", "automobile", "bird", "cat", "deer"]
    + ["dog", "frog", "horse", "ship", "truck"]
)
RECORD = 1 + 3 * 32 * 32  # bytes: the label, then three planes of 32 x 32
N_TRAIN = 50_000
DESCR = """\
CIFAR-10S: the 32 x 32 images of CIFAR-10 in ten classes, a share of them made grey,
which share depends on the class.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images",
technical report, University of Toronto, 2009, whose citation is asked for; no licence
is stated. https://www.cs.toronto.edu/~kriz/cifar.html
The skewed version: Z. Wang, K. Qinami, I. C. Karakozis, et al., "Towards Fairness in
Visual Recognition: Effective Strategies for Bias Mitigation", CVPR 2020.
"""


def load_cifar10(
    root,
    *,
    part="train",
    skew=0.95,
    grey_classes=(0, 1, 2, 3, 4),
    cache=None,
    random_state=0,
):
    """Load CIFAR-10 and tie colour to the class, as CIFAR-10S.

    Parameters
    ----------
    root : path-like
        Folder with ``cifar-10-batches-bin/``, the official binary version, or that
        folder itself. Nothing is written here.
    part : {"train", "test"}, default="train"
        The training part is skewed. The test part holds each image twice, first all
        in colour, then all in grey, so that colour tells nothing about the class.
    skew : float, default=0.95
        Share of grey images in the classes `grey_classes`, and of colour images in the
        others; in [0, 1], where 0.5 ties nothing. Exact in each class up to rounding.
    grey_classes : sequence of int, default=(0, 1, 2, 3, 4)
        Classes that are mostly grey.
    cache : path-like, default=None
        Folder, made if need be, where the images are kept and found again until a
        file, its size or its time, or the choice of grey images changes.
    random_state : int, RandomState instance or None, default=0
        Which images are grey; not used for the test part.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        data : ndarray or memmap of shape (n_samples, 3, 32, 32), uint8
            RGB images, a grey one with three equal channels; a read-only memory map
            where `cache` is given.
        target : ndarray of shape (n_samples,), int64
            Class 0 to 9.
        sensitive_features : DataFrame of shape (n_samples, 1)
            Column ``"colour"``: ``"grey"`` or ``"colour"``.
        subject : ndarray of shape (n_samples,), int64
            Number of the original image; those of the test part start at 50,000, and
            the two versions of one image share theirs.
        target_names : ndarray of shape (10,)
            Names of the classes.
        filenames : ndarray of shape (n_samples,)
            File relative to `root` that the image comes from.
        DESCR : str
            Source and citation.

    Raises
    ------
    FileNotFoundError
        If the folder or a file is absent.
    ValueError
        If a file is cut short or a parameter is out of range.

    References
    ----------
    A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Z. Wang, K. Qinami, I. C. Karakozis, et al., "Towards Fairness in Visual
    Recognition: Effective Strategies for Bias Mitigation", CVPR 2020.

    Examples
    --------
    Files of the official form, here with one image each:

    >>> import os, tempfile
    >>> from fairskorch.datasets import load_cifar10
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for i in range(1, 6):
    ...         with open(os.path.join(root, f"data_batch_{i}.bin"), "wb") as file:
    ...             _ = file.write(bytes([i]) + bytes(3072))
    ...     images = load_cifar10(root)
    >>> images.data.shape
    (5, 3, 32, 32)
    >>> images.target
    array([1, 2, 3, 4, 5])
    """
    check_choice(part, FILES, "part", OWNER)
    check_real(skew, "skew", OWNER)
    greyish = _check_classes(grey_classes)
    check_cache(cache, OWNER)
    folder = check_folder(root, OWNER, LAYOUT)
    files = [
        find_file(folder, [f"{FOLDER}/{name}", name], OWNER, LAYOUT)
        for name in FILES[part]
    ]
    records = [_read_batch(file) for file in files]
    counts = [len(batch) for batch in records]
    records = np.concatenate(records)
    names = [file.relative_to(folder).as_posix() for file in files]
    filenames = np.repeat(names, counts)
    target = records[:, 0].astype(np.int64)
    subject = np.arange(len(target))
    if part == "train":
        grey = _draw_grey(target, greyish, skew, check_random_state(random_state))
    else:
        grey = np.repeat([False, True], len(target))
        subject = np.tile(subject + N_TRAIN, 2)
        target, filenames = np.tile(target, 2), np.tile(filenames, 2)
    pixels = records[:, 1:].reshape(-1, 3, 32, 32)
    stats = [os.stat(file) for file in files]
    data = load_or_build(
        lambda: _colour_or_grey(pixels, grey),
        (len(grey), 3, 32, 32),
        cache=cache,
        owner=OWNER,
        title=f"cifar10-{part}",
        root=folder,
        made_from=[
            (name, stat.st_size, stat.st_mtime_ns)
            for name, stat in zip(names, stats, strict=True)
        ],
        recipe={"grey": np.packbits(grey).tobytes().hex()},
    )
    return Bunch(
        data=data,
        target=target,
        sensitive_features=pd.DataFrame({"colour": np.where(grey, "grey", "colour")}),
        subject=subject,
        target_names=CLASSES,
        filenames=filenames,
        DESCR=DESCR,
    )


def _check_classes(grey_classes):
    classes = np.asarray(list(grey_classes))
    sound = classes.ndim == 1 and (classes.size == 0 or classes.dtype.kind in "iu")
    if not (sound and np.isin(classes, np.arange(10)).all()):
        raise ValueError(
            f"The 'grey_classes' parameter of {OWNER} must hold ints from 0 to 9. "
            f"Got {grey_classes!r} instead."
        )
    return classes


def _read_batch(file):
    raw = np.fromfile(file, dtype=np.uint8)
    records = raw[: raw.size // RECORD * RECORD].reshape(-1, RECORD)
    if not raw.size or raw.size % RECORD or records[:, 0].max() > 9:
        raise ValueError(
            f"{OWNER}: {str(file)!r} must hold records of {RECORD} bytes, each with a "
            f"label from 0 to 9 first. Got {raw.size} bytes; unpack the binary "
            "version again."
        )
    return records


def _draw_grey(target, greyish, skew, rng):
    """Choose the grey images, the same share in each class up to rounding."""
    grey = np.zeros(len(target), dtype=bool)
    for label in range(len(CLASSES)):
        rows = rng.permutation(np.flatnonzero(target == label))
        share = skew if label in greyish else 1 - skew
        grey[rows[: round(share * len(rows))]] = True
    return grey


def _colour_or_grey(pixels, grey, size=1000):
    """Yield images in order, from the start again for the second half of the test."""
    luma = np.array([299, 587, 114], dtype=np.uint32)
    for start in range(0, len(grey), size):
        rows = np.arange(start, min(start + size, len(grey)))
        chunk = pixels[rows % len(pixels)].copy()
        which = grey[rows]
        # ITU-R BT.601, the weights that image libraries convert to grey with.
        value = np.einsum("nchw,c->nhw", chunk[which].astype(np.uint32), luma) // 1000
        chunk[which] = value[:, None].astype(np.uint8)
        yield chunk
