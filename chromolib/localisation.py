"""Do Grad-CAM maps fall on what decides? Two checks on drawings: one square alone tells the class, or bands go."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from chromolib import CLASSES, architectures, cases, device, gradcam, images, synthetic, training

_STEPS, _BATCH = 20, 8
PARTS = 5  # of a chromosome's length, whose bands are switched off in turn


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
    pictures, labels, squares = _drawings(n, size, rng)
    seen = torch.from_numpy(pictures).to(device.choose())
    predicted = training.predict(model, architecture, seen, "fp32").argmax(1).cpu().numpy()
    return Localisation(pictures, labels, squares, gradcam.maps(model, architecture, pictures, labels), predicted)


@dataclass(frozen=True)
class SwitchedOff:
    """Drawn chromosomes, each whole and then with the bands of one of its PARTS switched off.

    images: (n, 1 + PARTS, size, size) uint8; labels: (n,); answers: (n, 1 + PARTS), the classes named; probability:
    (n, 1 + PARTS), that of the true class; heat: (n, PARTS), the share of the whole one's map in each part's rows.
    """

    images: np.ndarray
    labels: np.ndarray
    answers: np.ndarray
    probability: np.ndarray
    heat: np.ndarray

    def changes(self):
        """Of the n drawings named rightly when whole: how often the answer changes, by which part is switched off."""
        right = self.answers[:, 0] == self.labels
        changed = (self.answers[:, 1:] != self.labels[:, None])[right]  # (m, PARTS)
        order = np.argsort(-self.heat[right], axis=1)
        changed = pd.DataFrame(np.take_along_axis(changed, order, axis=1))  # the hottest part first
        means = changed.mean()  # NaN where nothing was named rightly
        return {
            "n": len(changed),
            "hottest part off": means[0],
            "another part off": means[1:].mean(),
            "coldest part off": means.iloc[-1],
        }


def switched_off(model, architecture, stain, size, seeds=(0, 1)):
    """Ask a network trained on drawings of `stain` about new ones of all classes, a drawing a class and seed."""
    places = [None, *((part / PARTS, (part + 1) / PARTS) for part in range(PARTS))]
    labels = np.tile(np.arange(len(CLASSES)), len(seeds))
    drawn = [
        [images.square(synthetic.chromosome(label, stain, seed, place), size) for place in places]
        for seed in seeds
        for label in range(len(CLASSES))
    ]
    drawn = np.array(drawn)  # (n, 1 + PARTS, size, size)
    model = model.to(device.choose())
    seen = torch.from_numpy(drawn.reshape(-1, size, size)).to(device.choose())
    answers = training.predict(model, architecture, seen).softmax(1).cpu().numpy().reshape(*drawn.shape[:2], -1)
    rows = gradcam.maps(model, architecture, drawn[:, 0], labels).sum(axis=2)  # (n, size)
    heat = np.stack([part.sum(axis=1) for part in np.array_split(rows, PARTS, axis=1)], axis=1)
    of_truth = np.take_along_axis(answers, labels[:, None, None], axis=2)[..., 0]
    return SwitchedOff(drawn, labels, answers.argmax(axis=2), of_truth, heat)


def example(switched, networks, architecture):
    """The drawing whose probability falls most under the last network, whole and with that part off: two `cases.Case`.

    switched, networks: dicts of a column of the figure to its SwitchedOff, and to its network.
    """
    last = list(switched.values())[-1]
    fall = last.probability[:, :1] - last.probability[:, 1:]  # (n, PARTS)
    drawing, part = np.unravel_index(fall.argmax(), fall.shape)
    label, found = int(last.labels[drawing]), []
    for title, column in (("whole", 0), (f"part {part + 1} of {PARTS} off", part + 1)):
        image = last.images[drawing, column]
        answers = {name: int(check.answers[drawing, column]) for name, check in switched.items()}
        maps = {name: gradcam.maps(model, architecture, image[None], [label])[0] for name, model in networks.items()}
        found.append(cases.Case(title, image, label, answers, maps))
    return found


def _trained(architecture, size, rng):
    weights = "imagenet" if architecture == "efficientnet_lite0" else None
    transformer = architectures.row(architecture).fixed_size
    model = architectures.create(architecture, weights, num_classes=2, image_size=size)
    model = model.to(device.choose(), memory_format=torch.channels_last).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4 if transformer else 1e-3)
    for _ in range(_STEPS):
        pictures, labels, _ = _drawings(_BATCH, size, rng)
        images, truth = (torch.from_numpy(values).to(device.choose()) for values in (pictures, labels))
        training.train_step(model, optimiser, architectures.normalise(images, architecture), truth)
    return model


def _drawings(n, size, rng):
    """Images of noise with a black or white square of 3/8 their size anywhere, labels, and the squares' masks."""
    side = size * 3 // 8
    noise = rng.integers(64, 192, (n, size, size), dtype=np.uint8)
    labels = rng.integers(0, 2, n)
    squares = np.zeros(noise.shape, bool)
    for square, (top, left) in zip(squares, rng.integers(0, size - side + 1, (n, 2)), strict=True):
        square[top : top + side, left : left + side] = True
    return np.where(squares, 255 * labels[:, None, None], noise).astype(np.uint8), labels, squares
