"""Neural networks under group-fairness penalties, as scikit-learn estimators."""

from importlib.metadata import version

from fairskorch.classifier import FairNeuralClassifier
from fairskorch.last_layer import FairLastLayerClassifier

__all__ = ["FairLastLayerClassifier", "FairNeuralClassifier", "__version__"]

__version__ = version("fairskorch")
