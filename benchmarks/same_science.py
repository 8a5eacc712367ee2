"""Whether fast training changes the result: Macro-F1 of `training.fit` and of the plain loop on the same folds.

Both train EfficientNet-Lite0 from the same first weights (ImageNet) by the same protocol: epochs, batch size, Adam
then SGD, each along its cosine, the epoch of the best validation accuracy. The plain loop computes in float32, with
order and augmentation of its own.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import common
import matplotlib.pyplot as plt
import numpy as np
import plain
import torch

from chromolib import architectures, device, figures, folds, metrics, training

NAME, RECIPE = "efficientnet_lite0", replace(plain.RECIPE, adam_epochs=6, sgd_epochs=2)


def create(size, fold):
    training.seed_everything(RECIPE.seed, fold)
    return architectures.create(NAME, "imagenet", image_size=size).to(device.choose())


def fast(data, train, validation, fold):
    """Macro-F1 of the best epoch."""
    place = device.choose()
    model = device.prepare(create(data.images.shape[1], fold), place)
    images, labels = (torch.from_numpy(np.array(part)).to(place) for part in (data.images, data.labels))
    examples = training.Examples(images, labels, train, validation)
    model.load_state_dict(training.fit(model, NAME, examples, RECIPE, fold).best)
    logits = training.predict(model, NAME, images[torch.from_numpy(validation).to(place)], RECIPE.precision)
    return metrics.scores(data.labels[validation], logits.cpu().numpy())["macro_f1"]


def tutorial(data, train, validation, fold):
    """The same by the plain loop."""
    size, scores = data.images.shape[1], []
    model = create(size, fold)
    with tempfile.TemporaryDirectory() as folder:
        parts = {"seen": train, "unseen": validation}
        for name, part in parts.items():
            plain.write_images(Path(folder, name), data.images[part], data.labels[part])
        batches = plain.loader(f"{folder}/seen", NAME, size, RECIPE.batch_size)
        unseen = plain.loader(f"{folder}/unseen", NAME, size, RECIPE.batch_size, augmented=False)
        for epochs, optimiser in phases(model):
            rate = optimiser.param_groups[0]["lr"]
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * len(batches), rate / 100)
            for _ in range(epochs):
                plain.train_epoch(model, batches, optimiser, schedule)
                scores.append(metrics.scores(*plain.evaluate(model, unseen)))
    return max(scores, key=lambda score: score["accuracy"])["macro_f1"]


def phases(model):
    weights, decay = list(model.parameters()), RECIPE.weight_decay
    yield RECIPE.adam_epochs, torch.optim.Adam(weights, RECIPE.adam_learning_rate, weight_decay=decay)
    yield RECIPE.sgd_epochs, torch.optim.SGD(weights, RECIPE.sgd_learning_rate, RECIPE.momentum, weight_decay=decay)


def compare(data, fold, part):
    """A row: seconds and scores of one fold on both sides."""
    scores = []
    own, other = (
        [common.seconds(lambda train=train: scores.append(train(data, *part, fold)))()] for train in (fast, tutorial)
    )
    return common.row(f"fold {fold}", "s", own, other, "plain loop", f1_ours=scores[0], f1_plain=scores[1])


def with_mean(rows):
    """The rows, and one with the mean scores and their SD over the folds."""
    own, other = (np.array([row[side] for row in rows]) for side in ("f1_ours", "f1_plain"))
    seconds = ([row[side] for row in rows] for side in ("ours", "other"))
    facts = {"f1_ours": own.mean(), "f1_plain": other.mean(), "sd_ours": own.std(ddof=1), "sd_plain": other.std(ddof=1)}
    return [*rows, common.row("mean of the folds", "s", *seconds, "plain loop", **facts)]


def draw(table):
    """Both scores of each fold in grey, and in colour their means with the SD over the folds."""
    figure, axis = plt.subplots(figsize=(5, 3.6))
    sides, mean = ("f1_ours", "f1_plain"), table.iloc[-1]
    axis.plot([0, 1], 100 * table.iloc[:-1][[*sides]].T, "o-", color="grey", alpha=0.6)
    for place, side in enumerate(sides):
        sd = 100 * mean[side.replace("f1", "sd")]
        axis.errorbar(place, 100 * mean[side], sd, fmt="D", color=figures.PALETTE[place], capsize=6)
    axis.set(xticks=[0, 1], xticklabels=["ours", "plain loop"], xlim=(-0.5, 1.5), ylabel="Macro-F1, per cent")
    axis.set_title("grey: the folds; colour: their mean and SD", fontsize=10)
    return figure


def main(words=None):
    options = common.arguments(words)
    data = common.chromosomes("synthetic_g" if options.quick else "pki3_65", 32 if options.quick else 64)
    parts = folds.split(data.labels, n_folds=5)[: 2 if options.quick else 4]
    if options.quick:
        parts = [(train[:32], validation[:8]) for train, validation in parts]
    rows = with_mean([compare(data, fold, part) for fold, part in enumerate(parts)])
    facts = {"data": data.name, "image_size": data.images.shape[1], "epochs": RECIPE.epochs}
    common.publish("same_science", [row | facts for row in rows], options.output, draw)


if __name__ == "__main__":
    main(sys.argv[1:])
