"""Validity tables from small fake runs whose answers are known, and what must be refused."""

import contextlib
import json

import numpy as np
import pandas as pd
import pytest

from chromolib import datasets, folds, karyotype, metrics, runs, validity
from chromolib.errors import StudyError

GRID = (["q_band", "g_band"], ["resnet34"], ["imagenet", "two_step"], [0, 1])
KEY = ("q_band", "resnet34", "imagenet")
LABELS = np.array([*np.repeat(np.arange(22), 2), 22, 23])  # of one male cell


def predictions(n_cells=10, wrong=0.2, by="image", seed=0, cells=True):
    """Folds 0 and 1 of five of a set of whole male cells; a share of the images goes to the next class."""
    labels, cell = np.tile(LABELS, n_cells), np.repeat(np.arange(n_cells), len(LABELS))
    rng = np.random.default_rng(seed)
    guesses = np.where(rng.random(len(labels)) < wrong, (labels + 1) % 24, labels)
    number = np.empty(len(labels), int)
    for fold, (_, part) in enumerate(folds.split(labels, cell, 5, by, seed=0)):
        number[part] = fold
    table = pd.DataFrame({"file": [f"{i}.png" for i in range(len(labels))], "cell": None, "fold": number})
    if cells:
        table["cell"] = [f"cell {name}" for name in cell]
    logits = pd.DataFrame(np.float32(5 * np.eye(24)[guesses]), columns=[f"logit_{i}" for i in range(24)])
    return pd.concat([table.assign(label=labels), logits], axis=1).query("fold < 2").reset_index(drop=True)


def write(profile, key=KEY, table=None, last=0.0, data=None, **changed):
    """A finished run as `runs` leaves it, of these predictions; `last` is what the last epoch scores less."""
    table = predictions() if table is None else table
    path = runs.folder(profile, *key)
    path.mkdir(parents=True)
    rows = []
    for fold, part in table.groupby("fold"):
        scores = metrics.scores(part["label"].to_numpy(), part.filter(regex="^logit_").to_numpy())
        scores |= {f"last_{name}": scores[name] - last for name in ("macro_f1", "accuracy", "auc_ovr")}
        rows.append({"fold": fold, "n_train": 368, "n_validation": len(part), **scores})
    pd.DataFrame(rows).to_csv(path / "folds.csv", index=False)
    table.to_parquet(path / "predictions.parquet")
    settings = {"profile": profile.split("/")[-1], "task": key[0], "approach": key[2], "image_size": 96, "seed": 0}
    settings |= {"folds_by": "image", "select_on": "validation", "n_folds": 5, "folds": [0, 1], "split_seed": 0}
    record = {"parameters": settings | changed, "data": data or {"name": "bioimlab", "digest": "d"}}
    record |= {"parent": None, "files": {}}
    (path / "run.json").write_text(json.dumps(record))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path))
    return tmp_path


def protocols(**options):
    table = validity.protocols(validity.variations("m", *GRID), ["q_band"], ["resnet34"], "imagenet", 200)
    return table.set_index("protocol")


def test_protocols_that_were_not_run_say_so():
    write("m", last=0.01)
    table = protocols()
    assert list(table.index) == list(validity.PROTOCOLS)
    assert list(table["state"]) == ["run", "run", *["not run"] * 4]
    assert table.iloc[2:, 3:].isna().all(axis=None)


def test_protocols_score_what_the_runs_hold():
    cellwise, inner = predictions(by="cell", wrong=0.4), predictions(wrong=0.3)
    write("m", last=0.01)
    write("m_cell", table=cellwise, folds_by="cell", last=-0.02)
    write("m_inner", table=inner, select_on="inner")
    table = protocols()
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


def test_changes_are_differences_from_the_papers_protocol():
    paper, cellwise = predictions(30, seed=1), predictions(30, by="cell", wrong=0.5)
    write("m", table=paper, last=0.03)
    write("m_cell", table=cellwise, folds_by="cell", last=0.03)
    varied = validity.variations("m", *GRID)
    table = validity.changes(varied, *GRID[:2], "imagenet", "accuracy", 200).set_index("protocol")
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
    row = validity.changes(validity.variations("m", *GRID), *GRID[:2], "imagenet", draws=200).iloc[-1]
    assert row["protocol"] == "image-wise, inner selection"
    assert row[["change", "pooled_change", "common_change"]].tolist() == [0, 0, 0] and row["p"] == 1


