"""The study's tables, made from the scores, predictions and records of its runs; nothing here reads a result file.

`scores` is the table of `runs.collect`: a row per task, architecture, approach and fold, scores as
fractions of 1. `predictions` maps (task, architecture, approach) to the table of
`runs.predictions`. What comes out is in per cent, and differences are in percentage points.
"""

import itertools

import numpy as np
import pandas as pd

import chromolib
from chromolib import CLASSES, metrics, parameters, statistics
from chromolib.errors import StudyError
from chromolib.intervals import UNKNOWN

RUN = ["task", "architecture", "approach"]
METRICS = ["macro_f1", "accuracy", "auc_ovr"]
_GAIN = [
    *("task", "architecture", "baseline", "against", "n_folds"),
    *("gain", "sd", "paper_low", "paper_high", "t_low", "t_high", "t_p"),
    *("pooled_gain", "pooled_low", "pooled_high", "pooled_p", "detectable", "resampled", "seeds", "about"),
]
_OF_ALL = {"profile", "n_folds", "folds_by", "split_seed", "select_on", "seed"}  # what all runs of a task share
_OF_A_RUN = {"approach", "folds", "parent_profile"}  # in what runs of one architecture may differ
_METHODS = {  # of an interval for a gain: its columns, and the p to judge by where the interval is not enough
    "percentile bootstrap of the folds (the paper's)": ("gain", "paper_low", "paper_high", None),
    "corrected resampled t of the folds": ("gain", "t_low", "t_high", None),
    "bootstrap of the pooled predictions": ("pooled_gain", "pooled_low", "pooled_high", None),
    "the same, after Holm over all comparisons": ("pooled_gain", "pooled_low", "pooled_high", "pooled_p_holm"),
}


def select(scores, tasks, architectures, approaches, folds):
    """As `of_grid`; StudyError where there are none."""
    present = of_grid(scores, tasks, architectures, approaches, folds)
    if present.empty:
        raise StudyError(
            f"no finished run of {', '.join(architectures)} on {', '.join(tasks)} in this profile; train some first, "
            "or set profile, tasks, architectures, approaches and folds to those of runs that exist"
        )
    return present


def of_grid(scores, tasks, architectures, approaches, folds):
    """The rows of `scores` that belong to the grid, in the order of the grid."""
    grid = itertools.product(tasks, architectures, approaches, folds)
    present = scores.set_index([*RUN, "fold"])
    return present.loc[[key for key in grid if key in present.index]].reset_index()


def missing(scores, tasks, architectures, approaches, folds):
    """What the grid lacks: DataFrame with task, architecture, approach, missing_folds (text) and whole_run (bool).

    A run with some of the folds is listed with those that it lacks. A whole grid gives an empty
    DataFrame.
    """
    present = set(scores[[*RUN, "fold"]].itertuples(index=False, name=None))
    rows = []
    for run in itertools.product(tasks, architectures, approaches):
        absent = [fold for fold in folds if (*run, fold) not in present]
        if absent:
            rows.append((*run, ", ".join(map(str, absent)), len(absent) == len(folds)))
    return pd.DataFrame(rows, columns=[*RUN, "missing_folds", "whole_run"])


def protocol(records, image_size):
    """What was run on what, from the contents of run.json (dicts): DataFrame, a row per task.

    Raises StudyError for runs that cannot be compared: of another image size than `image_size`
    (pixels), or, within a task, on other images or folds, with the epoch chosen otherwise, with
    another seed, or of another profile; or, of one architecture, with other values of any parameter
    that their approaches do not set.
    """
    sizes = sorted({record["parameters"]["image_size"] for record in records})
    if len(sizes) > 1:
        raise StudyError(f"runs of image sizes {sizes} in one profile; give each size a profile of its own")
    if sizes != [image_size]:
        raise StudyError(f"parameter 'image_size': {image_size}, but the runs have {sizes[0]}; set it to theirs")
    by_task = {}
    for record in records:
        by_task.setdefault(record["parameters"]["task"], []).append(record)
    return pd.DataFrame([_protocol(*one) for one in by_task.items()])


