"""Making a run: what is written, what is refused, and how it goes on."""

import copy
import errno
import json
import os
import re
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from chromolib import architectures, datasets, device, files, metrics, parameters, provenance, runs, trainer, training
from chromolib.errors import StudyError


def contents(path):
    """The digest of every file of a folder."""
    return {file.name: files.sha256(file) for file in path.rglob("*") if file.is_file()}


def interrupted(settings, root):
    """The folder of a run that stopped after the first of its folds."""
    run = trainer.Run(settings, root)
    run.train(0)
    return run.path


def test_a_finished_run_holds_what_the_contract_says(settings, tmp_path, train):
    path = train(settings, tmp_path)
    assert path == tmp_path / "smoke" / "q_band" / "efficientnet_lite0" / "scratch"
    table, history = pd.read_csv(path / "folds.csv"), pd.read_csv(path / "history.csv")
    predictions = runs.predictions(path)
    logits = predictions[[f"logit_{number}" for number in range(24)]].to_numpy()

    assert list(table["fold"]) == [0, 1]
    assert table[["parts", "compiled"]].to_numpy().tolist() == [[1, False]] * 2  # of the engine
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


def test_the_weights_give_the_predictions_again(settings, tmp_path, train):
    path = train(settings, tmp_path)
    model = architectures.create("efficientnet_lite0", runs.weights(path, 1), image_size=32)
    rows = runs.predictions(path).query("fold == 1")
    data = datasets.load("synthetic_q", size=32)
    index = [list(data.files).index(file) for file in rows["file"]]
    images = torch.from_numpy(data.images[index])
    model = device.prepare(model, torch.device("cpu"))
    logits = training.predict(model, "efficientnet_lite0", images, settings["precision"])
    np.testing.assert_allclose(metrics.arrays(rows)[1], logits.numpy(), rtol=1e-3, atol=1e-5)  # kept in half precision


