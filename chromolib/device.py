"""The processor that computes, and the number format it computes in."""

import contextlib
import ctypes
import os
from functools import partial

import torch
from torch import nn
from torch.nn import functional

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt: see mallopt(3)
FEW_PIXELS = 64  # up to here a 1 x 1 convolution is slower than its matrix product (measured, torch 2.14)


def choose():
    """The first CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_fast_bfloat16(device):
    """Whether bf16 arithmetic is in hardware: on CUDA from Ampere on, on a CPU with AVX512-BF16 or AMX.

    Elsewhere bf16 on a CPU is emulated and slower than fp32.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(device, enabled=True):
    """A context in which matrix products and convolutions run in bf16 where that is fast; fp32 elsewhere."""
    if enabled and has_fast_bfloat16(device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def prepare(model, place):
    """The model on its device, in channels-last memory, with the CPU's slow cases avoided; in place, returned."""
    model.to(place, memory_format=torch.channels_last)
    if place.type == "cpu":
        _keep_freed_memory()
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
                module.forward = partial(_in_fp32, type(module).forward, module)
            elif isinstance(module, nn.Conv2d) and _is_pointwise(module):
                module.forward = partial(_as_product, type(module).forward, module)
    return model


def compile_once(model, place):
    """On CUDA: the model's call in fused kernels that are replayed as CUDA graphs; in place. Elsewhere nothing.

    A batch size costs a compilation, so load the next fold's weights into this model rather than make a new one. The
    warm-up before a graph is recorded consists of real steps: statistics of batch norm see nothing twice.
    """
    if place.type == "cuda":
        model.compile(mode="reduce-overhead", dynamic=False)


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
