"""A run's folder: what is written, when it counts as done, what it refuses, and how it goes on."""

import fcntl
import json

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from chromolib import CLASSES, architectures, datasets, device, files, metrics, parameters, runs, training
from chromolib.errors import StudyError


@pytest.fixture
def settings(monkeypatch, own_cache):
    """One epoch on two cells drawn at 32 pixels; the network is the smallest of the study, without ImageNet weights."""
    load = datasets.load

    def few(name, root=None, size=256):
        whole = load(name, root, size)
        part = np.flatnonzero(np.isin(whole.labels, range(21)))[::3]  # three classes fewer, a third of the rest
        fields = {key: getattr(whole, key)[part] for key in ("images", "labels", "cells", "files")}
        return datasets.Dataset(name=name, stain=whole.stain, report=(), digest=files.sha256(__file__) + name, **fields)

    monkeypatch.setattr(datasets, "load", few)
    defaults = parameters.defaults("03_training")
    short = {"task": "q_band", "image_size": 32, "adam_epochs": 1, "sgd_epochs": 1, "folds": [0, 1], "batch_size": 64}
    return defaults | short | {"approach": "scratch", "start": "random"}


def train(settings, root):
    run = runs.Run(settings, root)
    for fold in settings["folds"]:
        run.train(fold)
    run.finish()
    return run.path


def test_a_finished_run_holds_what_the_contract_says(settings, tmp_path):
    path = train(settings, tmp_path)
    assert path == tmp_path / "smoke" / "q_band" / "efficientnet_lite0" / "scratch"
    table, history = pd.read_csv(path / "folds.csv"), pd.read_csv(path / "history.csv")
    predictions = runs.predictions(path)
    logits = predictions[[f"logit_{number}" for number in range(24)]].to_numpy()

    assert list(table["fold"]) == [0, 1]
    assert list(history["epoch"]) == [1, 2, 1, 2]
    for fold, row in table.set_index("fold").iterrows():
        part = predictions["fold"] == fold
        expected = metrics.scores(predictions.loc[part, "label"].to_numpy(), logits[part])
        assert row["macro_f1"] == pytest.approx(expected["macro_f1"])
        assert row["n_validation"] == part.sum()
        best = history[history["fold"] == fold].set_index("epoch")["validation_accuracy"]
        assert row["best_epoch"] == best.idxmax()
        assert row["accuracy"] == pytest.approx(best.max())
        assert row["last_accuracy"] == pytest.approx(best.iloc[-1])
    assert predictions["file"].is_unique

    record = json.loads((path / "run.json").read_text())
    assert record["parameters"] == settings
    assert record["files"].keys() == {"folds.csv", "history.csv", "predictions.parquet", *record["files"]} - {"resume"}
    for name, digest in record["files"].items():
        assert files.sha256(path / name) == digest
    assert not (path / "resume").exists()


def test_the_weights_give_the_predictions_again(settings, tmp_path):
    path = train(settings, tmp_path)
    model = architectures.create("efficientnet_lite0", runs.weights(path, 1), image_size=32)
    rows = runs.predictions(path).query("fold == 1")
    data = datasets.load("synthetic_q", size=32)
    index = [list(data.files).index(file) for file in rows["file"]]
    images = torch.from_numpy(data.images[index])
    model = device.prepare(model, torch.device("cpu"))
    logits = training.predict(model, "efficientnet_lite0", images, settings["precision"])
    np.testing.assert_allclose(rows.filter(like="logit_").to_numpy(), logits.numpy(), rtol=0, atol=1e-5)


