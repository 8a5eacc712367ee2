"""The benchmarks run, and what they compare is the same work: pixels, optimisation step, MMD²."""

import concurrent.futures
import concurrent.futures.process
import contextlib
import importlib
import importlib.util
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cdist, pdist

from chromolib import architectures, device, similarity, trainer, training

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
        ("loading", 1),
        ("same_science", 1),
        pytest.param("similarity", 2, marks=pytest.mark.slow),
        pytest.param("training", 1, marks=pytest.mark.slow),
        pytest.param("training_growth", 1, marks=pytest.mark.slow),
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
        script("loading").main(["--quick"])
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


def test_the_tuned_loop_is_the_plain_one_with_three_lines_more(script, monkeypatch):
    """The same step but for rounding, on images and weights that are channels last."""
    plain, seen = script("plain"), []
    monkeypatch.setattr(device, "choose", lambda: CPU)
    monkeypatch.setattr(device, "has_fast_bfloat16", lambda _: False)
    images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 5, 5, 23])
    models = []
    for tuned in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 30 * 30, 24))
        model[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        optimiser = torch.optim.Adam(model.parameters(), 1e-3, fused=tuned or None)
        plain.train_epoch(model, [(images, labels)], optimiser, tuned=tuned)
        models.append(model)
    assert [part.is_contiguous(memory_format=torch.channels_last) for part in seen] == [False, True]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_training_is_held_against_both_loops_and_the_limit(script, monkeypatch):
    """In images a second: ours 60, plain 30, tuned 50, the bare step 80."""
    bench = script("training")
    monkeypatch.setattr(
        bench, "contestants", lambda *_: contextlib.nullcontext([lambda: (60, 80), lambda: 30, lambda: 50])
    )
    data = types.SimpleNamespace(name="some", images=np.zeros((2, 128, 128)))
    rows = {row["against"]: row["ratio"] for row in bench.speed("resnet34", data, 2, 1)}
    assert rows == {"plain loop": 2, "tuned loop": 1.2, "bare step": 0.75}
    assert sorted(bench.IMAGES) == [96, 128, 256]


@pytest.mark.slow
def test_half_an_hour_on_a_gpu_is_rehearsed_whole_and_in_slices(script, own_cache, tmp_path):
    """At toy size; here a slice lasts no time, but for the last, so each of the first does one job or less."""
    gpu, folder = script("gpu"), tmp_path / "found"
    words = ["--quick", "--output", str(folder)]
    for _ in range(2):
        with pytest.raises(SystemExit) as stopped:
            gpu.main([*words, "--seconds", "0"])
        assert stopped.value.code == gpu.MORE == 75
    gpu.main([*words, "--seconds", "3600"])
    files = sorted(file.name for file in folder.iterdir() if file.is_file())
    assert files == ["correctness.csv", "machine.json", "speed.csv", "trainings.csv"]
    checks, speeds, trainings = (pd.read_csv(folder / f"{name}.csv") for name in ("correctness", "speed", "trainings"))
    assert checks["right"].all(), checks[~checks["right"]].to_string()
    assert speeds["images_per_second"].gt(0).all()
    assert len(speeds) == 2 + 2 + 3  # eager and compiled in two layouts, the bare step, two loops
    assert trainings["macro_f1"].between(0, 1).all()
    assert not list((folder / "state").iterdir())
    before = [(folder / name).read_bytes() for name in files[:1] + files[2:]]
    gpu.main([*words, "--seconds", "3600"])  # nothing is left to do
    assert before == [(folder / name).read_bytes() for name in files[:1] + files[2:]]


def test_the_gpus_benchmark_covers_the_papers_networks_in_every_engine(script, tmp_path):
    gpu = script("gpu")
    bench = gpu.Bench(["--output", str(tmp_path)])
    keys = [key for key, _ in gpu.speeds(bench)]
    assert len(keys) == len(set(keys)) == 11 * (2 + 2 + 3)
    assert {key.split(",")[0] for key in keys} == set(architectures.NAMES[:11])


def test_the_gpus_benchmark_does_the_tables_and_networks_that_are_asked_for(script, tmp_path, monkeypatch):
    gpu = script("gpu")
    monkeypatch.setattr(gpu, "engine", lambda *_: {"images_per_second": 1.0})
    monkeypatch.setattr(gpu, "bare", lambda *_: {"images_per_second": 1.0})
    monkeypatch.setattr(gpu, "loop", lambda *_: {"images_per_second": 1.0})
    gpu.main(["--quick", "--output", str(tmp_path), "--tables", "speed", "--networks", "vgg16", "efficientnet_lite0"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["machine.json", "speed.csv"]
    assert set(pd.read_csv(tmp_path / "speed.csv")["key"].str.split(",").str[0]) == {"vgg16", "efficientnet_lite0"}


def test_a_training_goes_on_in_the_next_slice(script, tmp_path, monkeypatch):
    gpu = script("gpu")
    bench = gpu.Bench(["--quick", "--output", str(tmp_path), "--seconds", "0"])
    monkeypatch.setattr(
        training, "fit", lambda *_, report, **__: report({"epoch": 1, "validation_accuracy": 0, "seconds": 1})
    )
    with pytest.raises(gpu.OutOfTime):
        gpu.train(bench, "mobilenetv3_large", True)


def test_runs_side_by_side_wait_for_their_parents(script, monkeypatch, capsys):
    """Which is begun when: the executor of this test finishes one run at a time, in the order they were begun."""
    grid, begun, errors = script("grid"), [], {}

    class Finished(concurrent.futures.Future):
        def __init__(self, name):
            super().__init__()
            self.set_exception(errors[name]) if name in errors else self.set_result(1.0)
            begun.append(name)

    class Executor(contextlib.nullcontext):
        def submit(self, _, name):
            return Finished(name)

    monkeypatch.setattr(grid, "ProcessPoolExecutor", lambda *_: Executor(Executor()))
    child, mother = (f"smoke/{run}" for run in ("g_band/resnet34/two_step", "q_band/resnet34/imagenet"))
    other = "smoke/q_band/resnet34/two_step"  # whose parent is not among them
    grid.main([child, mother, other])
    assert begun == [mother, other, child]
    assert grid.parent(child) == mother and grid.parent(mother) is None
    assert grid.parent("curve_3/g_band/efficientnet_lite0/two_step").startswith("evening_patient_seed2/q_band/")
    assert capsys.readouterr().out.count("1 s of training") == 3
    errors[mother] = concurrent.futures.process.BrokenProcessPool()
    with pytest.raises(SystemExit, match=f"^{mother}: a process was ended from outside.*goes on"):
        grid.main([mother, child])


@pytest.mark.slow
def test_runs_side_by_side_are_those_of_notebook_3_and_go_on(script, own_cache, tmp_path, monkeypatch, capsys):
    """Stopped at the first epoch, and gone on with, against a run in one go; a CPU gives the same bits."""
    grid, name = script("grid"), "smoke/q_band/efficientnet_lite0/scratch"
    monkeypatch.setenv("CHROMOLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    with pytest.raises(SystemExit, match="1 not finished"):
        grid.main(["--workers", "1", "--seconds", "0", name])
    assert "OutOfTime" in capsys.readouterr().out
    assert not (tmp_path / "runs" / name / "run.json").exists()
    grid.main(["--workers", "1", name])
    alone = trainer.ensure(grid.settings(name), tmp_path / "alone")
    parts = (pd.read_parquet(folder / "predictions.parquet") for folder in (tmp_path / "runs" / name, alone))
    pd.testing.assert_frame_equal(*parts, check_exact=True)


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
