"""What the runs say of each claim: confirmed, refuted or undecided.

A statement that a gap stays, vanishes or agrees is one of equivalence: it is confirmed
where the 95 % interval over seeds lies within `MARGIN`, refuted where it lies outside,
and undecided else; also where a gap that is said to stay was within the margin to begin
with, and where a network is constant. The wording of the claims and the margin are this
study's.
"""

import numpy as np
import pandas as pd
from _study_tables import interval

#: Differences of rates within it count as none.
MARGIN = 0.05

#: Columns of the history that claim C1.2 is about.
VANISH = ("train_loss", "train_penalty", "penalty_gradient_norm")

#: The arm of multipliers that move on rows of their own.
BOUNDED = "bound .05, holdout"

#: The gap that belongs to a penalty.
OWN = {"eo": "gap", "ae": "acc gap", "mmf": "acc gap"}


def verdicts(frame, decay):
    """Return one row for each claim and what it was looked at on."""
    rows = []
    for task in frame["task"].unique():
        runs = frame[frame.task == task].set_index("seed")
        rows += [
            *_overfits(task, runs),
            *_holdout(task, runs),
            *_levels_down(task, runs),
            *_elsewhere(task, runs),
            *_linear(task, runs),
        ]
    rows += _vanishes(decay)
    table = pd.DataFrame(rows, columns=["claim", "on", "verdict", "numbers"])
    return table.sort_values("claim", kind="stable", ignore_index=True)


def _stays(change, before):
    """Judge "the gap does not shrink" by an interval of its change."""
    if before.mean() <= MARGIN:
        return "undecided"  # there was none to shrink
    mean, half = interval(change)
    if mean - half >= -MARGIN:
        return "confirmed"
    return "refuted" if mean + half < -MARGIN else "undecided"


def _is_small(values):
    mean, half = interval(values)
    if abs(mean) + half <= MARGIN:
        return "confirmed"
    return "refuted" if abs(mean) - half > MARGIN else "undecided"


def _both(first, second):
    if "refuted" in (first, second):
        return "refuted"
    return first if first == second else "undecided"


def _unless_constant(part, verdict):
    """Leave open what a constant answer would decide: it has no gap, nor any use."""
    return "undecided" if part["constant"].any() else verdict


def _text(values):
    mean, half = interval(values)
    return f"{mean:+.3f} ± {half:.3f}"


def _arm(runs, experiment, model, arm):
    found = runs[
        (runs.experiment == experiment) & (runs.model == model) & (runs.arm == arm)
    ]
    return found.sort_index()


def _penalised(runs, model):
    """Yield the penalised arms of E1 beside the plain one, seed by seed."""
    plain = _arm(runs, "e1", model, "plain")
    e1 = runs[(runs.experiment == "e1") & (runs.model == model)]
    for arm in e1["arm"].unique():
        alias = arm.partition(" ")[0]
        if alias in OWN:
            part = _arm(runs, "e1", model, arm)
            seeds = part.index.intersection(plain.index)
            if len(seeds) > 1:
                yield arm, OWN[alias], part.loc[seeds], plain.loc[seeds]


def _networks(runs):
    """Yield the penalised arms of E1 of all networks, and how a row calls them."""
    for model in runs[runs.experiment == "e1"]["model"].unique():
        if model != "linear":
            for arm, *found in _penalised(runs, model):
                yield f"{model}, {arm}", *found


def _overfits(task, runs):
    for arm, gap, part, plain in _networks(runs):
        train, test = part[f"train {gap}"], part[f"test {gap}"]
        change = test - plain[f"test {gap}"]
        share = test.mean() / plain[f"test {gap}"].mean()
        yield (
            "C1.1 train gap vanishes, test gap stays",
            f"{task}, {arm}",
            _unless_constant(
                part, _both(_is_small(train), _stays(change, plain[f"test {gap}"]))
            ),
            f"train {gap} {_text(train)}; change of test {gap} {_text(change)} "
            f"({share:.0%} of plain training's)",
        )


