"""The net around the net: input scaling, padding, reduction and the way back."""

import pytest
import torch
from torch import Tensor, nn

from steel.config import ModelConfig
from steel.nets.build import GREY_MEAN, GREY_STD, Net, build


class Echo(nn.Module):
    """Gives its input as four maps, and remembers it."""

    seen: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return x.expand(-1, 4, -1, -1)


def grey(x: Tensor) -> Tensor:
    """Back from the scale of the net to 0..255."""
    return (x * GREY_STD + GREY_MEAN) * 255


def test_scale_by_eye() -> None:
    echo = Echo()
    Net(echo, 1)(torch.tensor([0, 114, 255], dtype=torch.uint8).view(1, 1, 1, 3))
    assert echo.seen[0, 0, 0, :3].tolist() == pytest.approx([-1.987, -0.0086, 2.438], abs=1e-3)


def test_padded_with_black_below_and_right_and_cut_again() -> None:
    echo = Echo()
    image = torch.randint(0, 256, (2, 1, 40, 70), dtype=torch.uint8)
    maps = Net(echo, 1)(image)
    assert echo.seen.shape == (2, 1, 64, 96)
    assert echo.seen.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(grey(maps), image.float().expand(-1, 4, -1, -1), atol=1e-3, rtol=0)
    assert (grey(echo.seen[:, :, 40:]).abs() < 1e-3).all() and (grey(echo.seen[..., 70:]).abs() < 1e-3).all()


@pytest.mark.parametrize(("factor", "seen"), [(2, (128, 800)), (4, (64, 416))])  # 1600 / 4 = 400 is no multiple of 32
def test_reduced_by_means_and_brought_back(factor: int, seen: tuple[int, int]) -> None:
    echo = Echo()
    image = torch.zeros(1, 1, 256, 1600, dtype=torch.uint8)
    image[..., ::2] = 200  # columns of 200 and 0: mean 100
    maps = Net(echo, factor)(image)
    assert echo.seen.shape[-2:] == seen and maps.shape == (1, 4, 256, 1600)
    assert (grey(echo.seen[..., : 1600 // factor]) - 100).abs().max() < 1e-3
    assert (grey(maps[..., :1590]) - 100).abs().max() < 1e-3


def test_an_edge_keeps_its_place() -> None:
    image = torch.zeros(1, 1, 64, 128, dtype=torch.uint8)
    image[..., 64:] = 255
    maps = grey(Net(Echo(), 2)(image))[0, 0, 0]
    assert (maps[:62] < 1).all() and (maps[66:] > 254).all()
    assert ((maps[:64] < 127.5) & (maps[64:] > 127.5).flip(0)).all()  # symmetric about the edge: no shift


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
