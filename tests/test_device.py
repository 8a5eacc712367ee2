"""Number formats, compilation and determinism, as far as a machine without a GPU can tell."""

import os
import platform
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from chromolib import device
from chromolib.errors import StudyError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Forge a machine: the accelerator that PyTorch finds, and what nvidia-smi says of name and driver."""

    def forge(accelerator=None, listed="", capability=(9, 0), hip=None, kernels=True):
        def ones(*_, **__):
            if not kernels:
                raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")
            return torch.zeros(1)

        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\necho '{listed}'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        found = accelerator and torch.device(accelerator)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: found)
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: accelerator == "cuda")  # true for AMD's too
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla T4")
        monkeypatch.setattr(torch, "ones", ones)
        device.choose.cache_clear()

    yield forge
    monkeypatch.undo()
    device.choose.cache_clear()


def test_a_gpu_that_pytorch_cannot_use_is_an_error_that_names_driver_and_build(machine, monkeypatch):
    machine(listed="NVIDIA A100-SXM4-40GB, 535.183.01")
    with pytest.raises(
        StudyError, match=rf"A100.*{re.escape(torch.__version__)}.*535\.183\.01.*newer driver"
    ) as refusal:
        device.choose()
    assert f"CUDA {torch.version.cuda}" in str(refusal.value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # the remedy that the message names
    assert device.choose() == CPU


def test_a_gpu_that_was_given_and_has_died_does_not_become_a_cpu(machine, monkeypatch):
    machine(listed="NVIDIA-SMI has failed because it could not communicate with the driver")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5c7e")  # as `slots` gives one
    with pytest.raises(StudyError, match=r"GPU-5c7e.*restart the driver"):
        device.choose()


@pytest.mark.parametrize("visible", ["7", "GPU-91ab"])
def test_a_gpu_that_is_not_there_is_not_put_down_to_its_driver(machine, monkeypatch, visible):
    machine(listed="GPU 0: NVIDIA A100 (UUID: GPU-5c7e)\nNVIDIA A100, 580.65.06")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(StudyError, match=rf"{visible}, which CUDA_VISIBLE_DEVICES names.*name one that it lists"):
        device.choose()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "NoDevFiles")  # as Slurm says that a job has none
    assert device.choose() == CPU


@pytest.mark.parametrize("listed", ["", "NVIDIA-SMI has failed because it could not communicate with the driver"])
def test_without_a_gpu_the_cpu_computes(machine, caplog, listed):
    machine(listed=listed)
    assert device.choose() == CPU
    assert not caplog.records


def test_a_card_without_kernels_in_this_build_is_an_error_too(machine):
    machine("cuda", "Tesla K80, 470.256.02", kernels=False)
    with pytest.raises(StudyError, match=r"Tesla K80.*470.*no kernel image"):
        device.choose()


def test_a_gpu_with_bf16_is_taken_without_a_word(machine, caplog):
    machine("cuda", "NVIDIA H100, 580.159.04")
    assert device.choose() == CUDA
    assert not caplog.records


def test_a_gpu_without_bf16_computes_in_fp32_and_that_is_said(machine, caplog):
    machine("cuda", "Tesla T4, 580.159.04", capability=(7, 5))
    assert device.choose() == CUDA
    assert "Tesla T4 has no bf16" in caplog.text
    with device.autocast(CUDA):
        assert not torch.is_autocast_enabled("cuda")


@pytest.mark.parametrize(
    ("kind", "hip", "word"), [("mps", None, "mps"), ("cuda", "6.4.43482", "AMD"), ("xpu", None, "xpu")]
)
def test_other_makers_gpus_are_refused_with_a_word(machine, caplog, kind, hip, word):
    machine(kind, hip=hip)
    assert device.choose() == CPU
    assert word in caplog.text
    assert "not used" in caplog.text


def test_fp32_on_a_gpu_is_fp32():
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_a_gpus_number_is_nvidia_smis():
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


@pytest.mark.parametrize(
    ("limit", "flags", "fast"),
    [
        (None, True, True),
        (None, False, False),
        ("AVX512_CORE_AMX", True, True),
        ("avx512_core_bf16", True, True),
        ("ALL", True, True),
        ("AVX512_CORE", True, False),
        ("avx2", True, False),
    ],
)
@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_bf16_on_a_processor_is_by_its_flags_and_what_onednn_may_use(name, limit, flags, fast, monkeypatch):
    """Names of the limits: oneDNN's documentation, "CPU Dispatcher Control"."""
    for either in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(either, raising=False)
    if limit:
        monkeypatch.setenv(name, limit)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: flags)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: flags)
    assert device.has_fast_bfloat16(torch.device("cpu")) is fast


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:40])
def test_out_of_memory_is_known_by_all_its_names(error):
    with pytest.raises(StudyError, match=r"out of memory: lower batch_size or image_size"), device.memory_explained():
        raise error