def _protocol(task, records):
    digests = {record["data"]["digest"] for record in records}
    if len(digests) > 1:
        raise StudyError(f"{task}: its runs saw {len(digests)} different sets of images; train them again on one")
    settings = [parameters.of_run(record["parameters"]) for record in records]
    _check_alike(task, settings, _OF_ALL)
    for architecture in {setting["architecture"] for setting in settings}:
        of_one = [setting for setting in settings if setting["architecture"] == architecture]
        _check_alike(f"{task}, {architecture}", of_one, settings[0].keys() - _OF_A_RUN)
    first, data = settings[0], records[0]["data"]
    return {
        "task": task,
        "data": data["name"] + (" (drawings)" if data["name"].startswith("synthetic") else ""),
        "images": data["n"],
        "pixels": first["image_size"],
        "epochs": _listed(map(_epochs, settings)),
        "folds": f"of {first['n_folds']}, by {first['folds_by']}",
        "epoch_chosen_on": first["select_on"],
        "runs": len(records),
        "hardware": _listed(f"{r['hardware']['processor']}, {r['hardware']['device']}" for r in records),
        "torch": _listed(record["versions"]["torch"] for record in records),
        "training_minutes": sum(record["seconds"] for record in records) / 60,
    }


def _check_alike(which, settings, names):
    """StudyError where runs have other values of a parameter of these names, unless their approach sets it."""
    own = {name: parameters.approach(name) for name in parameters.names("approach")}
    for name in sorted(names):
        values = {str(setting.get(name)) for setting in settings if name not in own.get(setting["approach"], {})}
        if len(values) > 1:
            listed = ", ".join(sorted(values))
            raise StudyError(f"{which}: its runs differ in {name!r} ({listed}); give each value a profile of its own")


def _epochs(setting):
    once = f"{setting['adam_epochs']} Adam + {setting['sgd_epochs']} SGD"
    stages = setting.get("stages", 1)  # of runs from before there were stages
    return once if stages == 1 else f"{stages} x ({once})"


def stacked(column, parts):
    """Tables below each other, {name: DataFrame}, with the name in a column; empty ones only if all are."""
    named = [table.assign(**{column: name}) for name, table in parts.items()]
    return pd.concat([table for table in named if len(table)] or named[:1], ignore_index=True)


def _listed(values):
    return "; ".join(sorted(set(values)))


def performance(scores):
    """Table 2: a row per task, architecture and approach, with n_folds, and of each metric <name>_mean and <name>_sd.

    In per cent, over the folds; SD with n - 1, NaN for one fold. A fold without a value makes its
    mean NaN.
    classes: the fewest that a fold has images of; below 24 its Macro-F1 counts the absent ones as
    0.
    """
    by_run = scores.groupby(RUN, sort=False)
    columns = {"n_folds": by_run.size()}
    for name in METRICS:
        columns[f"{name}_mean"] = 100 * by_run[name].mean(skipna=False)
        columns[f"{name}_sd"] = 100 * by_run[name].std(skipna=False)
    columns["classes"] = by_run["classes_scored"].min()
    return pd.DataFrame(columns).reset_index()


def wide(table, metric):
    """Table 2 for reading: a metric of `performance` as text "mean ± SD", architectures down, approaches across."""
    values = table[[f"{metric}_mean", f"{metric}_sd"]].to_numpy()
    text = table.assign(text=[f"{mean:.1f} ± {sd:.1f}" for mean, sd in values])
    tasks, networks, approaches = (list(dict.fromkeys(table[name])) for name in RUN)
    text = text.pivot(index="architecture", columns=["task", "approach"], values="text").fillna("")
    return text.reindex(networks, columns=pd.MultiIndex.from_product([tasks, approaches]), fill_value="")


