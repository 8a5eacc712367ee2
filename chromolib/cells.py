"""What answers make of whole cells: karyotypes named, missed and made up. The tables of notebook 07.

`answers` are tables as in predictions.parquet, whose logits are log-probabilities
(`chromolib.readings`). The truth of a cell is what the labels of its images say. Shares come out in
per cent, differences in percentage points.
"""

import itertools

import numpy as np
import pandas as pd
from scipy.special import log_softmax
from scipy.stats import beta

from chromolib import CLASSES, calibration, karyotype, metrics, readings, runs, tables
from chromolib.errors import StudyError
from chromolib.intervals import UNKNOWN, Interval, columns, draw_counts, percentile_interval

KEY = [*tables.RUN, "way"]
WAYS = ("network", "network and size")
KINDS = ("normal", "one lost", "aneuploid", "other")
SHARES = ("whole_plain", "whole", "named_plain", "named")  # columns of `judged` that are counted
_ANEUPLOID = {"45,X", "47,XXX", "47,XXY", "47,XYY"}
_ANEUPLOID |= {f"47,{sex},+{name}" for sex in ("XX", "XY") for name in CLASSES[:22]}
_CERTAIN = karyotype.Priors(gained=0, foreign=0)  # a gain is one, so that likelihoods alone are compared


def answers(results, profile, data):
    """Answers of the runs of a `runs.Results` whose cells are known: {(task, architecture, approach, way): table}.

    way: "network", and "network and size" for the tasks of `data`, {task: Dataset}. Rows are those
    of `results`. StudyError where there is none.
    """
    read = {}
    for key, rows in results.predictions.items():
        if tables.groups(rows) is None:
            continue
        for way, images in zip(WAYS, [None, data[key[0]]] if key[0] in data else [None], strict=False):
            table = readings.answers(runs.folder(profile, *key), images)
            read[*key, way] = table[table["fold"].isin(rows["fold"])]
    if not read:
        raise StudyError(f"profile {profile!r}: no finished run whose cells are known; train one, or name its profile")
    return read


def calibrated(results, read):
    """Expected calibration error before and after reading, in per cent of probability: DataFrame, a row a run and way.

    before: of the network's own probabilities. log_loss: mean of -log P(true class), which the
    weights were chosen by, on other images.
    """
    rows = []
    for key, table in read.items():
        labels, after = metrics.arrays(table)
        before = log_softmax(metrics.arrays(results.predictions[key[:3]])[1], axis=1)
        row = dict(zip(KEY, key, strict=True)) | {"images": len(table)}
        for name, values in (("before", before), ("after", after)):
            row[f"error_{name}"] = 100 * calibration.expected_error(calibration.reliability(values, labels))
            row[f"log_loss_{name}"] = -values[np.arange(len(labels)), labels].mean()
        rows.append(row)
    return pd.DataFrame(rows)


def kind(text):
    """Which of `KINDS` a karyotype is: a lost autosome is an artefact, a trisomy or another number of X is not."""
    if text in karyotype.NORMAL:
        return "normal"
    if text in _ANEUPLOID:
        return "aneuploid"
    return "one lost" if text.startswith("45,") and text.count("-") == 1 and "+" not in text else "other"


