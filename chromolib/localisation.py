"""Do Grad-CAM maps fall on what decides? A check on drawings in which one square alone tells the class."""

from dataclasses import dataclass

import numpy as np
import torch

from chromolib import architectures, device, gradcam

_STEPS, _BATCH = 20, 8


@dataclass(frozen=True)
class Localisation:
    """Test drawings, the maps of their true classes, and where the square is; n drawings of size x size."""

    images: np.ndarray  # (n, size, size) uint8
    labels: np.ndarray  # (n,) int64: 0 dark, 1 bright
    squares: np.ndarray  # (n, size, size) bool
    maps: np.ndarray  # (n, size, size) float32 in [0, 1]
    predicted: np.ndarray  # (n,) int64

    @property
    def accuracy(self):
        """Share of the drawings classified rightly; below about 0.9 the maps show nothing worth judging."""
        return float((self.predicted == self.labels).mean())

    @property
    def area(self):
        """The square's share of the image: what a map that knows nothing reaches in `share` and `pointing`."""
        return float(self.squares.mean())

    @property
    def share(self):
        """Mean share of a map's mass inside the square; an all-zero map counts as 0."""
        return float(np.nan_to_num(gradcam.share_inside(self.maps, self.squares)).mean())

    @property
    def pointing(self):
        """Share of the maps whose maximum lies inside the square (the pointing game); an all-zero map misses."""
        n = len(self.maps)
        peaks = self.maps.reshape(n, -1).argmax(1)
        hits = self.squares.reshape(n, -1)[np.arange(n), peaks] & self.maps.any((1, 2))
        return float(hits.mean())


def check(architecture, size=128, seed=0, n=32):
    """Train `architecture` briefly to tell a bright from a dark square on noise, and map n new drawings.

    It starts from scratch, efficientnet_lite0 from the ImageNet weights that need no download; 20
    steps of Adam on 8 new drawings each, about half a minute on one busy core [measured]. At 128 px
    a network that reduces the image 32-fold has a grid of 4 x 4; at 64 px the grid of 2 x 2 would
    be too coarse to localise anything.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _trained(architecture, size, rng)
    images, labels, squares = _drawings(n, size, rng)
    with torch.no_grad():
        predicted = model(_pixels(images, architecture)).argmax(1).cpu().numpy()
    return Localisation(images, labels, squares, gradcam.maps(model, architecture, images, labels), predicted)


def _trained(architecture, size, rng):
    weights = "imagenet" if architecture == "efficientnet_lite0" else None
    transformer = architectures.row(architecture).fixed_size
    model = architectures.create(architecture, weights, num_classes=2, image_size=size)
    model = model.to(device.choose(), memory_format=torch.channels_last).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4 if transformer else 1e-3)
    for _ in range(_STEPS):
        images, labels, _ = _drawings(_BATCH, size, rng)
        with device.autocast(device.choose()):
            logits = model(_pixels(images, architecture))
        truth = torch.tensor(labels, device=logits.device)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(logits.float(), truth).backward()
        optimiser.step()
    return model.eval()


def _drawings(n, size, rng):
    """Images of noise with a black or white square of 3/8 their size anywhere, labels, and the squares' masks."""
    side = size * 3 // 8
    images = rng.integers(64, 192, (n, size, size), dtype=np.uint8)
    labels = rng.integers(0, 2, n)
    squares = np.zeros(images.shape, bool)
    for square, (top, left) in zip(squares, rng.integers(0, size - side + 1, (n, 2)), strict=True):
        square[top : top + side, left : left + side] = True
    return np.where(squares, 255 * labels[:, None, None], images).astype(np.uint8), labels, squares


def _pixels(images, architecture):
    return architectures.normalise(torch.tensor(images, device=device.choose()), architecture)
