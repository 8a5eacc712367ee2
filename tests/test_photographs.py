"""The embedded natural domain."""

import numpy as np
import pytest
import skimage.data

from chromolib import photographs
from chromolib.errors import StudyError


@pytest.fixture(scope="module")
def crops():
    return photographs.crops()


def test_crops_are_squares_of_varied_scale(crops):
    assert len(crops) == 14 * 30 and len({file for _, file in crops}) == len(crops)
    sides = np.array([image.shape for image, _ in crops])
    assert (sides[:, 0] == sides[:, 1]).all() and sides.min() >= 64
    assert np.percentile(sides, 10) < 100 and np.percentile(sides, 90) > 250
    assert all(image.dtype == np.uint8 and image.std() > 0 for image, _ in crops)


def test_crops_lie_in_the_picture(crops):
    camera = skimage.data.camera()
    crop = next(image for image, file in crops if file == "camera/00")
    windows = np.lib.stride_tricks.sliding_window_view(camera, (8, 8))
    assert (windows == crop[:8, :8]).all(axis=(2, 3)).any()


def test_the_seed_decides(crops):
    again = photographs.crops()
    assert all(np.array_equal(one, other) for (one, _), (other, _) in zip(crops, again, strict=True))
    assert any(one.shape != other.shape for (one, _), (other, _) in zip(crops, photographs.crops(1), strict=True))


def test_an_absent_photograph_is_named(monkeypatch):
    monkeypatch.setattr(photographs, "PICTURES", {"skimage.data": ("nothing.png",)})
    with pytest.raises(StudyError, match=r"nothing\.png"):
        photographs.crops()
