"""What the words of the interface mean, one after the other."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import PredefinedSplit
from skorch.callbacks import Callback, LRScheduler

from fairskorch import FairNeuralClassifier
from fairskorch.batches import Batches, GroupedRows
from fairskorch.exceptions import ConstantPredictionWarning
from fairskorch.modules import MLP
from fairskorch.penalties import ALIASES, EqualizedOdds

# Three epochs on few rows may well end in one class; that is tested by itself.
pytestmark = pytest.mark.filterwarnings(
    "ignore::fairskorch.exceptions.ConstantPredictionWarning"
)


def quick(**params):
    return FairNeuralClassifier(**{"max_epochs": 3, "random_state": 0, **params})


def same(a, b, X):
    return np.array_equal(a.predict_proba(X), b.predict_proba(X))


# Penalties and weights ------------------------------------------------------------


@pytest.mark.parametrize("alias", ALIASES)
def test_every_alias_trains(alias, table, device):
    X, y, groups = table
    clf = quick(penalty=alias, penalty_weight=0.5, device=device).fit(X, y, groups)
    assert clf.predict_proba(X).shape == (400, 2)
    assert clf.history_["train_penalty"].notna().all()
    assert type(clf.net_.penalty_) is ALIASES[alias]
    assert clf.score(X, y) > 0.5


def test_a_class_of_penalty_is_as_good_as_its_alias(table):
    X, y, groups = table
    assert same(
        quick(penalty=EqualizedOdds).fit(X, y, groups), quick().fit(X, y, groups), X
    )


@pytest.mark.parametrize("sampler", ["shuffle", "balanced_cells"])
@pytest.mark.parametrize("alias", ["eo", "mmf", "mindiff"])
def test_weight_zero_is_no_penalty_bit_for_bit(alias, sampler, table):
    X, y, groups = table
    zero = quick(penalty=alias, penalty_weight=0, sampler=sampler).fit(X, y, groups)
    none = quick(penalty=None, sampler=sampler).fit(X, y, groups)
    assert same(zero, none, X)
    weighted = quick(
        penalty=alias, penalty_weight=0.5, sampler=sampler, penalty_warmup=0
    )
    assert not same(weighted.fit(X, y, groups), none, X)


def test_auto_sampler_depends_on_the_penalty_alone(table):
    X, y, groups = table
    assert quick(penalty=None).fit(X, y).sampler_ == "shuffle"
    for weight in (0, 2):
        clf = quick(penalty_weight=weight).fit(X, y, groups)
        assert clf.sampler_ == "balanced_classes"


def test_a_strong_penalty_narrows_the_gap_of_training_rows(table):
    X, y, groups = table
    common = {"sampler": "balanced_classes", "max_epochs": 40, "monitor": "all"}
    plain = quick(penalty=None, **common).fit(X, y, groups)
    eo = quick(penalty_weight=1, penalty__slope=4, **common).fit(X, y, groups)
    name = "train_equalized_odds_difference"
    assert eo.history_[name].iloc[-1] < 0.6 * plain.history_[name].iloc[-1]


def test_running_predictions_close_the_gap_of_hard_predictions(table):
    X, y, groups = table
    common = {"max_epochs": 60, "monitor": "all", "validation_fraction": 0}
    name = "train_equalized_odds_difference"
    found = {
        running: quick(penalty__running=running, penalty__memory=0.9, **common)
        .fit(X, y, groups)
        .history_[name]
        .iloc[-10:]
        .mean()
        for running in ("scores", "predictions")
    }
    plain = quick(penalty=None, sampler="balanced_classes", **common)
    plain = plain.fit(X, y, groups).history_[name].iloc[-1]
    assert found["predictions"] < plain
    assert found["predictions"] != found["scores"]


def test_the_weight_ramps_up_from_zero(table):
    X, y, groups = table
    ramp = quick(max_epochs=6, penalty_weight=2, penalty_warmup=4).fit(X, y, groups)
    assert ramp.history_["penalty_weight"].tolist() == [0, 0.5, 1, 1.5, 2, 2]
    share = quick(max_epochs=4, penalty_warmup=0.5, penalty_weight=1).fit(X, y, groups)
    assert share.penalty_warmup_ == 2
    assert share.history_["penalty_weight"].tolist() == [0, 0.5, 1, 1]
    at_once = quick(penalty_warmup=0, penalty_weight=1).fit(X, y, groups)
    assert at_once.history_["penalty_weight"].tolist() == [1, 1, 1]
    auto = quick(max_epochs=10).fit(X, y, groups)
    assert auto.penalty_warmup_ == 5
    # A share leaves one epoch of full weight, however few there are.
    one = quick(max_epochs=1, penalty_weight=1).fit(X, y, groups)
    assert one.history_["penalty_weight"].tolist() == [1]
    whole = quick(penalty_warmup=1.0, penalty_weight=1).fit(X, y, groups)
    assert whole.history_["penalty_weight"].tolist() == [0, 0.5, 1]


def test_max_min_loss_replaces_the_mean(table):
    X, y, groups = table
    clf = quick(
        penalty="mmf",
        penalty_weight=1,
        penalty_warmup=0,
        penalty__memory=0,
        sampler="shuffle",
        batch_size=400,
        validation_fraction=0,
        max_epochs=1,
        lr=1e-9,
    ).fit(X, y, groups)
    row = clf.history_.iloc[0]
    assert row["objective"] == pytest.approx(row["train_penalty"], rel=1e-4)
    assert row["objective"] > row["train_loss"]


def test_groups_are_optional_without_penalty(table):
    X, y, groups = table
    clf = quick(penalty=None).fit(X, y)
    assert clf.groups_ is None
    assert clf.group_counts_ is None
    with_groups = quick(penalty=None).fit(X, y, groups)
    assert with_groups.groups_.tolist() == ["a", "b"]
    assert "valid_equalized_odds_difference" in with_groups.history_


# Rates under samplers -------------------------------------------------------------


@pytest.mark.parametrize(
    "sampler", ["balanced_classes", "balanced_cells", "stratified"]
)
@pytest.mark.parametrize("alias", ["dp", "di", "eo", "mindiff"])
def test_rates_refer_to_the_training_rows_whatever_is_drawn(alias, sampler, table):
    X, y, groups = table
    y = (X[:, 0] > 1).astype(int)
    clf = quick(
        penalty=alias, sampler=sampler, validation_fraction=0, penalty__memory=0
    ).fit(X, y, groups)
    net = clf.net_
    codes = (groups == "b").astype(int)
    rows = GroupedRows(X, y, codes)
    total = 0
    torch.manual_seed(0)
    batches = net.get_iterator(rows, training=True)
    with torch.no_grad():
        for _ in range(80):
            for fields, target in batches:
                logits = net.infer(fields)
                total = total + net.penalty_.statistic(
                    logits, target, fields["groups"], fields.get("importance")
                )
        fields, target = rows.take(torch.arange(400))
        expected = net.penalty_(net.infer(fields), target, fields["groups"])
        found = net.penalty_.evaluate(total)
    assert float(found) == pytest.approx(float(expected), abs=0.02)


def test_cells_that_take_turns_are_logged_once(rng, caplog):
    X = rng.normal(size=(600, 3))
    with caplog.at_level(logging.WARNING, logger="fairskorch"):
        quick(sampler="balanced_cells", batch_size=64).fit(
            X, np.arange(600) % 2, np.arange(600) // 2 % 150
        )
    assert len(caplog.records) == 1
    assert "300 strata and only" in caplog.text


def test_three_hundred_groups_train(rng):
    X = rng.normal(size=(1200, 3))
    clf = quick(max_epochs=5).fit(X, np.arange(1200) % 2, np.arange(1200) // 4)
    assert len(clf.groups_) == 300
    assert np.isfinite(clf.history_["train_penalty"]).all()


def test_crossed_groups_unknown_rows_and_several_classes(rng):
    X = rng.normal(size=(600, 4))
    y = np.array(["x", "y", "z"])[np.digitize(X[:, 0], [-0.5, 0.5])]
    frame = pd.DataFrame(
        {"sex": rng.choice(["f", "m"], 600), "old": rng.choice([True, False], 600)},
        dtype=object,
    )
    frame.loc[:40, "sex"] = None
    clf = quick(max_epochs=10).fit(X, y, frame)
    assert clf.groups_.tolist() == [
        ("f", False),
        ("f", True),
        ("m", False),
        ("m", True),
    ]
    assert clf.group_counts_.to_numpy().sum() == 600 - 41
    assert clf.group_counts_.index.names == ["sex", "old"]
    assert clf.group_counts_.columns.tolist() == ["x", "y", "z"]
    assert set(clf.predict(X)) == {"x", "y", "z"}
    assert clf.classes_.tolist() == ["x", "y", "z"]


def test_rows_of_unknown_group_count_in_the_task_loss(table):
    X, y, groups = table
    some = groups.astype(object)
    some[:100] = None
    # Held-out rows are drawn by cells, so only a fit without them is comparable.
    kept = quick(penalty_weight=0, sampler="shuffle", validation_fraction=0)
    plain = quick(penalty=None, validation_fraction=0)
    assert same(kept.fit(X, y, some), plain.fit(X, y), X)


# Batch norm, dropout --------------------------------------------------------------


class NormOnly(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(1, momentum=None)
        self.head = torch.nn.Linear(1, 2)

    def forward(self, X):
        return self.head(self.norm(X))


def test_batch_norm_describes_the_batches_that_were_drawn():
    y = (np.arange(1000) < 100).astype(int)
    means = {}
    for sampler in ("shuffle", "balanced_classes"):
        clf = quick(module=NormOnly, penalty=None, sampler=sampler, max_epochs=2).fit(
            y[:, None].astype(float), y
        )
        means[sampler] = float(clf.net_.module_.norm.running_mean)
    assert means["shuffle"] == pytest.approx(0.1, abs=0.01)
    assert means["balanced_classes"] == pytest.approx(0.5, abs=0.01)


# Weights of rows and classes ------------------------------------------------------


def gradient(X, y, weight=None, **params):
    """The gradient of one full-batch step of plain descent, and the loss."""
    clf = FairNeuralClassifier(
        penalty=None,
        optimizer=torch.optim.SGD,
        lr=1.0,
        batch_size=10_000,
        max_epochs=1,
        validation_fraction=0,
        precision="float64",
        random_state=0,
        sampler="shuffle",
        monitor=None,
        **params,
    )
    clf.fit(X, y, sample_weight=weight)
    start = clone(clf).set_params(lr=1e-300).fit(X, y, sample_weight=weight)
    steps = [
        (before - after).flatten()
        for before, after in zip(
            start.net_.module_.parameters(),
            clf.net_.module_.parameters(),
            strict=True,
        )
    ]
    return torch.cat(steps).detach(), clf.history_["objective"].iloc[0]


def test_weighted_and_repeated_rows_give_the_same_loss_and_gradient(table):
    X, y, _ = table
    times = np.random.default_rng(1).integers(0, 4, len(y))
    weighted, loss = gradient(X, y, times)
    again = np.repeat(np.arange(len(y)), times)
    repeated, expected = gradient(X[again], y[again])
    assert loss == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(weighted, repeated, rtol=1e-9, atol=1e-12)


def test_rows_of_weight_zero_are_dropped_first(table):
    X, y, groups = table
    weight = (np.arange(400) % 3 > 0).astype(float)
    keep = weight > 0
    dropped = quick().fit(X[keep], y[keep], groups[keep])
    weighted = quick().fit(X, y, groups, sample_weight=weight)
    np.testing.assert_allclose(
        weighted.predict_proba(X), dropped.predict_proba(X), atol=1e-6
    )
    pd.testing.assert_frame_equal(weighted.group_counts_, dropped.group_counts_)


def test_sample_weights_do_not_touch_rates(table):
    X, y, groups = table
    weight = np.where(groups == "b", 100.0, 1.0)
    common = {"lr": 1e-12, "max_epochs": 1, "monitor": "all"}
    columns = ["train_penalty", "train_loss", "train_accuracy"]
    weighted = quick(**common).fit(X, y, groups, sample_weight=weight).history_
    plain = quick(**common).fit(X, y, groups).history_
    np.testing.assert_allclose(weighted[columns], plain[columns], rtol=1e-6)
    assert not np.allclose(weighted["objective"], plain["objective"])


def test_class_weights_are_weights_of_rows(table):
    X, y, _ = table
    by_class, loss = gradient(X, y, class_weight={0: 1.0, 1: 5.0})
    by_row, expected = gradient(X, y, np.where(y == 1, 5.0, 1.0))
    assert loss == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(by_class, by_row)
    balanced, _ = gradient(X, y, class_weight="balanced")
    counts = np.bincount(y)
    by_hand, _ = gradient(X, y, (400 / (2 * counts))[y])
    torch.testing.assert_close(balanced, by_hand)


def test_a_criterion_of_one_number_refuses_weights(table):
    class Sum(torch.nn.Module):
        def forward(self, logits, target):
            return torch.nn.functional.cross_entropy(logits, target)

    X, y, _ = table
    assert quick(penalty=None, criterion=Sum).fit(X, y).score(X, y) > 0.5
    with pytest.raises(ValueError, match="criterion__reduction='none'"):
        quick(penalty=None, criterion=Sum).fit(X, y, sample_weight=np.arange(400) + 1)


def test_log_probabilities_may_be_compared_by_nll(table):
    class Logits(torch.nn.Sequential):
        def __init__(self, n_features, n_classes):
            super().__init__(torch.nn.Linear(n_features, n_classes))

    class Logs(Logits):
        def __init__(self, n_features, n_classes):
            super().__init__(n_features, n_classes)
            self.append(torch.nn.LogSoftmax(1))

    X, y, groups = table
    found = quick(module=Logs, criterion=torch.nn.NLLLoss).fit(X, y, groups)
    expected = quick(module=Logits).fit(X, y, groups)
    np.testing.assert_allclose(
        found.predict_proba(X), expected.predict_proba(X), atol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_outputs_of_another_type(dtype, precision, table):
    class Cast(MLP):
        def forward(self, X):
            return super().forward(X).to(dtype)

    class Differentiated(torch.nn.CrossEntropyLoss):
        """One whose derivative is not written out."""

    X, y, groups = table
    params = {"module": Cast, "precision": precision, "lr": 1e-3}
    found = quick(**params).fit(X, y, groups)
    expected = quick(criterion=Differentiated, **params).fit(X, y, groups)
    np.testing.assert_allclose(
        found.predict_proba(X), expected.predict_proba(X), atol=1e-3
    )
    assert found.predict_proba(X).dtype == np.float64


def test_prior_correction_brings_class_shares_back(rng):
    X = rng.normal(size=(3000, 2))
    y = (rng.random(3000) < 0.08).astype(int)
    X[y == 1] += 1
    groups = rng.integers(0, 2, 3000)
    common = {"penalty_weight": 0, "max_epochs": 15, "sampler": "balanced_classes"}
    balanced = quick(**common).fit(X, y, groups).predict_proba(X)
    corrected = quick(prior_correction=True, **common).fit(X, y, groups)
    corrected = corrected.predict_proba(X)
    weighted = quick(
        penalty=None, class_weight="balanced", prior_correction=True, max_epochs=15
    )
    weighted = weighted.fit(X, y).predict_proba(X)
    assert balanced[:, 1].mean() > 0.25
    assert corrected[:, 1].mean() == pytest.approx(0.08, abs=0.03)
    assert weighted[:, 1].mean() == pytest.approx(0.08, abs=0.03)
    np.testing.assert_allclose(corrected.sum(1), 1, rtol=1e-12)
    odds = corrected[:, 1] / corrected[:, 0] / (balanced[:, 1] / balanced[:, 0])
    np.testing.assert_allclose(odds, odds[0], rtol=1e-6)


# Going on -------------------------------------------------------------------------


def test_partial_fit_is_one_epoch_without_split_or_ramp(table):
    X, y, groups = table
    clf = quick(penalty_warmup=5, penalty_weight=1)
    for epochs in (1, 2, 3):
        clf.partial_fit(X, y, groups)
        assert clf.n_iter_ == len(clf.history_) == epochs
    assert clf.history_["penalty_weight"].tolist() == [1, 1, 1]
    assert clf.history_["lr"].nunique() == 1
    assert not any(c.startswith("valid") for c in clf.history_)


def test_partial_fit_fixes_classes_and_groups(table):
    X, y, groups = table
    clf = quick().partial_fit(X, y, groups, classes=[0, 1, 2])
    assert clf.predict_proba(X).shape == (400, 3)
    clf.partial_fit(X[:50], np.zeros(50), groups[:50])
    with pytest.raises(ValueError, match=r"does not know: \[7\]"):
        clf.partial_fit(X, y + 7 * (y == 0), groups)
    with pytest.raises(ValueError, match=r"not fitted on: \['new'\]"):
        clf.partial_fit(X, y, np.where(groups == "b", "new", "a"))
    assert clf.n_iter_ == 2
    with pytest.raises(ValueError, match="needs all rows, which partial_fit"):
        quick(class_weight="balanced").partial_fit(X, y, groups)


def test_partial_fit_goes_on_after_fit_and_without_groups_if_there_is_no_penalty(table):
    X, y, groups = table
    clf = quick(penalty=None).fit(X, y, groups)
    before = clf.predict_proba(X)
    clf.partial_fit(X, y)
    assert clf.n_iter_ == 4
    assert not np.array_equal(before, clf.predict_proba(X))


def test_warm_start_keeps_weights_and_optimiser(table):
    X, y, groups = table
    clf = quick(warm_start=True, penalty_warmup=2, penalty_weight=1)
    clf.fit(X, y, groups)
    steps = [s["step"].item() for s in clf.net_.optimizer_.state.values()]
    first = clf.predict_proba(X)
    clf.set_params(lr=1e-12).fit(X, y, groups)
    np.testing.assert_allclose(clf.predict_proba(X), first, atol=1e-5)
    assert [s["step"].item() for s in clf.net_.optimizer_.state.values()] == [
        2 * s for s in steps
    ]
    assert clf.history_["penalty_weight"].tolist() == [0, 0.5, 1, 1, 1, 1]
    with pytest.raises(ValueError, match=r"not fitted on: \['c'\]"):
        clf.fit(X, y, np.where(groups == "b", "c", "a"))
    with pytest.raises(ValueError, match="does not know"):
        clf.fit(X, y + 1, groups)
    with pytest.raises(ValueError, match="the classes of the first call"):
        clf.fit(X[y == 0], y[y == 0], groups[y == 0])


def test_warm_start_starts_a_new_cosine(table):
    X, y, groups = table
    clf = quick(warm_start=True, max_epochs=4).fit(X, y, groups).fit(X, y, groups)
    rates = clf.history_["lr"].to_numpy()
    np.testing.assert_allclose(rates[:4], rates[4:])
    assert rates[0] == clf.lr_ == 1e-3
    assert (np.diff(rates[:4]) < 0).all()


def test_warm_start_takes_another_penalty_and_keeps_the_memory_of_the_same(table):
    X, y, groups = table
    clf = quick(warm_start=True, penalty__memory=0.95).fit(X, y, groups)
    memory = float(clf.net_.penalty_memory_[..., 0].sum())
    clf.fit(X, y, groups)
    assert float(clf.net_.penalty_memory_[..., 0].sum()) > memory
    clf.set_params(penalty="dp", penalty__slope=2).fit(X, y, groups)
    assert type(clf.net_.penalty_) is ALIASES["dp"]
    assert clf.net_.penalty_.slope == 2
    assert "train_demographic_parity_difference" in clf.history_
    assert clf.n_iter_ == 9


def test_refit_is_a_fresh_fit(table):
    X, y, groups = table
    clf = quick().fit(X[:, :3], y, groups)
    assert same(clf.fit(X, y, groups), quick().fit(X, y, groups), X)


# What "auto" is -------------------------------------------------------------------


def test_auto_values_resolve_to_fitted_attributes(table):
    X, y, groups = table
    clf = quick().fit(X, y, groups)
    on_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    assert (clf.device_ == "cpu") == (not on_gpu)
    assert clf.precision_ in ("float32", "bfloat16")
    assert clf.lr_ == 1e-3
    assert quick(optimizer=torch.optim.SGD).fit(X, y, groups).lr_ == 1e-2
    assert clf.get_params()["lr"] == "auto"
    assert quick(lr=0.5).fit(X, y, groups).history_["lr"].unique().tolist() == [0.5]


def test_a_schedule_of_the_users_own_replaces_the_cosine(table):
    X, y, groups = table
    step = LRScheduler(policy="StepLR", step_size=1, gamma=0.1)
    clf = quick(callbacks=[step]).fit(X, y, groups)
    np.testing.assert_allclose(clf.history_["lr"], [1e-3, 1e-4, 1e-5])
    off = quick(callbacks__lr_schedule=None).fit(X, y, groups)
    assert off.history_["lr"].nunique() == 1


def test_modules_are_classes_factories_or_instances_left_untouched(table):
    X, y, groups = table

    def factory(n_features, n_classes):
        return MLP(n_features, n_classes, hidden=(8,))

    instance = MLP(5, 2, hidden=(8,))
    before = {k: v.clone() for k, v in instance.state_dict().items()}
    found = [
        quick(module=factory).fit(X, y, groups),
        quick(module=MLP, module__hidden=(8,)).fit(X, y, groups),
        quick(module__hidden=(8,)).fit(X, y, groups),
        quick(module=instance).fit(X, y, groups),
    ]
    assert same(found[0], found[1], X)
    assert same(found[0], found[2], X)
    for name, value in instance.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(len(f.net_.module_.state_dict()) == 4 for f in found)
    again = quick(module=instance).fit(X, y, groups)
    assert same(found[3], again, X)


def test_parameters_of_parts_reach_them(table):
    X, y, groups = table
    clf = quick(
        penalty__reduction="sum",
        penalty__memory=0.5,
        optimizer__weight_decay=0.3,
        criterion__label_smoothing=0.1,
        module__dropout=0.2,
    ).fit(X, y, groups)
    assert clf.net_.penalty_.reduction == "sum"
    assert clf.net_.penalty_.memory == 0.5
    assert clf.net_.optimizer_.param_groups[0]["weight_decay"] == 0.3
    assert clf.net_.criterion_.label_smoothing == 0.1
    assert clf.get_params()["penalty__reduction"] == "sum"
    assert clone(clf).get_params() == clf.get_params()


# Randomness -----------------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"module__dropout": 0.5}, {"penalty": "mmf"}])
def test_the_same_seed_gives_the_same_bits(params, table):
    X, y, groups = table
    torch.manual_seed(1)
    first = quick(**params).fit(X, y, groups)
    torch.manual_seed(2)
    second = quick(**params).fit(X, y, groups)
    assert same(first, second, X)
    other = quick(**{**params, "random_state": 1}).fit(X, y, groups)
    assert not same(first, other, X)


@pytest.mark.parametrize("random_state", [None, 0])
def test_the_callers_generators_are_left_as_they_were(random_state, table):
    X, y, groups = table
    torch.manual_seed(7)
    np.random.seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    clf = quick(random_state=random_state).fit(X, y, groups)
    clf.partial_fit(X, y, groups).predict(X)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_without_a_random_state_fits_differ(table):
    X, y, groups = table
    first, second = (quick(random_state=None).fit(X, y, groups) for _ in range(2))
    assert not same(first, second, X)


# Held-out rows --------------------------------------------------------------------


def test_held_out_rows_are_a_share_of_every_cell(table):
    X, y, groups = table
    seen = {}

    class Look(Callback):
        def on_epoch_begin(self, net, dataset_train, dataset_valid, **kwargs):
            seen["rows"] = dataset_train, dataset_valid

    quick(validation_fraction=0.25, callbacks=[Look()]).fit(X, y, groups)
    train, valid = seen["rows"]
    assert len(train) + len(valid) == 400
    assert not set(train.index.tolist()) & set(valid.index.tolist())
    cell = 2 * valid.groups + valid.y
    everyone = 2 * torch.cat([train.groups, valid.groups])
    everyone = everyone + torch.cat([train.y, valid.y])
    for c in range(4):
        share = (cell == c).sum() / (everyone == c).sum()
        assert float(share) == pytest.approx(0.25, abs=0.03)


def test_small_cells_stay_in_training(rng):
    X = rng.normal(size=(60, 2))
    groups = np.arange(60) // 2  # thirty groups of two rows, one of each class
    clf = quick(validation_fraction=0.5).fit(X, np.arange(60) % 2, groups)
    assert len(clf.groups_) == 30
    assert np.isfinite(clf.history_["train_penalty"]).all()


@pytest.mark.parametrize("size", [2, 4])
def test_small_cells_are_held_out_as_often_as_large_ones(size, rng):
    cell = np.arange(1200) // size
    for seed in range(4):
        clf = quick(penalty=None, validation_fraction=0.25, random_state=seed)
        seen = {}

        class Look(Callback):
            def on_epoch_begin(self, net, dataset_valid, seen=seen, **kwargs):
                seen["n"] = len(dataset_valid)

        clf.set_params(callbacks=[Look()], max_epochs=1)
        clf.fit(rng.normal(size=(1200, 2)), cell % 2, cell // 2)
        assert seen["n"] == pytest.approx(300, abs=2)


@pytest.mark.parametrize("fraction", [0, 0.0])
def test_no_rows_are_held_out_on_request(fraction, table):
    X, y, groups = table
    history = quick(validation_fraction=fraction).fit(X, y, groups).history_
    assert not any(c.startswith(("valid", "overfit")) for c in history)


def test_a_splitter_chooses_the_held_out_rows(table):
    X, y, groups = table
    fold = np.where(np.arange(400) % 4 == 0, 0, -1)
    common = {"lr": 1e-12, "max_epochs": 1}
    split = quick(validation_fraction=PredefinedSplit(fold), **common)
    held = fold == 0
    given = quick(**common)
    given.fit(
        X[~held],
        y[~held],
        groups[~held],
        X_val=X[held],
        y_val=y[held],
        groups_val=groups[held],
    )
    split.fit(X, y, groups)
    columns = ["valid_loss", "valid_penalty", "valid_accuracy"]
    np.testing.assert_allclose(
        split.history_[columns], given.history_[columns], rtol=1e-5
    )


def test_a_splitter_by_subject_is_not_given_sensitive_groups(table):
    from sklearn.model_selection import GroupKFold

    X, y, groups = table
    with pytest.raises(ValueError, match="sensitive groups are no cross-validation"):
        quick(validation_fraction=GroupKFold(2)).fit(X, y, groups)


def test_the_held_out_data_is_not_kept(table):
    X, y, groups = table
    assert quick().fit(X, y, groups).net_.train_split is None


# Ends -----------------------------------------------------------------------------


@pytest.mark.parametrize("monitor", ["sample", None])
def test_a_constant_prediction_warns(monitor, rng):
    X = rng.normal(size=(300, 3))
    y = (np.arange(300) % 10 == 0).astype(int)
    clf = quick(penalty=None, monitor=monitor, validation_fraction=0)
    with pytest.warns(ConstantPredictionWarning, match="one class for every row"):
        clf.fit(X, y)
    assert set(clf.predict(X)) == {0}


def test_an_interrupted_fit_leaves_what_was_trained(table):
    class Interrupt(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 3:
                raise KeyboardInterrupt

    X, y, groups = table
    clf = quick(max_epochs=10, callbacks=[Interrupt()]).fit(X, y, groups)
    assert clf.n_iter_ == len(clf.history_) == 2
    assert clf.predict(X).shape == (400,)


def test_verbose_shows_a_bar_over_epochs(table, capsys):
    X, y, groups = table
    quick(verbose=1).fit(X, y, groups)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    for word in ("epoch", "loss=", "penalty=", "held-out gap="):
        assert word in shown
    quick().fit(X, y, groups)
    assert capsys.readouterr().err == ""


# Images ---------------------------------------------------------------------------


@pytest.mark.parametrize("augment", [None, "flip", "shift", "flip+shift", torch.sin])
def test_images_train(augment, images, device):
    X, y, groups = images
    clf = quick(augment=augment, max_epochs=30, device=device, lr=3e-3, batch_size=16)
    clf.fit(X, y, groups)
    assert clf.score(X, y) > 0.9 or augment is torch.sin
    assert clf.n_features_in_ == 3 * 12 * 12


def test_layouts_and_containers_of_images_agree(images, tmp_path):
    X, y, groups = images
    expected = quick().fit(X, y, groups).predict_proba(X)
    last = X.transpose(0, 2, 3, 1)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for other in (last, last.copy(), mapped, torch.as_tensor(X), X[::-1].copy()[::-1]):
        found = quick().fit(other, y, groups).predict_proba(other)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    floats = X.astype(np.float32) / 255
    found = quick().fit(floats, y, groups).predict_proba(floats)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_gray_images_have_one_channel(images):
    X, y, groups = images
    gray = X[:, 0]
    clf = quick().fit(gray, y, groups)
    np.testing.assert_allclose(
        clf.predict_proba(gray), clf.predict_proba(gray[:, None]), atol=1e-6
    )


def test_channels_can_be_named(images):
    X, y, groups = images
    narrow = X[..., :3]
    with pytest.raises(ValueError, match=r"\(60, 3, 12, 3\).*Set channels='first'"):
        quick().fit(narrow, y, groups)
    first = quick(channels="first").fit(narrow, y, groups).predict_proba(narrow)
    turned = narrow.transpose(0, 2, 3, 1)
    last = quick(channels="last").fit(turned, y, groups).predict_proba(turned)
    np.testing.assert_allclose(first, last, atol=1e-6)


class Items(torch.utils.data.Dataset):
    def __init__(self, X, y, groups):
        self.rows = X, y, groups

    def __len__(self):
        return len(self.rows[1])

    def __getitem__(self, i):
        return tuple(part[i] for part in self.rows)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_dataset_goes_to_fit_alone(num_workers, images):
    X, y, groups = images
    labels = np.array(["no", "yes"])[y]
    data = Items(torch.as_tensor(X).float() / 255, labels.tolist(), groups)
    # Batches enough for both workers.
    clf = quick(iterator_train__num_workers=num_workers, batch_size=20).fit(data)
    expected = quick(batch_size=20).fit(X.astype(np.float32) / 255, labels, groups)
    np.testing.assert_allclose(
        clf.predict_proba(data), expected.predict_proba(X / 255), atol=1e-5
    )
    assert clf.classes_.tolist() == ["no", "yes"]
    assert clf.groups_.tolist() == [0, 1]
    assert clf.predict(data).dtype == labels.dtype


@pytest.mark.parametrize("layout", ["last", "gray"])
def test_items_of_a_dataset_have_layouts_too(layout, images):
    X, y, groups = images
    X = X[:, 0] if layout == "gray" else X.transpose(0, 2, 3, 1)
    clf = quick().fit(Items(X, y, groups))
    expected = quick().fit(X, y, groups)
    np.testing.assert_allclose(
        clf.predict_proba(Items(X, y, groups)), expected.predict_proba(X), atol=1e-5
    )
    assert clf.n_features_in_ == expected.n_features_in_


def test_bytes_of_a_table_are_divided_too(rng):
    X = rng.integers(0, 256, (80, 6)).astype(np.uint8)
    y = (X[:, 0] > 127).astype(int)
    groups = np.arange(80) % 2
    as_bytes = quick(max_epochs=5).fit(X, y, groups).predict_proba(X)
    as_floats = quick(max_epochs=5).fit(X / 255, y, groups).predict_proba(X / 255)
    np.testing.assert_allclose(as_bytes, as_floats, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_precisions_train(precision, table, device):
    X, y, groups = table
    clf = quick(precision=precision, device=device, max_epochs=10).fit(X, y, groups)
    kind = torch.float64 if precision == "float64" else torch.float32
    assert next(clf.net_.module_.parameters()).dtype == kind
    assert clf.predict_proba(X).dtype == np.float64
    assert clf.score(X, y) > 0.6


def test_batches_have_the_stated_number(table):
    X, y, groups = table
    net = quick(batch_size=64).fit(X, y, groups).net_
    batches = net.get_iterator(GroupedRows(X, y), training=True)
    assert isinstance(batches, Batches)
    assert len(batches) == 7