def test_two_step_begins_from_the_same_fold_of_the_other_staining(settings, tmp_path, train):
    parent = train(settings | {"task": "g_band"}, tmp_path)
    child = settings | {"approach": "intermediate", "start": "parent", "parent": "scratch"}
    run = trainer.Run(child, tmp_path)
    begin, kept = run.create(1).state_dict(), safetensors.torch.load_file(parent / "fold1.safetensors")
    assert all(torch.equal(begin[name], kept[name]) for name in kept)

    fresh = trainer.Run(child | {"keep_head": False}, tmp_path).create(1).state_dict()
    changed = {name for name in kept if not torch.equal(fresh[name], kept[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_ensure_trains_the_parent_first_and_nothing_twice(settings, tmp_path):
    child = settings | {"approach": "intermediate", "start": "parent", "parent": "scratch", "folds": [0]}
    path = trainer.ensure(child, tmp_path)
    record = runs.record(path)
    assert record["parent"]["run"] == "smoke/g_band/efficientnet_lite0/scratch"
    assert trainer.ensure(child, tmp_path) == path
    assert runs.record(path) == record


def test_a_third_staining_is_one_more_task(settings, tmp_path):
    """The tasks come from the parameters: a further one has a parent, and is one, like the paper's two."""
    third = settings | {"c_band": "synthetic_c", "task": "c_band", "folds": [0]}
    with pytest.raises(StudyError, match="'c_band': 'synthetic_c' is not one of"):
        trainer.Run(third, tmp_path)
    third |= {"c_band": "synthetic_g", "g_band": "synthetic_q", "q_band": "synthetic_q"}
    child = third | {"approach": "intermediate", "start": "parent", "parent": "g_band/scratch"}
    assert runs.record(trainer.ensure(child, tmp_path))["parent"]["run"] == "smoke/g_band/efficientnet_lite0/scratch"
    child |= {"task": "q_band", "parent": "c_band/scratch", "c_band": "synthetic_g"}
    assert runs.record(trainer.ensure(child, tmp_path))["parent"]["run"] == "smoke/c_band/efficientnet_lite0/scratch"
    table = runs.verify(tmp_path, "smoke")
    assert {run.split("/")[0] for run in table["run"]} == {"q_band", "g_band", "c_band"}
    assert set(table["state"]) == {"ok"}


def test_interrupted_it_goes_on_with_the_next_fold(settings, tmp_path, train):
    first = trainer.Run(settings, tmp_path)
    first.train(0)
    weights = files.sha256(first.path / "fold0.safetensors")
    with pytest.raises(StudyError, match=r"folds \[1\] are not trained"):
        first.finish()
    assert train(settings, tmp_path) == first.path
    assert files.sha256(first.path / "fold0.safetensors") == weights
    assert len(pd.read_csv(first.path / "folds.csv")) == 2


def test_killed_within_a_fold_it_ends_with_the_same_weights(settings, tmp_path, train, every_epoch):
    def pull_the_plug(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.Run(settings | {"folds": [0]}, tmp_path / "broken").train(0, pull_the_plug)
    with files.replacing(tmp_path / "broken" / "x.csv") as part:  # as a kill would leave it
        shutil.copy(part, tmp_path / "broken" / "smoke" / "q_band" / "efficientnet_lite0" / "scratch")
    broken = train(settings | {"folds": [0]}, tmp_path / "broken")
    whole = train(settings | {"folds": [0]}, tmp_path / "whole")
    broken, whole = runs.record(broken), runs.record(whole)
    assert broken["files"]["fold0.safetensors"] == whole["files"]["fold0.safetensors"]
    assert broken["files"].keys() == whole["files"].keys()
    assert (broken["sessions"], whole["sessions"]) == (2, 1)


def test_its_time_is_that_of_all_sessions(settings, tmp_path, monkeypatch, train, every_epoch):
    def pull_the_plug(row):
        raise KeyboardInterrupt

    monkeypatch.setattr("chromolib.provenance.now", iter(["first", "end"]).__next__)  # asked for again, it would stop
    with pytest.raises(KeyboardInterrupt):
        trainer.Run(settings | {"folds": [0]}, tmp_path).train(0, pull_the_plug)
    path = train(settings | {"folds": [0]}, tmp_path)
    assert (runs.record(path)["started"], runs.record(path)["finished"]) == ("first", "end")
    epochs = pd.read_csv(path / "history.csv")["seconds"]
    assert pd.read_csv(path / "folds.csv")["seconds"].iloc[0] > epochs.sum() - 0.01


@pytest.mark.parametrize("finished", [False, True])
def test_a_parent_trained_again_since_is_said(settings, tmp_path, train, finished):
    child = settings | {"approach": "intermediate", "start": "parent", "parent": "scratch", "folds": [0]}
    parent = train(settings | {"task": "g_band"}, tmp_path)
    run = trainer.Run(child, tmp_path)
    run.train(0)
    if finished:
        run.finish()
    record = json.loads((parent / "run.json").read_text())
    (parent / "run.json").write_text(json.dumps(record | {"finished": "later"}))
    before = contents(run.path)
    with pytest.raises(StudyError, match=r"trained again since.*delete" if finished else "holds a run with parent"):
        trainer.Run(child, tmp_path)
    assert contents(run.path) == before


@pytest.mark.fault(26)
def test_a_full_disk_costs_an_epoch_and_nothing_that_was_saved(settings, tmp_path, train, every_epoch):
    resource = pytest.importorskip("resource")
    settings = settings | {"folds": [0]}
    whole = runs.record(train(settings, tmp_path / "whole"))
    limits, first = resource.getrlimit(resource.RLIMIT_FSIZE), trainer.Run(settings, tmp_path / "full")

    def fill_the_disk(row):  # from now on every write beyond a megabyte fails
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))

    try:
        with pytest.raises(StudyError, match=r"fold0\.pt: cannot be written.*what was there before is kept"):
            first.train(0, fill_the_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert set(os.listdir(first.path / "resume")) == {"session.json", "fold0.pt", "fold0-best1.pt"}
    resumed = runs.record(train(settings, tmp_path / "full"))
    assert resumed["sessions"] == 2
    assert resumed["files"]["fold0.safetensors"] == whole["files"]["fold0.safetensors"]


@pytest.mark.fault(26)
def test_a_read_only_folder_is_said_before_any_work(settings, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"scratch: cannot be written.*CHROMOLIB_RUNS"):
        trainer.Run(settings, tmp_path / "file")

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(StudyError, match=r"session\.json: cannot be written.*Read-only"):
        trainer.Run(settings, tmp_path / "runs")


@pytest.mark.fault(25)
def test_too_little_disk_is_said_before_anything_is_done(settings, tmp_path, monkeypatch):
    path = interrupted(settings, tmp_path)
    before = contents(path)
    size = (path / "fold0.safetensors").stat().st_size
    two_folds, two_states, one_fold_there = 2 * size, 2 * 4 * size, size
    needed = two_folds + two_states + trainer.MARGIN - one_fold_there
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(0.99 * needed)))
    with pytest.raises(StudyError, match=rf"writes up to {needed / 2**30:.2f} GiB, but only .* GiB are free"):
        trainer.Run(settings, tmp_path)
    assert contents(path) == before
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(1.01 * needed)))
    trainer.Run(settings, tmp_path)


