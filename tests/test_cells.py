"""Whole cells counted by hand: who is named, who is not, and abnormal cells made of answers of normal ones."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from chromolib import cells, karyotype, metrics, runs


def answers(texts, patients=None, strength=20.0, fold=0):
    """A table of cells with these karyotypes, every image sure and right; names a, b, ..."""
    parts = []
    for number, text in enumerate(texts):
        labels = np.repeat(np.arange(24), karyotype.counts_of(text))
        logits = strength * np.eye(24)[labels]
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        names = {"cell": "abcdefgh"[number], "patient": patients and patients[number], "fold": fold, "label": labels}
        part = pd.DataFrame(logits, columns=metrics.LOGITS).assign(**names)
        parts.append(part.assign(file=[f"{names['cell']}{i}" for i in range(len(labels))]))
    return pd.concat(parts, ignore_index=True)


def confused(table, cell, place, label):
    """The same, with one image of a cell taken for another class."""
    row = table.index[table["cell"] == cell][place]
    table.loc[row, metrics.LOGITS] = np.log(np.where(np.arange(24) == label, 1 - 23e-3, 1e-3))
    return table


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("46,XX", "normal"),
        ("47,XY,+21", "aneuploid"),
        ("45,X", "aneuploid"),
        ("47,XXY", "aneuploid"),
        ("45,XY,-19", "one lost"),
        ("45,Y", "other"),
        ("46,XX,-5,+21", "other"),
        ("48,XX,+21,+21", "other"),
    ],
)
def test_the_kind_of_a_karyotype(text, kind):
    assert cells.kind(text) == kind


def test_sure_answers_name_every_karyotype():
    table = cells.judged(answers(["46,XX", "47,XY,+21", "45,X", "45,XX,-19", "46,XY"]))
    assert table["karyotype"].tolist() == table["truth"].tolist() == table["counted"].tolist()
    assert table["kind"].tolist() == ["normal", "aneuploid", "aneuploid", "one lost", "normal"]
    assert table[["whole", "whole_plain", "named", "named_plain"]].all(axis=None)
    assert (table["called"] == table["n_images"]).all()


def test_one_image_wrong_is_counted_and_mended():
    """The second 4 of a normal cell looks like a 5: counting makes it 46,XX,-4,+5, and reading the cell mends it."""
    row = cells.judged(confused(answers(["46,XX"]), "a", 7, 4)).iloc[0]
    assert row["counted"] == "46,XX,-4,+5" and row["karyotype"] == "46,XX"
    assert (row["plain"], row["decoded"], row["called"]) == (45, 46, 46)
    assert (row["whole_plain"], row["whole"], row["named_plain"], row["named"]) == (False, True, False, True)


def test_parts_of_cells_are_left_out():
    table = answers(["46,XX", "46,XY"])
    assert cells.judged(table.groupby("cell").head(30)).empty
    assert cells.judged(table.drop(table.index[table["cell"] == "b"][:16]))["cell"].tolist() == ["a"]


def test_the_summary_by_hand():
    """Four cells of three patients: two normal ones of which one has a wrong sex, a trisomy, and one that lost a 19."""
    table = answers(["46,XX", "46,XY", "47,XX,+21", "45,XX,-19"], ["p", "p", "q", "r"])
    key = ("g_band", "net", "imagenet", "network")
    judged = cells.judged(confused(table, "b", 45, 22))  # the Y looks like an X
    row = cells.summary({key: judged}, draws=200).iloc[0]
    assert (row["cells"], row["groups"], row["normal"], row["aneuploid"]) == (4, 3, 2, 1)
    assert (row["false_alarms"], row["wrong_sex"], row["aneuploid_named"]) == (1, 1, 1)
    assert row["images_plain"] == pytest.approx(100 * 183 / 184) and row["named"] == 75
    # p has one of two, q and r one of one: the least draw is p three times, the best is without p.
    assert row["named_low"] == 50 and row["named_high"] == 100
    assert (row["named_normal"], row["named_aneuploid"]) == (50, 100)
    exact = [100 * end for end in binomtest(1, 1).proportion_ci()]  # q, the only patient with an aneuploid cell
    assert [row["named_aneuploid_low"], row["named_aneuploid_high"]] == pytest.approx(exact)
    assert row["images_plain_low"] == pytest.approx(100 * 91 / 92) and row["images_plain_high"] == 100


@pytest.mark.parametrize("right", [0, 3, 10])
def test_cells_of_one_patient_each_have_clopper_and_pearsons_interval(right):
    named, patients = pd.Series([True] * right + [False] * (10 - right)), pd.Series(range(10))
    ends = [100 * end for end in binomtest(right, 10).proportion_ci()]
    expected = {"named": 10.0 * right, "named_low": ends[0], "named_high": ends[1]}
    assert cells._exact_share("named", named, patients) == pytest.approx(expected)
    twice = cells._exact_share("named", pd.concat([named, named]), pd.concat([patients, patients]))
    assert twice == pytest.approx(expected)  # a second cell of each patient that fares alike tells nothing new


def test_a_difference_is_that_of_the_same_cells():
    right, wrong = answers(["46,XX", "46,XY"]), confused(answers(["46,XX", "46,XY"]), "b", 45, 22)
    keys = [("g_band", "net", name, "network") for name in ("imagenet", "two_step")]
    table = cells.differences({keys[0]: cells.judged(wrong), keys[1]: cells.judged(right)}, draws=200)
    assert table["what"].tolist() == ["plain", "decoded", "whole", "named"]
    assert (table["from"] + " " + table["to"]).unique().tolist() == ["imagenet, network two_step, network"]
    one = 100 / 46  # per cent: an image of the second cell, which is drawn in no, one or both of two places
    np.testing.assert_allclose(table["change"], [one / 2, one / 2, 50, 50])
    np.testing.assert_allclose(table[["change_low", "change_high"]], [[0, one], [0, one], [0, 100], [0, 100]])
    other = ("q_band", "net", "two_step", "network")
    assert cells.differences({keys[0]: cells.judged(wrong), other: cells.judged(right)}).empty


def test_made_cells_hold_what_their_name_says():
    table = answers(["46,XX", "46,XY", "47,XX,+21", "46,XX"], ["p", "q", "r", "p"])
    made = cells.made(table, "21")
    truth = {name: cells.judged(part)["truth"].tolist() for name, part in made.items()}
    assert truth["47, one gained"] == ["47,XX,+21", "47,XY,+21", "47,XX,+21"]
    assert all(text.startswith("45,") and "+" not in text for text in truth["45, one lost"])
    hidden = truth["46, one gained and another lost"]
    assert [sorted(text.replace("46", "47").split(","))[0] for text in hidden] == ["+21"] * 3
    one = made["47, one gained"].query("cell == 'a'")
    assert set(one["patient"]) == {"p"} and not one["file"].iloc[-1].startswith(("a", "d"))  # of another patient


def test_made_cells_need_a_donor_of_the_same_fold():
    table = pd.concat([answers(["46,XX"]), answers(["46,XX"], fold=1).assign(cell="z")], ignore_index=True)
    assert all(part.empty for part in cells.made(table).values())


def test_evidence_of_a_hidden_gain_tells_it_from_a_normal_cell():
    table = answers(["46,XX", "46,XY"])
    hidden = cells.evidence(cells.made(table)["46, one gained and another lost"])
    assert hidden.min() > 0 > cells.evidence(table).max()


def test_sensitivity_by_hand():
    normal, hidden = np.arange(20.0), np.array([17.5, 18.5, 19.5, 30])
    table = cells.sensitivity(normal, hidden)
    assert table["threshold"].tolist() == [19, 19] and table["sensitivity"].tolist() == [50, 50]
    looser = cells.sensitivity(normal, hidden, [0.9]).iloc[0]
    assert looser.tolist() == [90, 18, 95, 75]


def test_a_sensitivity_is_drawn_with_its_threshold():
    """Drawn twice, either cell finds its own gain; drawn together, b's threshold hides that of a."""
    normal, hidden = pd.Series({"a": 0.0, "b": 10.0}), pd.Series({"a": 5.0, "b": 15.0})
    groups = pd.Series({"a": "p", "b": "q"})
    drawn = np.array(list(cells._drawn_sensitivities(normal, hidden, groups, 400, seed=0)))
    assert set(drawn.ravel()) == {50, 100} and abs((drawn == 50).mean() - 0.5) < 0.1


