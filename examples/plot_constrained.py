"""
=========================================
A bound on a gap, and what is left of it
=========================================

A classifier is trained under bounds of several sizes on its equalized odds
difference. Bounds are kept on the rows that they are enforced on; new rows tell what
they are worth.
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
            # A bound that cannot be kept is seen in the figure.
            warnings.simplefilter("ignore", InfeasibleConstraintWarning)
            found.append(clf.fit(X[train], y[train], groups[train]))

print(
    f"plain: accuracy {plain.score(X[test], y[test]):.3f}, gap {gap(plain, test):.3f}"
)
for name, found in fits.items():
    for bound, clf in zip(bounds, found, strict=True):
        accuracy = clf.score(X[test], y[test])
        members = len(clf.estimators_)
        print(
            f"bound {bound:.2f}, multipliers on {name} rows: accuracy {accuracy:.3f}, "
            f"gap {gap(clf, test):.3f}, {members} member(s)"
        )

# %%
# Left: the multipliers' paths under a bound of 0.02. They climb while the bound is
# left, and fall back where it is kept with room to spare. Right: gaps on the rows
# given to `fit`, some of which it holds out, and on new ones. Points below the line
# keep their bound.

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
right.legend(fontsize="small", loc="lower left", bbox_to_anchor=(0, 1))
plt.show()

# %%
# The answer may be a mixture, from which `predict` draws. The same row gets the
# same answer each time, and another seed gives other draws.

clf = fits["train"][0]
print("chances of the members:", clf.estimator_weights_.round(3))
answers = np.stack([clf.predict(X[test], random_state=seed) for seed in range(20)])
print("rows whose answer depends on the draw:", (answers.std(0) > 0).mean().round(3))
