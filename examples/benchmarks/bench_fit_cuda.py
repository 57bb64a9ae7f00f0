"""`fit` on a CUDA device against a hand-written captured loop and against plain skorch.

    python bench_fit_cuda.py
    python bench_fit_cuda.py --only width8 width32 --repeats 5
    python bench_fit_cuda.py --only resnet18 --repeats 3 --without skorch unmonitored

The loop keeps the images on the device as uint8, channels last, draws the balanced
order of an epoch there, and captures a whole step as one CUDA graph: gather, scale,
forward under bfloat16 autocast, loss, penalty, backward and fused AdamW. For ResNet-18
both sides compile the network as well.

Images a second are those trained on, by the seconds of the whole call without those
of capturing and compiling: what the first epoch takes more than the median one, its
monitoring included, on both sides alike; that of the first round has a column of its
own. The upload of the images counts on both sides, and so do the checks, held-out rows
and monitoring of `fit`; it runs a second time with monitor=None, which is the work that
the loop does.
Plain skorch reads float32 images from host memory through PyTorch's loader, with as
many workers as are best; of its epochs the fastest counts.
"""

import argparse
import time
from functools import partial
from statistics import median

import torch
from _references import (
    MEMORY,
    SLOPE,
    WEIGHT,
    PenalisedNet,
    RunningPenalty,
    make_images,
)
from _timing import alternate, machine, parse, report, verdict
from skorch.callbacks import Callback
from torch.nn.functional import cross_entropy

from fairskorch import FairNeuralClassifier
from fairskorch.modules import ResNet18, SmallResNet
from fairskorch.penalties import EqualizedOdds

LR = 1e-3
#: Network, batch size, whether to compile, least ratio to the loop and to skorch.
SETTINGS = {
    "width8": [(partial(SmallResNet, width=8), b, False, 0.95, 8) for b in (128, 256)],
    "width32": [
        (partial(SmallResNet, width=32), b, False, 0.95, 4.5) for b in (128, 256)
    ],
    "resnet18": [(ResNet18, 512, True, 0.97, None)],
}
CLASSES = {"in_channels": 3, "n_classes": 2}


