"""What the second step gives: matched controls, tasks and cells, on small tables whose answers are known."""

import numpy as np
import pandas as pd
import pytest
from small_runs import predictions
from statsmodels.stats.multitest import multipletests

from chromolib import metrics, runs, second_step, statistics
from chromolib.errors import StudyError

NETWORK = "resnet34"


def results(wrong, tasks=("q_band", "g_band")):
    """`runs.Results` of approaches with so large a share of wrong answers."""
    kept = {
        (task, NETWORK, approach): predictions(20, wrong=share, seed=number)
        for task in tasks
        for number, (approach, share) in enumerate(wrong.items())
    }
    rows = []
    for (task, architecture, approach), table in kept.items():
        for fold, part in table.groupby("fold"):
            scores = metrics.scores(*metrics.arrays(part))
            about = {"n_train": 4 * len(part), "n_validation": len(part)}
            rows.append(
                {"task": task, "architecture": architecture, "approach": approach, "fold": fold, **about, **scores}
            )
    return runs.Results(pd.DataFrame(rows), kept, {})


def macro_f1(table):
    return metrics.scores(*metrics.arrays(table))["macro_f1"]


def test_comparisons_are_those_that_were_run_and_one_family():
    found = results({"imagenet": 0.5, "imagenet_double": 0.4, "two_step": 0.3})
    table = second_step.comparisons(found, 200)
    pairs = list(dict.fromkeys(zip(table["against"], table["baseline"], strict=True)))
    assert pairs == [("two_step", "imagenet"), ("imagenet_double", "imagenet"), ("two_step", "imagenet_double")]
    np.testing.assert_allclose(table["pooled_p_holm"], statistics.holm(table["pooled_p"]))
    row = table[(table["task"] == "q_band") & (table["baseline"] == "imagenet_double")].iloc[0]
    after, before = (found.predictions["q_band", NETWORK, name] for name in ("two_step", "imagenet_double"))
    assert row["pooled_gain"] == pytest.approx(100 * (macro_f1(after) - macro_f1(before)))


def test_without_the_control_only_the_papers_comparison_is_there():
    table = second_step.comparisons(results({"imagenet": 0.5, "two_step": 0.3}), 200)
    assert set(table["what"]) == {"the stop, and the longer training"} and len(table) == 2
    assert second_step.comparisons(results({"imagenet": 0.5}), 200).empty


def test_between_tasks_is_the_difference_of_the_two_gains():
    found = results({"imagenet": 0.5, "two_step": 0.3})
    found.predictions["g_band", NETWORK, "two_step"] = predictions(20, wrong=0.45, seed=1)
    (row,) = second_step.between_tasks(found, 400).to_dict("records")
    gains = [
        macro_f1(found.predictions[task, NETWORK, "two_step"]) - macro_f1(found.predictions[task, NETWORK, "imagenet"])
        for task in ("q_band", "g_band")
    ]
    assert row["difference"] == pytest.approx(100 * (gains[0] - gains[1]))
    assert row["low"] < row["difference"] < row["high"] and row["p"] < 0.05
    assert second_step.between_tasks(results({"imagenet": 0.5, "two_step": 0.3}, ("q_band",)), 100).empty


def test_with_a_second_seed_both_tables_speak_of_the_approaches():
    both = {"imagenet": 0.5, "two_step": 0.3}
    first, second = results(both | {"imagenet_double": 0.4}), results(both)
    for run in second.predictions:  # trained anew: other answers on the same images
        second.predictions[run] = predictions(20, wrong=both[run[2]] + 0.05, seed=7)
    found = first._replace(others=(second,))
    table = second_step.comparisons(found, 200).set_index(["task", "baseline", "against"])
    assert table.loc[("q_band", "imagenet", "two_step"), ["seeds", "about"]].tolist() == [2, "the approaches"]
    assert table.loc[("q_band", "imagenet", "imagenet_double"), ["seeds", "about"]].tolist() == [1, "these networks"]
    gains = {task: [pooled_gain(each, task) for each in (first, second)] for task in ("q_band", "g_band")}
    assert table.loc[("q_band", "imagenet", "two_step"), "pooled_gain"] == pytest.approx(np.mean(gains["q_band"]))
    between = second_step.between_tasks(found, 200).set_index(["baseline", "against"])
    row = between.loc[("imagenet", "two_step")]
    assert row["difference"] == pytest.approx(np.mean(gains["q_band"]) - np.mean(gains["g_band"]))
    assert between["seeds"].tolist() == [2, 1, 1]
    np.testing.assert_allclose(between["p_holm"], multipletests(between["p"], method="holm")[1])


def pooled_gain(found, task):
    after, before = (macro_f1(found.predictions[task, NETWORK, name]) for name in ("two_step", "imagenet"))
    return 100 * (after - before)


def test_a_variation_that_was_not_run_says_so():
    whole, empty = results({"imagenet": 0.5, "two_step": 0.3}, ["g_band"]), runs.results("nowhere", *4 * [[]])
    table = second_step.varied({"as it is": whole, "smaller": empty}, ["q_band", "g_band"], [NETWORK], draws=200)
    assert table["state"].tolist() == ["not run", "run", "not run", "not run"]
    before, after = (whole.predictions["g_band", NETWORK, name] for name in ("imagenet", "two_step"))
    row = table.iloc[1]
    assert row["before"] == pytest.approx(100 * macro_f1(before))
    assert row["gain"] == pytest.approx(100 * (macro_f1(after) - macro_f1(before)))
    assert row["low"] < row["gain"] < row["high"]


