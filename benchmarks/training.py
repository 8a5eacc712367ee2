"""Images a second of training: `training.fit` against the plain loop, the tuned loop, and the limit of the machine.

All have the same images, batch size (the architecture's own in parameters/), Adam, and number of torch threads; the
loops have a process of their own, and two loader processes besides. Their files are squares of the size needed. The
tuned loop is the strongest peer that is simple: the tutorial's with three lines more (`plain.train_epoch`). The limit
is the bare step, forward, backward and update of the same network in the best layout and format, on random images that
already lie in memory: a ratio to it is the share of the limit that `fit` reaches. First weights are random, which
changes nothing about speed.
"""

import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import common
import numpy as np
import plain
import torch

from chromolib import architectures, device, parameters, training

TARGETS = {"mobilenetv3_large": 1.8, "resnet34": 1.9, "efficientnet_lite0": 1.4}  # to the plain loop at 128 px, 2 cores
IMAGES = {96: 192, 128: 128, 256: 64}  # of one turn, by their size: ten minutes in all on two cores
RECIPE = replace(plain.RECIPE, adam_epochs=1, sgd_epochs=0)
ADAM = {"lr": RECIPE.adam_learning_rate, "weight_decay": RECIPE.weight_decay}


def create(name, size):
    torch.manual_seed(0)
    return architectures.create(name, image_size=size)


def ours(name, data, n, recipe=RECIPE):
    """A function that trains for an epoch of n images, and returns its images a second, validation left out."""
    place = device.choose()
    model = device.prepare(create(name, data.images.shape[1]), place, architectures.memory_format(name, place))
    images, labels = (torch.from_numpy(np.array(part[:n])).to(place) for part in (data.images, data.labels))
    examples = training.Examples(images, labels, np.arange(n), np.arange(2))
    return lambda: training.fit(model, name, examples, recipe).history[0]["images_per_second"]


def bare(name, size, batch_size, n):
    """A function that makes the steps of n images over one batch of noise, and returns its images a second."""
    place, steps = device.choose(), max(1, n // batch_size)
    model = device.prepare(create(name, size), place, architectures.memory_format(name, place)).train()
    noise = torch.randint(256, (batch_size, size, size), dtype=torch.uint8, device=place)
    batch, labels = architectures.normalise(noise, name), torch.arange(batch_size, device=place) % 24
    optimiser = training.make_optimiser(model, RECIPE, 1)

    def work():
        for _ in range(steps):
            loss = training.train_step(model, optimiser, batch, labels)
        loss.item()  # waits until a GPU has done it

    timed = common.seconds(work)
    return lambda: steps * batch_size / timed()


def fit_and_limit(name, data, n, batch_size):
    """A function that measures both in turn, in one process: the limit has what our engine asks of its process."""
    sides = ours(name, data, n, replace(RECIPE, batch_size=batch_size)), bare(name, data.images.shape[1], batch_size, n)
    return lambda: tuple(side() for side in sides)


def peer(folder, name, size, batch_size, tuned):
    """A function that trains for an epoch by the plain or the tuned loop, and returns its images a second."""
    plain.restore_defaults()
    model, batches = create(name, size).to(device.choose()), plain.loader(folder, name, size, batch_size)
    if tuned:
        model = model.to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters(), **ADAM, fused=tuned or None)
    epoch = common.seconds(lambda: plain.train_epoch(model, batches, optimiser, tuned=tuned))
    return lambda: len(batches.dataset) / epoch()


@contextmanager
def contestants(name, data, n, batch_size):
    """The functions that train: ours with the limit, the plain loop, the tuned loop; each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        plain.write_images(Path(folder), data.images[:n], data.labels[:n])
        files = (folder, name, data.images.shape[1], batch_size)
        sides = ((fit_and_limit, name, data, n, batch_size), (peer, *files, False), (peer, *files, True))
        yield [stack.enter_context(common.in_process(*side)) for side in sides]


def speed(name, data, n, turns):
    """Rows of one architecture at one image size."""
    size, settings = data.images.shape[1], parameters.load(parameters.path("architecture", name))
    batch = settings.get("batch_size", RECIPE.batch_size)
    with contestants(name, data, n, batch) as functions:
        pairs, tutorial, tuned = common.in_turn(turns, *functions)
    own, limit = zip(*pairs, strict=True)
    what, facts = f"{architectures.row(name).title}, {size} px", {"data": data.name, "images": n, "batch": batch}
    target = TARGETS[name] if size == 128 else None
    for other, against, wanted in (
        (tutorial, "plain loop", target),
        (tuned, "tuned loop", None),
        (limit, "bare step", None),
    ):
        yield common.row(what, "images/s", own, other, against, wanted, **facts)


def main(words=None):
    options = common.arguments(words)
    sizes, names = ({32: 32}, ["mobilenetv3_large"]) if options.quick else (IMAGES, TARGETS)
    pairs = [(common.chromosomes("synthetic_q" if options.quick else "bioimlab", size), n) for size, n in sizes.items()]
    rows = [row for data, n in pairs for name in names for row in speed(name, data, n, options.turns)]
    common.publish("training", rows, options.output, common.ratios)


if __name__ == "__main__":
    main(sys.argv[1:])
