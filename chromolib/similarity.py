"""How far apart two sets of images lie: features, the maximum mean discrepancy (MMD), and CORAL.

Everything but `embed` takes features x (n, d) and y (m, d) of any float type and raises StudyError
where these are not two finite matrices of equal width. The kernel is k(a, b) = exp(-|a - b|^2 / (2
sigma^2)), sigma^2 being the argument `bandwidth`. Kernels are computed in float32 (on centred
features, so that nothing cancels), in blocks of rows, and never stored whole; sums over blocks are
float64.
"""

import itertools

import numpy as np
import pandas as pd

from chromolib.errors import StudyError
from chromolib.intervals import Interval, draw_counts, percentile_interval

_ROWS = 1024  # of a kernel block: with 13,394 columns 55 MB
_MEDIAN_ROWS = 20_000  # whose 2.0e8 distances take 800 MB


def embed(images, architecture="efficientnet_lite0", weights="imagenet", batch_size=64):
    """Features after the last pooling layer of a network, (n, d) float32.

    images: (n, H, H) uint8, possibly a memory map: read one batch at a time. weights: as for
    `architectures.create`. Runs in float32 on the first CUDA device, else on the CPU.
    """
    import torch

    from chromolib import architectures, device

    if images.ndim != 3 or images.dtype != np.uint8 or len(images) == 0:
        raise StudyError(
            f"images: expected (n, H, H) uint8 with n > 0, not {images.dtype} of shape {images.shape}; "
            "pass Dataset.images"
        )
    where, features = device.choose(), []
    model = architectures.create(architecture, weights, image_size=images.shape[1]).eval()
    with torch.inference_mode(), device.memory_explained():
        device.prepare(model, where, architectures.memory_format(architecture, where))
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(np.array(images[start : start + batch_size])).to(where)  # (b, H, H)
            hidden = model.forward_features(architectures.normalise(batch, architecture))
            pooled = model.forward_head(hidden, pre_logits=True)  # (b, d)
            features.append(pooled.float().cpu().numpy())
    return np.concatenate(features)


def median_bandwidth(x, y, reading="median_distance", balanced=True):
    """sigma^2 of the "median heuristic" on the pooled sample of x and y, over all pairs i < j. A float.

    The heuristic has two readings: "median_distance" takes sigma = median d, so sigma^2 = (median
    d)^2 (as hyppo does); "median_square_half" takes sigma^2 = median(d^2) / 2 (as alibi-detect
    does), a kernel half as wide. balanced: as many rows of x as of y, drawn from the larger with a
    fixed seed [ours]; else all rows, and the median is as good as that of the larger set alone.
    Exact up to 20,000 rows; beyond, of so many, drawn with a fixed seed.
    """
    if reading not in ("median_distance", "median_square_half"):
        raise StudyError(f"reading: {reading!r} is unknown; choose 'median_distance' or 'median_square_half'")
    x, y = _scaled(x, y)
    rng, n = np.random.default_rng(0), min(len(x), len(y))
    pool = np.concatenate([rng.permutation(x)[:n], rng.permutation(y)[:n]] if balanced else [x, y])
    if len(pool) > _MEDIAN_ROWS:
        pool = rng.choice(pool, _MEDIAN_ROWS, replace=False)
    squares = _pairwise_squares(pool)
    if reading == "median_distance":
        bandwidth = float(np.median(np.sqrt(squares, out=squares), overwrite_input=True)) ** 2
    else:
        bandwidth = float(np.median(squares, overwrite_input=True)) / 2
    if bandwidth == 0:
        raise StudyError("x, y: at least half of all pairs of features are equal; remove the repeated images")
    return bandwidth


def mmd2(x, y, bandwidth):
    """The unbiased estimate of MMD^2 (Gretton et al. 2012, eq. 3), a float; it may be negative.

    sum_{i != j} k(x_i, x_j) / n(n-1) + sum_{i != j} k(y_i, y_j) / m(m-1) - 2 mean k(x_i, y_j).
    """
    x, y = _scaled(x, y, bandwidth)
    ones_x, ones_y = np.ones((len(x), 1), np.float32), np.ones((len(y), 1), np.float32)
    within = _textbook_mean(x, ones_x) + _textbook_mean(y, ones_y)
    return float((within - 2 * _cross_mean(x, y, ones_x, ones_y))[0])


