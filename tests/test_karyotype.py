"""Whole cells against brute force over all labellings and karyotypes, and against karyotypes made by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linear_sum_assignment

from chromolib import karyotype, metrics
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
    return karyotype.decode(log_probabilities, np.full(len(log_probabilities), "cell"))


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


@pytest.mark.parametrize("normal", [MALE, FEMALE], ids=["XY", "XX"])
def test_a_normal_cell_is_read_as_it_is(normal):
    assert one_cell(sure(normal)).tolist() == normal


@pytest.mark.parametrize("normal", [MALE, FEMALE], ids=["XY", "XX"])
def test_a_chromosome_that_looks_like_another_gets_the_place_that_is_left(normal):
    """The second 4 looks like a 5, of which there are two already; only a 4 is missing."""
    looks = sure(normal)
    place = 22 + 3
    assert normal[place] == 3
    looks[place] = sure([4])[0] + 0.5 * np.eye(24)[3]
    assert looks[place].argmax() == 4
    assert one_cell(looks).tolist() == normal


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
    scores = noisy([*MALE, 7], seed, noise=2.0)
    best = -np.inf
    for normal in (MALE, FEMALE):
        for further in range(24):
            worth = scores[:, [*normal, further]]
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
    found = karyotype.decode(scores, cells)
    order = np.random.default_rng(5).permutation(len(cells))
    assert (karyotype.decode(scores[order], cells[order]) == found[order]).all()
    assert (karyotype.decode(scores, pd.Series(cells).map({"a": 9, "b": 10, "c": 1, "d": 2})) == found).all()
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
    found = karyotype.decoded(plain)
    scores = metrics.scores(found["label"].to_numpy(), found.filter(regex="^logit_").to_numpy())
    logits = plain.filter(regex="^logit_").to_numpy(np.float64)
    assert scores["accuracy"] == (karyotype.decode(logits, plain["cell"]) == plain["label"]).mean()
    assert scores["accuracy"] > (logits.argmax(axis=1) == plain["label"]).mean()
    assert list(found.columns) == list(plain.columns) and (found["file"] == plain["file"]).all()


def test_logits_of_any_size_can_be_decoded():
    """Softmax in float32 would be 0 for all classes but one, and its logarithm infinite."""
    plain = table(1000 * np.eye(24)[MALE], np.array(MALE), "cell")
    assert (karyotype.decoded(plain).filter(regex="^logit_").to_numpy().argmax(axis=1) == MALE).all()


def test_the_cells_where_it_hurts_come_first():
    labels, cells = np.array([0, 1, 2, 0, 0, 0]), np.array(["x", "x", "x", "y", "y", "y"])
    plain = table(sure(labels), labels, cells)
    worse = table(sure([0, 2, 1, 0, 0, 0]), labels, cells)
    rows = karyotype.by_cell(plain, worse).to_numpy().tolist()
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
        karyotype.decode(log_probabilities, cells)


# What a cell is called, abnormal karyotypes among the answers


def cell_of(text, strength=8.0):
    return sure(np.repeat(np.arange(24), karyotype.counts_of(text)), strength)


def called(log_probabilities, **options):
    (row,) = karyotype.call(log_probabilities, ["c"] * len(log_probabilities), **options).to_dict("records")
    return row


def born_with():
    """Every constitution and its chance, by name, written out from the table of newborn surveys."""
    chances = {"46,XX": 0.5, "46,XY": 0.5, "45,X": 3 / 24547, "47,XXX": 13.5 / 24547}
    chances |= {"47,XXY": 22.5 / 43612, "47,XYY": 22.5 / 43612}
    for autosome in range(1, 23):
        chance = {13: 3, 18: 9, 21: 82}.get(autosome, 2 / 19) / 68159
        chances |= {f"47,XX,+{autosome}": chance / 2, f"47,XY,+{autosome}": chance / 2}
    return chances


def prior(held, foreign):
    """The likeliest way in which a cell comes to hold so many of each class (24,), step by step."""
    ways = []
    for name, chance in born_with().items():
        for had, has in zip(karyotype.counts_of(name), held, strict=True):
            if has < had:
                chance *= math.comb(had, had - has) * (0.05 / 46) ** (had - has)
            elif has > had:
                chance *= (0.002 / 24) ** (has - had)
        ways.append(chance)
    return math.log(max(ways)) + foreign * math.log(1e-3)


def every_change(n):
    """All that n images may be: counts (25,) one gain and one loss from a normal cell, and what n asks besides."""
    normal = [np.append(karyotype.counts_of(text), 0) for text in ("46,XX", "46,XY")]
    one = np.eye(25, dtype=int)
    start = {
        45: [base - one[k] for base in normal for k in range(24)],
        46: normal,
        47: [base + one[k] for base in normal for k in range(25)],
    }[n]
    gained = range(25) if n == 46 else (8, 20, 24)  # enough of them: each takes a while
    changes = {tuple(base + one[b] - one[a]) for base in start for a in range(24) for b in gained}
    changes |= {tuple(base) for base in start}
    return [np.array(counts) for counts in changes if min(counts) >= 0]


@pytest.mark.parametrize("text", ["46,XY", "45,XX,-19", "47,XX,+21"])
def test_a_call_is_the_likeliest_of_all_karyotypes_each_assigned_anew(text):
    labels = np.repeat(np.arange(24), karyotype.counts_of(text))
    scores = noisy(labels, 3, noise=0.8)
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    frequency = np.array([2] * 22 + [1.5, 0.5]) / 46
    worth = np.hstack([scores - np.log(frequency), np.zeros((len(scores), 1))])
    best = {}
    for counts in every_change(len(labels)):
        places = np.repeat(np.arange(25), counts)
        rows, columns = linear_sum_assignment(worth[:, places], maximize=True)
        ways = math.lgamma(len(labels) + 1) - sum(math.lgamma(count + 1) for count in counts)
        value = worth[rows, places[columns]].sum() - ways + prior(counts[:24], counts[24])
        name = karyotype.iscn(counts)
        best[name] = max(value, best.get(name, -np.inf))
    first, second = sorted(best, key=best.get, reverse=True)[:2]
    found = called(scores)
    # With 45 or 47 images a further change is weighed only beside the likeliest first one, so not always all of them.
    assert (found["karyotype"], found["runner_up"]) == (first, second)
    assert found["log_odds"] == pytest.approx(best[first] - best[second], abs=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        *("46,XX", "46,XY", "45,X", "47,XXX", "47,XXY", "47,XYY", "47,XX,+21", "47,XY,+18", "47,XY,+13"),
        *("45,XX,-19", "45,XY,-1", "46,XX,-5,+21", "46,X,+21", "44,XX,-3,-9", "46,Y,+21"),
    ],
)
def test_karyotypes_made_by_hand_are_named_and_their_images_labelled(text):
    labels = np.repeat(np.arange(24), karyotype.counts_of(text))
    found, table = karyotype.read(sure(labels, 20.0), ["c"] * len(labels))
    assert (table.loc[0, "karyotype"], table.loc[0, "n_images"]) == (text, len(labels))
    assert found.tolist() == labels.tolist()


def test_iscn_is_written_and_read():
    assert karyotype.iscn([2] * 22 + [1, 1]) == "46,XY"
    assert karyotype.iscn([2] * 20 + [4, 1, 1, 0]) == "46,X,+21,+21,-22"
    assert karyotype.iscn([2] * 22 + [0, 0]) == "44,?"  # and not a comma with nothing behind it
    assert karyotype.counts_of("44,?").tolist() == [2] * 22 + [0, 0]
    for text in born_with():
        assert karyotype.iscn(karyotype.counts_of(text)) == text
    assert karyotype.counts_of("46,Y,+21").tolist() == [2] * 20 + [3, 2, 0, 1]


def test_the_prior_decides_between_what_looks_alike():
    """47 images, one of them equally like a 21 and a 9: a trisomy of 21 is born, one of 9 is not."""
    between = np.log(np.exp(sure([20])).sum(axis=0) / 2 + np.exp(sure([8])).sum(axis=0) / 2)
    looks = np.vstack([cell_of("46,XX"), between])
    born = np.log(82 / 68159) - np.log(2 / 19 / 68159)  # against one that is born with +9 ...
    strayed = np.log(82 / 68159) - np.log(0.002 / 24)  # ... or, likelier, a neighbour's 9 that strayed in
    found = called(looks)
    assert (found["karyotype"], found["runner_up"]) == ("47,XX,+21", "47,XX,+9")
    assert strayed < born and found["log_odds"] == pytest.approx(strayed, abs=1e-6)


def test_a_call_is_sure_from_the_stated_odds_on():
    looks = cell_of("45,XX,-19", 12.0)
    odds = called(looks)["log_odds"]
    assert called(looks, min_log_odds=odds)["sure"] and not called(looks, min_log_odds=np.nextafter(odds, 99))["sure"]


def test_of_the_gains_of_autosomes_only_21_can_be_sure():
    """However good the images: the docstring, and the results, say how far the log odds go."""
    best = {name: called(cell_of(f"47,XX,+{name}", 30.0)) for name in range(1, 23)}
    assert [name for name, call in best.items() if call["sure"]] == [21]
    odds = {name: round(call["log_odds"], 1) for name, call in best.items()}
    assert odds == dict.fromkeys(range(1, 23), 1.7) | {18: 2.2, 21: 4.4}
    sexes = [called(cell_of(text, 30.0)) for text in ("47,XXX", "47,XXY", "47,XYY")]
    assert min(call["log_odds"] for call in sexes) > 4.1


def test_a_picture_that_is_no_chromosome_is_not_forced_into_a_class():
    """It could be any of the twelve largest; a third of one of them is rarer than a foreign picture."""
    labels, table = karyotype.read(
        np.vstack([cell_of("46,XY"), np.log(np.r_[[1 / 12.01] * 12, [1e-5] * 12])]), ["c"] * 47
    )
    assert labels[:46].tolist() == np.repeat(np.arange(24), karyotype.counts_of("46,XY")).tolist()
    assert labels[46] == -1 and table.loc[0, "karyotype"] == "46,XY" and not table.loc[0, "sure"]


def test_a_picture_that_could_be_anything_makes_a_cell_unsure():
    any_picture = np.log(np.array([*[2] * 22, 1.5, 0.5]) / 46)
    assert not called(np.vstack([cell_of("46,XY"), any_picture]))["sure"]


@pytest.mark.parametrize("n", [1, 30, 43, 49, 92])
def test_what_is_no_single_cell_has_no_karyotype(n):
    labels = (MALE + FEMALE)[:n]
    found, table = karyotype.read(sure(labels), ["c"] * n)
    assert table.to_dict("records") == [
        {"cell": "c", "n_images": n, "karyotype": "?", "runner_up": "?", "log_odds": 0.0, "sure": False}
    ]
    assert found.tolist() == labels


def test_cells_are_called_apart_and_listed_by_name():
    names = np.repeat(["b", "a"], [47, 46])
    scores = np.concatenate([cell_of("47,XXY"), cell_of("46,XX")])
    order = np.random.default_rng(0).permutation(93)
    table = karyotype.call(scores[order], names[order])
    assert table["cell"].tolist() == ["a", "b"] and table["karyotype"].tolist() == ["46,XX", "47,XXY"]
    assert table["n_images"].tolist() == [46, 47] and table["sure"].tolist() == [True, True]


def test_losses_in_preparation_do_not_hide_what_one_was_born_with():
    """46 images, +21 and another lost: an abnormal person; 45 images, one lost: a normal one, short of a 19."""
    scores = np.concatenate([cell_of("46,XX,-5,+21", 20.0), cell_of("45,XY,-19", 20.0), cell_of("46,XY")[:30]])
    never = karyotype.Priors(gained=0, foreign=0)  # a 21 that strayed in would be another way
    table = karyotype.constitutions(scores, np.repeat(["hidden", "lost", "part"], [46, 45, 30]), never)
    assert sorted(table.columns) == sorted(born_with())
    assert table.loc["hidden"].idxmax() == "47,XX,+21" and table.loc["lost"].idxmax() == "46,XY"
    assert table.loc["part"].isna().all()
    # Against two of each, with a sure 21 taken for a 5: orders of the images, +21, and one of two 5 lost.
    odds = table.loc["hidden", "47,XX,+21"] - table.loc["hidden", "46,XX"]
    step = np.log(3 * 2 * 1 / (2 * 2)) + np.log(82 / 68159) + np.log(2 * 0.05 / 46)
    assert odds == pytest.approx(20 + step, abs=1e-6)


def test_answers_that_say_nothing_are_right_by_chance_only():
    """Images in the order of their classes, as files often are: equal answers must not be told apart by that order."""
    labels = np.tile(sorted(MALE), 20)
    nothing, cells = np.full((len(labels), 24), -np.log(24)), np.repeat(np.arange(20), 46)
    for found in (karyotype.decode(nothing, cells), karyotype.read(nothing, cells)[0]):
        assert (found == labels).mean() < 0.1  # chance is about 1 in 23: 0.043, SD 0.007 over 920 images


def test_one_cell_with_one_x_is_mostly_of_a_person_with_two():
    """By hand: 46,XX lost either X, 46,XY its Y, or the person was born with 45,X; the images say the same of each."""
    priors = karyotype.Priors()
    lost = 0.5 * priors.lost / 46
    weights = {"46,XX": 2 * lost, "46,XY": lost, "45,X": dict(priors.born)["45,X"]}
    cells = np.repeat(["lost", "part", "trisomy"], [45, 30, 47])
    scores = sure([*FEMALE[:-1], *FEMALE[:30], *FEMALE, 20], 20.0)
    table = karyotype.constitution(scores, cells).set_index("cell")
    assert table["constitution"].tolist() == ["46,XX", "?", "47,XX,+21"]
    found = table["constitution_probability"]
    assert found["lost"] == pytest.approx(weights["46,XX"] / sum(weights.values()), rel=0.01)
    assert found["trisomy"] > 0.9 and np.isnan(found["part"])
