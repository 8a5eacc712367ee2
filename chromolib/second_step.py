"""Does the second step help? Its gain beside matched controls, between the tasks, and against the number of cells.

The other staining gives a network two things: other pictures, and more training. `imagenet_double` has the second
alone: as many steps on the target as both stages of `two_step` together. Gains are in points of Macro-F1.
"""

import itertools

import numpy as np
import pandas as pd

from chromolib import statistics, tables
from chromolib.errors import StudyError
from chromolib.intervals import columns

COMPARISONS = (  # (against, baseline), and what their difference is
    ("two_step", "imagenet", "the stop, and the longer training"),
    ("imagenet_double", "imagenet", "the longer training alone"),
    ("two_step", "imagenet_double", "the stop instead of longer training"),
    ("two_step", "two_step_new_head", "the head that came along"),
    ("two_step", "two_step_shuffled", "the labels of the stop"),
    ("two_step_shuffled", "imagenet", "the stop without its labels"),
    ("two_step_inverted", "two_step", "the stop's bands in the target's polarity"),
    ("two_step_inverted", "imagenet_double", "the stop on negatives instead of longer training"),
)
_VARIED = {  # of `varied`: a baseline, and which columns come from which of `tables.gains` over it
    "imagenet": {"gain": "pooled_gain", "low": "pooled_low", "high": "pooled_high", "p": "pooled_p", "seeds": "seeds"},
    "imagenet_double": {
        **{"instead": "pooled_gain", "instead_low": "pooled_low", "instead_high": "pooled_high"},
        "instead_seeds": "seeds",
    },
}


def comparisons(found, draws=10_000, seed=0):
    """Each of `COMPARISONS` that was run: the rows of `tables.gains`, with `what`, and Holm's correction over them all.

    found: a `runs.Results`, with those of other seeds, if there are any, as `others`.
    """
    parts = {
        what: tables.gains(found.scores, found.predictions, baseline, against, draws, seed, found.others)
        for against, baseline, what in COMPARISONS
    }
    table = tables.stacked("what", parts)
    if len(table):
        table["pooled_p_holm"] = statistics.holm(table["pooled_p"])
    return table


def between_tasks(found, draws=10_000, seed=0):
    """How much more a comparison gives on Q-band than on G-band: DataFrame, a row per comparison and architecture.

    difference, low, high, p: `statistics.contrast` of the two gains, whose cells or patients are drawn apart; p_holm:
    after Holm's correction over all rows; seeds, of `found` and its `others`, are those that have all four runs, and
    `about` as in `tables.gains`.
    """
    rows = []
    networks = dict.fromkeys(architecture for _, architecture, _ in found.predictions)
    for (against, baseline, what), architecture in itertools.product(COMPARISONS, networks):
        runs = [(task, architecture, name) for task in ("q_band", "g_band") for name in (against, baseline)]
        seeds = found.seeds(runs)
        if seeds:
            q_after, q_before, g_after, g_before = ([tables_of[run] for tables_of in seeds] for run in runs)
            parts = [
                (tables.groups(q_after[0]), [(1, q_after), (-1, q_before)]),
                (tables.groups(g_after[0]), [(-1, g_after), (1, g_before)]),
            ]
            interval = statistics.contrast(parts, "macro_f1", draws, seed=seed)
            numbers = [100 * value for value in interval[:3]]
            about = tables.about(len(seeds))
            rows.append((architecture, against, baseline, what, *numbers, interval.p, len(seeds), about))
    names = ["architecture", "against", "baseline", "what", "difference", "low", "high", "p", "seeds", "about"]
    table = pd.DataFrame(rows, columns=names)
    table.insert(names.index("seeds"), "p_holm", statistics.holm(table["p"]) if rows else [])
    return table


