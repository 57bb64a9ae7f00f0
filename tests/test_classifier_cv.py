"""`FairNeuralClassifierCV`: every network is the one that would be fitted alone."""

import inspect
import logging
import pickle
import signal
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    PredefinedSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, EarlyStopping, EpochScoring
from torch import nn
from torch.nn import functional as F

from fairskorch import FairNeuralClassifier, FairNeuralClassifierCV
from fairskorch._network_paths import measured
from fairskorch.exceptions import EmptyCellWarning, NonFiniteLossError
from fairskorch.metrics import equalized_odds_difference, fairness_scorer
from fairskorch.penalties import EqualizedOdds
from fairskorch.selection import fairest_within, most_accurate_within

WEIGHTS = [0.0, 0.5, 3.0]
FOLDS = StratifiedKFold(3)
EO = "equalized_odds_difference"

pytestmark = pytest.mark.filterwarnings(
    "ignore::fairskorch.exceptions.ConstantPredictionWarning"
)


def search(**params):
    return FairNeuralClassifierCV(
        **{
            "penalty_weights": WEIGHTS,
            "cv": FOLDS,
            "max_epochs": 3,
            "batch_size": 50,
            "module__hidden": (6,),
            "random_state": 0,
            "device": "cpu",
            **params,
        }
    )


def same(one, other, atol=1e-9):
    for name in ("scores_", "disparities_"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=atol)
    assert one.path_.columns.tolist() == other.path_.columns.tolist()
    np.testing.assert_allclose(one.path_, other.path_, atol=atol)


class Normed(nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.first = nn.Linear(n_features, 6, bias=False)
        self.norm = nn.BatchNorm1d(6)
        self.second = nn.Linear(6, 5)
        self.layer_norm = nn.LayerNorm(5)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(5, n_classes)

    def forward(self, X):
        X = F.relu(self.norm(self.first(X)))
        return self.head(self.drop(torch.tanh(self.layer_norm(self.second(X)))))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"penalty": "mmf", "penalty_weights": [0, 0.4, 1], "sampler": "shuffle"},
        {"penalty": "ae", "penalty__memory": 0, "optimizer": torch.optim.SGD},
        {"penalty": "mindiff", "sampler": "stratified", "lr": 1e-2},
        {"penalty": "dp", "class_weight": "balanced", "penalty_warmup": 2},
        {"prior_correction": True, "optimizer": torch.optim.Adam, "batch_size": 33},
        {"module__dropout": 0.3, "module__hidden": (6, 6)},
        {"module": Normed, "module__hidden": None},
        {"module": nn.Linear(5, 2), "module__hidden": None},
    ],
    ids=str,
)
def test_side_by_side_is_one_after_another(params, table):
    params = {"precision": "float64", "scoring": "neg_log_loss", **params}
    clf = search(**params)
    if params.get("module__hidden", 1) is None:
        del clf.module__hidden
    together = clone(clf).set_params(stack=True).fit(*table)
    alone = clone(clf).set_params(stack=False).fit(*table)
    assert together.stacked_
    assert not alone.stacked_
    same(together, alone)
    assert together.penalty_weight_ == alone.penalty_weight_
    assert np.ptp(together.scores_, axis=1).min() > 1e-6
    X = table[0]
    np.testing.assert_array_equal(together.predict_proba(X), alone.predict_proba(X))


def test_in_float32_up_to_rounding(table):
    together, alone = (
        search(scoring="neg_log_loss", stack=stack).fit(*table)
        for stack in ("auto", False)
    )
    assert together.stacked_
    same(together, alone, atol=1e-4)


