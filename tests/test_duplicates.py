"""Copies, hidden and found."""

import numpy as np
import pytest

from chromolib import duplicates


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 200, (50, 64, 64), dtype=np.uint8)


def test_identical_groups(noise):
    noise[[7, 30]], noise[49] = noise[3], noise[11]
    assert duplicates.identical(noise) == [[3, 7, 30], [11, 49]]
    assert duplicates.identical(noise[:3]) == []
    flat = np.zeros((2, 6), np.uint8)
    assert duplicates.identical([flat, flat.reshape(3, 4), flat]) == [[0, 2]]


def test_shared_images(noise):
    assert duplicates.shared(noise[:20], noise[15:]) == [15, 16, 17, 18, 19]
    assert duplicates.shared(noise[:20], noise[20:]) == []


def test_one_pixel_is_a_difference(noise):
    noise[1] = noise[0]
    noise[1, 5, 5] += 1
    assert duplicates.identical(noise) == []
    assert [pair[:2] for pair in duplicates.near_identical(noise)] == [(0, 1)]


def test_near_identical_equals_numpy_correlation(noise, monkeypatch):
    """Against np.corrcoef of 2 x 2 means (whole numbers, as thumbnails are), with blocks smaller than the set."""
    monkeypatch.setattr(duplicates, "_BLOCK", 7)
    noise = noise // 8 * 8
    noise[20] = noise[5] // 2 + 88  # dimmer and of less contrast
    thumbnails = noise.reshape(50, 32, 2, 32, 2).mean(axis=(2, 4)).reshape(50, -1)
    expected = np.corrcoef(thumbnails)
    pairs = duplicates.near_identical(noise, threshold=0.03)
    assert pairs[0][:2] == (5, 20) and pairs[0][2] == pytest.approx(1)
    assert all(i < j for i, j, _ in pairs)
    np.testing.assert_allclose([expected[i, j] for i, j, _ in pairs], [value for *_, value in pairs], atol=1e-5)
    assert len(pairs) == np.sum(np.triu(expected, 1) >= 0.03)


def test_constant_images_resemble_nothing():
    assert duplicates.near_identical(np.full((4, 40, 40), 7, np.uint8), threshold=0.5) == []
