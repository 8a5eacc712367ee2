"""MMD against a float64 double loop and brute-force resampling; median against SciPy; CORAL against its definition."""

import itertools
import sys
import types

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from chromolib import similarity
from chromolib.errors import StudyError
from chromolib.intervals import draw_counts


def samples(n=30, m=20, d=5, shift=0.5, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) + 100, rng.normal(size=(m, d)) * 1.3 + 100 + shift  # far from 0: centring matters


def mmd2_double_loop(x, y, bandwidth, pair_x=lambda i, j: i != j, pair_y=lambda i, j: i != j):
    def kernel(a, b):
        return np.exp(-((a - b) ** 2).sum() / (2 * bandwidth))

    def within(z, allowed):
        pairs = [kernel(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if allowed(i, j)]
        return sum(pairs) / len(pairs)

    return within(x, pair_x) + within(y, pair_y) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_mmd2_is_the_double_loop():
    x, y = samples()
    assert similarity.mmd2(x, y, 7.0) == pytest.approx(mmd2_double_loop(x, y, 7.0), abs=1e-6)


def test_mmd2_over_several_blocks_of_rows(monkeypatch):
    monkeypatch.setattr(similarity, "_ROWS", 7)
    x, y = samples()
    assert similarity.mmd2(x, y, 7.0) == pytest.approx(mmd2_double_loop(x, y, 7.0), abs=1e-6)


def test_mmd2_of_two_points_each_by_hand():
    # k_xx = exp(-1/2), k_yy = exp(-1/2), all four cross distances squared are 9, 16, 4, 9, with sigma^2 = 1.
    x, y = np.array([[0.0], [1.0]]), np.array([[3.0], [4.0]])
    cross = (2 * np.exp(-4.5) + np.exp(-8) + np.exp(-2)) / 4
    assert similarity.mmd2(x, y, 1.0) == pytest.approx(2 * np.exp(-0.5) - 2 * cross, abs=1e-6)


@pytest.mark.parametrize("rows", [7, 1024])
def test_median_bandwidth_is_scipys(rows, monkeypatch):
    monkeypatch.setattr(similarity, "_ROWS", rows)
    for x, y, balanced in ((*samples(), False), (*samples(25, 25), True)):
        distances = pdist(np.concatenate([x, y]))
        assert similarity.median_bandwidth(x, y, balanced=balanced) == pytest.approx(
            np.median(distances) ** 2, rel=1e-5
        )
        half = similarity.median_bandwidth(x, y, "median_square_half", balanced)
        assert half == pytest.approx(np.median(distances**2) / 2, rel=1e-5)


def test_median_bandwidth_is_not_that_of_the_larger_set():
    """5,000 points close together and 100 far apart: pooled the median is the former's own, balanced it is between."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3000, 4)), rng.normal(size=(60, 4)) * 8
    own = np.median(pdist(x[:1000])) ** 2
    assert similarity.median_bandwidth(x, y, balanced=False) == pytest.approx(own, rel=0.15)
    equal = np.median(pdist(np.concatenate([x[:60], y]))) ** 2  # the first 60 are as good as any
    assert equal > 5 * own and similarity.median_bandwidth(x, y) == pytest.approx(equal, rel=0.25)
    assert similarity.median_bandwidth(x, y) == similarity.median_bandwidth(x, y)  # the draw is fixed


def test_median_of_a_large_pool_is_close_to_the_exact_one(monkeypatch):
    x, y = samples(n=600, m=400)
    exact = similarity.median_bandwidth(x, y)
    monkeypatch.setattr(similarity, "_MEDIAN_ROWS", 300)
    sampled = similarity.median_bandwidth(x, y)
    assert sampled == similarity.median_bandwidth(x, y)  # the draw is fixed
    assert sampled == pytest.approx(exact, rel=0.1)


def copies(counts):
    """Indices of a drawn sample, and which copy of its original each is."""
    index = np.repeat(np.arange(len(counts)), counts)
    copy = np.concatenate([np.arange(c) for c in counts])
    return index, copy


def draws_of(n_x, n_y, n_boot, seed):
    rng = np.random.default_rng(seed)
    return draw_counts(n_x, n_boot, rng).astype(int), draw_counts(n_y, n_boot, rng).astype(int)


def ends(replicates):
    return np.quantile(replicates, [0.025, 0.975])


def test_textbook_replicates_are_mmd2_of_the_drawn_samples():
    x, y = samples(12, 9)
    replicates = [
        mmd2_double_loop(x[copies(cx)[0]], y[copies(cy)[0]], 7.0)
        for cx, cy in zip(*draws_of(12, 9, 40, seed=5), strict=True)
    ]
    interval = similarity.mmd2_interval(x, y, 7.0, n_boot=40, seed=5, replicate="textbook")
    assert interval[1:3] == pytest.approx(ends(replicates), abs=1e-6)
    assert interval.estimate == pytest.approx(mmd2_double_loop(x, y, 7.0), abs=1e-6)
    assert interval.p is None


def test_distinct_replicates_leave_out_an_image_meeting_itself():
    x, y = samples(12, 9)
    replicates = []
    for cx, cy in zip(*draws_of(12, 9, 40, seed=5), strict=True):
        ix, iy = copies(cx)[0], copies(cy)[0]
        replicates.append(
            mmd2_double_loop(x[ix], y[iy], 7.0, lambda i, j, ix=ix: ix[i] != ix[j], lambda i, j, iy=iy: iy[i] != iy[j])
        )
    interval = similarity.mmd2_interval(x, y, 7.0, n_boot=40, seed=5)
    assert interval[1:3] == pytest.approx(ends(replicates), abs=1e-6)
    assert interval.estimate == pytest.approx(mmd2_double_loop(x, y, 7.0), abs=1e-6)


def test_cells_are_drawn_whole_and_copies_of_a_cell_do_not_meet():
    x, y = samples(13, 10)
    cells_x = np.array(list("ccaabbbbdeeff"))  # unequal sizes, not sorted
    drawn_x, drawn_y = draws_of(6, 10, 40, seed=2)
    codes = np.unique(cells_x, return_inverse=True)[1]
    replicates = []
    for cx, cy in zip(drawn_x, drawn_y, strict=True):
        ix, copy = copies(cx[codes])
        iy, _ = copies(cy)

        def allowed(i, j, ix=ix, copy=copy):
            if codes[ix[i]] == codes[ix[j]]:
                return copy[i] == copy[j] and ix[i] != ix[j]
            return True

        replicates.append(mmd2_double_loop(x[ix], y[iy], 7.0, allowed, lambda i, j, iy=iy: iy[i] != iy[j]))
    interval = similarity.mmd2_interval(x, y, 7.0, n_boot=40, seed=2, groups=(cells_x, None))
    assert interval[1:3] == pytest.approx(ends(replicates), abs=1e-6)
    assert interval.estimate == pytest.approx(mmd2_double_loop(x, y, 7.0), abs=1e-6)


def test_textbook_replicates_are_biased_upwards_as_derived_and_distinct_ones_are_not():
    x, y = samples(60, 40, shift=0.2)
    bandwidth, estimate = 7.0, mmd2_double_loop(*samples(60, 40, shift=0.2), 7.0)
    within = [(np.exp(-pdist(z, "sqeuclidean") / (2 * bandwidth))).mean() for z in (x, y)]
    bias = (1 - within[0]) / 60 + (1 - within[1]) / 40  # about 0.025
    middle = {
        replicate: similarity.mmd2_interval(x, y, bandwidth, n_boot=4000, level=1e-6, replicate=replicate).low
        for replicate in ("distinct", "textbook")
    }  # at level ~0 both ends are the median of the replicates
    assert middle["textbook"] - middle["distinct"] == pytest.approx(bias, rel=0.1)
    assert middle["distinct"] == pytest.approx(estimate, abs=0.2 * bias)


def test_permutation_test_agrees_with_all_relabellings():
    x, y = samples(5, 4, d=2, shift=0.8, seed=4)
    pool = np.concatenate([x, y])
    observed = mmd2_double_loop(x, y, 3.0)
    values = []
    for chosen in itertools.combinations(range(9), 5):
        rest = [i for i in range(9) if i not in chosen]
        values.append(mmd2_double_loop(pool[list(chosen)], pool[rest], 3.0))
    exact = np.mean(np.array(values) >= observed - 1e-9)  # of 126 relabellings
    p = similarity.permutation_test(x, y, 3.0, n_permutations=20_000)
    assert 0.02 < exact < 0.98
    assert p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))


def test_permutation_test_extremes():
    x, y = samples(25, 20, shift=5)
    assert similarity.permutation_test(x, y, 7.0, n_permutations=99) == 1 / 100  # the least that 99 draws can give
    assert similarity.permutation_test(x, x, 7.0, n_permutations=99) > 0.9


def test_permutation_test_keeps_its_level_where_both_are_alike():
    rng = np.random.default_rng(0)
    p = [
        similarity.permutation_test(*rng.normal(size=(2, 15, 3)), 3.0, n_permutations=99, seed=seed)
        for seed in range(300)
    ]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.06)  # 3.5 binomial standard deviations


def test_coral_by_hand_and_by_definition():
    # Variances 2 and 8 (n - 1), d = 1: (2 - 8)^2 / 4 = 9.
    assert similarity.coral(np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]])) == pytest.approx(9)
    x, y = samples(d=3)
    deviations_x, deviations_y = x - x.mean(0), y - y.mean(0)
    difference = deviations_x.T @ deviations_x / 29 - deviations_y.T @ deviations_y / 19
    expected = sum(difference[i, j] ** 2 for i in range(3) for j in range(3)) / (4 * 3**2)
    assert similarity.coral(x, y) == pytest.approx(expected, rel=1e-10)
    assert similarity.coral(x, x + 5) == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("by_group", [False, True])
def test_coral_interval_is_brute_force(by_group):
    x, y = samples(d=3)
    groups = (np.arange(30) // 3, np.arange(20) // 4) if by_group else None
    members = groups or (np.arange(30), np.arange(20))
    rng, values = np.random.default_rng(5), []
    draws = [draw_counts(part.max() + 1, 100, rng).astype(int) for part in members]
    for counts in zip(*draws, strict=True):
        drawn = [np.repeat(z, count[of], axis=0) for z, count, of in zip((x, y), counts, members, strict=True)]
        difference = np.cov(drawn[0], rowvar=False) - np.cov(drawn[1], rowvar=False)
        values.append((difference**2).sum() / (4 * 3**2))
    interval = similarity.coral_interval(x, y, n_boot=100, seed=5, groups=groups)
    estimate = similarity.coral(x, y)
    assert interval.estimate == pytest.approx(estimate, rel=1e-4)
    expected = 2 * estimate - np.quantile(values, [0.975, 0.025])
    assert interval[1:3] == pytest.approx(expected, abs=1e-4 * max(values))


def test_coral_interval_takes_the_noise_of_few_images_off():
    """Equal distributions: CORAL itself is always above zero, its interval holds zero."""
    rng = np.random.default_rng(3)
    found = [similarity.coral_interval(*rng.normal(size=(2, 40, 10)), n_boot=200, seed=seed) for seed in range(40)]
    assert all(interval.estimate > 0 for interval in found)
    assert np.mean([interval.low <= 0 for interval in found]) > 0.85


def test_permutation_by_group_is_exhaustive_enumeration():
    """Groups of unequal size: all 20 ways to give three of six to x."""
    rng = np.random.default_rng(2)
    of = np.repeat(np.arange(6), [1, 2, 3, 2, 2, 3])  # x has the first three
    pool = rng.normal(size=(13, 2)) + 0.5 * rng.normal(size=(6, 2))[of] + 1.0 * (of < 3)[:, None]
    values = []
    for chosen in itertools.combinations(range(6), 3):
        in_x = np.isin(of, chosen)
        values.append(mmd2_double_loop(pool[in_x], pool[~in_x], 3.0))
    exact = np.mean(np.array(values) >= values[0] - 1e-9)
    assert 0.05 < exact < 0.9
    p = similarity.permutation_test(pool[:6], pool[6:], 3.0, 20_000, groups=(of[:6], of[6:]))
    assert p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))


def test_permutation_by_image_gives_false_alarms_where_cells_cluster():
    """Both sets have one distribution of cells; their images hang together."""
    rng, alarms = np.random.default_rng(0), []
    of = np.repeat(np.arange(8), 10)
    for seed in range(60):
        x, y = (rng.normal(size=(8, 3))[of] + 0.5 * rng.normal(size=(80, 3)) for _ in range(2))
        p = [similarity.permutation_test(x, y, 3.0, 99, seed, groups) for groups in (None, (of, of))]
        alarms.append(np.array(p) <= 0.1)
    by_image, by_cell = np.mean(alarms, axis=0)
    assert by_image > 0.5 and by_cell == pytest.approx(0.1, abs=0.14)  # 3.5 binomial standard deviations


def test_orders_of_known_domains():
    """Three clouds, the third far off: the order is the same under every size and width, and sizes are kept to."""
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=(n, 3)) + at for name, n, at in (("G", 60, 0), ("Q", 90, 1), ("natural", 40, 5))}
    table = similarity.orders(features, sizes=[30, 50, None], factors=[0.5, 2.0])  # the third has 40
    assert len(table) == 3 * 2 * (1 + 2) and set(table["size"]) == {30, "all"}  # of 30 each, balanced is pooled
    nearest = table.loc[table.groupby(["size", "bandwidth", "factor"])["mmd2"].idxmin(), "pair"]
    assert set(nearest) == {"G-Q"}
    whole = table[(table["size"] == "all") & (table["bandwidth"] == "pooled") & (table["factor"] == 2)].iloc[0]
    sigma2 = 2 * similarity.median_bandwidth(features["G"], features["Q"], balanced=False)
    assert whole["mmd2"] == pytest.approx(similarity.mmd2(features["G"], features["Q"], sigma2), abs=1e-6)
    found = similarity.margins(table)
    by_hand = table.loc[whole.name == table.index, "mmd2"].iloc[0]
    same = (table["size"] == "all") & (table["bandwidth"] == "pooled") & (table["factor"] == 2)
    others = table[same & (table["pair"] != "G-Q")]["mmd2"].min()
    row = found[(found["size"] == "all") & (found["bandwidth"] == "pooled") & (found["factor"] == 2)].iloc[0]
    assert len(found) == 2 * (1 + 2) and row["margin"] == pytest.approx(others - by_hand)


def test_float32_kernel_against_float64_far_from_the_origin():
    x, y = (z.astype(np.float32) for z in samples(200, 150, d=64))
    bandwidth = similarity.median_bandwidth(x, y)
    kernels = [
        np.exp(-(cdist(a.astype(float), b.astype(float)) ** 2) / (2 * bandwidth)) for a, b in [(x, x), (y, y), (x, y)]
    ]
    exact = (kernels[0].sum() - 200) / (200 * 199) + (kernels[1].sum() - 150) / (150 * 149) - 2 * kernels[2].mean()
    assert similarity.mmd2(x, y, bandwidth) == pytest.approx(exact, abs=1e-6)


def test_seed_makes_the_interval_repeatable():
    x, y = samples()
    first = similarity.mmd2_interval(x, y, 7.0, n_boot=50, seed=3)
    assert first == similarity.mmd2_interval(x, y, 7.0, n_boot=50, seed=3)
    assert first != similarity.mmd2_interval(x, y, 7.0, n_boot=50, seed=4)


good = np.arange(12.0).reshape(6, 2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: similarity.mmd2(good, good[:, :1], 1), "one architecture"),
        (lambda: similarity.mmd2(good[0], good, 1), r"x: expected features"),
        (lambda: similarity.mmd2(good, good[:1], 1), "y: .*at least two"),
        (lambda: similarity.coral(good, good * np.nan), "y: .*NaN"),
        (lambda: similarity.mmd2(good, good, 0), "bandwidth"),
        (lambda: similarity.mmd2(good, good, np.nan), "bandwidth"),
        (lambda: similarity.median_bandwidth(good, good, reading="mean"), "reading: 'mean'"),
        (lambda: similarity.median_bandwidth(np.ones((4, 2)), np.ones((4, 2))), "half of all pairs"),
        (lambda: similarity.mmd2_interval(good, good, 1, replicate="paper"), "replicate: 'paper'"),
        (lambda: similarity.mmd2_interval(good, good, 1, n_boot=0), "n_boot"),
        (lambda: similarity.mmd2_interval(good, good, 1, level=95), "level"),
        (lambda: similarity.mmd2_interval(good[:2], good[:2], 1), "too small to resample"),
        (lambda: similarity.mmd2_interval(good, good, 1, groups=(["a"] * 3, None)), "3 labels for the 6 images of x"),
        (lambda: similarity.mmd2_interval(good, good, 1, groups=(None, ["a"] * 6)), "images of y are in one group"),
        (lambda: similarity.permutation_test(good, good, 1, n_permutations=0), "n_permutations"),
        (lambda: similarity.embed(np.zeros((2, 8, 8))), "images: expected"),
        (lambda: similarity.embed(np.zeros((0, 8, 8), np.uint8)), "images: expected"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(StudyError, match=words):
        call()


def test_embed_pools_the_last_feature_map_whatever_the_batches(monkeypatch):
    """With a network that keeps the image, the pooled feature is the image's mean."""
    import torch

    class Keeps(torch.nn.Module):
        def forward_features(self, images):
            assert not self.training
            return images

        def forward_head(self, hidden, pre_logits=False):
            assert pre_logits
            return hidden.mean((2, 3))

    fake = types.ModuleType("chromolib.architectures")
    fake.create = lambda name, weights=None, image_size=256: Keeps()
    fake.memory_format = lambda name, place: torch.channels_last
    fake.normalise = lambda images, name: images[:, None].float().expand(-1, 3, -1, -1)
    monkeypatch.setitem(sys.modules, "chromolib.architectures", fake)
    monkeypatch.setattr("chromolib.architectures", fake, raising=False)
    images = np.random.default_rng(0).integers(256, size=(5, 8, 8), dtype=np.uint8)
    features = similarity.embed(images, batch_size=2)
    assert features.dtype == np.float32
    assert features == pytest.approx(np.repeat(images.mean((1, 2))[:, None], 3, axis=1), rel=1e-6)


def test_embed_with_the_network_at_hand():
    images = np.random.default_rng(0).integers(256, size=(3, 64, 64), dtype=np.uint8)
    features = similarity.embed(images)
    assert features.shape == (3, 1280)  # the last pooling layer of EfficientNet-Lite0
    assert np.isfinite(features).all()
    assert features == pytest.approx(similarity.embed(images, batch_size=2), abs=1e-4)
    assert not np.allclose(features[0], features[1])
