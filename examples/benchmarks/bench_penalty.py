"""What a step costs with the equalized odds penalty, by number of groups.

    python bench_penalty.py
    python bench_penalty.py --only width8 width32 --groups 2 512     # on CUDA

Both sides are `fit`, with `penalty="eo"` and with `penalty=None`, on batches of the
same sampler. Seconds are those of the training steps, without the first epoch (which
captures and compiles) and without monitoring.
"""

import argparse
import math
from functools import partial

import torch
from _references import make_images, make_table
from _timing import alternate, machine, parse, report, verdict

from fairskorch import FairNeuralClassifier
from fairskorch.modules import MLP, ResNet18, SmallResNet

#: Network, batch size and what the ratio must be, by device.
SETTINGS = {
    "cpu": {"mlp": (MLP, 256, 1.35)},
    "cuda": {
        "width8": (partial(SmallResNet, width=8), 128, 1.05),
        "width32": (partial(SmallResNet, width=32), 256, 1.02),
        "resnet18": (ResNet18, 512, 1.02),
    },
}


def seconds_a_step(penalty, module, batch, data, steps, device):
    """Return a function that fits and returns the mean seconds of a step."""
    per_epoch = math.ceil(len(data[0]) / batch)
    epochs = 1 + math.ceil(steps / per_epoch)
    on_device = {"capture": True} if device == "cuda" else {"optimizer__foreach": False}

    def run():
        clf = FairNeuralClassifier(
            module,
            penalty=penalty,
            penalty_warmup=0,
            sampler="balanced_classes",
            max_epochs=epochs,
            batch_size=batch,
            validation_fraction=0,
            monitor=None,
            device=device,
            random_state=0,
            **on_device,
        ).fit(*data)
        return clf.history_.seconds[1:].sum() / (per_epoch * (epochs - 1))

    return run


def measure(name, n_groups, device, args):
    module, batch, must = SETTINGS[device][name]
    if device == "cuda":
        n_rows, make = 32_768, partial(make_images, size=64)
        classes = {"in_channels": 3, "n_classes": 2}
    else:
        n_rows, make = 20_000, make_table
        classes = {"n_features": 20, "n_classes": 2}
    data = make(n_rows, n_groups=n_groups)
    setting = (partial(module, **classes), batch, data, args.steps, device)
    rounds = alternate(
        {p: seconds_a_step(p, *setting) for p in ("eo", None)},
        args.repeats,
        warm_up=False,
    )
    ratio = rounds.ratio("eo", None)
    return {
        "what": f"{name}, batch {batch}, {n_groups} groups, {device}",
        "eo us": f"{1e6 * rounds.median('eo'):.1f}",
        "none us": f"{1e6 * rounds.median(None):.1f}",
        "ratio": f"{ratio:.3f}",
        "must": verdict(ratio, most=must),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [name for part in SETTINGS.values() for name in part]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--groups", nargs="+", type=int, default=[2, 8, 64, 512])
    parser.add_argument("--steps", type=int, default=2000, help="timed steps of a fit")
    args = parse(parser)
    if args.quick:
        args.steps, args.groups = 50, args.groups[:2]
    torch.set_num_threads(1)
    print(machine())
    rows = (
        measure(name, n_groups, device, args)
        for device in ("cpu", "cuda")[: 1 + torch.cuda.is_available()]
        for name in SETTINGS[device]
        if name in args.only
        for n_groups in args.groups
    )
    title = f"Microseconds of a step, median of {args.repeats} alternating rounds"
    report(title, rows, args)


if __name__ == "__main__":
    main()
