"""Own data sets: class folders and sheets as people send them, and what is wrong with some."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
import zipfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from chromolib import CLASSES, archives, datasets, own, parameters, paths, predict
from chromolib.errors import StudyError

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(autouse=True)
def own_parameters(tmp_path, monkeypatch):
    """A folder of parameter files of the test's own."""
    folder = tmp_path / "parameters"
    shutil.copytree(parameters.PARAMETERS, folder)
    monkeypatch.setattr(parameters, "PARAMETERS", folder)
    (folder / "dataset").mkdir(exist_ok=True)
    return folder / "dataset"


def picture(number):
    """An image that tells which one it is: 10 x 6 pixels of its number, but for a corner."""
    buffer, pixels = io.BytesIO(), np.full((10, 6), number, np.uint8)
    pixels[-1, -1] = 255
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(place, files):
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return place


def write_set(folder, name, **values):
    """The file of an own set; its values are those of a set of class folders but for what is given."""
    said = {"stain": "G", "layout": "folders", "licence": "none", "source": "drawn"} | values
    (folder / f"{name}.yaml").write_text("".join(f"{key}: {value}\n" for key, value in said.items()))


def refusal(place, layout="folders"):
    with pytest.raises(StudyError) as caught:
        own.index(place, layout)
    assert str(place) in str(caught.value)
    return str(caught.value)


def rows_of(place, layout="folders"):
    return sorted(own.index(place, layout)[0])


# What a label means


@pytest.mark.parametrize("number", range(1, 25))
def test_a_label_in_every_spelling(number):
    spelled = [
        f"{number}",
        f"{number:02d}",
        f" {number} ",
        f"{number}.0",
        f"{number},0",
        f"chr{number}",
        f"Chr {number}",
    ]
    spelled += [f"chromosome_{number}", f"class{number}", f"clase{number}"]
    if number > 22:
        spelled += [CLASSES[number - 1], CLASSES[number - 1].lower(), f"chr{CLASSES[number - 1]}"]
    assert {own.label(text) for text in spelled} == {number - 1}


@pytest.mark.parametrize("text", ["0", "25", "", "XY", "A", "1.5", "-1", "1a", "chr", "nan", "1e0"])
def test_what_is_no_label(text):
    assert own.label(text) is None


# Class folders


