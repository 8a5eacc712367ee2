"""Prediction of one's own images: a tiny run's networks, folders and sheets as people have them, what is written."""

import dataclasses
import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from chromolib import (
    CLASSES,
    architectures,
    datasets,
    device,
    gradcam,
    images,
    karyotype,
    metrics,
    parameters,
    predict,
    readings,
    runs,
    synthetic,
    trainer,
    training,
)
from chromolib.errors import StudyError


@pytest.fixture(scope="module")
def drawn():
    """Native drawings of twelve cells: (pictures, labels, cells, files)."""
    return list(zip(*synthetic.karyotypes("Q", n_cells=12), strict=True))


@pytest.fixture(scope="module")
def run(drawn, tmp_path_factory):
    """A run of two folds by cell, a few steps on 32 pixels, with a monitor part, on these twelve cells."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", twelve_cells(drawn))
        short = {"profile": "tiny", "task": "q_band", "image_size": 32, "folds": [0, 1], "n_folds": 2}
        short |= {"adam_epochs": 1, "sgd_epochs": 0, "steps_per_epoch": 4, "folds_by": "cell", "select_on": "inner"}
        short |= {"approach": "scratch", "start": "random", "precision": "fp32"}
        yield trainer.ensure(parameters.defaults("03_training") | short, tmp_path_factory.mktemp("runs"))


def twelve_cells(drawn):
    def load(name, root=None, size=256, presentation="square"):
        pictures, labels, cells, files = drawn
        return datasets.Dataset(
            name=name,
            stain="Q",
            images=np.stack([images.square(picture, size) for picture in pictures]),
            labels=np.array(labels),
            cells=np.array(cells),
            patients=None,
            sizes=np.array([images.area_and_length(picture) for picture in pictures], np.float32),
            files=np.array(files),
            report=(),
            digest="twelve cells",
        )

    return load


@pytest.fixture
def folder(drawn, tmp_path):
    """Two of the cells, each a sub-folder, as PNG."""
    place = tmp_path / "sent"
    for picture, _, cell, file in zip(*drawn, strict=True):
        if cell in ("cell01", "cell02"):
            (place / cell).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(place / file)
    return place


def test_logits_are_those_of_the_run(run, drawn):
    """Native pictures of a fold's validation part, squared and shown to that fold's network, as in training."""
    pictures = dict(zip(drawn[3], drawn[0], strict=True))
    for fold, rows in runs.predictions(run).groupby("fold"):
        predictor = predict.Predictor(run, [fold])
        found = predictor.logits(predictor.squares([pictures[file] for file in rows["file"]]))
        assert np.array_equal(found[0].astype(np.float16), rows[metrics.LOGITS])


def test_folds_are_averaged_as_probabilities(run, drawn):
    apart = [predict.predict(run, drawn[0][:5], folds=[fold]) for fold in (0, 1)]
    both = predict.predict(run, drawn[0][:5])
    expected = np.mean([np.exp(table[metrics.LOGITS]) for table in apart], axis=0)
    assert np.exp(both[metrics.LOGITS].to_numpy()) == pytest.approx(expected, rel=1e-5)
    assert both["probability"].to_numpy() == pytest.approx(expected.max(axis=1), rel=1e-5)
    assert both["class"].tolist() == [CLASSES[label] for label in expected.argmax(axis=1)]
    assert both["second_class"].tolist() == [CLASSES[label] for label in np.argsort(expected)[:, -2]]
    assert (both["decoded"] == "").all() and both["cell"].isna().all()


def test_a_cell_is_read_together(run, drawn):
    pictures, _, cells, _ = (part[:92] for part in drawn)
    table = predict.predict(run, pictures, cells)
    labels, _ = karyotype.read(table[metrics.LOGITS].to_numpy(), cells)
    assert table["decoded"].tolist() == ["" if label < 0 else CLASSES[label] for label in labels]
    improbable = np.exp(table[metrics.LOGITS].to_numpy()[np.arange(92), labels]) < 0.5
    assert table["unsure"][improbable].all()


def test_a_picture_that_is_no_chromosome_is_marked(run, drawn):
    noise = np.random.default_rng(0).integers(0, 255, (60, 60), np.uint8)
    assert predict.predict(run, [*drawn[0][:46], noise], ["a"] * 47)["unsure"].iloc[-1]


def test_sizes_count_where_they_are_given(run, drawn, monkeypatch):
    monkeypatch.setattr(datasets, "load", twelve_cells(drawn))
    pictures, _, cells, _ = (part[:46] for part in drawn)
    areas = [images.area_and_length(picture) for picture in pictures]
    plain, sized = predict.predict(run, pictures, cells), predict.predict(run, pictures, cells, areas)
    truth = np.array(drawn[1][:46])
    gain = sized[metrics.LOGITS].to_numpy() - plain[metrics.LOGITS].to_numpy()
    assert gain[np.arange(46), truth].mean() > 0.5  # an untrained network, and sizes that tell a 1 from a 21


def test_a_folder_becomes_tables_and_karyograms(run, folder, tmp_path, capsys):
    predict.main([str(run), str(folder), "--out", str(tmp_path / "out"), "--grad-cam"])
    table, calls = (pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("predictions", "karyotypes"))
    assert len(table) == 92 and sorted(table["cell"].unique()) == ["cell01", "cell02"]
    assert {"file", "cell", "class", "probability", "second_class", "decoded", "unsure"} <= set(table.columns)
    assert (calls["n_images"] == 46).all() and calls["karyotype"].str.match(r"4\d,[XY]").all()
    for cell in ("cell01", "cell02"):
        for ending in (".png", "_grad_cam.png"):
            assert np.ptp(np.array(Image.open(tmp_path / "out" / f"{cell}{ending}").convert("L"))) > 100
        assert predict.PURPOSE in (tmp_path / "out" / f"{cell}.svg").read_text()
        assert "a structural rearrangement" in (tmp_path / "out" / f"{cell}.svg").read_text()
    use = f"{predict.PURPOSE}; network trained on drawings, says nothing of real chromosomes"  # as this run's was
    assert (table["use"] == use).all() and (calls["use"] == use).all()
    assert use in capsys.readouterr().out and use in (tmp_path / "out" / "cell01.svg").read_text()
    log_probabilities = predict.predict(run, *predict.read_folder(folder)[1:3])[metrics.LOGITS].to_numpy()
    expected = karyotype.constitution(log_probabilities, table["cell"])
    assert calls["constitution"].tolist() == expected["constitution"].tolist()
    assert calls["remark"].str.startswith("46 of 46 images are unsure").all()  # of networks that have hardly learned


def test_no_picture_is_written_over_another_and_none_stays_of_an_earlier_call(run, folder, tmp_path):
    """Names of cells that are one name as files, on some systems or on all; then one of them alone, in their place."""
    for old, new in (("cell01", "a b"), ("cell02", "A_b")):
        (folder / old).rename(folder / new)
    predictor, out = predict.Predictor(run, [0]), tmp_path / "out"
    predict.write(predictor, folder, out, grad_cam=True)
    pictures = {path.name for path in out.iterdir()} - {"predictions.csv", "karyotypes.csv", "source.txt"}
    endings = (".png", ".svg", "_grad_cam.png")
    assert pictures == {name + ending for name in ("A_b", "a_b_2") for ending in endings}
    assert "a b: " in (out / "a_b_2.svg").read_text()
    (out / "notes.txt").touch()
    with pytest.raises(StudyError, match=f"out: holds what was predicted of {folder}; name another folder with --out"):
        predict.write(predictor, folder / "a b", out)
    assert pictures < {path.name for path in out.iterdir()}
    shutil.rmtree(folder / "A_b")
    predict.write(predictor, folder, out)
    assert {path.name for path in out.iterdir()} == {
        *("predictions.csv", "karyotypes.csv", "source.txt", "notes.txt"),
        *("a_b.png", "a_b.svg"),
    }


@pytest.mark.fault(27)
def test_what_a_killed_call_left_is_cleared_and_nothing_of_others(run, folder, tmp_path):
    out = tmp_path / "out"
    for left in (".part.killed/cell01.png", ".part.file", "deeper/.part.killed/file"):
        (out / left).parent.mkdir(parents=True, exist_ok=True)
        (out / left).touch()
    predict.write(predict.Predictor(run, [0]), folder, out)
    assert not (out / ".part.killed").exists() and (out / "cell01.png").exists()
    assert (out / ".part.file").exists() and (out / "deeper/.part.killed/file").exists()


@pytest.mark.fault(27)
def test_a_call_that_another_cleared_up_ends_and_keeps_what_is_there(run, folder, tmp_path, monkeypatch):
    """Two calls to one place at once: the later one finds the half-written folder of the other."""
    predictor, out = predict.Predictor(run, [0]), tmp_path / "out"
    predict.write(predictor, folder, out)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    draw = predict._draw

    def cleared(*arguments):
        shutil.rmtree(arguments[-1].parent)
        draw(*arguments)

    monkeypatch.setattr(predict, "_draw", cleared)
    with pytest.raises(OSError, match=r"source\.txt"):
        predict.write(predictor, folder, out)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_a_cell_may_have_a_name_as_long_as_a_folder_may_have(run, folder, tmp_path):
    for cell in ("cell01", "cell02"):
        (folder / cell).rename(folder / ("ü" * 120 + cell))
    predict.write(predict.Predictor(run, [0]), folder, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").glob("*.svg")} == {"ü" * 70 + end for end in (".svg", "_2.svg")}


@pytest.mark.fault(26)
def test_a_full_disk_keeps_the_results_of_an_earlier_call(run, folder, tmp_path, monkeypatch):
    predictor, out = predict.Predictor(run, [0]), tmp_path / "out"
    predict.write(predictor, folder, out)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    savefig = Figure.savefig

    def fill(figure, file, **options):
        if "cell02" in str(file):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        savefig(figure, file, **options)

    monkeypatch.setattr(Figure, "savefig", fill)
    with pytest.raises(StudyError, match=r"cell02\.png: cannot be written.*what was there before is kept"):
        predict.write(predict.Predictor(run, [1]), folder, out)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


@pytest.mark.fault(27)
def test_what_another_process_has_written_meanwhile_is_kept(run, folder, tmp_path, monkeypatch):
    out, draw = tmp_path / "out", predict._draw

    def other(*arguments):
        (out / "source.txt").write_text("elsewhere")
        draw(*arguments)

    monkeypatch.setattr(predict, "_draw", other)
    with pytest.raises(StudyError, match="holds what was predicted of elsewhere"):
        predict.write(predict.Predictor(run, [0]), folder, out)
    assert [file.name for file in out.iterdir()] == ["source.txt"]


@pytest.mark.fault(24)
def test_out_of_memory_is_said(run, drawn, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    predictor = predict.Predictor(run, [0])
    squares, name = predictor.squares(drawn[0][:2]), predictor.architecture
    for place, word, work in (
        (training, "predict", lambda: predictor.logits(squares)),
        (torch, "from_numpy", lambda: predictor.logits(squares)),
        (device, "prepare", lambda: predict.Predictor(run, [0])),
        (
            architectures,
            "normalise",
            lambda: gradcam.maps(predictor.models[0], name, squares, [0, 1]),
        ),
    ):
        with monkeypatch.context() as patch, pytest.raises(StudyError, match="out of memory: lower"):
            patch.setattr(place, word, full)
            work()


def test_the_images_of_one_cell_need_no_sub_folder(folder):
    names, pictures, cells, remarks = predict.read_folder((folder / "cell01").rename(folder / "K 21.04"))
    assert len(names) == len(pictures) == 46 and set(cells) == {"K 21.04"} and not remarks


def test_class_folders_with_a_few_images_are_one_cell(folder):
    for path in list((folder / "cell01").iterdir()):
        (folder / "mine" / f"chr{path.stem[7:-1]}").mkdir(parents=True, exist_ok=True)
        path.rename(folder / "mine" / f"chr{path.stem[7:-1]}" / path.name)
    names, _, cells, _ = predict.read_folder(folder / "mine")
    assert len(names) == 46 and set(cells) == {"mine"}
    next((folder / "cell02").iterdir()).rename(folder / "mine" / "beside.png")
    names, _, cells, _ = predict.read_folder(folder / "mine")
    assert len(names) == 47 and set(cells) == {"mine"}


@pytest.mark.parametrize("below", ["", "{label}"])
def test_cells_may_lie_in_folders_of_patients(folder, below):
    """Two patients' cells have one name; a class folder is no cell."""
    for patient, cell in (("P1", "cell01"), ("P2", "cell02")):
        for path in list((folder / cell).iterdir()):
            place = folder / "mine" / patient / "A" / below.format(label=path.stem[7:-1])
            place.mkdir(parents=True, exist_ok=True)
            path.rename(place / path.name)
    names, _, cells, _ = predict.read_folder(folder / "mine")
    assert [tuple(cells).count(cell) for cell in ("P1/A", "P2/A")] == [46, 46]
    assert all(name.startswith(cell) for name, cell in zip(names, cells, strict=True))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("stain", ["Q", "G"])
