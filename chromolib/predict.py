"""Chromosomes of your own: classes, probabilities, a karyogram and a karyotype of each cell, by a finished run.

    python -m chromolib.predict RUN FOLDER [--fold K ...] [--size] [--grad-cam] [--out OUT]

RUN: the folder of a run, or its name under runs/, such as
karyotype/g_band/efficientnet_lite0/imagenet; or "demonstration", the network that the project
ships, which knows drawings alone. FOLDER: a cell a sub-folder, or the images of one cell, or a
sheet (CSV) with the columns file and, where known, cell.

For research only. No diagnosis.
"""

import argparse
import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import logsumexp

from chromolib import (
    CLASSES,
    architectures,
    archives,
    datasets,
    device,
    files,
    images,
    karyotype,
    metrics,
    own,
    paths,
    readings,
    runs,
    sizes,
    training,
)
from chromolib.errors import StudyError, ends_command

PURPOSE = "research, no diagnosis"
DEMONSTRATION = paths.ROOT / "runs/reference/demonstration/g_band/efficientnet_lite0/imagenet"  # its card is beside it
_SOURCE = "source.txt"  # in the folder of results: of which images they are
_ENDINGS = (".png", ".svg", "_grad_cam.png")  # of the pictures of a cell
_LIGHT = {"Q": False, "G": True}  # the ground: quinacrine shines in the dark, Giemsa stands dark in the light
_DOUBT = 0.5  # [ours] probability of the decoded class below which an image is marked as unsure


class Predictor:
    """The networks of a run's folds: `Predictor(path)`, then `squares`, `logits` and `log_probabilities` of images."""

    def __init__(self, path, folds=None):
        self.path, settings = Path(path), runs.record(Path(path))["parameters"]
        self.folds = settings["folds"] if folds is None else folds
        self.architecture, self.size = settings["architecture"], settings["image_size"]
        self.presentation, self.precision = settings.get("presentation", "square"), settings["precision"]
        self.device = device.choose()
        self.models = [self._model(fold) for fold in self.folds]

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
    """The table of `predict` and that of `karyotype.call`, which is empty where cells are unknown."""
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
    unsure = _unsure(log_probabilities, labels, cells, calls)
    table = table.assign(second_class=names[second], decoded=names[labels], unsure=unsure)
    return pd.concat([table, pd.DataFrame(log_probabilities, columns=metrics.LOGITS)], axis=1), calls


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
    """Images of a folder, sheet or own data set: names (n,), pictures (list), cells (n,) or None, remarks in words."""
    path = Path(path)
    if os.path.exists(path):  # which says False too where a folder above forbids to look
        rows, remarks = own.unlabelled(path)
        source = path.parent if own.SHEET.search(path.name) else path
    elif str(path) in own.names():
        source, layout = own.find(str(path))
        rows, remarks = own.index(source, layout)
        rows = [(member, cell) for member, _, _, cell, _ in rows]
    else:
        raise StudyError(f"{path}: no such folder or sheet, or it is out of reach; name one with images of chromosomes")
    cells = dict(rows)
    wanted = archives.members(source, cells.__contains__)
    names, pictures = zip(*((name, images.read(content, name)) for name, content in wanted), strict=True)
    blank = [name for name, picture in zip(names, pictures, strict=True) if not np.ptp(picture)]
    if blank:  # a network would name a class all the same, and be sure of it
        raise StudyError(f"{path}: {len(blank):,} images show nothing but one grey, such as {blank[0]}. Remove them")
    known = None if rows[0][1] is None else np.array([cells[name] for name in names])
    return list(names), list(pictures), known, remarks


def write(predictor, path, out, size=False, grad_cam=False):
    """Predict all images of a folder or sheet and write what came out to the folder `out`; returns the calls.

    predictions.csv, karyotypes.csv, and of each cell <cell>.png, <cell>.svg and, if asked for,
    <cell>_grad_cam.png. Those of an earlier call are replaced, and its pictures of other cells
    deleted; StudyError where that was of another folder.
    """
    _check_source(path, out)
    names, pictures, cells, remarks = read_folder(path)
    remarks += _other_ground(predictor.path, pictures)
    areas = [images.area_and_length(picture) for picture in pictures] if size else None
    table, calls = _predict(predictor, pictures, cells, areas)
    table.insert(0, "file", names)
    _clear(out)
    files.write(out / _SOURCE, f"{Path(path).resolve()}\n")
    for name, content in (("predictions", table.drop(columns=metrics.LOGITS)), ("karyotypes", calls)):
        with files.replacing(out / f"{name}.csv") as temporary:
            content.assign(use=PURPOSE).to_csv(temporary, index=False)
    for call, name in zip(calls.itertuples(), _file_names(calls["cell"]), strict=True):
        rows = np.flatnonzero(cells == call.cell)
        if call.n_images not in karyotype.SIZES:
            remarks.append(f"{call.cell}: {call.n_images} images, where one cell has 46; no karyotype is called")
        _draw(call, table.iloc[rows], [pictures[row] for row in rows], out / name)
        if grad_cam:
            _draw_maps(predictor, call, table.iloc[rows], [pictures[row] for row in rows], out / name)
    for remark in remarks:
        print(remark)
    return calls


