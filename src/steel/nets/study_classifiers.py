"""The classifiers of the study that this kit grew out of; each (B, 1, H, W) float -> logits (B, 4).

They reduce a strip by area to a size of their own, see it as RGB, and flatten what the convolutions leave instead of
pooling it: nearly all parameters lie in the one layer after. A head is one layer of four outputs or four layers of one
output each, which compute the same; the study trained both. Numbers of trainable parameters equal the study's.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steel.competition import N_CLASSES
from steel.errors import UserError
from steel.nets.torchvision_shim import ensure_torchvision_imports

ensure_torchvision_imports()
import timm  # noqa: E402 (after the shim)

Size = tuple[int, int]  # height and width, px


class Flattened(nn.Module):
    """Area resize to `size`, grey as RGB, `body`, flatten, dense layers.

    `dense` gets the number of values that the body leaves of an image.
    """

    def __init__(self, size: Size, body: nn.Module) -> None:
        super().__init__()
        self.size, self.body = size, body
        self.dense: nn.Module = nn.Identity()

    def n_values(self) -> int:
        """Values that the body leaves of an image."""
        with torch.no_grad():
            return self.body.eval()(torch.zeros(1, 3, *self.size)).numel()

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        x = F.interpolate(x, self.size, mode="area").expand(-1, 3, -1, -1)
        return self.dense(self.body(x).flatten(1))


class Heads(nn.Module):
    """One linear layer of one output for every class."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.classes = nn.ModuleList([nn.Linear(n, 1) for _ in range(N_CLASSES)])

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        return torch.cat([head(x) for head in self.classes], 1)


def cnn_single() -> nn.Module:
    """Five convolutions, one head, 128 x 256 px (27,667,108 parameters)."""
    last = [nn.Conv2d(64, 128, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.4)]
    body = nn.Sequential(*_block(3, 32), nn.Dropout(0.3), *_block(32, 64), nn.Dropout(0.4), *last)
    net = Flattened((128, 256), body)
    net.dense = nn.Sequential(nn.Linear(net.n_values(), 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, N_CLASSES))
    return net.train()


def cnn_multi() -> nn.Module:
    """Four convolutions, batch norm after the poolings, four heads, 128 x 256 px (61,017,828 parameters)."""
    first = [*_block(3, 32), nn.BatchNorm2d(32), nn.Dropout(0.2)]
    net = Flattened((128, 256), nn.Sequential(*first, *_block(32, 64), nn.BatchNorm2d(64), nn.Dropout(0.4)))
    dense = nn.Linear(net.n_values(), 512)
    net.dense = nn.Sequential(dense, nn.BatchNorm1d(512), nn.ReLU(), nn.Dropout(0.5), Heads(512))
    return net.train()


def cnn_deep_single() -> nn.Module:
    """Six convolutions in three blocks, one head, 128 x 400 px."""
    return _deep(nn.Linear(512, N_CLASSES))


def cnn_deep_multi() -> nn.Module:
    """Six convolutions in three blocks, four heads, 128 x 400 px."""
    return _deep(Heads(512))


def _deep(head: nn.Module) -> nn.Module:
    """Blocks of 32, 64 and 128 filters, each with dropout of .3 after it; the study does not give its rates."""
    layers: list[nn.Module] = []
    for n_in, n_out in ((3, 32), (32, 64), (64, 128)):
        for conv in (nn.Conv2d(n_in, n_out, 3, padding=1), nn.Conv2d(n_out, n_out, 3)):
            layers += [conv, nn.LeakyReLU(), nn.BatchNorm2d(n_out)]
        layers += [nn.MaxPool2d(2), nn.Dropout(0.3)]
    net = Flattened((128, 400), nn.Sequential(*layers))
    net.dense = nn.Sequential(nn.Linear(net.n_values(), 512), nn.ReLU(), nn.Dropout(0.5), head)
    return net.train()


def _block(n_in: int, n_out: int) -> list[nn.Module]:
    """Two convolutions with ReLU, the second unpadded, and pooling."""
    return [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU(), nn.Conv2d(n_out, n_out, 3), nn.ReLU(), nn.MaxPool2d(2)]


class Frozen(nn.Module):
    """A timm backbone without pooling and head whose first stages do not learn, (B, 3, H, W) -> (B, C, h, w).

    A stage reaches to the next halving of the size (timm's `feature_info`); frozen batch norms keep their statistics.
    """

    def __init__(self, backbone: nn.Module, n_stages: int) -> None:
        super().__init__()
        self.backbone = backbone
        stages = [info["module"].split(".")[0] for info in backbone.feature_info]  # type: ignore[union-attr]
        if not 0 <= n_stages <= len(stages):
            raise UserError(f"options: frozen_stages is {n_stages}, allowed: 0..{len(stages)}")
        children = list(backbone.named_children())
        names = [name for name, _ in children]
        end = names.index(stages[n_stages - 1]) + 1 if n_stages else 0
        self.frozen = [child for _, child in children[:end]]  # a plain list: the backbone owns them
        for child in self.frozen:
            child.requires_grad_(False)

    def train(self, mode: bool = True) -> "Frozen":
        """Training mode for what learns."""
        super().train(mode)
        for child in self.frozen:
            child.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Features of a batch."""
        return self.backbone(x)


def transfer(name: str, pretrained: bool, frozen_stages: int = 0, size: Size = (128, 256)) -> nn.Module:
    """The study's fine-tuned nets: a timm backbone, dropout .5, flatten, dense 128, dropout .3, dense 256, 4 logits."""
    backbone = timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="")
    net = Flattened((size[0], size[1]), Frozen(backbone, frozen_stages))
    first = [nn.Dropout(0.5), nn.Linear(net.n_values(), 128), nn.ReLU(), nn.Dropout(0.3)]
    net.dense = nn.Sequential(*first, nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, N_CLASSES))
    return net.train()
