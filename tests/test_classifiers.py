"""Classifiers of timm: options, dropout, sizes; and what is refused says so in one line.

Shapes, gradients, files and half precision: `test_nets_tables.py`.
"""

import pytest
import timm
import torch
from torch import nn

from steel.config import ModelConfig
from steel.errors import UserError
from steel.nets.build import build

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv4_conv_small_050", "tf_efficientnet_b0", "convnext_atto"])
def test_four_logits_of_any_width(name: str) -> None:
    net = build(ModelConfig(kind="classifier", net=name, downscale=2)).eval()
    with torch.inference_mode():
        maps, labels = net(torch.randint(0, 256, (2, 1, 64, 130), dtype=torch.uint8))
    assert maps is None and labels.shape == (2, 4)


def test_options_reach_the_net() -> None:
    net = build(ModelConfig(kind="classifier", net="resnet18", options={"drop_rate": 0.25}))
    assert net.body.drop_rate == 0.25


def test_dropout_lies_before_the_last_layer() -> None:
    net = build(ModelConfig(kind="classifier", net="test_resnet", dropout=0.25))
    assert net.body.drop_rate == 0.25
    net = build(ModelConfig(kind="classifier", net="test_resnet", dropout=0.25, options={"pool": "max"}))
    dropout = net.get_submodule("body.head.0")
    assert isinstance(dropout, nn.Dropout) and dropout.p == 0.25


def test_a_transformer_bears_strips_if_told_to() -> None:
    for options in ({"dynamic_img_size": True}, {"img_size": [256, 1600]}):
        net = build(ModelConfig(kind="classifier", net="vit_tiny_patch16_224", options=options)).eval()
        with torch.inference_mode():
            assert net(torch.zeros(1, 1, 256, 1600, dtype=torch.uint8)).labels.shape == (1, 4)


def test_code_outside_the_package() -> None:
    net = build(ModelConfig(kind="classifier", net="timm.models:resnet18"))
    with torch.inference_mode():
        assert net.eval()(torch.zeros(1, 1, 64, 64, dtype=torch.uint8)).labels.shape == (1, 4)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelConfig(net="resnet17"), r"net: timm has no model 'resnet17'; close names: .*resnet18"),
        (ModelConfig(net="@@@"), r"timm has no model '@@@'; close names: none"),
        (ModelConfig(net="nowhere:net"), r"net: cannot import 'nowhere:net'"),
        (ModelConfig(net="timm.models:resnet18", options={"x": 1}), r"net timm.models:resnet18: refused: .*'x'"),
        (ModelConfig(net="torch.nn:Identity"), r"net torch.nn:Identity: refused at .*: it gives \(2, 1, 256, 1600\)"),
        (ModelConfig(net="resnet18", options={"foo": 1}), r"net resnet18: refused: .*'foo'"),
        (ModelConfig(net="resnet18", options={"num_classes": 5}), r"net resnet18: refused: .*num_classes"),
        (ModelConfig(net="resnet18.nope"), r"net resnet18.nope: refused: Invalid pretrained tag \(nope\)"),
        (ModelConfig(net="test_resnet", dropout=0.1, options={"drop_rate": 0.2}), r"dropout: 0\.1 and .* one of them"),
        (ModelConfig(net="cnn_single", dropout=0.1), r"dropout: 0\.1 has no place in cnn_single; allowed: 0; use"),
        (ModelConfig(net="timm.models:resnet18", dropout=0.1), r"dropout: 0\.1 has no place in timm.*; allowed: 0"),
        (ModelConfig(net="study_resnet50", options={"size": [128]}), r"net study_resnet50: refused: .*out of range"),
        (ModelConfig(net="vit_tiny_patch16_224"), r"net vit.*: refused at 256 x 1600 px, .*: Input height \(256\)"),
        (ModelConfig(net="mixer_s32_224"), r"net mixer_s32_224: refused at 256 x 1600 px, .*Input height \(256\)"),
        (ModelConfig(net="levit_128s"), r"net levit_128s: refused at 256 x 1600 px, .* must match the size"),
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
