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
train, test = (
    (data.data[rows], data.target[rows], group[rows])
    for rows in (slice(0, 3000), slice(3000, None))
)
print(f"best accuracy {data.bayes_accuracy:.3f}, with an EO gap of "
      f"{data.bayes_equalized_odds_difference:.3f}")  # fmt: skip

# %%
# ``validation_fraction=0``: all rows that the report calls train were trained on.

kwargs = {"validation_fraction": 0, "monitor": None, "random_state": 0}
clf = FairNeuralClassifier(penalty="eo", **kwargs).fit(*train)
balance = FairNeuralClassifier(penalty=None, sampler=clf.sampler_, **kwargs).fit(*train)
report = fairness_report(clf, train=train, test=test, baseline=balance, random_state=0)
report  # noqa: B018

# %%
# The same numbers as a figure.

ax = report.plot()
ax.set_title("EO penalty", fontsize=10)
ax.figure.set_layout_engine("constrained")
plt.show()

# %%
# Each group by itself: a smaller gap may come from one group gaining or from the other
# losing, and a difference does not say which.

rates = ["true_positive_rate", "false_positive_rate", "accuracy"]
by_group = report.by_group.loc["test", [(rate, "value") for rate in rates]]
other = fairness_report(balance, train=train, test=test).by_group.loc["test"]
other = other[[(rate, "value") for rate in rates]]
print("EO penalty")
print(by_group.droplevel(1, axis=1).round(3).to_string())
print("\nthe same batches, no penalty")
print(other.droplevel(1, axis=1).round(3).to_string())
