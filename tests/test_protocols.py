"""Scores under each protocol, from small runs whose answers are known."""

import numpy as np
import pytest
from small_runs import GRID, predictions, write

from chromolib import leaks, metrics, protocols, variations, whole_cells


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path))


def scored():
    table = protocols.scores(variations.protocols("m", *GRID), ["q_band"], ["resnet34"], "imagenet", 200)
    return table.set_index("protocol")


def test_protocols_that_were_not_run_say_so():
    write("m", last=0.01)
    table = scored()
    assert list(table.index) == list(protocols.PROTOCOLS)
    assert list(table["state"]) == ["run", "run", *["not run"] * 4]
    assert table.iloc[2:, 3:].isna().all(axis=None)


def test_protocols_score_what_the_runs_hold():
    cellwise, inner = predictions(by="cell", wrong=0.4), predictions(wrong=0.3)
    write("m", last=0.01)
    write("m_cell", table=cellwise, folds_by="cell", last=-0.02)
    write("m_inner", table=inner, select_on="inner")
    table = scored()
    assert list(table["state"]) == [*["run"] * 5, "not run"]
    for name, rows in (("cell-wise, best epoch", cellwise), ("image-wise, inner selection", inner)):
        logits, labels = rows.filter(regex="^logit_").to_numpy(), rows["label"].to_numpy()
        row = table.loc[name]
        assert row["pooled_accuracy"] == pytest.approx(100 * (logits.argmax(1) == labels).mean())
        assert row["pooled_macro_f1"] == pytest.approx(100 * metrics.scores(labels, logits)["macro_f1"])
        assert row["pooled_macro_f1_low"] < row["pooled_macro_f1"] < row["pooled_macro_f1_high"]
        assert (row["images"], row["cells"]) == (len(rows), rows["cell"].nunique())
    # The mean over the folds, of the epoch that is meant.
    last, best = table.loc["cell-wise, last epoch"], table.loc["cell-wise, best epoch"]
    assert last["macro_f1"] == pytest.approx(best["macro_f1"] + 2) and np.isnan(last["pooled_macro_f1"])
    first = table.loc["image-wise, best epoch (the paper's)"]
    assert table.loc["image-wise, last epoch", "accuracy"] == pytest.approx(first["accuracy"] - 1)


def test_a_profile_under_another_protocol_is_called_by_it():
    """By cell, the epoch chosen on an inner part: nothing of it is the paper's, and its cells are no cell-mates'."""
    write("m", table=predictions(by="cell", wrong=0.4), folds_by="cell", select_on="inner", last=-0.02)
    table = scored()
    assert list(table.index) == ["cell-wise, last epoch", "cell-wise, inner selection"]
    varied = variations.protocols("m", *GRID)
    assert set(whole_cells.scores(varied, 100)["protocol"]) == {"cell-wise"}
    changes = protocols.changes(varied, *GRID[:2], "imagenet", "accuracy", 200)
    assert changes["protocol"].tolist() == ["cell-wise, last epoch"]
    assert changes["change"].iloc[0] == pytest.approx(2)
    assert set(protocols.gains(varied, 100)["folds"]) <= {"cell-wise"}


def test_changes_are_differences_from_the_papers_protocol():
    paper, cellwise = predictions(30, seed=1), predictions(30, by="cell", wrong=0.5)
    write("m", table=paper, last=0.03)
    write("m_cell", table=cellwise, folds_by="cell", last=0.03)
    varied = variations.protocols("m", *GRID)
    table = protocols.changes(varied, *GRID[:2], "imagenet", "accuracy", 200).set_index("protocol")
    assert list(table.index) == ["image-wise, last epoch", "cell-wise, best epoch", "cell-wise, last epoch"]
    assert table.loc["image-wise, last epoch", "change"] == pytest.approx(-3)
    right = {
        name: (t.filter(regex="^logit_").to_numpy().argmax(1) == t["label"])
        for name, t in (("a", cellwise), ("b", paper))
    }
    row = table.loc["cell-wise, best epoch"]
    assert row["pooled_change"] == pytest.approx(100 * (right["a"].mean() - right["b"].mean()))
    assert row["pooled_change_low"] < row["pooled_change"] < row["pooled_change_high"] < 0 and row["p"] < 0.05
    common = sorted(set(cellwise["file"]) & set(paper["file"]))
    assert row["common_images"] == len(common) > 0
    means = [right[name][t["file"].isin(common)].mean() for name, t in (("a", cellwise), ("b", paper))]
    assert row["common_change"] == pytest.approx(100 * (means[0] - means[1]))


def test_the_same_predictions_do_not_differ():
    write("m")
    write("m_inner", select_on="inner")
    row = protocols.changes(variations.protocols("m", *GRID), *GRID[:2], "imagenet", draws=200).iloc[-1]
    assert row["protocol"] == "image-wise, inner selection"
    assert row[["change", "pooled_change", "common_change"]].tolist() == [0, 0, 0] and row["p"] == 1


def test_images_are_drawn_where_cells_are_unknown():
    write("m", table=predictions(cells=False))
    varied = variations.protocols("m", *GRID)
    assert scored()["resampled"].iloc[0] == "image"
    assert leaks.homologues(varied[""]).empty and "difference" in leaks.homologues(varied[""])
    assert whole_cells.scores(varied).empty and "macro_f1_decoded" in whole_cells.scores(varied)
    assert whole_cells.by_cell(varied[""], "imagenet").empty
