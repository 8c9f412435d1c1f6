"""Averages of weights over a training: moving, uniform, of chosen checkpoints; and the statistics to go with them."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from steel.errors import UserError, shorten


class Average:
    """A running average of all weights and statistics of a net; `values` and `updates` are its whole state.

    Where the net keeps its tensors is looked up once: a large net has a thousand of them, and a GPU would wait after
    each step until a search of all modules was over.
    """

    def __init__(self, net: nn.Module) -> None:
        self.updates = 0
        self.values: dict[str, Tensor] = {name: value.detach().clone() for name, value in net.state_dict().items()}
        held = {
            f"{prefix}.{name}".lstrip("."): (tensors, name)
            for prefix, module in net.named_modules(remove_duplicate=False)
            for tensors in (module._parameters, module._buffers)
            for name in tensors
        }
        floats = [name for name, value in self.values.items() if value.is_floating_point()]
        self._floats = [(name, *held[name]) for name in floats]
        self._counters = [(name, *held[name]) for name in self.values.keys() - set(floats)]

    @torch.no_grad()
    def _move(self, share: float) -> None:
        """Go `share` of the way to the net's present weights; counters are copied."""
        self.updates += 1
        torch._foreach_lerp_(*self._pairs(self._floats), share)
        if self._counters:
            torch._foreach_copy_(*self._pairs(self._counters))

    def _pairs(self, places: Sequence[tuple[str, dict[str, Tensor], str]]) -> tuple[list[Tensor], list[Tensor]]:
        """Averages and what the net holds now: a module may put a new tensor in place of a statistic."""
        return [self.values[name] for name, *_ in places], [held[key] for _, held, key in places]


class Ema(Average):
    """Exponential moving average, with a warm-up of its own.

    The decay at update t is min(decay, (1 + t) / (10 + t)), so that the random start is forgotten at once.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        super().__init__(net)
        self.decay = decay

    def update(self) -> None:
        """Take in the weights after a step."""
        self._move(1 - min(self.decay, (1 + self.updates) / (10 + self.updates)))


class Swa(Average):
    """Uniform mean of the weights after each update: stochastic weight averaging (Izmailov et al., 2018).

    Update it at the end of every epoch from a late one on, and call `update_batch_norm` at the end: a mean of
    statistics does not belong to the mean of the weights. Before the first update it holds the weights it began with.
    """

    def update(self) -> None:
        """Take in the weights after an epoch."""
        self._move(1 / (self.updates + 1))


def mean_of(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of the weights of some checkpoints, summed in float64 and given in their own type; counters of the last.

    Raises UserError without any, or where their tensors differ in name or shape.
    """
    if not states:
        raise UserError("average: no weights to take the mean of; allowed: one or more")
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    for i, other in enumerate(shapes):
        if other != shapes[0]:
            names = sorted(name for name in other.keys() | shapes[0] if other.get(name) != shapes[0].get(name))
            raise UserError(
                f"average: weights {i} differ from weights 0 in {shorten(names)}; allowed: those of one net"
            )
    return {
        name: (sum((s[name].double() for s in states), value.new_zeros(()).double()) / len(states)).to(value.dtype)
        if value.is_floating_point()
        else value.clone()
        for name, value in states[-1].items()
    }


class Best:
    """The weights after the `k` best epochs, as judged on strips kept from training; `scores` and `states` are all.

    Attributes:
        scores: of every epoch so far; nan without a look.
        states: epoch (from 0) to its weights, on the CPU; at most k.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self.scores: list[float] = []
        self.states: dict[int, dict[str, Tensor]] = {}

    def offer(self, score: float, values: Mapping[str, Tensor]) -> None:
        """Take in the score of one more epoch, and its weights if it is among the best."""
        self.scores.append(score)
        epoch, kept = len(self.scores) - 1, keep(self.scores, self.k)
        if epoch in kept:
            self.states[epoch] = {name: value.detach().cpu().clone() for name, value in values.items()}
        self.states = {one: self.states[one] for one in kept}

    def restore(self, scores: list[float], states: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Go back to what stood in a checkpoint, which may have been read to another device."""
        self.scores = scores
        self.states = {epoch: {name: value.cpu() for name, value in one.items()} for epoch, one in states.items()}

    def mean(self) -> dict[str, Tensor]:
        """The mean of their weights, which wants `update_batch_norm`."""
        return mean_of(list(self.states.values()))


@torch.no_grad()
def update_batch_norm(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Compute the statistics of all batch norms anew, as means of those of the batches, weighted by their lengths.

    `batches`: what the net takes, (B, 1, H, W) uint8 on its device, B >= 2. Unlike torch's `update_bn`, everything else
    is in the mode of evaluation: no dropout, so that no random number is drawn and the statistics are those that
    prediction meets. The net's modes are left as they were. Without batch norms no batch is asked for. Source:
    Izmailov et al., 2018. Raises UserError where there is no batch.
    """
    layers = [module for module in net.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not layers:
        return
    modes = [(module, module.training) for module in net.modules()]
    momenta = [layer.momentum for layer in layers]
    net.eval()
    for layer in layers:
        layer.train()
        layer.reset_running_stats()
    n_images = 0
    for image in batches:
        n_images += len(image)
        for layer in layers:
            layer.momentum = len(image) / n_images  # the first batch replaces what was there
        net(image)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    for module, training in modes:
        module.training = training
    if not n_images:
        raise UserError("average: no batch to compute the statistics of batch norms from; allowed: one or more")


def keep(scores: Sequence[float], k: int) -> list[int]:
    """The epochs (from 0, ascending) of the `k` best scores; of equals the later; nan, an epoch without a look, never.

    What is not kept after some epoch is not kept after a later one: its checkpoint may go. The scores are to come from
    an inner split of the training folds, never from the fold that is scored.
    """
    looked = [epoch for epoch, score in enumerate(scores) if not math.isnan(score)]
    best = sorted(looked, key=lambda epoch: (scores[epoch], epoch), reverse=True)
    return sorted(best[:k])
