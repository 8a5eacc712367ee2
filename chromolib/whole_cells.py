"""What is gained where the images of a cell are decoded together (`karyotype.decode`) instead of each alone."""

import pandas as pd

from chromolib import N_CHROMOSOMES, intervals, karyotype, metrics, protocols, statistics, tables

_STRICTER = {"cell-wise": "cell", "cell-wise, inner": "cell_inner"}


def scores(varied, draws=10_000, seed=0):
    """Plain against decoded scores of every run with kept predictions: DataFrame, a row per run and protocol.

    varied: as of `variations.protocols`; protocol: `protocols.way` of the profile, and of its variations cell-wise, or
    cell-wise, inner.
    whole: cells of which all images are there (46 or more). For macro_f1 and accuracy: plain,
    decoded, and the change in points with 95 % interval and p (paired bootstrap over cells).
    better, worse: cells with more and with fewer images right. Runs on data without cells have no
    row.
    """
    ways = {protocols.way(varied[""]): ""}
    ways |= {way: end for way, end in _STRICTER.items() if varied[end].predictions}
    return tables.stacked("protocol", {way: _scores(varied[end], draws, seed) for way, end in ways.items()})


def _scores(results, draws, seed):
    rows = []
    for key, plain in results.predictions.items():
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
        columns += [metric, f"{metric}_decoded", *intervals.columns(f"{metric}_change"), f"{metric}_p"]
    return pd.DataFrame(rows, columns=[*columns, "better", "worse"])


def _decoded(plain, decoded, metric, draws, seed):
    change = statistics.paired_bootstrap(decoded, plain, metric, "cell", draws, seed=seed)
    before = metrics.scores(*metrics.arrays(plain))[metric]
    row = {metric: 100 * before, f"{metric}_decoded": 100 * (before + change.estimate)}
    return row | change.points(f"{metric}_change") | {f"{metric}_p": change.p}


def by_cell(results, approach):
    """How each cell of an approach's runs fares: DataFrame run (task, architecture), and as `karyotype.by_cell`."""
    columns = ["run", "cell", "images", "plain", "decoded", "change"]
    parts = {"": pd.DataFrame(columns=columns)}
    for (task, architecture, name), table in results.predictions.items():
        if name == approach and tables.groups(table):
            parts[f"{task}, {architecture}"] = karyotype.by_cell(table, karyotype.decoded(table))
    return tables.stacked("run", parts)[columns]
