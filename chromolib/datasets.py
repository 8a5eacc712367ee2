"""Data sets as square grey images with labels and cells: the study's (parameters/sources.yaml) and one's own (`own`).

Chromosomes are padded with black and resized to squares [paper], photographs are cut to squares,
once; the squares are kept in the cache folder and mapped into memory from then on. What is
irregular in a set is said in its `report`, never passed over.
"""

import argparse
import fnmatch
import hashlib
import itertools
import json
import re
import warnings
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chromolib import CLASSES, archives, fetch, files, images, intake, own, parameters, paths
from chromolib.errors import StudyError, ends_command

_FORMAT = 3  # raise it when the same files would give other squares: older caches are then left alone
_CELL_SIZE = 46

PRESENTATIONS = (
    *("square", "crop", "canvas", "both", "crop_both"),
    *("inverted", "reduced_64", "reduced_48", "reduced_32"),
)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Square images and what is known of each.

    images: (n, size, size) uint8, read-only, or (n, 2, size, size) in presentations of two channels;
    labels: (n,) int64, 0..23, or -1 for natural images; cells, patients: (n,) str, or None where
    unknown; sizes: (n, 2) float32, area and length of the chromosome in native pixels
    (`images.area_and_length`), or None for natural images; files: (n,) str, unique names inside the
    set; stain: "Q", "G" or "natural"; report: irregularities in words; digest: SHA-256 over images,
    labels and files.
    """

    name: str
    stain: str
    images: np.ndarray
    labels: np.ndarray
    cells: np.ndarray | None
    patients: np.ndarray | None
    sizes: np.ndarray | None
    files: np.ndarray
    report: tuple[str, ...]
    digest: str

    @property
    def pictures(self):
        """One picture an image, (n, size, size) uint8: what a page shows."""
        return self.images if self.images.ndim == 3 else self.images[:, 0]

    def groups(self, by):
        """Names of what folds keep together, (n,) str or None: patients where `by` is "patient" and they are known.

        Where patients are unknown the cell stands for the patient.
        """
        return self.cells if by != "patient" or self.patients is None else self.patients


@dataclass(frozen=True)
class Source:
    """Where a data set lies and how its file names are read: a row of parameters/sources.yaml, which explains it."""

    name: str
    stain: str
    places: tuple[str, ...]
    layout: str
    example: str
    obtain: str
    licence: str
    classes: dict[str, int] | None = None  # name in the path -> label; None for natural images
    strays: tuple[str, ...] = ()
    n_images: int | None = None
    n_cells: int | None = None
    only_cells: tuple[str, ...] = ()
    own: str | None = None  # of an own set: "folders", or the name of its sheet; `places` is then its path


class _Entry(NamedTuple):
    """One image of a set: its member of the folder or archive, and what its name says."""

    member: str
    file: str
    label: int
    cell: str | None
    patient: str | None


def _sources():
    """The rows of parameters/sources.yaml, as `Source`."""
    for name, row in parameters.load(paths.PARAMETERS / "sources.yaml").items():
        first = row.pop("first_class", None)
        if first is not None:
            row["classes"] = {str(first + label): label for label in range(len(CLASSES))}
        yield Source(name, **{key: tuple(value) if isinstance(value, list) else value for key, value in row.items()})


SOURCES = tuple(_sources())
_BY_NAME = {source.name: source for source in SOURCES}
_EMBEDDED = {"synthetic_g": "G", "synthetic_q": "Q", "photographs": "natural"}

NAMES = (*_EMBEDDED, *_BY_NAME)


def names():
    """All data sets that can be loaded: NAMES, and those of parameters/dataset/."""
    return (*NAMES, *own.names())


def load(name, root=None, size=256, presentation="square"):
    """The data set `name` as squares of `size` pixels: Dataset, in natural order of the files.

    presentation: "square" (the paper's: padded and resized), "crop" (the foreground's tight crop,
    padded and resized), "canvas" (the crop at its cell's scale, on black; at the set's scale where
    cells are unknown), or of two channels: "both" (square and canvas), "crop_both" (crop and
    canvas). To ask why a staining helps: "inverted" (squares of the negative: dark bands become
    bright, a white ground black) and "reduced_<n>" (squares reduced to n pixels and back).
    Photographs are cut to squares in any case.
    root: folder with the sets as downloaded, unpacked or not (default: chromolib.paths.data()); the
    embedded sets (synthetic_g, synthetic_q: drawings; photographs) need none. Raises StudyError for
    an unknown name, a set that is absent or has no file in its layout, an unknown class, a file
    found twice, unreadable images, and an image of an own set that is there under two classes.
    """
    if not (isinstance(size, int) and size > 0):
        raise StudyError(f"size: {size!r} is not a number of pixels; take a whole number such as 256")
    if presentation not in PRESENTATIONS:
        raise StudyError(f"presentation: {presentation!r} is not one of {', '.join(PRESENTATIONS)}")
    if name in _EMBEDDED:
        return _embedded(name, size, presentation)
    source = _source(name)
    path, passed_over = _find(source, Path(root) if root else paths.data())
    dataset = _cached(source, path, size, presentation)
    return replace(dataset, report=(*passed_over, *dataset.report))


def layout(presentation):
    """The presentation whose networks take this one's images too: that of the whole square picture, or its own."""
    return "square" if presentation.startswith(("inverted", "reduced_")) else presentation