def test_several_classes_and_unknown_groups(table, rng):
    X, y, groups = table
    y = np.array(["n", "o", "p"])[y + (X[:, 1] > 1)]
    groups = np.where(rng.random(len(y)) < 0.1, None, groups.astype(object))
    weight = rng.integers(0, 3, len(y)).astype(float)
    found = [
        search(
            precision="float64",
            stack=stack,
            scoring="neg_log_loss",
            penalty__reduction="sum",
            # Gaps of counts are often tied, and rounding would break the ties.
            penalty__running="scores",
            cv=3,
        ).fit(X, y, groups, sample_weight=weight)
        for stack in (True, False)
    ]
    same(*found)
    assert found[0].classes_.tolist() == ["n", "o", "p"]
    assert found[0].group_counts_.to_numpy().sum() < (weight > 0).sum()


def test_each_network_is_a_fit_of_its_own(table):
    X, y, groups = table
    params = {"max_epochs": 3, "batch_size": 50, "module__hidden": (6,)}
    params |= {"random_state": 0, "validation_fraction": 0, "precision": "float64"}
    found = search(scoring="neg_log_loss", precision="float64").fit(X, y, groups)
    for i, (train, test) in enumerate(FOLDS.split(X, y)):
        for j, weight in enumerate(WEIGHTS):
            clf = FairNeuralClassifier(penalty_weight=weight, **params)
            clf.fit(X[train], y[train], groups[train])
            expected = -log_loss(y[test], clf.predict_proba(X[test]))
            np.testing.assert_allclose(found.scores_[i, j], expected, rtol=1e-9)
            gap = equalized_odds_difference(
                y[test], clf.predict(X[test]), sensitive_features=groups[test]
            )
            np.testing.assert_allclose(found.disparities_[i, j], gap, atol=1e-12)
    final = FairNeuralClassifier(penalty_weight=found.penalty_weight_, **params)
    final.fit(X, y, groups)
    np.testing.assert_array_equal(found.predict_proba(X), final.predict_proba(X))
    pd.testing.assert_frame_equal(
        found.history_.drop(columns="seconds"), final.history_.drop(columns="seconds")
    )


def test_the_choice_of_a_grid_search(table):
    X, y, groups = table
    grid = GridSearchCV(
        FairNeuralClassifier(
            max_epochs=3,
            batch_size=50,
            module__hidden=(6,),
            random_state=0,
            validation_fraction=0,
        ),
        {"penalty_weight": WEIGHTS},
        cv=FOLDS,
        scoring="balanced_accuracy",
    ).fit(X, y, sensitive_features=groups)
    found = search().fit(X, y, groups)
    np.testing.assert_allclose(
        found.path_["valid_score"], grid.cv_results_["mean_test_score"], atol=1e-9
    )
    assert found.penalty_weight_ == grid.best_params_["penalty_weight"]


class Small(nn.Sequential):
    """Convolutions with batch norm, for images of 12 pixels."""

    def __init__(self, in_channels, n_classes):
        super().__init__(
            nn.Conv2d(in_channels, 4, 3, stride=2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(4, n_classes),
        )


def test_images_are_mapped_where_asked(images, caplog):
    params = {"module": Small, "cv": 2, "batch_size": 12, "penalty_weights": [0, 2.0]}
    params |= {"precision": "float64", "scoring": "neg_log_loss", "augment": "flip"}
    found = []
    for stack in (True, False, "auto"):
        clf = search(stack=stack, **params)
        del clf.module__hidden
        found.append(clf.fit(*images))
    same(found[0], found[1])
    assert [clf.stacked_ for clf in found] == [True, False, False]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_images_are_mapped_on_cuda(images, precision):
    params = {"module": Small, "cv": 2, "batch_size": 12, "penalty_weights": [0, 2.0]}
    params |= {"precision": precision, "scoring": "neg_log_loss", "device": "cuda"}
    found = []
    for stack in (True, False):
        clf = search(stack=stack, **params)
        del clf.module__hidden
        found.append(clf.fit(*images))
    assert [clf.stacked_ for clf in found] == [True, False]
    same(*found, atol=5e-2 if precision == "bfloat16" else 1e-3)


def test_flat_images_are_layers(images):
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 144, 4), nn.GELU())
    module.append(nn.Linear(4, 2))
    found = []
    for stack in ("auto", False):
        clf = search(stack=stack, module=module, cv=2, scoring="neg_log_loss")
        del clf.module__hidden
        found.append(clf.fit(*images))
    assert found[0].stacked_
    same(*found, atol=1e-4)


