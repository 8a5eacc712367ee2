"""MMD^2 with its bootstrap at the size of the paper, and how it grows, against re-indexing the kernel matrix per draw.

The peer is what alibi-detect does in its permutation test: keep the kernel matrix whole, and for each draw index its
rows and columns (`kernel[index][:, index]`) and sum. That takes hours, so few of its draws are timed (`peer_draws`),
and all of them reckoned from these. Memory is that of the process, libraries and features included. Features are
random: 16 common directions, and a shift between the sets.

For alibi-detect's own value: `pip install --no-deps alibi-detect`. As a whole it refuses NumPy 2, so that a single
file of it is read here.
"""

import importlib.util
import itertools
import statistics
import sys
import time
from pathlib import Path

import common
import numpy as np
import torch

from chromolib import similarity

SIZES = (13_394, 5_474, 2_986)  # natural, Q, G [paper]
GROWTH = (1000, 2000, 4000, 8000, 16_000)
DRAWS = 1000


def features(n, seed, d=768):
    """(n, d) float32; sets of different seeds are shifted against each other."""
    directions = np.random.default_rng(99).normal(size=(16, d))
    rng = np.random.default_rng(seed)
    return ((rng.normal(size=(n, 16)) + 0.3 * seed) @ directions / 4 + rng.normal(size=(n, d))).astype(np.float32)


def ours(sizes, draws=DRAWS):
    """Bandwidth and interval of each pair of sets: (seconds, [bandwidth], [value], GB at most)."""
    sets = [features(n, seed) for seed, n in enumerate(sizes)]
    started, bandwidths, values = time.perf_counter(), [], []
    for x, y in itertools.combinations(sets, 2):
        bandwidths.append(similarity.median_bandwidth(x, y))
        values.append(similarity.mmd2_interval(x, y, bandwidths[-1], draws).estimate)
    return time.perf_counter() - started, bandwidths, values, common.peak_memory()


def reindexing(sizes, bandwidths, measured, draws=DRAWS):
    """The same by the peer, `measured` of its draws timed: (seconds for all draws, [value], GB at most)."""
    sets = [torch.from_numpy(features(n, seed)) for seed, n in enumerate(sizes)]
    total, values = 0.0, []
    for (x, y), bandwidth in zip(itertools.combinations(sets, 2), bandwidths, strict=True):
        started = time.perf_counter()
        kernel = kernel_matrix(torch.cat([x, y]), bandwidth)
        values.append(mean_difference(kernel, len(x)).item())
        total += time.perf_counter() - started
        redraw = common.seconds(redrawn, kernel, len(x))
        total += draws * statistics.median(redraw() for _ in range(measured))
    return total, values, common.peak_memory()


def kernel_matrix(pool, bandwidth):
    """The Gaussian kernel of all pairs, (n, n), with zeros on the diagonal."""
    kernel = torch.cdist(pool, pool, compute_mode="use_mm_for_euclid_dist").square_().mul_(-0.5 / bandwidth).exp_()
    return kernel.fill_diagonal_(0)


def redrawn(kernel, n):
    """MMD^2 of one bootstrap draw within each of the two sets."""
    index = torch.cat([torch.randint(n, (n,)), torch.randint(n, len(kernel), (len(kernel) - n,))])
    return mean_difference(kernel[index][:, index], n)


def mean_difference(kernel, n):
    m = len(kernel) - n
    within = kernel[:n, :n].sum() / (n * (n - 1)) + kernel[n:, n:].sum() / (m * (m - 1))
    return within - 2 * kernel[:n, n:].mean()


def alibi_detect(x, y, bandwidth):
    """MMD^2 by alibi-detect's own functions, a float; None where it is not installed."""
    package = importlib.util.find_spec("alibi_detect")
    if package is None:
        return None
    file = Path(package.origin).parent / "utils" / "pytorch" / "distance.py"
    spec = importlib.util.spec_from_file_location("alibi_detect_distance", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pool = torch.from_numpy(np.concatenate([x, y]))
    kernel = torch.exp(-module.squared_pairwise_distance(pool, pool) / (2 * bandwidth))
    return module.mmd2_from_kernel_matrix(kernel, len(y)).item()


def full_size(sizes, turns, measured):
    """Rows on all pairs of the three sets, each side in a process of its own."""
    _, bandwidths, values, _ = common.apart(ours, sizes, 1)
    own, other = common.in_turn(
        turns,
        lambda: common.apart(ours, sizes),
        lambda: common.apart(reindexing, sizes, bandwidths, measured),
        warm_up=False,
    )
    (seconds, *_, memory), (seconds_other, others, memory_other) = zip(*own, strict=True), zip(*other, strict=True)
    time_of, memory_of, facts = "time of MMD²", "memory of MMD²", {"sizes": " ".join(map(str, sizes)), "draws": DRAWS}
    facts["largest_difference"] = np.abs(np.subtract(values, others)).max()
    yield common.row(time_of, "s", seconds, seconds_other, "re-indexing", 50, peer_draws=measured, **facts)
    yield common.row(time_of, "s", seconds, target=60, **facts)
    yield common.row(memory_of, "GB", memory, memory_other, "re-indexing", peer_draws=measured, **facts)
    yield common.row(memory_of, "GB", memory, target=3, **facts)


def value(n, m):
    """A row on alibi-detect's value, where it is at hand."""
    x, y = features(n, 0), features(m, 1)
    bandwidth = similarity.median_bandwidth(x, y)
    other = alibi_detect(x, y, bandwidth)
    if other is None:
        print("alibi-detect is not installed, so its value is not compared")
        return
    own = similarity.mmd2(x, y, bandwidth)
    facts = {"sizes": f"{n} {m}", "largest_difference": abs(own - other)}
    yield common.row("value of MMD²", "", [own], [other], "alibi-detect", **facts)


def grown(n, turns, measured):
    """Rows on seconds and memory with n embeddings in two halves."""
    halves = (n // 2, n // 2)
    own = [common.apart(ours, halves) for _ in range(turns)]
    other = [common.apart(reindexing, halves, own[0][1], measured)]
    facts = {"size": n, "of": "embeddings, both sets", "draws": DRAWS, "peer_draws": measured}
    for place, what, unit in ((0, "time", "s"), (-1, "memory", "GB")):
        mine, theirs = ([turn[place] for turn in turns] for turns in (own, other))
        yield common.row(what, unit, mine, theirs, "re-indexing", **facts)


def main(words=None):
    options = common.arguments(words)
    sizes, few, numbers = ((60, 40, 30), 40, [100, 200]) if options.quick else (SIZES, 3000, GROWTH)
    rows = [*full_size(sizes, options.turns, 3), *value(few, few // 2)]
    common.publish("similarity", rows, options.output, common.ratios)
    rows = [row for n in numbers for row in grown(n, options.turns, DRAWS if n <= 2000 else 3)]
    common.publish("similarity_growth", rows, options.output, common.growth)


if __name__ == "__main__":
    main(sys.argv[1:])
