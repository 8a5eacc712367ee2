"""The trainer against plain PyTorch, SciPy and hand-computed values."""

import dataclasses
import errno
import math
import os
import signal
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional

from chromolib import architectures, device, files, training
from chromolib.errors import StudyError

RECIPE = training.Recipe(
    batch_size=8,
    steps_per_epoch=0,
    adam_epochs=2,
    sgd_epochs=2,
    adam_learning_rate=1e-2,
    sgd_learning_rate=1e-2,
    momentum=0.9,
    weight_decay=1e-4,
    blur_sigma=2.0,
    precision="fp32",
    compiled=False,
    reproducible=False,
    select_on="validation",
    seed=0,
)
NAME = "resnet34"  # whose mean and SD normalise the images


def network():
    """A small network with the parts that matter: depthwise convolution, batch norm, head."""
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU()]
    return device.prepare(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)), CPU)


CPU = torch.device("cpu")


@pytest.fixture
def stripes():
    """Forty noisy images of three classes: horizontal stripes, vertical stripes, none."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 3
    wave = 100 * np.sin(np.arange(16))
    pattern = np.stack([np.tile(wave[:, None], 16), np.tile(wave, (16, 1)), np.zeros((16, 16))])
    images = np.clip(128 + pattern[labels] + rng.normal(0, 20, (40, 16, 16)), 0, 255).astype(np.uint8)
    return torch.from_numpy(images), torch.from_numpy(labels)


def of(images, labels, n=30):
    """The first n images are learned from, the last ten choose the epoch."""
    return training.Examples(images, labels, np.arange(n), np.arange(30, 40))


def train(stripes, recipe=RECIPE, **options):
    model = network()
    fit = training.fit(model, NAME, of(*stripes), recipe, **options)
    return fit, model.state_dict()


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_flips_are_drawn_for_each_image():
    torch.manual_seed(0)
    image = torch.arange(12, dtype=torch.uint8).reshape(3, 4)
    flipped = training.augment(image.expand(400, 3, 4), blur_sigma=0)
    variants = [image, image.flip(0), image.flip(1), image.flip(0, 1)]
    counts = [(flipped == variant).all(2).all(1).sum().item() for variant in variants]
    assert sum(counts) == 400
    assert min(counts) > 60  # each is expected 100 times, with an SD of 8.7


def test_blur_is_scipys_gaussian_away_from_the_edge():
    image = np.zeros((41, 41), np.float32)
    image[20, 20] = 1
    for sigma in (0.8, 2.0):
        smooth = training._blur_matrix(41, torch.tensor([sigma]))[0]
        ours = smooth @ torch.from_numpy(image) @ smooth.T
        np.testing.assert_allclose(ours, gaussian_filter(image, sigma, truncate=9), atol=1e-6)


def test_blur_is_drawn_for_each_image_and_keeps_grey():
    torch.manual_seed(0)
    noise = torch.rand(1, 64, 64).expand(6, 64, 64) * 255
    spread = training.augment(noise, blur_sigma=8.0).flatten(1).std(1)
    assert len(spread.unique()) == 6
    grey = training.augment(torch.full((3, 32, 40), 77, dtype=torch.uint8), blur_sigma=2.0)
    torch.testing.assert_close(grey, torch.full((3, 32, 40), 77.0))


def test_a_step_is_plain_pytorchs(stripes):
    batch, labels = architectures.normalise(stripes[0], NAME), stripes[1]
    ours, plain = network(), network()
    loss = training.train_step(ours, training.make_optimiser(ours, RECIPE, 1), batch, labels, "fp32")
    optimiser = torch.optim.Adam(plain.parameters(), lr=RECIPE.adam_learning_rate, weight_decay=RECIPE.weight_decay)
    expected = nn.CrossEntropyLoss()(plain(batch), labels)
    expected.backward()
    optimiser.step()
    torch.testing.assert_close(loss, expected.detach())
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


FULL = torch.OutOfMemoryError("CUDA out of memory (simulated)")


def memory_for(images, monkeypatch, error=FULL, training=True):
    """Let the device be out of memory for more than so many images at once; the sizes that were tried."""
    whole, tried = nn.Sequential.forward, []

    def forward(self, batch):
        tried.append(len(batch))
        if self.training == training and len(batch) > images:
            raise error
        return whole(self, batch)

    monkeypatch.setattr(nn.Sequential, "forward", forward)
    return tried


def test_parts_of_a_batch_make_the_same_step(stripes):
    images, labels = stripes
    steps = []
    for parts in (1, 2, 3):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        batch = architectures.normalise(images[:7], NAME)
        loss = training.train_step(model, training.make_optimiser(model, RECIPE, 3), batch, labels[:7], "fp32", parts)
        steps.append([loss, *model.parameters()])
    for step in steps[1:]:
        torch.testing.assert_close(step, steps[0], rtol=0, atol=1e-6)


@pytest.mark.fault(24)
def test_out_of_memory_takes_smaller_parts_of_the_same_batch(stripes, monkeypatch):
    tried = memory_for(2, monkeypatch)
    steps = []
    monkeypatch.setattr(training, "augment", lambda images, _: steps.append(len(images)) or images.float())
    fit, _ = train(stripes)
    assert fit.parts == 4
    assert tried[:7] == [8, 4, 2, 2, 2, 2, 2]  # twice in vain, then in four parts, and so to the end
    assert sum(steps) == 4 * 30  # images of four epochs, none of them twice


@pytest.mark.fault(24)
def test_out_of_memory_by_another_name_takes_smaller_parts_too(stripes, monkeypatch):
    memory_for(2, monkeypatch, RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert train(stripes)[0].parts == 4


@pytest.mark.fault(24)
def test_out_of_memory_in_validation_changes_no_result(stripes, monkeypatch):
    expected, _ = train(stripes)
    tried = memory_for(3, monkeypatch, training=False)
    found, _ = train(stripes)
    losses = [[row["validation_loss"] for row in fit.history] for fit in (found, expected)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert found.parts == 1
    assert 2 in tried
    assert max(size for size in tried if size > 8) == 10  # tried whole first


@pytest.mark.fault(24)
def test_a_neighbours_memory_does_not_part_a_batch(stripes, monkeypatch):
    tried = memory_for(2, monkeypatch)
    monkeypatch.setattr(device, "neighbours", lambda _: "other processes hold 60.0 of the 80.0 GiB of this GPU")
    with pytest.raises(StudyError, match=r"60\.0 of the 80\.0 GiB.*goes on where it was"):
        train(stripes)
    assert tried == [8]


@pytest.mark.fault(24)
def test_out_of_memory_anywhere_else_is_a_sentence(stripes, monkeypatch):
    """Here where the best weights are copied; no batch could be smaller for that."""
    monkeypatch.setattr(training, "_keep", raising(torch.AcceleratorError("CUDA error: out of memory")))
    with pytest.raises(StudyError, match="out of memory: lower batch_size"):
        train(stripes)


def raising(error):
    def work(*_, **__):
        raise error

    return work


def compiled_network(backend):
    """As on a GPU, but compiled by a function of ours."""
    model = network()
    model.compile(backend=backend, dynamic=False)
    return model


def fit_compiled(stripes, backend, n=30):
    model = compiled_network(backend)
    return training.fit(model, NAME, of(*stripes, n), RECIPE), model.state_dict()


def test_a_network_is_compiled_once_though_batches_have_two_sizes(stripes):
    """Of 30 images in batches of up to 8, two have 8 and two 7; of 29, three have 7 and one 8."""
    compiled, sizes = [], []

    def backend(graph, _):
        compiled.append(graph)
        return lambda *inputs: sizes.append(len(inputs[-1])) or graph.forward(*inputs)

    fit, last = fit_compiled(stripes, backend, n=29)
    assert len(compiled) == 1
    assert fit.compiled
    eager = network()
    training.fit(eager, NAME, of(*stripes, 29), RECIPE)
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(last[name], value, rtol=0, atol=1e-5)


def test_parts_do_not_go_through_cuda_graphs(stripes):
    """There the second part would overwrite the gradients of the first."""
    model = compiled_network(raising(AssertionError("compiled")))
    batch = architectures.normalise(stripes[0], NAME)
    training.train_step(model, training.make_optimiser(model, RECIPE, 1), batch, stripes[1], "fp32", parts=2)


def test_a_network_that_cannot_be_compiled_goes_on_as_it_is_and_says_so(stripes, caplog):
    fit, last = fit_compiled(stripes, raising(RuntimeError("Triton: no C compiler")))
    assert not fit.compiled
    assert "not compiled" in caplog.text
    assert "no C compiler" in caplog.text
    assert same(last, train(stripes)[1])


@pytest.mark.fault(24)
def test_a_compiled_network_without_memory_is_tried_whole_before_it_is_parted(stripes):
    fit, _ = fit_compiled(stripes, raising(torch.OutOfMemoryError("CUDA out of memory (simulated)")))
    assert (fit.compiled, fit.parts) == (False, 1)


@pytest.mark.fault(24)
def test_memory_for_not_even_one_image_is_said(stripes, monkeypatch):
    memory_for(0, monkeypatch)
    with pytest.raises(StudyError, match=r"out of memory with 1 image of 16 pixels.*image_size"):
        train(stripes)


def test_the_smaller_parts_outlast_an_interruption(stripes, tmp_path, monkeypatch, every_epoch):
    memory_for(4, monkeypatch)

    def pull_the_plug(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(stripes, state=tmp_path / "state.pt", report=pull_the_plug)
    fit, last = train(stripes, state=tmp_path / "state.pt")
    assert fit.parts == 2
    assert same(last, train(stripes)[1])


def test_adam_then_sgd_each_along_a_cosine(stripes):
    assert isinstance(training.make_optimiser(network(), RECIPE, 2), torch.optim.Adam)
    assert isinstance(training.make_optimiser(network(), RECIPE, 3), torch.optim.SGD)
    rates = [row["learning_rate"] for row in train(stripes)[0].history]
    half = 1e-2 * (0.01 + 0.99 / 2)  # half way through a phase of two epochs
    assert rates == pytest.approx([1e-2, half, 1e-2, half])


def test_it_learns_and_keeps_the_best_epoch(stripes):
    recipe = dataclasses.replace(RECIPE, adam_epochs=10, blur_sigma=0.5)
    model = network()
    images, labels = stripes
    fit = training.fit(model, NAME, of(images, labels), recipe)
    accuracies = [row["validation_accuracy"] for row in fit.history]
    assert fit.history[-1]["train_loss"] < fit.history[0]["train_loss"]
    assert fit.best_epoch == 1 + int(np.argmax(accuracies))
    model.load_state_dict(fit.best)
    guesses = training.predict(model, NAME, images[30:], "fp32").argmax(1)
    assert (guesses == labels[30:]).float().mean().item() == pytest.approx(max(accuracies))


def test_same_seed_same_bits(stripes):
    one, other, third = (train(stripes, dataclasses.replace(RECIPE, seed=seed)) for seed in (0, 0, 1))
    assert same(one[1], other[1])
    assert same(one[0].best, other[0].best)
    assert not same(one[1], third[1])


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_interrupted_and_resumed_is_the_same_to_the_bit(stripes, tmp_path, stop, every_epoch):
    def pull_the_plug(row):
        if row["epoch"] == stop:
            raise KeyboardInterrupt

    state = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        train(stripes, state=state, report=pull_the_plug)
    (resumed, resumed_last), (whole, whole_last) = train(stripes, state=state), train(stripes)
    assert len(resumed.history) == len(whole.history) == 4
    assert same(resumed_last, whole_last)
    assert same(resumed.best, whole.best)


def test_the_state_is_written_when_a_minute_has_passed_and_at_the_end(stripes, tmp_path, monkeypatch):
    clock, written, state = iter(range(0, 1000, 25)), [], tmp_path / "state.pt"
    monkeypatch.setattr(training.time, "monotonic", clock.__next__)  # 25 s from one look to the next
    train(stripes, state=state, report=lambda row: written.append(state.exists() and state.stat().st_ino))
    assert written[:2] == [False, False]
    assert len({*written[2:], state.stat().st_ino}) == 2  # after the third epoch and after the last, the fourth


def test_the_best_weights_are_written_where_they_changed(stripes, tmp_path, every_epoch):
    state, seen = tmp_path / "state.pt", []

    def look(row):
        (best,) = tmp_path.glob("state-best*.pt")
        seen.append((row["validation_accuracy"], best.name, best.stat().st_ino))

    fit, _ = train(stripes, state=state, report=look)
    accuracies = [accuracy for accuracy, *_ in seen]
    epochs = [1 + accuracies.index(max(accuracies[: n + 1])) for n in range(4)]
    assert len(set(epochs)) < 4  # the best epoch lasted for more than one
    assert [name for _, name, _ in seen] == [f"state-best{epoch}.pt" for epoch in epochs]
    assert len({(name, inode) for _, name, inode in seen}) == len(set(epochs))
    assert same(torch.load(tmp_path / f"state-best{epochs[-1]}.pt", weights_only=True), fit.best)


def train_until_killed(stripes, state):
    save = torch.save
    training.STATE_SECONDS = 0

    def save_half_of_the_third(content, file):
        save(content, file)
        if len(content.get("history", ())) == 3:
            os.truncate(file, file.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save_half_of_the_third
    train(stripes, state=state)


@pytest.mark.fault(5)
def test_killed_while_writing_the_state_it_goes_on_from_the_one_before(stripes, tmp_path, killed_in):
    state = tmp_path / "state.pt"
    killed_in(train_until_killed, stripes, state)
    assert len(torch.load(state, weights_only=True)["history"]) == 2
    assert same(train(stripes, state=state)[1], train(stripes)[1])


@pytest.mark.fault(6)
@pytest.mark.parametrize("damage", ["truncated", "flipped bit", "something else", "best weights gone"])
def test_a_damaged_state_is_said_and_the_training_starts_again(stripes, tmp_path, damage):
    state = tmp_path / "state.pt"
    _, whole = train(stripes, state=state)
    data = bytearray(state.read_bytes())
    if damage == "flipped bit":  # in a weight, where torch.load does not notice
        data[data.index(whole["6.weight"].numpy().tobytes())] ^= 1
    if damage == "best weights gone":
        next(tmp_path.glob("state-best*.pt")).unlink()
    else:
        state.write_bytes({"truncated": data[:-99], "flipped bit": data}.get(damage, b"half a file"))
    with pytest.warns(UserWarning, match=r"state\.pt.*cannot be read.*starts again"):
        again, last = train(stripes, state=state)
    assert len(again.history) == 4 and same(last, whole)


@pytest.mark.fault(6, 24)
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), OSError(errno.ESTALE, "Stale")])
def test_a_state_that_cannot_be_read_now_is_kept(stripes, tmp_path, monkeypatch, error):
    """Where others fill the device, or a file server is away: hours of training must outlive that."""
    state = tmp_path / "state.pt"
    train(stripes, state=state)
    before = {file: files.sha256(file) for file in tmp_path.iterdir()}

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(StudyError, match=r"state\.pt: cannot be read now .*it is kept: start again"):
        train(stripes, state=state)
    assert {file: files.sha256(file) for file in tmp_path.iterdir()} == before


class Evil:
    """Unpickled, it would call a function of its maker's choice."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.fault(8)
