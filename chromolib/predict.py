"""Chromosomes of your own: classes, probabilities, a karyogram and a karyotype of each cell, by a finished run.

    python -m chromolib.predict RUN FOLDER [--fold K ...] [--size] [--grad-cam] [--out OUT]

RUN: the folder of a run, or its name under runs/, such as
karyotype/g_band/efficientnet_lite0/imagenet; or "demonstration", the network that the project
ships, which knows drawings alone. FOLDER: a cell a sub-folder, or the images of one cell, or a
sheet (CSV) with the columns file and, where known, cell.

For research only. No diagnosis.
"""

import argparse
import collections
import itertools
import os
import shutil
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import logsumexp

from chromolib import (
    CLASSES,
    architectures,
    datasets,
    device,
    files,
    images,
    intake,
    karyotype,
    metrics,
    own,
    paths,
    readings,
    runs,
    sizes,
    training,
)
from chromolib.errors import StudyError, ends_command, refuse_all

PURPOSE = "research, no diagnosis"
_DRAWN = "network trained on drawings, says nothing of real chromosomes"
_LIMITS = (
    "Numerical changes only: a structural rearrangement (translocation, inversion, deletion, marker) "
    "is called normal or, like a Robertsonian translocation, as a loss."
)
DEMONSTRATION = paths.ROOT / "runs/reference/demonstration/g_band/efficientnet_lite0/imagenet"  # its card is beside it
_SOURCE = "source.txt"  # in the folder of results: of which images they are
_TABLES = ("predictions.csv", "karyotypes.csv")
_ENDINGS = (".png", ".svg", "_grad_cam.png")  # of the pictures of a cell
_LIGHT = {"Q": False, "G": True}  # the ground: quinacrine shines in the dark, Giemsa stands dark in the light
_FRAMES = ("unsure: look again", "class whose number is not that of a normal cell")  # what those of a karyogram mean
_GROUNDS = ("light on dark", "dark on light")
_NOT_CALLED = (
    f"{{}} images, outside {karyotype.SIZES[0]} to {karyotype.SIZES[-1]}: not called "
    "(part of a cell, two cells in one folder, polyploidy)"
)
_OF_OTHER_SIZE = "{} of {} images are far {} than the others: remove what is no single chromosome, such as {}"
_MOSTLY_UNSURE = (
    "{} of {} images are unsure: are staining, ground (black or white) and sharpness those of the run's set, "
    "and no scale bars in them?"
)
_DOUBT = 0.5  # [ours] probability of the decoded class below which an image is marked as unsure
_SMALL, _LARGE = 0.2, 3  # [ours] of the median length in a cell: outside is no chromosome; 469 cells have 0.28 to 2.6


class Predictor:
    """The networks of a run's folds: `Predictor(path)`, then `squares`, `logits` and `log_probabilities` of images."""

    def __init__(self, path, folds=None):
        self.path, settings = Path(path), runs.record(Path(path))["parameters"]
        self.folds = settings["folds"] if folds is None else folds
        self.architecture, self.size = settings["architecture"], settings["image_size"]
        self.presentation, self.precision = settings.get("presentation", "square"), settings["precision"]
        self.data = settings[settings["task"]]  # the name of the set that it was trained on
        self.device = device.choose()
        self.models = [self._model(fold) for fold in self.folds]

    @property
    def use(self):
        """What its answers are for, in words; more of them where it knows drawings alone."""
        return f"{PURPOSE}; {_DRAWN}" if self.data.startswith("synthetic") else PURPOSE

    @device.memory_explained()
    def _model(self, fold):
        model = architectures.create(self.architecture, runs.weights(self.path, fold), image_size=self.size)
        return device.prepare(model, self.device)

    def squares(self, pictures, cells=None):
        """Pictures, each (h, w) uint8, as the run was shown its own: (n, size, size) uint8, or (n, 2, size, size)."""
        cells = [None] * len(pictures) if cells is None else cells
        shown = datasets.Shown("chromosomes", cells, self.size, self.presentation)
        for index, picture in enumerate(pictures):
            shown.take(index, picture)
        return shown.images()

    @device.memory_explained()
    def logits(self, squares):
        """(folds, n, 24) float32 of squares as from `squares`."""
        seen = torch.from_numpy(squares).to(self.device)
        logits = [training.predict(model, self.architecture, seen, self.precision) for model in self.models]
        return torch.stack(logits).cpu().numpy()  # (folds, n, 24)

    def log_probabilities(self, squares, values=None):
        """(n, 24) float64: each fold's answers as `chromolib.readings` has them, their probabilities averaged.

        values: (n, 2) `sizes.features` of the images, where their size is to count; the run's own
        data set must then be at hand.
        """
        data = None if values is None else readings.data_of(self.path)
        parts = [
            readings.reading(self.path, fold, data).log_probabilities(logits, values)
            for fold, logits in zip(self.folds, self.logits(squares), strict=True)
        ]
        return logsumexp(parts, axis=0) - np.log(len(parts))


