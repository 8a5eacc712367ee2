"""Data sets of one's own, without code: a file in parameters/dataset/ says where the images lie and what names them.

    path: /data/cells      # a folder or an archive; a relative one lies in the data folder (CHROMOLIB_DATA)
    stain: G               # Q, G, or a word of your own
    layout: folders        # or the name of a sheet in it, such as labels.csv
    licence: ours, not to be passed on
    source: the laboratory, 2026

folders: `<class>/<image>`, `<cell>/<class>/<image>` or `<patient>/<cell>/<class>/<image>`, one of
them throughout. A sheet: a CSV file with the columns file and label and, where known, cell and
patient.
"""

import csv
import io
import os
import re
import unicodedata
from collections import Counter
from itertools import takewhile
from pathlib import Path, PurePosixPath

import yaml

from chromolib import CLASSES, archives, files, intake, parameters, paths
from chromolib.errors import StudyError, refuse_all

KEYS = ("path", "stain", "layout", "licence", "source")
FOLDERS = "folders"  # the layout without a sheet
_COLUMNS = ("file", "label", "cell", "patient")
_IMAGE = re.compile(r"\.(bmp|jpe?g|png|tiff?)$", re.IGNORECASE)
SHEET = re.compile(r"\.(csv|tsv|txt)$", re.IGNORECASE)
_WORKBOOK = re.compile(r"\.(xls[xmb]?|ods|numbers)$", re.IGNORECASE)
_BLANK = {"", "-", "?", "na", "n/a", "nan", "none", "unknown", "unbekannt"}  # an unknown cell or patient
_LABEL = re.compile(r"(?:(?:chromosome|chrom|chr|class|clase)[ _-]*)?(?:0*(\d+)(?:[.,]0+)?|([xy]))", re.IGNORECASE)
_EXPECTED = (
    "Expected is <class>/<image>, <cell>/<class>/<image> or <patient>/<cell>/<class>/<image>; classes: 1 to 22, X, Y. "
    "Or a sheet (CSV) whose first line names the columns file and label."
)
_FEW = 10  # images of a class that one cell has less than
_SHOWN = 80  # letters of a sheet's first line that a message shows


def names():
    """Sorted names of the own data sets."""
    return parameters.names("dataset")


def describe(name):
    """What parameters/dataset/<name>.yaml says: dict of KEYS to str. StudyError where it is none or not whole."""
    file = parameters.path("dataset", name)
    values = parameters.load(file)
    for key in values.keys() - set(KEYS):
        raise StudyError(f"{file}: unknown key {key!r}{parameters.near(key, KEYS) or '.'} Known are: {', '.join(KEYS)}")
    for key in KEYS:
        if not isinstance(values.get(key), str) or not values[key].strip():
            raise StudyError(f"{file}: {key}: needs words, has {values.get(key)!r}. Write a line `{key}: ...`")
    if values["stain"] == "natural":
        raise StudyError(f"{file}: stain: 'natural' is no staining; photographs are the set imagenet_sample")
    return values


def find(name, root=None):
    """(folder or archive, layout) of an own set; a relative path lies in `root` (default: the data folder)."""
    said = describe(name)
    path = Path(root or paths.data()) / Path(said["path"]).expanduser()
    if not os.path.exists(path):  # which says False too where a folder above forbids to look
        file = parameters.path("dataset", name)
        raise StudyError(f"data set {name}: {path} is not there, or out of reach. Mend `path` in {file}")
    return path, said["layout"]


