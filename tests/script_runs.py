"""Scripts of the benchmarks in processes of their own, and what they leave."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import stats

SCRIPTS = Path(__file__).parent.parent / "examples" / "benchmarks"
#: As a user does it on a machine without a GPU. Threads that wait asleep leave a busy
#: machine to those that work.
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "CUDA_VISIBLE_DEVICES": "",
}


def script(name, *options, status=0):
    """Run a script in a process of its own, and return what it prints."""
    done = subprocess.run(
        [sys.executable, SCRIPTS / f"{name}.py", *map(str, options)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def stamps(out, ending):
    """Return when each file of a run was written."""
    folders = [folder for folder in out.iterdir() if folder.name != "cache"]
    found = [path for folder in folders for path in folder.rglob(f"*{ending}")]
    return {path: path.stat().st_mtime_ns for path in found}


def tables(path):
    """Return the tables of a file for the docs, by heading, as lists of rows."""
    found, lines = {}, path.read_text().splitlines()
    for before, line in zip(lines, lines[1:], strict=False):
        if set(line) == {"~"}:
            assert len(line) == len(before)
            rows = found[before] = []
        elif line.startswith("   * -"):
            rows.append([line[7:]])
        elif line.startswith("     -"):
            rows[-1].append(line[7:])
    for heading, rows in found.items():
        assert len(rows) > 1, f"{heading} is empty"
        assert {len(row) for row in rows} == {len(rows[0])}, f"{heading} is ragged"
    return found


def interval(values, level=0.95):
    """Return mean and half width of a t interval, by scipy."""
    values = np.asarray(values, dtype=float)
    half = stats.t.interval(level, len(values) - 1, scale=stats.sem(values))[1]
    return values.mean(), half


def check_figures(folder, names):
    assert {path.name for path in folder.iterdir()} == set(names)
    for name in names:
        with Image.open(folder / name) as image:
            assert np.asarray(image.convert("L")).std() > 5, f"{name} is empty"
