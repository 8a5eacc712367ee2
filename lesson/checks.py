"""The checks of the exercises. Each says what is wrong with an answer, or that it is right and what follows from it.

What is right is computed here from the same data, by scikit-learn, SciPy or the long way round: no answer is written
down, so the checks hold when the results change.
"""

import itertools
import reprlib

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, f1_score

from chromolib import karyotype, metrics

TENTHS, HUNDREDTHS = 0.05, 0.005  # how far off an answer is that was rounded to tenths or hundredths


def need(number, holds, sentence):
    """AssertionError with the sentence unless `holds`."""
    assert holds, f"Exercise {number}: {sentence}"


def written(number, **answers):
    for name, answer in answers.items():
        need(number, answer is not ..., f"`{name}` is still empty; write your answer where # YOUR CODE stands.")


def numeric(answer):
    """The answer as an array of numbers (float64); None where it is text, nothing, or anything else."""
    try:
        array = np.asarray(answer)
    except (TypeError, ValueError):  # lists of unequal lengths
        return None
    return array.astype(np.float64) if array.dtype.kind in "biuf" else None


def numbers(number, **answers):
    """Each of the answers must be a number; NaN is one."""
    written(number, **answers)
    for name, answer in answers.items():
        array = numeric(answer)
        holds = array is not None and array.ndim == 0
        need(number, holds, f"`{name}` is to be a number, not {_short(answer)}.")


def returned(number, name, function, does, *arguments, many=False):
    """What the function of an answer returns, as an array; it must be a number, or an array of them where `many`."""
    need(number, callable(function), f"`{name}` is to be a function; it {does}.")
    answer = function(*arguments)
    need(number, answer is not None, f"`{name}` returns nothing yet; it {does}.")
    array, what = numeric(answer), "an array or a list of numbers" if many else "a number"
    holds = array is not None and (array.ndim > 0) == many
    need(number, holds, f"`{name}` is to return {what}, not {_short(answer)}.")
    return array


def _short(answer):
    return " ".join(reprlib.repr(answer).split())  # of a pandas.Series in one line


def near(a, b, tolerance=1e-6):
    """Whether the answer a is a number, or an array of them, close to b."""
    a = numeric(a)
    return a is not None and a.shape == np.shape(b) and bool(np.allclose(a, b, rtol=0, atol=tolerance))


def right(number, sentence):
    print(f"Exercise {number}: right. {sentence}")


def counting(labels, name):
    written(1, name=name)
    truth = karyotype.iscn(np.bincount(labels, minlength=metrics.N_CLASSES))
    parts, wanted = str(name).replace(" ", "").split(","), truth.split(",")
    need(1, parts[0] == wanted[0], f"the cell has {len(labels)} chromosomes, and a karyotype begins with their number.")
    need(1, parts[1:2] == wanted[1:2], "after the number stand the sex chromosomes: look at the end of the last row.")
    need(1, len(parts) > 2, "one autosome differs from two; say which, as in +18 or -7, after the sex chromosomes.")
    need(1, parts == wanted, f"{','.join(parts[2:])} is not it: which number is there three times, or once?")
    right(1, "Three of chromosome 21 is Down syndrome. Whoever only counts 47 does not know which one is too many.")


def balance(labels, share_y, accuracy):
    numbers(2, share_y=share_y, accuracy=accuracy)
    is_y = np.asarray(labels) == 23
    need(2, not near(share_y, is_y.mean(), 0.002), "`share_y` is asked in per cent: multiply by 100.")
    flaw = "`share_y` is the number of labels that are 23, of 100 labels; with one decimal at least."
    need(2, near(share_y, 100 * is_y.mean(), TENTHS), flaw)
    flaw = "right is every image but those of Y; in per cent of all, with one decimal at least."
    need(2, near(accuracy, 100 * (~is_y).mean(), TENTHS), flaw)
    answers = np.where(is_y, 22, labels)
    f1 = 100 * f1_score(labels, answers, labels=range(24), average="macro", zero_division=0)
    right(2, f"{accuracy:.1f} % of the images, and no Y ever found: its F1 is 0, and the Macro-F1 only {f1:.1f} %.")