def mmd2_interval(x, y, bandwidth, n_boot=1000, level=0.95, seed=0, groups=None, replicate="distinct"):
    """Percentile bootstrap Interval of MMD^2, the bandwidth kept fixed; its estimate is `mmd2`. No p.

    groups: None resamples images. (groups_x, groups_y), labels (n,) and (m,) such as cells,
    resamples whole groups; either may be None where groups are unknown.

    replicate: "distinct" means over pairs of distinct things only: with counts w of images (w'Kw -
    sum w^2) / (n^2 - sum w^2), and with groups each copy of a group keeps its own pairs while pairs
    between copies of one group are left out. "textbook" applies the formula of `mmd2` to the drawn
    sample [the paper's reading]; an image drawn twice then meets itself with k = 1, which biases
    the replicates upwards by about (1 - mean k_xx) / n + (1 - mean k_yy) / m.
    """
    if replicate not in ("distinct", "textbook"):
        raise StudyError(f"replicate: {replicate!r} is unknown; choose 'distinct' or 'textbook'")
    x, y = _scaled(x, y, bandwidth)
    members_x, members_y = _both_members(groups, x, y)
    rng = np.random.default_rng(seed)
    drawn_x, drawn_y = _draws(members_x, n_boot, rng), _draws(members_y, n_boot, rng)  # (groups, 1 + n_boot)
    weights_x, weights_y = drawn_x[members_x], drawn_y[members_y]  # (n, 1 + n_boot), (m, 1 + n_boot)
    if replicate == "distinct":
        within = _distinct_mean(x, weights_x, members_x, drawn_x) + _distinct_mean(y, weights_y, members_y, drawn_y)
    else:
        within = _textbook_mean(x, weights_x) + _textbook_mean(y, weights_y)
    values = within - 2 * _cross_mean(x, y, weights_x, weights_y)  # (1 + n_boot,)
    return percentile_interval(values[0], values[1:], level)


def permutation_test(x, y, bandwidth, n_permutations=1000, seed=0, groups=None):
    """p of the hypothesis that x and y come from one distribution: (b + 1) / (n_permutations + 1).

    b counts the random relabellings of the pooled sample whose MMD^2 is at least the observed one.
    groups: as for `mmd2_interval`. Whole groups are relabelled, as many for x as x has, for what
    depends on each other must stay together: relabelling single images raises false alarms. Where
    the groups of one set alone are unknown its images count as groups, and the test is approximate.
    """
    if n_permutations < 1:
        raise StudyError(f"n_permutations: {n_permutations} relabellings give no p; the usual number is 1,000")
    x, y = _scaled(x, y, bandwidth)
    members_x, members_y = _both_members(groups, x, y)
    n_groups = members_x.max() + 1  # of x
    members = np.concatenate([members_x, members_y + n_groups])  # (n + m,)
    pool = np.concatenate([x, y])  # (n + m, d)
    # Rows: all groups, those of x as observed, then those of x as relabelled.
    chosen = np.ones((2 + n_permutations, members.max() + 1), np.float32)  # (2 + n_permutations, groups)
    chosen[1:, n_groups:] = 0
    chosen[2:] = np.random.default_rng(seed).permuted(chosen[2:], axis=1)
    chosen = np.ascontiguousarray(chosen.T)[members]  # (n + m, 2 + n_permutations): a column is a vector of weights
    # Sums over pairs i != j: within the chosen, of the chosen with all, within the rest, between the two.
    xx = _bilinear(pool, pool, chosen, chosen) - _sums(chosen)  # (2 + n_permutations,)
    to_all = _bilinear(pool, pool, chosen, chosen[:, :1]) - _sums(chosen)
    xx, to_all, everything = xx[1:], to_all[1:], xx[0]  # (1 + n_permutations,) both
    yy, xy = everything - 2 * to_all + xx, to_all - xx
    n = _sums(chosen)[1:]
    m = len(pool) - n
    values = xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)
    # The allowance is for float32 rounding: a relabelling that changes nothing must count as equal.
    reached = (values[1:] >= values[0] - 1e-6).sum()
    return float((reached + 1) / (n_permutations + 1))


def coral(x, y):
    """CORAL distance |C_x - C_y|_F^2 / (4 d^2) of the covariances with n - 1 (Sun and Saenko 2016), a float."""
    x, y = _checked(x, y)
    difference = np.atleast_2d(np.cov(x, rowvar=False) - np.cov(y, rowvar=False))
    return float((difference**2).sum() / (4 * x.shape[1] ** 2))


