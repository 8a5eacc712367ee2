"""Where a classifier looked: Grad-CAM maps, by pytorch-grad-cam.

Selvaraju et al., Grad-CAM, ICCV 2017 (https://arxiv.org/abs/1610.02391).
"""

from functools import partial

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from chromolib import architectures, device


@device.memory_explained()
@torch.enable_grad()
def maps(model, architecture, images, classes, batch_size=32):
    """Grad-CAM: how much each place speaks for a class, (n, H, W) float32 in [0, 1].

    images: (n, H, W) uint8. classes: (n,) int, for each image the class to explain (true or
    predicted). As in the paper: last convolutional layer (of a transformer that of
    `architectures`), ReLU, bilinear upsampling, each map scaled to [0, 1]. The model moves to the
    device in use; its mode stays, gradients are cleared.

    A map that is the same everywhere (nothing speaks for the class, or the layer is one pixel) is
    all zeros.
    """
    images, classes = np.array(images), np.array(classes)
    if len(images) != len(classes):
        raise ValueError(f"{len(images)} images but {len(classes)} classes")
    if len(classes) and not 0 <= classes.min() <= classes.max() < model.num_classes:  # GradCAM hides an IndexError
        raise ValueError(f"classes: {classes.min()}..{classes.max()} leaves the range 0..{model.num_classes - 1}")
    where, row, mode = device.choose(), architectures.row(architecture), model.training
    layer = model.to(where).get_submodule(row.cam_layer)
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    heat = [np.zeros((0, *images.shape[1:]), np.float32)]
    begins = layer.register_forward_hook(_begin_gradients)
    try:
        for weight in learning:
            weight.requires_grad_(False)
        with GradCAM(model, [layer], partial(_as_grid, model, row.layout)) as cam:
            for start in range(0, len(images), batch_size):
                part = slice(start, start + batch_size)
                pixels = architectures.normalise(torch.from_numpy(images[part]).to(where), architecture)
                heat.append(cam(pixels, [ClassifierOutputTarget(int(wanted)) for wanted in classes[part]]))
    finally:
        begins.remove()
        for weight in learning:
            weight.requires_grad_()
        model.train(mode)
    return _unit_range(np.concatenate(heat))


def share_inside(maps, masks):
    """Share of each map's mass that lies in its mask: (n, H, W) and (n, H, W) bool -> (n,), nan for an empty map."""
    inside, total = (maps * masks).sum((1, 2)), maps.sum((1, 2))
    return np.divide(inside, total, out=np.full(len(maps), np.nan), where=total > 0)


def _begin_gradients(layer, inputs, output):
    """A forward hook: what comes before the layer needs no gradient, which is most of the network's cost."""
    return output.detach().requires_grad_().clone()  # the clone: an in-place ReLU may follow


def _as_grid(model, layout, tensor):
    """(n, channels, rows, columns) from any layout; the grid's size is read from the tensor itself."""
    if layout == "nhwc":
        return tensor.permute(0, 3, 1, 2)
    if layout == "tokens":
        patches = tensor[:, model.num_prefix_tokens :]  # (n, patches, channels)
        side = round(patches.shape[1] ** 0.5)
        return patches.transpose(1, 2).unflatten(2, (side, side))
    return tensor


def _unit_range(heat):
    """Each map from 0 to 1; GradCAM's own scaling leaves faint maps below."""
    low, high = heat.min((1, 2), keepdims=True), heat.max((1, 2), keepdims=True)
    return np.divide(heat - low, high - low, out=np.zeros_like(heat), where=high > low)
