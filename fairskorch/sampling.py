"""Which rows make up the batches of an epoch, and what a drawn row stands for.

Every sampler cuts an epoch of n rows into ``ceil(n / batch_size)`` batches whose sizes
differ by at most one: unless batches have at most two rows, none has a single one.
Balanced samplers, whose rows come again anyway, fill every batch of a longer epoch.
"""

import math

import torch
from torch.nn.functional import pad

from fairskorch._cells import numbered_strata, order_of_cells

__all__ = ["EpochSampler", "SAMPLERS"]

#: From so many batches on, filling them all adds less than a seventh to an epoch.
MANY_BATCHES = 8

SAMPLERS = ("shuffle", "stratified", "balanced_classes", "balanced_cells")


class EpochSampler:
    """Draw the batches of one epoch after another.

    Parameters
    ----------
    sampler : {"shuffle", "stratified", "balanced_classes", "balanced_cells"}
        ``"shuffle"`` draws each row once an epoch. ``"stratified"`` puts every cell
        of group and class into every batch. The balanced ones draw classes or cells
        equally often, and rows with replacement inside them.
    target : Tensor of shape (n_samples,), int64
        Class codes.
    groups : Tensor of shape (n_samples,), int64
        Group codes; rows of unknown group (-1) form a cell of their class.
    batch_size : int
        Largest number of rows in a batch.

    Attributes
    ----------
    sizes : list of int
        Rows in each batch.
    importance : Tensor of shape (n_samples,), float64
        Expected share of a row among all rows over its share among drawn rows: with
        it as a weight, means over batches refer to the rows as they are given.
    n_strata : int
        Classes or cells that are balanced or stratified; more than the smallest batch
        has rows take turns.
    unbiased : bool
        Whether the task loss uses these weights. Balanced samplers change the
        population on purpose, so there it does not.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.sampling import EpochSampler
    >>> target, groups = torch.tensor([0, 0, 0, 0, 0, 1]), torch.zeros(6, dtype=int)
    >>> sampler = EpochSampler("balanced_classes", target, groups, batch_size=6)
    >>> (batch,) = sampler.epoch(torch.Generator().manual_seed(0))
    >>> target[batch].bincount()
    tensor([3, 3])
    >>> sampler.importance[[0, 5]]
    tensor([1.6667, 0.3333], dtype=torch.float64)
    """

    def __init__(self, sampler, target, groups, batch_size):
        n_rows = len(target)
        n_batches = math.ceil(n_rows / batch_size)
        short, longer = divmod(n_rows, n_batches)
        self.sizes = [short + 1] * longer + [short] * (n_batches - longer)
        if sampler.startswith("balanced") and n_batches >= MANY_BATCHES:
            # One size is one shape to compile or capture, and matrix kernels are slow
            # where it is odd.
            self.sizes = [batch_size] * n_batches
        self.sampler = sampler
        self.unbiased = sampler == "stratified"
        self.n_strata = 1
        if sampler == "shuffle":
            self.importance = torch.ones(n_rows, dtype=torch.float64)
            return
        strata = target
        if sampler != "balanced_classes":
            strata = (groups + 1) * (int(target.max()) + 1) + target
        self.rows, stratum, self.counts = numbered_strata(strata)
        self.n_strata = len(self.counts)
        self.starts = self.counts.cumsum(0) - self.counts
        if sampler == "stratified" and len(self.counts) <= short:
            self.draws = _stratified_draws(self.counts, n_rows, n_batches)
        else:
            self.draws = None
        drawn = self.draws
        if drawn is None:
            drawn = torch.full_like(self.counts, n_rows) / len(self.counts)
        self.importance = (self.counts / drawn.double())[stratum]

    def epoch(self, generator):
        """Draw the batches of an epoch.

        Parameters
        ----------
        generator : torch.Generator
            Source of all randomness.

        Returns
        -------
        batches : tuple of Tensor, int64
            Row numbers of each batch.
        """
        n_rows = sum(self.sizes)
        if self.sampler == "shuffle":
            order = torch.randperm(n_rows, generator=generator)
        elif self.draws is not None:
            order = self._stratified(generator)
        else:
            order = self._balanced(n_rows, generator)
        return order.split(self.sizes)

    def _balanced(self, n_rows, generator):
        """Let strata take turns, and draw a row of each with replacement."""
        turn = torch.randperm(len(self.counts), generator=generator)
        chance = torch.rand(n_rows, generator=generator, dtype=torch.float64)
        # A row of numbers a round of turns, so that nothing is looked up by stratum.
        chance = pad(chance, (0, -n_rows % len(turn))).view(-1, len(turn))
        counts = self.counts[turn]
        # A chance just under 1 may round up to the count itself.
        places = torch.minimum((chance * counts).long(), counts - 1)
        places += self.starts[turn]
        return self.rows.index_select(0, places.flatten()[:n_rows])

    def _stratified(self, generator):
        """Deal equal shares of every stratum to all batches, then the remainders."""
        n_batches = len(self.sizes)
        chance = torch.rand(len(self.rows), generator=generator, dtype=torch.float64)
        # Row numbers sorted by stratum, shuffled inside each.
        stratum = torch.repeat_interleave(self.counts)
        mixed = torch.argsort(stratum + chance)
        drawn = torch.repeat_interleave(self.draws)
        place = torch.arange(len(drawn)) - (self.draws.cumsum(0) - self.draws)[drawn]
        rows = self.rows[mixed[self.starts[drawn] + place % self.counts[drawn]]]
        dealt = place < (self.draws - self.draws % n_batches)[drawn]
        batch = torch.empty_like(place)
        batch[dealt] = place[dealt] % n_batches
        free = torch.as_tensor(self.sizes) - int(dealt.sum()) // n_batches
        slots = torch.repeat_interleave(free)
        batch[~dealt] = slots[torch.randperm(len(slots), generator=generator)]
        return rows[order_of_cells(batch)]


def _stratified_draws(counts, n_rows, n_batches):
    """Rows to draw from each stratum: at least one a batch, n_rows in total.

    Strata with fewer rows than batches are drawn more often than once; the others
    give up as many draws, in proportion to their size.
    """
    draws = counts.clamp(min=n_batches)
    excess = int(draws.sum()) - n_rows
    while excess > 0:
        spare = draws - n_batches
        cut = torch.floor(spare * (excess / int(spare.sum()))).long()
        if int(cut.sum()) == 0:
            cut[spare.argmax()] = 1
        draws = draws - cut
        excess = int(draws.sum()) - n_rows
    return draws
