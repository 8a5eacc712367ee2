"""Similarity beside gain, from small runs."""

import pandas as pd
import pytest
from small_runs import GRID, predictions

from chromolib import runs, transfer

SIMILARITIES = pd.DataFrame(
    {"pair": ["G-Q", "G-natural", "Q-natural"], "mmd2": [0.1, 0.3, 0.2], "coral": [3e-5, 1e-5, 2e-5]}
).assign(bandwidth="median_distance")


def four_approaches():
    """Shares wrong such that, on both tasks, ImageNet gives more than the other staining."""
    wrong = {"scratch": 0.7, "intermediate": 0.6, "imagenet": 0.2, "two_step": 0.1}
    tables = {(task, "resnet34", name): predictions(wrong=w) for task in GRID[0] for name, w in wrong.items()}
    scores = [(*key, fold, 0.5, 368, 92) for key in tables for fold in (0, 1)]
    columns = ["task", "architecture", "approach", "fold", "macro_f1", "n_train", "n_validation"]
    return runs.Results(pd.DataFrame(scores, columns=columns), tables, {})


def test_transfer_sets_gain_beside_similarity():
    steps = transfer.steps(four_approaches(), SIMILARITIES, 100)
    assert len(steps) == 6
    pairs = steps.set_index(["step", "task"])["pair"]
    assert pairs["imagenet - scratch", "q_band"] == "Q-natural" and pairs["imagenet - scratch", "g_band"] == "G-natural"
    assert set(pairs["intermediate - scratch"]) == set(pairs["two_step - imagenet"]) == {"G-Q"}
    assert (steps["low"] < steps["gain"]).all() and (steps["gain"] < steps["high"]).all()
    agreement = transfer.rank_agreement(steps).set_index("measure")
    # By MMD² the other staining is nearer, by CORAL ImageNet; ImageNet gave more.
    assert list(agreement["targets"]) == [2, 2] and list(agreement["nearer_gave_more"]) == [0, 2]
    assert list(agreement["n"]) == [4, 4] and agreement["smallest_p"].to_numpy() == pytest.approx(2 / 24)


def test_transfer_without_similarities_or_runs_is_empty():
    assert transfer.steps(four_approaches(), None).empty
    nothing = transfer.rank_agreement(transfer.steps(four_approaches(), None))
    assert list(nothing["targets"]) == [0, 0] and nothing["tau"].isna().all()
