"""From a model's configuration to its net: input scaling, the table lookup, and a trial at the sizes it is for."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from steel.competition import HEIGHT, N_CLASSES, WIDTH
from steel.config import ModelConfig
from steel.errors import UserError
from steel.nets.classifiers import classifier
from steel.nets.pointwise_shim import spare_strided_pointwise
from steel.nets.segmenters import segmenter, title
from steel.nets.weights import REFUSALS, refusing

# Mean and standard deviation of ImageNet, averaged over the channels: what pretrained encoders expect of a grey input.
GREY_MEAN, GREY_STD = 0.449, 0.226


class Outputs(NamedTuple):
    """What a net gives for B strips, as logits or as probabilities; a segmenter with a joint head gives both."""

    maps: Tensor | None
    """(B, 4, H, W), float: each pixel and class."""
    labels: Tensor | None
    """(B, 4), float: each class anywhere on the strip."""

    @property
    def main(self) -> Tensor:
        """The maps where there are any, else the labels."""
        found = self.labels if self.maps is None else self.maps
        assert found is not None
        return found


class Net(nn.Module):
    """A net on uint8 strips: scales its input, and brings its maps back to full size.

    `body`: (B, 1, h, w) float -> (B, 4, h, w), (B, 4), or a tuple of both; another shape is a ValueError.

    Shape:
        input (B, 1, H, W) uint8, H and W multiples of 32 * downscale or padded to them with zeros;
        maps (B, 4, H, W), or without `full_size` (B, 4, H / downscale, W / downscale); labels (B, 4).
    """

    def __init__(self, body: nn.Module, downscale: int) -> None:
        super().__init__()
        self.body = body
        self.downscale = downscale

    def forward(self, image: Tensor, full_size: bool = True) -> Outputs:
        """Outputs of a batch; training takes the maps at the net's own size, where the loss is cheaper."""
        height, width = image.shape[-2:]
        step = 32 * self.downscale
        x = F.pad(image, (0, -width % step, 0, -height % step))
        x = (x.float() / 255 - GREY_MEAN) / GREY_STD
        if self.downscale > 1:
            x = F.avg_pool2d(x, self.downscale)
        if x.shape[1] == 1:  # one channel satisfies both memory formats: say which is meant
            x = x.contiguous(memory_format=torch.channels_last)
        maps, labels = _told_apart(self.body(x), x)
        if maps is not None and self.downscale > 1 and not full_size:
            maps = maps[..., : height // self.downscale, : width // self.downscale]
        elif maps is not None:
            if self.downscale > 1:
                maps = F.interpolate(maps, scale_factor=self.downscale, mode="bilinear")
            maps = maps[..., :height, :width]
        return Outputs(maps, labels)


def build(model: ModelConfig, pretrained: bool = True) -> Net:
    """The net of a model, on the CPU; `pretrained=False` leaves out the weights that a checkpoint will bring anyway.

    Raises UserError for whatever would fail at the first step; without `pretrained` the net has passed that before.
    """
    weights = model.weights if pretrained else None
    body = classifier(model, weights) if model.kind == "classifier" else segmenter(model, weights)
    net = Net(body, model.downscale)
    if pretrained:
        try_out(net, model)
    return net


def place(net: Net, device: torch.device) -> Net:
    """Move a net to its device, its filters with channels last (a third faster on a CPU; see `benchmarks/`)."""
    if device.type == "cpu":
        spare_strided_pointwise(net)
    return net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def try_out(net: Net, model: ModelConfig) -> None:
    """Refuse a net that cannot take a full strip or the crops of a phase, or that gives what its kind does not mean.

    About .1 s: on torch's meta device sizes are computed, values are not. Neither the net nor the state of the random
    numbers changes; the net is left in the mode of training.
    """
    batch = {(WIDTH, model.downscale): 2}
    for phase in model.phases:
        at = phase.width, phase.downscale or model.downscale
        batch[at] = min(phase.batch, phase.samples or 2, batch.get(at, 2))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for (width, downscale), n in batch.items():
            trial = Net(net.body, downscale).train(n == 1)  # a batch norm may refuse a single value, in training only
            with refusing(f"{title(model)}: refused at {HEIGHT} x {width} px, downscale {downscale}, batch {n}"):
                _check_kind(_forward(trial, torch.zeros(n, 1, HEIGHT, width, dtype=torch.uint8)), model)
    net.train()


def _forward(net: Net, image: Tensor) -> Outputs:
    """A forward pass on copies of all weights and statistics: without values, or where these are needed, with them."""
    weights = dict(net.named_parameters()) | dict(net.named_buffers())
    try:
        without = {name: value.detach().to("meta") for name, value in weights.items()}
        return functional_call(net, without, (image.to("meta"),))
    except REFUSALS:
        return functional_call(net, {name: value.detach().clone() for name, value in weights.items()}, (image,))


def _check_kind(logits: Outputs, model: ModelConfig) -> None:
    given = [name for name, x in logits._asdict().items() if x is not None]
    allowed = ["labels"] if model.kind == "classifier" else ["maps", "labels"] if model.gate_weight else ["maps"]
    if given != allowed:
        raise UserError(f"{title(model)}: gives {' and '.join(given)}; allowed: {' and '.join(allowed)}")


def _told_apart(output: Tensor | tuple[Tensor, ...], x: Tensor) -> Outputs:
    """Maps and labels among what a body gives for `x`."""
    outputs = output if isinstance(output, tuple) else (output,)
    maps_shape, labels_shape = (len(x), N_CLASSES, *x.shape[-2:]), (len(x), N_CLASSES)
    maps = [y for y in outputs if y.shape == maps_shape]
    labels = [y for y in outputs if y.shape == labels_shape]
    if max(len(maps), len(labels)) > 1 or len(maps) + len(labels) != len(outputs):
        shapes = ", ".join(str(tuple(y.shape)) for y in outputs)
        raise ValueError(f"it gives {shapes}; allowed: one of {maps_shape}, one of {labels_shape}")
    return Outputs(maps[0] if maps else None, labels[0] if labels else None)
