"""The segmenters of the study that this kit grew out of; each (B, 1, H, W) float -> logits (B, 4, H, W).

H and W are multiples of 16 (`fcn`, `unet_modified`, `unet_residual`) or 32 (`unet_plain`). The study used Keras with
sigmoid outputs; here the sigmoid is part of the loss. Numbers of trainable parameters equal the study's.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steel.competition import N_CLASSES


def _conv(n_in: int, n_out: int, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2), nn.BatchNorm2d(n_out), nn.ReLU())


class Fcn(nn.Module):
    """Fully convolutional net with three skips (743,316 parameters)."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([_conv(1, 8), _conv(8, 16), _conv(16, 16), _conv(16, 32)])
        self.pool = nn.MaxPool2d(2)
        self.middle = nn.Sequential(_conv(32, 32, 5), nn.ConvTranspose2d(32, 256, 4, 2, 1))
        self.skip3 = nn.Sequential(nn.Conv2d(16, 64, 3, padding=1), nn.BatchNorm2d(64), nn.Dropout(dropout), nn.ReLU())
        self.up3 = nn.Sequential(
            _conv(256 + 64, 128),
            nn.Dropout(dropout),
            nn.ConvTranspose2d(128, 64, 4, 2, 1),
            _conv(64, 64),
            nn.Dropout(dropout),
        )
        self.skip2 = _conv(16, 32)
        self.up2 = nn.Sequential(nn.ConvTranspose2d(64 + 32, 32, 2, 2), _conv(32, 32))
        self.skip1 = _conv(8, 16)
        self.up1 = nn.Sequential(_conv(32 + 16, 8), nn.ConvTranspose2d(8, 8, 2, 2), nn.Conv2d(8, N_CLASSES, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        pools = []  # at 1/2, 1/4, 1/8 and 1/16 of the size
        for conv in self.encoder:
            x = self.pool(conv(x))
            pools.append(x)
        x = self.up3(torch.cat([self.middle(x), self.skip3(pools[2])], 1))  # 1/4
        x = self.up2(torch.cat([x, self.skip2(pools[1])], 1))  # 1/2
        return self.up1(torch.cat([x, self.skip1(pools[0])], 1))


def _pair(n_in: int, n_out: int) -> nn.Sequential:
    """Two convolutions with ReLU."""
    convs = [layer for n in (n_in, n_out) for layer in (nn.Conv2d(n, n_out, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*convs)


class _Unet(nn.Module):
    """Levels down with 2 x 2 pooling between, and up again with the maps of each level beside.

    A subclass sets `down` (one level more than `up`), `rise` (what doubles the size before each level of `up`), `up`
    and `head`.
    """

    down: nn.ModuleList
    rise: nn.ModuleList
    up: nn.ModuleList
    head: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        skips = []
        for level in self.down[:-1]:
            x = level(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.down[-1](x)
        for rise, level, skip in zip(self.rise, self.up, reversed(skips), strict=True):
            x = level(torch.cat([rise(x), skip], 1))
        return self.head(x)


class UnetPlain(_Unet):
    """U-Net with five levels, transposed convolutions on the way up, no normalisation (600,612 parameters)."""

    def __init__(self) -> None:
        super().__init__()
        down, up = (8, 16, 32, 64, 64, 128), (64, 32, 32, 16, 8)
        self.down = nn.ModuleList([_pair(a, b) for a, b in pairwise((1, *down))])
        self.rise = nn.ModuleList([nn.ConvTranspose2d(a, b, 2, 2) for a, b in pairwise((128, *up))])
        self.up = nn.ModuleList([_pair(b + skip, b) for b, skip in zip(up, down[-2::-1], strict=True)])
        self.head = nn.Conv2d(up[-1], N_CLASSES, 1)


def _leaky(conv: nn.Module, n: int) -> list[nn.Module]:
    return [conv, nn.LeakyReLU(0.01), nn.BatchNorm2d(n)]


class UnetModified(_Unet):
    """U-Net with LeakyReLU, batch norm, dropout and nearest up-sampling (492,492 parameters with `filters` 8)."""

    def __init__(self, filters: int = 8, dropout: float = 0.2) -> None:
        super().__init__()
        n = [filters * 2**i for i in range(5)]

        def level(n_in: int, i: int, conv: type[nn.Module]) -> nn.Sequential:
            first = [nn.Dropout(dropout)] if i >= 2 else []
            layers = [layer for a in (n_in, n[i]) for layer in _leaky(conv(a, n[i], 3, padding=1), n[i])]
            return nn.Sequential(*first, *layers)

        self.down = nn.ModuleList([level(1 if i == 0 else n[i - 1], i, nn.Conv2d) for i in range(5)])
        self.rise = nn.ModuleList([nn.Upsample(scale_factor=2) for _ in range(4)])
        self.up = nn.ModuleList([level(n[i + 1] + n[i], i, nn.ConvTranspose2d) for i in (3, 2, 1, 0)])
        self.head = nn.Conv2d(n[0], N_CLASSES, 1)


def _pre(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    """Batch norm, ReLU, convolution."""
    return nn.Sequential(nn.BatchNorm2d(n_in), nn.ReLU(), nn.Conv2d(n_in, n_out, 3, stride, 1))


class _Residual(nn.Module):
    """Two convolutions with a shortcut; `first` replaces the first where there is nothing yet to normalise."""

    def __init__(self, n_in: int, n_out: int, stride: int = 1, stem: bool = False) -> None:
        super().__init__()
        first = nn.Conv2d(n_in, n_out, 3, padding=1) if stem else _pre(n_in, n_out, stride)
        self.body = nn.Sequential(first, _pre(n_out, n_out))
        self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride), nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


class UnetResidual(nn.Module):
    """U-Net of pre-activation residual blocks, stride-2 encoder, nearest up-sampling (491,980 parameters)."""

    def __init__(self) -> None:
        super().__init__()
        n, up = (8, 16, 32, 64, 64), (64, 64, 32, 16)
        self.down = nn.ModuleList([_Residual(1, n[0], stem=True), *(_Residual(a, b, 2) for a, b in pairwise(n))])
        self.bridge = nn.Sequential(_pre(64, 64), _pre(64, 64))
        self.rise = nn.Upsample(scale_factor=2)
        steps = zip(pairwise((64, *up)), n[-2::-1], strict=True)
        self.up = nn.ModuleList([_Residual(a + skip, b) for (a, b), skip in steps])
        self.head = nn.Conv2d(up[-1], N_CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        found = []
        for level in self.down:
            x = level(x)
            found.append(x)
        x = self.bridge(x)
        for level, skip in zip(self.up, reversed(found[:-1]), strict=True):
            x = level(torch.cat([self.rise(x), skip], 1))
        return self.head(x)


# Nets of one piece by name: called as f(**options) -> nn.Module; they have no encoder to choose or to pretrain.
WITHOUT_ENCODER: dict[str, Callable[..., nn.Module]] = {
    "fcn": Fcn,
    "unet_plain": UnetPlain,
    "unet_modified": UnetModified,
    "unet_residual": UnetResidual,
}
