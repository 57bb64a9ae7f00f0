"""
=========================================
A bound on a gap, and what is left of it
=========================================

A classifier is trained under bounds of several sizes on its equalized odds
difference. A bound is enforced on some rows, where `fit` says whether it was kept; new
rows tell what it is worth.
"""

# %%
# Rows of two groups, one of them rarer. A third is kept for the comparison.

import warnings

import matplotlib.pyplot as plt
import numpy as np

from fairskorch import FairConstrainedClassifier, FairNeuralClassifier
from fairskorch.datasets import make_biased_classification
from fairskorch.exceptions import InfeasibleConstraintWarning
from fairskorch.metrics import equalized_odds_difference

data = make_biased_classification(n_samples=6000, random_state=0)
X, y = data.data, data.target
groups = data.sensitive_features["group"].to_numpy()
test = np.arange(len(y)) % 3 == 0
train = ~test

# %%
# Plain training first, then a fit for each bound. Multipliers move on training rows,
# or on rows that are kept for them.


def gap(clf, rows):
    return equalized_odds_difference(
        y[rows], clf.predict(X[rows]), sensitive_features=groups[rows]
    )


plain = FairNeuralClassifier(penalty=None, random_state=0)
plain.fit(X[train], y[train], groups[train])

bounds = [0.02, 0.05, 0.1, 0.2]
fits = {"train": [], "holdout": []}
for name, found in fits.items():
    for bound in bounds:
        clf = FairConstrainedClassifier(
            constraint="eo", bound=bound, multiplier_data=name, random_state=0
        )
        with warnings.catch_warnings():
            # A bound that was missed is told below.
            warnings.simplefilter("ignore", InfeasibleConstraintWarning)
            found.append(clf.fit(X[train], y[train], groups[train]))

print(
    f"plain: accuracy {plain.score(X[test], y[test]):.3f}, gap {gap(plain, test):.3f}"
)
for name, found in fits.items():
    for bound, clf in zip(bounds, found, strict=True):
        accuracy = clf.score(X[test], y[test])
        enforced = clf.violations_.loc["multiplier", "value"].max()
        print(
            f"bound {bound:.2f} on {name} rows: {enforced:.3f} there"
            f"{'' if clf.is_feasible_ else ' (missed)'}, test accuracy {accuracy:.3f}, "
            f"test gap {gap(clf, test):.3f}"
        )

# %%
# Left: the multipliers' paths under a bound of 0.02. "1 above" is the one that acts
# while the rate of group 1 is too far above the level that the groups share. They climb
# while the bound is missed, and fall back where it is kept with room to spare. Right:
# gaps on all rows given to `fit` and on new ones. Points below the line keep their
# bound. It is enforced on a part of the given rows only, the training rows or the fifth
# that is kept for the multipliers, so points of all given rows lie above it as well.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
fits["train"][0].plot_multipliers(left, n_largest=4)
for name, marker, shade in (("train", "o", "0"), ("holdout", "s", "0.6")):
    for rows, part, fill in ((train, "given", "none"), (test, "new", "full")):
        gaps = [gap(clf, rows) for clf in fits[name]]
        label = f"{part} rows, multipliers on {name}"
        right.plot(bounds, gaps, marker, color=shade, fillstyle=fill, label=label)
right.axline((0, 0), slope=1, color="gray", linewidth=0.8)
right.axhline(gap(plain, test), color="gray", linestyle=":", label="plain, new rows")
right.set(xlabel="bound", ylabel="equalized odds difference", xlim=0, ylim=0)
right.set_xticks(bounds)
right.legend(fontsize="small", loc="lower left", bbox_to_anchor=(0, 1))
plt.show()

# %%
# The answer may be a mixture, from which `predict` draws. The same row gets the
# same answer each time, and another seed gives other draws.

clf = fits["train"][0]
print("chances of the members:", clf.estimator_weights_.round(3))
answers = np.stack([clf.predict(X[test], random_state=seed) for seed in range(20)])
print("rows whose answer depends on the draw:", (answers.std(0) > 0).mean().round(3))
