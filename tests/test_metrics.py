import warnings

import fairlearn.metrics as fl
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as skm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairskorch import metrics
from fairskorch.exceptions import InestimableWarning
from fairskorch.metrics import METRICS, from_counts, group_metrics
from fairskorch.rates import confusion_statistics

OURS_AND_THEIRS = [
    ("demographic_parity_difference", "max", fl.demographic_parity_difference, {}),
    ("demographic_parity_ratio", "max", fl.demographic_parity_ratio, {}),
    ("equal_opportunity_difference", "max", fl.equal_opportunity_difference, {}),
    ("equalized_odds_difference", "max", fl.equalized_odds_difference, {}),
    ("equalized_odds_ratio", "max", fl.equalized_odds_ratio, {}),
    ("equalized_odds_difference", "mean", fl.equalized_odds_difference, "mean"),
    ("equalized_odds_ratio", "mean", fl.equalized_odds_ratio, "mean"),
]
ONE_VS_REST = [name for name, metric in METRICS.items() if metric.one_vs_rest]
SCALARS = [name for name, metric in METRICS.items() if metric.compare != "overall"]
PLAIN = [name for name in SCALARS if name not in ONE_VS_REST]


def rows(n_groups=2, n_classes=2, positive=0.5, n=2000, seed=0):
    """Labels, predictions right in two rows of three, and groups of unequal size."""
    rng = np.random.default_rng(seed)
    shares = np.full(n_classes, (1 - positive) / max(n_classes - 1, 1))
    shares[-1] = positive
    y_true = rng.choice(n_classes, size=n, p=shares)
    y_pred = np.where(rng.random(n) < 0.67, y_true, rng.integers(n_classes, size=n))
    size = 1 / np.arange(1, n_groups + 1)
    groups = rng.choice(n_groups, size=n, p=size / size.sum())
    return y_true, y_pred, groups


def score(name, y_true, y_pred, groups, **kwargs):
    return getattr(metrics, name)(y_true, y_pred, sensitive_features=groups, **kwargs)


def plain_loop(name, y_true, y_pred, groups, agg="max", class_=None):
    """Compute a metric by loops over classes and groups."""
    labels = np.unique(np.concatenate([y_true, y_pred]))
    if class_ is not None:
        labels = [class_]
    elif len(labels) == 2:
        labels = labels[1:]
    each = [groups == g for g in np.unique(groups)]
    if name == "worst_cell_accuracy":
        cells = [r & (y_true == c) for r in each for c in np.unique(y_true)]
        return min((y_pred[c] == y_true[c]).mean() for c in cells)
    accuracies = [(y_pred[r] == y_true[r]).mean() for r in each]
    if name == "worst_group_accuracy":
        return min(accuracies)
    if name == "accuracy_difference":
        return max(accuracies) - min(accuracies)
    found = []
    for c in labels:
        by_rate = {
            "dp": [(y_pred[r] == c).mean() for r in each],
            "tpr": [(y_pred[r & (y_true == c)] == c).mean() for r in each],
            "fpr": [(y_pred[r & (y_true != c)] == c).mean() for r in each],
        }
        names = {"demographic": ["dp"], "equal": ["tpr"]}.get(
            name.split("_")[0], ["tpr", "fpr"]
        )
        chosen = [by_rate[k] for k in names]
        if name.endswith("ratio"):
            numbers = [min(v) / max(v) for v in chosen]
        else:
            numbers = [max(v) - min(v) for v in chosen]
        found += [np.mean(numbers)] if name.startswith("average") else numbers
    if agg == "mean":
        return np.mean(found)
    return min(found) if name.endswith("ratio") else max(found)


