"""Drawn karyotypes: for learning and testing only, never evidence about chromosomes or classifiers.

Every image here is a drawing. What is true in it comes from the hg38 cytoband table (UCSC Genome Browser, as the
package `bioframe` ships it): relative lengths, centromeres, bands. What varies (condensation, bends, blur, grain,
intensity) is invented. Polarity and order of size are those of real crops (Pki-3 for G-banding, BioImLab for
Q-banding); but the drawings are stouter, straighter, sharper and more alike, so that a network learns them in half a
minute: a page that teaches needs a network that has learned something. [ours]
"""

import argparse
import functools
import importlib.resources
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from chromolib import CLASSES, files, measures
from chromolib.errors import StudyError, ends_command

# How much of the stain a band takes up; G-banding darkens what quinacrine brightens, the AT-rich bands. [ours]
_UPTAKE = {
    "G": dict(gneg=0.1, gpos25=0.4, gpos50=0.6, gpos75=0.8, gpos100=1.0, acen=0.5, gvar=0.7, stalk=0.1),
    "Q": dict(gneg=0.3, gpos25=0.5, gpos50=0.7, gpos75=0.85, gpos100=1.0, acen=0.35, gvar=0.3, stalk=0.3),
}
_Y_HETEROCHROMATIN = {"G": 0.7, "Q": 2.2}  # quinacrine makes Yq12 the brightest spot of a cell

# (median, SD of the logarithm) for scale, width in pixels and blur in pixels; tilt as an SD in degrees; the crop's
# margin as a range in pixels. [ours]
_STYLE = {
    "G": SimpleNamespace(pixels_per_mb=(0.47, 0.05), width=(24, 0.05), blur=(0.7, 0.15), tilt=3, margin=(0, 1)),
    "Q": SimpleNamespace(pixels_per_mb=(0.45, 0.05), width=(20, 0.05), blur=(1.0, 0.15), tilt=6, margin=(1, 3)),
}
_GRID = 512  # samples along a chromosome
_AXIS = 64  # points of the curved axis
_STEPS = np.linspace(0, 1, 17)  # of the grey-level equalisation


def karyotypes(stain, n_cells=12, seed=0):
    """Draw whole cells of 46 chromosomes, alternately XX and XY.

    stain: "G" (dark bands on white) or "Q" (bright bands on black, lower resolution and contrast).
    Returns a list of (image (h, w) uint8 at the scale of real crops, label int 0..23, cell str, file str); `file`
    is unique, such as "cell01/cell01_1a.png". The same arguments give the same bytes; G and Q have nothing in common
    but the ideogram. These are drawings, for learning and testing, never evidence.
    Raises StudyError for another stain, fewer than one cell and a seed below 0.
    """
    if stain not in _STYLE:
        raise StudyError(f"stain is {stain!r}, but karyotypes are drawn only as 'G' or 'Q': choose one of them")
    if n_cells < 1:
        raise StudyError(f"n_cells is {n_cells}: draw at least one cell")
    if seed < 0:
        raise StudyError(f"seed is {seed}: take a whole number, 0 or above")
    rng = np.random.default_rng([seed, "GQ".index(stain)])
    drawn = []
    for number in range(n_cells):
        name = f"cell{number + 1:02d}"
        cell = _new_cell(stain, rng)
        sexes = [22, 22] if number % 2 == 0 else [22, 23]
        labels = [*np.repeat(np.arange(22), 2).tolist(), *sexes]
        for position, label in enumerate(labels):
            copy = "b" if label in labels[:position] else "a"
            image = _draw(ideogram(stain)[label], stain, cell, rng)
            drawn.append((image, label, name, f"{name}/{name}_{CLASSES[label]}{copy}.png"))
    return drawn


@functools.cache
def ideogram(stain):
    """The 24 classes as (length in Mb, centromere as a fraction from the p end, stain uptake (512,) from p to q)."""
    table = importlib.resources.files("bioframe").joinpath("io/data/hg38.cytoband.tsv")
    with table.open() as file:
        bands = pd.read_csv(file, sep="\t")
    return [_chromosome(bands[bands.chrom == f"chr{name}"], stain) for name in CLASSES]