class CapturedLoop:
    """Training as a good engineer would write it for this one case."""

    def __init__(self, images, y, groups, module, batch, compiled):
        cuda = partial(torch.as_tensor, device="cuda")
        # Rows that are channels last already need no copy after the gather.
        self.images = cuda(images).permute(0, 2, 3, 1).contiguous()
        self.y, self.groups = cuda(y), cuda(groups)
        self.rows_of = [torch.nonzero(self.y == c).flatten() for c in (0, 1)]
        n_of_class = torch.bincount(self.y)
        self.importance = (2 * n_of_class / len(self.y)).float()[self.y]
        module = module(**CLASSES).to("cuda", memory_format=torch.channels_last)
        self.module = torch.compile(module) if compiled else module
        self.optimizer = torch.optim.AdamW(
            module.parameters(),
            lr=torch.tensor(LR, device="cuda"),
            fused=True,
            capturable=True,
        )
        penalty = EqualizedOdds(n_groups=2, memory=MEMORY, slope=SLOPE)
        self.penalty = RunningPenalty(penalty, "cuda")
        self.total = torch.zeros((), device="cuda")
        self.rows = torch.zeros(batch, dtype=torch.long, device="cuda")

    def step(self):
        rows = self.rows
        target = self.y[rows]
        inputs = self.images[rows].permute(0, 3, 1, 2) / 255
        self.optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            logits = self.module(inputs)
        logits = logits.float()
        penalty = self.penalty(logits, target, self.groups[rows], self.importance[rows])
        loss = cross_entropy(logits, target) + WEIGHT * penalty
        loss.backward()
        self.optimizer.step()
        self.total += loss.detach()

    def capture(self):
        """Warm up on a side stream, then capture a step."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self.rows.copy_(self.epoch(1)[0])
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.step()

    def epoch(self, n_batches):
        """Draw classes equally often, and rows with replacement inside them."""
        half = (n_batches, len(self.rows) // 2)
        drawn = [
            rows[torch.randint(len(rows), half, device="cuda")] for rows in self.rows_of
        ]
        return torch.cat(drawn, dim=1)

    def train(self, n_batches, epochs):
        """Train; return the seconds of each epoch."""
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimizer, T_max=epochs
        )
        seconds = []
        for epoch in range(epochs):
            start = time.perf_counter()
            if epoch == 0:
                self.capture()
            self.run(n_batches)
            schedule.step()
            seconds.append(time.perf_counter() - start)
        return seconds

    def run(self, n_batches):
        """Replay the steps of an epoch; return the sum of their losses."""
        self.total.zero_()
        for rows in self.epoch(n_batches):
            self.rows.copy_(rows)
            self.graph.replay()
        return self.total.item()


class Clock(Callback):
    """Takes the seconds of each epoch with all that belongs to it."""

    def on_train_begin(self, net, **kwargs):
        self.seconds, self.last = [], time.perf_counter()

    def on_epoch_end(self, net, **kwargs):
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now


class Case:
    """One network and batch size, and the ways to train it."""

    def __init__(self, name, module, batch, compiled, steps, per_epoch):
        self.name, self.module, self.batch = name, module, batch
        self.compiled = compiled
        self.n_batches, self.epochs = per_epoch, -(-steps // per_epoch)
        self.n_train = per_epoch * batch
        # A tenth of every cell is held out; a row too many would be a batch more.
        self.data = make_images(round(self.n_train / 0.9) - 8, size=64)
        self.setup = {}

    def rate(self, name, start, epoch_seconds):
        """Note the seconds of capturing; return images a second of the rest."""
        wall = time.perf_counter() - start
        setup = epoch_seconds[0] - median(epoch_seconds)
        # That of the first round; later ones find compiled code on disk.
        self.setup.setdefault(name, setup)
        return self.n_train * self.epochs / (wall - setup)

    def fit(self, name, **settings):
        torch.compiler.reset()
        start = time.perf_counter()
        clock = Clock()
        FairNeuralClassifier(
            partial(self.module, **CLASSES),
            callbacks=[("clock", clock)],
            penalty="eo",
            penalty_weight=WEIGHT,
            penalty__memory=MEMORY,
            penalty__slope=SLOPE,
            penalty_warmup=0,
            max_epochs=self.epochs,
            batch_size=self.batch,
            device="cuda",
            precision="bfloat16",
            capture=True,
            random_state=0,
            optimizer__fused=True,
            **({"compile": True} if self.compiled else {}),
            **settings,
        ).fit(*self.data)
        torch.cuda.synchronize()
        return self.rate(name, start, clock.seconds)

    def loop(self):
        torch.compiler.reset()
        start = time.perf_counter()
        data = [part[: self.n_train] for part in self.data]
        loop = CapturedLoop(*data, self.module, self.batch, self.compiled)
        return self.rate("loop", start, loop.train(self.n_batches, self.epochs))

    def skorch(self, num_workers, epochs=2):
        X, y, groups = self.data
        penalty = EqualizedOdds(n_groups=2, memory=MEMORY, slope=SLOPE)
        net = PenalisedNet(
            self.module,
            **{f"module__{name}": value for name, value in CLASSES.items()},
            penalty=RunningPenalty(penalty, "cuda"),
            dataset=FloatImages,
            criterion=torch.nn.CrossEntropyLoss,
            optimizer=torch.optim.AdamW,
            lr=LR,
            max_epochs=epochs,
            batch_size=self.batch,
            iterator_train__num_workers=num_workers,
            device="cuda",
        ).fit({"X": X, "groups": groups}, y)
        return self.n_train / min(net.history[:, "dur"])


class FloatImages(torch.utils.data.Dataset):
    """Images in host memory that become float32 one by one."""

    def __init__(self, X, y=None):
        self.X, self.groups, self.y = X["X"], X["groups"], y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        image = torch.from_numpy(self.X[i]).float() / 255
        return {"X": image, "groups": self.groups[i]}, self.y[i]


def measure(name, setting, args):
    module, batch, compiled, must_loop, must_skorch = setting
    case = Case(name, module, batch, compiled, args.steps, args.per_epoch)
    ways = {"loop": case.loop, "fit": partial(case.fit, "fit")}
    ways["unmonitored"] = partial(case.fit, "unmonitored", monitor=None)
    if must_skorch and "skorch" not in args.without:
        workers = max((0, 8), key=partial(case.skorch, epochs=1))
        ways["skorch"] = partial(case.skorch, workers)
    ways = {way: run for way, run in ways.items() if way not in args.without}
    rounds = alternate(ways, args.repeats, warm_up=False)
    row = {"what": f"{name}, batch {batch}"}
    row |= {f"{way} img/s": f"{rounds.median(way):.0f}" for way in ways}
    row |= {f"{way} setup s": f"{s:.1f}" for way, s in case.setup.items()}
    for way in [way for way in ("fit", "unmonitored") if way in ways]:
        ratio = rounds.ratio(way, "loop")
        row[f"{way} / loop"] = f"{ratio:.3f} ({verdict(ratio, least=must_loop)})"
    if "skorch" in ways:
        ratio = rounds.ratio("fit", "skorch")
        row["fit / skorch"] = f"{ratio:.1f} ({verdict(ratio, least=must_skorch)})"
        row["workers"] = str(workers)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--steps", type=int, default=2000, help="of each training")
    parser.add_argument("--per-epoch", type=int, default=252, help="steps an epoch")
    ways = ["skorch", "unmonitored"]
    parser.add_argument("--without", nargs="+", choices=ways, default=[])
    args = parse(parser)
    if not torch.cuda.is_available():
        print("bench_fit_cuda.py needs a CUDA device; PyTorch sees none.")
        return
    if args.quick:
        args.steps, args.per_epoch, args.repeats = 54, 18, 1
    print(machine())
    rows = (
        measure(name, setting, args) for name in args.only for setting in SETTINGS[name]
    )
    title = f"Images a second, median of {args.repeats} alternating rounds"
    report(title, rows, args)


if __name__ == "__main__":
    main()