def test_out_of_memory_names_the_neighbours_too(monkeypatch):
    monkeypatch.setattr(device, "neighbours", lambda _: "other processes hold 60.0 GiB")
    with pytest.raises(StudyError, match=r"hold 60\.0 GiB; stop them, or lower batch_size"), device.memory_explained():
        raise MemoryError


@pytest.mark.parametrize(
    "text", ["CUDA error: device-side assert triggered", "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"]
)
def test_other_errors_stay_what_they_are(text):
    with pytest.raises(RuntimeError, match=text), device.memory_explained():
        raise RuntimeError(text)


@pytest.mark.parametrize(("free", "words"), [(20, "59.0 of the 80.0 GiB"), (78, ""), (0.5, "78.5 of the 80.0 GiB")])
def test_memory_of_neighbours_is_told_from_ones_own(monkeypatch, free, words):
    """Of 80 GiB; PyTorch has nothing, CUDA's own GiB is not a neighbour's."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(free * 2**30), 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 0)
    assert (words in device.neighbours(CUDA)) if words else device.neighbours(CUDA) == ""
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: int((79 - free) * 2**30))
    assert device.neighbours(CUDA) == ""  # all of it is this process's
    assert device.neighbours(CPU) == ""


def test_nothing_is_compiled_on_a_cpu(monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", lambda *_, **__: pytest.fail("compiled"))
    device.compile_once(nn.Linear(2, 2), CPU)


def test_a_compiled_network_takes_new_weights_without_being_compiled_again(monkeypatch):
    """As on a GPU, but with dynamo's own backend, which records the network and runs it as it is."""
    graphs = []
    compile_ = nn.Module.compile

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: compile_(self, backend=backend, dynamic=False))
    model, other = (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)) for _ in range(2))
    device.compile_once(model, CUDA)
    images = torch.rand(5, 4)
    model(images)
    model.load_state_dict(other.state_dict())
    assert len(graphs) == 1
    torch.testing.assert_close(model(images), other(images))
    torch.testing.assert_close(model[1].running_mean, other[1].running_mean)  # one batch was seen, once
    assert len(graphs) == 1
    assert model.state_dict().keys() == other.state_dict().keys()


def test_determinism_is_asked_for_and_given_back():
    with device.deterministic():
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        with device.deterministic(False):
            assert not torch.are_deterministic_algorithms_enabled()
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_prepared_networks_have_the_layout_asked_for(layout):
    assert device.prepare(nn.Conv2d(4, 8, 3), CPU, layout).weight.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("side", [1, 8, 9])  # a matrix product up to 8 x 8, a convolution above
@pytest.mark.parametrize("bias", [True, False])
def test_a_prepared_pointwise_convolution_is_what_it_was(side, bias):
    prepared, images = nn.Conv2d(6, 5, 1, bias=bias), torch.rand(3, 6, side, side)
    plain = nn.Conv2d(6, 5, 1, bias=bias)
    plain.load_state_dict(prepared.state_dict())
    device.prepare(prepared, CPU)
    ours, theirs = images.clone().requires_grad_(), images.clone().requires_grad_()
    torch.testing.assert_close(prepared(ours), plain(theirs))
    prepared(ours).square().sum().backward()
    plain(theirs).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    for one, other in zip(prepared.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_convolutions_that_skip_pad_or_group_are_left_alone():
    images = torch.rand(2, 4, 6, 6)
    for options in ({"stride": 2}, {"padding": 1}, {"groups": 2}):
        layer = nn.Conv2d(4, 4, 1, **options)
        before = layer(images)
        torch.testing.assert_close(device.prepare(layer, CPU)(images), before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told to keep memory")
def test_freed_memory_is_used_again_without_asking_the_system():
    """Each page that the system hands out is a fault; without `prepare`, each of these tensors costs all of its own.

    The first few make the heap as large as it gets.
    """
    work = """
import resource, torch
from chromolib import device
device.prepare(torch.nn.Linear(1, 1), torch.device("cpu"))
for _ in range(20):
    torch.ones(2**24)  # 64 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    output = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True).stdout
    assert int(output) < 64 * 2**20 // os.sysconf("SC_PAGESIZE") // 10
