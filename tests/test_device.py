"""Number formats, compilation and determinism, as far as a machine without a GPU can tell."""

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