def chromosome(label, stain, seed=0, off=None):
    """One drawn chromosome (h, w) uint8; the same seed draws the same one.

    off: (begin, end), fractions of its length from the p end between which no band takes up stain; all else stays.
    """
    rng = np.random.default_rng([seed, "GQ".index(stain), label])
    megabases, centromere, uptake = ideogram(stain)[label]
    if off:
        begin, end = (round(_GRID * place) for place in off)
        uptake = np.concatenate([uptake[:begin], np.full(end - begin, _UPTAKE[stain]["gneg"]), uptake[end:]])
    return _draw((megabases, centromere, uptake), stain, _new_cell(stain, rng), rng)


def _chromosome(bands, stain):
    length = bands.end.max()
    uptake = bands.stain.map(_UPTAKE[stain])
    uptake = uptake.mask((bands.chrom == "chrY") & (bands.stain == "gvar"), _Y_HETEROCHROMATIN[stain]).to_numpy()
    places = (np.arange(_GRID) + 0.5) / _GRID * length
    centromere = bands.end[bands.stain == "acen"].min() / length  # the end of its p half
    return length / 1e6, centromere, uptake[np.searchsorted(bands.end, places)]


def _new_cell(stain, rng):
    """What the chromosomes of one cell share: condensation, width, focus, split of the chromatids, intensity."""
    style = _STYLE[stain]
    draw = {name: _around(getattr(style, name), rng) for name in ("pixels_per_mb", "width", "blur")}
    return SimpleNamespace(**draw, split=rng.uniform(0.1, 0.3), gain=_around((175, 0.1), rng))


def _around(median_and_spread, rng):
    median, spread = median_and_spread
    return median * np.exp(spread * rng.standard_normal())


def _draw(chromosome, stain, cell, rng):
    megabases, centromere, uptake = chromosome
    style = _STYLE[stain]
    length = 3 + megabases * cell.pixels_per_mb * _around((1, 0.03), rng)
    radius = cell.width / 2 * _around((1, 0.03), rng) * min(1, 0.75 + length / 200)
    axis, heading = _axis(length, centromere, style.tilt, rng)
    along, across = _coordinates(axis, heading, length, margin=radius + style.margin[1])
    half_width = np.interp(along, *_outline(length, centromere, radius, rng))
    inside = np.clip(half_width - np.abs(across) + 0.5, 0, 1)
    ripple = 0.3 * _grain(along.shape, 2.5, rng)  # bands are not ruled lines, nor level on both chromatids
    ink = np.interp((along + ripple) / length, np.linspace(0, 1, _GRID), _varied(uptake, length, rng))
    ink *= 1 - cell.split * rng.uniform(0.4, 1.3) * np.exp(-((across / (0.3 * radius)) ** 2))
    finish = _finish_g if stain == "G" else _finish_q
    return _cropped(finish(ink, inside, cell, rng), inside > 0.5, rng.integers(*style.margin))


def _grain(shape, size, rng):
    """Noise of about unit variance with grains of `size` pixels."""
    return gaussian_filter(rng.standard_normal(shape), size) * (2 * np.sqrt(np.pi) * size)


def _axis(length, centromere, tilt, rng):
    """A curved axis as complex pixels (64,), x + iy with y downwards from the p end, and its unit heading."""
    along = np.linspace(0, 1, _AXIS)
    bend = rng.standard_normal(3) * (0.08, 0.06, 0.04) * min(1, length / 100)
    turn = bend[0] * (along - 0.5) * 2 + bend[1] * np.tanh((along - centromere) * length / 6)
    turn += bend[2] * np.sin(2 * np.pi * along)
    turn = np.clip(turn, -1, 1)
    heading = 1j * np.exp(1j * turn)
    axis = np.cumsum(heading) * length / (_AXIS - 1)
    upright = 1j * abs(axis[-1] - axis[0]) / (axis[-1] - axis[0])
    upright *= np.exp(1j * np.radians(np.clip(rng.normal(0, tilt), -50, 50)))
    return axis * upright, heading * upright