def test_two_step_begins_from_the_same_fold_of_the_other_staining(settings, tmp_path):
    parent = train(settings | {"task": "g_band"}, tmp_path)
    child = settings | {"approach": "intermediate", "start": "parent", "parent": "scratch"}
    run = runs.Run(child, tmp_path)
    begin, kept = run.create(1).state_dict(), safetensors.torch.load_file(parent / "fold1.safetensors")
    assert all(torch.equal(begin[name], kept[name]) for name in kept)

    fresh = runs.Run(child | {"keep_head": False}, tmp_path).create(1).state_dict()
    changed = {name for name in kept if not torch.equal(fresh[name], kept[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_ensure_trains_the_parent_first_and_nothing_twice(settings, tmp_path):
    child = settings | {"approach": "intermediate", "start": "parent", "parent": "scratch", "folds": [0]}
    path = runs.ensure(child, tmp_path)
    record = runs.record(path)
    assert record["parent"]["run"] == "smoke/g_band/efficientnet_lite0/scratch"
    assert runs.ensure(child, tmp_path) == path
    assert runs.record(path) == record


def test_interrupted_it_goes_on_with_the_next_fold(settings, tmp_path):
    first = runs.Run(settings, tmp_path)
    first.train(0)
    weights = files.sha256(first.path / "fold0.safetensors")
    with pytest.raises(StudyError, match=r"folds \[1\] are not trained"):
        first.finish()
    assert train(settings, tmp_path) == first.path
    assert files.sha256(first.path / "fold0.safetensors") == weights
    assert len(pd.read_csv(first.path / "folds.csv")) == 2


def test_killed_within_a_fold_it_ends_with_the_same_weights(settings, tmp_path):
    def pull_the_plug(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.Run(settings | {"folds": [0]}, tmp_path / "broken").train(0, pull_the_plug)
    broken = train(settings | {"folds": [0]}, tmp_path / "broken")
    whole = train(settings | {"folds": [0]}, tmp_path / "whole")
    assert runs.record(broken)["files"]["fold0.safetensors"] == runs.record(whole)["files"]["fold0.safetensors"]


def test_other_settings_start_anew(settings, tmp_path):
    runs.Run(settings, tmp_path).train(0)
    other = runs.Run(settings | {"seed": 1}, tmp_path)
    assert not list(other.path.glob("fold*"))


def test_the_epoch_is_chosen_without_the_fold_where_asked(settings, tmp_path):
    run = runs.Run(settings | {"select_on": "inner"}, tmp_path)
    train_part, monitor, validation = run.indices(0)
    assert set(monitor) & set(validation) == set() == set(monitor) & set(train_part)
    assert set(train_part) | set(monitor) | set(validation) == set(range(len(run.data.labels)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "r_band"}, "'task'"),
        ({"architecture": "alexnet"}, "'architecture'.*resnet50"),
        ({"q_band": "nowhere"}, "'q_band'.*bioimlab"),
        ({"folds": [5]}, r"'folds'.*\[5\]"),
        ({"parent": "imagenet"}, "'parent'"),
        ({"start": "parent", "parent": "scratch"}, "g_band.*no finished run"),
        ({"folds_by": "karyotype"}, "'folds_by'"),
        ({"batch_size": 0}, "'batch_size'"),
    ],
)
def test_impossible_settings_stop_before_any_work(settings, tmp_path, change, message):
    with pytest.raises(StudyError, match=message):
        runs.Run(settings | change, tmp_path)
    assert not list(tmp_path.rglob("*.csv"))


def test_a_parent_is_checked(settings, tmp_path):
    parent = train(settings | {"task": "g_band", "folds": [0]}, tmp_path)
    child = settings | {"approach": "intermediate", "start": "parent", "parent": "scratch", "folds": [0]}
    with pytest.raises(StudyError, match="has no fold 1"):
        runs.Run(child | {"folds": [1]}, tmp_path)
    with pytest.raises(StudyError, match="another image_size"):
        runs.Run(child | {"image_size": 64}, tmp_path)
    with pytest.raises(StudyError, match="images of the target itself"):
        runs.Run(child | {"q_band": "synthetic_g"}, tmp_path)

    weights = parent / "fold0.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(StudyError, match=r"fold0\.safetensors: differs from its digest"):
        runs.Run(child, tmp_path)
    weights.unlink()
    with pytest.raises(StudyError, match=r"fold0\.safetensors: missing"):
        runs.Run(child, tmp_path)


def test_weights_of_another_run_are_refused(settings, tmp_path):
    path = train(settings | {"folds": [0]}, tmp_path)
    moved = tmp_path / "smoke" / "g_band" / "efficientnet_lite0" / "scratch"
    moved.parent.mkdir(parents=True)
    path.rename(moved)
    with pytest.raises(StudyError, match="not what its place says"):
        runs.weights(moved, 0)


def test_a_finished_run_is_free_for_others(settings, tmp_path):
    path = train(settings | {"folds": [0]}, tmp_path)
    with open(path / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_two_processes_do_not_share_a_folder(settings, tmp_path):
    run = runs.Run(settings, tmp_path / "one")
    runs.Run(settings, tmp_path / "one")  # the same process may start again
    other = tmp_path / "two" / run.path.relative_to(tmp_path / "one")
    other.mkdir(parents=True)
    with open(other / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StudyError, match="another process"):
            runs.Run(settings, tmp_path / "two")


def test_collect_takes_finished_runs_only(settings, tmp_path):
    assert runs.collect(tmp_path, "smoke").empty
    train(settings, tmp_path)
    runs.Run(settings | {"task": "g_band"}, tmp_path).train(0)
    table = runs.collect(tmp_path, "smoke")
    assert list(table.columns[:4]) == ["task", "architecture", "approach", "fold"]
    assert table[["task", "fold"]].to_numpy().tolist() == [["q_band", 0], ["q_band", 1]]


def test_there_are_24_outputs():
    assert len(CLASSES) == 24
