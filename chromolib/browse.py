"""Every validation image of a profile with the answers of all approaches, for the report's page."""

import numpy as np
import pandas as pd
from PIL import Image
from scipy.special import softmax

from chromolib import CLASSES, datasets, files, metrics, runs
from chromolib.errors import StudyError

SIDE, COLUMNS, ROWS = 48, 64, 32  # pixels of a thumbnail; thumbnails of a sheet across and down


def images(folder, records):
    """What the page browses: dict with classes, tasks, and lacks, the runs whose predictions cannot be read, in words.

    folder: of the profile; records: [((task, architecture, approach), content of run.json), ...]. A task is a dict with
    name, data, files, cells (names), cell (index of each image's cell, -1 unknown), label, fold, and runs: dicts with
    architecture, approach, answer (0..23 each, -1 where the run has no prediction) and percent (of the answer).
    """
    tasks, lacks = {}, []
    for names, _ in records:
        try:
            table = runs.predictions(folder.joinpath(*names))
            tasks.setdefault(names[0], []).append((names[1:], table, _answers(table)))
        except (StudyError, KeyError) as error:
            lacks.append(f"{' / '.join(names)}: {error}")
    return {"classes": CLASSES, "tasks": [_task(name, parts) for name, parts in tasks.items()], "lacks": lacks}


def _answers(table):
    """Class (n,) of the highest probability, and that probability in per cent, of a table of predictions."""
    probabilities = softmax(metrics.arrays(table)[1], axis=1)  # (n, 24)
    return probabilities.argmax(axis=1), np.round(100 * probabilities.max(axis=1)).astype(int)


def _task(name, parts):
    """The images of all runs of a task, each once, and what each run said to them."""
    about = pd.concat([table[["file", "cell", "fold", "label"]] for _, table, _ in parts]).drop_duplicates("file")
    number, cells = pd.factorize(about["cell"], sort=True)  # -1: unknown
    return {
        "name": name,
        "files": about["file"].tolist(),
        "cells": cells.tolist(),
        "cell": number.tolist(),
        "label": about["label"].tolist(),
        "fold": about["fold"].tolist(),
        "runs": [_run(*part, about["file"]) for part in parts],
    }


def _run(names, table, answers, order):
    said = dict(zip(table["file"], zip(*(values.tolist() for values in answers), strict=True), strict=True))
    answer, percent = zip(*(said.get(file, (-1, 0)) for file in order), strict=True)
    return {"architecture": names[0], "approach": names[1], "answer": answer, "percent": percent}


def sheets(folder, records, shown):
    """Write the thumbnails as sheets, folder/thumbnails/<task>_<number>.jpg, where the images are at hand.

    shown: as of `images`, in whose order they stand. Returns dict(side, columns, rows, tasks: {task: number of sheets},
    lacks: {task: why it has none, in words}).
    """
    made = {"side": SIDE, "columns": COLUMNS, "rows": ROWS, "tasks": {}, "lacks": {}}
    sources = {names[0]: record for names, record in records}
    for task in shown["tasks"]:
        try:
            pictures = _pictures(sources[task["name"]], task["files"])
        except StudyError as error:
            made["lacks"][task["name"]] = str(error)
            continue
        for number, start in enumerate(range(0, len(pictures), COLUMNS * ROWS)):
            with files.replacing(folder / "thumbnails" / f"{task['name']}_{number}.jpg") as temporary:
                _sheet(pictures[start : start + COLUMNS * ROWS]).save(temporary, quality=80)
            made["tasks"][task["name"]] = number + 1
    return made


def _pictures(record, wanted):
    """The pictures of the files, (n, size, size) uint8, from the very set that the run saw."""
    settings = record["parameters"]
    size, presentation = settings.get("image_size", 256), settings.get("presentation", "square")
    data = datasets.load(record["data"]["name"], size=size, presentation=presentation)
    if data.digest != record["data"].get("digest"):
        raise StudyError(f"{data.name}: the images at hand are not those that the runs saw")
    place = {file: number for number, file in enumerate(data.files)}
    return data.pictures[[place[file] for file in wanted]]


def _sheet(pictures):
    """Up to COLUMNS * ROWS pictures on one grey image, row by row."""
    sheet = Image.new("L", (COLUMNS * SIDE, -(-len(pictures) // COLUMNS) * SIDE))
    for number, picture in enumerate(pictures):
        small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)
        sheet.paste(small, (number % COLUMNS * SIDE, number // COLUMNS * SIDE))
    return sheet
