"""The parts of the game, each against a plain reference."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from fairskorch import FairConstrainedClassifier, _deployment
from fairskorch._balls import project
from fairskorch._games import ConstraintGame
from fairskorch._mixtures import Snapshots, best_iterate, draws, row_hashes, shrink
from fairskorch._players import (
    LagrangianPlayer,
    ProxyPlayer,
    stationary_distribution,
    swap_update,
)
from fairskorch.constraints import GMean
from fairskorch.constraints._builder import Columns, FormsBuilder
from fairskorch.constraints._specs import ALIASES
from fairskorch.modules import MLP, SmallResNet


def build(specs, counts, others=()):
    """Return the forms of constraints for counts by group (unknown first) and class."""
    counts = np.asarray(counts)
    n_groups, n_classes = counts.shape[0] - 1, counts.shape[1]
    columns = Columns(n_classes, others)
    builder = FormsBuilder(columns, range(n_groups), range(n_classes), counts, counts)
    for spec, bound in specs:
        spec.add_to(builder, bound)
    return builder.build()


# Forms ----------------------------------------------------------------------------


def test_the_forms_of_a_gap_are_half_of_what_it_leaves_its_bound_by():
    counts = np.array([[5, 5], [40, 60], [50, 50], [90, 10]])
    forms = build([(ALIASES["eo"], 0.1)], counts)
    assert forms.n_forms == 2 * 2 * 3
    hits = np.array([[1, 4], [10, 50], [5, 25], [45, 9]])
    statistic = torch.as_tensor(np.stack([counts, hits], -1), dtype=torch.float64)
    offsets = forms.offsets(forms.rates(statistic))
    values = forms.values(offsets, forms.free_levels(offsets))
    rates = hits[1:] / counts[1:]
    gaps = rates.max(0) - rates.min(0)
    assert values.max() == pytest.approx((gaps.max() - 0.1) / 2)
    by_rate = values.view(2, 6).amax(1).tolist()
    assert by_rate == pytest.approx([(gaps[1] - 0.1) / 2, (gaps[0] - 0.1) / 2])


def test_a_ratio_is_kept_exactly_where_its_forms_are():
    counts = np.array([[0, 0], [40, 60], [50, 50]])
    for hits, kept in (([[10, 30], [8, 24]], True), ([[10, 30], [8, 23]], False)):
        forms = build([(ALIASES["di"], 0.2)], counts)
        sums = np.concatenate([[[0, 0]], hits])
        statistic = torch.as_tensor(np.stack([counts, sums], -1), dtype=torch.float64)
        offsets = forms.offsets(forms.rates(statistic))
        worst = forms.values(offsets, forms.free_levels(offsets)).max()
        assert (worst <= 1e-12) == kept


def test_forms_of_rare_groups_count_by_the_root_of_their_rows():
    counts = np.array([[5, 5], [40, 60], [50, 50], [90, 0]])
    forms = build([(ALIASES["eo"], 0.1)], counts)
    labels = forms.labels.to_frame()
    of_class = {"true_positive_rate": 1, "false_positive_rate": 0}
    columns = counts[1:, labels["rate"].map(of_class)]
    rows = columns[labels["group"].astype(int), np.arange(len(labels))]
    expected = np.sqrt(rows / columns.max(0))
    np.testing.assert_allclose(forms.shares, expected)


@pytest.mark.parametrize("seed", range(4))
def test_the_nearest_balanced_multipliers(seed):
    counts = np.full((5, 2), 10)
    forms = build([(ALIASES["di"], 0.3), (ALIASES["eo"], 0.1)], counts)
    pushed = torch.as_tensor(np.random.default_rng(seed).normal(size=forms.n_forms))
    found = forms.balanced(pushed)
    balance = np.zeros((forms.n_levels, forms.n_forms))
    balance[forms.levels, np.arange(forms.n_forms)] = forms.slopes
    reference = minimize(
        lambda x: ((x - pushed.numpy()) ** 2).sum(),
        np.zeros(forms.n_forms),
        jac=lambda x: 2 * (x - pushed.numpy()),
        bounds=[(0, None)] * forms.n_forms,
        constraints={"type": "eq", "fun": lambda x: balance @ x},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(found, reference.x, atol=1e-6)
    np.testing.assert_allclose(balance @ found.numpy(), 0, atol=1e-12)
    # A level is free, so where it lies can make no difference.
    moved = pushed + torch.as_tensor(balance.T @ np.arange(1.0, 4))
    np.testing.assert_allclose(forms.balanced(moved), found, atol=1e-12)


def test_nothing_to_push_leaves_no_multiplier():
    forms = build([(ALIASES["eo"], 0.1)], np.full((3, 2), 10))
    kept = torch.full((forms.n_forms,), -0.1, dtype=torch.float64)
    assert forms.balanced(kept).tolist() == [0] * forms.n_forms
    assert forms.balanced(torch.zeros_like(kept)).tolist() == [0] * forms.n_forms


@pytest.mark.parametrize("prices", [(1.0, 1.0, 1.0), (5.0, 1.0, 0.2), (0, 3.0, 3.0)])
def test_slack_is_the_cheapest(prices):
    forms = build([(GMean(), 0.6)], [[10, 10, 10]])
    prices = torch.tensor(prices, dtype=torch.float64)
    found = forms.slack_levels(torch.zeros(3, dtype=torch.float64), prices)
    assert found.prod() == pytest.approx(0.6**3, rel=1e-6)
    assert (found <= 1).all()
    reference = minimize(
        lambda x: prices.numpy() @ x,
        np.full(3, 0.6),
        bounds=[(1e-3, 1)] * 3,
        constraints={
            "type": "ineq",
            "fun": lambda x: np.log(x).sum() - 3 * np.log(0.6),
        },
        method="SLSQP",
    )
    assert prices @ found == pytest.approx(reference.fun, rel=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_step_is_the_gradient_of_the_weighted_forms(n_classes, weighted):
    rng = torch.Generator().manual_seed(0)
    n = 60
    target = torch.randint(n_classes, (n,), generator=rng)
    groups = torch.randint(-1, 3, (n,), generator=rng)
    counts = torch.zeros(4, n_classes)
    counts.index_put_((groups + 1, target), torch.ones(n), accumulate=True)
    forms = build([(ALIASES["eo"], 0.1), (ALIASES["dp"], 0.2)], counts.numpy())
    player = LagrangianPlayer(forms, 1.0)
    game = ConstraintGame(
        3, n_classes, forms=forms, player=player, counts=counts, slope=1.5, hard=True
    ).placed("cpu", torch.float64)
    game.player.multipliers.copy_(torch.rand(forms.n_forms, generator=rng))
    game.refresh()
    logits = torch.randn(n, n_classes, generator=rng, dtype=torch.float64)
    logits.requires_grad_()
    weight = torch.rand(n, generator=rng, dtype=torch.float64) if weighted else None
    value = game.penalise(logits, target, groups, weight)
    (found,) = torch.autograd.grad(value, logits)

    shares = torch.softmax(1.5 * logits, 1)
    shares = shares[:, 1:] if n_classes == 2 else shares
    rows = shares if weight is None else shares * weight.unsqueeze(1)
    sums = torch.zeros(4 * n_classes, rows.shape[1], dtype=torch.float64)
    sums = sums.index_add(0, (groups + 1) * n_classes + target, rows)
    sums = sums.view(4, n_classes, -1)
    statistic = torch.cat([counts.double().unsqueeze(-1), sums], -1)
    offsets = game.forms.offsets(game.forms.rates(statistic))
    expected = (game.player.multipliers * offsets).sum()
    (gradient,) = torch.autograd.grad(expected, logits)
    task = torch.ones((), dtype=torch.float64, requires_grad=True)
    step = game.lagrangian(task, logits, target, groups, weight)
    of_step = torch.autograd.grad(step, [task, logits])
    assert step.item() == 1
    assert of_step[0].item() == 1
    np.testing.assert_allclose(of_step[1], gradient, atol=1e-10)
    assert value.item() == pytest.approx(expected.item(), abs=1e-9)
    np.testing.assert_allclose(found, gradient, atol=1e-10)


# Players --------------------------------------------------------------------------


def test_the_proxy_player_is_a_plain_transcription_of_its_rule():
    forms = build([(ALIASES["dp"], 0.1)], np.full((3, 2), 10))
    player = ProxyPlayer(forms, lr=2.0)
    m, radius = forms.n_forms, 1e-3
    matrix = np.full((m + 1, m + 1), radius / (m + 1))
    matrix[0] = 1 - m * radius / (m + 1)
    rng = np.random.default_rng(0)

    def stationary(matrix):
        shares = np.full(m + 1, 1 / (m + 1))
        for _ in range(100):
            shares = matrix @ shares
            shares /= shares.sum()
        return shares

    for _ in range(100):
        values = rng.normal(scale=0.1, size=m)
        shares = stationary(matrix)
        np.testing.assert_allclose(player.distribution, shares, atol=1e-6)
        matrix = matrix * np.exp(2.0 * np.outer(np.r_[0, values], shares))
        matrix = np.maximum(matrix / matrix.sum(0), radius / (m + 1))
        player.move(forms, torch.as_tensor(values))
        np.testing.assert_allclose(player.matrix, matrix, atol=1e-6)
    assert float(player.objective) == pytest.approx(stationary(matrix)[0], abs=1e-6)


def test_the_stationary_distribution_is_the_eigenvector():
    matrix = np.random.default_rng(0).random((6, 6))
    matrix /= matrix.sum(0)
    values, vectors = np.linalg.eig(matrix)
    vector = np.real(vectors[:, np.argmax(np.real(values))])
    found = stationary_distribution(torch.as_tensor(matrix))
    np.testing.assert_allclose(found, vector / vector.sum(), atol=1e-9)


def test_a_violated_constraint_gains_weight_from_the_objective():
    matrix = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    start = stationary_distribution(matrix)
    moved = swap_update(matrix, start, torch.tensor([0.5, -0.5]).double(), 3.0)
    after = stationary_distribution(moved)
    assert after[1] > start[1]
    assert after[2] < start[2]


def test_additive_ascent_is_projected_and_damped():
    forms = build([(ALIASES["dp"], 0.1)], np.full((3, 2), 10))
    player = LagrangianPlayer(forms, lr=2.0, damping=1.0)
    values = torch.tensor([0.3, -0.5, -0.5, 0.3], dtype=torch.float64)
    player.move(forms, values)
    np.testing.assert_allclose(player.sums, [0.6, 0, 0, 0.6], atol=1e-12)
    np.testing.assert_allclose(player.multipliers, [0.9, 0, 0, 0.9], atol=1e-12)
    player.move(forms, torch.tensor([-0.5, -0.3, -0.3, -0.5], dtype=torch.float64))
    np.testing.assert_allclose(player.multipliers, 0, atol=1e-12)


# Mixtures -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_shrinking_is_brute_force_over_small_supports(seed):
    rng = np.random.default_rng(seed)
    objectives, offsets = rng.random(7), rng.normal(0.1, 0.5, size=(7, 2))
    weights = shrink(objectives, offsets)
    assert (weights > 0).sum() <= 3
    assert weights.sum() == pytest.approx(1)
    best = None
    for size in (1, 2, 3):
        for support in map(list, combinations(range(7), size)):
            found = linprog(
                objectives[support], offsets[support].T, np.zeros(2),
                np.ones((1, size)), [1.0],
            )  # fmt: skip
            if found.status == 0 and (best is None or found.fun < best):
                best = found.fun
    if best is None:
        least = min(
            np.max(offsets.T @ p) for p in rng.dirichlet(np.full(7, 0.3), 20_000)
        )
        assert (offsets.T @ weights).max() <= least + 1e-9
    else:
        assert objectives @ weights == pytest.approx(best, abs=1e-8)
        assert (offsets.T @ weights).max() <= 1e-8


def test_shrinking_moves_free_levels_as_well():
    # Two members err to opposite sides, and their level is free.
    offsets = np.array([[0.5, -0.7], [-0.6, 0.6]]) + 3 * np.array([[1, -1], [1, -1]])
    weights = shrink(
        np.zeros(2), offsets, np.zeros(2, int), np.array([-1.0, 1.0]), n_levels=1
    )
    assert (offsets.T @ weights).sum() <= 1e-9


def test_the_best_iterate_has_the_least_of_its_worse_ranks():
    objectives = np.array([0.1, 0.2, 0.3, 0.4])
    violations = np.array([0.5, 0.1, -0.2, -0.3])
    assert best_iterate(objectives, violations) == 1
    assert best_iterate(np.array([0.3, 0.2]), np.array([-1.0, -0.5])) == 1


def networks_on_two_groups(gaps, wrong):
    """Return sums of networks whose selection rates differ between groups by gaps."""
    sums = torch.zeros(len(gaps), 3, 2, 5, dtype=torch.float64)
    sums[:, 1:, :, 0] = sums[:, 1:, :, 3] = 100
    sums[:, 1:, :, 1] = 50
    sums[:, 2, :, 1] += 100 * torch.tensor(gaps, dtype=torch.float64).unsqueeze(1)
    sums[:, 1:, :, 4] = 100 * torch.tensor(wrong).view(-1, 1, 1)
    return sums


@pytest.mark.parametrize(
    ("seen", "true", "counts", "members"),
    [
        # What rounds saw is so: the two members are counted, and nothing else.
        ([0.0, 0.2, 0.3, 0.4], [0.0, 0.2, 0.3, 0.4], 2, [0, 2]),
        # The third looked fair and is not.
        ([0.0, 0.2, 0.05, 0.3], [0.0, 0.2, 0.4, 0.3], 3, [0, 3]),
        # None keeps the bound, and each is worse than what was seen of the next.
        ([0.2, 0.3, 0.4, 0.5], [0.7, 0.7, 0.6, 0.55], 4, [3]),
    ],
)
def test_members_are_counted_before_they_are_members(seen, true, counts, members):
    forms = build([(ALIASES["dp"], 0.1)], [[0, 0], [100, 100], [100, 100]])
    wrong = [0.3, 0.25, 0.1, 0.12]
    whole, asked = networks_on_two_groups(true, wrong), []

    def count(numbers):
        asked.extend(numbers)
        return whole[numbers]

    rule = _deployment.RULES["mixture"]
    looked = networks_on_two_groups(seen, wrong)
    numbers, weights, sums = _deployment.choose(forms, rule, looked, 1000, count)
    assert numbers.tolist() == members
    assert len(asked) == len(set(asked)) == counts
    assert torch.equal(sums, whole[members])
    reached = max(0.1, min(true))
    assert weights @ np.asarray(true)[members] == pytest.approx(reached)
    assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(("n_rows", "member"), [(1000, 0), (10**6, 1)])
def test_a_network_that_may_be_better_is_looked_at_where_rounds_can_tell(
    n_rows, member
):
    forms = build([(ALIASES["dp"], 0.1)], [[0, 0], [100, 100], [100, 100]])
    looked = networks_on_two_groups([0.0, 0.0], [0.2, 0.205])
    whole, asked = networks_on_two_groups([0.0, 0.0], [0.21, 0.205]), []

    def count(numbers):
        asked.extend(numbers)
        return whole[numbers]

    for rule in _deployment.RULES.values():
        asked.clear()
        numbers, _, _ = _deployment.choose(forms, rule, looked, n_rows, count)
        assert numbers.tolist() == [member]
        assert asked == [0, 1][: member + 1]


def test_no_more_networks_are_counted_than_is_worth_it():
    forms = build([(ALIASES["dp"], 0.1)], [[0, 0], [100, 100], [100, 100]])
    looked = networks_on_two_groups([0.05] * 20, np.linspace(0.1, 0.3, 20).tolist())
    whole, asked = networks_on_two_groups([0.4] * 20, [0.2] * 20), []

    def count(numbers):
        asked.extend(numbers)
        return whole[numbers]

    for rule in _deployment.RULES.values():
        asked.clear()
        numbers, weights, _ = _deployment.choose(forms, rule, looked, 1000, count)
        assert len(asked) == _deployment.CANDIDATES
        assert set(numbers) <= set(asked)
        assert weights.sum() == pytest.approx(1)


def test_more_members_at_first_than_are_worth_counting_are_all_counted():
    forms = build([(ALIASES["dp"], 0.1)], [[0, 0], [100, 100], [100, 100]])
    looked = networks_on_two_groups([0.0] * 20, np.linspace(0.1, 0.3, 20).tolist())
    # Each is worse than rounds told, so that others look better once they are counted.
    whole, asked = networks_on_two_groups([0.0] * 20, [0.4] * 20), []
    first = _deployment.CANDIDATES + 2

    def least_wrong(forms, found):
        weights = np.zeros(len(found.objectives))
        weights[np.argsort(found.objectives, kind="stable")[:first]] = 1 / first
        return weights

    def count(numbers):
        assert numbers
        asked.extend(numbers)
        return whole[numbers]

    numbers, weights, sums = _deployment.choose(
        forms, least_wrong, looked, 10**6, count
    )
    assert numbers.tolist() == asked == list(range(first))
    assert torch.equal(sums, whole[:first])
    assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("make", [lambda: MLP(4, 2), lambda: SmallResNet(3, 2, 4)])
def test_stored_weights_come_back(make):
    torch.manual_seed(0)
    module = make()
    store = Snapshots(module)
    states = []
    for step in range(3):
        with torch.no_grad():
            for tensor in module.state_dict().values():
                if tensor.is_floating_point():
                    tensor.add_(torch.randn_like(tensor), alpha=10.0**-step)
                else:
                    tensor.add_(1)
        store.take(module)
        states.append({k: v.clone() for k, v in module.state_dict().items()})
    for i, state in enumerate(states):
        network = store.network(i)
        assert not network.training
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, state[name], atol=5e-3, rtol=1e-3)
    kept = sum(d.numel() * d.element_size() for d in store.differences)
    full = sum(t.numel() * 4 for t in states[0].values() if t.is_floating_point())
    assert kept == 3 * full / 2


def test_draws_are_even_and_differ_between_rows_and_seeds():
    rng = np.random.default_rng(0)
    X = torch.as_tensor(rng.integers(0, 3, size=(5000, 12)).astype(np.float32))
    hashes = row_hashes(X).numpy()
    assert len(np.unique(hashes)) == len(np.unique(X.numpy(), axis=0))
    zeros = torch.tensor([[0.0, 1.0], [-0.0, 1.0]])
    assert len(np.unique(row_hashes(zeros))) == 1
    first, second = draws(hashes, 0), draws(hashes, 1)
    for found in (first, second):
        assert 0 <= found.min() < found.max() < 1
        counts = np.histogram(found, 20, (0, 1))[0]
        assert ((counts - 250) ** 2 / 250).sum() < 60
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06


# Projection and the whole game ----------------------------------------------------


@pytest.mark.parametrize("radius", [0.0, 0.5, 100.0])
def test_projection_is_exact(radius, device):
    rng = np.random.default_rng(0)
    start = [rng.normal(size=s).astype(np.float32) for s in ((3, 4), (4,))]
    moved = [s + rng.normal(size=s.shape).astype(np.float32) for s in start]
    weights = [torch.as_tensor(m, device=device).clone() for m in moved]
    project(weights, [torch.as_tensor(s, device=device) for s in start], radius)
    steps = [m.astype(float) - s for m, s in zip(moved, start, strict=True)]
    norm = np.sqrt(sum((d**2).sum() for d in steps))
    for weight, s, m, step in zip(weights, start, moved, steps, strict=True):
        if radius >= norm:
            np.testing.assert_array_equal(weight.cpu(), m)
        elif radius == 0:
            np.testing.assert_array_equal(weight.cpu(), s)
        else:
            np.testing.assert_allclose(
                weight.cpu(), s + step * (radius / norm), rtol=1e-5, atol=1e-6
            )


def convex_problem():
    """A logistic model whose second group is hard, and its exact answer."""
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], [150, 60])
    X = rng.normal(size=(210, 2))
    score = X[:, 0] * (1 - 2.2 * groups) + X[:, 1] + 0.4 * rng.normal(size=210)
    y = (score > 0).astype(int)

    def losses(w):
        z = X @ w[:2] + w[2]
        return np.logaddexp(0, np.where(y == 1, -z, z))

    def gradient(w, share):
        z = X @ w[:2] + w[2]
        slope = (1 / (1 + np.exp(-z)) - y) * share
        return np.r_[slope @ X, slope.sum()]

    bound = 0.6
    hard = np.where(groups == 1, 1 / 60, 0)
    everyone = np.full(210, 1 / 210)
    found = minimize(
        lambda w: everyone @ losses(w),
        np.zeros(3),
        jac=lambda w: gradient(w, everyone),
        constraints={
            "type": "ineq",
            "fun": lambda w: bound - hard @ losses(w),
            "jac": lambda w: -gradient(w, hard),
        },
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 300},
    )
    above = gradient(found.x, hard)
    multiplier = -(gradient(found.x, everyone) @ above) / (above @ above)
    return X, y, groups, bound, found.fun, multiplier


def test_a_convex_game_ends_at_the_exact_answer():
    X, y, groups, bound, objective, multiplier = convex_problem()
    assert multiplier > 0.1
    clf = FairConstrainedClassifier(
        MLP,
        module__hidden=(),
        constraint="mmf",
        bound=bound,
        deploy="last",
        multiplier_lr=0.1,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.5,
        lr=1.0,
        max_epochs=400,
        batch_size=len(X),
        validation_fraction=0,
        monitor=None,
        precision="float64",
        random_state=0,
    )
    clf.fit(X, y, groups)
    shares = clf.predict_proba(X)[np.arange(len(y)), y]
    assert -np.log(shares).mean() == pytest.approx(objective, rel=0.01)
    assert clf.train_violation_ <= 1e-3
    assert clf.multipliers_.iloc[-1].max() == pytest.approx(multiplier, rel=0.05)
    certificate = clf.duality_gap(X, y, groups)
    assert certificate.primal == pytest.approx(objective, rel=0.01)
    assert certificate.dual == pytest.approx(objective, rel=0.01)
    assert abs(certificate.gap) < 1e-3