@pytest.mark.parametrize(
    ("name", "agg", "theirs", "their_agg"),
    OURS_AND_THEIRS,
    ids=[f"{name}-{agg}" for name, agg, *_ in OURS_AND_THEIRS],
)
@pytest.mark.parametrize("n_groups", [2, 5])
@pytest.mark.parametrize("positive", [0.5, 0.08])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_fairlearn(name, agg, theirs, their_agg, n_groups, positive, weighted):
    y_true, y_pred, groups = rows(n_groups, positive=positive)
    kwargs = {"agg": their_agg} if their_agg else {}
    weight = np.random.default_rng(1).random(len(y_true)) if weighted else None
    expected = theirs(
        y_true, y_pred, sensitive_features=groups, sample_weight=weight, **kwargs
    )
    found = score(name, y_true, y_pred, groups, agg=agg, sample_weight=weight)
    assert found == pytest.approx(expected, rel=0, abs=1e-12)
    if agg == "max":
        same = score(
            name, y_true, y_pred, groups, agg="worst_case", sample_weight=weight
        )
        assert same == found


@pytest.mark.parametrize("weighted", [False, True])
def test_accuracies_equal_metric_frame(weighted):
    y_true, y_pred, groups = rows(4)
    weight = np.random.default_rng(1).random(len(y_true)) if weighted else None
    frame = fl.MetricFrame(
        metrics=skm.accuracy_score,
        y_true=y_true,
        y_pred=y_pred,
        sensitive_features=groups,
        sample_params={"sample_weight": weight},
    )
    kwargs = {"sample_weight": weight}
    difference = score("accuracy_difference", y_true, y_pred, groups, **kwargs)
    worst = score("worst_group_accuracy", y_true, y_pred, groups, **kwargs)
    assert difference == pytest.approx(frame.difference(), abs=1e-12)
    assert worst == pytest.approx(frame.group_min(), abs=1e-12)


@pytest.mark.parametrize("agg", ["max", "mean"])
@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize(("n_groups", "n_classes"), [(2, 2), (3, 3), (6, 10)])
def test_equals_a_plain_loop(name, agg, n_groups, n_classes):
    y_true, y_pred, groups = rows(n_groups, n_classes, 1 / n_classes, n=6000)
    kwargs = {} if name in PLAIN else {"agg": agg}
    expected = plain_loop(name, y_true, y_pred, groups, **kwargs)
    found = score(name, y_true, y_pred, groups, **kwargs)
    assert found == pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.parametrize("name", SCALARS)
def test_hundreds_of_groups(name):
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(300), 40)
    y_true = np.tile([0, 1], 6000)
    y_pred = np.where(rng.random(12000) < 0.5, y_true, 1 - y_true)
    expected = plain_loop(name, y_true, y_pred, groups)
    assert score(name, y_true, y_pred, groups) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ONE_VS_REST)
def test_pos_label(name):
    y_true, y_pred, groups = rows(3, 3, 1 / 3)
    words = np.array(["b", "a", "c"])
    for code, word in enumerate(words):
        expected = plain_loop(name, y_true, y_pred, groups, class_=code)
        found = score(name, words[y_true], words[y_pred], groups, pos_label=word)
        assert found == pytest.approx(expected, abs=1e-12)
    two_true, two_pred = np.minimum(y_true, 1), np.minimum(y_pred, 1)
    expected = plain_loop(name, two_true, two_pred, groups, class_=0)
    found = score(name, two_true, two_pred, groups, pos_label=0)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", SCALARS)
def test_kinds_of_labels_and_containers(name):
    y_true, y_pred, groups = rows(3, n=300)
    expected = score(name, y_true, y_pred, groups)
    words = np.array(["no", "yes"])
    kinds = [
        (y_true.astype(bool), y_pred.astype(bool)),
        (2 * y_true - 1, 2 * y_pred - 1),
        (y_true, y_pred.astype(float)),
        (words[y_true], words[y_pred]),
        (words[y_true].astype(object), words[y_pred]),
        (pd.Series(words[y_true], index=range(7, 307)), pd.Categorical(words[y_pred])),
        (torch.tensor(y_true), torch.tensor(y_pred)),
        (y_true.tolist(), y_pred.reshape(-1, 1)),
    ]
    for true, predicted in kinds:
        assert score(name, true, predicted, groups) == expected
    assert score(name, y_true, y_pred, {"sex": groups}) == expected


