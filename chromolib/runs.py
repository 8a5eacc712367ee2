"""The folders of runs: finding them, reading what they hold, checking that it is as it was written. No training here.

    runs/<profile>/<task>/<architecture>/<approach>/
        fold<k>.safetensors  history.csv  predictions.parquet  folds.csv  run.json

run.json is written last and at once: its presence means that the run is complete, and it holds the
digest of every other file. `chromolib.trainer` makes runs.

    python -m chromolib.runs verify PROFILE        checks every file of every run against its digest
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import safetensors

from chromolib import files, metrics, paths, tables
from chromolib.errors import StudyError, ends_command

MONITOR = "monitor.parquet"  # predictions of the images that chose the epoch: temperatures are chosen on them too
RESULTS = (".safetensors", ".parquet", ".csv")  # not the executed notebook, which is still open when a run finishes
FINE = ("ok", "not kept")  # states of a file, in `verify`, that are no fault


def folder(profile, task, architecture, approach, root=None):
    """Where the run lies; `root` is the folder of all results, by default that of `chromolib.paths`."""
    return Path(root or paths.runs()) / profile / task / architecture / approach


def record(path):
    """The content of the run.json in the run folder `path`; StudyError where the run is missing or unfinished.

    Of a published run the digests of the tables that were packed since are those in its packed.json.
    """
    try:
        content = json.loads((path / "run.json").read_text(encoding="utf-8"))
        packed = path / "packed.json"
        packed = json.loads(packed.read_text(encoding="utf-8")) if packed.exists() else {}
        missing = {"parameters", "data", "parent", "files"} - content.keys()
    except FileNotFoundError:
        raise StudyError(f"{path}: no finished run here (no run.json); train it first") from None
    except (OSError, ValueError, AttributeError) as error:
        raise StudyError(f"{path / 'run.json'}: damaged ({error}); delete the folder and train it again") from error
    if missing:
        raise StudyError(f"{path / 'run.json'}: lacks {', '.join(sorted(missing))}; train the run again")
    content["files"] |= packed
    return content


def weights(path, fold):
    """The weights file of a fold in the run folder `path`, checked against the digest in run.json and its place."""
    about, name = record(path), f"fold{fold}.safetensors"
    if name not in about["files"]:
        raise StudyError(f"{path}: this run has no fold {fold}; train it with that fold among `folds`")
    flaw = _flaw(path / name, about)
    if flaw:
        raise StudyError(f"{path / name}: {flaw}; delete the run and train it again")
    return path / name


def verify(root, profile):
    """Check again every run of a profile: DataFrame with run, file and state, a row for each file of each run.

    state is "ok"; "not kept" for the weights of a run that was published without any; or says what
    is wrong: a file missing, not as its digest in run.json, in another run's place or unknown to
    run.json; run.json absent (the run is not finished) or damaged; a parent that is missing or was
    trained again later. StudyError where there is no run.
    """
    paths_of_runs = [path for path in files.matching(Path(root, profile), "*_band/*/*") if path.is_dir()]
    if not paths_of_runs:
        known = f"reference/{profile} (committed)" if Path(root, "reference", profile).is_dir() else "another"
        raise StudyError(f"profile {profile!r}: no run of it in {root}; name {known}, or set CHROMOLIB_RUNS")
    rows = [("/".join(path.parts[-3:]), *state) for path in paths_of_runs for state in _states(path)]
    return pd.DataFrame(rows, columns=["run", "file", "state"])


def _states(path):
    """Yield (file, state) of what belongs to a run."""
    try:
        about = record(path)
    except StudyError as error:
        yield "run.json", str(error)
        return
    names = dict(zip(("profile", *tables.RUN), path.parts[-4:], strict=True))  # as its place says
    yield "run.json", "ok" if names.items() <= about["parameters"].items() else "is of another run than its place says"
    published = not any(path.glob("*.safetensors"))
    for name in sorted(about["files"].keys() | {file.name for file in path.iterdir() if file.suffix in RESULTS}):
        absent = published and not (path / name).exists() and (name.endswith(".safetensors") or name == MONITOR)
        yield name, "not kept" if absent else _flaw(path / name, about) or "ok"
    if about["parent"]:
        source = _parent(path, about)
        yield "parent", parent_flaw(path, about) or ("ok" if source.is_file() else f"{source.parent} is missing")


def _parent(path, about):
    """The run.json of the parent of the run in the folder `path`."""
    return path.parents[3] / about["parent"]["run"] / "run.json"


def parent_flaw(path, about):
    """In words, that the parent of a run was trained again since; None where it was not, or is not there."""
    if about["parent"]:
        source = _parent(path, about)
        if source.is_file() and files.sha256(source) != about["parent"]["sha256"]:
            return f"its parent, {about['parent']['run']}, was trained again since; train this one again too"
    return None


def _flaw(file, about):
    """What is wrong with a result of the run whose run.json is `about`, in words; None where nothing is."""
    if file.name not in about["files"]:
        return "unknown to run.json"
    if not file.is_file():
        return "missing (weights are not kept in git)" if file.suffix == ".safetensors" else "missing"
    if files.sha256(file) != about["files"][file.name]:
        return "differs from its digest in run.json"
    if file.suffix == ".safetensors":
        with safetensors.safe_open(file, "numpy") as opened:
            found = json.loads(opened.metadata()["run"])
        expected = identity(*file.parts[-5:-1], int(file.stem.removeprefix("fold")), about["data"]["digest"])
        if found != expected:
            return f"holds {found}, not what its place says"
    return None


def identity(profile, task, architecture, approach, fold, digest):
    """What weights are of, as it stands in their file: dict."""
    names = {"architecture": architecture, "task": task, "approach": approach, "profile": profile}
    return names | {"fold": fold, "dataset_digest": digest}


def predictions(path):
    """The predictions of a finished run: a row per validation image, as DataFrame; StudyError where it has none."""
    record(path)
    if not (path / "predictions.parquet").is_file():
        raise StudyError(f"{path / 'predictions.parquet'}: missing, though the run is finished; train the run again")
    return _table(path / "predictions.parquet", pd.read_parquet, ["file", "cell", "fold", "label", *metrics.LOGITS])


def _table(file, read, columns):
    """A table of a run; StudyError where it is damaged, or lacks one of the columns, as an older version may."""
    try:
        table = read(file)
    except (OSError, ValueError) as error:
        raise StudyError(f"{file}: damaged ({error}); train the run again") from error
    lacks = [name for name in columns if name not in table]
    if lacks:
        raise StudyError(f"{file}: lacks {', '.join(lacks)} (an older version?); train the run again")
    return table


def collect(root, profile):
    """The scores of all finished runs of a profile: a row per task, architecture, approach and fold.

    The columns are those of folds.csv after the three names, and all of `metrics.scores` as
    computed now from the predictions. No finished run gives an empty DataFrame.
    """
    folders = [file.parent for file in files.matching(Path(root, profile), "*/*/*/run.json")]
    parts = {
        path.parts[-3:]: _scored(_table(path / "folds.csv", pd.read_csv, ["fold"]), predictions(path))
        for path in folders
    }
    if not parts:
        return pd.DataFrame(columns=[*tables.RUN, "fold"])
    return pd.concat(parts, names=tables.RUN).droplevel(-1).reset_index()


def _scored(table, predictions):
    """The rows of folds.csv with today's metrics of each fold, and of its last epoch where that was kept."""
    for prefix, part in (("", predictions), ("last_", metrics.last_epoch(predictions))):
        if part is not None:
            scores = {fold: metrics.scores(*metrics.arrays(rows)) for fold, rows in part.groupby("fold")}
            for name in next(iter(scores.values())):
                if prefix + name != "last_classes_scored":  # the same as the best epoch's
                    table[prefix + name] = [scores[fold][name] for fold in table["fold"]]
    return table


