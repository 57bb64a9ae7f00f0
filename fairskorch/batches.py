"""Rows with classes, groups and weights, cut into batches by index.

Groups travel in the dataset: whatever cuts it into batches cuts them along. Arrays
are never read one row at a time; a `torch.utils.data.Dataset` goes through PyTorch's
loader, for the sake of its transforms and workers.
"""

import warnings

import numpy as np
import torch
from skorch.dataset import Dataset as SkorchDataset
from torch.utils.data import DataLoader, Dataset

from fairskorch.groups import UNKNOWN

__all__ = ["Batches", "GroupedRows"]

#: Share of a device's free memory that the data may take to be kept there.
STAGED_SHARE = 0.4


class GroupedRows(SkorchDataset):
    """Rows of X with a class code, a group code and a weight each.

    Parameters
    ----------
    X : array, Tensor or Dataset
        Rows along the first dimension: ``(n_samples, n_features)``, or images
        ``(n_samples, channels, height, width)``. Numbers of type uint8 are divided
        by 255. Of a Dataset's items the first entry is the row.
    y : array-like of shape (n_samples,), optional
        Class codes.
    groups : array-like of shape (n_samples,), optional
        Group codes, -1 where unknown.
    weight : array-like of shape (n_samples,), optional
        Weights of rows in the task loss.
    layout : {"first", "last", "gray"}, default="first"
        Where images have their channels; ``"gray"`` images have no such dimension.

    Examples
    --------
    >>> from fairskorch.batches import Batches, GroupedRows
    >>> rows = GroupedRows([[0.0], [1.0], [2.0]], y=[0, 1, 1], groups=[0, 1, -1])
    >>> for fields, target in Batches(rows, batch_size=2):
    ...     print(fields["X"].shape, fields["groups"], target)
    torch.Size([2, 1]) tensor([0, 1]) tensor([0, 1])
    torch.Size([1, 1]) tensor([-1]) tensor([1])
    """

    def __init__(self, X, y=None, groups=None, weight=None, *, layout="first"):
        self.source = X if isinstance(X, _Source) else _Source(X, layout)
        n_rows = len(self.source)
        self.index = torch.arange(n_rows)
        self.y = _codes(y, n_rows, 0)
        self.groups = _codes(groups, n_rows, UNKNOWN)
        self.weight = _weights(weight)

    @property
    def X(self):
        """The rows without their codes, as nets predict them; skorch asks for it."""
        return self

    def __len__(self):
        return len(self.index)

    def __getitem__(self, i):
        one = self.take(torch.as_tensor([int(i)]))
        return {name: values[0] for name, values in one[0].items()}, one[1][0]

    def subset(self, rows):
        """Return some of the rows; X is shared, not copied.

        Parameters
        ----------
        rows : array-like of int or slice
            Row numbers.

        Returns
        -------
        subset : GroupedRows
        """
        if not isinstance(rows, slice):
            rows = torch.as_tensor(np.asarray(rows), dtype=torch.long)
        part = object.__new__(type(self))
        part.source = self.source
        part.index = self.index[rows]
        part.y = self.y[rows]
        part.groups = self.groups[rows]
        part.weight = None if self.weight is None else self.weight[rows]
        return part

    def labelled(self, y, groups, weight):
        """Return the same rows with other codes and weights.

        Parameters
        ----------
        y : array-like of shape (n_samples,) or None
            Class codes.
        groups : array-like of shape (n_samples,) or None
            Group codes, -1 where unknown.
        weight : array-like of shape (n_samples,) or None
            Weights of rows in the task loss.

        Returns
        -------
        rows : GroupedRows
        """
        rows = self.subset(slice(None))
        rows.y = _codes(y, len(rows), 0)
        rows.groups = _codes(groups, len(rows), UNKNOWN)
        rows.weight = _weights(weight)
        return rows

    def take(self, rows, device="cpu", dtype=torch.float32):
        """Return a batch of these rows, ready for the network.

        Parameters
        ----------
        rows : Tensor of int64
            Row numbers.
        device : str or torch.device, default="cpu"
        dtype : torch.dtype, default=torch.float32
            Type of the numbers in X.

        Returns
        -------
        fields : dict
            ``"X"``, ``"groups"`` and, where rows have one, ``"weight"``.
        target : Tensor of shape (n_rows,), int64
        """
        batches = Batches(self, len(rows), device=device, dtype=dtype)
        return batches.batch(rows)


