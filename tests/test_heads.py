"""Many heads at once are the heads one by one, and those of a plain training loop."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fairskorch._heads import (
    HeadData,
    Settings,
    evaluate_heads,
    fresh_head,
    optimizer_settings,
    train_heads,
)
from fairskorch._row_sets import RowSet
from fairskorch.metrics import equalized_odds_difference
from fairskorch.penalties import ALIASES, EqualizedOdds, GroupPenalty
from fairskorch.rates import mean_values

WEIGHTS = torch.tensor([0.0, 0.3, 1.0])
EPOCHS = 50


class Outcomes(GroupPenalty):
    """Needs the target of each row, as penalties of users may."""

    metric = "demographic_parity_difference"

    def values(self, logits, target):
        scores = self.scores(logits)
        return scores - F.one_hot(target, self.n_classes)[:, -scores.shape[1] :]

    def compare(self, statistic):
        return mean_values(statistic)


def make_data(n_classes=2, dtype=torch.float64, n_rows=90, n_groups=3):
    rng = np.random.default_rng(0)
    features = torch.as_tensor(rng.normal(size=(n_rows, 6)), dtype=dtype)
    score = features.numpy() @ rng.normal(size=(6, n_classes))
    target = torch.as_tensor((score + rng.normal(size=score.shape)).argmax(1))
    groups = torch.as_tensor(rng.integers(-1, n_groups, n_rows))
    return HeadData(features, target, groups, n_classes, n_groups)


def make_sets(data, sizes=(90, 70, 71)):
    rng = np.random.default_rng(1)
    sets = []
    for size in sizes:
        rows = np.sort(rng.permutation(len(data.target))[:size])
        sets.append(RowSet(rows, rng.uniform(0.5, 2, size), np.ones(size)))
    return sets


def settings(optimizer=torch.optim.SGD, batch_size=None, lr=0.01, **params):
    params = optimizer_settings(optimizer, params, lr)
    return Settings(optimizer, params, EPOCHS, batch_size, 3)


def plain_loop(data, row_set, penalty, weight, start, how):
    """Train one head as one would write it down."""
    layer = torch.nn.Linear(data.features.shape[1], data.n_classes).double()
    with torch.no_grad():
        layer.weight.copy_(start[0])
        layer.bias.copy_(start[1])
    optimizer = how.optimizer(layer.parameters(), **how.optimizer_params)
    rows, weights = torch.as_tensor(row_set.rows), torch.as_tensor(row_set.weight)
    generator = torch.Generator().manual_seed(how.seed)
    memory = None if penalty is None else penalty.new_memory()
    for _ in range(how.max_epochs):
        parts = [torch.arange(len(rows))]
        if how.batch_size is not None:
            order = torch.randperm(len(rows), generator=generator)
            parts = order.tensor_split(-(-len(rows) // how.batch_size))
        for part in parts:
            X, y = data.features[rows[part]], data.target[rows[part]]
            logits = layer(X)
            losses = F.cross_entropy(logits, y, reduction="none")
            loss = (losses * weights[part]).sum() / weights[part].sum()
            if penalty is not None:
                value = penalty.penalise(
                    logits, y, data.groups[rows[part]], loss=losses, memory=memory
                )
                loss = penalty.combine(loss, value, weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return layer.weight.detach(), layer.bias.detach()


def check_against_loop(data, penalty, how, tolerance=1e-8):
    sets = make_sets(data)
    start = fresh_head(6, data.n_classes, 0, data.features)
    heads = train_heads(data, sets, penalty, WEIGHTS, start, how)
    assert heads.weight.shape == (3, data.n_classes, 6, len(WEIGHTS))
    for i in (1, 2):
        for j, weight in enumerate(WEIGHTS):
            expected = plain_loop(data, sets[i], penalty, weight.double(), start, how)
            got = heads.weight[i, :, :, j], heads.bias[i, :, 0, j]
            for one, other in zip(got, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=tolerance)
    moved = heads.weight[..., 0] - heads.weight[..., -1]
    assert penalty is None or float(moved.abs().max()) > 1e-3


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("alias", [*ALIASES, None])
def test_heads_are_those_of_a_plain_loop(alias, n_classes):
    data = make_data(n_classes)
    penalty = None
    if alias is not None:
        penalty = ALIASES[alias](data.n_groups, n_classes).double()
    check_against_loop(data, penalty, settings())


@pytest.mark.parametrize(
    "penalty",
    [
        EqualizedOdds(3, rates="joint", reduction="sum"),
        EqualizedOdds(3, slope=3, memory=0.5, running="scores"),
        EqualizedOdds(3, memory=0.5, running="predictions", reduction="mean"),
        ALIASES["mmf"](3, over="cells"),
        ALIASES["mindiff"](3, given="class"),
        Outcomes(3),
    ],
    ids=repr,
)
@pytest.mark.parametrize("batch_size", [None, 32])
def test_settings_of_penalties(penalty, batch_size):
    check_against_loop(make_data(), penalty.double(), settings(batch_size=batch_size))


@pytest.mark.parametrize("batch_size", [None, 35])
@pytest.mark.parametrize(
    ("optimizer", "params"),
    [
        (torch.optim.SGD, {}),
        (torch.optim.SGD, {"momentum": 0, "weight_decay": 0.01}),
        (torch.optim.Adam, {}),
        (torch.optim.AdamW, {"weight_decay": 0.1}),
        (torch.optim.RMSprop, {}),
    ],
)
def test_optimisers_and_batches(optimizer, params, batch_size):
    # 35: the sets need 3, 2 and 3 batches an epoch.
    data = make_data()
    how = settings(optimizer, batch_size, lr=0.02, **params)
    check_against_loop(data, EqualizedOdds(3).double(), how)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("batch_size", [None, 30])
def test_together_or_one_by_one(n_classes, batch_size, dtype):
    data = make_data(n_classes, dtype)
    penalty = EqualizedOdds(3, n_classes).to(dtype)
    sets, how = make_sets(data), settings(batch_size=batch_size)
    start = fresh_head(6, n_classes, 0, data.features)
    together = train_heads(data, sets, penalty, WEIGHTS, start, how)
    for i, row_set in enumerate(sets):
        for j in range(len(WEIGHTS)):
            one = train_heads(
                data, [row_set], penalty, WEIGHTS[j : j + 1], start, how
            ).weight[0, ..., 0]
            other = together.weight[i, ..., j]
            limit = 1e-8 if dtype == torch.float64 else 1e-4
            assert float((one - other).norm() / one.norm()) < limit


def test_shares_stand_for_repeated_rows():
    data = make_data()
    rows = np.arange(60)
    twice = np.r_[rows, rows[:20]]
    share = np.where(rows < 20, 2.0, 1.0)
    start = fresh_head(6, 2, 0, data.features)
    for alias in ("dp", "ae", "eo"):
        penalty = ALIASES[alias](3).double()
        weights = torch.ones(1)
        weighted, repeated = (
            train_heads(data, [row_set], penalty, weights, start, settings()).weight
            for row_set in (
                RowSet(rows, share, share),
                RowSet(twice, np.ones(80), np.ones(80)),
            )
        )
        torch.testing.assert_close(weighted, repeated, rtol=0, atol=1e-9)


def test_a_group_that_is_absent_from_a_set_has_no_effect():
    data = make_data()
    rows = np.flatnonzero(data.groups.numpy() == 0)
    ones = np.ones(len(rows))
    start = fresh_head(6, 2, 0, data.features)
    heads = train_heads(
        data,
        [RowSet(rows, ones, ones)],
        EqualizedOdds(3).double(),
        torch.tensor([0.0, 5.0]),
        start,
        settings(),
    )
    assert torch.equal(heads.weight[..., 0], heads.weight[..., 1])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_evaluation(n_classes, monkeypatch):
    data = make_data(n_classes)
    penalty = EqualizedOdds(3, n_classes).double()
    sets = make_sets(data)
    start = fresh_head(6, n_classes, 0, data.features)
    heads = train_heads(data, sets, penalty, WEIGHTS, start, settings())
    values = evaluate_heads(data, heads, [s.rows for s in sets], penalty)
    for i, row_set in enumerate(sets):
        X, y, groups = (
            part[row_set.rows] for part in (data.features, data.target, data.groups)
        )
        for j in range(len(WEIGHTS)):
            logits = X @ heads.weight[i, :, :, j].T + heads.bias[i, :, 0, j]
            got = {name: value[i, j] for name, value in values.items()}
            np.testing.assert_allclose(got["loss"], F.cross_entropy(logits, y))
            np.testing.assert_allclose(got["penalty"], penalty(logits, y, groups))
            right = logits.argmax(1) == y
            np.testing.assert_allclose(got["accuracy"], right.double().mean())
            known = groups >= 0
            gap = equalized_odds_difference(
                y[known].numpy(),
                logits.argmax(1)[known].numpy(),
                sensitive_features=groups[known].numpy(),
            )
            np.testing.assert_allclose(got["equalized_odds_difference"], gap)
    monkeypatch.setattr("fairskorch._heads.EVALUATED", 100)
    in_parts = evaluate_heads(data, heads, [s.rows for s in sets], penalty)
    for name, value in values.items():
        np.testing.assert_allclose(in_parts[name], value, atol=1e-12)


def test_callers_random_numbers_are_left_alone():
    data = make_data()
    before = torch.get_rng_state()
    start = fresh_head(6, 2, 0, data.features)
    train_heads(data, make_sets(data), None, WEIGHTS, start, settings(batch_size=20))
    assert torch.equal(torch.get_rng_state(), before)
