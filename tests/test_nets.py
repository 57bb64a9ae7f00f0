"""The skorch net by itself, and the traps of a skorch loop."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    TrainEndCheckpoint,
)
from skorch.dataset import ValidSplit
from skorch.helper import SliceDict, predefined_split

from fairskorch import FairNeuralClassifier
from fairskorch.batches import GroupedRows
from fairskorch.exceptions import NonFiniteLossError
from fairskorch.metrics import equalized_odds_difference
from fairskorch.modules import MLP
from fairskorch.nets import GroupPenaltyNet
from fairskorch.penalties import (
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    MaxMinLoss,
)


@pytest.fixture
def coded(table):
    X, y, groups = table
    return X, y, (groups == "b").astype(int)


def make(kind=GroupPenaltyNet, **params):
    return kind(
        MLP,
        **{
            "module__n_features": 5,
            "module__n_classes": 2,
            "penalty": EqualizedOdds,
            "penalty__n_groups": 2,
            "optimizer": torch.optim.AdamW,
            "lr": 1e-3,
            "max_epochs": 2,
            "verbose": 0,
            **params,
        },
    )


def test_a_net_trains_by_itself(coded, capsys):
    X, y, groups = coded
    net = make(verbose=1, max_epochs=5).fit({"X": X, "groups": groups}, y)
    assert net.predict(X).shape == (400,)
    assert "train_penalty" in capsys.readouterr().out
    assert "valid_loss" not in net.history[-1]


def test_torchs_seed_is_the_nets_seed(coded):
    X, y, groups = coded
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        net = make().fit({"X": X, "groups": groups}, y)
        found.append(net.predict_proba(X))
    np.testing.assert_array_equal(*found)


def test_each_batch_brings_its_own_groups(coded):
    X, y, groups = coded
    X = np.column_stack([groups, X]).astype(np.float32)
    seen = []

    class Look(EqualizedOdds):
        def penalise(self, logits, target, groups, *rest):
            seen.append((len(logits), len(groups)))
            return super().penalise(logits, target, groups, *rest)

    class Check(Callback):
        def on_batch_begin(self, net, batch=None, training=False, **kwargs):
            fields, target = batch
            assert torch.equal(fields["X"][:, 0].long(), fields["groups"])
            assert len(target) == len(fields["groups"]) == 50

    rows = GroupedRows(X, y, groups)
    make(
        penalty=Look,
        module__n_features=6,
        batch_size=50,
        callbacks=[Check()],
        monitor=None,
    ).fit(rows)
    assert seen == [(50, 50)] * 16


def test_a_penaltys_parameter_does_not_join_the_networks_optimiser(coded):
    class WithMultiplier(EqualizedOdds):
        def __init__(self, n_groups, **options):
            super().__init__(n_groups, **options)
            self.multiplier = torch.nn.Parameter(torch.ones(()))

        def evaluate(self, statistic, running=None):
            return self.multiplier * super().evaluate(statistic, running)

    X, y, groups = coded
    net = make(penalty=WithMultiplier).fit({"X": X, "groups": groups}, y)
    assert net.penalty_.multiplier.item() == 1
    trained = {id(p) for g in net.optimizer_.param_groups for p in g["params"]}
    assert id(net.penalty_.multiplier) not in trained


def test_parameters_change_on_a_fitted_net_and_keep_the_optimiser(coded):
    X, y, groups = coded
    net = make().fit({"X": X, "groups": groups}, y)
    optimizer, module = net.optimizer_, net.module_
    net.set_params(
        penalty__slope=3.0,
        penalty_weight=0.2,
        penalty_warmup=1,
        iterator_train__num_workers=0,
        iterator_valid__num_workers=0,
    )
    assert net.penalty_.slope == 3
    assert net.optimizer_ is optimizer
    assert net.module_ is module
    net.partial_fit({"X": X, "groups": groups}, y)
    assert net.history[-1]["penalty_weight"] == 0.2


def test_parameters_change_before_the_first_fit(coded):
    X, y, groups = coded
    rows = {"X": X, "groups": groups}
    net = clone(make()).set_params(penalty_weight=0.2, penalty_warmup=1)
    net.fit(rows, y)
    assert net.history[-1]["penalty_weight"] == 0.2
    search = GridSearchCV(
        make(), {"penalty_weight": [0.0, 1.0]}, cv=2, scoring="accuracy"
    )
    assert search.fit(SliceDict(**rows), y).best_params_["penalty_weight"] in (0, 1)
    with pytest.raises(ValueError, match="did you mean penalty__slope"):
        make().set_params(penalty_slope=1).fit(rows, y)


def test_a_memory_lives_in_the_net(coded):
    X, y, groups = coded
    net = make(penalty__memory=0.9).fit({"X": X, "groups": groups}, y)
    assert net.penalty_memory_.shape == (2, 2, 2)
    # 8 batches of 100 rows, decayed.
    weight = sum(0.9**i for i in range(8))
    assert float(net.penalty_memory_[..., 0].sum()) == pytest.approx(100 * weight)
    assert make().fit({"X": X, "groups": groups}, y).penalty_memory_ is None


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_a_memory_is_there_before_the_first_batch(precision):
    net = make(penalty__memory=0.9, precision=precision).initialize()
    wide = torch.float64 if precision == "float64" else torch.float32
    assert net.penalty_memory_.dtype == wide
    assert torch.equal(net.penalty_memory_, torch.zeros(2, 2, 2, dtype=wide))


def test_a_memory_fills_while_the_weight_ramps_up(coded):
    X, y, groups = coded
    net = make(penalty__memory=0.9, penalty_warmup=2, max_epochs=1)
    net.fit({"X": X, "groups": groups}, y)
    assert net.history[-1]["penalty_weight"] == 0
    assert net.penalty_memory_[..., 0].sum() > 0
    off = make(penalty__memory=0.9, penalty_weight=0.0)
    off.fit({"X": X, "groups": groups}, y)
    assert off.penalty_memory_.abs().sum() == 0


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))]
)
def test_nets_are_copied(way, coded):
    X, y, groups = coded
    net = make(penalty__memory=0.9).fit({"X": X, "groups": groups}, y)
    again = way(net)
    np.testing.assert_array_equal(again.predict_proba(X), net.predict_proba(X))
    assert torch.equal(again.penalty_memory_, net.penalty_memory_)


def test_hooks_of_batches_see_values_and_cost_only_then(coded):
    X, y, groups = coded
    losses = []

    class Hook(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            name = "train_loss" if training else "valid_loss"
            losses.append(net.history[-1, "batches", -1, name])

    rows = GroupedRows(X, y, groups)
    valid = rows.subset(range(100))
    net = make(callbacks=[Hook()], train_split=predefined_split(valid)).fit(rows)
    assert len(losses) == 2 * (4 + 1)
    assert np.isfinite(losses).all()
    assert len(net.history[-1]["batches"]) == 4 + 1
    quiet = make(train_split=predefined_split(valid)).fit(rows)
    assert not any(batch for row in quiet.history for batch in row["batches"])


@pytest.mark.parametrize(
    "name", ["on_batch_begin", "on_batch_end", "on_grad_computed", "train_step_single"]
)
def test_hooks_of_a_net_of_ones_own_are_called(name, coded):
    calls = []

    class Noted(GroupPenaltyNet):
        pass

    def note(self, *args, **kwargs):
        calls.append(name)
        return getattr(super(Noted, self), name)(*args, **kwargs)

    setattr(Noted, name, note)
    make(kind=Noted).fit(GroupedRows(*coded))
    assert calls


def test_skorchs_callbacks_work_on_the_estimator(table):
    X, y, groups = table
    stop = EarlyStopping(monitor="valid_loss", patience=2, sink=lambda _: None)
    clip = GradientNormClipping(1e-9)
    clf = FairNeuralClassifier(
        max_epochs=60,
        callbacks=[stop, clip],
        random_state=0,
        lr=0.05,
        optimizer=torch.optim.SGD,
    ).fit(X, y, groups)
    assert clf.n_iter_ < 60


def test_skorchs_scoring_on_batches_still_runs(table):
    X, y, groups = table
    scoring = EpochScoring(
        lambda net, X, y: 0.5, name="half", lower_is_better=False, use_caching=False
    )
    clf = FairNeuralClassifier(max_epochs=2, callbacks=[scoring], random_state=0)
    history = clf.fit(X, y, groups).history_
    assert history["half"].tolist() == [0.5, 0.5]
    assert not [c for c in history if c.endswith("_best")]


class WithDropout(MLP):
    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes, dropout=0.5)


def test_history_is_exact_in_eval_mode_on_shuffled_rows(table):
    # A scoring callback on cached training batches pairs predictions with the groups
    # of other rows, and sees dropout.
    X, y, groups = table
    clf = FairNeuralClassifier(
        module=WithDropout, max_epochs=4, monitor="all", random_state=0
    )
    train, held = slice(0, 300), slice(300, 400)
    clf.fit(
        X[train],
        y[train],
        groups[train],
        X_val=X[held],
        y_val=y[held],
        groups_val=groups[held],
    )
    row = clf.history_.iloc[-1]
    for split, part in (("train", train), ("valid", held)):
        predicted = clf.predict(X[part])
        gap = equalized_odds_difference(
            y[part], predicted, sensitive_features=groups[part]
        )
        loss = -np.log(clf.predict_proba(X[part])[np.arange(len(y[part])), y[part]])
        assert row[f"{split}_equalized_odds_difference"] == pytest.approx(
            gap, abs=1e-12
        )
        assert row[f"{split}_accuracy"] == np.mean(predicted == y[part])
        assert row[f"{split}_loss"] == pytest.approx(loss.mean(), rel=1e-5)
        penalty = EqualizedOdds(2, slope=clf.net_.penalty_.slope)
        with torch.no_grad():
            logits = clf.net_.module_(torch.as_tensor(X[part])).double()
            expected = penalty(
                logits,
                torch.as_tensor(y[part]),
                torch.as_tensor((groups[part] == "b").astype(int)),
            )
        assert row[f"{split}_penalty"] == pytest.approx(float(expected), rel=1e-5)
    for name in ("accuracy", "balanced_accuracy", "equalized_odds_difference"):
        assert row[f"overfit_{name}"] == pytest.approx(
            row[f"valid_{name}"] - row[f"train_{name}"]
        )


def test_gradient_norms_are_those_of_all_rows(table):
    X, y, groups = table
    clf = FairNeuralClassifier(
        max_epochs=1,
        monitor="all",
        lr=1e-12,
        validation_fraction=0,
        random_state=0,
        precision="float64",
        sampler="shuffle",
    ).fit(X, y, groups)
    module = clf.net_.module_
    logits = module(torch.as_tensor(X, dtype=torch.float64))
    target = torch.as_tensor(y)
    codes = torch.as_tensor((groups == "b").astype(int))
    for name, value in (
        ("task", torch.nn.functional.cross_entropy(logits, target)),
        ("penalty", clf.net_.penalty_(logits, target, codes)),
    ):
        parts = torch.autograd.grad(value, list(module.parameters()), retain_graph=True)
        norm = torch.cat([p.flatten() for p in parts]).norm()
        found = clf.history_[f"{name}_gradient_norm"].iloc[0]
        assert found == pytest.approx(norm.item(), rel=1e-6)


def test_the_sample_of_training_rows_is_as_large_as_the_held_out_part(table):
    X, y, groups = table
    sizes = []

    class Count(EqualizedOdds):
        def evaluate(self, statistic, running=None):
            if statistic.ndim > 3:  # of both parts, as no step has it
                sizes.extend(statistic[..., 0].sum((-2, -1)).tolist())
            return super().evaluate(statistic, running)

    clf = FairNeuralClassifier(penalty=Count, max_epochs=2, random_state=0)
    clf.fit(X, y, groups)
    assert sizes == [sizes[0]] * 4
    assert 35 <= sizes[0] <= 45


def test_a_single_step_has_the_penalty_at_full_weight(coded):
    X, y, groups = coded
    rows = GroupedRows(X, y, groups)
    losses = []
    for weight in (0, 2.0):
        torch.manual_seed(0)
        net = make(penalty_weight=weight, penalty_warmup=5).initialize()
        fields, target = next(iter(net.get_iterator(rows, training=True)))
        loss = net.get_loss(net.infer(fields), target, X=fields, training=True)
        losses.append(loss.item())
    assert losses[1] > losses[0]


class OwnLoss(GroupPenaltyNet):
    """The same loss, which is differentiated by autograd as nets cannot know it."""

    def get_loss(self, *args, **kwargs):
        return super().get_loss(*args, **kwargs)


@pytest.mark.parametrize(
    "params",
    [
        {"penalty": None},
        {"penalty": EqualizedOdds},
        {"penalty": EqualizedOdds, "penalty__memory": 0.9, "penalty__slope": 2.0},
        {"penalty": EqualizedOdds, "penalty_schedule": "ascent", "penalty_warmup": 2},
        {"penalty": DemographicParity, "sampler": "balanced_cells"},
        {"penalty": EqualOpportunity, "criterion__reduction": "none", "weight": True},
        {"penalty": MaxMinLoss, "penalty_weight": 0.5},
        {"penalty": EqualizedOdds, "criterion__reduction": "sum"},
        {"penalty": EqualizedOdds, "criterion__label_smoothing": 0.1},
        {"penalty": EqualizedOdds, "flood": 0.6},
    ],
    ids=str,
)
def test_steps_are_those_of_autograd(coded, params):
    X, y, groups = coded
    params = dict(params)
    fields = {"X": X.astype(np.float64), "groups": np.where(groups, groups, -1)}
    fields["groups"][:150] = 0
    if params.pop("weight", False):
        fields["weight"] = np.linspace(0, 2, len(X))
    nets = []
    for kind in (GroupPenaltyNet, OwnLoss):
        torch.manual_seed(0)
        net = make(kind, precision="float64", batch_size=64, **params)
        nets.append(net.fit(fields, y))
    known, own = (
        torch.nn.utils.parameters_to_vector(net.module_.parameters()) for net in nets
    )
    torch.testing.assert_close(known, own, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        *(torch.tensor(net.history[:, "objective"]) for net in nets),
        rtol=1e-12,
        atol=1e-12,
    )


def test_a_loss_that_is_not_finite_stops_the_net(coded):
    X, y, groups = coded
    with pytest.raises(NonFiniteLossError, match="epoch 1"):
        make(lr=1e38, optimizer=torch.optim.SGD, max_epochs=3).fit(
            {"X": X * 1e6, "groups": groups}, y
        )


def test_checkpoints_and_scorers_of_skorch_run(table, tmp_path):
    X, y, groups = table
    clf = FairNeuralClassifier(
        max_epochs=3,
        random_state=0,
        callbacks=[
            Checkpoint(dirname=str(tmp_path)),
            EpochScoring("accuracy", use_caching=False, name="fresh"),
            EpochScoring("roc_auc", name="auc"),
        ],
        callbacks__EpochScoring_1__lower_is_better=False,
    ).fit(X, y, groups)
    assert (tmp_path / "params.pt").exists()
    np.testing.assert_allclose(clf.history_["fresh"], clf.history_["valid_accuracy"])
    assert clf.history_["auc"].between(0.5, 1).all()


@pytest.mark.parametrize(
    "point", [Checkpoint(monitor=None), TrainEndCheckpoint(fn_prefix="")]
)
def test_a_checkpoint_alone_is_written(point, table, tmp_path):
    X, y, groups = table
    point.dirname = str(tmp_path)
    clf = FairNeuralClassifier(max_epochs=2, random_state=0, callbacks=[point])
    clf.fit(X, y, groups)
    other = FairNeuralClassifier(max_epochs=1, random_state=1).fit(X, y, groups)
    other.net_.load_params(f_params=tmp_path / "params.pt")
    np.testing.assert_array_equal(clf.predict_proba(X), other.predict_proba(X))


def test_no_timer_is_needed(table):
    X, y, groups = table
    clf = FairNeuralClassifier(
        max_epochs=2, random_state=0, callbacks__epoch_timer=None
    ).fit(X, y, groups)
    assert clf.n_iter_ == 2


def test_a_net_splits_its_rows_as_skorch_does(coded):
    X, y, groups = coded
    net = make(train_split=ValidSplit(5, stratified=True))
    net.fit({"X": X, "groups": groups}, y)
    assert "valid_equalized_odds_difference" in net.history[-1]


@pytest.mark.parametrize("shift", [1, -2])
def test_a_net_refuses_groups_that_its_penalty_does_not_know(shift, coded):
    X, y, groups = coded
    with pytest.raises(ValueError, match=r"codes from -1 to 1, as penalty__n_groups=2"):
        make().fit({"X": X, "groups": groups + shift}, y)


def test_a_net_refuses_rows_whose_classes_it_cannot_know(coded):
    X, y, _ = coded
    data = torch.utils.data.TensorDataset(torch.as_tensor(X), torch.as_tensor(y))
    with pytest.raises(TypeError, match="trains on a GroupedRows or on a dict"):
        make().fit(data)


class ByAutograd(EqualizedOdds):
    """Differentiates its gap by itself."""

    def effect(self, statistic, running=None):
        with torch.enable_grad():
            sums = statistic.detach().requires_grad_()
            value = self.evaluate(sums, running)
            (effect,) = torch.autograd.grad(value, sums)
        return value.detach(), effect[..., 1:]


class Keeping(EqualizedOdds):
    """Keeps a tensor of one step for another."""

    spread = 1.0

    def remembered(self, values, logits):
        self.spread = values.std()
        return values

    def join(self, rates, present):
        return super().join(rates, present) * self.spread


class Doubled(EqualizedOdds):
    """Has a derivative of its own."""

    def derivative(self, *args):
        value, slopes = super().derivative(*args)
        return 2 * value, 2 * slopes


class Looks(Callback):
    """Has each batch go the way of hooks, where autograd differentiates the loss."""

    def on_batch_end(self, net, **kwargs):
        pass


def trained(coded, penalty, callbacks=(), **params):
    X, y, groups = coded
    torch.manual_seed(0)
    net = make(
        penalty=penalty, penalty__memory=0.5, callbacks=list(callbacks), **params
    )
    net.fit({"X": X, "groups": groups}, y)
    return torch.cat([weight.detach().flatten() for weight in net.module_.parameters()])


@pytest.mark.parametrize("penalty", [ByAutograd, Keeping, Doubled])
def test_a_penalty_of_ones_own_trains_alike_with_hooks_and_without(coded, penalty):
    found = trained(coded, penalty)
    torch.testing.assert_close(found, trained(coded, penalty, [Looks()]))
    plain = trained(coded, EqualizedOdds)
    assert torch.allclose(found, plain, atol=1e-6) == (penalty is ByAutograd)


def test_twice_the_derivative_is_twice_the_weight(coded):
    twice = trained(coded, EqualizedOdds, penalty_weight=2.0)
    torch.testing.assert_close(trained(coded, Doubled), twice)
