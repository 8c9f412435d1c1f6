"""Poolings against values by hand; a timm net with each."""

from typing import Any

import pytest
import timm
import torch

from steel.config import ModelConfig
from steel.errors import UserError
from steel.nets.build import build
from steel.nets.pooling import POOLS, Pooled

MAPS = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 8.0]]]])  # (1, 2, 2, 2)
BY_HAND = {
    "avg": [2.5, 2.0],
    "max": [4.0, 8.0],
    "concat": [2.5, 2.0, 4.0, 8.0],
    "gem": [25 ** (1 / 3), 128 ** (1 / 3)],  # means of the cubes: 100 / 4 and 512 / 4
}


@pytest.mark.parametrize("name", POOLS)
def test_values_by_hand(name: str) -> None:
    assert POOLS[name]()(MAPS).tolist() == [pytest.approx(BY_HAND[name])]


def test_gem_lies_between_mean_and_maximum_and_learns() -> None:
    gem = POOLS["gem"]()
    maps = torch.rand(3, 5, 6, 7) * torch.bernoulli(torch.full((3, 5, 1, 1), 0.5))  # some maps are all zero
    pooled = gem(maps)
    assert (pooled >= maps.mean((2, 3)) - 1e-5).all() and (pooled <= maps.amax((2, 3)) + 1e-5).all()
    pooled.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad != 0 for p in gem.parameters())


@pytest.mark.parametrize("name", POOLS)
def test_a_timm_net_with_each(name: str) -> None:
    torch.set_num_threads(1)
    net = build(ModelConfig(kind="classifier", net="test_resnet", options={"pool": name, "drop_rate": 0.2}))
    labels = net(torch.randint(0, 256, (2, 1, 64, 96), dtype=torch.uint8)).labels
    assert labels.shape == (2, 4)
    labels.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    dropout = net.get_submodule("body.head.0")
    assert isinstance(dropout, torch.nn.Dropout) and dropout.p == 0.2


def test_maps_with_their_channels_last_are_pooled_over_the_image() -> None:
    """Swin's own pooling is the mean, just before the last layer: equal weights give equal logits."""
    torch.manual_seed(0)
    name = "swin_tiny_patch4_window7_224"
    fixed: dict[str, Any] = {"in_chans": 1, "num_classes": 0, "img_size": (64, 128)}
    backbone = timm.create_model(name, global_pool="", **fixed)
    net, own = Pooled(backbone, "avg", 0.0).eval(), timm.create_model(name, **fixed).eval()
    own.load_state_dict(backbone.state_dict())
    x = torch.rand(2, 1, 64, 128)
    with torch.inference_mode():
        torch.testing.assert_close(net(x), net.head(own(x)))


@pytest.mark.parametrize(
    ("net", "pool", "message"),
    [
        ("test_resnet", "mean", "options: unknown pool 'mean'; allowed: avg, max, gem, concat"),
        ("test_vit", "gem", r"options: pool gem needs maps, the net ends in \(1, .*; allowed: no pool"),
    ],
)
def test_one_line_on_what_is_wrong(net: str, pool: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(ModelConfig(kind="classifier", net=net, options={"pool": pool}))
