"""What training does to loss, accuracy and group gaps: train against held-out rows.

Everything is computed in eval mode from counts that are accumulated over all the rows
concerned and read from the device once an epoch.
"""

import warnings

import torch
from skorch.callbacks import Callback

from fairskorch.exceptions import ConstantPredictionWarning
from fairskorch.metrics import from_counts
from fairskorch.rates import confusion_statistics, widest

__all__ = ["FairnessMonitor"]

#: Seed of the fixed sample of training rows: the same rows in every fit.
SAMPLE_SEED = 0


class FairnessMonitor(Callback):
    """Record loss, penalty and metrics of training and held-out rows each epoch.

    For ``train`` and ``valid`` rows the history gets ``<split>_loss``,
    ``<split>_penalty`` and ``<split>_<metric>`` for accuracy, balanced accuracy and
    the gap that belongs to the penalty (without one: the equalized odds difference,
    where groups are known), and ``overfit_<metric>``, held-out minus train.

    Parameters
    ----------
    rows : {"sample", "all"}, default="sample"
        Training rows that are read: a fixed sample as large as the held-out part,
        drawn by cells of group and class; or all of them, and then also
        ``task_gradient_norm`` and ``penalty_gradient_norm`` are recorded.

    Attributes
    ----------
    n_predicted_ : int
        How many classes were predicted at all in the last epoch that was read.
    """

    def __init__(self, rows="sample"):
        self.rows = rows

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Forget the sample of an earlier fit."""
        self.sample_ = None

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Let go of the data, or it would be stored with the net."""
        self.sample_ = None

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Read both parts and record what they say."""
        if self.sample_ is None:
            self.sample_ = self._choose(dataset_train, dataset_valid)
        train, counts = evaluate(net, self.sample_)
        self.n_predicted_ = int((counts > 0).sum())
        for name, value in train.items():
            net.history.record(f"train_{name}", value)
        if self.rows == "all":
            for name, value in gradient_norms(net, self.sample_).items():
                net.history.record(name, value)
        if dataset_valid is None:
            return
        valid, more = evaluate(net, dataset_valid)
        self.n_predicted_ = int((counts + more > 0).sum())
        for name, value in valid.items():
            net.history.record(f"valid_{name}", value)
        for name in valid:
            if name not in ("loss", "penalty"):
                net.history.record(f"overfit_{name}", valid[name] - train[name])

    def _choose(self, train, valid):
        if self.rows == "all" or valid is None or len(valid) >= len(train):
            return train
        return train.subset(cell_sample(train.y, train.groups, len(valid)))


def cell_sample(target, groups, size):
    """Choose rows so that each cell of group and class keeps its share.

    Parameters
    ----------
    target, groups : Tensor of shape (n_samples,), int64
        Codes.
    size : int
        Number of rows wanted.

    Returns
    -------
    rows : Tensor of shape (size,), int64
        Sorted row numbers.
    """
    cell = (groups + 1) * (target.max() + 1) + target
    generator = torch.Generator().manual_seed(SAMPLE_SEED)
    mixed = torch.randperm(len(cell), generator=generator)
    rows = mixed[torch.argsort(cell[mixed], stable=True)]
    # Evenly spaced places in rows sorted by cell take the same share of each.
    places = ((torch.arange(size) + 0.5) * (len(rows) / size)).long()
    return rows[places].sort().values


@torch.no_grad()
def evaluate(net, rows):
    """Compute loss, penalty and metrics of some rows, in eval mode.

    Parameters
    ----------
    net : GroupPenaltyNet
        An initialised net.
    rows : GroupedRows
        What to read.

    Returns
    -------
    values : dict of str to float
        ``loss`` (mean task loss, rows unweighted), ``penalty`` where there is one,
        ``accuracy``, ``balanced_accuracy`` and the metric that belongs to the penalty.
    predicted : Tensor of shape (n_classes,)
        How many rows each class was predicted for.
    """
    penalty, loss, statistic, counts = net.penalty_, 0.0, None, None
    n_groups = max(int(rows.groups.max()) + 1, getattr(penalty, "n_groups", 0))
    for fields, target in net.get_iterator(rows, training=False):
        net._set_training(False)
        logits = net.infer(fields)
        # Rows count alike here, whatever weight they had in training.
        loss = loss + net.task_loss(logits, target, {}) * len(target)
        n_classes = logits.shape[1]
        # Accuracy needs no group: rows of unknown group are counted in a spare one.
        groups = torch.where(fields["groups"] < 0, n_groups, fields["groups"])
        part = confusion_statistics(
            target, logits.argmax(1), groups, n_groups + 1, n_classes
        )
        counts = part if counts is None else counts + part
        if penalty is not None:
            part = penalty.statistic(logits, target, fields["groups"])
            part = part.to(widest(part.device))
            statistic = part if statistic is None else statistic + part
    values = {"loss": float(loss) / len(rows)}
    counts = counts.cpu()
    if penalty is not None:
        values["penalty"] = float(penalty.evaluate(statistic))
    everyone = counts.sum(0, keepdim=True)
    for name in ("accuracy", "balanced_accuracy"):
        values[name] = float(from_counts(name, everyone))
    if n_groups > 1:
        metric = getattr(penalty, "metric", "equalized_odds_difference")
        known = counts[:n_groups]
        # A group without any row here is not part of what is measured.
        known = known[known[..., 0].sum(-1) > 0]
        values[metric] = float(from_counts(metric, known))
    return values, everyone[0, :, 1:].sum(0)


def gradient_norms(net, rows):
    """Compute the norms of the task loss's and the penalty's gradients, in eval mode.

    The penalty is not a mean over batches, so its gradient is taken at the statistic
    of all rows: first the sums, then each batch's share of their effect.

    Parameters
    ----------
    net : GroupPenaltyNet
        An initialised net.
    rows : GroupedRows
        What to read.

    Returns
    -------
    norms : dict of str to float
        ``task_gradient_norm``, and ``penalty_gradient_norm`` (unweighted) where there
        is a penalty.
    """
    weights = [w for w in net.module_.parameters() if w.requires_grad]
    penalty = net.penalty_
    effect = None
    net._set_training(False)
    if penalty is not None:
        with torch.no_grad():
            statistic = sum(
                penalty.statistic(net.infer(fields), target, fields["groups"])
                for fields, target in net.get_iterator(rows, training=False)
            )
        statistic.requires_grad_()
        (effect,) = torch.autograd.grad(penalty.evaluate(statistic), statistic)
    task_gradient = penalty_gradient = None
    for fields, target in net.get_iterator(rows, training=False):
        logits = net.infer(fields)
        task = net.task_loss(logits, target, {}) * (len(target) / len(rows))
        task_gradient = _add(
            task_gradient, _gradient(task, weights, retain_graph=effect is not None)
        )
        if effect is not None:
            statistic = penalty.statistic(logits, target, fields["groups"])
            penalty_gradient = _add(
                penalty_gradient, _gradient((statistic * effect).sum(), weights)
            )
    norms = {"task_gradient_norm": float(task_gradient.norm())}
    if effect is not None:
        norms["penalty_gradient_norm"] = float(penalty_gradient.norm())
    return norms


def _gradient(value, weights, retain_graph=False):
    parts = torch.autograd.grad(
        value, weights, retain_graph=retain_graph, allow_unused=True
    )
    return torch.cat(
        [
            (torch.zeros_like(weight) if part is None else part).flatten()
            for part, weight in zip(parts, weights, strict=True)
        ]
    )


def _add(total, part):
    return part if total is None else total + part


def warn_if_constant(net, rows, owner):
    """Warn when a trained net predicts one and the same class for every row read.

    Parameters
    ----------
    net : GroupPenaltyNet
        A trained net.
    rows : GroupedRows
        Read where the net has no monitor.
    owner : str
        Name of the estimator, for the message.

    Warns
    -----
    ConstantPredictionWarning
    """
    monitor = dict(net.callbacks_).get("monitor")
    if monitor is not None and hasattr(monitor, "n_predicted_"):
        n_predicted = monitor.n_predicted_
    else:
        n_predicted = int((evaluate(net, rows)[1] > 0).sum())
    if n_predicted == 1:
        warnings.warn(
            f"{owner} predicts one class for every row that was looked at, so its gaps "
            "are 0 for no merit. Try a smaller penalty_weight, "
            "sampler='balanced_classes', a longer penalty_warmup or more max_epochs.",
            ConstantPredictionWarning,
            stacklevel=4,
        )
