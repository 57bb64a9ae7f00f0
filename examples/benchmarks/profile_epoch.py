"""Where the seconds of a fit go, by part; on CUDA also those of the device, by kernel.

    python profile_epoch.py
    python profile_epoch.py --only resnet18 --steps 1008

Parts are timed from outside, by clocks around the methods that do them, and none
counts in another. On a CPU the parts of a step are among them. On CUDA a step is
replayed, so its parts are told apart by the names of kernels: those of one epoch of
training, those of one monitoring, and those of the same epoch of the captured loop of
`bench_fit_cuda`.
"""

import argparse
import re
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from itertools import chain
from unittest.mock import patch

import bench_fit_cpu as on_cpu
import bench_fit_cuda as on_cuda
import torch
from _references import SmallCNN, make_images, make_table
from _timing import machine, parse, report

from fairskorch._sources import Source
from fairskorch.batches import Batches
from fairskorch.modules import MLP
from fairskorch.monitor import FairnessMonitor
from fairskorch.nets import GroupPenaltyNet
from fairskorch.penalties import EqualizedOdds

#: What is timed: who does it, and what it is called; the rest of a method that calls
#: others is its own.
PARTS = {
    "data to the device": (Source, "reader"),
    "cut batches": (Batches, "finish"),
    "forward": (GroupPenaltyNet, "infer"),
    "backward": (torch.autograd, "backward"),
    "penalty": (EqualizedOdds, "derivative"),
    "loss": (GroupPenaltyNet, "descend"),
    "optimiser": (GroupPenaltyNet, "optimise"),
    "rest of training": (GroupPenaltyNet, "run_single_epoch"),
    "monitoring": (FairnessMonitor, "on_epoch_end"),
    "rest of the epochs": (GroupPenaltyNet, "fit_loop"),
}

#: Parts of a step: a replay does none of them by itself.
HIDDEN = ("cut batches", "forward", "backward", "penalty", "loss", "optimiser")

#: Kernels by their names; the first that fits.
KERNELS = {
    "compiled": r"triton_",
    "batch norm": r"batch_?norm|bn_",
    "convolution and matrix": r"conv|gemm|xmma|cutlass|wgrad|dgrad|nhwc|nchw|cudnn",
    "optimiser": r"multi_tensor|[aA]dam",
    "rows": r"gather|[iI]ndexSelect|index_elementwise|Memcpy",
    "sums": r"reduce|softmax|scatter|index_add|[iI]ndexFuncLargeIndex|IndexFunc",
}

#: The call that kernels are taken from; in the first one steps are captured.
CALL = 3


class Clock:
    """Seconds of parts that call each other, each without those inside it."""

    def __init__(self):
        self.seconds = Counter()
        self.inside = []

    def around(self, name, function):
        def timed(*args, **kwargs):
            # Monitoring reads rows, too; its forward passes are its own.
            if "monitoring" in self.inside:
                return function(*args, **kwargs)
            self._stop()
            self.inside.append(name)
            try:
                return function(*args, **kwargs)
            finally:
                self._stop()
                self.inside.pop()

        return timed

    def _stop(self):
        now = time.perf_counter()
        if self.inside:
            self.seconds[self.inside[-1]] += now - self.last
        self.last = now


def seconds_by_part(fit):
    """Return the seconds of a fit by part, and those before and after its epochs."""
    clock = Clock()
    with ExitStack() as stack:
        for part, (owner, name) in PARTS.items():
            timed = clock.around(part, getattr(owner, name))
            stack.enter_context(patch.object(owner, name, timed))
        start = time.perf_counter()
        fit()
        whole = time.perf_counter() - start
    seconds = {part: clock.seconds[part] for part in PARTS}
    return seconds | {"checks, split, network": whole - sum(seconds.values())}