def _coordinates(axis, heading, length, margin):
    """Position along the axis and across it, (h, w) pixels each, of every pixel of a frame around the axis."""
    axis = axis - axis.real.min() - 1j * axis.imag.min() + margin * (1 + 1j)
    height, width = (int(np.ceil(side.max() + margin)) + 1 for side in (axis.imag, axis.real))
    pixels = np.arange(width) + 1j * np.arange(height)[:, None]
    x, y = np.float32(axis.real), np.float32(axis.imag)
    columns = x**2 - 2 * np.float32(np.arange(width))[:, None] * x
    rows = y**2 - 2 * np.float32(np.arange(height))[:, None] * y
    nearest = (rows[:, None] + columns).argmin(axis=2)  # squared distance, less what all points share
    offset = (pixels - axis[nearest]) * heading[nearest].conj()
    return nearest * length / (_AXIS - 1) + offset.real, offset.imag


def _outline(length, centromere, radius, rng):
    """Half the width in pixels at positions along the axis: round ends, a waist at the centromere."""
    along = np.linspace(-1, length + 1, 128)
    end = np.minimum(along, length - along)
    rounded = np.sqrt(np.clip(1 - (1 - end / (0.7 * radius)).clip(0) ** 2, 0, 1))
    from_waist = along - centromere * length
    waist = rng.uniform(0.3, 0.6) * np.exp(-((from_waist / (0.5 * radius)) ** 2))
    short_arm = max(0, 0.45 - 0.25 * centromere * length / radius)  # a stub of an arm is thin, as in 13 or 21
    waist += short_arm * (1 - np.tanh(from_waist / radius)) / 2
    wobble = gaussian_filter1d(rng.standard_normal(along.size), 8) * 0.3
    return along, radius * rounded * (1 - waist) * (1 + wobble) - (end < 0)


def _varied(uptake, length, rng):
    """Bands as one chromosome shows them: merged, stretched unevenly, some stronger than others."""
    merged = gaussian_filter1d(uptake, rng.uniform(0.6, 1.2) * _GRID / length, mode="nearest")
    places = np.linspace(0, 1, _GRID)
    shift = rng.normal(0, 0.004) * np.sin(np.pi * places) + rng.normal(0, 0.003) * np.sin(2 * np.pi * places)
    strength = 1 + gaussian_filter1d(rng.standard_normal(_GRID), 20) * 0.35
    return np.interp(places + shift, places, merged) * strength


def _finish_g(ink, inside, cell, rng):
    """Dark on white. The real crops are cut along the outline and equalised: every grey level is about as frequent."""
    grained = (ink + 0.05 * _grain(ink.shape, 0.8, rng)) * gaussian_filter(inside, 1.5)
    blurred = gaussian_filter(grained, cell.blur * _around((1, 0.15), rng))
    blurred -= 0.5 * gaussian_filter(grained, 5)  # the real ones are sharpened
    body = inside > 0.5
    level = np.interp(blurred, np.quantile(blurred[body], _STEPS), _STEPS)
    return 255 - gaussian_filter(inside, 0.6) * (65 + 175 * level)


def _finish_q(ink, inside, cell, rng):
    """Bright on black: tubes of light a little out of focus, saturated at 255."""
    light = ink * (1 + 0.05 * _grain(ink.shape, 1.2, rng)) * np.sqrt(inside)
    light = gaussian_filter(light, cell.blur * _around((1, 0.1), rng))
    return cell.gain * _around((1, 0.1), rng) * light


def _cropped(image, body, margin):
    rows, columns = measures.box(body)
    top, left = max(rows.start - margin, 0), max(columns.start - margin, 0)
    image = image[top : rows.stop + margin, left : columns.stop + margin]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


@ends_command()
def main(arguments=None):
    """Draw cells into a folder, a cell a sub-folder, to try `predict` on."""
    parser = argparse.ArgumentParser(prog="python -m chromolib draw", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="where the cells go, as PNG")
    parser.add_argument("--stain", default="G", help="G or Q")
    parser.add_argument("--cells", type=int, default=1, help="how many, alternately XX and XY")
    parser.add_argument("--seed", type=int, default=1, help="another draws other cells; 0 are those of the data set")
    wanted = parser.parse_args(arguments)
    drawn = karyotypes(wanted.stain, wanted.cells, wanted.seed)
    for picture, _, _, file in drawn:
        with files.replacing(wanted.folder / file) as temporary:
            Image.fromarray(picture).save(temporary)
    print(f"{len(drawn)} drawings: {wanted.folder}")


if __name__ == "__main__":
    main()
