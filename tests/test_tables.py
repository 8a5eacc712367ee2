"""The tables against numbers worked out by hand, and against SciPy."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from chromolib import CLASSES, architectures, parameters, tables
from chromolib.errors import StudyError

GRID = (["q_band", "g_band"], ["resnet34"], ["imagenet", "two_step"], [0, 1])
F1 = {("imagenet", 0): 0.80, ("imagenet", 1): 0.90, ("two_step", 0): 0.83, ("two_step", 1): 0.91}


def scores(tasks=("q_band", "g_band"), f1=F1, architecture="resnet34"):
    """A table like that of runs.collect: 20 validation and 80 training images a fold."""
    rows = [
        {"task": task, "architecture": architecture, "approach": approach, "fold": fold, "macro_f1": value}
        for task in tasks
        for (approach, fold), value in f1.items()
    ]
    return pd.DataFrame(rows).assign(n_train=80, n_validation=20, accuracy=0.5, auc_ovr=1.0, classes_scored=24)


def prediction(wrong=(), cells=True):
    """Predictions of 48 images, two a class, in four cells and two folds; those at `wrong` go to the next class."""
    labels = np.tile(np.arange(24), 2)
    guesses = labels.copy()
    guesses[list(wrong)] = (labels[list(wrong)] + 1) % 24
    table = pd.DataFrame({"file": [f"{number}.png" for number in range(48)], "cell": None, "fold": np.arange(48) % 2})
    if cells:
        table["cell"] = [f"cell {number // 12}" for number in range(48)]
    logits = pd.DataFrame(5.0 * np.eye(24)[guesses], columns=[f"logit_{number}" for number in range(24)])
    return pd.concat([table.assign(label=labels), logits], axis=1)


def predictions(tasks=("q_band", "g_band"), **options):
    after, before = prediction(**options), prediction((0, 30), **options)
    both = {"imagenet": before, "two_step": after}
    return {(task, "resnet34", approach): both[approach] for task in tasks for approach in both}


def test_whole_grid_lacks_nothing():
    assert tables.missing(scores(), *GRID).empty


def test_missing_runs_and_folds_are_listed():
    there = scores().query("not (task == 'q_band' and approach == 'two_step' and fold == 1)")
    there = there.query("not (task == 'g_band' and approach == 'imagenet')")
    rows = tables.missing(there, *GRID).to_numpy().tolist()
    assert rows == [
        ["q_band", "resnet34", "two_step", "1", False],
        ["g_band", "resnet34", "imagenet", "0, 1", True],
    ]


@pytest.mark.fault(30)
def test_329_of_330_trainings_are_a_partial_grid():
    names, approaches = architectures.NAMES[:11], ["scratch", "imagenet", "two_step"]
    grid = (["q_band", "g_band"], list(names), approaches, range(5))
    whole = pd.DataFrame(itertools.product(*grid), columns=[*tables.RUN, "fold"])
    assert len(whole) == 330 and tables.missing(whole, *grid).empty
    rows = tables.missing(whole.drop(index=137), *grid).to_numpy().tolist()
    task, name, approach, fold = whole.loc[137]
    assert rows == [[task, name, approach, str(fold), False]]


def test_nothing_trained_is_all_missing():
    nothing = scores().iloc[:0]
    assert len(tables.missing(nothing, *GRID)) == 4
    with pytest.raises(StudyError, match="no finished run of resnet34 on q_band, g_band"):
        tables.select(nothing, *GRID)


def test_select_keeps_the_grid_in_its_order():
    more = pd.concat([scores(), scores(architecture="vgg16"), scores(f1={("imagenet", 4): 0.5})], ignore_index=True)
    kept = tables.select(more.sample(frac=1, random_state=0), *GRID)
    runs = [tuple(row) for row in kept[[*tables.RUN, "fold"]].to_numpy()]
    order = ["imagenet", "imagenet", "two_step", "two_step"]
    expected = [(task, "resnet34", name, k % 2) for task in GRID[0] for k, name in enumerate(order)]
    assert runs == expected


def test_performance_is_mean_and_sd_in_per_cent():
    table = tables.performance(scores()).set_index(tables.RUN)
    row = table.loc[("q_band", "resnet34", "imagenet")]
    assert row["n_folds"] == 2
    assert row["macro_f1_mean"] == pytest.approx(85)  # of 80 and 90
    assert row["macro_f1_sd"] == pytest.approx(math.sqrt(50))  # 5^2 + 5^2 over one degree of freedom
    assert (row["accuracy_mean"], row["accuracy_sd"], row["auc_ovr_mean"]) == (50, 0, 100)


def test_performance_hides_no_missing_value():
    table = scores(["q_band"])
    table.loc[0, "auc_ovr"] = np.nan
    table = tables.performance(table).set_index("approach")
    assert np.isnan(table.loc["imagenet", "auc_ovr_mean"]) and table.loc["two_step", "auc_ovr_mean"] == 100


def test_performance_of_one_fold_has_no_spread():
    assert tables.performance(scores().query("fold == 0"))["macro_f1_sd"].isna().all()


def test_performance_tells_of_a_fold_that_lacks_a_class():
    table = scores(["q_band"])
    table.loc[1, "classes_scored"] = 23
    assert list(tables.performance(table)["classes"]) == [23, 24]


def test_wide_has_a_column_per_task_and_approach():
    partial = scores().query("not (task == 'g_band' and approach == 'imagenet')")
    table = tables.wide(tables.performance(partial), "macro_f1")
    assert table.loc["resnet34", ("q_band", "imagenet")] == "85.0 ± 7.1"
    assert table.loc["resnet34", ("g_band", "imagenet")] == ""
    assert list(table.columns) == [(task, name) for task in GRID[0] for name in GRID[2]]


def test_architectures_table():
    table = tables.costs(["resnet34", "resnext101"], 224).set_index("architecture")
    assert table.loc["resnet34", "parameters_millions"] == 21.296984  # timm, with a 24-class head
    assert table.loc["resnet34", "gmac"] == pytest.approx(3.66, abs=0.005)
    assert table.loc["resnet34", "gflops"] == 2 * table.loc["resnet34", "gmac"]
    assert table.loc["resnet34", "note"] == "GFLOPs = 2 x GMAC"
    assert "non-commercial" in table.loc["resnext101", "note"]
    with pytest.raises(StudyError, match="'resnet43' is unknown"):
        tables.costs(["resnet43"], 224)


def test_approaches_table():
    table = tables.approaches(["scratch", "imagenet", "two_step", "intermediate"], 11, 5).set_index("approach")
    assert table.loc["two_step", "steps"] == "ImageNet → other staining → target staining"
    assert table.loc["intermediate", "steps"] == "random weights → other staining → target staining"
    assert list(table["trainings"]) == [1, 1, 2, 2]
    assert 2 * table["trainings_per_task"].drop("intermediate").sum() == 330  # the trainings of the paper
    with pytest.raises(StudyError, match="'twostep'"):
        tables.approaches(["twostep"], 1, 1)


def test_every_approach_file_has_a_row():
    names = parameters.names("approach")
    assert list(tables.approaches(names, 1, 1)["approach"]) == names


def test_gains_of_the_folds():
    """Differences 3 and 1 points: mean 2, SD sqrt(2); the drawn means are 1, 2, 2 or 3."""
    row = tables.gains(scores(), predictions(), draws=2000).iloc[0]
    assert (row["task"], row["baseline"], row["against"], row["n_folds"]) == ("q_band", "imagenet", "two_step", 2)
    assert row["gain"] == pytest.approx(2) and row["sd"] == pytest.approx(math.sqrt(2))
    assert (row["paper_low"], row["paper_high"]) == pytest.approx((1, 3))
    error = math.sqrt((1 / 2 + 20 / 80) * 2)
    assert row["t_high"] - 2 == pytest.approx(stats.t.ppf(0.975, 1) * error)
    assert row["t_p"] == pytest.approx(2 * stats.t.sf(2 / error, 1))


def test_gains_of_the_pooled_predictions():
    """Two mistakes of `imagenet`, 0 as 1 and 6 as 7, each one of two images: four classes lose F1."""
    table = tables.gains(scores(), predictions(), draws=2000)
    f1_of_missed, f1_of_taken = 2 / 3, 4 / 5  # 2 x 1 / (2 + 1) and 2 x 2 / (2 + 3)
    expected = 100 * (2 * (1 - f1_of_missed) + 2 * (1 - f1_of_taken)) / 24
    assert table["pooled_gain"].to_numpy() == pytest.approx(expected)
    assert list(table["resampled"]) == ["cell", "cell"]
    assert table["pooled_p_holm"].to_numpy() == pytest.approx(np.minimum(1, 2 * table["pooled_p"]))  # both p are equal


def test_gains_of_two_seeds_are_about_the_approaches():
    """The other seed gains 5 and -1 points in its folds, and misses 1 and 31 as well before the second step."""
    from chromolib import runs

    f1 = F1 | {("two_step", 0): 0.85, ("two_step", 1): 0.89}
    worse = {key: prediction((0, 30)) if key[2] == "imagenet" else table for key, table in predictions().items()}
    worse |= {("q_band", "resnet34", "imagenet"): prediction((0, 30, 1, 31))}
    other = runs.Results(scores(f1=f1), worse, {})
    one, two = (tables.gains(scores(), predictions(), draws=500, others=others) for others in ((), (other,)))
    assert list(one["about"]) == ["these networks"] * 2 and list(two["about"]) == ["the approaches"] * 2
    assert list(one["seeds"]) == [1, 1] and list(two["seeds"]) == [2, 2]
    assert two["gain"].to_numpy() == pytest.approx(2) and two["sd"].to_numpy() == pytest.approx(math.sqrt(8))  # 4, 0
    alone = tables.gains(*other[:2], draws=500)["pooled_gain"]
    assert two["pooled_gain"].to_numpy() == pytest.approx((one["pooled_gain"] + alone).to_numpy() / 2)
    incomplete = runs.Results(scores(f1=f1).query("fold == 0"), worse, {})
    assert tables.gains(scores(), predictions(), draws=500, others=(incomplete,)).equals(one)
    without = scores().query("approach == 'imagenet'")
    later = tables.gains(without, predictions(), draws=500, others=(other,))  # the first seed has but one of the two
    assert later.equals(tables.gains(*other[:2], draws=500))


def test_patients_are_drawn_where_they_are_known():
    known = {key: table.assign(patient="p" + table["cell"].str[-1]) for key, table in predictions().items()}
    assert set(tables.gains(scores(), known, draws=200)["resampled"]) == {"patient"}
    assert tables.groups(prediction().assign(patient=None)) == "cell"


def test_images_are_resampled_where_cells_are_unknown():
    assert set(tables.gains(scores(), predictions(cells=False), draws=200)["resampled"]) == {"image"}


def test_gains_ignore_predictions_of_other_folds():
    """Fold 0 has both images of every even class: 0 and 6 lose a third, and 1 and 7 have F1 0 with either approach."""
    table = tables.gains(scores().query("fold == 0"), predictions(), draws=200)
    assert table["pooled_gain"].to_numpy() == pytest.approx(100 * 2 / 3 / 24)


def test_one_fold_has_a_difference_but_no_interval():
    row = tables.gains(scores().query("fold == 0"), predictions(), draws=200).iloc[0]
    assert row["gain"] == pytest.approx(3)
    assert row[["sd", "paper_low", "paper_high", "t_low", "t_high", "t_p"]].isna().all()


def test_gains_take_any_two_approaches():
    swapped = tables.gains(scores(), predictions(), baseline="two_step", against="imagenet", draws=200)
    assert swapped["gain"].to_numpy() == pytest.approx(-2)
    assert set(swapped["against"]) == {"imagenet"}


def test_absent_approach_gives_no_gains():
    table = tables.gains(scores(), predictions(), baseline="scratch")
    assert table.empty and "pooled_p_holm" in table
    assert tables.excluding_zero(table)["comparisons"].sum() == 0


def test_unequal_folds_are_refused():
    less = scores().query("approach == 'two_step' or fold == 0")
    with pytest.raises(StudyError, match=r"q_band, resnet34: two_step has folds \[0, 1\], imagenet has \[0\]"):
        tables.gains(less, predictions())


def test_folds_cut_otherwise_are_refused():
    other = predictions()
    changed = other["q_band", "resnet34", "imagenet"]
    other["q_band", "resnet34", "imagenet"] = changed.assign(fold=1 - changed["fold"])
    with pytest.raises(StudyError, match="cut the images into different folds"):
        tables.gains(scores(), other)


def test_excluding_zero_counts_by_method():
    table = pd.DataFrame(
        {
            "gain": [1.0, -1.0, 0.1],
            "paper_low": [0.5, -2.0, -1.0], "paper_high": [1.5, -0.5, 1.0],
            "t_low": [-0.5, -1.9, -2.0], "t_high": [2.5, -0.1, 2.0],
            "pooled_gain": [1.0, -1.0, 0.1],
            "pooled_low": [0.5, -2.0, -1.0], "pooled_high": [1.5, -0.5, 1.0],
            "pooled_p_holm": [0.06, 0.01, 1.0],
        }
    )  # fmt: skip
    counts = tables.excluding_zero(table)[["above", "below", "comparisons"]].to_numpy().tolist()
    assert counts == [[1, 1, 3], [0, 1, 3], [1, 1, 3], [0, 1, 3]]


def test_class_changes():
    changes = tables.class_changes(scores(["q_band"]), predictions()).set_index("class")["change"]
    assert changes["1"] == pytest.approx(100 / 3) and changes["7"] == pytest.approx(100 / 3)  # F1 from 2/3 to 1
    assert changes["2"] == pytest.approx(20) and changes["8"] == pytest.approx(20)  # from 4/5 to 1
    assert (changes.drop(["1", "2", "7", "8"]) == 0).all() and list(changes.index) == list(CLASSES)


def record(task="q_band", approach="imagenet", digest="abc", **changed):
    """What run.json says, as far as the tables need it."""
    settings = {"task": task, "approach": approach, "image_size": 96, "n_folds": 5, "folds_by": "image"}
    settings |= {"split_seed": 0, "select_on": "validation", "adam_epochs": 5, "sgd_epochs": 1}
    settings |= {"profile": "mini", "seed": 0}
    return {
        "parameters": settings | changed,
        "data": {"name": "synthetic_q" if task == "q_band" else "pki3_65", "digest": digest, "n": 2990},
        "hardware": {"processor": "a processor", "device": "cpu"},
        "versions": {"torch": "2.9.0"},
        "seconds": 90.0,
    }


def test_protocol_says_what_was_run():
    longer = record("g_band", approach="imagenet_double", digest="d", stages=2)
    table = tables.protocol([record(), record(approach="two_step"), record("g_band", digest="d"), longer], 96)
    table = table.set_index("task")
    assert table.loc["q_band", "data"] == "synthetic_q (drawings)" and table.loc["g_band", "data"] == "pki3_65"
    assert list(table["runs"]) == [2, 2] and list(table["training_minutes"]) == [3.0, 3.0]
    assert list(table["epochs"]) == ["5 Adam + 1 SGD", "2 x (5 Adam + 1 SGD); 5 Adam + 1 SGD"]
    assert table.loc["q_band", "hardware"] == "a processor, cpu"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (record(image_size=128), r"image sizes \[96, 128\] in one profile"),
        (record(digest="other"), "2 different sets of images"),
        (record(split_seed=1), "differ in 'split_seed'"),
        (record(select_on="inner"), "differ in 'select_on'"),
        (record(seed=1), "differ in 'seed'"),
        (record(profile="demo"), "differ in 'profile'"),
        (record(batch_size=32), "q_band, efficientnet_lite0: its runs differ in 'batch_size' .16, 32."),
        (record(approach="two_step", blur_sigma=0.5), "differ in 'blur_sigma'"),  # a profile edited meanwhile
    ],
)
def test_runs_that_cannot_be_compared_are_refused(other, message):
    with pytest.raises(StudyError, match=message):
        tables.protocol([record(), other], 96)


def test_image_size_must_be_that_of_the_runs():
    with pytest.raises(StudyError, match="'image_size': 256, but the runs have 96"):
        tables.protocol([record()], 256)
