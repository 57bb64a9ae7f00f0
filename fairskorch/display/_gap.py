"""Gaps between groups with their intervals, training rows beside held-out rows."""

import numpy as np
import pandas as pd

from fairskorch.display._counts import count, interval, parity_of
from fairskorch.display._style import LOOKS, literal, prepare, whiskers, words

DEFAULT = (
    "equalized_odds_difference",
    "equal_opportunity_difference",
    "demographic_parity_difference",
    "accuracy_difference",
)


class FairnessGapDisplay:
    """Gaps between groups with intervals, training rows beside held-out rows.

    One line a metric: a black disc for held-out rows, a grey square for training rows,
    each with its interval. Make it with one of the class methods.

    Read more in the :ref:`user guide <selection>`.

    Parameters
    ----------
    gaps : DataFrame
        Columns ``metric``, ``rows`` ("training" or "held-out"), ``value``, ``low`` and
        ``high``.
    confidence_level : float, default=0.95
        Level of the intervals.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        The figure of the axes.
    bars_ : dict of str to matplotlib ErrorbarContainer
        What was drawn, by side.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from fairskorch.display import FairnessGapDisplay
    >>> display = FairnessGapDisplay.from_predictions(
    ...     [0, 1, 0, 1, 0, 1], [0, 1, 1, 1, 0, 0],
    ...     sensitive_features=["a", "a", "a", "b", "b", "b"],
    ...     metrics=["demographic_parity_difference"],
    ... )
    >>> float(display.gaps["value"].iloc[0].round(3))
    0.333
    """

    def __init__(self, gaps, *, confidence_level=0.95):
        self.gaps = gaps
        self.confidence_level = confidence_level

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        sensitive_features,
        train=None,
        metrics=None,
        confidence_level=0.95,
        ax=None,
    ):
        """Draw the gaps of a fitted classifier.

        Parameters
        ----------
        estimator : fitted classifier
            With a `predict` that takes X.
        X, y : array-like
            Held-out rows and their labels.
        sensitive_features : array-like of shape (n_samples,) or (n_samples, k)
            Groups.
        train : tuple (X, y, groups), optional
            The rows it was fitted on, to draw beside.
        metrics : list of str, optional
            Metrics of `fairskorch.metrics`; by default four differences.
        confidence_level : float, default=0.95
            Level of the intervals, see `fairskorch.intervals`.
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        display : FairnessGapDisplay

        Raises
        ------
        ValueError
            For rows that do not fit together and unknown names.
        ImportError
            If matplotlib is not installed.
        """
        if train is not None:
            cls._check_train(train, "(X, y, groups)")
            train = train[1], estimator.predict(train[0]), train[2]
        return cls.from_predictions(
            y,
            estimator.predict(X),
            sensitive_features=sensitive_features,
            train=train,
            metrics=metrics,
            confidence_level=confidence_level,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true,
        y_pred,
        *,
        sensitive_features,
        train=None,
        metrics=None,
        confidence_level=0.95,
        ax=None,
    ):
        """Draw the gaps of predicted labels.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_samples,)
            Labels and predicted labels of held-out rows.
        sensitive_features : array-like of shape (n_samples,) or (n_samples, k)
            Groups.
        train : tuple (y_true, y_pred, groups), optional
            The same of training rows, to draw beside.
        metrics, confidence_level, ax
            As in `from_estimator`.

        Returns
        -------
        display : FairnessGapDisplay

        Raises
        ------
        ValueError
            For rows that do not fit together and unknown names.
        ImportError
            If matplotlib is not installed.
        """
        owner = cls.__name__
        sides = {"held-out": count(owner, y_true, y_pred, sensitive_features)}
        if train is not None:
            cls._check_train(train, "(y_true, y_pred, groups)")
            sides["training"] = count(owner, *train)
        return cls._of_counts(sides, metrics, confidence_level).plot(ax=ax)

    @classmethod
    def from_cv_results(
        cls,
        cv_results,
        X,
        y,
        *,
        sensitive_features,
        metrics=None,
        confidence_level=0.95,
        ax=None,
    ):
        """Draw the gaps of cross-validation, the rows of all folds together.

        Parameters
        ----------
        cv_results : dict
            Of `sklearn.model_selection.cross_validate` with ``return_estimator=True``
            and ``return_indices=True``.
        X, y : array-like
            The rows that were cross-validated on.
        sensitive_features : array-like of shape (n_samples,) or (n_samples, k)
            Groups.
        metrics, confidence_level, ax
            As in `from_estimator`.

        Returns
        -------
        display : FairnessGapDisplay
            A training row counts once, although several folds trained on it.

        Raises
        ------
        ValueError
            When estimators or row numbers are not in `cv_results`.
        ImportError
            If matplotlib is not installed.
        """
        missing = {"estimator", "indices"} - cv_results.keys()
        if missing:
            raise ValueError(
                "FairnessGapDisplay.from_cv_results needs cross_validate with "
                "return_estimator=True and return_indices=True; cv_results has no "
                f"{sorted(missing)}."
            )
        y, groups = np.asarray(y), pd.DataFrame(sensitive_features)
        sides = {}
        for side, key in (("held-out", "test"), ("training", "train")):
            numbers = cv_results["indices"][key]
            predicted = [
                estimator.predict(_rows(X, rows))
                for estimator, rows in zip(
                    cv_results["estimator"], numbers, strict=True
                )
            ]
            rows = np.concatenate(numbers)
            times = len(rows) / len(np.unique(rows))
            sides[side] = count(
                cls.__name__,
                y[rows],
                np.concatenate(predicted),
                groups.iloc[rows],
                times,
            )
        return cls._of_counts(sides, metrics, confidence_level).plot(ax=ax)

    @staticmethod
    def _check_train(train, expected):
        if not isinstance(train, tuple | list) or len(train) != 3:
            raise ValueError(
                f"train of FairnessGapDisplay must be {expected}; got "
                f"{type(train).__name__}"
                + (f" of {len(train)}." if hasattr(train, "__len__") else ".")
            )

    @classmethod
    def _of_counts(cls, sides, metrics, confidence_level):
        metrics = DEFAULT if metrics is None else metrics
        names = list(dict.fromkeys([metrics] if isinstance(metrics, str) else metrics))
        if not names:
            raise ValueError(
                f"metrics of {cls.__name__} must name at least one metric."
            )
        rows = [
            (name, side, *interval(name, counts, confidence_level))
            for name in names
            for side, counts in sides.items()
        ]
        columns = ["metric", "rows", "value", "low", "high"]
        gaps = pd.DataFrame(rows, columns=columns)
        return cls(gaps, confidence_level=confidence_level)

    def plot(self, ax=None):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        display : FairnessGapDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        names = list(dict.fromkeys(self.gaps["metric"]))
        ax = prepare(self, ax, (5.6, 1.2 + 0.55 * len(names)))
        sides = [s for s in LOOKS if (self.gaps["rows"] == s).any()]
        self.bars_ = {}
        for i, side in enumerate(sides[::-1]):
            part = self.gaps[self.gaps["rows"] == side].set_index("metric").loc[names]
            part = part.rename(columns={"low": "value_low", "high": "value_high"})
            places = np.arange(len(names))[::-1] + 0.22 * ((len(sides) - 1) / 2 - i)
            self.bars_[side] = ax.errorbar(
                part["value"],
                places,
                xerr=whiskers(part, "value"),
                capsize=3,
                elinewidth=1.2,
                label=side,
                **{**LOOKS[side], "linestyle": "none"},
            )
        parities = {parity_of(name) for name in names} - {None}
        for parity in parities:
            ax.axvline(parity, color="0", linewidth=0.8)
        ax.set_yticks(np.arange(len(names))[::-1], [literal(words(n)) for n in names])
        ax.set_ylim(-0.6, len(names) - 0.4)
        ends = f"{', '.join(map(str, sorted(parities)))} = parity; " if parities else ""
        ax.set_xlabel(f"value ({ends}bars: {self.confidence_level:.0%} intervals)")
        ax.grid(axis="x", alpha=0.25)
        if len(sides) > 1:
            ax.legend(fontsize=8)
        else:
            ax.set_title(f"{sides[0]} rows", fontsize=9)
        return self


def _rows(X, rows):
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    return X[rows] if hasattr(X, "shape") else [X[i] for i in rows]
