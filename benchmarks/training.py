"""Images a second of training: `training.fit` against the plain loop and against timm's loader and optimiser.

All have the same images, batch size (the architecture's own in parameters/), Adam, number of torch threads, and a
process of their own; the peers have two loader processes besides. Their files are squares of the size needed. First
weights are random, which changes nothing about speed.
"""

import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import common
import numpy as np
import plain
import timm.optim
import torch

from chromolib import architectures, device, parameters, training

TARGETS = {"mobilenetv3_large": 1.8, "resnet34": 1.9, "efficientnet_lite0": 1.4}  # at 128 px, on two cores
IMAGES = {128: 192, 256: 64}  # of one turn, by their size
RECIPE = replace(plain.RECIPE, adam_epochs=1, sgd_epochs=0)
ADAM = {"lr": RECIPE.adam_learning_rate, "weight_decay": RECIPE.weight_decay}


def create(name, size):
    torch.manual_seed(0)
    return architectures.create(name, image_size=size).to(device.choose())


def ours(name, data, n, recipe=RECIPE):
    """A function that trains for an epoch of n images and returns its images a second, validation left out."""
    place = device.choose()
    model = device.prepare(create(name, data.images.shape[1]), place)
    images, labels = (torch.from_numpy(np.array(part[:n])).to(place) for part in (data.images, data.labels))
    seen = np.arange(n)
    return lambda: training.fit(model, name, images, labels, seen, seen[:2], recipe).history[0]["images_per_second"]


def peer(loader, optimiser, folder, name, size, batch_size):
    """The same by the plain loop, over the batches of a loader."""
    model, batches = create(name, size), loader(folder, name, size, batch_size)
    epoch = common.seconds(plain.train_epoch, model, batches, optimiser(model))
    return lambda: len(batches.dataset) / epoch()


def adam(model):
    return torch.optim.Adam(model.parameters(), **ADAM)


def timms_adam(model):
    return timm.optim.create_optimizer_v2(model, "adam", **ADAM)


@contextmanager
def contestants(name, data, n, batch_size):
    """The three functions that train: ours, the plain loop, timm; each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        plain.write_images(Path(folder), data.images[:n], data.labels[:n])
        files = (folder, name, data.images.shape[1], batch_size)
        sides = (
            (ours, name, data, n, replace(RECIPE, batch_size=batch_size)),
            (peer, plain.loader, adam, *files),
            (peer, plain.timm_loader, timms_adam, *files),
        )
        yield [stack.enter_context(common.in_process(*side)) for side in sides]


def speed(name, data, n, turns):
    """Rows of one architecture at one image size."""
    size, settings = data.images.shape[1], parameters.load(parameters.path("architecture", name))
    batch = settings.get("batch_size", RECIPE.batch_size)
    with contestants(name, data, n, batch) as functions:
        own, tutorial, timms = common.in_turn(turns, *functions)
    what, facts = f"{architectures.row(name).title}, {size} px", {"data": data.name, "images": n, "batch": batch}
    yield common.row(what, "images/s", own, tutorial, "plain loop", TARGETS[name] if size == 128 else None, **facts)
    yield common.row(what, "images/s", own, timms, "timm", **facts)


def by_batch(name, data, n, turns, sizes):
    for size in sizes:
        with contestants(name, data, n, size) as functions:
            own, tutorial = common.in_turn(turns, *functions[:2])
        yield common.row("speed", "images/s", own, tutorial, "plain loop", size=size, of="images in a batch")


def by_number(what, of, turns, numbers, work):
    """Rows of the seconds that `work` takes for each number."""
    for number in numbers:
        (own,) = common.in_turn(turns, common.seconds(work, number))
        yield common.row(what, "s", own, None, "", size=number, of=of)


def main(words=None):
    options = common.arguments(words)
    quick, turns = options.quick, options.turns
    sizes, names = ({32: 32}, ["mobilenetv3_large"]) if quick else (IMAGES, TARGETS)
    pairs = [(common.chromosomes("bioimlab", size), n) for size, n in sizes.items()]
    rows = [row for data, n in pairs for name in names for row in speed(name, data, n, turns)]
    common.publish("training", rows, options.output, common.ratios)

    name, (data, n) = "mobilenetv3_large", pairs[0]
    batches = [4, 8] if quick else [8, 16, 32, 64]
    numbers = [16, 32] if quick else [64, 128, 256, 512]
    folds = [1, 2] if quick else [1, 2, 4]
    rows = [
        *by_batch(name, data, n, turns, batches),
        *by_number("an epoch", "images", turns, numbers, lambda number: ours(name, data, number)()),
        *by_number("a run", "folds", turns, folds, lambda number: [ours(name, data, n)() for _ in range(number)]),
    ]
    facts = {"data": data.name, "architecture": name, "image_size": data.images.shape[1]}
    common.publish("training_growth", [row | facts for row in rows], options.output, common.growth)


if __name__ == "__main__":
    main(sys.argv[1:])