def test_default_positive_label_is_the_larger():
    y_true, y_pred, groups = rows()
    words = np.array(["a", "b"])
    assert score(
        "equal_opportunity_difference", words[y_true], words[y_pred], groups
    ) == score("equal_opportunity_difference", y_true, y_pred, groups, pos_label=1)


def test_crossed_groups_are_the_combinations():
    y_true, y_pred, groups = rows(4)
    columns = np.column_stack([groups // 2, groups % 2])
    for name in SCALARS:
        assert score(name, y_true, y_pred, columns) == score(
            name, y_true, y_pred, groups
        )


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_rows_of_unknown_group_are_left_out(name, missing):
    y_true, y_pred, groups = rows(2, n=400)
    known = np.arange(400) % 4 > 0
    labels = groups.astype(object)
    labels[~known] = missing
    expected = score(name, y_true[known], y_pred[known], groups[known])
    assert score(name, y_true, y_pred, labels) == expected


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("equal_opportunity_difference", "no row of class 1 in group 'm'"),
        ("equalized_odds_difference", "no row of class 1 in group 'm'"),
        ("equalized_odds_ratio", "no row of class 1 in group 'm'"),
        ("average_odds_difference", "no row of class 1 in group 'm'"),
        ("worst_cell_accuracy", "no row of class 1 in group 'm'"),
    ],
)
def test_empty_cell_is_nan_and_named(name, cell):
    with pytest.warns(InestimableWarning, match=f"{name} is nan: {cell}") as caught:
        value = score(name, [0, 1, 0, 0], [0, 1, 0, 1], ["f", "f", "m", "m"])
    assert np.isnan(value)
    assert caught[0].filename == __file__ or "test_metrics" in caught[0].filename


def test_empty_cell_leaves_the_other_metrics():
    y_true, y_pred, groups = [0, 1, 0, 0], [0, 1, 0, 1], ["f", "f", "m", "m"]
    assert score("demographic_parity_difference", y_true, y_pred, groups) == 0
    assert score("accuracy_difference", y_true, y_pred, groups) == 0.5
    assert score("worst_group_accuracy", y_true, y_pred, groups) == 0.5


def test_missing_negatives_are_named_by_the_class_they_belong_to():
    with pytest.warns(InestimableWarning, match="no row of class 'a' in group 2"):
        score(
            "equalized_odds_difference",
            ["a", "b", "b", "b"],
            ["a", "b", "b", "a"],
            [1, 1, 2, 2],
        )
    with pytest.warns(InestimableWarning, match="of a class other than 0 in group 2"):
        score("equalized_odds_difference", [0, 1, 2, 0], [0, 1, 2, 0], [1, 1, 1, 2])


def test_many_empty_cells_are_counted():
    groups = np.repeat(np.arange(9), 2)
    with pytest.warns(InestimableWarning, match="in group 4; and 4 more"):
        score("equal_opportunity_difference", np.zeros(18), np.arange(18) % 2, groups)


@pytest.mark.parametrize("name", SCALARS)
def test_one_group(name):
    y_true, y_pred, _ = rows(n=50)
    groups = np.full(50, "only")
    if METRICS[name].compare == "smallest":
        expected = plain_loop(name, y_true, y_pred, groups)
        assert score(name, y_true, y_pred, groups) == pytest.approx(expected)
    else:
        with pytest.warns(InestimableWarning, match="only the group 'only' has rows"):
            assert np.isnan(score(name, y_true, y_pred, groups))