def index(path, layout):
    """([(member, file, label, cell, patient)] of the images of a set, words on what is irregular).

    path: the folder or archive; layout: "folders" or the name of the sheet in it; label: 0..23;
    cell and patient: str, or None for all where they are not known for all. Raises StudyError for a
    set without images, labels that are no class, one class only, and for rows of the sheet that
    cannot be used: all are counted, the first five listed.
    """
    members = _members(path)
    pictures = _pictures(path, members)
    rows = _of_folders(path, pictures) if layout == FOLDERS else _of_sheet(path, layout, members)
    rows, remarks = _settled(rows)
    labels = {label for _, _, label, *_ in rows}
    if len(labels) == 1:
        only = CLASSES[labels.pop()]
        raise StudyError(f"{path}: all {len(rows):,} images are of class {only}; a classifier needs two or more.")
    absent = [name for number, name in enumerate(CLASSES) if number not in labels]
    if absent:
        remarks.append(f"no image of class {', '.join(absent)}")
    return rows, remarks + _left_out(members, {row[0] for row in rows} | {layout})


def place(path):
    """(folder or archive, layout) of a folder, a sheet or the name of an own set; layout: of a folder None."""
    path = Path(path)
    if os.path.exists(path):  # which says False too where a folder above forbids to look
        return (path.parent, path.name) if SHEET.search(path.name) else (path, None)
    if str(path) in names():
        return find(str(path))
    raise StudyError(f"{path}: no such folder or sheet, or it is out of reach; name one with images of chromosomes")


def unlabelled(path, layout=None):
    """([(member, cell)] of images whose class is asked for, words on what is irregular).

    path and layout: as of `place`. Without a layout the folders above an image name its cell, such
    as <patient>/<cell> (class folders with a few images each do not: what is above them does; class
    folders with many, and nothing above, tell no cells). cell: str, or None for all where not known
    for all. Raises StudyError as `index`, but a sheet needs no labels.
    """
    if layout == FOLDERS:
        rows, remarks = index(path, layout)
        return [(member, cell) for member, _, _, cell, _ in rows], remarks
    members = _members(path)
    pictures = _pictures(path, members)
    if layout:
        rows, remarks = _settled(_of_sheet(path, layout, members, labelled=False))
        remarks += _left_out(members, {row[0] for row in rows} | {layout})
        return [(member, cell) for member, _, _, cell, _ in rows], remarks
    remarks = _left_out(members, set(pictures))
    above = [PurePosixPath(name).parts[:-1] for name in pictures]
    counts = Counter(filter(None, above))  # a picture beside the folders does not make cells of them
    of_classes = all(label(folders[-1]) is not None for folders in counts)
    if of_classes and max(counts.values(), default=0) < _FEW:
        above = [folders[:-1] for folders in above]
    elif of_classes and len({folders[:-1] for folders in counts}) == 1:
        listed = ", ".join(sorted(folders[-1] for folders in counts))
        words = f"folders named as classes ({listed}) tell no cells; where they are cells, rename them, such as cell_1"
        return [(name, None) for name in pictures], [*remarks, words]
    return [(name, "/".join(folders) or stem(path)) for name, folders in zip(pictures, above, strict=True)], remarks


def _left_out(members, used):
    """Words, in a list, on files that are not used."""
    if not (left := set(members) - used):
        return []
    unnamed = set(filter(_IMAGE.search, left))
    return [f"files left out: {len(left):,} (such as {min(unnamed or left)}), of which images: {len(unnamed):,}"]


def copied(path, rows, copies):
    """Words, in a list, on images that are there twice; StudyError where one is there under two classes.

    path: the set's folder or archive; rows: as of `index`; copies: groups of members, as of
    `intake.each`.
    """
    labels = {row[0]: row[2] for row in rows}
    faults = []
    for first, *others in copies:
        other = next((name for name in others if labels[name] != labels[first]), None)
        if other:
            classes = f"class {CLASSES[labels[first]]} and class {CLASSES[labels[other]]}"
            faults.append(f"{first} and {other} are the same image, of {classes}")
    refuse_all(path, faults, len(rows), "images. Delete the wrong one of each.")
    return told(copies)


def told(copies):
    """Words, in a list, on groups of members that are equal pixel by pixel."""
    count = sum(len(group) - 1 for group in copies)
    example = count and f"{copies[0][1]} of {copies[0][0]}"
    return [f"copies, pixel by pixel, of other images: {count:,} (such as {example}); delete them"] if count else []


