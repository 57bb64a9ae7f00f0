"""
=======================================================
The gap on training rows and on held-out rows, by epoch
=======================================================

A penalty on error rates has nothing left to act on once the training rows are fitted.
The history of a fit shows when that happens: both sides are computed in eval mode from
counts over all rows concerned, after every epoch.
"""

# %%
# Groups with base rates of .5 and .2 whose classes overlap: no classifier of these
# features is right on more than 84 % of new rows. Six hundred training rows in thirty
# columns are few enough for a wide network to learn by heart.

import matplotlib.pyplot as plt
import numpy as np

from fairskorch import FairNeuralClassifier
from fairskorch.datasets import make_biased_classification

data = make_biased_classification(n_samples=3600, n_features=30, random_state=0)
group = data.sensitive_features["group"]
train, held = slice(0, 600), slice(600, None)

# %%
# The held-out rows are given to ``fit``, which monitors them and never trains on them.
# ``monitor="all"`` reads all training rows, not a sample as large as the held-out part.

clf = FairNeuralClassifier(
    penalty="eo",
    penalty_weight=1.0,
    module__hidden=(256, 256),
    max_epochs=60,
    monitor="all",
    random_state=0,
)
clf.fit(
    data.data[train],
    data.target[train],
    sensitive_features=group[train],
    X_val=data.data[held],
    y_val=data.target[held],
    groups_val=group[held],
)
history = clf.history_
last = history.iloc[-1]
print(history.filter(regex="equalized|balanced").iloc[[0, 9, 29, -1]].round(3).T)

# %%
# Solid: held-out rows; dashed: training rows.

epoch = np.arange(1, len(history) + 1)
panels = {
    "balanced_accuracy": "balanced accuracy",
    "equalized_odds_difference": "EO gap",
}
fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.0), layout="constrained")
for ax, (name, label) in zip(axes, panels.items(), strict=True):
    ax.plot(epoch, history[f"train_{name}"], "--", color="0.45", label="training rows")
    ax.plot(epoch, history[f"valid_{name}"], "-", color="0", label="held-out rows")
    ax.axvline(clf.penalty_warmup_, color="0.7", linestyle=":")
    ax.set_xlabel("epoch")
    ax.set_ylabel(label)
    ax.grid(alpha=0.3)
axes[1].text(
    clf.penalty_warmup_ + 1,
    0.5,
    "full weight\nfrom here",
    transform=axes[1].get_xaxis_transform(),
    fontsize=8,
)
axes[0].legend(loc="center right")
plt.show()

# %%
# What the last epoch says, in the columns that the estimator writes.

for name, label in panels.items():
    print(
        f"{label}: {last[f'train_{name}']:.3f} on training rows, "
        f"{last[f'valid_{name}']:.3f} on held-out rows, "
        f"difference {last[f'overfit_{name}']:+.3f}"
    )
