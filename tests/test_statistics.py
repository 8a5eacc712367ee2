"""Statistics against hand computations, published examples, brute force and small simulations."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.datasets import make_moons
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.svm import SVC

from chromolib import metrics, statistics
from chromolib.errors import StudyError
from chromolib.intervals import Interval, draw_counts

FIVE = [0.01, 0.02, 0.03, 0.04, 0.05]  # mean 0.03, s^2 = 0.00025


def test_corrected_t_by_hand():
    # error = sqrt((1/5 + 1/4) 0.00025) = 0.0106066, t = 2.828427; t(0.975, 4) = 2.776445 (printed tables: 2.776).
    interval = statistics.corrected_t(FIVE)
    assert interval.estimate == pytest.approx(0.03)
    assert interval.low == pytest.approx(0.03 - 2.776445 * 0.0106066, abs=1e-7)
    assert interval.high == pytest.approx(0.03 + 2.776445 * 0.0106066, abs=1e-7)
    # Student's distribution with 4 degrees of freedom has a closed form.
    t = 2.8284271
    u = t / np.sqrt(1 + t**2 / 4)
    distribution = 0.5 + 3 / 8 * u * (1 - u**2 / 12)
    assert interval.p == pytest.approx(2 * (1 - distribution), abs=1e-7)


def test_corrected_t_gives_scikit_learns_published_numbers():
    """scikit-learn, "Statistical comparison of models using grid search": corrected t 0.750, one-sided p 0.227."""
    images, labels = make_moons(noise=0.352, random_state=1, n_samples=100)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    rbf, linear = (
        cross_val_score(SVC(kernel=kernel, random_state=0), images, labels, cv=folds, scoring="roc_auc")
        for kernel in ("rbf", "linear")
    )
    interval = statistics.corrected_t(rbf - linear, test_to_train=10 / 90)
    assert interval.p / 2 == pytest.approx(0.227, abs=0.0005)


def test_corrected_t_without_spread():
    assert statistics.corrected_t([0.0] * 5) == Interval(0, 0, 0, 1)
    assert statistics.corrected_t([0.25] * 5) == Interval(0.25, 0.25, 0.25, 0)


def folds_with_correlation(n_studies, correlation, mean=0.0, n_folds=5):
    rng = np.random.default_rng(11)
    common = rng.normal(size=(n_studies, 1))
    own = rng.normal(size=(n_studies, n_folds))
    return mean + np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own


def test_corrected_t_covers_95_percent_at_the_correlation_it_assumes():
    intervals = [statistics.corrected_t(folds) for folds in folds_with_correlation(2000, 0.2)]
    assert np.mean([i.low <= 0 <= i.high for i in intervals]) == pytest.approx(0.95, abs=0.017)  # 3.5 sd


def test_bootstrap_of_five_folds_covers_too_little():
    intervals = [statistics.bootstrap_interval(folds, n_boot=500) for folds in folds_with_correlation(1000, 0.0)]
    assert np.mean([i.low <= 0 <= i.high for i in intervals]) == pytest.approx(0.84, abs=0.045)


def test_bootstrap_interval_of_two_folds_is_known():
    # The mean of two draws from {0, 1} is 0, 1/2, 1 with probability 1/4, 1/2, 1/4.
    assert statistics.bootstrap_interval([0.0, 1.0]) == Interval(0.5, 0.0, 1.0)
    assert statistics.bootstrap_interval([0.0, 1.0], level=0.4) == Interval(0.5, 0.5, 0.5)


def test_bootstrap_interval_follows_the_exact_distribution():
    every = np.stack(np.meshgrid(*[FIVE] * 5), -1).reshape(-1, 5).mean(1)  # all 3125 draws
    interval = statistics.bootstrap_interval(FIVE)
    assert interval[1:3] == pytest.approx(np.quantile(every, [0.025, 0.975]), abs=0.0021)  # one step of 0.002


def test_smallest_detectable_is_detected_as_often_as_it_says():
    # With fold correlation 0.2 the expected s^2 is 0.8.
    effect = statistics.smallest_detectable(np.sqrt(0.8))
    intervals = [statistics.corrected_t(folds) for folds in folds_with_correlation(2000, 0.2, mean=effect)]
    assert np.mean([i.low > 0 for i in intervals]) == pytest.approx(0.8, abs=0.032)
    assert statistics.smallest_detectable(0) == 0


def predictions(labels, predicted, cells, seed=0):
    """A table as in predictions.parquet, whose largest logit is the given class."""
    rng = np.random.default_rng(seed)
    logits = rng.uniform(-1, 1, size=(len(labels), 24)) + 4 * np.eye(24)[predicted]
    table = pd.DataFrame(logits.astype(np.float32), columns=[f"logit_{i}" for i in range(24)])
    files = [f"cell/{i:03}.png" for i in range(len(labels))]
    return table.assign(file=files, cell=cells, label=labels, fold=np.arange(len(labels)) % 5)


def two_approaches(n=90, n_cells=7, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(24, size=n)
    cells = np.array([f"c{i}" for i in rng.integers(n_cells, size=n)])
    guesses = [np.where(rng.random(n) < right, labels, rng.integers(24, size=n)) for right in (0.8, 0.6)]
    return labels, *guesses, cells


def brute_force(labels, a, b, members, counts, metric):
    """The difference of the metric, by scikit-learn, on each drawn sample written out."""
    differences = []
    for count in counts.astype(int):
        index = np.repeat(np.arange(len(labels)), count[members])
        if metric == "accuracy":
            values = [accuracy_score(labels[index], p[index]) for p in (a, b)]
        else:
            values = [
                f1_score(labels[index], p[index], average="macro", labels=range(24), zero_division=0) for p in (a, b)
            ]
        differences.append(values[0] - values[1])
    return np.array(differences)


@pytest.mark.parametrize("metric", ["macro_f1", "accuracy"])
@pytest.mark.parametrize("groups", ["cell", None])
def test_paired_bootstrap_is_brute_force_rescoring(metric, groups, monkeypatch):
    monkeypatch.setattr(statistics, "_DRAWS_AT_ONCE", 64)
    labels, a, b, cells = two_approaches()
    members = np.arange(90) if groups is None else np.unique(cells, return_inverse=True)[1]
    counts = draw_counts(members.max() + 1, 200, np.random.default_rng(6))
    expected = brute_force(labels, a, b, members, counts, metric)
    table_b = predictions(labels, b, cells, seed=1).sample(frac=1, random_state=0)  # rows in another order
    interval = statistics.paired_bootstrap(predictions(labels, a, cells), table_b, metric, groups, n_boot=200, seed=6)
    observed = brute_force(labels, a, b, members, np.ones((1, members.max() + 1)), metric)[0]
    tail = min((expected <= 1e-12).sum(), (expected >= -1e-12).sum())
    assert interval.estimate == pytest.approx(observed, abs=1e-12)
    assert interval[1:3] == pytest.approx(np.quantile(expected, [0.025, 0.975]), abs=1e-12)
    assert interval.p == pytest.approx(min(1, 2 * (tail + 1) / 201))


@pytest.mark.parametrize("metric", ["macro_f1", "accuracy"])
@pytest.mark.parametrize("groups", ["cell", None])
def test_score_interval_is_brute_force_rescoring(metric, groups):
    labels, a, _, cells = two_approaches()
    members = np.arange(90) if groups is None else np.unique(cells, return_inverse=True)[1]
    counts = draw_counts(members.max() + 1, 200, np.random.default_rng(6))
    nothing = np.full_like(labels, 23)
    nothing[labels == 23] = 0  # scores 0 whatever is drawn
    expected = brute_force(labels, a, nothing, members, counts, metric)
    interval = statistics.score_interval(predictions(labels, a, cells), metric, groups, n_boot=200, seed=6)
    assert interval[1:3] == pytest.approx(np.quantile(expected, [0.025, 0.975]), abs=1e-12)
    assert interval.estimate == pytest.approx(metrics.scores(labels, np.eye(24)[a])[metric]) and interval.p is None


@pytest.mark.parametrize("groups", ["cell", None])
def test_unmatched_bootstrap_of_the_same_images_is_the_paired_one(groups):
    labels, a, b, cells = two_approaches()
    tables = predictions(labels, a, cells), predictions(labels, b, cells, seed=1)
    paired = statistics.paired_bootstrap(*tables, "macro_f1", groups, n_boot=300)
    assert statistics.unmatched_bootstrap(*tables, "macro_f1", groups, n_boot=300) == paired
    mixed = tables[0].sample(frac=1, random_state=0), tables[1]
    assert statistics.unmatched_bootstrap(*mixed, "macro_f1", groups, n_boot=300) == pytest.approx(paired)


def test_unmatched_bootstrap_is_brute_force_on_each_tables_own_images():
    labels, a, b, cells = two_approaches()
    in_a, in_b = np.arange(90) < 60, np.isin(cells, ["c0", "c2", "c3", "c5"])
    tables = predictions(labels, a, cells)[in_a], predictions(labels, b, cells)[in_b]
    names, members = np.unique(cells, return_inverse=True)
    differences = []
    for count in draw_counts(len(names), 100, np.random.default_rng(4)).astype(int):
        scores = []
        for guesses, chosen in ((a, in_a), (b, in_b)):
            index = np.repeat(np.arange(90), count[members] * chosen)
            scores.append(accuracy_score(labels[index], guesses[index]))
        differences.append(scores[0] - scores[1])
    interval = statistics.unmatched_bootstrap(*tables, "accuracy", "cell", n_boot=100, seed=4)
    assert interval[1:3] == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=1e-12)


@pytest.mark.parametrize("metric", ["macro_f1", "accuracy"])
def test_unmatched_bootstrap_leaves_out_draws_without_images(metric):
    """Of two cells each has one table's images: half of the draws hold one cell only, the others are all the same."""
    labels = np.tile(np.arange(24), 2)
    cells = np.repeat(["a", "b"], 24)
    right, wrong = predictions(labels, labels, cells), predictions(labels, (labels + 1) % 24, cells)
    interval = statistics.unmatched_bootstrap(right[cells == "a"], wrong[cells == "b"], metric, "cell", n_boot=99)
    assert interval[:3] == (1, 1, 1) and 2 / 100 < interval.p < 0.1


