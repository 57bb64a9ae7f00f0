"""All penalty weights and folds of a new last layer as one batched problem."""

from numbers import Integral

import numpy as np
import torch

from fairskorch import _paths, _settings
from fairskorch import _preparation as prep
from fairskorch._features import indexable
from fairskorch._fine_tuning import FineTuner
from fairskorch._head_scores import score_heads
from fairskorch._heads import Heads, evaluate_heads, train_heads
from fairskorch._validation import (
    Interval,
    InvalidParameterError,
    StrOptions,
    fit_context,
)

__all__ = ["FairLastLayerClassifierCV"]


class FairLastLayerClassifierCV(FineTuner):
    """A new last layer whose penalty weight is chosen by cross-validation.

    The features of all rows are computed once. Then every weight on every fold is one
    head of one batched problem: a thousand of them take little longer than one. Each is
    the layer that `FairLastLayerClassifier` would fit on the training rows of its fold.
    In the end a layer with the chosen weight is trained on all rows.

    Read more in the :ref:`user guide <last_layer>`.

    Parameters
    ----------
    estimator : estimator
        As in `FairLastLayerClassifier`.
    penalty : {"dp", "di", "eopp", "eo", "ae", "mmf", "mindiff"} or type, \
            default="eo"
        As in `FairNeuralClassifier`.
    penalty_weights : int or array-like of shape (n_weights,), default=10
        The weights; a number n stands for 0 and n - 1 of them from 0.01 to 10 (to 1 for
        "mmf"), evenly spaced on a log scale.
    cv : int, splitter or iterable, default=5
        A number of folds, which all have the same share of every cell of group and
        class, as nearly as its rows allow. A splitter is called with X and y alone, and
        its folds, as those of an iterable of train and test row numbers, refer to the
        rows given to `fit`.
    scoring : None, str or callable, default=None
        What is scored on held-out rows; None is balanced accuracy. A scorer sees the
        features in the place of X, and the groups where it requests
        ``sensitive_features``.
    refit : str or callable, default="score"
        Which weight is taken: the one with the best mean held-out value of the score of
        that name, one of `path_`, as scikit-learn does and without regard to anything
        else; or by a rule of `fairskorch.selection`, or any callable that gets `path_`
        and returns the position of a row. Metrics that a rule names are added to
        `path_`.
    balance : {"cells", "weights"} or None, default="cells"
        As in `FairLastLayerClassifier`, within the training rows of each fold.
    class_weight : None, "balanced" or dict, default="balanced"
        Weights of classes in the task loss.
    init : {"fresh", "warm"}, default="fresh"
        Start from random weights, or from those of the network's own last layer, which
        must be for the same classes.
    n_draws : int, default=1
        Balanced draws; coefficients of a layer on each are averaged.
    head : str, default="auto"
        Name of the last linear layer.
    fine_tune_fraction : float or splitter, default=0.2
        Share of rows that an unfitted estimator does not get.
    optimizer : type, default=torch.optim.SGD
        A class of `torch.optim` that moves every weight by itself, as SGD and Adam do;
        otherwise heads would not be independent.
    lr : float, default=1e-2
        Learning rate.
    max_epochs : int, default=1000
        Passes over the rows.
    batch_size : "auto" or int, default="auto"
        Largest number of rows in a batch; ``"auto"`` is all rows at once.
    precision : {"auto", "float32", "float64"}, default="auto"
        Type that layers are trained in; ``"auto"`` is that of the features.
    device : "auto" or str, default="auto"
        Where layers are trained.
    random_state : int, RandomState or None, default=None
        As in `FairLastLayerClassifier`; every head starts from the same weights.
    verbose : int, default=0
        1 shows a progress bar over the epochs of the last fit.
    **kwargs
        Parameters of parts: ``penalty__`` and ``optimizer__``.

    Attributes
    ----------
    penalty_weights_ : ndarray of shape (n_weights,)
        The weights.
    scores_ : ndarray of shape (n_folds, n_weights)
        Score of the held-out rows of each fold.
    disparities_ : ndarray of shape (n_folds, n_weights)
        Gap that belongs to the penalty on the held-out rows, nan where a fold cannot
        tell it.
    path_ : DataFrame of n_weights rows
        ``penalty_weight``; means over folds of loss, penalty, accuracy, balanced
        accuracy and gap, as ``train_<name>`` on the rows that were trained on and
        ``valid_<name>`` on held-out rows; ``overfit_<name>``, held-out minus train, of
        the metrics; ``valid_score``; and ``valid_<name>_se``, the standard error of the
        mean over folds. A fold that is nan makes the mean nan.
    penalty_weight_ : float
        The weight that was chosen.
    coef_ : ndarray of shape (n_classes, n_features)
        Weights of the new layer.
    intercept_ : ndarray of shape (n_classes,)
        Its bias.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    groups_ : ndarray of shape (n_groups,)
        Group labels in code order, tuples where columns are crossed.
    group_counts_ : DataFrame of shape (n_groups, n_classes)
        Rows that the last layer was trained on, after `balance`.
    estimator_ : estimator
        The fitted estimator around the network.
    overlap_ : float
        Share of the rows that the network was trained on, of a sample of 512, that the
        new layer was fitted on, too: 0 where `fit` kept them apart, nan where the
        estimator cannot tell, as a plain skorch net. Above 0 it is also logged.
    head_ : str
        Name of the network's last linear layer.
    history_ : DataFrame
        Of the last fit, as in `FairLastLayerClassifier`.
    n_iter_ : int
        Epochs that were trained.
    device_ : str
        Where layers were trained.
    n_features_in_ : int
        Numbers in a row of X, where `estimator_` knows it.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of X, where `estimator_` knows them.

    See Also
    --------
    FairLastLayerClassifier : One penalty weight.

    Notes
    -----
    The chosen score is the best of many on the same rows and looks better than it is:
    measure on rows that chose nothing.

    Examples
    --------
    >>> from sklearn.frozen import FrozenEstimator
    >>> from fairskorch import FairLastLayerClassifierCV, FairNeuralClassifier
    >>> from fairskorch.datasets import make_biased_classification
    >>> data = make_biased_classification(n_samples=900, random_state=0)
    >>> X, y, groups = data.data, data.target, data.sensitive_features["group"]
    >>> plain = FairNeuralClassifier(penalty=None, max_epochs=5, random_state=0)
    >>> plain = plain.fit(X[:400], y[:400])
    >>> from fairskorch.selection import fairest_within
    >>> search = FairLastLayerClassifierCV(
    ...     FrozenEstimator(plain), refit=fairest_within(0.02), max_epochs=100,
    ...     random_state=0,
    ... )
    >>> search = search.fit(X[400:], y[400:], groups[400:])
    >>> search.scores_.shape
    (5, 10)
    >>> search.penalty_weight_ in search.penalty_weights_
    True
    """

    _parameter_constraints: dict = {
        **FineTuner._parameter_constraints,
        "penalty_weights": [
            Interval(Integral, 2, None, closed="left"),
            "array-like",
        ],
        "cv": ["cv_object"],
        "scoring": [None, str, callable],
        "refit": [str, callable],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
    }

    def __init__(
        self,
        estimator,
        *,
        penalty="eo",
        penalty_weights=10,
        cv=5,
        scoring=None,
        refit="score",
        balance="cells",
        class_weight="balanced",
        init="fresh",
        n_draws=1,
        head="auto",
        fine_tune_fraction=0.2,
        optimizer=torch.optim.SGD,
        lr=1e-2,
        max_epochs=1000,
        batch_size="auto",
        precision="auto",
        device="auto",
        random_state=None,
        verbose=0,
        **kwargs,
    ):
        self.estimator = estimator
        self.penalty = penalty
        self.penalty_weights = penalty_weights
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.balance = balance
        self.class_weight = class_weight
        self.init = init
        self.n_draws = n_draws
        self.head = head
        self.fine_tune_fraction = fine_tune_fraction
        self.optimizer = optimizer
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.precision = precision
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self._take(kwargs)

    @fit_context
    def fit(
        self, X, y=None, groups=None, *, sensitive_features=None, sample_weight=None
    ):
        """Fit the estimator if need be, search the weight and fit a new last layer.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor or Dataset
            Rows of the kind that `estimator` takes.
        y : array-like of shape (n_samples,)
            Classes, of any labels.
        groups : array-like of shape (n_samples,) or (n_samples, k)
            Group of each row, as in `FairNeuralClassifier`.
        sensitive_features : array-like, optional
            Another name of `groups`, the one that metadata routing passes on.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of rows in the task loss; scores and rates are unweighted.

        Returns
        -------
        self : FairLastLayerClassifierCV

        Raises
        ------
        ValueError
            For input that cannot be trained on, folds that leave a part without rows,
            and a rule that returns no position; nothing is changed then.
        """
        groups = prep.given_groups(self._owner, "fit", groups, sensitive_features)
        X = indexable(X)
        with self._unchanged_on_error():
            weights = self._weights()
            _paths.check_search(self)
            _paths.rule_metrics(self._owner, self.refit)
            rows, given_y = self._coded_rows(X, y, groups, sample_weight, max(weights))
            seed = _settings.draw_seed(self.random_state)
            device = _settings.pick_device(self._owner, self.device)
            with _settings.own_randomness(seed, device):
                rows = self._fit_estimator(
                    X, given_y, groups, sample_weight, rows, seed
                )
                self._search(X, given_y, rows, weights, seed)
        return self

    def _weights(self):
        """Return the weights that are tried."""
        if self.penalty is None:
            raise InvalidParameterError(
                f"The 'penalty' parameter of {self._owner} must not be None: its "
                "weights are searched. FairLastLayerClassifier fits without one."
            )
        return _paths.pick_weights(self._owner, self.penalty, self.penalty_weights)

    def _search(self, X, y, rows, weights, seed):
        folds = _paths.split_folds(self._owner, self.cv, rows, y)
        data = self._cached(X, rows)
        sets = [
            part
            for train, _ in folds
            for part in self._row_sets(rows, train, seed, self.n_draws)
        ]
        heads = train_heads(
            data,
            sets,
            self._built_penalty(data),
            torch.as_tensor(weights),
            self._start(data.features, data.n_classes, seed),
            self._training(seed),
        )
        by_fold = (len(folds), self.n_draws)
        heads = Heads(*(part.unflatten(0, by_fold).mean(1) for part in heads))
        self._record(data, rows, heads, folds, sets[:: self.n_draws], weights)
        chosen = _paths.choose_row(self._owner, self.refit, self.path_)
        self.penalty_weight_ = float(weights[chosen])
        sets = self._row_sets(rows, np.arange(len(rows)), seed, self.n_draws)
        self._count(rows, sets[0].rows)
        self._train_layer(data, sets, self.penalty_weight_, seed)

    def _record(self, data, rows, heads, folds, sets, weights):
        penalty = self._built_penalty(data)
        more = _paths.rule_metrics(self._owner, self.refit)
        train, valid = (
            evaluate_heads(data, heads, rows, penalty, more)
            for rows in ([part.rows for part in sets], [test for _, test in folds])
        )
        self.penalty_weights_ = weights
        self.disparities_ = valid[penalty.metric]
        if self.scoring is None:
            self.scores_ = valid["balanced_accuracy"]
        else:
            held_out = [test for _, test in folds]
            labels = self.classes_, self.groups_
            self.scores_ = score_heads(
                self._owner, data, heads, held_out, labels, self.scoring
            )
        self.path_ = _paths.path_frame(weights, train, valid, self.scores_)
