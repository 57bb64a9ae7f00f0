"""What tables of studies share: intervals, verdicts by claim, tables of the docs."""

import numpy as np
import pandas as pd
from scipy.stats import t


def interval(values):
    """Return mean and half width of the 95 % t-interval; nan for one value."""
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return (values.mean() if len(values) else np.nan), np.nan
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean(), half


def overall(claims):
    """Return one row a claim: what its rows agree on, else undecided.

    A claim is confirmed or refuted where at least half of its rows are decided, and
    all of these alike.
    """
    rows = []
    for claim, part in claims.groupby("claim"):
        counts = part["verdict"].value_counts()
        decided = counts.drop("undecided", errors="ignore")
        agreed = len(decided) == 1 and 2 * decided.sum() >= len(part)
        rows.append(
            {
                "claim": claim,
                "verdict": decided.index[0] if agreed else "undecided",
                "rows": len(part),
                **{k: int(counts.get(k, 0)) for k in ("confirmed", "refuted")},
            }
        )
    return pd.DataFrame(rows)


def by_task(claims):
    """Return the verdicts of each claim on each data set, counted."""
    task = claims["on"].str.partition(",")[0].rename("task")
    kinds = ["confirmed", "refuted", "undecided"]
    counts = claims.groupby(["claim", task], sort=False)["verdict"].value_counts()
    counts = counts.unstack(fill_value=0).reindex(columns=kinds, fill_value=0)
    return counts.reset_index()


def joined(table):
    """Put means and half widths into one text each."""
    shown = pd.DataFrame(index=table.index)
    for column in table:
        if column.endswith(" ±") or column in ("runs", "constant"):
            continue
        values = table[column]
        if pd.api.types.is_numeric_dtype(values):
            half = table.get(f"{column} ±", pd.Series(np.nan, table.index))
            pairs = zip(values, half, strict=True)
            values = [number(v) + number(h, " ± ") for v, h in pairs]
        shown[column] = values
    if "constant" in table and table["constant"].any():
        shown["constant"] = table["constant"]
    return shown


def number(value, before=""):
    """Write a number with three decimals; nothing for nan."""
    if value != value:
        return ""
    value = round(value, 3) + 0.0
    text = f"{value:.3f}"
    return before + (text.replace("0.", ".", 1) if abs(value) < 1 else text)


def list_table(heading, table):
    """Return a table of the docs under a heading, as lines."""
    lines = [heading, "~" * len(heading), "", ".. list-table::", "   :header-rows: 1"]
    lines.append("")
    for row in [list(table), *table.to_numpy().tolist()]:
        first, *rest = map(str, row)
        cells = [f"   * - {first}", *(f"     - {cell}" for cell in rest)]
        lines += [cell.rstrip() for cell in cells]
    return [*lines, ""]
