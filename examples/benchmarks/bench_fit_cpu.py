"""`fit` on a CPU against a bare loop and against plain skorch, one thread.

    python bench_fit_cpu.py
    python bench_fit_cpu.py --only mlp --repeats 9

The bare loop cuts tensors by the batches of the same sampler and has the same penalty,
optimiser implementation and learning rate schedule; it computes nothing else. `fit`
does all that it does by default: checks, held-out rows, monitoring after each epoch.
Both train on as many rows. Plain skorch has the penalty in its loss, and PyTorch's
loader, held-out loss and accuracy as by default.
"""

import argparse
from functools import partial

import torch
from _references import (
    MEMORY,
    SLOPE,
    WEIGHT,
    PenalisedNet,
    RunningPenalty,
    SmallCNN,
    make_images,
    make_table,
)
from _timing import alternate, machine, parse, report, timed, verdict

from fairskorch import FairNeuralClassifier
from fairskorch.modules import MLP
from fairskorch.penalties import EqualizedOdds
from fairskorch.sampling import EpochSampler

#: Of the optimiser, for both sides.
OPTIMISERS = {"unfused": {"foreach": False}, "fused": {"fused": True}}
LR = 1e-3


def fit(data, module, batch, epochs, optimiser, **settings):
    """Train with fairskorch: the whole call."""
    optimiser = {f"optimizer__{k}": v for k, v in OPTIMISERS[optimiser].items()}
    return FairNeuralClassifier(
        module,
        penalty="eo",
        penalty_weight=WEIGHT,
        penalty__memory=MEMORY,
        penalty__slope=SLOPE,
        penalty_warmup=0,
        max_epochs=epochs,
        batch_size=batch,
        device="cpu",
        random_state=0,
        **optimiser,
        **settings,
    ).fit(*data)


def bare_loop(data, module, batch, epochs, optimiser):
    """Train with nothing but PyTorch, the sampler's batches and the penalty."""
    torch.manual_seed(0)
    X, y, groups = (torch.from_numpy(part) for part in data)
    # As many rows as `fit` trains on.
    n_rows = round(0.9 * len(X))
    X, y, groups = X[:n_rows], y[:n_rows], groups[:n_rows]
    module = module()
    optimizer = torch.optim.AdamW(module.parameters(), lr=LR, **OPTIMISERS[optimiser])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    penalty = RunningPenalty(EqualizedOdds(n_groups=2, memory=MEMORY, slope=SLOPE))
    sampler = EpochSampler("balanced_classes", y, groups, batch)
    importance = sampler.importance.float()
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for rows in sampler.epoch(generator):
            inputs, target = X[rows], y[rows]
            if inputs.dtype == torch.uint8:
                inputs = inputs / 255
            optimizer.zero_grad()
            logits = module(inputs)
            loss = torch.nn.functional.cross_entropy(logits, target)
            loss = loss + WEIGHT * penalty(
                logits, target, groups[rows], importance[rows]
            )
            loss.backward()
            optimizer.step()
        schedule.step()
    return module


def plain_skorch(data, module, batch, epochs, optimiser):
    """Train with skorch as it is, the penalty in `get_loss`."""
    X, y, groups = data
    torch.manual_seed(0)
    penalty = EqualizedOdds(n_groups=2, memory=MEMORY, slope=SLOPE)
    PenalisedNet(
        module,
        penalty=RunningPenalty(penalty),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=LR,
        max_epochs=epochs,
        batch_size=batch,
        **{f"optimizer__{k}": v for k, v in OPTIMISERS[optimiser].items()},
    ).fit({"X": X, "groups": groups}, y)


def mlp_rows(args):
    n_rows, epochs = (2000, 2) if args.quick else (20_000, 10)
    data = make_table(n_rows)
    module = partial(MLP, n_features=data[0].shape[1], n_classes=2)
    must = {64: 1.15, 512: 1.10}
    for batch in (64, 512):
        for optimiser in OPTIMISERS:
            setting = (data, module, batch, epochs, optimiser)
            rounds = alternate(
                {"fit": timed(fit, *setting), "bare": timed(bare_loop, *setting)},
                args.repeats,
            )
            what = f"MLP 64-64, batch {batch}, {optimiser} AdamW: fit / bare loop"
            yield line(what, rounds, "fit", "bare", most=must[batch])
    setting = (data, module, 512, epochs, "unfused")
    rounds = alternate(
        {
            # The batches of a shuffled loader, to do the same work.
            "fit": timed(fit, *setting, sampler="shuffle"),
            "skorch": timed(plain_skorch, *setting),
        },
        args.repeats,
    )
    what = "MLP 64-64, batch 512, unfused AdamW: skorch default / fit"
    yield line(what, rounds, "skorch", "fit", least=4.0)


def cnn_rows(args):
    n_rows, epochs = (1000, 2) if args.quick else (10_000, 5)
    data = make_images(n_rows, size=28, channels=1)
    setting = (data, SmallCNN, 128, epochs, "unfused")
    rounds = alternate(
        {
            "fit": timed(fit, *setting),
            "without": timed(fit, *setting, monitor=None),
            "bare": timed(bare_loop, *setting),
        },
        args.repeats,
    )
    what = "CNN 28 px, batch 128, unfused AdamW: fit"
    yield line(f"{what} / bare loop", rounds, "fit", "bare", most=1.03)
    yield line(f"{what}, monitor=None / bare loop", rounds, "without", "bare")
    yield line(f"{what} / fit, monitor=None", rounds, "fit", "without", most=1.10)


def line(what, rounds, name, other, most=None, least=None):
    ratio = rounds.ratio(name, other)
    must = "" if most is None and least is None else verdict(ratio, most, least)
    return {
        "what": what,
        "seconds": f"{rounds.median(name):.3f}",
        "of the other": f"{rounds.median(other):.3f}",
        "ratio": f"{ratio:.3f}",
        "must": must,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {"mlp": mlp_rows, "cnn": cnn_rows}
    parser.add_argument("--only", choices=parts, nargs="+", default=list(parts))
    args = parse(parser)
    torch.set_num_threads(1)
    print(machine())
    rows = (row for name in args.only for row in parts[name](args))
    title = f"Seconds of a whole fit, median of {args.repeats} alternating rounds"
    report(title, rows, args)


if __name__ == "__main__":
    main()
