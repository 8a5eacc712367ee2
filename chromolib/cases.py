"""Single images under Grad-CAM, as in the paper's figures 3 and 4: whose networks they show, what these answered."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from chromolib import architectures, datasets, gradcam, metrics, runs

FIGURE_3 = (("mobilenetv3_large", "q_band"), ("vit_small", "g_band"), ("vgg16", "g_band"))  # [paper]
FIGURE_4 = ("convnext_tiny", "vgg16", "vgg16")  # [paper]; on which task is not taken from it, so that of the page


class Shown(NamedTuple):
    """Whose networks a case shows; note: "" or, in words, for whom they stand in."""

    architecture: str
    task: str
    note: str


@dataclass(frozen=True)
class Case:
    """An image with what networks answered, and their maps.

    image: (H, W) uint8; label: its class, 0..23; answers: dict of a column of the figure to the
    class named there; maps: dict of the same columns to Grad-CAM maps, (H, W) float32 in [0, 1].
    """

    title: str
    image: np.ndarray
    label: int
    answers: dict
    maps: dict


def cast(profile, wanted, instead, approaches, fold):
    """Whose networks to show for each (architecture, task) that is `wanted`: list of Shown.

    They are its own where its runs under all approaches are finished and have kept the weights of
    the fold. Else the architecture of `instead`, which is a pair too, stands in, on the same task;
    or, where that is not trained either, `instead` itself.
    """
    shown = []
    for pair in wanted:
        there = [one for one in (pair, (instead[0], pair[1])) if _trained(profile, *one, approaches, fold)]
        found = (*there, instead)[0]
        note = "" if found == pair else f"{title(*pair)} is not trained in {profile}: {title(*found)} stands in"
        shown.append(Shown(*found, note))
    return shown


def title(architecture, task):
    """For example "VGG-16, G-band"."""
    return f"{architectures.row(architecture).title}, {task.replace('_', '-').capitalize()}"


def _trained(profile, architecture, task, approaches, fold):
    folders = [runs.folder(profile, task, architecture, approach) for approach in approaches]
    return all((folder / name).is_file() for folder in folders for name in ("run.json", f"fold{fold}.safetensors"))


def answers(profile, architecture, task, approaches, fold):
    """What each approach answered on the fold's validation images: DataFrame with index file, `label`, and approaches.

    All of them were validated on the same images, since folds depend only on the data and the seed.
    """
    columns = {}
    for approach in approaches:
        table = runs.predictions(runs.folder(profile, task, architecture, approach)).query("fold == @fold")
        columns["label"], logits = (pd.Series(list(part), table["file"]) for part in metrics.arrays(table))
        columns[approach] = logits.map(np.argmax)
    return pd.DataFrame(columns)[["label", *approaches]]


def compare(profile, shown, approaches, fold, seed):
    """Figure 3: a Case for each of `shown`, the true class's map under each approach.

    Its image is drawn from those that the first approach alone got wrong; where there are none, all
    got right; or any.
    """
    found = []
    for number, (architecture, task, _) in enumerate(shown):
        table = answers(profile, architecture, task, approaches, fold)
        right = table[approaches].eq(table["label"], axis=0)
        telling = ~right[approaches[0]] & right[approaches[1:]].all(axis=1)
        chosen = next(kind for kind in (telling, right.all(axis=1), table["label"] >= 0) if kind.any())
        row = _draw(table[chosen], number, seed)
        explained = {approach: (approach, row["label"]) for approach in approaches}
        found.append(_case(profile, architecture, task, fold, row, row[approaches].to_dict(), explained))
    return found


def mistakes(profile, shown, approach, fold, seed):
    """Figure 4: a Case for each of `shown` whose network made a mistake, with maps of the named and the true class."""
    found = []
    for number, (architecture, task, _) in enumerate(shown):
        table = answers(profile, architecture, task, [approach], fold)
        wrong = table[table[approach] != table["label"]]
        if len(wrong):
            row = _draw(wrong, number, seed)
            named = {"predicted": row[approach], "true": row["label"]}
            explained = {column: (approach, wanted) for column, wanted in named.items()}
            found.append(_case(profile, architecture, task, fold, row, named, explained))
    return found


def _draw(table, number, seed):
    """A row of a table in random order: other numbers give other rows, as long as there are any."""
    return table.sample(frac=1, random_state=seed).iloc[number % len(table)]


def _case(profile, architecture, task, fold, row, named, explained):
    """The Case of an image (a row of `answers`); explained: dict of column to (approach, class)."""
    used = runs.record(runs.folder(profile, task, architecture, next(iter(explained.values()))[0]))["parameters"]
    data = datasets.load(used[task], size=used["image_size"], presentation=used.get("presentation", "square"))
    image, maps = data.images[np.flatnonzero(data.files == row.name)], {}
    for column, (approach, wanted) in explained.items():
        weights = runs.weights(runs.folder(profile, task, architecture, approach), fold)
        network = architectures.create(architecture, weights, image_size=used["image_size"])
        maps[column] = gradcam.maps(network, architecture, image, [wanted])[0]
    plain = image[0] if image.ndim == 3 else image[0, 0]  # of two channels the square
    return Case(title(architecture, task), plain, int(row["label"]), named, maps)
