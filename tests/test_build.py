"""The net around the net: input scaling, padding, reduction and the way back."""

import pytest
import torch
from torch import Tensor, nn

from steel.config import ModelConfig, Phase
from steel.errors import UserError
from steel.nets.build import GREY_MEAN, GREY_STD, Net, build
from steel.nets.segmenters import segmenter


class Echo(nn.Module):
    """Gives its input as four maps, and remembers it."""

    seen: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return x.expand(-1, 4, -1, -1)


def grey(x: Tensor) -> Tensor:
    """Back from the scale of the net to 0..255."""
    return (x * GREY_STD + GREY_MEAN) * 255


def maps_of(net: Net, image: Tensor, full_size: bool = True) -> Tensor:
    maps = net(image, full_size).maps
    assert maps is not None
    return maps


def test_scale_by_eye() -> None:
    echo = Echo()
    Net(echo, 1)(torch.tensor([0, 114, 255], dtype=torch.uint8).view(1, 1, 1, 3))
    assert echo.seen[0, 0, 0, :3].tolist() == pytest.approx([-1.987, -0.0086, 2.438], abs=1e-3)


def test_padded_with_black_below_and_right_and_cut_again() -> None:
    echo = Echo()
    image = torch.randint(0, 256, (2, 1, 40, 70), dtype=torch.uint8)
    maps = maps_of(Net(echo, 1), image)
    assert echo.seen.shape == (2, 1, 64, 96)
    assert echo.seen.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(grey(maps), image.float().expand(-1, 4, -1, -1), atol=1e-3, rtol=0)
    assert (grey(echo.seen[:, :, 40:]).abs() < 1e-3).all() and (grey(echo.seen[..., 70:]).abs() < 1e-3).all()


@pytest.mark.parametrize(("factor", "seen"), [(2, (128, 800)), (4, (64, 416))])  # 1600 / 4 = 400 is no multiple of 32
def test_reduced_by_means_and_brought_back(factor: int, seen: tuple[int, int]) -> None:
    echo = Echo()
    image = torch.zeros(1, 1, 256, 1600, dtype=torch.uint8)
    image[..., ::2] = 200  # columns of 200 and 0: mean 100
    maps = maps_of(Net(echo, factor), image)
    assert echo.seen.shape[-2:] == seen and maps.shape == (1, 4, 256, 1600)
    assert (grey(echo.seen[..., : 1600 // factor]) - 100).abs().max() < 1e-3
    assert (grey(maps[..., :1590]) - 100).abs().max() < 1e-3


def test_an_edge_keeps_its_place() -> None:
    image = torch.zeros(1, 1, 64, 128, dtype=torch.uint8)
    image[..., 64:] = 255
    maps = grey(maps_of(Net(Echo(), 2), image))[0, 0, 0]
    assert (maps[:62] < 1).all() and (maps[66:] > 254).all()
    assert ((maps[:64] < 127.5) & (maps[64:] > 127.5).flip(0)).all()  # symmetric about the edge: no shift


@pytest.mark.parametrize(("factor", "width"), [(1, 70), (2, 35), (4, 17)])  # whole cells only
def test_training_takes_maps_at_the_size_of_the_net(factor: int, width: int) -> None:
    image = torch.zeros(1, 1, 40, 70, dtype=torch.uint8)
    assert maps_of(Net(Echo(), factor), image, full_size=False).shape == (1, 4, 40 // factor, width)


class Says(nn.Module):
    """Gives what it was told to, for any input."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.outputs = tuple(torch.rand(shape) for shape in shapes)

    def forward(self, _x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.outputs if len(self.outputs) > 1 else self.outputs[0]


MAPS, LABELS = (2, 4, 32, 64), (2, 4)


@pytest.mark.parametrize("shapes", [(MAPS,), (LABELS,), (MAPS, LABELS), (LABELS, MAPS)])
def test_maps_and_labels_are_told_apart(shapes: tuple[tuple[int, ...], ...]) -> None:
    body = Says(*shapes)
    found = Net(body, 1)(torch.zeros(2, 1, 32, 64, dtype=torch.uint8))
    for shape, got in ((MAPS, found.maps), (LABELS, found.labels)):
        told = [x for x in body.outputs if x.shape == shape]
        assert got is None if not told else got is not None and torch.equal(got, told[0])


@pytest.mark.parametrize("shapes", [((2, 5),), ((2, 4, 16, 32),), (MAPS, MAPS), (MAPS, LABELS, LABELS), (MAPS, (2, 5))])
def test_other_outputs_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"it gives \(2, .*; allowed: one of \(2, 4, 32, 64\), one of \(2, 4\)"):
        Net(Says(*shapes), 1)(torch.zeros(2, 1, 32, 64, dtype=torch.uint8))


class Own(nn.Module):
    """A net of one's own that looks at values, which a trial without values cannot."""

    def __init__(self, dense: bool) -> None:
        super().__init__()
        self.dense, self.norm, self.drop = dense, nn.BatchNorm2d(1), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.norm(x))
        x = x / float(x.abs().max() + 1)
        return x.expand(-1, 4, -1, -1) if self.dense else x.mean((2, 3)).expand(-1, 4)


def own_segmenter(**_options: object) -> nn.Module:
    return Own(dense=True)


def own_classifier(**_options: object) -> nn.Module:
    return Own(dense=False)


@pytest.mark.parametrize("model", [ModelConfig(net="test_build:own_segmenter"), ModelConfig(encoder="tu-test_resnet")])
def test_the_trial_changes_nothing(model: ModelConfig) -> None:
    """Weights, statistics and the next random numbers are those of a net that was not tried."""
    torch.manual_seed(0)
    bare = segmenter(model, None).state_dict()
    after = torch.rand(3)
    torch.manual_seed(0)
    net = build(ModelConfig(**{**vars(model), "phases": [Phase(width=64, batch=1)]}))  # batch 1: in training mode
    assert torch.equal(torch.rand(3), after)
    tried = net.body.state_dict()
    assert bare.keys() == tried.keys() and all(torch.equal(value, tried[name]) for name, value in bare.items())
    assert all(module.training for module in net.modules()) and net.downscale == 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelConfig(kind="classifier", net="test_build:own_segmenter"), "net .*: gives maps; allowed: labels"),
        (ModelConfig(net="test_build:own_classifier"), "net .* on encoder .*: gives labels; allowed: maps"),
    ],
)
def test_a_net_of_another_kind_is_refused(model: ModelConfig, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        build(model)


def test_without_pretrained_nothing_is_read() -> None:
    model = ModelConfig(encoder="tu-mobilenetv4_conv_small_050", weights="no/such/file.pt")
    assert isinstance(build(model, pretrained=False), Net)


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat(
            [p.flatten() for p in build(ModelConfig(encoder="tu-mobilenetv4_conv_small_050")).parameters()]
        )

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))
