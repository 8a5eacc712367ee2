"""The paper's statements (parameters/claims.yaml) against what was measured: confirmed, contradicted, or neither.

A part of a claim is a number of ours with an interval, and the region in which the statement is true. It is confirmed
where the interval lies inside the region, contradicted where it lies outside, else inconclusive, and "not run" where
there is no number. A claim is contradicted by one contradicted part, confirmed where all its parts are, not run
where none was, else inconclusive. The intervals of a claim are widened so that all of them hold together with 95 %
(Bonferroni); else a claim of many parts would be contradicted by chance.
"""

import itertools
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

import chromolib
from chromolib import parameters, paths, statistics, tables
from chromolib.errors import StudyError
from chromolib.intervals import Interval

VERDICTS = ("confirmed", "contradicted", "inconclusive", "not run")
_TOGETHER = 0.95  # level of all intervals of a claim
_AT_LEAST = 4  # architectures for a correlation: Fisher's interval has no width for fewer
_LISTS = {"tasks", "architectures", "approaches"}  # of a part
_PAPER = ("q_band", "g_band", "natural", "embedder", "image_size", "epochs", "folds", "folds_by", "select_on", "mmd2")


class _Number(NamedTuple):
    """One number to measure: a part of a claim at one place of its grid."""

    part: dict
    task: str | None = None
    architecture: str | None = None
    approach: str | None = None
    reading: str | None = None  # of the bandwidth

    @property
    def measure(self):
        return self.part["measure"]

    def title(self):
        first = chromolib.architectures.row(self.architecture).title if self.architecture else self.measure
        return ", ".join([first, *(word for word in (self.task, self.approach, self.reading) if word)])

    def keys(self, evidence):
        """The runs that it is made of; empty where one is missing."""
        if self.measure == "correlation":
            alone = (
                self._replace(part=self.part | {"measure": "gain"}, architecture=a) for a in self.part["architectures"]
            )
            found = [number.keys(evidence) for number in alone]
            return list(itertools.chain(*found)) if sum(map(bool, found)) >= _AT_LEAST else []
        approaches = [self.approach, *([self.part["baseline"]] if "baseline" in self.part else [])]
        keys = [(self.task, self.architecture, approach) for approach in approaches]
        return keys if all(key in evidence.predictions for key in keys) else []


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

    claims: claim, statement, verdict, paper, ours (each number with its interval), basis (runs, folds, data sets),
    remark (what was replaced or is missing, and where the size differs). parts: claim, measure, what, paper, holds,
    estimate, low, high, verdict. Numbers in per cent and points, but for mmd2, coral and correlation.
    """
    claims, parts = [], []
    for claim in content["claims"]:
        numbers = [number for part in claim["parts"] for number in _numbers(part, evidence)]
        level = 1 - (1 - _TOGETHER) / max(1, sum(_there(number, evidence) for number in numbers))
        found = [(number, _measure(number, evidence, level, draws, seed)) for number in numbers]
        rows = [_part(number, interval) for number, interval in found]
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
    if "contradicted" in verdicts:
        return "contradicted"
    return verdicts[0] if len(set(verdicts)) == 1 else "inconclusive"


def _numbers(part, evidence):
    """All numbers of a part."""
    if part["measure"] in _SIMILARITY:
        many = part["measure"] == "mmd2" and evidence.similarities is not None  # CORAL knows no bandwidth
        readings = dict.fromkeys(evidence.similarities["bandwidth"]) if many else [None]
        return [_Number(part, reading=name) for name in readings]
    names = [None] if part["measure"] == "correlation" else part["architectures"]
    return [_Number(part, *place) for place in itertools.product(part["tasks"], names, part["approaches"])]


def _there(number, evidence):
    return evidence.similarities is not None if number.measure in _SIMILARITY else bool(number.keys(evidence))


def _measure(number, evidence, level, draws, seed):
    if not _there(number, evidence):
        return None
    return _MEASURES[number.measure](number, evidence, level, draws, seed)


# Measures: each takes a number whose runs are there, and gives an Interval at `level`, or None


def _level(number, evidence, level, draws, seed):
    table = evidence.predictions[number.keys(evidence)[0]]
    return _in_points(statistics.score_interval(table, "macro_f1", tables.groups(table), draws, level, seed))


def _gain(number, evidence, level, draws, seed):
    after, before = (evidence.predictions[key] for key in number.keys(evidence))
    return _in_points(statistics.paired_bootstrap(after, before, "macro_f1", tables.groups(after), draws, level, seed))


def _sd(number, evidence, level, draws, seed):
    """Of the fold scores; None for a single fold."""
    values = 100 * _folds(evidence, number.keys(evidence)[0])
    return statistics.sd_interval(values, level) if len(values) > 1 else None


def _correlation(number, evidence, level, draws, seed):
    """Pearson's r of the mean fold gain and log10(parameters) over the architectures, with Fisher's interval."""
    keys = number.keys(evidence)
    gains = [
        _folds(evidence, a).mean() - _folds(evidence, b).mean() for a, b in zip(keys[::2], keys[1::2], strict=True)
    ]
    sizes = [np.log10(chromolib.architectures.describe(name, 224)["parameters"]) for _, name, _ in keys[::2]]
    found = stats.pearsonr(sizes, gains)
    return Interval(float(found.statistic), *map(float, found.confidence_interval(level)))


def _margin(number, evidence, level, draws, seed):
    """How much farther the next pair of domains is than G-Q; for MMD² with all that their 95 % intervals allow."""
    table = evidence.similarities
    table = table[table["bandwidth"] == (number.reading or table["bandwidth"].iloc[0])].set_index("pair")
    own, others = table.loc["G-Q"], table.drop("G-Q")
    margin = others[number.measure].min() - own[number.measure]
    if number.measure == "coral":  # has no interval in the table
        return Interval(margin, margin, margin)
    return Interval(margin, others["low"].min() - own["high"], others["high"].min() - own["low"])


_MEASURES = {
    "macro_f1": _level,
    "gain": _gain,
    "sd": _sd,
    "correlation": _correlation,
    "mmd2": _margin,
    "coral": _margin,
}
_SIMILARITY = ("mmd2", "coral")


def _in_points(interval):
    return Interval(*(100 * value for value in interval[:3]))


def _folds(evidence, key):
    rows = evidence.scores[(evidence.scores[tables.RUN] == list(key)).all(axis=1)]
    return rows["macro_f1"]


# Rows and their words


def _part(number, interval):
    ours = dict(zip(("estimate", "low", "high"), interval or [np.nan] * 3, strict=False))
    row = {"measure": number.measure, "what": number.title(), "paper": _range(number.part["paper"])}
    return row | {"holds": _range(number.part["holds"])} | ours | {"verdict": verdict(interval, number.part["holds"])}


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
    return list(dict.fromkeys(key for number, _ in run if number.task for key in number.keys(evidence)))


def _basis(run, evidence):
    keys = _keys(run, evidence)
    if not run:
        return {"basis": ""}
    if not keys:
        table = evidence.similarities
        return {"basis": f"images of {', '.join(dict.fromkeys([*table['x'], *table['y']]))}"}
    folds = sorted(set(evidence.scores["fold"]))
    data = sorted({evidence.records[key]["data"]["name"] for key in keys})
    return {"basis": f"{len(keys)} runs; folds {', '.join(map(str, folds))}; {', '.join(data)}"}


def _remark(run, rows, paper, evidence):
    """What was replaced, what is missing, and which sizes are not the paper's."""
    words = _replaced(run, paper, evidence)
    missing = sum(row["verdict"] == "not run" for row in rows)
    if run and missing:
        words.append(f"{missing} of {len(rows)} parts not run")
    if any(number.measure == "coral" for number, _ in run):
        words.append("coral without interval")
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
        seen = {
            key[0]: evidence.records[key]["data"]["name"],
            "epochs": settings["adam_epochs"] + settings["sgd_epochs"],
        }
        seen |= {"folds": len(settings["folds"])} | {
            name: settings[name] for name in ("image_size", "folds_by", "select_on")
        }
        for name, value in seen.items():
            used.setdefault(name, set()).add(value)
    if any(number.measure in _SIMILARITY for number, _ in run):
        rows = evidence.similarities.set_index("pair")
        used |= {"g_band": set(rows.loc[["G-Q"], "x"]), "q_band": set(rows.loc[["G-Q"], "y"])}
        used |= {"natural": set(rows.loc[["G-natural"], "y"]), "embedder": set(rows["embedder"])}
        used["image_size"] = set(rows["embed_size"])
    return [f"{name}: {value} for {paper[name]}" for name, values in used.items() for value in values - {paper[name]}]


def _check(where, part):
    wanted = {"measure", "paper", "holds"}
    if part.get("measure") not in _SIMILARITY:
        wanted |= _LISTS
    if part.get("measure") in ("gain", "correlation"):
        wanted |= {"baseline"}
    if part.keys() != wanted:
        raise StudyError(f"{where}: a part has {', '.join(sorted(part))}; needed are {', '.join(sorted(wanted))}")
    tasks = parameters.tasks(parameters.known())
    known = {"tasks": tasks, "architectures": chromolib.architectures.TABLE, "approaches": parameters.names("approach")}
    known |= {"measure": _MEASURES, "baseline": known["approaches"]}
    for name in wanted - {"paper", "holds"}:
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