@pytest.mark.fault(24)
def test_a_device_that_cannot_hold_the_images_is_said(settings, tmp_path, monkeypatch):
    def full(_):
        raise torch.AcceleratorError("CUDA error: out of memory")

    monkeypatch.setattr(torch, "from_numpy", full)
    with pytest.raises(StudyError, match=r"out of memory.*image_size"):
        trainer.Run(settings, tmp_path)


@pytest.mark.fault(25)
def test_shared_memory_is_not_used():
    for file in (parameters.NOTEBOOKS.parent / "chromolib").glob("*.py"):
        assert not re.search("DataLoader|multiprocessing|share_memory", file.read_text()), file.name


@pytest.mark.fault(23)
def test_a_run_that_diverged_is_not_trained_again_and_not_counted(settings, tmp_path, train):
    diverging = settings | {"adam_learning_rate": 1e38, "folds": [0]}
    first = trainer.Run(diverging, tmp_path)
    with pytest.raises(StudyError, match="the training loss is"):
        first.train(0)
    with pytest.raises(StudyError, match=r"the training loss is.*would end so again.*delete"):
        trainer.Run(diverging, tmp_path)
    assert runs.collect(tmp_path, "smoke").empty
    train(settings | {"folds": [0]}, tmp_path)
    assert len(runs.collect(tmp_path, "smoke")) == 1


def test_first_weights_that_cannot_be_had_cost_nothing(settings, tmp_path, monkeypatch):
    path = interrupted(settings, tmp_path)
    before = contents(path)

    def unreachable(*_, **__):
        raise StudyError("ImageNet weights cannot be reached")

    monkeypatch.setattr(architectures, "create", unreachable)
    with pytest.raises(StudyError, match="cannot be reached"):
        trainer.Run(settings, tmp_path)
    assert contents(path) == before


@pytest.mark.fault(22)
def test_copies_on_both_sides_of_a_fold_are_reported(settings, tmp_path, changed):
    def copy(data):
        data.images[data.labels == 3] = data.images[data.labels == 3][0]

    assert "copy" not in str(trainer.Run(settings, tmp_path).data.report)
    changed("synthetic_q", copy)
    (words,) = trainer.Run(settings, tmp_path).data.report
    data = datasets.load("synthetic_q", size=32)
    assert words.startswith(f"{np.sum(data.labels == 3)} images have an exact copy in the training part of their fold")


