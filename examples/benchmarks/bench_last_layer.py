"""New last layers: many at once against one by one, and against scikit-learn's search.

    python bench_last_layer.py
    python bench_last_layer.py --only together search
    python bench_last_layer.py --only heads whole      (on a CUDA device)

``together``
    256 heads with an EO penalty at once, and one after another in a bare loop: a
    linear layer, the loss, the gap by a matrix product, SGD. One epoch over 10,000
    rows of 128 features in batches of 256, on one thread of the CPU.
``search``
    32 weights on 5 folds: `FairLastLayerClassifierCV`, and scikit-learn's GridSearchCV
    over `FairLastLayerClassifier`. The network is a linear layer, so that features
    cost nothing on either side. Both must choose the same weight.
``heads``
    One epoch over 160,000 rows of 512 features in batches of 4,096 on CUDA: 1,024
    heads at once against a single one.
``whole``
    On CUDA: features of 100,000 images of 64 pixels and 1,000 epochs of the default
    (balanced cells, EO), against one training epoch of the ResNet-18 that gives them.
"""

import argparse
import time

import numpy as np
import torch
from _references import make_images, make_table
from _timing import alternate, machine, parse, report, timed, verdict
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from torch.nn.functional import cross_entropy

from fairskorch import (
    FairLastLayerClassifier,
    FairLastLayerClassifierCV,
    FairNeuralClassifier,
)
from fairskorch._heads import (
    HeadData,
    Settings,
    fresh_head,
    optimizer_settings,
    train_heads,
)
from fairskorch._row_sets import RowSet
from fairskorch.modules import ResNet18
from fairskorch.penalties import EqualizedOdds

NAMES = ("together", "search", "heads", "whole")
SGD = {"lr": 1e-2, "momentum": 0.9, "weight_decay": 5e-4}


def make_data(n_rows, n_features, device="cpu"):
    X, y, groups = make_table(n_rows, n_features)
    parts = (torch.as_tensor(part, device=device) for part in (X, y, groups))
    return HeadData(*parts, n_classes=2, n_groups=2)


def many_heads(data, n_heads, batch, epochs=1):
    n_rows, n_features = data.features.shape
    ones = np.ones(n_rows)
    start = fresh_head(n_features, 2, 0, data.features)
    params = optimizer_settings(torch.optim.SGD, {}, SGD["lr"])
    train_heads(
        data,
        [RowSet(np.arange(n_rows), ones, ones)],
        EqualizedOdds(n_groups=2).to(data.features.device),
        torch.linspace(0, 4, n_heads),
        start,
        Settings(torch.optim.SGD, params, epochs, batch, 0),
    )


def bare_loop(data, n_heads, batch):
    """Train heads one after another, as one would without any package."""
    n_rows, n_features = data.features.shape
    cells = 2 * data.groups + data.target
    members = (cells == torch.arange(4).unsqueeze(1)).float()
    for weight in torch.linspace(0, 4, n_heads).tolist():
        layer = torch.nn.Linear(n_features, 2)
        optimizer = torch.optim.SGD(layer.parameters(), **SGD, fused=True)
        for rows in torch.randperm(n_rows).split(batch):
            logits = layer(data.features[rows])
            scores = torch.softmax(logits, dim=1)[:, 1]
            part = members[:, rows]
            rates = (part @ scores) / part.sum(1)
            gap = (rates[:2] - rates[2:]).abs().max()
            loss = cross_entropy(logits, data.target[rows]) + weight * gap
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def bench_together(args):
    n_rows, n_heads = (1_000, 8) if args.quick else (10_000, 256)
    data = make_data(n_rows, 128)
    rounds = alternate(
        {
            "together": timed(many_heads, data, n_heads, 256),
            "loop": timed(bare_loop, data, n_heads, 256),
        },
        args.repeats,
    )
    faster = rounds.ratio("loop", "together")
    yield {
        "what": f"{n_heads} heads, one epoch",
        "at once s": f"{rounds.median('together'):.3f}",
        "other s": f"{rounds.median('loop'):.3f}",
        "ratio": f"{faster:.1f}x faster",
        "wanted": verdict(faster, least=30),
    }


