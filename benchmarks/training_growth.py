"""How training grows: images a second by the size of a batch, seconds by the number of images and of folds."""

import sys

import common
import training

NAME = "mobilenetv3_large"


def by_batch(data, n, turns, sizes):
    """Rows of the speed of ours, and of the tuned loop, for each size of a batch."""
    for size in sizes:
        with training.contestants(NAME, data, n, size) as functions:
            pairs, tuned = common.in_turn(turns, functions[0], functions[2])
        own = [pair[0] for pair in pairs]
        yield common.row("speed", "images/s", own, tuned, "tuned loop", size=size, of="images in a batch")


def by_number(what, of, turns, numbers, work):
    """Rows of the seconds that `work` takes for each number."""
    for number in numbers:
        (own,) = common.in_turn(turns, common.seconds(work, number))
        yield common.row(what, "s", own, None, "", size=number, of=of)


def main(words=None):
    options = common.arguments(words)
    quick, turns = options.quick, options.turns
    data = common.chromosomes("synthetic_q" if quick else "bioimlab", 32 if quick else 128)
    n = 32 if quick else 192
    batches = [4, 8] if quick else [8, 16, 32, 64]
    numbers = [16, 32] if quick else [64, 128, 256, 512]
    folds = [1, 2] if quick else [1, 2, 4]
    rows = [
        *by_batch(data, n, turns, batches),
        *by_number("an epoch", "images", turns, numbers, lambda number: training.ours(NAME, data, number)()),
        *by_number(
            "a run", "folds", turns, folds, lambda number: [training.ours(NAME, data, n)() for _ in range(number)]
        ),
    ]
    facts = {"data": data.name, "architecture": NAME, "image_size": data.images.shape[1]}
    common.publish("training_growth", [row | facts for row in rows], options.output, common.growth)


if __name__ == "__main__":
    main(sys.argv[1:])
