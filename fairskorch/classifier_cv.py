"""A network under a group penalty whose weight is chosen by cross-validation."""

from numbers import Integral

import numpy as np
import torch
from sklearn.model_selection import check_cv
from sklearn.utils.metadata_routing import UNUSED, MetadataRouter, MethodMapping
from torch.utils.data import Dataset

from fairskorch import _paths, _settings
from fairskorch import _preparation as prep
from fairskorch._features import indexable
from fairskorch._network_paths import Data, NetworkPath
from fairskorch._neural import NeuralClassifier
from fairskorch._validation import (
    Interval,
    StrOptions,
    check_nested_names,
    fit_context,
)
from fairskorch.classifier import FairNeuralClassifier
from fairskorch.groups import as_frame

__all__ = ["FairNeuralClassifierCV"]

#: Parameters of the network's own estimator that a search sets itself.
SEARCHED = ("penalty_weight", "warm_start")


class FairNeuralClassifierCV(NeuralClassifier):
    """A network whose penalty weight is chosen by cross-validation.

    Every weight is trained on the training rows of every fold and measured on both
    sides of the split; each of these networks is the one that `FairNeuralClassifier`
    would fit there. In the end a network with the chosen weight is fitted on all rows.

    Where the module allows it, networks of all weights and folds are trained in the
    same steps: on a CPU an MLP takes a fraction of the time. Else they are trained one
    after another. Results agree up to rounding; one line of the log says which.

    Read more in the :ref:`user guide <penalty_path>`.

    Parameters
    ----------
    module : "auto", type, callable or torch.nn.Module, default="auto"
        As in `FairNeuralClassifier`.
    penalty : {"dp", "di", "eopp", "eo", "ae", "mmf", "mindiff"}, type or None, \
            default="eo"
        As in `FairNeuralClassifier`; with None there is one candidate, of weight 0.
    penalty_weights : int or array-like of shape (n_weights,), default=10
        The weights; a number n stands for 0 and n - 1 of them from 0.01 to 10 (to 1 for
        "mmf"), evenly spaced on a log scale.
    cv : int, splitter or iterable, default=5
        A number of folds, which all have the same share of every cell of group and
        class, as nearly as its rows and subjects allow. A splitter gets X, y and
        `subjects`; its folds, as those of an iterable of train and test row numbers,
        refer to the rows given to `fit`.
    scoring : None, str or callable, default=None
        What is scored on held-out rows; None is balanced accuracy. A scorer gets the
        groups where it requests ``sensitive_features``.
    refit : str or callable, default="score"
        Which weight is taken: the one with the best mean held-out value of the score of
        that name, one of `path_`; or by a rule of `fairskorch.selection`, or any
        callable that gets `path_` and returns the position of a row. Metrics that a
        rule names are added to `path_`.
    stack : {"auto", True, False}, default="auto"
        Whether networks are trained side by side. ``"auto"`` does so on a CPU where
        they are made of linear layers and functions of single numbers, and on CUDA
        where a short measurement says that it is faster. With True a warning of the log
        says where the module, or another parameter, does not allow it.
    penalty_data : {"train", "holdout"}, default="train"
        Rows that the penalty is computed on, as in `FairNeuralClassifier`.
    penalty_fraction : float or splitter, default=0.2
        With "holdout", the share of the training rows that is kept for the penalty.
    penalty_attributes : list of str or None, default=None
        Columns of the groups that are crossed for penalty and sampler.
    penalty_warmup : "auto", int or float, default="auto"
        Epochs (int) or share of `max_epochs` (float) over which the weight ramps up.
    penalty_schedule : {"constant", "ascent"}, Ascent or callable, default="constant"
        How the weight moves beside the ramp.
    criterion : type, default=torch.nn.CrossEntropyLoss
        The task loss.
    flood : float or None, default=None
        Level that the task loss of a batch is kept around.
    optimizer : type, default=torch.optim.AdamW
        A class of `torch.optim`.
    lr : "auto" or float, default="auto"
        Learning rate, as in `FairNeuralClassifier`.
    ema_decay : float or None, default=None
        Decay of a running mean of the weights, which is then predicted with.
    max_epochs : int, default=20
        Passes over the training rows.
    batch_size : int, default=128
        Largest number of rows in a batch.
    sampler : {"auto", "shuffle", "stratified", "balanced_classes", \
            "balanced_cells"}, default="auto"
        How batches are drawn, as in `FairNeuralClassifier`.
    augment : callable, {"flip", "shift", "flip+shift"} or None, default=None
        Random changes to training images.
    channels : {"auto", "first", "last"}, default="auto"
        Where 4-D images have their channels.
    class_weight : None, "balanced" or dict, default=None
        Weights of classes in the task loss.
    validation_fraction : float or splitter, default=0
        Share of the training rows that every fit holds out to monitor, the last one
        too. None by default: the folds hold out rows already.
    prior_correction : bool, default=False
        As in `FairNeuralClassifier`; scores and gaps are of corrected predictions.
    monitor : {"sample", "all"} or None, default="sample"
        As in `FairNeuralClassifier`, for the last fit.
    monitor_metrics, monitor_attributes : list or None, default=None
        As in `FairNeuralClassifier`, for `history_`.
    early_stopping : str, callable or None, default=None
        By what each fit chooses its epoch, on the rows that its `validation_fraction`
        holds out, as in `FairNeuralClassifier`.
    patience : int or None, default=5
        Epochs without a better one after which `early_stopping` ends training.
    accuracy_drop : float, default=0.01
        Balanced accuracy that a better value of `early_stopping` may cost.
    callbacks : list or None, default=None
        Callbacks of skorch, for every fit.
    device : "auto" or str, default="auto"
        As in `FairNeuralClassifier`.
    precision : {"auto", "float32", "bfloat16", "float64"}, default="auto"
        As in `FairNeuralClassifier`.
    capture : {"auto", True, False}, default="auto"
        Whether steps on CUDA are captured, of networks that are trained alone.
    random_state : int, RandomState or None, default=None
        Seed of every fit: all weights start from the same network and see the same
        batches.
    verbose : int, default=0
        1 shows a progress bar.
    **kwargs
        Parameters of parts, as in `FairNeuralClassifier`.

    Attributes
    ----------
    penalty_weights_ : ndarray of shape (n_weights,)
        The weights.
    scores_ : ndarray of shape (n_folds, n_weights)
        Score of the held-out rows of each fold.
    disparities_ : ndarray of shape (n_folds, n_weights)
        Gap that belongs to the penalty on the held-out rows, nan where a fold cannot
        tell it; without groups nan throughout.
    path_ : DataFrame of n_weights rows
        ``penalty_weight``; means over folds of loss, penalty, accuracy, balanced
        accuracy and gap, as ``train_<name>`` on the rows that were trained on and
        ``valid_<name>`` on held-out rows; ``overfit_<name>``, held-out minus train, of
        the metrics; ``valid_score``; and ``valid_<name>_se``, the standard error of the
        mean over folds. A fold that is nan makes the mean nan.
    penalty_weight_ : float
        The weight that was chosen.
    stacked_ : bool
        Whether networks were trained side by side.
    best_estimator_ : FairNeuralClassifier
        The network with the chosen weight, fitted on all rows. It predicts, and its
        fitted attributes are also those of the search: `net_`, `history_`, `n_iter_`,
        `best_epoch_`, `lr_`, `sampler_`, `penalty_warmup_`, `precision_` and `device_`.
    net_ : fairskorch.nets.GroupPenaltyNet
        The skorch net of `best_estimator_`.
    history_ : DataFrame
        Its history, one row an epoch.
    n_iter_ : int
        Its epochs.
    best_epoch_ : int or None
        Its epoch whose weights `early_stopping` kept.
    lr_, sampler_, penalty_warmup_, precision_, device_ : float or str
        What ``"auto"`` became.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    groups_ : ndarray of shape (n_groups,) or None
        Group labels in code order, tuples where columns are crossed.
    group_counts_ : DataFrame of shape (n_groups, n_classes) or None
        Rows given to `fit`, by group and class.
    n_features_in_ : int
        Numbers in a row of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of X, where it has names that are strings.

    See Also
    --------
    FairNeuralClassifier : One penalty weight.
    FairLastLayerClassifierCV : The same for a new last layer of a fitted network.
    fairskorch.display.ParetoFrontDisplay : Draws the path.

    Notes
    -----
    The chosen score is the best of many on the same rows and looks better than it is:
    measure on rows that chose nothing.

    A network whose loss becomes NaN or infinite has nan scores, which no rule chooses.

    Examples
    --------
    >>> from fairskorch import FairNeuralClassifierCV
    >>> from fairskorch.datasets import make_biased_classification
    >>> from fairskorch.selection import fairest_within
    >>> data = make_biased_classification(n_samples=600, random_state=0)
    >>> X, y, groups = data.data, data.target, data.sensitive_features["group"]
    >>> search = FairNeuralClassifierCV(
    ...     penalty_weights=[0, 0.5, 2], cv=3, refit=fairest_within(0.02),
    ...     max_epochs=5, random_state=0,
    ... )
    >>> search = search.fit(X, y, groups)
    >>> search.scores_.shape, search.disparities_.shape
    ((3, 3), (3, 3))
    >>> search.penalty_weight_ in search.penalty_weights_
    True
    """

    # The name `groups` is the splitter's; routing asks for the other.
    __metadata_request__fit = {"groups": UNUSED}

    _parameter_constraints: dict = {
        **{
            name: constraint
            for name, constraint in FairNeuralClassifier._parameter_constraints.items()
            if name not in SEARCHED
        },
        "penalty_weights": [
            Interval(Integral, 2, None, closed="left"),
            "array-like",
        ],
        "cv": ["cv_object"],
        "scoring": [None, str, callable],
        "refit": [str, callable],
        "stack": [StrOptions({"auto"}), "boolean"],
    }

    def __init__(
        self,
        module="auto",
        *,
        penalty="eo",
        penalty_weights=10,
        cv=5,
        scoring=None,
        refit="score",
        stack="auto",
        penalty_data="train",
        penalty_fraction=0.2,
        penalty_attributes=None,
        penalty_warmup="auto",
        penalty_schedule="constant",
        criterion=torch.nn.CrossEntropyLoss,
        flood=None,
        optimizer=torch.optim.AdamW,
        lr="auto",
        ema_decay=None,
        max_epochs=20,
        batch_size=128,
        sampler="auto",
        augment=None,
        channels="auto",
        class_weight=None,
        validation_fraction=0,
        prior_correction=False,
        monitor="sample",
        monitor_metrics=None,
        monitor_attributes=None,
        early_stopping=None,
        patience=5,
        accuracy_drop=0.01,
        callbacks=None,
        device="auto",
        precision="auto",
        capture="auto",
        random_state=None,
        verbose=0,
        **kwargs,
    ):
        self.module = module
        self.penalty = penalty
        self.penalty_weights = penalty_weights
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.stack = stack
        self.penalty_data = penalty_data
        self.penalty_fraction = penalty_fraction
        self.penalty_attributes = penalty_attributes
        self.penalty_warmup = penalty_warmup
        self.penalty_schedule = penalty_schedule
        self.criterion = criterion
        self.flood = flood
        self.optimizer = optimizer
        self.lr = lr
        self.ema_decay = ema_decay
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.sampler = sampler
        self.augment = augment
        self.channels = channels
        self.class_weight = class_weight
        self.validation_fraction = validation_fraction
        self.prior_correction = prior_correction
        self.monitor = monitor
        self.monitor_metrics = monitor_metrics
        self.monitor_attributes = monitor_attributes
        self.early_stopping = early_stopping
        self.patience = patience
        self.accuracy_drop = accuracy_drop
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.capture = capture
        self.random_state = random_state
        self.verbose = verbose
        self._take(kwargs)

    @fit_context
    def fit(
        self,
        X,
        y=None,
        groups=None,
        *,
        sensitive_features=None,
        sample_weight=None,
        subjects=None,
    ):
        """Search the penalty weight, and fit a network with it on all rows.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor or Dataset
            Rows, as in `FairNeuralClassifier`.
        y : array-like of shape (n_samples,)
            Classes, of any labels.
        groups : array-like of shape (n_samples,) or (n_samples, k), optional
            Group of each row, needed for a penalty. Where `sensitive_features` is
            given as well and `cv` is a splitter that uses groups, such as
            `sklearn.model_selection.GroupKFold`, it stands for `subjects`: that is how
            the routing of scikit-learn hands them on.
        sensitive_features : array-like, optional
            Another name of `groups`, the one that metadata routing passes on.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of rows in the task loss; scores and rates are unweighted. Rows of
            weight 0 are left out altogether.
        subjects : array-like of shape (n_samples,), optional
            Whom each row shows. Rows of one subject are on one side of every fold, and
            of every division of rows inside a fit.

        Returns
        -------
        self : FairNeuralClassifierCV

        Raises
        ------
        ValueError
            For input that cannot be trained on, folds that leave a part without rows or
            a class, and a rule that returns no position; nothing is changed then.
        NonFiniteLossError
            When a network of each weight becomes NaN or infinite.

        Warns
        -----
        sklearn.exceptions.FitFailedWarning
            When networks become NaN or infinite.
        """
        strange = [name for name in self._extra_names() if "__" not in name]
        check_nested_names(self._owner, strange, {}, self._own_names())
        groups, subjects = self._both_groups(groups, sensitive_features, subjects)
        X = indexable(X)
        with self._unchanged_on_error():
            weights = self._weights()
            _paths.check_search(self)
            if self.early_stopping is not None and self.validation_fraction == 0:
                raise ValueError(
                    f"early_stopping of {self._owner} needs rows that every fit holds "
                    "out: a validation_fraction above 0."
                )
            metrics = _paths.rule_metrics(self._owner, self.refit)
            rows, y = self._training_rows(X, y, groups, sample_weight, going_on=False)
            subjects = prep.coded_subjects(self._owner, subjects, len(y))
            folds = self._folds(rows, y, subjects)
            seed = self.random_state
            if not isinstance(seed, Integral):
                seed = _settings.draw_seed(seed)
            template = self._template(random_state=int(seed))
            path = NetworkPath(
                self._owner,
                template,
                self._data(X, y, groups, sample_weight, subjects),
                rows,
                (self.classes_, self.groups_),
                folds,
                weights,
                metrics,
                self.scoring,
            )
            self.stacked_ = path.run(self.stack)
            self._record(path, weights)
            chosen = _paths.choose_row(self._owner, self.refit, self.path_)
            self.penalty_weight_ = float(weights[chosen])
            best = self._template(
                random_state=int(seed), penalty_weight=self.penalty_weight_
            )
            given = path.data.take(np.arange(len(y)))
            self.best_estimator_ = best.fit(**given)
            del best._named_as
            params = best.get_params(deep=False)
            learnt = {n: v for n, v in vars(best).items() if n not in params}
            vars(self).update(learnt)
        return self

    def get_metadata_routing(self):
        """Return which methods want which metadata.

        Returns
        -------
        routing : MetadataRouter
            `fit` takes what was requested of it, and `cv` takes ``groups`` where it is
            a splitter that uses them.
        """
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(
            splitter=check_cv(self.cv, classifier=True),
            method_mapping=MethodMapping().add(caller="fit", callee="split"),
        )

    def _both_groups(self, groups, sensitive_features, subjects):
        """Return the groups of the penalty, and whom the splitter keeps together."""
        if groups is None or sensitive_features is None:
            given = groups if sensitive_features is None else sensitive_features
            return given, subjects
        if not _paths.uses_groups(self.cv):
            # The message that all estimators have.
            prep.given_groups(self._owner, "fit", groups, sensitive_features)
        if subjects is not None:
            raise ValueError(
                f"{self._owner}.fit got subjects, and beside sensitive_features also "
                "groups, which would be the same; pass one."
            )
        return sensitive_features, groups

    def _largest_weight(self):
        return float(np.max(self._weights()))

    def _weights(self):
        if self.penalty is None:
            return np.zeros(1)
        return _paths.pick_weights(self._owner, self.penalty, self.penalty_weights)

    def _template(self, **params):
        """Return the estimator that is fitted for one weight."""
        own = FairNeuralClassifier._own_names()
        names = [name for name in own if name not in (*SEARCHED, "random_state")]
        names += self._extra_names()
        template = FairNeuralClassifier(
            **{name: getattr(self, name) for name in names}, **params
        )
        template._named_as = self._owner
        return template

    def _folds(self, rows, y, subjects):
        folds = _paths.split_folds(self._owner, self.cv, rows, y, subjects)
        for train, _ in folds:
            seen = np.unique(rows.y.numpy()[train])
            if len(seen) < len(self.classes_):
                absent = np.delete(self.classes_, seen).tolist()
                raise ValueError(
                    f"A fold of cv of {self._owner} trains on no row of class "
                    f"{absent[0]!r}; use fewer folds."
                )
            known = np.unique(rows.groups.numpy()[train])
            if self._compared is not None and (known >= 0).sum() < 2:
                raise ValueError(
                    f"A fold of cv of {self._owner} trains on rows of one group only, "
                    f"and penalty={self.penalty!r} compares groups; use other folds."
                )
        return folds

    def _data(self, X, y, groups, sample_weight, subjects):
        if isinstance(X, Dataset):
            return Data(X, None, None, sample_weight, subjects)
        frame = None if groups is None else as_frame(groups)
        weight = prep.checked_weight(self._owner, sample_weight, len(y))
        return Data(X, y, frame, weight, subjects)

    def _record(self, path, weights):
        self.penalty_weights_ = weights
        self.scores_ = path.scores
        own = getattr(self._penalty_class, "metric", "equalized_odds_difference")
        valid = path.sides["valid"]
        self.disparities_ = valid.get(own, np.full(path.failed.shape, np.nan))
        self.path_ = _paths.path_frame(weights, path.sides["train"], valid, path.scores)