def leak(images, cells, leaked, fold_of):
    numbers(3, leaked=leaked)
    test, train = (images[images["fold"] == fold] for fold in (0, 1))
    seen = set(train["cell"])
    truth = 100 * np.mean([cell in seen for cell in test["cell"]])
    need(3, near(leaked, truth, 0.01), "`leaked`: of the images of fold 0, in per cent, those whose cell is in fold 1.")
    does = "takes cell names and returns a number for each"
    folds = returned(3, "fold_of", fold_of, does, list(cells), many=True)
    need(3, folds.shape == (len(cells),), "`fold_of` must return as many folds as it gets cells.")
    table = pd.DataFrame({"patient": [cell.split(".")[0] for cell in cells], "fold": folds})
    need(3, set(table["fold"]) == set(range(5)), "the folds are to be 0, 1, 2, 3 and 4, all of them used.")
    cut = table.groupby("patient")["fold"].nunique().max() > 1
    need(3, not cut, "a patient has cells in two folds: what comes before the first dot of the name must decide alone.")
    sizes = table["fold"].value_counts()
    few = f"a fold has only {sizes.min()} of {len(cells)} cells, as chance may have it: deal the patients out in turn."
    need(3, sizes.min() >= 0.6 * len(cells) / 5, few)  # patients dealt out in turn, in any order, come out above this
    right(3, f"By image {leaked:.0f} % of fold 0 have a cell-mate in training, by patient none has.")


def macro_f1(function, predictions):
    small = np.array([[4, 1, 0], [2, 3, 0], [0, 0, 0]])
    does = "takes a confusion matrix and returns a number"
    answer = returned(4, "macro_f1", function, does, small.copy())
    need(4, not near(answer, 0.7), "that is the accuracy: every class is to count alike, not every image.")
    f1 = 2 * np.array([4, 3]) / np.array([11, 9])
    need(
        4,
        not near(answer, f1.mean()),
        "you left out the third class; what is absent counts as 0, so that folds compare.",
    )
    need(
        4,
        near(answer, answer),
        "nothing divided by nothing is no number: a class with no image and no answer has F1 0.",
    )
    need(4, not near(answer, 100 * f1.sum() / 3), "give a fraction of 1, not per cent.")
    need(4, near(answer, f1.sum() / 3), "F1 = 2 x hits / (images of the class + answers of the class); then the mean.")
    labels, logits = metrics.arrays(predictions)
    truth = f1_score(labels, logits.argmax(axis=1), labels=range(24), average="macro", zero_division=0)
    found = returned(4, "macro_f1", function, does, metrics.confusion(labels, logits))
    need(4, near(found, truth), f"on the real table scikit-learn has {truth:.4f}, you {found:.4f}: 24 classes, not 3?")
    right(4, f"On G-band, all folds pooled, {100 * truth:.1f} %, as scikit-learn has it.")


def mmd2(function, x, y, variance):
    does = "takes x, y and the variance, and returns a number"
    answer = returned(5, "mmd2", function, does, np.array(x), np.array(y), variance)
    within, within_with_self, across = _mean_kernels(x, y, variance)
    need(
        5,
        not near(answer, within_with_self - 2 * across),
        "leave out the pairs of a point with itself: they are always 1.",
    )
    need(5, not near(answer, within - across), "the mean over x and y is subtracted twice.")
    need(5, near(answer, within - 2 * across), "mean k within x, plus within y, minus twice between; k = exp(-d²/2σ²).")
    rng = np.random.default_rng(0)  # sets that are not as large, as wide or as flat as those in the notebook
    a, b = rng.normal(size=(5, 3)), rng.normal(size=(2, 3))
    for other in (variance, 0.5):
        within, _, across = _mean_kernels(a, b, other)
        flaw = (
            f"right for x and y, not for 5 and 2 points of three numbers and a variance of {other}: use its arguments."
        )
        need(5, near(function(a.copy(), b.copy(), other), within - 2 * across), flaw)
    within, _, across = _mean_kernels(x, x, variance)
    same = returned(5, "mmd2", function, does, np.array(x), np.array(x), variance)
    need(5, near(same, within - 2 * across), "wrong for x with itself: there too, all pairs of the two sets count.")
    right(5, f"{answer:.3f}; and of x with itself {same:.3f}: an unbiased estimate may be negative.")