class Twice(nn.Module):
    """One layer in two places."""

    def __init__(self, n_features):
        super().__init__()
        self.one = self.two = nn.Linear(n_features, n_features)
        self.head = nn.Linear(n_features, 2)

    def forward(self, X):
        return self.head(self.two(self.one(X)))


class Drawing(nn.Linear):
    """Dropout outside a layer."""


class FunctionalDropout(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.head = nn.Linear(n_features, 2)

    def forward(self, X):
        return self.head(F.dropout(X, 0.2, self.training))


class OverRows(nn.Module):
    """Looks at the dimension where rows are."""

    def __init__(self, n_features):
        super().__init__()
        self.head = nn.Linear(n_features, 2)

    def forward(self, X):
        return self.head(X - X.mean(0, keepdim=True).tanh())


class InTraining(nn.Module):
    """Looks at other rows while it is trained alone."""

    def __init__(self, n_features, look):
        super().__init__()
        self.body, self.head = nn.Linear(n_features, 6), nn.Linear(6, 2)
        self.look = look

    def forward(self, X):
        X = self.body(X)
        return self.head((self.look(X) if self.training else X).relu())


def centred(X):
    return X - X.mean(0)


def scaled(X):
    return X / X.abs().max()


def by_length(X):
    return X * len(X) / 10


class Recurrent(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.inner = nn.GRU(n_features, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, X):
        return self.head(self.inner(X.unsqueeze(1))[0][:, 0])


def hooked():
    module = nn.Sequential(nn.Linear(5, 2))
    module[0].register_forward_hook(lambda *args: None)
    return module


def frozen():
    module = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2))
    module[0].weight.requires_grad = False
    return module


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"module": Twice}, "Twice uses a layer in two places"),
        ({"module": FunctionalDropout}, "computes something else"),
        ({"module": OverRows}, "the stacked OverRows computes something else"),
        ({"module": Recurrent}, "GRU has no batched form here"),
        ({"module": hooked()}, "Linear has hooks"),
        ({"module": frozen()}, "Sequential has weights that are frozen"),
        ({"optimizer": torch.optim.Adafactor}, "Adafactor does not move each weight"),
        (
            {"criterion": nn.CrossEntropyLoss, "criterion__label_smoothing": 0.1},
            "criterion__label_smoothing is given",
        ),
        ({"criterion": nn.MultiMarginLoss}, "the criterion is a MultiMarginLoss"),
        ({"validation_fraction": 0.2}, "validation_fraction=0.2 is not as by default"),
        ({"callbacks": [EpochScoring("accuracy")]}, "callbacks="),
        ({"penalty_weights": [1.0]}, "there is one weight"),
    ],
    ids=str,
)
def test_what_cannot_be_stacked_is_trained_alone(params, reason, table, caplog):
    caplog.set_level(logging.INFO, "fairskorch")
    clf = search(cv=2, max_epochs=1, **params)
    if "module" in params:
        del clf.module__hidden
    clf.fit(*table)
    assert not clf.stacked_
    (line,) = caplog.messages
    assert "one after another: " in line
    assert reason in line
    assert np.isfinite(clf.scores_).all()


@pytest.mark.parametrize("look", [centred, scaled, by_length])
def test_networks_that_look_at_a_batch_in_training(look, table):
    params = {"module": InTraining, "module__look": look, "precision": "float64"}
    found = [search(cv=2, stack=stack, **params) for stack in ("auto", False)]
    for clf in found:
        del clf.module__hidden
        clf.fit(*table)
    assert not found[0].stacked_
    same(*found)


class OwnScores(EqualizedOdds):
    def scores(self, logits):
        return super().scores(5 * logits)


