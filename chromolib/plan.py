"""What a study will cost, before it is run: hours and disk, from images per second.

python -m chromolib.plan paper                    measures every network of the profile on this machine first
python -m chromolib.plan paper --device "..."     takes the speeds that the committed table has for that device
"""

import argparse
import itertools
import sys
import time

import pandas as pd
import torch

from chromolib import architectures, datasets, device, files, parameters, paths, provenance, training
from chromolib.errors import StudyError

SPEEDS = paths.ROOT / "runs" / "reference" / "benchmarks" / "throughput.csv"
_LEAST_SECONDS = 3.0  # of work that is measured
_CPU_BATCH = 4  # images a step: at 256 px a CPU's speed hardly depends on it
_ROW_BYTES = 200  # of predictions.parquet, about: 24 logits, file, cell, label
_KEY = ["device", "architecture", "image_size"]


def study(profile, architecture):
    """All parameters of the profile's runs of an architecture, but for task and approach: dict of name to value."""
    return parameters.known() | parameters.load(
        *parameters.profile_files(profile), parameters.path("architecture", architecture)
    )


def measure(settings):
    """Speed of one worker on this machine: dict, a row of the table of speeds.

    train, predict: images per second of the training loop and of validation, at the settings' architecture and
    image_size (batches of batch_size, on a CPU of four), with random weights and noise for images, which cost what
    real ones do. One worker: a GPU, or one thread of a CPU.
    """
    place, name, size = device.choose(), settings["architecture"], settings["image_size"]
    batch = settings["batch_size"] if place.type == "cuda" else _CPU_BATCH
    recipe = training.Recipe.of(settings)
    model = device.prepare(architectures.create(name, image_size=size), place)
    if recipe.compiled:
        device.compile_once(model, place)
    images = torch.randint(256, (batch, size, size), dtype=torch.uint8, device=place)
    labels, optimiser = torch.arange(batch, device=place) % 24, training.make_optimiser(model, recipe, 1)

    def train():
        model.train()
        pixels = architectures.normalise(training.augment(images, recipe.blur_sigma), name)
        training.train_step(model, optimiser, pixels, labels, recipe.precision)

    hardware = provenance.hardware()
    return {
        "device": _name(hardware),
        "architecture": name,
        "image_size": size,
        "batch_size": batch,
        "threads": torch.get_num_threads(),
        "bfloat16": hardware["bfloat16"] and recipe.precision == "auto",
        "compiled": recipe.compiled and place.type == "cuda",
        "train": _per_second(train, batch, place),
        "predict": _per_second(lambda: training.predict(model, name, images, recipe.precision), batch, place),
        "torch": torch.__version__,
        "measured": provenance.now(),
    }


def costs(profile, speeds):
    """What each architecture of the profile will cost: DataFrame, a row each.

    speeds: DataFrame with architecture, image_size, train and predict (images per second of one worker). Columns:
    trainings (folds of all runs), train_images (millions that pass through training), hours (of one worker), disk_gb
    (what stays), state_gb (what a run keeps beside it while it goes on). Raises StudyError for a missing speed.
    """
    return pd.DataFrame([_cost(study(profile, name), speeds) for name in _architectures(profile)])


def _architectures(profile):
    return (parameters.known() | parameters.load(*parameters.profile_files(profile)))["architectures"]


def _cost(settings, speeds):
    name, size, epochs = (
        settings["architecture"],
        settings["image_size"],
        settings["adam_epochs"] + settings["sgd_epochs"],
    )
    found = speeds[(speeds["architecture"] == name) & (speeds["image_size"] == size)]
    if found.empty:
        raise StudyError(f"{name} at {size} px: no speed measured; run the plan without --device on that machine first")
    train_speed, predict_speed = found.iloc[-1][["train", "predict"]]
    grid = itertools.product(settings["tasks"], settings["approaches"], settings["folds"])
    parts = [_parts(_images(settings[task]), settings) for task, _, _ in grid]
    trained = sum(train for train, _, _ in parts) * epochs
    predicted = sum(monitor * epochs + 2 * validation for _, monitor, validation in parts)
    weights = 4 * architectures.describe(name, size)["parameters"]  # bytes
    return {
        "architecture": name,
        "trainings": len(parts),
        "train_images": trained / 1e6,
        "hours": (trained / train_speed + predicted / predict_speed) / 3600,
        "disk_gb": (weights * len(parts) + _ROW_BYTES * sum(validation for *_, validation in parts)) / 1e9,
        "state_gb": 4 * weights / 1e9,  # the network, its best epoch, and Adam's two moments
    }


def _parts(n, settings):
    """Images that train, that choose the epoch, and that are validated, of a set of n; as `trainer.Run.indices`."""
    validation = n / settings["n_folds"]
    if settings["select_on"] == "validation":
        return n - validation, validation, validation
    return (n - validation) * 4 / 5, (n - validation) / 5, validation


def _images(name):
    """How many images a data set has, by its row where it has one, without loading it."""
    known = {source.name: source.n_images for source in datasets.SOURCES}
    return known.get(name) or len(datasets.load(name, size=32).labels)


def _per_second(work, images, place):
    work()  # the first time is slower: memory is taken, kernels are chosen or compiled
    work()
    done, begin = 0, time.perf_counter()
    while (seconds := time.perf_counter() - begin) < _LEAST_SECONDS or done == 0:
        work()
        if place.type == "cuda":
            torch.cuda.synchronize()
        done += images
    return round(done / seconds, 3)


def _name(hardware):
    return hardware["processor"] if hardware["device"] == "cpu" else hardware["device"]


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
    for name in _architectures(profile):
        rows.append(measure(study(profile, name)))
        print(
            "{architecture:18} {train:9.2f} trained, {predict:9.2f} predicted images/s".format(**rows[-1]), flush=True
        )
    if keep:
        table = pd.concat([pd.read_csv(SPEEDS), pd.DataFrame(rows)]) if SPEEDS.exists() else pd.DataFrame(rows)
        with files.replacing(SPEEDS) as temporary:
            table.drop_duplicates(_KEY, keep="last").sort_values(_KEY).to_csv(temporary, index=False)
    return pd.DataFrame(rows)


def main(arguments=None):
    """Print the plan of a profile: a row per architecture, the sums, and what they rest on."""
    parser = argparse.ArgumentParser(prog="python -m chromolib.plan", description=__doc__.splitlines()[0])
    parser.add_argument("profile", help="a name in parameters/profile")
    parser.add_argument("--device", help="take the speeds of this device from the committed table")
    parser.add_argument("--keep", action="store_true", help="put what is measured now into that table")
    given = parser.parse_args(arguments)
    try:
        if not given.device:
            torch.set_num_threads(1)  # the graph gives each run one core
        speeds = _kept(given.device) if given.device else _measured(given.profile, given.keep)
        table = costs(given.profile, speeds)
    except StudyError as error:
        sys.exit(f"plan: {error}")
    print(table.to_string(index=False, float_format="{:.2f}".format))
    workers = 1 if torch.cuda.is_available() or given.device else provenance.cores()
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
