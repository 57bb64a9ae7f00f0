"""How far a linear network can be from the best one that keeps its bounds."""

import copy
from typing import NamedTuple

import torch

#: Iterations of the solver, which stops by itself where the minimum is found.
ITERATIONS = 500


class Certificate(NamedTuple):
    """What `FairConstrainedClassifier.duality_gap` returns.

    Attributes
    ----------
    primal, dual, gap : float
        In the units of the task loss, for the default criterion nats.
    """

    primal: float
    dual: float
    gap: float


def is_linear(module):
    """Tell whether all parameters of a network are those of one linear layer."""
    owners = [m for m in module.modules() if list(m.parameters(recurse=False))]
    return len(owners) == 1 and isinstance(owners[0], torch.nn.Linear)


def certify(net, weights, rows, counts, multipliers):
    """Compare the answer with the least value of the Lagrangian.

    Parameters
    ----------
    net : ConstrainedNet
    weights : ndarray of shape (n_members,)
    rows : GroupedRows
    counts : Tensor of shape (1 + n_groups, n_classes)
        Of the rows.
    multipliers : Tensor of shape (n_forms,)

    Returns
    -------
    certificate : Certificate
    """
    fields, target = rows.take(torch.arange(len(rows)), dtype=torch.float64)
    criterion = copy.deepcopy(net.criterion_).cpu().double()
    game = copy.deepcopy(net.penalty_).cpu().double()
    game.refer_to(counts)
    game.player.multipliers.copy_(game.forms.balanced(multipliers))
    game.refresh()
    members = [copy.deepcopy(m).cpu().double() for m in net.members_]

    def task(module):
        return criterion(module(fields["X"]), target).mean()

    with torch.no_grad():
        primal = sum(
            float(w) * float(task(m)) for w, m in zip(weights, members, strict=True)
        )
    module = members[-1].requires_grad_(True)
    solver = torch.optim.LBFGS(
        module.parameters(), max_iter=ITERATIONS, line_search_fn="strong_wolfe"
    )

    def lagrangian():
        solver.zero_grad()
        logits = module(fields["X"])
        loss = criterion(logits, target)
        value = loss.mean() + game.penalise(
            logits, target, fields["groups"], None, loss if loss.ndim else None
        )
        value.backward()
        return value

    solver.step(lagrangian)
    dual = float(lagrangian().detach())
    return Certificate(primal, dual, primal - dual)
