"""Constraints beyond the names and moments that `FairConstrainedClassifier` knows.

Each is passed as ``constraint=``, by itself or in a list, and gets its number from
``bound=``.
"""

from fairskorch.constraints._specs import Churn, FMeasure, GMean

__all__ = ["Churn", "FMeasure", "GMean"]
