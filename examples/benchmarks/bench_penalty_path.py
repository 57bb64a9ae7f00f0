"""The penalty path of a network against one fit after another.

    python bench_penalty_path.py
    python bench_penalty_path.py --only cuda

On a CPU: `FairNeuralClassifierCV` with 16 weights on 12,000 rows against a
`GridSearchCV` of scikit-learn over plain skorch in two processes, which have a thread
each, as the path has two. Both have five folds, the same MLP, penalty, optimiser,
epochs and batch size, and both score balanced accuracy and gap on held-out rows; the
grid search does nothing else, the path also measures training rows. Both fit the chosen
weight on all rows in the end.

On CUDA: the same class with a convolutional network of four blocks and 32 weights, left
to choose, against one network after another. It must choose the better way.
"""

import argparse

import numpy as np
import torch
from _references import MEMORY, SLOPE, RunningPenalty, make_images, make_table
from _timing import alternate, machine, parse, report, timed, verdict
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from skorch import NeuralNetClassifier
from skorch.utils import to_tensor

from fairskorch import FairNeuralClassifierCV
from fairskorch.metrics import equalized_odds_difference
from fairskorch.modules import MLP, SmallResNet
from fairskorch.penalties import EqualizedOdds
from fairskorch.selection import most_accurate_within

EO = "equalized_odds_difference"
BOUND = 0.1


class GroupsInX(NeuralNetClassifier):
    """How a user of skorch searches a penalty weight: the group is a column of X."""

    def __init__(self, *args, penalty_weight=0.0, **kwargs):
        self.penalty_weight = penalty_weight
        super().__init__(*args, **kwargs)

    def initialize_criterion(self):
        super().initialize_criterion()
        penalty = EqualizedOdds(n_groups=2, memory=MEMORY, slope=SLOPE)
        self.running = [RunningPenalty(penalty)]
        return self

    def infer(self, x, **fit_params):
        return self.module_(to_tensor(x, device=self.device)[:, :-1])

    def get_loss(self, y_pred, y_true, X=None, training=False):
        loss = self.criterion_(y_pred, y_true)
        if not training:
            return loss
        groups = X[:, -1].long()
        return loss + self.penalty_weight * self.running[0](y_pred, y_true, groups)


def gap_of_column(estimator, X, y):
    return -equalized_odds_difference(
        y, estimator.predict(X), sensitive_features=X[:, -1]
    )


def grid_search(data, weights, epochs, batch, n_jobs):
    X, y, groups = data
    X = np.column_stack([X, groups]).astype(np.float32)
    net = GroupsInX(
        MLP,
        module__n_features=X.shape[1] - 1,
        module__n_classes=2,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=1e-3,
        max_epochs=epochs,
        batch_size=batch,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    return GridSearchCV(
        net,
        {"penalty_weight": weights},
        cv=StratifiedKFold(5),
        scoring={"balanced_accuracy": "balanced_accuracy", EO: gap_of_column},
        refit=most_accurate_within(EO, BOUND),
        n_jobs=n_jobs,
    ).fit(X, y)


def path(data, weights, epochs, batch, module="auto", **params):
    settings = {
        "penalty__slope": SLOPE,
        "penalty_warmup": 0,
        "sampler": "shuffle",
        "lr": 1e-3,
        **params,
    }
    X, y, groups = data
    return FairNeuralClassifierCV(
        module,
        penalty_weights=weights,
        refit=most_accurate_within(EO, BOUND),
        max_epochs=epochs,
        batch_size=batch,
        random_state=0,
        **settings,
    ).fit(X, y, groups)


def on_one_thread(*args, **params):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return path(*args, **params)
    finally:
        torch.set_num_threads(threads)


def cpu_rows(args):
    n_rows, epochs, n_weights = (1500, 2, 4) if args.quick else (12_000, 15, 16)
    data = make_table(n_rows)
    weights = np.linspace(0, 3, n_weights)
    for batch in (128, 512):
        setting = (data, weights, epochs, batch)
        rounds = alternate(
            {
                "path": timed(path, *setting, device="cpu"),
                "single": timed(on_one_thread, *setting, device="cpu"),
                "alone": timed(path, *setting, device="cpu", stack=False),
                "grid": timed(grid_search, *setting, 2),
            },
            args.repeats,
            warm_up=args.quick,
        )
        what = f"{n_weights} weights, 5 folds, {n_rows} rows, {epochs} epochs"
        what = f"MLP 64-64, {what}, batch {batch}"
        yield line(f"{what}: GridSearchCV, skorch, 2 jobs / path", rounds, "grid", 5)
        yield line(f"{what}: path on one thread / on two", rounds, "single")
        yield line(f"{what}: one after another / path", rounds, "alone")


def cuda_rows(args):
    if not torch.cuda.is_available():
        yield {"what": "4-block CNN on CUDA", "must": "no CUDA device here"}
        return
    n_rows, epochs, n_weights = (1000, 2, 4) if args.quick else (10_000, 10, 32)
    data = make_images(n_rows, size=32)
    setting = (data, np.linspace(0, 3, n_weights), epochs, 128, SmallResNet)
    params = {"module__width": 8, "device": "cuda", "cv": 2}
    # Else the first way would load what all of them need.
    path(data, setting[1][:2], 1, *setting[3:], **params, stack=False)
    rounds = alternate(
        {
            "path": timed(path, *setting, **params),
            "alone": timed(path, *setting, **params, stack=False),
            "stacked": timed(path, *setting, **params, stack=True),
        },
        args.repeats,
        warm_up=args.quick,
    )
    what = f"4-block CNN of width 8, {n_weights} weights, 2 folds, {n_rows} images"
    # The measurement costs the time of one network in n_folds * n_weights.
    yield line(f"{what}: one after another / path", rounds, "alone", 1.0)
    yield line(f"{what}: side by side / path", rounds, "stacked")


def line(what, rounds, other, least=None):
    ratio = rounds.ratio(other, "path")
    return {
        "what": what,
        "seconds": f"{rounds.median('path'):.2f}",
        "of the other": f"{rounds.median(other):.2f}",
        "ratio": f"{ratio:.2f}",
        "must": "" if least is None else verdict(ratio, least=least),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {"cpu": cpu_rows, "cuda": cuda_rows}
    parser.add_argument("--only", choices=parts, nargs="+", default=list(parts))
    args = parse(parser)
    torch.set_num_threads(2)
    print(machine())
    rows = (row for name in args.only for row in parts[name](args))
    title = f"Seconds of a whole search, median of {args.repeats} alternating rounds"
    report(title, rows, args)


if __name__ == "__main__":
    main()
