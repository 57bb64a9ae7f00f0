"""What the runs say of each claim: confirmed, refuted or undecided.

A claim that one thing is less than another is confirmed where the 95 % interval over
seeds of their paired difference is below 0, refuted where it is above, and undecided
else. Answers that are the same for all rows keep every bound, and are left out. The
wording of the claims is this study's.
"""

import numpy as np
import pandas as pd
from _constrained_arms import BOUNDS, EPOCHS, GAMES, SOURCES, SWEPT, WIDTHS
from _constrained_arms import WIDTHS_RADIUS as RADIUS
from _study_tables import interval

#: Differences up to it are those of a few rows.
TOLERANCE = 0.002

#: Violations below it are not told from none.
NOISE = 0.01

#: The fit that sweeps depart from.
BASE = f"lagrangian train {SWEPT:g}"


def verdicts(frame):
    """Return one row for each claim and what it was looked at on."""
    rows = []
    for task, runs in frame.groupby("task", sort=False):
        runs = _Runs(runs)
        for judge in (_rounds, _mixing, _shrinking, _balls, _widths, _rates, _new_rows):
            rows += [(claim, task + on, *rest) for claim, on, *rest in judge(runs)]
    table = pd.DataFrame(rows, columns=["claim", "on", "verdict", "numbers"])
    return table.sort_values("claim", kind="stable", ignore_index=True)


class _Runs:
    """Runs of a task, by fit and way to read it."""

    def __init__(self, frame):
        self.frame = frame
        self.fits = set(frame["fit"])

    def get(self, fit, way="mixture"):
        """Return the runs of a fit by seed, without those of one answer for all."""
        frame = self.frame
        found = frame[(frame.fit == fit) & (frame.way == way) & ~frame.constant]
        return found.set_index("seed").sort_index()

    def pair(self, one, other, way="mixture"):
        """Return the runs of two fits that have the same seeds."""
        one, other = self.get(one, way), self.get(other, way)
        seeds = one.index.intersection(other.index)
        return one.loc[seeds], other.loc[seeds]

    def games(self, sources=SOURCES):
        """Yield the names of fits by game."""
        for game in GAMES:
            names = [f"{game} {s} {b:g}" for s in sources for b in BOUNDS]
            yield game, [name for name in names if name in self.fits]


def _below(values, limit=0.0):
    """Judge "these are below a limit" by their interval."""
    mean, half = interval(values)
    if mean + half < limit:
        return "confirmed"
    return "refuted" if mean - half > limit else "undecided"


def _all(*said):
    if "refuted" in said:
        return "refuted"
    return said[0] if len(set(said)) == 1 else "undecided"


def _text(values, sign="+"):
    mean, half = interval(values)
    return f"{mean:{sign}.3f} ± {half:.3f}"


def _rounds(runs):
    by_length = {n: runs.get(f"epochs {n}", "uniform")["seen gap"] for n in EPOCHS}
    by_length = {n: v - SWEPT for n, v in by_length.items() if len(v) > 1}
    if len(by_length) < 3:
        return
    table = pd.DataFrame(by_length).dropna()
    logs = np.log(table.clip(lower=NOISE / 10))
    slopes = [np.polyfit(np.log(list(by_length)), row, 1)[0] for row in logs.to_numpy()]
    said = _below(slopes)
    if table[min(by_length)].mean() < NOISE:
        said = "undecided"  # there was no violation to begin with
    means = ", ".join(f"{n}: {v:+.3f}" for n, v in table.mean().items())
    yield (
        "C3.1 the uniform mixture's violation falls as rounds grow",
        "",
        said,
        f"violation by epochs {means}; slope of logs {_text(slopes)}",
    )


def _mixing(runs):
    for game, names in runs.games(("train",)):
        apart, swings = [], []
        for name in names:
            found = runs.get(name, "uniform")
            each = found["snapshots"].map(lambda kept: np.array(kept["multiplier"]))
            apart.append(found["seen gap"] - each.map(np.median))
            swings.append(each.map(np.std))
        if not apart or len(apart[0]) < 2:
            continue
        yield (
            "C3.2 a mixture's violation is below that of its median member",
            f", {game}",
            _below(pd.concat(apart, axis=1).mean(axis=1)),
            f"mixture minus median {_text(pd.concat(apart, axis=1).mean(axis=1))}; "
            f"sd of members in a run {pd.concat(swings).mean():.3f}",
        )


