"""Optimizer, learning rate as a pure function of the step, moving average of the weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from steel.config import ModelConfig, Phase


@dataclass(frozen=True)
class Place:
    """Where a global epoch lies: the phase, and the epoch within it."""

    phase: Phase
    epoch: int


def place_of(epoch: int, phases: Sequence[Phase]) -> Place:
    """The place of global epoch 0, 1, ... in the phases."""
    for phase in phases:
        if epoch < phase.epochs:
            return Place(phase, epoch)
        epoch -= phase.epochs
    raise IndexError(epoch)


def lr_at(step: int, n_steps: int, peak: float, warmup_steps: int) -> float:
    """Learning rate of a step of a phase of `n_steps`: linear warm-up, then a cosine that ends near zero."""
    warmup_steps = min(warmup_steps, n_steps // 2)
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    share = (step - warmup_steps) / max(1, n_steps - warmup_steps)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


def optimizer_for(net: nn.Module, model: ModelConfig) -> torch.optim.Optimizer:
    """AdamW; biases and norms are not decayed."""
    decayed = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": model.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=model.phases[0].lr, fused=True)


class Ema:
    """Exponential moving average of all weights and statistics of a net, with a warm-up of its own.

    The decay at update t is min(decay, (1 + t) / (10 + t)), so that the random start is forgotten at once.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.values: dict[str, Tensor] = {name: value.detach().clone() for name, value in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move towards the net's present weights; counters are copied."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        now = net.state_dict()
        floats = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.values[name] for name in floats], [now[name] for name in floats], 1 - decay)
        for name in now.keys() - set(floats):
            self.values[name].copy_(now[name])
