"""
=============================================
A new last layer, and what balance does alone
=============================================

A plain network is trained first. Then its last layer is fitted anew on held-out rows,
without and with balanced cells, without and with a penalty: the modes B2, B3, M1 and M2
of the user guide. The last part searches the penalty weight.
"""

# %%
# Handwritten digits; most images of the positive class have one colour, and the colour
# is the group. Three disjoint parts: for the network, for the last layer, and for the
# comparison.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score

from fairskorch import (
    FairLastLayerClassifier,
    FairLastLayerClassifierCV,
    FairNeuralClassifier,
)
from fairskorch.datasets import make_biased_digits
from fairskorch.metrics import equalized_odds_difference

digits = make_biased_digits(random_state=0)
X, y = digits.data, digits.target
groups = digits.sensitive_features.iloc[:, 0].to_numpy()
part = np.random.default_rng(0).permutation(len(y)) % 3
network, layer, test = (part == i for i in range(3))

plain = FairNeuralClassifier(
    penalty=None, module__width=8, max_epochs=12, lr=3e-3, random_state=0
).fit(X[network], y[network])

# %%
# Four new layers for the same network. The features are computed once in each fit; the
# network is never changed.


def measured(clf):
    predicted = clf.predict(X[test])
    gap = equalized_odds_difference(y[test], predicted, sensitive_features=groups[test])
    score = balanced_accuracy_score(y[test], predicted)
    return {"balanced accuracy": score, "EO gap": gap}


modes = {
    "B2": {"penalty": None, "balance": None},
    "B3": {"penalty": None, "balance": "cells"},
    "M1": {"penalty": "eo", "balance": None},
    "M2": {"penalty": "eo", "balance": "cells"},
}
rows = {"network": measured(plain)}
for name, params in modes.items():
    clf = FairLastLayerClassifier(FrozenEstimator(plain), random_state=0, **params)
    clf.fit(X[layer], y[layer], sensitive_features=groups[layer])
    rows[name] = measured(clf)
print(pd.DataFrame(rows).T.round(3))

# %%
# From B3 to M2 only the penalty changes; from the network to B3 it plays no part. Here
# balance alone closes most of the gap, and a penalty of the default weight on top of it
# closes no more and costs balanced accuracy: one data set, one seed.
#
# Every weight on every fold is one head of one batched problem, so a whole path costs
# little more than one fit. Numbers at the points are weights.

search = FairLastLayerClassifierCV(
    FrozenEstimator(plain), penalty_weights=10, cv=5, random_state=0
).fit(X[layer], y[layer], sensitive_features=groups[layer])
path = search.path_

fig, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
for side, style, color in (("train", "s--", "0.5"), ("valid", "o-", "0")):
    label = "rows trained on" if side == "train" else "held-out rows"
    gap = path[f"{side}_equalized_odds_difference"]
    score = path[f"{side}_balanced_accuracy"]
    ax.plot(gap, score, style, color=color, label=label, linewidth=0.8)
    # The smallest weights lie on one spot.
    for i in (0, *range(5, len(path))):
        text = f"{path['penalty_weight'][i]:.2g}"
        at = (gap[i], score[i])
        ax.annotate(text, at, (4, 4), textcoords="offset points", fontsize=8)
ax.set_xlabel("EO gap, mean over folds")
ax.set_ylabel("balanced accuracy")
ax.legend(loc="center right")
plt.show()

# %%
# The highest held-out balanced accuracy decides, unless `refit` is a rule of one's own.

print(f"chosen weight: {search.penalty_weight_:.3g}")
print(pd.Series(measured(search)).round(3).to_string())