def test_a_finished_run_is_given_back_and_not_touched(settings, tmp_path, train):
    path = train(settings, tmp_path)
    before, times = contents(path), {file: file.stat().st_mtime_ns for file in path.iterdir()}
    run = trainer.Run(settings | {"parent_profile": "elsewhere"}, tmp_path)  # which these runs, without parents, ignore
    rows = [run.train(fold) for fold in settings["folds"]]
    assert run.finish() == run.finish() == runs.record(path)
    pd.testing.assert_frame_equal(pd.DataFrame(rows), pd.read_csv(path / "folds.csv"))
    assert run.indices(0)[0].size and run.data.labels.size
    with pytest.raises(StudyError, match="fold 2 is not among"):
        run.train(2)
    assert contents(path) == before
    assert {file: file.stat().st_mtime_ns for file in path.iterdir()} == times


def test_killed_just_before_its_end_it_leaves_no_resume_state(settings, tmp_path, train, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)  # killed after run.json, before the resume state went
        path = train(settings | {"folds": [0]}, tmp_path)
    assert (path / "resume").exists()
    train(settings | {"folds": [0]}, tmp_path)
    assert not (path / "resume").exists()


def test_begun_before_a_parameter_was_there_it_goes_on(settings, tmp_path, train):
    path = interrupted(settings, tmp_path)
    file = path / "resume" / "session.json"
    session = json.loads(file.read_text())
    del session["of"]["draw"]  # its default is what it was trained with
    file.write_text(json.dumps(session))
    weights = files.sha256(path / "fold0.safetensors")
    assert runs.record(train(settings, tmp_path))["files"]["fold0.safetensors"] == weights


def test_it_says_of_every_session_on_what_machine_it_was(settings, tmp_path, train, monkeypatch):
    here, older = provenance.describe(), copy.deepcopy(provenance.describe())
    older["hardware"]["processor"], older["project"]["commit"] = "an older one", "0" * 40
    with monkeypatch.context() as patched:
        patched.setattr(provenance, "describe", lambda: older)
        interrupted(settings, tmp_path)
    record = runs.record(train(settings, tmp_path))
    assert record["earlier"] == [older] and record["hardware"] == here["hardware"] and record["sessions"] == 2


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_a_network_is_not_trained_in_two_number_formats(settings, tmp_path, train, monkeypatch, precision):
    settings, other = settings | {"precision": precision}, copy.deepcopy(provenance.describe())
    other["hardware"]["bfloat16"] = not other["hardware"]["bfloat16"]
    with monkeypatch.context() as patched:
        patched.setattr(provenance, "describe", lambda: other)
        path = interrupted(settings, tmp_path)
    if precision == "auto":
        before = contents(path)
        with pytest.raises(StudyError, match=r"was begun in (bf16|fp32) on .*Go on on one like it"):
            trainer.Run(settings, tmp_path)
        assert contents(path) == before
    else:
        assert len(runs.record(train(settings, tmp_path))["earlier"]) == 1


def test_only_a_run_is_deleted(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label")
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StudyError, match="no run here"):
            trainer.delete(str(path))
    assert [file.name for file in tmp_path.iterdir()] == ["labels.csv"]


@pytest.mark.parametrize("finished", [False, True])
def test_other_settings_in_its_place_are_refused_until_it_is_deleted(settings, tmp_path, train, finished):
    run = trainer.Run(settings | {"folds": [0]}, tmp_path)
    run.train(0)
    if finished:
        run.finish()
    before, other = contents(run.path), settings | {"seed": 1, "batch_size": 32, "folds": [0]}
    words = r"holds a run with (batch_size 64, not 32; )?seed 0, not 1.*`profile`.*trainer\.delete"
    for open_it in (trainer.Run, trainer.ensure):
        with pytest.raises(StudyError, match=words):
            open_it(other, tmp_path)
    assert contents(run.path) == before
    trainer.delete(str(run.path))
    assert not contents(run.path).keys() & before.keys() - {".lock"}
    train(other, tmp_path)


def delete_until_killed(path, number):
    unlink = Path.unlink

    def die(file, **options):
        nonlocal number
        number -= 1
        if number < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        unlink(file, **options)

    Path.unlink = die
    trainer.delete(path)


