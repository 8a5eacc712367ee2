"""The model card of a run whose weights are published: `python -m chromolib.card RUN` writes README.md beside them."""

import sys
from pathlib import Path

import pandas as pd

from chromolib import architectures, files, runs, statistics


def card(path):
    """The text of the card of the run in folder `path`, made from its run.json, scores and predictions."""
    about, folds = runs.record(path), pd.read_csv(path / "folds.csv").iloc[0]
    used, predictions = about["parameters"], runs.predictions(path)
    batches = used["steps_per_epoch"] or -(-int(folds["n_train"]) // used["batch_size"])
    facts = {
        "title": architectures.row(used["architecture"]).title,
        "parameters": architectures.describe(used["architecture"], used["image_size"])["parameters"],
        "size": used["image_size"],
        "data": about["data"]["name"],
        "steps": batches * used["stages"] * (used["adam_epochs"] + used["sgd_epochs"]),
        "cells": predictions["cell"].nunique(),
        "minutes": about["seconds"] / 60,
        "commit": about["project"]["commit"],
        "torch": about["versions"]["torch"],
        "processor": about["hardware"]["processor"],
    }
    scores = {name: _score(predictions, name) for name in ("macro_f1", "accuracy")}
    text = (Path(__file__).parent / "model_card.md").read_text(encoding="utf-8")
    return text.format(**used | about["data"] | folds.astype(object).to_dict() | facts | scores)


def _score(predictions, metric):
    found = statistics.score_interval(predictions, metric, "cell")
    return f"{100 * found.estimate:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"


if __name__ == "__main__":
    place = Path(sys.argv[1])
    files.write(place / "README.md", card(place))
