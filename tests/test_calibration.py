"""Calibration against closed forms, scikit-learn and counts by hand."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve

from chromolib import calibration


def drawn(n=20_000, seed=0):
    """Logits whose probabilities are true, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(n, 24))
    chances = softmax(logits, axis=1).cumsum(axis=1)
    labels = np.minimum((chances < rng.random((n, 1))).sum(axis=1), 23)
    return logits, labels


def test_the_temperature_that_was_put_in_comes_out():
    logits, labels = drawn()
    (weight,) = calibration.weights([2.5 * logits], labels)
    assert 1 / weight == pytest.approx(2.5, rel=0.03)


def test_at_the_maximum_expected_and_true_evidence_are_equal():
    """The condition for the maximum of a logistic regression, for two sources of evidence."""
    logits, labels = drawn(500)
    other = np.random.default_rng(1).normal(size=logits.shape) + np.eye(24)[labels]
    evidence = np.array([3 * logits, other])
    found = calibration.weights(evidence, labels)
    chances = np.exp(calibration.combine(evidence, found))
    assert found.min() > 0
    true = evidence[:, np.arange(500), labels].mean(axis=1)
    assert (chances * evidence).sum(axis=2).mean(axis=1) == pytest.approx(true, abs=1e-4)


def test_evidence_against_the_labels_gets_no_weight():
    logits, labels = drawn(500)
    found = calibration.weights([logits, -np.eye(24)[labels]], labels)
    assert found[1] == 0


def test_combined_evidence_is_normalised():
    logits, _ = drawn(10)
    assert calibration.combine([logits, logits], [0.5, 0.25]) == pytest.approx(log_softmax(0.75 * logits, axis=1))


def test_reliability_is_scikit_learns():
    logits, labels = drawn(2000)
    table = calibration.reliability(log_softmax(logits, axis=1), labels, bins=10)
    chances = softmax(logits, axis=1)
    accuracy, confidence = calibration_curve(chances.argmax(1) == labels, chances.max(1), n_bins=10)
    assert table["accuracy"].to_numpy() == pytest.approx(accuracy)
    assert table["confidence"].to_numpy() == pytest.approx(confidence)
    assert table["images"].sum() == 2000


def test_the_expected_error_by_hand():
    """Three images at 0.9, of which two are right, and one at 0.5, which is right."""
    chances = np.full((4, 24), 0.1 / 23)
    chances[:, 0] = 0.9
    chances[3] = 0.5 / 23
    chances[3, 0] = 0.5
    table = calibration.reliability(np.log(chances), np.array([0, 0, 5, 0]), bins=10)
    assert calibration.expected_error(table) == pytest.approx(0.75 * (0.9 - 2 / 3) + 0.25 * 0.5)


def test_true_probabilities_have_a_small_error_and_sharpened_ones_a_large_one():
    logits, labels = drawn()
    errors = [
        calibration.expected_error(calibration.reliability(log_softmax(k * logits, axis=1), labels)) for k in (1, 3)
    ]
    assert errors[0] < 0.02 < 0.2 < errors[1]


def test_risk_by_hand():
    table = calibration.risk([0.9, 0.8, 0.8, 0.1], [True, False, True, False])
    assert table["coverage"].tolist() == [0.25, 0.75, 1]
    assert table["risk"].tolist() == pytest.approx([0, 1 / 3, 2 / 4])