@pytest.mark.parametrize("top", ["", "cells/", "a/b/"])
@pytest.mark.parametrize("above", ["", "cell{0}/", "patient{1}/cell{0}/"])
def test_class_folders_with_and_without_cells_and_patients(tmp_path, top, above):
    files = {}
    for cell in range(4):
        for name in ("1", "chr7", "X"):
            files[top + above.format(cell, cell // 2) + f"{name}/{cell}{name}.PNG"] = picture(1)
    rows, remarks = own.index(write(tmp_path / "set", files | {"Thumbs.db": b"", ".hidden/1/a.png": b""}), "folders")
    assert sorted(member for member, *_ in rows) == sorted(files)
    assert Counter(label for _, _, label, *_ in rows) == {0: 4, 6: 4, 22: 4}
    expected = {
        "": {(None, None)},
        "cell{0}/": {(f"cell{cell}", None) for cell in range(4)},
        "patient{1}/cell{0}/": {(f"cell{cell}", f"patient{cell // 2}") for cell in range(4)},
    }[above]
    assert {(cell, patient) for *_, cell, patient in rows} == expected
    assert ("patients are not known" in remarks) == ("patient" not in above)
    assert ("cells are not known" in remarks) == ("cell" not in above)
    assert any("no image of class 2, 3" in remark and remark.endswith("22, Y") for remark in remarks)


def test_cells_numbered_within_each_patient_do_not_mix(tmp_path):
    files = {f"{patient}/{cell}/{name}/a.png": picture(1) for patient in "AB" for cell in (1, 2) for name in (1, 2)}
    rows, remarks = own.index(write(tmp_path / "set", files), "folders")
    assert {row[3] for row in rows} == {"A/1", "A/2", "B/1", "B/2"}
    assert any("same name" in remark for remark in remarks)


def test_class_folders_in_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as archive:
        for name in ("1", "2"):
            archive.writestr(f"set\\{name}\\a.png", picture(1))
    assert [label for _, _, label, *_ in rows_of(tmp_path / "cells.zip")] == [0, 1]


BAD_FOLDERS = {
    "nothing": ({"readme.txt": b"x"}, "no image"),
    "another format": (
        {"1/a.gif": b"GIF8", "2/b.gif": b"GIF8"},
        "no image (BMP, JPEG, PNG or TIFF) among 2 files (such as",
    ),
    "packed": ({"cells.rar": b"x"}, "Unpack cells.rar first"),
    "no classes": ({"a.png": b"x", "b.png": b"x"}, "in no folder of a class"),
    "a sheet of other columns": ({"a.png": b"x", "s.csv": b"name,class\na.png,1"}, "names the columns file and label"),
    "no class names": ({f"good/{n}.png": b"x" for n in range(9)}, "'good' is no class"),
    "labels from 0": ({f"{n}/a.png": b"x" for n in range(24)}, "'0' is no class"),
    "one class": ({"7/a.png": b"x", "7/b.png": b"x"}, "all 2 images are of class 7"),
    "groups": (
        {"A/1/a.png": b"x", "A/2/a.png": b"x", "B/4/a.png": b"x"},
        "folders such as A share no class: they are groups (as A to G) and no cells",
    ),
    "groups in a cell": (
        {f"P{n}/c/{group}/a.png": b"x" for n in (1, 2) for group in ("A/1", "A/2", "B/4", "G/Y")},
        "share no class",
    ),
    "two depths": ({"5/karyogram.png": b"x", "5/1/a.png": b"x", "5/2/b.png": b"x"}, "such as 5/karyogram.png"),
}


@pytest.mark.parametrize("kind", BAD_FOLDERS)
def test_bad_class_folders(tmp_path, kind):
    files, words = BAD_FOLDERS[kind]
    assert words in refusal(write(tmp_path / "set", files))


# Sheets


SHEET = "file,label,cell,patient\na.png,1,c1,p1\nsub/b.png,X,c2,p2\nc.PNG,7,c2,p2\n"
FILES = {"a.png": picture(1), "sub/b.png": picture(2), "c.PNG": picture(3)}
ROWS = [
    ("a.png", "a.png", 0, "c1", "p1"),
    ("c.PNG", "c.PNG", 6, "c2", "p2"),
    ("sub/b.png", "sub/b.png", 22, "c2", "p2"),
]

SPELLINGS = {
    "plain": SHEET.encode(),
    "mark and CRLF": SHEET.replace("\n", "\r\n").encode("utf-8-sig"),
    "semicolons": SHEET.replace(",", ";").encode(),
    "semicolons, named first": b"sep=;\r\n" + SHEET.replace(",", ";").encode(),
    "tabs, named first": b"sep=\t\r\n" + SHEET.replace(",", "\t").encode(),
    "tabs": SHEET.replace(",", "\t").encode(),
    "UTF-16": SHEET.encode("utf-16"),
    "old Macintosh lines": SHEET.replace("\n", "\r").encode(),
    "quotes and blanks": SHEET.replace("c2", '" c2 "').replace("a.png", " a.png ").encode(),
    "empty rows": (SHEET + "\n,,,\n").encode(),
    "capitals": SHEET.replace("file,label", "File,LABEL").replace("a.png", "A.PNG").encode(),
    "backslashes": SHEET.replace("/", "\\").encode(),
    "without sub-folders": SHEET.replace("sub/", "").encode(),
    "without endings": SHEET.replace(".png", "").replace(".PNG", "").encode(),
    "the sender's folders": SHEET.replace("a.png", "C:\\cells\\a.png").encode(),
    "empty columns at the right": SHEET.replace("\n", ",,\n").encode(),
    "labels as numbers": SHEET.replace(",X,", ",23.0,").replace(",1,", ",1.0,").replace(",7,", ",chr7,").encode(),
    "other order": b"label;file;patient;cell\n1;a.png;p1;c1\nX;sub/b.png;p2;c2\n7;c.PNG;p2;c2\n",
}


@pytest.mark.parametrize("kind", SPELLINGS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_sheet_in_every_spelling(tmp_path, kind, packed):
    place = write(tmp_path / "set", FILES | {"labels.csv": SPELLINGS[kind]})
    if packed:
        place = shutil.make_archive(str(tmp_path / "set"), "zip", place)
    assert rows_of(place, "labels.csv") == ROWS


def test_a_sheet_of_western_windows(tmp_path):
    place = write(tmp_path / "set", {"Müller.png": picture(1), "b.png": picture(2)})
    (place / "labels.csv").write_bytes("file;label\nMüller.png;1\nb.png;2\n".encode("cp1252"))
    assert [row[0] for row in rows_of(place, "labels.csv")] == ["Müller.png", "b.png"]


def test_a_letter_in_two_pieces(tmp_path):
    """macOS names files so, and what is typed into a sheet looks the same."""
    place = write(tmp_path / "set", {unicodedata.normalize("NFD", "größe/ü.png"): picture(1), "b.png": picture(2)})
    (place / "labels.csv").write_text("file,label\ngröße/ü.png,1\nb.png,2\n", encoding="utf-8")
    assert sorted(row[2] for row in rows_of(place, "labels.csv")) == [0, 1]


def test_missing_cells_classes_and_rows_are_said(tmp_path):
    sheet = "file,label,cell\na.png,1,c1\nsub/b.png,2,\n"
    rows, remarks = own.index(write(tmp_path / "set", FILES | {"s.csv": sheet.encode()}), "s.csv")
    assert [row[3:] for row in rows] == [(None, None)] * 2
    assert "cells are not known for 1 images, so for none: no karyotypes, and no folds by cell" in remarks
    assert "files left out: 1 (such as c.PNG), of which images: 1" in remarks
    assert any("no image of class 3" in remark and remark.endswith("X, Y") for remark in remarks)


@pytest.mark.parametrize("blank", ["", "NA", "n/a", "-", "?", "None", "Unknown", "unbekannt"])
def test_what_stands_for_an_unknown_patient(tmp_path, blank):
    sheet = f"file,label,cell,patient\na.png,1,c1,{blank}\nc.PNG,2,c1,p1\n"
    rows, remarks = own.index(write(tmp_path / "set", FILES | {"s.csv": sheet.encode()}), "s.csv")
    assert [row[3:] for row in rows] == [("c1", None)] * 2
    assert "patients are not known for 1 images, so for none: folds by patient then mean folds by cell" in remarks


def test_capitals_make_no_second_cell(tmp_path):
    sheet = "file,label,cell,patient\na.png,1,Zelle 5,p1\nsub/b.png,2,ZELLE 5,P1\nc.PNG,2,zelle 6,p1\n"
    rows, remarks = own.index(write(tmp_path / "set", FILES | {"s.csv": sheet.encode()}), "s.csv")
    assert sorted(row[3:] for row in rows) == [("Zelle 5", "p1"), ("Zelle 5", "p1"), ("zelle 6", "p1")]
    assert "cells whose names differ only in capitals are taken as one: 'Zelle 5' and 'ZELLE 5'" in remarks


BAD_SHEETS = {
    "missing file": (
        "file,label\na.png,1\nz.png,2\n",
        ["row 3: file 'z.png' is not there", "In all 1 such among 2 rows"],
    ),
    "unknown label": ("file,label\na.png,1\nb.png,25\n", ["row 3: label '25' is no class", "Mend or remove"]),
    "labels from 0": ("file,label\na.png,0\nb.png,1\n", ["row 2: label '0' is no class"]),
    "unknown column": ("file,label,cel\na.png,1,x\n", ["unknown column 'cel'", "did you mean 'cell'?"]),
    "unknown columns": (
        "file,label,date,comment\na.png,1,x,y\n",
        ["unknown column 'date', 'comment'.", "Rename or rem"],
    ),
    "no label column": ("file,cell\na.png,1\n", ["no column 'label'", "first line"]),
    "a column twice": ("file,label,cell,cell\na.png,1,c,d\nb.png,2,c,d\n", ["several columns 'cell'", "Keep one"]),
    "UTF-16 without its mark": ("f\0i\0l\0e\0", ["no text", "in UTF-8"]),
    "a value in a column without a name": ("file,label,\na.png,1,\nb.png,2,7\n", ["row 3: 3 values, where 2 columns"]),
    "no names of columns": ("a.png,1\nb.png,2\n", ["unknown column 'a.png'"]),
    "a file twice": ("file,label\na.png,1\nA.png,2\n", ["row 3: file 'A.png' is named again, first in row 2"]),
    "an ambiguous file": ("file,label\na.png,1\nd.png,2\n", ["row 3: file 'd.png' may be one/d.png or two/d.png"]),
    "one class": ("file,label\na.png,1\nb.png,1\n", ["all 2 images are of class 1"]),
    "an Excel file": ("PK\x03\x04 and so on", ["no text", "Save the sheet as CSV"]),
    "an empty file": ("", ["is empty", "file, label, cell, patient"]),
    "only names": ("file,label\n", ["names no image"]),
    "a row too long": ("file,label\na.png,1\nb.png,2,3,4\n", ["row 3: 4 values, where 2 columns have names"]),
    "a quote that nobody closed": (
        'file,label,cell\na.png,1,"c\nb.png,2,c\n',
        ["line 3 cannot be read as CSV", "Save it anew"],
    ),
    "no file": ("file,label\n,1\nb.png,2\n", ["row 2: file '' is not there"]),
    "a path that leads out": (
        "file,label\n../../etc/a.txt,1\nb.png,2\n",
        ["row 2: file '../../etc/a.txt' is not there"],
    ),
}


@pytest.mark.parametrize("kind", BAD_SHEETS)
def test_a_bad_sheet_gives_its_message(tmp_path, kind):
    sheet, words = BAD_SHEETS[kind]
    files = {"a.png": b"x", "b.png": b"x", "one/d.png": b"x", "two/d.png": b"x", "sheet.csv": sheet.encode()}
    message = refusal(write(tmp_path / "set", files), "sheet.csv")
    assert all(word in message for word in words), message


def test_all_bad_rows_are_counted_and_five_are_listed(tmp_path):
    sheet = "file,label\na.png,1\n" + "".join(f"gone{n}.png,2\n" for n in range(300))
    message = refusal(write(tmp_path / "set", FILES | {"s.csv": sheet.encode()}), "s.csv")
    assert message.count("is not there") == 5 and "In all 300 such among 301 rows" in message
    assert "row 3:" in message and "row 7:" in message and "row 8:" not in message


def test_an_absent_sheet(tmp_path):
    assert "no sheet 'labels.csv'" in refusal(write(tmp_path / "set", FILES), "labels.csv")


# The file of a set, and loading it


def test_an_own_set_loads_by_its_name(tmp_path, own_parameters):
    place = write(tmp_path / "set", FILES | {"labels.csv": SHEET.encode()})
    write_set(own_parameters, "mine", path=place, layout="labels.csv", stain="C")
    assert "mine" in datasets.names() and "mine" not in datasets.NAMES
    dataset = datasets.load("mine", size=10)
    assert (dataset.name, dataset.stain) == ("mine", "C")
    assert dataset.files.tolist() == ["a.png", "c.PNG", "sub/b.png"]
    assert dataset.images[:, 5, 5].tolist() == [1, 3, 2]
    assert (dataset.labels.tolist(), dataset.cells.tolist()) == ([0, 6, 22], ["c1", "c2", "c2"])
    assert dataset.patients.tolist() == ["p1", "p2", "p2"]
    assert any("do not have 46 images" in remark for remark in dataset.report)
    assert datasets.load("mine", size=10).digest == dataset.digest  # from the cache


def test_an_own_set_is_predicted_by_its_name(tmp_path, own_parameters):
    place = write(tmp_path / "set", FILES | {"labels.csv": SHEET.encode()})
    write_set(own_parameters, "mine", path=place, layout="labels.csv")
    names, pictures, cells, _ = predict.read_folder("mine")
    assert dict(zip(names, cells, strict=True)) == {"a.png": "c1", "c.PNG": "c2", "sub/b.png": "c2"}
    assert {name: picture[0, 0] for name, picture in zip(names, pictures, strict=True)} == {
        "a.png": 1,
        "c.PNG": 3,
        "sub/b.png": 2,
    }


def test_a_changed_sheet_is_seen(tmp_path, own_parameters):
    place = write(tmp_path / "set", FILES | {"labels.csv": SHEET.encode()})
    write_set(own_parameters, "mine", path=place, layout="labels.csv")
    assert datasets.load("mine", size=10).labels[0] == 0
    (place / "labels.csv").write_text(SHEET.replace("a.png,1", "a.png,12"))
    assert datasets.load("mine", size=10).labels[0] == 11


def test_a_relative_path_lies_in_the_data_folder(tmp_path, own_parameters):
    write(tmp_path / "data" / "set", {"1/a.png": picture(1), "2/b.png": picture(2)})
    write_set(own_parameters, "mine", path="set")
    assert len(datasets.load("mine", tmp_path / "data", size=10).files) == 2
    with pytest.raises(StudyError, match="set is not there"):
        datasets.load("mine", tmp_path, size=10)


BAD_FILES = {
    "unknown key": ({"path": "x", "stian": "G"}, r"unknown key 'stian'; did you mean 'stain'"),
    "no path": ({}, r"path: needs words"),
    "a number": ({"path": 7}, r"path: needs words, has 7"),
    "natural": ({"path": "x", "stain": "natural"}, r"no staining"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_of_a_set(own_parameters, kind):
    values, words = BAD_FILES[kind]
    write_set(own_parameters, "mine", **values)
    with pytest.raises(StudyError, match=words):
        datasets.load("mine")


def test_a_name_of_the_study_is_refused(own_parameters, tmp_path):
    write_set(own_parameters, "cir", path=tmp_path)
    with pytest.raises(StudyError, match=r"cir is a set of the study. Rename"):
        datasets.load("cir")


# A file made for a folder


@pytest.mark.parametrize("sheet", [None, "labels.csv"])
def test_new_writes_what_is_needed(tmp_path, own_parameters, sheet, capsys):
    files = FILES | {"labels.csv": SHEET.encode()} if sheet else {"1/a.png": picture(1), "X/b.png": picture(2)}
    place = write(tmp_path / "My cells 2026", files | {"readme.txt": b"cells of 2026\nthree, of them"})
    datasets.main(["new", str(place), "--stain", "G"])
    printed = capsys.readouterr().out
    assert "my_cells_2026" in printed and f"{3 if sheet else 2} images" in printed and "no image of class" in printed
    assert own.describe("my_cells_2026") == {
        "path": str(place),
        "stain": "G",
        "layout": sheet or "folders",
        "licence": "unknown",
        "source": "own",
    }
    assert len(datasets.load("my_cells_2026", size=10).files) == (3 if sheet else 2)
    with pytest.raises(SystemExit, match=r"my_cells_2026\.yaml: is there already"):
        datasets.main(["new", str(place)])


def test_new_leaves_nothing_behind_for_a_folder_that_cannot_be_read(tmp_path, own_parameters):
    with pytest.raises(SystemExit, match="no image"):
        datasets.main(["new", str(write(tmp_path / "set", {"a.txt": b"x"}))])
    for name in ("nowhere", 300 * "x"):  # of which the system says that no name is so long
        with pytest.raises(SystemExit, match="not there"):
            datasets.main(["new", str(tmp_path / name)])
    assert list(own_parameters.iterdir()) == []


def test_new_decodes_all_and_lists_what_it_refuses(tmp_path, own_parameters):
    good = {"1/a.png": picture(1), "2/b.png": picture(2)}
    place = write(tmp_path / "set", good | {f"2/bad{n}.png": b"text" for n in range(7)})
    with pytest.raises(SystemExit) as caught:
        datasets.main(["new", str(place)])
    message = str(caught.value)
    assert message.count("not an image (text)") == 5 and "2/bad4.png" in message and "2/bad5.png" not in message
    assert "In all 7 such among 9 images" in message and list(own_parameters.iterdir()) == []


def test_copies_are_said_and_one_under_two_classes_is_refused(tmp_path, own_parameters, capsys):
    place = write(tmp_path / "set", {"1/a.png": picture(1), "1/copy.png": picture(1), "2/b.png": picture(2)})
    datasets.main(["new", str(place)])
    words = "copies, pixel by pixel, of other images: 1 (such as 1/copy.png of 1/a.png); delete them"
    assert words in capsys.readouterr().out and words in datasets.load("set", size=10).report
    write(place, {"X/c.png": picture(1)})
    (own_parameters / "set.yaml").rename(own_parameters / "other.yaml")
    with pytest.raises(SystemExit, match=r"1/a\.png and X/c\.png are the same image, of class 1 and class X"):
        datasets.main(["new", str(place)])
    with pytest.raises(StudyError, match=r"1/a\.png and X/c\.png are the same image"):
        datasets.load("other", size=10)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("s.csv", b"Datei;Klasse\na.png;1\n", r"^\S+/s\.csv: its columns are 'Datei;Klasse', wanted are file, label"),
        ("Mappe.xlsx", b"PK", r"^\S+/Mappe\.xlsx: is a workbook, which is not read; save it as CSV"),
    ],
)
def test_new_begins_with_what_is_wrong_with_the_sheet(tmp_path, own_parameters, file, content, words):
    with pytest.raises(SystemExit, match=words):
        datasets.main(["new", str(write(tmp_path / "set", FILES | {file: content}))])


@pytest.mark.parametrize("kind", SPELLINGS)
def test_new_finds_a_sheet_in_every_spelling(tmp_path, own_parameters, kind):
    assert own._layout(write(tmp_path / "set", FILES | {"labels.csv": SPELLINGS[kind]})) == ("labels.csv", "")


def test_new_has_a_name_for_a_folder_of_signs_alone(tmp_path, own_parameters):
    assert own.new(write(tmp_path / "#%", {"1/a.png": picture(1), "2/b.png": picture(2)}))[0] == "cells"
    assert [file.name for file in own_parameters.iterdir()] == ["cells.yaml"]


def test_new_does_not_choose_between_two_sheets(tmp_path, own_parameters):
    place = write(tmp_path / "set", FILES | {"new.csv": SHEET.encode(), "old.csv": SHEET.encode()})
    with pytest.raises(SystemExit, match=r"set: new\.csv and old\.csv both name files and labels\. Leave one"):
        datasets.main(["new", str(place)])
    assert list(own_parameters.iterdir()) == []


# Pki-3 in other clothes


def rearranged(place, content, layout):
    """Images in the layout of Pki-3 as class folders, with or without patients, or flat, renamed, with a sheet."""
    rows = []
    for number, (name, data) in enumerate(content.items()):
        cell, folder, file = name.split("/")[-3:]
        name = CLASSES[int(folder.removeprefix("clase")) - 1]
        patient, ending = cell.split(".")[0], file.rpartition(".")[2]
        path = f"{cell}/{name}/{file}" if layout == "cells" else f"{patient}/{cell}/chr{name}/{file}"
        if layout == "sheet":
            path = f"images/{number:05d}.{ending}"
            rows.append(f"{path.upper()};{int(folder.removeprefix('clase'))}.0;{cell};{patient}")
        write(place, {path: data})
    if rows:
        (place / "all cells.csv").write_text("\r\n".join(["File;Label;Cell;Patient", *rows]), encoding="utf-8-sig")
    return place


def fingerprint(dataset, with_patients):
    """What is in a set, whatever its files are called: one row an image, sorted."""
    patients = dataset.patients if with_patients else [""] * len(dataset.labels)
    rows = zip(dataset.cells, dataset.labels.tolist(), patients, dataset.sizes.tolist(), dataset.images, strict=True)
    return sorted((cell, label, patient, tuple(size), image.tobytes()) for cell, label, patient, size, image in rows)


@pytest.fixture(scope="module")
def pki3(shared_data):
    """{name: content} of the first eight cells in the archive of Pki-3."""
    content, cells = {}, set()
    for name, data in archives.members(shared_data / "pki3.tar.xz"):
        cells.add(name.split("/")[-3])
        if len(cells) > 8:
            return content
        content[name] = data


@pytest.mark.parametrize("layout", ["cells", "patients", "sheet"])
def test_pki3_rearranged_is_the_same_set(pki3, tmp_path, own_parameters, layout):
    write(tmp_path / "data" / "pki3", pki3)
    place = rearranged(tmp_path / "laboratory", pki3, layout)
    own.new(place, "G")
    mine = datasets.load("laboratory", size=32)
    theirs = datasets.load("pki3", tmp_path / "data", size=32)
    assert len(mine.files) > 8 * 40
    assert fingerprint(mine, layout != "cells") == fingerprint(theirs, layout != "cells")
    assert (mine.patients is None) == (layout == "cells")


@pytest.mark.slow
def test_pki3_rearranged_goes_from_folder_to_karyotypes_by_the_readmes_lines(pki3, tmp_path):
    """In a copy of the project, since the files of the set are files of it; the profile is shortened, and no more."""
    copy = tmp_path / "copy"
    for name in ("chromolib", "parameters", "notebooks", "workflow", "runs/reference/coverage"):
        shutil.copytree(paths.ROOT / name, copy / name)
    shutil.copy(paths.ROOT / "Snakefile", copy)
    here = {
        "PYTHONPATH": str(copy),
        "CHROMOLIB_RUNS": str(tmp_path / "runs"),
        "CHROMOLIB_CACHE": str(tmp_path / "cache"),
    }

    def python(*words):
        command = [sys.executable, "-m", "chromolib", *words]
        done = subprocess.run(command, cwd=copy, env=os.environ | here, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    place = rearranged(tmp_path / "cells", pki3, "sheet")
    assert f"{len(pki3):,} images, 24 classes, 8 cells" in python("new-data", str(place), "--stain", "G")
    text, file = re.search(r"printf '(.*)' > (\S+)", (paths.ROOT / "README.md").read_text(encoding="utf-8")).groups()
    short = "image_size: 32\nn_folds: 2\nfolds: [0, 1]\nadam_epochs: 1\nsgd_epochs: 1\nembed_size: 32\n"
    short += "localised: [efficientnet_lite0]\n"
    short += "select_on: last\n"  # one Y in a training part is too few to choose by
    (copy / file).write_text(text.replace("\\n", "\n") + short)
    python("study", "own_cells")
    results = tmp_path / "runs" / "own_cells"
    run = json.loads((results / "g_band" / "efficientnet_lite0" / "imagenet" / "run.json").read_text())
    assert (
        run["data"]["name"] == "cells" and run["data"]["n"] == len(pki3) and run["parameters"]["folds_by"] == "patient"
    )
    made = {"grad_cam", "table2_performance", "karyotype_summary", "validity_protocols"}
    assert made <= {table.stem for table in (results / "tables").glob("*.csv")} and (results / "index.html").is_file()
    said = python("predict", "own_cells/g_band/efficientnet_lite0/imagenet", str(place / "all cells.csv"))
    assert "research, no diagnosis" in said and said.count("4") >= 8
