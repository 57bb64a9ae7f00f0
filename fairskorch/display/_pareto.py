"""Accuracy against gap, one point a candidate."""

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from fairskorch._candidates import Candidates, Score, dominated
from fairskorch.display._counts import count, interval, parity_of, sign_of
from fairskorch.display._style import LOOKS, literal, prepare, whiskers, words

#: Width and height that a label takes, in points.
ROOM = (24, 10)


class ParetoFrontDisplay:
    """Accuracy against the gap between groups, one point a candidate.

    Held-out values are black discs, with a line along the Pareto front; training values
    are grey squares, each tied to the candidate it belongs to: the longer the tie, the
    less the training rows said about new ones. Make it with one of the class methods.

    Read more in the :ref:`user guide <selection>`.

    Parameters
    ----------
    candidates : DataFrame
        One row a candidate. ``accuracy`` and ``gap`` are held-out values, with
        ``accuracy_low``, ``accuracy_high``, ``gap_low`` and ``gap_high``; ``label`` is
        text; ``front`` says whether it is on the Pareto front. ``train_accuracy`` and
        ``train_gap`` are the training values, where there are any.
    accuracy_name, metric_name : str
        Names of the scores.
    interval : str
        What the bars are, such as "± 1 standard error over 5 folds".
    chosen : int or None, default=None
        Position of the candidate to ring.
    label_name : str, default=""
        What the labels are, such as "penalty weight".

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        The figure of the axes.
    points_ : matplotlib ErrorbarContainer
        The held-out values.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from fairskorch.display import ParetoFrontDisplay
    >>> display = ParetoFrontDisplay.from_cv_results({
    ...     "param_penalty_weight": [0.0, 1.0, 2.0],
    ...     "mean_test_accuracy": [0.90, 0.88, 0.80],
    ...     "mean_test_gap": [-0.20, -0.04, -0.02],
    ... })
    >>> display.ax_.get_xlabel()
    'gap'
    """

    def __init__(
        self,
        candidates,
        *,
        accuracy_name,
        metric_name,
        interval,
        chosen=None,
        label_name="",
    ):
        self.candidates = candidates
        self.accuracy_name = accuracy_name
        self.metric_name = metric_name
        self.interval = interval
        self.chosen = chosen
        self.label_name = label_name

    @classmethod
    def from_cv_results(
        cls, cv_results, metric=None, *, accuracy=None, rule=None, ax=None
    ):
        """Draw the candidates of a search.

        Parameters
        ----------
        cv_results : dict or DataFrame
            `cv_results_` of a search, or `path_`; training values are drawn where they
            are there (``return_train_score=True``).
        metric : str, optional
            Score that compares groups; by default the only one there is.
        accuracy : str, optional
            Score that is to be large; by default "score", "balanced_accuracy" or
            "accuracy", the first that is there.
        rule : callable, optional
            Rule of `fairskorch.selection` whose choice is ringed.
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        display : ParetoFrontDisplay

        Raises
        ------
        ValueError
            When a score is not there.
        ImportError
            If matplotlib is not installed.
        """
        if not (rule is None or callable(rule)):
            raise TypeError(
                f"rule of {cls.__name__} must be a rule of fairskorch.selection, such "
                f"as knee(); got {rule!r}."
            )
        chosen = None if rule is None else rule(cv_results)
        return cls._of_table(cv_results, metric, accuracy, chosen).plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator, metric=None, *, accuracy=None, ax=None):
        """Draw the candidates of a fitted search, and ring the one it chose.

        Parameters
        ----------
        estimator : fitted search
            With a `path_` or `cv_results_`.
        metric, accuracy : str, optional
            As in `from_cv_results`.
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        display : ParetoFrontDisplay

        Raises
        ------
        ValueError
            When a score is not there.
        TypeError
            For an estimator that is no search.
        ImportError
            If matplotlib is not installed.
        """
        check_is_fitted(estimator)
        if hasattr(estimator, "path_"):
            table = estimator.path_
            chosen = (table["penalty_weight"] == estimator.penalty_weight_).argmax()
            n_folds = len(estimator.scores_)
        elif hasattr(estimator, "cv_results_"):
            table = estimator.cv_results_
            chosen, n_folds = getattr(estimator, "best_index_", None), None
        else:
            raise TypeError(
                "ParetoFrontDisplay.from_estimator needs a search with path_ or "
                f"cv_results_; got {type(estimator).__name__}."
            )
        return cls._of_table(table, metric, accuracy, chosen, n_folds).plot(ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y_true,
        predictions,
        *,
        sensitive_features,
        metric="equalized_odds_difference",
        accuracy="balanced_accuracy",
        confidence_level=0.95,
        ax=None,
    ):
        """Draw several classifiers by what they predict for the same rows.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Labels.
        predictions : dict of str to array-like of shape (n_samples,)
            Name of each classifier to its predicted labels.
        sensitive_features : array-like of shape (n_samples,) or (n_samples, k)
            Groups.
        metric : str, default="equalized_odds_difference"
            A metric of `fairskorch.metrics` that compares groups.
        accuracy : {"accuracy", "balanced_accuracy"}, default="balanced_accuracy"
            What is to be large.
        confidence_level : float, default=0.95
            Level of the intervals, see `fairskorch.intervals`.
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        display : ParetoFrontDisplay

        Raises
        ------
        ValueError
            For rows that do not fit together and unknown names.
        ImportError
            If matplotlib is not installed.
        """
        if not isinstance(predictions, dict) or not predictions:
            got = type(predictions).__name__ if len(predictions) else "nothing"
            raise ValueError(
                f"predictions of {cls.__name__} must be a dict of the name of a "
                f"classifier to its predicted labels; got {got}."
            )
        rows = []
        for label, y_pred in predictions.items():
            counts = count(cls.__name__, y_true, y_pred, sensitive_features)
            row = {"label": str(label)}
            for key, name in (("accuracy", accuracy), ("gap", metric)):
                found = interval(name, counts, confidence_level)
                row |= dict(zip((key, f"{key}_low", f"{key}_high"), found, strict=True))
            rows.append(row)
        frame = pd.DataFrame(rows)
        scores = [
            Score(name, frame[key].to_numpy(), sign_of(name), None)
            for key, name in (("accuracy", accuracy), ("gap", metric))
        ]
        frame["front"] = ~dominated(*scores) & frame["gap"].notna()
        return cls(
            frame,
            accuracy_name=accuracy,
            metric_name=metric,
            interval=f"{confidence_level:.0%} intervals",
        ).plot(ax=ax)

    @classmethod
    def _of_table(cls, table, metric, accuracy, chosen, n_folds=None):
        candidates = Candidates(table)
        first = candidates.accuracy(accuracy)
        if accuracy is None and first.name == "score":
            first = candidates.same_in_training(first)
        second = candidates.metric(metric, first)
        frame = pd.DataFrame(index=range(len(first.value)))
        for key, score in (("accuracy", first), ("gap", second)):
            frame[key] = score.value
            frame[f"{key}_low"] = score.value - score.error
            frame[f"{key}_high"] = score.value + score.error
            train = candidates.train_values(score)
            if train is not None:
                frame[f"train_{key}"] = train
        known = frame["accuracy"].notna() & frame["gap"].notna()
        frame["front"] = ~dominated(first, second) & known.to_numpy()
        settings = [c for c in candidates.settings if c != "epoch"]
        weights = [c for c in settings if c.endswith("penalty_weight")]
        frame["label"] = [str(i) for i in frame.index]
        label_name = "position"
        if weights or len(settings) == 1:
            name = (weights or settings)[0]
            frame["label"] = [_short(v) for v in candidates.frame[name]]
            label_name = words(name.removeprefix("param_").rpartition("__")[2])
        n_folds = n_folds or candidates.n_folds
        folds = f" over {n_folds} folds" if n_folds else " over folds"
        known = np.isfinite(second.error).any()
        return cls(
            frame,
            accuracy_name=first.name,
            metric_name=second.name,
            interval=f"± 1 standard error{folds}" if known else "",
            chosen=None if chosen is None else int(chosen),
            label_name=label_name,
        )

    def plot(self, ax=None):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        display : ParetoFrontDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = prepare(self, ax)
        c = self.candidates
        if "train_gap" in c and "train_accuracy" in c:
            for _, row in c.iterrows():
                ax.plot(
                    [row["train_gap"], row["gap"]],
                    [row["train_accuracy"], row["accuracy"]],
                    color="0.8",
                    linewidth=0.8,
                    zorder=1,
                )
            look = {**LOOKS["training"], "linestyle": "none"}
            ax.plot(
                c["train_gap"], c["train_accuracy"], **look, label="training", zorder=2
            )
        look = {**LOOKS["held-out"], "linestyle": "none"}
        bars = f", {self.interval}" if self.interval else ""
        numbers = f" (numbers: {literal(self.label_name)})" if self.label_name else ""
        self.points_ = ax.errorbar(
            c["gap"],
            c["accuracy"],
            xerr=whiskers(c, "gap"),
            yerr=whiskers(c, "accuracy"),
            elinewidth=0.7,
            ecolor="0.35",
            capsize=2,
            zorder=3,
            label=f"held-out{numbers}{bars}",
            **look,
        )
        front = c[c["front"]].sort_values("gap")
        ax.plot(
            front["gap"],
            front["accuracy"],
            color="0",
            linewidth=1.4,
            zorder=2.5,
            label="Pareto front, held-out",
        )
        if self.chosen is not None:
            row = c.iloc[self.chosen]
            ax.plot(
                row["gap"],
                row["accuracy"],
                "o",
                markersize=13,
                markerfacecolor="none",
                markeredgecolor="0",
                markeredgewidth=1.4,
                zorder=4,
                label=literal(f"chosen: {self.label_name} {row['label']}"),
            )
        parity = parity_of(self.metric_name)
        ends = "" if parity is None else f" ({parity} = parity)"
        ax.set_xlabel(f"{literal(words(self.metric_name))}{ends}")
        ax.set_ylabel(literal(words(self.accuracy_name)))
        ax.grid(alpha=0.25)
        # Above, where no point can be.
        ax.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
        self._write_labels(ax)
        return self

    def _write_labels(self, ax):
        """Write labels, the chosen one first and those of the front, where is room."""
        c = self.candidates[self.candidates["gap"].notna()]
        first = c.index == (-1 if self.chosen is None else self.chosen)
        order = np.lexsort((~c["front"].to_numpy(), ~first))
        ax.autoscale_view()
        points = ax.transData.transform(c[["gap", "accuracy"]].to_numpy())
        points = points * (72 / ax.figure.dpi)
        taken = np.empty((0, 2))
        for i in order:
            if (abs(taken - points[i]) < ROOM).all(1).any():
                continue
            taken = np.vstack([taken, points[i]])
            row = c.iloc[i]
            ax.annotate(
                literal(row["label"]),
                (row["gap"], row["accuracy"]),
                xytext=(5, -11),
                textcoords="offset points",
                fontsize=8,
                zorder=5,
            )


def _short(value):
    return f"{value:.2g}" if isinstance(value, int | float | np.number) else str(value)