class Results(NamedTuple):
    """What the finished runs of one profile found."""

    scores: pd.DataFrame  # as of `collect`
    predictions: dict  # (task, architecture, approach) -> table, as of `predictions`
    records: dict  # (task, architecture, approach) -> content of run.json
    similarities: pd.DataFrame | None = None  # table 1, as notebook 02 leaves it
    others: tuple = ()  # `Results` of other seeds

    def folds(self, key):
        """The rows of `scores` of one run (task, architecture, approach), by fold."""
        return self.scores[(self.scores[tables.RUN] == list(key)).all(axis=1)].sort_values("fold")

    def seeds(self, keys):
        """The predictions of each seed that has all these runs, on the same folds as the first: [{key: table}]."""
        found, folds = [], None
        for predictions in (self.predictions, *(other.predictions for other in self.others)):
            if set(keys) <= predictions.keys():
                own = {key: set(predictions[key]["fold"]) for key in keys}
                folds = folds or own
                found += [predictions] if own == folds else []
        return found


def results(profile, tasks, architectures, approaches, folds):
    """The `Results` of a profile, as far as they belong to the grid; empty where nothing is finished."""
    scores = tables.of_grid(collect(paths.runs(), profile), tasks, architectures, approaches, folds)
    folders = {key: folder(profile, *key) for key in scores[tables.RUN].itertuples(index=False, name=None)}
    kept = {key: predictions(path) for key, path in folders.items()}
    kept = {key: table[table["fold"].isin(folds)] for key, table in kept.items()}
    return Results(scores, kept, {key: record(path) for key, path in folders.items()})


@ends_command()
def main(arguments=None):
    """`verify PROFILE`: list what is wrong with the runs in `chromolib.paths.runs()`; exit status 1 if anything is."""
    command, *profile = sys.argv[1:] if arguments is None else arguments
    if command != "verify" or len(profile) != 1:
        sys.exit("usage: python -m chromolib.runs verify PROFILE")
    table = verify(paths.runs(), *profile)
    wrong, bare = table[~table["state"].isin(FINE)], (table["state"] == "not kept").sum()
    for row in wrong.itertuples():
        print(f"{row.run}/{row.file}: {row.state}")
    print(f"{table['run'].nunique()} runs, {len(table)} files: {len(wrong)} wrong, {bare} weights not kept")
    sys.exit(bool(len(wrong)))


if __name__ == "__main__":
    main()