@pytest.mark.fault(5)
@pytest.mark.parametrize("number", (1, 3))  # of the files that are gone by then
def test_killed_while_deleting_no_fold_is_taken_for_trained_without_its_weights(
    settings, tmp_path, train, killed_in, number
):
    settings = settings | {"folds": [0]}
    run = trainer.Run(settings, tmp_path)
    run.train(0)
    trainer._locks.pop(run.path).release()
    killed_in(delete_until_killed, run.path, number)
    assert "fold0.safetensors" in runs.record(train(settings, tmp_path))["files"]


def test_a_finished_run_on_other_images_is_refused(settings, tmp_path, train, changed):
    path = train(settings | {"folds": [0]}, tmp_path)
    changed("synthetic_q", lambda data: None)
    with pytest.raises(StudyError, match="holds a run with images"):
        trainer.Run(settings | {"folds": [0]}, tmp_path)
    assert (path / "run.json").exists()


def test_the_epoch_is_chosen_without_the_fold_where_asked(settings, tmp_path):
    run = trainer.Run(settings | {"select_on": "inner"}, tmp_path)
    train_part, monitor, validation = run.indices(0)
    assert set(monitor) & set(validation) == set() == set(monitor) & set(train_part)
    assert set(train_part) | set(monitor) | set(validation) == set(range(len(run.data.labels)))


def test_few_cells_are_learned_from_and_more_draws_hold_the_fewer(settings, tmp_path):
    few, more, other = (
        trainer.Run(settings | {"folds_by": "cell", "select_on": "last", "train_cells": number, "draw": draw}, tmp_path)
        for number, draw in ((3, 0), (6, 0), (3, 1))
    )
    cells = [set(run.data.cells[run.indices(0)[0]]) for run in (few, more, other)]
    assert [len(part) for part in cells] == [3, 6, 3]
    assert cells[0] < cells[1] and cells[0] != cells[2]
    train, _, validation = few.indices(0)
    assert not cells[1] & set(few.data.cells[validation])
    assert sorted(train) == [i for i, cell in enumerate(few.data.cells) if cell in cells[0]]
    assert np.array_equal(validation, more.indices(0)[2])


def test_more_cells_than_there_are(settings, tmp_path):
    run = trainer.Run(settings | {"folds_by": "cell", "train_cells": 60}, tmp_path)
    with pytest.raises(StudyError, match="'train_cells': 60, but the training part has"):
        run.train(0)


def test_shuffled_labels_are_taught_and_true_ones_are_scored(settings, tmp_path):
    true, control = (
        trainer.Run(settings | {"approach": kind, "taught_labels": kind}, tmp_path) for kind in ("true", "shuffled")
    )
    assert np.array_equal(true.labels.cpu().numpy(), true.data.labels)
    taught = control.labels.cpu().numpy()
    assert np.array_equal(np.bincount(taught), np.bincount(control.data.labels))
    assert (taught == control.data.labels).mean() < 0.1
    control.train(0)
    rows = pd.read_parquet(control.path / "predictions.parquet")
    assert np.array_equal(rows["label"], control.data.labels[control.indices(0)[2]])


def test_the_last_epoch_is_kept_where_asked(settings, tmp_path):
    run = trainer.Run(settings | {"select_on": "last"}, tmp_path)
    row = run.train(0)
    rows = pd.read_parquet(run.path / "predictions.parquet")
    assert row["best_epoch"] == run.recipe.epochs
    assert np.array_equal(rows[metrics.LOGITS].to_numpy(), rows[metrics.LAST_LOGITS].to_numpy())