def stem(path):
    """The name of a folder, or of an archive or a sheet without its ending."""
    path = path.resolve()
    return path.name if os.path.isdir(path) else path.stem


def label(text):
    """The class 0..23 that a label of a folder or sheet means (7, 07, 7.0, chr7, X, 23 = X, 24 = Y), or None."""
    match = _LABEL.fullmatch(str(text).strip())
    if not match:
        return None
    number = int(match[1]) if match[1] else len(CLASSES) - 1 + "xy".index(match[2].lower())
    return number - 1 if 1 <= number <= len(CLASSES) else None


def new(folder, stain="unknown"):
    """Write parameters/dataset/<name>.yaml for a folder or archive: the name, and words on what its images are like.

    The name is that of the folder. A sheet in it that names files and labels is taken, otherwise
    the class folders. All images are decoded first. Raises StudyError where there is neither, where
    the file is there already, and as `index`, `intake.each` and `copied`.
    """
    path = Path(folder).expanduser().resolve()
    if not os.path.exists(path):
        raise StudyError(f"{path}: not there, or out of reach. Name the folder or archive that holds the images.")
    name = re.sub(r"\W+", "_", archives.PACKED.sub("", path.name).lower()).strip("_") or "cells"
    file = parameters.PARAMETERS / "dataset" / f"{name}.yaml"
    if file.exists():
        raise StudyError(f"{file}: is there already. Edit it, or delete it to begin anew.")
    layout, unread = _layout(path)
    try:
        rows, _ = index(path, layout)  # refuses what cannot be used, before anything is written
    except StudyError as error:
        raise StudyError(f"{unread}{error}") from error
    remarks, copies = intake.each(path, {row[0] for row in rows}, lambda *_: None, f"reading {name}")
    remarks += copied(path, rows, copies)
    values = {"path": str(path), "stain": stain, "layout": layout, "licence": "unknown", "source": "own"}
    files.write(file, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    return name, remarks


def _layout(path):
    """The sheet that names files and labels, or the word for class folders; and why a sheet was not read, or "".

    The latter is what a message on the folders begins with. StudyError where several sheets would
    do.
    """
    found, unread, members = [], [], _members(path)
    for sheet in filter(SHEET.search, members):
        first = next((line for line in _text(path, sheet).splitlines() if not line.lower().startswith("sep=")), "")
        if {"file", "label"} <= set(re.findall(r"\w+", first.lower())):
            found.append(sheet)
        elif re.search(r"[;,\t]", first):  # others are notes
            wanted = "file, label and, where known, cell and patient"
            unread.append(f"{sheet}: its columns are {first[:_SHOWN]!r}, wanted are {wanted}")
    if len(found) > 1:
        raise StudyError(f"{path}: {' and '.join(found[:2])} both name files and labels. Leave one of them there.")
    books = filter(_WORKBOOK.search, members)
    unread += [f"{book}: is a workbook, which is not read; save it as CSV" for book in books]
    if found or not unread:
        return next(iter(found), FOLDERS), ""
    return FOLDERS, f"{path}/{unread[0]}. The folders were read in its place: "


def _members(path):
    """Names of the files in a folder or archive; StudyError for a single image or a workbook."""
    if _IMAGE.search(str(path)) and os.path.isfile(path):
        raise StudyError(f"{path}: is one image. Name the folder that holds it.")
    if _WORKBOOK.search(str(path)) and os.path.isfile(path):
        raise StudyError(f"{path}: is a workbook, which is not read. Save it as CSV, and name that.")
    return archives.names(path)


def _pictures(path, members):
    """Those that are images by their names; StudyError where there is none."""
    pictures = [name for name in members if _IMAGE.search(name)]
    if not pictures:
        packed = next((name for name in members if archives.PACKED.search(name)), None)
        hint = f"Unpack {packed} first." if packed else "Name the folder that holds the images."
        example = f" (such as {members[0]})" if members else ""
        raise StudyError(f"{path}: no image (BMP, JPEG, PNG or TIFF) among {len(members):,} files{example}. {hint}")
    return pictures


# Class folders


def _of_folders(path, pictures):
    """Rows from the folders that images lie in; what all have in common above the class says nothing."""
    parts = [PurePosixPath(name).parts for name in pictures]
    depths = Counter(map(len, parts))
    if len(depths) > 1:
        rare = min(parts, key=lambda names: depths[len(names)])
        raise StudyError(f"{path}: images lie at different depths, such as {'/'.join(rare)}. {_EXPECTED}")
    if depths.keys() == {1}:
        raise StudyError(f"{path}: images lie in no folder of a class, such as {pictures[0]}. {_EXPECTED}")
    above = list(zip(*parts, strict=True))[:-2]  # the folders of each level above the class, of all images
    common = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, above))
    rows, faults = [], []
    for name, folders in zip(pictures, parts, strict=True):
        *patient, cell = folders[common:-2] or [""]
        rows.append((name, name, label(folders[-2]), cell, "/".join(patient)))
        if rows[-1][2] is None:
            faults.append(f"{name}: {folders[-2]!r} is no class")
    refuse_all(path, faults, len(rows), f"images. Rename the folders, or move the images out. {_EXPECTED}")
    pairs = {(cell, number) for _, _, number, cell, _ in rows}
    if len({cell for cell, _ in pairs}) > 1 and len(pairs) == len({number for _, number in pairs}):
        words = "share no class: they are groups (as A to G) and no cells. Move the class folders out of them"
        raise StudyError(f"{path}: folders such as {rows[0][3]} {words}")
    return rows


