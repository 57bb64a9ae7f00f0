"""Constraints as linear forms on rates of group x class cells.

A constraint of any kind becomes *forms*, each

    factor_1 * rate_1 + factor_2 * rate_2 + slope * level + constant <= 0,

where a rate belongs to a place (a group, all rows of known group, all rows) and is a
ratio of sums over the cells of that place, and a level is free: it belongs to no row.
"The largest minus the smallest rate is at most b" is for every group g
``rate_g - level <= b / 2`` and ``level - rate_g <= b / 2``: two forms a group, not one
a pair of groups.

The statistic is that of `fairskorch.rates` with one more entry in front, for rows of
unknown group: ``(..., 1 + n_groups, n_classes, 1 + n_values)``.
"""

import numpy as np
import pandas as pd
import torch
from torch import nn

#: Bisections of what slack costs.
HALVINGS = 48

#: In place of a count of 0.
TINY = 1e-30

#: In place of a multiplier of 0 where slack has a price.
LEAST_PRICE = 1e-6

#: Names of the levels of a constraint's row in tables.
LABELS = ("constraint", "rate", "class", "group", "side")


class Forms(nn.Module):
    """The forms of all constraints, and what players of a game ask of them.

    Attributes
    ----------
    n_forms, n_levels, n_groups : int
    labels : MultiIndex of length n_forms
    shares : Tensor of shape (n_forms,)
        Root of the rows behind each form, by that of the largest one of its rate.
    """

    def __init__(self, builder):
        super().__init__()
        parts = np.asarray(builder.parts, dtype=float).reshape(-1, 8)
        self.columns = builder.columns
        self.n_forms = len(parts)
        self.n_groups = builder.n_groups
        self.n_levels = builder.n_levels
        losses = [
            1 + self.columns.n_scores + i
            for i, name in enumerate(self.columns.others)
            if name != "churn"
        ]
        self.is_score = [not w[:, losses].any() for w in builder.weights]
        self.products = [product for *_, product in builder.slacks]
        self.labels = pd.MultiIndex.from_frame(
            pd.DataFrame(builder.labels, columns=LABELS, dtype=object)
        )
        n_rates = len(builder.bases)
        where = parts[:, [0, 2]] * n_rates + parts[:, [4]]
        for name, values in {
            "weights": np.stack(builder.weights),
            "bases": np.stack(builder.bases),
            "factors": parts[:, [1, 3]],
            "slopes": parts[:, 6],
            "constants": parts[:, 7],
            "shares": _shares(parts, builder),
        }.items():
            values = torch.as_tensor(values, dtype=torch.float64)
            self.register_buffer(name, values)
        slots = _slots(parts[:, 5], parts[:, 6], self.n_levels)
        for name, values in {
            "places": where,
            "levels": parts[:, 5],
            "slots": slots,
        }.items():
            self.register_buffer(name, torch.as_tensor(values, dtype=torch.long))
        free = np.ones(max(self.n_levels, 1))
        for i, (numbers, forms, _) in enumerate(builder.slacks):
            free[numbers] = 0
            self.register_buffer(f"slack_levels_{i}", torch.as_tensor(numbers))
            self.register_buffer(f"slack_forms_{i}", torch.as_tensor(forms))
        free[self.n_levels :] = 0
        self.register_buffer("free", torch.as_tensor(free, dtype=torch.float64))
        self._lay_out()

    def _lay_out(self):
        """Keep what levels are found by: slopes by level, 0 where there is no form."""
        slopes = self._by_level(self.slopes)
        width = slopes.amax(-1) - slopes.amin(-1)
        pulls = slopes * self.free.unsqueeze(1)
        weighted = pulls * self._by_level(self.shares)
        squares = pulls * weighted
        for name, values in {
            "not_up": torch.where(slopes > 0, 0.0, -torch.inf),
            "not_down": torch.where(slopes < 0, 0.0, -torch.inf),
            "ranges": self.free / width.clamp_min(1e-12),
            "pulls": pulls,
            "weighted_pulls": weighted,
            "kinks": torch.where(pulls == 0, 0.0, 1 / pulls),
            "steep_before": torch.where(pulls > 0, squares, 0.0),
            "steep_after": torch.where(pulls < 0, squares, 0.0),
            "free_slopes": self.slopes * self.free[self.levels],
        }.items():
            self.register_buffer(name, values)

    def bases_of(self, statistic):
        """Return the rows behind each rate: ``(..., n_places, n_rates)``."""
        return pooled(statistic[..., 0]) @ self.bases.T

    def rates(self, statistic):
        """Return the rates of all places, 0 where there is no row.

        Parameters
        ----------
        statistic : Tensor of shape (..., 1 + n_groups, n_classes, 1 + n_values)

        Returns
        -------
        rates : Tensor of shape (..., n_groups + 2, n_rates)
            Groups, all rows of known group, all rows.
        """
        cells = pooled(statistic, -3)
        sums = cells.flatten(-2) @ self.weights.flatten(1).T
        bases = cells[..., 0] @ self.bases.T
        # Without rows there is nothing in the sums.
        return sums / bases.clamp_min(TINY)

    def offsets(self, rates):
        """Return what forms are at levels of 0: ``(..., n_forms)``."""
        found = rates.flatten(-2)[..., self.places]
        return (found * self.factors).sum(-1) + self.constants

    def free_levels(self, offsets):
        """Return the levels at which the largest form is the least: (..., n_levels)."""
        found = self._by_level(offsets)
        up, down = ((found + out).amax(-1) for out in (self.not_up, self.not_down))
        return ((down - up) * self.ranges).nan_to_num(0.0, 0.0, 0.0)

    def _by_level(self, values):
        """Lay values of forms out by level, 0 where a level has no more forms."""
        return torch.nn.functional.pad(values, (0, 1))[..., self.slots]

    def values(self, offsets, levels):
        """Return the forms at some levels: at most 0 where they are kept."""
        return torch.addcmul(offsets, self.slopes, levels[..., self.levels])

    def balanced(self, multipliers):
        """Project onto multipliers that no free level can gain from.

        These are at least 0, and those that push a free level up weigh as much as
        those that push it down: else the Lagrangian has no minimum over the level.

        Parameters
        ----------
        multipliers : Tensor of shape (n_forms,)
            Any numbers.

        Returns
        -------
        multipliers : Tensor of shape (n_forms,)
            The nearest such ones, where distances are divided by the roots of `shares`.
        """
        # So that what is pushed to 0 is exactly 0.
        multipliers = multipliers / self.shares
        pushes = self._by_level(multipliers)
        # The balance of a level falls with the shift, linearly between these kinks.
        kinks = pushes * self.kinks
        at = torch.addcmul(
            pushes.unsqueeze(1), kinks.unsqueeze(2), self.pulls.unsqueeze(1), value=-1
        )
        balance = (at.clamp_min_(0) @ self.weighted_pulls.unsqueeze(2)).squeeze(2)
        low = torch.where(balance >= 0, kinks, -torch.inf)
        low, last = low.max(1, keepdim=True)
        steep = torch.where(kinks > low, self.steep_before, self.steep_after)
        steep = steep.sum(1, keepdim=True)
        further = balance.gather(1, last) / torch.where(steep > 0, steep, 1.0)
        shift = (low + further).squeeze(1)[self.levels]
        multipliers = multipliers.addcmul(self.free_slopes, shift, value=-1)
        return multipliers.clamp_min_(0).mul_(self.shares)

    def slack_levels(self, levels, multipliers):
        r"""Answer for the players of slack: levels that are bound to a product.

        For multipliers :math:`\lambda_c` they are the :math:`\xi \le 1` of the least
        :math:`\sum_c \lambda_c \xi_c` subject to :math:`\prod_c \xi_c \ge b`.

        Parameters
        ----------
        levels : Tensor of shape (n_levels,)
        multipliers : Tensor of shape (n_forms,)

        Returns
        -------
        levels : Tensor of shape (n_levels,)
        """
        for i, product in enumerate(self.products):
            numbers = getattr(self, f"slack_levels_{i}")
            forms = getattr(self, f"slack_forms_{i}")
            price = multipliers[forms].clamp_min(LEAST_PRICE).log()
            low = price.min().expand(1) + np.log(product)
            high = price.max().expand(1)
            for _ in range(HALVINGS):
                middle = (low + high) / 2
                too_low = (middle - price).clamp_max(0).sum() < np.log(product)
                low = torch.where(too_low, middle, low)
                high = torch.where(too_low, high, middle)
            levels = levels.index_copy(0, numbers, (high - price).clamp_max(0).exp())
        return levels

    def effect(self, multipliers, bases):
        """Return the derivative of the weighted forms by the statistic.

        Parameters
        ----------
        multipliers : Tensor of shape (n_forms,)
        bases : Tensor of shape (n_places, n_rates)
            `bases_of` the rows that rates refer to.

        Returns
        -------
        effect : Tensor of shape (1 + n_groups, n_classes, 1 + n_values)
            By counts and sums; with it the forms weighted by `multipliers` sum to
            ``(effect * statistic).sum()`` and what they are without any row.
        """
        by_rate = torch.zeros_like(bases).flatten()
        share = self.factors * multipliers.unsqueeze(1)
        by_rate = by_rate.index_add(0, self.places.flatten(), share.flatten())
        # A place without rows has no form.
        by_rate = by_rate.view_as(bases) / bases.clamp_min(TINY)
        *_, known, everyone = (by_place := by_rate @ self.weights.flatten(1)).unbind(0)
        groups = by_place[: self.n_groups] + known + everyone
        cells = torch.cat([everyone.unsqueeze(0), groups])
        return cells.view(1 + self.n_groups, *self.weights.shape[1:])