def judged(table, min_log_odds=3.0):
    """Each cell of answers beside its truth: DataFrame, a row for each of 44 to 48 images; there may be none.

    The columns of `karyotype.call`, and group (patient, else cell), truth, kind; counted: the
    karyotype by counting the images' likeliest classes; plain, decoded, called: images right, each
    alone, as in a normal cell, and as called; whole_plain, whole, named_plain, named: whether all
    images and the karyotype are right, alone and as called; outcome: "named, sure" and so on.
    """
    labels, logits = metrics.arrays(table)  # (n,), (n, 24)
    names = table["cell"].to_numpy()
    called, calls = karyotype.read(logits, names, min_log_odds)
    guesses = {"plain": logits.argmax(axis=1), "decoded": karyotype.decode(logits, names), "called": called}
    right = pd.DataFrame({name: guess == labels for name, guess in guesses.items()}).groupby(names).sum()
    counts = {"truth": labels, "counted": guesses["plain"]}
    texts = {name: pd.Series(values).groupby(names).agg(_counted) for name, values in counts.items()}
    group = pd.Series(table[tables.groups(table)].to_numpy()).groupby(names).first()
    calls = calls.set_index("cell").join(right).assign(**texts, group=group)
    calls = calls[calls["n_images"].isin(karyotype.SIZES)].reset_index()
    outcome = np.where(calls["karyotype"] == calls["truth"], "named", "not named")
    return calls.assign(
        outcome=np.char.add(outcome, np.where(calls["sure"], ", sure", ", unsure")) if len(calls) else "",
        kind=calls["truth"].map(kind),
        whole_plain=calls["plain"] == calls["n_images"],
        whole=calls["called"] == calls["n_images"],
        named_plain=calls["counted"] == calls["truth"],
        named=calls["karyotype"] == calls["truth"],
    )


def _counted(labels):
    return karyotype.iscn(np.bincount(labels, minlength=metrics.N_CLASSES))


def summary(judgements, draws=10_000, seed=0):
    """What a run names, in numbers: DataFrame, a row for each {key: table of `judged`}.

    images_plain, images_decoded, images_called: images right; each of `SHARES` of cells, whole and
    named; all in per cent with _low and _high (95 %, groups drawn). named_normal and
    named_aneuploid: of such cells those called exactly, with the exact interval of `_exact_share`,
    since drawing cannot show a failure that no group had. Counts: aneuploid_named; false_alarms,
    normal cells called otherwise; wrong_sex, those of them called XX for XY or XY for XX.
    """
    rows = []
    for key, cells in judgements.items():
        row = dict(zip(KEY, key, strict=True)) | {"cells": len(cells), "groups": cells["group"].nunique()}
        for name in ("plain", "decoded", "called"):
            row |= _share(f"images_{name}", cells[name], cells["group"], draws, seed, of=cells["n_images"])
        for name in SHARES:
            row |= _share(name, cells[name], cells["group"], draws, seed)
        abnormal, normal = cells[cells["kind"] == "aneuploid"], cells[cells["kind"] == "normal"]
        for name, part in (("normal", normal), ("aneuploid", abnormal)):
            row |= _exact_share(f"named_{name}", part["named"], part["group"])
        alarms = normal[~normal["named"]]
        row |= {"aneuploid": len(abnormal), "aneuploid_named": abnormal["named"].sum(), "normal": len(normal)}
        wrong_sex = alarms["karyotype"].isin(karyotype.NORMAL).sum()
        rows.append(row | {"false_alarms": len(alarms), "wrong_sex": wrong_sex})
    return pd.DataFrame(rows)


def differences(judgements, draws=10_000, seed=0):
    """Pairs of readings of the same cells, the later less the earlier: DataFrame task, architecture, from, to, what.

    Pairs are approaches read in the same way, and ways of one approach; what: images right alone
    ("plain") and as in a normal cell ("decoded"), cells wholly right or karyotypes named, as
    called; change, change_low, change_high: in percentage points, the same groups drawn for both.
    """
    rows = []
    for (first, a), (second, b) in itertools.combinations(judgements.items(), 2):
        if first[:2] != second[:2] or (first[2] != second[2]) == (first[3] != second[3]):
            continue
        both = a.merge(b, on=["cell", "group"], suffixes=("_a", "_b"))
        names = {"task": first[0], "architecture": first[1], "from": ", ".join(first[2:]), "to": ", ".join(second[2:])}
        for what in ("plain", "decoded", "whole", "named"):
            of = both["n_images_a"] if what in ("plain", "decoded") else 1  # counts of images become shares
            change = (both[f"{what}_b"].astype(float) - both[f"{what}_a"].astype(float)) / of
            rows.append(names | {"what": what} | _share("change", change, both["group"], draws, seed))
    return pd.DataFrame(rows, columns=["task", "architecture", "from", "to", "what", *columns("change")])


