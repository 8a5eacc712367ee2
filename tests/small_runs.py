"""Small finished runs whose answers are known, for the tests of the tables that read runs."""

import json

import numpy as np
import pandas as pd

from chromolib import folds, metrics, runs

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
