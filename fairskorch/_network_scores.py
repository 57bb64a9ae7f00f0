"""What a network's logits say of rows: loss, penalty and metrics."""

import torch

from fairskorch.metrics import from_counts
from fairskorch.rates import confusion_statistics, widest


@torch.no_grad()
def measures(net, logits, target, groups, n_groups, metrics):
    """Compute loss, penalty and metrics of logits, as histories have them.

    Parameters
    ----------
    net : GroupPenaltyNet
        Whose criterion and penalty are taken.
    logits : Tensor of shape (n_rows, n_classes)
    target, groups : Tensor of shape (n_rows,), int64
    n_groups : int
        0 where groups are unknown.
    metrics : list of str
        Metrics of groups beside the one that belongs to the penalty.

    Returns
    -------
    values : dict of str to float
    """
    n_classes = logits.shape[1]
    predicted = logits.argmax(1)
    device = torch.device(net.device)
    dtype = torch.float64 if net.precision == "float64" else torch.float32
    outputs, codes, cells = (
        logits.to(device, dtype),
        target.to(device),
        groups.to(device),
    )
    loss = net.criterion_(outputs, codes)
    found = {"loss": float(loss.mean())}
    if net.penalty_ is not None:
        # Of all groups, one of which the fold may not have trained on.
        params = net.get_params_for("penalty") | {"n_groups": n_groups}
        penalty = type(net.penalty_)(**params).to(device, dtype)
        wide = widest(device)
        loss = loss.to(wide) if loss.ndim else None
        found["penalty"] = float(
            penalty.penalise(outputs.to(wide), codes, cells, loss=loss)
        )
    everyone = confusion_statistics(
        target, predicted, torch.zeros_like(groups), 1, n_classes
    )
    for name in ("accuracy", "balanced_accuracy"):
        found[name] = float(from_counts(name, everyone))
    if n_groups > 1:
        counts = confusion_statistics(target, predicted, groups, n_groups, n_classes)
        own = getattr(net.penalty_, "metric", "equalized_odds_difference")
        for name in dict.fromkeys((own, *metrics)):
            found[name] = float(from_counts(name, counts))
    return found
