"""Crops of the photographs that scikit-image and scikit-learn ship: a natural domain without a download."""

from importlib import resources

import numpy as np

from chromolib import images
from chromolib.errors import StudyError

# Photographs only: these packages' drawings, text, and pictures from microscopes and clinics are left out. [ours]
PICTURES = {
    "skimage.data": (
        *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png"),
        *("gravel.png", "hubble_deep_field.jpg", "moon.png", "motorcycle_left.png", "rocket.jpg"),
    ),
    "sklearn.datasets.images": ("china.jpg", "flower.jpg"),
}
CROPS = 30  # of each picture: 420 in all [ours]
SMALLEST = 64  # shortest side of a crop, in pixels [ours]


def crops(seed=0):
    """Square crops of varied scale and place, the same for the same seed: list of (image (s, s) uint8, file str).

    The side is log-uniform from 64 pixels to the picture's shorter side. Crops of one picture
    overlap, so they are not independent images. Raises StudyError where an installed package lacks
    a picture.
    """
    rng = np.random.default_rng(seed)
    found = []
    for package, names in PICTURES.items():
        for name in names:
            picture = _picture(package, name)
            found += [(_crop(picture, rng), f"{name.split('.')[0]}/{number:02d}") for number in range(CROPS)]
    return found


def _picture(package, name):
    try:
        return images.read((resources.files(package) / name).read_bytes(), f"{package}/{name}")
    except (FileNotFoundError, ModuleNotFoundError) as error:
        raise StudyError(
            f"{package} does not contain the photograph {name}; install the versions in constraints.txt"
        ) from error


def _crop(picture, rng):
    height, width = picture.shape
    side = round(np.exp(rng.uniform(np.log(SMALLEST), np.log(min(height, width)))))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    return picture[top : top + side, left : left + side]