def test_a_malicious_state_is_refused(stripes, tmp_path):
    for name in ("state.pt", "copy.pt"):
        torch.save({"history": Evil(tmp_path / "trace")}, tmp_path / name)
    with pytest.warns(UserWarning, match=r"state\.pt.*cannot be read"):
        train(stripes, state=tmp_path / "state.pt")
    assert not (tmp_path / "trace").exists()
    torch.load(tmp_path / "copy.pt", weights_only=False)  # it would have worked
    assert (tmp_path / "trace").exists()


@pytest.mark.fault(23)
def test_a_loss_that_is_no_number_stops(stripes):
    with pytest.raises(StudyError, match=r"epoch \d: the training loss is .*adam_learning_rate"):
        train(stripes, dataclasses.replace(RECIPE, adam_learning_rate=1e38))


@pytest.mark.parametrize(
    ("field", "value"), [("batch_size", 0), ("adam_learning_rate", -1.0), ("precision", "fp8"), ("seed", -1)]
)
def test_impossible_values_are_named(field, value):
    with pytest.raises(StudyError, match=field):
        dataclasses.replace(RECIPE, **{field: value})


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(RECIPE) if field.type is float])
def test_what_is_no_number_is_refused_by_its_name(field, value):
    with pytest.raises(StudyError, match=f"'{field}': {value} must be a number"):
        dataclasses.replace(RECIPE, **{field: value})


