"""Neural networks under group-fairness penalties, as scikit-learn estimators."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("fairskorch")
