"""The report against fairlearn's MetricFrame, on rows that are already predicted.

Predictions are given to both, so that neither pays for a network. The report holds
eight metrics on two splits that have all rows between them, with intervals, each also
against a baseline with 1,000 draws. MetricFrame has four metrics: once without any
interval, and once with its bootstrap, whose time for 1,000 draws is extrapolated from
three.
"""

import argparse

import numpy as np
import pandas as pd
from _timing import alternate, machine, parse, report, timed, verdict
from fairlearn.metrics import (
    MetricFrame,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from sklearn.metrics import accuracy_score

from fairskorch.audit import fairness_report

METRICS = [
    "accuracy",
    "balanced_accuracy",
    "demographic_parity_difference",
    "equal_opportunity_difference",
    "equalized_odds_difference",
    "equalized_odds_ratio",
    "accuracy_difference",
    "worst_group_accuracy",
]
OF_SCORES = ["roc_auc", "roc_auc_difference", "brier_score", "calibration_error"]
FRAME = {
    "accuracy": accuracy_score,
    "selection_rate": selection_rate,
    "true_positive_rate": true_positive_rate,
    "false_positive_rate": false_positive_rate,
}
DRAWS = 1000


def make(n_rows, n_groups, seed=0):
    """Draw labels, scores of two classifiers and groups with names."""
    rng = np.random.default_rng(seed)
    groups = np.array([f"group {i}" for i in range(n_groups)])
    groups = groups[rng.integers(0, n_groups, n_rows)]
    y = rng.integers(0, 2, n_rows)
    scores = [1 / (1 + np.exp(-(y - 0.5 + rng.normal(size=n_rows)))) for _ in range(2)]
    return rng.normal(size=(n_rows, 8)).astype(np.float32), y, scores, groups


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    args = parse(parser)
    n_rows, n_groups = (20_000, 10) if args.quick else (1_000_000, 10)
    X, y, scores, groups = make(n_rows, n_groups)
    half = n_rows // 2
    parts = {"train": slice(0, half), "test": slice(half, None)}
    rows = {key: (X[part], y[part], groups[part]) for key, part in parts.items()}
    given = [
        {
            key: ((score[part] > 0.5).astype(int), score[part])
            for key, part in parts.items()
        }
        for score in scores
    ]
    predicted = (scores[0] > 0.5).astype(int)
    columns = pd.Series(groups, name="group")

    def whole(metrics):
        # Everything that is shown: the table, the groups, the changes, the warnings.
        found = fairness_report(
            given[0],
            **rows,
            baseline=given[1],
            metrics=metrics,
            n_boot=DRAWS,
            random_state=0,
        )
        return found.by_group, found.changes

    def frame(**options):
        found = MetricFrame(
            metrics=FRAME,
            y_true=y,
            y_pred=predicted,
            sensitive_features=columns,
            **options,
        )
        return found.by_group

    draws = {"n_boot": 3, "ci_quantiles": [0.025, 0.975], "random_state": 0}
    seconds = alternate(
        {
            "report": timed(whole, METRICS),
            "with scores": timed(whole, METRICS + OF_SCORES),
            "frame": timed(frame),
        },
        args.repeats,
        warm_up=args.quick,
    )
    ratio = seconds.ratio("frame", "report")
    plain, own = seconds.median("frame"), seconds.median("report")
    # Once: three draws take a minute or more.
    bootstrap = timed(frame, **draws)() - plain
    bootstrap *= DRAWS / draws["n_boot"]
    table = [
        {
            "what": "MetricFrame, 4 metrics, no intervals / report, 8 metrics",
            "seconds": f"{plain:.2f} / {own:.2f}",
            "ratio": f"{ratio:.0f}x",
            "must": verdict(ratio, least=20),
        },
        {
            "what": f"MetricFrame, {DRAWS} draws (from 3) / the same report",
            "seconds": f"{bootstrap:.0f} / {own:.2f}",
            "ratio": f"{bootstrap / own:.0f}x",
            "must": verdict(bootstrap / own, least=10_000),
        },
        {
            "what": "the report with 4 metrics of scores as well",
            "seconds": f"{seconds.median('with scores'):.2f}",
        },
    ]
    report(f"{n_rows} rows, {n_groups} groups; {machine()}", table, args)


if __name__ == "__main__":
    main()
