"""Which epoch's weights are kept: chosen on held-out rows, by a metric or a rule."""

import contextlib
import math
import warnings
from numbers import Integral

import numpy as np
import pandas as pd
from skorch.callbacks import Callback

from fairskorch._candidates import direction, metric_of
from fairskorch._names import did_you_mean
from fairskorch.exceptions import InestimableWarning

__all__ = ["BestEpoch"]

#: Columns that say themselves how good predictions are, so need no floor.
FLOORLESS = ("loss", "accuracy", "balanced_accuracy")


class BestEpoch(Callback):
    """Give a net the weights of its best epoch on held-out rows, and stop in time.

    After each epoch a rule chooses among the epochs of this call. When it has not
    chosen a newer one for `patience` epochs training stops; epochs in which the
    penalty's weight still ramps up are not counted. In the end the weights of the
    chosen epoch, statistics of batch norm among them, are put back. The state of the
    optimiser stays that of the last epoch. For a `fairskorch.nets.GroupPenaltyNet`.

    Parameters
    ----------
    rule : str or callable, default="equalized_odds_difference"
        A column of held-out rows without its ``valid_``: the best epoch is the one
        with the best value (a difference, the loss and the penalty are best when
        small, ratios and accuracies when large) among those whose balanced accuracy
        is not more than `accuracy_drop` below that of the most accurate epoch. Or a
        callable that takes the history, a DataFrame of one row an epoch, and returns
        the position of a row; the weights of all epochs are then kept in memory.
    patience : int or None, default=5
        Epochs without a better one after which training stops; None for never.
    accuracy_drop : float, default=0.01
        How much balanced accuracy a better value may cost. Without such a floor the
        fairest epoch is often one with a constant answer, whose gap is 0.

    Attributes
    ----------
    best_epoch_ : int or None
        Number of the epoch, as in the history, that the weights are of.

    See Also
    --------
    skorch.callbacks.EarlyStopping : Stopping on one column of the history.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairskorch.stopping import BestEpoch
    >>> history = pd.DataFrame({
    ...     "valid_balanced_accuracy": [0.50, 0.79, 0.80, 0.80],
    ...     "valid_equalized_odds_difference": [0.00, 0.10, 0.20, 0.15],
    ... })
    >>> BestEpoch(accuracy_drop=0.02).choose(history)
    1
    >>> BestEpoch(accuracy_drop=0.0).choose(history)
    3
    >>> BestEpoch("balanced_accuracy").choose(history)
    2
    """

    def __init__(
        self, rule="equalized_odds_difference", patience=5, accuracy_drop=0.01
    ):
        self.rule = rule
        self.patience = patience
        self.accuracy_drop = accuracy_drop

    def choose(self, history):
        """Choose among the epochs that were trained.

        Parameters
        ----------
        history : DataFrame of n_epochs rows

        Returns
        -------
        position : int or None
            None where the metric could not be estimated in any epoch.
        """
        if not isinstance(self.rule, str):
            return _position(self.rule, history)
        value, accuracy = self._scores(history)
        able = accuracy >= np.nanmax(accuracy, initial=-np.inf) - self.accuracy_drop
        able &= ~np.isnan(value)
        if not able.any():
            return None
        # Of equally good ones the more accurate, of those the first.
        order = np.lexsort((np.arange(len(value)), -accuracy, -value))
        return int(order[able[order]][0])

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Begin with the epochs of this call."""
        self.best_epoch_ = None
        self.first_ = self.seen_ = len(net.history)
        self.weights_ = {}

    def on_epoch_end(self, net, **kwargs):
        """Choose, keep the weights that may yet be wanted, and stop when it is time."""
        self.seen_ = len(net.history)
        history = self._epochs(net)
        last = len(history) - 1
        wanted = self._wanted(history)
        kept = {i: kept for i, kept in self.weights_.items() if wanted[i]}
        if wanted[last]:
            state = net.module_.state_dict()
            kept[last] = {k: v.to("cpu", copy=True) for k, v in state.items()}
        self.weights_ = kept
        chosen = self.choose(history)
        self.chosen_ = chosen
        self.best_epoch_ = int(
            history["epoch"].iloc[last if chosen is None else chosen]
        )
        ramp = 0 if net.penalty_ is None else math.ceil(net.penalty_warmup)
        waited = last + 1 - max(0 if chosen is None else chosen + 1, ramp)
        if self.patience is not None and waited >= self.patience:
            raise KeyboardInterrupt

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Put the weights of the chosen epoch back."""
        # Another callback may have stopped the last epoch before it came here.
        if len(net.history) > self.seen_ and net.history[-1].get("finished"):
            with contextlib.suppress(KeyboardInterrupt):
                self.on_epoch_end(net)
        if self.best_epoch_ is None:
            return
        if self.chosen_ is None:
            warnings.warn(
                f"{self.rule!r} could not be estimated on the held-out rows in any "
                "epoch, so the weights are those of the last one.",
                InestimableWarning,
                stacklevel=2,
            )
        else:
            net.load_weights(self.weights_[self.chosen_])
            if hasattr(self.rule, "choose"):
                self.rule(self._epochs(net))  # which warns of a bound that is not kept
        self.weights_ = {}

    def _epochs(self, net):
        """Return the epochs of this call that were finished."""
        rows = [row for row in net.history[self.first_ :] if row.get("finished")]
        return pd.DataFrame(rows)

    def _scores(self, history):
        """Return values, of which greater ones are better, and accuracies."""
        column = f"valid_{self.rule}"
        if column not in history:
            known = [c.removeprefix("valid_") for c in history if "valid_" in c]
            raise ValueError(
                f"The rule {self.rule!r} of BestEpoch is no column of held-out rows; "
                f"there are {known}.{did_you_mean(self.rule, known, listed=True)}"
            )
        value = direction(self.rule) * history[column].to_numpy(dtype=float)
        if metric_of(self.rule) in FLOORLESS:
            return value, np.zeros(len(value))
        return value, history["valid_balanced_accuracy"].to_numpy(dtype=float)

    def _wanted(self, history):
        """Tell the epochs that may be chosen now or later."""
        if not isinstance(self.rule, str):
            return np.ones(len(history), dtype=bool)
        value, accuracy = self._scores(history)
        number = np.arange(len(value))
        as_good = (value >= value[:, None]) & (accuracy >= accuracy[:, None])
        better = (value > value[:, None]) | (accuracy > accuracy[:, None])
        beaten = as_good & (better | (number < number[:, None]))
        return ~np.isnan(value) & ~beaten.any(axis=1)


def _position(rule, history):
    """Ask a rule for a row, and refuse an answer that is none."""
    # A rule of `fairskorch.selection` would warn after every epoch.
    chosen = getattr(rule, "choose", rule)(history)
    if not isinstance(chosen, Integral) or not 0 <= chosen < len(history):
        raise ValueError(
            "A rule for epochs must return the position of a row of the history, 0 to "
            f"{len(history) - 1}; got {chosen!r}."
        )
    return int(chosen)
