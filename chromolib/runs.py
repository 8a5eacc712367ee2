"""A run: one architecture, approach and task over its folds, and the folder that holds what it found.

    runs/<profile>/<task>/<architecture>/<approach>/
        fold<k>.safetensors  history.csv  predictions.parquet  folds.csv  run.json

run.json is written last and at once: its presence means that the run is complete, and it holds the digest of every
other file. Before that, resume/ keeps what is needed to go on after an interruption, to the epoch.
"""

import fcntl
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.torch
import torch

from chromolib import (
    CLASSES,
    architectures,
    datasets,
    device,
    files,
    folds,
    metrics,
    parameters,
    paths,
    provenance,
    training,
)
from chromolib.errors import StudyError
from chromolib.parameters import TASKS

RESULTS = (".safetensors", ".parquet", ".csv")  # not the executed notebook, which is still open when a run finishes
_locks = {}  # folder -> open file; a kernel that starts the same run again keeps its lock


def folder(profile, task, architecture, approach, root=None):
    """Where the run lies; `root` is the folder of all results, by default that of `chromolib.paths`."""
    return Path(root or paths.runs()) / profile / task / architecture / approach


def record(path):
    """The content of the run.json in the run folder `path`; StudyError where the run is missing or unfinished."""
    try:
        return json.loads((path / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: no finished run here (no run.json); train it first") from None
    except json.JSONDecodeError as error:
        raise StudyError(f"{path / 'run.json'}: damaged ({error}); delete the folder and train it again") from error


def weights(path, fold):
    """The weights file of a fold in the run folder `path`, checked against the digest in run.json."""
    digests, name = record(path)["files"], f"fold{fold}.safetensors"
    if name not in digests:
        raise StudyError(f"{path}: this run has no fold {fold}; train it with that fold among `folds`")
    if not (path / name).is_file():
        raise StudyError(f"{path / name}: missing (weights are not kept in git); train the run again")
    if files.sha256(path / name) != digests[name]:
        raise StudyError(f"{path / name}: differs from its digest in run.json; delete the run and train it again")
    with safetensors.safe_open(path / name, "pt") as file:
        about = json.loads(file.metadata()["run"])
    task, architecture, approach = path.parts[-3:]
    if about | {"task": task, "architecture": architecture, "approach": approach, "fold": fold} != about:
        raise StudyError(f"{path / name}: holds {about}, not what its place says; put the right file there")
    return path / name


def predictions(path):
    """The predictions of a finished run: a row per validation image, as DataFrame."""
    record(path)
    return pd.read_parquet(path / "predictions.parquet")


def save_table(table, profile, name):
    """Write a DataFrame to runs/<profile>/tables/<name>.csv, for the report."""
    with files.replacing(paths.runs() / profile / "tables" / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=False)


def save_figure(figure, profile, name):
    """Write a figure to runs/<profile>/figures/<name>.png, for the report; returns it, so that a notebook shows it."""
    with files.replacing(paths.runs() / profile / "figures" / f"{name}.png") as temporary:
        figure.savefig(temporary, dpi=110)
    return figure


def collect(root, profile):
    """The scores of all finished runs of a profile: a row per task, architecture, approach and fold.

    The columns are those of folds.csv after the three names. No finished run gives an empty DataFrame.
    """
    tables = []
    for path in sorted((Path(root) / profile).glob("*/*/*/run.json")):
        task, architecture, approach = path.parts[-4:-1]
        table = pd.read_csv(path.parent / "folds.csv")
        tables.append(table.assign(task=task, architecture=architecture, approach=approach))
    if not tables:
        return pd.DataFrame(columns=["task", "architecture", "approach", "fold"])
    table = pd.concat(tables, ignore_index=True)
    first = ["task", "architecture", "approach"]
    return table[first + [name for name in table.columns if name not in first]]


def ensure(settings, root=None):
    """The folder of the finished run with these settings; where there is none it is trained, its parent first."""
    path = folder(*(settings[name] for name in ("profile", "task", "architecture", "approach")), root)
    if not (path / "run.json").exists():
        if settings["start"] == "parent":
            start = parameters.load(parameters.path("approach", settings["parent"]))
            ensure(settings | start | {"task": TASKS[settings["task"]]}, root)
        run = Run(settings, root)
        for fold in settings["folds"]:
            run.train(fold)
        run.finish()
    return path


class Run:
    """One run in the making: `Run(settings)` checks everything, `train(fold)` for each fold, `finish()`.

    `settings` is the dict of all parameters of notebook 03. What can be wrong is found before any training: unknown
    names, absent data or weights, a missing or unfit parent run, a folder in use. A folder that was interrupted with
    the same settings goes on where it was; a finished or another one is started anew.
    """

    def __init__(self, settings, root=None):
        self.settings, self.root = settings, root
        _check(settings)
        own = {name: settings[name] for name in training.Recipe.__dataclass_fields__}
        self.recipe = training.Recipe(**own)
        self.path = folder(
            settings["profile"], *(settings[name] for name in ("task", "architecture", "approach")), root
        )
        self.data = datasets.load(settings[settings["task"]], size=settings["image_size"])
        self.splits = folds.split(
            self.data.labels, self.data.cells, settings["n_folds"], settings["folds_by"], settings["split_seed"]
        )
        self.parent = _parent(settings, self.data, root)
        self.started = provenance.now()
        _lock(self.path)
        self._open()
        self.place, self.model = device.choose(), None
        self.images = torch.from_numpy(np.array(self.data.images)).to(self.place)
        self.labels = torch.from_numpy(np.array(self.data.labels)).to(self.place)

    def _open(self):
        """Keep the folder's content where it is this very run interrupted; empty it otherwise."""
        state = self.path / "resume" / "settings.json"
        mine = json.dumps(self.settings | {"digest": self.data.digest}, sort_keys=True)
        if (self.path / "run.json").exists() or not state.exists() or state.read_text(encoding="utf-8") != mine:
            for name in ("run.json", "folds.csv", "history.csv", "predictions.parquet"):
                (self.path / name).unlink(missing_ok=True)
            for file in self.path.glob("fold*.safetensors"):
                file.unlink()
            shutil.rmtree(self.path / "resume", ignore_errors=True)
            with files.replacing(state) as temporary:
                temporary.write_text(mine, encoding="utf-8")

    def indices(self, fold):
        """Index arrays (train, monitor, validation) of a fold; the monitor chooses the epoch."""
        train, validation = self.splits[fold]
        if self.settings["select_on"] == "validation":
            return train, validation, validation
        by = self.settings["folds_by"]
        train, monitor = folds.inner(self.data.labels, train, self.data.cells, by, self.settings["split_seed"])
        return train, monitor, validation

    def create(self, fold):
        """The network with the first weights of the approach, on the device."""
        training.seed_everything(self.settings["seed"], fold, 0)
        start = {"random": None, "imagenet": "imagenet"}.get(self.settings["start"])
        if self.parent:
            start = weights(self.parent, fold)
        name, size = self.settings["architecture"], self.settings["image_size"]
        model = architectures.create(name, start, image_size=size)
        if self.parent and not self.settings["keep_head"]:
            model.reset_classifier(len(CLASSES))
        return device.prepare(model, self.place)

    def train(self, fold, report=None):
        """Train a fold and write what it gave, weights first; a fold that is already there is left as it is.

        `report` is called with the row (dict) of each epoch. Returns the fold's row of folds.csv as dict.
        """
        done = self._table("folds.csv")
        if len(done) and fold in set(done["fold"]):
            return done[done["fold"] == fold].iloc[0].to_dict()
        begin = time.perf_counter()
        train, monitor, validation = self.indices(fold)
        name, state = self.settings["architecture"], self.path / "resume" / f"fold{fold}.pt"
        model = self._model_with(self.create(fold))
        fit = training.fit(
            model, name, self.images, self.labels, train, monitor, self.recipe, fold, state=state, report=report
        )
        last = self._predict(model, validation)
        model.load_state_dict(fit.best)
        best = self._predict(model, validation)
        history = pd.DataFrame(fit.history)
        row = _fold_row(fold, train, self.data.labels[validation], best, last, fit, history)
        row["seconds"] = round(time.perf_counter() - begin, 2)
        self._write(fold, model, history, self._prediction_rows(fold, validation, best), row)
        state.unlink()
        return row

    def _model_with(self, fresh):
        """The network of the first fold, with the weights of `fresh`: a compiled network is compiled once."""
        if self.model is None:
            self.model = fresh
            if self.recipe.compiled:
                device.compile_once(fresh, self.place)
        else:
            self.model.load_state_dict(fresh.state_dict())
        return self.model

    def _predict(self, model, index):
        images = self.images[torch.as_tensor(index, device=self.place)]
        return training.predict(model, self.settings["architecture"], images, self.recipe.precision).cpu().numpy()

    def _prediction_rows(self, fold, index, logits):
        cells = self.data.cells[index] if self.data.cells is not None else None
        rows = pd.DataFrame({"file": self.data.files[index], "cell": cells, "fold": fold})
        columns = pd.DataFrame(logits, columns=[f"logit_{number}" for number in range(logits.shape[1])])
        return pd.concat([rows.assign(label=self.data.labels[index]), columns], axis=1)

    def _table(self, name):
        """What earlier folds of this run left in a table; an empty DataFrame at first."""
        file = self.path / name
        if not file.exists():
            return pd.DataFrame()
        return pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)

    def _write(self, fold, model, history, rows, row):
        """Weights, history, predictions, and last the row in folds.csv, which says that the fold is done."""
        about = {name: self.settings[name] for name in ("architecture", "task", "approach", "profile")}
        about |= {"fold": fold, "dataset_digest": self.data.digest}
        metadata = {"run": json.dumps(about)}  # one entry: safetensors writes several in random order
        with files.replacing(self.path / f"fold{fold}.safetensors") as temporary:
            state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
            safetensors.torch.save_file(state, temporary, metadata=metadata)
        history = history.drop(columns="images_per_second")
        for name, new in (("history.csv", history), ("predictions.parquet", rows), ("folds.csv", pd.DataFrame([row]))):
            old = self._table(name)
            old = old[old["fold"] != fold] if len(old) else old  # a fold half written before an interruption
            table = pd.concat([old, new], ignore_index=True) if len(old) else new
            with files.replacing(self.path / name) as temporary:
                table.to_parquet(temporary) if temporary.suffix == ".parquet" else table.to_csv(temporary, index=False)

    def finish(self):
        """Write run.json, which makes the run complete, and drop the resume state; StudyError if a fold is missing."""
        done = set(self._table("folds.csv").get("fold", ()))
        missing = [fold for fold in self.settings["folds"] if fold not in done]
        if missing:
            raise StudyError(f"{self.path}: folds {missing} are not trained; call train for each before finish")
        parent, results = self.parent, sorted(file for file in self.path.iterdir() if file.suffix in RESULTS)
        content = {
            "parameters": self.settings,
            **provenance.describe(),
            "data": {key: getattr(self.data, key) for key in ("name", "digest", "report")} | {"n": len(self.labels)},
            "parent": parent and {"run": "/".join(parent.parts[-4:]), "sha256": files.sha256(parent / "run.json")},
            "started": self.started,
            "finished": provenance.now(),
            "seconds": round(float(self._table("folds.csv")["seconds"].sum()), 1),  # of training, all sessions
            "files": {file.name: files.sha256(file) for file in results},
        }
        with files.replacing(self.path / "run.json") as temporary:
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
        shutil.rmtree(self.path / "resume")
        _locks.pop(self.path).close()  # others may start the run anew
        return content


def _check(settings):
    """Refuse values that no run can have; the types were checked by `chromolib.parameters`."""
    choices = {
        "task": TASKS,
        "architecture": tuple(architectures.TABLE),
        "start": ("random", "imagenet", "parent"),
        "folds_by": ("image", "cell"),
        "select_on": ("validation", "inner"),
        settings["task"]: datasets.NAMES,
    }
    for name, allowed in choices.items():
        if settings.get(name) not in allowed:
            raise StudyError(f"parameter {name!r}: {settings.get(name)!r} is not one of {', '.join(allowed)}")
    if (settings["start"] == "parent") != bool(settings["parent"]):
        raise StudyError("parameter 'parent': names an approach if start is 'parent', and is '' otherwise")
    wrong = [fold for fold in settings["folds"] if not 0 <= fold < settings["n_folds"]]
    if wrong:
        raise StudyError(f"parameter 'folds': {wrong} are not among the folds 0 to {settings['n_folds'] - 1}")


def _parent(settings, data, root):
    """The folder of the run whose weights this run begins from, or None; StudyError where it is missing or unfit."""
    if settings["start"] != "parent":
        return None
    other = TASKS[settings["task"]]
    path = folder(settings["profile"], other, settings["architecture"], settings["parent"], root)
    about = record(path)
    if about["data"]["digest"] == data.digest:
        raise StudyError(f"{path}: was trained on {data.name}, the images of the target itself; name another data set")
    if about["parameters"]["image_size"] != settings["image_size"]:
        raise StudyError(f"{path}: was trained at another image_size; give the variation a profile of its own")
    for fold in settings["folds"]:
        weights(path, fold)
    return path


def _fold_row(fold, train, labels, best, last, fit, history):
    """A row of folds.csv, as dict: scores of the best epoch, and of the last one with the prefix `last_`."""
    scores, last_scores = metrics.scores(labels, best), metrics.scores(labels, last)
    classes = scores.pop("classes_scored")
    last_scores.pop("classes_scored")
    return {
        "fold": fold,
        "n_train": len(train),
        "n_validation": len(labels),
        "best_epoch": fit.best_epoch,
        **scores,
        **{f"last_{name}": value for name, value in last_scores.items()},
        "classes_scored": classes,
        "seconds": None,
        "images_per_second": round(float(history["images_per_second"].median()), 1),
        "parts": fit.parts,  # of a batch, because of memory: 1 unless the device ran out of it
    }


def _lock(path):
    """Hold the run folder until the run is finished or this process ends; StudyError where another one holds it."""
    path.mkdir(parents=True, exist_ok=True)
    if path in _locks:
        return
    file = open(path / ".lock", "w")  # noqa: SIM115 - stays open: the lock lives as long as the file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise StudyError(f"{path}: another process is working on this run; wait for it, or stop it") from None
    _locks[path] = file
