"""Schedule, optimizer groups, and the moving average against a plain loop."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from steel.config import ModelConfig, Phase
from steel.fit.optim import Ema, lr_at, optimizer_for, place_of


def test_schedule_by_eye() -> None:
    rates = [round(lr_at(step, 12, 1.0, 3), 4) for step in range(12)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 0.9701, 0.8842, 0.7525, 0.591, 0.419, 0.2575, 0.1258, 0.0399]


@given(st.integers(1, 200), st.floats(1e-6, 1), st.integers(0, 100))
def test_schedule_rises_then_falls_and_stays_in_range(n_steps: int, peak: float, warmup: int) -> None:
    rates = [lr_at(step, n_steps, peak, warmup) for step in range(n_steps)]
    top = min(warmup, n_steps // 2)
    assert rates == sorted(rates[:top]) + sorted(rates[top:], reverse=True)
    assert rates[top] == pytest.approx(peak) and min(rates) > 0 and max(rates) <= peak * (1 + 1e-9)


def test_places_by_eye() -> None:
    phases = [Phase(epochs=2), Phase(epochs=1, width=512)]
    assert [(place_of(e, phases).phase.width, place_of(e, phases).epoch) for e in range(3)] == [
        (1600, 0),
        (1600, 1),
        (512, 0),
    ]
    with pytest.raises(IndexError):
        place_of(3, phases)


def test_only_weights_are_decayed() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    groups = optimizer_for(net, ModelConfig(weight_decay=0.3)).param_groups
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    found = {name: decay[id(p)] for name, p in net.named_parameters()}
    assert found == {"0.weight": 0.3, "0.bias": 0, "1.weight": 0, "1.bias": 0, "2.weight": 0.3, "2.bias": 0}


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_ema_against_a_plain_loop(decay: float) -> None:
    net = small_net()
    ema = Ema(net, decay)
    expected = {name: value.double().clone() for name, value in net.state_dict().items()}
    for t in range(30):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
        net(torch.randn(4, 1, 8, 8))  # moves the statistics
        ema.update(net)
        d = min(decay, (1 + t) / (10 + t))
        for name, value in net.state_dict().items():
            expected[name] = d * expected[name] + (1 - d) * value.double()
    for name, value in ema.values.items():
        if "num_batches" in name:
            assert value.item() == 30
        else:
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_without_decay_the_last_weights_ship() -> None:
    net = small_net()
    ema = Ema(net, 0.0)
    for _ in range(3):
        net.get_parameter("0.weight").data.add_(1.234567)
        ema.update(net)
    assert all(torch.equal(value, ema.values[name]) for name, value in net.state_dict().items())


def test_the_average_does_not_touch_the_net() -> None:
    net = small_net()
    before = copy.deepcopy(net.state_dict())
    ema = Ema(net, 0.9)
    for value in ema.values.values():
        value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
