"""Whether a difference between two approaches is more than chance: intervals, tests, corrections.

Differences and their intervals are in the unit of what is passed in: fractions of 1 for
`metrics.scores`.
"""

import numpy as np
import pandas as pd
from scipy import special, stats

from chromolib import metrics
from chromolib.errors import StudyError
from chromolib.intervals import Interval, check_level, draw_counts, percentile_interval

_POWER = 0.8  # of the studies that find what is said to be detectable
_DRAWS_AT_ONCE = 1000  # with 5,474 images 22 MB of counts
_METRICS = {
    "macro_f1": metrics.macro_f1,
    "accuracy": lambda hits, marks: metrics.f1(hits.sum(axis=-1), marks.sum(axis=-1)),  # each image has two marks
}


def bootstrap_interval(differences, n_boot=10_000, level=0.95, seed=0):
    """The paper's interval: percentile bootstrap of the mean of the fold differences (n_folds,). No p.

    Of five folds it covers too little, 84 % instead of 95 % even where folds are independent [ours,
    simulated]; it is here to reproduce the paper. Raises StudyError for fewer than two folds and
    for NaN.
    """
    differences = _numbers(differences, "differences", at_least=2)
    drawn = np.random.default_rng(seed).integers(len(differences), size=(n_boot, len(differences)))
    return percentile_interval(differences.mean(), differences[drawn].mean(axis=1), level)


def corrected_t(differences, test_to_train=1 / 4, level=0.95):
    """Corrected resampled t interval of the mean of the fold differences (n_folds,), with its two-sided p.

    t = mean / sqrt((1 / n_folds + test_to_train) s^2) with n_folds - 1 degrees of freedom (Nadeau
    and Bengio 2003, doi 10.1023/A:1024068626366); test_to_train is the images of a fold over those
    trained on, 1/4 for five folds. Where all differences are equal p is 1 if they are zero, else 0.
    Raises StudyError for fewer than two folds and NaN.
    """
    differences = _numbers(differences, "differences", at_least=2)
    check_level(level)
    mean, freedom = differences.mean(), len(differences) - 1
    error = _standard_error(differences.std(ddof=1), len(differences), test_to_train)
    return _student(mean, error, freedom, level)


def smallest_detectable(sd, n_folds=5, test_to_train=1 / 4):
    """The true mean difference that `corrected_t` would find, with its sign, in four of five studies. A float.

    sd: standard deviation of the fold differences, in the unit of the answer. Exact (noncentral t)
    for normal differences with the correlation between folds that the correction assumes.
    """
    if not (np.isfinite(sd) and sd >= 0):
        raise StudyError(f"sd: {sd} is not a standard deviation; give that of at least two fold differences")
    if n_folds < 2:
        raise StudyError(f"n_folds: {n_folds} has no spread; at least two folds are needed")
    critical = stats.t.ppf(0.975, n_folds - 1)  # of a test at 5 %
    shift = special.nctdtrinc(n_folds - 1, 1 - _POWER, critical)
    return float(shift * _standard_error(sd, n_folds, test_to_train))


def score_interval(predictions, metric, groups, n_boot=10_000, seed=0):
    """95 % percentile bootstrap Interval of a metric of pooled out-of-fold predictions, `groups` being drawn. No p.

    The arguments, and what is refused, are those of `paired_bootstrap`. The trained networks are
    taken as given.
    """
    _check_call(metric, groups, predictions=predictions)
    values = _replicates([predictions], metric, groups, n_boot, seed)[:, 0]  # (1 + n_boot,)
    return percentile_interval(values[0], values[1:], 0.95)


def paired_bootstrap(predictions_a, predictions_b, metric, groups, n_boot=10_000, level=0.95, seed=0):
    """Percentile bootstrap Interval of metric(a) - metric(b) on the same images, with a two-sided p.

    predictions_a, predictions_b: DataFrames as in predictions.parquet (columns file, label, logit_0
    .. logit_23), the out-of-fold predictions of all folds together; rows are matched by file. The
    folds of a and b may differ.
    metric: "macro_f1" or "accuracy", as in `metrics.scores`. groups: the column whose values are
    drawn with replacement, the same for a and b: "cell" where cells are known, since the
    chromosomes of a cell depend on each other; None draws single images.

    p = min(1, 2 (b + 1) / (n_boot + 1)), where b draws lie at zero or beyond it, on the side that
    has fewer: but for the added one, the level at which the interval just reaches zero. Its least
    value is 2 / (n_boot + 1).

    Nothing is scored twice: each group's hits and marks per class are counted once; a draw only
    adds them up. Raises StudyError for images, labels or groups that differ, doubled files, unknown
    cells, and a single group.
    """
    _check_call(metric, groups, predictions_a=predictions_a, predictions_b=predictions_b)
    pair = _aligned(predictions_a, predictions_b, groups)
    return _difference(_replicates(pair, metric, groups, n_boot, seed), level)


