"""Neural networks under group-fairness penalties, as scikit-learn estimators."""

from importlib.metadata import version

from fairskorch.classifier import FairNeuralClassifier
from fairskorch.classifier_cv import FairNeuralClassifierCV
from fairskorch.constrained import FairConstrainedClassifier
from fairskorch.last_layer import FairLastLayerClassifier
from fairskorch.last_layer_cv import FairLastLayerClassifierCV

__all__ = [
    "FairConstrainedClassifier",
    "FairLastLayerClassifier",
    "FairLastLayerClassifierCV",
    "FairNeuralClassifier",
    "FairNeuralClassifierCV",
    "__version__",
]

__version__ = version("fairskorch")