def costs(names, image_size):
    """Table 3: a row per architecture: title, parameters in millions (24-class head), GMAC, GFLOPs, note.

    GMAC: 10^9 multiply-adds for an image of `image_size` pixels. GFLOPs counts each as two
    operations, so it is twice that; many papers call GMAC "GFLOPs", which the note says.
    """
    rows = []
    for name in names:
        row, facts = chromolib.architectures.row(name), chromolib.architectures.describe(name, image_size)
        size = {"parameters_millions": facts["parameters"] / 1e6, "image_size": image_size}
        cost = {"gmac": facts["gmacs"], "gflops": 2 * facts["gmacs"]}
        note = "; ".join(filter(None, ("GFLOPs = 2 x GMAC", row.note)))
        rows.append({"architecture": name, "title": row.title} | size | cost | {"note": note})
    return pd.DataFrame(rows)


def approaches(names, n_architectures, n_folds):
    """Table 4, from parameters/approach/*.yaml: approach, first_weights, steps, trainings, trainings_per_task.

    trainings: those that lead to one network. trainings_per_task: those that the study runs for the
    approach on one task. They are as many for every approach, because a first step is the run of
    another approach on the other task.
    """
    rows = []
    for name in names:
        steps = _steps(name)
        parent = parameters.approach(name)["parent"]
        first = f"those of {parent} on the other staining" if parent else steps[0]
        rows.append((name, first, " → ".join(steps), len(steps) - 1, n_architectures * n_folds))
    return pd.DataFrame(rows, columns=["approach", "first_weights", "steps", "trainings", "trainings_per_task"])


def _steps(name):
    """The way of an approach, as a list of words from the first weights to the target."""
    values = parameters.approach(name)
    if values["start"] != "parent":
        return [{"random": "random weights", "imagenet": "ImageNet"}[values["start"]], "target staining"]
    return [*_steps(values["parent"].rpartition("/")[2])[:-1], "other staining", "target staining"]


def groups(predictions):
    """What a bootstrap of these predictions draws: "patient" where they are known, else "cell", else None (images)."""
    known = [name for name in ("patient", "cell") if name in predictions and not predictions[name].isna().all()]
    return known[0] if known else None


def gains(scores, predictions, baseline="imagenet", against="two_step", draws=10_000, seed=0, others=()):
    """The difference in Macro-F1, `against` minus `baseline`: a row per task and architecture that has both in a seed.

    others: `runs.Results` of other seeds. A seed counts where it has both approaches on the same
    folds; seeds: how many do. gain, sd: mean and SD of the paired fold differences, each a mean
    over seeds. paper_low, paper_high: the paper's 95 % interval (`statistics.bootstrap_interval`).
    t_low, t_high, t_p: `statistics.corrected_t`, with the runs' own ratio of validation to training
    images. NaN for a single fold. pooled_gain, pooled_low, pooled_high, pooled_p:
    `statistics.contrast` of all folds' predictions, over the groups named in `resampled`: patients
    or cells where they are known, else images. pooled_p_holm: adjusted over all rows. about: "the
    approaches" where several seeds let it hold training luck, else "these networks". detectable:
    the true gain that such an interval tells from none in four of five studies. All but n_folds,
    seeds and p in percentage points.

    Raises StudyError for two approaches that do not have the same folds.
    """
    sources = [(scores, predictions), *((other.scores, other.predictions) for other in others)]
    pairs = [{names: pair for names, *pair in _pairs(*source, baseline, against)} for source in sources]
    rows = [_gain(names, _of_all_seeds(names, pairs), draws, seed) for names in dict.fromkeys(itertools.chain(*pairs))]
    table = pd.DataFrame(rows, columns=_GAIN).assign(baseline=baseline, against=against)
    table["pooled_p_holm"] = statistics.holm(table["pooled_p"]) if rows else []
    return table


def _of_all_seeds(names, pairs):
    """The scores and predictions of both approaches, as of `_pairs`, of each seed that has the first one's folds."""
    seeds = [pair[names] for pair in pairs if names in pair]
    return [seed for seed in seeds if list(seed[0][0].index) == list(seeds[0][0][0].index)]


