"""Displays: held-out rows against training rows, with intervals, readable in grey.

Each is made by one of its ``from_...`` methods, draws into ``ax`` where one is given,
and keeps what it drew: `ax_`, `figure_` and the numbers. They need matplotlib, which
``fairskorch[plot]`` brings.
"""

from fairskorch.display._gap import FairnessGapDisplay
from fairskorch.display._history import FairnessHistoryDisplay
from fairskorch.display._pareto import ParetoFrontDisplay

__all__ = ["FairnessGapDisplay", "FairnessHistoryDisplay", "ParetoFrontDisplay"]
