"""Gradient checkpointing: an encoder's blocks keep only their inputs, and compute the rest again for the gradients."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from steel.errors import UserError
from steel.fit.optim import encoder_of

LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def recompute_blocks(net: nn.Module) -> None:
    """Let the blocks of a net's encoder be computed twice in training, and their insides be kept for neither.

    The gradients, and the weights and statistics that come of them, are those of plain training: dropout draws the same
    numbers again, and norms take in a batch once. Source: Chen et al., 2016, Training Deep Nets with Sublinear Memory
    Cost. Raises UserError where there are no blocks.
    """
    found = list(blocks(encoder_of(net)))
    if not found:
        body = type(getattr(net, "body", net)).__name__
        raise UserError(
            f"machine.checkpoint_gradients: true needs an encoder of blocks, which {body} has not; allowed: false"
        )
    for block in found:
        block.forward = partial(_forward, block, block.forward)


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The blocks of an encoder: what its outermost lists hold, unless it is a single layer."""
    for child in module.children():
        if isinstance(module, LISTS) and not isinstance(child, LISTS) and any(child.children()):
            yield child
        else:
            yield from blocks(child)


def _forward(block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not (block.training and torch.is_grad_enabled()):
        return forward(*args, **kwargs)
    passes = partial(_passes, block)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=passes, **kwargs)


def _passes(block: nn.Module) -> tuple[Any, Any]:
    """What surrounds the first pass, and the second."""
    return nullcontext(), _statistics_aside(block)


@contextmanager
def _statistics_aside(block: nn.Module) -> Iterator[None]:
    """Let a pass change copies of a block's statistics, which it takes in for the second time."""
    kept = [(module, dict(module._buffers)) for module in block.modules()]
    for module, buffers in kept:
        module._buffers.update({name: value.clone() for name, value in buffers.items() if value is not None})
    try:
        yield
    finally:
        for module, buffers in kept:
            module._buffers.update(buffers)