def test_unmatched_bootstrap_keeps_what_cells_do_to_both():
    """Cells are all right or all wrong, alike in two halves of their images: the difference never moves."""
    labels = np.tile(np.arange(24), 20)
    cells = np.repeat([f"c{i}" for i in range(20)], 24)
    guesses = np.where(np.isin(cells, ["c1", "c4", "c7"]), (labels + 1) % 24, labels)
    table, half = predictions(labels, guesses, cells), np.arange(480) % 2 == 0
    interval = statistics.unmatched_bootstrap(table[half], table[~half], "accuracy", "cell", n_boot=500)
    assert interval[:3] == pytest.approx((0, 0, 0), abs=1e-12) and interval.p == 1
    widths = [
        i.high - i.low for i in (statistics.score_interval(t, "accuracy", "cell", 500) for t in (table[half], table))
    ]
    assert min(widths) > 0.2


def test_paired_bootstrap_of_equal_predictions():
    labels, a, _, cells = two_approaches()
    table = predictions(labels, a, cells)
    assert statistics.paired_bootstrap(table, table, "macro_f1", "cell", n_boot=100) == Interval(0, 0, 0, 1)


def test_paired_bootstrap_of_a_certain_difference_has_the_smallest_p():
    labels = np.arange(48) % 24
    cells = np.repeat(["a", "b"], 24)
    right, wrong = predictions(labels, labels, cells), predictions(labels, (labels + 1) % 24, cells)
    interval = statistics.paired_bootstrap(right, wrong, "accuracy", "cell", n_boot=999)
    assert interval == Interval(1, 1, 1, 2 / 1000)


