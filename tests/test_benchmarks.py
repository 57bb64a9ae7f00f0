"""The benchmarks run, and print the rows that they promise."""

import pandas as pd
import pytest
from data_folders import write_studies
from script_runs import script, stamps


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return write_studies(tmp_path_factory.mktemp("data"))


BENCHMARKS = {
    "bench_constrained": ["CPU, MLP 64-64, batch 128", "members, 10 groups"],
    "bench_fit_cpu": ["MLP 64-64, batch 64, fused AdamW", "CNN 28 px, batch 128"],
    "bench_import": ["import fairskorch"],
    "bench_last_layer": ["8 heads, one epoch", "3 weights, 5 folds, 20 epochs"],
    "bench_memory_map": ["5000 images of 64 px, one epoch"],
    "bench_penalty": ["mlp, batch 256, 2 groups, cpu", "mlp, batch 256, 8 groups, cpu"],
    "bench_penalty_path": ["MLP 64-64, 4 weights, 5 folds, 1500 rows, 2 epochs"],
    "bench_predict": ["MLP 64-64, 2000 rows, cpu", "CNN 28 px, 2000 rows, cpu"],
    "profile_epoch": ["MLP 64-64, batch 512", "CNN 28 px, batch 128"],
    "bench_report": ["MetricFrame, 4 metrics", "the report with 4 metrics of scores"],
}


def check_rows(printed, wanted):
    """Check that lines of the table begin so, and go on with a number."""
    for row in wanted:
        lines = [line for line in printed.splitlines() if line.startswith(row)]
        assert lines, f"{row} is not in\n{printed}"
        for line in lines:
            cells = line.removeprefix(row).split("  ")
            assert any(cell.strip()[:1].isdigit() for cell in cells), line


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark(name, tmp_path):
    table = tmp_path / "table.csv"
    printed = script(name, "--quick", "--repeats", 1, "--out", table)
    check_rows(printed, BENCHMARKS[name])
    frame = pd.read_csv(table)
    for row in BENCHMARKS[name]:
        assert frame["what"].str.startswith(row).any()


@pytest.mark.slow
def test_benchmark_of_the_reduction_reads_the_runs_of_the_study(data_root, tmp_path):
    given = ["--only", "reduction", "--quick", "--data-root", data_root]
    given += ["--tasks", "adult", "--runs", tmp_path]
    row = "adult-3000, moment 0.05: ExponentiatedGradient / bounded"
    printed = script("bench_constrained", *given)
    check_rows(printed, [row])
    first = stamps(tmp_path, ".json")
    assert len(first) == 3
    again = script("bench_constrained", *given)
    assert again.splitlines()[-3:] == printed.splitlines()[-3:]
    assert stamps(tmp_path, ".json") == first


@pytest.mark.slow
def test_benchmark_of_the_readers(data_root):
    printed = script("bench_readers", "--n-images", 30, "--repeats", 1)
    check_rows(printed, [f"made here  decode, n_jobs={n}" for n in (1, 2)])
    printed = script("bench_readers", "--data-root", data_root, "--repeats", 1)
    check_rows(printed, ["celeba     open the cache", "ham10000   decode, n_jobs=1"])
    assert " 340 images" in printed


def test_benchmark_that_needs_a_device_says_so():
    printed = script("bench_fit_cuda", "--quick")
    assert printed == "bench_fit_cuda.py needs a CUDA device; PyTorch sees none.\n"
