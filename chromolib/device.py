"""The processor that computes, and the number format it computes in."""

import contextlib
import ctypes
import logging
import os
import re
from functools import cache, partial

import torch
from torch import nn
from torch.nn import functional

from chromolib import slots
from chromolib.errors import StudyError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt: see mallopt(3)
FEW_PIXELS = 64  # up to here a 1 x 1 convolution is slower than its matrix product (measured, torch 2.14)
NEIGHBOURS = 0.1  # of a GPU's memory: from here on other processes are to blame for want of it [ours]
_ISAS_WITHOUT_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}  # oneDNN's
_GIB = 2**30
_FULL = re.compile(r"out of memory|ALLOC(ATION)?_FAILED|cublasCreate|(can't allocate|not enough) memory", re.IGNORECASE)

os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # a GPU's number is nvidia-smi's, as in `slots`
torch.backends.cudnn.allow_tf32 = False  # else "fp32" has a mantissa of 10 bits (TF32) from Ampere on
torch.backends.cudnn.conv.fp32_precision = "ieee"  # the same by its newer name; either may be asked
_log = logging.getLogger(__name__)


@cache
def choose():
    """The first CUDA device where there is one, else the CPU.

    StudyError where NVIDIA's driver shows a GPU that this PyTorch cannot use, unless
    CUDA_VISIBLE_DEVICES hides it. GPUs of other makers are not used, and that is said: the study
    was never tried on one.
    """
    other = torch.accelerator.current_accelerator(check_available=True)
    if other and other.type == "cuda" and not torch.version.hip:
        try:
            torch.ones(1, device=other) * 2
        except RuntimeError as error:  # there are no kernels for this card in this build, for one
            _refuse_idle_gpu(str(error).splitlines()[0])
            raise
        if not has_fast_bfloat16(other):
            _log.warning("%s has no bf16 arithmetic: all is computed in fp32", torch.cuda.get_device_name())
        return torch.device("cuda")
    if other:
        name = "AMD's GPU" if torch.version.hip else f"the accelerator {other.type!r}"
        _log.warning("%s is not used: the study was never tried on one. The CPU computes", name)
    else:
        _refuse_idle_gpu("CUDA does not start")
    return torch.device("cpu")


