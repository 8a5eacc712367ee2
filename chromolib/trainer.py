"""Making a run: one architecture, approach and task over its folds, in the folder that `chromolib.runs` reads.

Before run.json is there, resume/ keeps what is needed to go on after an interruption, to the epoch.
"""

import dataclasses
import json
import os
import re
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
    duplicates,
    files,
    folds,
    metrics,
    parameters,
    provenance,
    runs,
    training,
)
from chromolib.errors import StudyError

LEASE = 120  # seconds in which a file server gives up the lock of a node that was lost (NFSv4: 90) [ours]
MARGIN = 64 * 2**20  # bytes: tables, predictions and the executed notebook of a run [ours]
_NAME = re.compile(r"[\w-]+")  # of a folder in that of all results, and of none outside it
_locks = {}  # folder -> its lock; a kernel that starts the same run again keeps its lock


def ensure(settings, root=None, report=None):
    """The folder of the finished run with these settings; where there is none it is trained, its parent first.

    report: called with the row (dict) of each of its epochs.
    """
    path = _folder(settings, root)
    if _finished(path, settings) is None:
        if settings["start"] == "parent":
            _, task, approach = parameters.parent(settings)
            if not settings["parent_profile"]:
                ensure(settings | parameters.approach(approach) | {"task": task}, root)
        run = Run(settings, root)
        for fold in settings["folds"]:
            run.train(fold, report)
        run.finish()
    return path


