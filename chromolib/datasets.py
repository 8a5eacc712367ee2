"""Data sets as square grey images with labels and cells. A new data set is one more row in `SOURCES`.

Chromosomes are padded with black and resized to squares [paper], photographs are cut to squares, once; the squares are
kept in the cache folder and mapped into memory from then on. What is irregular in a set is said in its `report`,
never passed over.
"""

import fnmatch
import hashlib
import json
import re
import warnings
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from chromolib import archives, files, images, paths
from chromolib.errors import StudyError

_FORMAT = 2  # raise it when the same files would give other squares: older caches are then left alone
_CELL_SIZE = 46
_AHEAD = 64  # images read before they are decoded, for all cores together

_FROM_ZERO = {str(label): label for label in range(24)}
_FROM_ONE = {str(label + 1): label for label in range(24)}  # 23 = X, 24 = Y


@dataclass(frozen=True, eq=False)
class Dataset:
    """Square images and what is known of each.

    images: (n, size, size) uint8, read-only; labels: (n,) int64, 0..23, or -1 for natural images; cells: (n,) str, or
    None where unknown; files: (n,) str, unique names inside the set; stain: "Q", "G" or "natural"; report:
    irregularities in words; digest: SHA-256 over images, labels and files.
    """

    name: str
    stain: str
    images: np.ndarray
    labels: np.ndarray
    cells: np.ndarray | None
    files: np.ndarray
    report: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Source:
    """Where a data set lies and how its file names are read."""

    name: str
    stain: str
    places: tuple[str, ...]  # names of the folder or archive in the data folder, as shell patterns
    layout: str  # regular expression of a file's path, with (?P<class>) and (?P<cell>) where there are such
    example: str  # a path in this layout, for messages
    obtain: str  # where to get it
    licence: str
    classes: dict[str, int] | None = None  # name in the path -> label; None for natural images
    strays: tuple[str, ...] = ()  # class names known to be mistakes in the set: left out and reported
    n_images: int | None = None  # of the whole set
    n_cells: int | None = None
    regular_cells: int | None = None  # take only the first so many cells with exactly 46 images


_PKI3 = Source(
    name="pki3",
    stain="G",
    places=("pki3*", "pki-3*", "single_clase*"),
    layout=r"(?P<cell>[^/]+)/clase(?P<class>\d+)/clase(?P=class)_\d+_(?P=cell)",
    example="single_clase/<cell>/clase23/clase23_0_<cell>",
    obtain="BioImLab, University of Padova (Passau Giemsa set Pki-3, Ritter)",
    licence="for research",
    classes=_FROM_ONE,
    strays=("25",),
    n_images=28_136,
    n_cells=612,
)

SOURCES = (
    Source(
        name="bioimlab",
        stain="Q",
        places=("bioimlab*", "single_chromosomes*"),
        layout=r"(?P<cell>[^/]+)/(?P=cell) (?P<class>\d+)[ab]?\.bmp",
        example="single_chromosomes/<cell>/<cell> 23a.bmp",
        obtain="https://www.kaggle.com/datasets/arifmpthesis/bioimlab-chromosome-data-set-for-classification",
        licence="public for research (Poletti 2008)",
        classes=_FROM_ONE,
        n_images=5_474,
        n_cells=119,
    ),
    _PKI3,
    # Of the size of CIR (65 cells), so that pki3 can stand in for it. [ours]
    replace(_PKI3, name="pki3_65", n_images=65 * _CELL_SIZE, n_cells=65, regular_cells=65),
    Source(
        name="cir",
        stain="G",
        places=("cir-net*", "cir.*", "cir", "origin*"),
        layout=r"origin/[^/]+\.\d+\.(?P<class>\d+)\.tiff?",
        example="data/origin.tar.gz with origin/<id><time>.<fraction>.<label>.tiff",
        obtain="https://github.com/CloudDataLab/CIR-Net",
        licence="research, non-commercial, cite the paper",
        classes=_FROM_ZERO,
        n_images=2_986,
    ),
    Source(
        name="imagenette",
        stain="natural",
        places=("imagenette2-160*",),
        layout=r"(?:train|val)/n\d{8}/[^/]+\.JPEG",
        example="imagenette2-160/train/n01440764/<name>.JPEG",
        obtain="https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",
        licence="Apache-2.0 (fastai)",
        n_images=13_394,
    ),
    Source(
        name="imagenet_sample",
        stain="natural",
        places=("imagenet-sample*", "imagenet_sample*"),
        layout=r".+\.(?i:jpe?g|png)",
        example="imagenet-sample/<name>.JPEG",
        obtain="any folder or tar of photographs of your own",
        licence="that of the photographs",
    ),
)
_BY_NAME = {source.name: source for source in SOURCES}
_EMBEDDED = {"synthetic_g": "G", "synthetic_q": "Q", "photographs": "natural"}

