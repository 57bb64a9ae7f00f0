"""The scripts behind the figures of the docs: that they run, go on, and add up."""

import importlib
import json
import shutil
from itertools import product

import numpy as np
import pandas as pd
import pytest
from data_folders import write_studies
from fairlearn.metrics import equalized_odds_difference
from script_runs import SCRIPTS, check_figures, interval, script, stamps, tables
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import PredefinedSplit

GAP = "equalized_odds_difference"


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return write_studies(tmp_path_factory.mktemp("data"))


@pytest.fixture
def imported(monkeypatch):
    """Return a function that imports a script by its name."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda p: p.stem)
def test_every_script_can_be_imported(imported, path):
    assert imported(path.stem).__doc__


def test_arms_of_the_overfitting_study_can_be_built(imported):
    arms, data = imported("_overfitting_arms"), imported("_overfitting_data")
    study = imported("overfitting_study")
    for task in data.TASKS:
        models, names, runs = arms.models(task), set(), set()
        found = list(arms.arms(task))
        assert {experiment for experiment, *_ in found} <= set(arms.EXPERIMENTS)
        for experiment, model, arm, settings in found:
            apart = PredefinedSplit([0, -1])
            clf, held_out = study.build(models[model], settings, apart)
            assert held_out == ("holdout" in arm)
            assert (apart in clf.get_params().values()) == held_out
            names.add((experiment, model, arm))
            name = study.key(model, {**models[model], **settings})
            runs.add((experiment, name))
        # No two arms of an experiment are the same run.
        assert len(names) == len(runs) == len(found)


def test_fits_of_the_constrained_study_can_be_built(imported):
    arms, data = imported("_constrained_arms"), imported("_constrained_data")
    runs, shown = imported("_constrained_runs"), imported("_constrained_tables")
    for task, claims in product(data.TASKS, (False, True)):
        for kind, settings in arms.fits(task, claims).values():
            assert hasattr(runs.Run, f"_{kind}")
            if kind == "game":
                own = {
                    k: v for k, v in settings.items() if k not in ("linear", "moment")
                }
                assert runs.ReadAllWays(**own).get_params().items() >= own.items()
    # Each line of the tables is a fit.
    assert set(shown._order()) == set(arms.fits("adult"))


@pytest.mark.slow
def test_overfitting_study(data_root, tmp_path):
    out, folder, rst = (tmp_path / name for name in ("out", "figures", "tables.rst"))
    common = ["--data-root", data_root, "--out", out, "--device", "cpu", "--size", 8]
    some = ["--tasks", "adult", "--seeds", 2, "--only", "e3", "e4"]
    printed = script("overfitting_study", *common, *some)
    first = stamps(out, ".json")
    assert f"{len(first)} runs done, 0 are left, 0 failed" in printed
    assert {path.stem[-2:] for path in first} == {"-0", "-1"}

    # A run that is lost comes again, as it was; the others stay.
    lost = sorted(path for path in first if path.stem.startswith("mlp"))[0]
    before = json.loads(lost.read_text())
    lost.unlink()
    assert "1 runs are left" in script("overfitting_study", *common, *some)
    again = stamps(out, ".json")
    assert {path for path in again if again[path] != first[path]} == {lost}
    after = json.loads(lost.read_text())
    assert {**after, "seconds": 0} == {**before, "seconds": 0}

    # All experiments.
    every = ["--tasks", "celeba", "--seeds", 1, "--jobs", 2]
    script("overfitting_study", *common, *every)
    last = stamps(out, ".json")
    assert again.items() <= last.items()
    tasks = ["--tasks", "adult", "celeba"]
    report = ["--report", "--figures", folder, "--rst", rst]
    script("overfitting_study", *common, *tasks, *report)
    assert stamps(out, ".json") == last
    check_figures(
        folder, [f"generalisation_{n}.png" for n in ("curves", "penalties", "sweep")]
    )
    runs = pd.read_csv(out / "runs.csv")
    # No two runs take as long, so that seconds tell them apart.
    stored = {run["seconds"]: run for run in (json.loads(p.read_text()) for p in last)}
    assert set(runs["seconds"]) == set(stored)
    for _, row in runs.iterrows():
        test = stored[row["seconds"]]["measures"]["test"]
        cells, groups = np.array(test["by_cell"]), np.array(test["by_group"])
        assert row["test gap"] == pytest.approx(np.ptp(cells, axis=0).max())
        assert row["test acc gap"] == pytest.approx(np.ptp(groups))
        assert row["test worst cell"] == pytest.approx(cells.min())
        assert row["test bacc"] == test["balanced_accuracy"]
        assert row["gap of crossing"] >= row["test gap"] - 1e-9
    assert not runs.loc[runs["model"] != "linear", "constant"].all()
    assert runs.loc[runs["model"] == "mlp", "test bacc"].min() > 0.7

    e3 = runs[(runs["experiment"] == "e3") & (runs["task"] == "adult")]
    table = pd.read_csv(out / "e3.csv").set_index(["task", "arm"]).loc["adult"]
    assert set(table.index) == set(e3["arm"]) and (table["runs"] == 2).all()
    for column in ("train gap", "test gap", "test bacc"):
        for arm, part in e3.groupby("arm"):
            found = table.loc[arm, [column, f"{column} ±"]]
            assert tuple(found) == pytest.approx(interval(part[column]))
    held_out = table.index.str.contains("holdout")
    assert (table["penalty rows' gap"].notna() == held_out).all()

    e2 = runs[(runs["experiment"] == "e2") & (runs["arm"] == "ae 0")]
    loss = stored[e2["seconds"].iloc[0]]["history"]["train_loss"]
    decay = pd.read_csv(out / "e2.csv").set_index("arm").loc["ae 0"]
    assert len(loss) == 20 and decay["train_loss, first"] == loss[0]
    assert decay["train_loss, last"] == loss[-1]

    candidates = runs[runs["experiment"].isin(["e11", "e15"])]
    candidates = candidates.drop_duplicates(["task", "seed", "arm"]).set_index("task")
    best = candidates.loc["celeba"].set_index("arm")
    rules = pd.read_csv(out / "e17.csv").set_index(["task", "arm"]).loc["celeba"]
    chosen = best.loc[best["valid bacc"].idxmax(), "test bacc"]
    assert rules.loc["most accurate", "test bacc"] == pytest.approx(chosen)
    assert rules.loc["smallest gap", "valid gap"] == pytest.approx(
        best["valid gap"].min()
    )

    claims = pd.read_csv(out / "claims.csv")
    e4 = runs[(runs["experiment"] == "e4") & (runs["model"] == "mlp")]
    gaps = e4.pivot(index="seed", columns="arm", values="gap of crossing")
    mean, half = interval(gaps["eo 1"] - gaps["plain"])
    [said] = claims.loc[claims["on"] == "adult, mlp, crossing", "numbers"]
    assert said.startswith(f"change {mean:+.3f} ± {half:.3f}")

    assert rst.read_text().startswith(f".. {len(runs)} fits of arms, 2 seeds;")
    shown = tables(rst)
    assert len(shown["Verdicts by data set and arm"]) == 1 + len(claims)
    assert len(shown["Verdicts by claim"]) == 1 + claims["claim"].nunique()
    for number in (1, 2, 3, 4, 11, 13, 15, 16, 17):
        assert any(f"(E{number})" in heading for heading in shown)


@pytest.mark.slow
def test_constrained_study(data_root, tmp_path, imported):
    out, rst = tmp_path / "out", tmp_path / "tables.rst"
    common = ["--data-root", data_root, "--out", out, "--epochs", 2, "--rows", 2000]
    some = ["--tasks", "adult", "--seeds", 0, 1, "--claims", "--jobs", 2]
    printed = script("constrained_study", *common, *some)
    names = imported("_constrained_arms").fits("adult", claims=True)
    folder = out / "adult-2000"
    first = stamps(out, ".json")
    wanted = {f"{name}-{seed}.json" for name, seed in product(names, (0, 1))}
    assert {path.name for path in first} == wanted
    assert f"{len(wanted)} fits are left" in printed
    assert "0 fits are left, 0 failed" in printed

    # A fit that is lost comes again, as it was; the others stay.
    lost = folder / "lagrangian holdout 0.05-1.json"
    before = json.loads(lost.read_text())
    lost.unlink()
    assert "1 fits are left" in script("constrained_study", *common, *some)
    last = stamps(out, ".json")
    assert {path for path in last if last[path] != first[path]} == {lost}
    after = json.loads(lost.read_text())
    for way, reading in before["readings"].items():
        again = {**after["readings"][way], "seconds": reading["seconds"]}
        assert again == reading

    tasks = ["compas", "acsincome", "adult_sex_race", "celeba", "ham_age", "ham_sex"]
    few = ["--seeds", 0, "--size", 8, "--only", "plain", "proxy train 0.1"]
    script("constrained_study", *common, *few, "--tasks", *tasks)
    report = ["--report", "--rst", rst, "--tasks", "adult", *tasks]
    script("constrained_study", *common, *report)
    assert len(stamps(out, ".json")) == len(first) + 2 * len(tasks)

    def readings(fit, way, *path):
        """Return a figure of both seeds."""
        runs = [json.loads((folder / f"{fit}-{s}.json").read_text()) for s in (0, 1)]
        for step in ("readings", way, *path):
            runs = [run[step] for run in runs]
        return np.array(runs)

    table = pd.read_csv(out / "adult-2000.csv").set_index(["fit", "way"])
    assert (table["runs"] == 2).all()
    ways = {"plain": 2, "penalty": 1, "eg": 1, "game": 4}
    assert len(table) == sum(ways[kind] for kind, _ in names.values())
    for fit, way in table.index:
        found = table.loc[(fit, way), ["test gap", "test gap ±"]]
        gaps = readings(fit, way, "test", "gap")
        assert tuple(found) == pytest.approx(interval(gaps), abs=1e-12)
        found = table.loc[(fit, way), "accuracy"]
        assert found == pytest.approx(readings(fit, way, "test", "accuracy").mean())
    assert table.loc[("plain", "plain"), "accuracy"] > 0.75
    # What fairlearn grants on the rows that it fits: the bound and its own tolerance,
    # and equal odds of thresholds.
    assert (table.xs("eg", level="way")["train violation"] < 0.011).all()
    assert table.loc[("plain", "threshold"), "train gap"] < 0.01
    assert table.xs("last", level="way")["members"].eq(1).all()

    claims = pd.read_csv(out / "claims.csv")
    apart, together = (
        readings(f"proxy {rows} 0.05", "mixture", "test", "gap")
        for rows in ("holdout", "train")
    )
    mean, half = interval(apart - together)
    judged = claims["claim"].str.startswith("C3.6b") & claims["on"].str.contains("prox")
    assert claims.loc[judged, "numbers"].iloc[0].startswith(f"change {mean:+.3f} ± ")
    assert np.isfinite(half)

    shown = tables(rst)
    assert rst.read_text().startswith(f".. {len(last) + 2 * len(tasks)} fits;")
    assert shown["Seconds"][0] == ["", *(f"{task}-2000" for task in ("adult", *tasks))]
    assert len(shown["Verdicts by claim"]) == 1 + claims["claim"].nunique()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["overfitting_study", "constrained_study"])
def test_study_names_fits_that_fail_and_does_the_others(tmp_path, data_root, name):
    root = tmp_path / "data"
    (root / "tabular").mkdir(parents=True)
    table = "acsincome_2018_100k.csv.gz"
    (root / "tabular" / table).symlink_to(data_root / "tabular" / table)
    few = {
        "overfitting_study": ["--only", "e4", "--seeds", 1],
        "constrained_study": ["--only", "plain", "--seeds", 0, "--epochs", 1],
    }
    out = tmp_path / "out"
    printed = script(
        *(name, "--data-root", root, "--out", out, *few[name]),
        *("--device", "cpu", "--tasks", "adult", "acsincome"),
        status=1,
    )
    failed = [line for line in printed.splitlines() if line.startswith("FAILED")]
    left = {"overfitting_study": 4, "constrained_study": 1}[name]
    assert len(failed) == left and all("adult" in line for line in failed)
    assert f"{left} are left" in printed or f"{left} fits are left" in printed
    assert f"{left} failed" in printed and "adult.csv.gz" in printed
    assert {path.parent.name for path in stamps(out, ".json")} == {"acsincome"}


@pytest.mark.slow
def test_last_layer_study(data_root, tmp_path):
    out, folder = tmp_path / "out", tmp_path / "figures"
    common = ["--data-root", data_root, "--out", out, "--device", "cpu", "--quick"]
    common += ["--image-size", 8, "--width", 4, "--epochs", 20, "--weights", 3]
    common += ["--layer-epochs", 30, "--scope-epochs", 5]
    script("last_layer_study", *common, "--tasks", "celeba", "--seeds", 2)
    first = stamps(out, "-[01].*")
    parts = ("factorial", "scope", "sweep")
    assert {path.name for path in first} == {
        *(f"{part}-{seed}.csv" for part, seed in product(parts, (0, 1))),
        *(f"network-{seed}.joblib" for seed in (0, 1)),
    }

    # A part that is lost comes again, as it was; the others and the networks stay.
    lost = out / "celeba" / "sweep-1.csv"
    before = pd.read_csv(lost)
    lost.unlink()
    tasks = ["--tasks", "celeba", "ham_sex"]
    few = ["--seeds", 2, "--parts", "sweep"]
    script("last_layer_study", *common, *tasks, *few)
    last = stamps(out, "-[01].*")
    assert {path for path in first if last[path] != first[path]} == {lost}
    again = pd.read_csv(lost)
    same = [column for column in before if "seconds" not in column]
    pd.testing.assert_frame_equal(again[same], before[same])

    # One of them has no scopes to draw.
    report = ["--report", "--figures", folder]
    printed = script("last_layer_study", *common, *tasks, *report)
    assert stamps(out, "-[01].*") == last
    check_figures(folder, ["last_layer_scope.png", "last_layer_sweep.png"])

    for part in parts:
        runs = pd.concat(
            pd.read_csv(out / "celeba" / f"{part}-{seed}.csv") for seed in (0, 1)
        )
        runs["arm"] = runs["arm"].astype(str)
        table = pd.read_csv(out / "celeba" / f"{part}.csv", dtype={"arm": str})
        table = table.set_index("arm")
        assert set(table.index) == set(runs["arm"]) and (table["seeds"] == 2).all()
        for arm, rows in runs.groupby("arm"):
            gaps = rows[f"test_{GAP}"]
            found = table.loc[arm, [f"test_{GAP}", f"test_{GAP}_sd"]]
            assert tuple(found) == pytest.approx((gaps.mean(), gaps.std()))
        if part == "factorial":
            assert len(table) == 1 + 2 * 2 * 5
            assert runs[f"test_{GAP}"].nunique() > 10
            paired = pd.read_csv(out / "celeba" / "factorial_paired.csv")
            [said] = paired.loc[paired["arm"] == "train/cells/eo", GAP]
            wide = runs.pivot(index="seed", columns="arm", values=f"test_{GAP}")
            mean, half = interval(wide["train/cells/eo"] - wide["train/cells/none"])
            assert said == f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"
        elif part == "scope":
            assert set(table.index) == {"last_layer", "batch_norm", "all", "scratch"}
            assert "the last layer generalises and the network does not: " in printed
        else:
            for _, path in runs.groupby("seed"):
                good = path["valid_balanced_accuracy"]
                good = path[good >= good.max() - 0.02]
                [chosen] = path.loc[path["chosen"], f"valid_{GAP}"]
                assert chosen == good[f"valid_{GAP}"].min()
                assert path["penalty_weight"].is_monotonic_increasing
                assert len(path) == 3


@pytest.mark.slow
def test_last_layer_study_beside_the_reproduction(data_root, tmp_path):
    few = ["--quick", "--epochs", 1, "--layer-epochs", 5, "--seeds", 1]
    printed = script(
        *("last_layer_study", "--data-root", data_root, "--out", tmp_path, *few),
        *("--device", "cpu", "--tasks", "repro_celeba"),
    )
    runs = pd.read_csv(tmp_path / "repro_celeba" / "reproduction-0.csv")
    assert list(runs["arm"]) == ["network", "B1", "B2", "B3", "M1", "M2"]
    value = 100 * runs.set_index("arm").loc["M2", "test_balanced_accuracy"]
    [line] = [line for line in printed.splitlines() if line.startswith("bacc ")]
    assert line.split() == ["bacc", f"{value:.3f}", "NaN", "89.3", "0.4"]


@pytest.mark.slow
def test_defaults_study(data_root, tmp_path):
    out, sweep = tmp_path / "out", tmp_path / "sweep.json"
    few = {"max_epochs": 1, "module__width": 2}
    arms = {"plain": {"penalty": None, **few}, "small": few}
    common = ["--data-root", data_root, "--out", out, "--device", "cpu"]
    common += ["--sweep", sweep, "--arms", *arms, "--draws", 20, "--repeats", 1]
    sweep.write_text(json.dumps(arms))
    script("defaults_study", *common, "--tasks", "ham_sex")
    for settings in arms.values():
        del settings["module__width"]
    sweep.write_text(json.dumps(arms))
    tabular = ["--seeds", 2, "--tasks", "adult"]
    script("defaults_study", *common, *tabular)
    first = stamps(out, ".npz")
    assert len(first) == 2 * 5 + 2 * 2
    # A run that fails does not end the others.
    sweep.write_text(json.dumps({"small": {**few, "lr": -1}, "other": few}))
    partly = ["--arms", "small", "other", "--tasks", "compas", "--seeds", 1]
    printed = script("defaults_study", *common, *partly, status=1)
    failed = [line for line in printed.splitlines() if line.startswith("FAILED")]
    assert failed == ["FAILED compas small 10-0"]
    assert len(stamps(out, ".npz")) == len(first) + 1
    shutil.rmtree(out / "compas")
    sweep.write_text(json.dumps(arms))
    # A run that is lost comes again, as it was; the others stay.
    lost = out / "adult" / "small" / "11-0.npz"
    before = np.load(lost)["probability"]
    lost.unlink()
    tasks = [*tabular, "compas", "acsincome", "ham_sex"]
    script("defaults_study", *common, *tasks)
    last = stamps(out, ".npz")
    assert len(last) == len(first) + 2 * 2 * 2
    assert {path for path in first if last[path] != first[path]} == {lost}
    np.testing.assert_array_equal(np.load(lost)["probability"], before)

    written = {path: path.read_text() for path in out.glob("*.csv")}
    for path in written:
        path.unlink()
    script("defaults_study", *common, *tasks, "--report")
    assert stamps(out, ".npz") == last
    assert {path: path.read_text() for path in out.glob("*.csv")} == written
    assert {path.stem for path in written} == {
        "ham_sex",
        "adult",
        "compas",
        "acsincome",
    }

    adult = pd.read_csv(data_root / "tabular" / "adult.csv.gz")
    check_defaults(out, "adult", adult["income"], adult["sex"], np.mean)
    lesions = pd.read_csv(data_root / "ham10000" / "HAM10000_metadata.csv")
    y, sex = (lesions["dx"] == "mel").astype(int), lesions["sex"]
    check_defaults(out, "ham_sex", y, sex, lambda values: values[0])


def check_defaults(out, task, y, groups, over_runs):
    """Compare the table with scikit-learn and fairlearn on the stored predictions."""
    table = pd.read_csv(out / f"{task}.csv").set_index("arm")
    assert set(table.index) == {"plain", "small"}
    for arm in table.index:
        runs = [np.load(path) for path in sorted((out / task / arm).glob("*.npz"))]
        assert table.loc[arm, "runs"] == len(runs)
        if task == "ham_sex":
            # Counts of folds are pooled, and lesions of unknown group do not count.
            rows, answers = (
                np.concatenate([run[name] for run in runs])
                for name in ("rows", "probability")
            )
            assert sorted(rows) == list(range(len(y)))
            runs = [{"rows": rows, "probability": answers}]
        found = []
        for run in runs:
            known = groups.iloc[run["rows"]].to_numpy() != "unknown"
            rows, said = run["rows"][known], run["probability"][known] > 0.5
            true, group = y.iloc[rows], groups.iloc[rows]
            found.append(
                {
                    "accuracy": accuracy_score(true, said),
                    "balanced_accuracy": balanced_accuracy_score(true, said),
                    GAP: equalized_odds_difference(
                        true, said, sensitive_features=group
                    ),
                }
            )
        for name in found[0]:
            value = over_runs([one[name] for one in found])
            assert table.loc[arm, name] == pytest.approx(value, abs=1e-6)
