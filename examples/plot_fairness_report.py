"""
================================
A report with a baseline to beat
================================

The report measures a fitted classifier on training and held-out rows, with intervals,
and compares it with another on the same held-out rows. Here the other is the same
network on batches drawn alike, without a penalty: what balance does alone is not
counted for the penalty.
"""

# %%
# A table whose best possible classifier is known: as base rates are .5 and .2, it has
# an equalized-odds difference of its own.

import matplotlib.pyplot as plt

from fairskorch import FairNeuralClassifier
from fairskorch.audit import fairness_report
from fairskorch.datasets import make_biased_classification

data = make_biased_classification(n_samples=6000, random_state=0)
group = data.sensitive_features["group"]
splits = {
    name: (data.data[rows], data.target[rows], group[rows])
    for name, rows in {"train": slice(0, 3000), "test": slice(3000, None)}.items()
}
print(f"best possible accuracy: {data.bayes_accuracy:.3f}")
print(f"its EO difference: {data.bayes_equalized_odds_difference:.3f}")

# %%
# With ``validation_fraction=0`` all rows that the report calls train are trained on.
# The last column is the classifier minus the baseline, both on the test rows.

kwargs = {"validation_fraction": 0, "monitor": None, "random_state": 0}
clf = FairNeuralClassifier(penalty="eo", **kwargs)
clf.fit(*splits["train"])
balance = FairNeuralClassifier(penalty=None, sampler=clf.sampler_, **kwargs)
balance.fit(*splits["train"])
fairness_report(clf, **splits, baseline=balance, random_state=0)

# %%
# Both as figures.

reports = {
    "EO penalty": fairness_report(clf, **splits),
    "the same batches, no penalty": fairness_report(balance, **splits),
}
fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
for ax, (title, shown) in zip(axes, reports.items(), strict=True):
    shown.plot(ax=ax)
    ax.set_title(title, fontsize=10)
axes[1].get_legend().remove()
plt.show()

# %%
# Each group by itself, on the test rows, against the baseline. A smaller gap may come
# from one group gaining or from the other losing, and the gap does not say which.
# `to_html` writes all of it as a page that can be handed on.

report = fairness_report(clf, **splits, baseline=balance, random_state=0)
print(report.changes.drop(columns="count", level=0).round(3).T.to_string())