class OwnRows(EqualizedOdds):
    def row_values(self, logits, target, loss=None):
        return super().row_values(logits, target, loss) ** 2


class OwnPenalise(EqualizedOdds):
    def penalise(self, *args, **kwargs):
        return 3 * super().penalise(*args, **kwargs)


@pytest.mark.parametrize("kind", [OwnScores, OwnRows, OwnPenalise])
def test_parts_of_a_penalty_that_are_redefined(kind, table):
    params = {"cv": 2, "scoring": "neg_log_loss", "precision": "float64"}
    own, alone = (
        search(stack=stack, penalty=kind, **params).fit(*table)
        for stack in ("auto", False)
    )
    same(own, alone)
    assert own.stacked_ == (kind is not OwnPenalise)
    usual = search(penalty="eo", **params).fit(*table)
    assert np.abs(own.scores_ - usual.scores_).max() > 1e-4


def test_ctrl_c_ends_a_search(table):
    class Pressed(Callback):
        fits = 0

        def on_train_begin(self, net, **kwargs):
            type(self).fits += 1

        def on_epoch_end(self, net, **kwargs):
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    clf = search(cv=2, callbacks=[Pressed()])
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*table)
    assert Pressed.fits == 1
    assert not hasattr(clf, "path_")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_callback_that_ends_each_fit_ends_no_search(table):
    stop = EarlyStopping("train_loss", patience=1, threshold=1e9, sink=lambda _: None)
    assert len(search(cv=2, callbacks=[stop]).fit(*table).path_) == len(WEIGHTS)


def test_one_line_of_the_log_says_which(table, caplog):
    caplog.set_level(logging.INFO, "fairskorch")
    search(cv=2, max_epochs=1).fit(*table)
    search(cv=2, max_epochs=1, stack=False).fit(*table)
    assert caplog.messages == [
        "FairNeuralClassifierCV trains 6 networks side by side.",
        "FairNeuralClassifierCV trains 6 networks one after another: stack=False.",
    ]
    caplog.clear()
    clf = search(cv=2, max_epochs=1, stack=True, validation_fraction=0.2)
    clf.fit(*table)
    assert caplog.records[0].levelname == "WARNING"


def test_mapping_what_vmap_cannot_run(table):
    clf = search(module=Recurrent, cv=2, max_epochs=1, stack=True)
    del clf.module__hidden
    assert not clf.fit(*table).stacked_


class Asking(nn.Module):
    """Asks for a number while it is trained, which nothing mapped can tell."""

    def __init__(self, n_features):
        super().__init__()
        self.body = nn.Linear(n_features, 2)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, X):
        out = self.body(X) * self.scale
        return out if self.training and out.abs().max() < 1e-9 else out + 0


def test_what_fails_in_training_alone_is_trained_one_by_one(table, caplog):
    clf = search(module=Asking, cv=2, max_epochs=1, stack=True)
    del clf.module__hidden
    assert not clf.fit(*table).stacked_
    assert "one after another: the stacked network fails" in caplog.messages[0]


def test_a_measurement_estimates_both_ways(table):
    seen = []

    class Noted(FairNeuralClassifierCV):
        def _record(self, path, weights):
            seen.append(path)
            super()._record(path, weights)

    clf = Noted(penalty_weights=np.linspace(0, 1, 60), cv=2, max_epochs=1)
    clf.set_params(device="cpu", random_state=0, batch_size=20).fit(*table)
    together, alone = measured(seen[0])
    assert min(together, alone) > 0


def test_each_device(device, table, caplog):
    caplog.set_level(logging.INFO, "fairskorch")
    params = {"device": device, "precision": "float32", "scoring": "neg_log_loss"}
    found = [search(stack=s, **params).fit(*table) for s in (True, False, "auto")]
    assert found[0].stacked_
    same(found[0], found[1], atol=1e-4)
    same(found[2], found[1], atol=1e-4)
    assert ("a measurement promises" in caplog.messages[2]) == (device == "cuda")


