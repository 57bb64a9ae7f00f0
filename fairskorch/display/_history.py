"""A metric over the epochs of a fit, training rows beside held-out rows."""

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from fairskorch._candidates import is_group_metric, standard_error
from fairskorch.display._counts import parity_of
from fairskorch.display._style import LOOKS, literal, prepare, words

SIDES = {"training": "train_", "held-out": "valid_"}


class FairnessHistoryDisplay:
    """A metric over epochs, training rows beside held-out rows.

    A solid black line for held-out rows, a dashed grey one for training rows. Of
    several fits the mean is drawn, with a band of one standard error. Make it with one
    of the class methods.

    Read more in the :ref:`user guide <selection>`.

    Parameters
    ----------
    curves : dict of str to ndarray of shape (n_fits, n_epochs)
        Values by side, "training" and "held-out"; nan where there is none.
    metric_name : str
        What is drawn.
    ramp : float, default=0
        Epochs over which the penalty weight rose to its full value.
    kept : int or None, default=None
        Epoch whose weights were kept, where a fit stopped early.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        The figure of the axes.
    lines_ : dict of str to matplotlib Line2D
        What was drawn, by side.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from fairskorch import FairNeuralClassifier
    >>> from fairskorch.datasets import make_biased_classification
    >>> from fairskorch.display import FairnessHistoryDisplay
    >>> data = make_biased_classification(n_samples=500, random_state=0)
    >>> clf = FairNeuralClassifier(max_epochs=4, random_state=0)
    >>> clf = clf.fit(data.data, data.target, data.sensitive_features)
    >>> display = FairnessHistoryDisplay.from_estimator(clf)
    >>> sorted(display.lines_)
    ['held-out', 'training']
    """

    def __init__(self, curves, *, metric_name, ramp=0, kept=None):
        self.curves = curves
        self.metric_name = metric_name
        self.ramp = ramp
        self.kept = kept

    @classmethod
    def from_estimator(cls, estimator, metric=None, *, ax=None):
        """Draw the history of a fit, or of several.

        Parameters
        ----------
        estimator : fitted estimator or list of them
            With a `history_`, such as `~fairskorch.FairNeuralClassifier`. A list holds
            fits of the same kind, for example from several seeds.
        metric : str, optional
            A column of `history_` without its ``train_`` or ``valid_``; by default the
            first metric that compares groups.
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        display : FairnessHistoryDisplay

        Raises
        ------
        ValueError
            When the metric is not in the histories, or there is no fit.
        TypeError
            For an estimator without a history.
        ImportError
            If matplotlib is not installed.
        """
        fits = estimator if isinstance(estimator, tuple | list) else [estimator]
        if not fits:
            raise ValueError(
                f"{cls.__name__} needs at least one fit; got an empty list."
            )
        for fit in fits:
            check_is_fitted(fit)
            if not hasattr(fit, "history_"):
                raise TypeError(
                    f"{cls.__name__} needs fits that have a history_; got "
                    f"{type(fit).__name__}."
                )
        histories = [fit.history_ for fit in fits]
        if metric is None:
            names = (c.partition("_")[2] for h in histories for c in h)
            metric = next((n for n in names if is_group_metric(n)), "balanced_accuracy")
        curves = {
            side: _stacked([h.get(prefix + metric) for h in histories])
            for side, prefix in SIDES.items()
        }
        curves = {side: values for side, values in curves.items() if values is not None}
        if not curves:
            raise ValueError(
                f"No history of FairnessHistoryDisplay has the metric {metric!r}; "
                f"columns are {list(histories[0].columns)}."
            )
        ramp = getattr(fits[0], "penalty_warmup_", 0)
        kept = getattr(fits[0], "best_epoch_", None) if len(fits) == 1 else None
        return cls(curves, metric_name=metric, ramp=ramp, kept=kept).plot(ax=ax)

    @classmethod
    def from_cv_results(cls, cv_results, metric=None, *, ax=None):
        """Draw the histories of the folds of cross-validation.

        Parameters
        ----------
        cv_results : dict
            Of `sklearn.model_selection.cross_validate` with ``return_estimator=True``.
        metric, ax
            As in `from_estimator`.

        Returns
        -------
        display : FairnessHistoryDisplay
            Held-out rows are those that each fit monitored.

        Raises
        ------
        ValueError
            When estimators are not in `cv_results`, or the metric not in histories.
        ImportError
            If matplotlib is not installed.
        """
        if "estimator" not in cv_results:
            raise ValueError(
                "FairnessHistoryDisplay.from_cv_results needs cross_validate with "
                "return_estimator=True; cv_results has no 'estimator'."
            )
        return cls.from_estimator(list(cv_results["estimator"]), metric, ax=ax)

    def plot(self, ax=None):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        display : FairnessHistoryDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = prepare(self, ax, (5.2, 3.4))
        self.lines_ = {}
        for side, values in self.curves.items():
            mean = values.mean(0)
            epochs = np.arange(1, len(mean) + 1)
            look = {**LOOKS[side], "markevery": max(1, len(mean) // 12)}
            (self.lines_[side],) = ax.plot(
                epochs, mean, **look, linewidth=1.5, label=side
            )
            if len(values) > 1:
                error = standard_error(values, axis=0)
                ax.fill_between(
                    epochs,
                    mean - error,
                    mean + error,
                    color=look["color"],
                    alpha=0.2,
                    linewidth=0,
                )
        if self.ramp:
            _mark(ax, self.ramp, "full penalty weight", ":", -3)
        if self.kept is not None:
            _mark(ax, self.kept, "weights kept", "-", -14)
        parity = parity_of(self.metric_name)
        ends = "" if parity is None else f" ({parity} = parity)"
        if parity == 0:
            ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel("epoch")
        ax.set_ylabel(f"{literal(words(self.metric_name))}{ends}")
        ax.grid(alpha=0.25)
        n_fits = max(len(values) for values in self.curves.values())
        bands = f"means of {n_fits} fits ± 1 standard error" if n_fits > 1 else None
        ax.legend(fontsize=8, title=bands, title_fontsize=8)
        return self


def _mark(ax, epoch, text, linestyle, height):
    """Draw a line at an epoch, with a text at its upper end."""
    ax.axvline(epoch, color="0.3", linewidth=0.8, linestyle=linestyle)
    ax.annotate(
        text,
        (epoch, 1),
        xycoords=("data", "axes fraction"),
        xytext=(3, height),
        textcoords="offset points",
        va="top",
        fontsize=8,
        color="0.3",
    )


def _stacked(columns):
    """Stack columns of different lengths, None where one is missing."""
    if any(c is None for c in columns):
        return None
    return pd.concat([c.astype(float) for c in columns], axis=1).to_numpy().T