def coral_interval(x, y, n_boot=1000, level=0.95, seed=0, groups=None):
    """Basic bootstrap Interval of `coral`; groups as for `mmd2_interval`. No p.

    A covariance of few images is noisy, and a squared distance between noisy covariances too large;
    a replicate has that noise twice. The basic interval, 2 estimate - percentile (Davison and
    Hinkley 1997, 5.2), takes it off, so the estimate may lie above its middle. No covariance is
    drawn anew: with a = x - mean, |C_x|^2 is a sum of (a_i a_j)^2.
    """
    x, y = (z - z.mean(axis=0) for z in _checked(x, y))
    members, rng = _both_members(groups, x, y), np.random.default_rng(seed)
    weights = [_draws(part, n_boot, rng)[part] for part in members]  # (n, 1 + n_boot), (m, 1 + n_boot)
    scale = np.sqrt(np.mean(x**2) + np.mean(y**2)) or 1.0
    values = _coral((x / scale).astype(np.float32), (y / scale).astype(np.float32), *weights) * scale**4
    mirrored = percentile_interval(values[0], values[1:], level)
    return Interval(mirrored.estimate, 2 * mirrored.estimate - mirrored.high, 2 * mirrored.estimate - mirrored.low)


def orders(features, sizes, factors, seed=0):
    """How the order of the pairs depends on sample sizes and bandwidth: DataFrame size, bandwidth, factor, pair, mmd2.

    features: {domain: (n, d)}; each pair of domains is compared. sizes: images drawn of each
    domain, None for all of them; those that a domain does not have are left out. bandwidth: the
    median distance of balanced and, of all images, of pooled sets, times each of `factors` (of
    sigma^2).
    """
    rng, rows = np.random.default_rng(seed), []
    shuffled = {domain: rng.permutation(part) for domain, part in features.items()}
    sizes = [size for size in sizes if size is None or size <= min(map(len, features.values()))]
    for size, (a, b) in itertools.product(sizes, itertools.combinations(features, 2)):
        x, y = shuffled[a][:size], shuffled[b][:size]
        for name in ("balanced", "pooled") if size is None else ("balanced",):
            median = median_bandwidth(x, y, balanced=name == "balanced")
            row = {"size": size or "all", "bandwidth": name, "pair": f"{a}-{b}"}
            rows += [row | {"factor": factor, "mmd2": mmd2(x, y, factor * median)} for factor in factors]
    return pd.DataFrame(rows)


def margins(table):
    """Of `orders`: how much farther the next pair is than G-Q, DataFrame size, bandwidth, factor, margin."""
    wide = table.pivot_table("mmd2", ["size", "bandwidth", "factor"], "pair", sort=False)
    return (wide.drop(columns="G-Q").min(axis=1) - wide["G-Q"]).rename("margin").reset_index()


def _checked(x, y):
    x, y = np.asarray(x), np.asarray(y)
    for name, features in (("x", x), ("y", y)):
        if features.ndim != 2 or len(features) < 2:
            raise StudyError(f"{name}: expected features (n, d) of at least two images, not shape {features.shape}")
        if not np.isfinite(features).all():
            raise StudyError(f"{name}: the features hold NaN or infinite values; embed the images again")
    if x.shape[1] != y.shape[1]:
        raise StudyError(f"x, y: {x.shape[1]} and {y.shape[1]} features; embed both with one architecture")
    return x, y


def _scaled(x, y, bandwidth=1.0):
    """x and y moved to their common centre and divided by sigma, float32: then k = exp(-d^2 / 2)."""
    x, y = _checked(x, y)
    if not (np.isfinite(bandwidth) and bandwidth > 0):
        raise StudyError(f"bandwidth: sigma^2 is {bandwidth}; give a positive number, such as median_bandwidth(x, y)")
    centre = (x.mean(axis=0, dtype=np.float64) + y.mean(axis=0, dtype=np.float64)) / 2
    return tuple(((features - centre) / np.sqrt(bandwidth)).astype(np.float32) for features in (x, y))


def _minus_half_squares(a, b):
    """-d^2 / 2 of each row of a to each row of b: (len(a), len(b)) float32."""
    halves_a, halves_b = (np.einsum("ij,ij->i", z, z) / 2 for z in (a, b))
    block = a @ b.T
    block -= halves_a[:, None]
    block -= halves_b
    return np.minimum(block, 0, out=block)


def _kernel(a, b):
    block = _minus_half_squares(a, b)
    return np.exp(block, out=block)