def _shrinking(runs):
    for game, names in runs.games():
        errors, violations, over = [], [], 0
        for name in names:
            few, every = (runs.get(name, way) for way in ("mixture", "uniform"))
            errors.append(every["seen accuracy"] - few["seen accuracy"])
            kept = [(r["seen gap"] - r["bound"]).clip(lower=0) for r in (few, every)]
            violations.append(kept[0] - kept[1])
            over += int((few["members"] > few["n_forms"] + 1).sum())
        if not errors or len(errors[0]) < 2:
            continue
        pairs = [pd.concat(part, axis=1).mean(axis=1) for part in (errors, violations)]
        said = [_below(part, TOLERANCE) for part in pairs]
        said = "refuted" if over else _all(*said)
        yield (
            "C3.3 at most m + 1 members are no worse in error and in violation",
            f", {game}",
            said,
            f"{over} with more; shrunk minus uniform: error {_text(pairs[0])}, "
            f"violation {_text(pairs[1])}",
        )


def _radii(runs):
    names = [n for n in runs.fits if n.startswith("radius ")]
    return sorted(names, key=lambda name: float(name.split()[1]))


def _balls(runs):
    names = _radii(runs)
    if not names:
        return
    small, free = runs.pair(names[0], BASE)
    if len(small) < 2:
        return
    apart = [r["test gap"] - r["train gap"] for r in (small, free)]
    errors = free["train accuracy"] - small["train accuracy"]
    found = []
    for name in (*names, BASE):
        run = runs.get(name)
        gap = (run["test gap"] - run["train gap"]).mean()
        found.append(
            f"{'none' if name == BASE else name.split()[1]}: {gap:+.3f}, "
            f"{1 - run['train accuracy'].mean():.3f}"
        )
    yield (
        "C3.4a in a small ball test and train gap differ less, and errors are more",
        "",
        _all(_below(apart[0] - apart[1]), _below(-errors)),
        f"{names[0]} minus none: difference of gaps {_text(apart[0] - apart[1])}, "
        f"training error {_text(errors)}; by radius {'; '.join(found)}",
    )


def _widths(runs):
    names = [f"width {w} radius {RADIUS}" for w in WIDTHS]
    wide, narrow = runs.pair(names[-1], names[0])
    if len(wide) < 2:
        return
    means = ", ".join(
        f"{w}: {runs.get(name)['departure'].mean():.3f}"
        for w, name in zip(WIDTHS, names, strict=True)
        if name in runs.fits
    )
    change = (wide["departure"] - narrow["departure"]).astype(float)
    yield (
        "C3.4b in a ball wider networks are nearer to their linearisation",
        "",
        _below(change),
        f"relative distance by width {means}; widest minus narrowest {_text(change)}",
    )


def _rates(runs):
    surrogate, true = runs.pair("surrogate", BASE, "uniform")
    if len(true) < 2:
        return
    gap = surrogate["seen gap"] - true["seen gap"]
    accuracy = surrogate["accuracy"] - true["accuracy"]
    under = surrogate["seen gap"] - surrogate["bound"]
    yield (
        "C3.5 multipliers on scores constrain more than asked, and cost accuracy",
        "",
        _all(_below(under), _below(gap), _below(accuracy)),
        f"violation on scores {_text(under)}; scores minus predictions: "
        f"gap {_text(gap)}, test accuracy {_text(accuracy)}",
    )


def _new_rows(runs):
    for game in GAMES:
        name = f"{game} train {SWEPT:g}"
        found, apart = runs.pair(name, f"{game} holdout {SWEPT:g}")
        if len(found) < 2:
            continue
        left, train = found["test violation"], found["train violation"]
        # A bound that is never reached says nothing.
        kept = interval(train)[0] <= NOISE
        turned = {"confirmed": "refuted", "refuted": "confirmed"}
        said = turned.get(_below(left), "undecided")
        yield (
            "C3.6a a bound that training rows keep is missed on new rows",
            f", {game}",
            said if kept else "undecided",
            f"violation {_text(train)} in training, {_text(left)} on new rows; "
            f"training accuracy {found['train accuracy'].mean():.3f}",
        )
        change = apart["test violation"] - left
        yield (
            "C3.6b multipliers on rows of their own lower the violation on new rows",
            f", {game}",
            _below(change),
            f"change {_text(change)}, of accuracy "
            f"{_text(apart['accuracy'] - found['accuracy'])}",
        )
    names = _radii(runs)
    if names:
        small, free = runs.pair(names[0], BASE)
        if len(small) > 1:
            change = small["test violation"] - free["test violation"]
            yield (
                "C3.6c a small ball lowers the violation on new rows",
                "",
                _below(change),
                f"{names[0]}: change {_text(change)}, of accuracy "
                f"{_text(small['accuracy'] - free['accuracy'])}",
            )
