"""The estimator that trains a network under bounds on group rates."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils.metadata_routing import UNUSED

from fairskorch import _preparation as prep
from fairskorch import _settings
from fairskorch._answers import BoundedAnswers
from fairskorch._bounded import BoundedClassifier
from fairskorch._divisions import split_rows
from fairskorch._validation import (
    HasMethods,
    Interval,
    StrOptions,
    fit_context,
)
from fairskorch.augment import AUGMENTATIONS
from fairskorch.sampling import SAMPLERS

__all__ = ["FairConstrainedClassifier"]


class FairConstrainedClassifier(BoundedAnswers, BoundedClassifier):
    """A neural network trained under bounds on differences between groups.

    Where `FairNeuralClassifier` takes a weight, this takes a **bound**: "equalized odds
    difference at most 0.05". Training is a game. The network descends on the task loss
    and on multipliers times differentiable stand-ins of the bounded rates; the
    multipliers climb on the rates of hard predictions, and fall back to 0 where a
    bound is kept. The answer is a mixture of a few networks met on the way, the least
    wrong one that keeps all bounds: a randomised classifier, unless `deploy` asks for
    one network. Groups are needed to train, never to predict.

    A bound is enforced on the rows that the multipliers move on, and `fit` warns where
    it was missed; `violations_` says what is left of it on rows that nothing was
    fitted to.

    Read more in the :ref:`user guide <constrained>`.

    Parameters
    ----------
    module : "auto", type, callable or torch.nn.Module, default="auto"
        The network, as in `FairNeuralClassifier`.
    constraint : {"dp", "di", "eopp", "eo", "ae", "mmf"}, object, list of them or \
            None, default="eo"
        What is bounded. A name is a quantity of `fairskorch.penalties`, on hard
        predictions: for "dp", "eopp" and "eo" the largest minus the smallest rate of
        a group, for "di" one minus the ratio of the smallest to the largest, for "ae"
        the gap in mean loss, for "mmf" the largest mean loss. An object is one of
        `fairskorch.constraints` or a moment of `fairlearn.reductions`, which compares
        each group with all rows and brings its own bound: its 0.10 can be a largest
        difference of 0.20. None trains without a bound.
    bound : float or list of float, default=0.05
        Bound of the constraint, or one for each; not used for moments.
    game : {"lagrangian", "proxy"}, default="lagrangian"
        How multipliers move. ``"lagrangian"``: at least 0, by additive ascent.
        ``"proxy"``: on a simplex that the task loss shares, with low swap regret; the
        game of [1]_ and [2]_ whose rates need not be differentiable.
    multiplier_data : {"train", "holdout"}, default="train"
        Rows that the multipliers move on and members are chosen by: those of the task
        loss, or rows that give the weights no gradient, by which bounds are meant to
        carry over to new rows [3]_.
    multiplier_fraction : float or splitter, default=0.2
        Share of the rows, the same of every group and class, that
        ``multiplier_data="holdout"`` keeps for the multipliers, or a splitter as for
        `validation_fraction`.
    multiplier_lr : "auto" or float, default="auto"
        Step of the multipliers in a round; ``"auto"`` is 80 / rounds, and ten times
        that for "proxy".
    multiplier_cap : float or None, default=None
        Largest sum of the multipliers of ``game="lagrangian"``.
    multiplier_rates : {"predictions", "scores"}, default="predictions"
        What the multipliers see: rates of hard predictions, or of scores, as the
        network does.
    multiplier_rows : {"auto", "all"} or int, default="auto"
        Rows that are read in a round. Where there are more, large cells of group and
        class are sampled and count for more. ``"auto"`` is an eighth of the training
        rows, and at least 2048. What is deployed is counted on all of them.
    rounds : "auto" or int, default="auto"
        Rounds of the game in an epoch, evenly spaced; ``"auto"`` is 2.
    surrogate_slope : float, default=1.0
        Factor on the logits before they become scores: 1 scores by probability; the
        larger it is, the closer are scores to hard predictions, and the fewer rows
        have a gradient.
    radius : float or None, default=None
        After each step the weights are projected onto a ball of this radius around
        their initial values, in the Frobenius norm. 0 leaves the network at its start.
    radius_scope : {"network", "layer"}, default="network"
        One ball for all weights, or one for each layer.
    deploy : {"mixture", "best", "last", "uniform"}, default="mixture"
        ``"mixture"``: the least wrong mixture of networks that keeps all bounds, with
        at most one member more than there are constraints. ``"best"``: the one network
        of the second half of the rounds whose worse rank, of error and violation, is
        the best. ``"last"``: the network as training leaves it. ``"uniform"``: all
        networks of the second half alike.
    criterion, optimizer, lr, max_epochs, batch_size, augment, channels, class_weight, \
            validation_fraction, monitor, callbacks, device, precision, capture, verbose
        As in `FairNeuralClassifier`.
    sampler : {"auto", "shuffle", "stratified", "balanced_classes", \
            "balanced_cells"}, default="auto"
        How batches are drawn; ``"auto"`` is "shuffle". Rates refer to the training
        rows whatever is drawn.
    random_state : int, RandomState or None, default=None
        Seeds initial weights, batches, the rows held out, and the draws of `predict`.
    **kwargs
        Parameters of parts: ``module__``, ``criterion__``, ``optimizer__``,
        ``callbacks__`` and others, as in `FairNeuralClassifier`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    groups_ : ndarray of shape (n_groups,) or None
        Group labels in code order, tuples where columns are crossed.
    group_counts_ : DataFrame of shape (n_groups, n_classes) or None
        Rows given to `fit` by group and class.
    multipliers_ : DataFrame of shape (n_rounds, n_constraints)
        Multipliers after each round. Columns are constraints as the game has them: one
        for each rate, class, group and side ("above" or "below" a level that is free,
        for moments above or below all rows).
    estimators_ : list of torch.nn.Module
        The networks that are drawn from, in eval mode.
    estimator_weights_ : ndarray of shape (n_members,)
        The chance of each; they sum to 1.
    violations_ : DataFrame or None
        For each part of the rows (``"train"``; ``"multiplier"``, the rows that
        multipliers moved on; ``"holdout"``, those of `validation_fraction` or `X_val`)
        and each constraint its ``value`` on hard predictions, in expectation over
        draws, its ``bound``, the ``violation`` (above 0 where the bound is left) and
        the limits ``low`` and ``high`` of its 95 % interval. Constraints of one name
        are numbered, as ``"DemographicParity_1"`` and ``"DemographicParity_2"``.
    train_violation_, holdout_violation_ : float
        Largest violation of a constraint on training and on held-out rows; ``nan``
        where there are none.
    train_violation_interval_, holdout_violation_interval_ : tuple of float
        Largest lower and largest upper limit over constraints.
    is_feasible_ : bool
        Whether all bounds are kept, within 0.001, on the rows that multipliers moved
        on.
    n_features_in_ : int
        Numbers in a row of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of X, where it has names that are strings.
    net_ : skorch.NeuralNet
        The net that was trained; its module is the last network.
    history_ : DataFrame
        One row an epoch, as in `FairNeuralClassifier`; ``penalty`` is what the
        multipliers add to the task loss, ``multiplier_sum`` their sum.
    n_iter_ : int
        Epochs that were trained.
    lr_, multiplier_lr_, sampler_, precision_, device_ : float or str
        What ``"auto"`` became.

    See Also
    --------
    FairNeuralClassifier : The same with a weight in the place of a bound.
    fairlearn.reductions.ExponentiatedGradient : Bounds for any classifier, by many
        fits.

    Notes
    -----
    On average over rounds the network's descent and the multipliers' ascent have low
    regret, so a mixture over rounds is near the best answer that keeps the bounds; no
    single round need be. A linear program shrinks it to a few members.

    A rate of few rows is known with a large standard error. Multipliers move by a
    violation times the root of the rows behind it, by that of the largest group, so
    rare groups are held to their bounds as others are, but slowly. Where no mixture
    keeps all bounds, the least violation is sought with the fourth root.

    Equal rows get equal answers: `predict` draws by the content of a row and a seed,
    so the order and the batches of rows do not matter, and asking again does not help.

    References
    ----------
    .. [1] Chen, Wang, Kolar. Provably Training Overparameterized Neural Network
       Classifiers with Non-convex Constraints. Electronic Journal of Statistics
       16(2), 2022. arXiv:2012.15274.
    .. [2] Cotter, Jiang, Sridharan. Two-Player Games for Efficient Non-Convex
       Constrained Optimization. ALT 2019.
    .. [3] Cotter, Gupta, Jiang, Srebro, Sridharan, Wang, Woodworth, You. Training
       Well-Generalizing Classifiers for Fairness Metrics and Other Data-Dependent
       Constraints. ICML 2019. arXiv:1807.00028.

    Examples
    --------
    >>> from fairskorch import FairConstrainedClassifier
    >>> from fairskorch.datasets import make_biased_classification
    >>> data = make_biased_classification(n_samples=500, random_state=0)
    >>> clf = FairConstrainedClassifier(
    ...     constraint="dp", bound=0.2, batch_size=32, random_state=0
    ... )
    >>> clf = clf.fit(data.data, data.target, data.sensitive_features)
    >>> clf.is_feasible_
    True
    >>> clf.predict_proba(data.data).shape
    (500, 2)
    """

    __metadata_request__fit = {"groups": UNUSED}
    __metadata_request__predict = {"random_state": UNUSED}

    _parameter_constraints: dict = {
        "module": "no_validation",
        "constraint": "no_validation",
        "bound": "no_validation",
        "game": [StrOptions({"lagrangian", "proxy"})],
        "multiplier_data": [StrOptions({"train", "holdout"})],
        "multiplier_fraction": [
            Interval(Real, 0, 1, closed="neither"),
            HasMethods(["split", "get_n_splits"]),
        ],
        "multiplier_lr": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="left"),
        ],
        "multiplier_cap": [None, Interval(Real, 0, None, closed="neither")],
        "multiplier_rates": [StrOptions({"predictions", "scores"})],
        "multiplier_rows": [
            StrOptions({"auto", "all"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "rounds": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "surrogate_slope": [Interval(Real, 0, None, closed="neither")],
        "radius": [None, Interval(Real, 0, None, closed="left")],
        "radius_scope": [StrOptions({"network", "layer"})],
        "deploy": [StrOptions({"mixture", "best", "last", "uniform"})],
        "criterion": [callable],
        "optimizer": [callable],
        "lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
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
        "monitor": [None, StrOptions({"sample", "all"})],
        "callbacks": [None, list],
        "device": [str, torch.device],
        "precision": [StrOptions({"auto", "float32", "bfloat16", "float64"})],
        "capture": [StrOptions({"auto"}), "boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        module="auto",
        *,
        constraint="eo",
        bound=0.05,
        game="lagrangian",
        multiplier_data="train",
        multiplier_fraction=0.2,
        multiplier_lr="auto",
        multiplier_cap=None,
        multiplier_rates="predictions",
        multiplier_rows="auto",
        rounds="auto",
        surrogate_slope=1.0,
        radius=None,
        radius_scope="network",
        deploy="mixture",
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr="auto",
        max_epochs=20,
        batch_size=128,
        sampler="auto",
        augment=None,
        channels="auto",
        class_weight=None,
        validation_fraction=0.1,
        monitor="sample",
        callbacks=None,
        device="auto",
        precision="auto",
        capture="auto",
        random_state=None,
        verbose=0,
        **kwargs,
    ):
        self.module = module
        self.constraint = constraint
        self.bound = bound
        self.game = game
        self.multiplier_data = multiplier_data
        self.multiplier_fraction = multiplier_fraction
        self.multiplier_lr = multiplier_lr
        self.multiplier_cap = multiplier_cap
        self.multiplier_rates = multiplier_rates
        self.multiplier_rows = multiplier_rows
        self.rounds = rounds
        self.surrogate_slope = surrogate_slope
        self.radius = radius
        self.radius_scope = radius_scope
        self.deploy = deploy
        self.criterion = criterion
        self.optimizer = optimizer
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.sampler = sampler
        self.augment = augment
        self.channels = channels
        self.class_weight = class_weight
        self.validation_fraction = validation_fraction
        self.monitor = monitor
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
        X_val=None,
        y_val=None,
        groups_val=None,
    ):
        """Play the game, and choose what to deploy.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor or Dataset
            Rows, as in `FairNeuralClassifier.fit`.
        y : array-like of shape (n_samples,)
            Classes, of any labels.
        groups : array-like of shape (n_samples,) or (n_samples, k), optional
            Group of each row, needed where groups are compared. A row of unknown group
            (None, NaN, pd.NA) counts in the task loss and in no group.
        sensitive_features : array-like, optional
            Another name of `groups`, the one that metadata routing passes on.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of rows in the task loss and in the error by which members are
            chosen; rates are never weighted. Rows of weight 0 are left out altogether.
        X_val, y_val, groups_val : array-like, optional
            Held-out rows to monitor and to measure, instead of a part of X.

        Returns
        -------
        self : FairConstrainedClassifier

        Raises
        ------
        ValueError
            For input that cannot be trained on, and for bounds without a meaning;
            nothing is changed then.
        NonFiniteLossError
            When the loss becomes NaN or infinite; nothing is changed then.

        Warns
        -----
        InfeasibleConstraintWarning
            When what is deployed leaves a bound on the rows that multipliers moved on.
        EmptyCellWarning
            When a group has no row of some class.
        ConstantPredictionWarning
            When one class is predicted for every row in the end.
        """
        groups = prep.given_groups(self._owner, "fit", groups, sensitive_features)
        with self._unchanged_on_error():
            rows, given_y = self._training_rows(
                X, y, groups, sample_weight, going_on=False
            )
            rows = self._referred(rows, X)
            seed = self._settle(epochs=self.max_epochs, ramp=False, going_on=False)
            del self.penalty_warmup_
            with _settings.own_randomness(seed, self.device_):
                rng = np.random.RandomState(seed)
                valid = self._held_out_rows(X_val, y_val, groups_val)
                if valid is None:
                    rows, valid = split_rows(
                        self._owner, self.validation_fraction, rows, given_y, rng
                    )
                else:
                    valid = self._referred(valid, X_val)
                others = valid if X_val is None else None
                rows, seen = self._multiplier_rows(rows, given_y, rng, others)
                self._play(rows, seen, valid, seed)
        return self
