"""The report page and what is published of a profile."""

import json

import pandas as pd
import pytest

from chromolib import paths, report, runs


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A results folder with one finished run, a table, and things that must not be published."""
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path / "runs"))
    run = runs.folder("small", "q_band", "resnet34", "scratch")
    (run / "resume").mkdir(parents=True)
    record = {
        "parameters": {},
        "parent": None,
        "files": {},
        "data": {"name": "synthetic_q", "n": 10},
        "hardware": {"processor": "P", "device": "cpu"},
        "versions": {"torch": "2.9"},
        "seconds": 90.0,
    }
    for name, text in {
        "run.json": json.dumps(record),
        "folds.csv": "fold\n0\n",
        "fold0.safetensors": "w",
        ".lock": "",
        "resume/settings.json": "{}",
    }.items():
        (run / name).write_text(text)
    report.save_table(pd.DataFrame({"name <b>": ["<script>"], "value": [0.123456]}), "small", "table9")
    return tmp_path / "runs" / "small"


def test_the_page_shows_tables_and_says_what_was_run(results):
    page = report.write("small").read_text()
    assert "1 finished runs; data: synthetic_q (10 images); hardware: P, cpu; torch 2.9" in page
    assert "1.5 minutes" in page
    assert "drawings" in page
    assert "0.1235" in page
    assert "<script>" not in page


def test_an_empty_profile_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path))
    (tmp_path / "none").mkdir()
    assert "No finished training run" in report.write("none").read_text()


def test_weights_and_notebooks_are_not_published(results, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path / "project")
    target = report.publish("small")
    published = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    run = "q_band/resnet34/scratch"
    assert published == {f"{run}/run.json", f"{run}/folds.csv", "tables/table9.csv"}


@pytest.mark.parametrize("words", [[], ["write"], ["wirte", "smoke"], ["write", "smoke", "demo"]])
def test_a_wrong_word_is_answered_with_the_right_ones(words):
    with pytest.raises(SystemExit, match=r"usage: .* write\|publish PROFILE"):
        report.main(words)


def test_a_profile_without_runs_does_not_replace_what_was_published(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path / "runs"))
    kept = tmp_path / "runs" / "reference" / "mini" / "claims.csv"
    kept.parent.mkdir(parents=True)
    kept.touch()
    with pytest.raises(SystemExit, match="report: profile 'mini': no finished run"):
        report.main(["publish", "mini"])
    assert kept.exists()