def test_grounds_are_black_or_white_and_pictures_grey_or_colour(run, tmp_path, stain, mode):
    """Drawings of Q-banding lie on black, those of G-banding on white; either way the chromosome is found."""
    (tmp_path / "cell").mkdir()
    drawings = [picture for picture, *_ in synthetic.karyotypes(stain, n_cells=1)[:3]]
    for number, picture in enumerate(drawings):
        Image.fromarray(picture).convert(mode).save(tmp_path / "cell" / f"{number}.BMP")
    _, pictures, _, _ = predict.read_folder(tmp_path / "cell")
    assert all(np.array_equal(picture, drawing) for picture, drawing in zip(pictures, drawings, strict=True))
    shares = [images.area_and_length(picture)[0] / picture.size for picture in pictures]
    assert max(shares) < 0.9 and len(predict.predict(run, pictures, folds=[0])) == 3


def test_negatives_are_said(run, folder, tmp_path, capsys):
    """Quinacrine shines in the dark: the drawings have a black ground, their negatives a white one."""
    for negative in (False, True):
        predict.write(predict.Predictor(run), folder, tmp_path / "out")
        words = "cell01, cell02: 46 of 46 images are dark on light, in Q-band they are light on dark: invert them"
        assert (words in capsys.readouterr().out) is negative
        for file in folder.rglob("*.png"):
            Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    light = np.full((9, 9), 255, np.uint8)
    other, words = predict._unlike("a_set_that_was_here_once", [light], np.array([""]))
    assert not other.any() and not words