# Sheets


def _of_sheet(path, sheet, members, labelled=True):
    """Rows from the sheet, without labels where it needs none; every row that cannot be used is counted."""
    where = f"{path}/{sheet}"
    if sheet not in members:
        raise StudyError(f"{path}: no sheet {sheet!r} in it. Mend `layout` in the set's file, or put the sheet there.")
    columns, lines = _table(where, _text(path, sheet))
    if unknown := [column for column in columns if column not in _COLUMNS]:
        listed, near = ", ".join(map(repr, unknown)), parameters.near(unknown[0], _COLUMNS) or "."
        raise StudyError(f"{where}: unknown column {listed}{near} Rename or remove it; known: {', '.join(_COLUMNS)}")
    for column in columns:
        if columns.count(column) > 1:
            raise StudyError(f"{where}: several columns {column!r} in its first line. Keep one of them.")
    for column in ("file", "label") if labelled else ("file",):
        if column not in columns:
            raise StudyError(f"{where}: no column {column!r} in its first line. Mend the names there.")
    if not lines:
        raise StudyError(f"{where}: names no image. Add a row for each.")
    finder, first, rows, faults = _Finder(members), {}, [], []
    for line, values in lines:
        row = dict(zip(columns, values, strict=False))
        member, fault = finder.find(row["file"])
        number = label(row.get("label", ""))
        if labelled and not fault and number is None:
            fault = f"label {row.get('label', '')!r} is no class (1 to 22, X or 23, Y or 24)"
        if not fault and first.setdefault(member, line) != line:
            fault = f"file {row['file']!r} is named again, first in row {first[member]}"
        if any(values[len(columns) :]):
            fault = f"{len(values)} values, where {len(columns)} columns have names"
        if fault:
            faults.append(f"row {line}: {fault}")
        groups = ("" if row.get(kind, "").casefold() in _BLANK else row[kind] for kind in ("cell", "patient"))
        rows.append((member, member, number, *groups))
    refuse_all(where, faults, len(rows), "rows. Mend or remove them.")
    return rows


