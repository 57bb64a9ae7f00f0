"""Two streams of batches: one for the task loss, another for the penalty."""

from itertools import islice

from fairskorch._sources import Resident

#: What names of fields of the second stream begin with.
PREFIX = "penalty_"


class TwoStreams:
    """Iterate over the batches of an epoch, each beside one of other rows.

    The second stream goes around as often as the first one needs, drawn anew each
    time. It is a `Batches` to all that steps ask of one.

    Parameters
    ----------
    first, second : fairskorch.batches.Batches
        Batches of the task loss, and of the penalty.
    """

    def __init__(self, first, second):
        self.first = first
        self.second = second
        self.device = first.device
        self.sampler = first.sampler
        # Not from the global stream, or the first would be drawn otherwise, too.
        second.generator.manual_seed(first.generator.initial_seed() + 2)

    def __len__(self):
        return len(self.first)

    def __iter__(self):
        for staged in self.staged():
            yield self.finish(*staged)

    def staged(self):
        """Yield each pair of batches as far as the host brings them.

        Yields
        ------
        staged : tuple
            What `finish` takes.
        """
        others = islice(self._rounds(), len(self.first))
        for one, other in zip(self.first.staged(), others, strict=True):
            yield (*one, *other)

    def _rounds(self):
        while True:
            yield from self.second.staged()

    def finish(self, *staged):
        """Return a batch: its fields, those of the other one among them, and classes.

        Parameters
        ----------
        *staged : Tensor
            What both streams take, one after the other.

        Returns
        -------
        fields : dict
            Those of the first stream, and those of the second with ``penalty_`` in
            front, its class codes as ``"penalty_target"``.
        target : Tensor of shape (n_rows,), int64
        """
        n_first = 1 if isinstance(self.first.reader, Resident) else 2
        fields, target = self.first.finish(*staged[:n_first])
        others, other_target = self.second.finish(*staged[n_first:])
        others["target"] = other_target
        return fields | {PREFIX + k: v for k, v in others.items()}, target


def other_fields(fields):
    """Return the fields of the second stream by their own names; None without one."""
    if PREFIX + "X" not in fields:
        return None
    own = (k for k in fields if k.startswith(PREFIX))
    return {name.removeprefix(PREFIX): fields[name] for name in own}
