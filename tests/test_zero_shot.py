"""The other staining, never seen: the average of the folds' probabilities, on the set as it is and inverted."""

import numpy as np
import pytest
from scipy.special import softmax

from chromolib import datasets, metrics, predict, report, zero_shot


@pytest.fixture
def trained(settings, tmp_path, train, monkeypatch):
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path))
    quick = settings | {"adam_epochs": 1, "sgd_epochs": 0, "steps_per_epoch": 2}
    return {task: train(quick | {"task": task}, tmp_path) for task in ("q_band", "g_band")}


def test_scores_are_of_the_other_set_and_of_its_negatives(trained, settings):
    table = zero_shot.scores(settings["profile"], settings["architecture"], settings["approach"], 200)
    assert table[["trained_on", "shown", "presentation"]].to_numpy().tolist() == [
        ["q_band", "g_band", "square"],
        ["q_band", "g_band", "inverted"],
        ["g_band", "q_band", "square"],
        ["g_band", "q_band", "inverted"],
    ]
    data = datasets.load(settings["g_band"], size=settings["image_size"], presentation="inverted")
    folds = predict.Predictor(trained["q_band"]).logits(np.array(data.images))
    expected = softmax(folds, axis=2).mean(axis=0)
    answers = zero_shot.answers(trained["q_band"], data)
    np.testing.assert_allclose(np.exp(metrics.arrays(answers)[1]), expected, atol=1e-6)
    score = 100 * metrics.scores(data.labels, np.log(expected))["macro_f1"]
    assert table["macro_f1"][1] == pytest.approx(score)
    assert table["change"][0] == pytest.approx(table["macro_f1"][1] - table["macro_f1"][0])


def test_without_runs_it_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path))
    with pytest.raises(SystemExit, match="no finished run here"):
        zero_shot.main(["smoke"])
    assert report.read_table("smoke", "zero_shot") is None