def test_cells_that_fail_together_widen_the_interval():
    labels = np.tile(np.arange(24), 10)
    cells = np.repeat([f"c{i}" for i in range(10)], 24)
    failing = np.where(np.isin(cells, ["c1", "c4", "c7"]), (labels + 1) % 24, labels)
    tables = predictions(labels, labels, cells), predictions(labels, failing, cells)
    by_cell, by_image = (
        statistics.paired_bootstrap(*tables, "accuracy", groups, n_boot=2000) for groups in ("cell", None)
    )
    assert by_cell.estimate == by_image.estimate == pytest.approx(0.3)
    # Binomial standard deviations: sqrt(0.21 / 10) = 0.145 against sqrt(0.21 / 240) = 0.030.
    assert by_cell.high - by_cell.low == pytest.approx(2 * 1.96 * 0.145, rel=0.15)
    assert by_image.high - by_image.low == pytest.approx(2 * 1.96 * 0.0296, rel=0.15)


def trainings(misses, n_cells=6, seed=0):
    """Tables of one run, one a seed: in each cell 24 images of each fold, of which misses[seed][fold] are wrong."""
    n_folds = len(misses[0])
    labels = np.tile(np.arange(24), n_cells * n_folds)
    cells = np.repeat([f"c{i}" for i in range(n_cells)], 24 * n_folds)
    fold = np.tile(np.repeat(np.arange(n_folds), 24), n_cells)
    guesses = [np.where(labels < np.array(row)[fold], (labels + 1) % 24, labels) for row in misses]
    return [predictions(labels, guess, cells, seed).assign(fold=fold) for guess in guesses]