def answered(monkeypatch, run, pictures, labels, cells, probability=1 - 23e-9):
    """What `predict` makes of a network that gives each picture its class's label, with this probability."""
    probability = np.broadcast_to(probability, len(labels))
    answers = np.repeat(np.log((1 - probability) / 23)[:, None], 24, axis=1)
    answers[np.arange(len(labels)), labels] = np.log(probability)
    monkeypatch.setattr(predict.Predictor, "log_probabilities", lambda *_: answers)
    return predict._predict(predict.Predictor(run, [0]), pictures, np.array(cells), None)


def test_a_cell_of_two_grounds_is_named_and_never_sure(run, drawn, monkeypatch):
    """Three negatives among 92 pictures, all of one cell; the network is one that knows every class."""
    pictures, labels, cells = list(drawn[0][:92]), drawn[1][:92], np.array(drawn[2][:92])
    pictures[50:53] = [255 - picture for picture in pictures[50:53]]
    table, calls, remarks = answered(monkeypatch, run, pictures, labels, cells)
    assert calls["sure"].tolist() == [True, False] and calls["remark"].iloc[0] == ""
    words = "3 of 46 images are dark on light, in Q-band they are light on dark: invert them, or expect wrong classes"
    assert remarks == [f"{cells[50]}: {words}"] and calls["remark"].iloc[1] == words
    assert table["unsure"][50:53].all() and not table["unsure"][:46].any()
    other, said = predict._unlike("a_set_that_was_here_once", pictures, cells)
    assert np.flatnonzero(other).tolist() == [50, 51, 52] and "the others are light on dark" in said[cells[50]][0]