def test_a_variation_stands_beside_what_it_varies():
    """The change is that of the scores; between equal predictions there is none."""
    whole, better = (results({"imagenet": share, "two_step": 0.3}, ["g_band"]) for share in (0.5, 0.2))
    same, alone = whole._replace(predictions=dict(whole.predictions)), results({"imagenet": 0.4}, ["g_band"])
    ways = {"as it is": whole, "better": better, "same": same, "no second step": alone}
    table = second_step.varied(ways, ["g_band"], [NETWORK], 200)
    scores = [macro_f1(found.predictions["g_band", NETWORK, "imagenet"]) for found in (whole, better)]
    assert np.isnan(table["change"][0]) and table["change"][1] == pytest.approx(100 * (scores[1] - scores[0]))
    assert 0 < table["change_low"][1] < table["change"][1] < table["change_high"][1]
    assert table["change"][2] == table["change_low"][2] == table["change_high"][2] == 0
    assert table["state"].tolist() == ["run"] * 3 + ["imagenet alone"]
    assert np.isnan(table["gain"][3]) and table["change"][3] > 0


def test_a_variation_of_one_fold_is_held_against_that_fold():
    whole, better = (results({"imagenet": share}, ["g_band"]) for share in (0.5, 0.2))
    run = ("g_band", NETWORK, "imagenet")
    better.predictions[run] = better.predictions[run].query("fold == 0")
    table = second_step.varied({"as it is": whole, "better": better}, ["g_band"], [NETWORK], 200)
    scores = [macro_f1(found.predictions[run].query("fold == 0")) for found in (whole, better)]
    assert table["change"][1] == pytest.approx(100 * (scores[1] - scores[0]))


def test_a_variation_with_a_second_seed_tells_the_mean_of_both():
    first, second = (results({"imagenet": 0.5, "two_step": share}, ["g_band"]) for share in (0.3, 0.4))
    found = first._replace(others=(second,))
    table = second_step.varied({"as it is": first, "seeded": found}, ["g_band"], [NETWORK], 200)
    assert table["seeds"].tolist() == [1, 2] and table["instead_seeds"].isna().all()
    gains = [pooled_gain(each, "g_band") for each in (first, second)]
    assert table["gain"].tolist() == pytest.approx([gains[0], np.mean(gains)])


def test_a_variation_stands_beside_its_own_control():
    found = results({"imagenet": 0.5, "two_step": 0.3, "imagenet_double": 0.4})
    table = second_step.varied(
        {"as it is": found, "not": found._replace(predictions={}, scores=found.scores[:0])}, ["q_band"], [NETWORK], 200
    )
    after, before = (macro_f1(found.predictions["q_band", NETWORK, name]) for name in ("two_step", "imagenet_double"))
    assert table["instead"][0] == pytest.approx(100 * (after - before)) and np.isnan(table["instead"][1])
    assert table["instead_low"][0] < table["instead"][0] < table["instead_high"][0]


@pytest.fixture
def by_cells():
    shares = {3: (0.7, 0.4), 12: (0.5, 0.35), 48: (0.3, 0.25)}
    return {
        n: results(dict(zip(("imagenet", "two_step"), pair, strict=True)), ["g_band"]) for n, pair in shares.items()
    }


def test_the_slope_is_that_of_least_squares(by_cells):
    points = second_step.curve(by_cells, draws=200)
    assert "pooled_p_holm" not in points  # a row alone is no family to correct over
    assert points["cells"].tolist() == [3, 12, 48]
    np.testing.assert_allclose(points["after"] - points["before"], points["pooled_gain"])
    interval = second_step.slope(by_cells, "g_band", NETWORK, draws=400)
    assert interval.estimate == pytest.approx(np.polyfit(np.log2(points["cells"]), points["pooled_gain"], 1)[0])
    assert interval.low < interval.estimate < interval.high


def test_a_further_draw_of_cells_is_taken_where_it_has_both_approaches(by_cells):
    other = results({"imagenet": 0.8, "two_step": 0.2}, ["g_band"])
    lacking = results({"imagenet": 0.8}, ["g_band"])
    seeded = {3: by_cells[3]._replace(others=(other, lacking)), 12: by_cells[12]._replace(others=(lacking,))}
    points = second_step.curve(seeded, draws=200).set_index("cells")
    assert points["seeds"].tolist() == [2, 1]
    both = [found.predictions["g_band", NETWORK, "imagenet"] for found in (by_cells[3], other)]
    assert points.loc[3, "before"] == pytest.approx(50 * sum(map(macro_f1, both)))
    np.testing.assert_allclose(points["after"] - points["before"], points["pooled_gain"])


def test_a_slope_needs_two_numbers_of_cells(by_cells):
    one = {3: by_cells[3], 12: results({"imagenet": 0.5}, ["g_band"])}
    assert second_step.curve(one, draws=100)["cells"].tolist() == [3]
    none = second_step.curve({12: one[12]}, draws=100)
    assert none.empty and {"cells", "before", "after", "seeds"} <= set(none.columns)
    with pytest.raises(StudyError, match="1 number of cells with two_step and imagenet"):
        second_step.slope(one, "g_band", NETWORK)


def test_what_the_second_step_is_worth_by_hand():
    """The baseline scores 10, 20, 40 from 2, 4, 8 cells: 15 lies half a doubling after 2, 30 half a one after 4."""
    points = pd.DataFrame({"cells": [2, 4, 8], "before": [10.0, 20.0, 40.0], "after": [15.0, 30.0, 41.0]})
    found = second_step.worth(points)
    np.testing.assert_allclose(found["needed"], [2**1.5, 2**2.5, np.nan])
    np.testing.assert_allclose(found["factor"], [2**0.5, 2**0.5, np.nan])
    assert second_step.worth(points.assign(before=[10.0, 30.0, 20.0]))["needed"].isna().all()
