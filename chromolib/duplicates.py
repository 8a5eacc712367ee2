"""The same image twice, exactly or nearly."""

import hashlib

import numpy as np
import pandas as pd
from PIL import Image

_SIDE = 32  # of the thumbnails that are compared [ours]
_BLOCK = 1024  # rows of the similarity matrix at a time: 1024 x 28,136 float32 = 115 MB


def identical(images):
    """Groups of images that are equal pixel by pixel: list of lists of two or more ascending indices.

    images: (n, h, w) uint8.
    """
    return groups([digest(image) for image in images])


def groups(digests):
    """Groups of equal entries: list of lists of two or more ascending indices."""
    places = pd.Series(range(len(digests))).groupby(list(digests), sort=False).agg(list)
    return [group for group in places if len(group) > 1]


def shared(images, others):
    """Ascending indices (list) of the images that are, pixel by pixel, also among the others: both (n, h, w) uint8."""
    known = {digest(image) for image in others}
    return [index for index, image in enumerate(images) if digest(image) in known]


def near_identical(images, threshold=0.999):
    """Pairs that look alike: list of (i, j, similarity), i < j, most similar first, similarity >= threshold.

    images: (n, h, w) uint8. The similarity is Pearson's correlation of 32 x 32 thumbnails [ours],
    in [-1, 1], so a change of brightness or contrast does not hide a copy; a constant image
    resembles nothing. Exact copies are among the pairs.
    """
    rows = _standardised_thumbnails(images)
    pairs = []
    for start in range(0, len(rows), _BLOCK):
        # (block, n - start), whose entry (a, b) is of the images start + a and start + b
        similarity = rows[start : start + _BLOCK] @ rows[start:].T
        first, second = np.nonzero(np.triu(similarity >= threshold, k=1))
        values = similarity[first, second]
        pairs += zip((first + start).tolist(), (second + start).tolist(), values.tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))


def digest(image):
    """SHA-256 of the shape and the pixels of an image (h, w) uint8: bytes."""
    return hashlib.sha256(repr(np.shape(image)).encode() + np.ascontiguousarray(image).tobytes()).digest()


def _standardised_thumbnails(images):
    """(n, 1024) float32 rows of mean 0 and length 1, or all 0 for a constant image."""
    rows = np.empty((len(images), _SIDE * _SIDE), np.float32)
    for row, image in zip(rows, images, strict=True):
        row[:] = np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX)).ravel()
    rows -= rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
