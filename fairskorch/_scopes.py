"""Train some parameters of a copied network, and leave the others as they are."""

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from fairskorch._building import default_memory, history_frame
from fairskorch._validation import signature_names
from fairskorch.monitor import FairnessMonitor
from fairskorch.nets import GroupPenaltyNet

#: Largest number of rows in a batch where the network itself is trained.
BATCH_SIZE = 128


class PartTrainedNet(GroupPenaltyNet):
    """A net of which some parameters are trained.

    Batch norm without a trained parameter keeps its statistics, too.
    """

    def _set_training(self, training=True):
        super()._set_training(training)
        for part in self.module_.modules():
            if isinstance(part, _BatchNorm) and not any(
                weight.requires_grad for weight in part.parameters()
            ):
                part.eval()


class Looks(FairnessMonitor):
    """Record what a `FairnessMonitor` does, after some of the epochs.

    Parameters
    ----------
    epochs : set of int
    """

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, net, **kwargs):
        """Read the training rows after the epochs that are looked at."""
        if len(net.history) in self.epochs:
            super().on_epoch_end(net, **kwargs)


def choose_parameters(owner, module, scope, head, init):
    """Mark the parameters that are trained.

    Parameters
    ----------
    owner : str
        For messages.
    module : torch.nn.Module
        Changed in place.
    scope : {"batch_norm", "all"} or callable
        The callable gets the name of a parameter. Whoever trains batch norm trains
        the head beside it.
    head : str
        Name of the last linear layer.
    init : {"fresh", "warm"}
        What the head starts from.
    """
    own = {f"{head}.{name}".lstrip(".") for name in ("weight", "bias")}
    names = [name for name, _ in module.named_parameters()]
    if scope == "all":
        chosen = set(names)
    elif scope == "batch_norm":
        norms = [n for n, p in module.named_modules() if isinstance(p, _BatchNorm)]
        if not norms:
            raise ValueError(
                f"scope='batch_norm' of {owner} trains batch norm, and "
                f"{type(module).__name__} has none."
            )
        chosen = own | {n for n in names if n.rpartition(".")[0] in norms}
    else:
        chosen = {name for name in names if scope(name)}
    if not chosen:
        raise ValueError(
            f"scope of {owner} chooses no parameter of {type(module).__name__}: "
            f"{names}."
        )
    if init == "fresh" and not own <= chosen:
        raise ValueError(
            f"scope of {owner} leaves the last layer, {head!r}, with random weights; "
            "choose it, too, or use init='warm'."
        )
    for name, weight in module.named_parameters():
        weight.requires_grad_(name in chosen)


def train_part(module, rows, penalised, n_classes, settings, looks, device):
    """Train the marked parameters of a module.

    Parameters
    ----------
    module : torch.nn.Module
        Trained in place.
    rows : GroupedRows
    penalised : tuple
        Class of the penalty or None, its parameters, and its weight.
    n_classes : int
    settings : fairskorch._heads.Settings
    looks : set of int
        Epochs after which the training rows are evaluated.
    device : str

    Returns
    -------
    net : PartTrainedNet
    history : DataFrame
        Epochs that were looked at.
    n_epochs : int
        Epochs that were finished, fewer where training was interrupted.
    """
    penalty, penalty_params, weight = penalised
    size = settings.batch_size or BATCH_SIZE
    if penalty is not None and "memory" in (signature_names(penalty) or []):
        memory = default_memory(-(-len(rows) // size))
        penalty_params = {"memory": memory, **penalty_params}
    if penalty is not None:
        penalty_params = {**penalty_params, "n_classes": n_classes}
    named = {f"penalty__{k}": v for k, v in penalty_params.items()}
    named |= {f"optimizer__{k}": v for k, v in settings.optimizer_params.items()}
    lr = named.pop("optimizer__lr")
    exact = next(module.parameters()).dtype == torch.float64
    half = "bfloat16" if device.startswith("cuda") else "float32"
    net = PartTrainedNet(
        module,
        criterion=torch.nn.CrossEntropyLoss,
        criterion__reduction="none",
        penalty=penalty,
        penalty_weight=weight,
        optimizer=settings.optimizer,
        lr=lr,
        max_epochs=settings.max_epochs,
        batch_size=size,
        precision="float64" if exact else half,
        monitor=None,
        callbacks=[("looks", Looks(looks))],
        callbacks__print_log=None,
        classes=np.arange(n_classes),
        device=device,
        verbose=0,
        **named,
    ).initialize()
    net.partial_fit(rows)
    history = history_frame(net)
    kept = [n for n in history if n == "epoch" or n.startswith("train_")]
    # An interrupt may come before the first epoch, or the first look.
    seen = [epoch in looks for epoch in history.get("epoch", ())]
    return net, history.loc[seen, kept].reset_index(drop=True), len(history)
