"""
=============================
The penalty path of a network
=============================

One fit trains a network for every penalty weight on every fold. The path shows what the
weight does to the gap of rows that were trained on, and how much of it is left on rows
that were not; a rule chooses by the latter alone.
"""

# %%
# Two groups with base rates of .5 and .2 whose classes overlap. A third of the rows is
# put aside: the rule sees the held-out rows of the folds, so what it chose is measured
# on rows that chose nothing.

import matplotlib.pyplot as plt

from fairskorch import FairNeuralClassifierCV
from fairskorch.datasets import make_biased_classification
from fairskorch.display import FairnessGapDisplay, ParetoFrontDisplay
from fairskorch.selection import fairest_within, pareto_front

data = make_biased_classification(n_samples=3000, n_features=20, random_state=0)
X, y, group = data.data, data.target, data.sensitive_features["group"].to_numpy()
search_rows, test_rows = slice(0, 2000), slice(2000, None)

# %%
# Of the weights whose balanced accuracy is at most .02 below the best, the rule takes
# the one with the smallest held-out gap; gaps within one standard error of the smallest
# count as equal, and then the smaller weight is taken.

search = FairNeuralClassifierCV(
    penalty="eo",
    penalty_weights=[0, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4],
    refit=fairest_within(accuracy_drop=0.02, one_standard_error=True),
    module__hidden=(64, 64),
    max_epochs=20,
    random_state=0,
)
search.fit(X[search_rows], y[search_rows], group[search_rows])
print(f"chosen weight: {search.penalty_weight_:g}")
print(f"all networks trained in the same steps: {search.stacked_}")

# %%
# The path: means over five folds.

eo = "equalized_odds_difference"
names = {"balanced_accuracy": "balanced accuracy", eo: "EO gap"}
sides = {"train": "training", "valid": "held-out"}
columns = {
    f"{side}_{name}": f"{shown}, {sides[side]}"
    for name, shown in names.items()
    for side in sides
}
path = search.path_.set_index("penalty_weight")
print(path[list(columns)].rename(columns=columns).round(3).to_string())

fig, axes = plt.subplots(1, 2, figsize=(8.0, 3.2), layout="constrained")
path = search.path_
for ax, (name, label) in zip(axes, names.items(), strict=True):
    ax.plot(
        path["penalty_weight"],
        path[f"train_{name}"],
        "s--",
        color="0.55",
        label="training",
    )
    ax.errorbar(
        path["penalty_weight"],
        path[f"valid_{name}"],
        yerr=path[f"valid_{name}_se"],
        fmt="o-",
        color="0",
        capsize=2,
        label="held-out ± 1 standard error",
    )
    ax.axvline(search.penalty_weight_, color="0.3", linewidth=0.8, linestyle=":")
    # A log scale that still shows the weight 0.
    ax.set_xscale("symlog", linthresh=0.1)
    ax.set_xlim(-0.02, 5)
    ax.set_xticks([0, 0.1, 0.25, 0.5, 1, 2, 4], ["0", ".1", ".25", ".5", "1", "2", "4"])
    ax.minorticks_off()
    ax.set_xlabel("penalty weight (dotted: chosen)")
    ax.set_ylabel(label)
    ax.grid(alpha=0.25)
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
plt.show()

# %%
# Accuracy against gap. Each black disc is a weight on held-out rows; the grey square it
# is tied to is the same weight on the rows that were trained on.

print(pareto_front(search.path_).round(3).to_string())
ParetoFrontDisplay.from_estimator(search)
plt.show()

# %%
# The chosen network on rows that were in no fold.

FairnessGapDisplay.from_estimator(
    search,
    X[test_rows],
    y[test_rows],
    sensitive_features=group[test_rows],
    train=(X[search_rows], y[search_rows], group[search_rows]),
)
plt.show()