def _pairs(scores, predictions, baseline, against):
    """Of each task and architecture that has both: the names, scores by fold, and predictions, `against` first."""
    for (task, architecture), rows in scores.groupby(["task", "architecture"], sort=False):
        a, b = (rows[rows["approach"] == name].set_index("fold").sort_index() for name in (against, baseline))
        if a.empty or b.empty:
            continue  # listed by `missing`
        if list(a.index) != list(b.index):
            raise StudyError(
                f"{task}, {architecture}: {against} has folds {list(a.index)}, {baseline} has {list(b.index)}; "
                "train the missing ones, or set `folds` to those that both have"
            )
        tables = (predictions[task, architecture, name] for name in (against, baseline))
        p, q = (table[table["fold"].isin(a.index)] for table in tables)
        matched = p[["file", "fold"]].merge(q[["file", "fold"]], on="file")
        if (matched["fold_x"] != matched["fold_y"]).any():
            raise StudyError(f"{task}, {architecture}: {against} and {baseline} cut the images into different folds")
        yield (task, architecture), (a, b), (p, q)


def _gain(names, seeds, draws, seed):
    differences = np.mean([(a["macro_f1"] - b["macro_f1"]).to_numpy() for (a, b), _ in seeds], axis=0)  # (folds,)
    sd, paper, corrected = np.nan, UNKNOWN, UNKNOWN
    a, by = seeds[0][0][0], groups(seeds[0][1][0])
    if len(differences) > 1:
        sd = differences.std(ddof=1)
        paper = statistics.bootstrap_interval(differences, draws, seed=seed)
        corrected = statistics.corrected_t(differences, a["n_validation"].sum() / a["n_train"].sum())
    after, before = zip(*(tables for _, tables in seeds), strict=True)
    pooled = statistics.contrast([(by, [(1, after), (-1, before)])], "macro_f1", draws, seed=seed)
    row = dict(zip(("task", "architecture"), names, strict=True)) | {"n_folds": len(differences)}
    row |= paper.points("paper") | corrected.points("t") | pooled.points("pooled")
    row |= {"gain": 100 * differences.mean(), "sd": 100 * sd, "pooled_gain": 100 * pooled.estimate}
    row |= {"t_p": corrected.p, "pooled_p": pooled.p, "detectable": 100 * statistics.detectable(pooled)}
    return row | {"resampled": by or "image", "seeds": len(seeds), "about": about(len(seeds))}


def about(n_seeds):
    """What an interval of the pooled predictions speaks of: networks of one seed say nothing of another training."""
    return "the approaches" if n_seeds > 1 else "these networks"


def excluding_zero(table):
    """How many intervals of `gains` lie above and below zero, by method: DataFrame method, above, below, comparisons.

    After Holm a comparison counts where the adjusted p is at most 0.05.
    """
    rows = []
    for method, (gain, low, high, p) in _METHODS.items():
        out = table[p] <= 0.05 if p else (table[low] > 0) | (table[high] < 0)
        above, below = ((out & (sign * table[gain] > 0)).sum() for sign in (1, -1))
        rows.append((method, above, below, table[low].notna().sum()))
    return pd.DataFrame(rows, columns=["method", "above", "below", "comparisons"])


def class_changes(scores, predictions, baseline="imagenet", against="two_step"):
    """Change in the F1 of each class, in points, pooled over the folds: task, architecture, class, images, change.

    A row per class of each task and architecture that has both approaches; NaN for a class that is
    neither there nor predicted. Raises StudyError as `gains` does.
    """
    rows = []
    for names, _, tables in _pairs(scores, predictions, baseline, against):
        after, before = (metrics.f1_per_class(*metrics.arrays(table)) for table in tables)
        counts = np.bincount(tables[0]["label"], minlength=len(CLASSES))
        rows += [(*names, *values) for values in zip(CLASSES, counts, 100 * (after - before), strict=True)]
    return pd.DataFrame(rows, columns=["task", "architecture", "class", "images", "change"])
