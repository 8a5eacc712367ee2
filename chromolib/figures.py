"""The figures of the notebooks, in their order. Each function draws one figure and returns it.

Colours are seaborn's colour-blind-safe palette; an approach has the same colour everywhere.
"""

from collections import defaultdict

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import MaxNLocator
from PIL import Image
from scipy.optimize import isotonic_regression
from scipy.spatial.distance import cdist, pdist

from chromolib import CLASSES, measures, metrics

PALETTE = sns.color_palette("colorblind")
_APPROACHES = ("scratch", "imagenet", "two_step", "intermediate", "imagenet_double", "imagenet_1050")  # a colour each
APPROACH_COLOURS = dict(zip(_APPROACHES, PALETTE, strict=False))
DOMAIN_COLOURS = defaultdict(lambda: PALETTE[3], {"G": PALETTE[0], "Q": PALETTE[1], "natural": PALETTE[2]})

sns.set_theme(style="ticks", font_scale=0.95)
plt.rcParams |= {"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}


def _colour(approach):
    return APPROACH_COLOURS.get(approach, "0.4")


def _words(task):
    return task.replace("_", "-").capitalize()


def _show(axis, image, title=None, **options):
    axis.imshow(image, **({"cmap": "gray", "vmin": 0, "vmax": 255} | options))
    axis.set_axis_off()
    if title:
        axis.set_title(title, fontsize=10)


def _panels(titles, height, width=4.9, **options):
    """A row of panels, one below each title: the figure and its axes."""
    size = (width * len(titles), height)
    figure, axes = plt.subplots(1, len(titles), figsize=size, squeeze=False, **options)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, loc="left", fontsize=10)
    return figure, axes[0]


def _difference_panels(tasks, names, height):
    """A panel a task for differences in Macro-F1, a row a name from above, a line at none: the figure and its axes."""
    width = 10 / len(tasks)
    figure, axes = _panels([_words(task) for task in tasks], height, width, sharex=True, sharey=True)
    for axis in axes:
        axis.axvline(0, color="0.6", linewidth=1)
        axis.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
        axis.set_xlabel("difference in Macro-F1 (points)")
    return figure, axes


def _points(axis, x, y, spans, horizontal=False, **style):
    """Points with their intervals; `spans`: (n, 2), the ends of each."""
    lengths = np.abs(np.transpose(spans) - np.asarray(x if horizontal else y))  # (2, n)
    axis.errorbar(x, y, **{"xerr" if horizontal else "yerr": lengths}, **({"capsize": 3} | style))


def _finish(figure, rect=None):
    """Lay out, and take the figure from pyplot's hands, so that a notebook shows it once."""
    figure.tight_layout(rect=rect)
    plt.close(figure)
    return figure


# -------------------------------------------------------------------------------------- 01 data exploration

_ROWS = ("1 2 3 4 5", "6 7 8 9 10 11 12", "13 14 15 16 17 18", "19 20 21 22 X Y ?")
_GAP = 4  # pixels between the chromosomes of a pair


def karyogram(data, cell=None):
    """All chromosomes of one cell of a Dataset, 1 to 22, X, Y, homologues side by side.

    cell: a name in `data.cells`; None composes a male set from the first images of each class.
    """
    chosen = _composed(data.labels) if cell is None else np.flatnonzero(data.cells == cell)
    return as_read(data, chosen, data.labels[chosen])


def as_read(data, places, labels, marked=None, title=None):
    """A karyogram of the images of a Dataset at `places` (n,), each in its own size again; the rest as `laid_out`."""
    light = measures.has_light_background(data.pictures)
    pictures = [_cut(data.pictures[place], light, data.sizes[place, 0]) for place in places]
    return laid_out(pictures, labels, marked, title)


def laid_out(pictures, labels, marked=None, title=None):
    """A karyogram of pictures of any size, (h, w) or (h, w, 3) uint8, all at one scale: rows 1 to 22, X, Y, then "?".

    labels: 0..23, or -1 for what is no chromosome ("?"); marked: (n,) bool, those that are to be
    looked at again, in a frame. The page has the ground of most pictures.
    """
    corners = [np.mean([image[0, 0], image[0, -1], image[-1, 0], image[-1, -1]]) for image in pictures]
    ground = 255 if np.median(corners) > 127 else 0
    marked = np.zeros(len(pictures), bool) if marked is None else marked
    names = np.array([*CLASSES, "?"])[np.asarray(labels)]
    rows = [[np.flatnonzero(names == name) for name in row.split()] for row in _ROWS]
    width = max(_row_width(row, pictures) for row in rows)
    heights = [max([pictures[i].shape[0] for places in row for i in places], default=1) + 2 * _GAP for row in rows]
    size = (8, sum(heights) * 7.7 / width + 0.4 * len(rows) + 0.4)
    figure, axes = plt.subplots(len(rows), figsize=size, height_ratios=heights)
    for axis, row, text, height in zip(axes, rows, _ROWS, heights, strict=True):
        _karyogram_row(axis, row, text.split(), pictures, marked, np.full((height, width, 3), ground, np.uint8))
    title = title and title.replace("$", r"\$")  # a cell may be called anything, and a title is no formula
    figure.suptitle(title, fontsize=9, wrap=True)
    return _finish(figure)


def _row_width(row, pictures):
    return sum(pictures[i].shape[1] + _GAP for places in row for i in places) + 4 * _GAP * len(row)


