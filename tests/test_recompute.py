"""Blocks that are computed twice: the same gradients, weights and statistics to the bit, in less memory."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
from torch import Tensor, nn

from steel.config import ModelConfig, Phase
from steel.data.cache import open_strips
from steel.errors import UserError
from steel.fit import train
from steel.fit.recompute import blocks, recompute_blocks
from steel.fit.trainer import Trainer
from steel.paths import Paths

pytestmark = pytest.mark.usefixtures("one_thread")


def kept_bytes(forward: Any) -> int:
    """Bytes of different tensors that a forward pass keeps for the gradients."""
    found: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        found[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        forward()
    return sum(found.values())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield toy.fresh(tmp_path_factory.mktemp("recompute"))


MODELS = {
    "resnet18, dropout, added up": replace(toy.SEGMENTER, encoder="resnet18"),
    "efficientnet": replace(toy.SEGMENTER, encoder="efficientnet-b0"),  # drops whole blocks at random
    "a segmenter's encoder of timm": toy.SEGMENTER,
    "a classifier": toy.CLASSIFIER,
}


@pytest.mark.parametrize("name", MODELS)
def test_the_training_is_the_same_to_the_bit(name: str, root: Path) -> None:
    phase = Phase(epochs=1, width=64, batch=3, lr=1e-2, samples=9)
    model, states, losses = replace(MODELS[name], phases=[phase]), [], []
    for twice in (False, True):
        machine = replace(toy.solution({}).machine, checkpoint_gradients=twice)
        trainer = Trainer(model, machine, open_strips(root / "data/toy/cache", "train"), np.arange(8), seed=1)
        losses.append(trainer.epoch(0, "x").loss)
        states.append(trainer.net.state_dict() | {f"mean {k}": v for k, v in trainer.average.values.items()})
    assert losses[0] == losses[1] and states[0].keys() == states[1].keys()
    assert all(value.equal(states[1][key]) for key, value in states[0].items())
    counters = [int(value) for key, value in states[1].items() if key.endswith("num_batches_tracked")]
    assert set(counters) - {0} == {3}  # 0: of a norm that no map depends on


def test_less_is_kept_for_the_gradients() -> None:
    from steel.nets.build import build

    net = build(ModelConfig(net="Unet", encoder="resnet18")).body.encoder
    assert isinstance(net, nn.Module)
    image = torch.zeros(1, 1, 128, 128)
    plain = kept_bytes(lambda: net(image))
    recompute_blocks(net)
    assert kept_bytes(lambda: net(image)) < 0.6 * plain
    assert [type(block).__name__ for block in blocks(net)] == ["BasicBlock"] * 8


def test_a_net_without_blocks_is_refused() -> None:
    solution = toy.solution({"vgg": ModelConfig(net="Unet", encoder="vgg11_bn", phases=[Phase(width=64)])})
    machine = replace(solution.machine, checkpoint_gradients=True)
    with pytest.raises(UserError) as error:
        train.check(Paths(replace(solution, machine=machine)), "vgg")
    line = (
        "models.vgg: machine.checkpoint_gradients: true needs an encoder of blocks, which Unet has not; allowed: false"
    )
    assert str(error.value) == line
