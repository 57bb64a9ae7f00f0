"""Constraints beyond those that `~fairskorch.FairConstrainedClassifier` knows by name.

Each is passed as ``constraint=``, by itself or in a list, and gets its number from
``bound=``.
"""

from fairskorch.constraints._specs import Churn, FMeasure, GMean

__all__ = ["Churn", "FMeasure", "GMean"]
