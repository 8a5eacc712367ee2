"""The paper's statements (parameters/claims.yaml) against what was measured: confirmed, contradicted, or neither.

A part of a claim is a number of ours with an interval, and the region in which the statement is
true. It is confirmed where the interval lies inside the region, contradicted where it lies outside,
else inconclusive; "partial" where some of its runs are missing, and "not run" where there is no
number. A claim is partial where some of its parts are missing or partial: what was said of eleven
networks is not judged by three. Of a whole one, one contradicted part contradicts it; it is
confirmed where all parts are, else inconclusive. The intervals of a claim are widened so that all
of them hold together with 95 % (Bonferroni); else a claim of many parts would be contradicted by
chance.
"""

import functools
import itertools
from collections import Counter
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

import chromolib
from chromolib import parameters, paths, statistics, tables
from chromolib.errors import StudyError
from chromolib.intervals import Interval

VERDICTS = ("confirmed", "contradicted", "inconclusive", "partial", "not run")
_TOGETHER = 0.95  # level of all intervals of a claim
_AT_LEAST = 4  # architectures for a correlation: Fisher's interval has no width for fewer
_LISTS = {"tasks", "architectures", "approaches"}  # of a part
_PAPER = ("q_band", "g_band", "natural", "embedder", "image_size", "epochs", "folds", "folds_by", "select_on", "mmd2")


class _Number(NamedTuple):
    """One number to measure: a part of a claim for one task, network, approach or bandwidth."""

    part: dict
    task: str | None = None
    architecture: str | None = None
    approach: str | None = None
    reading: str | None = None  # of the bandwidth

    @property
    def measure(self):
        return self.part["measure"]

    def title(self):
        if self.measure == "contrast":
            less = self.part["minus"]
            other = [f"on {', '.join(less['tasks'])}"] if "tasks" in less else []
            other += [f"of {len(less['architectures'])}"] if "architectures" in less else []
            tasks, count = ", ".join(self.part["tasks"]), len(self.part["architectures"])
            return f"gain on {tasks} of {count} networks less that {' '.join(other)}"
        first = chromolib.architectures.row(self.architecture).title if self.architecture else self.measure
        return ", ".join([first, *(word for word in (self.task, self.approach, self.reading) if word)])

    def sets(self):
        """The runs that it is made of, in sets of which each counts as a whole: [[(task, architecture, approach)]]."""
        approaches = [self.approach, *([self.part["baseline"]] if "baseline" in self.part else [])]
        if self.measure == "contrast":
            approaches = [*self.part["approaches"], self.part["baseline"]]
            by_network = {}
            for task, network in _signs(self.part):
                by_network.setdefault(network, []).extend((task, network, approach) for approach in approaches)
            return list(by_network.values())
        names = self.part["architectures"] if self.measure == "correlation" else [self.architecture]
        return [[(self.task, name, how) for how in approaches] for name in names]

    def there(self, evidence):
        """Of `sets`, those that are there; empty where they are too few for a number."""
        there = [keys for keys in self.sets() if evidence.predictions.keys() >= set(keys)]
        if self.measure == "correlation" and len(there) < _AT_LEAST:
            return []
        sides = {_signs(self.part)[key[:2]] for keys in there for key in keys} if self.measure == "contrast" else ()
        return [] if len(sides) == 1 else there

    def keys(self, evidence):
        return list(itertools.chain(*self.there(evidence)))


def _signs(part):
    """The gains of a contrast: {(task, architecture): 1, or -1 where it is subtracted}."""
    less = part | part["minus"]
    both = [(sign, itertools.product(side["tasks"], side["architectures"])) for sign, side in ((1, part), (-1, less))]
    return {pair: sign for sign, pairs in both for pair in pairs}


def load(file=None):
    """The content of parameters/claims.yaml: dict with `paper` and `claims`. StudyError for what cannot be judged."""
    file = file or paths.PARAMETERS / "claims.yaml"
    content = parameters.load(file)
    lacking = [f"paper: {name}" for name in _PAPER if name not in (content.get("paper") or {})]
    if lacking or not content.get("claims"):
        raise StudyError(f"{file}: lacks {lacking[0] if lacking else 'claims'}; see the comments of the original")
    for claim in content["claims"]:
        absent = {"claim", "statement", "parts"} - claim.keys()
        if absent or not claim["parts"]:
            raise StudyError(f"{file}: claim {claim.get('claim')} lacks {min(absent, default='parts')}")
        for part in claim["parts"]:
            _check(f"{file}: claim {claim['claim']}", part)
            if part["measure"] == "mmd2":
                part["paper"] = 2 * [_paper_margin(content["paper"]["mmd2"])]
    return content


