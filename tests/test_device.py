"""Number formats, compilation and determinism, as far as a machine without a GPU can tell."""

import platform
import resource
import subprocess
import sys

import pytest
import torch
from torch import nn

from chromolib import device

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


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


def test_prepared_networks_are_channels_last():
    weight = device.prepare(nn.Conv2d(4, 8, 3), CPU).weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


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
    assert int(output) < 64 * 2**20 // resource.getpagesize() // 10
