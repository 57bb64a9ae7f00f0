"""Neural networks under group-fairness penalties, as scikit-learn estimators."""

from importlib.metadata import version

from fairskorch.classifier import FairNeuralClassifier

__all__ = ["FairNeuralClassifier", "__version__"]

__version__ = version("fairskorch")