def _paper_margin(mmd2):
    """By how much the paper's G-Q is nearer than the next pair, of its MMD² of the pairs."""
    return round(min(value for pair, value in mmd2.items() if pair != "G-Q") - mmd2["G-Q"], 3)


def judge(content, evidence, draws=10_000, seed=0):
    """The verdicts on `content`, as of `load`, by a `runs.Results`: two DataFrames, a row per claim and a row per part.

    claims: claim, statement, verdict, paper, ours (each number with its interval), basis (runs,
    seeds, folds, data sets), remark (what was replaced or is missing, what an undecided part could
    have shown, and where the size differs). parts: claim, measure, what, paper, holds, estimate,
    low, high, detectable (how far from the border of its region the truth must lie for four of five
    such studies to see it), verdict. Numbers in per cent and points, but for mmd2, coral and
    correlation.
    """
    claims, parts = [], []
    for claim in content["claims"]:
        numbers = [number for part in claim["parts"] for number in _numbers(part, evidence)]
        level = 1 - (1 - _TOGETHER) / max(1, sum(_there(number, evidence) for number in numbers))
        found = [(number, _measure(number, evidence, level, draws, seed)) for number in numbers]
        rows = [_part(number, interval, evidence, level) for number, interval in found]
        parts += [{"claim": claim["claim"]} | row for row in rows]
        run = [pair for pair in found if pair[1]]
        about = _basis(run, evidence) | {"remark": _remark(run, rows, content["paper"], evidence)}
        claims.append(_claim(claim, rows) | about)
    return pd.DataFrame(claims), pd.DataFrame(parts)


def verdict(interval, holds):
    """One of `VERDICTS` for an Interval, or None, and the region [low, high] of truth, where None is an open end."""
    if interval is None:
        return "not run"
    low, high = (-np.inf if holds[0] is None else holds[0]), (np.inf if holds[1] is None else holds[1])
    if low <= interval.low and interval.high <= high:
        return "confirmed"
    return "contradicted" if interval.high < low or interval.low > high else "inconclusive"


def overall(verdicts):
    """The verdict on a claim from those on its parts."""
    if len(set(verdicts)) == 1:
        return verdicts[0]
    if {"partial", "not run"} & set(verdicts):
        return "partial"
    return "contradicted" if "contradicted" in verdicts else "inconclusive"


def _numbers(part, evidence):
    """All numbers of a part."""
    if part["measure"] in _SIMILARITY:
        many = part["measure"] == "mmd2" and evidence.similarities is not None  # CORAL knows no bandwidth
        readings = dict.fromkeys(evidence.similarities["bandwidth"]) if many else [None]
        return [_Number(part, reading=name) for name in readings]
    if part["measure"] == "contrast":
        return [_Number(part)]
    names = [None] if part["measure"] == "correlation" else part["architectures"]
    return [_Number(part, *run) for run in itertools.product(part["tasks"], names, part["approaches"])]


def _there(number, evidence):
    return evidence.similarities is not None if number.measure in _SIMILARITY else bool(number.keys(evidence))


def _measure(number, evidence, level, draws, seed):
    if not _there(number, evidence):
        return None
    function, _ = _MEASURES[number.measure]
    return function(number, evidence, level, draws, seed)


# Measures: each takes a number whose runs are there, and gives an Interval at `level`, or None


def _weights(number, evidence):
    """The runs of a level, a gain, or a contrast of mean gains, with the weight of each in it: {key: weight}."""
    keys = number.keys(evidence)
    weights = {key: -1 if key[2] == number.part.get("baseline") else 1 for key in keys}
    if number.measure != "contrast":
        return weights
    sides = {key: _signs(number.part)[key[:2]] for key in keys}
    gains = {side: runs / 2 for side, runs in Counter(sides.values()).items()}  # each gain is of two runs
    return {key: weights[key] * sides[key] / gains[sides[key]] for key in keys}


def _contrast(number, evidence, level, draws, seed):
    """`statistics.contrast` of the runs, in points, over all seeds that have them; tasks apart."""
    weights = _weights(number, evidence)
    seeds, parts = evidence.seeds(weights), {}
    for key, weight in weights.items():
        tables_of_run = [predictions[key] for predictions in seeds]
        parts.setdefault((key[0], tables.groups(tables_of_run[0])), []).append((weight, tables_of_run))
    found = statistics.contrast([(by, runs) for (_, by), runs in parts.items()], "macro_f1", draws, level, seed)
    return Interval(*(round(100 * value, 9) for value in found[:3]))  # sums of equal terms leave some 1e-15


