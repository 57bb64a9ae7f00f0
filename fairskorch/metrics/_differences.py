r"""Largest differences between groups, under fairlearn's names: 0 at parity.

Notation: :math:`Y` the label, :math:`\hat Y` the prediction, :math:`A` the group,
:math:`a` and :math:`b` any two groups. For two labels :math:`c` is the positive one;
for more, each label in turn is held against the rest, and `agg` joins the classes.
"""

from fairskorch.metrics._from_rows import from_rows

__all__ = [
    "accuracy_difference",
    "average_odds_difference",
    "demographic_parity_difference",
    "equal_opportunity_difference",
    "equalized_odds_difference",
]


def demographic_parity_difference(
    y_true, y_pred, *, sensitive_features, agg="max", pos_label=None, sample_weight=None
):
    r"""Compute the largest difference of selection rates between groups.

    .. math:: \max_{a, b} P(\hat Y = c \mid A = a) - P(\hat Y = c \mid A = b)

    In [0, 1]; 0 at parity; smaller is closer to parity.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels, numbers or strings. Only the set of labels is taken from them.
    y_pred : array-like of shape (n_samples,)
        Predicted labels, not scores.
    sensitive_features : array-like of shape (n_samples,) or (n_samples, k)
        Groups; several columns are crossed. Rows of unknown group (``None``,
        ``NaN``, ``pd.NA``) are left out; `group_metrics` counts them.
    agg : {"max", "mean"}, default="max"
        How the classes are joined where there are more than two.
    pos_label : label, optional
        The class to compare with the rest. By default the larger of two labels, and
        each in turn of more.
    sample_weight : array-like of shape (n_samples,), optional
        What a row counts for; finite, not negative.

    Returns
    -------
    difference : float
        ``nan`` where it cannot be estimated.

    Raises
    ------
    ValueError
        For lengths that differ, labels of mixed kinds or missing, scores in
        `y_pred`, an unknown `agg` or `pos_label`, or if every group is unknown.

    Warns
    -----
    InestimableWarning
        If the result is ``nan``: only one group has rows, so nothing is compared.

    References
    ----------
    Agarwal, Beygelzimer, Dudík, Langford and Wallach. A reductions approach to fair
    classification. ICML 2018. Equals fairlearn's function of this name.

    Examples
    --------
    >>> from fairskorch.metrics import demographic_parity_difference
    >>> demographic_parity_difference(
    ...     [0, 1, 1, 0], [0, 1, 1, 1], sensitive_features=["f", "f", "m", "m"]
    ... )
    0.5
    """
    return from_rows(
        "demographic_parity_difference",
        y_true,
        y_pred,
        sensitive_features,
        sample_weight,
        agg,
        pos_label,
    )


def equal_opportunity_difference(
    y_true, y_pred, *, sensitive_features, agg="max", pos_label=None, sample_weight=None
):
    r"""Compute the largest difference of true-positive rates between groups.

    .. math:: \max_{a, b} P(\hat Y = c \mid Y = c, A = a)
        - P(\hat Y = c \mid Y = c, A = b)

    In [0, 1]; 0 at parity; smaller is closer to parity.

    Parameters
    ----------
    y_true, y_pred, sensitive_features : array-like
        See `demographic_parity_difference`.
    agg : {"max", "mean"}, default="max"
        How the classes are joined where there are more than two.
    pos_label : label, optional
        The class to compare with the rest; see `demographic_parity_difference`.
    sample_weight : array-like of shape (n_samples,), optional
        What a row counts for; finite, not negative.

    Returns
    -------
    difference : float
        ``nan`` where a group has no row of class :math:`c`; fairlearn takes the rate
        of such a group for 0.

    Raises
    ------
    ValueError
        As `demographic_parity_difference`.

    Warns
    -----
    InestimableWarning
        If the result is ``nan``; it names group and class.

    References
    ----------
    Hardt, Price and Srebro. Equality of opportunity in supervised learning. NIPS
    2016. Equals fairlearn's function of this name where no cell is empty.

    Examples
    --------
    >>> from fairskorch.metrics import equal_opportunity_difference
    >>> equal_opportunity_difference(
    ...     ["no", "yes", "yes", "yes"],
    ...     ["no", "yes", "yes", "no"],
    ...     sensitive_features=["f", "f", "m", "m"],
    ... )
    0.5
    """
    return from_rows(
        "equal_opportunity_difference",
        y_true,
        y_pred,
        sensitive_features,
        sample_weight,
        agg,
        pos_label,
    )