def test_label_that_is_only_predicted():
    y_true = np.array([0, 1, 0, 1, 0, 1])
    y_pred = np.array([0, 1, 2, 2, 2, 1])
    groups = np.array([0, 0, 0, 1, 1, 1])
    # Selection rates 1/3, 1/3, 1/3 against 0, 1/3, 2/3.
    found = score("demographic_parity_difference", y_true, y_pred, groups)
    assert found == pytest.approx(1 / 3, abs=1e-12)
    assert score("worst_cell_accuracy", y_true, y_pred, groups) == 0
    with pytest.warns(InestimableWarning, match="no row of class 2 in group 0"):
        assert np.isnan(score("equalized_odds_difference", y_true, y_pred, groups))


def test_ratio_of_zeros():
    y_true, groups = [0, 1, 0, 1], [0, 0, 1, 1]
    with pytest.warns(InestimableWarning, match="selection_rate are 0 in every group"):
        assert np.isnan(score("demographic_parity_ratio", y_true, [0] * 4, groups))
    # A rate that is 0 everywhere leaves the join; fairlearn's minimum agrees.
    y_true, y_pred = [0, 1, 1, 0, 1, 1], [0, 1, 1, 0, 1, 0]
    groups = [0, 0, 0, 1, 1, 1]
    assert score("equalized_odds_ratio", y_true, y_pred, groups) == 0.5
    assert fl.equalized_odds_ratio(y_true, y_pred, sensitive_features=groups) == 0.5


@pytest.mark.parametrize("label", [0, 1, -1, True])
def test_a_single_label_of_a_known_pair(label):
    y = np.full(4, label)
    groups = [0, 0, 1, 1]
    expected = fl.demographic_parity_difference(y, y, sensitive_features=groups)
    assert score("demographic_parity_difference", y, y, groups) == expected
    with pytest.warns(InestimableWarning, match="no row of class"):
        score("equalized_odds_difference", y, y, groups)
    assert score("worst_cell_accuracy", y, y, groups) == 1


def test_a_single_label_of_a_known_pair_fills_the_right_side():
    y = [1, 1, 1, 1]
    table = group_metrics(y, y, sensitive_features=[0, 0, 1, 1])
    assert (table["selection_rate"] == 1).all()
    table = group_metrics(y, y, sensitive_features=[0, 0, 1, 1], pos_label=0)
    assert (table["selection_rate"] == 0).all()


def test_a_single_other_label():
    y, groups = ["a"] * 4, [0, 0, 1, 1]
    with pytest.raises(ValueError, match="hold only 'a'; give pos_label"):
        score("demographic_parity_difference", y, y, groups)
    for label in ("a", "b"):
        assert (
            score("demographic_parity_difference", y, y, groups, pos_label=label) == 0
        )
    assert score("accuracy_difference", y, y, groups) == 0


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_pred": [0.2, 0.9, 0.4, 1]}, "y_pred of {} must hold labels; got 0.2"),
        ({"y_pred": [[0.2, 0.8]] * 4}, r"y_pred of {} .* shape \(4, 2\)"),
        ({"y_pred": [0, 1]}, r"{} must have the same number of rows.* got 4, 2 and 4"),
        ({"y_true": [], "y_pred": [], "sensitive_features": []}, "got 0, 0 and 0"),
        ({"y_pred": ["0", "1", "0", "1"]}, "of one kind; got numbers and strings"),
        ({"y_true": [0, 1, np.nan, 1]}, "y_true of {} .* row 2 is missing"),
        ({"y_pred": [0, 1, 1, None]}, "y_pred of {} .* row 3 is missing"),
        ({"y_true": [(1,), 1, 1, 1]}, "shape|one kind"),
        ({"sensitive_features": None}, "must give the group of each row; got None"),
        ({"sensitive_features": [None] * 4}, "every row's is missing"),
        ({"sample_weight": [1, 1]}, r"shape \(4,\); got \(2,\)"),
        ({"sample_weight": [1, 1, 1, -1]}, "not negative; got values from -1 to 1"),
        ({"sample_weight": [1, 1, 1, np.inf]}, "sample_weight of {} must be finite"),
    ],
)
def test_bad_input(name, changes, message):
    given_ = {
        "y_true": [0, 1, 0, 1],
        "y_pred": [0, 1, 1, 1],
        "sensitive_features": ["f", "f", "m", "m"],
    }
    if changes.get("y_true") == [(1,), 1, 1, 1]:
        y_true = np.empty(4, dtype=object)
        y_true[:] = changes["y_true"]
        changes = {"y_true": y_true}
    with pytest.raises(ValueError, match=message.format(name)):
        getattr(metrics, name)(**(given_ | changes))


