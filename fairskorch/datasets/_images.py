"""Image files to one array: parallel decoding, centre crop, resize."""

import os
from functools import partial
from numbers import Integral
from pathlib import PurePath

import joblib
import numpy as np
from tqdm import tqdm

from fairskorch.datasets._cache import check_cache, load_or_build
from fairskorch.datasets._checks import check_int

#: Images a task: enough to hide the dispatch, few enough to share out evenly.
CHUNK = 64
CHANNELS = {"RGB": 3, "L": 1}
_EXIF_ORIENTATION = 0x0112


def read_images(
    files,
    root,
    *,
    owner,
    image_size,
    mode="RGB",
    rows=None,
    cache=None,
    n_jobs=None,
    verbose=0,
):
    """Read image files into one array, through the cache if there is one.

    Parameters
    ----------
    files : list of str
        Paths relative to `root`, or absolute, in the order of the rows.
    root : Path
        Folder of the data set.
    owner : str
        Name of the public function, for messages and for the name of the cache.
    image_size : int
        Height and width of the result, in pixels.
    mode : {"RGB", "L"}, default="RGB"
        Colour or grey.
    rows : sequence of int, default=None
        Rows of the table that the files come from, for messages.
    cache : path-like, default=None
        Folder of the cache.
    n_jobs : int, default=None
        Threads; None for all available cores.
    verbose : int, default=0
        A progress bar if above 0.

    Returns
    -------
    data : ndarray or memmap of shape (n_files, n_channels, image_size, image_size)
        uint8; a read-only memory map where `cache` is given.
    """
    Image = import_pillow(owner)
    rows = range(len(files)) if rows is None else rows
    items = [
        (os.path.join(root, file), int(row))
        for file, row in zip(files, rows, strict=True)
    ]
    made_from = [
        (PurePath(file).as_posix(), *_size_and_time(*item, owner))
        for file, item in zip(files, items, strict=True)
    ]
    decode = partial(_decode, Image=Image, owner=owner, size=image_size, mode=mode)
    return load_or_build(
        lambda: _chunks(items, decode, check_jobs(n_jobs, owner), verbose, owner),
        (len(items), CHANNELS[mode], image_size, image_size),
        cache=cache,
        owner=owner,
        title=f"{owner.removeprefix('load_')}-{image_size}px-{mode}",
        root=root,
        made_from=made_from,
        recipe={"image_size": image_size, "mode": mode, "crop": "centre"},
    )


def check_reading(owner, *, image_size, cache, n_jobs, verbose):
    """Check the parameters that all readers of image files share."""
    check_int(image_size, "image_size", owner)
    check_int(verbose, "verbose", owner, minimum=0)
    check_cache(cache, owner)
    check_jobs(n_jobs, owner)
    import_pillow(owner)


def import_pillow(owner):
    """Import ``PIL.Image``, or say how to install pillow."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            f"{owner} reads image files with pillow, which is not installed: "
            'pip install "fairskorch[images]"'
        ) from error
    return Image


def check_jobs(n_jobs, owner):
    """Return the number of threads that `n_jobs` stands for."""
    if n_jobs is None:
        return joblib.cpu_count()
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, Integral) or n_jobs == 0:
        raise ValueError(
            f"The 'n_jobs' parameter of {owner} must be None or an int other than 0. "
            f"Got {n_jobs!r} instead."
        )
    return joblib.effective_n_jobs(int(n_jobs))


def _size_and_time(path, row, owner):
    try:
        stat = os.stat(path)
    except OSError as error:
        raise FileNotFoundError(
            f"{owner}: the image {path!r} (row {row}) is not on disk; put it there or "
            "leave its row out of the table."
        ) from error
    return stat.st_size, stat.st_mtime_ns


def _chunks(items, decode, n_jobs, verbose, owner):
    """Yield decoded chunks in the order of the rows."""
    tasks = (
        joblib.delayed(_decode_chunk)(items[start : start + CHUNK], decode)
        for start in range(0, len(items), CHUNK)
    )
    # Threads, since pillow decodes and resizes outside the interpreter's lock: no
    # worker has to import anything and no pixel is pickled.
    parallel = joblib.Parallel(n_jobs, backend="threading", return_as="generator")
    with tqdm(total=len(items), desc=owner, unit="img", disable=not verbose) as bar:
        for chunk in parallel(tasks):
            bar.update(len(chunk))
            yield chunk


def _decode_chunk(items, decode):
    return np.stack([decode(path, row) for path, row in items])


def _decode(path, row, *, Image, owner, size, mode):
    """Decode one file to (c, size, size): upright, centre crop, antialiased."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            # JPEG decodes straight to a half, a quarter or an eighth as long as
            # twice the wanted size remains for the filter.
            scale = 2 * size / min(width, height)
            image.draft(mode, (int(width * scale), int(height * scale)))
            turn = _TURNS.get(image.getexif().get(_EXIF_ORIENTATION))
            pixels = _resize(_to_8_bit(image), size, Image).convert(mode)
            if turn is not None:
                pixels = pixels.transpose(Image.Transpose[turn])
            array = np.asarray(pixels)
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"{owner}: the image file {path!r} (row {row}) cannot be decoded: {error}. "
            "Replace the file or leave its row out of the table."
        ) from error
    return array.reshape(size, size, -1).transpose(2, 0, 1)


#: What turns an image upright, by its EXIF orientation.
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def _to_8_bit(image):
    """Bring palettes, bilevel and CMYK images to a mode that can be resized."""
    if image.mode in ("RGB", "L"):
        return image
    if image.mode[0] in "IF":
        # Pillow would clip such values at 255 and return a white image.
        raise ValueError(
            f"mode {image.mode!r} has more than 8 bits a channel; convert it first"
        )
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "LA") else "RGB")


def _resize(image, size, Image):
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    # Cut first: resize(box=...) lets the filter reach over the edge of the box.
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)