def test_a_parent_of_another_profile(settings, tmp_path, train):
    parent = train(settings | {"task": "g_band", "folds": [0]}, tmp_path)
    child = settings | {"profile": "curve", "start": "parent", "parent": "scratch", "folds": [0]}
    with pytest.raises(StudyError, match=r"curve.*no finished run"):
        trainer.Run(child, tmp_path)
    child = child | {"parent_profile": settings["profile"], "approach": "intermediate", "presentation": "reduced_48"}
    path = train(child, tmp_path)
    assert runs.record(path)["parent"]["run"] == "/".join(parent.parts[-4:])
    states = runs.verify(tmp_path, "curve")
    assert set(states["state"]) == {"ok"}


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
        ({"profile": "../elsewhere"}, "'profile'.*names no folder"),
        ({"approach": ""}, "'approach'.*names no folder"),
        ({"train_cells": -1}, "'train_cells': -1"),  # which would be all but one
        ({"split_seed": -1}, "'split_seed': -1"),
        ({"seed": 2**70}, "'seed'.*from 0 to"),
        ({"inner_parts": 1}, "'inner_parts': 1"),
    ],
)
def test_impossible_settings_stop_before_any_work(settings, tmp_path, change, message):
    with pytest.raises(StudyError, match=message):
        trainer.Run(settings | change, tmp_path)
    assert not list(tmp_path.rglob("*.csv"))


@pytest.mark.fault(7, 9, 11)
def test_a_parent_is_checked(settings, tmp_path, train):
    parent = train(settings | {"task": "g_band", "folds": [0]}, tmp_path)
    child = settings | {"approach": "intermediate", "start": "parent", "parent": "scratch", "folds": [0]}
    with pytest.raises(StudyError, match="has no fold 1"):
        trainer.Run(child | {"folds": [1]}, tmp_path)
    with pytest.raises(StudyError, match="another image_size"):
        trainer.Run(child | {"image_size": 64}, tmp_path)
    with pytest.raises(StudyError, match="images of the target itself"):
        trainer.Run(child | {"q_band": "synthetic_g"}, tmp_path)

    weights = parent / "fold0.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(StudyError, match=r"fold0\.safetensors: differs from its digest"):
        trainer.Run(child, tmp_path)
    weights.unlink()
    with pytest.raises(StudyError, match=r"fold0\.safetensors: missing"):
        trainer.Run(child, tmp_path)


@pytest.mark.fault(10)
def test_a_parent_that_failed_or_is_of_another_profile_is_refused(settings, tmp_path, train):
    child = settings | {"approach": "intermediate", "start": "parent", "parent": "scratch", "folds": [0]}
    failed = tmp_path / "smoke" / "g_band" / "efficientnet_lite0" / "scratch"
    failed.mkdir(parents=True)
    (failed / "training.ipynb").write_text("{}")
    with pytest.raises(StudyError, match=r"g_band.*no finished run here"):
        trainer.Run(child, tmp_path)
    train(settings | {"task": "g_band", "folds": [0]}, tmp_path)
    shutil.copytree(tmp_path / "smoke", tmp_path / "other")
    with pytest.raises(StudyError, match=r"other/g_band.*not what its place says"):
        trainer.Run(child | {"profile": "other"}, tmp_path)


@pytest.mark.fault(9, 11)
def test_a_parents_images_are_those_of_now_and_none_of_the_targets(settings, tmp_path, changed, train):
    train(settings | {"task": "g_band", "folds": [0]}, tmp_path)
    child = settings | {"approach": "intermediate", "start": "parent", "parent": "scratch", "folds": [0]}
    foreign = datasets.load("synthetic_g", size=32).images[5]

    def take_one(data):
        data.images[7] = foreign

    changed("synthetic_q", take_one)
    with pytest.raises(StudyError, match="trained on 1 images of the target itself"):
        trainer.Run(child, tmp_path)
    changed("synthetic_g", lambda data: None)
    with pytest.raises(StudyError, match="not on synthetic_g as it is now; train it again"):
        trainer.Run(child, tmp_path)


def test_a_finished_run_is_free_for_others(settings, tmp_path, train):
    fcntl = pytest.importorskip("fcntl")
    path = train(settings | {"folds": [0]}, tmp_path)
    with open(path / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.fault(27)
def test_two_processes_do_not_share_a_folder(settings, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    run = trainer.Run(settings, tmp_path / "one")
    trainer.Run(settings, tmp_path / "one")  # the same process may start again
    other = tmp_path / "two" / run.path.relative_to(tmp_path / "one")
    other.mkdir(parents=True)
    with open(other / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StudyError, match="another process"):
            trainer.Run(settings, tmp_path / "two")
