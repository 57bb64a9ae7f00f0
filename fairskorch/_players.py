r"""The players that move multipliers: they hold no data and read no row.

Both climb on the forms of the constraints, evaluated on hard predictions; the network
descends on the same forms of scores. References: Cotter, Jiang, Sridharan. Two-Player
Games for Efficient Non-Convex Constrained Optimization. ALT 2019. Chen, Wang, Kolar.
arXiv:2012.15274, 2020.
"""

import torch
from torch import nn

#: Least share of an entry of the proxy player's matrix.
FLOOR = 1e-3

#: Steps of the power method, which stops to matter long before.
POWER_STEPS = 100

#: Size up to which their matrix is cheaper than they are one after another.
SMALL_MATRIX = 64

#: Largest number of forms whose matrix is kept.
MOST_FORMS = 4000


class LagrangianPlayer(nn.Module):
    r"""Non-negative multipliers, moved by additive ascent.

    .. math:: \lambda_{t+1} = \Pi\big(\lambda_t + \eta\, g(\theta_t)\big)

    with g the forms times the shares of `Forms`, and :math:`\Pi` the projection onto
    multipliers that are at least 0 and leave no free level a gain, then scaled down to
    the cap on their sum where there is one.
    What the network is given is :math:`\Pi(\lambda_{t+1} + \kappa\, g(\theta_t))`: the
    part in proportion to the violation damps the swings of the pure sum.

    Parameters
    ----------
    forms : Forms
    lr : float
        Step :math:`\eta`, per round.
    damping : float
        Factor :math:`\kappa`.
    cap : float or None
        Largest sum of multipliers.
    """

    def __init__(self, forms, lr, damping=0.0, cap=None):
        super().__init__()
        self.lr = lr
        self.damping = damping
        self.cap = cap
        zeros = torch.zeros_like(forms.constants)
        self.register_buffer("sums", zeros.clone())
        self.register_buffer("multipliers", zeros)
        self.register_buffer("objective", zeros.new_ones(()))

    def move(self, forms, values):
        """Move on the values of the forms, a tensor of shape (n_forms,)."""
        self.sums.copy_(self._inside(forms, self.sums.add(values, alpha=self.lr)))
        pushed = self.sums.add(values, alpha=self.damping)
        self.multipliers.copy_(self._inside(forms, pushed))

    def _inside(self, forms, multipliers):
        multipliers = forms.balanced(multipliers)
        if self.cap is None:
            return multipliers
        total = multipliers.sum()
        return torch.where(
            total > self.cap, multipliers * (self.cap / total), multipliers
        )


class ProxyPlayer(nn.Module):
    r"""Multipliers of low swap regret, on a simplex that the objective shares.

    The state is a matrix :math:`M` of :math:`(m + 1)^2` entries whose columns sum to
    one. The multipliers are its stationary distribution, :math:`M \lambda = \lambda`,
    the first of them the weight of the task loss, and

    .. math::
        M_{t+1} \propto M_t \odot \exp\big(\eta\, v_t \lambda_t^\top\big), \qquad
        v_t = (0, g_1(\theta_t), \dots, g_m(\theta_t)),

    column by column, no entry under a thousandth of an equal share.

    Parameters
    ----------
    forms : Forms
    lr : float
        Step :math:`\eta`, per round.
    """

    def __init__(self, forms, lr):
        super().__init__()
        self.lr = lr
        size = forms.n_forms + 1
        matrix = torch.full((size, size), FLOOR / size, dtype=torch.float64)
        matrix[0] = 1 - FLOOR * forms.n_forms / size
        self.register_buffer("matrix", matrix)
        start = stationary_distribution(matrix)
        self.register_buffer("distribution", start)
        self.register_buffer("multipliers", forms.balanced(start[1:]))
        self.register_buffer("objective", start[0].clone())

    def move(self, forms, values):
        """Move on the values of the forms, a tensor of shape (n_forms,)."""
        self.matrix.copy_(swap_update(self.matrix, self.distribution, values, self.lr))
        self.distribution.copy_(stationary_distribution(self.matrix))
        self.multipliers.copy_(forms.balanced(self.distribution[1:]))
        self.objective.copy_(self.distribution[0])


def stationary_distribution(matrix):
    """Return the distribution that a column-stochastic matrix leaves as it is.

    Parameters
    ----------
    matrix : Tensor of shape (size, size)

    Returns
    -------
    distribution : Tensor of shape (size,)
        By the power method, from equal shares.
    """
    shares = matrix.new_full(matrix.shape[:1], 1 / len(matrix))
    if len(matrix) <= SMALL_MATRIX:
        shares = torch.linalg.matrix_power(matrix, POWER_STEPS) @ shares
    else:
        for _ in range(POWER_STEPS):
            shares = matrix @ shares
    return shares / shares.sum()


def swap_update(matrix, distribution, values, lr):
    """Return the matrix of the proxy player after a round.

    Parameters
    ----------
    matrix : Tensor of shape (m + 1, m + 1)
    distribution : Tensor of shape (m + 1,)
    values : Tensor of shape (m,)
        Violations; that of the objective, 0, is put in front.
    lr : float

    Returns
    -------
    matrix : Tensor of shape (m + 1, m + 1)
    """
    gains = torch.nn.functional.pad(values, (1, 0))
    matrix = matrix * torch.exp(lr * torch.outer(gains, distribution))
    return (matrix / matrix.sum(0)).clamp_min(FLOOR / len(matrix))
