"""How much of a score is real: the same training under stricter protocols, other seeds, and what copies and cells do.

A profile such as mini has variations beside it, mini_cell (folds by cell), mini_inner (the epoch chosen on an inner
split), mini_cell_inner (both) and mini_seed1, mini_seed2, ... (other seeds); see parameters/profile. What was not
trained is a row that says "not run". Scores come out in per cent, differences in percentage points.
"""

import itertools
import math

import numpy as np
import pandas as pd
from scipy import stats

from chromolib import (
    N_CHROMOSOMES,
    datasets,
    duplicates,
    folds,
    karyotype,
    metrics,
    parameters,
    runs,
    statistics,
    tables,
)
from chromolib.errors import StudyError
from chromolib.intervals import Interval

VARIATIONS = {  # the end of the profile's name -> the parameters it may change
    "": set(),
    "cell": {"folds_by"},
    "inner": {"select_on"},
    "cell_inner": {"folds_by", "select_on"},
}
PROTOCOLS = {  # name -> variation, and the prefix of its columns in folds.csv
    "image-wise, best epoch (the paper's)": ("", ""),
    "image-wise, last epoch": ("", "last_"),
    "image-wise, inner selection": ("inner", ""),
    "cell-wise, best epoch": ("cell", ""),
    "cell-wise, last epoch": ("cell", "last_"),
    "cell-wise, inner selection": ("cell_inner", ""),
}
_UNKNOWN = Interval(np.nan, np.nan, np.nan, np.nan)


def variations(profile, tasks, architectures, approaches, folds):
    """The `runs.Results` of a profile (under "") and of each of `VARIATIONS` of it (under its end), checked for fit.

    Raises StudyError where the profile itself has no finished run, and as `check_variation`.
    """
    grid = (tasks, architectures, approaches, folds)
    found = {end: runs.results(f"{profile}_{end}" if end else profile, *grid) for end in VARIATIONS}
    tables.select(found[""].scores, *grid)  # says so where there is nothing
    for end, changes in VARIATIONS.items():
        check_variation(found[""], found[end], changes)
    return found


def seeds(base, profile, numbers, tasks, architectures, approaches, folds):
    """The `runs.Results` of a profile (`base`) and of its seed variations, {seed: Results}; what is absent is empty.

    Raises StudyError as `check_variation`, and where a variation has another seed than its name says.
    """
    found = {next(iter(base.records.values()))["parameters"]["seed"]: base}
    for number in numbers:
        found[number] = runs.results(f"{profile}_seed{number}", tasks, architectures, approaches, folds)
        check_variation(base, found[number], {"seed"})
        wrong = {r["parameters"]["seed"] for r in found[number].records.values()} - {number}
        if wrong:
            raise StudyError(f"{profile}_seed{number}: its runs have seed {min(wrong)}; train them with seed {number}")
    return found


def check_variation(base, other, changes):
    """StudyError unless the runs of two `runs.Results` differ only in the parameters named in `changes` (a set).

    Each run of `other` is held against the same run of `base`: same images, and all other parameters equal. One that
    was not there yet when a run was made counts as having had its default.
    """
    defaults = parameters.defaults("03_training")
    for key in base.records.keys() & other.records.keys():
        one, two = base.records[key], other.records[key]
        where = f"{two['parameters']['profile']}, {', '.join(key)}"
        if one["data"]["digest"] != two["data"]["digest"]:
            raise StudyError(f"{where}: was trained on other images than {one['parameters']['profile']}; train it anew")
        for name in sorted(one["parameters"].keys() | two["parameters"].keys()):
            values = [record["parameters"].get(name, defaults.get(name)) for record in (one, two)]
            if values[0] != values[1] and name not in {"profile", *changes}:
                raise StudyError(
                    f"{where}: {name} is {values[1]!r}, in {one['parameters']['profile']} it is {values[0]!r}; the two "
                    f"may differ in {', '.join(sorted(changes)) or 'nothing'} only: train one of them again"
                )


def overview(profile, varied, seeds):
    """How many runs and trainings are finished: DataFrame, a row per profile."""
    names = {f"{profile}_{end}" if end else profile: found for end, found in varied.items()}
    names |= {f"{profile}_seed{number}": found for number, found in seeds.items() if found is not varied[""]}
    counts = {name: {"runs": len(found.records), "trainings": len(found.scores)} for name, found in names.items()}
    return pd.DataFrame(counts).T.rename_axis("profile")