def predict(run, images, cells=None, sizes=None, folds=None):
    """What the run in folder `run` says of images: DataFrame, a row an image.

    images: n pictures, each (h, w) uint8 of any size on a black or white ground; cells: (n,) names,
    or None where unknown; sizes: (n, 2) area and length in pixels (`images.area_and_length`), if
    they are to count; folds: those whose networks are asked, by default all, averaged.

    cell, class, probability, second_class; decoded: class when the cell is read together ("" for no
    chromosome, or without cells); unsure: whether a person should look; logit_0 .. logit_23:
    log-probabilities. Raises StudyError for an unfinished run, absent weights, images that are none
    and lengths that differ.
    """
    return _predict(Predictor(run, folds), images, cells, sizes)[0]


def _predict(predictor, pictures, cells, areas):
    """The table of `predict`, that of `karyotype.call` with more columns, and remarks; no rows where cells are unknown.

    The further columns: constitution and constitution_probability (`karyotype.constitution`), and
    remark, in words. A call that wants a remark is not sure.
    """
    _check(pictures, cells, areas)
    values = None if areas is None else sizes.features(areas, cells)
    log_probabilities = predictor.log_probabilities(predictor.squares(pictures, cells), values)  # (n, 24)
    first, second = np.argsort(-log_probabilities, axis=1, kind="stable")[:, :2].T  # (n,) both
    probability = np.exp(log_probabilities.max(axis=1))
    names = np.array([*CLASSES, ""])  # the last is that of -1, no chromosome
    table = pd.DataFrame({"cell": cells, "class": names[first], "probability": probability})
    labels, calls = np.full(len(table), -1), pd.DataFrame(columns=["cell", "karyotype"])
    if cells is not None:
        labels, calls = karyotype.read(log_probabilities, cells)
        calls = calls.merge(karyotype.constitution(log_probabilities, cells), on="cell")
    groups = np.array([""] * len(table) if cells is None else cells, str)  # where cells are unknown all are one
    other, words = _unlike(predictor.data, pictures, groups)
    unsure = other | _unsure(log_probabilities, labels, cells, calls)
    for cell, marked in pd.Series(unsure).groupby(groups):
        if marked.mean() > 0.5:  # [ours]
            words[cell].append(_MOSTLY_UNSURE.format(marked.sum(), len(marked)))
    remarks = words[""]
    if cells is not None:
        for call in calls[~calls["n_images"].isin(karyotype.SIZES)].itertuples():
            words[call.cell].append(_NOT_CALLED.format(call.n_images))
        calls["remark"] = ["; ".join(words[cell]) for cell in calls["cell"]]
        calls["sure"] &= calls["remark"] == ""
        said = calls[calls["remark"] != ""].groupby("remark", sort=False)["cell"]
        remarks = [f"{', '.join(named)}: {remark}" for remark, named in said]
    table = table.assign(second_class=names[second], decoded=names[labels], unsure=unsure)
    return pd.concat([table, pd.DataFrame(log_probabilities, columns=metrics.LOGITS)], axis=1), calls, remarks