def _shares(parts, builder):
    """Return a factor for each form: the standard error of a rate goes by its inverse.

    It is the root of the rows behind it, by those of the largest form of its rate.
    """
    rows = builder.counts[1] @ np.stack(builder.bases).T
    place, rate = parts[:, 0].astype(int), parts[:, 4].astype(int)
    found = rows[place, rate]
    largest = np.zeros(rows.shape[1])
    np.maximum.at(largest, rate, found)
    return np.sqrt(found / largest[rate])


def _slots(levels, slopes, n_levels):
    """Return the forms of each level, padded: ``(n_levels or 1, width)``."""
    found = [
        np.flatnonzero((levels == level) & (slopes != 0))
        for level in range(max(n_levels, 1))
    ]
    width = max(1, *(len(f) for f in found)) if len(found) > 1 else len(found[0]) or 1
    slots = np.full((len(found), width), len(levels))
    for row, forms in zip(slots, found, strict=True):
        row[: len(forms)] = forms
    return slots


def pooled(cells, dim=-2):
    """Turn unknown rows and groups into groups, all known rows and all rows."""
    if isinstance(cells, np.ndarray):
        return pooled(torch.as_tensor(cells, dtype=torch.float64)).numpy()
    groups = cells.narrow(dim, 1, cells.shape[dim] - 1)
    parts = [groups, groups.sum(dim, keepdim=True), cells.sum(dim, keepdim=True)]
    return torch.cat(parts, dim)