def test_a_metaphase_in_the_place_of_a_lost_chromosome_is_named_and_the_call_never_sure(run, drawn, monkeypatch):
    """All chromosomes in one picture, which the network takes for the one that the cell has lost."""
    pictures, labels, cells = (list(part[:46]) for part in drawn[:3])
    pictures[40] = np.concatenate(
        [np.pad(picture, ((0, 200 - picture.shape[0]), (0, 9))) for picture in pictures], axis=1
    )
    table, calls, remarks = answered(monkeypatch, run, pictures, labels, cells)
    assert calls["karyotype"].isin(karyotype.NORMAL).all() and not calls["sure"].any()
    words = "1 of 46 images are far larger than the others: remove what is no single chromosome, such as a metaphase"
    assert remarks == [f"{cells[0]}: {words}"] and np.flatnonzero(table["unsure"]).tolist() == [40]


def test_debris_in_the_place_of_a_lost_chromosome_is_named_and_the_call_never_sure(run, drawn, monkeypatch):
    pictures, labels, cells = (list(part[:46]) for part in drawn[:3])
    pictures[40] = np.pad(np.full((4, 3), 200, np.uint8), 20)
    table, calls, remarks = answered(monkeypatch, run, pictures, labels, cells)
    assert calls["karyotype"].isin(karyotype.NORMAL).all() and not calls["sure"].any()
    words = "1 of 46 images are far smaller than the others: remove what is no single chromosome, such as debris"
    assert remarks == [f"{cells[0]}: {words}"] and np.flatnonzero(table["unsure"]).tolist() == [40]