def test_contrast_of_seeds_by_hand_where_all_cells_are_alike():
    """Cells add no variance then, so that what is left is Student's t of the spread between seeds, fold by fold."""
    after, before = [[2, 4, 3], [5, 4, 1]], [[6, 6, 6], [6, 6, 6]]
    interval = statistics.contrast([("cell", [(1, trainings(after)), (-1, trainings(before))])], "accuracy", 50)
    # In thirds of 1/24: fold 0 has 2 and 5, variance 4.5; fold 1 none; fold 2 has 3 and 1, variance 2. Of two seeds.
    error = np.sqrt((4.5 + 2) / 2) / 3 / 24
    t = 3.182446  # of 3 degrees of freedom, printed tables: 3.182
    assert interval.estimate == pytest.approx((36 - 19) / 6 / 24)
    assert interval[1:3] == pytest.approx(interval.estimate + error * np.array([-t, t]), rel=1e-6)
    # Student's distribution with 3 degrees of freedom has a closed form.
    x = interval.estimate / error / np.sqrt(3)
    assert interval.p == pytest.approx(1 - 2 / np.pi * (np.arctan(x) + x / (1 + x**2)), rel=1e-6)


def test_contrast_of_seeds_counts_each_source_of_variance_once():
    """Trainings that differ by chance from image to image only: the variance is that of images and no more."""
    rng = np.random.default_rng(0)
    labels, fold = np.tile(np.arange(24), 50), np.arange(1200) % 5
    cells, halves = np.repeat([f"c{i}" for i in range(50)], 24), []
    for _ in range(100):
        guesses = np.where(rng.random((2, 1200)) < 0.2, (labels + 1) % 24, labels)
        tables = [predictions(labels, guess, cells).assign(fold=fold) for guess in guesses]
        interval = statistics.contrast([("cell", [(1, tables)])], "accuracy", 200)
        halves.append((interval.high - interval.low) / 2)
    images = 0.16 / 2400  # binomial variance of the mean of 2 x 1,200 independent images
    between = rng.chisquare(5, 10_000) / 5 * images  # as estimated from two seeds in each of five folds
    variance = images + np.maximum(0, between - images)
    freedom = variance**2 / (images**2 / 49 + between**2 / 5)
    expected = np.sqrt(variance) * stats.t.ppf(0.975, freedom)  # 12 % less than if that variance were counted twice
    assert np.mean(halves) == pytest.approx(expected.mean(), abs=3.5 * expected.std() / np.sqrt(100))


def test_contrast_of_one_seed_is_the_paired_bootstrap():
    labels, a, b, cells = two_approaches()
    tables = predictions(labels, a, cells), predictions(labels, b, cells, seed=1)
    paired = statistics.paired_bootstrap(*tables, "macro_f1", "cell", n_boot=300, seed=6)
    runs = [(1, [tables[0]]), (-1, [tables[1].sample(frac=1, random_state=0)])]
    assert statistics.contrast([("cell", runs)], "macro_f1", 300, seed=6) == pytest.approx(paired, abs=1e-12)


def test_an_effect_of_the_detectable_size_is_seen_as_often_as_it_says():
    """Normal estimates of known error 0.3, with intervals of 95 %."""
    effect = statistics.detectable(Interval(7, 7 - 1.96 * 0.3, 7 + 1.96 * 0.3))
    estimates = effect + 0.3 * np.random.default_rng(0).normal(size=20_000)
    assert np.mean(estimates - 1.96 * 0.3 > 0) == pytest.approx(0.8, abs=0.01)
    assert effect == pytest.approx(2.8016 * 0.3, rel=1e-4)  # 1.95996 + 0.84162, from printed tables
    assert statistics.detectable(Interval(1, 1, 1)) == 0