def _unlike(data, pictures, groups):
    """Which pictures are unlike those of one stained cell, (n,) bool, and words on each cell: a dict of lists.

    They lie on another ground than the staining of the run's set `data` has (where it tells none,
    than most of the cell), or are far larger or smaller than the others. groups: (n,) names of cells.
    """
    light = np.array([images.has_light_ground(picture) for picture in pictures])
    lengths = np.array([max(images.crop(picture).shape) for picture in pictures])
    stain = datasets.stain(data) if data in datasets.names() else "unknown"
    other, words = np.zeros(len(light), bool), collections.defaultdict(list)
    for cell in dict.fromkeys(groups.tolist()):
        rows = groups == cell
        expected = _LIGHT.get(stain, bool(light[rows].mean() > 0.5))
        ground, median = light[rows] != expected, np.median(lengths[rows])
        small, large = lengths[rows] < _SMALL * median, lengths[rows] > _LARGE * median
        other[rows] = ground | small | large
        if ground.any():
            whose = f"in {stain}-band they are" if stain in _LIGHT else "the others are"
            words[cell].append(
                f"{ground.sum()} of {len(ground)} images are {_GROUNDS[not expected]}, {whose} "
                f"{_GROUNDS[expected]}: invert them, or expect wrong classes"
            )
        for odd, size, example in ((large, "larger", "a metaphase"), (small, "smaller", "debris")):
            if odd.any():
                words[cell].append(_OF_OTHER_SIZE.format(odd.sum(), len(odd), size, example))
    return other, words


def _unsure(log_probabilities, labels, cells, calls):
    """Images to look at: improbable ones, those left over, and those over which the call and its runner-up differ."""
    if cells is None:
        return np.exp(log_probabilities.max(axis=1)) < _DOUBT
    doubt = (np.exp(log_probabilities[np.arange(len(labels)), labels]) < _DOUBT) | (labels < 0)
    for call in calls[~calls["sure"] & (calls["karyotype"] != "?")].itertuples():
        change = karyotype.counts_of(call.karyotype) != karyotype.counts_of(call.runner_up)
        doubt |= (np.asarray(cells) == call.cell) & change[labels]
    return doubt


def _check(pictures, cells, areas):
    if len(pictures) == 0:
        raise StudyError("images: there are none; give at least one")
    for name, values in (("cells", cells), ("sizes", areas)):
        if values is not None and len(values) != len(pictures):
            raise StudyError(f"{name}: {len(values)} of them for {len(pictures)} images; give one for each")


def read_folder(path):
    """Images of a folder, sheet or own data set: names (n,), pictures (list), cells (n,) or None, remarks in words.

    Raises StudyError as `own.place`, `own.unlabelled` and `intake.each`, for images that show
    nothing, and for an image that is in a cell twice.
    """
    place, layout = own.place(path)
    rows, remarks = own.unlabelled(place, layout)
    cells, taken = dict(rows), {}
    words, copies = intake.each(place, cells, taken.__setitem__, f"reading {Path(path).name}")
    names, pictures = list(cells), [taken[name] for name in cells]
    blank = [name for name, picture in taken.items() if not np.ptp(picture)]
    if blank:  # a network would name a class all the same, and be sure of it
        raise StudyError(f"{path}: {len(blank):,} images show nothing but one grey, such as {min(blank)}. Remove them")
    _refuse_copies(path, copies, cells)
    known = None if rows[0][1] is None else np.array(list(cells.values()))
    return names, pictures, known, [*remarks, *words, *own.told(copies)]


def _refuse_copies(path, copies, cells):
    """An image that a cell has twice would be a trisomy, of which the network is sure."""
    faults = []
    for group in copies:
        first = {}
        for name in group:
            if cells[name] is not None and first.setdefault(cells[name], name) != name:
                faults.append(f"{first[cells[name]]} and {name} are the same image in one cell")
    refuse_all(path, faults, len(cells), "images. Delete one of each two: it would count as a further chromosome.")


