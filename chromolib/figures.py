"""The figures of the notebooks, in their order. Each function draws one figure and returns it.

Colours are seaborn's colour-blind-safe palette; an approach has the same colour everywhere.
"""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.ticker import MaxNLocator

from chromolib import CLASSES

PALETTE = sns.color_palette("colorblind")
APPROACH_COLOURS = dict(zip(("scratch", "imagenet", "two_step", "intermediate"), PALETTE, strict=False))
DOMAIN_COLOURS = {"G": PALETTE[0], "Q": PALETTE[1], "natural": PALETTE[2]}

sns.set_theme(
    style="ticks", font_scale=0.95, rc={"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False}
)


def _show(axis, image, title=None, **options):
    axis.imshow(image, **({"cmap": "gray", "vmin": 0, "vmax": 255} | options))
    axis.set_axis_off()
    if title:
        axis.set_title(title, fontsize=10)


def _finish(figure):
    """Lay out, and take the figure from pyplot's hands, so that a notebook shows it once."""
    figure.tight_layout()
    plt.close(figure)
    return figure


# ---------------------------------------------------------------------------------------------- 03 training


def before_and_after(before, after):
    """Images as stored above the same images augmented; tensors (n, H, W), grey levels 0 to 255."""
    figure, axes = plt.subplots(2, len(before), figsize=(1.3 * len(before), 3.1))
    for row, (name, images) in zip(axes, (("as stored", before), ("augmented", after)), strict=True):
        for axis, image in zip(row, images.cpu(), strict=True):
            _show(axis, image)
        row[0].set_title(name, loc="left")
    return _finish(figure)


def learning_curves(history, scores, adam_epochs):
    """Loss and validation accuracy against epochs, a line a fold; `history` and `scores` as in a run's tables."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    for fold, rows in history.groupby("fold"):
        colour = PALETTE[fold % len(PALETTE)]
        left.plot(rows["epoch"], rows["train_loss"], ":", color=colour, label=f"fold {fold}, training")
        left.plot(rows["epoch"], rows["validation_loss"], color=colour, label=f"fold {fold}, validation")
        right.plot(rows["epoch"], 100 * rows["validation_accuracy"], color=colour, label=f"fold {fold}")
        best = rows.set_index("epoch").loc[scores.set_index("fold").loc[fold, "best_epoch"]]
        right.plot(best.name, 100 * best["validation_accuracy"], "o", color=colour)
    left.set(xlabel="epoch", ylabel="cross-entropy (nats)", ylim=(0, None))
    right.set(xlabel="epoch", ylabel="validation accuracy (%)", title="dot: the epoch that is kept")
    for axis in (left, right):
        axis.axvline(adam_epochs + 0.5, color="0.7", linewidth=1)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend(frameon=False)
    return _finish(figure)


def confusion(counts):
    """Confusion matrix (24, 24) of counts, rows true, shown in per cent of the row; numbers from 1 % on."""
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axis = plt.subplots(figsize=(9.5, 8))
    text = np.where(share >= 1, np.round(share).astype(int).astype(str), "")
    bar = {"label": "% of the true class"}
    sns.heatmap(
        share, annot=text, fmt="", annot_kws={"size": 8}, cmap="cividis", vmin=0, vmax=100, square=True, cbar_kws=bar,
        xticklabels=CLASSES, yticklabels=CLASSES, ax=axis,
    )  # fmt: skip
    axis.set(xlabel="predicted class", ylabel="true class")
    axis.tick_params(axis="y", rotation=0)
    return _finish(figure)


def f1_per_class(f1, labels):
    """F1 (24,) of each class as bars, with the number of images of the class above each; absent classes stay empty."""
    counts = np.bincount(labels, minlength=len(CLASSES))
    figure, axis = plt.subplots(figsize=(10, 3.2))
    axis.bar(CLASSES, 100 * np.nan_to_num(f1), color=PALETTE[0])
    for position, (height, count) in enumerate(zip(np.nan_to_num(f1), counts, strict=True)):
        axis.annotate(count, (position, 100 * height), (0, 2), textcoords="offset points", ha="center", fontsize=9)
    axis.set(xlabel="class", ylabel="F1 (%)", ylim=(0, 108), xlim=(-0.6, 23.6))
    return _finish(figure)


def worst_mistakes(data, predictions, count=12):
    """The misclassified images whose true class got the lowest probability; `predictions` as in a run's table."""
    logits = predictions.filter(like="logit_").to_numpy(np.float64)
    labels, guesses = predictions["label"].to_numpy(), logits.argmax(1)
    margin = logits[np.arange(len(labels)), labels] - np.logaddexp.reduce(logits, axis=1)  # log of the probability
    worst = [row for row in np.argsort(margin) if guesses[row] != labels[row]][:count]
    place = {file: number for number, file in enumerate(data.files)}
    columns = 6
    figure, axes = plt.subplots(-(-count // columns), columns, figsize=(10, 1.95 * -(-count // columns)))
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, row in zip(axes.flat, worst, strict=False):
        title = f"{CLASSES[guesses[row]]}, is {CLASSES[labels[row]]}"
        _show(axis, data.images[place[predictions["file"].iloc[row]]], title)
    return _finish(figure)
