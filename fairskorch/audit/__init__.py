"""Train against held-out: what a fitted classifier does to groups on each."""

from fairskorch.audit._findings import Finding
from fairskorch.audit._report import FairnessReport, fairness_report

__all__ = ["FairnessReport", "Finding", "fairness_report"]
