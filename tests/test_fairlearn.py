"""fairlearn's tools on our estimator, and our estimator under fairlearn's."""

import fairlearn.metrics as fm
import numpy as np
import pytest
from fairlearn.postprocessing import ThresholdOptimizer
from fairlearn.reductions import (
    DemographicParity,
    EqualizedOdds,
    ExponentiatedGradient,
    GridSearch,
)
from sklearn.metrics import accuracy_score

from fairskorch import FairNeuralClassifier

# fairlearn's own use of pandas.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Setting a value on a Series via .at:DeprecationWarning",
    "ignore:Setting an item of incompatible dtype:DeprecationWarning",
    "ignore::fairskorch.exceptions.ConstantPredictionWarning",
)


@pytest.fixture(scope="module")
def plain(table):
    X, y, groups = with_group(table)
    return FairNeuralClassifier(penalty=None, max_epochs=30, random_state=0).fit(X, y)


def with_group(table):
    """The rows with their group as a column, so that there is a gap to close."""
    X, y, groups = table
    return np.column_stack([X, groups == "b"]), y, groups


def test_metric_frame_on_the_predictions(plain, table):
    X, y, groups = with_group(table)
    frame = fm.MetricFrame(
        metrics={"accuracy": accuracy_score, "rate": fm.selection_rate},
        y_true=y,
        y_pred=plain.predict(X),
        sensitive_features=groups,
    )
    assert frame.overall["accuracy"] == plain.score(X, y)
    assert frame.by_group.index.tolist() == ["a", "b"]


def test_threshold_optimizer_takes_a_fitted_network(plain, table):
    X, y, groups = with_group(table)
    before = fm.equalized_odds_difference(
        y, plain.predict(X), sensitive_features=groups
    )
    adjusted = ThresholdOptimizer(
        estimator=plain,
        constraints="equalized_odds",
        prefit=True,
        predict_method="predict_proba",
    ).fit(X, y, sensitive_features=groups)
    predicted = adjusted.predict(X, sensitive_features=groups, random_state=0)
    after = fm.equalized_odds_difference(y, predicted, sensitive_features=groups)
    assert after < before


@pytest.mark.parametrize("reduction", [ExponentiatedGradient, GridSearch])
def test_reductions_weigh_the_rows_of_our_estimator(reduction, plain, table):
    X, y, groups = with_group(table)
    base = FairNeuralClassifier(
        penalty=None, max_epochs=15, random_state=0, validation_fraction=0
    )
    if reduction is ExponentiatedGradient:
        fitted = reduction(base, DemographicParity(difference_bound=0.02), max_iter=5)
    else:
        fitted = reduction(base, DemographicParity(difference_bound=0.02), grid_size=9)
    fitted.fit(X, y, sensitive_features=groups)
    options = {"random_state": 0} if reduction is ExponentiatedGradient else {}
    gap, plain_gap = (
        fm.demographic_parity_difference(y, predicted, sensitive_features=groups)
        for predicted in (fitted.predict(X, **options), plain.predict(X))
    )
    # Were the weights lost, every fit would be the plain one.
    assert gap < plain_gap - 0.05
    assert accuracy_score(y, fitted.predict(X, **options)) > 0.6


def test_reductions_take_images(images):
    X, y, groups = images
    flat = (X / 255).reshape(len(X), -1)
    base = FairNeuralClassifier(
        penalty=None, max_epochs=5, random_state=0, validation_fraction=0
    )
    fitted = ExponentiatedGradient(base, EqualizedOdds(), max_iter=2)
    fitted.fit(flat, y, sensitive_features=groups)
    assert np.isin(fitted.predict(flat, random_state=0), [0, 1]).all()


def test_reductions_hand_no_groups_to_a_penalty(table):
    X, y, groups = with_group(table)
    penalised = FairNeuralClassifier(penalty="eo", max_epochs=1, random_state=0)
    reduction = ExponentiatedGradient(penalised, EqualizedOdds(), max_iter=1)
    with pytest.raises(ValueError, match="needs the group of every training row"):
        reduction.fit(X, y, sensitive_features=groups)
