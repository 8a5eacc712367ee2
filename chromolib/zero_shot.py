"""What networks of one staining say of the other, which they never saw: as it is, and with inverted grey levels.

In Q-band the bands that are rich in AT are bright on black, in G-band dark on white. A negative has the other polarity,
of bands and ground. If it is read better, polarity is what keeps the two stainings apart.

    python -m chromolib.zero_shot PROFILE        makes the table zero_shot of a profile whose weights are at hand
"""

import sys

import numpy as np
import pandas as pd
from scipy.special import log_softmax, logsumexp

from chromolib import datasets, metrics, parameters, paths, predict, report, runs, statistics, tables
from chromolib.errors import ends_command

PRESENTATIONS = ("square", "inverted")


def answers(run, data):
    """What the networks of a run say of a data set, their probabilities averaged: table as of `runs.predictions`.

    run: folder of a finished run with its weights; data: `datasets.Dataset` of the run's image size.
    """
    logits = predict.Predictor(run).logits(np.array(data.images))  # (folds, n, 24)
    mean = logsumexp(log_softmax(logits, axis=2), axis=0) - np.log(len(logits))  # (n, 24)
    about = pd.DataFrame({"file": data.files, "cell": data.cells, "patient": data.patients, "label": data.labels})
    return pd.concat([about, pd.DataFrame(mean, columns=metrics.LOGITS)], axis=1)


def scores(profile, architecture, approach="imagenet", draws=10_000, seed=0):
    """Macro-F1 on the staining that was not learned from: DataFrame, a row per task learned from and presentation.

    trained_on, shown, data (of what is shown), presentation, n_images; macro_f1 in per cent, and change, inverted less
    as it is, in points, the same cells or patients drawn for both; each with _low and _high (95 %), and change_p.
    About these networks. StudyError where a run or its weights are missing.
    """
    rows = []
    for source in ("q_band", "g_band"):
        run = runs.folder(profile, source, architecture, approach)
        settings = runs.record(run)["parameters"]
        target = parameters.parent(settings | {"parent": approach})[1]
        shown = {
            name: answers(run, datasets.load(settings[target], size=settings["image_size"], presentation=name))
            for name in PRESENTATIONS
        }
        plain, negative = (shown[name] for name in PRESENTATIONS)
        change = statistics.paired_bootstrap(negative, plain, "macro_f1", tables.groups(plain), draws, seed=seed)
        for name, table in shown.items():
            start = {"trained_on": source, "shown": target, "data": settings[target], "presentation": name}
            interval = statistics.score_interval(table, "macro_f1", tables.groups(table), draws, seed=seed)
            row = start | {"n_images": len(table)} | interval.points("macro_f1")
            rows.append(row | change.points("change") | {"change_p": change.p})
    return pd.DataFrame(rows)


@ends_command()
def main(arguments=None):
    """Make the table of a profile, for all its networks."""
    words = sys.argv[1:] if arguments is None else arguments
    if len(words) != 1:
        sys.exit("usage: python -m chromolib.zero_shot PROFILE")
    networks = parameters.of_profile(*words)["architectures"]
    parts = [scores(*words, network).assign(architecture=network) for network in networks]
    table = pd.concat(parts, ignore_index=True)
    report.save_table(table, *words, "zero_shot")
    print(table.to_string())
    print(f"written to {paths.runs() / words[0] / 'tables' / 'zero_shot.csv'}")


if __name__ == "__main__":
    main()
