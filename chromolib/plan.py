"""What a study will cost, before it is run: hours and disk, from images per second.

python -m chromolib.plan paper                    measures every network of the profile on this machine first
python -m chromolib.plan paper --device "..."     takes the speeds that the committed table has for that device
"""

import argparse
import itertools
import math
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import torch

from chromolib import architectures, datasets, device, files, parameters, paths, provenance, slots, training
from chromolib.errors import StudyError, ends_command

SPEEDS = paths.ROOT / "runs" / "reference" / "benchmarks" / "throughput.csv"
_LEAST_SECONDS = 3.0  # of work that is measured
_CPU_BATCH = 4  # images a step: at 256 px a CPU's speed hardly depends on it
_ROW_BYTES = 200  # of predictions.parquet, about: 24 logits, file, cell, label
_KEY = ["device", "architecture", "image_size", "batch_size", "threads", "bfloat16", "layout", "compiled", "torch"]
_FIRST_STEPS = 4  # a compiled network is at speed after three: it is compiled, recorded, replayed
_MINUTE = 60  # seconds: a run's state is saved as seldom as that


def study(profile, architecture):
    """All parameters of the profile's runs of an architecture, but for task and approach: dict of name to value."""
    return parameters.of_profile(profile, parameters.path("architecture", architecture))


@device.memory_explained()
def measure(settings):
    """Speed of one worker on this machine: dict, a row of the table of speeds.

    train, predict: images per second of `training.fit` and of validation, at the settings' architecture and
    image_size (batches of batch_size, on a CPU of four), with random weights and noise for images, which cost what
    real ones do. starting, saving: seconds until a run is at speed, compilation included, and for one state on disk.
    One worker: a GPU, or one thread of a CPU.
    """
    place, name, size = device.choose(), settings["architecture"], settings["image_size"]
    batch = settings["batch_size"] if place.type == "cuda" else _CPU_BATCH
    recipe = replace(training.Recipe.of(settings | {"stages": 1}), batch_size=batch, adam_epochs=1, sgd_epochs=0)
    layout = architectures.memory_format(name, place)
    model = device.prepare(architectures.create(name, image_size=size), place, layout)
    images = torch.randint(256, (batch, size, size), dtype=torch.uint8, device=place)
    labels, every = torch.arange(batch, device=place) % 24, np.arange(batch)
    examples = training.Examples(images, labels, every, every[:1])
    if recipe.compiled:
        device.compile_once(model, place)

    def fit(steps):
        """The training itself for so many steps, and the seconds that they took."""
        found = training.fit(model, name, examples, replace(recipe, steps_per_epoch=steps))
        return found, steps * batch / found.history[0]["images_per_second"]

    _, first = fit(_FIRST_STEPS)
    _, again = fit(_FIRST_STEPS)
    found, _ = fit(math.ceil(_LEAST_SECONDS / again * _FIRST_STEPS) + 1)
    hardware = provenance.hardware()
    return {
        "device": hardware["processor"] if hardware["device"] == "cpu" else hardware["device"],
        "architecture": name,
        "image_size": size,
        "batch_size": batch,
        "threads": torch.get_num_threads(),
        "bfloat16": hardware["bfloat16"] and recipe.precision == "auto",
        "layout": str(layout).removeprefix("torch."),
        "compiled": found.compiled,
        "parts": found.parts,
        "train": round(found.history[0]["images_per_second"], 3),
        "predict": _per_second(lambda: training.predict(model, name, images, recipe.precision).cpu(), batch),
        "starting": round(max(0, first - again), 3),
        "saving": _saving(model),
        "torch": torch.__version__,
        "measured": provenance.now(),
    }


def _saving(model):
    """Seconds that a training's state takes until it is on the disk of the runs: four times the network."""
    file, started = paths.runs() / "plan.pt", time.perf_counter()
    with files.replacing(file) as temporary:
        torch.save(model.state_dict(), temporary)
    file.unlink(missing_ok=True)  # two may measure at once
    return round(4 * (time.perf_counter() - started), 3)


def costs(profile, speeds):
    """What each architecture of the profile will cost: DataFrame, a row each.

    speeds: DataFrame with architecture, image_size, train and predict (images per second of one worker), and where
    known starting and saving (seconds, as `measure` tells). Of several rows the one with the profile's batch and
    compilation counts, the last of them. Columns: trainings (folds of all runs), train_images (millions that pass
    through training), hours (of one worker), disk_gb (what stays), state_gb (what a run keeps beside it while it goes
    on). Raises StudyError for a missing speed.
    """
    return pd.DataFrame(
        [_cost(study(profile, name), speeds) for name in parameters.of_profile(profile)["architectures"]]
    )


def _cost(settings, speeds):
    name, size = settings["architecture"], settings["image_size"]
    speed = _speed(settings, speeds)
    runs = list(itertools.product(settings["tasks"], settings["approaches"]))
    rows = [_training(task, approach, settings, speed) for task, approach in runs for _ in settings["folds"]]
    trained, seconds, validated = (sum(column) for column in zip(*rows, strict=True))
    weights = 4 * architectures.describe(name, size)["parameters"]  # bytes
    return {
        "architecture": name,
        "trainings": len(rows),
        "train_images": trained / 1e6,
        "hours": (seconds + len(runs) * speed["starting"]) / 3600,  # the folds of a run share what is compiled
        "disk_gb": (weights * len(rows) + _ROW_BYTES * validated) / 1e9,
        "state_gb": 4 * weights / 1e9,  # the network, its best epoch, and Adam's two moments
    }