def gains(varied, draws=10_000, seed=0):
    """`tables.gains` of two_step over imagenet with folds by image and by cell: DataFrame with a column `folds`."""
    ways = {"image-wise": varied[""], "cell-wise": varied["cell"]}
    options = {"draws": draws, "seed": seed}
    return _stacked(
        "folds", {way: tables.gains(found.scores, found.predictions, **options) for way, found in ways.items()}
    )


def _stacked(column, parts):
    """Tables below each other, {name: DataFrame}, with the name in a column; empty ones only if all are."""
    named = [table.assign(**{column: name}) for name, table in parts.items()]
    return pd.concat([table for table in named if len(table)] or named[:1], ignore_index=True)


def protocols(varied, tasks, architectures, approach, draws=10_000, seed=0):
    """What an approach scores under each of `PROTOCOLS`: DataFrame, a row per task, architecture and protocol.

    varied: {end of the profile's name: Results}. macro_f1, accuracy: mean over the folds. pooled_macro_f1 and
    pooled_accuracy, each with _low and _high: all folds' predictions together, with 95 % bootstrap interval over the
    groups named in `resampled`; NaN for the last epoch of runs from before its predictions were kept. n_train: mean
    over the folds of the images that were learned from. state: "run" or "not run".
    """
    rows = []
    for task, architecture in itertools.product(tasks, architectures):
        for protocol, (variation, prefix) in PROTOCOLS.items():
            row = {"task": task, "architecture": architecture, "protocol": protocol, "state": "not run"}
            key = (task, architecture, approach)
            if key in varied[variation].records:
                row |= _protocol(varied[variation], key, prefix, draws, seed) | {"state": "run"}
            rows.append(row)
    columns = ["task", "architecture", "protocol", "state", "n_folds", "n_train", "images", "cells", "resampled"]
    scores = [f"{part}{name}" for name in ("macro_f1", "accuracy") for part in ("", "pooled_")]
    columns += [column for name in scores for column in ([name] if "pooled" not in name else _ends(name))]
    return pd.DataFrame(rows).reindex(columns=columns)


def _ends(name):
    return [name, f"{name}_low", f"{name}_high"]


def _protocol(found, key, prefix, draws, seed):
    scores, predictions = _rows(found.scores, key), found.predictions[key]
    row = {"n_folds": len(scores), "n_train": scores["n_train"].mean(), "images": scores["n_validation"].sum()}
    row |= {"cells": predictions["cell"].nunique(), "resampled": tables.groups(predictions) or "image"}
    predictions = _predictions(found, key, prefix)
    for name in ("macro_f1", "accuracy"):
        row[name] = 100 * scores[prefix + name].mean()
        if predictions is not None:
            interval = statistics.score_interval(predictions, name, tables.groups(predictions), draws, seed=seed)
            row |= _in_points(f"pooled_{name}", interval)
    return row


def _predictions(found, key, prefix):
    """Those of a run, of its last epoch with the prefix "last_"; None where they were not kept."""
    predictions = found.predictions[key]
    return metrics.last_epoch(predictions) if prefix else predictions


def _rows(scores, key):
    return scores[(scores[tables.RUN] == list(key)).all(axis=1)].sort_values("fold")


def _in_points(name, interval):
    return dict(zip(_ends(name), (100 * value for value in interval[:3]), strict=True))


def changes(varied, tasks, architectures, approach, metric="macro_f1", draws=10_000, seed=0):
    """What each stricter protocol takes off the paper's score: DataFrame, a row per task, architecture and protocol.

    change: its mean over folds minus the paper's. pooled_change, pooled_low, pooled_high, p: the same of the pooled
    predictions, by `statistics.unmatched_bootstrap`, for folds cut in two ways validate different images of the same
    cells. common_images, and common_change, _low, _high: of the images that both have validated, by
    `statistics.paired_bootstrap`. A protocol that was not run has no row; NaN where predictions were not kept.
    """
    rows = []
    for task, architecture in itertools.product(tasks, architectures):
        key = (task, architecture, approach)
        for protocol, (variation, prefix) in list(PROTOCOLS.items())[1:]:
            if key in varied[""].records and key in varied[variation].records:
                start = {"task": task, "architecture": architecture, "protocol": protocol}
                rows.append(start | _change(varied[""], varied[variation], key, prefix, metric, draws, seed))
    columns = ["task", "architecture", "protocol", "change", *_ends("pooled_change"), "p"]
    return pd.DataFrame(rows).reindex(columns=[*columns, "common_images", *_ends("common_change")])


