"""`FairLastLayerClassifier`: its rows, modes, guards and persistence."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNetClassifier

from fairskorch import FairLastLayerClassifier, FairNeuralClassifier
from fairskorch.batches import GroupedRows
from fairskorch.exceptions import (
    ConstantPredictionWarning,
    EmptyCellWarning,
    NonFiniteLossError,
)
from fairskorch.penalties import EqualizedOdds


@pytest.fixture(scope="module")
def plain(table):
    X, y, groups = table
    return FairNeuralClassifier(penalty=None, max_epochs=4, random_state=0).fit(X, y)


def quick(fitted, **params):
    params = {"max_epochs": 40, "random_state": 0, "lr": 0.1, **params}
    return FairLastLayerClassifier(FrozenEstimator(fitted), **params)


def counts(groups, y):
    return pd.crosstab(pd.Series(groups, name="group"), pd.Series(y)).to_numpy()


#: The paper's five modes, and how many rows each trains on.
MODES = {
    "B1": {"penalty": None, "balance": None},
    "B2": {"penalty": None, "balance": None},
    "B3": {"penalty": None, "balance": "cells"},
    "M1": {"penalty": "eo", "balance": None},
    "M2": {"penalty": "eo", "balance": "cells"},
}


@pytest.mark.parametrize("mode", MODES)
def test_rows_of_every_mode(mode, plain, table):
    X, y, groups = table
    held = slice(None) if mode == "B1" else slice(200, None)
    clf = quick(plain, **MODES[mode]).fit(X[held], y[held], groups[held])
    expected = counts(groups[held], y[held])
    if MODES[mode]["balance"] == "cells":
        expected = np.full_like(expected, expected.min())
    np.testing.assert_array_equal(clf.group_counts_.to_numpy(), expected)
    assert ("train_penalty" in clf.history_) == mode.startswith("M")


def test_balance_by_weights_counts_cells_alike(plain, table):
    X, y, groups = table
    params = {"penalty": None, "max_epochs": 300}
    clf = quick(plain, balance="weights", **params).fit(X, y, groups)
    np.testing.assert_array_equal(clf.group_counts_, counts(groups, y))
    # As if every cell had been repeated until all are as large.
    table_ = counts(groups, y)
    code = 2 * (groups == "b") + y
    size = np.lcm.reduce(table_.ravel())
    weight = size / table_.ravel()[code]
    other = quick(plain, balance=None, class_weight=None, **params)
    other.fit(X, y, groups, sample_weight=weight)
    np.testing.assert_allclose(clf.coef_, other.coef_, atol=1e-5)


def test_rows_of_unknown_group_are_in_no_cell(plain, table):
    X, y, groups = table
    known = groups.astype(object).copy()
    known[:100] = None
    for balance in ("cells", "weights"):
        clf = quick(plain, balance=balance).fit(X, y, known)
        other = quick(plain, balance=balance).fit(X[100:], y[100:], groups[100:])
        np.testing.assert_allclose(clf.coef_, other.coef_, atol=1e-6)
    clf = quick(plain, balance=None, class_weight=None).fit(X, y, known)
    assert int(clf.group_counts_.to_numpy().sum()) == 300


def test_without_groups_classes_are_balanced(plain, table):
    X, y, _ = table
    clf = quick(plain, penalty=None, class_weight=None).fit(X, y)
    assert clf.groups_ is None and clf.group_counts_ is None
    share = (clf.predict(X) == 1).mean()
    unbalanced = quick(plain, penalty=None, class_weight=None, balance=None).fit(X, y)
    assert share > (unbalanced.predict(X) == 1).mean()
    weighted = quick(plain, penalty=None, balance=None).fit(X, y)
    assert (weighted.predict(X) == 1).mean() > (unbalanced.predict(X) == 1).mean()


def test_penalty_lowers_the_gap_of_scores(plain, table):
    X, y, groups = table
    clfs = [quick(plain, penalty_weight=w, max_epochs=300) for w in (0, 3)]
    ends = [clf.fit(X, y, groups).history_.iloc[-1] for clf in clfs]
    assert ends[1].train_penalty < 0.5 * ends[0].train_penalty
    assert ends[1].train_loss > ends[0].train_loss


def test_weight_zero_is_no_penalty(plain, table):
    X, y, groups = table
    one = quick(plain, penalty_weight=0).fit(X, y, groups)
    other = quick(plain, penalty=None).fit(X, y, groups)
    np.testing.assert_array_equal(one.coef_, other.coef_)


@pytest.mark.parametrize(
    "params",
    [
        {"penalty": "mmf", "penalty_weight": 1.0, "penalty__over": "cells"},
        {"penalty": "mmf", "penalty_weight": 1.0},
        {"penalty__rates": "joint", "penalty__reduction": "sum"},
        {"penalty": "di"},
        {"penalty": "ae"},
    ],
)
def test_settings_make_a_difference(params, plain, table):
    X, y, groups = table
    one = quick(plain, **params).fit(X, y, groups)
    other = quick(plain).fit(X, y, groups)
    assert not np.allclose(one.coef_, other.coef_, atol=1e-4)


def test_draws_are_averaged(plain, table):
    X, y, groups = table
    many = quick(plain, n_draws=3).fit(X, y, groups)
    again = quick(plain, n_draws=3).fit(X, y, groups)
    np.testing.assert_array_equal(many.coef_, again.coef_)
    spread = [
        quick(plain, n_draws=n, random_state=seed).fit(X, y, groups).intercept_[1]
        for n in (1, 8)
        for seed in range(5)
    ]
    assert np.std(spread[5:]) < np.std(spread[:5])


def test_an_unfitted_estimator_gets_the_other_rows(table):
    X, y, groups = table

    class Seen(FairNeuralClassifier):
        def fit(self, X, y, sensitive_features=None, sample_weight=None):
            self.seen_ = X, y, np.asarray(sensitive_features).ravel(), sample_weight
            return super().fit(X, y, sensitive_features=sensitive_features)

    weight = np.r_[np.zeros(20), np.ones(380)]
    clf = FairLastLayerClassifier(
        Seen(max_epochs=2, penalty=None),
        balance=None,
        fine_tune_fraction=0.25,
        max_epochs=5,
        random_state=0,
    ).fit(X, y, groups, sample_weight=weight)
    seen, _, seen_groups, seen_weight = clf.estimator_.seen_
    kept = int(clf.group_counts_.to_numpy().sum())
    assert kept + len(seen) == 380
    assert abs(kept - 95) <= 4
    assert (seen_weight == 1).all()
    shares = clf.group_counts_.to_numpy() / counts(groups[20:], y[20:])
    assert (abs(shares - 0.25) < 0.07).all()
    assert set(seen_groups) == {"a", "b"}
    fold = np.where(np.arange(400) % 4 == 0, 0, -1)
    split = FairLastLayerClassifier(
        Seen(max_epochs=2, penalty=None),
        balance=None,
        fine_tune_fraction=PredefinedSplit(fold),
        max_epochs=5,
        random_state=0,
    ).fit(X, y, groups)
    np.testing.assert_array_equal(split.estimator_.seen_[0], X[fold == -1])
    np.testing.assert_array_equal(
        split.group_counts_.to_numpy(), counts(groups[fold == 0], y[fold == 0])
    )


def test_an_unfitted_skorch_net_gets_codes(table):
    X, y, groups = table
    labels = np.array(["no", "yes"])[y]
    net = NeuralNetClassifier(
        torch.nn.Linear(5, 2), criterion=torch.nn.CrossEntropyLoss, verbose=0
    )
    clf = FairLastLayerClassifier(net, max_epochs=100, random_state=0, lr=0.1)
    clf.fit(X, labels, groups)
    assert set(clf.predict(X)) == {"no", "yes"}
    assert clf.score(X, labels) > 0.7
    assert not getattr(net, "initialized_", False)


def test_a_dataset_brings_its_own_groups(table):
    X, y, groups = table

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 300

        def __getitem__(self, i):
            return torch.as_tensor(X[i]), int(y[i]), groups[i]

    base = FairNeuralClassifier(penalty=None, max_epochs=2, random_state=0)
    clf = FairLastLayerClassifier(base, max_epochs=30, random_state=0).fit(Rows())
    assert set(clf.groups_) == {"a", "b"}
    assert clf.predict_proba(Rows()).shape == (300, 2)


def test_an_empty_cell_is_named(plain, table):
    X, y, groups = table
    keep = ~((groups == "b") & (y == 1))
    with pytest.warns(EmptyCellWarning, match="group 'b' has no row of class 1"):
        quick(plain).fit(X[keep], y[keep], groups[keep])
    quick(plain, penalty=None).fit(X[keep], y[keep], groups[keep])


def test_one_class_for_all_is_said(plain, table):
    X, y, groups = table
    with pytest.warns(ConstantPredictionWarning, match="predicts one class"):
        quick(plain, balance=None, class_weight={0: 1e4, 1: 1e-4}, penalty=None).fit(
            X, y, groups
        )


def test_a_fit_that_fails_changes_nothing(plain, table):
    X, y, groups = table
    clf = quick(plain).fit(X, y, groups)
    before = vars(clf).copy()
    clf.lr = 1e30
    with pytest.raises(NonFiniteLossError, match="Try a smaller lr"):
        clf.fit(X * 1e20, y, groups)
    clf.lr = 0.1
    assert vars(clf) == before


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"penalty": "e0"}, "Did you mean 'eo'"),
        ({"penalty": "mmf"}, "must be at most 1.0"),
        ({"penalty__slop": 1}, "Did you mean 'slope'"),
        ({"optimizer__lr": 1}, "optimizer takes no 'lr'"),
        ({"criterion__x": 1}, "no part 'criterion'"),
        ({"balance": "cell"}, "'balance' parameter"),
        ({"class_weight": {0: 1, 1: -1}}, "must be positive"),
        ({"n_draws": 0}, "'n_draws' parameter"),
        ({"class_weight": {0: 1, 1: np.inf}}, "for every class, and finite"),
        ({"optimizer": torch.nn.Linear}, "'optimizer' parameter .* Got <class"),
        ({"optimizer": torch.optim.LBFGS}, "gradients only, no closure.*LBFGS"),
        ({"optimizer__momentum": -1}, "SGD of .* with optimizer__momentum=-1: Inv"),
        ({"penalty": "mindiff", "penalty__bandwidth": np.inf}, "bandwidth of MinDiff"),
        ({"penalty__reduction": "median"}, "reduction of EqualizedOdds must be"),
    ],
)
def test_bad_parameters(params, message, plain, table):
    X, y, groups = table
    with pytest.raises(ValueError, match=message):
        quick(plain, **params).fit(X, y, groups)

    class Untouched(FairNeuralClassifier):
        def fit(self, X, y, **kwargs):
            raise AssertionError("it was fitted before parameters were checked")

    unfitted = FairLastLayerClassifier(Untouched(penalty=None), **params)
    with pytest.raises(ValueError, match=message):
        unfitted.fit(X, y, groups)


def test_an_optimiser_with_a_closure_trains_a_part_of_the_network(plain, table):
    params = {"optimizer": torch.optim.LBFGS, "max_epochs": 2, "penalty": None}
    clf = quick(plain, scope="all", **params).fit(*table)
    assert clf.n_iter_ == 2 and clf.history_["train_loss"].iloc[-1] < 0.6


@pytest.mark.parametrize("scope", ["last_layer", "all"])
@pytest.mark.parametrize("cut", [False, True], ids=["frozen", "pipeline"])
def test_a_warm_start_knows_its_classes_by_label(scope, cut, plain, table):
    X, y, groups = table
    fitted = make_pipeline(FunctionTransformer(), plain) if cut else plain
    warm = quick(fitted, init="warm", scope=scope, max_epochs=1)
    for labels, named in (
        (np.where(y == 1, "ill", "well"), "'ill', 'well'"),
        (y + 1, "1, 2"),
        (np.where(np.arange(400) < 50, 2, y), "0, 1, 2"),
    ):
        message = rf"init='warm' .* classes \[0, 1\], and y has \[{named}\]; use"
        with pytest.raises(ValueError, match=message):
            warm.fit(X, labels, groups)
        assert not hasattr(warm, "coef_")
    assert warm.fit(X, y, groups).score(X, y) > 0.7


def test_a_warm_start_on_some_of_the_classes_is_refused(table):
    X, y, groups = table
    three = np.where(X[:, 1] > 1, 2, y)
    base = FairNeuralClassifier(penalty=None, max_epochs=1, random_state=0)
    base.fit(X, three)
    some = three != 1
    with pytest.raises(ValueError, match=r"\[0, 1, 2\], and y has \[0, 2\]; use"):
        quick(base, init="warm").fit(X[some], three[some], groups[some])
    fresh = quick(base).fit(X[some], three[some], groups[some])
    assert fresh.classes_.tolist() == [0, 2]


def test_bad_rows(plain, table):
    X, y, groups = table
    with pytest.raises(ValueError, match="needs the group of every training row"):
        quick(plain).fit(X, y)
    with pytest.raises(ValueError, match="two names of one argument"):
        quick(plain).fit(X, y, groups, sensitive_features=groups)
    with pytest.raises(ValueError, match="no row of known group"):
        quick(plain, penalty=None).fit(X, y, np.full(400, None))
    base = FairNeuralClassifier(penalty=None)
    one = [np.flatnonzero((groups == g) & (y == c))[0] for g in "ab" for c in (0, 1)]
    with pytest.raises(ValueError, match="keeps no row of 4"):
        FairLastLayerClassifier(base, random_state=0).fit(X[one], y[one], groups[one])


@pytest.mark.filterwarnings("ignore::fairskorch.exceptions.ConstantPredictionWarning")
def test_few_rows_leave_one_of_each_cell(table):
    X, y, groups = table
    few = [
        row
        for g in "ab"
        for c in (0, 1)
        for row in np.flatnonzero((groups == g) & (y == c))[:3]
    ]
    base = FairNeuralClassifier(penalty=None, max_epochs=1)
    clf = FairLastLayerClassifier(
        base, fine_tune_fraction=1e-9, max_epochs=50, random_state=0
    ).fit(X[few], y[few], groups[few])
    assert (clf.group_counts_ == 1).all(axis=None)


@pytest.mark.parametrize("way", ["pickle", "joblib"])
def test_stored_and_read(way, plain, table, tmp_path):
    X, y, groups = table
    clf = quick(plain, penalty__slope=2).fit(X, y, groups)
    if way == "pickle":
        again = pickle.loads(pickle.dumps(clf))
    else:
        joblib.dump(clf, tmp_path / "clf.joblib")
        again = joblib.load(tmp_path / "clf.joblib")
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))


def test_parameters_of_parts(plain):
    clf = quick(plain, penalty__slope=2)
    assert clone(clf).get_params()["penalty__slope"] == 2
    base = FairLastLayerClassifier(FairNeuralClassifier(penalty__slope=3))
    assert base.get_params()["estimator__penalty__slope"] == 3
    base.set_params(estimator__lr=0.5, penalty__slope=4, lr=0.2)
    assert base.estimator.lr == 0.5
    assert base.lr == 0.2
    assert clone(base).get_params()["penalty__slope"] == 4
    base.set_params(estimator__penalty__slope=5)
    assert base.estimator.get_params()["penalty__slope"] == 5
    with pytest.raises(ValueError, match="Invalid parameter 'balans'"):
        base.set_params(balans=1)


def test_search_with_routing(plain, table):
    X, y, groups = table
    with sklearn.config_context(enable_metadata_routing=True):
        clf = quick(plain).set_fit_request(sensitive_features=True)
        search = GridSearchCV(
            clf, {"penalty_weight": [0, 2], "penalty__slope": [1, 2]}, cv=2
        ).fit(X, y, sensitive_features=groups)
    assert search.best_estimator_.groups_.tolist() == ["a", "b"]


def test_history_is_short_and_ends_with_the_last_epoch(plain, table):
    X, y, groups = table
    clf = quick(plain, max_epochs=173).fit(X, y, groups)
    epochs = clf.history_["epoch"]
    assert len(epochs) <= 20
    assert epochs.iloc[-1] == clf.n_iter_ == 173
    final = clf.predict_proba(X)
    assert final.dtype == np.float64
    np.testing.assert_allclose(final.sum(1), 1, rtol=1e-14)
    assert {"train_loss", "train_penalty", "train_equalized_odds_difference"} <= {
        *clf.history_
    }


@pytest.mark.parametrize("params", [{}, {"batch_size": 64}])
def test_same_seed_same_layer(params, plain, table):
    X, y, groups = table
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    clf, again = (quick(plain, **params).fit(X, y, groups) for _ in range(2))
    np.testing.assert_array_equal(clf.coef_, again.coef_)
    other = quick(plain, random_state=1, **params).fit(X, y, groups)
    assert not np.array_equal(clf.coef_, other.coef_)
    assert torch.equal(torch.get_rng_state(), state[0])
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])


def test_the_module_goes_into_a_net(plain, table):
    X, y, groups = table
    clf = quick(plain).fit(X, y, groups)
    again = FairNeuralClassifier(
        clf.to_module(), penalty=None, lr=1e-12, max_epochs=1, random_state=0
    )
    again.fit(X, y)
    np.testing.assert_allclose(again.predict_proba(X), clf.predict_proba(X), atol=1e-5)
    assert GroupedRows(X).take(torch.tensor([0]))[0]["X"].shape == (1, 5)


def test_rows_that_were_trained_on_are_reported(plain, table, caplog):
    X, y, groups = table
    clf = quick(plain).fit(X, y, groups)
    assert clf.overlap_ > 0.2
    assert "on rows that its network was trained on" in caplog.text
    everything = quick(plain, balance=None).fit(X, y, groups)
    assert everything.overlap_ == 1
    caplog.clear()
    new = np.random.default_rng(1).normal(size=X.shape)
    assert quick(plain).fit(new, y, groups).overlap_ == 0
    assert not caplog.text
    base = FairNeuralClassifier(penalty=None, max_epochs=1)
    params = {"max_epochs": 5, "random_state": 0}
    assert FairLastLayerClassifier(base, **params).fit(X, y, groups).overlap_ == 0

    half = FairNeuralClassifier(
        penalty=None, max_epochs=3, validation_fraction=0, random_state=0
    ).fit(X[:200], y[:200])
    clf = quick(half, balance=None).fit(X[100:], y[100:], groups[100:])
    assert abs(clf.overlap_ - 0.5) < 0.01
    module = torch.nn.Linear(5, 2)
    net = NeuralNetClassifier(module, verbose=0).initialize()
    assert np.isnan(quick(net).fit(X, y, groups).overlap_)


@pytest.mark.filterwarnings("ignore::fairskorch.exceptions.ConstantPredictionWarning")
def test_images_that_were_trained_on_are_reported(images):
    X, y, groups = images
    fitted = FairNeuralClassifier(
        penalty=None, max_epochs=1, validation_fraction=0, random_state=0
    ).fit(X[:40], y[:40])
    clf = quick(fitted, balance=None)
    assert clf.fit(X[20:], y[20:], groups[20:]).overlap_ == 0.5
    assert clf.fit(X[40:], y[40:], groups[40:]).overlap_ == 0


def test_parts_of_a_penalty_that_are_redefined(plain, table):
    class Steep(EqualizedOdds):
        def scores(self, logits):
            return super().scores(5 * logits)

    class Scaled(EqualizedOdds):
        def penalise(self, *args, **kwargs):
            return 3 * super().penalise(*args, **kwargs)

    own, known, usual = (
        quick(plain, **params).fit(*table).coef_
        for params in (
            {"penalty": Steep},
            {"penalty": "eo", "penalty__slope": 5},
            {"penalty": "eo"},
        )
    )
    np.testing.assert_allclose(own, known, atol=1e-5)
    assert np.abs(own - usual).max() > 1e-3
    with pytest.raises(ValueError, match="Scaled of FairLastLayerClassifier has"):
        quick(plain, penalty=Scaled).fit(*table)