@pytest.mark.parametrize(("probability", "sure"), [(0.6, True), (0.4, False)])
def test_a_cell_of_which_most_images_are_unsure_is_not_sure(run, drawn, monkeypatch, probability, sure):
    """Weak answers on all autosomes make great odds together, whatever made them weak, such as a grey ground."""
    pictures, labels, cells = (part[:46] for part in drawn[:3])
    probabilities = np.where(np.array(labels) < 22, probability, 0.99)
    _, calls, remarks = answered(monkeypatch, run, pictures, labels, cells, probabilities)
    assert calls["log_odds"].iloc[0] > 3 and calls["sure"].tolist() == [sure]
    assert (remarks == []) is sure and (sure or "44 of 46 images are unsure: are staining, ground" in remarks[0])


@pytest.mark.parametrize("n", [30, 92])
def test_what_is_no_single_cell_is_said(run, drawn, tmp_path, n, capsys):
    place = tmp_path / "one"
    place.mkdir()
    for number, picture in enumerate(drawn[0][:n]):
        Image.fromarray(picture).save(place / f"{number}.tif")
    (calls,) = predict.write(predict.Predictor(run, [0]), place, tmp_path / "out").to_dict("records")
    assert calls["karyotype"] == "?" and not calls["sure"]
    words = f"{n} images, outside 44 to 48: not called (part of a cell, two cells in one folder, polyploidy)"
    assert words in capsys.readouterr().out and words in calls["remark"]
    assert words[:50] in (tmp_path / "out" / "one.svg").read_text() and calls["constitution"] == "?"


def test_an_archive_whatever_the_capitals_of_its_name(folder):
    archive = Path(shutil.make_archive(str(folder), "zip", folder))
    names, _, cells, _ = predict.read_folder(archive.rename(archive.with_name("SENT.ZIP")))
    assert len(names) == 92 and set(cells) == {"cell01", "cell02"}