def unmatched_bootstrap(predictions_a, predictions_b, metric, groups, n_boot=10_000, seed=0):
    """As `paired_bootstrap`, at 95 %, where a and b need not hold the same images, such as folds cut in two ways.

    Each draw takes groups from all that occur in a or b, and a group brings its images of both: so
    what a cell does to both scores is kept, whatever part of it either has. On the same images it
    is the paired bootstrap. A draw that leaves a or b without an image has no difference and is
    left out.
    """
    _check_call(metric, groups, predictions_a=predictions_a, predictions_b=predictions_b)
    values = _replicates([predictions_a, predictions_b], metric, groups, n_boot, seed)
    return _difference(values[np.isfinite(values).all(axis=1)], 0.95)


def contrast(parts, metric, n_boot=10_000, level=0.95, seed=0):
    """Interval of a weighted sum of metrics, with its two-sided p: of several seeds about the recipes, of one about its
    networks.

    parts: a list of (groups, runs), runs being a list of (weight, tables): the weight of the run's
    metric in the sum, and its out-of-fold predictions as for `paired_bootstrap`, a table a seed,
    each with a column `fold`. Runs of one part are on the same images, whose groups are drawn for
    all of them together; parts, such as two stainings, are drawn apart. [("cell", [(1, a), (-1,
    b)])] is a gain. All runs have the same number of seeds and the same folds; the nth table of
    each run is of one seed.

    One seed: the percentile interval of the draws, which cannot see that another training would
    come out otherwise; of two runs it is `paired_bootstrap`.

    Several: trainings *and* groups. The estimate is the mean over seeds of the sum, folds pooled.
    Its variance is that of the draws, these networks given, and that of the trainings: the variance
    between the seeds of a fold, on the same images, of what the sum would be if that fold were of
    this seed alone; freedom (seeds - 1) in each fold. How far networks of two seeds differ from
    image to image is in both, and counted once. The interval is Student's t with the freedom of
    Satterthwaite (1946), as is p. Drawing trainings with replacement, the plain bootstrap, would
    halve the variance of two seeds, and has no allowance for how few they are; simulated in
    benchmarks/coverage.py.

    What all trainings share because they learn from nearly the same images is in no such interval.
    """
    check_level(level)
    sums = [_seeds(runs, metric, groups, n_boot, [seed, number]) for number, (groups, runs) in enumerate(parts)]
    swaps = [_swaps(runs, metric) for _, runs in parts]
    if len({swap.shape for swap in swaps}) > 1:
        raise StudyError(f"parts: seeds and folds are {[swap.shape for swap in swaps]}; give the same of each")
    values, luck = sum(part for part, _ in sums), sum(swaps)  # (1 + n_boot, seeds), (seeds, folds)
    n_seeds, n_folds = luck.shape
    if n_seeds == 1:
        return percentile_interval(values[0, 0], values[1:, 0], level, _sign_p(values[1:, 0]))
    between = luck.var(axis=0, ddof=1).sum() / n_seeds
    apart = values[1:] - values[1:].mean(axis=1, keepdims=True)
    counted = apart.var(axis=0, ddof=1).mean() / (n_seeds - 1)
    drawn = np.array([part[1:].mean(axis=1).var(ddof=1) for part, _ in sums])
    variance = drawn.sum() + max(0, between - counted)
    freedom = np.array([n_groups - 1 for _, n_groups in sums] + [n_folds * (n_seeds - 1)])
    squares = np.append(drawn, between) ** 2
    return _student(values[0].mean(), np.sqrt(variance), variance**2 / max((squares / freedom).sum(), 1e-300), level)


def detectable(interval, level=0.95):
    """The true distance from a border, such as zero, that an interval of this width tells from none. A float.

    In four of five studies, for an estimate that is about normal: half the interval's width, and as
    much again as its estimate may fall short.
    """
    return (interval.high - interval.low) / 2 * float(1 + stats.norm.ppf(_POWER) / stats.norm.ppf((1 + level) / 2))