class Batches:
    """Iterate over the batches of an epoch.

    Parameters
    ----------
    rows : GroupedRows
        What to cut into batches.
    batch_size : int
        Largest number of rows in a batch.
    sampler : fairskorch.sampling.EpochSampler, optional
        Draws the batches anew in each epoch; in the order given if there is none.
    device : str or torch.device, default="cpu"
        Where batches are wanted. The data is kept there as a whole when it takes no
        more than 40 % of the free memory.
    dtype : torch.dtype, default=torch.float32
        Type of the numbers in X.
    augment : callable, optional
        Applied to the X of each batch.
    num_workers : int, default=0
        Worker processes that read a Dataset; arrays need none.
    """

    def __init__(
        self,
        rows,
        batch_size,
        sampler=None,
        *,
        device="cpu",
        dtype=torch.float32,
        augment=None,
        num_workers=0,
    ):
        self.rows = rows
        self.sampler = sampler
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.dtype = dtype
        self.augment = augment
        self.fields = {"groups": rows.groups.to(self.device)}
        # Workers draw from one of their own, or a Dataset would train otherwise than
        # the same rows in an array.
        workers = torch.Generator().manual_seed(0)
        self.y = rows.y.to(self.device)
        weight = rows.weight
        if sampler is not None:
            importance = sampler.importance
            self.fields["importance"] = importance.to(self.device, dtype)
            if sampler.unbiased:
                weight = importance if weight is None else weight * importance
            self.generator = torch.Generator()
            # From the global stream, which whoever seeds it owns, as in DataLoader.
            self.generator.manual_seed(int(torch.randint(2**62, ())))
            workers.manual_seed(self.generator.initial_seed() + 1)
        if weight is not None:
            self.fields["weight"] = weight.to(self.device, dtype)
        self.read = rows.source.reader(self.device)
        self.loader = None
        if self.read is None:
            self.plan = []
            self.loader = DataLoader(
                rows.source.data,
                batch_sampler=_Plan(self),
                num_workers=num_workers,
                collate_fn=_collate_rows,
                generator=workers,
                persistent_workers=num_workers > 0,
            )

    def __len__(self):
        if self.sampler is not None:
            return len(self.sampler.sizes)
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self):
        if self.sampler is None:
            plan = torch.arange(len(self.rows)).split(self.batch_size)
        else:
            plan = self.sampler.epoch(self.generator)
        sizes = [len(part) for part in plan]
        order = torch.cat(plan)
        if self.loader is None:
            for rows in order.to(self.device).split(sizes):
                yield self.batch(rows)
        else:
            self.plan = [part.tolist() for part in self.rows.index[order].split(sizes)]
            for part, X in zip(plan, self.loader, strict=True):
                yield self._fields(part.to(self.device), X)

    def batch(self, rows):
        """Return the batch of these rows: its fields, and the class codes."""
        if self.loader is None:
            index = self.rows.index
            index = index.to(rows.device)[rows]
            return self._fields(rows, self.read(index))
        items = [self.rows.source.data[i] for i in self.rows.index[rows.cpu()].tolist()]
        return self._fields(rows.to(self.device), _collate_rows(items))

    def _fields(self, rows, X):
        X = self.rows.source.to_numbers(X.to(self.device), self.dtype)
        if self.augment is not None:
            X = self.augment(X)
        fields = {name: values[rows] for name, values in self.fields.items()}
        return {"X": X, **fields}, self.y[rows]


class _Plan:
    """The batches of the current epoch, for PyTorch's loader."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches.plan)

    def __iter__(self):
        return iter(self.batches.plan)


class _Source:
    """Where the rows of X lie, shared by all subsets."""

    def __init__(self, data, layout):
        if not isinstance(data, Dataset | torch.Tensor):
            data = np.asanyarray(data)
        self.data = data
        self.layout = layout
        self.staged = {}

    def __len__(self):
        return len(self.data)

    def __getstate__(self):
        return {**vars(self), "staged": {}}

    def reader(self, device):
        """Return a function from row numbers to rows, or None for a Dataset."""
        if isinstance(self.data, Dataset):
            return None
        if device not in self.staged:
            self.staged[device] = self._reader(device)
        return self.staged[device]

    def _reader(self, device):
        data = self.data
        if isinstance(data, np.ndarray):
            with warnings.catch_warnings():
                # PyTorch warns of arrays that it could write to; it only reads here.
                warnings.filterwarnings("ignore", message="The given NumPy array")
                data = torch.from_numpy(data)
        if device.type != "cpu" and data.device.type == "cpu":
            if not _fits(data.nbytes, device):
                return lambda rows: data.index_select(0, rows.cpu())
            data = data.to(device)
        return lambda rows: data.index_select(0, rows.to(data.device))

    def to_numbers(self, X, dtype):
        """Scale bytes to [0, 1], and put channels first."""
        X = X.to(dtype) / 255 if X.dtype == torch.uint8 else X.to(dtype)
        if self.layout == "last":
            X = X.permute(0, 3, 1, 2).contiguous()
        elif self.layout == "gray":
            X = X.unsqueeze(1)
        return X


def _fits(n_bytes, device):
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return n_bytes <= STAGED_SHARE * free


def _codes(values, n_rows, missing):
    if values is None:
        return torch.full((n_rows,), missing, dtype=torch.long)
    return _copied(values, torch.long)


def _weights(values):
    return None if values is None else _copied(values, torch.float64)


def _copied(values, dtype):
    """Copy into a tensor; what users hand over may be read-only."""
    if isinstance(values, torch.Tensor):
        return values.detach().to("cpu", dtype, copy=True)
    return torch.tensor(np.asarray(values), dtype=dtype)


def _collate_rows(items):
    """Stack the first entries of a Dataset's items."""
    return torch.stack(
        [torch.as_tensor(i[0] if isinstance(i, tuple | list) else i) for i in items]
    )
