"""The estimator that trains a network under a group penalty."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils.metadata_routing import UNUSED

from fairskorch import _preparation as prep
from fairskorch import _settings
from fairskorch._neural import NeuralClassifier
from fairskorch._validation import (
    HasMethods,
    Interval,
    NameLike,
    StrOptions,
    fit_context,
)
from fairskorch.augment import AUGMENTATIONS
from fairskorch.sampling import SAMPLERS
from fairskorch.schedules import SCHEDULES, Ascent

__all__ = ["FairNeuralClassifier"]


class FairNeuralClassifier(NeuralClassifier):
    """A neural network trained under a penalty on differences between groups.

    The loss is ``task + penalty_weight * ramp * penalty``, where the penalty compares
    rates of scores, losses or score distributions between the groups of each batch.
    Groups are needed to train, never to predict. What the penalty is worth is seen on
    rows that were not trained on [1]_: `history_` shows both sides.

    Read more in the :ref:`user guide <training>`.

    Parameters
    ----------
    module : "auto", type, callable or torch.nn.Module, default="auto"
        The network: a class or factory, which is called with the parameters named
        ``module__...``, or an instance, which is copied. It returns logits of shape
        (n_samples, n_classes). Parameters of it called ``n_features``,
        ``in_channels`` and ``n_classes`` are filled in from the data. ``"auto"``
        takes `fairskorch.modules.MLP` for tables and
        `fairskorch.modules.SmallResNet` for images.
    penalty : {"dp", "di", "eopp", "eo", "ae", "mmf", "mindiff"}, type or None, \
            default="eo"
        What is penalised. The names stand, in this order, for demographic parity,
        disparate impact, equal opportunity, equalized odds, accuracy equality (in mean
        loss), max-min loss and MinDiff; or a class of `fairskorch.penalties`. None for
        plain training. Its parameters are ``penalty__reduction`` and so on;
        ``penalty__memory``, 0 in the classes, defaults to 0.95 here, and to less where
        an epoch has under 60 batches.
    penalty_weight : float, default=0.7
        Weight of the penalty, at least 0; for "mmf" in [0, 1].
    penalty_data : {"train", "holdout"}, default="train"
        Rows that the penalty is computed on: those of the task loss, or rows that
        neither the task loss nor the monitor sees, in batches of their own.
    penalty_fraction : float or splitter, default=0.2
        With "holdout", the share of the training rows that is kept for the penalty,
        the same of every group and class, or a splitter as for `validation_fraction`.
    penalty_attributes : list of str or None, default=None
        Columns of the groups that are crossed for penalty and sampler, where others
        are there to be monitored; None for all. Columns of an array are called
        "group_0", "group_1" and so on.
    penalty_warmup : "auto", int or float, default="auto"
        Epochs (int) or share of `max_epochs` (float) over which the weight ramps up
        linearly from 0; ``"auto"`` is half of them.
    penalty_schedule : {"constant", "ascent"}, Ascent or callable, default="constant"
        How the weight moves beside the ramp: not at all; by
        `fairskorch.schedules.Ascent`, which adds the penalty's value to it in each
        step; or by a callable that takes the number of epochs before the present one
        and of all epochs of the call, and returns a factor on `penalty_weight`.
    criterion : type, default=torch.nn.CrossEntropyLoss
        The task loss.
    flood : float or None, default=None
        Level b that the task loss of a batch is kept around: ``|loss - b| + b`` [2]_.
        The penalty is added as it is.
    optimizer : type, default=torch.optim.AdamW
        A class of `torch.optim`.
    lr : "auto" or float, default="auto"
        Learning rate. A number stays as it is; ``"auto"`` is 0.001 (0.01 for SGD) and
        falls to 0 along a cosine, unless a skorch `LRScheduler` is among `callbacks`.
        With a penalty it should fall: else the gap of the last epoch is a swing's.
    ema_decay : float or None, default=None
        Decay, in (0, 1), of a running mean of the weights over steps. The mean is
        then what is monitored, stopped by and predicted with; statistics of batch
        norm are averaged in the same way.
    max_epochs : int, default=20
        Passes over the training rows.
    batch_size : int, default=128
        Largest number of rows in a batch; batches of an epoch are alike in size.
    sampler : {"auto", "shuffle", "stratified", "balanced_classes", \
            "balanced_cells"}, default="auto"
        How batches are drawn, see `fairskorch.sampling.EpochSampler`. ``"auto"`` is
        "balanced_classes" with a penalty, whatever its weight, and "shuffle" without:
        where a class is rare, a constant answer is cheap and has no gap, and
        a penalised network ends there.
    augment : callable, {"flip", "shift", "flip+shift"} or None, default=None
        Random changes to training images, a batch at a time on its device.
    channels : {"auto", "first", "last"}, default="auto"
        Where 4-D images have their channels.
    class_weight : None, "balanced" or dict, default=None
        Weights of classes in the task loss, as in scikit-learn.
    validation_fraction : float or splitter, default=0.1
        Share of rows, the same of every group and class, that `fit` holds out to
        monitor; 0 for none. Of a splitter the first split is taken; it is called
        with X and y alone. Not used where `X_val` is given.
    prior_correction : bool, default=False
        Probabilities learnt on balanced batches or with class weights refer to a
        population with other class shares. True brings them back to those of the
        training rows: with classes as rare as they are, fewer rows are predicted as
        the rare one. Both hard predictions and their gaps change; a parity that held
        before the correction need not hold after it. `history_` is of the network
        itself, before the correction.
    monitor : {"sample", "all"} or None, default="sample"
        Training rows whose loss, penalty and metrics go to `history_`: a fixed sample
        as large as the held-out part, or all, then with the norms of the gradients of
        task loss and penalty.
    monitor_metrics : list of str or None, default=None
        Further metrics for `history_`, names of `fairskorch.metrics.METRICS`.
    monitor_attributes : list of (str or tuple of str) or None, default=None
        Columns of the groups, or tuples of columns that are crossed, between whose
        groups all metrics are recorded as well: ``valid_<metric>_by_<column>``.
    early_stopping : str, callable or None, default=None
        By what the epoch is chosen whose weights are kept, on the held-out rows: a
        column of `history_` without its ``valid_``, such as
        "equalized_odds_difference", the best among the epochs whose balanced accuracy
        is within `accuracy_drop` of the highest; or a rule, which takes the history
        so far and returns the position of a row. See `fairskorch.stopping.BestEpoch`.
        None keeps the last epoch.
    patience : int or None, default=5
        Epochs without a better one, those of the ramp aside, after which
        `early_stopping` ends training; None trains all and keeps the best.
    accuracy_drop : float, default=0.01
        Balanced accuracy that a better value of `early_stopping` may cost.
    callbacks : list or None, default=None
        Callbacks of skorch. Those set here already are "epoch_timer", "monitor",
        "lr_schedule", "progress" and "early_stopping";
        ``callbacks__lr_schedule=None`` takes one away.
    device : "auto" or str, default="auto"
        ``"auto"`` is CUDA, else MPS, else the CPU.
    precision : {"auto", "float32", "bfloat16", "float64"}, default="auto"
        ``"auto"`` is bfloat16 autocast on CUDA, with images whose channels lie last in
        memory, and float32 elsewhere; weights, losses and rates are never in half
        precision.
    capture : {"auto", True, False}, default="auto"
        Whether training steps on CUDA run as a CUDA graph, which spares the work of
        the host. ``"auto"`` does so in fits of 200 steps and more. A step that cannot
        be captured, or one with a hook inside (callbacks that look at batches or
        gradients), runs one kernel after another; True logs why. See :ref:`speed`.
    random_state : int, RandomState or None, default=None
        Seeds initial weights, batches, dropout and the held-out rows. Generators of
        the caller are left as they are.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights and optimiser of the last call; classes,
        groups, module, criterion, optimiser and precision must be the same, and the
        penalty has its full weight at once.
    verbose : int, default=0
        1 shows a progress bar over epochs.
    **kwargs
        Parameters of parts: ``module__``, ``penalty__``, ``criterion__``,
        ``optimizer__``, ``callbacks__``, and ``iterator_train__num_workers`` for a
        Dataset; and ``compile=True`` with ``compile__``, by which skorch hands the
        module to `torch.compile`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    groups_ : ndarray of shape (n_groups,) or None
        Group labels in code order, tuples where columns are crossed.
    group_counts_ : DataFrame of shape (n_groups, n_classes) or None
        Rows given to `fit`, or to all calls of `partial_fit`, by group and class.
    n_features_in_ : int
        Numbers in a row of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of X, where it has names that are strings.
    net_ : fairskorch.nets.GroupPenaltyNet
        The skorch net that was trained.
    history_ : DataFrame
        One row an epoch: ``train_``, ``valid_`` and ``overfit_`` (held-out minus
        train) values, and ``holdout_`` ones of rows kept for the penalty, of loss,
        penalty, accuracy, balanced accuracy and the gap that belongs to the penalty,
        all in eval mode; and what was minimised.
    n_iter_ : int
        Epochs that were trained.
    best_epoch_ : int or None
        Epoch, as in `history_`, whose weights `early_stopping` kept.
    lr_, sampler_, penalty_warmup_, precision_, device_ : float or str
        What ``"auto"`` became; the warm-up in epochs.

    See Also
    --------
    fairskorch.audit.fairness_report : Train and held-out metrics side by side.

    Notes
    -----
    Statistics of batch norm are those of the batches that were drawn: with a balanced
    sampler they describe the balanced population, as the weights do.

    References
    ----------
    .. [1] Cherepanova, Nanda, Goldblum, Dickerson, Goldstein. Technical Challenges for
       Training Fair Neural Networks. arXiv:2102.06764, 2021.
    .. [2] Ishida, Yamane, Sakai, Niu, Sugiyama. Do We Need Zero Training Loss After
       Achieving Zero Training Error? ICML 2020.

    Examples
    --------
    >>> from fairskorch import FairNeuralClassifier
    >>> from fairskorch.datasets import make_biased_classification
    >>> data = make_biased_classification(n_samples=500, random_state=0)
    >>> clf = FairNeuralClassifier(penalty="eo", max_epochs=5, random_state=0)
    >>> clf.fit(data.data, data.target, data.sensitive_features)
    FairNeuralClassifier(max_epochs=5, random_state=0)
    >>> clf.predict_proba(data.data).shape
    (500, 2)
    """

    # Searches and splitters own the name `groups`; routing asks for the other.
    __metadata_request__fit = {"groups": UNUSED}
    __metadata_request__partial_fit = {"groups": UNUSED}

    _parameter_constraints: dict = {
        "module": "no_validation",
        "penalty": "no_validation",
        "penalty_weight": [Interval(Real, 0, None, closed="left")],
        "penalty_data": [StrOptions({"train", "holdout"})],
        "penalty_fraction": [
            Interval(Real, 0, 1, closed="neither"),
            HasMethods(["split", "get_n_splits"]),
        ],
        "penalty_attributes": [None, list],
        "penalty_warmup": [
            StrOptions({"auto"}),
            Interval(Integral, 0, None, closed="left"),
            Interval(Real, 0, 1, closed="both"),
        ],
        "penalty_schedule": [StrOptions(set(SCHEDULES)), Ascent, callable],
        "criterion": [callable],
        "optimizer": [callable],
        "lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "flood": [None, Interval(Real, 0, None, closed="neither")],
        "ema_decay": [None, Interval(Real, 0, 1, closed="neither")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "sampler": [StrOptions({"auto", *SAMPLERS})],
        "augment": [None, callable, StrOptions(set(AUGMENTATIONS))],
        "channels": [StrOptions({"auto", "first", "last"})],
        "class_weight": [None, dict, StrOptions({"balanced"})],
        "validation_fraction": [
            Interval(Real, 0, 1, closed="left"),
            HasMethods(["split", "get_n_splits"]),
        ],
        "prior_correction": ["boolean"],
        "monitor": [None, StrOptions({"sample", "all"})],
        "monitor_metrics": [None, list],
        "monitor_attributes": [None, list],
        "early_stopping": [
            None,
            NameLike({"equalized_odds_difference", "balanced_accuracy"}),
            callable,
        ],
        "patience": [None, Interval(Integral, 1, None, closed="left")],
        "accuracy_drop": [Interval(Real, 0, 1, closed="both")],
        "callbacks": [None, list],
        "device": [str, torch.device],
        "precision": [StrOptions({"auto", "float32", "bfloat16", "float64"})],
        "capture": [StrOptions({"auto"}), "boolean"],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        module="auto",
        *,
        penalty="eo",
        penalty_weight=0.7,
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
        validation_fraction=0.1,
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
        warm_start=False,
        verbose=0,
        **kwargs,
    ):
        self.module = module
        self.penalty = penalty
        self.penalty_weight = penalty_weight
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
        self.warm_start = warm_start
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
        X_val=None,
        y_val=None,
        groups_val=None,
    ):
        """Train the network.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor or Dataset
            Rows: (n_samples, n_features), or images (n_samples, channels, height,
            width), (n_samples, height, width, channels) or (n_samples, height,
            width). Arrays and tensors of uint8 are divided by 255, floats taken as
            they are. A `torch.utils.data.Dataset` yields ``(x, y, group)`` and comes
            alone; it is read once for its classes and groups.
        y : array-like of shape (n_samples,)
            Classes, of any labels.
        groups : array-like of shape (n_samples,) or (n_samples, k), optional
            Group of each row, needed for a penalty. Several columns are crossed. A
            row with a missing value (None, NaN, pd.NA) has no group: it counts in the
            task loss alone.
        sensitive_features : array-like, optional
            Another name of `groups`, the one that metadata routing passes on.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of rows in the task loss; rates are never weighted. Rows of weight
            0 are left out altogether.
        subjects : array-like of shape (n_samples,), optional
            Whom each row shows. Rows of one subject stay together when
            `validation_fraction` and `penalty_fraction` divide the rows.
        X_val, y_val, groups_val : array-like, optional
            Held-out rows to monitor, instead of a part of X.

        Returns
        -------
        self : FairNeuralClassifier

        Raises
        ------
        ValueError
            For input that cannot be trained on; nothing is changed then.
        NonFiniteLossError
            When the loss becomes NaN or infinite; nothing is changed then.

        Warns
        -----
        EmptyCellWarning
            When a group has no row of some class.
        ConstantPredictionWarning
            When one class is predicted for every row in the end.
        """
        held_out = (X_val, y_val, groups_val)
        groups = prep.given_groups(self._owner, "fit", groups, sensitive_features)
        with self._unchanged_on_error():
            going_on = self.warm_start and hasattr(self, "net_")
            rows, given_y = self._training_rows(
                X, y, groups, sample_weight, going_on=going_on
            )
            seed = self._settle(
                epochs=self.max_epochs, ramp=not going_on, going_on=going_on
            )
            with _settings.own_randomness(seed, self.device_):
                rng = np.random.RandomState(self._split_seed)
                rows, valid = self._divided(rows, held_out, given_y, subjects, rng)
                self._train(rows, valid, going_on=going_on, epochs=self.max_epochs)
            self._correct_prior(rows, add=False)
            self._warn_if_constant(rows, valid)
        return self

    @fit_context
    def partial_fit(
        self,
        X,
        y=None,
        groups=None,
        *,
        classes=None,
        sensitive_features=None,
        sample_weight=None,
    ):
        """Train for one epoch on these rows, at full penalty weight.

        No row is held out, and the learning rate stays as it is. Classes and groups
        are fixed by the first call.

        Parameters
        ----------
        X, y, groups, sensitive_features, sample_weight
            As in `fit`.
        classes : array-like of shape (n_classes,), optional
            All classes that will occur; those of the first `y` if not given.

        Returns
        -------
        self : FairNeuralClassifier

        Raises
        ------
        ValueError
            For input that cannot be trained on, and for a class or group that is new.
        """
        # The decorator validates the first call only, and parameters may change.
        self._validate_params()
        groups = prep.given_groups(
            self._owner, "partial_fit", groups, sensitive_features
        )
        with self._unchanged_on_error():
            self._refuse_partial()
            going_on = hasattr(self, "net_")
            rows, _ = self._training_rows(
                X,
                y,
                groups,
                sample_weight,
                going_on=going_on,
                classes=classes,
                partial=True,
            )
            seed = self._settle(epochs=1, ramp=False, going_on=going_on)
            with _settings.own_randomness(seed, self.device_):
                self._train(rows, None, going_on=going_on, epochs=1, partial=True)
            self._correct_prior(rows, add=going_on)
        return self
