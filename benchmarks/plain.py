"""The training loop of every tutorial: PNG files in a folder for each class, DataLoader, transforms, float32.

With `tuned`, the same with the three lines that its readers add next: channels-last memory, bf16 autocast where the
hardware has bf16, an optimiser that updates all weights in one kernel.
"""

import math

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from chromolib import architectures, device, training

WORKERS = 2
RECIPE = training.Recipe(
    batch_size=16,
    steps_per_epoch=0,
    adam_epochs=2,
    sgd_epochs=1,
    adam_learning_rate=1e-3,
    sgd_learning_rate=1e-3,
    momentum=0.9,
    weight_decay=1e-4,
    blur_sigma=2.0,
    precision="auto",
    compiled=False,
    reproducible=False,
    select_on="validation",
    seed=0,
)


def write_images(folder, images, labels):
    """A PNG file for each image (n, H, W) uint8, in a folder for each of the 24 classes."""
    for label in range(24):
        (folder / f"{label:02}").mkdir(parents=True)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(folder / f"{label:02}" / f"{number:05}.png")
    return folder


def loader(folder, architecture, size, batch_size, augmented=True):
    """Batches of (n, 3, size, size) float32 and labels, shuffled and augmented as ours are, or neither."""
    pretrained, widest = architectures.row(architecture).pretrained, RECIPE.blur_sigma * size / 256
    blur = v2.GaussianBlur(2 * math.ceil(3 * widest) + 1, (0.1 * widest, widest))
    augmentation = [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), blur] if augmented else []
    scale = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(pretrained.mean, pretrained.std)]
    dataset = ImageFolder(folder, v2.Compose([v2.ToImage(), *augmentation, *scale]), allow_empty=True)
    return DataLoader(dataset, batch_size, shuffle=augmented, num_workers=WORKERS, persistent_workers=True)


def restore_defaults():
    """PyTorch's own arithmetic on a GPU, where "float32" convolutions are TF32; `chromolib.device` asks for more."""
    torch.backends.cudnn.conv.fp32_precision = "tf32"


def train_epoch(model, batches, optimiser, schedule=None, tuned=False):
    """One pass over the batches; the mean of their losses. tuned: the model and the optimiser are to be so too."""
    place, loss_of, total = device.choose(), nn.CrossEntropyLoss(), 0.0
    layout = torch.channels_last if tuned else torch.preserve_format
    half = tuned and device.has_fast_bfloat16(place)
    model.train()
    for images, labels in batches:
        with torch.autocast(place.type, torch.bfloat16, enabled=half):
            loss = loss_of(model(images.to(place, memory_format=layout)), labels.to(place))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if schedule:
            schedule.step()
        total += loss.item()
    return total / len(batches)


@torch.no_grad()
def evaluate(model, batches):
    """Labels (n,) and logits (n, 24) of all images, as arrays."""
    model.eval()
    pairs = [(labels, model(images.to(device.choose())).cpu()) for images, labels in batches]
    return tuple(torch.cat(column).numpy() for column in zip(*pairs, strict=True))