def _vanishes(decay):
    if not len(decay):
        return
    for (task, arm), part in decay.groupby(["task", "arm"], sort=False):
        alias, _, weight = arm.partition(" ")
        goes = alias in OWN
        if not goes and weight != "0":
            continue  # that a penalty lowers itself is another matter
        last = part["train_penalty, last"]
        small = _is_small(last)
        turned = {"confirmed": "refuted", "refuted": "confirmed"}
        loss = part["train_loss, last"].mean()
        if loss > MARGIN:
            small = "undecided"  # the claim is about a loss that vanishes
        norm = part["penalty_gradient_norm, last"].mean()
        first = part["penalty_gradient_norm, first"].mean()
        yield (
            "C1.2 AE, EO and MMF vanish with the loss, DP and DI stay",
            f"{task}, {arm}",
            small if goes else turned.get(small, small),
            f"loss {loss:.3f}; penalty {_text(last)}; "
            f"gradient {first:.3f} to {norm:.3f}",
        )


def _holdout(task, runs):
    e3 = runs[runs.experiment == "e3"]
    for model in e3["model"].unique():
        plain = _arm(runs, "e3", model, "holdout 0")
        for arm in ("holdout 1", "holdout 4", BOUNDED):
            part = _arm(runs, "e3", model, arm)
            seeds = part.index.intersection(plain.index)
            if len(seeds) < 2:
                continue
            part, before = part.loc[seeds], plain.loc[seeds, "test gap"]
            own, change = part["penalty rows' gap"], part["test gap"] - before
            if arm == BOUNDED:
                apart = part["test gap"] - own
                yield (
                    "Held-out multipliers: the gaps of their rows and test rows agree",
                    f"{task}, {arm}",
                    _unless_constant(part, _is_small(apart)),
                    f"test minus their rows' gap {_text(apart)}; gap of their rows "
                    f"{_text(own)}; change of test gap {_text(change)}",
                )
                continue
            yield (
                "C1.3 the gap of the penalty's rows vanishes, the test gap stays",
                f"{task}, {arm}",
                _unless_constant(part, _both(_is_small(own), _stays(change, before))),
                f"gap of penalty rows {_text(own)}; change of test gap {_text(change)}",
            )


def _levels_down(task, runs):
    for arm, gap, part, plain in _networks(runs):
        shrunk = part[f"test {gap}"] - plain[f"test {gap}"]
        mean, half = interval(shrunk)
        if mean + half >= 0:
            continue
        before, after, what = _rates_by_group(gap, plain, part)
        change = after - before
        better = before.mean(0).argmax()
        lost, won = -change[:, better], np.delete(change, better, axis=1).min(1)
        mean, half = interval(lost - won)
        verdict = "confirmed" if mean - half > 0 else "undecided"
        yield (
            "C1.4 a test gap that shrinks does so by levelling down",
            f"{task}, {arm}",
            _unless_constant(part, "refuted" if mean + half < 0 else verdict),
            f"test {gap} {_text(shrunk)}; {what} of the better group {_text(-lost)}, "
            f"of the other {_text(won)}",
        )


def _rates_by_group(gap, *frames):
    """Return what a gap compares, by seed and group, of runs; and what that is.

    For equalized odds it is the recall of the class where the groups of the first runs
    differ most.
    """
    if gap == "acc gap":
        return *(np.stack(frame["by group"]) for frame in frames), "accuracy"
    recalls = [np.stack(frame["by cell"]) for frame in frames]
    worst = np.ptp(recalls[0].mean(0), axis=0).argmax()
    return *(found[..., worst] for found in recalls), f"recall of class {worst}"


def _elsewhere(task, runs):
    for model in runs[runs.experiment == "e4"]["model"].unique():
        plain, part = (_arm(runs, "e4", model, arm) for arm in ("plain", "eo 1"))
        seeds = part.index.intersection(plain.index)
        if len(seeds) < 2:
            continue
        for column in ("gap of other attribute", "gap of crossing"):
            change = part.loc[seeds, column] - plain.loc[seeds, column]
            yield (
                "C1.5 other attributes and the crossing keep their gap or widen it",
                f"{task}, {model}, {column.removeprefix('gap of ')}",
                _stays(change, plain[column]),
                f"change {_text(change)}, from {plain[column].mean():.3f}",
            )


def _linear(task, runs):
    for arm, gap, part, _ in _penalised(runs, "linear"):
        apart = part[f"test {gap}"] - part[f"train {gap}"]
        yield (
            "C1.8 on linear models train and test gap agree",
            f"{task}, {arm}",
            _is_small(apart),
            f"test minus train {gap} {_text(apart)}",
        )
