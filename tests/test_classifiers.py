"""Classifiers of timm: four outputs from one grey channel."""

import pytest
import timm
import torch

from steel.config import ModelConfig
from steel.errors import UserError
from steel.nets.build import build


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv4_conv_small_050", "tf_efficientnet_b0", "convnext_atto"])
def test_four_logits_and_gradients(name: str) -> None:
    torch.set_num_threads(1)
    net = build(ModelConfig(kind="classifier", net=name, downscale=2))
    logits = net(torch.randint(0, 256, (2, 1, 64, 130), dtype=torch.uint8))
    assert logits.shape == (2, 4)
    logits.square().mean().backward()
    first = next(net.parameters()).grad
    assert first is not None and torch.isfinite(first).all() and first.abs().sum() > 0


def test_options_reach_the_net() -> None:
    net = build(ModelConfig(kind="classifier", net="resnet18", options={"drop_rate": 0.25}))
    assert net.body.drop_rate == 0.25


def test_code_outside_the_package() -> None:
    net = build(ModelConfig(kind="classifier", net="timm.models:resnet18"))
    with torch.inference_mode():
        assert net.eval()(torch.zeros(1, 1, 64, 64, dtype=torch.uint8)).shape == (1, 4)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelConfig(net="resnet17"), r"net: timm has no model 'resnet17'; close names: .*resnet18"),
        (ModelConfig(net="@@@"), r"timm has no model '@@@'; close names: none"),
        (ModelConfig(net="nowhere:net"), r"net: cannot import 'nowhere:net'"),
        (ModelConfig(net="resnet18", options={"foo": 1}), r"net resnet18: refused: .*'foo'"),
        (ModelConfig(net="resnet18", options={"num_classes": 5}), r"net resnet18: refused: .*num_classes"),
        (ModelConfig(net="resnet18.nope"), r"net resnet18.nope: refused: Invalid pretrained tag \(nope\)"),
    ],
)
def test_one_line_on_what_is_wrong(model: ModelConfig, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(ModelConfig(**{**vars(model), "kind": "classifier"}))
    assert "\n" not in str(caught.value)


def test_a_net_without_pretrained_weights_is_not_silently_random() -> None:
    name = next(n for n in timm.list_models("res*") if not timm.models.is_model_pretrained(n))
    with pytest.raises(UserError, match=f"net {name}: refused: No pretrained weights exist|cannot be downloaded"):
        build(ModelConfig(kind="classifier", net=name, weights="imagenet"))