def test_bad_agg_and_pos_label():
    y, groups = [0, 1, 0, 1], [0, 0, 1, 1]
    with pytest.raises(ValueError, match="agg must be 'max' or 'mean'; got 'sum'"):
        score("equalized_odds_difference", y, y, groups, agg="sum")
    with pytest.raises(ValueError, match=r"one of the labels \[0, 1\]; got 2"):
        score("equalized_odds_difference", y, y, groups, pos_label=2)


def test_weight_zero_is_no_row():
    y_true, y_pred, groups = rows(2, n=200)
    weight = (groups == 0).astype(float)
    with pytest.warns(InestimableWarning, match="only the group 0 has rows"):
        score("accuracy_difference", y_true, y_pred, groups, sample_weight=weight)
    with pytest.warns(InestimableWarning, match="no group has rows"):
        score("accuracy_difference", y_true, y_pred, groups, sample_weight=0 * weight)
    with pytest.warns(InestimableWarning, match="no group has rows"):
        score("worst_group_accuracy", y_true, y_pred, groups, sample_weight=0 * weight)


# The core on counts.


def draws(n_draws=7, n_groups=3, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 6, size=(n_draws, n_groups, n_classes, n_classes))
    counts = torch.tensor(counts, dtype=torch.float64)
    return torch.cat([counts.sum(-1, keepdim=True), counts], dim=-1)


@pytest.mark.parametrize("agg", ["max", "mean"])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("name", METRICS)
def test_all_draws_at_once_equal_one_by_one(name, n_classes, agg):
    statistic = draws(60, n_classes=n_classes)
    statistic[:20, 0] = 0
    statistic[10:15, 1] = 0
    whole = from_counts(name, statistic.reshape(6, 10, 3, n_classes, -1), agg=agg)
    single = torch.stack([from_counts(name, one, agg=agg) for one in statistic])
    assert whole.shape == (6, 10)
    assert whole.dtype == torch.float64
    torch.testing.assert_close(whole.flatten(), single, equal_nan=True, rtol=0, atol=0)


def test_overall_metrics_equal_scikit_learn():
    y_true, y_pred, groups = rows(3, 4, 0.1)
    counts = confusion_statistics(*map(torch.tensor, (y_true, y_pred, groups)), 3, 5)
    accuracy = from_counts("accuracy", counts)
    balanced = from_counts("balanced_accuracy", counts)
    assert float(accuracy) == pytest.approx(skm.accuracy_score(y_true, y_pred))
    # Class 4 does not occur; scikit-learn too averages over those that do.
    assert float(balanced) == pytest.approx(
        skm.balanced_accuracy_score(y_true, y_pred), abs=1e-12
    )


