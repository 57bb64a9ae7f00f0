"""The report: what is asked for, and what is given back."""

from functools import cached_property
from numbers import Integral

from fairskorch.audit import _page, _text
from fairskorch.audit._conclusions import findings_of
from fairskorch.audit._findings import KINDS, Finding
from fairskorch.audit._frames import metric_frame
from fairskorch.audit._measures import find_metrics
from fairskorch.audit._measuring import OWNER, ask, code, measure
from fairskorch.audit._overlap import check_rows_apart, check_rows_known, check_subjects
from fairskorch.audit._plot import draw
from fairskorch.audit._predictions import (
    aligned_scores,
    as_fits,
    name_of,
    needs_groups,
)
from fairskorch.audit._splits import (
    attributes_of,
    only_known,
    read_splits,
    read_subjects,
)
from fairskorch.audit._tables import (
    Measurement,
    change_table,
    group_table,
    metric_table,
)
from fairskorch.intervals._paired import generator
from fairskorch.intervals._rates import tail_of

__all__ = ["FairnessReport", "fairness_report"]

DEFAULT_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "equalized_odds_difference",
    "demographic_parity_difference",
    "worst_group_accuracy",
)


def fairness_report(
    estimator,
    *,
    train,
    test,
    splits=None,
    subjects=None,
    baseline=None,
    metrics=None,
    n_boot=1000,
    confidence_level=0.95,
    random_state=None,
    pos_label=None,
):
    """Measure a fitted classifier on training and held-out rows, with intervals.

    `predict` is called once a split (and `predict_proba`, where a metric needs
    scores); everything else is computed from counts by group, true and predicted
    class.

    Parameters
    ----------
    estimator : fitted classifier, dict, or list of such
        Anything with a `predict` that takes the `X` of the splits: pipelines and
        searches too. A `predict` with the parameter `sensitive_features` gets the
        groups of the split, one with `random_state` gets a seed. A dict of split name
        to predictions stands for a classifier: labels of shape (n_samples,), or a
        pair of labels and probabilities of shape (n_samples, n_classes), columns in
        the order of the sorted labels, or (n_samples,), of the larger of two. A list
        holds several fits of one method, such as one a seed: values are means over
        fits, and the spread of the fits enters the intervals.
    train, test : tuple (X, y, groups)
        The rows it was fitted on, and rows it has not seen. Groups have the shape
        (n_samples,) or (n_samples, k); of several columns, found by their names where
        all splits have the same, each is compared alone, and all of them crossed. Rows
        of unknown group count only in metrics that compare no groups. `X` may be None
        where predictions are given.
    splits : dict of str to tuple (X, y, groups), optional
        Further splits by name, such as "validation".
    subjects : dict of str to array-like of shape (n_samples,), optional
        Of any of the splits, by name: whom or what a row is of. Rows of one subject
        are not independent, and intervals of these splits become wider for it.
    baseline : fitted classifier, dict, or list of such, optional
        Another classifier; the report then holds the paired difference on the test
        rows. Of lists, the first fit is compared with the first, and so on; one alone
        is compared with each.
    metrics : list of str, optional
        "accuracy", "balanced_accuracy", scalar functions of `fairskorch.metrics`, and
        of probabilities "roc_auc" (macro average of each class against the rest),
        "brier_score" (mean squared error; half of the sum over more than two
        classes), "calibration_error" (ten bins of equal width; of the most probable
        class where there are more than two), and these followed by "_difference":
        the largest between groups. By default accuracy, balanced accuracy,
        equalized_odds_difference, demographic_parity_difference and
        worst_group_accuracy.
    n_boot : int, default=1000
        Draws of the Bayesian bootstrap behind the comparison with `baseline`, and
        behind metrics of probabilities.
    confidence_level : float, default=0.95
        Of every interval, each by itself.
    random_state : int, RandomState instance or None, default=None
        Makes these draws reproducible, and is the seed of a `predict` that draws; the
        global generator is never touched.
    pos_label : label, optional
        The positive class: by default the larger of two labels; of more, each is
        held against the rest.

    Returns
    -------
    report : FairnessReport

    Raises
    ------
    ValueError
        If two splits hold the same rows, a split is no triple, a length differs, a
        split's name is reserved, a metric is unknown (the message guesses which one
        was meant), no row has a known group, or a metric needs scores that the
        estimator does not have.

    See Also
    --------
    fairskorch.intervals : How the intervals are made, and why none of them comes
        from resampling a gap.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from fairskorch.audit import fairness_report
    >>> rng = np.random.RandomState(0)
    >>> X, groups = rng.normal(size=(800, 2)), rng.choice(["f", "m"], size=800)
    >>> y = (X[:, 0] + (groups == "m") + rng.normal(size=800) > 0.5).astype(int)
    >>> model = LogisticRegression().fit(X[:400], y[:400])
    >>> report = fairness_report(
    ...     model,
    ...     train=(X[:400], y[:400], groups[:400]),
    ...     test=(X[400:], y[400:], groups[400:]),
    ... )
    >>> report.table["test"].loc["equalized_odds_difference"].round(3).tolist()
    [0.142, 0.0, 0.248]
    """
    tail_of(confidence_level)
    if not isinstance(n_boot, Integral) or n_boot < 2:
        raise ValueError(
            f"n_boot of {OWNER} must be a whole number of at least 2; got {n_boot!r}."
        )
    names = find_metrics(DEFAULT_METRICS if metrics is None else metrics)
    fits = as_fits(estimator)
    others = [] if baseline is None else as_fits(baseline, "baseline")
    fits, others = _paired(fits, others)
    seed = _seed(random_state)
    read = read_splits(train, test, {} if splits is None else splits)
    found = check_rows_apart(read)
    if any(map(needs_groups, fits + others)):
        read = only_known(read)
    for key, split in read.items():
        if split.left_out:
            found.append(
                Finding(
                    f"{key}: {split.left_out} rows of unknown group are left out of "
                    "everything; the classifier needs the group to predict.",
                    "left out",
                    {"split": key, "rows": split.left_out},
                )
            )
    given_subjects = read_subjects(subjects, read)
    found += check_subjects(given_subjects)
    found += check_rows_known(fits, read)
    attributes = attributes_of(read)
    asked = ask(fits, others, read, names, seed)
    classes, positive, true, predicted = code(asked, read, names, pos_label)
    measured = {}
    for key, split in read.items():
        scores = {
            role: [
                aligned_scores(p, classes, len(split.frame), f"{OWNER}, split {key!r},")
                for p in asked[role, key]
            ]
            for role in ("fit", "baseline")
            if (role, key) in asked
        }
        for attribute in attributes:
            measured[key, attribute.title] = measure(
                true[key],
                {r: predicted[r, key] for r in scores},
                scores,
                attribute.codes[key],
                (len(attribute.labels), len(classes)),
                given_subjects.get(key),
                names=names,
                positive=positive,
                level=confidence_level,
                n_boot=n_boot,
                seed=seed,
            )
    measurement = Measurement(
        metrics=names,
        keys=list(read),
        attributes=attributes,
        fits={place: both["fit"] for place, both in measured.items()},
        baseline={
            title: both["baseline"]
            for (key, title), both in measured.items()
            if key == "test" and others
        },
        classes=classes,
        positive=positive,
        level=confidence_level,
        n_boot=n_boot,
        seed=seed,
    )
    # One fit is told by its parameters; of many they differ by the seed at least.
    names = {
        part: [name_of(model, len(models) == 1) for model in models]
        for part, models in (("fit", fits), ("baseline", others))
    }
    return FairnessReport(measurement, found, set(given_subjects), names)


