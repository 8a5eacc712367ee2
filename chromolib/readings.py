"""How a run's answers are read: calibrated, and, where sizes are known, with the size of the chromosome as evidence.

Each fold has a reading of its own. Its weights are chosen on the monitor part of the fold, which
its training used for nothing but the epoch; its size model knows only the sizes of the images it
was trained on. A run whose epoch was chosen on the reported images (`select_on: validation`) has no
such part: its answers are then read as they are.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from chromolib import calibration, datasets, metrics, runs, sizes
from chromolib.errors import StudyError


class Reading(NamedTuple):
    """weights (k,): of the logits and, with a model of sizes, of its log-likelihood; calibrated: whether chosen."""

    weights: np.ndarray
    size_model: sizes.SizeModel | None
    calibrated: bool

    def log_probabilities(self, logits, values=None):
        """(n, 24) of logits (n, 24) and, with a size model, the images' `sizes.features` (n, 2)."""
        evidence = [np.asarray(logits, np.float64)]
        if self.size_model is not None:
            evidence.append(sizes.log_likelihood(self.size_model, values))
        return calibration.combine(evidence, self.weights)


def data_of(path):
    """The data set that the run in folder `path` was trained on, as Dataset; it must be at hand."""
    settings = runs.record(path)["parameters"]
    return datasets.load(settings[settings["task"]], size=settings["image_size"])


def reading(path, fold, data=None):
    """The Reading of a fold of the run in folder `path`; with sizes where `data`, the run's Dataset, is given."""
    held, monitor = runs.predictions(path), _monitor(path)
    held, monitor = held[held["fold"] == fold], monitor[monitor["fold"] == fold]
    model, evidence = None, [monitor[metrics.LOGITS].to_numpy(np.float64)]
    if data is not None:
        values = sizes.features(data.sizes, data.cells)
        trained = ~np.isin(data.files, [*held["file"], *monitor["file"]])
        model = sizes.fit(values[trained], data.labels[trained])
        evidence.append(sizes.log_likelihood(model, values[positions(data, monitor)]))
    if monitor.empty:
        return Reading(np.ones(len(evidence)), model, calibrated=False)
    return Reading(calibration.weights(evidence, monitor["label"].to_numpy()), model, calibrated=True)


def answers(path, data=None):
    """The predictions of a run as its folds' readings have them: as in predictions.parquet, logits replaced.

    The logits are log-probabilities then: of the calibrated network, and of the size too where
    `data` is given.
    """
    parts = []
    for fold, rows in runs.predictions(path).groupby("fold"):
        values = None if data is None else sizes.features(data.sizes, data.cells)[positions(data, rows)]
        found = reading(path, fold, data).log_probabilities(rows[metrics.LOGITS], values)
        parts.append(rows.assign(**dict(zip(metrics.LOGITS, found.T, strict=True))))
    return pd.concat(parts).sort_index()  # folds may have been trained in any order


def _monitor(path):
    """The rows of monitor.parquet; none where the run has no such part."""
    file = path / runs.MONITOR
    return pd.read_parquet(file) if file.exists() else runs.predictions(path).iloc[:0]


def positions(data, table):
    """Where the images of a table stand in the data set."""
    places = pd.Index(data.files).get_indexer(table["file"])
    if (places < 0).any():
        raise StudyError(f"{data.name}: {(places < 0).sum():,} images of the run are not in it; give the run's own set")
    return places