def _karyogram_row(axis, row, names, pictures, marked, canvas):
    """The classes of a row spread over an empty canvas; each name below its pictures."""
    bottom = canvas.shape[0] - _GAP
    spare = (canvas.shape[1] - _row_width(row, pictures)) // len(row) + 4 * _GAP
    left = spare // 2
    for places, name in zip(row, names, strict=True):
        start = left
        for i in places:
            image = pictures[i] if pictures[i].ndim == 3 else pictures[i][..., None]
            h, w = image.shape[:2]
            canvas[bottom - h : bottom, left : left + w] = image
            if marked[i]:
                corner = (left - 1.5, bottom - h - 1.5)
                axis.add_patch(plt.Rectangle(corner, w + 2, h + 2, fill=False, color=PALETTE[3], linewidth=1.5))
            left += w + _GAP
        if len(places) or name != "?":
            axis.text((start + left - _GAP) / 2, bottom + 2 * _GAP, name, ha="center", va="top", fontsize=11)
        left += spare
    _show(axis, canvas)


def _composed(labels):
    """Two images of each autosome, one X and one Y: the first of each class."""
    return np.concatenate([np.flatnonzero(labels == label)[: 2 if label < 22 else 1] for label in range(len(CLASSES))])


def _cut(image, light, area):
    """The chromosome of a square image, without the padding around it, and with the area (pixels) that it had."""
    mask = measures.foreground(image, light)
    if not mask.any():
        return image
    part = Image.fromarray(np.where(mask, image, 255 * light).astype(np.uint8)[measures.box(mask)])
    scale = np.sqrt(area / mask.sum())
    return np.array(part.resize([max(1, round(side * scale)) for side in part.size]))


def samples_per_class(data):
    """Two images of each class that the set has, drawn at random; a column a class, in two blocks."""
    rng = np.random.default_rng(0)
    figure, blocks = plt.subplots(2, figsize=(10, 3.8))
    for axis, classes in zip(blocks, np.array_split(np.unique(data.labels), 2), strict=True):
        drawn = [_drawn(np.flatnonzero(data.labels == label), 2, rng) for label in classes]
        _show(axis, _sheet(data.images, np.transpose(drawn)))
        for column, label in enumerate(classes):
            axis.text((column + 0.5) / len(classes), 1.02, CLASSES[label], ha="center", transform=axis.transAxes)
    return _finish(figure)


def _drawn(places, count, rng):
    """`count` of the places; fewer are filled up by repetition, since some sets hold a handful of Y."""
    return rng.permutation(places)[np.arange(count) % len(places)]


def _sheet(images, grid):
    """The images whose indices (rows, columns) are given, on one sheet, at half their size."""
    return np.vstack([np.hstack([images[index][::2, ::2] for index in row]) for row in grid])


def class_balance(sets):
    """Images of each class as bars, a colour a data set."""
    counts = {f"{data.name} ({data.stain}-band)": np.bincount(data.labels, minlength=len(CLASSES)) for data in sets}
    colours = [DOMAIN_COLOURS[data.stain] for data in sets]
    table = pd.DataFrame(counts, CLASSES)
    axis = table.plot.bar(figsize=(10, 3.2), width=0.8, color=colours, rot=0, xlabel="class", ylabel="images")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=2)
    return _finish(axis.figure)


def length_and_area(sets, tables):
    """How long the chromosome is in its square (left), and how much of the square it covers in each class (right)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=(2, 3))
    for data, table in zip(sets, tables, strict=True):
        colour = DOMAIN_COLOURS[data.stain]
        shares = np.full(len(table), 100 / len(table))
        left.hist(table["length"], np.arange(0, 105, 5), weights=shares, color=colour, alpha=0.6, label=data.name)
        _by_class(right, data, table["area"])
    left.set(xlabel="chromosome's longer side (% of the square's)", ylabel="images (%)")
    right.set(xlabel="class", ylabel="area covered (% of the square)", ylim=(0, None))
    left.legend()
    return _finish(figure)


def _by_class(axis, data, values):
    """Median of each class as a line, its quartiles as a band."""
    quartiles = values.groupby(data.labels).quantile([0.25, 0.5, 0.75]).unstack()
    colour = DOMAIN_COLOURS[data.stain]
    axis.plot(quartiles.index, quartiles[0.5], "o-", markersize=4, color=colour, label=data.name)
    axis.fill_between(quartiles.index, quartiles[0.25], quartiles[0.75], color=colour, alpha=0.2, linewidth=0)
    axis.set_xticks(range(len(CLASSES)), CLASSES, fontsize=9)


def framed(data, crops, lengths):
    """Twelve chromosomes as their squares show them, and below as `crops` do, the same set in that presentation.

    lengths: (n,) share of the square's side that each spans, from the least of them to the most.
    """
    chosen = np.argsort(lengths, kind="stable")[np.linspace(0, len(lengths) - 1, 12).round().astype(int)]
    figure, axis = plt.subplots(figsize=(7, 1.6))
    _show(axis, np.vstack([_sheet(shown.images, [chosen]) for shown in (data, crops)]))
    axis.set_title(f"{data.name}: whole picture (above), tight crop (below)", fontsize=10, loc="left")
    return _finish(figure)


def intensity_and_sharpness(sets, tables):
    """Grey levels of all chromosomes' pixels (left), and sharpness in each class, on a logarithmic scale (right)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=(2, 3))
    for data, table in zip(sets, tables, strict=True):
        shares = measures.grey_levels(data.images).reshape(-1, 8).sum(axis=1)
        left.stairs(100 * shares, np.arange(0, 257, 8), color=DOMAIN_COLOURS[data.stain], linewidth=2, label=data.name)
        _by_class(right, data, table["sharpness"])
    left.set(xlabel="grey level (0 black, 255 white)", ylabel="pixels of chromosomes (%)", xlim=(0, 255))
    right.set(xlabel="class", ylabel="variance of the Laplacian", yscale="log")
    left.legend()
    return _finish(figure)


