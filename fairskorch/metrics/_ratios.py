r"""Smallest ratios between groups, under fairlearn's names: 1 at parity.

Notation: :math:`Y` the label, :math:`\hat Y` the prediction, :math:`A` the group,
:math:`a` and :math:`b` any two groups. For two labels :math:`c` is the positive one;
for more, each label in turn is held against the rest, and `agg` joins the classes.
"""

from fairskorch.metrics._from_rows import from_rows

__all__ = [
    "demographic_parity_ratio",
    "equalized_odds_ratio",
]


def demographic_parity_ratio(
    y_true, y_pred, *, sensitive_features, agg="max", pos_label=None, sample_weight=None
):
    r"""Compute the smallest ratio of selection rates between groups.

    .. math:: \min_{a, b} P(\hat Y = c \mid A = a) / P(\hat Y = c \mid A = b)

    In [0, 1]; 1 at parity; greater is closer to parity. One minus it is the
    disparate impact that the penalty "di" punishes.

    Parameters
    ----------
    y_true, y_pred, sensitive_features : array-like
        See `demographic_parity_difference`.
    agg : {"max", "mean"}, default="max"
        How the classes are joined where there are more than two: the worst, which is
        the smallest ratio, or the mean.
    pos_label : label, optional
        The class to compare with the rest; see `demographic_parity_difference`.
    sample_weight : array-like of shape (n_samples,), optional
        What a row counts for; finite, not negative.

    Returns
    -------
    ratio : float
        ``nan`` where it cannot be estimated. A class that no group is given (0 / 0)
        is left out; with no other class the ratio is ``nan``, as fairlearn's is.

    Raises
    ------
    ValueError
        As `demographic_parity_difference`.

    Warns
    -----
    InestimableWarning
        If the result is ``nan``.

    References
    ----------
    Feldman, Friedler, Moeller, Scheidegger and Venkatasubramanian. Certifying and
    removing disparate impact. KDD 2015. Equals fairlearn's function of this name.

    Examples
    --------
    >>> from fairskorch.metrics import demographic_parity_ratio
    >>> demographic_parity_ratio(
    ...     [0, 1, 1, 0], [0, 1, 1, 1], sensitive_features=["f", "f", "m", "m"]
    ... )
    0.5
    """
    return from_rows(
        "demographic_parity_ratio",
        y_true,
        y_pred,
        sensitive_features,
        sample_weight,
        agg,
        pos_label,
    )


def equalized_odds_ratio(
    y_true, y_pred, *, sensitive_features, agg="max", pos_label=None, sample_weight=None
):
    r"""Compute the smaller of the true- and false-positive rates' ratios.

    .. math:: \min_{y \in \{0, 1\}} \min_{a, b} P(\hat Y = c \mid [Y = c] = y, A = a)
        / P(\hat Y = c \mid [Y = c] = y, A = b)

    In [0, 1]; 1 at parity; greater is closer to parity.

    Parameters
    ----------
    y_true, y_pred, sensitive_features : array-like
        See `demographic_parity_difference`.
    agg : {"max", "mean"}, default="max"
        How the two rates, and the classes where there are more than two, are joined:
        the worst, which is the smallest ratio, or the mean.
    pos_label : label, optional
        The class to compare with the rest; see `demographic_parity_difference`.
    sample_weight : array-like of shape (n_samples,), optional
        What a row counts for; finite, not negative.

    Returns
    -------
    ratio : float
        ``nan`` where a group has no row for one of the rates, or where every rate is
        0 in all groups. One rate that is 0 in all groups (0 / 0) is left out.

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
    2016. Equals fairlearn's function of this name where that is defined.

    Examples
    --------
    >>> from fairskorch.metrics import equalized_odds_ratio
    >>> y_true = [0, 1, 1, 0, 0, 1, 1, 0]
    >>> y_pred = [1, 1, 1, 0, 0, 1, 0, 1]
    >>> equalized_odds_ratio(y_true, y_pred, sensitive_features=["f"] * 4 + ["m"] * 4)
    0.5
    """
    return from_rows(
        "equalized_odds_ratio",
        y_true,
        y_pred,
        sensitive_features,
        sample_weight,
        agg,
        pos_label,
    )
