"""The drawn karyotypes, against the cytoband table itself and the count of a normal human cell."""

import importlib.resources
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import rotate, zoom
from scipy.stats import spearmanr

from chromolib import CLASSES
from chromolib.errors import StudyError
from chromolib.synthetic import chromosome, karyotypes


@pytest.fixture(scope="module")
def drawn():
    return {stain: karyotypes(stain, n_cells=8, seed=5) for stain in "GQ"}


@pytest.fixture(scope="module")
def bands():
    table = importlib.resources.files("bioframe") / "io/data/hg38.cytoband.tsv"
    return pd.read_csv(str(table), sep="\t")


def ink(image, stain):
    """Chromosome bright on 0, upright as far as its principal axis says."""
    ink = 255.0 - image if stain == "G" else image.astype(float)
    y, x = np.nonzero(ink > 0.25 * np.percentile(ink, 99))
    _, vectors = np.linalg.eigh(np.cov(y, x))
    down, right = vectors[:, 1] * np.sign(vectors[0, 1])
    return rotate(ink, -np.degrees(np.arctan2(right, down)), order=1)


def along_axis(image, stain):
    """(100, 2): mean intensity and width, from the top of the chromosome to its bottom."""
    upright = ink(image, stain)
    body = upright > 0.25 * np.percentile(upright[upright > 0], 95)
    rows = np.flatnonzero(body.any(axis=1))
    upright, body = (part[rows[0] : rows[-1] + 1] for part in (upright, body))
    width = body.sum(axis=1)
    intensity = (upright * body).sum(axis=1) / np.maximum(width, 1)
    return zoom(np.stack([intensity, width], axis=1).astype(float), (100 / len(width), 1), order=1)[:100]


def mean_along_axis(karyotype, label, stain):
    return np.mean([along_axis(image, stain) for image, other, *_ in karyotype if other == label], axis=0)


@pytest.mark.parametrize("stain", ["G", "Q"])
def test_a_cell_has_46_chromosomes_two_of_each_autosome_and_xx_or_xy(drawn, stain):
    for number in range(8):
        counts = Counter(label for _, label, cell, _ in drawn[stain] if cell == f"cell{number + 1:02d}")
        sexes = {22: 2} if number % 2 == 0 else {22: 1, 23: 1}
        assert counts == dict.fromkeys(range(22), 2) | sexes


@pytest.mark.parametrize("stain", ["G", "Q"])
def test_files_are_unique_and_name_cell_and_class(drawn, stain):
    files = [file for *_, file in drawn[stain]]
    assert len(set(files)) == len(files) == 8 * 46
    assert "cell01/cell01_1a.png" in files and "cell02/cell02_Ya.png" in files
    for _, label, cell, file in drawn[stain]:
        assert file[:-5] == f"{cell}/{cell}_{CLASSES[label]}"


def test_images_are_small_grey_bytes_of_varying_size(drawn):
    for image, *_ in drawn["G"] + drawn["Q"]:
        assert image.dtype == np.uint8 and image.ndim == 2
        assert min(image.shape) >= 9 and max(image.shape) <= 250
    assert len({image.shape for image, *_ in drawn["G"]}) > 100


@pytest.mark.parametrize("stain", ["G", "Q"])
def test_the_same_seed_draws_the_same_bytes_and_another_seed_does_not(stain):
    once, again, other = (karyotypes(stain, n_cells=1, seed=seed) for seed in (3, 3, 4))
    assert all(a[0].shape == b[0].shape and (a[0] == b[0]).all() for a, b in zip(once, again, strict=True))
    assert not any(np.array_equal(a[0], b[0]) for a, b in zip(once, other, strict=True))


def test_more_cells_begin_with_the_same_cells():
    few, many = karyotypes("G", n_cells=1), karyotypes("G", n_cells=2)
    assert all(np.array_equal(a[0], b[0]) and a[3] == b[3] for a, b in zip(few, many, strict=False))


def test_background_is_white_for_g_and_black_for_q(drawn):
    for stain, background in (("G", 255), ("Q", 0)):
        for image, *_ in drawn[stain]:
            corners = image[[0, 0, -1, -1], [0, -1, 0, -1]].astype(int)
            assert np.median(np.abs(corners - background)) <= 15
    assert all(image.min() < 60 for image, *_ in drawn["G"])


@pytest.mark.parametrize("stain", ["G", "Q"])
def test_lengths_follow_hg38(drawn, bands, stain):
    true = [bands.end[bands.chrom == f"chr{name}"].max() for name in CLASSES]
    sizes = [[max(ink(image, stain).shape) for image, other, *_ in drawn[stain] if other == k] for k in range(24)]
    assert spearmanr(true, [np.mean(size) for size in sizes]).statistic > 0.9


@pytest.mark.parametrize("stain", ["G", "Q"])
@pytest.mark.parametrize("name", ["1", "2", "8"])
def test_the_waist_lies_at_the_centromere(drawn, bands, stain, name):
    rows = bands[bands.chrom == f"chr{name}"]
    centromere = rows.end[(rows.stain == "acen") & rows.band.str.startswith("p")].item() / rows.end.max()
    width = mean_along_axis(drawn[stain], CLASSES.index(name), stain)[:, 1]
    assert (10 + width[10:90].argmin()) / 100 == pytest.approx(centromere, abs=0.05)


def test_dark_bands_of_g_are_bright_bands_of_q(drawn):
    correlations = []
    for label in range(12):  # the long ones, which show bands enough
        g, q = (mean_along_axis(drawn[stain], label, stain)[10:90, 0] for stain in "GQ")
        correlations.append(np.corrcoef(255 - g, q)[0, 1])  # grey levels of the images, not ink
    assert np.mean(correlations) < -0.4


def test_the_distal_y_shines_in_q_only(drawn):
    brightest = {label: [] for label in range(24)}
    for image, label, *_ in drawn["Q"]:
        brightest[label].append(np.percentile(image, 98))
    means = [np.mean(brightest[label]) for label in range(24)]
    assert np.argmax(means) == 23 and means[23] > 1.3 * max(means[:23])
    intensity = mean_along_axis(drawn["Q"], 23, "Q")[:, 0]
    assert intensity[60:90].mean() > 1.5 * intensity[10:30].mean()  # Yq12, against Yp


def test_bands_are_switched_off_in_their_place_alone():
    whole, off = (chromosome(0, "Q", seed=1, off=place).astype(float) for place in (None, (0.6, 0.9)))
    change = (whole - off).sum(axis=1)  # (h,)
    rows = (np.arange(len(change)) + 0.5) / len(change)
    inside = (rows > 0.55) & (rows < 0.95)  # bends and blur move a band by a little
    assert change[inside].sum() > 0.98 * np.abs(change).sum() > 0  # less light, and nowhere else


@pytest.mark.parametrize("stain", ["R", "g", None])
def test_another_stain_is_refused(stain):
    with pytest.raises(StudyError, match="stain"):
        karyotypes(stain)


def test_no_cells_and_seeds_below_0_are_refused():
    with pytest.raises(StudyError, match="n_cells"):
        karyotypes("G", n_cells=0)
    with pytest.raises(StudyError, match="seed is -1"):
        karyotypes("G", seed=-1)
