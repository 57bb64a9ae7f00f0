r"""The worst that a group, or a cell of group and class, is served.

Notation: :math:`Y` the label, :math:`\hat Y` the prediction, :math:`A` the group.
"""

from fairskorch.metrics._from_rows import from_rows

__all__ = [
    "worst_cell_accuracy",
    "worst_group_accuracy",
]


def worst_group_accuracy(y_true, y_pred, *, sensitive_features, sample_weight=None):
    r"""Compute the accuracy of the group where it is smallest.

    .. math:: \min_a P(\hat Y = Y \mid A = a)

    In [0, 1]; greater is better. It says nothing on parity: all groups may be served
    equally badly.

    Parameters
    ----------
    y_true, y_pred, sensitive_features : array-like
        See `demographic_parity_difference`.
    sample_weight : array-like of shape (n_samples,), optional
        What a row counts for; finite, not negative.

    Returns
    -------
    accuracy : float
        With one group, the accuracy of that group.

    Raises
    ------
    ValueError
        As `demographic_parity_difference`.

    Warns
    -----
    InestimableWarning
        If the result is ``nan``: the weights of all rows are 0.

    References
    ----------
    Martinez, Bertran and Sapiro. Minimax Pareto fairness. ICML 2020.

    Examples
    --------
    >>> from fairskorch.metrics import worst_group_accuracy
    >>> worst_group_accuracy(
    ...     [0, 1, 1, 0], [0, 1, 1, 1], sensitive_features=["f", "f", "m", "m"]
    ... )
    0.5
    """
    return from_rows(
        "worst_group_accuracy", y_true, y_pred, sensitive_features, sample_weight
    )


def worst_cell_accuracy(y_true, y_pred, *, sensitive_features, sample_weight=None):
    r"""Compute the accuracy of the group x class cell where it is smallest.

    .. math:: \min_{a, y} P(\hat Y = y \mid Y = y, A = a)

    In [0, 1]; greater is better. The minimum is over the classes that occur in
    `y_true`.

    Parameters
    ----------
    y_true, y_pred, sensitive_features : array-like
        See `demographic_parity_difference`.
    sample_weight : array-like of shape (n_samples,), optional
        What a row counts for; finite, not negative.

    Returns
    -------
    accuracy : float
        ``nan`` where a group has no row of a class that occurs in another.

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
    Sagawa, Koh, Hashimoto and Liang. Distributionally robust neural networks for
    group shifts. ICLR 2020 (there the cells are called groups).

    Examples
    --------
    >>> from fairskorch.metrics import worst_cell_accuracy
    >>> worst_cell_accuracy(
    ...     [0, 1, 1, 0], [0, 1, 1, 1], sensitive_features=["f", "f", "m", "m"]
    ... )
    0.0
    """
    return from_rows(
        "worst_cell_accuracy", y_true, y_pred, sensitive_features, sample_weight
    )
