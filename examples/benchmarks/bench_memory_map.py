"""Host memory of an epoch over images in a memory map larger than it.

    python bench_memory_map.py                   # writes 2.4 GB to a temporary folder
    python bench_memory_map.py --images 20000
    python bench_memory_map.py --keep FOLDER

The images are written chunk by chunk. A fresh interpreter opens them, trains for one
epoch and reports how far its peak resident memory rose above that after the import:
pages of the map count as long as they are mapped.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _timing import alternate, machine, parse, report, verdict
from torch import nn

from fairskorch import FairNeuralClassifier

SIZE = 64
CHUNK = 2000
#: GiB above the import.
MUST = 2.0


def write_images(folder, n_images):
    """Write random images, classes and groups."""
    rng = np.random.default_rng(0)
    shape = (n_images, 3, SIZE, SIZE)
    path = folder / "images.npy"
    images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    for start in range(0, n_images, CHUNK):
        part = images[start : start + CHUNK]
        part[:] = np.frombuffer(rng.bytes(part.size), np.uint8).reshape(part.shape)
    images.flush()
    np.save(folder / "y.npy", rng.integers(0, 2, n_images))
    np.save(folder / "groups.npy", rng.integers(0, 2, n_images))


class TinyCNN(nn.Sequential):
    """A net that is fast enough for reading to matter."""

    def __init__(self, in_channels, n_classes):
        super().__init__(
            nn.Conv2d(in_channels, 8, 8, stride=8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * (SIZE // 8) ** 2, n_classes),
        )


def peak_memory():
    """Return the largest resident memory so far, in GiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss of a child starts at what its parent had.
        lines = status.read_text().splitlines()
        (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
        return int(peak) / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def train(folder):
    """Train for an epoch; print GiB above the import, and images a second."""
    torch.set_num_threads(1)
    X = np.load(folder / "images.npy", mmap_mode="r")
    y, groups = (np.load(folder / f"{name}.npy") for name in ("y", "groups"))
    before = peak_memory()
    clf = FairNeuralClassifier(TinyCNN, max_epochs=1, batch_size=256, random_state=0)
    start = time.perf_counter()
    clf.fit(X, y, groups)
    seconds = time.perf_counter() - start
    print(peak_memory() - before, len(X) / seconds)


def measure(folder, args):
    write_images(folder, args.images)
    rates = []

    def run():
        command = [sys.executable, __file__, "--train-in", str(folder)]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peak, rate = map(float, result.stdout.split())
        rates.append(rate)
        return peak

    peak = alternate({"peak": run}, args.repeats, warm_up=False).median("peak")
    return {
        "what": f"{args.images} images of {SIZE} px, one epoch",
        "on disk GiB": f"{args.images * 3 * SIZE**2 / 2**30:.2f}",
        "peak GiB above import": f"{peak:.2f}",
        "must": verdict(peak, most=MUST),
        "images/s": f"{np.median(rates):.0f}",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--keep", type=Path, help="folder to write to and leave")
    parser.add_argument("--train-in", type=Path, help=argparse.SUPPRESS)
    args = parse(parser)
    if args.train_in:
        train(args.train_in)
        return
    if args.quick:
        args.images, args.repeats = 5000, 1
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        row = measure(args.keep or Path(folder), args)
    report(f"Median of {args.repeats} fresh processes", [row], args)


if __name__ == "__main__":
    main()
