"""How long the statistics of the paper's grid take: 22 comparisons, each with 10,000 draws over cells.

    python benchmarks/comparisons.py

Simulated predictions of the size of the real ones: 11 architectures on 5,474 images of 119 cells and on 2,986 of 65,
five folds. Prints seconds for `tables.gains`, which makes all three intervals and Holm's correction.
"""

import time

import numpy as np
import pandas as pd

from chromolib import metrics, provenance, tables

SETS = {"q_band": (5_474, 119), "g_band": (2_986, 65)}
ARCHITECTURES = [f"network {number}" for number in range(11)]
DRAWS = 10_000


def simulated(n, cells, right, rng):
    """Predictions and fold scores of a run that has a share `right` of n images right."""
    labels = np.arange(n) % 24
    guesses = np.where(rng.random(n) < right, labels, rng.integers(24, size=n))
    columns = {"file": np.arange(n).astype(str), "cell": np.arange(n) * cells // n, "fold": np.arange(n) // 24 % 5}
    logits = pd.DataFrame(np.eye(24, dtype=np.float32)[guesses], columns=[f"logit_{i}" for i in range(24)])
    table = pd.DataFrame(columns | {"label": labels}).join(logits)
    parts = [table[table["fold"] == fold] for fold in range(5)]
    rows = [metrics.scores(*metrics.arrays(part)) for part in parts]
    sizes = {"n_validation": [len(part) for part in parts], "n_train": [n - len(part) for part in parts]}
    return table, pd.DataFrame(rows).assign(fold=range(5), **sizes)


def main():
    rng, predictions, scores = np.random.default_rng(0), {}, []
    for task, (n, cells) in SETS.items():
        for architecture in ARCHITECTURES:
            for approach, right in (("imagenet", 0.95), ("two_step", 0.96)):
                key = (task, architecture, approach)
                predictions[key], rows = simulated(n, cells, right, rng)
                scores.append(rows.assign(**dict(zip(tables.RUN, key, strict=True))))
    start = time.perf_counter()
    table = tables.gains(pd.concat(scores, ignore_index=True), predictions, draws=DRAWS)
    seconds = time.perf_counter() - start
    print(f"{len(table)} comparisons x {DRAWS} draws: {seconds:.1f} s; {provenance.hardware()}")


if __name__ == "__main__":
    main()