def test_no_epochs_at_all_is_refused():
    with pytest.raises(StudyError, match="epochs"):
        dataclasses.replace(RECIPE, adam_epochs=0, sgd_epochs=0)


def test_depthwise_convolutions_compute_in_fp32_under_autocast():
    layer, images = nn.Conv2d(8, 8, 3, groups=8, bias=False), torch.randn(2, 8, 6, 6).bfloat16()
    expected = functional.conv2d(images.float(), layer.weight, groups=8).bfloat16()  # only the end is rounded
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = device.prepare(layer, CPU)(images)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)


@pytest.mark.skipif(not device.has_fast_bfloat16(CPU), reason="this processor has no bf16 arithmetic")
def test_bf16_trains_like_fp32(stripes):
    recipe = dataclasses.replace(RECIPE, adam_epochs=6, sgd_epochs=0)
    losses = [train(stripes, dataclasses.replace(recipe, precision=kind))[0].history for kind in ("auto", "fp32")]
    assert math.isclose(losses[0][-1]["train_loss"], losses[1][-1]["train_loss"], rel_tol=0.1)


@pytest.mark.parametrize("n", [9, 16, 17])
def test_every_image_is_seen_once_an_epoch(n, monkeypatch):
    seen = []
    monkeypatch.setattr(training, "augment", lambda images, _: seen.append(images[:, 0, 0]) or images)
    images = torch.arange(n, dtype=torch.uint8)[:, None, None].expand(n, 16, 16).contiguous()
    recipe = dataclasses.replace(RECIPE, adam_epochs=1, sgd_epochs=0)
    training.fit(
        network(), NAME, training.Examples(images, torch.zeros(n, dtype=torch.int64), np.arange(n), [0]), recipe
    )
    assert sorted(torch.cat(seen).tolist()) == list(range(n))
    assert min(len(batch) for batch in seen) > 1  # a lone image has no batch statistics


