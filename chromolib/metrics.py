"""How well logits agree with labels: macro-F1, accuracy, AUC one-vs-rest, over the 24 classes."""

import numpy as np
from scipy.special import softmax
from scipy.stats import rankdata

from chromolib import CLASSES
from chromolib.errors import StudyError

N_CLASSES = len(CLASSES)
LOGITS = [f"logit_{i}" for i in range(N_CLASSES)]  # their columns in predictions.parquet
LAST_LOGITS = [f"last_{name}" for name in LOGITS]  # those of the last epoch, beside those of the best one


def arrays(predictions):
    """Labels (n,) int64 and logits (n, 24) float64 of a table as in predictions.parquet."""
    return predictions["label"].to_numpy(), predictions[LOGITS].to_numpy(np.float64)


def last_epoch(predictions):
    """The table with the last epoch's logits as its logits; None of a run that was made before they were kept."""
    if not set(LAST_LOGITS) <= set(predictions.columns):
        return None
    return predictions.drop(columns=LOGITS).rename(columns=dict(zip(LAST_LOGITS, LOGITS, strict=True)))


def scores(labels, logits):
    """The study's three metrics, each in [0, 1].

    labels: (n,) integers 0..23; logits: (n, 24) of any float type. Returns a dict with

    macro_f1: mean of the 24 F1 values, as scikit-learn with labels=range(24), zero_division=0. A class that neither
        occurs nor is predicted counts as 0, so that the divisor is always 24 and folds compare; leaving it out
        would reward a fold for what it lacks.
    accuracy: share of images whose largest logit is the label's (of equal logits the first counts).
    auc_ovr: mean one-vs-rest AUC over the classes that have images and are not all the images, on softmax
        probabilities in float64 (in float32 near-certain images tie at 1); nan where there is no such class.
    classes_scored: the number of classes in that mean.

    Raises StudyError for shapes that do not match, labels out of range, and logits that are NaN or
    infinite.
    """
    labels, logits = check(labels, logits)
    counts = confusion(labels, logits)
    areas = _areas(labels, softmax(logits, axis=1))
    return {
        "macro_f1": float(macro_f1(*hits_and_marks(counts))),
        "accuracy": float(np.trace(counts) / len(labels)),
        "auc_ovr": float(areas.mean()) if len(areas) else float("nan"),
        "classes_scored": len(areas),
    }


def confusion(labels, logits):
    """Counts (24, 24) int64: the row is the label, the column the class of the largest logit."""
    labels, logits = check(labels, logits)
    pairs = labels * N_CLASSES + logits.argmax(axis=1)
    return np.bincount(pairs, minlength=N_CLASSES**2).reshape(N_CLASSES, N_CLASSES)


def f1_per_class(labels, logits):
    """F1 of each class, (24,) float64; nan for a class that neither occurs nor is predicted."""
    return f1(*hits_and_marks(confusion(labels, logits)))


def hits_and_marks(counts):
    """Of a confusion matrix: correct images per class, and images labelled plus images predicted per class."""
    return np.diagonal(counts), counts.sum(axis=0) + counts.sum(axis=1)


def f1(hits, marks):
    """F1 = 2 TP / (2 TP + FP + FN) = 2 hits / marks, for arrays (..., 24); nan where marks is 0."""
    hits = np.asarray(hits, np.float64)
    return np.divide(2 * hits, marks, out=np.full(hits.shape, np.nan), where=np.asarray(marks) > 0)


def macro_f1(hits, marks):
    """Mean F1 over the last axis of (..., 24); an absent class counts as 0 (see `scores`)."""
    return np.nan_to_num(f1(hits, marks)).mean(axis=-1)


def check_labels(labels):
    """labels (n,) as int64; StudyError where they are not the classes, 0..23, of at least one image."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(labels) == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise StudyError(
            f"labels: expected one integer per image, not {labels.dtype} of shape {labels.shape}; "
            "pass the class index 0..23 of at least one image"
        )
    if labels.min() < 0 or labels.max() >= N_CLASSES:
        raise StudyError(
            f"labels: {labels.min()}..{labels.max()} leaves the range 0..{N_CLASSES - 1}; "
            "labels count from 0 (chromosome 1) to 23 (Y), and unlabelled images (-1) are of no class"
        )
    return labels.astype(np.int64)


def check(labels, logits):
    """labels (n,) as int64 and logits (n, 24) as float64; StudyError where they cannot be scored."""
    labels, logits = check_labels(labels), np.asarray(logits, np.float64)
    if logits.shape != (len(labels), N_CLASSES):
        raise StudyError(
            f"logits: shape {logits.shape} does not fit {len(labels)} labels; expected ({len(labels)}, {N_CLASSES})"
        )
    if not np.isfinite(logits).all():
        raise StudyError(
            f"logits: {(~np.isfinite(logits).all(axis=1)).sum()} of {len(labels)} images have NaN or infinite values; "
            "the training diverged: lower its learning rate and run it again"
        )
    return labels, logits


def _areas(labels, probabilities):
    """One-vs-rest AUC of each class that can have one, by the rank sum (Mann and Whitney 1947); ties count half."""
    positives = np.bincount(labels, minlength=N_CLASSES)
    scored = np.flatnonzero((positives > 0) & (positives < len(labels)))
    positives, negatives = positives[scored], len(labels) - positives[scored]
    ranks = rankdata(probabilities[:, scored], axis=0)
    rank_sums = (ranks * (labels[:, None] == scored)).sum(axis=0)
    return (rank_sums - positives * (positives + 1) / 2) / (positives * negatives)