def _mean_kernels(x, y, variance):
    """The mean kernel within x plus that within y, the same with each point's pair with itself, and that across."""

    def mean(pairs):
        return np.mean([np.exp(-np.sum((np.asarray(a) - b) ** 2) / (2 * variance)) for a, b in pairs])

    within = sum(mean(itertools.combinations(points, 2)) for points in (x, y))
    with_self = sum(mean(itertools.product(points, points)) for points in (x, y))
    return within, with_self, mean(itertools.product(x, y))


def bootstrap(low, high, imagenet, two_step):
    numbers(6, low=low, high=high)
    one, two = (_right_by_patient(table) for table in (imagenet, two_step))
    difference = two["sum"] - one["sum"]
    drawn = np.random.default_rng(0).multinomial(len(one), np.full(len(one), 1 / len(one)), size=40_000)
    gains = 100 * (drawn @ difference) / (drawn @ one["size"])  # drawn: how often each patient is
    wanted, narrow = (np.quantile(gains, [cut, 1 - cut]) for cut in (0.025, 0.05))
    need(6, not near(low, wanted[0] / 100, 0.005), "in percentage points, please: multiply by 100.")
    need(
        6, near(low, low) and near(high, high) and low < high, "`low` and `high` are two numbers, the lower one first."
    )
    ends = np.array([low, high])
    width = np.ptp(ends) / np.ptp(wanted)
    need(6, width < 1.3, "too wide: draw the patients once, and take both approaches of the same patients.")
    need(6, not near(ends, narrow, 0.1), "that is an interval of 90 %: cut off 2.5 % at each end, not 5 %.")
    need(6, width > 0.8, "too narrow: draw whole patients, as many as there are, and cut off 2.5 % at each end.")
    flaw = "the width is right, the place is not: it is two_step minus imagenet, in per cent of all images drawn."
    need(6, near(ends, wanted, 0.5), flaw)
    # Tried with 2,000 seeds: chance goes beyond this in 2 of 1,000 answers of 1,000 draws, and in none of 2,000 draws.
    flaw = "almost: add up the images of all patients drawn before you divide, and draw 2,000 times."
    need(6, near(ends, wanted, 0.22) and near(ends.mean(), wanted.mean(), 0.12), flaw)
    gain = 100 * difference.sum() / one["size"].sum()
    right(6, f"{gain:+.1f} points ({low:.1f} to {high:.1f}): of these networks, on such patients.")


def _right_by_patient(predictions):
    """A row a patient: number of images (size), and how many of them are right (sum)."""
    hits = metrics.arrays(predictions)[1].argmax(axis=1) == predictions["label"]
    return hits.groupby(predictions["patient"]).agg(["size", "sum"])


def claim(table, steps, sentence, holds, control):
    written(7, holds=holds, steps=steps, sentence=sentence)
    numbers(7, holds=holds)
    rows = table[(table["n_folds"] == 5) & (table["fold_correlation"] == 0) & (table["seeds"] == 1)]
    truth = 100 * rows[rows["interval"].str.contains("paired bootstrap")]["covers"].iloc[0]
    need(7, not near(holds, truth / 100, 0.001), "`holds` is asked in per cent: multiply by 100.")
    need(
        7, near(holds, truth, 0.1), "`holds`: five folds, one seed, correlation 0, the paired bootstrap; column covers."
    )
    need(7, isinstance(steps, dict), "`steps` is a dict: the name of each approach, and its steps on chromosomes.")
    wrong = [
        name
        for name, stages in (("imagenet", 1), ("two_step", 2), ("imagenet_double", 2))
        if not near(steps.get(name), 750 * stages)
    ]
    need(7, not wrong, f"the steps of {', '.join(wrong)}: count all stages on chromosomes, the parent's too.")
    letter = str(sentence).strip().lower()
    need(7, letter in ("a", "b", "c"), "`sentence` is one of the letters a, b, c.")
    need(7, letter != "a", "a: what else is different, besides the staining of the first step? Look at `steps`.")
    need(7, letter != "b", "b: how often does such an interval of one seed hold what is true of the approaches?")
    rows = control[control["what"].eq("the stop instead of longer training")]
    rows = rows[rows["architecture"].eq("efficientnet_lite0")]
    words = ", ".join(
        f"{row.task[0].upper()}-band {row.pooled_gain:+.1f} ({row.pooled_low:.1f} to {row.pooled_high:.1f})"
        for row in rows.itertuples()
    )
    right(
        7,
        "One seed speaks of its networks, and only the control can tell the stop from the time on chromosomes. "
        f"It says what the stop changes, instead of as much longer training, in points of Macro-F1: {words}. "
        "Below zero, the time was worth more than the stop.",
    )


