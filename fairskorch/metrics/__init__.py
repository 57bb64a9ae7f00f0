"""Group metrics and scorers: how predictions differ between groups.

The functions carry fairlearn's names and give fairlearn's numbers where it defines
them; they go further where it does not: more than two classes, labels of any kind,
rows of unknown group, and ``nan`` with a warning where a group has no row that a rate
could be estimated from. `from_counts` computes the same numbers from counts, for any
number of draws or epochs at once.
"""

from fairskorch.metrics._counts import METRICS, from_counts
from fairskorch.metrics._differences import (
    accuracy_difference,
    average_odds_difference,
    demographic_parity_difference,
    equal_opportunity_difference,
    equalized_odds_difference,
)
from fairskorch.metrics._ratios import demographic_parity_ratio, equalized_odds_ratio
from fairskorch.metrics._scorer import fairness_scorer
from fairskorch.metrics._table import group_metrics
from fairskorch.metrics._worst import worst_cell_accuracy, worst_group_accuracy

__all__ = [
    "METRICS",
    "accuracy_difference",
    "average_odds_difference",
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equal_opportunity_difference",
    "equalized_odds_difference",
    "equalized_odds_ratio",
    "fairness_scorer",
    "from_counts",
    "group_metrics",
    "worst_cell_accuracy",
    "worst_group_accuracy",
]