def _share(name, values, groups, draws, seed, of=1):
    """A sum over cells by that of `of`, with its 95 % interval, groups drawn, in per cent: dict; NaN without cells."""
    if not len(values):
        return UNKNOWN.points(name)
    parts = pd.DataFrame({"sum": values.astype(float), "of": of}).groupby(groups).sum().to_numpy()  # (groups, 2)
    totals = draw_counts(len(parts), draws, np.random.default_rng(seed)) @ parts
    whole = parts.sum(axis=0)
    return percentile_interval(whole[0] / whole[1], totals[:, 0] / totals[:, 1], 0.95).points(name)


def _exact_share(name, values, groups):
    """A share of cells in per cent, with its 95 % interval as if a group were one observation: dict; NaN without cells.

    Clopper and Pearson's, with the number of groups for the effective number of observations (Korn
    and Graubard, Survey Methodology 24, 193, 1998): that of perfectly alike cells of a patient, so
    it is on the safe side.
    """
    if not len(values):
        return UNKNOWN.points(name)
    share, n = values.mean(), groups.nunique()
    ends = beta.ppf([0.025, 0.975], [n * share, n * share + 1], [n - n * share + 1, n - n * share])
    low, high = np.where(np.isnan(ends), [0, 1], ends)  # no cell, or every one: that end is sharp
    return Interval(share, low, high).points(name)


def made(table, chromosome="21", seed=0):
    """Abnormal cells made of real answers: {what was done: table}.

    Each normal cell of the table once in each: with an image of `chromosome` of another patient (or
    cell) in the same fold, so that the same network answered; without one image, drawn at random;
    and both.
    """
    rng, wanted = np.random.default_rng(seed), CLASSES.index(chromosome)
    donors, group = table[table["label"] == wanted], tables.groups(table)
    parts = {"47, one gained": [], "45, one lost": [], "46, one gained and another lost": []}
    for _, rows in normal_cells(table).groupby("cell"):
        others = donors[(donors["fold"] == rows["fold"].iloc[0]) & (donors[group] != rows[group].iloc[0])]
        if others.empty:
            continue
        own = {name: rows[name].iloc[0] for name in ("cell", group)}
        more = others.sample(1, random_state=rng).assign(**own)
        lost = rows.drop(rows[rows["label"] != wanted].sample(1, random_state=rng).index)
        for name, kept in zip(parts, ([rows, more], [lost], [lost, more]), strict=True):
            parts[name] += kept
    nothing = [table.iloc[:0]]
    return {name: pd.concat(kept or nothing, ignore_index=True) for name, kept in parts.items()}


def normal_cells(table):
    """The answers of the cells that are normal by their labels."""
    table = table.reset_index(drop=True)
    return table[table.groupby("cell")["label"].transform(lambda labels: _counted(labels) in karyotype.NORMAL)]


def evidence(table, chromosome="21"):
    """Of each cell of 46 images: log odds of a hidden gain against the normal karyotypes, (cells,) Series.

    A gain of `chromosome` with another lost in preparation; see `karyotype.constitutions`. Priors
    only shift it.
    """
    born = karyotype.constitutions(metrics.arrays(table)[1], table["cell"], _CERTAIN)
    gained = [f"47,{sex},+{chromosome}" for sex in ("XX", "XY")]
    return born[gained].max(axis=1) - born[list(karyotype.NORMAL)].max(axis=1)


