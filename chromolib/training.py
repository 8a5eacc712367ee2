"""Training one network on one fold: Adam, then SGD; each epoch is validated and the best one kept [paper].

What makes it fast, in the order of the loop: the images stay on the device as one-channel uint8 and
are augmented there a batch at a time, every image with its own random draw; nothing in an epoch
waits for the device; products run in bf16 where the hardware has it, on channels-last memory, and a
CPU's slow cases are avoided (`device.prepare`); on a GPU the network may be compiled
(`device.compile_once`); one fused kernel updates all weights; the best weights stay in memory until
the end.

Each epoch draws from its own seed, so that a run that was interrupted and goes on ends exactly as
one that was not.
"""

import math
import os
import statistics
import sys
import time
import warnings
import zipfile
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from chromolib import architectures, device, files
from chromolib.errors import StudyError

STATE_SECONDS = 60  # between two writes of a training's state: so much work, and an epoch, an interruption may cost
EVALUATION_BATCH = 64  # images; bounds memory, changes no result


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the fields are the parameters of the same names in notebook 03."""

    batch_size: int  # images
    steps_per_epoch: int  # batches; 0: one pass over the training images
    adam_epochs: int
    sgd_epochs: int
    adam_learning_rate: float  # peak; falls along a cosine to 1 % of it within the phase
    sgd_learning_rate: float  # likewise
    momentum: float  # of SGD
    weight_decay: float  # of both
    blur_sigma: float  # pixels at 256 px: upper end of the uniform draw of the Gaussian blur's width
    precision: str  # "auto": bf16 where the hardware has it, or "fp32"
    compiled: bool  # on a GPU: kernels fused by torch.compile and replayed as CUDA graphs
    reproducible: bool  # on a GPU: only kernels that give the same bits each time; a CPU's always do
    select_on: str  # "last": the last epoch is kept; else the one that is best on the images of the monitor
    seed: int  # of weights, order and augmentation

    @classmethod
    def of(cls, settings):
        """The recipe in the parameters of notebook 03 (dict), whose epochs are those of one stage."""
        own = {field.name: settings[field.name] for field in fields(cls)}
        return cls(**own | {name: own[name] * settings["stages"] for name in ("adam_epochs", "sgd_epochs")})

    def __post_init__(self):
        for name in ("batch_size", "adam_learning_rate", "sgd_learning_rate", "epochs"):
            if not 0 < getattr(self, name) < math.inf:  # so written, NaN is refused too
                raise StudyError(f"parameter {name!r}: {getattr(self, name)} must be a number above 0")
        for name in ("steps_per_epoch", "adam_epochs", "sgd_epochs", "momentum", "weight_decay", "blur_sigma", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise StudyError(f"parameter {name!r}: {getattr(self, name)} must be a number, 0 or above")
        if self.precision not in ("auto", "fp32"):
            raise StudyError(f"parameter 'precision': {self.precision!r} is neither 'auto' nor 'fp32'")

    @property
    def epochs(self):
        """Epochs of both phases together."""
        return self.adam_epochs + self.sgd_epochs


class Examples(NamedTuple):
    """What a network learns from, and on what its epochs are judged; all images and labels on the model's device."""

    images: torch.Tensor  # (n, H, W) uint8
    labels: torch.Tensor  # (n,) int64
    train: np.ndarray  # indices of the images that are learned from
    monitor: np.ndarray  # indices of those that choose the epoch


class Diverged(StudyError):
    """The loss is no longer a number; the same training would end so again."""


@dataclass
class Fit:
    """What training a fold leaves: `history` has a row (dict) per epoch, `best` the weights of `best_epoch`."""

    history: list
    best: dict
    best_epoch: int  # counted from 1
    best_accuracy: float
    parts: int = 1  # in which a batch went through the network, because the whole did not fit into memory
    compiled: bool = False  # whether the compiled network did the work, to the end