def test_a_sheet_as_people_send_it(folder):
    """A byte-order mark, semicolons, carriage returns, capitals, and columns that a training would want."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    rows = [f"{file};{file[:6]};chr1;P1" for file in files]
    (folder / "sheet.csv").write_bytes(("\ufeff" + "\r\n".join(["File;Cell;label;patient", *rows])).encode())
    names, pictures, cells, _ = predict.read_folder(folder / "sheet.csv")
    assert names == files and len(pictures) == 92 and set(cells) == {"cell01", "cell02"}


def test_images_that_a_sheet_does_not_name_are_said(folder):
    """A row too few would be a lost chromosome."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    (folder / "sheet.csv").write_text("file,cell\n" + "".join(f"{file},1\n" for file in files[1:46]))
    _, pictures, _, remarks = predict.read_folder(folder / "sheet.csv")
    assert len(pictures) == 45 and f"files left out: 47 (such as {files[0]}), of which images: 47" in remarks


def test_a_sheet_without_cells_gives_classes_only(run, folder, tmp_path, capsys):
    (folder / "sheet.csv").write_text("file\n" + "\n".join(f"cell01/{p.name}" for p in (folder / "cell01").iterdir()))
    predict.main([str(run), str(folder / "sheet.csv"), "--fold", "0", "--out", str(tmp_path / "out")])
    assert "no karyotype" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "out" / "predictions.csv")) == 46


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,cell\nx.png,1\n", "unknown column 'name'"),
        ("cell\n1\n", "no column 'file'"),
        ("file,stain\ncell01/a.png,Q\n", "unknown column 'stain'"),
        ("file,cell\nlost.png,1\nlost2.png,1\n", "row 2: file 'lost.png' is not there.*In all 2 such among 2 rows"),
        ("file,cell\ncell01/cell01_1a.png,1\ncell01/cell01_1a.png,1\n", "named again, first in row 2"),
        ("file,cell\ncell01/cell01_1a.png,1,2\n", "3 values, where 2 columns have names"),
        ("file,cell\n", "names no image"),
        ("", "is empty"),
    ],
)
def test_a_bad_sheet_is_refused_by_row_and_reason(folder, text, words):
    (folder / "sheet.csv").write_text(text)
    with pytest.raises(StudyError, match=words):
        predict.read_folder(folder / "sheet.csv")


def test_other_bad_places_are_refused(run, tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="no image"):
        predict.read_folder(tmp_path / "empty")
    for name in ("absent", 300 * "x"):  # of which the system says that no name is so long
        with pytest.raises(StudyError, match="no such folder"):
            predict.read_folder(tmp_path / name)
    with pytest.raises(StudyError, match=r"\.png: is one image"):
        predict.read_folder(next(folder.rglob("*.png")))
    (folder / "cell01" / "text.png").write_text("no picture")
    with pytest.raises(StudyError, match=r"text\.png"):
        predict.read_folder(folder)
    with pytest.raises(StudyError, match="no finished run"):
        predict.Predictor(tmp_path / "empty")
    with pytest.raises(StudyError, match="has no fold 4"):
        predict.Predictor(run, [4])
    with pytest.raises(SystemExit, match="no finished run"):
        predict.main([str(tmp_path / "empty"), str(folder)])


@pytest.mark.parametrize("size", [(1, 1), (40, 60)])
def test_an_image_that_shows_nothing_is_refused(folder, size):
    Image.new("L", size, 255).save(folder / "cell02" / "blank.png")
    with pytest.raises(StudyError, match=r"1 images show nothing but one grey, such as cell02/blank\.png\. Remove"):
        predict.read_folder(folder)


def test_an_image_twice_in_a_cell_is_refused(folder):
    """Copied by a file manager, or saved in another format; a copy in another cell is said."""
    original = folder / "cell01" / "cell01_21a.png"
    Image.open(original).save(folder / "cell02" / "strayed.png")
    assert predict.read_folder(folder)[3] == [
        "copies, pixel by pixel, of other images: 1 (such as cell02/strayed.png of cell01/cell01_21a.png); delete them"
    ]
    Image.open(original).convert("RGB").save(folder / "cell01" / "copy.bmp")
    with pytest.raises(StudyError, match=r"cell01/cell01_21a\.png and cell01/copy\.bmp are the same image.*Delete one"):
        predict.read_folder(folder)