def test_counting_sees_three_of_a_class():
    normal = confused(answers(["46,XX", "46,XY"]), "a", 0, 20)  # a 1 taken for a 21
    hidden = cells.made(answers(["46,XX", "46,XY"]))["46, one gained and another lost"]
    assert cells.counting(normal, hidden) == {"specificity": 50, "sensitivity": 100}


def test_calibration_is_told_before_and_after():
    rng = np.random.default_rng(0)
    table = answers(["46,XX"] * 4)
    logits = rng.normal(size=(len(table), 24)) * 3
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table["label"] = [rng.choice(24, p=row) for row in chances]
    key = ("g_band", "net", "imagenet")
    sharp, true = table.copy(), table.copy()
    sharp[metrics.LOGITS], true[metrics.LOGITS] = 3 * logits, np.log(chances)
    row = cells.calibrated(runs.Results(None, {key: sharp}, {}), {(*key, "network"): true}).iloc[0]
    assert row["error_before"] > 20 > 12 > row["error_after"] and row["log_loss_after"] < row["log_loss_before"]
    expected = -np.log(chances[np.arange(len(table)), table["label"]]).mean()
    assert row["log_loss_after"] == pytest.approx(expected)


def test_images_in_doubt_are_listed():
    table = cells.doubtful(confused(answers(["46,XX", "46,XY"]), "a", 7, 4), "a")
    assert table.drop(columns="probability").to_numpy().tolist() == [["a7", "4", "5", "4"]]
    assert table["probability"].tolist() == pytest.approx([97.7])


