"""Every architecture of the table: shapes, gradients, odd widths; and what a wrong name or option says."""

import pytest
import torch

from steel.config import ModelConfig
from steel.errors import UserError
from steel.nets.build import build
from steel.nets.segmenters import SEGMENTERS

TINY = "tu-test_resnet"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_each_gives_four_maps_and_gradients(name: str) -> None:
    net = build(ModelConfig(net=name, encoder="tu-test_vit" if name == "DPT" else TINY))
    height, width = (256, 256) if name == "PAN" else (64, 72)  # PAN halves its deepest map three times
    logits = net(torch.randint(0, 256, (2, 1, height, width), dtype=torch.uint8))  # training mode
    assert logits.shape == (2, 4, height, width)
    logits.square().mean().backward()
    gradients = [p.grad for p in net.parameters()]
    first = gradients[0]
    assert first is not None and torch.isfinite(first).all() and first.abs().sum() > 0
    assert all(torch.isfinite(g).all() for g in gradients if g is not None)


@pytest.mark.parametrize(("name", "encoder"), [("Unet", "resnet18"), ("FPN", "efficientnet-b0"), ("FPN", "mit_b0")])
def test_encoders_of_smp(name: str, encoder: str) -> None:
    net = build(ModelConfig(net=name, encoder=encoder)).eval()
    with torch.inference_mode():
        assert net(torch.zeros(1, 1, 64, 96, dtype=torch.uint8)).shape == (1, 4, 64, 96)


@pytest.mark.parametrize(("width", "downscale"), [(1600, 1), (1600, 2), (1600, 4), (1590, 2), (33, 1)])
def test_any_width(width: int, downscale: int) -> None:
    net = build(ModelConfig(encoder=TINY, downscale=downscale)).eval()
    with torch.inference_mode():
        assert net(torch.zeros(1, 1, 256, width, dtype=torch.uint8)).shape == (1, 4, 256, width)


def test_options_reach_the_architecture() -> None:
    net = build(ModelConfig(encoder=TINY, options={"encoder_depth": 3, "decoder_channels": [24, 16, 8]}))
    assert net.body.get_submodule("segmentation_head.0").in_channels == 8


def test_code_outside_the_package() -> None:
    net = build(ModelConfig(net="segmentation_models_pytorch:Linknet", encoder=TINY))
    assert type(net.body).__name__ == "Linknet"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelConfig(net="UNet"), r"net: unknown name 'UNet'; allowed: Unet, UnetPlusPlus, FPN, "),
        (ModelConfig(net="no_such_module:f"), r"net: cannot import 'no_such_module:f'"),
        (ModelConfig(encoder="resnet19"), r"encoder: unknown name 'resnet19'; allowed: tu-NAME .*resnet18"),
        (ModelConfig(encoder="tu-nope"), r"net Unet on encoder tu-nope: refused: Unknown model \(nope\)"),
        (ModelConfig(options={"depth": 4}), r"options: Unet has no option 'depth'; allowed: .*encoder_depth"),
        (ModelConfig(options={"classes": 5}), r"net Unet on encoder resnet18: refused: .*classes"),
        (ModelConfig(options={"encoder_depth": 9}), r"refused: .* depth should be in range \[1, 5\], got 9"),
        (ModelConfig(options={"encoder_depth": 4}), r"refused: Model depth is 4, but .*decoder_channels"),
    ],
)
def test_one_line_on_what_is_wrong(model: ModelConfig, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(model)
    assert "\n" not in str(caught.value)
