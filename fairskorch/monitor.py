"""What training does to loss, accuracy and group gaps: train against held-out rows.

Everything is computed in eval mode from counts that are accumulated over all the rows
concerned and read from the device once an epoch.
"""

import torch
from skorch.callbacks import Callback

from fairskorch._cells import order_of_cells
from fairskorch.metrics import from_counts
from fairskorch.rates import cell_statistics, confusion_statistics, widest

__all__ = ["FairnessMonitor"]

#: Seed of the fixed sample of training rows: the same rows in every fit.
SAMPLE_SEED = 0

#: Metrics of all rows, groups aside.
OVERALL = ("accuracy", "balanced_accuracy")


class FairnessMonitor(Callback):
    """Record loss, penalty and metrics of training and held-out rows each epoch.

    For ``train`` and ``valid`` rows the history gets ``<split>_loss``,
    ``<split>_penalty`` and ``<split>_<metric>`` for accuracy, balanced accuracy, the
    gap that belongs to the penalty (without one: the equalized odds difference, where
    groups are known) and whatever else is asked for, and ``overfit_<metric>``,
    held-out minus train. Rows that are kept for the penalty alone are ``holdout``.

    Rows with `attributes` (further groupings) have the same metrics between the
    groups of each, as ``<split>_<metric>_by_<attribute>``.

    Parameters
    ----------
    rows : {"sample", "all"}, default="sample"
        Training rows that are read: a fixed sample as large as the held-out part,
        drawn by cells of group and class; or all of them, and then also
        ``task_gradient_norm`` and ``penalty_gradient_norm`` are recorded.
    metrics : list of str, default=()
        Further metrics, names of `fairskorch.metrics.METRICS`; ``nan`` in an epoch
        where the rows cannot tell one.

    Examples
    --------
    >>> from fairskorch import FairNeuralClassifier
    >>> from fairskorch.datasets import make_biased_classification
    >>> from fairskorch.monitor import FairnessMonitor
    >>> data = make_biased_classification(n_samples=500, random_state=0)
    >>> clf = FairNeuralClassifier(max_epochs=2, random_state=0)
    >>> clf = clf.fit(data.data, data.target, data.sensitive_features)
    >>> isinstance(dict(clf.net_.callbacks_)["monitor"], FairnessMonitor)
    True
    >>> epoch = clf.net_.history[-1]
    >>> [name for name in epoch if name.endswith("_equalized_odds_difference")]
    ['train_equalized_odds_difference', 'valid_equalized_odds_difference',
     'overfit_equalized_odds_difference']
    """

    def __init__(self, rows="sample", metrics=()):
        self.rows = rows
        self.metrics = metrics

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Forget the rows of an earlier fit."""
        self.parts_ = None

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Let go of the data, or it would be stored with the net."""
        self.parts_ = None

    def __getstate__(self):
        return {**vars(self), "parts_": None}

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Choose the rows that are read, once."""
        if self.parts_ is None:
            self.parts_ = self._parts(net, dataset_train, dataset_valid)

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Read all parts and record what they say."""
        found = dict(
            zip(
                self.parts_.names, evaluate(net, self.parts_, self.metrics), strict=True
            )
        )
        valid, train = found.get("valid"), found["train"]
        earlier = [row.get("valid_loss", float("inf")) for row in net.history[:-1]]
        for part, values in found.items():
            for name, value in values.items():
                net.history.record(f"{part}_{name}", value)
        if self.rows == "all":
            for name, value in gradient_norms(net, dataset_train).items():
                net.history.record(name, value)
        if valid is None:
            return
        for name in valid:
            if name not in ("loss", "penalty"):
                net.history.record(f"overfit_{name}", valid[name] - train[name])
        # What skorch's Checkpoint looks at.
        net.history.record(
            "valid_loss_best", valid["loss"] < min(earlier, default=float("inf"))
        )

    def _parts(self, net, train, valid):
        parts = {"train": self._choose(train, valid), "valid": valid}
        parts["holdout"] = train.penalty_rows
        parts = {name: part for name, part in parts.items() if part}
        # The sample may lack a group that other training rows have.
        everyone = [train, *parts.values()]
        n_groups = 1 + max(int(part.groups.max()) for part in everyone)
        n_codes = {
            name: 1 + max(int(part.attributes[name].max()) for part in everyone)
            for name in train.attributes
            if all(name in part.attributes for part in everyone)
        }
        return Parts(net, parts, n_groups, n_codes)

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
    rows = mixed[order_of_cells(cell[mixed])]
    # Evenly spaced places in rows sorted by cell take the same share of each.
    places = ((torch.arange(size) + 0.5) * (len(rows) / size)).long()
    return rows[places].sort().values


