"""Spread over seeds and folds, by hand."""

import numpy as np
import pandas as pd
import pytest
from small_runs import KEY

from chromolib import runs, spread


def seeded(values):
    """Results of several seeds with the Macro-F1 and accuracy given, {seed: [fold 0, fold 1]}."""
    found = {}
    for seed, scores in values.items():
        rows = pd.DataFrame({"fold": range(len(scores)), "macro_f1": scores, "accuracy": scores, "n_validation": 400})
        rows = rows.assign(task=KEY[0], architecture=KEY[1], approach=KEY[2])
        found[seed] = runs.Results(rows, {}, {})
    return found


def test_spread_by_hand():
    """Percentages 80 82 | 84 88: within fold 0 variance 8, within fold 1 18; within the seeds 2 and 8."""
    table = spread.sources(seeded({0: [0.80, 0.82], 1: [0.84, 0.88]}), [KEY[0]], [KEY[1]], KEY[2]).set_index("source")
    assert table.loc["seeds, same fold", "sd"] == pytest.approx(np.sqrt((8 + 18) / 2))
    assert table.loc["folds, same seed", "sd"] == pytest.approx(np.sqrt((2 + 8) / 2))
    # Two degrees of freedom: chi squared is exponential, its quantiles -2 log(1 - q).
    low, high = np.sqrt(2 * 13 / (-2 * np.log([0.025, 0.975])))
    row = table.loc["seeds, same fold"]
    assert (row["low"], row["high"], row["freedom"]) == pytest.approx((low, high, 2))


def test_spread_of_one_seed_has_folds_only():
    table = spread.sources(seeded({0: [0.8, 0.9]}), [KEY[0]], [KEY[1]], KEY[2], "accuracy").set_index("source")
    assert list(table.index) == ["folds, same seed", "images alone"]
    assert table.loc["images alone", "sd"] == pytest.approx(100 * np.sqrt(0.85 * 0.15 / 400))


def test_spread_looks_at_the_folds_that_all_seeds_have():
    table = spread.sources(seeded({0: [0.8, 0.9], 1: [0.8]}), [KEY[0]], [KEY[1]], KEY[2])
    assert set(table["n_folds"]) == {1} and list(table["source"]) == ["seeds, same fold"]
