"""Reading a whole cell at once: a normal cell holds two of each autosome, and XX or XY.

A classifier that looks at one image at a time may call five chromosomes of a cell a 9. Here the chromosomes of a cell
are labelled together, so that their product of probabilities is the largest that any karyotype allows [ours]; the
assignment problem behind it is solved exactly (`scipy.optimize.linear_sum_assignment`).
"""

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.special import log_softmax

from chromolib import metrics
from chromolib.errors import StudyError

N_CHROMOSOMES = 46
_KARYOTYPES = [np.array([*np.repeat(np.arange(22), 2), 22, second]) for second in (22, 23)]  # XX, XY


def decode(log_probabilities, cells):
    """The likeliest labels of all images, those of a cell together: (n,) int64.

    log_probabilities: (n, 24) float, finite; cells: (n,) names. Both sexes are tried and the likelier is kept.

    A cell with 46 images fills a karyotype; with fewer (a lost chromosome, or only part of the cell at hand) places
    stay empty, so that no class occurs more often than in a normal cell. With more all places are filled, and each
    image beyond 46 may be a further copy of any class: with 47 images the likeliest trisomy. Two deviations that
    cancel, such as one lost and another gained among 46, are not considered. Raises StudyError for unknown cells and
    for shapes or values that cannot be decoded.
    """
    log_probabilities, cells = _check(log_probabilities, cells)
    labels = np.empty(len(cells), np.int64)
    members = np.unique(cells, return_inverse=True)[1]
    for rows in np.split(np.argsort(members, kind="stable"), np.cumsum(np.bincount(members))[:-1]):
        fits = [_fit(log_probabilities[rows], karyotype) for karyotype in _KARYOTYPES]
        labels[rows] = max(fits, key=lambda fit: fit[0])[1]
    return labels


def decoded(predictions):
    """A table as in predictions.parquet, its logits replaced: 1 for the label decoded with its cell, 0 for the others.

    So everything that scores predictions scores these, but for the AUC, which has no meaning here. Cells are decoded
    from all rows given: pooled over folds each row is still the word of a network that has not trained on its image.
    """
    labels = decode(log_softmax(predictions[metrics.LOGITS].to_numpy(np.float64), axis=1), predictions["cell"])
    certain = pd.DataFrame(np.eye(metrics.N_CLASSES)[labels], columns=metrics.LOGITS, index=predictions.index)
    return predictions.drop(columns=metrics.LOGITS).join(certain)


def by_cell(predictions, decoded):
    """How a table and its `decoded` fare in each cell: DataFrame cell, images, plain, decoded (images right), change.

    The cells where decoding hurts come first.
    """
    both = (predictions, decoded)
    right = [table[metrics.LOGITS].to_numpy().argmax(axis=1) == table["label"].to_numpy() for table in both]
    table = pd.DataFrame({"cell": predictions["cell"].to_numpy(), "images": 1, "plain": right[0], "decoded": right[1]})
    table = table.groupby("cell", as_index=False).sum()
    return table.assign(change=table["decoded"] - table["plain"]).sort_values(
        "change", kind="stable", ignore_index=True
    )


def _fit(log_probabilities, karyotype):
    """Log-probability and labels (m,) of the best assignment of m images to the places of a karyotype."""
    spare = max(0, len(log_probabilities) - N_CHROMOSOMES)
    places = np.concatenate([karyotype, np.tile(np.arange(metrics.N_CLASSES), spare)])
    worth = log_probabilities[:, places]
    if spare:  # more than any rearrangement could gain, so that no place stays empty while a spare one is taken
        worth[:, :N_CHROMOSOMES] += 1 + len(worth) * np.ptp(log_probabilities)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return log_probabilities[rows, places[columns]].sum(), places[columns]


def _check(log_probabilities, cells):
    if cells is None or pd.isna(cells).any():
        raise StudyError("cells: unknown for some images (as in CIR); only whole cells can be decoded")
    log_probabilities, cells = np.asarray(log_probabilities, np.float64), np.asarray(cells, str)
    if log_probabilities.shape != (len(cells), metrics.N_CLASSES) or len(cells) == 0:
        raise StudyError(
            f"log_probabilities: shape {log_probabilities.shape} does not fit {len(cells)} cells; "
            f"expected a row of {metrics.N_CLASSES} for each image"
        )
    if not np.isfinite(log_probabilities).all():
        raise StudyError("log_probabilities: NaN or infinite values; take log_softmax of finite logits in float64")
    return log_probabilities, cells