def test_class_folders_with_many_images_tell_no_cells(folder):
    for name, number in (("cell01", "1"), ("cell02", "2")):
        (folder / name).rename(folder / number)
    _, _, cells, remarks = predict.read_folder(folder)
    assert cells is None and "folders named as classes (1, 2) tell no cells; where they are cells, rename" in remarks[0]
    (folder / "patient").mkdir()
    for number in "12":
        (folder / number).rename(folder / "patient" / f"cell {number}")
    assert set(predict.read_folder(folder)[2]) == {"patient/cell 1", "patient/cell 2"}


def test_how_images_were_read_is_said(folder):
    file = folder / "cell01" / "cell01_1a.png"
    Image.open(file).convert("RGB").save(file)
    assert predict.read_folder(folder)[3] == ["images stored as RGB and read as grey: 1"]


def test_results_go_neither_among_the_images_nor_among_others_results(run, folder, tmp_path):
    predictor = predict.Predictor(run, [0])
    for out in (folder, folder / "cell01", folder / "new" / "out"):
        with pytest.raises(StudyError, match=f"{out}: lies in the folder of the images, {folder}"):
            predict.write(predictor, folder, out)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "predictions.csv").write_text("mine")
    with pytest.raises(StudyError, match=r"theirs: holds predictions\.csv or karyotypes\.csv, but no source\.txt"):
        predict.write(predictor, folder, tmp_path / "theirs")
    assert (tmp_path / "theirs" / "predictions.csv").read_text() == "mine"


def test_sheets_of_one_name_go_to_folders_of_their_own(tmp_path):
    assert predict._out_name(tmp_path / "january" / "Tabelle.csv") == "january_Tabelle"
    (tmp_path / "june").mkdir()
    assert predict._out_name(tmp_path / "june") == "june"


@pytest.mark.parametrize("ending", ["xlsx", "XLS", "ods"])
def test_a_workbook_is_to_be_saved_as_csv(tmp_path, ending):
    (tmp_path / f"cells.{ending}").write_bytes(b"PK")
    with pytest.raises(StudyError, match=r"is a workbook, which is not read\. Save it as CSV"):
        predict.read_folder(tmp_path / f"cells.{ending}")


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("46,XX", set()),
        ("46,XY", set()),
        ("47,XY,+21", {"21"}),
        ("46,XX,+3,-17", {"3", "17"}),
        ("45,X", {"X", "Y"}),
        ("47,XXY", {"X", "Y"}),
        ("44,?", {"X", "Y"}),
        ("?", set()),
    ],
)
def test_what_makes_a_karyotype_abnormal(text, classes):
    assert {CLASSES[place] for place in np.flatnonzero(predict._abnormal(text))} == classes


def test_images_of_an_abnormal_class_are_framed_and_no_others(run, drawn, tmp_path, monkeypatch):
    """A cell with a third 21: the frames' blue, of which a normal cell has none."""
    pictures, labels, cells = drawn[0][:47], [*drawn[1][:46], 20], ["a"] * 47
    table = pd.DataFrame({"cell": cells, "decoded": [CLASSES[label] for label in labels], "unsure": False})
    blue = [round(255 * part) for part in predict._colours()[1]]
    monkeypatch.setattr(predict, "_save", lambda *_: None)
    predictor = predict.Predictor(run, [0])
    for karyotype_, expected in (("47,XX,+21", 20), ("46,XX", None)):
        laid = []
        monkeypatch.setattr("chromolib.figures.laid_out", lambda crops, *_, laid=laid: laid.extend(crops))
        values = {"cell": "a", "n_images": 47, "sure": True, "log_odds": 9.0, "runner_up": "?", "karyotype": karyotype_}
        predict._draw(predictor, SimpleNamespace(**values), table, pictures, tmp_path)
        framed = [index for index, crop in enumerate(laid) if crop.ndim == 3 and crop[0, 0].tolist() == blue]
        assert framed == [index for index, label in enumerate(labels) if label == expected]