def _sd(number, evidence, level, draws, seed):
    """Of the fold scores; None for a single fold."""
    values = 100 * evidence.folds(number.keys(evidence)[0])["macro_f1"]
    return statistics.sd_interval(values, level) if len(values) > 1 else None


def _correlation(number, evidence, level, draws, seed):
    """Pearson's r of the mean fold gain and log10(parameters) over the architectures, with Fisher's interval."""
    keys = number.keys(evidence)
    means = [evidence.folds(key)["macro_f1"].mean() for key in keys]
    gains = np.subtract(means[::2], means[1::2])
    sizes = [_log_size(name) for _, name, _ in keys[::2]]
    found = stats.pearsonr(sizes, gains)
    return Interval(float(found.statistic), *map(float, found.confidence_interval(level)))


@functools.cache
def _log_size(name):
    return np.log10(chromolib.architectures.describe(name, 224)["parameters"])


def _margin(number, evidence, level, draws, seed):
    """How much farther the next pair of domains is than G-Q, with all that their intervals allow.

    Those are table 1's, of 95 %, widened to `level` as a normal estimate's are.
    """
    table, low, high = evidence.similarities, *_ENDS[number.measure]
    if low not in table:  # of a table 1 from before CORAL had an interval
        return None
    table = table[table["bandwidth"] == (number.reading or table["bandwidth"].iloc[0])].set_index("pair")
    widened = stats.norm.ppf((1 + level) / 2) / stats.norm.ppf(0.975)
    ends = {end: table[number.measure] + widened * (table[end] - table[number.measure]) for end in (low, high)}
    table = table.assign(**ends)
    own, others = table.loc["G-Q"], table.drop("G-Q")
    margin = others[number.measure].min() - own[number.measure]
    return Interval(margin, others[low].min() - own[high], others[high].min() - own[low])


_MEASURES = {  # name -> its function, and what a part with it has besides measure, paper and holds
    "macro_f1": (_contrast, _LISTS),
    "gain": (_contrast, _LISTS | {"baseline"}),
    "contrast": (_contrast, _LISTS | {"baseline", "minus"}),
    "sd": (_sd, _LISTS),
    "correlation": (_correlation, _LISTS | {"baseline"}),
    "mmd2": (_margin, set()),
    "coral": (_margin, set()),
}
_ENDS = {"mmd2": ("low", "high"), "coral": ("coral_low", "coral_high")}  # columns of table 1
_SIMILARITY = tuple(_ENDS)


# Rows and their words


def _part(number, interval, evidence, level):
    ours = dict(zip(("estimate", "low", "high"), interval or [np.nan] * 3, strict=False))
    row = {"measure": number.measure, "what": number.title(), "paper": _range(number.part["paper"])}
    row |= {"holds": _range(number.part["holds"])} | ours
    row["detectable"] = statistics.detectable(interval, level) if interval else np.nan
    whole = number.measure in _SIMILARITY or len(number.there(evidence)) == len(number.sets())
    return row | {"verdict": verdict(interval, number.part["holds"]) if whole or not interval else "partial"}


def _claim(claim, rows):
    ours = [f"{row['what']} {_with_interval(row)}" for row in rows if row["verdict"] != "not run"]
    return {
        "claim": claim["claim"],
        "statement": claim["statement"],
        "verdict": overall([row["verdict"] for row in rows]),
        "paper": "; ".join(dict.fromkeys(row["paper"] for row in rows if row["paper"])),
        "ours": "; ".join(ours),
    }


def _with_interval(row):
    interval = f" ({row['low']:.3g} to {row['high']:.3g})" if row["low"] < row["high"] else ""
    return f"{row['estimate']:.3g}{interval}"


def _range(ends):
    """[low, high] in words; "" where nothing is known."""
    if ends is None:
        return ""
    low, high = ends
    if low is None or high is None:
        return f"below {high:g}" if low is None else f"above {low:g}"
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _keys(run, evidence):
    runs = (number.keys(evidence) for number, _ in run if number.measure not in _SIMILARITY)
    return list(dict.fromkeys(itertools.chain(*runs)))