def sensitivity(normal, hidden, specificities=(0.95, 0.99)):
    """How many hidden gains are seen where so many normal cells are left in peace: DataFrame, a row a specificity.

    normal, hidden: (cells,) evidence. threshold: at most the rest of the normal cells lie above it;
    sensitivity: share of the hidden ones that do.
    """
    rows = []
    for wanted in specificities:
        threshold = np.quantile(normal, wanted, method="higher")
        left_alone, seen = (normal <= threshold).mean(), (hidden > threshold).mean()
        rows.append((100 * wanted, threshold, 100 * left_alone, 100 * seen))
    return pd.DataFrame(rows, columns=["wanted_specificity", "threshold", "specificity", "sensitivity"])


def counting(normal, hidden, chromosome="21"):
    """The same by counting each image's likeliest class: dict specificity, sensitivity of "three or more of it"."""
    shares = []
    for table in (normal, hidden):
        guess = metrics.arrays(table)[1].argmax(axis=1) == CLASSES.index(chromosome)
        shares.append((pd.Series(guess).groupby(table["cell"].to_numpy()).sum() >= 3).mean())
    return {"specificity": 100 * (1 - shares[0]), "sensitivity": 100 * shares[1]}


def search(table, hides, chromosome="21", draws=1_000, seed=0):
    """A search for `chromosome` among 46: evidence of the normal cells and of `hides`, and a table of what is found.

    It has the columns of `sensitivity` and by: the odds, and beside them counting. sensitivity_low
    and _high (95 %): patients, else cells, drawn, the threshold chosen anew in each draw; not held
    is the luck of which images were put in and taken out. `hides` may be empty.
    """
    if hides.empty:
        return pd.Series(dtype=float), pd.Series(dtype=float), pd.DataFrame(columns=["by", "sensitivity"])
    healthy = normal_cells(table)
    normal, hidden = evidence(healthy, chromosome), evidence(hides, chromosome)
    weighed = sensitivity(normal, hidden).assign(by="odds")
    groups = healthy.groupby("cell")[tables.groups(table)].first()
    drawn = list(_drawn_sensitivities(normal, hidden, groups, draws, seed))
    weighed["sensitivity_low"], weighed["sensitivity_high"] = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    counted = pd.DataFrame([{"by": "counting three or more"} | counting(healthy, hides, chromosome)])
    return normal, hidden, pd.concat([weighed, counted], ignore_index=True)


def _drawn_sensitivities(normal, hidden, groups, draws, seed):
    """Yield (specificities,) of groups drawn with replacement; groups: (cells,) Series, as normal is."""
    members, rng = [part.index for _, part in groups.groupby(groups)], np.random.default_rng(seed)
    for _ in range(draws):
        names = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        yield sensitivity(normal[names], hidden.reindex(names).dropna())["sensitivity"]


def risks(read, judgements, task, architecture):
    """`calibration.risk` of one network's answers on a task: {"images": curves, "cells": curves}; cells by log odds.

    Curves are {(approach, way): table}.
    """
    panels = {"images": {}, "cells": {}}
    for key in (key for key in read if key[:2] == (task, architecture)):
        labels, logits = metrics.arrays(read[key])
        calls = judgements[key]
        panels["images"][key[2:]] = calibration.risk(logits.max(axis=1), logits.argmax(axis=1) == labels)
        panels["cells"][key[2:]] = calibration.risk(calls["log_odds"], calls["named"])
    return panels


def doubtful(table, cell):
    """The images of a cell that are not all of one mind: DataFrame file, label, alone, probability, called, in words.

    alone: the likeliest class of the image by itself, and its probability in per cent; called: as
    the cell is read.
    """
    rows = table[table["cell"] == cell]
    labels, logits = metrics.arrays(rows)
    called = karyotype.read(logits, rows["cell"])[0]
    names = np.array([*CLASSES, "no chromosome"])
    alone = logits.argmax(axis=1)
    shown = {"file": rows["file"], "label": names[labels], "alone": names[alone], "called": names[called]}
    shown = pd.DataFrame(shown).assign(probability=100 * np.exp(logits.max(axis=1)))
    return shown[(alone != labels) | (called != labels)].reset_index(drop=True)
