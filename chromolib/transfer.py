"""Does a nearer source give more? Similarity of two domains beside what starting at one gave on the other."""

import math

import numpy as np
import pandas as pd
from scipy import stats

from chromolib import parameters, tables

STEPS = (  # what a source gave: where the images come from, as a pair of table 1; the approach, and that without it
    ("ImageNet", "{}-natural", "imagenet", "scratch"),
    ("the other staining", "G-Q", "intermediate", "scratch"),
    ("the other staining, after ImageNet", "G-Q", "two_step", "imagenet"),
)


def steps(results, similarities, draws=10_000, seed=0):
    """Similarity of a source to its target beside what starting there gave: DataFrame, a row per step, task, network.

    similarities: table1_similarity as notebook 02 leaves it, or None, which gives no row. mmd2 (of
    the bandwidth median_distance) and coral of the pair; gain, low, high, p in points of Macro-F1,
    as the pooled gain of `tables.gains`.
    """
    columns = ["source", "task", "architecture", "pair", "mmd2", "coral", "step", "gain", "low", "high", "p"]
    if similarities is None:
        return pd.DataFrame(columns=columns)
    nearness = similarities[similarities["bandwidth"] == "median_distance"].set_index("pair")[["mmd2", "coral"]]
    pooled = {"pooled_gain": "gain", "pooled_low": "low", "pooled_high": "high", "pooled_p": "p"}
    parts = []
    for source, pair, against, baseline in STEPS:
        part = tables.gains(results.scores, results.predictions, baseline, against, draws, seed)
        part = part[part["task"].isin(parameters.tasks(parameters.known()))]  # notebook 02 compares these two alone
        pairs = [pair.format(task[0].upper()) for task in part["task"]]
        part = part[["task", "architecture", *pooled]].rename(columns=pooled)
        parts.append(part.assign(source=source, pair=pairs, step=f"{against} - {baseline}"))
    return pd.concat(parts, ignore_index=True).join(nearness, on="pair")[columns]


def rank_agreement(table):
    """Does the nearer source give more? For each measure, over the first steps (from scratch) of `steps`: DataFrame.

    targets: how often two sources were tried on one target and network; nearer_gave_more: in how
    many of them the more similar source gave the larger gain. tau: Kendall's rank correlation of
    distance and gain over all n rows (negative where nearness helps), and p its smallest possible
    two-sided value, 2 / n!.
    """
    single = table[table["step"].str.endswith("scratch")]
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
