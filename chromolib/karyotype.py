"""From the chromosomes of a cell to its karyotype.

A classifier that looks at one image at a time may call five chromosomes of a cell a 9. Read
together they cannot be: which labels fit a karyotype best is an assignment problem, solved exactly
(`scipy.optimize.linear_sum_assignment`). That is the transportation problem of Tso, Kleinschmidt,
Mitterreiter and Graham (Pattern Recognition Letters 12, 117, 1991), the maximum likelihood of
Ritter et al. (Pattern Recognition 28, 1995), the reassignment of Poletti et al. (Computer Methods
and Programs in Biomedicine 108, 2012) and the "dispatch" of Varifocal-Net (Qin et al., IEEE
Transactions on Medical Imaging 38, 2019).

Two questions are asked of a cell. `decode`: which labels, if the cell is normal? `call`: which
karyotype, abnormal ones among them? A call weighs, as a cytogeneticist does, how well the
chromosomes fit a karyotype against how often such a karyotype is met: a chromosome is easily lost
on the slide, and a trisomy of chromosome 9 is hardly ever born.

Research only: a call is no diagnosis.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.special import binom, gammaln, log_softmax, softmax, xlogy

from chromolib import CLASSES, N_CHROMOSOMES, metrics
from chromolib.errors import StudyError

SIZES = range(44, 49)  # images of a cell whose karyotype can be called: up to two lost, or two too many
NOTHING = metrics.N_CLASSES  # a further class beside the 24: an image that is no chromosome
NORMAL = ("46,XX", "46,XY")
_FREQUENCIES = np.array([*[2] * 22, 1.5, 0.5]) / N_CHROMOSOMES  # of the classes among images of normal cells
_LOG_WAYS = np.log(np.maximum(binom(*np.indices((4, 4))), 1))  # [n, k]: to lose k of n


class Priors(NamedTuple):
    """How often what is met, before a chromosome of the cell has been looked at.

    born: of each constitutional abnormality, per birth of either sex: 68,159 newborn (43,612 boys,
    24,547 girls) of the surveys collected in Gersen and Keagle, The Principles of Clinical
    Cytogenetics (Table 1 of "Prenatal Cytogenetics"). other_trisomy: of each other autosome; the 2
    of the same table that are no 13, 18 or 21, shared out. A laboratory to which patients are sent
    meets all of them more often. lost, gained, foreign [ours]: cells of which a chromosome was lost
    in preparation, into which a neighbour's strayed, and with a picture that is no chromosome.
    """

    born: tuple = (
        ("45,X", 0.5 * 6 / 24_547), ("47,XXX", 0.5 * 27 / 24_547), ("47,XXY", 0.5 * 45 / 43_612),
        ("47,XYY", 0.5 * 45 / 43_612), ("+13", 3 / 68_159), ("+18", 9 / 68_159), ("+21", 82 / 68_159),
    )  # fmt: skip
    other_trisomy: float = 2 / 68_159 / 19
    lost: float = 0.05
    gained: float = 0.002
    foreign: float = 1e-3


def call(log_probabilities, cells, min_log_odds=3.0, priors=None):
    """The karyotype of each cell: DataFrame cell, n_images, karyotype, runner_up, log_odds, sure; a row a cell, sorted.

    log_probabilities: (n, 24) float, finite, a network's for each image; cells: (n,) names.

    Weighed are, with XX and with XY: the normal cell; one chromosome gained; one lost; one gained
    and another lost; and the sex chromosomes X, XXX, XXY and XYY; in a cell of 44 or 48 images one
    change more. Each is given the assignment of images to chromosomes that fits it best. Its
    log-likelihood and the logarithm of its prior (`Priors`, by default the newborn incidences) are
    added; a change counts as born with, or as having happened in preparation, whichever is
    likelier. One image may turn out to be no chromosome.

    karyotype: of the images at hand, as ISCN writes it ("46,XX", "47,XY,+21", "45,XX,-19"); "?" for
    a cell whose number of images (such as 30 or 92) is that of no single cell. runner_up: the next
    best. log_odds: natural logarithm of the odds of the first against the second. sure: these odds
    reach `min_log_odds` ([ours] 3.0, which is 20 to 1), and every image is a chromosome. By the
    default priors perfect images reach 4.4 for +21 and 4.1 or more for further sex chromosomes, but
    2.2 for +18 and 1.7 for the other gains, against a normal cell with a picture that is no
    chromosome: those are never sure. Structural rearrangements are not judged. Raises StudyError as
    `decode`.
    """
    return read(log_probabilities, cells, min_log_odds, priors)[1]


def read(log_probabilities, cells, min_log_odds=3.0, priors=None):
    """The labels that `call` gave the images, (n,) int64, -1 where one is no chromosome; and the table of `call`.

    The labels of a cell without a karyotype ("?") are those of the network.
    """
    log_probabilities, cells = _check(log_probabilities, cells)
    labels, rows = log_probabilities.argmax(axis=1), []
    for cell, members in _members(cells):
        row = {"cell": cell, "n_images": len(members), "karyotype": "?", "runner_up": "?", "log_odds": 0.0}
        if len(members) in SIZES:
            worth = _worth(log_probabilities[members])  # (m, 25)
            counts, fits = _hypotheses(worth)  # (h, 25), (h,)
            evidence = (fits[:, None] + _log_priors(counts, priors or Priors())).max(axis=1)  # (h,)
            best = counts[evidence.argmax()]  # (25,)
            others = (counts[:, :NOTHING] != best[:NOTHING]).any(axis=1)
            row |= {"karyotype": iscn(best), "runner_up": iscn(counts[others][evidence[others].argmax()])}
            row["log_odds"] = evidence.max() - evidence[others].max()
            _, classes = _assign(worth, np.repeat(np.arange(NOTHING + 1), best))
            labels[members] = np.where(classes == NOTHING, -1, classes)
        sure = row["log_odds"] >= min_log_odds and (labels[members] >= 0).all()
        rows.append(row | {"sure": bool(sure)})
    return labels, pd.DataFrame(rows)


def constitutions(log_probabilities, cells, priors=None):
    """What the person may be born with: log evidence of each constitution, DataFrame, a row a cell, a column each.

    As `call`, but a chromosome that was lost in preparation, or strayed in, does not count:
    45,XX,-19 is evidence of 46,XX. The difference of two columns is their log odds, such as of
    47,XX,+21 against 46,XX in a cell of 46 images that has lost another chromosome; a threshold on
    it is to be chosen on normal cells, for a stated specificity, with `Priors(gained=0,
    foreign=0)`, so that no third explanation hides either. NaN for a cell with a number of images
    that no single cell has. Raises StudyError as `decode`.
    """
    log_probabilities, cells = _check(log_probabilities, cells)
    priors, rows = priors or Priors(), {}
    names = [iscn(counts) for counts in _constitutions(priors)[0]]
    for cell, members in _members(cells):
        rows[cell] = np.full(len(names), np.nan)
        if len(members) in SIZES:
            counts, fits = _hypotheses(_worth(log_probabilities[members]))
            rows[cell] = (fits[:, None] + _log_priors(counts, priors)).max(axis=0)
    return pd.DataFrame.from_dict(rows, orient="index", columns=names).rename_axis("cell")


def constitution(log_probabilities, cells):
    """What the person is likeliest born with: DataFrame cell, constitution (ISCN), constitution_probability.

    As `constitutions`, the probability being that among all of them by the default priors. In a cell of 45
    images that shows one X and no Y it is mostly that of 46,XX, of which one was lost in
    preparation. "?" and NaN for a cell with a number of images that no single cell has. Raises
    StudyError as `decode`.
    """
    table = constitutions(log_probabilities, cells)
    known = table.notna().all(axis=1)
    chances = softmax(table[known].to_numpy(), axis=1)  # (c, number of constitutions)
    rows = pd.DataFrame({"constitution": "?", "constitution_probability": np.nan}, index=table.index)
    rows.loc[known, "constitution"] = table.columns.to_numpy()[chances.argmax(axis=1)]
    rows.loc[known, "constitution_probability"] = chances.max(axis=1)
    return rows.reset_index()


def decode(log_probabilities, cells):
    """The likeliest labels of all images if their cells are normal, those of a cell together: (n,) int64.

    log_probabilities: (n, 24) float, finite; cells: (n,) names. Both sexes are tried and the
    likelier is kept.

    A cell with 46 images fills a karyotype; with fewer (a lost chromosome, or only part of the cell
    at hand) places stay empty, so that no class occurs more often than in a normal cell. With more
    all places are filled, and each image beyond 46 may be a further copy of any class: with 47
    images the likeliest trisomy. Two deviations that cancel, such as one lost and another gained
    among 46, are for `call`. Raises StudyError for unknown cells and for shapes or values that
    cannot be decoded.
    """
    log_probabilities, cells = _check(log_probabilities, cells)
    labels = np.empty(len(cells), np.int64)
    for _, rows in _members(cells):
        fits = [_fit(log_probabilities[rows], counts_of(normal)) for normal in NORMAL]
        labels[rows] = max(fits, key=lambda fit: fit[0])[1]
    return labels


def decoded(predictions):
    """A table as in predictions.parquet, its logits replaced: 1 for the label decoded with its cell, 0 for the others.

    So everything that scores predictions scores these, but for the AUC, which has no meaning here.
    Cells are decoded from all rows given: pooled over folds each row is still the word of a network
    that has not trained on its image.
    """
    labels = decode(log_softmax(predictions[metrics.LOGITS].to_numpy(np.float64), axis=1), predictions["cell"])
    certain = pd.DataFrame(np.eye(metrics.N_CLASSES)[labels], columns=metrics.LOGITS, index=predictions.index)
    return predictions.drop(columns=metrics.LOGITS).join(certain)


def by_cell(predictions, decoded):
    """How a table and its `decoded` fare in each cell: DataFrame cell, images, plain, decoded (images right), change.

    The cells where decoding hurts come first.
    """
    table = pd.DataFrame({"cell": predictions["cell"].to_numpy(), "images": 1})
    for name, rows in (("plain", predictions), ("decoded", decoded)):
        table[name] = rows[metrics.LOGITS].to_numpy().argmax(axis=1) == rows["label"].to_numpy()
    table = table.groupby("cell", as_index=False).sum()
    table["change"] = table["decoded"] - table["plain"]
    return table.sort_values("change", kind="stable", ignore_index=True)


def iscn(counts):
    """The karyotype of a cell with so many chromosomes of each class (24, or more), as ISCN writes it.

    "?" stands for the sex chromosomes where none is at hand.
    """
    counts = np.asarray(counts)[: metrics.N_CLASSES]
    text = f"{counts.sum()},{'X' * counts[22] + 'Y' * counts[23] or '?'}"
    for name, excess in zip(CLASSES, counts[:22] - 2, strict=False):
        text += f",{'+' if excess > 0 else '-'}{name}" * abs(excess)
    return text


def counts_of(karyotype):
    """The inverse of `iscn`: (24,) int64, how many chromosomes of each class a karyotype has."""
    _, sex, *changes = karyotype.split(",")
    counts = np.array([*[2] * 22, sex.count("X"), sex.count("Y")])
    for change in changes:
        counts[CLASSES.index(change[1:])] += 1 if change[0] == "+" else -1
    return counts


def _members(cells):
    """Yield (name, row numbers) of each cell, by name; its rows shuffled.

    Where answers are equal an assignment follows the order of the images, and files are often in
    that of their labels: a network that knows nothing would seem to know the classes.
    """
    names, places = np.unique(cells, return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(len(places))
    order = shuffled[np.argsort(places[shuffled], kind="stable")]
    yield from zip(names, np.split(order, np.cumsum(np.bincount(places))[:-1]), strict=True)


def _worth(log_probabilities):
    """(m, 24) log P(class | image) -> (m, 25) log P(image | class) - log P(image), by Bayes; last: no chromosome.

    A picture that is no chromosome is taken to look like any picture: log-likelihood 0.
    """
    return np.pad(log_probabilities - np.log(_FREQUENCIES), ((0, 0), (0, 1)))


def _assign(worth, places):
    """The best sum and labels (m,) of m images in `places` (p,), the class of each; p >= m."""
    rows, columns = linear_sum_assignment(worth[:, places], maximize=True)
    return worth[rows, places[columns]].sum(), places[columns]


def _fit(worth, karyotype):
    """The best sum and labels (m,) of m images in a karyotype (24,): places stay empty, or any class has more."""
    places = np.repeat(np.arange(metrics.N_CLASSES), karyotype)
    spare = max(0, len(worth) - len(places))
    if not spare:
        return _assign(worth, places)
    # More than any rearrangement could gain, so that no place stays empty while a spare one is taken.
    bonus = 1 + len(worth) * np.ptp(worth)
    further = np.tile(np.arange(metrics.N_CLASSES), spare)
    columns = np.concatenate([worth[:, places] + bonus, worth[:, further]], axis=1)
    rows, columns = linear_sum_assignment(columns, maximize=True)
    labels = np.concatenate([places, further])[columns]
    return worth[rows, labels].sum(), labels


def _hypotheses(worth):
    """What a cell with images of `worth` (m, 25) may hold: counts (h, 25) and log-likelihood (h,) of the best fit.

    The best fit to a normal cell of either sex, and all that lose one of a class against it and
    gain one of another.
    """
    counts, fits = [], []
    for normal in NORMAL:
        fit, labels = _fit(worth, counts_of(normal))
        changes = fit - _detours(worth, labels)  # (25, 25)
        lost, gained = np.nonzero(np.isfinite(changes))
        steps = np.eye(NOTHING + 1, dtype=np.int64)
        counts.append(np.bincount(labels, minlength=NOTHING + 1) + steps[gained] - steps[lost])
        fits.append(changes[lost, gained])
    counts, fits = np.concatenate(counts), np.concatenate(fits)
    # A labelling stands for all orders of the images in which it can come about.
    return counts, fits + gammaln(counts + 1).sum(axis=1) - gammaln(len(worth) + 1)


def _detours(worth, labels):
    """What it costs the best labelling at least to have one image less of class a and one more of b: (25, 25).

    The image that leaves a may push another one out of its class, and so on to b: the shortest path
    in the residual graph of the transportation problem, after which the labelling is again the best
    of its kind (Ahuja, Magnanti and Orlin, Network Flows, 1993, section 9.7). All paths at once by
    Floyd and Warshall. Diagonal 0; inf where there is no image to leave.
    """
    cost = np.full((NOTHING + 1, NOTHING + 1), np.inf)
    np.minimum.at(cost, labels, worth[np.arange(len(worth)), labels][:, None] - worth)
    np.fill_diagonal(cost, 0)
    for middle in range(len(cost)):
        cost = np.minimum(cost, cost[:, middle, None] + cost[middle])
    return cost


def _constitutions(priors):
    """Karyotypes that one may be born with, counts (c, 24), and log prior (c,); normal ones first."""
    born = dict(priors.born)
    chances = dict.fromkeys(NORMAL, 0.5) | {text: chance for text, chance in born.items() if text[0] != "+"}
    for autosome in CLASSES[:22]:
        chance = 0.5 * born.get(f"+{autosome}", priors.other_trisomy)
        chances |= {f"{normal},+{autosome}": chance for normal in NORMAL}
    return np.array([counts_of(text) for text in chances]), np.log([*chances.values()])


def _log_priors(counts, priors):
    """log P(born as c, and the cell holds what h says): (h, c) of counts (h, 25), for each of `_constitutions`."""
    born, log_chance = _constitutions(priors)
    surplus = counts[:, None, :NOTHING] - born  # (h, c, 24)
    lost, gained = np.maximum(-surplus, 0), np.maximum(surplus, 0)
    artefacts = _LOG_WAYS[born, lost].sum(axis=2)  # which of its two was lost
    artefacts += xlogy(lost.sum(axis=2), priors.lost / N_CHROMOSOMES)
    artefacts += xlogy(gained.sum(axis=2), priors.gained / metrics.N_CLASSES)
    return log_chance + artefacts + xlogy(counts[:, NOTHING], priors.foreign)[:, None]


def _check(log_probabilities, cells):
    if cells is None or pd.isna(np.asarray(cells, object)).any():
        raise StudyError("cells: unknown for some images (as in CIR); only whole cells can be decoded")
    log_probabilities, cells = np.asarray(log_probabilities, np.float64), np.asarray(cells, str)
    if log_probabilities.shape != (len(cells), metrics.N_CLASSES) or len(cells) == 0:
        raise StudyError(
            f"log_probabilities: shape {log_probabilities.shape} does not fit {len(cells)} cells; "
            f"expected a row of {metrics.N_CLASSES} for each image"
        )
    if not np.isfinite(log_probabilities).all():
        raise StudyError("log_probabilities: NaN or infinite values; take log_softmax of finite logits in float64")
    return log_probabilities, cells
