"""Test-time augmentation: views of a strip, and how to bring their maps back."""

from torch import Tensor

# Axes that each view flips; flipping twice is the identity, so the same axes bring a map back.
VIEWS: dict[str, tuple[int, ...]] = {"identity": (), "hflip": (3,), "vflip": (2,), "hvflip": (2, 3)}


def to_view(image: Tensor, view: str) -> Tensor:
    """The view of a batch (B, C, H, W), and the way back."""
    return image.flip(VIEWS[view]) if VIEWS[view] else image


def from_view(prob: Tensor, view: str) -> Tensor:
    """Maps (B, 4, H, W) of a view, brought back; probabilities (B, 4) have no place and stay."""
    return to_view(prob, view) if prob.ndim == 4 else prob