@pytest.mark.parametrize("stack", [True, False])
def test_networks_that_fail_are_never_chosen(stack, table):
    params = {"penalty": "ae", "optimizer": torch.optim.SGD, "max_epochs": 6}
    clf = search(penalty_weights=[0, 1e38, 0.1], stack=stack, **params)
    with pytest.warns(FitFailedWarning, match=r"with penalty weights \[1e\+38\]"):
        clf.fit(*table)
    assert clf.stacked_ is stack
    assert np.isnan(clf.scores_[:, 1]).all()
    assert np.isfinite(clf.scores_[:, [0, 2]]).all()
    assert np.isnan(clf.path_["valid_score"][1])
    assert clf.penalty_weight_ in (0, 0.1)


@pytest.mark.parametrize("stack", [True, False])
def test_a_search_whose_networks_all_fail_says_so(stack, table):
    params = {"optimizer": torch.optim.SGD, "lr": 1e30, "max_epochs": 6}
    clf = search(stack=stack, **params)
    with pytest.raises(NonFiniteLossError, match="9 of 9 in all.* smaller lr"):
        clf.fit(*table)
    assert not hasattr(clf, "path_")


def held_out_cells(clf, X, y, groups, **kwargs):
    """Return the rows of each cell that each fold holds out."""
    frame, seen = pd.DataFrame(X, columns=list("abcde")[: X.shape[1]]), []
    index, columns = np.unique(groups), np.unique(y)

    def looking(fitted, X, y):
        found = pd.crosstab(groups[X.index], y)
        seen.append(found.reindex(index, columns=columns, fill_value=0).to_numpy())
        return 0.0

    params = {"scoring": looking, "max_epochs": 1, "penalty_weights": [0, 1]}
    clf.set_params(stack=False, **params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptyCellWarning)
        clf.fit(frame, y, groups, **kwargs)
    return np.stack(seen[:: len(clf.penalty_weights_)])


@pytest.mark.parametrize("n_rare", [1, 2, 4])
def test_rare_groups_are_shared_out_over_folds(n_rare, table):
    X, y, groups = table
    rare = groups.copy()
    rare[:n_rare] = "c"  # rows that lie together
    found = held_out_cells(search(cv=5), X, y, rare)
    assert found.shape == (5, 3, 2)
    # Each class, each cell and each fold get their share.
    for part in (found, found.sum(1), found.sum((1, 2))):
        assert np.ptp(part, axis=0).max() <= 2
    assert found[:, 2].max() == 1


def test_three_hundred_groups_are_shared_out_over_folds(rng):
    X = rng.normal(size=(1200, 3)).astype(np.float32)
    y, groups = (X[:, 0] > 0).astype(int), rng.integers(0, 300, 1200)
    found = held_out_cells(search(cv=5, batch_size=400), X, y, groups)
    assert found.sum() == 1200 and np.ptp(found, axis=0).max() <= 1
    assert np.ptp(found.sum(1), axis=0).max() <= 5


def test_a_class_rarer_than_folds(table):
    X, y, groups = table
    y = np.where(np.arange(400) < 3, 2, y)
    found = held_out_cells(search(cv=5, penalty=None), X, y, groups)
    assert sorted(found.sum(1)[:, 2]) == [0, 0, 1, 1, 1]


