"""A finished profile of one's own against the one that is committed: is it the same study, and does it find the same?

    python -m chromolib.compare PROFILE        what differs, line by line; exit status 1 if anything is "different"

Every run's parameters, data and folds, every fold's scores, and every table are held against runs/reference/<profile>,
cell by cell. A cell is

- "equal": the same, to 1e-9 of its value;
- "within": scores that lie no further apart than another seed would move them (`TOLERANCE`);
- "other": what may differ without being wrong: commit, versions, hardware, the numbers that follow from scores but have
  no tolerance of their own, such as p-values, and tables that read further profiles where only one side has those;
- "different": all else, such as another seed, a fold that is missing, or a table that was altered. Where all scores of
  all runs are equal nothing is "within" or "other" in a table: then it must be the same.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from chromolib import files, parameters, paths, runs, tables
from chromolib.errors import StudyError, ends_command

TRAINING_SD = 1.5  # points: SD over seeds of a training's Macro-F1 on a fold (runs/reference/README.md, How sure)
TOLERANCE = 1.96 * 2**0.5 * TRAINING_SD  # points, of two scores that differ by their seeds alone: 19 in 20 are closer
_UNTRAINED = ("data", "table1_similarity", "similarity_margins", "table3_architectures", "table4_approaches")
_ROUNDING = 1e-3  # of a value that no training enters: as far as processors differ
_SCORES = "gain|sd$|low|high|macro_f1|accuracy|auc|change|plain|decoded|called|whole|named|tivity|ficity|before|after"
_FIXED = (*tables.RUN, "baseline", "against", "claim", "statement", "paper", "verdict")  # not a training's to move
_READ_OTHERS = ("gains", "claims", "validity", "whole_cells", "second_step", "learning_curve", "zero_shot")  # profiles
_COLUMNS = ["what", "where", "mine", "reference", "state"]


def compare(profile, mine=None, reference=None):
    """Everything that is compared: DataFrame what, where, mine, reference, state, a row per setting, fold and cell.

    mine, reference: the folders that hold the profile, by default `chromolib.paths.runs()` and runs/reference. Raises
    StudyError where either has no finished run of it.
    """
    roots = [Path(mine or paths.runs()), Path(reference or paths.ROOT / "runs" / "reference")]
    scores = [runs.collect(root, profile) for root in roots]
    for root, found in zip(roots, scores, strict=True):
        if found.empty:
            raise StudyError(f"profile {profile!r}: no finished run of it in {root}; nothing can be compared")
    rows = [*_settings(profile, roots), *_folds(*scores)]
    exact = all(row[-1] == "equal" for row in rows if row[0] == "score")
    return pd.DataFrame([*rows, *_tables(profile, roots, exact)], columns=_COLUMNS)


def _reads_what_one_lacks(table, profile, roots):
    """Whether a table reads other profiles too, variations or the curve's, and the two sides have not the same."""
    prefix = parameters.known()["curve"] if table == "learning_curve" else f"{profile}_"
    finished = [{file.parts[-5] for file in root.glob(f"{prefix}*/*/*/*/run.json")} for root in roots]
    return table.startswith(_READ_OTHERS) and finished[0] != finished[1]


def _settings(profile, roots):
    """What is recorded of each run that both have, and the runs that only one has."""
    found = [_run_folders(root / profile) for root in roots]
    for run in sorted(found[0].keys() | found[1].keys()):
        there = [run in part for part in found]
        yield _row("run", run.as_posix(), *("there" if known else "missing" for known in there))
        if all(there):
            records = [runs.record(part[run]) for part in found]
            yield from _differences(run.as_posix(), *(_facts(record) for record in records))


def _run_folders(folder):
    """{path below the profile's folder: path} of its finished runs."""
    return {file.parent.relative_to(folder): file.parent for file in files.matching(folder, "*/*/*/run.json")}


def _facts(record):
    """{(kind, name): value} of a run.json; only the kinds "parameter" and "data" must be the same."""
    facts = {("parameter", name): value for name, value in parameters.of_run(record["parameters"]).items()}
    facts |= {("data", name): record["data"][name] for name in ("name", "digest")}
    facts |= {("version", name): value for name, value in record["versions"].items()}
    facts |= {("hardware", name): record["hardware"].get(name) for name in ("processor", "device", "threads")}
    return facts | {("project", "commit"): record["project"]["commit"]}


