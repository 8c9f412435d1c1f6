"""Every optimizer of the table by hand and against torch's plain form; the groups by name; going on from a state."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steel.config import ModelConfig
from steel.errors import UserError
from steel.fit.optim import OPTIMIZERS, optimizer_for
from steel.nets.build import build

FPN = ModelConfig(net="FPN", encoder="tu-test_resnet")
RESNET = ModelConfig(kind="classifier", net="test_resnet")

# One step of rate .1 on w ** 2 from w = 3, where the gradient is 6.
FIRST_STEP = {
    "adamw": 2.9,  # g / sqrt(g ** 2) = 1
    "adam": 2.9,
    "sgd": 1.86,  # 6 + .9 * 6 = 11.4
    "rmsprop": 2.0,  # 6 / sqrt(.01 * 36) = 10
    "radam": 2.4,  # not yet rectified: 6
    "nadam": 2.8944,  # 1 + .1 * .45015 / (1 - .45007 * .45015) = 1.0565
    "lion": 2.9,  # sign(g) = 1
}
# One step of rate .1 with decay .5 from w = 4 without a gradient: 4 * (1 - .1 * .5) where decay is decoupled.
DECAY_STEP = {
    "adamw": 3.8,
    "adam": 3.9,  # a gradient of .5 * 4 = 2, and thus a step of .1
    "sgd": 3.62,  # .1 * (2 + .9 * 2)
    "rmsprop": 3.0,  # .1 * 2 / sqrt(.01 * 4)
    "radam": 3.8,
    "nadam": 3.8,
    "lion": 3.8,
}
PLAIN: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "adamw": (torch.optim.AdamW, {"weight_decay": 0}),
    "adam": (torch.optim.Adam, {}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
}


class Weight(nn.Module):
    """One weight, of the shape of a matrix, so that it decays."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((1, 1), value))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_first_step_on_a_parabola_by_hand(name: str) -> None:
    net = Weight(3.0)
    optimizer = optimizer_for(net, name, lr=0.1, weight_decay=0.0)
    net.w.square().sum().backward()
    optimizer.step()
    assert net.w.item() == pytest.approx(FIRST_STEP[name], abs=1e-4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_by_hand(name: str) -> None:
    net = Weight(4.0)
    optimizer = optimizer_for(net, name, lr=0.1, weight_decay=0.5)
    net.w.grad = torch.zeros(1, 1)
    optimizer.step()
    assert net.w.item() == pytest.approx(DECAY_STEP[name], abs=1e-4)


def small_net() -> nn.Module:
    """Filters with channels last, as in a training: plain, depthwise, 1 x 1.

    No bias before the batch norm: its gradient is rounding error, which Adam would blow up.
    """
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 1),
    ]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def fit(net: nn.Module, optimizer: Optimizer, steps: range) -> Tensor:
    """Take some steps; step i is a function of i; all weights and statistics afterwards, in one vector."""
    for step in steps:
        torch.manual_seed(step)
        x = torch.randn(4, 1, 12, 12).contiguous(memory_format=torch.channels_last)
        (net(x) - 1).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return torch.cat([value.flatten() for value in net.state_dict().values()])


@pytest.mark.parametrize("name", PLAIN)
def test_fused_equals_plain(name: str) -> None:
    net, other = small_net(), small_net()
    found = fit(net, optimizer_for(net, name, 0.01, weight_decay=0.0), range(5))
    plain, options = PLAIN[name]
    expected = fit(other, plain(other.parameters(), lr=0.01, foreach=False, fused=False, **options), range(5))  # type: ignore[call-arg]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_loaded_state_goes_on_bit_for_bit(name: str) -> None:
    whole = small_net()
    expected = fit(whole, optimizer_for(whole, name, 0.01, 0.1), range(8))
    first = small_net()
    optimizer, file = optimizer_for(first, name, 0.01, 0.1), io.BytesIO()
    fit(first, optimizer, range(5))
    torch.save({"net": first.state_dict(), "optimizer": optimizer.state_dict()}, file)
    state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    second = small_net()
    second.load_state_dict(state["net"])
    optimizer = optimizer_for(second, name, 0.01, 0.1)
    optimizer.load_state_dict(state["optimizer"])
    assert torch.equal(fit(second, optimizer, range(5, 8)), expected)


def test_only_weights_are_decayed() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    optimizer = optimizer_for(net, "adamw", 1e-3, weight_decay=0.3)
    expected = {"0.weight": 0.3, "0.bias": 0, "1.weight": 0, "1.bias": 0, "2.weight": 0.3, "2.bias": 0}
    assert by_name(net, optimizer, "weight_decay") == expected


def by_name(net: nn.Module, optimizer: Optimizer, key: str) -> dict[str, float]:
    """What the groups say about each weight in them, each once."""
    pairs = [(id(p), group[key]) for group in optimizer.param_groups for p in group["params"]]
    found = dict(pairs)
    assert len(found) == len(pairs)
    return {name: found[id(p)] for name, p in net.named_parameters() if id(p) in found}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("model", [FPN, RESNET], ids=["segmenter", "classifier"])