def kernels_by_kind(run, owner, name):
    """Return the milliseconds of kernels in the CALL-th call of a method, by kind."""
    calls, kept, method = Counter(), {}, getattr(owner, name)

    def profiled(*args, **kwargs):
        calls[name] += 1
        if calls[name] != CALL:
            return method(*args, **kwargs)
        activities = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profile:
            torch.cuda.synchronize()
            start = time.perf_counter()
            result = method(*args, **kwargs)
            torch.cuda.synchronize()
            kept["wall"] = time.perf_counter() - start
        kept["events"] = profile.events()
        return result

    with patch.object(owner, name, profiled):
        run()
    found = Counter()
    on_device = torch.autograd.DeviceType.CUDA
    for event in kept["events"]:
        if event.device_type == on_device:
            kind = (k for k, names in KERNELS.items() if re.search(names, event.name))
            found[next(kind, "elementwise")] += event.device_time / 1e3
    busy = sum(found.values())
    return found | {"all kernels": busy, "whole": 1e3 * kept["wall"]}


def cpu_cases(args):
    n_rows, epochs = (2000, 2) if args.quick else (20_000, 10)
    mlp = partial(MLP, n_features=20, n_classes=2)
    table, images = make_table(n_rows), make_images(n_rows // 2, size=28, channels=1)
    cases = {
        "MLP 64-64, batch 64": (table, mlp, 64, epochs),
        "MLP 64-64, batch 512": (table, mlp, 512, epochs),
        "CNN 28 px, batch 128": (images, SmallCNN, 128, epochs // 2),
    }
    for name, case in cases.items():
        yield name, partial(on_cpu.fit, *case, "fused")


def cuda_cases(args):
    for name in filter(on_cuda.SETTINGS.__contains__, args.only):
        for module, batch, compiled, *_ in on_cuda.SETTINGS[name]:
            yield on_cuda.Case(
                name, module, batch, compiled, args.steps, args.per_epoch
            )


def line(what, seconds, unit, factor=1.0):
    """Return a row of numbers and their shares of the whole."""
    whole = seconds.get("whole", sum(seconds.values()))
    row = {"what": what, "whole": f"{factor * whole:.3g} {unit}"}
    for name, value in seconds.items():
        if name != "whole" and value:
            row[name] = f"{factor * value:.3g} ({value / whole:.1%})"
    return row


def fits(args):
    for name, fit in cpu_cases(args):
        fit()
        yield line(name, seconds_by_part(fit), "ms", 1e3)


def replayed(case):
    fit = partial(case.fit, "fit")
    fit()  # or the loading of libraries and kernels would count
    seconds = seconds_by_part(fit)
    training = sum(seconds.pop(part) for part in HIDDEN)
    seconds["rest of training"] += training
    seconds["training"] = seconds.pop("rest of training")
    what = f"{case.name}, batch {case.batch}"
    yield line(f"{what}, fit", seconds, "ms", 1e3)
    runs = {
        "training": (fit, GroupPenaltyNet, "run_single_epoch"),
        "monitoring": (fit, FairnessMonitor, "on_epoch_end"),
        "loop": (case.loop, on_cuda.CapturedLoop, "run"),
    }
    for name, (run, owner, method) in runs.items():
        yield line(f"{what}, {name}", kernels_by_kind(run, owner, method), "ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = list(on_cuda.SETTINGS)
    parser.add_argument("--only", nargs="+", choices=["cpu", *names])
    parser.add_argument("--steps", type=int, default=1008, help="of a fit on CUDA")
    parser.add_argument("--per-epoch", type=int, default=126, help="steps an epoch")
    args = parse(parser)
    if args.quick:
        args.steps, args.per_epoch = 54, 18
    args.only = args.only or ["cpu", *(names if torch.cuda.is_available() else [])]
    torch.set_num_threads(1)
    print(machine())
    rows = fits(args) if "cpu" in args.only else ()
    rows = chain(rows, chain.from_iterable(map(replayed, cuda_cases(args))))
    report("Milliseconds of a fit by part; on CUDA of an epoch by kernel", rows, args)


if __name__ == "__main__":
    main()