def _change(base, other, key, prefix, metric, draws, seed):
    means = [_rows(found.scores, key)[name + metric].mean() for found, name in ((other, prefix), (base, ""))]
    row = {"change": 100 * (means[0] - means[1])}
    a, b = _predictions(other, key, prefix), base.predictions[key]
    if a is None:
        return row
    by = tables.groups(a)
    pooled = statistics.unmatched_bootstrap(a, b, metric, by, draws, seed=seed)
    row |= _in_points("pooled_change", pooled) | {"p": pooled.p}
    a, b = a[a["file"].isin(b["file"])], b[b["file"].isin(a["file"])]
    common = statistics.paired_bootstrap(a, b, metric, by, draws, seed=seed) if len(a) else _UNKNOWN
    return row | {"common_images": len(a)} | _in_points("common_change", common)


def spread(seeds, tasks, architectures, approach, metric="macro_f1"):
    """Seeds against folds as sources of spread: DataFrame, a row per task, architecture and source.

    seeds: {seed: Results}, on the same folds. Sources: "seeds, same fold" (root of the mean variance over seeds within
    a fold), "folds, same seed" (the same with the parts exchanged), and, for accuracy, "images alone": the standard
    deviation sqrt(p (1 - p) / n) of a share of n independent images. sd, low, high: in points, with the 95 % interval
    of a standard deviation of normal values (chi squared, `freedom` degrees). Fewer than two seeds give no first row.
    """
    rows = []
    for task, architecture in itertools.product(tasks, architectures):
        grid = _grid(seeds, (task, architecture, approach), metric)
        start = {"task": task, "architecture": architecture, "seeds": len(grid), "n_folds": grid.shape[1]}
        rows += [start | row for row in _sources(100 * grid.to_numpy())]
        if metric == "accuracy" and grid.size:
            n = _rows(seeds[grid.index[0]].scores, (task, architecture, approach))["n_validation"].mean()
            share = grid.to_numpy().mean()
            rows.append(start | {"source": "images alone", "sd": 100 * np.sqrt(share * (1 - share) / n)})
    columns = ["task", "architecture", "source", "seeds", "n_folds", "sd", "low", "high", "freedom"]
    return pd.DataFrame(rows).reindex(columns=columns)


def _grid(seeds, key, metric):
    """The metric of every seed (row) on every fold (column) that all seeds have."""
    rows = {seed: _rows(part.scores, key).set_index("fold") for seed, part in seeds.items()}
    return pd.DataFrame({seed: found[metric] for seed, found in rows.items() if len(found)}).T.dropna(axis=1)


def _sources(grid):
    for source, values in (("seeds, same fold", grid.T), ("folds, same seed", grid)):
        repeats, n = values.shape  # the spread over n values, seen so many times
        if n < 2 or repeats == 0:
            continue
        interval = statistics.sd_interval(values)
        ends = {"sd": interval.estimate, "low": interval.low, "high": interval.high}
        yield {"source": source, **ends, "freedom": repeats * (n - 1)}


def homologues(found, draws=10_000, seed=0):
    """Does a network do better on images whose homologue it has learned from? DataFrame, a row per run.

    The homologue is the other image of the class in the cell. In the fold of an image it was either validated beside it
    or trained on. trained_on, validated: accuracy of either kind, in per cent, of n_trained_on and n_validated images;
    difference: trained_on - validated, in points, with low, high, p over cells. Autosomes only; one whose homologue the
    data set lacks counts as trained on (regular cells lack none). NaN where a kind has no images, as the first has none
    with folds by cell. Runs on data without cells have no row.
    """
    rows = [
        dict(zip(tables.RUN, key, strict=True)) | _homologues(predictions, draws, seed)
        for key, predictions in found.predictions.items()
        if tables.groups(predictions)
    ]
    columns = [*tables.RUN, "n_trained_on", "n_validated", "trained_on", "validated", *_ends("difference"), "p"]
    return pd.DataFrame(rows, columns=columns)