def test_core_leaves_out_a_group_without_rows_and_never_warns():
    y_true, y_pred, groups = rows(2)
    codes = torch.tensor(2 * groups)
    counts = confusion_statistics(
        torch.tensor(y_true), torch.tensor(y_pred), codes, 4, 2
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in SCALARS:
            expected = score(name, y_true, y_pred, groups)
            assert float(from_counts(name, counts)) == pytest.approx(expected)
            assert torch.isnan(from_counts(name, 0 * counts))
        assert torch.isnan(from_counts("accuracy", 0 * counts))
        assert torch.isnan(from_counts("balanced_accuracy", 0 * counts))


def test_statistics_of_batches_add_up():
    y_true, y_pred, groups = map(torch.tensor, rows(3))
    parts = torch.arange(2000).split(128)
    total = sum(
        confusion_statistics(y_true[i], y_pred[i], groups[i], 3, 2) for i in parts
    )
    expected = score("equalized_odds_difference", *rows(3))
    assert float(from_counts("equalized_odds_difference", total)) == expected


def test_core_unknown_name():
    with pytest.raises(ValueError, match="Did you mean 'equalized_odds_difference'"):
        from_counts("equalised_odds_difference", draws())
    with pytest.raises(ValueError, match="Known are"):
        from_counts("xyzzy", draws())


# Tables.


def test_group_metrics_equal_metric_frame():
    y_true, y_pred, groups = rows(3)
    table = group_metrics(
        y_true, y_pred, sensitive_features=pd.Series(groups, name="g")
    )
    frame = fl.MetricFrame(
        metrics={
            "count": fl.count,
            "accuracy": skm.accuracy_score,
            "balanced_accuracy": skm.balanced_accuracy_score,
            "selection_rate": fl.selection_rate,
            "true_positive_rate": fl.true_positive_rate,
            "false_positive_rate": fl.false_positive_rate,
        },
        y_true=y_true,
        y_pred=y_pred,
        sensitive_features=groups,
    )
    assert list(table.columns) == list(frame.by_group.columns)
    assert list(table.index) == [0, 1, 2, "overall"]
    assert table.index.name == "g"
    assert table["count"].dtype == np.int64
    assert table.attrs["n_unknown"] == 0
    np.testing.assert_allclose(table[:-1], frame.by_group.astype(float), atol=1e-12)
    np.testing.assert_allclose(
        table.loc["overall"], frame.overall.astype(float), atol=1e-12
    )


def test_group_metrics_unknown_crossed_and_empty():
    groups = pd.DataFrame(
        {"sex": ["f", "f", "m", "m", None], "old": [True, False, True, True, True]}
    )
    table = group_metrics([1, 0, 1, 1, 0], [1, 0, 0, 1, 0], sensitive_features=groups)
    assert table.index.names == ["sex", "old"]
    assert list(table.index) == [
        ("f", False),
        ("f", True),
        ("m", True),
        ("overall", "overall"),
    ]
    assert table["count"].tolist() == [1, 1, 2, 4]
    assert table.attrs["n_unknown"] == 1
    tpr = table["true_positive_rate"]
    np.testing.assert_array_equal(tpr, [np.nan, 1, 0.5, 2 / 3])
    np.testing.assert_array_equal(table["balanced_accuracy"][:3], [np.nan] * 3)


def test_group_metrics_names_callables_and_both():
    y_true, y_pred, groups = rows(2)
    words = np.array(["no", "yes"])
    table = group_metrics(
        words[y_true],
        words[y_pred],
        sensitive_features=groups,
        metrics=[
            "true_negative_rate",
            skm.accuracy_score,
            {"misses": "false_negative_rate", "kappa": skm.cohen_kappa_score},
        ],
    )
    assert list(table) == ["true_negative_rate", "accuracy_score", "misses", "kappa"]
    for group in (0, 1):
        mine = groups == group
        tn, fp, fn, tp = skm.confusion_matrix(y_true[mine], y_pred[mine]).ravel()
        expected = [
            tn / (tn + fp),
            (tn + tp) / mine.sum(),
            fn / (fn + tp),
            skm.cohen_kappa_score(y_true[mine], y_pred[mine]),
        ]
        np.testing.assert_allclose(table.loc[group], expected, atol=1e-12)
    single = group_metrics(
        y_true, y_pred, sensitive_features=groups, metrics=skm.cohen_kappa_score
    )
    expected = skm.cohen_kappa_score(y_true, y_pred)
    assert single.loc["overall", "cohen_kappa_score"] == pytest.approx(expected)
    renamed = group_metrics(
        y_true, y_pred, sensitive_features=groups, metrics={"rows": "count"}
    )
    assert renamed["rows"].tolist()[-1] == 2000


def test_group_metrics_of_several_classes():
    y_true, y_pred, groups = rows(2, 3, 1 / 3)
    words = np.array(["a", "b", "c"])
    table = group_metrics(
        words[y_true],
        words[y_pred],
        sensitive_features=groups,
        metrics=["true_positive_rate", "accuracy"],
    )
    assert list(table) == [*(f"true_positive_rate_{c}" for c in "abc"), "accuracy"]
    recalls = skm.recall_score(y_true, y_pred, average=None)
    np.testing.assert_allclose(table.loc["overall"][:3], recalls, atol=1e-12)


def test_group_metrics_keeps_columns_apart():
    metrics = [lambda y, p: np.mean(y), lambda y, p: np.mean(p)]
    with pytest.raises(ValueError, match="two columns called '<lambda>'; name them"):
        group_metrics([1, 0], [1, 1], sensitive_features=["f", "m"], metrics=metrics)
    twice = group_metrics(
        [1, 0], [1, 1], sensitive_features=["f", "m"], metrics=["count", "count"]
    )
    assert list(twice) == ["count"]


def test_group_metrics_unknown_name():
    with pytest.raises(ValueError, match="Did you mean 'selection_rate'"):
        group_metrics(
            [0, 1], [0, 1], sensitive_features=[0, 1], metrics="selectionrate"
        )


# Properties.

LABELS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)),
    min_size=1,
    max_size=40,
)