def test_other_files_are_named_and_left_out(folder):
    (folder / "notes.txt").write_text("seen on Monday")
    (folder / ".DS_Store").write_bytes(b"x")
    names, _, _, remarks = predict.read_folder(folder)
    assert len(names) == 92 and remarks == ["files left out: 1 (such as notes.txt), of which images: 0"]


def test_lengths_that_differ_and_no_images_are_refused(run, drawn):
    with pytest.raises(StudyError, match="cells: 2 of them for 3 images"):
        predict.predict(run, drawn[0][:3], ["a", "a"], folds=[0])
    with pytest.raises(StudyError, match="images: there are none"):
        predict.predict(run, [], folds=[0])


def test_a_run_without_its_weights_says_so(run, tmp_path):
    bare = shutil.copytree(run, tmp_path / "/".join(run.parts[-4:]))
    (bare / "fold0.safetensors").unlink()
    with pytest.raises(StudyError, match="weights are not kept"):
        predict.Predictor(bare, [0])


# How answers are read (chromolib.readings)


def test_readings_are_calibrated_on_the_monitor_alone(run):
    """At the maximum of the monitor's likelihood, expected and true logits agree, and the fold itself was not asked."""
    monitor = pd.read_parquet(run / "monitor.parquet").query("fold == 0")
    reading = readings.reading(run, 0)
    logits = monitor[metrics.LOGITS].to_numpy(np.float64)
    chances = np.exp(reading.log_probabilities(logits))
    assert reading.calibrated and reading.size_model is None
    if reading.weights[0] > 0:
        true = logits[np.arange(len(logits)), monitor["label"]].mean()
        assert (chances * logits).sum(axis=1).mean() == pytest.approx(true, abs=1e-4)


def test_sizes_are_learned_from_training_images_alone(run, drawn, monkeypatch):
    """Sizes of validation and monitor images may be anything: the model stays."""
    data = twelve_cells(drawn)("bioimlab", size=32)
    table, monitor = runs.predictions(run), pd.read_parquet(run / "monitor.parquet")
    unseen = np.isin(data.files, [*table.query("fold == 0")["file"], *monitor.query("fold == 0")["file"]])
    scaled = dataclasses.replace(data, sizes=np.where(unseen[:, None], data.sizes[::-1], data.sizes))
    model, other = readings.reading(run, 0, data).size_model, readings.reading(run, 0, scaled).size_model
    assert np.array_equal(model.location, other.location) and unseen.any() and not unseen.all()


def test_without_a_monitor_answers_are_read_as_they_are(run, tmp_path):
    bare = shutil.copytree(run, tmp_path / "/".join(run.parts[-4:]))
    (bare / "monitor.parquet").unlink()
    assert not readings.reading(bare, 0).calibrated
    plain, read = runs.predictions(bare), readings.answers(bare)
    logits = plain[metrics.LOGITS].to_numpy(np.float64)
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert read[metrics.LOGITS].to_numpy() == pytest.approx(expected) and (read["file"] == plain["file"]).all()


def test_answers_stand_as_the_predictions_do(run, tmp_path):
    """Folds may have been trained in any order, and what is compared with a run is compared row by row."""
    other = shutil.copytree(run, tmp_path / "/".join(run.parts[-4:]))
    runs.predictions(other)[::-1].reset_index(drop=True).to_parquet(other / "predictions.parquet")
    plain, read = runs.predictions(other), readings.answers(other)
    assert plain["fold"].iloc[0] == 1 and (read["file"] == plain["file"]).all()


def test_another_data_set_is_refused(run, drawn):
    data = twelve_cells(drawn)("bioimlab", size=32)
    with pytest.raises(StudyError, match="images of the run are not in it"):
        readings.reading(run, 0, dataclasses.replace(data, files=np.char.add(data.files, "x")))