class Parts:
    """Parts of the rows that are read at the end of each epoch.

    Parameters
    ----------
    net : GroupPenaltyNet
        An initialised net.
    parts : dict of str to GroupedRows
        What to read.
    n_groups : int
        Number of groups in all rows; 0 where none is known.
    n_codes : dict of str to int
        The same for each further attribute of the rows.

    Attributes
    ----------
    rows : list of GroupedRows
        The parts, one after another in a single one where they share their data.
    given : Tensor or None
        Outputs of the net as it is now, from who had to read the rows for a purpose of
        its own; the next evaluation takes them.
    """

    given = None

    def __init__(self, net, parts, n_groups, n_codes):
        self.names, parts = list(parts), list(parts.values())
        self.sizes = [len(part) for part in parts]
        n_groups = max(n_groups, getattr(net.penalty_, "n_groups", 0))
        first, *others = parts
        if all(part.source is first.source for part in others):
            for part in others:
                first = first.followed_by(part)
            parts = [first]
        self.rows = parts
        self.batches = [net.get_iterator(part, training=False) for part in parts]
        self.target = torch.cat([batches.y for batches in self.batches])
        self.groups = torch.cat([batches.fields["groups"] for batches in self.batches])
        #: Cells of each grouping, and its number of groups; that of training first.
        self.groupings = {"": (self._cells(self.groups, n_groups), n_groups)}
        for name, n in n_codes.items():
            codes = torch.cat([part.attributes[name] for part in parts])
            codes = codes.to(self.groups.device)
            self.groupings[f"_by_{name}"] = self._cells(codes, n), n

    def outputs(self, net):
        """Return the outputs of a net in eval mode for all rows, given or read."""
        given, self.given = self.given, None
        if given is not None:
            return given
        return torch.cat([net.infer(f) for batches in self.batches for f, _ in batches])

    def _cells(self, codes, n_groups):
        # Accuracy needs no group: rows of unknown group are counted in a spare one.
        spare = torch.where(codes < 0, n_groups, codes)
        sizes = torch.tensor(self.sizes, device=spare.device)
        place = torch.arange(len(sizes), device=spare.device)
        return spare + (n_groups + 1) * place.repeat_interleave(sizes)


@torch.no_grad()
def evaluate(net, parts, metrics=()):
    """Compute loss, penalty and metrics of some parts of the rows, in eval mode.

    Parameters
    ----------
    net : GroupPenaltyNet
        An initialised net.
    parts : Parts
        What to read.
    metrics : list of str, default=()
        Metrics beside those that are always there.

    Returns
    -------
    values : list of dict of str to float
        For each part ``loss`` (mean task loss, rows unweighted), ``penalty`` where
        there is one, ``accuracy``, ``balanced_accuracy``, and for each grouping the
        metric that belongs to the penalty and the further ones, nan where these rows
        cannot tell it.
    """
    penalty, n_parts = net.penalty_, len(parts.sizes)
    net._set_training(False)
    logits = parts.outputs(net)
    # Rows count alike here, whatever weight they had in training.
    loss = net.criterion_(logits, parts.target)
    values = [_part_means(net, parts, logits, loss)]
    if penalty is not None:
        values.append(_penalties(penalty, parts, logits, loss if loss.ndim else None))
    # Before the counts, which the host waits for.
    values = torch.stack(values)
    own = getattr(penalty, "metric", "equalized_odds_difference")
    between = [name for name in dict.fromkeys([own, *metrics]) if name not in OVERALL]
    columns = {}
    predicted = logits.argmax(1)
    for suffix, (cells, n_groups) in parts.groupings.items():
        n_cells = n_parts * (n_groups + 1)
        counts = confusion_statistics(
            parts.target, predicted, cells, n_cells, logits.shape[1]
        )
        counts = counts.cpu().unflatten(0, (n_parts, n_groups + 1))
        if not suffix:
            for name in OVERALL:
                everyone = counts.sum(1, keepdim=True)
                columns[name] = from_counts(name, everyone).tolist()
        if n_groups > 1:
            for name in between:
                known = counts[:, :n_groups]
                columns[name + suffix] = from_counts(name, known).tolist()
    columns = dict(zip(("loss", "penalty"), values.tolist(), strict=False)) | columns
    return [{k: v[i] for k, v in columns.items()} for i in range(n_parts)]


def _part_means(net, parts, logits, loss):
    """Return the mean task loss of each part."""
    wide = widest(loss.device)
    if loss.ndim:
        return torch.stack([part.mean() for part in loss.to(wide).split(parts.sizes)])
    each = zip(logits.split(parts.sizes), parts.target.split(parts.sizes), strict=True)
    return torch.stack([net.criterion_(*part) for part in each]).to(wide)


def _penalties(penalty, parts, logits, loss):
    """Return the penalty of each part, from one pass over all rows."""
    wide = widest(logits.device)
    loss = None if loss is None else loss.to(wide)
    values = penalty.row_values(logits.to(wide), parts.target, loss)
    cells, n_groups = parts.groupings[""]
    n_parts, n_classes = len(parts.sizes), penalty.n_classes
    statistic = cell_statistics(
        values, parts.target, cells, n_parts * (n_groups + 1), n_classes
    )
    statistic = statistic.unflatten(0, (n_parts, n_groups + 1))
    return penalty.evaluate(statistic[:, : penalty.n_groups]).to(wide)


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
    batches = net.get_iterator(rows, training=False)
    weights = [w for w in net.module_.parameters() if w.requires_grad]
    penalty = net.penalty_
    effect = None
    net._set_training(False)
    if penalty is not None:
        with torch.no_grad():
            statistic = sum(
                _losses(net, fields, target)[1] for fields, target in batches
            )
        statistic.requires_grad_()
        (effect,) = torch.autograd.grad(penalty.evaluate(statistic), statistic)
    task_gradient = penalty_gradient = None
    for fields, target in batches:
        loss, statistic = _losses(net, fields, target)
        task = loss.mean() * (len(target) / len(rows))
        task_gradient = _add(
            task_gradient, _gradient(task, weights, retain_graph=effect is not None)
        )
        if effect is not None:
            penalty_gradient = _add(
                penalty_gradient, _gradient((statistic * effect).sum(), weights)
            )
    norms = {"task_gradient_norm": float(task_gradient.norm())}
    if effect is not None:
        norms["penalty_gradient_norm"] = float(penalty_gradient.norm())
    return norms


def _losses(net, fields, target):
    """Return the loss of each row, and the penalty's statistic if there is one."""
    logits = net.infer(fields)
    loss = net.criterion_(logits, target)
    if net.penalty_ is None:
        return loss, None
    return loss, net.penalty_statistic(logits, target, fields, loss)


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
