"""Training under bounds: what the parameters mean and what the answer is."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from fairlearn.reductions import (
    BoundedGroupLoss,
    DemographicParity,
    EqualizedOdds,
    ErrorRateParity,
    FalsePositiveRateParity,
    SquareLoss,
    TruePositiveRateParity,
    ZeroOneLoss,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, f1_score
from sklearn.model_selection import PredefinedSplit
from skorch.callbacks import Callback, EarlyStopping

from fairskorch import FairConstrainedClassifier, FairNeuralClassifier
from fairskorch.batches import GroupedRows
from fairskorch.constraints import Churn, FMeasure, GMean
from fairskorch.datasets import make_biased_classification
from fairskorch.exceptions import (
    ConstantPredictionWarning,
    EmptyCellWarning,
    InfeasibleConstraintWarning,
)
from fairskorch.metrics import (
    demographic_parity_difference,
    equal_opportunity_difference,
    equalized_odds_difference,
)
from fairskorch.modules import MLP

# Few epochs on few rows seldom keep a tight bound; that is tested by itself.
pytestmark = pytest.mark.filterwarnings(
    "ignore::fairskorch.exceptions.InfeasibleConstraintWarning"
)


def quick(**params):
    return FairConstrainedClassifier(**{"max_epochs": 6, "random_state": 0, **params})


def longer(**params):
    """Enough small steps for the network to answer to the multipliers."""
    common = {"max_epochs": 20, "batch_size": 32, "validation_fraction": 0}
    return quick(**{**common, **params})


@pytest.fixture(scope="module")
def rows():
    """Rows whose plain fit is unfair; do not change them."""
    rng = np.random.default_rng(1)
    groups = rng.choice(["a", "b", "c"], 900, p=[0.5, 0.3, 0.2])
    X = rng.normal(size=(900, 4)).astype(np.float32)
    X[:, 3] = groups == "b"
    score = X[:, 0] + 0.9 * (groups == "b") + 0.7 * rng.normal(size=900)
    return X, (score > 0.4).astype(int), groups


def expected_positives(clf, X):
    """Return the chance of the second class in the drawn answer, row by row."""
    answers = [m(torch.as_tensor(X)).argmax(1).numpy() for m in clf.estimators_]
    return np.tensordot(clf.estimator_weights_, answers, 1)


def spread(chance, keep, groups):
    found = [chance[keep & (groups == g)].mean() for g in np.unique(groups)]
    return max(found) - min(found)


# What a bound means ---------------------------------------------------------------


@pytest.mark.parametrize("alias", ["dp", "eo", "eopp"])
def test_an_aliass_bound_is_on_the_largest_minus_the_smallest_rate(alias, rows):
    X, y, groups = rows
    clf = longer(constraint=alias, bound=0.1)
    clf.fit(X, y, groups)
    chance = expected_positives(clf, X)
    keep = {"dp": [y >= 0], "eopp": [y == 1], "eo": [y == 1, y == 0]}[alias]
    gap = max(spread(chance, rows_, groups) for rows_ in keep)
    assert clf.is_feasible_
    assert gap <= 0.1 + 1e-3
    assert clf.train_violation_ == pytest.approx(gap - 0.1, abs=1e-9)


def test_a_ratios_bound_is_one_minus_the_smallest_ratio(rows):
    X, y, groups = rows
    clf = longer(constraint="di", bound=0.3)
    clf.fit(X, y, groups)
    chance = expected_positives(clf, X)
    rates = [chance[groups == g].mean() for g in "abc"]
    lack = 1 - min(rates) / max(rates)
    assert clf.is_feasible_
    assert clf.train_violation_ == pytest.approx(lack - 0.3, abs=1e-9)


@pytest.mark.parametrize(
    ("moment", "kept"),
    [
        (DemographicParity, lambda y: [y >= 0]),
        (EqualizedOdds, lambda y: [y == 1, y == 0]),
        (TruePositiveRateParity, lambda y: [y == 1]),
        (FalsePositiveRateParity, lambda y: [y == 0]),
        (ErrorRateParity, None),
    ],
)
@pytest.mark.parametrize("kind", ["difference", "ratio"])
def test_a_moment_keeps_its_own_meaning(moment, kept, kind, rows):
    X, y, groups = rows
    given = {"difference_bound": 0.06}
    if kind == "ratio":
        given = {"ratio_bound": 0.8, "ratio_bound_slack": 0.02}
    clf = quick(constraint=moment(**given), bound=None, validation_fraction=0)
    clf.fit(X, y, groups)
    chance = expected_positives(clf, X)
    utility = chance if kept else np.where(y == 1, 1 - chance, chance)
    kept = kept(y) if kept else [y >= 0]
    ratio, slack = (1, 0.06) if kind == "difference" else (0.8, 0.02)
    worst = []
    for keep in kept:
        of_all = utility[keep].mean()
        for g in "abc":
            own = utility[keep & (groups == g)].mean()
            worst += [ratio * own - of_all - slack, ratio * of_all - own - slack]
    assert clf.train_violation_ == pytest.approx(max(worst), abs=1e-9)
    table = clf.violations_.loc["train"]
    assert (table["low"] <= table["violation"]).all()
    assert (table["violation"] <= table["high"]).all()


@pytest.mark.filterwarnings("ignore:Setting a")
def test_our_numbers_are_fairlearns_gamma(rows):
    X, y, groups = rows
    clf = quick(constraint=EqualizedOdds(difference_bound=0.02), validation_fraction=0)
    clf.fit(X, y, groups)
    moment = EqualizedOdds(difference_bound=0.02)
    moment.load_data(X, pd.Series(y), sensitive_features=pd.Series(groups))
    gamma = moment.gamma(lambda X: expected_positives(clf, X))
    assert clf.train_violation_ == pytest.approx(gamma.max() - 0.02, abs=1e-9)


@pytest.mark.parametrize(
    ("loss", "bound"), [(ZeroOneLoss(), 0.3), (SquareLoss(0, 1), 0.25)]
)
def test_a_groups_loss_is_bounded(loss, bound, rows):
    X, y, groups = rows
    constraint = BoundedGroupLoss(loss, upper_bound=bound)
    clf = quick(constraint=constraint, validation_fraction=0).fit(X, y, groups)
    chance = expected_positives(clf, X)
    if isinstance(loss, SquareLoss):
        scores = [
            torch.softmax(m(torch.as_tensor(X)), 1)[:, 1] for m in clf.estimators_
        ]
        value = np.tensordot(
            clf.estimator_weights_, [(s.numpy() - y) ** 2 for s in scores], 1
        )
    else:
        value = np.where(y == 1, 1 - chance, chance)
    worst = max(value[groups == g].mean() for g in "abc")
    assert clf.train_violation_ == pytest.approx(worst - bound, abs=1e-6)
    assert clf.is_feasible_


@pytest.mark.parametrize("alias", ["ae", "mmf"])
def test_losses_are_bounded(alias, rows):
    X, y, groups = rows
    bound = 0.08 if alias == "ae" else 0.6
    clf = longer(constraint=alias, bound=bound)
    clf.fit(X, y, groups)
    logits = [m(torch.as_tensor(X)) for m in clf.estimators_]
    losses = [
        torch.nn.functional.cross_entropy(z, torch.as_tensor(y), reduction="none")
        for z in logits
    ]
    loss = np.tensordot(clf.estimator_weights_, [x.numpy() for x in losses], 1)
    means = [loss[groups == g].mean() for g in "abc"]
    value = max(means) - (min(means) if alias == "ae" else 0)
    assert clf.train_violation_ == pytest.approx(value - bound, abs=1e-6)
    assert clf.is_feasible_


def test_several_constraints_have_a_bound_each(rows):
    X, y, groups = rows
    clf = quick(constraint=["eo", "dp"], bound=[0.2, 0.1], max_epochs=20)
    clf.fit(X, y, groups)
    table = clf.violations_.loc["train"]
    assert table.index.tolist() == ["eo", "dp"]
    assert table["bound"].tolist() == [0.2, 0.1]
    constraints = clf.multipliers_.columns.get_level_values("constraint")
    assert set(constraints) == {"eo", "dp"}
    assert clf.multipliers_.shape == (40, 18)
    alike = quick(constraint=["eo", "dp"], bound=0.1).fit(X, y, groups)
    assert alike.violations_.loc["train", "bound"].tolist() == [0.1, 0.1]


def test_constraints_of_one_name_are_numbered(rows):
    X, y, groups = rows
    both = [
        DemographicParity(ratio_bound=0.9, ratio_bound_slack=0.03),
        "eo",
        DemographicParity(difference_bound=0.02),
    ]
    params = {"deploy": "last", "max_epochs": 8, "validation_fraction": 0.2}
    clf = quick(constraint=both, bound=0.3, **params)
    with pytest.warns(InfeasibleConstraintWarning, match="of 'DemographicParity_[12]'"):
        clf.fit(X, y, groups)
    names = ["DemographicParity_1", "eo", "DemographicParity_2"]
    for part in ("train", "multiplier", "holdout"):
        table = clf.violations_.loc[part]
        assert table.index.tolist() == names
        assert table["bound"].tolist() == [0.03, 0.3, 0.02]
    assert clf.violations_.index.is_unique and clf.multipliers_.columns.is_unique
    constraints = clf.multipliers_.columns.get_level_values("constraint")
    assert list(dict.fromkeys(constraints)) == names
    assert len(clf.plot_multipliers().lines) == 8
    # What an alias stands for keeps its name.
    twice = quick(constraint=["eo", "eo"], bound=[0.01, 0.5], max_epochs=2)
    assert twice.fit(X, y, groups).violations_.loc["train"].index[1] == "eo_2"
    alone = quick(max_epochs=1).fit(X, y, groups)
    assert alone.violations_.loc["train"].index.tolist() == ["eo"]


# Generalised rates ----------------------------------------------------------------


def rare(n=900):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(n, 3)).astype(np.float32)
    return X, (X[:, 0] + rng.normal(size=n) > 1.6).astype(int)


def test_the_f_measure_is_bounded_from_below():
    X, y = rare()
    plain = FairNeuralClassifier(penalty=None, random_state=0, batch_size=32).fit(X, y)
    before = f1_score(y, plain.predict(X))
    clf = longer(constraint=FMeasure(), bound=0.5)
    clf.fit(X, y)
    assert before < 0.45
    chance = expected_positives(clf, X)
    hits = (chance * y).sum()
    value = 2 * hits / (chance.sum() + y.sum())
    assert clf.train_violation_ == pytest.approx(0.5 - value, abs=1e-9)
    assert clf.is_feasible_
    assert clf.groups_ is None


def test_the_geometric_mean_of_recalls_is_bounded_from_below():
    X, y = rare()
    clf = longer(constraint=GMean(), bound=0.7)
    clf.fit(X, y)
    chance = expected_positives(clf, X)
    value = np.sqrt(chance[y == 1].mean() * (1 - chance[y == 0]).mean())
    assert clf.train_violation_ == pytest.approx(0.7 - value, abs=1e-9)
    assert clf.is_feasible_


def test_churn_against_a_given_classifier_is_bounded(rows):
    X, y, groups = rows
    before = FrozenEstimator(LogisticRegression().fit(X[:, :1], y))
    before = FrozenEstimator(LogisticRegression().fit(X, 1 - y))
    clf = quick(constraint=Churn(before), bound=0.3, max_epochs=20)
    clf.set_params(validation_fraction=0, multiplier_lr=3).fit(X, y)
    chance = expected_positives(clf, X)
    given = before.predict(X)
    churn = np.where(given == 1, 1 - chance, chance).mean()
    assert clf.train_violation_ == pytest.approx(churn - 0.3, abs=1e-9)
    plain = FairNeuralClassifier(penalty=None, random_state=0, max_epochs=20).fit(X, y)
    assert churn < 0.6 < (plain.predict(X) != given).mean()


# The answer -----------------------------------------------------------------------


def test_a_mixture_keeps_what_no_rows_answer_depends_on(rows):
    X, y, groups = rows
    clf = quick(deploy="uniform").fit(X, y, groups)
    assert len(clf.estimators_) == 6
    np.testing.assert_allclose(clf.estimator_weights_, 1 / 6)
    whole = clf.predict(X, random_state=3)
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_array_equal(clf.predict(X[order], random_state=3), whole[order])
    one = np.concatenate([clf.predict(X[i : i + 1], random_state=3) for i in range(40)])
    np.testing.assert_array_equal(one, whole[:40])
    np.testing.assert_array_equal(clf.predict(X), clf.predict(X))
    twice = clf.predict(np.vstack([X, X]), random_state=5)
    np.testing.assert_array_equal(twice[:900], twice[900:])
    assert (clf.predict(X, random_state=3) != clf.predict(X, random_state=4)).any()


def test_the_rate_of_many_draws_is_the_expected_one(rows):
    X, y, groups = rows
    clf = quick(deploy="uniform", lr=0.02).fit(X, y, groups)
    chance = expected_positives(clf, X)
    seeds = -(-100_000 // len(X))
    answers = np.stack([clf.predict(X, random_state=s) for s in range(seeds)])
    error = np.sqrt((chance * (1 - chance)).sum() / len(X) ** 2 / seeds)
    assert abs(answers.mean() - chance.mean()) < 4 * error
    unsure = (chance > 0.2) & (chance < 0.8)
    errors = np.sqrt((chance * (1 - chance))[unsure] / seeds)
    z = (answers.mean(0)[unsure] - chance[unsure]) / errors
    assert unsure.sum() > 20
    assert np.abs(z).max() < 4.5


def test_probabilities_are_expected_over_members(rows):
    X, y, groups = rows
    clf = quick(deploy="uniform").fit(X, y, groups)
    shares = [torch.softmax(m(torch.as_tensor(X)).double(), 1) for m in clf.estimators_]
    np.testing.assert_allclose(
        clf.predict_proba(X), np.mean([s.numpy() for s in shares], 0), atol=1e-9
    )
    assert clf.predict_proba(X).dtype == np.float64


@pytest.mark.parametrize("deploy", ["best", "last"])
def test_one_network_becomes_a_module(deploy, rows):
    X, y, groups = rows
    clf = quick(deploy=deploy, bound=0.3).fit(X, y, groups)
    module = clf.to_module()
    assert not module.training
    np.testing.assert_array_equal(
        clf.predict(X), module(torch.as_tensor(X)).argmax(1).numpy()
    )
    assert clf.estimator_weights_.tolist() == [1]


def test_a_mixture_is_no_module(rows):
    X, y, groups = rows
    clf = quick(deploy="uniform", max_epochs=2).fit(X, y, groups)
    with pytest.raises(ValueError, match="deploy='best'"):
        clf.to_module()


@pytest.mark.parametrize("seed", [12, 14, 15])
def test_a_mixture_keeps_a_bound_that_late_networks_all_leave_on_one_side(seed):
    data = make_biased_classification(n_samples=1500, random_state=seed)
    X, y = data.data.astype(np.float32), data.target
    groups = data.sensitive_features["group"]
    clf = FairConstrainedClassifier(constraint="dp", random_state=seed)
    clf.fit(X, y, groups)
    assert clf.is_feasible_
    chance = expected_positives(clf, X)
    assert np.where(y == 1, chance, 1 - chance).mean() > 0.75


@pytest.mark.parametrize("deploy", ["mixture", "best", "uniform", "last"])
def test_training_that_stops_early_has_an_answer(rows, deploy):
    X, y, groups = rows
    stop = EarlyStopping(monitor="train_loss", patience=1, threshold=10)
    clf = quick(deploy=deploy, callbacks=[stop]).fit(X, y, groups)
    assert clf.n_iter_ == 2
    assert len(clf.multipliers_) == 4
    assert clf.predict_proba(X).shape == (len(X), 2)


def test_a_mixture_has_few_members_and_is_no_worse_than_the_uniform_one(rows):
    X, y, groups = rows
    common = {"max_epochs": 12, "validation_fraction": 0, "multiplier_rows": "all"}
    found = {
        deploy: quick(deploy=deploy, bound=0.1, **common).fit(X, y, groups)
        for deploy in ("mixture", "uniform")
    }
    few, many = found["mixture"], found["uniform"]
    assert len(few.estimators_) <= few.multipliers_.shape[1] + 1
    assert few.train_violation_ <= max(many.train_violation_, 0) + 1e-6
    if many.train_violation_ <= 0:
        wrong = [np.abs(expected_positives(c, X) - y).mean() for c in (few, many)]
        assert wrong[0] <= wrong[1] + 1e-3


@pytest.mark.filterwarnings("ignore::fairskorch.exceptions.ConstantPredictionWarning")
def test_batch_norm_belongs_to_a_member(images):
    X, y, groups = images
    clf = quick(
        constraint="dp", bound=0.5, deploy="uniform", max_epochs=4, module__width=4
    ).fit(X, y, groups)
    first, last = clf.estimators_[0], clf.estimators_[-1]
    means = [m.stem[1].running_mean for m in (first, last)]
    assert not torch.equal(*means)
    last_alone = quick(
        constraint="dp", bound=0.5, deploy="last", max_epochs=4, module__width=4
    ).fit(X, y, groups)
    np.testing.assert_allclose(
        last.stem[1].running_mean,
        last_alone.estimators_[0].stem[1].running_mean,
        atol=1e-3,
    )


def test_an_infeasible_bound_warns_and_returns_the_least_violating(rows):
    X, y, groups = rows
    common = {"constraint": FMeasure(), "bound": 0.99, "validation_fraction": 0}
    with pytest.warns(InfeasibleConstraintWarning, match="smallest violation"):
        clf = quick(**common).fit(X, y, groups)
    assert not clf.is_feasible_
    with pytest.warns(InfeasibleConstraintWarning):
        last = quick(**common, deploy="last").fit(X, y, groups)
    assert clf.train_violation_ <= last.train_violation_ + 1e-6


# Bounds that say nothing ----------------------------------------------------------


def test_bound_one_is_the_plain_fit_bit_for_bit(rows):
    X, y, groups = rows
    plain = FairNeuralClassifier(penalty=None, max_epochs=6, random_state=0)
    plain.fit(X, y, groups)
    clf = quick(bound=1, deploy="last").fit(X, y, groups)
    np.testing.assert_array_equal(clf.predict_proba(X), plain.predict_proba(X))
    assert (clf.multipliers_ == 0).all(axis=None)
    assert clf.is_feasible_
    none = quick(constraint=None).fit(X, y, groups)
    np.testing.assert_array_equal(none.predict_proba(X), plain.predict_proba(X))


def test_multipliers_of_kept_constraints_fall_back_to_zero(rows):
    X, y, groups = rows
    clf = longer(bound=0.2, max_epochs=40, module__hidden=(16,)).fit(X, y, groups)
    sums = clf.multipliers_.sum(axis=1)
    assert sums.max() > 0
    assert sums.iloc[-1] == 0


def test_the_sum_of_multipliers_is_capped(rows):
    X, y, groups = rows
    common = {"bound": 0.0, "multiplier_lr": 5}
    with pytest.warns(InfeasibleConstraintWarning):
        free = quick(**common).fit(X, y, groups)
        capped = quick(**common, multiplier_cap=0.5).fit(X, y, groups)
    assert free.multipliers_.sum(axis=1).max() > 1
    assert capped.multipliers_.sum(axis=1).max() == pytest.approx(0.5)


# Rows -----------------------------------------------------------------------------


def test_rows_of_multipliers_are_held_out_of_everything_else(rows, monkeypatch):
    X, y, groups = rows
    clf = quick(multiplier_data="holdout", validation_fraction=0.2)
    kept = {}
    play = FairConstrainedClassifier._play

    def spy(self, train, seen, valid, seed):
        kept.update(train=train, seen=seen, valid=valid)
        return play(self, train, seen, valid, seed)

    monkeypatch.setattr(FairConstrainedClassifier, "_play", spy)
    clf.fit(X, y, groups)
    numbers = np.concatenate([kept[k].index for k in ("train", "seen", "valid")])
    np.testing.assert_array_equal(np.sort(numbers), np.arange(900))
    assert len(kept["seen"]) == pytest.approx(0.2 * 720, abs=2)
    assert set(clf.violations_.index.get_level_values("part")) == {
        *("train", "multiplier", "holdout")
    }


def test_a_splitter_tells_the_multipliers_rows(rows):
    X, y, groups = rows
    held = np.arange(900) % 4 == 0
    own = PredefinedSplit(np.where(held, 0, -1))
    common = {"multiplier_data": "holdout", "deploy": "last", "max_epochs": 3}
    splits = {"multiplier_fraction": own, "validation_fraction": 0}
    clf = quick(**common, **splits).fit(X, y, groups)
    counted = clf.violations_.xs("multiplier", level="part")["value"].max()
    given = {"sensitive_features": groups[held]}
    found = equalized_odds_difference(y[held], clf.predict(X[held]), **given)
    assert counted == pytest.approx(found, abs=1e-6)
    clf = quick(**common, multiplier_fraction=own, validation_fraction=own)
    with pytest.raises(ValueError, match="multiplier_fraction of FairConst.*rows both"):
        clf.fit(X, y, groups)


def test_weights_do_not_see_the_multipliers_rows(rows):
    X, y, groups = rows
    common = {"multiplier_data": "holdout", "multiplier_lr": 0, "deploy": "last"}
    clf = quick(**common, bound=0.2).fit(X, y, groups)
    other = quick(**common, constraint="dp", bound=0.9).fit(X, y, groups)
    # With multipliers that stay at 0, only the rows of the task loss speak.
    np.testing.assert_array_equal(clf.predict_proba(X), other.predict_proba(X))


def test_a_round_reads_small_cells_whole_and_weighs_the_others(rows):
    X, y, groups = rows
    common = {"validation_fraction": 0, "max_epochs": 3, "deploy": "last"}
    whole = quick(**common, bound=0.05).fit(X, y, groups)
    part = quick(**common, bound=0.05, multiplier_rows=400).fit(X, y, groups)
    assert not whole.multipliers_.equals(part.multipliers_)
    difference = (whole.multipliers_ - part.multipliers_).abs().iloc[0].max()
    assert difference < 0.5 * whole.multipliers_.iloc[0].max()


@pytest.mark.parametrize("monitor", ["sample", "all"])
def test_rows_that_two_look_at_are_read_once_and_tell_both_the_same(monitor, rows):
    X, y, groups = rows
    read = []

    class Counting(MLP):
        def forward(self, X):
            if not self.training:
                read.append(len(X))
            return super().forward(X)

    class Watch(Callback):
        def on_batch_end(self, net, **kwargs):
            """Who looks into steps may change weights: nothing is handed on."""

    common = {"deploy": "last", "bound": 0.02, "rounds": 1, "monitor": monitor}
    fits = []
    for callbacks in (None, [Watch()]):
        clf = quick(module=Counting, **common, callbacks=callbacks).fit(X, y, groups)
        fits.append((clf.history_.drop(columns="seconds"), sum(read)))
        read.clear()
    (history, n_read), (expected, _) = fits
    pd.testing.assert_frame_equal(history, expected[history.columns], rtol=1e-5)
    if monitor == "sample":
        # All rows once in each of 6 epochs and once in the end, and two before.
        assert n_read == 7 * len(X) + 2


def test_unknown_groups_count_in_the_task_alone(rows):
    X, y, groups = rows
    some = groups.astype(object)
    some[::3] = None
    clf = longer(constraint="dp", bound=0.1)
    clf.fit(X, y, some)
    chance = expected_positives(clf, X)
    known = np.arange(900) % 3 > 0
    gap = spread(chance[known], np.ones(600, bool), groups[known])
    assert clf.train_violation_ == pytest.approx(gap - 0.1, abs=1e-9)
    assert clf.groups_.tolist() == ["a", "b", "c"]


def test_given_held_out_rows_are_measured(rows):
    X, y, groups = rows
    clf = quick(constraint="dp").fit(
        X[:600],
        y[:600],
        groups[:600],
        X_val=X[600:],
        y_val=y[600:],
        groups_val=groups[600:],
    )
    chance = expected_positives(clf, X[600:])
    gap = spread(chance, np.ones(300, bool), groups[600:])
    assert clf.holdout_violation_ == pytest.approx(gap - 0.05, abs=1e-9)
    low, high = clf.holdout_violation_interval_
    assert low <= clf.holdout_violation_ <= high
    assert high - low > 0.05


def test_nothing_held_out_is_not_a_number(rows):
    X, y, groups = rows
    clf = quick(validation_fraction=0, bound=0.3).fit(X, y, groups)
    assert np.isnan(clf.holdout_violation_)


# Many groups, many classes, empty cells -------------------------------------------


def test_more_classes_are_each_held_against_the_rest(rng):
    X = rng.normal(size=(600, 3)).astype(np.float32)
    groups = rng.integers(0, 2, 600)
    y = np.digitize(X[:, 0] + 0.8 * groups + 0.5 * rng.normal(size=600), [-0.5, 0.8])
    names = np.array(["low", "mid", "top"])[y]
    clf = longer(constraint="dp", bound=0.1)
    clf.fit(X, names, groups)
    answers = [m(torch.as_tensor(X)).argmax(1).numpy() for m in clf.estimators_]
    gaps = []
    for c in range(3):
        chance = np.tensordot(clf.estimator_weights_, [a == c for a in answers], 1)
        gaps.append(spread(chance, np.ones(600, bool), groups))
    assert clf.train_violation_ == pytest.approx(max(gaps) - 0.1, abs=1e-9)
    assert clf.is_feasible_
    labels = clf.multipliers_.columns.get_level_values("class")
    assert set(labels) == {"low", "mid", "top"}


def test_three_hundred_groups(rng):
    X = rng.normal(size=(3000, 3)).astype(np.float32)
    groups = np.arange(3000) % 300
    y = (X[:, 0] + rng.normal(size=3000) > 0).astype(int)
    clf = quick(constraint="dp", bound=0.9, max_epochs=2).fit(X, y, groups)
    assert clf.multipliers_.shape == (4, 600)


def test_an_empty_cell_is_no_constraint(rows):
    X, y, groups = rows
    y = np.where(groups == "c", 0, y)
    with pytest.warns(EmptyCellWarning):
        clf = quick(constraint="eopp", bound=0.2).fit(X, y, groups)
    named = clf.multipliers_.columns.get_level_values("group")
    assert set(named) == {"a", "b"}
    assert np.isfinite(clf.train_violation_)


def test_a_constant_answer_is_told():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2)).astype(np.float32)
    y = (np.arange(400) % 20 == 0).astype(int)
    groups = rng.integers(0, 2, 400)
    with pytest.warns(ConstantPredictionWarning, match="one class"):
        quick(constraint="dp", max_epochs=2).fit(X, y, groups)


# Projection -----------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["network", "layer"])
def test_weights_stay_in_a_ball(scope, rows):
    X, y, groups = rows
    common = {"deploy": "last", "radius_scope": scope, "bound": 1}
    start = quick(**common, radius=0, lr=0.05).fit(X, y, groups).to_module()
    clf = quick(**common, radius=0.5, lr=0.05).fit(X, y, groups)
    moved = {
        n: (w - s).detach()
        for (n, w), s in zip(
            clf.to_module().named_parameters(), start.parameters(), strict=True
        )
    }
    if scope == "network":
        norm = torch.cat([d.flatten() for d in moved.values()]).norm()
        assert norm == pytest.approx(0.5, abs=1e-4)
    else:
        for layer in {name.rpartition(".")[0] for name in moved}:
            parts = [d.flatten() for n, d in moved.items() if n.startswith(layer)]
            assert torch.cat(parts).norm() <= 0.5 + 1e-4
        total = torch.cat([d.flatten() for d in moved.values()]).norm()
        assert total > 0.6


def test_radius_zero_leaves_the_network_at_its_start(rows):
    X, y, groups = rows
    torch.manual_seed(0)
    module = MLP(n_features=4, n_classes=2)
    clf = quick(module=module, radius=0, deploy="last", bound=1)
    with pytest.warns(ConstantPredictionWarning):
        clf.fit(X, y, groups)
    for weight, start in zip(
        clf.to_module().parameters(), module.parameters(), strict=True
    ):
        assert torch.equal(weight, start)


def test_a_ball_that_is_never_left_changes_nothing(rows):
    X, y, groups = rows
    free = quick(deploy="last").fit(X, y, groups)
    wide = quick(deploy="last", radius=1e6).fit(X, y, groups)
    np.testing.assert_array_equal(free.predict_proba(X), wide.predict_proba(X))


# Input ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"constraint": "eod"}, "Did you mean 'eo'"),
        ({"constraint": "equalized_odds"}, "Did you mean 'eo'"),
        ({"constraint": ["dp", "TruePositiveRateParity"]}, "Did you mean 'eopp'"),
        ({"constraint": "mindiff"}, "compares distributions"),
        ({"constraint": []}, "empty list"),
        ({"constraint": EqualizedOdds}, "pass an instance"),
        ({"constraint": ["eo", "dp"], "bound": [0.1]}, "1 bounds and 2 constraints"),
        ({"bound": -0.1}, "a number in"),
        ({"bound": 1.5}, "a number in"),
        ({"bound": None}, "a number in"),
        ({"constraint": BoundedGroupLoss(ZeroOneLoss())}, "upper_bound"),
        ({"game": "duel"}, "'game' parameter"),
        ({"penalty__memory": 0.5}, "has no parameter 'penalty__memory'"),
        ({"game": "proxy", "multiplier_cap": 1.0}, "multiplier_cap"),
    ],
)
def test_bad_parameters_are_refused_in_one_sentence(params, message, rows):
    X, y, groups = rows
    with pytest.raises(ValueError, match=message):
        quick(**params).fit(X, y, groups)


def test_groups_must_arrive_where_they_are_compared(rows):
    X, y, groups = rows
    with pytest.raises(ValueError, match="constraint='eo' needs the group"):
        quick().fit(X, y)
    with pytest.raises(ValueError, match="one group only"):
        quick().fit(X, y, np.zeros(900))
    both = ["eo", FMeasure()]
    with pytest.raises(ValueError, match="needs the group"):
        quick(constraint=both, bound=[0.1, 0.2]).fit(X, y)


def test_a_fit_that_fails_changes_nothing(rows):
    X, y, groups = rows
    clf = quick(deploy="last", max_epochs=2).fit(X, y, groups)
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match="bound"):
        clf.set_params(bound=7).fit(X, y, groups)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


def test_a_stored_estimator_predicts_the_same(rows):
    X, y, groups = rows
    clf = quick(deploy="uniform", max_epochs=2).fit(X, y, groups)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict(X), clf.predict(X))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    wide = np.vstack([X] * 40)
    stored = quick(deploy="last", max_epochs=1)
    stored.fit(wide, np.tile(y, 40), np.tile(groups, 40))
    assert len(pickle.dumps(stored)) < len(pickle.dumps(clf)) + 100_000


def test_datasets_and_hooks_train_as_arrays_do(rows):
    X, y, groups = rows

    class Items(torch.utils.data.Dataset):
        def __len__(self):
            return len(X)

        def __getitem__(self, i):
            return torch.as_tensor(X[i]), int(y[i]), str(groups[i])

    class Watch(Callback):
        def on_batch_end(self, net, **kwargs):
            pass

    common = {"max_epochs": 2, "deploy": "last", "bound": 0.02}
    expected = quick(**common).fit(X, y, groups)
    of_items = quick(**common).fit(Items())
    np.testing.assert_allclose(
        of_items.predict_proba(X), expected.predict_proba(X), atol=1e-6
    )
    watched = quick(**common, callbacks=[Watch()]).fit(X, y, groups)
    np.testing.assert_allclose(
        watched.predict_proba(X), expected.predict_proba(X), atol=1e-6
    )


@pytest.mark.parametrize(
    "params",
    [
        {"game": "proxy"},
        {"class_weight": {0: 1.0, 1: 3.0}},
        {"sampler": "stratified"},
        {"sampler": "balanced_cells", "game": "proxy"},
        {"surrogate_slope": 2.0},
        {"criterion__label_smoothing": 0.2},
    ],
)
def test_steps_are_the_same_whether_someone_looks_into_them_or_not(rows, params):
    X, y, groups = rows
    groups = np.where(np.arange(len(y)) % 9 == 0, None, groups)

    class Watch(Callback):
        def on_grad_computed(self, net, **kwargs):
            assert all(p.grad is not None for p in net.module_.parameters())

    common = {"deploy": "last", "bound": 0.02, "precision": "float64", **params}
    fast = quick(**common).fit(X, y, groups)
    watched = quick(**common, callbacks=[Watch()]).fit(X, y, groups)
    assert (fast.multipliers_ > 0).any(axis=None)
    np.testing.assert_allclose(
        fast.predict_proba(X), watched.predict_proba(X), atol=1e-9
    )
    np.testing.assert_allclose(
        fast.history_["objective"], watched.history_["objective"], rtol=1e-9
    )


def test_equal_seeds_fit_equally(rows):
    X, y, groups = rows
    state = torch.random.get_rng_state()
    first, second = (quick().fit(X, y, groups) for _ in range(2))
    np.testing.assert_array_equal(first.predict(X), second.predict(X))
    assert first.multipliers_.equals(second.multipliers_)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("sampler", ["stratified", "balanced_classes"])
def test_rates_refer_to_the_training_rows_whatever_is_drawn(sampler, rows):
    X, y, groups = rows
    clf = longer(sampler=sampler, bound=0.1)
    clf.fit(X, y, groups)
    assert clf.sampler_ == sampler
    assert clf.train_violation_ <= 1e-3


def test_metrics_on_train_rows_agree_with_the_table(rows):
    X, y, groups = rows
    found = {
        "dp": demographic_parity_difference,
        "eo": equalized_odds_difference,
        "eopp": equal_opportunity_difference,
    }
    for alias, metric in found.items():
        clf = quick(constraint=alias, deploy="last", bound=0.9, validation_fraction=0)
        clf.fit(X, y, groups)
        value = metric(y, clf.predict(X), sensitive_features=groups)
        assert clf.violations_.loc[("train", alias), "value"] == pytest.approx(value)


def test_confusion_of_two_classes_is_enough_for_all_rates(rows):
    X, y, groups = rows
    clf = quick(deploy="last", bound=0.9, validation_fraction=0).fit(X, y, groups)
    net = clf.net_
    coded = GroupedRows(X, y, np.unique(groups, return_inverse=True)[1])
    batches = net.get_iterator(coded, training=False)
    sums = net.sums_of(net.module_, batches)
    table = confusion_matrix(y, clf.predict(X))
    assert sums[1:, :, 0].sum(0).tolist() == table.sum(1).tolist()
    assert sums[1:, :, 1].sum(0).tolist() == table[:, 1].tolist()


def test_multipliers_are_plotted(rows):
    from matplotlib.figure import Figure

    X, y, groups = rows
    clf = quick(bound=0.02).fit(X, y, groups)
    ax = Figure().subplots()
    assert clf.plot_multipliers(ax, n_largest=3) is ax
    largest = clf.multipliers_.max().max()
    assert len(ax.lines) == 3
    assert max(ax.lines[0].get_ydata()) == largest
    assert "positive rate" in ax.get_legend().get_texts()[0].get_text()
    with pytest.raises(ValueError, match="no multiplier"):
        quick(constraint=None, max_epochs=1).fit(X, y).plot_multipliers()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "one linear layer"),
        ({"module__hidden": (), "game": "proxy"}, "game='lagrangian'"),
        ({"module__hidden": (), "constraint": None}, "needs a constraint"),
    ],
)
def test_only_linear_games_are_certified(params, message, rows):
    X, y, groups = rows
    clf = quick(**params, max_epochs=1).fit(X, y, groups)
    with pytest.raises(ValueError, match=message):
        clf.duality_gap(X, y, groups)


def test_a_bound_is_kept_on_every_device(rows, device):
    X, y, groups = rows
    clf = longer(constraint="dp", bound=0.1, device=device, radius=50.0)
    clf.fit(X, y, groups)
    assert clf.is_feasible_
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict(X), clf.predict(X))
    assert not next(
        clf.set_params(deploy="last").fit(X, y, groups).to_module().parameters()
    ).is_cuda


def test_crossed_groups_and_gradient_norms(rows):
    X, y, groups = rows
    crossed = pd.DataFrame({"g": groups, "sign": X[:, 1] > 0})
    clf = quick(constraint="dp", bound=0.3, monitor="all", max_epochs=2)
    clf.fit(X, y, crossed)
    named = clf.multipliers_.columns.get_level_values("group")
    assert ("a", True) in set(named)
    assert (clf.history_["penalty_gradient_norm"] >= 0).all()
    assert clf.history_["multiplier_sum"].notna().all()


def test_overall_constraints_have_no_penalty_in_the_history():
    X, y = rare()
    clf = quick(constraint=FMeasure(), bound=0.5, batch_size=32).fit(X, y)
    assert "train_penalty" not in clf.history_
    assert "train_loss" in clf.history_
