"""Whole-cell decoding against brute force over all labellings, and against karyotypes made by hand."""

import numpy as np
import pandas as pd
import pytest

from chromolib import decoding, metrics
from chromolib.errors import StudyError

AUTOSOMES = [*range(22)] * 2
MALE, FEMALE = [*AUTOSOMES, 22, 23], [*AUTOSOMES, 22, 22]


def sure(labels, strength=8.0):
    """Log-probabilities (n, 24) of a network that is right everywhere."""
    logits = strength * np.eye(24)[labels]
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def noisy(labels, seed, noise=1.0):
    return sure(labels, 2.0) + np.random.default_rng(seed).normal(scale=noise, size=(len(labels), 24))


def one_cell(log_probabilities):
    return decoding.decode(log_probabilities, np.full(len(log_probabilities), "cell"))


def allowed(labellings):
    """Which labellings (k, m) a normal cell can contain, written from the definition."""
    counts = (labellings[:, :, None] == np.arange(24)).sum(axis=1)  # (k, 24)
    x, y = counts[:, 22], counts[:, 23]
    return (counts[:, :22] <= 2).all(axis=1) & (y <= 1) & (x + y <= 2)


@pytest.mark.parametrize("seed", range(6))
def test_part_of_a_cell_is_the_best_of_all_allowed_labellings(seed):
    rng = np.random.default_rng(seed)
    # Four images that all look like two or three classes, the sex chromosomes among them, so that the limits bind.
    favoured = rng.choice([3, 4, 22, 23], size=2, replace=False)
    scores = rng.normal(size=(4, 24)) + 3 * np.isin(np.arange(24), favoured)
    every = np.indices((24,) * 4).reshape(4, -1).T  # (331776, 4)
    every = every[allowed(every)]
    best = scores[np.arange(4), every].sum(axis=1).max()
    found = one_cell(scores)
    assert allowed(found[None])[0]
    assert scores[np.arange(4), found].sum() == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("karyotype", [MALE, FEMALE], ids=["XY", "XX"])
def test_a_normal_cell_is_read_as_it_is(karyotype):
    assert one_cell(sure(karyotype)).tolist() == karyotype


@pytest.mark.parametrize("karyotype", [MALE, FEMALE], ids=["XY", "XX"])
def test_a_chromosome_that_looks_like_another_gets_the_place_that_is_left(karyotype):
    """The second 4 looks like a 5, of which there are two already; only a 4 is missing."""
    looks = sure(karyotype)
    place = 22 + 3
    assert karyotype[place] == 3
    looks[place] = sure([4])[0] + 0.5 * np.eye(24)[3]
    assert looks[place].argmax() == 4
    assert one_cell(looks).tolist() == karyotype


def test_the_sex_is_that_of_the_likelier_karyotype():
    """45 chromosomes are sure; the last looks a little like a Y, or a little like an X."""
    for last, expected in ((23, 23), (22, 22)):
        looks = sure([*AUTOSOMES, 22, last])
        looks[-1] = sure([last], strength=1.0)[0]
        assert one_cell(looks)[-1] == expected


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ([*AUTOSOMES, 22], "45,X"),
        ([label for i, label in enumerate(MALE) if i != 20], "one 21 lost"),
        ([*MALE, 20], "trisomy 21"),
        ([*FEMALE, 22], "47,XXX"),
        ([*MALE, 22], "47,XXY"),
        ([*MALE, 23], "47,XYY"),
        ([*MALE, 20, 17], "48, two gained"),
        ([*MALE, 20, 20], "48, four of 21"),
    ],
)
def test_one_less_or_more_is_tolerated(labels, name):
    assert one_cell(sure(labels)).tolist() == labels


@pytest.mark.parametrize("seed", range(4))
def test_47_images_are_the_best_of_all_trisomies(seed):
    """The same by another way: each of 24 further copies is tried in turn, as a square assignment problem."""
    from scipy.optimize import linear_sum_assignment

    scores = noisy([*MALE, 7], seed, noise=2.0)
    best = -np.inf
    for karyotype in (MALE, FEMALE):
        for further in range(24):
            worth = scores[:, [*karyotype, further]]
            best = max(best, worth[linear_sum_assignment(-worth)].sum())
    found = one_cell(scores)
    assert scores[np.arange(47), found].sum() == pytest.approx(best, abs=1e-9)
    assert (np.bincount(found, minlength=24)[:22] >= 2).all()