class Run:
    """One run in the making: `Run(settings)` checks everything, `train(fold)` for each fold, `finish()`.

    `settings` is the dict of all parameters of notebook 03. What can be wrong is found before any
    training: unknown names, absent data or weights, a missing or unfit parent run, a folder in use.
    A run that was interrupted with the same settings goes on where it was; a finished one is given
    back as it is: `train` and `finish` return what is there. In the place of a run with other
    settings it is refused; only `delete` deletes one.
    """

    def __init__(self, settings, root=None):
        self.settings, self.root = settings, root
        _check(settings)
        self.recipe = training.Recipe.of(settings)
        self.path = _folder(settings, root)
        self.record = _finished(self.path, settings)  # content of run.json; None until then
        self.data = datasets.load(
            settings[settings["task"]], size=settings["image_size"], presentation=settings["presentation"]
        )
        self.groups = self.data.groups(settings["folds_by"])
        self.splits = folds.split(
            self.data.labels, self.groups, settings["n_folds"], settings["folds_by"], settings["split_seed"]
        )
        self.data = _with_copies_reported(self.data, self.splits)
        if self.record:
            _check_same(self.path, {"images": self.record["data"]["digest"]}, {"images": self.data.digest})
            shutil.rmtree(self.path / "resume", ignore_errors=True)  # it may have been killed just before
            return
        self.parent = _parent(settings, self.data, root)
        network = self._network(settings["folds"][0])  # before anything is deleted: it may not be to be had
        self.origin = provenance.describe()  # as it is now, not when the run ends
        _lock(self.path)
        files.clear_parts(self.path)
        _check_space(self.path, network, len(settings["folds"]))
        self._open()
        self.device, self.model = device.choose(), None
        with device.memory_explained():
            self.images = torch.from_numpy(np.array(self.data.images)).to(self.device)
            self.labels = torch.from_numpy(_taught(self.data.labels, settings)).to(self.device)

    def _open(self):
        """Go on where this very run was interrupted; StudyError in another's folder, or if it would end as before."""
        known = {"digest": self.data.digest, "parent": self._parent_record()}
        session, mine = self._session(), parameters.of_run(self.settings) | known
        there = session.get("of") and parameters.of_run(session["of"])  # it may be from before a parameter was there
        if there != mine:
            if "diverged" not in session and (self._table("folds.csv").size or any(self.path.glob("resume/fold*.pt"))):
                _check_same(self.path, there, mine)
            _empty(self.path)
            session = {"of": mine, "started": provenance.now(), "sessions": 0}
        origins = session.get("origins", [])
        _check_format(self.path, self.recipe, [*origins, self.origin])
        if self.origin not in origins:
            session["origins"] = [*origins, self.origin]
        if "diverged" in session:
            raise StudyError(
                f"{self.path}: {session['diverged']}. Started again with the same settings it would end so again; "
                "to try it all the same, delete the run: chromolib.trainer.delete"
            )
        self._remember(session, sessions=session["sessions"] + 1)

    def _session(self):
        """What resume/session.json holds: of which run it is, when that began, how often it was started; {} if none."""
        file = self.path / "resume" / "session.json"
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise StudyError(f"{file}: damaged ({error}); delete {file.parent} to start the run again") from error

    def _remember(self, session, **changes):
        files.write(self.path / "resume" / "session.json", json.dumps(session | changes, sort_keys=True))

    def _parent_record(self):
        """The parent run and the digest of its run.json, as dict, or None."""
        parent = self.parent
        return parent and {"run": "/".join(parent.parts[-4:]), "sha256": files.sha256(parent / "run.json")}

    def indices(self, fold):
        """Index arrays (train, monitor, validation) of a fold; the monitor may choose the epoch."""
        train, validation = self.splits[fold]
        if self.settings["train_cells"]:
            train = _of_cells(train, self.data.cells, self.settings["train_cells"], (self.settings["draw"], fold))
        if self.settings["select_on"] != "inner":
            return train, validation, validation
        how = (self.settings[name] for name in ("folds_by", "split_seed", "inner_parts"))
        return *folds.inner(self.data.labels, train, self.groups, *how), validation

    def create(self, fold):
        """The network with the first weights of the approach, on the device."""
        layout = architectures.memory_format(self.settings["architecture"], self.device)
        with device.memory_explained():
            return device.prepare(self._network(fold), self.device, layout)

    def _network(self, fold):
        training.seed_everything(self.settings["seed"], fold, 0)
        start = {"random": None, "imagenet": "imagenet"}.get(self.settings["start"])
        if self.parent:
            start = runs.weights(self.parent, fold)
        name, size = self.settings["architecture"], self.settings["image_size"]
        model = architectures.create(name, start, image_size=size)
        if self.parent and not self.settings["keep_head"]:
            model.reset_classifier(len(CLASSES))
        return model

    @device.memory_explained()
    def train(self, fold, report=None):
        """Train a fold and write what it gave, weights first; a fold that is already there is left as it is.

        `report` is called with the row (dict) of each epoch. Returns the fold's row of folds.csv as
        dict.
        """
        if fold not in self.settings["folds"]:
            raise StudyError(f"{self.path}: fold {fold} is not among the parameter `folds`, {self.settings['folds']}")
        done = self._table("folds.csv")
        if len(done) and fold in set(done["fold"]):
            return done[done["fold"] == fold].iloc[0].to_dict()
        train, monitor, validation = self.indices(fold)
        state = self.path / "resume" / f"fold{fold}.pt"
        model = self._model_with(self.create(fold))
        fit = self._fit(model, training.Examples(self.images, self.labels, train, monitor), fold, state, report)
        trained = time.perf_counter()
        last = self._predict(model, validation)
        model.load_state_dict(fit.best)
        best = self._predict(model, validation)
        history = pd.DataFrame(fit.history)
        row = _fold_row(fold, train, self.data.labels[validation], best, last, fit, history)
        row["seconds"] = round(history["seconds"].sum() + time.perf_counter() - trained, 2)  # of all sessions
        tables = {"history.csv": history.drop(columns="images_per_second")}
        tables["predictions.parquet"] = self._prediction_rows(fold, validation, best, last)
        if self.settings["select_on"] == "inner":  # where calibration and the like may be chosen
            tables[runs.MONITOR] = self._prediction_rows(fold, monitor, self._predict(model, monitor))
        self._write(fold, model, tables | {"folds.csv": pd.DataFrame([row])})
        training.forget(state)
        return row

    def _model_with(self, fresh):
        """The network of the first fold, with the weights of `fresh`: a compiled network is compiled once."""
        if self.model is None:
            self.model = fresh
            if self.recipe.compiled:
                device.compile_once(fresh, self.device)
        else:
            self.model.load_state_dict(fresh.state_dict())
        return self.model

    def _fit(self, model, examples, fold, state, report):
        """Train, and leave a mark where the loss is no longer a number: the same run would end so each time."""
        name = self.settings["architecture"]
        try:
            return training.fit(model, name, examples, self.recipe, fold, state, report)
        except training.Diverged as error:
            self._remember(self._session(), diverged=str(error))
            raise

    def _predict(self, model, index):
        """Logits (n, 24) float16: half the space; what is reported comes from what is kept."""
        images = self.images[torch.as_tensor(index, device=self.device)]
        logits = training.predict(model, self.settings["architecture"], images, self.recipe.precision)
        return logits.clamp(-6e4, 6e4).cpu().numpy().astype(np.float16)  # what is larger would become infinite

    def _prediction_rows(self, fold, index, best, last=None):
        """A row an image: what it is, the logits (n, 24) of the best epoch, and where given of the last one."""
        known = {"cell": self.data.cells, "patient": self.data.patients}
        names = {name: None if values is None else values[index] for name, values in known.items()}
        rows = pd.DataFrame({"file": self.data.files[index], **names, "fold": fold, "label": self.data.labels[index]})
        parts = [rows, pd.DataFrame(best, columns=metrics.LOGITS)]
        if last is not None:
            parts.append(pd.DataFrame(last, columns=metrics.LAST_LOGITS))
        return pd.concat(parts, axis=1)

    def _table(self, name):
        """What earlier folds of this run left in a table; an empty DataFrame at first."""
        file = self.path / name
        if not file.exists():
            return pd.DataFrame()
        return pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)

    def _write(self, fold, model, tables):
        """Weights, then each table's rows of the fold; the last one, in folds.csv, says that the fold is done."""
        about = runs.identity(*self.path.parts[-4:], fold, self.data.digest)
        metadata = {"run": json.dumps(about)}  # one entry: safetensors writes several in random order
        with files.replacing(self.path / f"fold{fold}.safetensors") as temporary:
            state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
            safetensors.torch.save_file(state, temporary, metadata=metadata)
        for name, new in tables.items():
            old = self._table(name)
            old = old[old["fold"] != fold] if len(old) else old  # a fold half written before an interruption
            table = pd.concat([old, new], ignore_index=True) if len(old) else new
            with files.replacing(self.path / name) as temporary:
                table.to_parquet(temporary) if temporary.suffix == ".parquet" else table.to_csv(temporary, index=False)

    def finish(self):
        """Write run.json, which makes the run complete, and drop the resume state; its content (dict).

        StudyError if a fold is missing. A finished run stays as it is.
        """
        if self.record:
            return self.record
        done = set(self._table("folds.csv").get("fold", ()))
        missing = [fold for fold in self.settings["folds"] if fold not in done]
        if missing:
            raise StudyError(f"{self.path}: folds {missing} are not trained; call train for each before finish")
        results, session = sorted(file for file in self.path.iterdir() if file.suffix in runs.RESULTS), self._session()
        record = {
            "parameters": self.settings,
            **self.origin,
            "earlier": [origin for origin in session["origins"] if origin != self.origin],  # code, machine of sessions
            "data": {key: getattr(self.data, key) for key in ("name", "digest", "report")} | {"n": len(self.labels)},
            "parent": session["of"]["parent"],
            "started": session["started"],
            "finished": provenance.now(),
            "sessions": session["sessions"],  # more than one: it was interrupted
            "seconds": round(float(self._table("folds.csv")["seconds"].sum()), 1),  # of training, all sessions
            "files": {file.name: files.sha256(file) for file in results},
        }
        files.write(self.path / "run.json", json.dumps(record, indent=1))
        shutil.rmtree(self.path / "resume", ignore_errors=True)
        _locks.pop(self.path).release()
        self.record = runs.record(self.path)
        return self.record


