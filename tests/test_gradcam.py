"""Grad-CAM against its definition, on every layout, and on drawings whose informative region is known."""

import copy

import numpy as np
import pytest
import torch

from chromolib import architectures, gradcam, localisation
from chromolib import images as pictures
from chromolib.localisation import PARTS, Localisation, SwitchedOff
from chromolib.synthetic import chromosome

SIZE = 64
CLASSES = np.array([0, 7, 23])
LARGE = ("vgg16", "vgg19", "resnext101")  # slow, and of the same layout as smaller ones


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE)).astype(np.uint8)


def network(name):
    torch.manual_seed(0)
    return architectures.create(name, image_size=SIZE).eval()


def as_grid(tensor, layout):
    """(n, channels, rows, columns) of what a layer gives for images of SIZE pixels."""
    if layout == "nhwc":
        return tensor.permute(0, 3, 1, 2)
    if layout == "tokens":
        side = round((tensor.shape[1] - 1) ** 0.5)
        return tensor[:, 1:].reshape(-1, side, side, tensor.shape[2]).permute(0, 3, 1, 2)
    return tensor


def activation_and_logits(model, name, images):
    """What the layer gives that Grad-CAM looks at, and the network's logits."""
    kept = []
    layer = model.get_submodule(architectures.row(name).cam_layer)
    hook = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    logits = model(images)
    hook.remove()
    return kept[0], logits


def by_its_definition(model, name, images, classes):
    """The paper's equations 1 and 2 in plain PyTorch and float64, image by image."""
    model, heat = copy.deepcopy(model).double(), []
    for image, wanted in zip(images, classes, strict=True):
        pixels = architectures.normalise(torch.from_numpy(image[None]), name).double()
        activation, logits = activation_and_logits(model, name, pixels)
        (gradient,) = torch.autograd.grad(logits[0, int(wanted)], activation)
        activation, gradient = (as_grid(part, architectures.row(name).layout) for part in (activation, gradient))
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        one = (weights * activation).sum(1, keepdim=True).relu()
        heat.append(torch.nn.functional.interpolate(one, size=image.shape, mode="bilinear")[0, 0].detach().numpy())
    low, high = np.min(heat, (1, 2), keepdims=True), np.max(heat, (1, 2), keepdims=True)
    return (heat - low) / np.where(high > low, high - low, 1)


