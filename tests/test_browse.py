"""What the report's page knows of every image."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from chromolib import browse, datasets, metrics

FILES = ["b.png", "a.png", "c.png"]


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A profile folder with two runs on three images, of which the second run lacks one; its records."""
    pictures = np.full((3, 8, 8), [[[10]], [[120]], [[250]]], np.uint8)
    sizes = np.ones((3, 2), np.float32)
    data = datasets.Dataset("set", "Q", pictures, np.arange(3), None, None, sizes, np.array(sorted(FILES)), (), "d")
    monkeypatch.setattr(datasets, "load", lambda name, size, presentation: data)
    records = []
    for approach, files, odds in (("imagenet", FILES, 3.0), ("two_step", FILES[:2], 1.0)):
        logits = np.zeros((len(files), 24), np.float32)
        logits[:, 5] = np.log(odds * 23)  # class 6 has odds against all the others together
        table = pd.DataFrame(logits, columns=metrics.LOGITS).assign(
            file=files, cell=["1", None, "0"][: len(files)], fold=0, label=[5, 6, 7][: len(files)]
        )
        folder = tmp_path / "q_band" / "net" / approach
        folder.mkdir(parents=True)
        table.to_parquet(folder / "predictions.parquet")
        record = {"parameters": {}, "data": {"name": "set", "digest": "d"}, "parent": None, "files": {}}
        (folder / "run.json").write_text(json.dumps(record))
        records.append((folder.parts[-3:], record))
    return tmp_path, records


def test_each_image_has_what_every_run_said(drawn):
    (task,) = browse.images(*drawn)["tasks"]
    assert task["files"] == FILES and task["label"] == [5, 6, 7]
    assert [task["cells"][cell] if cell >= 0 else None for cell in task["cell"]] == ["1", None, "0"]
    first, second = task["runs"]
    assert (first["approach"], second["approach"]) == ("imagenet", "two_step")
    assert first["answer"] == (5, 5, 5) and first["percent"] == (75, 75, 75)  # odds of 3 to 1
    assert second["answer"] == (5, 5, -1) and second["percent"] == (50, 50, 0)
    json.dumps(task)


def test_thumbnails_stand_in_the_order_of_the_images(drawn):
    folder, records = drawn
    made = browse.sheets(folder, records, browse.images(folder, records))
    assert made["tasks"] == {"q_band": 1} and made["lacks"] == {}
    sheet = np.asarray(Image.open(folder / "thumbnails" / "q_band_0.jpg"))
    middles = sheet[browse.SIDE // 2, browse.SIDE // 2 :: browse.SIDE][:3]
    assert np.abs(middles.astype(int) - [120, 10, 250]).max() < 8  # b, a, c; JPEG is not exact


def test_other_images_than_the_runs_saw_are_not_shown(drawn):
    folder, records = drawn
    records[-1][1]["data"]["digest"] = "other"
    made = browse.sheets(folder, records, browse.images(folder, records))
    assert made["tasks"] == {} and "not those that the runs saw" in made["lacks"]["q_band"]


def test_predictions_of_an_older_version_are_named(drawn):
    folder, records = drawn
    pd.DataFrame({"file": FILES}).to_parquet(folder / "q_band" / "net" / "imagenet" / "predictions.parquet")
    found = browse.images(folder, records)
    assert [run["approach"] for run in found["tasks"][0]["runs"]] == ["two_step"]
    assert found["lacks"][0].startswith("q_band / net / imagenet")
