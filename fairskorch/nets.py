"""The skorch net that trains under a group penalty: its parameters and parts."""

import inspect

import torch
from skorch import NeuralNet, NeuralNetClassifier
from skorch.callbacks import EpochTimer, PrintLog

from fairskorch._net_epochs import EpochsOfNet
from fairskorch._net_rows import RowsOfNet
from fairskorch._penalised_loss import DTYPES, PenalisedLoss
from fairskorch.batches import Batches, GroupedRows
from fairskorch.monitor import FairnessMonitor

__all__ = ["GroupPenaltyNet"]

#: Optimisers that have one kernel for all their work on every device.
FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)

#: Parameters of the net that say how its penalty is used.
OWN = [f"penalty_{name}" for name in ("weight", "warmup", "schedule", "split")]


class GroupPenaltyNet(PenalisedLoss, RowsOfNet, EpochsOfNet, NeuralNetClassifier):
    """A skorch net whose loss is ``task + weight * ramp * penalty``.

    Groups reach the loss batch by batch: X is a `fairskorch.batches.GroupedRows`, or
    a dict with the keys ``"X"``, ``"groups"`` and, if wanted, ``"weight"`` and
    ``"attributes"``, a dict of further codes to monitor. Classes and groups are
    codes, as `~fairskorch.FairNeuralClassifier` makes them from labels.

    Parameters
    ----------
    module : type or callable
        The network; returns logits of shape (n_samples, n_classes).
    criterion : type, default=torch.nn.CrossEntropyLoss
        The task loss. With ``criterion__reduction="none"`` rows can be weighted.
    penalty : type, optional
        A class of `fairskorch.penalties`; its parameters are ``penalty__n_groups``
        and so on, as those of module and criterion.
    penalty_weight : float, default=1.0
        Weight of the penalty.
    penalty_warmup : float, default=0
        Epochs over which the weight ramps up linearly from 0.
    penalty_schedule : str, Ascent or callable, default="constant"
        How the weight moves, see `~fairskorch.FairNeuralClassifier`.
    flood : float, optional
        Level that the mean task loss of a batch is kept around, ``|loss - flood| +
        flood``.
    ema_decay : float, optional
        Decay of a running mean of the weights, which is then what is evaluated after
        each epoch and in the end; None for the weights themselves.
    sampler : str, default="shuffle"
        See `fairskorch.sampling.EpochSampler`.
    augment : callable, optional
        Applied to each training batch on its device.
    precision : {"float32", "bfloat16", "float64"}, default="float32"
        ``"bfloat16"`` runs the network under autocast, on CUDA with images whose
        channels lie last in memory; weights, losses and rates stay in float32.
    capture : "auto" or bool, default="auto"
        Whether training steps on CUDA run as a CUDA graph: captured once, then
        replayed without the work of the host. ``"auto"`` does so in calls of
        200 steps and more. Where a step cannot be captured, that is logged once, and
        it runs one kernel after another.
    monitor : {"sample", "all", None}, default="sample"
        See `fairskorch.monitor.FairnessMonitor`.
    monitor_metrics : list of str, optional
        Further metrics that the monitor records.
    train_split : callable, optional
        As in skorch; there is none by default.
    penalty_split : callable, optional
        Divides the training rows as `train_split` does: the penalty is then computed
        on the second part and nowhere else, and the task loss on the first.
    **kwargs
        Further parameters of `skorch.NeuralNet`, and parameters of its parts with
        double underscores.

    Attributes
    ----------
    penalty_ : GroupPenalty or None
        The penalty, on the device.
    penalty_memory_ : Tensor or None
        Running sums of the penalty's statistics, where it has a memory.
    penalty_multiplier_ : Tensor or None
        The weight that climbs, where `penalty_schedule` is an ascent.

    Notes
    -----
    The history holds epochs. Values of single batches are recorded, at the cost of
    waiting for the device, only while a callback has a hook for batches or gradients;
    such a hook also switches `capture` off.

    Adam, AdamW and SGD use their fused implementation unless another is asked for.

    A step that is captured repeats what it did on the device. Python code in a module
    that changes from step to step without looking at values of tensors (a counter, a
    draw from Python's own generator) would be left out: set ``capture=False`` then.

    Examples
    --------
    >>> import numpy as np
    >>> from fairskorch.modules import MLP
    >>> from fairskorch.nets import GroupPenaltyNet
    >>> from fairskorch.penalties import EqualizedOdds
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4)).astype("float32")
    >>> y, groups = (X[:, 0] > 0).astype(int), (X[:, 1] > 0).astype(int)
    >>> net = GroupPenaltyNet(
    ...     MLP, module__n_features=4, module__n_classes=2,
    ...     penalty=EqualizedOdds, penalty__n_groups=2, verbose=0, max_epochs=2,
    ... )
    >>> net.fit({"X": X, "groups": groups}, y).predict(X).shape
    (200,)
    """

    prefixes_ = [*NeuralNet.prefixes_, "penalty"]
    cuda_dependent_attributes_ = [
        *NeuralNet.cuda_dependent_attributes_,
        *("penalty_", "_ramped_weight", "_one", "_average"),
    ]

    def __init__(
        self,
        module,
        *args,
        criterion=torch.nn.CrossEntropyLoss,
        penalty=None,
        penalty_weight=1.0,
        penalty_warmup=0,
        penalty_schedule="constant",
        flood=None,
        ema_decay=None,
        sampler="shuffle",
        augment=None,
        precision="float32",
        capture="auto",
        monitor="sample",
        monitor_metrics=None,
        iterator_train=Batches,
        iterator_valid=Batches,
        dataset=GroupedRows,
        train_split=None,
        penalty_split=None,
        **kwargs,
    ):
        self.penalty = penalty
        self.penalty_weight = penalty_weight
        self.penalty_warmup = penalty_warmup
        self.penalty_schedule = penalty_schedule
        self.flood = flood
        self.ema_decay = ema_decay
        self.sampler = sampler
        self.augment = augment
        self.precision = precision
        self.capture = capture
        self.monitor = monitor
        self.monitor_metrics = monitor_metrics
        self.penalty_split = penalty_split
        super().__init__(
            module,
            *args,
            criterion=criterion,
            iterator_train=iterator_train,
            iterator_valid=iterator_valid,
            dataset=dataset,
            train_split=train_split,
            **kwargs,
        )

    @property
    def _default_callbacks(self):
        callbacks = [("epoch_timer", EpochTimer()), ("print_log", PrintLog())]
        if self.monitor:
            monitor = FairnessMonitor(self.monitor, self.monitor_metrics or ())
            callbacks.insert(1, ("monitor", monitor))
        return callbacks

    def initialize_virtual_params(self):
        """Let parameters change on a fitted net that need no new weights."""
        super().initialize_virtual_params()
        self._register_virtual_param(["iterator_train__*", "iterator_valid__*"])
        self._register_virtual_param(OWN)
        self._register_virtual_param(["penalty__*"], _set_penalty_param)

    def _validate_params(self):
        # To skorch a name that begins as a part does lacks an underscore.
        self._params_to_validate -= set(OWN)
        super()._validate_params()

    def initialize_module(self):
        """Build the network in the precision that it computes in."""
        super().initialize_module()
        if self.precision == "float64":
            self.module_.double()
        if self._channels_last:
            self.module_.to(memory_format=torch.channels_last)
        self._average = None
        return self

    def torch_compile(self, module, name):
        """Compile the network where that is asked for, and leave the criterion.

        A criterion is a few kernels, whose derivative is mostly written out.
        """
        if name == "criterion":
            return module
        return super().torch_compile(module, name)

    def get_params_for_optimizer(self, prefix, named_parameters):
        """Choose the fastest implementation that an optimiser has."""
        args, kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        kind = getattr(self, prefix)
        if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
            return args, kwargs
        known = inspect.signature(kind).parameters
        asked = {"fused", "foreach", "differentiable"} & kwargs.keys()
        if issubclass(kind, FUSED) and "fused" in known and not asked:
            kwargs["fused"] = True
        if self._device_type == "cuda" and "capturable" in known:
            kwargs.setdefault("capturable", True)
        return args, kwargs

    def initialize_criterion(self):
        """Build the criterion and the penalty.

        The penalty is no criterion to skorch: were it one, a parameter inside it
        would join the network's optimiser.
        """
        super().initialize_criterion()
        return self.initialize_penalty()

    @property
    def _device_type(self):
        return torch.device(self.device).type

    @property
    def _channels_last(self):
        return self.precision == "bfloat16" and self._device_type == "cuda"

    def fit(self, X, y=None, **fit_params):
        """Train anew, or go on with ``warm_start``.

        Parameters
        ----------
        X : GroupedRows, dict or array
            Rows; a dict has the keys ``"X"``, ``"groups"`` and, if wanted,
            ``"weight"`` and ``"attributes"``.
        y : array-like of shape (n_samples,), optional
            Class codes, where X does not bring them.
        **fit_params
            As in skorch.

        Returns
        -------
        self : GroupPenaltyNet
        """
        return super().fit(X, y, **fit_params)

    def infer(self, x, **fit_params):
        """Return the network's outputs, in float32 or float64."""
        return self.infer_with(self.module_, x, **fit_params)

    def infer_with(self, module, x, **fit_params):
        """Return the outputs of a network of this kind, in float32 or float64."""
        if isinstance(x, dict):
            x = x["X"]
        if self.precision == "bfloat16":
            with torch.autocast(self._device_type, torch.bfloat16):
                outputs = module(x, **fit_params)
        else:
            outputs = module(x, **fit_params)
        return outputs.to(DTYPES[self.precision])


def _set_penalty_param(net, param, value):
    """Rebuild the penalty with a new parameter; nothing else is touched."""
    setattr(net, param, value)
    net.initialize_penalty()
