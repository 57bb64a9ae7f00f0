"""`import fairskorch` against importing what it is built on, in fresh interpreters.

    python bench_import.py

Both sides find compiled modules on disk, as in an installed package: a first run, which
does not count, writes those that are missing.
"""

import argparse
import os
import subprocess
import sys

from _timing import alternate, machine, parse, report, verdict

BASE = "torch, skorch, sklearn, fairlearn"
MUST = 1.05


def seconds_of(modules):
    """Return a function that imports modules in a new interpreter and times it."""
    code = (
        "from time import perf_counter as now; start = now(); "
        f"import {modules}; print(now() - start)"
    )

    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def run():
        command = [sys.executable, "-c", code]
        result = subprocess.run(
            command, check=True, capture_output=True, text=True, env=env
        )
        return float(result.stdout)

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args = parse(parser)
    print(machine())
    if args.quick:
        args.repeats = 1
    functions = {"fairskorch": seconds_of("fairskorch"), BASE: seconds_of(BASE)}
    rounds = alternate(functions, args.repeats)
    ratio = rounds.ratio("fairskorch", BASE)
    rows = [{"what": f"import {name}"} for name in functions]
    for row, name in zip(rows, functions, strict=True):
        row["seconds"] = f"{rounds.median(name):.3f}"
    rows[0] |= {"ratio": f"{ratio:.3f}", "must": verdict(ratio, most=MUST)}
    report(f"Median of {args.repeats} alternating rounds", rows, args)


if __name__ == "__main__":
    main()