def test_rare_groups_with_subjects(table):
    X, y, groups = table
    rare, subjects = groups.copy(), np.arange(400) // 4
    rare[:8] = "c"
    found = held_out_cells(search(cv=5), X, y, rare, subjects=subjects)
    assert found.sum() == 400 and found.sum((1, 2)).min() > 60
    assert (found[:, 2].sum(1) > 0).sum() == 2  # two subjects, not in one fold
    # A group for each subject, so that every cell is rare.
    found = held_out_cells(search(cv=5), X, y, subjects, subjects=subjects)
    assert found.sum((1, 2)).min() > 60 and np.ptp(found.sum(1)[:, 1]) < 10
    with pytest.raises(ValueError, match="folds than there are subjects, 4"):
        search(cv=5).fit(X, y, groups, subjects=np.arange(400) // 100)


def test_a_fold_of_one_group_is_refused(table):
    X, y, _ = table
    groups = np.where(np.arange(400) < 1, "b", "a")
    clf = search(cv=5)
    with (
        pytest.warns(EmptyCellWarning),
        pytest.raises(ValueError, match="CV trains on rows of one group only"),
    ):
        clf.fit(X, y, groups)


def test_rules_and_metrics_that_they_name(table):
    X, y, groups = table
    rule = most_accurate_within("demographic_parity_difference", 0.5)
    found = search(refit=rule).fit(X, y, groups)
    assert found.penalty_weight_ == WEIGHTS[rule(found.path_)]
    gaps = []
    for train, test in FOLDS.split(X, y):
        clf = FairNeuralClassifier(
            penalty_weight=0.5,
            max_epochs=3,
            batch_size=50,
            module__hidden=(6,),
            validation_fraction=0,
            random_state=0,
        ).fit(X[train], y[train], groups[train])
        rates = [clf.predict(X[test])[groups[test] == g].mean() for g in "ab"]
        gaps.append(abs(rates[0] - rates[1]))
    path = found.path_.set_index("penalty_weight")
    shown = path.loc[0.5, "valid_demographic_parity_difference"]
    np.testing.assert_allclose(shown, np.mean(gaps), atol=1e-7)
    with pytest.raises(ValueError, match="has no score 'gap'"):
        search(refit=fairest_within(metric="gap")).fit(X, y, groups)


def test_scorers_with_groups(table):
    X, y, groups = table
    for stack in (True, False):
        clf = search(scoring=fairness_scorer(EO), stack=stack).fit(X, y, groups)
        np.testing.assert_allclose(-clf.scores_, clf.disparities_, atol=1e-12)


def test_default_weights(table):
    found = search(penalty_weights=4, max_epochs=1).fit(*table)
    np.testing.assert_allclose(found.penalty_weights_, [0, 0.01, 10**-0.5, 10])
    found = search(penalty=None, max_epochs=1).fit(*table[:2])
    assert found.penalty_weights_.tolist() == [0]
    assert np.isnan(found.disparities_).all()
    found = search(penalty=None, max_epochs=1).fit(*table)
    assert np.isfinite(found.disparities_).all()


def test_whom_the_splitter_keeps_together(table):
    X, y, groups = table
    person = np.arange(400) // 4
    clf = search(cv=GroupKFold(3), max_epochs=1)
    found = clone(clf).fit(X, y, person, sensitive_features=groups)
    folds = list(GroupKFold(3).split(X, y, person))
    other = search(cv=folds, max_epochs=1).fit(X, y, groups)
    np.testing.assert_array_equal(found.scores_, other.scores_)
    assert found.groups_.tolist() == ["a", "b"]
    for cv in (3, FOLDS, folds):
        with pytest.raises(ValueError, match="got both groups and sensitive_features"):
            search(cv=cv).fit(X, y, person, sensitive_features=groups)


def test_subjects_stay_together(table):
    X, y, groups = table
    person = np.arange(400) // 4
    found = search(cv=3, max_epochs=1).fit(X, y, groups, subjects=person)
    cell = 2 * (groups == "b") + y
    folds = list(StratifiedGroupKFold(3).split(X, cell, person))
    other = search(cv=folds, max_epochs=1).fit(X, y, groups)
    np.testing.assert_array_equal(found.scores_, other.scores_)
    routed = search(cv=GroupKFold(3), max_epochs=1)
    by_name = clone(routed).fit(X, y, groups, subjects=person)
    routed.fit(X, y, person, sensitive_features=groups)
    np.testing.assert_array_equal(by_name.scores_, routed.scores_)
    with pytest.raises(ValueError, match="one subject on both sides"):
        search(cv=FOLDS).fit(X, y, groups, subjects=person)
    with pytest.raises(ValueError, match="got subjects, and beside"):
        routed.fit(X, y, person, sensitive_features=groups, subjects=person)


def test_what_only_single_fits_can_do(table, caplog):
    caplog.set_level(logging.INFO, "fairskorch")
    X, y, groups = table
    params = {"early_stopping": most_accurate_within(EO, 1.0), "patience": 1}
    params |= {"validation_fraction": 0.2, "penalty_warmup": 0, "max_epochs": 4}
    found = search(cv=2, **params).fit(X, y, groups)
    assert found.best_epoch_ == found.best_estimator_.best_epoch_
    assert "one after another: early_stopping=most_accu" in caplog.messages[0]
    shared = {"batch_size": 50, "module__hidden": (6,), "random_state": 0}
    train, test = next(StratifiedKFold(2).split(X, 2 * (groups == "b") + y))
    clf = FairNeuralClassifier(penalty_weight=0.5, **params, **shared)
    clf.fit(X[train], y[train], groups[train])
    expected = balanced_accuracy_score(y[test], clf.predict(X[test]))
    np.testing.assert_allclose(found.scores_[0, 1], expected)
    for name, value in (
        ("penalty_data", "holdout"),
        ("flood", 0.1),
        ("ema_decay", 0.9),
        ("penalty_schedule", "ascent"),
    ):
        caplog.clear()
        search(cv=2, max_epochs=1, **{name: value}).fit(X, y, groups)
        assert f"one after another: {name}={value!r} is not" in caplog.messages[0]


def test_routing_through_other_estimators(table):
    X, y, groups = table
    person = np.arange(400) // 4
    with sklearn.config_context(enable_metadata_routing=True):
        clf = search(cv=GroupKFold(2), max_epochs=1)
        clf.set_fit_request(sensitive_features=True)
        result = cross_validate(
            make_pipeline(StandardScaler(), clf),
            X,
            y,
            cv=GroupKFold(2),
            scoring=fairness_scorer(EO),
            params={"sensitive_features": groups, "groups": person},
            return_estimator=True,
            error_score="raise",
        )
        plain = search(max_epochs=1).set_fit_request(sensitive_features=True)
        nested = cross_validate(
            plain, X, y, cv=2, params={"sensitive_features": groups}
        )
    assert np.isfinite(result["test_score"]).all()
    assert np.isfinite(nested["test_score"]).all()
    assert result["estimator"][0][-1].groups_.tolist() == ["a", "b"]


def test_folds_refer_to_rows_as_given(table):
    X, y, groups = table
    fold = np.arange(400) % 3
    weight = np.where(np.arange(400) < 30, 0.0, 1.0)
    found = search(cv=PredefinedSplit(fold)).fit(X, y, groups, sample_weight=weight)
    other = search(cv=PredefinedSplit(fold[30:])).fit(X[30:], y[30:], groups[30:])
    np.testing.assert_array_equal(found.scores_, other.scores_)
    with pytest.raises(ValueError, match="trains on no row of class 1"):
        search(cv=[(np.flatnonzero(y == 0), np.arange(9))]).fit(X, y, groups)


def test_frames_pipelines_and_datasets(table, images):
    X, y, groups = table
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(5)])
    series = pd.Series(groups, index=np.arange(400)[::-1], name="g")
    found = search(cv=2).fit(frame, pd.Series(y), series)
    plain = search(cv=2).fit(X, y, groups)
    assert found.feature_names_in_.tolist() == frame.columns.tolist()
    np.testing.assert_array_equal(found.scores_, plain.scores_)
    np.testing.assert_array_equal(found.predict(frame), plain.predict(X))
    items = list(zip(torch.as_tensor(X), y.tolist(), groups.tolist(), strict=True))

    class Items(torch.utils.data.Dataset):
        def __len__(self):
            return len(items)

        def __getitem__(self, i):
            return items[i]

    for stack in (True, False):
        found = search(cv=2, stack=stack, max_epochs=1).fit(Items())
        plain = search(cv=2, stack=stack, max_epochs=1).fit(X, y, groups)
        np.testing.assert_allclose(found.scores_, plain.scores_, atol=1e-6)