def cells_in_folds(data, splits):
    """How many images of each cell the validation part of each fold holds; `splits` is {title: folds}."""
    cells, members = np.unique(data.cells, return_inverse=True)
    figure, axes = plt.subplots(1, len(splits), figsize=(10, 3.6), sharey=True, squeeze=False)
    for axis, (title, folds) in zip(axes[0], splits.items(), strict=True):
        counts = np.transpose([np.bincount(members[part], minlength=len(cells)) for _, part in folds])
        bar = {"label": "images"}
        sns.heatmap(counts, cmap="cividis", vmin=0, vmax=46, ax=axis, yticklabels=False, cbar_kws=bar)
        axis.set(title=title, xlabel="fold in which they are validated")
    axes[0, 0].set_ylabel(f"the {len(cells)} cells")
    return _finish(figure)


def most_alike(data, pairs):
    """Pairs of images (i, j, similarity), one above the other, with the similarity and both file names."""
    figure, axes = plt.subplots(2, len(pairs), figsize=(2.5 * len(pairs), 5), squeeze=False)
    for column, (first, second, similarity) in zip(axes.T, pairs, strict=True):
        _show(column[0], data.images[first], f"{similarity:.4f}\n{data.files[first].rsplit('/', 1)[-1]}")
        _show(column[1], data.images[second], data.files[second].rsplit("/", 1)[-1])
    figure.suptitle(data.name)
    return _finish(figure)


# -------------------------------------------------------------------------------------- 02 domain similarity


def samples(sets, seed=0):
    """A row of twelve images drawn at random from each of the data sets {domain: Dataset}."""
    rng = np.random.default_rng(seed)
    figure, axes = plt.subplots(len(sets), figsize=(10, 1.1 * len(sets)))
    for axis, (domain, data) in zip(axes, sets.items(), strict=True):
        chosen = _drawn(np.arange(len(data.files)), 12, rng)
        _show(axis, np.hstack(data.images[chosen]), f"{domain}: {data.name}")
    return _finish(figure)


