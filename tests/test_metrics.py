"""Metrics against scikit-learn and against cases small enough for pencil and paper."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, roc_auc_score

from chromolib import metrics
from chromolib.errors import StudyError


def logits_for(predicted, strength=5.0):
    return strength * np.eye(24)[np.asarray(predicted)]


@pytest.fixture
def noisy():
    rng = np.random.default_rng(3)
    labels = rng.integers(24, size=400)
    return labels, (rng.normal(size=(400, 24)) + 2 * np.eye(24)[labels]).astype(np.float32)


def test_scores_agree_with_scikit_learn(noisy):
    labels, logits = noisy
    result = metrics.scores(labels, logits)
    predicted = logits.argmax(1)
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    areas = [roc_auc_score(labels == c, (shifted / shifted.sum(1, keepdims=True))[:, c]) for c in range(24)]
    assert result["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"), abs=1e-12)
    assert result["accuracy"] == pytest.approx(accuracy_score(labels, predicted), abs=1e-12)
    assert result["auc_ovr"] == pytest.approx(np.mean(areas), abs=1e-12)
    assert result["classes_scored"] == 24


def test_four_images_by_hand():
    # True 0 0 1 1, predicted 0 1 1 1. F1 of class 0: 2/(2+0+1) = 2/3; of class 1: 4/(4+1+0) = 4/5.
    labels, logits = np.array([0, 0, 1, 1]), logits_for([0, 1, 1, 1])
    result = metrics.scores(labels, logits)
    assert result["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 24)  # the other 22 classes count as 0
    assert result["accuracy"] == 0.75
    # Class 0: of 2 x 2 pairs, two are won and two are ties: 3/4. Class 1 likewise.
    assert result["auc_ovr"] == pytest.approx(0.75)
    assert result["classes_scored"] == 2
    per_class = metrics.f1_per_class(labels, logits)
    assert per_class[:2] == pytest.approx([2 / 3, 4 / 5])
    assert np.isnan(per_class[2:]).all()


def test_absent_class_counts_as_zero_as_in_scikit_learn():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(20, size=(2, 300))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = f1_score(labels, predicted, average="macro", labels=range(24), zero_division=0)
    assert metrics.scores(labels, logits_for(predicted))["macro_f1"] == pytest.approx(expected, abs=1e-12)


def test_a_predicted_but_absent_class_is_zero_not_nan():
    per_class = metrics.f1_per_class(np.array([0, 0]), logits_for([0, 23]))
    assert per_class[23] == 0
    assert np.isnan(per_class[5])


def test_near_certain_images_do_not_tie():
    # In float32 all three probabilities of class 0 would round to 1.
    logits = np.zeros((3, 24), np.float32)
    logits[:, 0] = 30, 28, 26
    result = metrics.scores(np.array([0, 0, 1]), logits)
    # Class 0 orders both pairs rightly (1.0); class 1 has probability exp(-30), exp(-28), exp(-26): also 1.0.
    assert result["auc_ovr"] == 1.0


def test_one_class_has_no_auc():
    result = metrics.scores(np.array([4, 4]), logits_for([4, 4]))
    assert np.isnan(result["auc_ovr"])
    assert result["classes_scored"] == 0
    assert result["accuracy"] == 1


def test_confusion_agrees_with_scikit_learn(noisy):
    labels, logits = noisy
    counts = metrics.confusion(labels, logits)
    assert counts.dtype == np.int64
    assert (counts == confusion_matrix(labels, logits.argmax(1), labels=range(24))).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_float_type_of_logits(dtype):
    assert metrics.scores(np.arange(24), logits_for(range(24)).astype(dtype))["macro_f1"] == 1


@pytest.mark.parametrize(
    ("labels", "logits", "words"),
    [
        ([0, 1], np.zeros((3, 24)), "does not fit"),
        ([0, 1], np.zeros((2, 23)), "does not fit"),
        ([0, 24], np.zeros((2, 24)), "range"),
        ([-1, 0], np.zeros((2, 24)), "unlabelled"),
        ([0.0, 1.0], np.zeros((2, 24)), "integer"),
        ([], np.zeros((0, 24)), "at least one image"),
        ([0, 1], np.full((2, 24), np.nan), "2 of 2 images have NaN"),
        ([0, 1], np.full((2, 24), np.inf), "infinite"),
    ],
)
def test_bad_input_is_named(labels, logits, words):
    with pytest.raises(StudyError, match=words):
        metrics.scores(labels, logits)
