"""The benchmarks run, and what they compare is the same work: pixels, optimisation step, MMD²."""

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cdist, pdist

from chromolib import architectures, device, similarity, training

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
CPU = torch.device("cpu")
LARGE = ("vgg16", "vgg19", "resnext101", "resnet101")  # slow, and built as smaller ones are


@pytest.fixture
def script(monkeypatch):
    """Import a script as it is when it is started: its folder on the path."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.mark.parametrize(
    ("name", "tables"),
    [
        ("bootstrap", 1),
        ("gradcam", 1),
        ("loading", 1),
        ("same_science", 1),
        pytest.param("similarity", 2, marks=pytest.mark.slow),
        pytest.param("training", 2, marks=pytest.mark.slow),
    ],
)
def test_each_writes_ratio_first_with_the_machine_and_a_figure(name, tables, script, own_cache, tmp_path):
    script(name).main(["--quick", "--output", str(tmp_path)])
    written = sorted(tmp_path.glob("*.csv"))
    assert len(written) == tables
    for file in written:
        table = pd.read_csv(file)
        assert table.columns[0] == "ratio"
        assert {"ours", "turns", "data" if "data" in table else "draws", "processor", "cores", "torch"} <= {*table}
        assert (table.ours > 0).all()
        assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_a_quick_run_does_not_replace_results(script, capsys):
    with pytest.raises(SystemExit):
        script("gradcam").main(["--quick"])
    assert "measures nothing" in capsys.readouterr().err


def test_ratio_is_above_one_where_ours_is_ahead(script):
    row = script("common").row
    assert row("", "images/s", [30, 10, 20], [10, 5, 40])["ratio"] == 2
    assert row("", "s", [30, 10, 20], [10, 5, 40])["ratio"] == 0.5
    assert row("", "s", [10, 10, 10], target=20)["ratio"] == 2


@pytest.mark.parametrize("size", [32, 128])
def test_the_plain_loop_sees_the_same_pixels(size, script, tmp_path):
    plain = script("plain")
    images = np.random.default_rng(0).integers(256, size=(5, size, size), dtype=np.uint8)
    labels = np.array([0, 3, 3, 9, 23])
    plain.write_images(tmp_path / "a", images, labels)
    ((pixels, found),) = plain.loader(tmp_path / "a", "resnet34", size, 8, augmented=False)
    assert found.tolist() == labels.tolist()
    torch.testing.assert_close(pixels, architectures.normalise(torch.from_numpy(images), "resnet34"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in architectures.NAMES if name not in LARGE])
def test_one_step_is_the_plain_loops(name, script):
    """SGD, whose step is proportional to the gradient; Adam's first one is lr * sign(gradient), so that where a
    gradient is zero but for rounding its sign is chance. Adam is compared on a network without such weights in
    test_training."""
    # From random weights the gradients of EfficientNet-Lite0 are so steep that float32 rounding alone, against float64,
    # moves its first layer by 8e-4 in one step; from ImageNet's by 7e-7.
    size, start = 64, "imagenet" if name == "efficientnet_lite0" else None
    images = torch.from_numpy(np.random.default_rng(0).integers(256, size=(4, size, size), dtype=np.uint8))
    batch, labels = architectures.normalise(images, name), torch.tensor([0, 5, 5, 23])
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(architectures.create(name, start, image_size=size))
    ours, tutorial = device.prepare(models[0], CPU), models[1]
    recipe = script("plain").RECIPE
    torch.manual_seed(1)  # of drop path
    step = training.make_optimiser(ours, recipe, recipe.adam_epochs + 1)
    training.train_step(ours.train(), step, batch, labels, "fp32")
    optimiser = torch.optim.SGD(
        tutorial.parameters(), recipe.sgd_learning_rate, recipe.momentum, weight_decay=recipe.weight_decay
    )
    torch.manual_seed(1)
    script("plain").train_epoch(tutorial, [(batch.contiguous(), labels)], optimiser)
    for (key, one), other in zip(ours.state_dict().items(), tutorial.state_dict().values(), strict=True):
        # The variances of batch norm's buffers go into the hundreds, where float32 resolves no 1e-5.
        rtol = 1e-4 if key.endswith("running_var") else 0
        torch.testing.assert_close(one, other, rtol=rtol, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


def two_sets():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 20)).astype(np.float32), rng.normal(0.3, 1.2, size=(40, 20)).astype(np.float32)


def test_re_indexing_is_the_same_statistic(script):
    peer, (x, y) = script("similarity"), two_sets()
    kernel = peer.kernel_matrix(torch.from_numpy(np.concatenate([x, y])), 40.0)
    assert peer.mean_difference(kernel, 60).item() == pytest.approx(similarity.mmd2(x, y, 40.0), abs=1e-5)
    torch.manual_seed(0)
    draws = [peer.redrawn(kernel, 60).item() for _ in range(400)]
    interval = similarity.mmd2_interval(x, y, 40.0, 400)
    assert np.std(draws) == pytest.approx((interval.high - interval.low) / 3.92, rel=0.2)


def test_mmd2_is_alibi_detects(script):
    if importlib.util.find_spec("alibi_detect") is None:
        pytest.skip("alibi-detect is not installed (pip install --no-deps alibi-detect)")
    x, y = two_sets()
    assert script("similarity").alibi_detect(x, y, 40.0) == pytest.approx(similarity.mmd2(x, y, 40.0), abs=1e-5)


def test_mmd2_is_hyppos():
    """hyppo tells the distance covariance of the kernel and the indicator of the sets, from which the biased MMD²
    follows: dcov² = 2 n² m² MMD² / (n + m)⁴ (Shen and Vogelstein 2021). Ours is without bias, so that is added."""
    dcorr = pytest.importorskip("hyppo.independence.dcorr")
    x, y = two_sets()
    n, m, pool = len(x), len(y), np.concatenate([x, y]).astype(np.float64)
    indicator = np.repeat([0.0, 1.0], [n, m])
    distances = 1 - np.exp(-cdist(pool, pool, "sqeuclidean") / 80), abs(indicator[:, None] - indicator)
    biased = dcorr._dcov(*distances, bias=True) ** 2 * (n + m) ** 4 / (2 * n**2 * m**2)
    means = [np.exp(-pdist(z, "sqeuclidean") / 80).mean() for z in (x, y)]
    bias = (1 - means[0]) / n + (1 - means[1]) / m
    assert similarity.mmd2(x, y, 40.0) + bias == pytest.approx(biased, abs=1e-5)
