"""From the last maps of a backbone to four logits: poolings by name."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from steel.competition import N_CLASSES
from steel.errors import UserError


class Gem(nn.Module):
    """Generalised mean of each map with a learnt exponent: 1 is the mean, infinity the maximum.

    Source: Radenovic et al., Fine-tuning CNN Image Retrieval with No Human Annotation, 2018.
    """

    def __init__(self, p: float = 3.0) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C)."""
        # fp32 and a floor: small values to the third power vanish in half precision, and 0 has no gradient there.
        return x.float().clamp(min=1e-6).pow(self.p).mean((2, 3)).pow(1 / self.p)


class _By(nn.Module):
    """A pooling without parameters."""

    def __init__(self, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def _max(x: Tensor) -> Tensor:
    return x.amax((2, 3))


def _concat(x: Tensor) -> Tensor:
    return torch.cat([_mean(x), _max(x)], 1)


# Pooling by name: called as f() -> nn.Module, (B, C, H, W) -> (B, C), or (B, 2 C) for concat.
POOLS: dict[str, Callable[[], nn.Module]] = {
    "avg": lambda: _By(_mean),
    "max": lambda: _By(_max),
    "gem": Gem,
    "concat": lambda: _By(_concat),
}


class Pooled(nn.Module):
    """A backbone of timm without pooling, a pooling of POOLS, dropout, four logits.

    Shape: (B, 1, H, W) -> (B, 4). Raises UserError for a backbone that does not end in maps, such as a transformer.
    """

    def __init__(self, backbone: nn.Module, pool: str, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool = POOLS[pool]()
        size = getattr(getattr(backbone, "patch_embed", None), "img_size", None) or (224, 224)  # some take no other
        with torch.no_grad():
            maps = backbone.eval()(torch.zeros(1, 1, *size))
        backbone.train()
        if maps.ndim != 4:
            raise UserError(f"options: pool {pool} needs maps, the net ends in {tuple(maps.shape)}; allowed: no pool")
        n = self._channels_first(maps).shape[1] * (2 if pool == "concat" else 1)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(n, N_CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        return self.head(self.pool(self._channels_first(self.backbone(x))))

    def _channels_first(self, maps: Tensor) -> Tensor:
        last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"  # Swin and its like
        return maps.permute(0, 3, 1, 2) if last else maps