# Finding and reading


def _source(name):
    """The row of a set; of an own one, made from its file."""
    if name not in names():
        raise StudyError(f"unknown data set {name!r}. Known are: {', '.join(names())}")
    if name not in own.names():
        return _BY_NAME[name]
    if name in NAMES:
        raise StudyError(f"parameters/dataset/{name}.yaml: {name} is a set of the study. Rename the file.")
    said = own.describe(name)
    places, layout = (said["path"],), said["layout"]
    return Source(name, said["stain"], places, "", layout, said["source"], said["licence"], own=layout)


def stain(name):
    """The staining of a set, such as "Q", whether its images are at hand or not."""
    return _EMBEDDED.get(name) or _source(name).stain


def find(name, root=None):
    """The folder or archive of a set, None for an embedded one; StudyError where it is absent, with where to get it."""
    return None if name in _EMBEDDED else _find(_source(name), Path(root) if root else paths.data())[0]


def _find(source, root):
    """The folder or archive of a set, and words on further ones, which are passed over; a folder comes first."""
    if source.own:
        return own.find(source.name, root)[0], []
    try:
        entries = sorted(root.iterdir() if root.is_dir() else (), key=lambda entry: (entry.is_file(), entry.name))
    except OSError as error:
        raise StudyError(f"{root}: this folder cannot be read ({error}). Give yourself the right to.") from error
    named = [entry for entry in entries if any(fnmatch.fnmatchcase(entry.name.lower(), p) for p in source.places)]
    found = [entry for entry in named if entry.is_dir() or entry.name.lower().endswith(archives.SUFFIXES)]
    if not found:
        raise StudyError(
            f"data set {source.name}: not in {root} (looked for a folder or archive called "
            f"{' or '.join(source.places)}). {_unpack(entry.name for entry in named)}"
            f"Get it from {source.obtain} (licence: {source.licence}) and put it there, "
            "unpacked or not, or set CHROMOLIB_DATA to the folder that has it."
        )
    return found[0], [f"{entry.name} lies beside {found[0].name} and was not read" for entry in found[1:]]


def _unpack(names):
    """Words on the first of these files that wants unpacking, if one does."""
    packed = next((name for name in names if archives.PACKED.search(name)), None)
    return f"There lies {packed}, which is not read here: unpack it first. " if packed else ""