def _homologues(predictions, draws, seed):
    autosomes = predictions[predictions["label"] < 22]
    beside = autosomes.groupby(["cell", "label", "fold"])["file"].transform("size")
    trained, validated = autosomes[beside == 1], autosomes[beside == 2]
    interval = _UNKNOWN
    if len(trained) and len(validated):
        interval = statistics.unmatched_bootstrap(trained, validated, "accuracy", "cell", draws, seed=seed)
    row = {"n_trained_on": len(trained), "n_validated": len(validated), "p": interval.p}
    row |= {name: 100 * _accuracy(part) for name, part in (("trained_on", trained), ("validated", validated))}
    return row | _in_points("difference", interval)


def _accuracy(table):
    labels, logits = metrics.arrays(table)
    return (logits.argmax(axis=1) == labels).mean() if len(table) else np.nan


def near_copies(record, threshold):
    """Near-identical images on both sides of folds cut by image and by cell, where the images are at hand: DataFrame.

    record: content of a run.json; its data set is loaded, and cut into its folds. A row per way to cut: data, folds,
    state, pairs (correlation of thumbnails at least `threshold`, see `duplicates.near_identical`), same_cell and
    same_class (of these), across (those in two folds: each image is then validated by a network that has seen the
    other), images (in such pairs), share (of all images, per cent). Where the set cannot be loaded, or is another than
    the run's, state is "not run".
    """
    settings, name = record["parameters"], record["data"]["name"]
    columns = ["data", "folds", "state", "pairs", "same_cell", "same_class", "across", "images", "share"]
    try:
        data = datasets.load(name, size=settings["image_size"])
    except StudyError:
        data = None
    if data is None or data.digest != record["data"]["digest"]:
        return pd.DataFrame([{"data": name, "state": "not run"}], columns=columns)
    pairs = duplicates.near_identical(data.images, threshold)
    ways = ("image", "cell") if data.cells is not None else ("image",)
    return pd.DataFrame([_copies(data, by, settings, pairs) for by in ways], columns=columns)


def _copies(data, by, settings, pairs):
    first, second = np.array([pair[:2] for pair in pairs], np.int64).reshape(-1, 2).T
    fold = np.empty(len(data.files), np.int64)
    for number, (_, part) in enumerate(
        folds.split(data.labels, data.cells, settings["n_folds"], by, settings["split_seed"])
    ):
        fold[part] = number
    across = fold[first] != fold[second]
    hit = len({*first[across], *second[across]})
    row = {"data": data.name, "folds": by, "state": "run", "pairs": len(pairs)}
    row["same_cell"] = (data.cells[first] == data.cells[second]).sum() if data.cells is not None else np.nan
    row |= {"same_class": (data.labels[first] == data.labels[second]).sum(), "across": across.sum()}
    return row | {"images": hit, "share": 100 * hit / len(data.files)}


def whole_cells(varied, draws=10_000, seed=0):
    """Plain against decoded scores of every run with kept predictions: DataFrame, a row per run and protocol.

    varied: as of `variations`; protocol: image-wise, cell-wise, or cell-wise, inner. whole: cells of which all images
    are there (46 or more). For macro_f1 and accuracy: plain, decoded, and the change in points with 95 % interval and p
    (paired bootstrap over cells). better, worse: cells with more and with fewer images right. Runs on data without
    cells have no row.
    """
    ways = {"image-wise": "", "cell-wise": "cell", "cell-wise, inner": "cell_inner"}
    return _stacked("protocol", {way: _whole_cells(varied[end], draws, seed) for way, end in ways.items()})


def _whole_cells(found, draws, seed):
    rows = []
    for key, plain in found.predictions.items():
        if not tables.groups(plain):
            continue
        decoded = karyotype.decoded(plain)
        cells = karyotype.by_cell(plain, decoded)
        row = dict(zip(tables.RUN, key, strict=True))
        row |= {"images": len(plain), "cells": len(cells), "whole": (cells["images"] >= N_CHROMOSOMES).sum()}
        for metric in ("macro_f1", "accuracy"):
            row |= _decoded(plain, decoded, metric, draws, seed)
        rows.append(row | {"better": (cells["change"] > 0).sum(), "worse": (cells["change"] < 0).sum()})
    columns = [*tables.RUN, "images", "cells", "whole"]
    for metric in ("macro_f1", "accuracy"):
        columns += [metric, f"{metric}_decoded", *_ends(f"{metric}_change"), f"{metric}_p"]
    return pd.DataFrame(rows, columns=[*columns, "better", "worse"])


