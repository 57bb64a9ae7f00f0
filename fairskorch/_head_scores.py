"""Scores of trained heads by any scorer of scikit-learn."""

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin

from fairskorch._paths import held_out_score
from fairskorch._probabilities import probabilities


def score_heads(owner, data, heads, sets, labels, scoring):
    """Score every head on rows of its set.

    Parameters
    ----------
    owner : str
        For messages.
    data : HeadData
    heads : Heads
    sets : list of ndarray of int64
        Row numbers, one array for each set of heads.
    labels : tuple of ndarray
        Labels of classes and of groups, in code order.
    scoring : str or callable

    Returns
    -------
    scores : ndarray of shape (n_sets, n_heads)
    """
    classes, group_labels = labels
    features = data.features.cpu().numpy()
    y = classes[data.target.cpu().numpy()]
    groups = data.groups.cpu().numpy()
    weight, bias = (part.cpu().numpy() for part in heads)
    scores = np.empty((len(sets), weight.shape[-1]))
    for i, rows in enumerate(sets):
        for j in range(scores.shape[1]):
            head = _Head(weight[i, ..., j], bias[i, :, 0, j], classes)
            known = None
            if group_labels is not None:
                known = group_labels.astype(object)[groups[rows]]
                known[groups[rows] < 0] = None
            scores[i, j] = held_out_score(
                owner, head, scoring, features[rows], y[rows], known
            )
    return scores


class _Head(ClassifierMixin, BaseEstimator):
    """A trained head as a classifier of features, which scorers can call."""

    def __init__(self, weight, bias, classes):
        self.weight = weight
        self.bias = bias
        self.classes = classes

    @property
    def classes_(self):
        """Return the classes."""
        return self.classes

    def fit(self, X, y):
        """Do nothing: the head is trained."""
        return self

    def decision_function(self, X):
        """Return logits."""
        logits = (X @ self.weight.T + self.bias).astype(np.float64)
        return logits[:, 1] - logits[:, 0] if len(self.classes) == 2 else logits

    def predict_proba(self, X):
        """Return the probability of each class."""
        logits = torch.as_tensor(X @ self.weight.T + self.bias)
        return probabilities(logits)

    def predict(self, X):
        """Return the most probable class."""
        return self.classes[(X @ self.weight.T + self.bias).argmax(1)]