def _basis(run, evidence):
    keys = _keys(run, evidence)
    if not run:
        return {"basis": ""}
    if not keys:
        table = evidence.similarities
        return {"basis": f"images of {', '.join(dict.fromkeys([*table['x'], *table['y']]))}"}
    folds = sorted(set(evidence.scores["fold"]))
    data = sorted({evidence.records[key]["data"]["name"] for key in keys})
    seeds = min(len(evidence.seeds(number.keys(evidence))) for number, _ in run)
    seeds = f"{seeds} seeds" if seeds > 1 else "one seed: for these networks"
    return {"basis": f"{len(keys)} runs; {seeds}; folds {', '.join(map(str, folds))}; {', '.join(data)}"}


def _remark(run, rows, paper, evidence):
    """What was replaced, what is missing, and which sizes are not the paper's."""
    words = _replaced(run, paper, evidence)
    missing = sum(row["verdict"] == "not run" for row in rows)
    if run and missing:
        words.append(f"{missing} of {len(rows)} parts not run")
    words += [
        f"{number.title()}: {len(number.there(evidence))} of {len(number.sets())} networks"
        for (number, _), row in zip(run, (row for row in rows if row["verdict"] != "not run"), strict=True)
        if row["verdict"] == "partial"
    ]
    power = [f"{row['what']} {row['detectable']:.2g}" for row in rows if row["verdict"] == "inconclusive"]
    if power:
        words.append(f"four of five such studies would see a distance from the border of: {', '.join(power)}")
    other = [
        number.title()
        for number, interval in run
        if number.part["paper"] and verdict(interval, number.part["paper"]) == "contradicted"
    ]
    return "; ".join(words + ([f"another size than the paper's: {', '.join(other)}"] if other else []))


def _replaced(run, paper, evidence):
    """Each setting in which our runs or similarities differ from the paper's, as "ours for theirs"."""
    used = {}
    for key in _keys(run, evidence):
        settings = evidence.records[key]["parameters"]
        seen = {name: settings[name] for name in ("image_size", "folds_by", "select_on")}
        seen |= {key[0]: evidence.records[key]["data"]["name"], "folds": len(settings["folds"])}
        seen |= {"epochs": settings["adam_epochs"] + settings["sgd_epochs"]}
        for name, value in seen.items():
            used.setdefault(name, set()).add(value)
    if any(number.measure in _SIMILARITY for number, _ in run):
        rows = evidence.similarities.set_index("pair")
        used |= {"g_band": set(rows.loc[["G-Q"], "x"]), "q_band": set(rows.loc[["G-Q"], "y"])}
        used |= {"natural": set(rows.loc[["G-natural"], "y"]), "embedder": set(rows["embedder"])}
        used["image_size"] = set(rows["embed_size"])
    return [f"{name}: {value} for {paper[name]}" for name, values in used.items() for value in values - {paper[name]}]


def _check(where, part):
    _, further = _MEASURES.get(part.get("measure"), (None, _LISTS))
    wanted = {"measure", "paper", "holds"} | further
    if part.keys() != wanted:
        raise StudyError(f"{where}: a part has {', '.join(sorted(part))}; needed are {', '.join(sorted(wanted))}")
    tasks = parameters.tasks(parameters.known())
    known = {"tasks": tasks, "architectures": chromolib.architectures.TABLE, "approaches": parameters.names("approach")}
    known |= {"measure": _MEASURES, "baseline": known["approaches"]}
    if "minus" in wanted:
        if not isinstance(part["minus"], dict) or not part["minus"].keys() <= {"tasks", "architectures"}:
            raise StudyError(f"{where}: minus {part['minus']!r}; give the tasks or architectures that are subtracted")
        part = part | {name: [*part[name], *more] for name, more in part["minus"].items()}
    for name in wanted - {"paper", "holds", "minus"}:
        unknown = set(part[name] if name in _LISTS else [part[name]]) - set(known[name])
        if unknown:
            raise StudyError(f"{where}: {name} {min(unknown)!r} is unknown; choose of {', '.join(known[name])}")
    for name in ("paper", "holds"):
        ends = part[name]
        if ends is not None or name == "holds":
            _check_ends(f"{where}: {name}", ends)


def _check_ends(where, ends):
    good = isinstance(ends, list) and len(ends) == 2 and all(e is None or isinstance(e, int | float) for e in ends)
    if not good or (None not in ends and ends[0] > ends[1]):
        raise StudyError(f"{where}: {ends!r} is no region; write [low, high], null for an open end")