def seed_everything(*numbers):
    """Seed torch's generators from a tuple of whole numbers, such as (seed, fold, epoch)."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1)


def progress(epochs, folds):
    """A function to pass as `report`: a bar in JupyterLab; elsewhere, where a bar floods the log, a line an epoch.

    The line ends with the time left, if all epochs took as long as this one: of this training, and of all that `folds`
    lists, which are trained in this order.
    """

    def line(row):
        left = (epochs - row["epoch"]) * row["seconds"]
        others = len(folds) - 1 - folds.index(row["fold"])
        words = f", left {tqdm.format_interval(left)}"
        if others:
            words += f", with the other folds {tqdm.format_interval(left + others * epochs * row['seconds'])}"
        print(f"fold {row['fold']}  epoch {row['epoch']}/{epochs}  {_summary(row)}{words}", flush=True)

    if "JPY_SESSION_NAME" not in os.environ:  # set by Jupyter's server for the kernels of its users
        return line
    bar = tqdm(total=epochs, file=sys.stdout)

    def advance(row):
        bar.n = row["epoch"]
        bar.set_description(f"fold {row['fold']}")
        bar.set_postfix_str(_summary(row))

    return advance


def _summary(row):
    loss, accuracy, seconds = row["train_loss"], row["validation_accuracy"], row["seconds"]
    return f"loss {loss:.3f}  validation accuracy {accuracy:.3f}  {seconds:.1f} s"


def augment(images, blur_sigma):
    """Random flips and Gaussian blur, drawn for each image: (n, H, W) uint8 or float -> (n, H, W) float32.

    Channels, (n, C, H, W), stay together.

    Each image is flipped horizontally with probability 1/2, vertically with probability 1/2, and
    blurred with a width drawn uniformly from 0.1 to 1 times `blur_sigma` (pixels at a side of 256;
    smaller images are blurred in proportion). Draws come from torch's generator of the images'
    device.
    """
    n, *channels, height, width = images.shape
    one_an_image = (n, *[1] * len(channels), 1, 1)
    horizontal, vertical = torch.rand(2, *one_an_image, device=images.device) < 0.5
    images = torch.where(horizontal, images.flip(-1), images)
    images = torch.where(vertical, images.flip(-2), images).float()
    if blur_sigma == 0:
        return images
    sigma = torch.empty(n, device=images.device).uniform_(0.1, 1) * blur_sigma * height / 256
    rows = _blur_matrix(height, sigma)
    columns = rows if width == height else _blur_matrix(width, sigma)
    if channels:
        rows, columns = rows.unsqueeze(1), columns.unsqueeze(1)  # (n, 1, side, side)
    return rows @ images @ columns.mT


def _blur_matrix(side, sigma):
    """One smoothing matrix an image, (n, side, side): rows are Gaussian weights that sum to 1, at the edges too."""
    distance = torch.arange(1 - side, side, device=sigma.device)
    exponent = -0.5 * (distance / sigma[:, None]) ** 2
    weight = exponent.clamp(min=-80).exp()  # a CPU is slow with the denormal numbers that come below
    weight = weight.unfold(1, side, 1).flip(1)  # row i, column j: the weight of distance j - i
    return weight / weight.sum(2, keepdim=True)


def train_step(model, optimiser, images, labels, precision="auto", parts=1, usual=True):
    """One optimisation step on normalised images (n, 3, H, W) and labels (n,); the mean loss, still on the device.

    parts: the batch goes through the network in so many parts, whose gradients are added up, so
    that less memory is needed; the step is that of the whole batch but for batch norm, which sees
    each part by itself. usual: whether this is the usual size of a batch. A compiled network serves
    it alone, as each size costs a compilation; and never parts: in CUDA graphs the second would
    overwrite the gradients of the first (pytorch#169545).
    """
    network = model if usual and parts == 1 else model.forward
    optimiser.zero_grad(set_to_none=True)
    total = torch.zeros((), device=images.device)
    for part, truth in zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True):
        with device.autocast(images.device, precision == "auto"):
            logits = network(part)
        loss = functional.cross_entropy(logits.float(), truth) * (len(truth) / len(labels))
        loss.backward()
        total += loss.detach()
    optimiser.step()
    return total


@torch.inference_mode()
def predict(model, architecture, images, precision="auto"):
    """Logits (n, classes) float32 of uint8 images (n, H, W), both on the model's device."""
    model.eval()
    logits, size = [], EVALUATION_BATCH
    while images.numel():
        try:
            with device.autocast(images.device, precision == "auto"):
                # forward(), not the module itself: a compiled network would be compiled anew for this mode and size
                logits.append(model.forward(architectures.normalise(images[:size], architecture)).float())
            images = images[size:]
        except Exception as error:
            if size == 1 or not device.is_out_of_memory(error):
                raise
            size //= 2
            torch.cuda.empty_cache()  # does nothing without a GPU
    return torch.cat(logits)


@device.memory_explained()
def fit(model, architecture, examples, recipe, fold=0, state=None, report=None):
    """Train a prepared model on the `train` images of `Examples`, and keep the epoch that is best on the `monitor`.

    `state` is a path: the training is saved there, and in files beside it, and goes on from there
    where it exists; a damaged one is a warning, and the training starts again. `report` is called
    with the row of each epoch. Returns a Fit; the model is left with the last epoch's weights. A
    batch that does not fit into memory goes through the network in two parts, four, and so on; a
    network that cannot be compiled goes on as it is. Raises Diverged, a StudyError, where the loss
    is no longer a number, and StudyError where not even one image fits, or where it is other
    processes that hold the memory.
    """
    images, labels, train, monitor = examples
    examples = examples._replace(train=torch.as_tensor(train, device=images.device))
    seen, truth = images[torch.as_tensor(monitor, device=images.device)], labels[monitor]
    result, optimiser = (state and _resume(state, model, recipe)) or (Fit([], {}, 0, -1.0), None)
    saved = time.monotonic()
    for epoch in range(len(result.history) + 1, recipe.epochs + 1):
        if optimiser is None or epoch == recipe.adam_epochs + 1:
            optimiser = make_optimiser(model, recipe, epoch)
        started = time.perf_counter()
        seed_everything(recipe.seed, fold, epoch)
        with device.deterministic(recipe.reproducible):
            loss = _train_epoch(model, architecture, optimiser, examples, recipe, epoch, result).item()
        trained = time.perf_counter()
        logits = predict(model, architecture, seen, recipe.precision)
        row = {
            "fold": fold,
            "epoch": epoch,
            "train_loss": loss,
            "validation_loss": functional.cross_entropy(logits, truth).item(),
            "validation_accuracy": (logits.argmax(1) == truth).float().mean().item(),
            "learning_rate": optimiser.param_groups[0]["initial_lr"] * _cosine(_progress(recipe, epoch)[0]),
            "seconds": time.perf_counter() - started,
            "images_per_second": _images_an_epoch(train, recipe) / (trained - started),
        }
        result.compiled = device.is_compiled(model)
        _keep(result, model, row, recipe)
        if state and (epoch == recipe.epochs or time.monotonic() - saved >= STATE_SECONDS):
            _save(state, result, model, optimiser)
            saved = time.monotonic()
        if report:
            report(row)
    return result


def _train_epoch(model, architecture, optimiser, examples, recipe, epoch, result):
    """One epoch; the mean loss. Nothing in it waits for the device."""
    model.train()
    images, labels, train, _ = examples
    n, passes = _images_an_epoch(train, recipe), []
    for _ in range(math.ceil(n / len(train))):
        passes.append(train[torch.randperm(len(train), device=images.device)])
    order = torch.cat(passes)[:n]
    batches = order.tensor_split(math.ceil(len(order) / recipe.batch_size))  # equal sizes: no lone last image
    begin, end = _progress(recipe, epoch)
    total, usual = torch.zeros((), device=images.device), statistics.mode(len(index) for index in batches)
    for number, index in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * _cosine(begin + (end - begin) * number / len(batches))
        batch = architectures.normalise(augment(images[index], recipe.blur_sigma), architecture)
        same = len(index) == usual
        loss = _step_that_fits(model, optimiser, batch, labels[index], recipe.precision, result, same)
        total += loss * len(index)
    return total / len(order)


def _images_an_epoch(train, recipe):
    return recipe.steps_per_epoch * recipe.batch_size or len(train)


def _step_that_fits(model, optimiser, batch, labels, precision, result, usual):
    """A training step in `result.parts` parts; where memory runs out, in twice as many, from now on."""
    while True:
        try:
            return train_step(model, optimiser, batch, labels, precision, result.parts, usual)
        except Exception as error:
            if device.is_compiled(model):  # as it is, the network needs less memory, and no compiler
                device.uncompile(model, error)
            elif device.is_out_of_memory(error):
                result.parts = _smaller_parts(result.parts, batch)
            else:
                raise
        optimiser.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()  # does nothing without a GPU


def _smaller_parts(parts, batch):
    """Twice as many; StudyError where a part is one image, or where memory is not this run's to save.

    Parts change what batch norm sees, and with it the result: a neighbour must not decide that.
    """
    others = device.neighbours(batch.device)
    if others:
        raise StudyError(f"out of memory: {others}; stop them or wait, and start again: it goes on where it was")
    if parts >= len(batch):
        raise StudyError(
            f"out of memory with {len(batch) // parts} image of {batch.shape[-1]} pixels at a time: "
            "lower image_size, take a smaller architecture, or a device with more memory"
        )
    return min(2 * parts, len(batch))


def make_optimiser(model, recipe, epoch):
    """Adam for the first phase, SGD with momentum for the second [paper]; fused: one kernel for all parameters."""
    if epoch <= recipe.adam_epochs:
        rate, kind, extra = recipe.adam_learning_rate, torch.optim.Adam, {}
    else:
        rate, kind, extra = recipe.sgd_learning_rate, torch.optim.SGD, {"momentum": recipe.momentum}
    groups = [{"params": list(model.parameters()), "initial_lr": rate}]
    return kind(groups, lr=rate, weight_decay=recipe.weight_decay, fused=True, **extra)


def _progress(recipe, epoch):
    """How much of its phase is over before and after this epoch, each from 0 to 1."""
    if epoch <= recipe.adam_epochs:
        return (epoch - 1) / recipe.adam_epochs, epoch / recipe.adam_epochs
    epoch -= recipe.adam_epochs
    return (epoch - 1) / recipe.sgd_epochs, epoch / recipe.sgd_epochs


def _cosine(progress):
    """From 1 down to 0.01 along half a cosine."""
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


def _keep(result, model, row, recipe):
    """Add the epoch's row, and copy the weights if it is the one to keep; Diverged for a loss that is no number."""
    if not math.isfinite(row["train_loss"]):
        raise Diverged(
            f"fold {row['fold']}, epoch {row['epoch']}: the training loss is {row['train_loss']}; the run stops here. "
            "Lower adam_learning_rate or sgd_learning_rate, or set precision to 'fp32'"
        )
    result.history.append(row)
    better = row["validation_accuracy"] > result.best_accuracy
    if row["epoch"] == recipe.epochs if recipe.select_on == "last" else better:
        result.best_accuracy, result.best_epoch = row["validation_accuracy"], row["epoch"]
        result.best = {name: value.clone() for name, value in model.state_dict().items()}


def _save(state, result, model, optimiser):
    """The best weights first, where they are new, in a file of their epoch; then the state, which knows that epoch."""
    best = _best_file(state, result.best_epoch)
    if not best.exists():
        with files.replacing(best) as temporary:
            torch.save(result.best, temporary)
    content = vars(result) | {"best": None, "model": model.state_dict(), "optimiser": optimiser.state_dict()}
    with files.replacing(state) as temporary:
        torch.save(content, temporary)
    forget(state, state, best)


def forget(state, *kept):
    """Delete a saved training, but for the files named after it."""
    for file in {state, *state.parent.glob(_best_file(state, "*").name)} - {*kept}:
        file.unlink(missing_ok=True)


def _best_file(state, epoch):
    return state.with_name(f"{state.stem}-best{epoch}.pt")


def _resume(state, model, recipe):
    """The Fit and optimiser of a saved training, with the model as it was; None where nothing can be gone on with."""
    if not state.exists():
        return forget(state)
    try:
        where = next(model.parameters()).device
        content = _undamaged(state, where)
        best = _best_file(state, content["best_epoch"])
        content["best"] = _undamaged(best, where)
        weights, moments = content.pop("model"), content.pop("optimiser")
        result = Fit(**content)
    except Exception as error:
        if device.is_out_of_memory(error) or (isinstance(error, OSError) and not isinstance(error, FileNotFoundError)):
            raise StudyError(f"{state}: cannot be read now ({error}); it is kept: start again") from error
        warnings.warn(f"{state}: the saved training cannot be read ({error}); the fold starts again", stacklevel=4)
        return forget(state)
    forget(state, state, best)
    model.load_state_dict(weights)
    optimiser = make_optimiser(model, recipe, len(result.history))
    optimiser.load_state_dict(moments)
    return result, optimiser


def _undamaged(file, where):
    """What torch saved in the file, on the device `where`."""
    with zipfile.ZipFile(file) as archive:  # torch.load does not look at the checksums
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"the part {damaged} of {file.name} is damaged")
    return torch.load(file, map_location=where, weights_only=True)