def _table(where, text):
    """Names in the first line of a sheet, in small letters, and [(line, values)] of the others that are not empty."""
    if "\0" in text or text.startswith("PK\3"):
        raise StudyError(f"{where}: no text. Save the sheet as CSV, in UTF-8.")
    separator = max(";,\t", key=text.splitlines()[0].count) if text else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        lines = [(reader.line_num, [value.strip() for value in values]) for values in reader]
    except csv.Error as error:
        raise StudyError(f"{where}: line {reader.line_num} cannot be read as CSV ({error}). Save it anew.") from error
    if lines and "".join(lines[0][1]).lower() == "sep=":  # Excel's line on the separator, by which it is split itself
        del lines[0]
    if not lines:
        raise StudyError(f"{where}: is empty. Its first line should be: {', '.join(_COLUMNS)}")
    columns = [name.lower() for name in lines[0][1]]
    while columns and not columns[-1]:  # spreadsheets save empty columns at the right
        columns.pop()
    return columns, [(line, values) for line, values in lines[1:] if any(values)]


def _text(path, sheet):
    """Text of a sheet in UTF-8, in UTF-16 that begins with its mark, or as Western Windows writes it."""
    content = next(content for _, content in archives.members(path, sheet.__eq__))
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


class _Finder:
    """Finds the file that a sheet means: with or without its folders, its ending, and the right capitals."""

    def __init__(self, members):
        self._members, self._by_name = set(members), {}
        for member in members:
            name = PurePosixPath(_folded(member)).name
            for key in {name, _IMAGE.sub("", name)}:
                self._by_name.setdefault(key, []).append(member)

    def find(self, given):
        """(member, "") or (None, what is wrong)."""
        path = re.sub(r"^(\./)+", "", given.replace("\\", "/"))
        if path in self._members:
            return path, ""
        wanted = "/" + _folded(path)
        candidates = self._by_name.get(PurePosixPath(wanted).name, ())
        found = [member for member in candidates if _one_ends_the_other("/" + _folded(member), wanted)]
        if len(found) == 1:
            return found[0], ""
        return None, f"file {given!r} " + (f"may be {' or '.join(found[:2])}" if found else "is not there")


def _folded(name):
    """A name without its capitals, and with letters such as ü in one piece, of which macOS makes two."""
    return unicodedata.normalize("NFC", name.casefold())


def _one_ends_the_other(path, wanted):
    """Whether one path is the end of the other, the ending of the file left aside if it is not given."""
    path = path if _IMAGE.search(wanted) else _IMAGE.sub("", path)
    return path.endswith(wanted) or wanted.endswith(path)


# Both

_CONSEQUENCES = {  # of what is known for some images only
    "cell": "no karyotypes, and no folds by cell",
    "patient": "folds by patient then mean folds by cell",
}


def _merged(names):
    """The names with one spelling, the first, for those that differ only in capitals, and words on these."""
    first = {}
    for name in names:
        first.setdefault(_folded(name), name)
    pairs = sorted({(first[_folded(name)], name) for name in names if first[_folded(name)] != name})
    return [first[_folded(name)] for name in names], ", ".join(f"{one!r} and {other!r}" for one, other in pairs)


def _settled(rows):
    """The rows with None for cells and patients that are not known for all, and words on it.

    A cell's name that occurs with several patients, as where cells are numbered within each, gets
    the patient's name.
    """
    remarks = []
    members, names, labels, *groups = zip(*rows, strict=True)
    for position, (kind, consequence) in enumerate(_CONSEQUENCES.items()):
        groups[position], merged = _merged(groups[position])
        if merged:
            remarks.append(f"{kind}s whose names differ only in capitals are taken as one: {merged}")
        blank = groups[position].count("")
        if blank:
            partly = f" for {blank:,} images, so for none: {consequence}"
            remarks.append(f"{kind}s are not known" + (partly if blank < len(rows) else ""))
            groups[position] = (None,) * len(rows)
    cells, patients = groups
    pairs = set(zip(cells, patients, strict=True))
    if None not in (cells[0], patients[0]) and len(pairs) > len(set(cells)):
        cells = [f"{patient}/{cell}" for cell, patient in zip(cells, patients, strict=True)]
        remarks.append("cells of several patients have the same name, so each is called <patient>/<cell>")
    return list(zip(members, names, labels, cells, patients, strict=True)), remarks
