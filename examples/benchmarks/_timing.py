"""What the benchmarks share: the machine, runs that take turns, and a plain table."""

import csv
import os
import platform
import sys
import time
from pathlib import Path
from statistics import median

import sklearn
import skorch
import torch


def parse(parser):
    """Read the options that every benchmark has, and its own.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        With the options of the benchmark.

    Returns
    -------
    args : argparse.Namespace
    """
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--out", type=Path, help="write the table to a .md or .csv")
    return parser.parse_args()


def machine():
    """Describe the machine and the versions in one line."""
    parts = [
        _processor(),
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
        f"skorch {skorch.__version__}",
        f"scikit-learn {sklearn.__version__}",
    ]
    if torch.cuda.is_available():
        parts.insert(1, f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    return ", ".join(parts)


def _processor():
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return (names[0] if names else platform.processor()).strip()


def timed(function, *args, number=1, **kwargs):
    """Return a function that calls another one and returns its seconds."""

    def run():
        start = time.perf_counter()
        for _ in range(number):
            function(*args, **kwargs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / number

    return run


def calls_for(function, seconds=0.2):
    """Return how many calls of a short function take about that long."""
    function()
    return max(1, round(seconds / max(timed(function)(), 1e-6)))


class Rounds:
    """Numbers that each function returned, round by round."""

    def __init__(self, numbers):
        self.numbers = numbers

    def median(self, name):
        return median(self.numbers[name])

    def ratio(self, name, other):
        """Return the median over rounds of one number by the other."""
        pairs = zip(self.numbers[name], self.numbers[other], strict=True)
        return median(a / b for a, b in pairs)


def alternate(functions, repeats, warm_up=True):
    """Run functions in turn, so that what slows the machine slows them alike.

    Parameters
    ----------
    functions : dict of str to callable
        Each returns a number, such as its seconds.
    repeats : int
        Rounds; each starts with another function.
    warm_up : bool, default=True
        Whether to call each once before, uncounted.

    Returns
    -------
    rounds : Rounds
    """
    names = list(functions)
    if warm_up:
        for name in names:
            functions[name]()
    numbers = {name: [] for name in names}
    for i in range(repeats):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            numbers[name].append(functions[name]())
    return Rounds(numbers)


def verdict(value, most=None, least=None):
    """Say what a ratio must be and whether it is."""
    if most is not None:
        return f"<= {most:g} {'met' if value <= most else 'MISSED'}"
    return f">= {least:g} {'met' if value >= least else 'MISSED'}"


def report(title, rows, args):
    """Print rows, dicts of strings, as a table, and write it where it is wanted.

    Each row is also shown as soon as it is there: a run that is cut short told much.
    """
    measured = []
    for row in rows:
        measured.append(row)
        print("; ".join(f"{k} {v}" for k, v in row.items()), file=sys.stderr)
    rows = measured
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns] + [[row.get(name, "") for name in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    print(f"\n{title}")
    for line in cells:
        texts = (text.ljust(w) for text, w in zip(line, widths, strict=True))
        print("  ".join(texts).rstrip(), flush=True)
    if args.out is None:
        return
    if args.out.suffix == ".csv":
        with args.out.open("w", newline="") as file:
            csv.writer(file).writerows(cells)
        return
    lines = [cells[0], ["---"] * len(columns), *cells[1:]]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    args.out.write_text(f"{title}\n\n{machine()}\n\n{table}\n")
