"""The table as a figure."""

import numpy as np

from fairskorch.audit._tables import ALL_ROWS
from fairskorch.display._style import literal


def draw(report, ax=None):
    """Draw every metric on every split with its interval: `FairnessReport.plot`."""
    table, keys = report.table, report._m.keys
    if ax is None:
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError(
                "FairnessReport.plot needs matplotlib; install fairskorch[plot]."
            ) from error
        _, ax = plt.subplots(
            figsize=(6.4, 0.9 + 0.6 * len(table)), layout="constrained"
        )
    places = np.arange(len(table))[::-1]
    for i, key in enumerate(keys):
        value, low, high = (table[key, s].to_numpy() for s in ("value", "low", "high"))
        # Grey, shape and filling tell the splits apart, in print too.
        grey = str(0.6 * (1 - i / max(len(keys) - 1, 1)))
        ax.errorbar(
            value,
            places + 0.15 * ((len(keys) - 1) / 2 - i),
            xerr=[value - low, high - value],
            fmt="osD^v"[i % 5],
            color=grey,
            markerfacecolor="white" if key == "train" else grey,
            markersize=5,
            capsize=2.5,
            label=literal(key),
        )
    words = []
    for label in table.index:
        name, by = (label, ALL_ROWS) if isinstance(label, str) else label
        end = "" if by == ALL_ROWS else f"\nby {by}"
        text = name.replace("_", " ").replace("roc auc", "ROC AUC") + end
        words.append(literal(text))
    for place in places[:-1]:
        ax.axhline(place - 0.5, color="0.92", linewidth=0.8, zorder=0)
    ax.set_yticks(places, words)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.6, len(table) - 0.4)
    ax.set_xlim(-0.02, 1.02)
    ax.set_xlabel(f"value, {report.confidence_level:.0%} interval")
    ax.grid(axis="x", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="best", frameon=True)
    return ax
