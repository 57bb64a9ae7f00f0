"""What the benchmarks compare with, and the data they do it on."""

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.dataset import ValidSplit
from skorch.utils import to_tensor
from torch import nn

#: Settings of the penalty, the same on both sides of every comparison.
MEMORY, SLOPE, WEIGHT = 0.95, 1.0, 0.7


def make_table(n_rows, n_features=20, n_groups=2, seed=0):
    """Draw a table, classes (30 % of class 1) and groups that differ in scores."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, n_features), dtype=np.float32)
    groups = rng.integers(0, n_groups, n_rows)
    score = X[:, 0] + X[:, 1] + groups / n_groups + rng.normal(size=n_rows)
    return X, (score > np.quantile(score, 0.7)).astype(np.int64), groups


def make_images(n_rows, size, channels=3, n_groups=2, seed=0):
    """Draw uint8 images, channels first, whose brightness tells class and group."""
    rng = np.random.default_rng(seed)
    y = (rng.uniform(size=n_rows) < 0.3).astype(np.int64)
    groups = rng.integers(0, n_groups, n_rows)
    values = np.frombuffer(rng.bytes(n_rows * channels * size**2), np.uint8) // 2
    X = values.reshape(n_rows, channels, size, size)
    X += (40 * y + 40 * groups // n_groups).astype(np.uint8)[:, None, None, None]
    return X, y, groups


class SmallCNN(nn.Sequential):
    """Three convolutions of 16, 32 and 64 channels, for images of 28 pixels."""

    def __init__(self, in_channels=1, n_classes=2):
        layers, inside = [], in_channels
        for width in (16, 32, 64):
            layers += [
                nn.Conv2d(inside, width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            inside = width
        super().__init__(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, n_classes))


class RunningPenalty:
    """A penalty with running sums over the batches, kept in one place."""

    def __init__(self, penalty, device="cpu"):
        self.penalty = penalty.to(device)
        self.running = self.penalty.new_memory()

    def __call__(self, logits, target, groups, weight=None):
        return self.penalty.penalise(
            logits, target, groups, weight, memory=self.running
        )


class PenalisedNet(NeuralNetClassifier):
    """How a user of skorch adds a penalty: groups in X, and `get_loss`."""

    def __init__(self, *args, penalty, **kwargs):
        self.penalty = penalty
        kwargs.setdefault("train_split", ValidSplit(10, stratified=True))
        super().__init__(*args, iterator_train__shuffle=True, verbose=0, **kwargs)

    def infer(self, x, **fit_params):
        x = to_tensor(x["X"], device=self.device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda):
            return self.module_(x).float()

    def get_loss(self, y_pred, y_true, X=None, training=False):
        y_true = to_tensor(y_true, device=self.device)
        loss = self.criterion_(y_pred, y_true)
        if not training:
            return loss
        groups = to_tensor(X["groups"], device=self.device)
        return loss + WEIGHT * self.penalty(y_pred, y_true, groups)