def test_contrast_of_seeds_is_about_the_recipes():
    """Trainings of fortune 2 points: cells alone cover some 70 %, cells and trainings 95 %."""
    rng = np.random.default_rng(1)
    labels, n = np.tile(np.arange(24), 25), 600
    cells = np.repeat([f"c{i}" for i in range(25)], 24)
    fold = np.repeat(np.arange(25) % 5, 24)
    covered = []
    for _ in range(120):
        shares = 0.8 + rng.normal(0, 0.03, (2, 5))[:, fold]
        guesses = np.where(rng.random((2, n)) < shares, labels, (labels + 1) % 24)
        tables = [predictions(labels, guess, cells).assign(fold=fold) for guess in guesses]
        both = statistics.contrast([("cell", [(1, tables)])], "accuracy", 100)
        alone = statistics.score_interval(tables[0], "accuracy", "cell", 100)
        covered.append([interval.low <= 0.8 <= interval.high for interval in (both, alone)])
    both, alone = np.mean(covered, axis=0)
    assert both == pytest.approx(0.95, abs=0.07) and alone < 0.9  # 3.5 binomial standard deviations


def test_contrast_of_seeds_of_two_stainings():
    """A contrast of gains: variances of independent parts add, and what both share cancels."""
    a, b = trainings([[2, 4, 3], [5, 4, 1]]), trainings([[6, 6, 6], [6, 6, 6]])
    gain = ("cell", [(1, a), (-1, b)])
    twice = statistics.contrast([gain, ("cell", [(1, b), (-1, a)])], "macro_f1", 50)
    assert twice == pytest.approx(Interval(0, 0, 0, 1), abs=1e-15)
    still = statistics.contrast([("cell", [(0.5, a), (-0.5, b)]), ("cell", [(0.5, b), (-0.5, b)])], "accuracy", 50)
    whole = statistics.contrast([gain], "accuracy", 50)
    assert still[:3] == pytest.approx(np.array(whole[:3]) / 2) and still.p == pytest.approx(whole.p)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([("cell", [(1, [])])], r"seeds: runs of \[0\] seeds"),
        ([("cell", [(1, trainings([[1, 2]] * 2)), (-1, trainings([[1, 2]] * 3))])], r"runs of \[2, 3\] seeds"),
        ([("cell", [(1, trainings([[1, 2]] * 2)), (-1, trainings([[1, 2, 3]] * 2))])], "are in one only"),
        (
            [("cell", [(1, trainings([[1, 2]] * 2))]), ("cell", [(1, trainings([[1, 2, 3]] * 2))])],
            "seeds and folds are",
        ),
        ([("cell", [(1, [t.assign(fold=f) for f, t in enumerate(trainings([[1, 2]] * 2))])])], "column fold differs"),
    ],
)
def test_trainings_that_cannot_be_taken_together(parts, words):
    with pytest.raises(StudyError, match=words):
        statistics.contrast(parts, "accuracy", 10)


def spoilt(**changes):
    labels, a, _, cells = two_approaches()
    return predictions(labels, a, cells).assign(**changes)


@pytest.mark.parametrize(
    ("b", "words"),
    [
        (spoilt().iloc[1:], "1 images are in one only, such as cell/000.png"),
        (spoilt(label=0), "column label differs"),
        (spoilt(cell="other"), "column cell differs"),
        (spoilt(cell=None), "cell is unknown for 90 images; resample images"),
        (spoilt(file="same.png"), "same.png occurs more than once"),
        (spoilt(logit_3=np.nan), "NaN"),
        (spoilt().drop(columns="logit_3"), "column logit_3 is absent"),
        (spoilt().drop(columns="cell"), "column cell is absent"),
    ],
)
def test_predictions_that_cannot_be_compared(b, words):
    with pytest.raises(StudyError, match=words):
        statistics.paired_bootstrap(spoilt(), b, "macro_f1", "cell", n_boot=10)