def test_46_images_always_make_a_normal_karyotype():
    counts = np.bincount(one_cell(noisy(MALE, 0, noise=5.0)), minlength=24)
    assert (counts[:22] == 2).all() and tuple(counts[22:]) in {(2, 0), (1, 1)}


def test_the_order_of_the_images_and_the_names_of_the_cells_do_not_matter():
    scores = np.concatenate([noisy(MALE, 1), noisy(FEMALE, 2), noisy([*MALE, 20], 3), noisy(MALE[:20], 4)])
    cells = np.repeat(["b", "a", "d", "c"], [46, 46, 47, 20])
    found = decoding.decode(scores, cells)
    order = np.random.default_rng(5).permutation(len(cells))
    assert (decoding.decode(scores[order], cells[order]) == found[order]).all()
    assert (decoding.decode(scores, pd.Series(cells).map({"a": 9, "b": 10, "c": 1, "d": 2})) == found).all()
    apart = [one_cell(scores[cells == cell]) for cell in "badc"]
    assert (np.concatenate(apart) == found).all()


def table(log_probabilities, labels, cells):
    logits = pd.DataFrame(log_probabilities.astype(np.float32), columns=[f"logit_{i}" for i in range(24)])
    frame = pd.DataFrame({"file": [f"{i}.png" for i in range(len(labels))], "cell": cells, "fold": 0, "label": labels})
    return pd.concat([frame, logits], axis=1)


def test_a_decoded_table_scores_like_its_labels():
    labels, cells = np.array(MALE + FEMALE), np.repeat(["a", "b"], 46)
    plain = table(np.concatenate([noisy(MALE, 6), noisy(FEMALE, 7)]), labels, cells)
    plain = plain.sample(frac=1, random_state=0)  # whose index is not 0, 1, 2, ...
    found = decoding.decoded(plain)
    scores = metrics.scores(found["label"].to_numpy(), found.filter(regex="^logit_").to_numpy())
    logits = plain.filter(regex="^logit_").to_numpy(np.float64)
    assert scores["accuracy"] == (decoding.decode(logits, plain["cell"]) == plain["label"]).mean()
    assert scores["accuracy"] > (logits.argmax(axis=1) == plain["label"]).mean()
    assert list(found.columns) == list(plain.columns) and (found["file"] == plain["file"]).all()


def test_logits_of_any_size_can_be_decoded():
    """Softmax in float32 would be 0 for all classes but one, and its logarithm infinite."""
    plain = table(1000 * np.eye(24)[MALE], np.array(MALE), "cell")
    assert (decoding.decoded(plain).filter(regex="^logit_").to_numpy().argmax(axis=1) == MALE).all()


def test_the_cells_where_it_hurts_come_first():
    labels, cells = np.array([0, 1, 2, 0, 0, 0]), np.array(["x", "x", "x", "y", "y", "y"])
    plain = table(sure(labels), labels, cells)
    worse = table(sure([0, 2, 1, 0, 0, 0]), labels, cells)
    rows = decoding.by_cell(plain, worse).to_numpy().tolist()
    assert rows == [["x", 3, 3, 1, -2], ["y", 3, 3, 3, 0]]


@pytest.mark.parametrize(
    ("log_probabilities", "cells", "words"),
    [
        (sure(MALE), None, "cells: unknown"),
        (sure(MALE), [None] * 46, "cells: unknown"),
        (sure(MALE), ["a"] * 45, r"shape \(46, 24\) does not fit 45 cells"),
        (sure(MALE)[:, :23], ["a"] * 46, "expected a row of 24"),
        (np.full((46, 24), -np.inf), ["a"] * 46, "NaN or infinite"),
        (np.zeros((0, 24)), [], "does not fit 0 cells"),
    ],
)
def test_bad_input_is_named(log_probabilities, cells, words):
    with pytest.raises(StudyError, match=words):
        decoding.decode(log_probabilities, cells)
