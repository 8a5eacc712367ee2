"""Loading BioImLab from its archive, loading it again, and `import chromolib`.

The peer of the first load is what one would write by hand: unpack, then open, pad and resize each image with Pillow.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from functools import partial
from pathlib import Path

import common
import numpy as np
from PIL import Image, ImageOps

from chromolib import datasets, paths

SIZE = 256
MODULES = ("chromolib", "chromolib.training")


def by_hand(archive, size):
    """All images of an archive of BMP files, (n, size, size) uint8."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
        pictures = (Image.open(file).convert("L") for file in sorted(Path(folder).rglob("*.bmp")))
        return np.stack([ImageOps.pad(picture, (size, size), Image.Resampling.BILINEAR) for picture in pictures])


def first(root, size):
    """Load with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        load(root, size, folder)


def load(root, size, cache):
    os.environ["CHROMOLIB_CACHE"] = str(cache)
    return datasets.load("bioimlab", root, size)


def drawn_archive(folder):
    """Drawings in the layout of BioImLab, for `--quick`."""
    data = datasets.load("synthetic_q", size=32)
    with tarfile.open(folder / "bioimlab.tar", "w") as tar:
        for number, (image, label) in enumerate(zip(data.images[:10], data.labels, strict=False)):
            file = folder / f"cell{number} {label + 1}.bmp"
            Image.fromarray(image).save(file)
            tar.add(file, f"single_chromosomes/cell{number}/{file.name}")
    return folder


def import_seconds(module):
    """Seconds of an import in a fresh interpreter."""
    code = f"import time; started = time.perf_counter(); import {module}; print(time.perf_counter() - started)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def loads(root, size, turns):
    """Rows on the archive of BioImLab in a folder."""
    with tempfile.TemporaryDirectory() as cache:
        images = len(load(root, size, cache).files)
        archive = next(path for path in root.glob("bioimlab*") if path.is_file())
        steps = (first, root, size), (load, root, size, cache), (by_hand, archive, size)
        fresh, again, hand = common.in_turn(turns, *(common.seconds(*step) for step in steps))
    facts = {"data": archive.name, "images": images, "image_size": size}
    yield common.row("BioImLab, first load", "s", fresh, target=20, **facts)
    yield common.row("BioImLab, first load", "s", fresh, hand, "Pillow one by one", **facts)
    yield common.row("BioImLab, loaded again", "s", again, target=0.5, **facts)


def main(words=None):
    options = common.arguments(words)
    light, heavy = common.in_turn(options.turns, *(partial(import_seconds, name) for name in MODULES))
    rows = [common.row("import chromolib", "s", light, target=0.3)]
    rows.append(common.row("import chromolib", "s", light, heavy, "import chromolib.training"))
    if options.quick:
        with tempfile.TemporaryDirectory() as folder:
            rows += loads(drawn_archive(Path(folder)), 32, options.turns)
    elif any(path.is_file() for path in paths.data().glob("bioimlab*")):
        rows += loads(paths.data(), SIZE, options.turns)
    else:
        print(f"no archive of BioImLab in {paths.data()}: loading is not measured")
    common.publish("loading", rows, options.output, common.ratios)


if __name__ == "__main__":
    main(sys.argv[1:])