def equalized_odds_difference(
    y_true, y_pred, *, sensitive_features, agg="max", pos_label=None, sample_weight=None
):
    r"""Compute the larger of the true- and false-positive rates' differences.

    .. math:: \max_{y \in \{0, 1\}} \max_{a, b} P(\hat Y = c \mid [Y = c] = y, A = a)
        - P(\hat Y = c \mid [Y = c] = y, A = b)

    In [0, 1]; 0 at parity; smaller is closer to parity.

    Parameters
    ----------
    y_true, y_pred, sensitive_features : array-like
        See `demographic_parity_difference`.
    agg : {"max", "mean"}, default="max"
        How the two rates, and the classes where there are more than two, are joined.
        "max" is fairlearn's "worst_case".
    pos_label : label, optional
        The class to compare with the rest; see `demographic_parity_difference`.
    sample_weight : array-like of shape (n_samples,), optional
        What a row counts for; finite, not negative.

    Returns
    -------
    difference : float
        ``nan`` where a group has no row for one of the rates.

    Raises
    ------
    ValueError
        As `demographic_parity_difference`.

    Warns
    -----
    InestimableWarning
        If the result is ``nan``; it names group and class.

    References
    ----------
    Hardt, Price and Srebro. Equality of opportunity in supervised learning. NIPS
    2016. Equals fairlearn's function of this name where no cell is empty.

    Examples
    --------
    >>> from fairskorch.metrics import equalized_odds_difference
    >>> y_true = [0, 1, 1, 0, 0, 1, 1, 0]
    >>> y_pred = [0, 1, 1, 0, 1, 1, 0, 1]
    >>> equalized_odds_difference(
    ...     y_true, y_pred, sensitive_features=["f"] * 4 + ["m"] * 4
    ... )
    1.0
    """
    return from_rows(
        "equalized_odds_difference",
        y_true,
        y_pred,
        sensitive_features,
        sample_weight,
        agg,
        pos_label,
    )


def average_odds_difference(
    y_true, y_pred, *, sensitive_features, agg="max", pos_label=None, sample_weight=None
):
    r"""Compute the mean of the true- and false-positive rates' differences.

    .. math:: \tfrac12 \sum_{y \in \{0, 1\}} \max_{a, b}
        P(\hat Y = c \mid [Y = c] = y, A = a) - P(\hat Y = c \mid [Y = c] = y, A = b)

    In [0, 1]; 0 at parity; smaller is closer to parity.

    Parameters
    ----------
    y_true, y_pred, sensitive_features : array-like
        See `demographic_parity_difference`.
    agg : {"max", "mean"}, default="max"
        How the classes are joined where there are more than two.
    pos_label : label, optional
        The class to compare with the rest; see `demographic_parity_difference`.
    sample_weight : array-like of shape (n_samples,), optional
        What a row counts for; finite, not negative.

    Returns
    -------
    difference : float
        ``nan`` where a group has no row for one of the rates.

    Raises
    ------
    ValueError
        As `demographic_parity_difference`.

    Warns
    -----
    InestimableWarning
        If the result is ``nan``; it names group and class.

    Notes
    -----
    AIF360's function of this name averages *signed* differences between an
    unprivileged and a privileged group, so that two opposite gaps cancel; its
    ``average_abs_odds_difference`` does not, and for two groups is this quantity.
    The software-engineering literature calls the latter AOD, and by EOD it means
    `equal_opportunity_difference`.

    References
    ----------
    Bellamy et al. AI Fairness 360. IBM Journal of Research and Development, 2019.

    Examples
    --------
    >>> from fairskorch.metrics import average_odds_difference
    >>> y_true = [0, 1, 1, 0, 0, 1, 1, 0]
    >>> y_pred = [0, 1, 1, 0, 1, 1, 0, 1]
    >>> average_odds_difference(
    ...     y_true, y_pred, sensitive_features=["f"] * 4 + ["m"] * 4
    ... )
    0.75
    """
    return from_rows(
        "average_odds_difference",
        y_true,
        y_pred,
        sensitive_features,
        sample_weight,
        agg,
        pos_label,
    )


def accuracy_difference(y_true, y_pred, *, sensitive_features, sample_weight=None):
    r"""Compute the largest difference of accuracies between groups.

    .. math:: \max_{a, b} P(\hat Y = Y \mid A = a) - P(\hat Y = Y \mid A = b)

    In [0, 1]; 0 at parity; smaller is closer to parity.

    Parameters
    ----------
    y_true, y_pred, sensitive_features : array-like
        See `demographic_parity_difference`.
    sample_weight : array-like of shape (n_samples,), optional
        What a row counts for; finite, not negative.

    Returns
    -------
    difference : float
        ``nan`` where it cannot be estimated.

    Raises
    ------
    ValueError
        As `demographic_parity_difference`.

    Warns
    -----
    InestimableWarning
        If the result is ``nan``: only one group has rows.

    References
    ----------
    Berk, Heidari, Jabbari, Kearns and Roth. Fairness in criminal justice risk
    assessments. Sociological Methods & Research, 2021 ("overall accuracy equality").

    Examples
    --------
    >>> from fairskorch.metrics import accuracy_difference
    >>> accuracy_difference(
    ...     [0, 1, 1, 0], [0, 1, 1, 1], sensitive_features=["f", "f", "m", "m"]
    ... )
    0.5
    """
    return from_rows(
        "accuracy_difference", y_true, y_pred, sensitive_features, sample_weight
    )
