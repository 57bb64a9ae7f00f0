"""Gaussian data in groups whose Bayes-optimal gaps are known."""

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.utils import Bunch, check_random_state

from fairskorch.datasets._checks import check_choice, check_int

OWNER = "make_biased_classification"
DESCR = """\
Gaussian data made on the spot: groups with base rates and class separations of their
own, and the accuracy and gaps of the Bayes classifier. See the documentation of
`fairskorch.datasets.make_biased_classification`.
"""


def make_biased_classification(
    n_samples=2000,
    n_features=10,
    *,
    n_groups=2,
    n_classes=2,
    group_shares=None,
    class_shares=None,
    separations=None,
    reveal_group=True,
    random_state=None,
):
    r"""Make Gaussian data whose Bayes-optimal accuracy and gaps are known.

    A row of group :math:`g` and class :math:`k` has the score
    :math:`s \sim N(d_g (k - (K - 1) / 2), 1)`, where :math:`d_g` is the group's
    separation and :math:`K` the number of classes. The Gaussian features are this score
    and independent standard normal noise, turned together by a random rotation, so they
    say about the class what the score says.

    Parameters
    ----------
    n_samples : int, default=2000
        Number of rows.
    n_features : int, default=10
        Number of columns, those that reveal the group among them.
    n_groups : int, default=2
        Number of groups.
    n_classes : int, default=2
        Number of classes.
    group_shares : array-like of shape (n_groups,), default=None
        Probability of each group. None for shares that fall linearly: 2/3 and 1/3 for
        two groups.
    class_shares : array-like of shape (n_groups, n_classes), default=None
        Probability of each class within each group (base rates). None for equal shares
        in the first group, falling with the class ever more towards the last: 0.5 and
        0.2 of class 1 for two groups and classes.
    separations : array-like of shape (n_groups,), default=None
        Distance between the means of neighbouring classes in standard deviations. None
        for equal steps from 2 in the first group to 1.5 in the last.
    reveal_group : bool, default=True
        Whether the last `n_groups` columns are indicators of the group.
    random_state : int, RandomState instance or None, default=None
        Makes the result reproducible when given as an int. The Bayes values do not
        depend on it.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        data : ndarray of shape (n_samples, n_features), float64
            Features.
        target : ndarray of shape (n_samples,), int64
            Class 0 to n_classes - 1.
        sensitive_features : DataFrame of shape (n_samples, 1)
            Column ``"group"``: 0 to n_groups - 1.
        subject : ndarray of shape (n_samples,), int64
            Row number: each row is a subject of its own.
        target_names : ndarray of shape (n_classes,)
            Names of the classes.
        bayes_target : ndarray of shape (n_samples,), int64
            Prediction of the Bayes classifier for each row.
        bayes_rates : ndarray of shape (n_groups, n_classes, n_classes)
            Probability that the Bayes classifier predicts the last index for a row of
            the group of the first and the class of the second.
        bayes_accuracy : float
            Largest accuracy that any classifier of the features can have.
        bayes_balanced_accuracy : float
            Mean over classes of its recall.
        bayes_demographic_parity_difference : float
            Largest difference between groups in the share predicted as a class.
        bayes_equal_opportunity_difference : float
            Largest difference between groups in a true-positive rate.
        bayes_equalized_odds_difference : float
            Largest difference between groups in a true- or false-positive rate.
        DESCR : str
            What the data are.

    Raises
    ------
    ValueError
        If a parameter is out of its range or has another shape.

    Notes
    -----
    The Bayes classifier predicts the class of largest posterior probability given the
    features, the group's indicators among them if they are there:
    :math:`\arg\max_k \pi_{gk} \, \varphi(s - d_g (k - (K - 1) / 2))`. Where the group
    is not revealed, it knows the shares of the groups but not the group of the row and
    takes the sum over groups of these terms, weighted by the shares. The values are
    those of the population, not of the sample: intervals of the score are found where
    the winning class changes, by root finding to machine precision, and the normal
    distribution gives their probabilities. For two classes, gaps are of class 1; for
    more, each class is taken against the rest and the largest gap counts.

    With two classes and the group revealed, it predicts 1 above
    :math:`t_g = \log(\pi_{g0} / \pi_{g1}) / d_g`; its true-positive rate is
    :math:`\Phi(d_g / 2 - t_g)` and its false-positive rate
    :math:`\Phi(-d_g / 2 - t_g)`.

    Examples
    --------
    >>> from fairskorch.datasets import make_biased_classification
    >>> made = make_biased_classification(random_state=0)
    >>> made.data.shape
    (2000, 10)
    >>> round(made.bayes_accuracy, 3), round(made.bayes_equalized_odds_difference, 3)
    (0.844, 0.41)
    """
    check_int(n_samples, "n_samples", OWNER)
    n_groups = check_int(n_groups, "n_groups", OWNER)
    n_classes = check_int(n_classes, "n_classes", OWNER, minimum=2)
    check_choice(reveal_group, (True, False), "reveal_group", OWNER)
    n_indicators = n_groups if reveal_group else 0
    check_int(n_features, "n_features", OWNER, minimum=1 + n_indicators)
    tilt = np.linspace(0.0, 1.0, n_groups) if n_groups > 1 else np.zeros(1)
    if group_shares is None:
        group_shares = np.arange(n_groups, 0, -1) / (n_groups * (n_groups + 1) / 2)
    if class_shares is None:
        class_shares = 4.0 ** -np.outer(tilt, np.arange(n_classes))
        class_shares /= class_shares.sum(axis=1, keepdims=True)
    if separations is None:
        separations = 2.0 - 0.5 * tilt
    group_shares = _check_shares(group_shares, "group_shares", (n_groups,))
    shape = (n_groups, n_classes)
    class_shares = _check_shares(class_shares, "class_shares", shape)
    separations = _check_positive(separations, "separations", (n_groups,))

    means = separations[:, None] * (np.arange(n_classes) - (n_classes - 1) / 2)
    rules = _bayes_rules(group_shares, class_shares, means, reveal_group)
    rates = np.stack([_rates(r, m) for r, m in zip(rules, means, strict=True)])
    rng = check_random_state(random_state)
    group = rng.choice(n_groups, size=n_samples, p=group_shares)
    below = np.cumsum(class_shares, axis=1)[group, :-1]
    target = (rng.uniform(size=(n_samples, 1)) > below).sum(axis=1)
    normal = rng.standard_normal((n_samples, n_features - n_indicators))
    normal[:, 0] += means[group, target]
    bayes_target = np.empty(n_samples, dtype=np.int64)
    for g, (edges, winners) in enumerate(rules):
        rows = group == g
        bayes_target[rows] = winners[np.searchsorted(edges, normal[rows, 0])]
    rotation, _ = np.linalg.qr(rng.standard_normal((normal.shape[1],) * 2))
    indicators = np.eye(n_groups)[group][:, :n_indicators]
    return Bunch(
        data=np.hstack([normal @ rotation, indicators]),
        target=target.astype(np.int64),
        sensitive_features=pd.DataFrame({"group": group}),
        subject=np.arange(n_samples),
        target_names=np.array([f"class {k}" for k in range(n_classes)]),
        bayes_target=bayes_target,
        bayes_rates=rates,
        **_bayes_values(rates, group_shares, class_shares),
        DESCR=DESCR,
    )


