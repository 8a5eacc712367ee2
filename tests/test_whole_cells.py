"""Scores of cells decoded together, from small runs."""

import pytest
from small_runs import KEY, predictions

from chromolib import karyotype, runs, whole_cells


def test_whole_cells_are_counted_and_scored():
    rows = predictions(by="cell", wrong=0.1)
    found = runs.Results(None, {KEY: rows}, {})
    nothing = runs.Results(None, {}, {})
    row = whole_cells.scores({"": nothing, "cell": found, "cell_inner": nothing}, 100).iloc[0]
    assert row["protocol"] == "cell-wise"
    assert row["cells"] == row["whole"] == rows["cell"].nunique()
    decoded = karyotype.decoded(rows)
    right = (decoded.filter(regex="^logit_").to_numpy().argmax(1) == rows["label"]).mean()
    assert row["accuracy_decoded"] == pytest.approx(100 * right)
    assert row["accuracy_change"] == pytest.approx(row["accuracy_decoded"] - row["accuracy"])
    cells = whole_cells.by_cell(found, "imagenet")
    assert cells["decoded"].sum() == round(right * len(rows)) and set(cells["run"]) == {"q_band, resnet34"}
    assert (row["better"], row["worse"]) == ((cells["change"] > 0).sum(), (cells["change"] < 0).sum())
    part = runs.Results(None, {KEY: predictions(by="image")}, {})
    table = whole_cells.scores({"": part, "cell": found, "cell_inner": nothing}, 100)
    assert list(table["protocol"]) == ["image-wise", "cell-wise"] and table["whole"].iloc[0] == 0