def _check_source(path, out):
    """Two folders may have one name: what was predicted of one must not go for the other's sake."""
    there, mine = out / _SOURCE, str(Path(path).resolve())
    if there.is_file() and (source := there.read_text(encoding="utf-8").strip()) != mine:
        raise StudyError(
            f"{out}: holds what was predicted of {source}; name another folder with --out, or delete that one"
        )


def _other_ground(run, pictures):
    """A remark, in a list, where most pictures have another ground than the staining of the run (its folder) has."""
    used = runs.record(run)["parameters"]
    name = used[used["task"]]
    stain = datasets.stain(name) if name in datasets.names() else "unknown"
    light = np.mean([images.has_light_ground(picture) for picture in pictures]) > 0.5
    if _LIGHT.get(stain, light) == light:
        return []
    words = ("dark on light", "light on dark")[:: 1 if light else -1]
    return [f"most images are {words[0]}, in {stain}-band they are {words[1]}: invert them, or expect wrong classes"]


def _labels(table):
    """What is drawn: the decoded class, and -1 for no chromosome."""
    return np.array([CLASSES.index(name) if name else -1 for name in table["decoded"]])


def _clear(out):
    """Delete the pictures of an earlier call, which would stand beside tables that do not know them."""
    file = out / "karyotypes.csv"
    if file.exists():
        for name in _file_names(pd.read_csv(file, dtype=str, keep_default_na=False)["cell"]):
            for ending in _ENDINGS:
                (out / f"{name}{ending}").unlink(missing_ok=True)


def _draw(call, table, pictures, path):
    from chromolib import figures  # brings the drawing, which `predict` does without

    against = f"log odds {call.log_odds:.1f} against {call.runner_up}" if call.karyotype != "?" else "no single cell"
    title = f"{call.cell}: {call.karyotype}, {'sure' if call.sure else 'unsure'} ({against}); {PURPOSE}"
    crops = [images.crop(picture) for picture in pictures]  # a frame of one size for all would leave them small
    figure = figures.laid_out(crops, _labels(table), table["unsure"].to_numpy(), title)
    for ending in _ENDINGS[:2]:
        with files.replacing(path.with_name(path.name + ending)) as temporary:
            figure.savefig(temporary, dpi=110)


def _draw_maps(predictor, call, table, pictures, path):
    """Grad-CAM of each image for its decoded class, the mean of the folds' maps, laid out as the karyogram."""
    from chromolib import figures, gradcam

    labels, squares = _labels(table), predictor.squares(pictures, table["cell"].tolist())
    maps = [gradcam.maps(model, predictor.architecture, squares, np.maximum(labels, 0)) for model in predictor.models]
    plain = squares if squares.ndim == 3 else squares[:, 0]
    overlays = list(figures.overlay(plain, np.mean(maps, axis=0)))
    figure = figures.laid_out(overlays, labels, table["unsure"].to_numpy(), f"{call.cell}: Grad-CAM; {PURPOSE}")
    with files.replacing(path.with_name(path.name + _ENDINGS[2])) as temporary:
        figure.savefig(temporary, dpi=110)


def _file_names(cells):
    """Names of cells as names of files, with a number where two would be one: "a b" and "a_b", or "a" and "A"."""
    names = []
    for cell in cells:
        safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in cell)
        taken = {other.casefold() for other in names}
        numbered = (f"{safe}_{number}" for number in itertools.count(2))
        names.append(next(name for name in itertools.chain([safe], numbered) if name.casefold() not in taken))
    return names


@ends_command()
def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m chromolib.predict", description=__doc__.splitlines()[0])
    parser.add_argument("run", help='folder of a finished run, its name under runs/, or "demonstration"')
    parser.add_argument(
        "folder", help="a cell a sub-folder, the images of one cell, or a sheet with columns file, cell"
    )
    parser.add_argument("--fold", type=int, nargs="+", help="folds whose networks are asked (default: all, averaged)")
    parser.add_argument("--size", action="store_true", help="let size count (needs the run's own data set at hand)")
    parser.add_argument("--grad-cam", action="store_true", help="draw where the networks looked")
    parser.add_argument("--out", type=Path, help="where results go (default: runs/predictions/<folder>)")
    wanted = parser.parse_args(arguments)
    run = DEMONSTRATION if wanted.run == "demonstration" else Path(wanted.run)
    out = wanted.out or paths.runs() / "predictions" / own.stem(Path(wanted.folder))
    predictor = Predictor(run if os.path.isdir(run) else paths.runs() / run, wanted.fold)
    calls = write(predictor, wanted.folder, out, wanted.size, wanted.grad_cam)
    print(calls.round({"log_odds": 1}).to_string(index=False) if len(calls) else "cells unknown: no karyotype")
    print(f"{PURPOSE}: {out}")


if __name__ == "__main__":
    main()
