"""How often intervals that promise 95 % hold the truth, by simulation: runs/reference/coverage.

    python benchmarks/coverage.py

The world that is simulated: two approaches are compared by accuracy, in five folds by cell. The difference that an
image shows (-1, 0 or 1) has a mean of

    effect + c + t(fold) + v(cell),    all three normal,

where c is what all five trainings share, because they share most of their images; t is a fold's own training luck; v
says that cells differ. The share of images on which the approaches disagree is fixed. So the fold differences are
correlated by c alone, whose variance is chosen to give the correlation asked for. The values below are ours; those of
the first two intervals depend on them little, for such an interval knows no scale.
"""

import argparse
import time

import numpy as np
import pandas as pd

from chromolib import figures, files, paths, provenance, statistics

FOLDS, CELLS, IMAGES = 5, 65, 46  # cells and images a cell as in the G-band sets
DISAGREE = 0.10  # share of images that one approach has right and the other wrong
EFFECT = 0.01  # true gain: one point
CELL_SD, TRAINING_SD = 0.02, 0.005  # of v and t
CORRELATIONS = (0.0, 0.2, 0.5)  # between fold differences
METHODS = {
    "percentile bootstrap of 5 folds (the paper's)": "the approaches",
    "corrected resampled t of 5 folds": "the approaches",
    "paired bootstrap over cells": "the approaches",
    "paired bootstrap over cells, for the networks as trained": "the networks as trained",
}
_FOLD = np.arange(CELLS) % FOLDS


def studies(n, correlation, rng):
    """n simulated studies: difference of each image (n, CELLS, IMAGES) int8, and the mean of effect + c + t (n,)."""
    own = TRAINING_SD**2 + (CELL_SD**2 + DISAGREE / IMAGES) * FOLDS / CELLS  # variance of a fold but for c
    shared = rng.normal(0, np.sqrt(own * correlation / (1 - correlation)), n)[:, None]
    trained = EFFECT + shared + rng.normal(0, TRAINING_SD, (n, FOLDS))  # (n, FOLDS)
    mean = trained[:, _FOLD] + rng.normal(0, CELL_SD, (n, CELLS))
    uniform = rng.random((n, CELLS, IMAGES), np.float32)
    better = uniform < ((DISAGREE + mean) / 2)[:, :, None]
    worse = uniform > 1 - ((DISAGREE - mean) / 2)[:, :, None]
    return better.astype(np.int8) - worse, trained.mean(axis=1)


def fold_differences(images):
    by_cell = images.mean(axis=2)
    return np.stack([by_cell[:, fold == _FOLD].mean(axis=1) for fold in range(FOLDS)], axis=1)


def predictions(images):
    """Tables of two approaches, as in predictions.parquet, whose difference in accuracy is that of `images`."""
    flat, columns = images.ravel(), [f"logit_{i}" for i in range(24)]
    names = {"file": np.arange(flat.size).astype(str), "cell": np.repeat(np.arange(CELLS), IMAGES), "label": 0}
    for right in (flat >= 0, flat <= 0):  # where neither is better both are right
        logits = np.zeros((flat.size, 24), np.float32)
        logits[:, 1] = np.where(right, -1, 1)
        yield pd.DataFrame(names).join(pd.DataFrame(logits, columns=columns))


def holds(interval, truth):
    return interval.low <= truth <= interval.high


def simulate(n, n_pooled, seed):
    """A row per interval and correlation: covers (share of n simulated studies), with its own 95 % interval."""
    rows = []
    for correlation in CORRELATIONS:
        rng = np.random.default_rng([seed, int(100 * correlation)])
        found = {method: [] for method in METHODS}
        for number in range(n):
            images, trained = studies(1, correlation, rng)
            differences = fold_differences(images)[0]
            values = [holds(statistics.bootstrap_interval(differences, 2000, seed=number), EFFECT)]
            values.append(holds(statistics.corrected_t(differences), EFFECT))
            if number < n_pooled:
                better, worse = predictions(images[0])
                pooled = statistics.paired_bootstrap(better, worse, "accuracy", "cell", 1000, seed=number)
                values += [holds(pooled, EFFECT), holds(pooled, trained[0])]
            for method, value in zip(METHODS, values, strict=False):
                found[method].append(value)
        rows += [_row(method, correlation, values) for method, values in found.items()]
    return pd.DataFrame(rows)


def _row(method, correlation, values):
    share = np.mean(values)
    error = 1.96 * np.sqrt(share * (1 - share) / len(values))
    row = {"interval": method, "truth": METHODS[method], "fold_correlation": correlation, "covers": share}
    return row | {"low": share - error, "high": share + error, "studies": len(values), "nominal": 0.95}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=20_000, help="simulated studies for the two fold intervals")
    parser.add_argument("--pooled", type=int, default=2_000, help="of these, studies for the paired bootstrap")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    start = time.perf_counter()
    table = simulate(chosen.studies, chosen.pooled, chosen.seed).assign(seed=chosen.seed)
    folder = paths.ROOT / "runs" / "reference" / "coverage"
    with files.replacing(folder / "coverage.csv") as temporary:
        table.to_csv(temporary, index=False)
    with files.replacing(folder / "coverage.png") as temporary:
        figures.coverage(table).savefig(temporary, dpi=110)
    print(table.drop(columns="nominal").round(4).to_string(index=False))
    print(f"{time.perf_counter() - start:.0f} s; {provenance.describe()['hardware']}")


if __name__ == "__main__":
    main()
