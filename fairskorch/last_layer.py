"""The estimators that fit a new last layer on the features of a fitted network."""

from numbers import Integral, Real

import numpy as np
import torch

from fairskorch import _preparation as prep
from fairskorch import _settings
from fairskorch._features import indexable
from fairskorch._fine_tuning import FineTuner, looks
from fairskorch._scopes import choose_parameters, train_part
from fairskorch._validation import Interval, StrOptions, fit_context

__all__ = ["FairLastLayerClassifier"]


class FairLastLayerClassifier(FineTuner):
    """A new last layer for a fitted network, trained under a group penalty.

    The network computes the inputs of its last linear layer once, in eval mode. A new
    linear layer is then trained on these features, on rows that are balanced over cells
    of group and class, and takes the place of the old one [1]_. The wrapped network is
    never changed. Groups are needed to train, never to predict.

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
    scope : {"last_layer", "batch_norm", "all"} or callable, default="last_layer"
        What is trained. ``"last_layer"`` works on features that are computed once. Else
        a copy of the network is trained, with all other parameters, and statistics of
        batch norm that belongs to none of them, as they are: ``"batch_norm"`` is batch
        norm and the last layer, a callable gets the name of a parameter and says
        whether it is trained.
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
        Start from random weights, or from those of the network's own last layer, which
        must be for the same classes.
    n_draws : int, default=1
        Balanced draws; a layer is trained on each, and their coefficients are averaged.
        Other scopes have one.
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
        Largest number of rows in a batch; ``"auto"`` is all rows at once for the last
        layer, and 128 for other scopes.
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
    net_ : skorch.NeuralNet or None
        The net around the copy that was trained, where `scope` is not "last_layer".
    overlap_ : float
        Share of the rows that the network was trained on, of a sample of 512, that the
        new layer was fitted on, too: 0 where `fit` kept them apart, nan where the
        estimator cannot tell, as a plain skorch net. Above 0 it is also logged.
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
        "scope": [StrOptions({"last_layer", "batch_norm", "all"}), callable],
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
        scope="last_layer",
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
        self.scope = scope
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
                if self.scope == "last_layer":
                    self._fit_last_layer(X, rows, seed)
                else:
                    self._fit_scope(X, rows, seed)
        return self

    def _fit_last_layer(self, X, rows, seed):
        self.net_ = None
        everyone = np.arange(len(rows))
        sets = self._row_sets(rows, everyone, seed, self.n_draws)
        self._count(rows, sets[0].rows)
        used = np.unique(np.concatenate([s.rows for s in sets]))
        data = self._cached(X, rows.subset(used))
        sets = [s._replace(rows=np.searchsorted(used, s.rows)) for s in sets]
        self._train_layer(data, sets, self.penalty_weight, seed)

    def _fit_scope(self, X, rows, seed):
        """Train a part of a copied network on the balanced rows."""
        if self.n_draws > 1:
            raise ValueError(
                f"n_draws={self.n_draws} of {self._owner} averages last layers; with "
                f"scope={self.scope!r} there is one draw."
            )
        (chosen,) = self._row_sets(rows, np.arange(len(rows)), seed, 1)
        self._count(rows, chosen.rows)
        self.device_ = _settings.pick_device(self._owner, self.device)
        backbone = self._backbone()
        numbers = rows.index.numpy()[chosen.rows]
        self.head_ = backbone.find_head(backbone.rows(X, numbers), self.head)
        read = backbone.tunable_rows(X, numbers)
        if not backbone.says_logits:
            raise ValueError(
                f"scope={self.scope!r} of {self._owner} trains the network on the "
                "cross-entropy of its outputs, which must be logits of all classes."
            )
        self._learn_format(backbone)
        self._report_overlap(backbone, read)
        part = rows.subset(chosen.rows)
        read = read.labelled(part.y, part.groups, chosen.weight)
        old = backbone.layer(self.head_).weight
        n_classes = len(self.classes_)
        module = backbone.with_head(
            self.head_, *self._start(old.detach(), n_classes, seed)
        )
        choose_parameters(self._owner, module, self.scope, self.head_, self.init)
        n_groups = 0 if self.groups_ is None else len(self.groups_)
        params = {**self._params_of("penalty"), "n_groups": n_groups}
        params = {} if self._penalty_class is None else params
        self.net_, self.history_, self.n_iter_ = train_part(
            module,
            read,
            (self._penalty_class, params, self.penalty_weight),
            n_classes,
            self._training(seed),
            looks(self.max_epochs),
            self.device_,
        )
        layer = self.net_.module_.get_submodule(self.head_)
        self.coef_ = layer.weight.detach().cpu().numpy().copy()
        self.intercept_ = layer.bias.detach().cpu().numpy().copy()
        predicted = [part.argmax(1).cpu() for part in self.net_.forward_iter(read)]
        self._warn_of_one_class(torch.cat(predicted).numpy())