def _check_positive(values, name, shape):
    array = np.asarray(values)
    sound = array.shape == shape and array.dtype.kind in "fiu"
    if not (sound and np.isfinite(array).all() and (array > 0).all()):
        raise ValueError(
            f"The {name!r} parameter of {OWNER} must hold finite numbers above 0 in "
            f"the shape {shape}. Got {values!r} instead."
        )
    return array.astype(float)


def _check_shares(values, name, shape):
    array = _check_positive(values, name, shape)
    if not np.allclose(array.sum(axis=-1), 1.0):
        raise ValueError(
            f"The {name!r} parameter of {OWNER} must sum to 1 along its last axis. "
            f"Got {values!r} instead."
        )
    return array / array.sum(axis=-1, keepdims=True)


def _bayes_rules(group_shares, class_shares, means, reveal_group):
    """Return for each group where the score changes class, and the classes between."""
    weights = np.log(group_shares[:, None] * class_shares)
    if not reveal_group:
        return [_rule(weights, means)] * len(means)
    return [_rule(w[None], m[None]) for w, m in zip(weights, means, strict=True)]


def _rule(weights, means):
    """Find the intervals of the score on which one class wins.

    Parameters
    ----------
    weights, means : ndarray of shape (n_mixed, n_classes)
        Log weight and mean of each component; a class's density sums its column.

    Returns
    -------
    edges : ndarray of shape (n_intervals - 1,)
    winners : ndarray of shape (n_intervals,)
    """

    def log_density(score):
        parts = weights - (np.asarray(score)[..., None, None] - means) ** 2 / 2
        return logsumexp(parts, axis=-2)

    grid = np.linspace(means.min() - 40, means.max() + 40, 100_001)
    best = log_density(grid).argmax(axis=1)
    winners, edges = [best[0]], []
    for i in np.flatnonzero(np.diff(best)):
        a, b = best[i], best[i + 1]

        def lead(score, a=a, b=b):
            density = log_density(score)
            return density[a] - density[b]

        edges.append(brentq(lead, grid[i], grid[i + 1], xtol=1e-13))
        winners.append(b)
    return np.array(edges), np.array(winners)


def _rates(rule, means):
    """Probability of each prediction (last axis) for each class of one group."""
    edges, winners = rule
    below = norm.cdf(edges[None, :] - means[:, None])
    k = len(means)
    mass = np.diff(np.hstack([np.zeros((k, 1)), below, np.ones((k, 1))]), axis=1)
    rates = np.zeros((k, k))
    np.add.at(rates.T, winners, mass.T)
    return rates


def _bayes_values(rates, group_shares, class_shares):
    """Accuracy and gaps from the rates and the shares of all cells."""
    cells = group_shares[:, None] * class_shares
    recall = np.einsum("gkk->gk", rates)
    pooled = (cells * recall).sum(axis=0) / cells.sum(axis=0)
    selected = np.einsum("gk,gkj->gj", class_shares, rates)
    false = (selected - class_shares * recall) / (1 - class_shares)
    # One class against the other: the gaps of class 1 say all.
    counted = slice(1, None) if class_shares.shape[1] == 2 else slice(None)
    parity, opportunity, false = (
        float(np.ptp(rate[:, counted], axis=0).max())
        for rate in (selected, recall, false)
    )
    return {
        "bayes_accuracy": float((cells * recall).sum()),
        "bayes_balanced_accuracy": float(pooled.mean()),
        "bayes_demographic_parity_difference": parity,
        "bayes_equal_opportunity_difference": opportunity,
        "bayes_equalized_odds_difference": max(opportunity, false),
    }
