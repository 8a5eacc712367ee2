"""Seeds and folds as sources of spread: how far scores of the same training lie apart."""

import itertools

import numpy as np
import pandas as pd

from chromolib import statistics


def sources(seeded, tasks, architectures, approach, metric="macro_f1"):
    """Seeds against folds as sources of spread: DataFrame, a row per task, architecture and source.

    seeded: {seed: Results}, on the same folds. Sources: "seeds, same fold" (root of the mean
    variance over seeds within a fold), "folds, same seed" (the same with the parts exchanged), and,
    for accuracy, "images alone": the standard deviation sqrt(p (1 - p) / n) of a share of n
    independent images. sd, low, high: in points, with the 95 % interval of a standard deviation of
    normal values (chi squared, `freedom` degrees). Fewer than two seeds give no first row.
    """
    rows = []
    for task, architecture in itertools.product(tasks, architectures):
        key = (task, architecture, approach)
        grid = _grid(seeded, key, metric)  # (seeds, folds)
        start = {"task": task, "architecture": architecture, "seeds": len(grid), "n_folds": grid.shape[1]}
        rows += [start | row for row in _sources(100 * grid.to_numpy())]
        if metric == "accuracy" and grid.size:
            n = seeded[grid.index[0]].folds(key)["n_validation"].mean()
            share = grid.to_numpy().mean()
            rows.append(start | {"source": "images alone", "sd": 100 * np.sqrt(share * (1 - share) / n)})
    columns = ["task", "architecture", "source", "seeds", "n_folds", "sd", "low", "high", "freedom"]
    return pd.DataFrame(rows).reindex(columns=columns)


def _grid(seeded, key, metric):
    """The metric of every seed (row) on every fold (column) that all seeds have."""
    rows = {seed: results.folds(key).set_index("fold") for seed, results in seeded.items()}
    return pd.DataFrame({seed: scores[metric] for seed, scores in rows.items() if len(scores)}).T.dropna(axis=1)


def _sources(grid):
    for source, values in (("seeds, same fold", grid.T), ("folds, same seed", grid)):
        repeats, n = values.shape  # the spread over n values, seen so many times
        if n > 1 and repeats:
            sd, low, high, _ = statistics.sd_interval(values)
            yield {"source": source, "sd": sd, "low": low, "high": high, "freedom": repeats * (n - 1)}
