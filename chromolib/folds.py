"""Cross-validation folds, stratified by class; by image as in the paper, by cell or by patient.

Whole karyotypes were kept on one side of a split by Poletti et al. in 2008 already (PubMed
19163063).
"""

import numpy as np

from chromolib import CLASSES, duplicates, metrics
from chromolib.errors import StudyError

BY = ("image", "cell", "patient")  # what may stay together


def split(labels, cells=None, n_folds=5, by="image", seed=0):
    """Shuffled stratified folds: list of n_folds pairs (train, validation) of int64 index arrays, ascending.

    labels: (n,) integers 0..23; cells: (n,) names of what stays together, needed unless by="image".
    by="image" is the paper's protocol (scikit-learn's StratifiedKFold): images of one cell fall on
    both sides. by="cell" keeps every cell on one side (StratifiedGroupKFold), classes then being
    balanced only nearly; by="patient" is the same with names of patients. Raises StudyError for
    fewer than two folds, a label outside 0..23, a class with fewer images than folds, and for
    by="cell" or "patient" with unknown or too few names.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # a machine that only reads has none

    labels, cells = metrics.check_labels(labels), None if cells is None else np.asarray(cells)
    _check(labels, cells, n_folds, by)
    splitter, groups = (StratifiedKFold, None) if by == "image" else (StratifiedGroupKFold, cells)
    parts = splitter(n_folds, shuffle=True, random_state=seed).split(labels, labels, groups)
    return [(train.astype(np.int64), validation.astype(np.int64)) for train, validation in parts]


def inner(labels, train, cells=None, by="image", seed=0, parts=5):
    """Part of the training images that chooses the epoch, so that the fold itself is touched once.

    labels, cells: (n,) as for `split`; train: indices into them. Returns (train, monitor), int64
    indices into the same arrays: one of `parts` equal parts of `train`, split like the folds
    themselves, becomes the monitor; more where a class has fewer images there than parts, or there
    are fewer cells (a half where it has two). Raises as `split`, and for a class with one image there.
    """
    train = np.asarray(train, np.int64)
    part_labels = metrics.check_labels(np.asarray(labels)[train])
    part_cells = None if cells is None else np.asarray(cells)[train]
    single = [CLASSES[label] for label in np.flatnonzero(np.bincount(part_labels) == 1)]
    if single:
        raise StudyError(
            "select_on: inner needs two training images of each chromosome, one of them to choose the epoch, but in a "
            f"fold there is one only of: {', '.join(single)}. Add images, or take another `select_on` in the profile."
        )
    fewest = np.unique(part_labels, return_counts=True)[1].min(initial=parts)
    if by != "image" and part_cells is not None:
        fewest = min(fewest, len(np.unique(part_cells)))
    kept, monitor = split(part_labels, part_cells, n_folds=max(2, fewest), by=by, seed=seed)[0]
    return train[kept], train[monitor]


def duplicates_across(folds, images):
    """Identical images on both sides of a fold: list of (fold, training index, validation index), folds from 0.

    folds: as `split` returns them; images: (n, h, w) uint8. Empty where no fold leaks.
    """
    groups = duplicates.identical(images)
    found = []
    for fold, (train, validation) in enumerate(folds):
        train, validation = set(train.tolist()), set(validation.tolist())
        found += [(fold, i, j) for group in groups for i in group if i in train for j in group if j in validation]
    return found


def _check(labels, cells, n_folds, by):
    if by not in BY:
        raise StudyError(f"folds by {by!r}: take one of {', '.join(BY)}")
    if not isinstance(n_folds, int | np.integer) or n_folds < 2:
        raise StudyError(f"n_folds: {n_folds!r} folds are not possible; take a whole number from 2 on")
    counts = np.bincount(labels)
    small = [f"{CLASSES[label]} ({counts[label]})" for label in np.flatnonzero((counts > 0) & (counts < n_folds))]
    if small:
        raise StudyError(
            f"n_folds: {n_folds} folds, but of these chromosomes there are fewer images: {', '.join(small)}. "
            "Take fewer folds or more images."
        )
    if by != "image":
        _check_groups(labels, cells, n_folds, by)


def _check_groups(labels, cells, n_folds, by):
    if cells is None:
        raise StudyError(
            f'folds by "{by}": the cells of this data set are unknown (as in CIR, whose file names do not tell the '
            'cell of an image), so no split can keep them apart. Take folds by "image", or a set with cells.'
        )
    if cells.shape != labels.shape:
        raise StudyError(f"cells: {len(cells)} names for {len(labels)} labels; give one for each image")
    if len(np.unique(cells)) < n_folds:
        raise StudyError(
            f"n_folds: {n_folds} folds by {by}, but only {len(np.unique(cells))} to keep apart. Take fewer: "
            "`n_folds: 2` and `folds: [0, 1]` in the profile"
        )
