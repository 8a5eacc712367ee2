"""What every bootstrap here shares: the draws, and the interval made of them."""

from typing import NamedTuple

import numpy as np

from chromolib.errors import StudyError


class Interval(NamedTuple):
    """An estimate, the two ends of its interval, and the p-value where the method has one."""

    estimate: float
    low: float
    high: float
    p: float | None = None

    def points(self, name):
        """Estimate and ends in percentage points, under the names of `columns`: dict."""
        return dict(zip(columns(name), (100 * value for value in self[:3]), strict=True))


UNKNOWN = Interval(np.nan, np.nan, np.nan, np.nan)


def columns(name):
    """What a table calls an estimate and the two ends of its interval."""
    return [name, f"{name}_low", f"{name}_high"]


def check_level(level):
    """Raises StudyError unless `level` is a coverage such as 0.95."""
    if not 0 < level < 1:
        raise StudyError(f"level: {level} is not a coverage; give a number between 0 and 1, such as 0.95")


def draw_counts(n, n_boot, rng):
    """How often each of n things occurs in n draws with replacement: (n_boot, n) float32, whole numbers.

    float32 because these counts go straight into matrix products; it holds whole numbers up to
    16,777,216 exactly.
    """
    counts = np.empty((n_boot, n), np.float32)
    for row in counts:
        row[:] = np.bincount(rng.integers(n, size=n), minlength=n)
    return counts


def percentile_interval(estimate, replicates, level, p=None):
    """The Interval between the equal-tailed percentiles of the replicates (n_boot,), at coverage `level`.

    Raises StudyError for a level outside (0, 1), for no replicates and for replicates that are not
    numbers.
    """
    check_level(level)
    if len(replicates) == 0:
        raise StudyError("n_boot: an interval needs at least one draw; the usual number is 1,000 or more")
    if not np.isfinite(replicates).all():
        raise StudyError("the sample is too small to resample: some draws have no value; use more images or cells")
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(estimate), float(low), float(high), p)