# Holm's steps written out for four p-values: sorted 0.005 0.01 0.03 0.04.
# Holm: 4 x 0.005 = 0.02; 3 x 0.01 = 0.03; 2 x 0.03 = 0.06; 1 x 0.04 = 0.04, raised to 0.06.
# BH: 4/1 x 0.005 = 0.02; 4/2 x 0.01 = 0.02; 4/3 x 0.03 = 0.04; 4/4 x 0.04 = 0.04.
FOUR = [0.01, 0.04, 0.03, 0.005]


def test_holm_by_hand():
    assert statistics.holm(FOUR) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert statistics.holm([0.2]) == pytest.approx([0.2])


def test_sd_interval_with_a_tables_quantiles():
    """Chi squared with 4 degrees of freedom: 0.4844 and 11.143 (2.5 and 97.5 %)."""
    values = np.array([1, 2, 3, 4, 5])
    ends = [np.sqrt(2.5), np.sqrt(4 * 2.5 / 11.143), np.sqrt(4 * 2.5 / 0.4844)]
    assert statistics.sd_interval(values)[:3] == pytest.approx(ends, rel=1e-4)
    rows = [[0, 1, 2], [5, 5, 5]]  # variances 1 and 0, two degrees of freedom each
    ends = [np.sqrt(0.5), np.sqrt(4 * 0.5 / 11.143), np.sqrt(4 * 0.5 / 0.4844)]
    assert statistics.sd_interval(rows)[:3] == pytest.approx(ends, rel=1e-4)


def test_corrections_agree_with_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    for seed in range(20):
        p = np.random.default_rng(seed).beta(0.5, 2, size=22).round(2)  # with ties
        assert statistics.holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1], abs=1e-15)


def test_corrections_against_their_definitions():
    p = np.random.default_rng(2).beta(0.5, 2, size=22)
    rank = p.argsort().argsort()
    smaller = [np.sort(p)[: r + 1] for r in rank]
    holm = [min(1, max((22 - i) * q for i, q in enumerate(s))) for s in smaller]
    assert statistics.holm(p) == pytest.approx(holm)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: statistics.corrected_t([0.1]), "differences: .*at least 2"),
        (lambda: statistics.corrected_t([[0.1, 0.2]]), "differences"),
        (lambda: statistics.corrected_t([0.1, np.nan]), "differences: value 1 is not a finite number"),
        (lambda: statistics.corrected_t(FIVE, test_to_train=-1), "test_to_train"),
        (lambda: statistics.corrected_t(FIVE, level=1.0), "level"),
        (lambda: statistics.bootstrap_interval([0.1]), "differences: .*at least 2"),
        (lambda: statistics.bootstrap_interval([np.inf, 0.1]), "differences: value 0"),
        (lambda: statistics.bootstrap_interval(FIVE, n_boot=0), "n_boot"),
        (lambda: statistics.holm([]), "p_values: .*at least 1"),
        (lambda: statistics.holm([0.1, np.nan]), "p_values: value 1"),
        (lambda: statistics.holm([0.1, 1.2]), "p_values: .*range"),
        (lambda: statistics.sd_interval([1.0]), "values: .*at least two"),
        (lambda: statistics.smallest_detectable(np.nan), "sd"),
        (lambda: statistics.smallest_detectable(0.1, n_folds=1), "n_folds"),
        (lambda: statistics.paired_bootstrap(spoilt(), spoilt(), "auc_ovr", None), "metric: 'auc_ovr'"),
        (lambda: statistics.paired_bootstrap(spoilt(cell="one"), spoilt(cell="one"), "accuracy", "cell"), "single"),
        (lambda: statistics.paired_bootstrap(spoilt(), spoilt(), "accuracy", None, n_boot=0), "n_boot"),
        (lambda: statistics.score_interval(spoilt(), "auc_ovr", None), "metric: 'auc_ovr'"),
        (lambda: statistics.score_interval(spoilt(cell=None), "accuracy", "cell"), "predictions: cell is unknown"),
        (
            lambda: statistics.unmatched_bootstrap(spoilt(), spoilt(cell=None), "accuracy", "cell"),
            "predictions_b: cell is",
        ),
        (lambda: statistics.score_interval(spoilt(file="same.png"), "accuracy", None), "occurs more than once"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(StudyError, match=words):
        call()