def test_a_search_is_told_beside_counting():
    table = answers(["46,XX", "46,XY"])
    hides = cells.made(table)["46, one gained and another lost"]
    normal, hidden, found = cells.search(table, hides)
    assert found["by"].tolist() == ["odds"] * 2 + ["counting three or more"]
    assert (found["sensitivity"] == 100).all() and (found["specificity"] == 100).all()
    assert (found[found["by"] == "odds"][["sensitivity_low", "sensitivity_high"]] == 100).all(axis=None)
    assert normal.to_dict() == cells.evidence(table).to_dict() and len(hidden) == 2
    assert cells.search(table, hides[:0])[2].empty


def test_risks_are_those_of_images_and_of_cells():
    table = confused(answers(["46,XX", "46,XY"]), "b", 45, 22)  # the Y looks like an X, less surely than the rest
    key = ("g_band", "net", "imagenet", "network")
    others = {(*pair, *key[2:]): answers(["46,XX"]) for pair in (("q_band", "net"), ("g_band", "another"))}
    read = {key: table} | others  # with the same approach and way
    panels = cells.risks(read, {name: cells.judged(part) for name, part in read.items()}, "g_band", "net")
    assert list(panels["images"]) == list(panels["cells"]) == [("imagenet", "network")]
    images, whole = (panels[name]["imagenet", "network"] for name in ("images", "cells"))
    assert images["risk"].iloc[-1] == pytest.approx(1 / 92) and images["risk"].iloc[-2] == 0
    assert whole["coverage"].tolist() == [0.5, 1] and whole["risk"].tolist() == [0, 0.5]
