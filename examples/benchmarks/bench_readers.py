"""Images per second of the readers: decoding with one and two threads, and the cache.

    python bench_readers.py                    # JPEG files made here, in a temp folder
    python bench_readers.py --data-root DATA   # DATA/celeba and DATA/ham10000

Each number is the median of five runs. Files are read once before, so that all runs
find them in the system's file cache.
"""

import argparse
import os
import platform
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import joblib
import numpy as np
import pandas as pd
import PIL
from PIL import Image

from fairskorch.datasets import load_celeba, load_ham10000, load_images


def made_here(folder, n_images, size=(178, 218)):
    """Write JPEG files as large as CelebA's and return a call that loads them."""
    rng = np.random.default_rng(0)
    names = [f"{i:06d}.jpg" for i in range(n_images)]
    for name in names:
        coarse = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        image.save(folder / name, quality=90)
    table = pd.DataFrame({"path": names, "target": 0, "group": 0})
    return partial(load_images, table, folder)


def seconds(load, repeats):
    """Median wall seconds of a call, and the number of images it returned."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        data = load().data
        times.append(time.perf_counter() - start)
    return median(times), len(data)


def measure(name, load, image_size, repeats):
    load = partial(load, image_size=image_size)
    load(n_jobs=2)
    for n_jobs in (1, 2):
        wall, n = seconds(partial(load, n_jobs=n_jobs), repeats)
        report(name, f"decode, n_jobs={n_jobs}", n, wall)
    with tempfile.TemporaryDirectory() as cache:
        load(cache=cache)
        wall, n = seconds(partial(load, cache=cache), repeats)
        report(name, "open the cache", n, wall)


def report(name, what, n, wall):
    print(f"{name:10s} {what:18s} {n:6d} images {wall:8.3f} s {n / wall:10.0f} img/s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, help="folder of celeba and ham10000")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--n-images", type=int, default=2000, help="files made here")
    args = parser.parse_args()
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, "
        f"pillow {PIL.__version__}, joblib {joblib.__version__}, "
        f"numpy {np.__version__}, pandas {pd.__version__}; "
        f"{args.image_size} pixels, median of {args.repeats} runs"
    )
    if args.data_root is None:
        with tempfile.TemporaryDirectory() as folder:
            load = made_here(Path(folder), args.n_images)
            measure("made here", load, args.image_size, args.repeats)
        return
    readers = {"celeba": load_celeba, "ham10000": load_ham10000}
    found = {n: read for n, read in readers.items() if (args.data_root / n).is_dir()}
    if not found:
        parser.error(f"no folder {' or '.join(readers)} in {args.data_root}")
    for name, read in found.items():
        load = partial(read, args.data_root / name)
        measure(name, load, args.image_size, args.repeats)


if __name__ == "__main__":
    main()