def sd_interval(values, level=0.95):
    """Interval of the standard deviation of repeated normal values (n,), or of that within the rows of (rows, n). No p.

    The rows' variances are averaged; their sum has a chi-squared distribution with rows x (n - 1)
    degrees of freedom.
    """
    rows = np.atleast_2d(np.asarray(values, np.float64))
    freedom = rows.shape[0] * (rows.shape[1] - 1)
    if freedom < 1:
        raise StudyError(f"values: shape {rows.shape} has no spread; at least two values of a kind are needed")
    variance = rows.var(axis=1, ddof=1).mean()
    low, high = np.sqrt(freedom * variance / stats.chi2.ppf([(1 + level) / 2, (1 - level) / 2], freedom))
    return Interval(float(np.sqrt(variance)), float(low), float(high))


def holm(p_values):
    """p-values (m,) adjusted for the family-wise error (Holm 1979): reject those <= alpha. (m,) float64, in [0, 1].

    Raises StudyError for no values, NaN, and values outside [0, 1].
    """
    p = _numbers(p_values, "p_values")
    if p.min() < 0 or p.max() > 1:
        raise StudyError(f"p_values: {p.min()}..{p.max()} leaves the range 0..1")
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(raised, 1)[np.argsort(order)]


def _student(mean, error, freedom, level):
    """The interval of Student's t and its two-sided p; without error p is 1 for a mean of zero, else 0."""
    margin = stats.t.ppf((1 + level) / 2, freedom) * error if error > 0 else 0
    p = 2 * stats.t.sf(abs(mean) / error, freedom) if error > 0 else mean == 0
    return Interval(float(mean), float(mean - margin), float(mean + margin), float(p))


def _standard_error(sd, n_folds, test_to_train):
    if not (np.isfinite(test_to_train) and test_to_train >= 0):
        raise StudyError(f"test_to_train: {test_to_train} is not a ratio of image counts; five folds have 1/4")
    return float(sd * np.sqrt(1 / n_folds + test_to_train))


def _numbers(values, name, at_least=1):
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < at_least:
        raise StudyError(f"{name}: expected a list of at least {at_least} numbers, not shape {values.shape}")
    if not np.isfinite(values).all():
        first = np.flatnonzero(~np.isfinite(values))[0]
        raise StudyError(f"{name}: value {first} is not a finite number; leave no gaps")
    return values


def _check_call(metric, groups, **frames):
    if metric not in _METRICS:
        raise StudyError(f"metric: {metric!r} is unknown; choose one of {', '.join(_METRICS)}")
    for name, frame in frames.items():
        _check_table(name, frame, groups)


def _aligned(a, b, *columns):
    """Both tables in the order of a, after making sure that they speak of the same images, alike in all `columns`."""
    rows = pd.Index(b["file"]).get_indexer(a["file"])
    if len(a) != len(b) or (rows < 0).any():
        unmatched = set(a["file"]) ^ set(b["file"])
        raise StudyError(
            f"predictions_a, predictions_b: {len(unmatched)} images are in one only, such as {min(unmatched)}; "
            "compare runs of the same data set"
        )
    b = b.iloc[rows]
    for column in filter(None, ["label", *columns]):
        if (a[column].to_numpy() != b[column].to_numpy()).any():
            raise StudyError(
                f"predictions_a, predictions_b: column {column} differs; compare runs of the same data set"
            )
    return a, b


def _check_table(name, frame, groups):
    missing = {"file", "label", groups or "file", *metrics.LOGITS} - set(frame.columns)
    if missing:
        raise StudyError(f"{name}: column {min(missing)} is absent; pass the table of a run's predictions.parquet")
    if frame["file"].duplicated().any():
        twice = frame["file"][frame["file"].duplicated()].iloc[0]
        raise StudyError(f"{name}: {twice} occurs more than once; pool the folds of one run, each image once")
    if groups is not None and frame[groups].isna().any():
        raise StudyError(
            f"{name}: {groups} is unknown for {frame[groups].isna().sum()} images; resample images instead: groups=None"
        )


