"""How often intervals that promise 95 % hold the truth, by simulation: runs/reference/coverage.

    python benchmarks/coverage.py

The world that is simulated: two approaches are compared by accuracy, in five folds by cell. The difference that an
image shows (-1, 0 or 1) has a mean of

    effect + c + t(fold) + v(cell),    all three normal,

where c is what all five trainings share, because they share most of their images; t is a fold's own training luck; v
says that cells differ. The share of images on which the approaches disagree is fixed. So the fold differences are
correlated by c alone, whose variance is chosen to give the correlation asked for. The values below are ours; those of
the first two intervals depend on them little, for such an interval knows no scale.

A second table, coverage_seeds.csv, asks for intervals about the approaches where each of two or five folds was trained
with one, two or three seeds, in a world of greater training luck, as it was measured at small scale. Half of the images
have noise of their own, the same whatever the seed; the other half falls anew with each training. Of several seeds the
fold differences are means. Each row is kept as soon as it is there; started again it goes on, --again starts over.
"""

import argparse
import itertools
import time

import numpy as np
import pandas as pd

from chromolib import figures, files, paths, provenance, statistics

FOLDS, CELLS, IMAGES = 5, 65, 46  # cells and images a cell as in the G-band sets
DISAGREE = 0.10  # share of images that one approach has right and the other wrong
EFFECT = 0.01  # true gain: one point
CELL_SD, TRAINING_SD = 0.02, 0.005  # of v and t
CORRELATIONS = (0.0, 0.2, 0.5)  # between fold differences
GREATER_LUCK = 0.02  # of t in the second table: SD of one training in the difference of two approaches
SHARED = 0.5  # share of images whose noise is the same for each seed
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
    names = {"file": np.arange(flat.size).astype(str), "cell": np.repeat(np.arange(len(images)), IMAGES), "label": 0}
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
        rows += [_row(method, METHODS[method], correlation, values) for method, values in found.items()]
    return pd.DataFrame(rows)


def seeded(n_seeds, n_folds, correlation, rng):
    """One study of the second table: difference of each image (n_seeds, cells, IMAGES) int8, and the cells' folds."""
    n_cells = CELLS * n_folds // FOLDS
    fold = np.arange(n_cells) % n_folds
    own = GREATER_LUCK**2 + (CELL_SD**2 + DISAGREE / IMAGES) * n_folds / n_cells  # variance of a fold but for c
    shared = rng.normal(0, np.sqrt(own * correlation / (1 - correlation)))
    trained = EFFECT + shared + rng.normal(0, GREATER_LUCK, (n_seeds, n_folds))
    mean = (trained[:, fold] + rng.normal(0, CELL_SD, n_cells))[:, :, None]
    uniform = rng.random((n_seeds, n_cells, IMAGES))
    uniform = np.where(rng.random((n_cells, IMAGES)) < SHARED, uniform[0], uniform)
    return (uniform < (DISAGREE + mean) / 2).astype(np.int8) - (uniform > 1 - (DISAGREE - mean) / 2), fold


def intervals(images, fold, number):
    """The three intervals of a study as from `seeded`, {name: Interval}."""
    n_seeds, n_folds = len(images), fold.max() + 1
    by_cell = images.mean(axis=(0, 2))
    differences = np.array([by_cell[fold == k].mean() for k in range(n_folds)])
    tables = [[t.assign(fold=np.repeat(fold, IMAGES)) for t in predictions(one)] for one in images]
    better, worse = zip(*tables, strict=True)
    found = {
        "percentile bootstrap of the folds (the paper's)": statistics.bootstrap_interval(
            differences, 2000, seed=number
        ),
        "corrected resampled t of the folds": statistics.corrected_t(differences),
    }
    if n_seeds == 1:
        pooled = statistics.paired_bootstrap(better[0], worse[0], "accuracy", "cell", 1000, seed=number)
        return found | {"paired bootstrap over cells (these networks)": pooled}
    parts = [("cell", [(1, better), (-1, worse)])]
    return found | {"trainings and cells": statistics.contrast(parts, "accuracy", 1000, seed=number)}


def simulate_seeds(n, seed, n_folds, n_seeds, correlation):
    """The rows of the second table for one world, as `simulate`."""
    rng = np.random.default_rng([seed, n_folds, n_seeds, int(100 * correlation)])
    found = {}
    for number in range(n):
        for method, interval in intervals(*seeded(n_seeds, n_folds, correlation, rng), number).items():
            found.setdefault(method, []).append((holds(interval, EFFECT), interval.high - interval.low))
    rows = []
    for method, values in found.items():
        covers, width = np.transpose(values)
        row = {"n_folds": n_folds, "seeds": n_seeds} | _row(method, "the approaches", correlation, covers)
        rows.append(row | {"median_width": np.median(width)})
    return pd.DataFrame(rows)


def _row(method, truth, correlation, values):
    share = np.mean(values)
    error = 1.96 * np.sqrt(share * (1 - share) / len(values))
    row = {"interval": method, "truth": truth, "fold_correlation": correlation, "covers": share}
    return row | {"low": share - error, "high": share + error, "studies": len(values), "nominal": 0.95}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=20_000, help="simulated studies for the two fold intervals")
    parser.add_argument("--pooled", type=int, default=2_000, help="of these, studies for the paired bootstrap")
    parser.add_argument("--seeded", type=int, default=700, help="simulated studies for each row of the second table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="leave nothing of what is there")
    chosen = parser.parse_args()
    folder, start = paths.ROOT / "runs" / "reference" / "coverage", time.perf_counter()
    if chosen.again or not (folder / "coverage.csv").exists():
        table = simulate(chosen.studies, chosen.pooled, chosen.seed).assign(seed=chosen.seed)
        _save(table, folder / "coverage.csv")
        with files.replacing(folder / "coverage.png") as temporary:
            figures.coverage(table).savefig(temporary, dpi=110)
    kept = folder / "coverage_seeds.csv"
    done = pd.read_csv(kept) if kept.exists() and not chosen.again else pd.DataFrame()
    for world in itertools.product((2, FOLDS), (1, 2, 3), CORRELATIONS[:2]):
        if len(done) and (done[["n_folds", "seeds", "fold_correlation"]] == list(world)).all(axis=1).any():
            continue
        new = simulate_seeds(chosen.seeded, chosen.seed, *world).assign(seed=chosen.seed)
        done = pd.concat([done, new], ignore_index=True)
        _save(done, kept)
    for name in ("coverage.csv", "coverage_seeds.csv"):
        print(pd.read_csv(folder / name).drop(columns="nominal").round(4).to_string(index=False))
    print(f"{time.perf_counter() - start:.0f} s; {provenance.describe()['hardware']}")


def _save(table, file):
    with files.replacing(file) as temporary:
        table.to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
