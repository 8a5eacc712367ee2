"""A run's folder: found, read, and checked against what was written."""

import shutil

import pandas as pd
import pytest
import small_runs
from sklearn.metrics import balanced_accuracy_score

from chromolib import metrics, paths, runs, tables, trainer
from chromolib.errors import StudyError

REFERENCE = paths.ROOT / "runs"


@pytest.mark.fault(9)
def test_weights_of_another_run_are_refused(settings, tmp_path, train):
    path = train(settings | {"folds": [0]}, tmp_path)
    moved = tmp_path / "smoke" / "g_band" / "efficientnet_lite0" / "scratch"
    moved.parent.mkdir(parents=True)
    path.rename(moved)
    with pytest.raises(StudyError, match="not what its place says"):
        runs.weights(moved, 0)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(StudyError, match=r"run\.json: (damaged|lacks)"):
        runs.record(tmp_path)


def test_a_table_that_is_cut_or_of_an_older_version_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path))
    small_runs.write("old", ("q_band", "resnet34", "imagenet"))
    file = runs.folder("old", "q_band", "resnet34", "imagenet") / "predictions.parquet"
    table = pd.read_parquet(file)
    table.drop(columns=["cell", "logit_3"]).to_parquet(file)
    with pytest.raises(StudyError, match=r"predictions.parquet: lacks cell, logit_3 \(an older version\?\); train"):
        runs.predictions(file.parent)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(StudyError, match=r"predictions.parquet: damaged .* train the run again"):
        runs.collect(tmp_path, "old")
    table.to_parquet(file)
    (file.parent / "folds.csv").write_text("")
    with pytest.raises(StudyError, match=r"folds.csv: damaged .* train the run again"):
        runs.collect(tmp_path, "old")


def test_verify_finds_what_is_wrong(settings, tmp_path, capsys, monkeypatch, train):
    parent = train(settings | {"task": "g_band", "folds": [0]}, tmp_path / "good")
    child = settings | {"approach": "intermediate", "start": "parent", "parent": "scratch", "folds": [0]}
    path = train(child, tmp_path / "good").relative_to(tmp_path / "good")
    parent = parent.relative_to(tmp_path / "good")
    weights = path / "fold0.safetensors"

    def flip(file):
        data = bytearray(file.read_bytes())
        data[-9] ^= 4
        file.write_bytes(data)

    def wrong(damage):
        """What verify says of a copy after the damage: {file: state}, without what is fine."""
        root = tmp_path / "copy"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(tmp_path / "good", root)
        damage(root)
        table = runs.verify(root, "smoke")
        rows = table[table["state"] != "ok"]
        return {f"{row.run}/{row.file}": row.state for row in rows.itertuples()}

    run = "/".join(path.parts[-3:])
    assert wrong(lambda root: None) == {}
    assert set(wrong(lambda root: flip(root / weights))) == {f"{run}/fold0.safetensors"}
    assert set(wrong(lambda root: flip(root / path / "predictions.parquet"))) == {f"{run}/predictions.parquet"}
    assert wrong(lambda root: (root / path / "folds.csv").unlink()) == {f"{run}/folds.csv": "missing"}
    assert wrong(lambda root: (root / weights).unlink()) == {f"{run}/fold0.safetensors": "not kept"}
    assert wrong(lambda root: (root / path / "more.csv").touch()) == {f"{run}/more.csv": "unknown to run.json"}
    assert "no run.json" in wrong(lambda root: (root / path / "run.json").unlink())[f"{run}/run.json"]
    assert "damaged" in wrong(lambda root: (root / path / "run.json").write_text("{"))[f"{run}/run.json"]
    assert "is missing" in wrong(lambda root: shutil.rmtree(root / parent))[f"{run}/parent"]
    assert "trained again" in wrong(lambda root: (root / parent / "run.json").write_text("{}"))[f"{run}/parent"]
    found = wrong(lambda root: shutil.copytree(root / path, root / path.with_name("two_step")))
    assert {name.split("/")[-1]: state[:5] for name, state in found.items()} == {
        "run.json": "is of",
        "fold0.safetensors": "holds",
    }

    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path / "copy"))
    for damage, status in ((lambda root: (root / weights).unlink(), 0), (lambda root: flip(root / weights), 1)):
        wrong(damage)
        with pytest.raises(SystemExit) as exit:
            runs.main(["verify", "smoke"])
        assert exit.value.code == status
    assert f"{run}/fold0.safetensors: differs from its digest" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="'nothing': no run of it"):
        runs.main(["verify", "nothing"])


@pytest.mark.parametrize("name", sorted(path.parent.name for path in REFERENCE.glob("reference/*/q_band")))
def test_the_reference_results_are_as_they_were_written(name, capsys, monkeypatch):
    monkeypatch.setenv("CHROMOLIB_RUNS", str(REFERENCE))
    with pytest.raises(SystemExit) as exit:
        runs.main(["verify", f"reference/{name}"])
    assert exit.value.code == 0, capsys.readouterr().out
    table = runs.verify(REFERENCE, f"reference/{name}")
    assert set(table["state"]) == {"ok", "not kept"}
    assert all(file.startswith(("fold", "monitor")) for file in table[table["state"] == "not kept"]["file"])


def test_collect_takes_finished_runs_only(settings, tmp_path, train):
    assert runs.collect(tmp_path, "smoke").empty
    train(settings, tmp_path)
    trainer.Run(settings | {"task": "g_band"}, tmp_path).train(0)
    table = runs.collect(tmp_path, "smoke")
    assert list(table.columns[:4]) == ["task", "architecture", "approach", "fold"]
    assert table[["task", "fold"]].to_numpy().tolist() == [["q_band", 0], ["q_band", 1]]


def test_a_metric_that_came_later_is_there_for_every_finished_run(monkeypatch):
    scores = metrics.scores

    def more(labels, logits):
        return scores(labels, logits) | {"balanced": balanced_accuracy_score(labels, logits.argmax(axis=1))}

    monkeypatch.setattr(metrics, "scores", more)
    monkeypatch.setattr(tables, "METRICS", [*tables.METRICS, "balanced"])
    table = tables.performance(runs.collect(REFERENCE, "reference/mini"))
    row = table.set_index(tables.RUN).loc["q_band", "efficientnet_lite0", "imagenet"]
    rows = runs.predictions(runs.folder("reference/mini", *row.name, REFERENCE))
    expected = [balanced_accuracy_score(*labels_and_guesses(part)) for _, part in rows.groupby("fold")]
    assert row["balanced_mean"] == pytest.approx(100 * sum(expected) / 2)


def labels_and_guesses(rows):
    return rows["label"], rows.filter(regex=r"^logit_\d+$").to_numpy().argmax(axis=1)


def test_what_folds_csv_says_is_what_the_predictions_say(settings, tmp_path, train):
    """Of the best epoch and of the last one."""
    path = train(settings | {"adam_epochs": 2}, tmp_path)
    written = pd.read_csv(path / "folds.csv")
    computed = runs.collect(tmp_path, "smoke")[list(written.columns)]
    pd.testing.assert_frame_equal(computed, written, check_dtype=False)
    without = pd.read_parquet(path / "predictions.parquet").drop(columns=metrics.LAST_LOGITS)
    without.to_parquet(path / "predictions.parquet")  # as of a run from before they were kept
    pd.testing.assert_frame_equal(runs.collect(tmp_path, "smoke")[list(written.columns)], written, check_dtype=False)
