"""Where a classifier looked: Grad-CAM maps and their overlays.

Selvaraju et al., Grad-CAM, ICCV 2017 (https://arxiv.org/abs/1610.02391).
"""

import numpy as np
import torch
from torch.nn import functional

from chromolib import architectures, device


def maps(model, architecture, images, classes, batch_size=32):
    """Grad-CAM: how much each place speaks for a class, (n, H, W) float32 in [0, 1].

    images: (n, H, W) uint8. classes: (n,) int, for each image the class to explain (true or predicted).
    As in the paper: last convolutional layer (for transformers the last block's input), ReLU, bilinear
    upsampling, each map scaled to [0, 1]. The model moves to the device in use; its mode and gradients stay.

    A map that is the same everywhere (nothing speaks for the class, or the layer is one pixel) is all zeros.
    """
    where = device.choose()
    model.to(where)
    training = model.training
    model.eval()
    try:
        batches = [
            _batch(model, architecture, torch.from_numpy(part).to(where), torch.as_tensor(wanted, device=where))
            for part, wanted in _batches(np.array(images), np.array(classes), batch_size)
        ]
    finally:
        model.train(training)
    return np.concatenate(batches) if batches else np.zeros(np.shape(images), np.float32)


def share_inside(maps, masks):
    """Share of each map's mass that lies in its mask: (n, H, W) and (n, H, W) bool -> (n,), nan for an empty map."""
    inside, total = (maps * masks).sum((1, 2)), maps.sum((1, 2))
    return np.divide(inside, total, out=np.full(len(maps), np.nan), where=total > 0)


def _batches(images, classes, batch_size):
    if len(images) != len(classes):
        raise ValueError(f"{len(images)} images but {len(classes)} classes")
    for start in range(0, len(images), batch_size):
        yield images[start : start + batch_size], classes[start : start + batch_size]


@torch.enable_grad()
def _batch(model, architecture, images, classes):
    pixels = architectures.normalise(images, architecture).requires_grad_()  # gradients even if the model is frozen
    activation, logits = _forward(model, architectures.row(architecture).cam_layer, pixels)
    score = logits.gather(1, classes.long()[:, None]).sum()  # images do not mix, so one backward pass serves all
    (gradient,) = torch.autograd.grad(score, activation)
    activation, gradient = (_as_grid(tensor.detach(), model, architecture) for tensor in (activation, gradient))
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    heat = (weights * activation).sum(dim=1, keepdim=True).relu()
    heat = functional.interpolate(heat, size=images.shape[1:], mode="bilinear", align_corners=False)
    return _unit_range(heat[:, 0]).cpu().numpy()


def _forward(model, layer, pixels):
    kept = []
    hook = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        logits = model(pixels)
    finally:
        hook.remove()
    return kept[0], logits


def _as_grid(tensor, model, architecture):
    """(n, channels, rows, columns) from any layout; the grid's size is read from the tensor itself."""
    layout = architectures.row(architecture).layout
    if layout == "nhwc":
        return tensor.permute(0, 3, 1, 2)
    if layout == "tokens":
        patches = tensor[:, model.num_prefix_tokens :]  # (n, patches, channels)
        side = round(patches.shape[1] ** 0.5)
        return patches.transpose(1, 2).unflatten(2, (side, side))
    return tensor


def _unit_range(heat):
    low, high = heat.amin(dim=(1, 2), keepdim=True), heat.amax(dim=(1, 2), keepdim=True)
    return torch.where(high > low, (heat - low) / (high - low), torch.zeros_like(heat))