def decoded_cells(found, approach):
    """How each cell of an approach's runs fares: DataFrame run (task, architecture), and as `karyotype.by_cell`."""
    chosen = {key: table for key, table in found.predictions.items() if key[2] == approach and tables.groups(table)}
    rows = [
        karyotype.by_cell(table, karyotype.decoded(table)).assign(run=f"{key[0]}, {key[1]}")
        for key, table in chosen.items()
    ]
    columns = ["run", "cell", "images", "plain", "decoded", "change"]
    return pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns)


def _decoded(plain, decoded, metric, draws, seed):
    change = statistics.paired_bootstrap(decoded, plain, metric, "cell", draws, seed=seed)
    before = metrics.scores(*metrics.arrays(plain))[metric]
    row = {metric: 100 * before, f"{metric}_decoded": 100 * (before + change.estimate)}
    return row | _in_points(f"{metric}_change", change) | {f"{metric}_p": change.p}


STEPS = (  # what a source gave: where the images come from, as a pair of table 1; the approach, and that without it
    ("ImageNet", "{}-natural", "imagenet", "scratch"),
    ("the other staining", "G-Q", "intermediate", "scratch"),
    ("the other staining, after ImageNet", "G-Q", "two_step", "imagenet"),
)


def transfer(found, similarities, draws=10_000, seed=0):
    """Similarity of a source to its target beside what starting there gave: DataFrame, a row per step, task, network.

    similarities: table1_similarity as notebook 02 leaves it, or None, which gives no row. mmd2 (of the bandwidth
    median_distance) and coral of the pair; gain, low, high, p in points of Macro-F1, as the pooled gain of
    `tables.gains`.
    """
    columns = ["source", "task", "architecture", "pair", "mmd2", "coral", "step", "gain", "low", "high", "p"]
    if similarities is None:
        return pd.DataFrame(columns=columns)
    first = similarities[similarities["bandwidth"] == "median_distance"].set_index("pair")
    rows = []
    for source, pair, against, baseline in STEPS:
        for gain in tables.gains(found.scores, found.predictions, baseline, against, draws, seed).to_dict("records"):
            if gain["task"] not in parameters.tasks(parameters.known()):
                continue  # notebook 02 compares the paper's two stainings
            name = pair.format(gain["task"][0].upper())
            row = {"source": source, "task": gain["task"], "architecture": gain["architecture"], "pair": name}
            row |= {"mmd2": first.loc[name, "mmd2"], "coral": first.loc[name, "coral"]}
            ends = {"gain": gain["pooled_gain"], "low": gain["pooled_low"], "high": gain["pooled_high"]}
            rows.append(row | {"step": f"{against} - {baseline}"} | ends | {"p": gain["pooled_p"]})
    return pd.DataFrame(rows, columns=columns)


def rank_agreement(steps):
    """Does the nearer source give more? For each measure, over the first steps (from scratch) of `transfer`: DataFrame.

    targets: how often two sources were tried on one target and network; nearer_gave_more: in how many of them the more
    similar source gave the larger gain. tau: Kendall's rank correlation of distance and gain over all n rows (negative
    where nearness helps), and p its smallest possible two-sided value, 2 / n!.
    """
    single = steps[steps["step"].str.endswith("scratch")]
    rows = []
    for measure in ("mmd2", "coral"):
        more = [
            two.loc[two[measure].idxmin(), "gain"] == two["gain"].max()
            for _, two in single.groupby(["task", "architecture"])
            if len(two) == 2
        ]
        tau = stats.kendalltau(single[measure], single["gain"]).statistic if len(single) > 1 else np.nan
        row = {"measure": measure, "targets": len(more), "nearer_gave_more": sum(more), "n": len(single), "tau": tau}
        rows.append(row | {"smallest_p": min(1, 2 / math.factorial(len(single)))})
    return pd.DataFrame(rows)
