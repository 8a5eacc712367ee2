"""The paired bootstrap over cells: `statistics.paired_bootstrap` against SciPy's, which scores each draw anew.

Both resample whole cells of the committed predictions of the mini study.
"""

import sys
from functools import partial

import common
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import f1_score

from chromolib import metrics, paths, statistics

FOLDER = paths.ROOT / "runs" / "reference" / "mini" / "q_band" / "efficientnet_lite0"


def scipys(a, b, n_boot):
    """The ends of SciPy's percentile interval of Macro-F1(a) - Macro-F1(b), cells drawn with replacement."""
    labels, cells = a["label"].to_numpy(), a["cell"].to_numpy()
    guesses = [metrics.arrays(frame)[1].argmax(axis=1) for frame in (a, b)]
    score = partial(f1_score, labels=range(24), average="macro", zero_division=0)
    images = [np.flatnonzero(cells == cell) for cell in np.unique(cells)]

    def difference(drawn):
        chosen = np.concatenate([images[cell] for cell in drawn])
        one, other = (score(labels[chosen], guess[chosen]) for guess in guesses)
        return one - other

    return stats.bootstrap(
        (np.arange(len(images)),), difference, n_resamples=n_boot, vectorized=False, method="percentile", rng=0
    ).confidence_interval


def main(words=None):
    options = common.arguments(words)
    n_boot = 20 if options.quick else 1000
    a, b = (pd.read_parquet(FOLDER / approach / "predictions.parquet") for approach in ("two_step", "imagenet"))
    b = b.set_index("file").loc[a["file"]].reset_index()
    sides = (partial(statistics.paired_bootstrap, a, b, "macro_f1", "cell", n_boot), partial(scipys, a, b, n_boot))
    (_, *ends, _), others = (side() for side in sides)
    own, other = common.in_turn(options.turns, *map(common.seconds, sides), warm_up=False)
    facts = {"low_ours": ends[0], "high_ours": ends[1], "low_scipy": others[0], "high_scipy": others[1]}
    facts |= {"draws": n_boot, "data": "mini, Q-band, Macro-F1 of two_step - imagenet", "images": len(a)}
    rows = [common.row("paired bootstrap over cells", "s", own, other, "SciPy and scikit-learn", **facts)]
    common.publish("bootstrap", rows, options.output, common.ratios)


if __name__ == "__main__":
    main(sys.argv[1:])
