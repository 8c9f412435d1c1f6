"""How near the training loop comes to the speed of its net: epochs of real samples, against one batch held in memory.

    python benchmarks/full.py --net "the demo's FPN" --n 5

Both sides are `Trainer.epoch` itself, in turn; the second gets the same batch again and again, already on the device.
What the first does not reach of the second's rate goes into samples: reading, cropping, augmenting, copying. The strips
are synthetic, and small enough in number to lie in the system's memory. On a GPU take more steps, such as --steps 100:
the workers start with each epoch. On a machine that others use too, --cpu-time is the fairer figure: that of all
threads of this process, which makes the samples itself where there is no GPU.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import compare, machine, table
from samples import strips_of, texts_of

from steel.competition import WIDTH
from steel.config import MachineConfig, ModelConfig, Phase
from steel.data.cache import Strips
from steel.data.synth import write_dataset
from steel.fit.trainer import Trainer

N_STRIPS = 48
NETS: dict[str, ModelConfig] = {
    "the demo's FPN": ModelConfig(
        net="FPN",
        encoder="tu-mobilenetv4_conv_small_050",
        options={"decoder_pyramid_channels": 64, "decoder_segmentation_channels": 32},
        downscale=2,
    ),
    "resnet18-Unet": ModelConfig(net="Unet", encoder="resnet18"),
    "resnet34-Unet": ModelConfig(net="Unet", encoder="resnet34"),
}
WAYS: dict[str, tuple[dict[str, Any], str]] = {  # keys of the machine, recipe
    "workers, medium": ({}, "medium"),
    "workers, light": ({}, "light"),
    "device, light": ({"sampling": "device"}, "light"),
}


class Held(Trainer):
    """A trainer that gets one batch again and again."""

    held: tuple[torch.Tensor, torch.Tensor] | None = None

    def _loader(self, epoch: int, whole: bool = False) -> Any:
        true = super()._loader(epoch, whole)
        if self.held is None:
            image, bits = next(iter(true))
            self.held = image.to(self.device), bits.to(self.device)
        return [self.held] * len(true)


def epochs(trainer: Trainer) -> Callable[[], None]:
    """An epoch, and all that it has asked of the device."""

    def run() -> None:
        trainer.epoch(0, "")
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()

    return run


def row(name: str, width: int, way: str, strips: Strips, args: argparse.Namespace) -> list[str]:
    """One comparison: samples and steps per second, and the share of the rate of a held batch."""
    keys, recipe = WAYS[way]
    phase = Phase(epochs=1, width=width, batch=args.batch, samples=args.batch * args.steps)
    model = replace(NETS[name], augment=recipe, phases=[phase])
    where = MachineConfig(threads=args.threads, workers=args.workers, **keys)
    real, held = (kind(model, where, strips, np.arange(N_STRIPS), 0) for kind in (Trainer, Held))
    c = compare(epochs(real), epochs(held), args.n, time.process_time if args.cpu_time else time.perf_counter)
    steps = [f"{args.steps / c.ours_s:.2f}", f"{100 * c.ours_iqr_s / c.ours_s:.0f} %"]
    steps += [f"{args.steps / c.reference_s:.2f}", f"{100 * c.reference_iqr_s / c.reference_s:.0f} %"]
    return [f"{name}, 256x{width}, {way}", f"{c.n} x {args.steps}", *steps, f"{100 * c.ratio:.0f} %"]


def main() -> None:
    """Print a table of steps per second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=NETS, action="append", help="only this net")
    parser.add_argument("--width", type=int, action="append", help="only this width, px")
    parser.add_argument("--way", choices=WAYS, action="append", help="only this way of making samples")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4, help="steps of an epoch")
    parser.add_argument("--n", type=int, default=5, help="timed epochs of each side (>= 2)")
    parser.add_argument("--threads", type=int, help="threads of torch; all cores by default")
    parser.add_argument("--workers", type=int, help="processes that make samples; by default as in training")
    parser.add_argument("--cpu-time", action="store_true", help="seconds of CPU time instead of those of the clock")
    args = parser.parse_args()
    rows = [
        [
            "steps per second" + " of CPU time" * args.cpu_time,
            "epochs x steps",
            "real samples",
            "IQR",
            "a held batch",
            "IQR",
            "share",
        ]
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), N_STRIPS, 0, 0)
        strips = strips_of(Path(folder), texts_of(Path(folder)), Path(folder))
        for name in args.net or ("the demo's FPN", "resnet18-Unet"):
            for width in args.width or (512, WIDTH):
                rows += [row(name, width, way, strips, args) for way in args.way or WAYS]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else machine()
    print(f"{device}, batch {args.batch}, torch {torch.__version__}", table(rows), sep="\n")


if __name__ == "__main__":
    main()
