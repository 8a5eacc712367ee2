"""Measures of single chromosomes, against pictures whose answers are known and against SciPy."""

import numpy as np
import pytest
from scipy.ndimage import laplace

from chromolib import images, measures


@pytest.fixture
def bright():
    """A grey bar of 20 x 60 pixels on black, in an image of 100 x 100."""
    image = np.zeros((100, 100), np.uint8)
    image[20:80, 40:60] = 90
    return image


def test_a_bright_bar_on_black(bright):
    row = measures.measure(bright[None]).iloc[0]
    assert row["length"] == 60
    assert row["area"] == 12
    assert row["level"] == 90
    assert row["sharpness"] == 0


def test_a_dark_bar_on_white_is_measured_without_the_padding_beside_it(bright):
    crop = (255 - bright)[15:85, 35:65]  # 70 x 30: padded with black at both sides
    row = measures.measure(images.square(crop, 70)[None]).iloc[0]
    assert row["length"] == pytest.approx(100 * 60 / 70)
    assert row["area"] == pytest.approx(100 * 20 * 60 / 70**2)
    assert row["level"] == 165


def test_the_grey_seam_between_white_and_padding_is_no_chromosome(bright):
    crop = (255 - bright)[15:85, 35:65]
    row = measures.measure(images.square(crop, 140)[None]).iloc[0]
    assert row["area"] == pytest.approx(100 * 42 * 122 / 140**2, abs=0.2)  # a blurred pixel all round the 40 x 120


def test_background_is_recognised(bright):
    assert not measures.has_light_background(np.stack([bright] * 3))
    assert measures.has_light_background(np.stack([255 - bright] * 3))


def test_sharpness_is_the_variance_of_scipys_laplacian():
    noise = np.random.default_rng(0).integers(20, 240, (30, 40)).astype(np.uint8)
    expected = laplace(noise.astype(float))[1:-1, 1:-1].var()
    assert measures.measure(noise[None])["sharpness"][0] == pytest.approx(expected, rel=1e-12)


def test_an_image_without_a_chromosome():
    row = measures.measure(np.zeros((1, 8, 8), np.uint8)).iloc[0]
    assert row["area"] == 0
    assert row[["length", "level", "sharpness"]].isna().all()


def test_grey_levels_count_only_the_chromosome(bright):
    bright[20:50] = np.where(bright[20:50] > 0, 30, 0)
    shares = measures.grey_levels(bright[None])
    assert shares[[30, 90]] == pytest.approx([0.5, 0.5])
    assert shares.sum() == pytest.approx(1)