def distances_and_kernels(features, bandwidths):
    """Distances within two domains and between them (bars), and the kernel for each bandwidth (lines).

    features: {name: (n, d)} of two domains, 400 images of each looked at; bandwidths: {reading:
    sigma^2}.
    """
    (name_x, x), (name_y, y) = ((name, part[:: max(1, len(part) // 400)]) for name, part in features.items())
    distances = {f"within {name_x}": pdist(x), f"within {name_y}": pdist(y), "between them": cdist(x, y).ravel()}
    figure, axis = plt.subplots(figsize=(10, 3.6))
    bins = np.linspace(0, max(values.max() for values in distances.values()), 60)
    for colour, (label, values) in zip([*PALETTE[:2], (0.4, 0.4, 0.4)], distances.items(), strict=True):
        axis.hist(values, bins, density=True, histtype="step", linewidth=2, color=colour, label=label)
    kernel = axis.twinx()
    for style, (reading, bandwidth) in zip(("-", "--", ":"), bandwidths.items(), strict=True):
        kernel.plot(bins, np.exp(-(bins**2) / (2 * bandwidth)), style, color="black", label=f"kernel, {reading}")
    axis.set(xlabel="distance between two images' features", ylabel="density of pairs", xlim=(0, bins[-1]))
    kernel.set(ylabel="kernel", ylim=(0, 1.02))
    kernel.spines["right"].set_visible(True)
    axis.legend(loc="upper left", bbox_to_anchor=(1.12, 1))
    kernel.legend(loc="upper left", bbox_to_anchor=(1.12, 0.6))
    return _finish(figure)


def feature_map(features, sets):
    """Features {domain: (n, d)} of all data sets {domain: Dataset} on their two principal axes, a point an image."""
    from sklearn.decomposition import PCA  # a machine that only reads has none

    pca = PCA(2, random_state=0).fit(np.concatenate(list(features.values())))
    figure, axis = plt.subplots(figsize=(7, 5))
    for domain, part in features.items():
        label = f"{domain}: {sets[domain].name}"
        axis.scatter(*pca.transform(part).T, s=8, alpha=0.4, linewidth=0, color=DOMAIN_COLOURS[domain], label=label)
    share = 100 * pca.explained_variance_ratio_
    axis.set(xlabel=f"first axis ({share[0]:.0f} % of the variance)", ylabel=f"second axis ({share[1]:.0f} %)")
    axis.legend(markerscale=2.5)
    return _finish(figure)


def similarities(table, paper):
    """MMD^2 of each pair with its interval, a colour a bandwidth; crosses: the numbers of the paper {pair: value}."""
    figure, axis = plt.subplots(figsize=(8, 3.2))
    pairs = list(paper)
    for number, (reading, rows) in enumerate(table.groupby("bandwidth", sort=False)):
        rows = rows.set_index("pair").loc[pairs]
        height = np.arange(len(pairs)) + 0.2 * (number - 1)
        style = {"fmt": "o", "color": PALETTE[number], "label": reading}
        _points(axis, rows["mmd2"], height, rows[["low", "high"]], horizontal=True, **style)
    axis.plot(list(paper.values()), np.arange(len(pairs)) - 0.35, "x", color="black", label="the paper's")
    axis.set(yticks=range(len(pairs)), yticklabels=pairs, xlabel="MMD² with 95 % interval", xlim=(0, None))
    axis.invert_yaxis()
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return _finish(figure)


def margins(table):
    """How much nearer G-Q is than the next pair, against the kernel's width; `table` as of `similarity.margins`."""
    figure, axis = plt.subplots(figsize=(8, 3.4))
    axis.axhline(0, color="0.6", linewidth=1)
    for number, (size, rows) in enumerate(table.groupby("size", sort=False)):
        for style, (name, part) in zip(("o-", "x--"), rows.groupby("bandwidth", sort=False), strict=False):
            axis.plot(part["factor"], part["margin"], style, color=PALETTE[number], label=f"{size} images, {name}")
    axis.set_xscale("log", base=2)
    axis.set(xlabel="σ² as a multiple of the median heuristic's", ylabel="margin of G-Q in MMD²")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return _finish(figure)


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
        left.plot(rows["epoch"], rows["train_loss"], ":", color=colour)
        left.plot(rows["epoch"], rows["validation_loss"], color=colour)
        right.plot(rows["epoch"], 100 * rows["validation_accuracy"], color=colour, label=f"fold {fold}")
        best = rows.set_index("epoch").loc[scores.set_index("fold").loc[fold, "best_epoch"]]
        right.plot(best.name, 100 * best["validation_accuracy"], "o", color=colour)
    left.set(xlabel="epoch", ylabel="cross-entropy (nats)", ylim=(0, None))
    right.set(xlabel="epoch", ylabel="validation accuracy (%)", title="dot: the epoch that is kept")
    for axis in (left, right):
        axis.axvline(adam_epochs + 0.5, color="0.7", linewidth=1)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_title("dotted: training, solid: validation")
    right.legend(loc="upper left", bbox_to_anchor=(1, 1))  # a colour a fold, in both panels
    return _finish(figure)


def confusion(counts):
    """Confusion matrix (24, 24) of counts, rows true, shown in per cent of the row; numbers from 1 % on."""
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)  # (24, 24)
    text = np.where(share >= 1, np.round(share).astype(int).astype(str), "")
    table = pd.DataFrame(share, CLASSES, CLASSES).rename_axis(index="true class", columns="predicted class")
    style = {"cmap": "cividis", "vmin": 0, "vmax": 100, "square": True, "cbar_kws": {"label": "% of the true class"}}
    figure, axis = plt.subplots(figsize=(9.5, 8))
    sns.heatmap(table, annot=text, fmt="", annot_kws={"size": 8}, xticklabels=1, yticklabels=1, ax=axis, **style)
    axis.tick_params(axis="y", rotation=0)
    return _finish(figure)


def f1_per_class(f1, labels):
    """F1 (24,) of each class as bars, with the number of images of the class above each; absent classes stay empty."""
    counts = np.bincount(labels, minlength=len(CLASSES))
    figure, axis = plt.subplots(figsize=(10, 3.2))
    axis.bar(CLASSES, 100 * np.nan_to_num(f1), color=PALETTE[0])
    axis.bar_label(axis.containers[0], counts, padding=2, fontsize=9)
    axis.set(xlabel="class", ylabel="F1 (%)", ylim=(0, 108), xlim=(-0.6, 23.6))
    return _finish(figure)


def worst_mistakes(data, predictions):
    """The twelve mistakes whose true class got the lowest probability; `predictions` as in a run's table."""
    labels, logits = metrics.arrays(predictions)
    guesses = logits.argmax(1)
    margin = logits[np.arange(len(labels)), labels] - np.logaddexp.reduce(logits, axis=1)  # log of the probability
    worst = [row for row in np.argsort(margin) if guesses[row] != labels[row]][:12]
    number = {file: number for number, file in enumerate(data.files)}
    figure, axes = plt.subplots(2, 6, figsize=(10, 3.9))
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, row in zip(axes.flat, worst, strict=False):
        title = f"{CLASSES[guesses[row]]}, is {CLASSES[labels[row]]}"
        _show(axis, data.pictures[number[predictions["file"].iloc[row]]], title)
    return _finish(figure)


# -------------------------------------------------------------------------------------------- 04 statistics


def performance(scores, names, tasks):
    """Macro-F1 of every fold as a dot and their mean as a bar: a panel a task, a row a network, a colour an approach.

    scores: a row per task, architecture, approach and fold; names: dict of architecture to its
    title.
    """
    approaches = list(dict.fromkeys(scores["approach"]))
    height = 1.2 + 0.32 * len(names) * len(approaches)
    figure, axes = plt.subplots(1, len(tasks), figsize=(10, height), sharex=True, sharey=True, squeeze=False)
    for axis, task in zip(axes.flat, tasks, strict=True):
        rows = scores[(scores["task"] == task) & scores["architecture"].isin(names)]
        for (approach, name), run in rows.groupby(["approach", "architecture"], sort=False):
            values, colour = 100 * run["macro_f1"], _colour(approach)
            y = list(names).index(name) + 0.8 * ((approaches.index(approach) + 0.5) / len(approaches) - 0.5)
            axis.plot(values, [y] * len(values), "o", color=colour, markersize=5, alpha=0.7)
            axis.plot([values.mean()], [y], "|", color=colour, markersize=15, markeredgewidth=2.5)
        axis.set(title=_words(task), xlabel="Macro-F1 (%)")
        axis.set_yticks(range(len(names)), names.values())
    axes[0, 0].set_ylim(len(names) - 0.45, -0.55)  # the first network on top
    marks = [plt.Line2D([], [], marker="o", linestyle="", color=_colour(approach)) for approach in approaches]
    axes.flat[-1].legend(marks, approaches, loc="center left", bbox_to_anchor=(1, 0.5))
    return _finish(figure)


def gain_by_size(gains, facts, tasks):
    """Change in Macro-F1 against log10(parameters) with both fold intervals, a panel a task; see `chromolib.tables`.

    Points of nearly equal size are moved sideways until their intervals can be told apart.
    """
    figure, axes = plt.subplots(len(tasks), figsize=(10, 4.4 * len(tasks)), squeeze=False, sharex=True, sharey=True)
    size = np.log10(1e6 * facts.set_index("architecture")["parameters_millions"])
    titles = facts.set_index("architecture")["title"]
    margin = max(0.12, 0.5 - (size.max() - size.min()) / 2)
    limits = (size.min() - margin, size.max() + margin)
    size[:] = _apart(size.to_numpy(), 0.014 * np.ptp(limits))
    for axis, task in zip(axes.flat, tasks, strict=True):
        rows = gains[gains["task"] == task]
        x = size[rows["architecture"]].to_numpy()
        axis.axhline(0, color="0.6", linewidth=1)
        axis.vlines(x, rows["t_low"], rows["t_high"], color="0.35", linewidth=1, label="95 %, corrected resampled t")
        axis.plot([x, x], [rows["t_low"], rows["t_high"]], "_", color="0.35", markersize=7)
        axis.vlines(
            x, rows["paper_low"], rows["paper_high"], color=PALETTE[1], linewidth=6, alpha=0.8,
            label="95 %, percentile bootstrap of the folds (the paper's)",
        )  # fmt: skip
        axis.plot(x, rows["gain"], "o", color="black", markersize=4, zorder=3, label="mean of the folds")
        axis.set(xlim=limits, ylabel=f"{_words(task)}: change in Macro-F1\n(percentage points)")
        if rows.empty:
            axis.text(0.5, 0.6, "no pair of runs to compare", transform=axis.transAxes, ha="center")
        _names_above(axis, x, titles[rows["architecture"]])
    axes.flat[-1].set_xlabel("log10 of the number of parameters")
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 4.5}  # under the axis' label
    axes.flat[-1].legend(**below, ncols=3, fontsize=10)
    return _finish(figure)


def _apart(x, gap):
    """The positions x (n,) moved as little as possible (least squares) so that no two are closer than `gap`."""
    order = np.argsort(x, kind="stable")
    steps, moved = gap * np.arange(len(x)), np.empty(len(x))
    moved[order] = isotonic_regression(x[order] - steps).x + steps if len(x) else x
    return moved


def _names_above(axis, x, names):
    """A name above the axes for each x, all apart from each other, and a line down to its x."""
    across = axis.get_xaxis_transform()
    moved = _apart(x, 0.032 * np.ptp(axis.get_xlim()))  # (n,)
    for there, at, name in zip(moved, x, names, strict=True):
        axis.axvline(at, color="0.88", linewidth=0.8, zorder=0)
        axis.plot([at, there], [1, 1.06], color="0.7", linewidth=0.8, transform=across, clip_on=False)
        axis.text(there, 1.07, name, transform=across, rotation=45, rotation_mode="anchor", fontsize=10)


def best_and_last(scores, tasks):
    """Macro-F1 of the kept epoch against that of the last one: a panel a task, a point a network and fold."""
    figure, axes = _panels([_words(task) for task in tasks], 4.4)
    for axis, task in zip(axes, tasks, strict=True):
        rows = scores[scores["task"] == task]
        for approach, points in rows.groupby("approach", sort=False):
            last, kept = 100 * points["last_macro_f1"], 100 * points["macro_f1"]
            axis.plot(last, kept, "o", color=_colour(approach), alpha=0.75, label=approach)
        if len(rows):
            axis.axline((100 * rows["macro_f1"].mean(),) * 2, slope=1, color="0.6", linewidth=1, zorder=0)
            axis.legend(loc="upper left")
        axis.set(xlabel="Macro-F1 at the last epoch (%)", ylabel="Macro-F1 at the kept epoch (%)")
    return _finish(figure)


def class_changes(changes, tasks):
    """Change in the F1 of each class: bars are means over the networks, and dots the networks where there are more."""
    figure, axes = plt.subplots(len(tasks), 1, figsize=(10, 3 * len(tasks)), squeeze=False, sharex=True)
    for axis, task in zip(axes.flat, tasks, strict=True):
        rows = changes[changes["task"] == task]
        means = rows.groupby("class")["change"].mean().reindex(CLASSES)
        axis.bar(CLASSES, means, color=PALETTE[0], alpha=0.65)
        if rows["architecture"].nunique() > 1:
            axis.plot(rows["class"], rows["change"], ".", color="0.25", markersize=4)
        axis.axhline(0, color="0.6", linewidth=1)
        axis.set(ylabel=f"{_words(task)}: change in F1\n(percentage points)", xlim=(-0.6, len(CLASSES) - 0.4))
    axes.flat[-1].set_xlabel("class")
    figure.align_ylabels()
    return _finish(figure)


def coverage(table):
    """Share of simulated studies whose 95 % interval holds the truth, against the correlation of the folds.

    table: a row per interval and fold_correlation with covers, low, high (of that share), as
    benchmarks/coverage.py leaves it.
    """
    figure, axis = plt.subplots(figsize=(10, 4.4))
    axis.axhline(95, color="0.6", linewidth=1)
    axis.annotate("promised: 95 %", (0.35, 95), (0, 3), textcoords="offset points", ha="center", fontsize=9)
    for number, (name, rows) in enumerate(table.groupby("interval", sort=False)):
        style = {"fmt": "osD^"[number % 4] + "-", "color": PALETTE[number], "label": name}
        _points(axis, rows["fold_correlation"], 100 * rows["covers"], 100 * rows[["low", "high"]], **style)
    axis.set(xlabel="correlation between the folds' differences", ylabel="intervals that hold the truth (%)")
    axis.set(ylim=(None, 101), xticks=sorted(table["fold_correlation"].unique()))
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    return _finish(figure)


# ---------------------------------------------------------------------------------------------- 05 Grad-CAM


def overlay(images, maps):
    """Colours of maps over images, half of each: (..., H, W) uint8, (..., H, W) in [0, 1] -> (..., H, W, 3) uint8.

    From black to yellow, lighter all the way: the paper's rainbow cannot be read without colour vision.
    """
    colours = plt.get_cmap("inferno")(np.asarray(maps))[..., :3] * 255
    grey = np.asarray(images)[..., None]
    return np.round((grey + colours) / 2).astype(np.uint8)


def grad_cam_cases(cases):
    """Figure 3: a row per `cases.Case`, the image and its overlay under each approach; a wrong answer in bold."""
    width = 1 + len(cases[0].maps)
    figure, axes = plt.subplots(len(cases), width, figsize=(2 * width, 2.6 * len(cases)), squeeze=False)
    for row, case in zip(axes, cases, strict=True):
        _show(row[0], case.image, f"{case.title}\nclass {CLASSES[case.label]}")
        for axis, (approach, heat) in zip(row[1:], case.maps.items(), strict=True):
            said = case.answers[approach]
            _show(axis, overlay(case.image, heat), f"{approach}: {CLASSES[said]}")
            axis.title.set_fontweight("normal" if said == case.label else "bold")
    return _finish(figure)


def grad_cam_mistakes(cases):
    """Figure 4: a column per misclassified `cases.Case`, its image above the maps of predicted and true class."""
    figure, axes = plt.subplots(3, len(cases), figsize=(2.2 * len(cases), 6.6), squeeze=False)
    for column, case in zip(axes.T, cases, strict=True):
        _show(column[0], case.image, case.title)
        for axis, (which, heat) in zip(column[1:], case.maps.items(), strict=True):
            _show(axis, overlay(case.image, heat), f"{which}: {CLASSES[case.answers[which]]}")
    return _finish(figure)


def maps_on_drawings(checks):
    """Maps over five drawings whose deciding square is known; `checks`: dict of architecture to Localisation."""
    figure, axes = plt.subplots(len(checks), 5, figsize=(6.5, 1.55 * len(checks)), squeeze=False)
    for row, (name, check) in zip(axes, checks.items(), strict=True):
        for axis, image, square in zip(row, overlay(check.images, check.maps), check.squares, strict=False):
            _show(axis, image)
            axis.contour(square, levels=[0.5], colors="white", linewidths=1.5)
        row[0].set_title(name, loc="left", fontsize=10)
    return _finish(figure)


# ---------------------------------------------------------------------------------------------- 06 validity


def protocols(table):
    """Pooled Macro-F1 of each protocol with its 95 % interval, a panel a task and network; crosses: means of the folds.

    table: as of `protocols.scores`; what was not run keeps its row, empty.
    """
    panels = list(table.groupby(["task", "architecture"], sort=False))
    names, lines = list(dict.fromkeys(table["protocol"])), -(-len(panels) // 2)
    size = (10, max(2.8, 0.8 + 0.42 * len(names) * lines))
    figure, axes = plt.subplots(lines, 2, figsize=size, squeeze=False, sharex=True, sharey=True)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, ((task, name), rows) in zip(axes.flat, panels, strict=False):
        rows = rows.set_index("protocol").loc[names]
        middle, *ends = (rows[f"pooled_macro_f1{end}"].astype(float) for end in ("", "_low", "_high"))
        style = {"fmt": "o", "color": PALETTE[0], "label": "all predictions, with 95 % interval"}
        places = np.arange(len(names))
        _points(axis, middle, places, np.transpose(ends), horizontal=True, **style)
        axis.plot(rows["macro_f1"].astype(float), places, "x", color="black", zorder=3, label="mean of the folds")
        for place in places[(rows["state"] != "run").to_numpy()]:
            axis.text(0.02, place, "not run", transform=axis.get_yaxis_transform(), va="center", color="0.4")
        axis.set_title(f"{_words(task)}, {name}", loc="left", fontsize=10)
        axis.set(yticks=places, yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    for axis in axes[-1]:
        axis.set_xlabel("Macro-F1 (%)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="upper center", ncols=2)
    return _finish(figure, rect=(0, 0, 1, 0.93))


def seeds_and_folds(scores, tasks):
    """Macro-F1 of the same run with several seeds: a panel a task, folds across, a mark and colour a seed.

    scores: a row per task, seed and fold, with macro_f1 as a fraction.
    """
    figure, axes = _panels([_words(task) for task in tasks], 3.6)
    for axis, task in zip(axes, tasks, strict=True):
        rows = scores[scores["task"] == task]
        for number, (seed, points) in enumerate(rows.groupby("seed")):
            x = points["fold"] + 0.08 * (number - (rows["seed"].nunique() - 1) / 2)
            colour, mark = PALETTE[number % len(PALETTE)], "osD^vP"[number % 6]
            axis.plot(x, 100 * points["macro_f1"], mark, color=colour, label=f"seed {seed}")
        axis.set(xlabel="fold", ylabel="Macro-F1 (%)", xticks=sorted(rows["fold"].unique()))
        axis.margins(x=0.3, y=0.15)
    axes[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return _finish(figure)


def decoded_cells(cells):
    """Accuracy of each cell before and after decoding, a panel a run; `cells` as of `whole_cells.by_cell`."""
    panels = dict(list(cells.groupby("run", sort=False)))
    kinds = {1: ("better", "o", PALETTE[0]), 0: ("same", ".", "0.6"), -1: ("worse", "v", PALETTE[3])}
    figure, axes = _panels(panels, 4.4)
    for axis, table in zip(axes, panels.values(), strict=True):
        share = 100 * table[["plain", "decoded"]].div(table["images"], axis=0)
        for sign, (name, mark, colour) in kinds.items():
            rows = share[np.sign(table["change"]) == sign]
            axis.plot(*rows.to_numpy().T, mark, color=colour, alpha=0.7, label=f"{name}: {len(rows)} cells")
        axis.axline((share["plain"].mean(),) * 2, slope=1, color="0.6", linewidth=1, zorder=0)
        axis.set(xlabel="accuracy, each image alone (%)", ylabel="accuracy, cell decoded (%)")
        axis.legend(loc="lower right")
    return _finish(figure)


def similarity_and_gain(steps, tasks):
    """What starting at a source gave, with its 95 % interval, against the distance (MMD²) of source and target.

    steps: as of `transfer.steps`; a panel a target.
    """
    names = list(dict.fromkeys(steps["step"]))
    titles = [f"target: {_words(task)}" for task in tasks]
    figure, axes = _panels(titles, 3.8, width=10 / len(tasks), sharex=True, sharey=True)
    for axis, task in zip(axes, tasks, strict=True):
        axis.axhline(0, color="0.6", linewidth=1)
        for number, step in enumerate(names):
            rows = steps[(steps["task"] == task) & (steps["step"] == step)]
            style = {"fmt": "osD"[number % 3], "color": PALETTE[number], "capsize": 4, "label": step}
            _points(axis, rows["mmd2"], rows["gain"], rows[["low", "high"]], **style)
        axis.set_xlabel("MMD² of source and target\n(smaller: nearer)")
        axis.margins(x=0.2)
    axes[0].set_ylabel("gain in Macro-F1\n(percentage points)")
    axes[-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return _finish(figure)


# ---------------------------------------------------------------------------------------------- 07 karyotype


def reliability(tables):
    """How often images are right against how sure the answer was; `tables`: {name: `calibration.reliability`}."""
    figure, axis = plt.subplots(figsize=(5.2, 4.6))
    axis.axline((0, 0), slope=1, color="0.6", linewidth=1)
    for number, (name, table) in enumerate(tables.items()):
        sure, right = 100 * table["confidence"], 100 * table["accuracy"]
        axis.plot(sure, right, "-", color=PALETTE[number], linewidth=1)
        axis.scatter(sure, right, 200 * table["images"] / table["images"].sum(), color=PALETTE[number], label=name)
    axis.set(xlabel="probability of the class taken (%)", ylabel="images right (%)", xlim=(0, 102), ylim=(0, 102))
    axis.legend(loc="lower right")
    return _finish(figure)


def risk(panels, task, architecture):
    """What is wrong among the surest answers, a colour an approach and a line style a way; panels: of `cells.risks`."""
    height = 4 + 0.125 * max(map(len, panels.values()))  # two names a row of the legend
    figure, axes = _panels([f"{name}: {_words(task)}, {architecture}" for name in panels], height)
    for axis, curves in zip(axes, panels.values(), strict=True):
        ways = list(dict.fromkeys(way for _, way in curves))
        for (approach, way), table in curves.items():
            style = {"color": _colour(approach), "linestyle": ("-", "--")[ways.index(way)], "drawstyle": "steps-post"}
            axis.plot(100 * table["coverage"], 100 * table["risk"], label=f"{approach}, {way}", **style)
        axis.set(xlabel="answered, the surest first (%)", ylabel="of these wrong (%)", xlim=(0, 101), ylim=(0, None))
    return _with_legend_below(figure, columns=2)


def hidden(normal, hidden, thresholds):
    """Evidence (cells,) of normal cells and of those with a hidden gain; lines: thresholds of `cells.sensitivity`."""
    figure, axis = plt.subplots(figsize=(10, 3.4))
    bins = np.linspace(min(normal.min(), hidden.min()), max(normal.max(), hidden.max()), 50)
    for values, colour, name in ((normal, PALETTE[0], "normal"), (hidden, PALETTE[3], "one gained, another lost")):
        axis.hist(values, bins, color=colour, alpha=0.6, label=f"{name}: {len(values)} cells")
    for threshold, rows in thresholds.groupby("threshold"):
        axis.axvline(threshold, color="0.3", linewidth=1)
        words = " and ".join(f"{specificity:.0f}" for specificity in rows["wanted_specificity"])
        side = "left" if threshold == thresholds["threshold"].max() else "right"  # lines may lie near each other
        axis.annotate(f" {words} % ", (threshold, axis.get_ylim()[1]), va="top", ha=side, fontsize=9)
    axis.set(xlabel="log odds of the gain, another lost, against a normal karyotype", ylabel="cells")
    axis.legend()
    return _finish(figure)


# -------------------------------------------------------------------------------------------- 08 second step


def second_step(table, tasks):
    """Each comparison's pooled gain with its 95 % interval, a panel a task; table: as of `second_step.comparisons`.

    Filled marks are about the approaches (several seeds), open ones about the networks of one seed.
    """
    names, networks = (list(dict.fromkeys(table[column])) for column in ("what", "architecture"))
    figure, axes = _difference_panels(tasks, names, 1.6 + 0.6 * len(names))
    for axis, task in zip(axes, tasks, strict=True):
        for (architecture, about), rows in table[table["task"] == task].groupby(["architecture", "about"], sort=False):
            number = networks.index(architecture)
            places = np.array([names.index(what) for what in rows["what"]]) + 0.2 * number
            look = {"fmt": "osDv"[number % 4], "color": PALETTE[number], "capsize": 4}
            look |= {"label": f"{architecture}, {about}"} | ({"mfc": "white"} if about == "these networks" else {})
            _points(axis, rows["pooled_gain"], places, rows[["pooled_low", "pooled_high"]], horizontal=True, **look)
    return _with_legend_below(figure, columns=2)


def varied(table, tasks):
    """What a way to show the chromosomes changes, and the stop on top of it, with 95 % intervals: a panel a task.

    table: as of `second_step.varied`, of one network; what was not run has no row. Below a name stands of how many
    seeds its gains are, over imagenet and over imagenet_double, where they are of several: those are about the
    approaches.
    """
    table = table[table["state"] != "not run"]
    names = list(dict.fromkeys(table["variation"]))
    seeds = table.groupby("variation")[["seeds", "instead_seeds"]].min()
    words = [f"{name}\n{_seeds(seeds.loc[name].dropna())}".rstrip() for name in names]
    series = {
        "change": ("this way to show them", PALETTE[7]),
        "gain": ("the stop, over imagenet", _colour("imagenet")),
        "instead": ("the stop, over imagenet_double", _colour("imagenet_double")),
    }
    figure, axes = _difference_panels(tasks, words, 1.6 + 0.7 * len(names))
    for axis, task in zip(axes, tasks, strict=True):
        for number, (column, (label, colour)) in enumerate(series.items()):
            rows = table[(table["task"] == task) & table[column].notna()]
            if rows.empty:  # Matplotlib stumbles over no intervals
                continue
            places = np.array([names.index(name) for name in rows["variation"]]) + 0.22 * (number - 1)
            ends = rows[["low", "high"] if column == "gain" else [f"{column}_low", f"{column}_high"]]
            look = {"fmt": "soD"[number], "color": colour, "capsize": 4, "label": label}
            _points(axis, rows[column], places, ends, horizontal=True, **look)
    return _with_legend_below(figure, columns=3)


def _seeds(numbers):
    """Words on of how many seeds gains are (a sequence); none where all are of one."""
    differing = list(dict.fromkeys(f"{number:.0f}" for number in numbers))
    return f"(seeds: {', '.join(differing)})" if differing not in ([], ["1"]) else ""


def _with_legend_below(figure, columns):
    """The finished figure, with one legend of all panels below them."""
    marks = {label: mark for axis in figure.axes for mark, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(marks.values(), marks.keys(), loc="lower center", ncols=columns, fontsize=10)
    return _finish(figure, rect=(0, 0.25 / figure.get_figheight() * -(-len(marks) // columns), 1, 1))


def curve(points):
    """Macro-F1 (left) and gains with 95 % intervals (right) against the cells learned from, a colour a baseline.

    points: as of `second_step.curve`, those of several baselines below each other.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.1))
    cells = points["cells"].unique()
    right.axhline(0, color="0.6", linewidth=1)
    for number, (baseline, rows) in enumerate(points.groupby("baseline", sort=False)):
        mark, colour = "sD^v"[number % 4], _colour(baseline)
        left.plot(rows["cells"], rows["before"], f"{mark}-", color=colour, label=baseline)
        spans = rows[["pooled_low", "pooled_high"]]
        _points(right, rows["cells"], rows["pooled_gain"], spans, fmt=mark, color=colour, capsize=4)
    first = points.drop_duplicates("cells")
    left.plot(first["cells"], first["after"], "o-", color=_colour("two_step"), label="two_step")
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set(xticks=cells, xticklabels=cells, xlabel="cells learned from")
    left.set_ylabel("Macro-F1 (%)")
    right.set_ylabel("gain of two_step over each (points)")
    return _with_legend_below(figure, columns=4)