@pytest.mark.parametrize("name", architectures.NAMES)
def test_every_architecture(name, images):
    model = network(name)
    row = architectures.TABLE[name]
    shapes = []
    hook = model.get_submodule(row.cam_layer).register_forward_hook(lambda *call: shapes.append(call[2].shape))
    found = gradcam.maps(model, name, images, CLASSES, batch_size=2)
    several = gradcam.maps(model, name, images[[0, 0, 0, 0]], np.arange(4))
    hook.remove()

    assert found.shape == images.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, by_its_definition(model, name, images, CLASSES), atol=1e-4)

    if row.layout == "tokens":
        assert shapes[0] == (2, 1 + (SIZE // 16) ** 2, 384)
    else:
        assert len(shapes[0]) == 4
        sides = shapes[0][1:3] if row.layout == "nhwc" else shapes[0][2:]
        assert tuple(sides) in {(2, 2), (4, 4)}  # a 32nd of the image; VGG's is taken before its last pooling
    spans = np.ptp(several, axis=(1, 2))
    assert set(spans) <= {0, 1} and spans.any()  # all-zero maps occur in a random network, but not for all classes


def test_map_of_a_linear_head_by_hand():
    """ResNet's pooling and head are linear, so Grad-CAM there is the head's weights times the activations."""
    model = network("resnet34")
    torch.nn.init.normal_(model.fc.weight)
    image = np.random.default_rng(1).integers(0, 256, (1, SIZE, SIZE)).astype(np.uint8)
    with torch.no_grad():
        features = model.forward_features(architectures.normalise(torch.from_numpy(image), "resnet34"))[0]
        evidence = torch.einsum("kc,chw->khw", model.fc.weight, features).clamp(min=0).numpy()  # (24, 2, 2)
    wanted = int(np.ptp(evidence, axis=(1, 2)).argmax())
    expected = (evidence[wanted] - evidence[wanted].min()) / np.ptp(evidence[wanted])
    found = gradcam.maps(model, "resnet34", image, [wanted])[0]
    # Beyond the outermost grid centres there is nothing to interpolate: the corners are the grid's own values.
    np.testing.assert_allclose(found[[0, 0, -1, -1], [0, -1, 0, -1]], expected.flatten(), atol=1e-5)


def test_nothing_to_show_is_zeros_not_nan(images):
    model = network("resnet34")
    torch.nn.init.zeros_(model.fc.weight)
    assert not gradcam.maps(model, "resnet34", images, CLASSES).any()


def test_the_model_is_left_as_it_was(images):
    model = network("mobilenetv3_large").train().requires_grad_(False)
    model.classifier.requires_grad_()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with torch.no_grad():
        found = gradcam.maps(model, "mobilenetv3_large", images, CLASSES)
    assert found.shape == images.shape
    assert model.training
    learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert learning == {"classifier.weight", "classifier.bias"} and model.classifier.weight.grad is None
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_class_for_each_image(images):
    with pytest.raises(ValueError, match="3 images but 2 classes"):
        gradcam.maps(network("resnet34"), "resnet34", images, [1, 2])
    with pytest.raises(ValueError, match=r"classes: 1\.\.24 leaves the range 0\.\.23"):
        gradcam.maps(network("resnet34"), "resnet34", images, [1, 2, 24])


def test_localisation_scores_by_hand():
    squares = np.zeros((3, 2, 2), bool)
    squares[:, 0, 0] = True
    maps = np.array([[[1.0, 0.5], [0.5, 0]], [[0, 1], [0, 0]], [[0, 0], [0, 0]]], np.float32)
    labels = np.array([0, 1, 1])
    result = Localisation(np.zeros((3, 2, 2), np.uint8), labels, squares, maps, np.array([0, 1, 0]))
    assert result.area == 0.25
    assert result.share == pytest.approx((0.5 + 0 + 0) / 3)
    assert result.pointing == pytest.approx(1 / 3)
    assert result.accuracy == pytest.approx(2 / 3)


def test_what_switching_off_changes_by_hand():
    """Three drawings, the last of them wrong when whole; the hottest parts are the fourth and the first."""
    labels = np.array([3, 5, 7])
    answers = np.array([[3, 3, 3, 3, 9, 3], [5, 9, 9, 5, 5, 5], [0, 7, 7, 7, 7, 7]])
    heat = np.array([[1, 2, 0.5, 9, 3], [9, 2, 1, 4, 3], [9, 1, 1, 1, 1]])
    found = SwitchedOff(np.zeros((3, 6, 2, 2), np.uint8), labels, answers, np.zeros((3, 6)), heat).changes()
    assert found == {"n": 2, "hottest part off": 1, "another part off": 1 / 8, "coldest part off": 0}


def test_a_part_is_switched_off_in_new_drawings_of_every_class():
    model = network("mobilenetv3_large")
    found = localisation.switched_off(model, "mobilenetv3_large", "Q", SIZE, seeds=(4,))
    assert found.images.shape == (24, 1 + PARTS, SIZE, SIZE) and found.labels.tolist() == list(range(24))
    assert np.array_equal(found.images[2, 0], pictures.square(chromosome(2, "Q", 4), SIZE))
    assert np.array_equal(found.images[2, 5], pictures.square(chromosome(2, "Q", 4, (0.8, 1)), SIZE))
    assert found.answers.shape == found.probability.shape == (24, 1 + PARTS) and found.heat.shape == (24, PARTS)
    maps = gradcam.maps(model, "mobilenetv3_large", found.images[:1, 0], [0])
    assert found.heat.sum(axis=1)[0] == pytest.approx(maps.sum(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite0", "vit_small", "swin_tiny"])  # one of each layout
def test_maps_fall_on_what_decides(name):
    result = localisation.check(name)
    assert result.accuracy > 0.9
    assert result.share > 1.3 * result.area  # measured 1.6 to 2.3 times
    assert result.pointing > 2.5 * result.area  # measured 4 to 6 times


@pytest.mark.parametrize("name", [name for name in architectures.NAMES if name not in LARGE])
@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_the_grid_changes_where_the_image_changes(name, corner):
    """Rows, columns and channels in the right order, whatever the layout: no training, no gradient, no chance."""
    size = 128
    model = network_of_size(name, size)
    image = torch.full((1, size, size), 128, dtype=torch.uint8)
    changed = image.clone()
    top, left = (size // 2 * place for place in corner)
    changed[:, top : top + size // 2, left : left + size // 2] = 255
    with torch.no_grad():
        parts = [activation_and_logits(model, name, architectures.normalise(x, name))[0] for x in (image, changed)]
    before, after = (gradcam._as_grid(model, architectures.row(name).layout, part) for part in parts)
    change = (after - before).abs().sum(1)[0]
    quarters = torch.nn.functional.adaptive_avg_pool2d(change[None], 2)[0]
    assert divmod(int(quarters.argmax()), 2) == corner


def network_of_size(name, size):
    """Random weights, but for EfficientNet-Lite0, in which random weights let the signal die out before the layer."""
    torch.manual_seed(0)
    return architectures.create(name, "imagenet" if name == "efficientnet_lite0" else None, image_size=size).eval()
