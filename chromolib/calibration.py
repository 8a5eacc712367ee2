"""Whether a probability means what it says: weights of what speaks for a class, reliability, risk against coverage.

A network's logits divided by a temperature (Guo et al., On calibration of modern neural networks,
ICML 2017) have the same order and better probabilities. Here the logits are multiplied by a weight,
1 over the temperature, and other evidence, such as the size of the chromosome, gets a weight of its
own. Both are chosen on images that neither the training nor the reported score has used: the
monitor part of a fold.
"""

import numpy as np
import pandas as pd
from scipy import optimize
from scipy.special import log_softmax, softmax

from chromolib import metrics


def weights(evidence, labels):
    """The weights (k,) >= 0 of k sources of evidence that make these labels likeliest.

    evidence: (k, n, 24), such as logits and log-likelihoods of sizes; labels: (n,) 0..23. The
    likelihood is that of a logistic regression with k coefficients, so it has one maximum.
    """
    evidence, rows = np.asarray(evidence, np.float64), np.arange(len(labels))
    true = evidence[:, rows, labels]  # (k, n)

    def loss(values):
        totals = np.tensordot(values, evidence, axes=1)  # (n, 24)
        expected = (softmax(totals, axis=1) * evidence).sum(axis=2)
        return -log_softmax(totals, axis=1)[rows, labels].mean(), (expected - true).mean(axis=1)

    start = np.ones(len(evidence))
    options = {"jac": True, "method": "L-BFGS-B", "bounds": [(0, None)] * len(start)}
    return optimize.minimize(loss, start, options={"ftol": 1e-14, "gtol": 1e-9}, **options).x


def combine(evidence, values):
    """Log-probabilities (n, 24) of evidence (k, n, 24) weighed by `values` (k,)."""
    return log_softmax(np.tensordot(values, np.asarray(evidence, np.float64), axes=1), axis=1)


def reliability(log_probabilities, labels, bins=15):
    """How often images are right at each certainty: DataFrame confidence, accuracy (means), images; a row a bin.

    log_probabilities: (n, 24); bins have equal width in the probability of the class taken; empty
    ones are left out.
    """
    labels, log_probabilities = metrics.check(labels, log_probabilities)
    confidence, right = np.exp(log_probabilities.max(axis=1)), log_probabilities.argmax(axis=1) == labels
    table = pd.DataFrame({"confidence": confidence, "accuracy": right, "images": 1})
    groups = table.groupby(np.ceil(confidence * bins).astype(int))
    return groups.agg({"confidence": "mean", "accuracy": "mean", "images": "sum"}).reset_index(drop=True)


def expected_error(table):
    """Expected calibration error of a `reliability` table (Naeini et al., AAAI 2015), in [0, 1]."""
    return float(np.average((table["confidence"] - table["accuracy"]).abs(), weights=table["images"]))


def risk(certainty, right):
    """What is wrong among the surest: DataFrame coverage, risk, a row an answer, from the surest to all.

    certainty: (n,), the larger the surer; right: (n,) bool. coverage: share of all answers taken;
    risk: share of wrong ones among them (El-Yaniv and Wiener, JMLR 11, 2010). Answers of equal
    certainty are taken together.
    """
    table = pd.DataFrame({"certainty": certainty, "wrong": ~np.asarray(right, bool), "n": 1})
    table = table.groupby("certainty").sum().sort_index(ascending=False).cumsum()
    shares = {"coverage": table["n"] / len(certainty), "risk": table["wrong"] / table["n"]}
    return pd.DataFrame(shares).reset_index(drop=True)