def quietly(name, table, **kwargs):
    y_true, y_pred, groups = map(np.asarray, zip(*table, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InestimableWarning)
        if name in ONE_VS_REST and len({*y_true, *y_pred}) == 1:
            kwargs["pos_label"] = y_true[0]
        return score(name, y_true, y_pred, groups, **kwargs)


@given(table=LABELS, name=st.sampled_from(SCALARS), order=st.permutations(range(4)))
@settings(max_examples=60, deadline=None)
def test_relabelling_reordering_and_repeating_change_nothing(table, name, order):
    expected = quietly(name, table)
    renamed = [(y, p, order[g]) for y, p, g in table]
    assert quietly(name, renamed) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert quietly(name, table[::-1]) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert quietly(name, table * 3) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    weight = np.full(len(table), 3.0)
    assert quietly(name, table, sample_weight=weight) == pytest.approx(
        expected, abs=1e-12, nan_ok=True
    )


@given(table=LABELS, name=st.sampled_from(SCALARS))
@settings(max_examples=60, deadline=None)
def test_bounds_and_order_of_aggregates(table, name):
    value = quietly(name, table)
    assert np.isnan(value) or 0 <= value <= 1
    if name in ONE_VS_REST:
        mean = quietly(name, table, agg="mean")
        assert np.isnan(mean) == np.isnan(value)
        if not np.isnan(value):
            worse, better = sorted([value, mean], reverse=not name.endswith("ratio"))
            assert worse == pytest.approx(value, abs=1e-12)


@given(table=LABELS, name=st.sampled_from(SCALARS))
@settings(max_examples=40, deadline=None)
def test_copies_of_one_group_are_at_parity(table, name):
    copies = [(y, p, g) for y, p, _ in table for g in range(3)]
    value = quietly(name, copies)
    if METRICS[name].compare == "difference":
        assert np.isnan(value) or value == pytest.approx(0, abs=1e-12)
    elif METRICS[name].compare == "ratio":
        assert np.isnan(value) or value == pytest.approx(1, abs=1e-12)
    else:
        single = quietly(name, [(y, p, 0) for y, p, _ in table])
        assert value == pytest.approx(single, abs=1e-12, nan_ok=True)
