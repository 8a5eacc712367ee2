"""The network that the project ships: it answers as its run did, reads a new drawn cell, and its card is its run's."""

import numpy as np
import pandas as pd

from chromolib import card, datasets, metrics, predict, runs, synthetic


def test_the_demonstration_reads_a_cell_that_it_never_saw(tmp_path):
    synthetic.main([str(tmp_path / "drawn"), "--seed", "7"])
    predict.main(["demonstration", str(tmp_path / "drawn"), "--out", str(tmp_path / "out")])
    table = pd.read_csv(tmp_path / "out" / "predictions.csv", dtype=str)
    truth = table["file"].str.extract(r"cell01_(\w+)[ab]\.png$")[0]
    assert len(table) == 46 and (table["class"] == truth).mean() > 0.8 and (table["decoded"] == truth).mean() > 0.8
    assert (tmp_path / "out" / "cell01.svg").is_file()


def test_the_demonstration_answers_as_it_did():
    """The drawings, the weights and the way to read them are those of the committed predictions."""
    data, rows = datasets.load("synthetic_g", size=96), runs.predictions(predict.DEMONSTRATION)
    position = {file: index for index, file in enumerate(data.files)}
    predictor = predict.Predictor(predict.DEMONSTRATION)
    found = predictor.logits(data.images[[position[file] for file in rows["file"]]])[0]
    np.testing.assert_allclose(found, rows[metrics.LOGITS], atol=1e-3)


def test_the_card_of_the_demonstration_is_made_from_its_run():
    text = (predict.DEMONSTRATION / "README.md").read_text(encoding="utf-8")
    assert text == card.card(predict.DEMONSTRATION)
    right = runs.predictions(predict.DEMONSTRATION).pipe(
        lambda rows: rows["label"] == metrics.arrays(rows)[1].argmax(1)
    )
    assert f"accuracy {100 * right.mean():.1f} %" in text and "no diagnosis" in text