def varied(results, tasks, architectures, draws=10_000, seed=0):
    """What two_step gives where one thing is otherwise: DataFrame, a row per variation, task and architecture.

    results: {name: `runs.Results`}, the first of which is what the others vary. state: "run", "not run", or "imagenet
    alone"; before: the pooled Macro-F1 of imagenet in per cent, of the first seed, and change how far it is from the
    first one's on the same images (paired bootstrap over cells or patients); gain, low, high, p, seeds: the pooled gain
    of `tables.gains` over imagenet, and instead with its interval and seeds that over imagenet_double, as many more
    steps on the target.
    """
    rows, first = [], next(iter(results.values())).predictions
    for name, found in results.items():
        for run in itertools.product(tasks, architectures, ["imagenet"]):
            row = dict(zip(("variation", "task", "architecture", "state"), (name, *run[:2], "not run"), strict=True))
            if run in found.predictions:
                row |= {"state": "imagenet alone", "before": _score(found.predictions[run])}
                if found.predictions is not first and run in first:
                    after, before = found.predictions[run], first[run]
                    pair = after, before[before["file"].isin(after["file"])]  # of one fold, where it alone was varied
                    groups = tables.groups(before)
                    row |= statistics.unmatched_bootstrap(*pair, "macro_f1", groups, draws, seed=seed).points("change")
            rows.append(row)
        for baseline, names in _VARIED.items():
            gains = tables.gains(found.scores, found.predictions, baseline, "two_step", draws, seed, found.others)
            known = gains.set_index(["task", "architecture"]).to_dict("index")
            for row in rows:
                if row["variation"] == name and (row["task"], row["architecture"]) in known:
                    gain = known[row["task"], row["architecture"]]
                    row |= {"state": "run"} | {column: gain[own] for column, own in names.items()}
    about = ["variation", "task", "architecture", "state", "before", *columns("change")]
    return pd.DataFrame(rows).reindex(columns=[*about, *(name for names in _VARIED.values() for name in names)])


def curve(by_cells, baseline="imagenet", draws=10_000, seed=0):
    """What two_step gains with few cells: the rows of `tables.gains`, with `cells`, the number learned from.

    by_cells: {number of cells: `runs.Results`}, all validated on the same folds; a number that lacks either approach
    has no row. No p here is corrected for their number. Each row also has the pooled Macro-F1 of both, in per cent, as
    `after` and `before`, the mean over its seeds: of `found` and its `others`, where each has drawn cells of its own.
    """
    parts = []
    for cells, found in sorted(by_cells.items()):
        part = tables.gains(found.scores, found.predictions, baseline, draws=draws, seed=seed, others=found.others)
        part = part.assign(cells=cells, after=np.nan, before=np.nan)  # columns that one without a row has, too
        for row in part.itertuples():
            pair = [(row.task, row.architecture, approach) for approach in ("two_step", baseline)]
            levels = [[_score(predictions[run]) for run in pair] for predictions in found.seeds(pair)]
            part.loc[row.Index, ["after", "before"]] = np.mean(levels, axis=0)
        parts.append(part)
    table = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return table.drop(columns="pooled_p_holm")  # each would be a family of its own


def _score(predictions):
    """The pooled Macro-F1 in per cent."""
    return 100 * statistics.score_interval(predictions, "macro_f1", None, n_boot=1).estimate


def slope(by_cells, task, architecture, baseline="imagenet", draws=10_000, seed=0):
    """How two_step's gain changes when the cells double: Interval with p, points a doubling, about these networks.

    The slope of the least-squares line of the gain on log2 of the number of cells. It is a weighted sum of the scores
    of all runs, of the first seed, so the same cells or patients are drawn for all of them at once. StudyError where
    fewer than two numbers of cells have both approaches.
    """
    pair = [(task, architecture, approach) for approach in ("two_step", baseline)]
    kept = [(n, found.predictions) for n, found in sorted(by_cells.items()) if set(pair) <= found.predictions.keys()]
    if len(kept) < 2:
        raise StudyError(f"{task}: {len(kept)} number of cells with two_step and {baseline}; a slope needs two")
    doublings = np.log2([n for n, _ in kept])
    centred = doublings - doublings.mean()
    runs = []
    for weight, (_, predictions) in zip(centred / (centred**2).sum(), kept, strict=True):
        runs += [(sign * weight, [predictions[run]]) for sign, run in zip((1, -1), pair, strict=True)]
    interval = statistics.contrast([(tables.groups(runs[0][1][0]), runs)], "macro_f1", draws, seed=seed)
    return interval._replace(**{name: 100 * getattr(interval, name) for name in ("estimate", "low", "high")})


def worth(points):
    """How many cells the baseline would need for the other's score: DataFrame cells, after, needed, factor.

    points: `curve` of one task and architecture. needed: by straight lines between the baseline's scores over log2 of
    the cells; NaN beyond its ends, and where its scores do not rise.
    """
    before = points["before"].to_numpy()
    if (np.diff(before) <= 0).any():
        needed = np.full(len(points), np.nan)
    else:
        needed = 2 ** np.interp(points["after"], before, np.log2(points["cells"]), left=np.nan, right=np.nan)
    return points[["cells", "after"]].assign(needed=needed, factor=needed / points["cells"])
