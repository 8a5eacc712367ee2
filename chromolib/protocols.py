"""What the paper's score owes to its protocol: folds by image, and the epoch chosen on the fold that is scored.

`varied` is what `variations.protocols` gives: {end of the profile's name: `runs.Results`}. Scores
come out in per cent, differences in percentage points.
"""

import itertools

import pandas as pd

from chromolib import intervals, metrics, statistics, tables

PROTOCOLS = {  # name -> variation, and the prefix of its columns in folds.csv
    "image-wise, best epoch (the paper's)": ("", ""),
    "image-wise, last epoch": ("", "last_"),
    "image-wise, inner selection": ("inner", ""),
    "cell-wise, best epoch": ("cell", ""),
    "cell-wise, last epoch": ("cell", "last_"),
    "cell-wise, inner selection": ("cell_inner", ""),
}
_CHOICES = {"validation": "best epoch", "inner": "inner selection", "last": "last epoch"}


def way(results):
    """How the folds of runs were cut, in words: "image-wise" where there is no run, too."""
    settings = [record["parameters"] for record in results.records.values()]
    return f"{settings[0]['folds_by'] if settings else 'image'}-wise"


def _named(varied):
    """The `runs.Results` and the prefix of each of `PROTOCOLS`, by name.

    Of a profile that is itself under another than the paper's: that, and its last epoch.
    """
    base = varied[""]
    settings = next((record["parameters"] for record in base.records.values()), {})
    chosen = settings.get("select_on", "validation")
    if way(base) == "image-wise" and chosen == "validation":
        return {name: (varied[variation], prefix) for name, (variation, prefix) in PROTOCOLS.items()}
    return {f"{way(base)}, {_CHOICES['last']}": (base, "last_"), f"{way(base)}, {_CHOICES[chosen]}": (base, "")}


def scores(varied, tasks, architectures, approach, draws=10_000, seed=0):
    """What an approach scores under each of `PROTOCOLS`: DataFrame, a row per task, architecture and protocol.

    Of a profile that is under another protocol than the paper's: under that, and by its last epoch.

    macro_f1, accuracy: mean over the folds. pooled_macro_f1 and pooled_accuracy, each with _low and
    _high: all folds' predictions together, with 95 % bootstrap interval over the groups named in
    `resampled`; NaN for the last epoch of runs from before its predictions were kept. n_train: mean
    over the folds of the images that were learned from. state: "run" or "not run".
    """
    rows = []
    for task, architecture, named in itertools.product(tasks, architectures, _named(varied).items()):
        protocol, (results, prefix) = named
        row = {"task": task, "architecture": architecture, "protocol": protocol, "state": "not run"}
        key = (task, architecture, approach)
        if key in results.records:
            row |= _score(results, key, prefix, draws, seed) | {"state": "run"}
        rows.append(row)
    columns = ["task", "architecture", "protocol", "state", "n_folds", "n_train", "images", "cells", "resampled"]
    for name in ("macro_f1", "accuracy"):
        columns += [name, *intervals.columns(f"pooled_{name}")]
    return pd.DataFrame(rows).reindex(columns=columns)


def _score(results, key, prefix, draws, seed):
    folds, predictions = results.folds(key), results.predictions[key]
    groups = tables.groups(predictions)
    row = {"n_folds": len(folds), "n_train": folds["n_train"].mean(), "images": folds["n_validation"].sum()}
    row |= {"cells": predictions["cell"].nunique(), "resampled": groups or "image"}
    predictions = _predictions(results, key, prefix)
    for name in ("macro_f1", "accuracy"):
        row[name] = 100 * folds[prefix + name].mean()
        if predictions is not None:
            interval = statistics.score_interval(predictions, name, groups, draws, seed=seed)
            row |= interval.points(f"pooled_{name}")
    return row


def _predictions(results, key, prefix):
    """Those of a run, of its last epoch with the prefix "last_"; None where they were not kept."""
    predictions = results.predictions[key]
    return metrics.last_epoch(predictions) if prefix else predictions


def changes(varied, tasks, architectures, approach, metric="macro_f1", draws=10_000, seed=0):
    """What each other protocol takes off the profile's score: DataFrame, a row per task, architecture and protocol.

    The profile's own is the paper's, or as `scores` names it. change: its mean over folds minus
    that. pooled_change, pooled_low, pooled_high, p: the same of the pooled predictions, by
    `statistics.unmatched_bootstrap`, for folds cut in two ways validate different images of the
    same cells. common_images, and common_change, _low, _high: of the images that both have
    validated, by `statistics.paired_bootstrap`. A protocol that was not run has no row; NaN where
    predictions were not kept.
    """
    rows, base = [], varied[""]
    for task, architecture, named in itertools.product(tasks, architectures, _named(varied).items()):
        protocol, (results, prefix) = named
        key = (task, architecture, approach)
        if (results is not base or prefix) and key in base.records and key in results.records:
            start = {"task": task, "architecture": architecture, "protocol": protocol}
            rows.append(start | _change(base, results, key, prefix, metric, draws, seed))
    columns = ["task", "architecture", "protocol", "change", *intervals.columns("pooled_change"), "p"]
    columns += ["common_images", *intervals.columns("common_change")]
    return pd.DataFrame(rows).reindex(columns=columns)


def _change(base, other, key, prefix, metric, draws, seed):
    before, after = base.folds(key)[metric].mean(), other.folds(key)[prefix + metric].mean()
    row = {"change": 100 * (after - before)}
    a, b = _predictions(other, key, prefix), base.predictions[key]
    if a is None:
        return row
    groups = tables.groups(a)
    pooled = statistics.unmatched_bootstrap(a, b, metric, groups, draws, seed=seed)
    row |= pooled.points("pooled_change") | {"p": pooled.p}
    a, b = a[a["file"].isin(b["file"])], b[b["file"].isin(a["file"])]
    common = intervals.UNKNOWN
    if len(a):
        common = statistics.paired_bootstrap(a, b, metric, groups, draws, seed=seed)
    return row | {"common_images": len(a)} | common.points("common_change")


def gains(varied, draws=10_000, seed=0):
    """`tables.gains` of two_step over imagenet with either way to cut folds: DataFrame with a column `folds`."""
    parts = {}
    for end in ("", "cell"):
        if varied[end].predictions or not end:
            parts[way(varied[end])] = tables.gains(varied[end].scores, varied[end].predictions, draws=draws, seed=seed)
    return tables.stacked("folds", parts)
