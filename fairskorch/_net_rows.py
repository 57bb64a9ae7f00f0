"""How a net takes rows: datasets with groups, split, and cut into batches."""

import logging

import torch
from torch.utils.data import Dataset, Subset

from fairskorch._penalised_loss import DTYPES
from fairskorch._streams import TwoStreams
from fairskorch.batches import GroupedRows
from fairskorch.sampling import EpochSampler

logger = logging.getLogger(__name__)

#: Bytes of numbers in a batch that gets no gradient: what a processor keeps at hand.
EVALUATION_BYTES = {"cpu": 2**19, "cuda": 2**26, "mps": 2**24}


class RowsOfNet:
    """The part of a net that makes batches of what it is given."""

    def check_data(self, X, y=None):
        """Note the classes, and refuse rows without class codes."""
        if y is None and isinstance(X, Dataset) and not isinstance(X, GroupedRows):
            raise TypeError(
                f"{type(self).__name__} trains on a GroupedRows or on a dict with the "
                f"keys 'X' and 'groups'; got {type(X).__name__}, whose classes and "
                "groups it cannot know: GroupedRows(dataset, y, groups)."
            )
        y = X.y if isinstance(X, GroupedRows) else y
        super().check_data(X, y)

    def get_dataset(self, X, y=None):
        """Bring X into rows with groups."""
        if isinstance(X, GroupedRows):
            return X
        if isinstance(X, dict):
            codes = X.get("groups"), X.get("weight")
            return GroupedRows(X["X"], y, *codes, attributes=X.get("attributes"))
        return GroupedRows(X, y)

    def get_split_datasets(self, X, y=None, **fit_params):
        """Split off held-out rows as skorch does, and rows for the penalty alone."""
        parts = super().get_split_datasets(X, y, **fit_params)
        train, valid = map(_as_rows, parts)
        self._check_groups(train)
        self._check_groups(valid)
        if self.penalty_split is not None:
            train, others = map(_as_rows, self.penalty_split(train, train.y.numpy()))
            train = train.paired(others)
        return train, valid

    def _check_groups(self, rows):
        n_groups = getattr(self.penalty_, "n_groups", None)
        if not isinstance(rows, GroupedRows) or n_groups is None or not len(rows):
            return
        low, high = (int(x) for x in rows.groups.aminmax())
        if low < -1 or high >= n_groups:
            raise ValueError(
                f"groups of {type(self).__name__} must hold codes from -1 to "
                f"{n_groups - 1}, as penalty__n_groups={n_groups} says; got codes from "
                f"{low} to {high}."
            )

    def get_iterator(self, dataset, training=False):
        """Cut rows into batches."""
        prefix = "iterator_train" if training else "iterator_valid"
        kwargs = {
            "batch_size": self.batch_size if training else self._large_batch(dataset),
            "device": self.device,
            "dtype": DTYPES[self.precision],
            "channels_last": self._channels_last,
            **self.get_params_for(prefix),
        }
        if kwargs["batch_size"] == -1:
            kwargs["batch_size"] = len(dataset)
        iterator, size = getattr(self, prefix), kwargs["batch_size"]
        if not training:
            return iterator(dataset, **kwargs)
        kwargs["augment"] = self.augment
        kwargs["importance"] = self._undoes_sampling
        batches = iterator(dataset, **kwargs, sampler=self._new_sampler(dataset, size))
        others = dataset.penalty_rows
        if others is None or not self._penalises:
            return batches
        # Seeded by the first stream, whose draws are those of a net without it.
        with torch.random.fork_rng(devices=[]):
            second = iterator(others, **kwargs, sampler=self._new_sampler(others, size))
        return TwoStreams(batches, second)

    def _new_sampler(self, rows, size):
        sampler = EpochSampler(self.sampler, rows.y, rows.groups, size)
        self._log_turns(sampler)
        return sampler

    def _log_turns(self, sampler):
        if sampler.n_strata > min(sampler.sizes):
            logger.warning(
                "sampler=%r: %d strata and only %d rows in a batch, so they take "
                "turns; batch_size=%d would show all in every batch.",
                self.sampler,
                sampler.n_strata,
                min(sampler.sizes),
                sampler.n_strata,
            )

    def _large_batch(self, dataset):
        """Return how many rows to take at a time where none gets a gradient."""
        bytes_of_row = 4 * max(1, dataset.source.numbers_in_row)
        return max(self.batch_size, EVALUATION_BYTES[self._device_type] // bytes_of_row)


def _as_rows(part):
    """Return a part of the rows as rows with groups again."""
    return part.dataset.subset(part.indices) if isinstance(part, Subset) else part
