"""Rows with classes, groups and weights, cut into batches by index.

Groups travel in the dataset: whatever cuts it into batches cuts them along. Arrays
are never read one row at a time; a `torch.utils.data.Dataset` goes through PyTorch's
loader, for the sake of its transforms and workers.
"""

import copy

import numpy as np
import torch
from skorch.dataset import Dataset as SkorchDataset

from fairskorch._sources import Resident, Source, pick, to_numbers
from fairskorch.groups import UNKNOWN

__all__ = ["Batches", "GroupedRows"]


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
    attributes : dict of str to array-like of shape (n_samples,), optional
        Codes of further groupings of the rows, -1 where unknown: they are monitored
        and nothing else.

    Raises
    ------
    ValueError
        For labels in the place of codes, or codes of another number of rows.

    Attributes
    ----------
    penalty_rows : GroupedRows or None
        Rows that the penalty is computed on in the place of these.

    Examples
    --------
    >>> from fairskorch.batches import Batches, GroupedRows
    >>> rows = GroupedRows([[0.0], [1.0], [2.0]], y=[0, 1, 1], groups=[0, 1, -1])
    >>> for fields, target in Batches(rows, batch_size=2):
    ...     print(fields["X"].shape, fields["groups"], target)
    torch.Size([2, 1]) tensor([0, 1]) tensor([0, 1])
    torch.Size([1, 1]) tensor([-1]) tensor([1])
    """

    #: None unless `paired` says otherwise.
    penalty_rows = None

    def __init__(
        self, X, y=None, groups=None, weight=None, *, layout="first", attributes=None
    ):
        self.source = Source(X, layout)
        n_rows = len(self.source)
        self.index = torch.arange(n_rows)
        self.is_all = True
        self.y = _codes(y, n_rows, 0, "y")
        self.groups = _codes(groups, n_rows, UNKNOWN, "groups")
        self.weight = _weights(weight)
        self.attributes = _named_codes(attributes, n_rows)
        self.reference = None

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
        part.is_all = False
        part.y = self.y[rows]
        part.groups = self.groups[rows]
        part.weight = None if self.weight is None else self.weight[rows]
        part.attributes = {k: codes[rows] for k, codes in self.attributes.items()}
        part.reference = None if self.reference is None else self.reference[rows]
        return part

    def paired(self, penalty_rows):
        """Return the same rows, with others that the penalty is computed on.

        Parameters
        ----------
        penalty_rows : GroupedRows
            Rows that the task loss never sees.

        Returns
        -------
        rows : GroupedRows
        """
        rows = copy.copy(self)
        rows.penalty_rows = penalty_rows
        return rows

    def followed_by(self, other):
        """Return these rows and then those of another part of the same data.

        Parameters
        ----------
        other : GroupedRows
            A subset of the same rows.

        Returns
        -------
        rows : GroupedRows
            Without weights.
        """
        rows = self.subset(slice(None))
        for name in ("index", "y", "groups"):
            setattr(rows, name, torch.cat([getattr(self, name), getattr(other, name)]))
        rows.weight = rows.reference = None
        rows.attributes = {
            name: torch.cat([codes, other.attributes[name]])
            for name, codes in self.attributes.items()
            if name in other.attributes
        }
        return rows

    def labelled(self, y, groups, weight, attributes=None):
        """Return the same rows with other codes and weights.

        Parameters
        ----------
        y : array-like of shape (n_samples,) or None
            Class codes.
        groups : array-like of shape (n_samples,) or None
            Group codes, -1 where unknown.
        weight : array-like of shape (n_samples,) or None
            Weights of rows in the task loss.
        attributes : dict of str to array-like of shape (n_samples,), optional
            Codes of further groupings.

        Returns
        -------
        rows : GroupedRows
        """
        rows = copy.copy(self)
        rows.y = _codes(y, len(rows), 0, "y")
        rows.groups = _codes(groups, len(rows), UNKNOWN, "groups")
        rows.weight = _weights(weight)
        rows.attributes = _named_codes(attributes, len(rows))
        return rows

    def referred(self, reference):
        """Return the same rows with the classes that others predict for them.

        Parameters
        ----------
        reference : array-like of shape (n_samples,)
            Class codes.

        Returns
        -------
        rows : GroupedRows
        """
        rows = copy.copy(self)
        rows.reference = _copied(reference, torch.long)
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
            ``"X"``, ``"groups"`` and, where rows have them, ``"weight"`` and
            ``"reference"``.
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
        more than 40 % of the free memory; else batches are sent while the device is
        busy with earlier ones.
    dtype : torch.dtype, default=torch.float32
        Type of the numbers in X.
    channels_last : bool, default=False
        Whether images lie in memory with their channels last.
    importance : bool, default=False
        Whether batches have the sampler's importance of each row.
    augment : callable, optional
        Applied to the X of each batch.
    num_workers : int, default=0
        Worker processes that read a Dataset; arrays need none.

    Notes
    -----
    A batch is made in two parts: `staged` is what the host does, and `finish` the work
    of the device, in steps that a CUDA graph can hold.

    Examples
    --------
    >>> import torch
    >>> from fairskorch.batches import Batches, GroupedRows
    >>> rows = GroupedRows(torch.zeros(5, 3), y=[0, 1, 0, 1, 1], groups=[0, 0, 1, 1, 1])
    >>> batches = Batches(rows, batch_size=2)
    >>> len(batches)
    3
    >>> fields, target = next(iter(batches))
    >>> fields["X"].shape, fields["groups"], target
    (torch.Size([2, 3]), tensor([0, 0]), tensor([0, 1]))
    """

    def __init__(
        self,
        rows,
        batch_size,
        sampler=None,
        *,
        device="cpu",
        dtype=torch.float32,
        channels_last=False,
        importance=False,
        augment=None,
        num_workers=0,
    ):
        self.rows = rows
        self.sampler = sampler
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.dtype = dtype
        self.channels_last = channels_last
        self.augment = augment
        self.fields = {"groups": rows.groups.to(self.device)}
        # Workers draw from one of their own, or a Dataset would train otherwise than
        # the same rows in an array.
        workers = torch.Generator().manual_seed(0)
        self.y = rows.y.to(self.device)
        weight = rows.weight
        self.sequence = self.ahead = None
        if sampler is not None:
            if sampler.unbiased:
                share = sampler.importance
                weight = share if weight is None else weight * share
            if importance:
                self.fields["importance"] = sampler.importance.to(self.device, dtype)
            self.generator = torch.Generator()
            # From the global stream, which whoever seeds it owns, as in DataLoader.
            self.generator.manual_seed(int(torch.randint(2**62, ())))
            workers.manual_seed(self.generator.initial_seed() + 1)
        if weight is not None:
            self.fields["weight"] = weight.to(self.device, dtype)
        if rows.reference is not None:
            self.fields["reference"] = rows.reference.to(self.device)
        self.reader = rows.source.reader(
            self.device, channels_last, num_workers, workers
        )

    def __len__(self):
        if self.sampler is not None:
            return len(self.sampler.sizes)
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self):
        for staged in self.staged():
            yield self.finish(*staged)

    def staged(self):
        """Yield each batch as far as the host brings it.

        Yields
        ------
        staged : tuple
            What `finish` takes. Tensors of it are on the device; those of two batches
            of one size have one shape.
        """
        if isinstance(self.reader, Resident):
            numbers, self.ahead = self.ahead or self._numbers(), None
            yield from ((part,) for part in numbers)
            if self.sampler is not None and self.device.type == "cuda":
                # The host draws the next epoch while the device is busy with this one.
                self.ahead = self._numbers()
            return
        order, sizes = self._order()
        places = self.rows.index[order].split(sizes)
        parts = self.reader.bring(places)
        yield from zip(order.to(self.device).split(sizes), parts, strict=True)

    def finish(self, numbers, X=None):
        """Return a batch: its fields, and the class codes.

        Parameters
        ----------
        numbers : Tensor of int64 or slice
            Row numbers: (n_rows,), and where the data is on the device (2, n_rows),
            the second ones those of the data.
        X : Tensor, optional
            The rows themselves, where the data is elsewhere.

        Returns
        -------
        fields : dict
            ``"X"``, ``"groups"`` and, where rows have them, ``"weight"``,
            ``"importance"`` and ``"reference"``.
        target : Tensor of shape (n_rows,), int64
        """
        layout = self.rows.source.layout
        if X is None:
            places = numbers
            if not isinstance(numbers, slice):
                numbers, places = numbers
            X, layout = self.reader.pick(places), self.reader.layout
        X = to_numbers(X, layout, self.dtype, self.channels_last)
        if self.augment is not None:
            X = self.augment(X)
        fields = {name: pick(values, numbers) for name, values in self.fields.items()}
        return {"X": X, **fields}, pick(self.y, numbers)

    def batch(self, rows):
        """Return the batch of these rows: its fields, and the class codes."""
        places = self.rows.index[rows]
        if isinstance(self.reader, Resident):
            return self.finish(torch.stack([rows, places]).to(self.device))
        return self.finish(rows.to(self.device), self.reader.read(places))

    def _order(self):
        """Return the row numbers of an epoch, and the sizes of its batches."""
        if self.sampler is not None:
            return torch.cat(self.sampler.epoch(self.generator)), self.sampler.sizes
        n = len(self.rows)
        sizes = [min(self.batch_size, n - i) for i in range(0, n, self.batch_size)]
        return torch.arange(n), sizes

    def _numbers(self):
        """Return numbers of rows, and of the same rows in the data, by batch."""
        if self.sequence is not None:
            return self.sequence
        if self.sampler is None and self.rows.is_all:
            steps = range(0, len(self.rows), self.batch_size)
            numbers = [slice(i, i + self.batch_size) for i in steps]
        else:
            order, sizes = self._order()
            numbers = torch.stack([order, self.rows.index[order]])
            cuda = self.device.type == "cuda"
            if cuda:
                # A copy from other memory would wait for the epoch that is running.
                numbers = numbers.pin_memory()
            numbers = numbers.to(self.device, non_blocking=cuda).split(sizes, dim=1)
        if self.sampler is None:
            self.sequence = numbers
        return numbers


def _codes(values, n_rows, missing, name):
    if values is None:
        return torch.full((n_rows,), missing, dtype=torch.long)
    if not isinstance(values, torch.Tensor):
        values = np.asarray(values)
        if values.dtype.kind not in "biuf":
            raise ValueError(
                f"{name} of GroupedRows must hold codes from 0 on; got {values.dtype}. "
                "fairskorch.groups.GroupEncoder turns labels into codes."
            )
    codes = _copied(values, torch.long)
    if codes.shape != (n_rows,):
        raise ValueError(
            f"{name} of GroupedRows must hold a code for each of {n_rows} rows; got "
            f"the shape {tuple(codes.shape)}."
        )
    return codes


def _named_codes(attributes, n_rows):
    given = attributes or {}
    return {
        str(k): _codes(codes, n_rows, UNKNOWN, str(k)) for k, codes in given.items()
    }


def _weights(values):
    return None if values is None else _copied(values, torch.float64)


def _copied(values, dtype):
    """Copy into a tensor; what users hand over may be read-only."""
    if isinstance(values, torch.Tensor):
        return values.detach().to("cpu", dtype, copy=True)
    return torch.tensor(np.asarray(values), dtype=dtype)