def write(predictor, path, out, size=False, grad_cam=False):
    """Predict all images of a folder or sheet and write what came out to the folder `out`; returns the calls.

    predictions.csv, karyotypes.csv, and of each cell <cell>.png, <cell>.svg and, if asked for,
    <cell>_grad_cam.png. Those of an earlier call are replaced at the end, and its pictures of other
    cells deleted; StudyError where that was of another folder, where `out` lies in the folder of the
    images, and where it holds such tables of someone else.
    """
    _check_out(path, out)
    names, pictures, cells, remarks = read_folder(path)
    areas = [images.area_and_length(picture) for picture in pictures] if size else None
    table, calls, further = _predict(predictor, pictures, cells, areas)
    table.insert(0, "file", names)
    out.mkdir(parents=True, exist_ok=True)
    for left in out.glob(f"{files.PART}*/"):  # of a call that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=files.PART) as temporary:  # all of one call, or nothing
        folder = Path(temporary)
        files.write(folder / _SOURCE, f"{Path(path).resolve()}\n")
        for name, content in zip(_TABLES, (table.drop(columns=metrics.LOGITS), calls), strict=True):
            files.write(folder / name, content.assign(use=predictor.use).to_csv(index=False))
        for call, name in zip(calls.itertuples(), _file_names(calls["cell"]), strict=True):
            rows = np.flatnonzero(cells == call.cell)
            _draw(predictor, call, table.iloc[rows], [pictures[row] for row in rows], folder / name)
            if grad_cam:
                _draw_maps(predictor, call, table.iloc[rows], [pictures[row] for row in rows], folder / name)
        _check_out(path, out)  # again: another process may have written there
        (folder / _SOURCE).replace(out / _SOURCE)  # first what tells of all; gone where a later call clears up
        _clear(out)
        for file in folder.iterdir():
            file.replace(out / file.name)
    for remark in [*remarks, *further]:
        print(remark)
    return calls


def _check_out(path, out):
    """Results must not become images of the next call, nor go for another folder's sake: two may have one name."""
    place, wanted = own.place(path)[0].resolve(), out.resolve()
    if place in (wanted, *wanted.parents):
        raise StudyError(f"{out}: lies in the folder of the images, {place}; name another folder with --out")
    if any((out / name).exists() for name in _TABLES) and not (out / _SOURCE).is_file():
        raise StudyError(
            f"{out}: holds {' or '.join(_TABLES)}, but no {_SOURCE} that says of what; name another folder with --out"
        )
    there, mine = out / _SOURCE, str(Path(path).resolve())
    if there.is_file() and (source := there.read_text(encoding="utf-8").strip()) != mine:
        raise StudyError(
            f"{out}: holds what was predicted of {source}; name another folder with --out, or delete that one"
        )


def _labels(table):
    """What is drawn: the decoded class, and -1 for no chromosome."""
    return np.array([CLASSES.index(name) if name else -1 for name in table["decoded"]])


def _clear(out):
    """Delete the pictures of an earlier call, which would stand beside tables that do not know them."""
    file = out / _TABLES[1]
    if file.exists():
        for name in _file_names(pd.read_csv(file, dtype=str, keep_default_na=False)["cell"]):
            for ending in _ENDINGS:
                (out / f"{name}{ending}").unlink(missing_ok=True)


def _abnormal(text):
    """Classes of which a karyotype has not what a normal one has, (24,) bool; of sex chromosomes both or neither."""
    if text == "?":
        return np.zeros(metrics.N_CLASSES, bool)
    counts = karyotype.counts_of(text)
    normal = [karyotype.counts_of(other) for other in karyotype.NORMAL]  # which differ in their sex chromosomes alone
    sex = all((counts[22:] != other[22:]).any() for other in normal)
    return np.append(counts[:22] != normal[0][:22], [sex, sex])


