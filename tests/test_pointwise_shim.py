"""Strided 1 x 1 convolutions of few channels give the same values and gradients, and do not end the program."""

import copy

import pytest
import torch
from torch import nn

from steel.nets.pointwise_shim import spare_strided_pointwise


@pytest.mark.parametrize(("n_in", "stride", "groups"), [(8, 2, 1), (1, 2, 1), (12, (2, 1), 1), (16, 3, 2), (32, 2, 1)])
def test_values_and_gradients_are_those_of_the_plain_layer(n_in: int, stride: int, groups: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(n_in, 16, 1, stride, groups=groups), nn.ReLU(), nn.Conv2d(16, 4, 1))
    x = torch.randn(2, n_in, 65, 130)
    plain = copy.deepcopy(net).double()
    y = plain(x.double())
    y.square().mean().backward()
    spare_strided_pointwise(net)
    spare_strided_pointwise(net)  # once more changes nothing
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = net(x.contiguous(memory_format=torch.channels_last))
    found.square().mean().backward()
    torch.testing.assert_close(found.double(), y, atol=1e-5, rtol=1e-4)
    for ours, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-5, rtol=1e-4)


def test_only_layers_that_suffer_are_changed() -> None:
    layers = [
        nn.Conv2d(8, 8, 1, 2),
        nn.Conv2d(8, 8, 1),
        nn.Conv2d(8, 8, 3, 2),
        nn.Conv2d(16, 8, 1, 2),
        nn.Conv2d(8, 8, 1, 2, padding=1),
    ]
    net = nn.ModuleList(layers)
    keys = list(net.state_dict())
    spare_strided_pointwise(net)
    assert [layer.stride for layer in layers] == [(1, 1), (1, 1), (2, 2), (2, 2), (2, 2)]
    assert list(net.state_dict()) == keys