class FairnessReport:
    """What `fairness_report` found; it is made there, not by hand.

    Parameters
    ----------
    measurement : Measurement
        Counts and scores of every split, way of grouping and fit.
    findings : list of Finding
        What was found before anything was counted.
    by_subject : set of str
        Splits whose intervals are by subject.
    names : dict of str to list of str
        What the fits and those of the baseline are called.

    Attributes
    ----------
    table : DataFrame
        One row a metric; where groups have several columns, one row a metric and way
        of grouping (each column, all crossed). Columns are a MultiIndex of split and
        "value", "low", "high": each split, then "difference" (test minus train) and,
        with a baseline, "versus baseline" (on the test rows, this classifier minus the
        baseline). ``nan`` where a metric cannot be estimated; `warnings` says why.
    by_group : DataFrame
        One row a split and group, and "overall" over the rows of known group. Columns
        are a MultiIndex of rate and "value", "low", "high", and ("count", "value").
        Where groups have several columns, a row with "overall" in a column is over all
        its labels.
    changes : DataFrame or None
        Like `by_group`, of the test rows: the rates of each group minus those of the
        baseline.
    fits : DataFrame
        The value of every metric for each fit, and each difference from the baseline.
    frames : dict of str to MetricFrame
        fairlearn's MetricFrame of each split, built when first asked for; of the first
        fit where there are several.
    warnings : list of Finding
        What a reader of the table must know, a sentence each, with its evidence; the
        gravest first.
    confidence_level : float
        Of every interval.

    Examples
    --------
    >>> from fairskorch.audit import fairness_report
    >>> y, group = [0, 1] * 50, ["f", "f", "m", "m"] * 25
    >>> train, test = [(None, y, group)] * 2
    >>> given = {"train": y, "test": [1, 1] * 50}
    >>> report = fairness_report(given, train=train, test=test)
    >>> report.by_group.loc["test", ("false_positive_rate", "value")].to_dict()
    {'f': 1.0, 'm': 1.0, 'overall': 1.0}
    >>> report.warnings[0].kind
    'constant prediction'
    """

    def __init__(self, measurement, findings, by_subject, names):
        self._m = measurement
        self._by_subject, self._names = by_subject, names
        self.confidence_level = measurement.level
        self.table, self.fits = metric_table(measurement)
        found = [*findings, *findings_of(measurement, self.table)]
        self.warnings = sorted(found, key=lambda finding: KINDS.index(finding.kind))

    @cached_property
    def by_group(self):
        """Rates of each group on each split, with intervals."""
        return group_table(self._m)

    @cached_property
    def changes(self):
        """Rates of each group on the test rows minus those of the baseline."""
        return change_table(self._m) if self._m.baseline else None

    @cached_property
    def frames(self):
        """MetricFrame (fairlearn's) of each split that has rows of known group."""
        m, crossed = self._m, self._m.attributes[-1]
        counts = {key: m.fits[key, crossed.title][0].counts for key in m.keys}
        return {
            key: metric_frame(found, crossed, m.classes, m.positive)
            for key, found in counts.items()
            if (found.groups >= 0).any()
        }

    def to_markdown(self):
        """Write the table, its warnings below, as Markdown.

        Returns
        -------
        text : str
        """
        return _text.markdown(self)

    def to_card(self):
        """Write a section for a model card, as Markdown.

        What was measured, on whom, with which uncertainty, what was found, and what
        was not measured.

        Returns
        -------
        text : str
        """
        return _text.card(self)

    def to_html(self, path):
        """Write the report as one page with its figures, which needs nothing else.

        Parameters
        ----------
        path : str or path-like
            Where to write; what was there is replaced once the page is complete.

        Returns
        -------
        path : Path
        """
        return _page.write(self, path)

    def plot(self, ax=None):
        """Draw every metric on every split, with its interval.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        ax : matplotlib Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        return draw(self, ax)

    def __repr__(self):
        return _text.plain(self)

    def _repr_html_(self):
        return _page.fragment(self)


def _paired(fits, others):
    """Bring both sides to one length, so that fits are compared in pairs."""
    if others and len(others) != len(fits):
        if 1 not in (len(others), len(fits)):
            raise ValueError(
                f"baseline of {OWNER} must be one fit, or as many as estimator has; "
                f"got {len(others)} and {len(fits)}."
            )
        longest = max(len(others), len(fits))
        fits, others = (x * (longest // len(x)) for x in (fits, others))
    return fits, others


def _seed(random_state):
    drawn = generator(random_state).integers(2**31 - 1)
    return int(random_state if isinstance(random_state, Integral) else drawn)