def _build(source, path, size, presentation):
    """Decode and square every image of a set."""
    entries, remarks = _index(source, path)
    position = {entry.member: index for index, entry in enumerate(entries)}
    shown = Shown(source.stain, [entry.cell for entry in entries], size, presentation)

    def take(name, image):
        shown.take(position[name], image)

    words, copies = intake.each(path, position, take, f"reading {source.name}")
    remarks += words
    if source.own:
        remarks += own.copied(path, entries, copies)
    return _dataset(source.name, source.stain, shown, entries, remarks)


class Shown:
    """Images of a set as a presentation shows them: `take` each, in any order and from any thread, then `images`."""

    def __init__(self, stain, cells, size, presentation):
        self.natural, self.cells, self.presentation = stain == "natural", cells, presentation
        self.squares = np.empty((len(cells), size, size), np.uint8)
        self.sizes = None if self.natural else np.empty((len(cells), 2), np.float32)
        self.crops = [None] * len(cells)  # kept only where a scale has to be found

    def take(self, index, image):
        if self.natural:
            self.squares[index] = images.centre(image, self.squares.shape[1])
            return
        self.sizes[index] = images.area_and_length(image)
        part = images.crop(image) if self.presentation.startswith(("crop", "canvas")) else image
        if self.presentation == "inverted":
            part = 255 - image
        if self.presentation.startswith("reduced_"):
            part = images.square(image, int(self.presentation.removeprefix("reduced_")))
        self.squares[index] = images.square(part, self.squares.shape[1])
        if self.presentation.endswith(("canvas", "both")):
            self.crops[index] = images.crop(image)

    def images(self):
        if self.natural or not self.presentation.endswith(("canvas", "both")):
            return self.squares
        canvases = np.empty_like(self.squares)
        for cell in dict.fromkeys(self.cells):  # one group of all where cells are unknown
            index = [i for i, other in enumerate(self.cells) if other == cell]
            canvases[index] = images.canvases([self.crops[i] for i in index], self.squares.shape[1])
        return canvases if self.presentation == "canvas" else np.stack([self.squares, canvases], axis=1)


def _index(source, path):
    """The entries of a set, sorted, and words on what is irregular; no image is read."""
    if source.own:
        rows, report = own.index(path, source.own)
        entries = sorted(itertools.starmap(_Entry, rows), key=lambda entry: _natural_order(entry.file))
        return entries, report + _remarks_on_counts(source, entries)
    matches, others = _matches(source, path)
    report = []
    if others:
        report.append(f"files not in the layout of the set, left out: {len(others):,} (such as {others[0]})")
    strays = [name for name, match in matches if match.groupdict().get("class") in source.strays]
    if strays:
        report.append(f"images in a class that is no chromosome, left out: {len(strays):,} ({', '.join(strays)})")
    entries = [_entry(source, path, name, match) for name, match in matches if name not in strays]
    if source.only_cells:
        entries = _of_these_cells(source, path, entries)
    entries.sort(key=lambda entry: _natural_order(entry.file))
    if not entries:
        hint = _unpack(others) or f"What lies there is called {', '.join(others[:3])}." if others else ""
        raise StudyError(f"{path}: no image in the layout of {source.name}, which is {source.example}. {hint}")
    twice = [file for file, count in Counter(entry.file for entry in entries).items() if count > 1]
    if twice:
        raise StudyError(
            f"{path}: found twice, {twice[0]} and {len(twice) - 1:,} more files. Keep one copy of the data set."
        )
    return entries, report + _remarks_on_counts(source, entries)


def _matches(source, path):
    """[(member, match)] of the members in the layout, and the names of the files that are not."""
    layout = re.compile(rf"(?<![^/])(?:{source.layout})$", re.IGNORECASE)
    found = [(name, layout.search(name)) for name in archives.names(path)]
    return [(name, match) for name, match in found if match], [name for name, match in found if not match]


def _entry(source, path, name, match):
    """One image by its name; a natural one is of class -1."""
    said = match.groupdict()
    if source.classes and said["class"] not in source.classes:
        raise StudyError(
            f"{path}: {name} is of the unknown class {said['class']!r} "
            f"(known: {', '.join(source.classes)}). Remove or rename the file."
        )
    label = source.classes[said["class"]] if source.classes else -1
    return _Entry(name, match.group(), label, said.get("cell"), said.get("patient"))