def _differences(where, mine, reference):
    for fact in mine.keys() | reference.keys():
        kind, name = fact
        free = kind not in ("parameter", "data")
        yield _row(kind, f"{where}: {name}", mine.get(fact), reference.get(fact), free=free)


def _folds(mine, reference):
    """The scores of each fold, in per cent, and the folds that only one has, of the runs that both have."""
    shared = set.intersection(
        *(set(table[tables.RUN].itertuples(index=False, name=None)) for table in (mine, reference))
    )
    columns = [*tables.METRICS, *(f"last_{name}" for name in tables.METRICS)]
    long = [100 * table.set_index([*tables.RUN, "fold"])[columns].stack() for table in (mine, reference)]
    for key in sorted(long[0].index.union(long[1].index)):
        *run, fold, metric = key
        if tuple(run) in shared:
            values = [part.get(key) for part in long]
            yield _row("score", f"{'/'.join(run)}, fold {fold}: {metric}", *values, TOLERANCE)


def _tables(profile, roots, exact):
    names = {file.stem for root in roots for file in files.matching(root / profile, "tables/*.csv")}
    for name in sorted(names):
        found = [root / profile / "tables" / f"{name}.csv" for root in roots]
        free = _reads_what_one_lacks(name, profile, roots)
        if not all(file.exists() for file in found):
            yield _row("table", name, *("there" if file.exists() else "missing" for file in found), free=free)
            continue
        mine, reference = (pd.read_csv(file) for file in found)
        if list(mine.columns) != list(reference.columns) or len(mine) != len(reference):
            words = (f"{len(t)} rows of {', '.join(t.columns)}" for t in (mine, reference))
            yield _row("table", name, *words, free=free)
            continue
        for column in mine.columns:
            yield from _cells(name, mine, reference, column, exact, free)


def _cells(name, mine, reference, column, exact, free):
    """The cells of a column, by what they may differ in; where `free`, in anything."""
    tolerance = 0
    if name in _UNTRAINED:
        tolerance = _ROUNDING * np.abs(pd.to_numeric(reference[column], errors="coerce")).max()
    elif not exact and pd.Series([column]).str.contains(_SCORES).item():
        tolerance = TOLERANCE
    elif not exact:
        free = free or column not in _FIXED
    for number, values in enumerate(zip(mine[column], reference[column], strict=True)):
        start = " ".join(map(str, reference.iloc[number, :3]))  # its first words say what a row is of
        yield _row("cell", f"{name}, row {number + 1} ({start}): {column}", *values, tolerance, free)


def _row(what, where, mine, reference, tolerance=0, free=False):
    """A row of `compare`: numbers are equal to 1e-9, within the tolerance, or different; all else equal or not.

    free: what is different is "other".
    """
    state = "other" if free else "different"
    if isinstance(mine, float | np.floating) and isinstance(reference, float | np.floating):
        if np.isclose(mine, reference, rtol=1e-9, atol=1e-12, equal_nan=True):
            state = "equal"
        elif abs(mine - reference) <= tolerance:
            state = "within"
    elif mine == reference:
        state = "equal"
    return [what, where, mine, reference, state]


@ends_command()
def main(arguments=None):
    """Print what is not equal of a profile, and the counts."""
    words = sys.argv[1:] if arguments is None else arguments
    if len(words) != 1:
        sys.exit("usage: python -m chromolib.compare PROFILE")
    table = compare(*words)
    for row in table[~table["state"].isin(["equal", "within"])].itertuples():
        print(f"{row.state}: {row.what} {row.where}: {row.mine}, in the reference {row.reference}")
    counts = table["state"].value_counts()
    print(", ".join(f"{counts.get(state, 0)} {state}" for state in ("equal", "within", "other", "different")), end="")
    print(f" (within: {TOLERANCE:.1f} points, what another seed may move)")
    sys.exit(bool(counts.get("different", 0)))


if __name__ == "__main__":
    main()
