"""From a model's configuration to its net: input scaling, the table lookup, pretrained weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steel.config import ModelConfig
from steel.nets.classifiers import classifier
from steel.nets.segmenters import segmenter

# Mean and standard deviation of ImageNet, averaged over the channels: what pretrained encoders expect of a grey input.
GREY_MEAN, GREY_STD = 0.449, 0.226


class Net(nn.Module):
    """A net on uint8 strips: scales its input, and brings the maps of a segmenter back to full size.

    Shape:
        input (B, 1, H, W) uint8, H and W multiples of 32 * downscale or padded to them with zeros;
        output logits: segmenter (B, 4, H, W), or without `full_size` (B, 4, H / downscale, W / downscale);
        classifier (B, 4).
    """

    def __init__(self, body: nn.Module, downscale: int) -> None:
        super().__init__()
        self.body = body
        self.downscale = downscale

    def forward(self, image: Tensor, full_size: bool = True) -> Tensor:
        """Logits of a batch; training takes them at the net's own size, where the loss is cheaper."""
        height, width = image.shape[-2:]
        step = 32 * self.downscale
        x = F.pad(image, (0, -width % step, 0, -height % step))
        x = (x.float() / 255 - GREY_MEAN) / GREY_STD
        if self.downscale > 1:
            x = F.avg_pool2d(x, self.downscale)
        if x.shape[1] == 1:  # one channel satisfies both memory formats: say which is meant
            x = x.contiguous(memory_format=torch.channels_last)
        logits = self.body(x)
        if logits.ndim == 2:
            return logits
        if self.downscale > 1 and not full_size:
            return logits[..., : height // self.downscale, : width // self.downscale]
        if self.downscale > 1:
            logits = F.interpolate(logits, scale_factor=self.downscale, mode="bilinear")
        return logits[..., :height, :width]


def build(model: ModelConfig, pretrained: bool = True) -> Net:
    """The net of a model, on the CPU; `pretrained=False` leaves out the weights that a checkpoint will bring anyway."""
    weights = model.weights if pretrained else None
    body = classifier(model, weights) if model.kind == "classifier" else segmenter(model, weights)
    return Net(body, model.downscale)


def place(net: Net, device: torch.device) -> Net:
    """Move a net to its device, its filters with channels last (a third faster on a CPU; see `benchmarks/`)."""
    return net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
