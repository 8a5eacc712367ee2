"""What figures compute before they draw."""

import numpy as np

from chromolib import figures


def test_overlay_mixes_jet_and_grey():
    images = np.array([[[100, 100]]], np.uint8)
    maps = np.array([[[0.0, 1.0]]], np.float32)
    # Jet runs from (0, 0, 0.5) to (0.5, 0, 0).
    expected = [[[50, 50, 114], [114, 50, 50]]]
    np.testing.assert_allclose(figures.overlay(images, maps)[0], expected, atol=1)
    assert (figures.overlay(images, maps, strength=0) == 100).all()
    assert figures.overlay(images, maps).dtype == np.uint8
