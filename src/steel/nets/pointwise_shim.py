"""A way around an error of oneDNN, which torch computes convolutions with on a CPU."""

from typing import Any

from torch import Tensor, nn

LEAST_CHANNELS = 16  # of a block with AVX-512; 8 with AVX2


def spare_strided_pointwise(net: nn.Module) -> None:
    """Let 1 x 1 convolutions with a stride pick their pixels first and go without the stride; the values are the same.

    With channels last and fewer input channels than a block, oneDNN's gradient of such a convolution writes past its
    workspace: the program dies, or the gradient is wrong (uxlfoundation/oneDNN issue 6035, open in torch 2.13).
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and _suffers(layer):
            layer.register_forward_pre_hook(_Pick(layer.stride[0], layer.stride[1]))
            layer.stride = (1, 1)


def _suffers(layer: nn.Conv2d) -> bool:
    few = layer.in_channels // layer.groups < LEAST_CHANNELS
    return few and layer.kernel_size == (1, 1) and layer.stride != (1, 1) and layer.padding in ((0, 0), "valid")


class _Pick:
    """The pixels that a stride would meet."""

    def __init__(self, down: int, right: int) -> None:
        self.down, self.right = down, right

    def __call__(self, _layer: nn.Module, args: tuple[Any, ...]) -> Tensor:
        """What the convolution gets instead."""
        x: Tensor = args[0]
        return x[..., :: self.down, :: self.right]
