"""Where the rows of X lie, and how they come to the device that trains."""

import logging
import math
import mmap
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

logger = logging.getLogger(__name__)

#: Share of a device's free memory that the data may take to be kept there.
STAGED_SHARE = 0.4

#: Bytes that go to the device at a time when all of the data goes there, and through
#: pinned memory.
PIECE, PINNED_PIECE = 64 * 2**20, 4 * 2**20

#: Threads that copy into pinned memory; for one alone that takes longer than sending.
COPIERS = 4

#: Batches that are read ahead while the device is busy.
AHEAD = 3

#: Bytes of a memory map that may be in memory at a time.
MAPPED = 512 * 2**20

#: Bytes that the system may map around a row that is read.
AROUND = 2 * 2**20


class Source:
    """The data that all subsets of some rows share."""

    def __init__(self, data, layout):
        if not isinstance(data, Dataset | torch.Tensor):
            data = np.asanyarray(data)
        self.data = data
        self.layout = layout
        self.readers = {}

    def __len__(self):
        return len(self.data)

    def __getstate__(self):
        return {**vars(self), "readers": {}}

    @property
    def numbers_in_row(self):
        """How many numbers a row has."""
        row = self.data[0]
        return math.prod(np.shape(row[0] if isinstance(row, tuple | list) else row))

    def reader(self, device, channels_last, num_workers, generator):
        """Return what brings rows to a device: `Resident`, `Streamed` or `Loaded`.

        The first two are shared; that of a Dataset has workers and draws of its own.
        """
        if isinstance(self.data, Dataset):
            return Loaded(self.data, device, num_workers, generator)
        key = device, channels_last
        if key not in self.readers:
            self.readers[key] = self._reader(device, channels_last)
        return self.readers[key]

    def _reader(self, device, channels_last):
        data, pages = self.data, None
        if isinstance(data, np.ndarray):
            pages = _Pages(data)
            with warnings.catch_warnings():
                # PyTorch warns of arrays that it could write to; it only reads here.
                warnings.filterwarnings("ignore", message="The given NumPy array")
                data = torch.from_numpy(data)
        if device.type == "cpu":
            return Resident(data, self.layout, pages)
        if _fits(data.nbytes, device):
            try:
                return _stage(data, self.layout, pages, device, channels_last)
            except torch.OutOfMemoryError:
                logger.warning(
                    "%s has no room for the %.1f GB of X after all; batches are "
                    "brought there one by one.",
                    device,
                    data.nbytes / 1e9,
                )
        return Streamed(data, self.layout, pages, device)


class Resident:
    """Rows that lie where they are used; batches are cut there.

    Parameters
    ----------
    data : Tensor
        All rows.
    layout : {"first", "last", "gray"}
        Where images have their channels.
    pages : _Pages or None
        What a memory map needs.
    """

    def __init__(self, data, layout, pages=None):
        self.data = data
        self.layout = layout
        self.pages = pages

    def pick(self, places):
        """Return the rows at these places, given as a Tensor or slice."""
        X = pick(self.data, places)
        if self.pages is not None:
            self.pages.note(X, places)
        return X


class Streamed:
    """Rows in the memory of the host that go to the device batch by batch.

    A thread copies the next ones into pinned memory and sends them on a stream of
    their own while the device is busy with the last.
    """

    def __init__(self, data, layout, pages, device):
        self.data = data
        self.layout = layout
        self.pages = pages
        self.device = device

    def bring(self, parts):
        """Yield the rows of each batch, on the device."""
        if self.device.type != "cuda":
            for places in parts:
                yield self._read(places, pinned=False).to(self.device)
            return
        stream = torch.cuda.Stream(self.device)
        send = partial(self._send, stream=stream)
        yield from map(_received, _ahead(send, parts, n_threads=1, n_ahead=AHEAD))

    def read(self, places):
        """Return the rows at these places, on the device."""
        (X,) = self.bring([places])
        return X

    def _read(self, places, pinned):
        shape = (len(places), *self.data.shape[1:])
        rows = torch.empty(shape, dtype=self.data.dtype, pin_memory=pinned)
        torch.index_select(self.data, 0, places, out=rows)
        if self.pages is not None:
            self.pages.note(rows, places)
        return rows

    def _send(self, places, stream):
        rows = self._read(places, pinned=True)
        with torch.cuda.stream(stream):
            return rows.to(self.device, non_blocking=True), stream.record_event()


