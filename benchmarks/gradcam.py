"""Grad-CAM of a whole validation fold: `gradcam.maps` in batches against pytorch-grad-cam image by image.

The network has its ImageNet weights and a random head; both sides explain the true class at the same layer. Where
next to nothing speaks for a class, scaling the map to [0, 1] enlarges the rounding of float32; so both sides are held
against pytorch-grad-cam in float64 too.
"""

import copy
import sys
from functools import partial

import common
import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from chromolib import architectures, device, folds, gradcam

NAME = "efficientnet_lite0"


def one_by_one(model, images, labels):
    """Maps (n, H, W) of pytorch-grad-cam, called once for each image."""
    with GradCAM(model, [model.get_submodule(architectures.row(NAME).cam_layer)]) as cam:
        pixels = architectures.normalise(torch.from_numpy(images).to(device.choose()), NAME)
        pixels = pixels.to(next(model.parameters()).dtype)
        pairs = zip(pixels.split(1), labels.tolist(), strict=True)
        return np.concatenate([cam(pixel, [ClassifierOutputTarget(label)]) for pixel, label in pairs])


def main(words=None):
    options = common.arguments(words)
    data = common.chromosomes("synthetic_g" if options.quick else "pki3_65", 32 if options.quick else 128)
    _, validation = folds.split(data.labels, n_folds=5)[0]
    validation = validation[:6] if options.quick else validation
    images, labels = np.array(data.images[validation]), data.labels[validation]
    torch.manual_seed(0)
    model = architectures.create(NAME, "imagenet", image_size=images.shape[1]).to(device.choose()).eval()

    sides = (partial(gradcam.maps, model, NAME, images, labels), partial(one_by_one, model, images, labels))
    maps = {"exact": one_by_one(copy.deepcopy(model).double(), images, labels)}
    maps |= zip(("ours", "other"), (side() for side in sides), strict=True)
    apart = {
        f"{one}_from_{other}": np.abs(maps[one] - maps[other]).max()
        for one, other in (("ours", "other"), ("ours", "exact"), ("other", "exact"))
    }
    own, other = common.in_turn(options.turns, *map(common.seconds, sides), warm_up=False)
    facts = apart | {"data": data.name, "images": len(images), "image_size": images.shape[1]}
    rows = [common.row("Grad-CAM of a fold", "s", own, other, "pytorch-grad-cam image by image", 2, **facts)]
    common.publish("gradcam", rows, options.output, common.ratios)


if __name__ == "__main__":
    main(sys.argv[1:])
