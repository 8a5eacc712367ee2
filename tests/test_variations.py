"""Profiles beside a profile: what must be refused, and what is read."""

import contextlib

import pytest
from small_runs import GRID, KEY, write

from chromolib import runs, spread, variations
from chromolib.errors import StudyError


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path))


def test_a_profile_without_runs_is_named():
    with pytest.raises(StudyError, match="no finished run of resnet34 on q_band, g_band"):
        variations.protocols("m", *GRID)
    with pytest.raises(StudyError, match="no finished run of resnet34 on q_band, g_band"):
        variations.seeds(runs.results("m", *GRID), "m", [1], *GRID)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            dict(image_size=128, folds_by="cell"),
            r"m_cell, q_band, resnet34, imagenet: image_size is 128, in m it is 96",
        ),
        (dict(seed=1, folds_by="cell"), "seed is 1, in m it is 0; the two may differ in folds_by only"),
        (dict(folds_by="cell", folds=[0, 1, 2]), "folds is"),
        (dict(data={"name": "bioimlab", "digest": "other"}), "trained on other images than m"),
    ],
)
def test_variations_that_differ_in_more_than_their_name_are_refused(changed, words):
    write("m")
    write("m_cell", **changed)
    with pytest.raises(StudyError, match=words):
        variations.protocols("m", *GRID)


def test_a_run_without_predictions_is_named():
    write("m")
    (runs.folder("m", *KEY) / "predictions.parquet").unlink()
    with pytest.raises(StudyError, match=r"predictions\.parquet: missing"):
        variations.protocols("m", *GRID)


def test_only_the_folds_asked_for_are_read():
    write("m")
    found = runs.results("m", *GRID[:3], [1])
    assert list(found.scores["fold"]) == [1] and set(found.predictions[KEY]["fold"]) == {1}


def test_a_seed_profile_must_hold_its_seed():
    write("m")
    write("m_seed2", seed=3)
    base = runs.results("m", *GRID)
    with pytest.raises(StudyError, match="m_seed2: its runs have seed 3"):
        variations.seeds(base, "m", [1, 2], *GRID)


def test_a_profile_with_its_seeds():
    assert variations.with_seeds("m", [1, 2], *GRID).others == ()
    write("m")
    write("m_seed2", seed=2, draw=2, parent_profile="n_seed2")  # draws cells anew, has its own parents
    found = variations.with_seeds("m", [1, 2], *GRID)  # seed 1 was not trained
    assert found.records[KEY]["parameters"]["seed"] == 0
    assert [other.records[KEY]["parameters"]["seed"] for other in found.others] == [2]


def test_a_parameter_younger_than_a_run_had_its_default():
    old = runs.Results(None, {}, {KEY: {"data": {"digest": "a"}, "parameters": {"profile": "m"}}})
    for compiled, fits in ((False, True), (True, False)):
        run = {"data": {"digest": "a"}, "parameters": {"profile": "m_cell", "compiled": compiled}}
        new = runs.Results(None, {}, {KEY: run})
        message = "compiled is True, in m it is False"
        with contextlib.nullcontext() if fits else pytest.raises(StudyError, match=message):
            variations.check(old, new, set())


def test_absent_seeds_are_empty():
    write("m")
    found = variations.seeds(runs.results("m", *GRID), "m", [1], *GRID)
    assert list(found) == [0, 1] and found[1].scores.empty
    table = spread.sources(found, ["q_band"], ["resnet34"], "imagenet")
    assert list(table["source"]) == ["folds, same seed"]
    assert list(variations.overview("m", {"": found[0]}, found)["runs"]) == [1, 0]