def _pairwise_squares(pool):
    """d^2 of all pairs i < j: (n (n - 1) / 2,) float32."""
    squares, end = np.empty(len(pool) * (len(pool) - 1) // 2, np.float32), 0
    for start in range(0, len(pool), _ROWS):
        block = _minus_half_squares(pool[start : start + _ROWS], pool[start:])
        for i, row in enumerate(block):
            begin, end = end, end + len(row) - i - 1
            np.multiply(row[i + 1 :], -2, out=squares[begin:end])
    return squares


def _bilinear(a, b, weights_a, weights_b, kernel=_kernel):
    """w_a' K w_b for each column of the weights (len(a), r) and (len(b), r): (r,) float64."""
    total = 0.0
    for start in range(0, len(a), _ROWS):
        rows = slice(start, start + _ROWS)
        total = total + (kernel(a[rows], b) @ weights_b * weights_a[rows]).sum(axis=0, dtype=np.float64)
    return total


def _cross_mean(x, y, weights_x, weights_y):
    return _bilinear(x, y, weights_x, weights_y) / (_sums(weights_x) * _sums(weights_y))


def _textbook_mean(x, weights):
    """Mean kernel over pairs i != j of the drawn samples; an image drawn twice meets itself. (r,) float64."""
    size = _sums(weights)
    return (_bilinear(x, x, weights, weights) - size) / (size * (size - 1))


def _distinct_mean(x, weights, members, drawn):
    """Mean kernel over pairs i != j of the drawn samples without those between copies of one group. (r,) float64.

    Of the total w'Kw a group drawn c times holds c^2 own sums, where c of them, without the
    diagonal, are wanted.
    """
    order, size = np.argsort(members, kind="stable"), np.bincount(members)  # (n,), (groups,)
    groups = np.split(x[order], np.cumsum(size)[:-1])
    own = np.array([_kernel(z, z).sum(dtype=np.float64) for z in groups])  # (groups,)
    drawn = drawn.T.astype(np.float64)  # (r, groups)
    total = _bilinear(x, x, weights, weights) - drawn**2 @ own + drawn @ (own - size)
    pairs = _sums(weights) ** 2 - drawn**2 @ size**2 + drawn @ (size * (size - 1))
    return np.divide(total, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def _coral(x, y, weights_x, weights_y):
    """CORAL of the samples with the counts (n, r) and (m, r) of their images: (r,) float64.

    With the counts' mean m and sum n the scatter is S = sum w x x' - n m m', and the trace of S_x
    S_y is w_x' K w_y - n_y sum w_x (x m_y)^2 - n_x sum w_y (y m_x)^2 + n_x n_y (m_x m_y)^2 with K =
    (x y)^2.
    """
    sides = [(z, w, _sums(w), z.T @ w / _sums(w)) for z, w in ((x, weights_x), (y, weights_y))]  # means (d, r)
    total = 0
    for (a, w_a, n_a, mean_a), (b, w_b, n_b, mean_b) in itertools.product(sides, repeat=2):
        trace = _bilinear(a, b, w_a, w_b, kernel=lambda rows, others: np.square(rows @ others.T))
        trace = trace - n_b * _sums(w_a * (a @ mean_b) ** 2) - n_a * _sums(w_b * (b @ mean_a) ** 2)
        trace = trace + n_a * n_b * _sums(mean_a * mean_b) ** 2
        total = total + (1 if a is b else -1) * trace / ((n_a - 1) * (n_b - 1))
    return total / (4 * x.shape[1] ** 2)


def _sums(weights):
    return weights.sum(axis=0, dtype=np.float64)


def _both_members(groups, x, y):
    groups_x, groups_y = groups or (None, None)
    return _members(groups_x, len(x), "x"), _members(groups_y, len(y), "y")


def _members(groups, n, name):
    """The number of each image's group, (n,) int64; without groups each image is its own."""
    if groups is None:
        return np.arange(n)
    if len(groups) != n:
        raise StudyError(f"groups: {len(groups)} labels for the {n} images of {name}; give one per image")
    members = np.unique(groups, return_inverse=True)[1]
    if members.max() == 0:
        raise StudyError(f"groups: all images of {name} are in one group; pass None to resample images instead")
    return members


def _draws(members, n_boot, rng):
    """Counts of the groups, (n_groups, 1 + n_boot) float32; the first column is the sample as it is."""
    n_groups = members.max() + 1
    return np.concatenate([np.ones((1, n_groups), np.float32), draw_counts(n_groups, n_boot, rng)]).T
