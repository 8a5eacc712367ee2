"""Homologues and near-copies on both sides of a fold, from data whose answers are known."""

import numpy as np
import pandas as pd
import pytest
from small_runs import KEY, predictions

from chromolib import datasets, folds, leaks, runs
from chromolib.errors import StudyError


def test_homologues_are_told_by_fold():
    """In each of four cells both 1 are in fold 0, one of them wrong; the 2, all right, lie in both folds."""
    rows = [(cell, label, fold) for cell in "abcd" for label, fold in ((0, 0), (0, 0), (1, 0), (1, 1), (22, 0))]
    table = pd.DataFrame(rows, columns=["cell", "label", "fold"]).assign(file=[str(i) for i in range(20)])
    guesses = table["label"].where(np.arange(20) % 5 != 0, 9)
    table = table.join(pd.DataFrame(np.eye(24)[guesses], columns=[f"logit_{i}" for i in range(24)]))
    found = runs.Results(pd.DataFrame(), {KEY: table}, {})
    row = leaks.homologues(found, 200).iloc[0]
    assert (row["n_trained_on"], row["n_validated"]) == (8, 8)  # the X has no homologue
    assert (row["trained_on"], row["validated"], row["difference"]) == (100, 50, 50)


def test_cell_wise_folds_have_no_homologue_in_training():
    row = leaks.homologues(runs.Results(None, {KEY: predictions(by="cell")}, {}), 50).iloc[0]
    assert row["n_trained_on"] == 0 and np.isnan(row["difference"]) and np.isnan(row["trained_on"])


def drawn(copy_of=None):
    """Drawings of twelve cells; with `copy_of` (i, j) image i is image j again."""
    data = datasets.load("synthetic_q", size=32)
    if copy_of:
        images = np.array(data.images)
        images[copy_of[0]] = images[copy_of[1]]
        data = datasets.Dataset(**(vars(data) | {"images": images}))
    return data


def copies(data, monkeypatch, threshold=1 - 1e-6, digest=None):
    settings = {"image_size": 32, "n_folds": 5, "split_seed": 0}
    record = {"parameters": settings, "data": {"name": data.name, "digest": digest or data.digest}}
    monkeypatch.setattr(datasets, "load", lambda name, size: data)
    return leaks.near_copies(record, threshold)


@pytest.mark.parametrize("far", [False, True], ids=["in one fold", "in two folds"])
def test_near_copies_across_folds(monkeypatch, far):
    data = drawn()
    fold = {by: np.empty(len(data.files), int) for by in ("image", "cell")}
    for by, places in fold.items():
        for number, (_, part) in enumerate(folds.split(data.labels, data.cells, 5, by, 0)):
            places[part] = number
    same_cell = data.cells == data.cells[0]
    other = np.flatnonzero(same_cell & ((fold["image"] != fold["image"][0]) == far))[-1]
    table = copies(drawn((other, 0)), monkeypatch).set_index("folds")
    assert list(table["pairs"]) == [1, 1] and list(table["same_cell"]) == [1, 1]
    assert list(table["across"]) == [int(far), 0]  # cell-mates stay together in folds by cell
    assert table.loc["image", "images"] == 2 * far
    assert table.loc["image", "share"] == pytest.approx(100 * 2 * far / len(data.files))


def test_near_copies_without_the_images_are_not_run(monkeypatch):
    data = drawn()
    assert list(copies(data, monkeypatch, digest="another")["state"]) == ["not run"]

    def absent(name, size):
        raise StudyError("not here")

    monkeypatch.setattr(datasets, "load", absent)
    record = {"parameters": {"image_size": 96}, "data": {"name": "bioimlab", "digest": "d"}}
    assert list(leaks.near_copies(record, 0.99)["state"]) == ["not run"]