def _of_these_cells(source, path, entries):
    """The entries of the cells that make up the set; StudyError where one of them is missing or not whole."""
    chosen = [entry for entry in entries if entry.cell in source.only_cells]
    sizes = Counter(entry.cell for entry in chosen)
    lacking = [cell for cell in source.only_cells if sizes[cell] != _CELL_SIZE]
    if lacking:
        raise StudyError(
            f"{path}: {source.name} is made of {len(source.only_cells)} cells, of which {len(lacking)} are not here "
            f"with {_CELL_SIZE} images ({', '.join(lacking[:5])}). Add them, or take all that is there: pki3."
        )
    return chosen


def _remarks_on_counts(source, entries):
    remarks = []
    if source.n_images not in (None, len(entries)):
        remarks.append(f"{len(entries):,} images, where the whole set has {source.n_images:,}")
    sizes = Counter(entry.cell for entry in entries)
    if source.n_cells not in (None, len(sizes)):
        remarks.append(f"{len(sizes):,} cells, where the whole set has {source.n_cells:,}")
    irregular = {cell: size for cell, size in sizes.items() if size != _CELL_SIZE and cell is not None}
    if irregular:
        listed = ", ".join(f"{cell} ({size})" for cell, size in irregular.items())
        remarks.append(f"{len(irregular):,} cells do not have {_CELL_SIZE} images: {listed}")
    return remarks


def _natural_order(file):
    """Sort key in which 9 comes before 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file)], file


def _embedded(name, size, presentation):
    """A set that is drawn or cut from what is installed."""
    stain = _EMBEDDED[name]
    if name == "photographs":
        from chromolib import photographs

        drawn = [(image, -1, None, file) for image, file in photographs.crops()]
        report = ["crops of 14 photographs, many from each: not independent images"]
    else:
        from chromolib import synthetic

        drawn = synthetic.karyotypes(stain)
        report = ["drawings after an ideogram, for learning and testing: not images of chromosomes"]
    entries = [_Entry(file, file, label, cell, None) for _, label, cell, file in drawn]
    shown = Shown(stain, [entry.cell for entry in entries], size, presentation)
    for index, (picture, *_) in enumerate(drawn):
        shown.take(index, picture)
    return _dataset(name, stain, shown, entries, report)


def _dataset(name, stain, shown, entries, report):
    _, names, labels, cells, patients = zip(*entries, strict=True)
    squares = shown.images()
    squares.flags.writeable = False
    digest = hashlib.sha256(squares)
    digest.update(np.array(labels, "<i8").tobytes())
    digest.update("\n".join(names).encode())
    columns = {"labels": labels, "files": names, "sizes": shown.sizes}
    columns |= {"cells": None if cells[0] is None else cells, "patients": None if patients[0] is None else patients}
    return Dataset(name, stain, squares, **_arrays(columns), report=tuple(report), digest=digest.hexdigest())


def _arrays(columns):
    """What is known of each image, {name: values or None}, as the arrays of a Dataset."""
    kinds = {"labels": np.int64, "cells": str, "patients": str, "sizes": np.float32, "files": str}
    return {name: None if columns[name] is None else np.array(columns[name], kind) for name, kind in kinds.items()}


# The cache: squares.npy and, written last, index.json


def _cached(source, path, size, presentation):
    """The set from the cache, or built and put there; a cache that cannot be written is only a warning."""
    folder = paths.cache() / f"{source.name}-{size}-{presentation}-{_key(source, path)[:16]}"
    with suppress(OSError, ValueError, KeyError):  # not there yet, or damaged
        return _open(source, folder)
    with _alone(folder):
        with suppress(OSError, ValueError, KeyError):
            return _open(source, folder)  # by now another process has built it
        dataset = _build(source, path, size, presentation)
        try:
            _store(dataset, folder)
            return _open(source, folder)  # mapped, so that the array in memory is given back
        except (OSError, StudyError) as error:
            warnings.warn(f"{folder}: the cache cannot be written ({error}); loading stays slow", stacklevel=3)
            return dataset


@contextmanager
def _alone(folder):
    """Processes that build the same cache do so in turn: what one has opened is not replaced by the next."""
    with ExitStack() as held:
        with suppress(OSError):  # where nothing can be written there is nothing to replace
            folder.mkdir(parents=True, exist_ok=True)
            held.callback(files.lock(folder / ".lock", wait=-1).release)
            files.clear_parts(folder)
        yield


def _key(source, path):
    """Digest of what the squares are made from: the set's row, and the archive or the folder's list of files."""
    row = json.dumps(asdict(source))
    try:
        if path.is_dir():
            stats = ((name, file.stat()) for name, file in archives.files_below(path))
            content = "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
        else:
            content = files.sha256(path)
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error}). Check the file and its permissions.") from error
    return hashlib.sha256(f"{_FORMAT}\n{row}\n{content}".encode()).hexdigest()


def _store(dataset, folder):
    columns = {name: getattr(dataset, name) for name in ("labels", "cells", "patients", "sizes", "files")}
    index = {name: None if values is None else values.tolist() for name, values in columns.items()}
    index |= {"report": dataset.report, "digest": dataset.digest}
    with files.replacing(folder / "squares.npy") as path:
        np.save(path, dataset.images, allow_pickle=False)
    files.write(folder / "index.json", json.dumps(index))


def _open(source, folder):
    """The stored set; OSError, ValueError or KeyError where it is absent or not whole."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    squares = np.load(folder / "squares.npy", mmap_mode="r", allow_pickle=False)
    if not len(squares) == len(index["files"]) == len(index["labels"]):
        raise ValueError("squares and index differ in length")
    told = {"report": tuple(index["report"]), "digest": index["digest"]}
    return Dataset(source.name, source.stain, squares, **_arrays(index), **told)


