"""The estimators that fit a new last layer on the features of a fitted network."""

from numbers import Integral, Real

import numpy as np
import torch

from fairskorch import _preparation as prep
from fairskorch import _settings
from fairskorch._features import indexable
from fairskorch._fine_tuning import FineTuner
from fairskorch._validation import Interval, StrOptions, fit_context

__all__ = ["FairLastLayerClassifier"]


class FairLastLayerClassifier(FineTuner):
    """A new last layer for a fitted network, trained under a group penalty.

    The network computes the inputs of its last linear layer once, in eval mode. A new
    linear layer is then trained on these features, on rows that are balanced over cells
    of group and class, and takes the place of the old one. The wrapped network is never
    changed. Groups are needed to train, never to predict.

    Read more in the :ref:`user guide <last_layer>`.

    Parameters
    ----------
    estimator : estimator
        A `FairNeuralClassifier` or skorch classifier. Inside a
        `sklearn.frozen.FrozenEstimator` it is fitted and stays as it is, be it the last
        step of a pipeline; else it is cloned and fitted on the rows that are not kept.
    penalty : {"dp", "di", "eopp", "eo", "ae", "mmf", "mindiff"}, type or None, \
            default="eo"
        What is penalised, as in `FairNeuralClassifier`. Its parameters are
        ``penalty__reduction`` and so on.
    penalty_weight : float, default=2.0
        Weight of the penalty, at least 0; for "mmf" in [0, 1].
    balance : {"cells", "weights"} or None, default="cells"
        ``"cells"`` draws as many rows of every cell of group and class as the smallest
        one has, once and without replacement. ``"weights"`` keeps all rows, and lets
        every cell count alike in task loss and rates. Rows of unknown group are in no
        cell and left out by both; without groups, classes are balanced. None takes the
        rows as they are.
    class_weight : None, "balanced" or dict, default="balanced"
        Weights of classes in the task loss, of the rows that are trained on. On
        balanced rows they are all alike.
    init : {"fresh", "warm"}, default="fresh"
        Start from random weights, or from those of the network's own last layer.
    n_draws : int, default=1
        Balanced draws; a layer is trained on each, and their coefficients are averaged.
    head : str, default="auto"
        Name of the last linear layer among the network's modules. ``"auto"`` takes the
        one whose outputs the network returns.
    fine_tune_fraction : float or splitter, default=0.2
        Share of rows, the same of every group and class, that an unfitted estimator
        does not get, for fine-tuning. Of a splitter the first split is taken, which is
        called with X and y alone; its test rows are fine-tuned on.
    optimizer : type, default=torch.optim.SGD
        A class of `torch.optim`, which is given gradients only. SGD has momentum 0.9
        and weight decay 5e-4 unless ``optimizer__momentum`` and
        ``optimizer__weight_decay`` say otherwise.
    lr : float, default=1e-2
        Learning rate.
    max_epochs : int, default=1000
        Passes over the rows.
    batch_size : "auto" or int, default="auto"
        Largest number of rows in a batch; ``"auto"`` is all rows at once.
    precision : {"auto", "float32", "float64"}, default="auto"
        Type that the layer is trained in; ``"auto"`` is that of the features.
    device : "auto" or str, default="auto"
        Where the layer is trained; ``"auto"`` is CUDA, else MPS, else the CPU. The
        network runs where it is.
    random_state : int, RandomState or None, default=None
        Seeds the kept rows, the balanced draws, initial weights and batches, and an
        unfitted estimator that has no `random_state`.
    verbose : int, default=0
        1 shows a progress bar over epochs.
    **kwargs
        Parameters of parts: ``penalty__`` and ``optimizer__``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    groups_ : ndarray of shape (n_groups,) or None
        Group labels in code order, tuples where columns are crossed.
    group_counts_ : DataFrame of shape (n_groups, n_classes) or None
        Rows that the new layer was trained on, after `balance`, by group and class;
        those of one draw.
    estimator_ : estimator
        The fitted estimator around the network.
    head_ : str
        Name of the network's last linear layer.
    coef_ : ndarray of shape (n_classes, n_features)
        Weights of the new layer.
    intercept_ : ndarray of shape (n_classes,)
        Its bias.
    history_ : DataFrame
        At most twenty rows: the epoch, and loss, penalty, accuracy, balanced accuracy
        and the gap that belongs to the penalty on the rows that were trained on, all
        unweighted.
    n_iter_ : int
        Epochs that were trained.
    device_ : str
        Where the layer was trained.
    n_features_in_ : int
        Numbers in a row of X, where `estimator_` knows it.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of X, where `estimator_` knows them.

    See Also
    --------
    FairNeuralClassifier : Trains the whole network under a penalty.

    Notes
    -----
    Probabilities refer to the balanced population.

    References
    ----------
    .. [1] Mao, Deng, Yao, Ye, Kawaguchi, Zou. Last-Layer Fairness Fine-tuning is
       Simple and Effective for Neural Networks. arXiv:2304.03935, 2023.

    Examples
    --------
    >>> from sklearn.frozen import FrozenEstimator
    >>> from fairskorch import FairLastLayerClassifier, FairNeuralClassifier
    >>> from fairskorch.datasets import make_biased_classification
    >>> data = make_biased_classification(n_samples=900, random_state=0)
    >>> X, y, groups = data.data, data.target, data.sensitive_features["group"]
    >>> plain = FairNeuralClassifier(penalty=None, max_epochs=5, random_state=0)
    >>> plain = plain.fit(X[:500], y[:500])
    >>> clf = FairLastLayerClassifier(
    ...     FrozenEstimator(plain), max_epochs=200, random_state=0
    ... )
    >>> clf = clf.fit(X[500:], y[500:], groups[500:])
    >>> clf.predict_proba(X).shape
    (900, 2)
    >>> bool((clf.group_counts_ == clf.group_counts_.iloc[0, 0]).all(axis=None))
    True
    """

    _parameter_constraints: dict = {
        **FineTuner._parameter_constraints,
        "penalty_weight": [Interval(Real, 0, None, closed="left")],
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
        penalty_weight=2.0,
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
        self.penalty_weight = penalty_weight
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
        """Fit the estimator if need be, and a new last layer on the rows kept.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor or Dataset
            Rows of the kind that `estimator` takes. Where it is frozen, all of them are
            fine-tuned on.
        y : array-like of shape (n_samples,)
            Classes, of any labels.
        groups : array-like of shape (n_samples,) or (n_samples, k), optional
            Group of each row, needed for a penalty, as in `FairNeuralClassifier`.
        sensitive_features : array-like, optional
            Another name of `groups`, the one that metadata routing passes on.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of rows in the task loss; rates are never weighted by them. Rows of
            weight 0 are left out altogether.

        Returns
        -------
        self : FairLastLayerClassifier

        Raises
        ------
        ValueError
            For input that cannot be trained on, and a network whose last layer cannot
            be found or replaced; nothing is changed then.
        NonFiniteLossError
            When weights become NaN or infinite; nothing is changed then.

        Warns
        -----
        EmptyCellWarning
            When a group has no row of some class to fine-tune on.
        ConstantPredictionWarning
            When one class is predicted for every row in the end.
        """
        groups = prep.given_groups(self._owner, "fit", groups, sensitive_features)
        X = indexable(X)
        with self._unchanged_on_error():
            rows, given_y = self._coded_rows(
                X, y, groups, sample_weight, self.penalty_weight
            )
            seed = _settings.draw_seed(self.random_state)
            device = _settings.pick_device(self._owner, self.device)
            with _settings.own_randomness(seed, device):
                rows = self._fit_estimator(
                    X, given_y, groups, sample_weight, rows, seed
                )
                self._fit_last_layer(X, rows, seed)
        return self

    def _fit_last_layer(self, X, rows, seed):
        everyone = np.arange(len(rows))
        sets = self._row_sets(rows, everyone, seed, self.n_draws)
        self._count(rows, sets[0].rows)
        used = np.unique(np.concatenate([s.rows for s in sets]))
        data = self._cached(X, rows.subset(used))
        sets = [s._replace(rows=np.searchsorted(used, s.rows)) for s in sets]
        self._train_layer(data, sets, self.penalty_weight, seed)
