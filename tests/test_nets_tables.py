"""Every net of the tables, and some of timm: shapes, gradients, a file and back, bf16, four strips by heart."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steel.config import ModelConfig
from steel.fit.checkpoint import load_weights, save_weights
from steel.nets.build import Net, Outputs, build
from steel.nets.classifiers import CLASSIFIERS
from steel.nets.losses import LOSSES, mixed
from steel.nets.segmenters import SEGMENTERS
from steel.nets.study_segmenters import WITHOUT_ENCODER

pytestmark = pytest.mark.usefixtures("one_thread")

# Narrow decoders, where the default ones take a second for a strip.
NARROW: dict[str, dict[str, Any]] = {
    "Unet": {"decoder_channels": [32, 16, 16, 8, 8]},
    "FPN": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
    "UnetPlusPlus": {"decoder_channels": [32, 16, 16, 8, 8]},
    "MAnet": {"decoder_channels": [32, 16, 16, 8, 8]},
    "UPerNet": {"decoder_channels": 32},
    "Segformer": {"decoder_segmentation_channels": 32},
    "study_resnet50": {"size": [64, 128]},
    "study_xception": {"size": [64, 128]},
    "DPT": {"decoder_intermediate_channels": [16, 16, 16, 16], "decoder_fusion_channels": 16},
}
TIMM = ("test_resnet", "test_efficientnet", "test_convnext", "test_vit", "test_mambaout", "test_nfnet")


def of_smp(name: str) -> ModelConfig:
    encoder = "tu-test_vit" if name == "DPT" else "tu-test_resnet"
    return ModelConfig(net=name, encoder=encoder, options=NARROW.get(name, {}), dropout=0.2, gate_weight=0.5)


MODELS = (
    {name: of_smp(name) for name in SEGMENTERS}
    | {name: ModelConfig(net=name) for name in WITHOUT_ENCODER}
    | {name: ModelConfig(kind="classifier", net=name, options=NARROW.get(name, {})) for name in CLASSIFIERS}
    | {name: ModelConfig(kind="classifier", net=name, dropout=0.2) for name in TIMM}
)


@dataclass(frozen=True)
class Case:
    """A model and its net, in evaluation; tests leave it as it was."""

    name: str
    model: ModelConfig
    net: Net

    @property
    def image(self) -> Tensor:
        """Two strips, as small as every layer bears: PAN halves its deepest map three times."""
        return strips(2, 128, 128) if self.name == "PAN" else strips(2, 64, 64)


@pytest.fixture(scope="module", params=MODELS)
def case(request: pytest.FixtureRequest) -> Case:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = MODELS[request.param]
    return Case(request.param, model, build(model).eval())


def strips(n: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (n, 1, height, width), dtype=torch.uint8)


def check_shapes(model: ModelConfig, logits: Outputs, image: Tensor) -> None:
    maps, labels = logits
    n, _, height, width = image.shape
    assert (maps is not None, labels is not None) == (
        model.kind == "segmenter",
        model.kind == "classifier" or model.gate_weight > 0,
    )
    assert maps is None or maps.shape == (n, 4, height, width)
    assert labels is None or labels.shape == (n, 4)


@pytest.mark.parametrize("shape", [(256, 1600), (128, 256), (256, 80)], ids=str)
def test_maps_have_the_size_of_the_strip(case: Case, shape: tuple[int, int]) -> None:
    if case.name == "PAN" and shape == (256, 80):
        pytest.skip("its deepest map is halved three times, which 80 px do not bear")
    image = strips(1, *shape)
    with torch.inference_mode():
        check_shapes(case.model, case.net(image), image)


def test_gradients_are_finite_and_reach_every_layer(case: Case) -> None:
    net = copy.deepcopy(case.net).train()
    image = case.image
    logits = net(image)
    check_shapes(case.model, logits, image)
    torch.stack([x.square().mean() for x in logits if x is not None]).sum().backward()
    gradients = {name: p.grad for name, p in net.named_parameters() if p.requires_grad}
    # DPT takes the tokens before the last norm of its transformer.
    idle = ("body.encoder.model.norm.", "body.encoder.model.head.") if case.name == "DPT" else ()
    assert [name for name, g in gradients.items() if g is None and not name.startswith(idle)] == []
    assert all(torch.isfinite(g).all() for g in gradients.values() if g is not None)
    first = next(g for g in gradients.values() if g is not None)
    assert first.abs().sum() > 0


def test_saved_and_loaded_it_gives_the_same_bits(case: Case, tmp_path: Path) -> None:
    path, image = tmp_path / "weights.safetensors", case.image
    with torch.inference_mode():
        before = case.net(image)
    save_weights(path, case.net.state_dict())
    for value in case.net.state_dict().values():
        value.zero_()
    load_weights(case.net, path)
    path.unlink()  # up to 240 MB
    with torch.inference_mode():
        for x, y in zip(before, case.net(image), strict=True):
            assert x is y is None or torch.equal(x, y)


def test_bf16_is_close(case: Case) -> None:
    image = case.image
    with torch.inference_mode():
        exact = case.net(image)
        with torch.autocast("cpu", torch.bfloat16):
            rough = case.net(image)
    check_shapes(case.model, rough, image)
    for x, y in zip(exact, rough, strict=True):
        if x is not None:
            error = (y.float() - x).abs().max() / x.abs().max()
            assert 0 < error < 0.05  # a number of bf16 is right to .004


# One or two of each family, with the optimizer and the rate that four images need.
LEARNT: dict[str, tuple[Callable[..., torch.optim.Optimizer], float]] = {
    "Unet": (torch.optim.AdamW, 1e-2),  # with labels
    "fcn": (torch.optim.Adam, 1e-2),
    "unet_plain": (torch.optim.Adam, 5e-3),  # without normalisation
    "unet_modified": (torch.optim.Adam, 3e-2),
    "unet_residual": (torch.optim.Adam, 1e-2),
    "cnn_single": (torch.optim.RMSprop, 1e-4),
    "cnn_deep_multi": (torch.optim.RMSprop, 1e-4),  # four heads
    "study_resnet50": (torch.optim.Adam, 1e-3),  # fine-tuned
    "test_resnet": (torch.optim.AdamW, 1e-2),
}


@pytest.mark.parametrize("name", LEARNT)
def test_four_strips_are_learnt_by_heart(name: str) -> None:
    """The loss falls by 80 %: forward, loss, gradients and optimizer belong together.

    A net that knows no more than how much of the strips a class covers would reach a third of the first loss.
    """
    torch.manual_seed(0)
    net = build(MODELS[name], pretrained=False)
    build_optimizer, lr = LEARNT[name]
    costs = learn(net, "bce", build_optimizer(net.parameters(), lr=lr), 300)
    assert costs[-1] < costs[0] / 5


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["Unet", "test_resnet"])
def test_each_loss_teaches_maps_and_labels(loss: str, name: str) -> None:
    torch.manual_seed(0)
    net = build(MODELS[name], pretrained=False)
    costs = learn(net, loss, torch.optim.AdamW(net.parameters(), 1e-2), 8)
    assert costs[-1] < 0.9 * costs[0] and all(p.isfinite().all() for p in net.parameters())


def learn(net: Net, loss: str, optimizer: torch.optim.Optimizer, n_steps: int) -> list[float]:
    """Train on four strips, each with a band of a class of its own; the costs until one is a fifth of the first."""
    image = torch.full((4, 1, 32, 32), 80, dtype=torch.uint8)
    maps = torch.zeros(4, 4, 32, 32)
    for k in range(4):
        band = slice(8 * k, 8 * k + 16)
        image[k, ..., band], maps[k, k, :, band] = 255, 1
    for module in net.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    cost_of, costs = mixed({loss: 1.0}), list[float]()
    while len(costs) < n_steps and (not costs or costs[-1] >= costs[0] / 5):
        optimizer.zero_grad()
        pairs = zip(net(image), (maps, torch.eye(4)), strict=True)
        cost = torch.stack([cost_of(logits, true) for logits, true in pairs if logits is not None]).sum()
        cost.backward()
        optimizer.step()
        costs.append(float(cost.detach()))
    return costs
