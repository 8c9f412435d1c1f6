"""The study's nets: their numbers of parameters, shapes, gradients, and that each can learn four strips by heart."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from steel.config import ModelConfig
from steel.errors import UserError
from steel.nets.build import Net, build
from steel.nets.classifiers import CLASSIFIERS
from steel.nets.losses import mixed
from steel.nets.segmenters import WITHOUT_ENCODER

PARAMETERS = {
    "cnn_single": 27_667_108,
    "cnn_multi": 61_017_828,
    "fcn": 743_316,
    "unet_plain": 600_612,
    "unet_modified": 492_492,
    "unet_residual": 491_980,
}


def model_of(name: str) -> ModelConfig:
    return ModelConfig(kind="classifier" if name in CLASSIFIERS else "segmenter", net=name)


def make(name: str) -> Net:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return build(model_of(name))


@pytest.mark.parametrize("name", PARAMETERS)
def test_as_many_parameters_as_in_the_study(name: str) -> None:
    assert sum(p.numel() for p in make(name).parameters() if p.requires_grad) == PARAMETERS[name]


def test_single_and_multi_heads_of_the_refined_pair_are_of_equal_size() -> None:
    sizes = {sum(p.numel() for p in make(f"cnn_deep_{head}").parameters()) for head in ("single", "multi")}
    # Convolutions, two batch norms a block, 128 maps of 14 x 48 px to 512, 512 to 4.
    assert sizes == {287_008 + 2 * 2 * (32 + 64 + 128) + (128 * 14 * 48 + 1) * 512 + 4 * 513}


@pytest.mark.parametrize("name", WITHOUT_ENCODER)
@pytest.mark.parametrize("shape", [(256, 1600), (128, 256), (256, 80)])
def test_segmenters_give_maps_of_any_width(name: str, shape: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert make(name).eval()(torch.zeros(1, 1, *shape, dtype=torch.uint8)).shape == (1, 4, *shape)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_give_four_logits_and_gradients(name: str) -> None:
    net = make(name)
    logits = net(torch.randint(0, 256, (2, 1, 256, 1600), dtype=torch.uint8))
    assert logits.shape == (2, 4)
    logits.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


# Optimizer of the study and a rate for four images; without normalisation the plain U-Net bears a lower one.
LEARNT_WITH: dict[str, tuple[Callable[..., torch.optim.Optimizer], float]] = {
    "fcn": (torch.optim.Adam, 1e-2),
    "unet_plain": (torch.optim.Adam, 2e-3),
    "unet_modified": (torch.optim.Adam, 1e-2),
    "unet_residual": (torch.optim.Adam, 1e-2),
    "cnn_single": (torch.optim.RMSprop, 1e-4),
}


@pytest.mark.parametrize("name", LEARNT_WITH)
def test_four_images_are_learnt_by_heart(name: str) -> None:
    """The loss falls by 90 %: forward, loss, gradients and optimizer belong together."""
    net = make(name)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    image = torch.full((4, 1, 64, 64), 80, dtype=torch.uint8)
    target = torch.zeros(4, 4, 64, 64)
    for k in range(4):
        image[k, 0, 8 : 24 + 8 * k, 16:48] = 140 + 30 * k
        target[k, k, 8 : 24 + 8 * k, 16:48] = 1
    if name in CLASSIFIERS:
        target = torch.eye(4)
    build_optimizer, lr = LEARNT_WITH[name]
    loss, optimizer = mixed({"bce": 1.0}), build_optimizer(net.parameters(), lr=lr)
    first = last = float(loss(net(image), target).detach())
    for _ in range(300):
        optimizer.zero_grad()
        value = loss(net(image), target)
        value.backward()
        optimizer.step()
        last = float(value.detach())
        if last < first / 10:
            return
    pytest.fail(f"loss {first:.3f} -> {last:.3f}")


def test_frozen_stages_neither_learn_nor_move_their_statistics() -> None:
    torch.set_num_threads(1)
    net = build(ModelConfig(kind="classifier", net="study_resnet50", options={"frozen_stages": 2}))
    learning = {n.split(".")[3] for n, p in net.named_parameters() if p.requires_grad and "backbone" in n}
    assert learning == {"layer2", "layer3", "layer4"}  # the stem and layer1 do not
    before = {n: v.clone() for n, v in net.state_dict().items() if "running" in n}
    net.train()(torch.randint(0, 256, (2, 1, 256, 1600), dtype=torch.uint8))
    moved = {n.split(".")[3] for n, v in net.state_dict().items() if "running" in n and not v.equal(before[n])}
    assert moved == {"layer2", "layer3", "layer4"}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelConfig(net="fcn", weights="imagenet"), "weights: 'imagenet' cannot be put into fcn, which has no enc"),
        (ModelConfig(net="unet_modified", options={"depth": 3}), "options: unet_modified has no option 'depth'; all"),
        (ModelConfig(kind="classifier", net="cnn_multi", weights="imagenet"), "weights: 'imagenet' cannot be put into"),
        (ModelConfig(kind="classifier", net="cnn_multi", options={"x": 1}), "net cnn_multi: refused: .*'x'"),
        (
            ModelConfig(kind="classifier", net="study_resnet50", options={"frozen_stages": 9}),
            r"options: frozen_stages is 9, allowed: 0\.\.5",
        ),
        (ModelConfig(net="unet"), "net: unknown name 'unet'; allowed: Unet, .*, fcn, unet_plain, "),
    ],
)
def test_one_line_on_what_is_wrong(model: ModelConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(model)