def delete(path):
    """Delete a run, finished or not, by its folder; StudyError where there is none, or another process works on it."""
    path = Path(path)
    if not any((path / name).exists() for name in ("run.json", "resume", "folds.csv")):
        raise StudyError(f"{path}: no run here, so nothing is deleted; name the folder of one")
    _lock(path)
    _empty(path)
    _locks.pop(path).release()


def _empty(path):
    """Take all results from a folder; first what says that the run is done, and its folds: it may be cut short."""
    results = (file for file in path.iterdir() if file.suffix in runs.RESULTS)
    for file in [path / "run.json", path / "folds.csv", *results]:
        file.unlink(missing_ok=True)
    if (path / "resume").exists():  # whose states must not be gone on with
        shutil.rmtree(path / "resume")


def _folder(settings, root):
    return runs.folder(*(settings[name] for name in ("profile", "task", "architecture", "approach")), root)


def _finished(path, settings):
    """The content of run.json where the run is finished, else None; StudyError where it is a run of other settings."""
    if not (path / "run.json").exists():
        return None
    record = runs.record(path)
    _check_same(path, parameters.of_run(record["parameters"]), parameters.of_run(settings))
    flaw = runs.parent_flaw(path, record)
    if flaw:
        raise StudyError(f"{path}: {flaw}: delete it first (chromolib.trainer.delete)")
    return record


