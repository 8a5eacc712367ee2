"""What a network has seen of the images that it is scored on: their homologues, and near-copies of them."""

import numpy as np
import pandas as pd

from chromolib import datasets, duplicates, folds, intervals, metrics, statistics, tables
from chromolib.errors import StudyError


def homologues(results, draws=10_000, seed=0):
    """Does a network do better on images whose homologue it has learned from? DataFrame, a row per run.

    The homologue is the other image of the class in the cell. In the fold of an image it was either
    validated beside it or trained on. trained_on, validated: accuracy of either kind, in per cent,
    of n_trained_on and n_validated images; difference: trained_on - validated, in points, with low,
    high, p over cells. Autosomes only; one whose homologue the data set lacks counts as trained on
    (regular cells lack none). NaN where a kind has no images, as the first has none with folds by
    cell. Runs on data without cells have no row.
    """
    rows = [
        dict(zip(tables.RUN, key, strict=True)) | _homologues(predictions, draws, seed)
        for key, predictions in results.predictions.items()
        if tables.groups(predictions)
    ]
    columns = ["n_trained_on", "n_validated", "trained_on", "validated", *intervals.columns("difference"), "p"]
    return pd.DataFrame(rows, columns=[*tables.RUN, *columns])


def _homologues(predictions, draws, seed):
    autosomes = predictions[predictions["label"] < 22]
    beside = autosomes.groupby(["cell", "label", "fold"])["file"].transform("size")
    trained, validated = autosomes[beside == 1], autosomes[beside == 2]
    interval = intervals.UNKNOWN
    if len(trained) and len(validated):
        interval = statistics.unmatched_bootstrap(trained, validated, "accuracy", "cell", draws, seed=seed)
    row = {"n_trained_on": len(trained), "n_validated": len(validated), "p": interval.p}
    row |= {"trained_on": 100 * _accuracy(trained), "validated": 100 * _accuracy(validated)}
    return row | interval.points("difference")


def _accuracy(table):
    labels, logits = metrics.arrays(table)
    return (logits.argmax(axis=1) == labels).mean() if len(table) else np.nan


def near_copies(record, threshold):
    """Near-identical images on both sides of folds cut by image and by cell, where the images are at hand: DataFrame.

    record: content of a run.json; its data set is loaded, and cut into its folds. A row per way to
    cut: data, folds, state, pairs (correlation of thumbnails at least `threshold`, see
    `duplicates.near_identical`), same_cell and same_class (of these), across (those in two folds:
    each image is then validated by a network that has seen the other), images (in such pairs),
    share (of all images, per cent). Where the set cannot be loaded, or is another than the run's,
    state is "not run".
    """
    settings, name = record["parameters"], record["data"]["name"]
    columns = ["data", "folds", "state", "pairs", "same_cell", "same_class", "across", "images", "share"]
    try:
        data = datasets.load(name, size=settings["image_size"])
    except StudyError:
        data = None
    if data is None or data.digest != record["data"]["digest"]:
        return pd.DataFrame([{"data": name, "state": "not run"}], columns=columns)
    pairs = duplicates.near_identical(data.images, threshold)
    ways = ("image", "cell") if data.cells is not None else ("image",)
    return pd.DataFrame([_copies(data, by, settings, pairs) for by in ways], columns=columns)


def _copies(data, by, settings, pairs):
    first, second = np.array([pair[:2] for pair in pairs], np.int64).reshape(-1, 2).T
    splits = folds.split(data.labels, data.cells, settings["n_folds"], by, settings["split_seed"])
    fold = np.empty(len(data.files), np.int64)
    for number, (_, held_out) in enumerate(splits):
        fold[held_out] = number
    across = fold[first] != fold[second]
    hit = len({*first[across], *second[across]})
    same_cell = (data.cells[first] == data.cells[second]).sum() if data.cells is not None else np.nan
    row = {"data": data.name, "folds": by, "state": "run", "pairs": len(pairs), "same_cell": same_cell}
    row |= {"same_class": (data.labels[first] == data.labels[second]).sum(), "across": across.sum()}
    return row | {"images": hit, "share": 100 * hit / len(data.files)}