def test_images_are_drawn_where_cells_are_unknown():
    write("m", table=predictions(cells=False))
    varied = validity.variations("m", *GRID)
    assert protocols()["resampled"].iloc[0] == "image"
    assert validity.homologues(varied[""]).empty and "difference" in validity.homologues(varied[""])
    assert validity.whole_cells(varied).empty and "macro_f1_decoded" in validity.whole_cells(varied)
    assert validity.decoded_cells(varied[""], "imagenet").empty


def test_a_profile_without_runs_is_named():
    with pytest.raises(StudyError, match="no finished run of resnet34 on q_band, g_band"):
        validity.variations("m", *GRID)


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
        validity.variations("m", *GRID)


def test_a_run_without_predictions_is_named():
    write("m")
    (runs.folder("m", *KEY) / "predictions.parquet").unlink()
    with pytest.raises(StudyError, match=r"predictions\.parquet: missing"):
        validity.variations("m", *GRID)


def test_only_the_folds_asked_for_are_read():
    write("m")
    found = runs.results("m", *GRID[:3], [1])
    assert list(found.scores["fold"]) == [1] and set(found.predictions[KEY]["fold"]) == {1}


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
    table = validity.spread(seeded({0: [0.80, 0.82], 1: [0.84, 0.88]}), [KEY[0]], [KEY[1]], KEY[2]).set_index("source")
    assert table.loc["seeds, same fold", "sd"] == pytest.approx(np.sqrt((8 + 18) / 2))
    assert table.loc["folds, same seed", "sd"] == pytest.approx(np.sqrt((2 + 8) / 2))
    # Two degrees of freedom: chi squared is exponential, its quantiles -2 log(1 - q).
    low, high = np.sqrt(2 * 13 / (-2 * np.log([0.025, 0.975])))
    row = table.loc["seeds, same fold"]
    assert (row["low"], row["high"], row["freedom"]) == pytest.approx((low, high, 2))


def test_spread_of_one_seed_has_folds_only():
    table = validity.spread(seeded({0: [0.8, 0.9]}), [KEY[0]], [KEY[1]], KEY[2], "accuracy").set_index("source")
    assert list(table.index) == ["folds, same seed", "images alone"]
    assert table.loc["images alone", "sd"] == pytest.approx(100 * np.sqrt(0.85 * 0.15 / 400))


def test_spread_looks_at_the_folds_that_all_seeds_have():
    table = validity.spread(seeded({0: [0.8, 0.9], 1: [0.8]}), [KEY[0]], [KEY[1]], KEY[2])
    assert set(table["n_folds"]) == {1} and list(table["source"]) == ["seeds, same fold"]


def test_a_seed_profile_must_hold_its_seed():
    write("m")
    write("m_seed2", seed=3)
    base = runs.results("m", *GRID)
    with pytest.raises(StudyError, match="m_seed2: its runs have seed 3"):
        validity.seeds(base, "m", [1, 2], *GRID)


def test_a_parameter_younger_than_a_run_had_its_default():
    old = runs.Results(None, {}, {KEY: {"data": {"digest": "a"}, "parameters": {"profile": "m"}}})
    for compiled, fits in ((False, True), (True, False)):
        run = {"data": {"digest": "a"}, "parameters": {"profile": "m_cell", "compiled": compiled}}
        new = runs.Results(None, {}, {KEY: run})
        message = "compiled is True, in m it is False"
        with contextlib.nullcontext() if fits else pytest.raises(StudyError, match=message):
            validity.check_variation(old, new, set())


def test_absent_seeds_are_empty():
    write("m")
    found = validity.seeds(runs.results("m", *GRID), "m", [1], *GRID)
    assert list(found) == [0, 1] and found[1].scores.empty
    spread = validity.spread(found, ["q_band"], ["resnet34"], "imagenet")
    assert list(spread["source"]) == ["folds, same seed"]
    assert list(validity.overview("m", {"": found[0]}, found)["runs"]) == [1, 0]