def _check_same(path, there, mine):
    """StudyError where a run in the folder has other values than `mine` (dict), naming those that differ."""
    there = there or dict.fromkeys(mine, "unknown")
    other = [f"{name} {there.get(name)!r}, not {value!r}" for name, value in mine.items() if there.get(name) != value]
    if other:
        raise StudyError(
            f"{path}: holds a run with {'; '.join(other)}. Set `profile` to a name of its own for these settings, or "
            "delete what is there: chromolib.trainer.delete, given the folder"
        )


def _check_format(path, recipe, origins):
    """StudyError where one network would be trained in two number formats, on two machines."""
    first, *others = (origin["hardware"] for origin in origins)
    if recipe.precision == "auto" and any(other["bfloat16"] != first["bfloat16"] for other in others):
        begun = f"in {'bf16' if first['bfloat16'] else 'fp32'} on {first['device']}, {first['processor']}"
        raise StudyError(
            f"{path}: was begun {begun}; this machine would take the other format. Go on on one like it, or delete "
            "the run: chromolib.trainer.delete, given the folder"
        )


def _check(settings):
    """Refuse values that no run can have; the types were checked by `chromolib.parameters`."""
    choices = {
        "task": parameters.tasks(settings),
        "architecture": tuple(architectures.TABLE),
        "start": ("random", "imagenet", "parent"),
        "folds_by": folds.BY,
        "presentation": datasets.PRESENTATIONS,
        "select_on": ("validation", "inner", "last"),
        "taught_labels": ("true", "shuffled"),
        settings["task"]: datasets.names(),
    }
    for name, allowed in choices.items():
        if settings.get(name) not in allowed:
            raise StudyError(f"parameter {name!r}: {settings.get(name)!r} is not one of {', '.join(allowed)}")
    for name in ("profile", "approach"):
        if not _NAME.fullmatch(settings[name]):
            raise StudyError(f"parameter {name!r}: {settings[name]!r} names no folder; take letters, digits, - and _")
    for name, least in {"inner_parts": 2, "split_seed": 0, "train_cells": 0, "draw": 0, "seed": 0}.items():
        if not least <= settings[name] < 2**32:  # what all generators of random numbers take
            raise StudyError(f"parameter {name!r}: {settings[name]} must be a number from {least} to {2**32 - 1:,}")
    if (settings["start"] == "parent") != bool(settings["parent"]):
        raise StudyError("parameter 'parent': names an approach if start is 'parent', and is '' otherwise")
    wrong = [fold for fold in settings["folds"] if not 0 <= fold < settings["n_folds"]]
    if wrong:
        raise StudyError(f"parameter 'folds': {wrong} are not among the folds 0 to {settings['n_folds'] - 1}")


