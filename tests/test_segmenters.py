"""Segmenters of smp: encoders, options, dropout, the joint head; and what is refused says so in one line.

Shapes, gradients, files and half precision of every architecture: `test_nets_tables.py`.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from steel.config import ModelConfig, Phase
from steel.errors import UserError
from steel.nets.build import build
from steel.nets.segmenters import SEGMENTERS

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = "tu-test_resnet"


def maps_of(model: ModelConfig, height: int, width: int) -> tuple[int, ...]:
    with torch.inference_mode():
        logits = build(model).eval()(torch.zeros(1, 1, height, width, dtype=torch.uint8))
    assert logits.maps is not None and logits.labels is None
    return tuple(logits.maps.shape)


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("Unet", "resnet18"),
        ("FPN", "efficientnet-b0"),
        ("FPN", "mit_b0"),
        ("Unet", "timm-skresnet18"),  # smp deprecates the prefix, and warns
        ("Unet", "timm-regnetx_002"),  # a name that smp turns into one of timm
    ],
)
def test_encoders_of_smp(name: str, encoder: str) -> None:
    assert maps_of(ModelConfig(net=name, encoder=encoder), 64, 96) == (1, 4, 64, 96)


@pytest.mark.parametrize(("width", "downscale"), [(1600, 1), (1600, 2), (1600, 4), (1590, 2), (33, 1)])
def test_any_width(width: int, downscale: int) -> None:
    assert maps_of(ModelConfig(encoder=TINY, downscale=downscale), 256, width) == (1, 4, 256, width)


def test_options_reach_the_architecture() -> None:
    net = build(ModelConfig(encoder=TINY, options={"encoder_depth": 3, "decoder_channels": [24, 16, 8]}))
    assert net.body.get_submodule("segmentation_head.0").in_channels == 8


def test_options_of_a_backbone_of_timm_reach_it() -> None:
    net = build(ModelConfig(encoder=TINY, options={"act_layer": "silu"}))
    assert any(isinstance(module, nn.SiLU) for module in net.body.get_submodule("encoder").modules())


def test_code_outside_the_package() -> None:
    net = build(ModelConfig(net="segmentation_models_pytorch:DeepLabV3", encoder=TINY, dropout=0.3, gate_weight=1))
    assert type(net.body).__name__ == "DeepLabV3"
    assert isinstance(net.get_submodule("body.segmentation_head.0"), nn.Dropout2d)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_dropout_and_the_joint_head_lie_before_the_last_layers(name: str) -> None:
    encoder = "tu-test_vit" if name == "DPT" else TINY
    bare = build(ModelConfig(net=name, encoder=encoder), pretrained=False)
    net = build(ModelConfig(net=name, encoder=encoder, dropout=0.3, gate_weight=0.5), pretrained=False)
    first = net.get_submodule("body.segmentation_head" + (".head.0" if name == "DPT" else ".0"))
    assert isinstance(first, nn.Dropout2d) and first.p == 0.3
    labels = net.get_submodule("body.classification_head")
    assert [module.p for module in labels.modules() if isinstance(module, nn.Dropout)] == [0.3]
    more = sum(p.numel() for p in net.parameters()) - sum(p.numel() for p in bare.parameters())
    (linear,) = [module for module in labels.modules() if isinstance(module, nn.Linear)]
    assert more == 4 * (linear.in_features + 1)  # one linear layer; dropout has no weights


def test_dropout_drops_whole_maps_while_training_only() -> None:
    net = build(ModelConfig(encoder=TINY, dropout=0.5))
    dropout = net.get_submodule("body.segmentation_head.0")
    x = torch.ones(8, 16, 4, 4)
    assert {tuple(sorted(set(m.flatten().tolist()))) for m in dropout(x).flatten(0, 1)} == {(0.0,), (2.0,)}
    assert torch.equal(dropout.eval()(x), x)


def test_the_joint_head_has_no_dropout_without_dropout() -> None:
    labels = build(ModelConfig(encoder=TINY, gate_weight=0.5)).get_submodule("body.classification_head")
    assert not any(isinstance(module, nn.Dropout) for module in labels.modules())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelConfig(net="UNet"), r"net: unknown name 'UNet'; allowed: Unet, UnetPlusPlus, FPN, "),
        (ModelConfig(net="no_such_module:f"), r"net: cannot import 'no_such_module:f'"),
        (ModelConfig(net="timm.models:resnet18"), r"net timm.models:resnet18 on .*: refused: .*'encoder_name'"),
        (ModelConfig(net="math:pi"), r"net math:pi on encoder resnet18: refused: 3\.14.* is not a callable object"),
        (ModelConfig(net="builtins:dict"), r"net builtins:dict on encoder resnet18: refused: .*dict"),
        (ModelConfig(encoder="resnet19"), r"encoder: unknown name 'resnet19'; allowed: tu-NAME .*resnet18"),
        (ModelConfig(encoder="timm-regnety_0"), r"net Unet on encoder timm-regnety_0: refused: Unknown model"),
        (ModelConfig(encoder="tu-nope"), r"net Unet on encoder tu-nope: refused: Unknown model \(nope\)"),
        (
            ModelConfig(options={"depth": 4}),
            r"options: Unet has no option 'depth'; allowed: encoder_depth, ",
        ),
        (ModelConfig(encoder=TINY, options={"x": 4}), r"net Unet on encoder tu-test_resnet: refused: .*'x'"),
        (ModelConfig(options={"classes": 5}), r"options: classes is not for Unet to choose \(always 4\)"),
        (
            ModelConfig(options={"activation": "sigmoid"}),
            r"options: activation is not for Unet .*\(losses take log",
        ),
        (ModelConfig(options={"aux_params": {}}), r"options: aux_params is not for Unet .*\(use gate_weight\)"),
        (ModelConfig(options={"encoder_depth": 9}), r"refused: .* depth should be in range \[1, 5\], got 9"),
        (ModelConfig(options={"encoder_depth": 4}), r"refused: Model depth is 4, but .*decoder_channels"),
        (ModelConfig(options={"encoder_depth": "x"}), r"net Unet on encoder resnet18: refused: '>' not supported"),
        (ModelConfig(net="fcn", dropout=0.2), r"dropout: 0\.2 has no place in fcn; allowed: 0; use options: {dropout"),
        (ModelConfig(net="unet_plain", dropout=0.2), r"dropout: 0\.2 has no place in unet_plain; allowed: 0; use nets"),
        (ModelConfig(net="fcn", gate_weight=0.2), r"gate_weight: 0\.2 needs .* fcn has no aux_params; allowed: 0"),
        (ModelConfig(net="timm:create_model", gate_weight=1), r"gate_weight: 1 needs .* has no aux_params; allowed: 0"),
        (ModelConfig(net="fcn", options={"dropout": 7}), r"net fcn: refused: dropout probability has to be between"),
    ],
)
def test_one_line_on_what_is_wrong(model: ModelConfig, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(model)
    assert "\n" not in str(caught.value)


# What smp refuses, or accepts and fails over at the first step: one of each reason.
REFUSED = [
    ("UnetPlusPlus", "mit_b0", {}, r"refused: UnetPlusPlus is not support encoder_name=mit_b0"),
    ("Linknet", "mit_b0", {}, r"refused: Encoder `mit_b0` is not supported for Linknet"),
    ("DeepLabV3Plus", "densenet121", {}, r"refused: DenseNet encoders do not support dilated mode"),
    ("PAN", "tu-vgg11", {}, r"refused: AssertionError at `assert output_stride == 32`"),
    ("FPN", "tu-test_vit", {}, r"refused: Unsupported model downsampling pattern"),
    ("DPT", "resnet18", {}, r"refused: Only Timm encoders are supported for DPT"),
    ("DPT", TINY, {}, r"refused: .*unexpected keyword argument 'dynamic_img_size'"),
    ("Unet", "tu-vit_tiny_patch16_224", {}, r"refused: Unsupported model downsampling pattern"),
    ("Unet", "tu-maxvit_pico_rw_256", {}, r"refused at 256 x 1600 px, .*width \(100\) must be divisible by window"),
    ("FPN", TINY, {"options": {"upsampling": 2}}, r"it gives \(2, 4, 128, 800\); allowed: one of \(2, 4, 256, 1600\)"),
    ("PAN", TINY, {"phases": [Phase(width=64)]}, r"refused at 256 x 64 px, downscale 1, batch 2: .* too small"),
    ("PAN", TINY, {"phases": [Phase(), Phase(downscale=4)]}, r"refused at 256 x 1600 px, downscale 4, batch 2: "),
    ("DeepLabV3Plus", TINY, {"phases": [Phase(batch=1)]}, r"batch 1: Expected more than 1 value per channel"),
    ("DeepLabV3Plus", TINY, {"phases": [Phase(samples=1)]}, r"batch 1: Expected more than 1 value per channel"),
]


@pytest.mark.parametrize(("net", "encoder", "more", "message"), REFUSED)
def test_pairs_and_sizes_that_do_not_go_together(net: str, encoder: str, more: dict, message: str) -> None:
    with pytest.raises(UserError, match=rf"^net {net} on encoder {encoder}: .*{message}") as caught:
        build(replace(ModelConfig(net=net, encoder=encoder), **more))
    assert "\n" not in str(caught.value)