@pytest.mark.parametrize("steps, times", [(2, {0, 1}), (9, {2, 3})])
def test_an_epoch_may_have_a_fixed_number_of_steps(steps, times, stripes, monkeypatch):
    """Of 30 images, 16 are one part of a pass, and 72 are two passes and a part."""
    drawn = []
    monkeypatch.setattr(training, "augment", lambda batch, sigma: drawn.append(batch.clone()) or batch.float())
    train(stripes, dataclasses.replace(RECIPE, steps_per_epoch=steps, adam_epochs=1, sgd_epochs=0))
    assert [len(batch) for batch in drawn] == [RECIPE.batch_size] * steps
    counts = Counter(image.numpy().tobytes() for batch in drawn for image in batch)
    assert {counts[image.numpy().tobytes()] for image in stripes[0][:30]} == times
    assert sum(counts.values()) == steps * RECIPE.batch_size


def test_two_channels_are_augmented_alike():
    picture = torch.rand(6, 20, 20) * 255
    torch.manual_seed(0)
    one = training.augment(picture, 2.0)
    torch.manual_seed(0)
    two = training.augment(torch.stack([picture, picture], dim=1), 2.0)
    torch.testing.assert_close(two, torch.stack([one, one], dim=1))


def test_a_line_of_progress_says_how_long_it_will_take(monkeypatch, capsys):
    """Of ten epochs of 50 s: seven to go after the third, 350 s; and two folds more, 1,000 s."""
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    report = training.progress(10, [0, 2, 4])
    row = {"epoch": 3, "train_loss": 1.5, "validation_accuracy": 0.25, "seconds": 50.0}
    for fold in (0, 4):
        report(row | {"fold": fold})
    line = "fold {}  epoch 3/10  loss 1.500  validation accuracy 0.250  50.0 s, left 05:50"
    assert capsys.readouterr().out == f"{line.format(0)}, with the other folds 22:30\n{line.format(4)}\n"