def _taught(labels, settings):
    """The labels (n,) that training sees: the true ones, or, as a control, the same ones dealt out at random."""
    if settings["taught_labels"] == "true":
        return np.array(labels)
    return np.random.default_rng([settings["seed"], settings["split_seed"]]).permutation(labels)


def _of_cells(train, cells, number, seed):
    """The images of `number` cells of the training part (indices), drawn; StudyError where there are not so many."""
    if cells is None:
        raise StudyError("parameter 'train_cells': the cells of this data set are unknown; set it to 0 for all images")
    present = np.unique(cells[train])
    if number > len(present):
        raise StudyError(f"parameter 'train_cells': {number}, but the training part has {len(present)} cells")
    drawn = np.random.default_rng(seed).permutation(present)[:number]  # those of a smaller number are among a larger's
    return train[np.isin(cells[train], drawn)]


def _with_copies_reported(data, splits):
    """The data set, with words in its report on images that are in both parts of a fold."""
    copies = {held: train for _, train, held in folds.duplicates_across(splits, data.images)}
    if not copies:
        return data
    held, train = next(iter(copies.items()))
    words = f"{len(copies):,} images have an exact copy in the training part of their fold"
    return dataclasses.replace(
        data, report=(*data.report, f"{words} (such as {data.files[held]}: {data.files[train]})")
    )


def _parent(settings, data, root):
    """The folder of the run whose weights this run begins from, or None; StudyError where it is missing or unfit."""
    if settings["start"] != "parent":
        return None
    profile, task, approach = parameters.parent(settings)
    path = runs.folder(profile, task, settings["architecture"], approach, root)
    about = runs.record(path)
    _check_leak(path, about, settings, data)
    for name, kind in (("image_size", int), ("presentation", datasets.layout)):
        if kind(about["parameters"][name]) != kind(settings[name]):
            raise StudyError(f"{path}: was trained with another {name}; give the variation a profile of its own")
    for fold in settings["folds"]:
        runs.weights(path, fold)
    return path


def _check_leak(path, about, settings, data):
    """The parent's images must be those that the settings name, and none of them the target's."""
    name = settings[parameters.parent(settings)[1]]
    own = about["parameters"]
    images = datasets.load(name, size=own["image_size"], presentation=own.get("presentation", "square"))
    if data.digest in (about["data"]["digest"], images.digest):
        raise StudyError(f"{path}: was trained on {data.name}, the images of the target itself; name another data set")
    if images.digest != about["data"]["digest"]:
        raise StudyError(f"{path}: was trained on {about['data']['name']}, not on {name} as it is now; train it again")
    both = duplicates.shared(data.images, images.images) if images.images.shape[1:] == data.images.shape[1:] else []
    if both:
        raise StudyError(f"{path}: was trained on {len(both):,} images of the target itself; name another data set")


def _check_space(path, network, n_folds):
    """Refuse to begin where the disk cannot hold the run. (Shared memory is not used: no worker process loads data.)"""
    own = sum(value.nbytes for value in network.state_dict().values())
    state = 4 * own  # the network, the best one so far, Adam's two moments
    written = sum(file.stat().st_size for file in path.rglob("*") if file.suffix in (".safetensors", ".pt"))
    needed = n_folds * own + 2 * state + MARGIN - written  # a new state is whole before the old one goes
    free = shutil.disk_usage(path).free
    if needed > free:
        raise StudyError(
            f"{path}: the run writes up to {needed / 2**30:.2f} GiB, but only {free / 2**30:.2f} GiB are free on this "
            "disk; make room, or set CHROMOLIB_RUNS to a folder on another"
        )


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
        "compiled": fit.compiled,  # False also where it was wanted and failed
    }


def _lock(path):
    """Hold the run folder until the run is finished or this process ends; StudyError where another one holds it."""
    if path in _locks:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = files.lock(path / ".lock", wait=LEASE if "SLURM_JOB_ID" in os.environ else 0)
    except OSError as error:
        raise StudyError(f"{path}: cannot be written ({error}); set CHROMOLIB_RUNS to a folder that can") from error
    if lock is None:
        raise StudyError(f"{path}: another process is working on this run; wait for it, or stop it")
    _locks[path] = lock