def _framed(picture, colour):
    """A picture (h, w) in a frame of its ground and one of a colour: (h + 4 t, w + 4 t, 3) uint8."""
    thickness = max(2, max(picture.shape) // 30)
    ground = np.pad(picture, thickness, constant_values=255 * images.has_light_ground(picture))
    padded = [np.pad(ground, thickness, constant_values=round(255 * part)) for part in colour]
    return np.stack(padded, axis=2)


def _draw(predictor, call, table, pictures, path):
    from chromolib import figures  # brings the drawing, which `predict` does without

    title = f"{call.cell}: {_NOT_CALLED.format(call.n_images)}"
    if call.karyotype != "?":
        sure = "sure" if call.sure else "unsure"
        title = f"{call.cell}: {call.karyotype}, {sure} (log odds {call.log_odds:.1f} against {call.runner_up})"
    labels = _labels(table)
    abnormal = np.append(_abnormal(call.karyotype), False)[labels]  # the last is that of -1, no chromosome
    crops = [images.crop(picture) for picture in pictures]  # a frame of one size for all would leave them small
    crops = [_framed(crop, _colours()[1]) if framed else crop for crop, framed in zip(crops, abnormal, strict=True)]
    figure = figures.laid_out(crops, labels, table["unsure"].to_numpy(), title)
    _save(figure, path, _ENDINGS[:2], _FRAMES, predictor.use)


def _draw_maps(predictor, call, table, pictures, path):
    """Grad-CAM of each image for its decoded class, the mean of the folds' maps, laid out as the karyogram."""
    from chromolib import figures, gradcam

    labels, squares = _labels(table), predictor.squares(pictures, table["cell"].tolist())
    maps = [gradcam.maps(model, predictor.architecture, squares, np.maximum(labels, 0)) for model in predictor.models]
    plain = squares if squares.ndim == 3 else squares[:, 0]
    overlays = list(figures.overlay(plain, np.mean(maps, axis=0)))
    figure = figures.laid_out(overlays, labels, table["unsure"].to_numpy(), f"{call.cell}: Grad-CAM")
    _save(figure, path, _ENDINGS[2:], _FRAMES[:1], predictor.use)


def _colours():
    """Of the frames: around what is unsure (`figures.laid_out` draws it), around what makes a karyotype abnormal."""
    from chromolib import figures

    return figures.PALETTE[3], figures.PALETTE[0]


def _save(figure, path, endings, frames, use):
    """Write a karyogram, below it what its frames mean, what it is for, and what it cannot show."""
    from matplotlib.patches import Patch

    handles = [
        Patch(edgecolor=colour, fill=False, linewidth=1.5, label=words)
        for colour, words in zip(_colours(), frames, strict=False)
    ]
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, fontsize=8)
    footer, below = "\n".join([use, *textwrap.wrap(_LIMITS, 110)]), -0.35 / figure.get_figheight()  # of the legend
    figure.text(0.5, below, footer, ha="center", va="top", fontsize=8)
    for ending in endings:
        with files.replacing(path.with_name(path.name + ending)) as temporary:
            figure.savefig(temporary, dpi=110, bbox_inches="tight")


def _file_names(cells):
    """Names of cells as names of files, short enough for them; numbered where two would be one: "a b" and "a_b"."""
    names = []
    for cell in cells:
        safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in cell[:70])
        taken = {other.casefold() for other in names}
        numbered = (f"{safe}_{number}" for number in itertools.count(2))
        names.append(next(name for name in itertools.chain([safe], numbered) if name.casefold() not in taken))
    return names


def _out_name(path):
    """Of a folder its name; of a sheet that of its folder too, as many sheets have one name."""
    return f"{path.resolve().parent.name}_{own.stem(path)}" if own.SHEET.search(path.name) else own.stem(path)


@ends_command()
def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m chromolib.predict",
        description=__doc__.splitlines()[0],
        epilog=f"{_LIMITS} {PURPOSE.capitalize()}.",
    )
    parser.add_argument("run", help='folder of a finished run, its name under runs/, or "demonstration"')
    parser.add_argument(
        "folder", help="a cell a sub-folder, the images of one cell, or a sheet with columns file, cell"
    )
    parser.add_argument("--fold", type=int, nargs="+", help="folds whose networks are asked (default: all, averaged)")
    parser.add_argument("--size", action="store_true", help="let size count (needs the run's own data set at hand)")
    parser.add_argument("--grad-cam", action="store_true", help="draw where the networks looked")
    parser.add_argument(
        "--out", type=Path, help="where results go (default: runs/predictions/<folder>, of a sheet <folder>_<sheet>)"
    )
    wanted = parser.parse_args(arguments)
    run = DEMONSTRATION if wanted.run == "demonstration" else Path(wanted.run)
    out = wanted.out or paths.runs() / "predictions" / _out_name(Path(wanted.folder))
    predictor = Predictor(run if os.path.isdir(run) else paths.runs() / run, wanted.fold)
    calls = write(predictor, wanted.folder, out, wanted.size, wanted.grad_cam)
    shown = calls.drop(columns="remark", errors="ignore").round({"log_odds": 1, "constitution_probability": 2})
    print(shown.to_string(index=False) if len(calls) else "cells unknown: no karyotype")
    print(f"{predictor.use}: {out}")


if __name__ == "__main__":
    main()