def _speed(settings, speeds):
    """The row of the table that fits the settings best, as dict."""
    name, size = settings["architecture"], settings["image_size"]
    found = speeds[(speeds["architecture"] == name) & (speeds["image_size"] == size)]
    if found.empty:
        raise StudyError(f"{name} at {size} px: no speed measured; run the plan without --device on that machine first")
    rows = found.fillna(0).to_dict("records")
    best = max(reversed(rows), key=lambda row: sum(row.get(key) == settings[key] for key in ("batch_size", "compiled")))
    return {"starting": 0, "saving": 0} | best  # tables written before those were measured lack them


def _training(task, approach, settings, speed):
    """Of one fold: images that pass through training, seconds of one worker, images that are validated."""
    stages = parameters.approach(approach).get("stages", 1)
    epochs = stages * (settings["adam_epochs"] + settings["sgd_epochs"])
    train, monitor, validation = _parts(_images(settings[task]), settings)
    trained = epochs * (settings["steps_per_epoch"] * settings["batch_size"] or train)
    seconds = trained / speed["train"] + (monitor * epochs + 2 * validation) / speed["predict"]
    saves = min(epochs, seconds / _MINUTE) + 1  # the weights at the end are written too
    return trained, seconds + saves * speed["saving"], validation


def _parts(n, settings):
    """Images that train, that choose the epoch, and that are validated, of a set of n; as `trainer.Run.indices`."""
    validation = n / settings["n_folds"]
    if settings["select_on"] != "inner":
        return n - validation, validation, validation
    monitor = (n - validation) / settings["inner_parts"]
    return n - validation - monitor, monitor, validation


@cache
def _images(name):
    """How many images a data set has, by its row where it has one, without loading it."""
    known = {source.name: source.n_images for source in datasets.SOURCES}
    return known.get(name) or len(datasets.load(name, size=32).labels)


def _per_second(work, images):
    work()  # the first time is slower: memory is taken, kernels are chosen or compiled
    work()
    done, begin = 0, time.perf_counter()
    while (seconds := time.perf_counter() - begin) < _LEAST_SECONDS or done == 0:
        work()
        done += images
    return round(done / seconds, 3)


def _kept(place):
    """The rows of the committed table for a device; StudyError where there are none."""
    table = pd.read_csv(SPEEDS) if SPEEDS.exists() else pd.DataFrame(columns=_KEY)
    rows = table[table["device"] == place]
    if rows.empty:
        there = ", ".join(sorted(set(table["device"]))) or "nothing yet"
        raise StudyError(f"device {place!r}: not in {SPEEDS}, which has {there}")
    return rows


def _measured(profile, keep):
    """Speeds of all the profile's networks on this machine, a line printed for each; kept in the table if wanted."""
    rows = []
    for name in parameters.of_profile(profile)["architectures"]:
        rows.append(measure(study(profile, name)))
        line = "{architecture:18} {train:9.2f} trained, {predict:9.2f} predicted images/s"
        print(line.format(**rows[-1]), flush=True)
    if keep:
        table = pd.concat([pd.read_csv(SPEEDS), pd.DataFrame(rows)]) if SPEEDS.exists() else pd.DataFrame(rows)
        files.write(SPEEDS, table.drop_duplicates(_KEY, keep="last").sort_values(_KEY).to_csv(index=False))
    return pd.DataFrame(rows)


@ends_command("plan")
def main(arguments=None):
    """Print the plan of a profile: a row per architecture, the sums, and what they rest on."""
    parser = argparse.ArgumentParser(prog="python -m chromolib.plan", description=__doc__.splitlines()[0])
    parser.add_argument("profile", help="a name in parameters/profile")
    parser.add_argument("--device", help="take the speeds of this device from the committed table")
    parser.add_argument("--keep", action="store_true", help="put what is measured now into that table")
    given = parser.parse_args(arguments)
    if not given.device:
        torch.set_num_threads(1)  # the graph gives each run one core
    speeds = _kept(given.device) if given.device else _measured(given.profile, given.keep)
    table = costs(given.profile, speeds)
    print(table.to_string(index=False, float_format="{:.2f}".format))
    workers = 1 if given.device else len(slots.devices()) or provenance.cores()
    hours = table["hours"].sum()
    print(
        f"\nIn all {table['trainings'].sum()} trainings: {hours:.1f} hours of one worker (a GPU, or one core), "
        f"{hours / workers:.1f} hours with {workers} side by side; {table['disk_gb'].sum():.1f} GB stay on disk, "
        f"and {table['state_gb'].max():.1f} GB more for each run while it goes on.\n"
        f"Rests on {', '.join(sorted(set(speeds['device'])))}: {len(speeds)} speeds, torch "
        f"{', '.join(sorted(set(speeds['torch'])))}, measured {speeds['measured'].min()} to {speeds['measured'].max()}."
    )


if __name__ == "__main__":
    main()