NAMES = (*_EMBEDDED, *_BY_NAME)


def load(name, root=None, size=256):
    """The data set `name` as squares of `size` pixels: Dataset, in natural order of the files.

    root: folder with the sets as downloaded, unpacked or not (default: chromolib.paths.data()); the embedded sets
    (synthetic_g, synthetic_q: drawings; photographs) need none. Raises StudyError for an unknown name, a set that is
    absent or has no file in its layout, an unknown class, a file found twice, and every unreadable image.
    """
    if not (isinstance(size, int) and size > 0):
        raise StudyError(f"size: {size!r} is not a number of pixels; take a whole number such as 256")
    if name in _EMBEDDED:
        return _embedded(name, size)
    if name not in _BY_NAME:
        raise StudyError(f"unknown data set {name!r}. Known are: {', '.join(NAMES)}")
    source = _BY_NAME[name]
    place, passed_over = _find(source, Path(root) if root else paths.data())
    dataset = _cached(source, place, size)
    return replace(dataset, report=(*passed_over, *dataset.report))


# Finding and reading


def _find(source, root):
    """The folder or archive of a set, and words on further ones, which are passed over; a folder comes first."""
    found = [
        entry
        for entry in sorted(root.iterdir() if root.is_dir() else (), key=lambda entry: (entry.is_file(), entry.name))
        if any(fnmatch.fnmatchcase(entry.name.lower(), pattern) for pattern in source.places)
        and (entry.is_dir() or entry.name.lower().endswith(archives.SUFFIXES))
    ]
    if not found:
        raise StudyError(
            f"data set {source.name}: not in {root} (looked for a folder or archive called "
            f"{' or '.join(source.places)}). Get it from {source.obtain} (licence: {source.licence}) and put it there, "
            "unpacked or not, or set CHROMOLIB_DATA to the folder that has it."
        )
    return found[0], [f"{entry.name} lies beside {found[0].name} and was not read" for entry in found[1:]]


def _build(source, place, size):
    """Decode and square every image of a set."""
    entries, remarks = _index(source, place)
    position = {name: index for index, (name, *_) in enumerate(entries)}
    squares = np.empty((len(entries), size, size), np.uint8)
    fit = images.centre if source.stain == "natural" else images.square

    def place_square(name, data):
        image, mode = images.read_with_mode(data, f"{place}/{name}")
        squares[position[name]] = fit(image, size)
        return mode

    modes = Counter(_on_all_cores(place_square, archives.members(place, position.__contains__)))
    if source.stain != "natural":
        remarks += [f"images stored as {mode} and read as grey: {n:,}" for mode, n in modes.items() if mode != "L"]
    labels = [label for _, _, label, _ in entries]
    cells = [cell for *_, cell in entries]
    return _dataset(source.name, source.stain, squares, labels, cells, [file for _, file, *_ in entries], remarks)


def _on_all_cores(function, items):
    """[function(*item) for item in items] by threads, which serve since Pillow decodes and resizes outside the GIL.

    Few items are taken ahead, so that few are in memory; of several errors the first in order is raised.
    """
    results, waiting = [], deque()
    with ThreadPoolExecutor() as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, *item))
                if len(waiting) > _AHEAD:
                    results.append(waiting[0].result())
                    waiting.popleft()
        finally:  # even where `items` failed: what was taken before comes first
            results += [future.result() for future in waiting]
    return results


def _index(source, place):
    """Sorted (member, file, label, cell) of a set, from the names alone, and words on what is irregular."""
    matches, others = _matches(source, place)
    report = []
    if others:
        report.append(f"files not in the layout of the set, left out: {len(others):,} (such as {others[0]})")
    strays = [name for name, match in matches if match.groupdict().get("class") in source.strays]
    if strays:
        report.append(f"images in a class that is no chromosome, left out: {len(strays):,} ({', '.join(strays)})")
    entries = [
        (name, match.group(), _label(source, place, name, match), match.groupdict().get("cell"))
        for name, match in matches
        if name not in strays
    ]
    if source.regular_cells:
        entries = _first_regular_cells(entries, source.regular_cells)
    entries.sort(key=lambda entry: _natural_order(entry[1]))
    if not entries:
        raise StudyError(f"{place}: no image in the layout of {source.name}, which is {source.example}")
    twice = [file for file, count in Counter(file for _, file, *_ in entries).items() if count > 1]
    if twice:
        raise StudyError(
            f"{place}: found twice, {twice[0]} and {len(twice) - 1:,} more files. Keep one copy of the data set."
        )
    return entries, report + _remarks_on_counts(source, entries)


