"""A penalty on rows of its own: who sees which rows, and what is minimised."""

import logging
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, PredefinedSplit, ShuffleSplit
from skorch.callbacks import Callback
from skorch.helper import predefined_split
from torch.utils.data import Dataset

from fairskorch import FairNeuralClassifier
from fairskorch.batches import Batches, GroupedRows
from fairskorch.metrics import equalized_odds_difference
from fairskorch.modules import MLP
from fairskorch.nets import GroupPenaltyNet
from fairskorch.penalties import EqualizedOdds

pytestmark = pytest.mark.filterwarnings(
    "ignore::fairskorch.exceptions.ConstantPredictionWarning"
)


def held(**params):
    return FairNeuralClassifier(
        **{"penalty_data": "holdout", "max_epochs": 2, "random_state": 0, **params}
    )


class Look(Callback):
    """Keep the rows of each part."""

    def __deepcopy__(self, memo):
        return self

    def on_epoch_begin(self, net, dataset_train, dataset_valid, **kwargs):
        parts = dataset_train, dataset_train.penalty_rows, dataset_valid
        self.rows = [None if p is None else p.index.numpy() for p in parts]
        self.groups = [None if p is None else p.groups.numpy() for p in parts]


def divided(data, subjects=None, weight=None, **params):
    look = Look()
    clf = held(callbacks=[look], **params)
    clf.fit(*data, subjects=subjects, sample_weight=weight)
    return look


def test_every_row_has_one_use(table):
    X, y, groups = table
    some = groups.astype(object)
    some[:60] = None
    look = divided((X, y, some), penalty_fraction=0.25, validation_fraction=0.2)
    task, penalty, valid = look.rows
    assert sorted([*task, *penalty, *valid]) == list(range(400))
    # Rows of unknown group would count nowhere in a penalty.
    assert penalty.min() >= 60
    for group in ("a", "b"):
        for label in (0, 1):
            cell = np.flatnonzero((some == group) & (y == label))
            rest = np.setdiff1d(cell, valid)
            share = np.isin(rest, penalty).mean()
            assert share == pytest.approx(0.25, abs=0.04)
    without = divided((X, y, some), penalty_data="train", validation_fraction=0.2)
    assert without.rows[1] is None
    np.testing.assert_array_equal(without.rows[2], valid)


def test_a_subject_is_in_one_part(rng):
    X = rng.normal(size=(600, 3))
    y, groups = rng.integers(0, 2, 600), rng.integers(0, 2, 600).astype(object)
    groups[:50] = None
    subject = np.array([f"s{i}" for i in rng.integers(0, 150, 600)])
    look = divided((X, y, groups), subject, penalty_fraction=0.3)
    task, penalty, valid = (set(subject[rows]) for rows in look.rows)
    assert not (task & penalty or task & valid or penalty & valid)
    assert len(np.concatenate(look.rows)) == 600
    assert 0.2 < len(look.rows[1]) / 540 < 0.4
    # Weights of 0 drop rows first; subjects stay those of their rows.
    weight = (np.arange(600) % 3 > 0).astype(float)
    look = divided((X, y, groups), subject, weight)
    task, penalty, valid = (set(subject[rows]) for rows in look.rows)
    assert not (task & penalty or task & valid or penalty & valid)


def test_splitters_choose_the_rows(table):
    number = np.arange(400)
    first = PredefinedSplit(np.where(number < 100, 0, -1))
    second = PredefinedSplit(np.where(number >= 300, 0, -1))
    look = divided(table, validation_fraction=first, penalty_fraction=second)
    for rows, start in zip(look.rows, (100, 300, 0), strict=True):
        np.testing.assert_array_equal(rows, number[start : start + len(rows)])
    assert [len(rows) for rows in look.rows] == [200, 100, 100]
    # Rows that are held out by chance are not in the penalty's part.
    look = divided(table, penalty_fraction=second)
    task, penalty, valid = look.rows
    assert not np.isin(valid, penalty).any()
    assert set(penalty) | set(valid[valid >= 300]) == set(range(300, 400))
    with pytest.raises(ValueError, match="hold out some rows both"):
        divided(table, validation_fraction=first, penalty_fraction=first)