class Loaded:
    """Rows of a `torch.utils.data.Dataset`, which PyTorch's loader reads one by one.

    Parameters
    ----------
    data : torch.utils.data.Dataset
        Of its items the first entry is the row.
    device : torch.device
    num_workers : int
        Processes that read.
    generator : torch.Generator
        What the workers' own random numbers are drawn from.
    """

    def __init__(self, data, device, num_workers, generator):
        self.data = data
        self.device = device
        self.plan = _Plan()
        self.loader = DataLoader(
            data,
            batch_sampler=self.plan,
            num_workers=num_workers,
            collate_fn=_collate_rows,
            generator=generator,
            persistent_workers=num_workers > 0,
            pin_memory=device.type == "cuda",
        )

    def bring(self, parts):
        """Yield the rows of each batch, on the device."""
        self.plan.batches = [places.tolist() for places in parts]
        for X in self.loader:
            yield X.to(self.device, non_blocking=True)

    def read(self, places):
        """Return the rows at these places, read here by no worker, on the device."""
        items = [self.data[i] for i in places.tolist()]
        return _collate_rows(items).to(self.device)


class _Plan:
    """The batches of the current epoch, for PyTorch's loader."""

    def __init__(self):
        self.batches = []

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


def _collate_rows(items):
    """Stack the first entries of a Dataset's items."""
    return torch.stack(
        [torch.as_tensor(i[0] if isinstance(i, tuple | list) else i) for i in items]
    )


class _Pages:
    """Gives the pages of a large memory map back to the system every so often.

    Else an epoch would leave all of the file in the memory of the process. An array
    that is no memory map has none.
    """

    def __init__(self, array):
        self.map = None
        self.mapped = 0
        # Changes to a copy-on-write map would be lost with its pages.
        while isinstance(array, np.ndarray) and getattr(array, "mode", "r") != "c":
            array = array.base
        known = isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED")
        if known and len(array) > MAPPED:
            self.map = array

    def note(self, rows, places):
        """Count what was read: a stretch of rows, or each with what lies around."""
        if self.map is None:
            return
        apart = 1 if isinstance(places, slice) else len(rows)
        self.mapped += rows.nbytes + apart * AROUND
        if self.mapped > MAPPED:
            self.map.madvise(mmap.MADV_DONTNEED)
            self.mapped = 0


def pick(values, rows):
    """Return some rows of a Tensor; a slice of them is no copy."""
    return values[rows] if isinstance(rows, slice) else values.index_select(0, rows)


def to_numbers(X, layout, dtype, channels_last):
    """Scale bytes to [0, 1], and put channels first.

    Parameters
    ----------
    X : Tensor
    layout : {"first", "last", "gray"}
        Where images have their channels.
    dtype : torch.dtype
        Type wanted.
    channels_last : bool
        Whether images lie in memory with their channels last; the order of
        dimensions is the same either way.

    Returns
    -------
    X : Tensor
    """
    if layout == "last":
        X = X.permute(0, 3, 1, 2)
    elif layout == "gray":
        X = X.unsqueeze(1)
    if X.dtype == torch.uint8 and X.is_cuda:
        X = X / torch.tensor(255, dtype=dtype)
    elif X.dtype == torch.uint8:
        # One kernel on CUDA; on the CPU both in one take three times as long.
        X = X.to(dtype).div_(255)
    X = X.to(dtype)
    if X.ndim != 4:
        return X
    order = torch.channels_last if channels_last else torch.contiguous_format
    return X.contiguous(memory_format=order)


def _stage(data, layout, pages, device, channels_last):
    """Copy all rows to the device; channels go last once, not in every batch."""
    turn = channels_last and data.ndim == 4 and layout == "first"
    n, *shape = data.shape
    if turn:
        shape = [*shape[1:], shape[0]]
    staged = torch.empty((n, *shape), dtype=data.dtype, device=device)
    # What fits into one such piece is not worth the threads.
    pinned = data.is_cpu and device.type == "cuda" and data.nbytes > PINNED_PIECE
    step = max(1, (PINNED_PIECE if pinned else PIECE) * n // max(data.nbytes, 1))
    stretches = [slice(start, start + step) for start in range(0, n, step)]
    pieces = (data[stretch] for stretch in stretches)
    if pinned:
        pieces = _ahead(_pinned, pieces, n_threads=COPIERS, n_ahead=COPIERS)
    for stretch, piece in zip(stretches, pieces, strict=True):
        moved = piece.to(device, non_blocking=pinned)
        staged[stretch] = moved.permute(0, 2, 3, 1) if turn else moved
        if pages is not None:
            pages.note(piece, stretch)
    return Resident(staged, "last" if turn else layout)


def _ahead(function, items, n_threads, n_ahead):
    """Yield what a function returns for each item, while threads do the next ones."""
    with ThreadPoolExecutor(n_threads) as threads:
        coming = deque()
        for item in items:
            coming.append(threads.submit(function, item))
            if len(coming) > n_ahead:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _pinned(piece):
    """Copy into memory that the device reads while the host goes on."""
    return torch.empty(piece.shape, dtype=piece.dtype, pin_memory=True).copy_(piece)


def _received(sent):
    rows, event = sent
    current = torch.cuda.current_stream(rows.device)
    current.wait_event(event)
    # The memory belongs to the stream that sent it.
    rows.record_stream(current)
    return rows


def _fits(n_bytes, device):
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return n_bytes <= STAGED_SHARE * free