def grad_cam(function, maps, gradients, mask, share, honest):
    does, heats = "takes maps and gradients (3, h, w), and returns (h, w)", {}
    for name in maps:
        heat = returned(8, "grad_cam", function, does, maps[name], gradients[name], many=True)
        truth = np.zeros(mask.shape)
        for one, gradient in zip(maps[name], gradients[name], strict=True):
            truth = truth + gradient.mean() * one
        need(
            8,
            heat.shape == mask.shape,
            f"the map has shape {heat.shape}, not {mask.shape}: add up over the first axis.",
        )
        need(8, heat.min() >= 0, "there are values below 0: what speaks against the class is cut off (ReLU).")
        need(8, near(heat.max(), 1), "scale the map, so that its largest value is 1.")
        heats[name] = np.maximum(truth, 0) / truth.max()
        need(8, near(heat, heats[name]), "weigh each feature map by the mean of its gradient, then add them up.")
    written(8, share=share, honest=honest)
    truth = {name: heat[mask].sum() / heat.sum() for name, heat in heats.items()}
    flaw = "`share`: for A and for B the map's sum on the chromosome over all its sum, with two decimals at least."
    need(8, isinstance(share, dict) and all(near(share.get(name), truth[name], HUNDREDTHS) for name in truth), flaw)
    need(8, isinstance(honest, str) and honest in truth, '`honest` is "A" or "B".')
    need(
        8,
        honest == max(truth, key=truth.get),
        f"compare the shares with the chromosome's area, {mask.mean():.2f} of the image.",
    )
    shares = " and ".join(f"{value:.2f} ({name})" for name, value in truth.items())
    right(
        8,
        f"{shares} of the warmth lie on {mask.mean():.2f} of the area: less than that is a network that looks past.",
    )


def size(long, short, before, after, effect):
    from chromolib import images

    numbers(9, before=before, after=after)
    sizes = [images.area_and_length(image)[1] for image in (long, short)]
    squares = [images.area_and_length(images.square(image, 96))[1] for image in (long, short)]
    need(
        9,
        near(before, sizes[0] / sizes[1], TENTHS),
        "`before`: the length of the 1 over that of the 21, in the images as they are.",
    )
    need(
        9, near(after, squares[0] / squares[1], TENTHS), "`after`: the same ratio, of the images squared to 96 pixels."
    )
    right(
        9,
        f"{before:.1f} times as long, then {after:.1f} times. Size given back: {effect:+.1f} points on Q-band.",
    )


def together(function, places, answers, alone, read):
    for seed in range(3):
        logp = log_softmax(np.random.default_rng(seed).normal(size=(len(places), 2)), axis=1)
        found = returned(10, "best", function, "returns a class for each image", logp, places, many=True)
        taken = found.shape == (len(places),) and sorted(found) == sorted(places)
        need(10, taken, "each place is taken once: two images are an 8 and two a 9.")
        rows, columns = linear_sum_assignment(logp[:, places], maximize=True)
        most = logp[rows, np.array(places)[columns]].sum()
        worth = logp[range(len(places)), found.astype(int)].sum()
        need(
            10,
            near(worth, most),
            f"another order is likelier: log-probabilities of {most:.2f} in all, yours {worth:.2f}.",
        )
    numbers(10, alone=alone, read=read)
    labels, logp = metrics.arrays(answers)
    logp = log_softmax(logp, axis=1)
    count = accuracy_score(labels, logp.argmax(axis=1), normalize=False)
    need(10, near(alone, count), "`alone`: how many of the 46 have their largest log-probability at their label?")
    count = (karyotype.decode(logp, answers["cell"]) == labels).sum()
    need(10, near(read, count), "`read`: how many labels of karyotype.decode(log_probabilities, cells) are right?")
    right(10, f"Alone {alone} of {len(labels)}, read together {read}: what is surely a 9 pushes the doubtful one out.")