def test_copies_storage_and_the_callers_randomness(table):
    X, y, groups = table
    before = torch.random.get_rng_state()
    clf = search(cv=2)
    params = clf.get_params()
    found = clf.fit(X, y, groups)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(found.get_params()[name] is value for name, value in params.items())
    again = clone(found).fit(X, y, groups)
    np.testing.assert_array_equal(found.predict_proba(X), again.predict_proba(X))
    stored = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(found.predict_proba(X), stored.predict_proba(X))
    assert found.best_estimator_.net_ is found.net_
    assert found.n_iter_ == 3
    assert found.score(X, y) == found.best_estimator_.score(X, y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"penalty_weights": [-1, 1]}, "weights of at least 0"),
        ({"penalty_weights": 1}, "'penalty_weights' parameter"),
        ({"penalty": "mmf", "penalty_weights": [2]}, "at most 1.0"),
        ({"penalty": "oe"}, "Did you mean 'eo'"),
        ({"refit": "acuracy"}, "Did you mean 'accuracy'"),
        ({"refit": most_accurate_within("eo", 0.1)}, "Did you mean 'equalized_odds_d"),
        ({"scoring": "balanced"}, "'balanced'"),
        ({"penalty_weights": ["a", "b"]}, r"parameter of .*CV .* Got \['a', 'b'\]"),
        ({"cv": []}, r"'cv' parameter of FairNeuralClassifierCV .* Got \[\]"),
        ({"cv": iter([])}, "cv of FairNeuralClassifierCV has no fold"),
        ({"cv": 401}, "cv=401 of .* more folds than there are rows, 400"),
        ({"scoring": lambda clf, X, y: "good"}, "must return a number; .* 'good'"),
        ({"callbacks": [print]}, "'callbacks' parameter of FairNeuralClassifierCV"),
        ({"early_stopping": "loss"}, "of FairNeuralClassifierCV needs .* every fit"),
        ({"optimizer__betas": 3}, "optimizer AdamW of FairNeuralClassifierCV cannot"),
        ({"module": lambda hidden: 3}, "'module' parameter of FairNeuralClassifierCV"),
        ({"stack": "yes"}, "'stack' parameter"),
        ({"penalty_weight": 3}, "no parameter 'penalty_weight'"),
        ({"penalty__slop": 3}, "Did you mean 'slope'"),
        ({"refit": lambda path: 7}, "position of a row of path_, 0 to 2; got 7"),
    ],
)
def test_bad_parameters_change_nothing(params, message, table):
    clf = search(**params)
    with pytest.raises(ValueError, match=message):
        clf.fit(*table)
    assert not [n for n in vars(clf) if n.endswith("_")]


def test_bad_input(table):
    X, y, groups = table
    with pytest.raises(ValueError, match="needs the group of every training row"):
        search().fit(X, y)
    with pytest.raises(ValueError, match="one group only"):
        search().fit(X, y, np.full(400, "a"))
    with pytest.raises(ValueError, match="at least two classes"):
        search().fit(X, np.zeros(400), groups)


def test_parameters_are_those_of_the_estimator_that_is_searched():
    own, searched = (
        inspect.signature(kind).parameters
        for kind in (FairNeuralClassifierCV, FairNeuralClassifier)
    )
    assert searched.keys() - own.keys() == {"penalty_weight", "warm_start"}
    assert own.keys() - searched.keys() == {
        *("penalty_weights", "cv", "scoring", "refit", "stack")
    }
    for name in own.keys() & searched.keys() - {"validation_fraction"}:
        assert own[name].default is searched[name].default or (
            own[name].default == searched[name].default
        )
