"""What can be measured on square images of single chromosomes: size, grey levels, sharpness.

A chromosome is told from its background by grey level: darker than 245 where the background is
white, brighter than 10 where it is black [ours]. The black padding beside a white background
belongs to neither.
"""

import numpy as np
import pandas as pd
from scipy import ndimage

_BLACK, _WHITE = 10, 245


def has_light_background(images):
    """Whether the chromosomes are dark on white: at least half of the images are white on 1 % of their area or more.

    images: (n, h, w) uint8. At most 200 of them are looked at, evenly spread.
    """
    some = images[:: max(1, len(images) // 200)]
    return bool(np.median([(image >= _WHITE).mean() for image in some]) >= 0.01)


def foreground(image, light):
    """The pixels of the chromosome in one image (h, w) uint8: (h, w) bool; `light` as from `has_light_background`."""
    if not light:
        return image > _BLACK
    inside = np.zeros(image.shape, bool)
    inside[box(image >= _WHITE)] = True  # padding, and the grey seam it gets from resizing, hold no white
    return inside & (image < _WHITE)


def box(mask):
    """The smallest box, as two slices, that holds all of a mask (h, w); empty slices where nothing is set."""
    nothing = (slice(0, 0), slice(0, 0))
    return next(iter(ndimage.find_objects(mask.astype(np.uint8))), nothing)


def measure(images):
    """Four measures of each image (n, h, w) uint8: DataFrame of n rows, all float.

    length: longer side of the box around the chromosome, in per cent of the image's longer side;
    area: its pixels, in per cent of the image's; level: their mean grey level; sharpness: variance
    of the Laplacian (of four neighbours) over pixels that lie inside it with all four. Without a
    chromosome area is 0 and the others are NaN.
    """
    light = has_light_background(images)
    return pd.DataFrame([_measure(image, foreground(image, light)) for image in images])


def grey_levels(images):
    """How the grey levels of the chromosomes' pixels are distributed: (256,) float64 shares with sum 1."""
    light = has_light_background(images)
    counts = sum(np.bincount(image[foreground(image, light)], minlength=256) for image in images)
    return counts / counts.sum()


def _measure(image, mask):
    spans = box(mask)
    return {
        "length": 100 * max(part.stop - part.start for part in spans) / max(image.shape) if mask.any() else np.nan,
        "area": 100 * mask.mean(),
        "level": image[mask].mean() if mask.any() else np.nan,
        "sharpness": _sharpness(image[spans], mask[spans]),
    }


def _sharpness(image, mask):
    inner = ndimage.binary_erosion(mask)  # (h, w): those with all four neighbours
    return ndimage.laplace(image.astype(np.int16))[inner].var() if inner.any() else np.nan
