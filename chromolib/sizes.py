"""How large a chromosome is, which squaring throws away: a model of size, whose log-likelihood is added to a network's.

The logarithms of a chromosome's area and length, each less the median of its cell, so that neither
magnification nor how far the cell's chromosomes were condensed matters; for each class one
two-dimensional Student t with 4 degrees of freedom [ours], which a badly cut chromosome does not
pull away.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import multivariate_t

from chromolib import metrics

FREEDOM = 4  # [ours]
_FEWEST = 5  # images of a class; below, its size is that of any chromosome
_STEPS = 100  # of the EM algorithm, which is there to 1e-6 after about 30


class SizeModel(NamedTuple):
    """Location (24, 2) and scatter (24, 2, 2) of each class."""

    location: np.ndarray
    scatter: np.ndarray


def features(sizes, cells=None):
    """Log area and log length, less the median of the cell: (n, 2) float64.

    sizes: (n, 2), as `Dataset.sizes`; cells: (n,) names, or None where unknown, when the median is
    that of all.
    """
    logs = pd.DataFrame(np.log(np.maximum(sizes, 1)).astype(np.float64))
    cells = np.zeros(len(logs)) if cells is None else np.asarray(cells)
    return (logs - logs.groupby(cells).transform("median")).to_numpy()


def fit(values, labels):
    """The SizeModel of training images: their `features` (n, 2) and labels (n,) 0..23.

    Maximum likelihood of each class, by the EM algorithm for Student's t (Liu and Rubin, Statistica
    Sinica 5, 1995).
    """
    parts = [values[labels == label] for label in range(metrics.N_CLASSES)]
    models = [_student(part if len(part) >= _FEWEST else values) for part in parts]
    return SizeModel(*map(np.array, zip(*models, strict=True)))


def log_likelihood(model, values):
    """log p(features | class) of images (n, 2): (n, 24) float64."""
    classes = [multivariate_t(*one, FREEDOM) for one in zip(model.location, model.scatter, strict=True)]
    return np.stack([one.logpdf(values) for one in classes], axis=-1)  # (n, 24)


def _student(values):
    """Location (2,) and scatter (2, 2) of a Student t: means in which a point far out counts less."""
    location, scatter = values.mean(axis=0), np.cov(values.T)
    for _ in range(_STEPS):
        apart = values - location
        distance = np.einsum("ni,ij,nj->n", apart, np.linalg.inv(scatter), apart)
        weight = (FREEDOM + 2) / (FREEDOM + distance)
        location = weight @ values / weight.sum()
        apart = values - location
        scatter = (weight[:, None] * apart).T @ apart / len(values)
    return location, scatter