@pytest.mark.parametrize("hooked", [False, True])
def test_the_step_is_that_of_two_sets_of_rows(hooked, table):
    class Hook(Callback):
        def on_batch_end(self, net, **kwargs):
            pass

    penalised = np.arange(400) % 4 == 0
    clf = held(
        module=MLP(5, 2, hidden=(4,)).double(),
        optimizer=torch.optim.SGD,
        lr=1.0,
        penalty_weight=2.0,
        penalty_warmup=0,
        penalty__memory=0,
        penalty_fraction=PredefinedSplit(np.where(penalised, 0, -1)),
        sampler="shuffle",
        batch_size=1000,
        max_epochs=1,
        precision="float64",
        validation_fraction=0,
        monitor=None,
        callbacks=[Hook()] if hooked else None,
    )
    before = clf.module.state_dict()
    clf.fit(*table)
    module = MLP(5, 2, hidden=(4,)).double()
    module.load_state_dict(before)
    X, y, groups = table
    X = torch.as_tensor(X, dtype=torch.float64)
    y, codes = torch.as_tensor(y), torch.as_tensor((groups == "b").astype(int))
    task = torch.nn.functional.cross_entropy(module(X[~penalised]), y[~penalised])
    value = EqualizedOdds(2)(module(X[penalised]), y[penalised], codes[penalised])
    total = task + 2 * value
    total.backward()
    assert clf.history_["objective"][0] == pytest.approx(total.item())
    after = clf.net_.module_.parameters()
    for old, new in zip(module.parameters(), after, strict=True):
        torch.testing.assert_close(new, old - old.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("alias", ["dp", "ae", "mmf", "mindiff"])
@pytest.mark.parametrize("batch_size", [32, 500])
def test_neither_loss_sees_the_others_rows(alias, batch_size, table):
    X, y, groups = table
    penalised = np.arange(400) >= 200
    clf = held(
        penalty=alias,
        penalty_weight=0.5,
        penalty_warmup=0,
        penalty_fraction=PredefinedSplit(np.where(penalised, 0, -1)),
        validation_fraction=0,
        sampler="shuffle",
        batch_size=batch_size,
        prior_correction=False,
    )
    first = clone(clf).fit(X, y, groups).predict_proba(X)
    # Groups of task rows say nothing.
    turned = np.where(penalised, groups, groups[::-1])
    np.testing.assert_array_equal(clone(clf).fit(X, y, turned).predict_proba(X), first)
    turned = np.where(penalised, np.roll(groups, 1), groups)
    assert not np.array_equal(clone(clf).fit(X, y, turned).predict_proba(X), first)
    if alias == "dp":
        # Classes of penalty rows say nothing where selection rates are compared.
        turned = np.where(penalised, 1 - y, y)
        found = clone(clf).fit(X, turned, groups).predict_proba(X)
        np.testing.assert_array_equal(found, first)


class WithNorm(torch.nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(n_features)
        self.head = torch.nn.Linear(n_features, n_classes)

    def forward(self, X):
        self.sizes = [*getattr(self, "sizes", []), (len(X), self.training)]
        return self.head(self.norm(X))


def test_penalty_rows_pass_by_themselves_and_as_often(table):
    clf = held(module=WithNorm, batch_size=50, monitor=None, max_epochs=1)
    clf.set_params(validation_fraction=0).fit(*table)
    sizes = [n for n, training in clf.net_.module_.sizes if training]
    task, penalty = sizes[::2], sizes[1::2]
    # Seven batches of the task's rows; two of the penalty's go around.
    assert penalty == (4 * penalty[:2])[:7]
    assert sum(task) + sum(penalty[:2]) == 400


@pytest.mark.parametrize("sampler", ["stratified", "balanced_classes"])
@pytest.mark.parametrize("memory", [0, 0.9])
def test_samplers_and_memories_work_there(sampler, memory, table):
    X, y, groups = table
    common = {"sampler": sampler, "penalty__memory": memory, "max_epochs": 30}
    name = "holdout_equalized_odds_difference"
    plain = held(penalty_weight=0, **common).fit(X, y, groups)
    clf = held(penalty_weight=1.5, penalty__slope=4, lr=0.01, **common)
    clf.fit(X, y, groups)
    assert clf.history_[name].iloc[-1] < plain.history_[name].iloc[-1]
    if memory:
        seen = float(clf.net_.penalty_memory_[..., 0].sum())
        assert seen == pytest.approx(72 / (1 - memory), rel=0.05)


def test_the_history_has_the_rows_of_the_penalty(table):
    X, y, groups = table
    look = Look()
    clf = held(callbacks=[look]).fit(X, y, groups)
    rows = look.rows[1]
    gap = equalized_odds_difference(
        y[rows], clf.predict(X[rows]), sensitive_features=groups[rows]
    )
    found = clf.history_["holdout_equalized_odds_difference"].iloc[-1]
    assert found == pytest.approx(gap, abs=1e-12)
    assert clf.history_[["holdout_loss", "holdout_penalty"]].notna().all(axis=None)


@pytest.mark.parametrize("alias", ["eo", "mmf"])
def test_weight_zero_is_no_penalty_bit_for_bit(alias, table):
    X, y, groups = table
    common = {"sampler": "balanced_classes", "module__dropout": 0.2}
    zero = held(penalty=alias, penalty_weight=0, **common).fit(X, y, groups)
    none = held(penalty=None, **common).fit(X, y, groups)
    np.testing.assert_array_equal(zero.predict_proba(X), none.predict_proba(X))
    assert none.fit(X, y).predict_proba(X).shape == (400, 2)


def test_a_warm_start_holds_the_same_rows_out(table):
    look = Look()
    clf = held(callbacks=[look], warm_start=True).fit(*table)
    before = look.rows
    clf.fit(*table)
    for old, new in zip(before, look.rows, strict=True):
        np.testing.assert_array_equal(old, new)
    assert clf.n_iter_ == 4
    with pytest.raises(ValueError, match="partial_fit cannot tell which"):
        clf.partial_fit(*table)


class Items(Dataset):
    def __init__(self, X, y, groups):
        self.rows = X, y, groups

    def __len__(self):
        return len(self.rows[1])

    def __getitem__(self, i):
        return tuple(part[i] for part in self.rows)


def test_images_are_augmented_and_containers_agree(images, tmp_path):
    X, y, groups = images
    seen = []

    def double(batch):
        seen.append(len(batch))
        return 2 * batch

    clf = held(augment=double, batch_size=16, penalty_fraction=0.3)
    expected = clf.fit(X, y, groups).predict_proba(X)
    # 38 task rows in three batches, 16 penalty rows beside each.
    assert len(seen) == 2 * 6
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    found = clone(clf).fit(mapped, y, groups).predict_proba(mapped)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    items = Items(X.astype(np.float32) / 255, y, groups)
    found = clone(clf).fit(items).predict_proba(items)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_searches_and_pickles(table):
    X, y, groups = table
    subject = np.arange(400) // 2
    search = GridSearchCV(held(), {"penalty_data": ["train", "holdout"]}, cv=2)
    search.fit(X, y, sensitive_features=groups, subjects=subject)
    clf = held().fit(X, y, groups)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert clf.net_.penalty_split is None
    assert not np.isin(clf._marks, 0).any()


def test_the_net_splits_by_itself(table):
    X, y, groups = table
    codes = (groups == "b").astype(int)
    rows = GroupedRows(X, y, codes)
    net = GroupPenaltyNet(
        MLP,
        module__n_features=5,
        module__n_classes=2,
        penalty=EqualizedOdds,
        penalty__n_groups=2,
        penalty_split=predefined_split(rows.subset(range(300, 400))),
        max_epochs=1,
        verbose=0,
    )
    net.fit(rows.subset(range(300)))
    assert "holdout_penalty" in net.history[-1]
    net.set_params(penalty_split=None).partial_fit(rows)
    assert "holdout_penalty" not in net.history[-1]
    assert isinstance(net.get_iterator(rows, training=True), Batches)


def test_many_groups_take_turns_there_too(rng, caplog):
    X = rng.normal(size=(1200, 3))
    with caplog.at_level(logging.WARNING, logger="fairskorch"):
        clf = held(sampler="balanced_cells", penalty_fraction=0.5)
        clf.fit(X, np.arange(1200) % 2, np.arange(1200) // 4)
    assert np.isfinite(clf.history_["objective"]).all()
    assert "strata and only" in caplog.text


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"penalty_fraction": 0.001}, r"leaves rows of \d groups for the penalty"),
        ({"penalty_fraction": 1.0}, "'penalty_fraction' parameter"),
        ({"penalty_data": "valid"}, "'penalty_data' parameter"),
        (
            {"penalty_fraction": ShuffleSplit(1, test_size=1, random_state=0)},
            "leaves rows of 1 groups",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(params, message, table):
    clf = held(**params)
    with pytest.raises(ValueError, match=message):
        clf.fit(*table)
    assert not hasattr(clf, "net_")


def test_subjects_are_checked(table):
    with pytest.raises(ValueError, match="subjects of .* has 3 rows and X has 400"):
        held().fit(*table, subjects=[1, 2, 3])
    with pytest.raises(ValueError, match="subjects of .* holds missing values"):
        held().fit(*table, subjects=[None] * 400)