def _matches(source, place):
    """[(member, match)] of the members in the layout, and the names of the files that are not."""
    layout = re.compile(rf"(?<![^/])(?:{source.layout})$")
    matches, others = [], []

    def note(name):
        if any(part.startswith((".", "__MACOSX")) for part in name.split("/")):
            return False  # what file managers leave behind
        match = layout.search(name)
        if match:
            matches.append((name, match))
        else:
            others.append(name)
        return False  # only the names are wanted here

    for _ in archives.members(place, note):
        pass
    return matches, others


def _label(source, place, name, match):
    if source.classes is None:
        return -1
    try:
        return source.classes[match["class"]]
    except KeyError:
        raise StudyError(
            f"{place}: {name} is of the unknown class {match['class']!r} "
            f"(known: {', '.join(source.classes)}). Remove or rename the file."
        ) from None


def _first_regular_cells(entries, n_cells):
    sizes = Counter(cell for *_, cell in entries)
    chosen = set(sorted(cell for cell, size in sizes.items() if size == _CELL_SIZE)[:n_cells])
    return [entry for entry in entries if entry[-1] in chosen]


def _remarks_on_counts(source, entries):
    remarks = []
    if source.n_images not in (None, len(entries)):
        remarks.append(f"{len(entries):,} images, where the whole set has {source.n_images:,}")
    sizes = Counter(cell for *_, cell in entries)
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


def _embedded(name, size):
    """A set that is drawn or cut from what is installed."""
    if name == "photographs":
        from chromolib import photographs

        drawn = [(image, -1, None, file) for image, file in photographs.crops()]
        report = ["crops of 14 photographs, many from each: not independent images"]
    else:
        from chromolib import synthetic

        drawn = synthetic.karyotypes(_EMBEDDED[name])
        report = ["drawings after an ideogram, for learning and testing: not images of chromosomes"]
    pictures, labels, cells, names = zip(*drawn, strict=True)
    squares = np.stack([images.square(picture, size) for picture in pictures])
    return _dataset(name, _EMBEDDED[name], squares, labels, cells, names, report)


def _dataset(name, stain, squares, labels, cells, names, report):
    squares.flags.writeable = False
    labels, names = np.array(labels, np.int64), np.array(names, str)
    digest = hashlib.sha256(squares)
    digest.update(labels.astype("<i8").tobytes())
    digest.update("\n".join(names).encode())
    return Dataset(
        name=name,
        stain=stain,
        images=squares,
        labels=labels,
        cells=None if cells[0] is None else np.array(cells, str),
        files=names,
        report=tuple(report),
        digest=digest.hexdigest(),
    )


# The cache: squares.npy and, written last, index.json


def _cached(source, place, size):
    """The set from the cache, or built and put there; a cache that cannot be written is only a warning."""
    folder = paths.cache() / f"{source.name}-{size}-{_key(source, place)[:16]}"
    try:
        return _open(source, folder)
    except (OSError, ValueError, KeyError):
        dataset = _build(source, place, size)  # not there yet, or damaged
    try:
        _store(dataset, folder)
        return _open(source, folder)  # mapped, so that the array in memory is given back
    except (OSError, StudyError) as error:
        warnings.warn(f"{folder}: the cache cannot be written ({error}); loading stays slow", stacklevel=3)
        return dataset


def _key(source, place):
    """Digest of what the squares are made from: the set's row, and the archive or the folder's list of files."""
    row = json.dumps(asdict(source))
    try:
        if place.is_dir():
            stats = ((name, file.stat()) for name, file in archives.files(place))
            content = "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
        else:
            content = files.sha256(place)
    except OSError as error:
        raise StudyError(f"{place}: cannot be read ({error}). Check the file and its permissions.") from error
    return hashlib.sha256(f"{_FORMAT}\n{row}\n{content}".encode()).hexdigest()


def _store(dataset, folder):
    index = {
        "labels": dataset.labels.tolist(),
        "cells": None if dataset.cells is None else dataset.cells.tolist(),
        "files": dataset.files.tolist(),
        "report": dataset.report,
        "digest": dataset.digest,
    }
    with files.replacing(folder / "squares.npy") as path:
        np.save(path, dataset.images, allow_pickle=False)
    with files.replacing(folder / "index.json") as path:
        path.write_text(json.dumps(index), encoding="utf-8")


def _open(source, folder):
    """The stored set; OSError, ValueError or KeyError where it is absent or not whole."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    squares = np.load(folder / "squares.npy", mmap_mode="r", allow_pickle=False)
    if not len(squares) == len(index["files"]) == len(index["labels"]):
        raise ValueError("squares and index differ in length")
    return Dataset(
        name=source.name,
        stain=source.stain,
        images=squares,
        labels=np.array(index["labels"], np.int64),
        cells=None if index["cells"] is None else np.array(index["cells"], str),
        files=np.array(index["files"], str),
        report=tuple(index["report"]),
        digest=index["digest"],
    )