def test_homologues_are_told_by_fold():
    """In each of four cells both 1 are in fold 0, one of them wrong; the 2, all right, lie in both folds."""
    rows = [(cell, label, fold) for cell in "abcd" for label, fold in ((0, 0), (0, 0), (1, 0), (1, 1), (22, 0))]
    table = pd.DataFrame(rows, columns=["cell", "label", "fold"]).assign(file=[str(i) for i in range(20)])
    guesses = table["label"].where(np.arange(20) % 5 != 0, 9)
    table = table.join(pd.DataFrame(np.eye(24)[guesses], columns=[f"logit_{i}" for i in range(24)]))
    found = runs.Results(pd.DataFrame(), {KEY: table}, {})
    row = validity.homologues(found, 200).iloc[0]
    assert (row["n_trained_on"], row["n_validated"]) == (8, 8)  # the X has no homologue
    assert (row["trained_on"], row["validated"], row["difference"]) == (100, 50, 50)


def test_cell_wise_folds_have_no_homologue_in_training():
    row = validity.homologues(runs.Results(None, {KEY: predictions(by="cell")}, {}), 50).iloc[0]
    assert row["n_trained_on"] == 0 and np.isnan(row["difference"]) and np.isnan(row["trained_on"])


def test_whole_cells_are_counted_and_scored():
    rows = predictions(by="cell", wrong=0.1)
    found = runs.Results(None, {KEY: rows}, {})
    nothing = runs.Results(None, {}, {})
    row = validity.whole_cells({"": nothing, "cell": found, "cell_inner": nothing}, 100).iloc[0]
    assert row["protocol"] == "cell-wise"
    assert row["cells"] == row["whole"] == rows["cell"].nunique()
    decoded = karyotype.decoded(rows)
    right = (decoded.filter(regex="^logit_").to_numpy().argmax(1) == rows["label"]).mean()
    assert row["accuracy_decoded"] == pytest.approx(100 * right)
    assert row["accuracy_change"] == pytest.approx(row["accuracy_decoded"] - row["accuracy"])
    cells = validity.decoded_cells(found, "imagenet")
    assert cells["decoded"].sum() == round(right * len(rows)) and set(cells["run"]) == {"q_band, resnet34"}
    assert (row["better"], row["worse"]) == ((cells["change"] > 0).sum(), (cells["change"] < 0).sum())
    part = runs.Results(None, {KEY: predictions(by="image")}, {})
    table = validity.whole_cells({"": part, "cell": found, "cell_inner": nothing}, 100)
    assert list(table["protocol"]) == ["image-wise", "cell-wise"] and table["whole"].iloc[0] == 0


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
    return validity.near_copies(record, threshold)


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
    assert list(validity.near_copies(record, 0.99)["state"]) == ["not run"]


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
    steps = validity.transfer(four_approaches(), SIMILARITIES, 100)
    assert len(steps) == 6
    pairs = steps.set_index(["step", "task"])["pair"]
    assert pairs["imagenet - scratch", "q_band"] == "Q-natural" and pairs["imagenet - scratch", "g_band"] == "G-natural"
    assert set(pairs["intermediate - scratch"]) == set(pairs["two_step - imagenet"]) == {"G-Q"}
    assert (steps["low"] < steps["gain"]).all() and (steps["gain"] < steps["high"]).all()
    agreement = validity.rank_agreement(steps).set_index("measure")
    # By MMD² the other staining is nearer, by CORAL ImageNet; ImageNet gave more.
    assert list(agreement["targets"]) == [2, 2] and list(agreement["nearer_gave_more"]) == [0, 2]
    assert list(agreement["n"]) == [4, 4] and agreement["smallest_p"].to_numpy() == pytest.approx(2 / 24)


def test_transfer_without_similarities_or_runs_is_empty():
    assert validity.transfer(four_approaches(), None).empty
    nothing = validity.rank_agreement(validity.transfer(four_approaches(), None))
    assert list(nothing["targets"]) == [0, 0] and nothing["tau"].isna().all()