# Command line: python -m chromolib.datasets


@ends_command()
def main(arguments=None):
    """Read the command line; errors end it with their message."""
    parser = argparse.ArgumentParser(
        prog="python -m chromolib.datasets", description="Data sets: download one, or add one's own."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", help="write parameters/dataset/<name>.yaml for a folder of one's own images")
    new.add_argument("folder", help="class folders, or images with a sheet; unpacked or not")
    new.add_argument("--stain", default="unknown", help="Q, G or a word of your own")
    get = commands.add_parser("get", help="download a set of the study into the data folder")
    get.add_argument("name", help=", ".join(_BY_NAME))
    given = parser.parse_args(arguments)
    _print_new(*own.new(given.folder, given.stain)) if given.command == "new" else _get(given.name)


def _get(name):
    """Download a set unless it is there, and say what there is."""
    if name in _EMBEDDED:
        raise StudyError(f"{name}: is made on the spot, so there is nothing to get")
    source = _source(name)
    try:
        find(name)
    except StudyError:
        fetch.get(name, source.obtain, paths.data())
    _print_found(source)


def _print_new(name, remarks):
    """What was found for an own set, by the names and (`remarks`) in the images, and what can be done with it."""
    print(f"{parameters.path('dataset', name)}: check stain, licence and source in it.")
    _print_found(_source(name))
    for remark in remarks:
        print(remark)
    print(f"The set is called {name}. In a profile it takes a task's place, such as `g_band: {name}`.")


def _print_found(source):
    """Where a set lies, and what is in it, by the names alone."""
    path, _ = _find(source, paths.data())
    entries, remarks = _index(source, path)
    counts = {"images": len(entries), "classes": len({entry.label for entry in entries})}
    counts |= {f"{kind}s": len({getattr(entry, kind) for entry in entries} - {None}) for kind in ("cell", "patient")}
    print(f"{path}: " + ", ".join(f"{number:,} {kind}" for kind, number in counts.items()), *remarks, sep="\n")


if __name__ == "__main__":
    main()