def _refuse_idle_gpu(reason):
    """StudyError where nvidia-smi lists a GPU and nobody hides it, or where one was given to this process by name."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if not slots.NAME.match(visible):
        return
    gpus = slots.nvidia_smi("--query-gpu=name,driver_version", "--format=csv,noheader")
    found = re.search(r"^(.+), (\d[\d.]*)$", gpus, re.MULTILINE)
    unknown = "CUDA_VISIBLE_DEVICES" in os.environ and not slots.devices()
    if unknown or (not found and visible.startswith(("GPU-", "MIG-"))):
        raise StudyError(
            f"{visible}, which CUDA_VISIBLE_DEVICES names, cannot be used ({reason}), and nvidia-smi does not know it: "
            "name one that it lists, restart the driver, or set CUDA_VISIBLE_DEVICES= to compute on the CPU"
        )
    if found:
        raise StudyError(
            f"{found[1]}: PyTorch {torch.__version__} (CUDA {torch.version.cuda}) cannot use it with driver {found[2]} "
            f"({reason}): install a newer driver (CUDA 13 needs 580) or a build of PyTorch for this driver and card, "
            "or set CUDA_VISIBLE_DEVICES= to compute on the CPU"
        )


def has_fast_bfloat16(device):
    """Whether bf16 arithmetic is in hardware: on CUDA from Ampere on, on a CPU with AVX512-BF16 or AMX.

    Elsewhere bf16 on a CPU is emulated and slower than fp32. oneDNN, which computes there, leaves instructions alone
    where ONEDNN_MAX_CPU_ISA says so, which changes no flag. Nothing is timed: a busy machine computes as an idle one.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    limits = (os.environ.get(name) for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"))  # the latter's older name
    if next(filter(None, limits), "").upper() in _ISAS_WITHOUT_BF16:
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def is_out_of_memory(error):
    """Whether an error says that memory ran out, of a GPU or of the machine: libraries have many names for it."""
    named = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return named or (isinstance(error, RuntimeError) and bool(_FULL.search(str(error))))


def neighbours(device):
    """Words on the memory of a GPU that other processes hold; "" where that is next to nothing, or on a CPU."""
    if device.type != "cuda":
        return ""
    free, whole = torch.cuda.mem_get_info(device)
    others = whole - free - torch.cuda.memory_reserved(device) - _GIB  # what CUDA itself takes is below 1 GiB
    if others < NEIGHBOURS * whole:
        return ""
    return f"other processes hold {others / _GIB:.1f} of the {whole / _GIB:.1f} GiB of this GPU"


@contextlib.contextmanager
def memory_explained():
    """A context, or a decorator, that turns what says that memory ran out into a StudyError with the remedies."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        advice = "lower batch_size or image_size, take a smaller architecture, or a device with more memory"
        others = neighbours(choose())
        raise StudyError(f"out of memory: {others and f'{others}; stop them, or '}{advice} ({error})") from error


def autocast(device, enabled=True):
    """A context in which matrix products and convolutions run in bf16 where that is fast; fp32 elsewhere."""
    if enabled and has_fast_bfloat16(device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def prepare(model, device, memory_format=torch.channels_last):
    """The model on its device, in that layout of memory, with the CPU's slow cases avoided; in place, returned."""
    model.to(device, memory_format=memory_format)
    if device.type == "cpu":
        _keep_freed_memory()
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
                module.forward = partial(_in_fp32, type(module).forward, module)
            elif isinstance(module, nn.Conv2d) and _is_pointwise(module):
                module.forward = partial(_as_product, type(module).forward, module)
    return model


def compile_once(model, device):
    """On CUDA: the model's call in fused kernels that are replayed as CUDA graphs; in place. Elsewhere nothing.

    A batch size costs a compilation, so load the next fold's weights into this model rather than
    make a new one. The warm-up before a graph is recorded consists of real steps: statistics of
    batch norm see nothing twice.
    """
    if device.type == "cuda":
        model.compile(mode="reduce-overhead", dynamic=False)


def is_compiled(model):
    """Whether a call of the model goes through what `compile_once` made."""
    return model._compiled_call_impl is not None


def uncompile(model, error):
    """From now on the model is called as it is, and the memory of its CUDA graphs is free again; `error` says why."""
    _log.warning("the network is not compiled (%s: %.200s): it goes on as it is", type(error).__name__, error)
    model._compiled_call_impl = None
    torch.compiler.reset()


@contextlib.contextmanager
def deterministic(enabled=True):
    """A context in which CUDA runs only kernels that give the same bits each time, slower ones among them.

    A CPU's kernels give the same bits anyway, with the same number of threads.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it; read when first used
    try:
        torch.use_deterministic_algorithms(enabled)
        torch.backends.cudnn.benchmark = not enabled  # the fastest kernel is found by trying, which may differ
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def _in_fp32(forward, module, x):
    """Depthwise convolutions in bf16 take about twice the time of fp32 on a CPU (measured, torch 2.14)."""
    with torch.autocast("cpu", enabled=False):
        return forward(module, x.float()).to(x.dtype)


def _is_pointwise(module):
    return (*module.kernel_size, *module.stride, module.groups) == (1,) * 5 and module.padding == (0, 0)


def _as_product(forward, module, x):
    """A 1 x 1 convolution of few pixels is a matrix product; taken as such it is up to 4 times as fast on a CPU."""
    if x.shape[2] * x.shape[3] > FEW_PIXELS:
        return forward(module, x)
    return functional.linear(x.permute(0, 2, 3, 1), module.weight.flatten(1), module.bias).permute(0, 3, 1, 2)


def _keep_freed_memory():
    """Let this process reuse the memory that each step frees, where glibc would return it to be cleared every time."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library: as it is
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