def bench_search(args):
    n_rows, n_weights, epochs = (600, 3, 20) if args.quick else (10_000, 32, 1000)
    X, y, groups = make_table(n_rows, 128)
    plain = FairNeuralClassifier(
        torch.nn.Linear(128, 2), penalty=None, max_epochs=1, random_state=0
    ).fit(X, y)
    weights = np.linspace(0, 4, n_weights)
    folds = StratifiedKFold(5)
    params = {"max_epochs": epochs, "device": "cpu", "random_state": 0}
    chosen = {}

    def batched():
        search = FairLastLayerClassifierCV(
            FrozenEstimator(plain), penalty_weights=weights, cv=folds, **params
        ).fit(X, y, groups)
        chosen["batched"] = search.penalty_weight_

    def grid():
        search = GridSearchCV(
            FairLastLayerClassifier(FrozenEstimator(plain), **params),
            {"penalty_weight": weights},
            cv=folds,
            scoring="balanced_accuracy",
        ).fit(X, y, sensitive_features=groups)
        chosen["grid"] = search.best_params_["penalty_weight"]

    rounds = alternate(
        {"batched": timed(batched), "grid": timed(grid)}, args.repeats, warm_up=False
    )
    faster = rounds.ratio("grid", "batched")
    same = "same" if chosen["grid"] == chosen["batched"] else f"OTHER {chosen}"
    yield {
        "what": f"{n_weights} weights, 5 folds, {epochs} epochs",
        "at once s": f"{rounds.median('batched'):.3f}",
        "other s": f"{rounds.median('grid'):.3f}",
        "ratio": f"{faster:.1f}x faster, {same} choice",
        "wanted": verdict(faster, least=20),
    }


def bench_heads(args):
    n_rows, n_heads = (8_192, 8) if args.quick else (160_000, 1024)
    data = make_data(n_rows, 512, "cuda")
    rounds = alternate(
        {
            "many": timed(many_heads, data, n_heads, 4096),
            "one": timed(many_heads, data, 1, 4096),
        },
        args.repeats,
    )
    ratio = rounds.ratio("many", "one")
    yield {
        "what": f"{n_heads} heads against one, one epoch, CUDA",
        "at once s": f"{rounds.median('many'):.3f}",
        "other s": f"{rounds.median('one'):.3f}",
        "ratio": f"{ratio:.2f}",
        "wanted": verdict(ratio, most=1.2),
    }


def bench_whole(args):
    n_rows, epochs = (2_000, 20) if args.quick else (100_000, 1000)
    X, _, _ = make_images(n_rows, 64)
    # Cells of one size, so that balance leaves all rows in.
    y, groups = np.arange(n_rows) % 2, np.arange(n_rows) // 2 % 2
    plain = FairNeuralClassifier(
        ResNet18,
        penalty=None,
        max_epochs=4,
        batch_size=512,
        validation_fraction=0,
        monitor=None,
        device="cuda",
        random_state=0,
    ).fit(X, y)
    epoch = float(plain.history_["seconds"].iloc[1:].median())

    def whole():
        start = time.perf_counter()
        FairLastLayerClassifier(
            FrozenEstimator(plain), max_epochs=epochs, device="cuda", random_state=0
        ).fit(X, y, groups)
        torch.cuda.synchronize()
        return time.perf_counter() - start

    rounds = alternate({"whole": whole}, args.repeats)
    ratio = rounds.median("whole") / epoch
    yield {
        "what": f"features of {n_rows} images and {epochs} epochs",
        "at once s": f"{rounds.median('whole'):.3f}",
        "other s": f"{epoch:.3f} (one epoch of the network)",
        "ratio": f"{ratio:.2f}",
        "wanted": verdict(ratio, most=2),
    }


def rows(args):
    for name in args.only:
        if name in ("heads", "whole") and not torch.cuda.is_available():
            yield {"what": name, "wanted": "needs CUDA"}
            continue
        yield from globals()[f"bench_{name}"](args)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    args = parse(parser)
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    print(machine())
    report("New last layers", rows(args), args)


if __name__ == "__main__":
    main()