def test_the_encoder_has_a_rate_of_its_own(model: ModelConfig, name: str) -> None:
    net = build(model)
    optimizer = optimizer_for(net, name, 0.01, weight_decay=0.3, encoder_lr=0.1)
    scales = by_name(net, optimizer, "lr_scale")
    decays = by_name(net, optimizer, "weight_decay")
    assert scales == {name: 0.1 if is_encoder(name, model) else 1.0 for name, _ in net.named_parameters()}
    assert decays == {name: 0.3 if p.ndim > 1 else 0.0 for name, p in net.named_parameters()}
    assert all(group["lr"] == pytest.approx(0.01 * group["lr_scale"]) for group in optimizer.param_groups)


def is_encoder(name: str, model: ModelConfig) -> bool:
    """Whether a weight belongs to the encoder, by its name."""
    return name.startswith("body.encoder.") if model is FPN else name not in ("body.fc.weight", "body.fc.bias")


def test_some_names_of_the_encoder_by_eye() -> None:
    for model, inside, outside in (
        (FPN, "body.encoder.model.conv1.0.weight", "body.segmentation_head.0.weight"),
        (RESNET, "body.layer1.0.conv1.weight", "body.fc.bias"),
    ):
        net = build(model)
        scales = by_name(net, optimizer_for(net, "adamw", 0.01, 0.3, encoder_lr=0.1), "lr_scale")
        assert (scales[inside], scales[outside]) == (0.1, 1.0)


@pytest.mark.parametrize("prefix", ["", "body."])
def test_a_backbone_is_an_encoder(prefix: str) -> None:
    body = nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    if prefix:  # a layer that reduces, and a head, around it
        body = nn.ModuleDict({"body": body, "dense": nn.Linear(2, 2)})
    optimizer = optimizer_for(nn.ModuleDict({"body": body}), "adamw", 0.01, 0.3, encoder_lr=0.1)
    scales = by_name(body, optimizer, "lr_scale")
    inside = {f"{prefix}backbone.weight", f"{prefix}backbone.bias"}
    assert scales == {name: 0.1 if name in inside else 1.0 for name, _ in body.named_parameters()}


def test_without_a_rate_of_its_own_there_are_two_groups() -> None:
    groups = optimizer_for(build(FPN), "adamw", 0.01, 0.3).param_groups
    assert [(group["lr_scale"], group["weight_decay"]) for group in groups] == [(1.0, 0.3), (1.0, 0.0)]


@pytest.mark.parametrize("model", [FPN, RESNET], ids=["segmenter", "classifier"])
def test_a_frozen_encoder_keeps_its_weights_and_learns_its_statistics(model: ModelConfig) -> None:
    torch.manual_seed(0)
    net = build(model).train()
    optimizer = optimizer_for(net, "sgd", 0.1, weight_decay=0.1, encoder_lr=0.0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net(torch.randint(0, 256, (4, 1, 64, 64), dtype=torch.uint8)).main.square().mean().backward()
    optimizer.step()
    frozen = {name: torch.equal(value, before[name]) for name, value in net.state_dict().items()}
    for name, p in net.named_parameters():
        assert frozen[name] == is_encoder(name, model) == (p.grad is None), name
    statistics = [name for name in frozen if name.endswith("running_mean") and is_encoder(name, model)]
    assert statistics and not any(frozen[name] for name in statistics)


def test_weights_frozen_by_the_net_itself_stay_out() -> None:
    net = build(RESNET)
    net.get_parameter("body.layer1.0.conv1.weight").requires_grad_(False)
    found = by_name(net, optimizer_for(net, "adamw", 0.01, 0.3), "lr")
    assert {name for name, _ in net.named_parameters()} - set(found) == {"body.layer1.0.conv1.weight"}


def test_options_reach_the_optimizer() -> None:
    groups = optimizer_for(Weight(1.0), "adamw", 0.1, 0.0, options={"betas": [0.8, 0.95], "eps": 1e-6}).param_groups
    assert all(group["betas"] == (0.8, 0.95) and group["eps"] == 1e-6 for group in groups)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adamax", {}, "optimizer: unknown name 'adamax'; allowed: adamw, adam, sgd, rmsprop, radam, nadam, lion"),
        ("sgd", {"betas": [0.9, 0.9]}, "sgd has no option 'betas'; allowed: momentum, nesterov$"),
        ("lion", {"lr": 1.0}, "lion has no option 'lr'; allowed: betas, caution$"),
        ("adam", {"betas": [0.9]}, "optimizer_options: adam refuses {'betas': \\[0.9\\]}: not enough values"),
        ("adamw", {"betas": 0.9}, "optimizer_options: adamw refuses {'betas': 0.9}: "),
        ("radam", {"betas": [0.9, 2.0]}, "optimizer_options: radam refuses .*: Invalid beta"),
        ("rmsprop", {"eps": "small"}, "optimizer_options: rmsprop refuses "),
        ("sgd", {"momentum": 0.0}, "optimizer_options: sgd refuses .*Nesterov"),
    ],
)
def test_bad_options(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        optimizer_for(Weight(1.0), name, 0.1, 0.0, options=options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoder_lr", [0.0, 0.1])
def test_no_encoder(encoder_lr: float) -> None:
    with pytest.raises(
        UserError, match=r"encoder_lr: 0\.\d needs an encoder and a head, which Weight has not; allowed: 1"
    ):
        optimizer_for(Weight(1.0), "adamw", 0.1, 0.0, encoder_lr)