def _replicates(frames, metric, groups, n_boot, seed):
    """The metric of each table as it is (row 0) and in n_boot draws of groups: (1 + n_boot, n_tables) float64.

    NaN where a draw has no image of a table.
    """
    labels = np.concatenate([frame[groups or "file"] for frame in frames])  # (images of all tables,)
    names, members = np.unique(labels, return_inverse=True)
    n_groups = len(names)
    if n_groups < 2:
        raise StudyError(f"groups: a single value of {groups or 'file'!r}; at least two are needed to resample")
    parts = np.split(members, np.cumsum([len(frame) for frame in frames])[:-1])
    tallies = [_tally(frame, part, n_groups) for frame, part in zip(frames, parts, strict=True)]
    table = np.hstack(tallies).astype(np.float32)  # (n_groups, n_tables x 2 counts x 24)
    rng = np.random.default_rng(seed)
    sizes = np.diff([*range(0, n_boot, _DRAWS_AT_ONCE), n_boot])
    totals = [np.ones((1, n_groups), np.float32) @ table]  # (1, n_tables x 2 x 24)
    totals += [draw_counts(n_groups, size, rng) @ table for size in sizes]  # (size, n_tables x 2 x 24)
    counts = np.concatenate(totals).astype(np.float64)  # (1 + n_boot, n_tables x 2 x 24)
    counts = counts.reshape(-1, len(frames), 2, metrics.N_CLASSES)  # (1 + n_boot, n_tables, 2, 24)
    hits, marks = counts[:, :, 0], counts[:, :, 1]  # (1 + n_boot, n_tables, 24) both
    return np.where(marks.any(axis=-1), _METRICS[metric](hits, marks), np.nan)


def _seeds(runs, metric, groups, n_boot, seed):
    """The weighted sum of the runs' metrics for each seed, as it is and in each draw, and the number of groups drawn.

    (1 + n_boot, n_seeds) float64, int. StudyError where runs are not on the same images, or have
    too few seeds.
    """
    tables = [table for _, seeds in runs for table in seeds]
    counts = {len(seeds) for _, seeds in runs}
    if len(counts) > 1 or 0 in counts:
        raise StudyError(f"seeds: runs of {sorted(counts)} seeds; give the same of each, trained on the same folds")
    _check_call(metric, groups, **{f"table {number}": table for number, table in enumerate(tables)})
    tables = [_aligned(tables[0], table, groups, "fold")[1] for table in tables]
    values = _replicates(tables, metric, groups, n_boot, seed)  # (1 + n_boot, runs x seeds)
    values = values.reshape(1 + n_boot, len(runs), -1)  # (1 + n_boot, runs, seeds)
    weights = np.array([weight for weight, _ in runs])
    return np.einsum("r,brs->bs", weights, values), tables[0][groups or "file"].nunique()


def _swaps(runs, metric):
    """What the weighted sum would be with one fold of one seed alone, the other folds of all seeds: (seeds, folds)."""
    total = 0
    for weight, seeds in runs:
        folds = [np.unique(table["fold"], return_inverse=True)[1] for table in seeds]
        tallies = [_tally(table, of, of.max() + 1) for table, of in zip(seeds, folds, strict=True)]
        tallies = np.stack(tallies)  # (seeds, folds, 2 x 24)
        mean = tallies.mean(axis=0)  # (folds, 2 x 24)
        others = mean.sum(axis=0) - mean  # (folds, 2 x 24), of all folds but the one
        counts = (others + tallies).reshape(*tallies.shape[:2], 2, metrics.N_CLASSES)  # (seeds, folds, 2, 24)
        total = total + weight * _METRICS[metric](counts[:, :, 0], counts[:, :, 1])
    return total


def _tally(frame, members, n_groups):
    """Hits and marks of each class in each group (see metrics.f1): (n_groups, 2 x 24) int64."""
    labels, logits = metrics.check(*metrics.arrays(frame))
    predicted = logits.argmax(axis=1)
    hits, marks = np.zeros((2, n_groups, metrics.N_CLASSES), np.int64)
    np.add.at(hits, (members, labels), predicted == labels)
    np.add.at(marks, (members, labels), 1)
    np.add.at(marks, (members, predicted), 1)
    return np.hstack([hits, marks])


def _difference(values, level):
    """The Interval of the first table's metric less the second's, from `_replicates`."""
    differences = values[:, 0] - values[:, 1]
    return percentile_interval(differences[0], differences[1:], level, _sign_p(differences[1:]))


def _sign_p(differences):
    tail = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1, 2 * (tail + 1) / (len(differences) + 1)))
