"""
=================================
Searching the weight of a penalty
=================================

`GridSearchCV` over `penalty_weight`, with balanced accuracy and gap scored on both
sides of every split. Groups travel by metadata routing: the estimator requests them for
``fit``, the fairness scorer requests them by itself.
"""

# %%
# The groups of the rows are passed once, to the search.

import matplotlib.pyplot as plt
import pandas as pd
import sklearn
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from fairskorch import FairNeuralClassifier
from fairskorch.datasets import make_biased_classification
from fairskorch.metrics import fairness_scorer

data = make_biased_classification(n_samples=2000, random_state=0)
group = data.sensitive_features["group"]
weights = [0.0, 0.25, 0.5, 1.0, 2.0]
scoring = {
    "balanced_accuracy": "balanced_accuracy",
    "gap": fairness_scorer("equalized_odds_difference"),
}

with sklearn.config_context(enable_metadata_routing=True):
    clf = FairNeuralClassifier(max_epochs=12, validation_fraction=0, random_state=0)
    search = GridSearchCV(
        clf.set_fit_request(sensitive_features=True),
        {"penalty_weight": weights},
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
        scoring=scoring,
        refit="balanced_accuracy",
        return_train_score=True,
    )
    search.fit(data.data, data.target, sensitive_features=group)

# %%
# Differences score negated, so that greater is better; here they are turned back.

columns = {
    "balanced accuracy": ("mean", "balanced_accuracy", 1),
    "EO gap": ("mean", "gap", -1),
    "sd": ("std", "gap", 1),
}
results = pd.DataFrame(
    {
        (side, name): sign * search.cv_results_[f"{statistic}_{part}_{score}"]
        for side, part in {"training": "train", "held-out": "test"}.items()
        for name, (statistic, score, sign) in columns.items()
    },
    index=pd.Index(weights, name="weight"),
)
print(results.round(3).to_string())

# %%
# One point a weight, means of three folds; the bars are the standard deviation of the
# gap over folds, which a choice between neighbouring weights has to reckon with.

fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
looks = {"training": ("s", "--", "0.55"), "held-out": ("o", "-", "0")}
for side, (marker, line, grey) in looks.items():
    ax.errorbar(
        results[side, "EO gap"],
        results[side, "balanced accuracy"],
        xerr=results[side, "sd"],
        marker=marker,
        linestyle=line,
        color=grey,
        capsize=2,
        elinewidth=0.7,
        label=f"{side} rows",
    )
    for weight, row in results[side].iterrows():
        ax.annotate(
            f"{weight:g}",
            (row["EO gap"], row["balanced accuracy"]),
            xytext=(4, -10),
            textcoords="offset points",
            fontsize=8,
            color=grey,
        )
ax.set_xlabel("EO gap, bars: standard deviation over folds")
ax.set_ylabel("balanced accuracy")
ax.set_title("Numbers at the points: penalty_weight", fontsize=9)
ax.grid(alpha=0.3)
ax.legend()
plt.show()
