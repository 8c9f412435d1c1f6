"""What a device makes of the nets that win: steps and strips per second, memory, share of its rate of matrix products.

    python benchmarks/gpu.py                                    on a GPU
    python benchmarks/gpu.py --batch 2 --width 64 --steps 2 --side 256      anywhere, to see that it runs

A step is the trainer's own, on one random batch that lies on the device. Its floating-point operations are counted as
in `hours.py`; what they come to per second is set beside that of a product of two square bf16 matrices, timed here.
Predicted strips per second are those of the forward pass alone, without further views. All is timed in one process.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from harness import machine, table, training_step
from hours import counted

from steel.competition import HEIGHT, WIDTH
from steel.config import MachineConfig, ModelConfig, Phase
from steel.device import amp_dtype, open_device
from steel.nets.build import build, place

NETS = {"resnet34-Unet": ("Unet", "resnet34"), "efficientnet-b3-FPN": ("FPN", "efficientnet-b3")}
TUNED = "bf16, cuDNN tries"  # its algorithms before it picks one
WAYS: dict[str, tuple[str, dict[str, bool]]] = {  # arithmetic, keys of the machine
    "fp32": ("fp32", {}),
    "bf16": ("bf16", {}),
    TUNED: ("bf16", {}),
    "bf16, compiled": ("bf16", {"compile": True}),
    "bf16, checkpointed": ("bf16", {"checkpoint_gradients": True}),
}


def seconds(call: Callable[[], object], n: int, device: torch.device) -> float:
    """Median time of a call, after two to warm up; what it asks of the device included."""
    times = []
    for _ in range(n + 2):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def matrix_rate(side: int, device: torch.device) -> float:
    """TFLOP/s of a product of two square bf16 matrices."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / seconds(lambda: a @ b, 20, device) / 1e12


def prediction(model: ModelConfig, batch: int, device: torch.device) -> Callable[[], object]:
    """The forward pass of whole strips."""
    net = place(build(model, pretrained=False), device).eval()
    image = torch.randint(0, 256, (batch, 1, HEIGHT, WIDTH), dtype=torch.uint8, device=device)
    dtype = amp_dtype(model.amp, device)

    def run() -> object:
        with torch.inference_mode(), torch.autocast(device.type, dtype) if dtype != torch.float32 else nullcontext():
            return net(image)

    return run


def row(name: str, way: str, width: int, rate: float, args: argparse.Namespace, device: torch.device) -> list[str]:
    """One net, one way, one width: its training step and its prediction."""
    net, encoder = NETS[name]
    amp, keys = WAYS[way]
    torch.backends.cudnn.benchmark = way == TUNED
    batch = args.batch or (32 if width < WIDTH else 12)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step = training_step({"net": net, "encoder": encoder, "amp": amp}, args.threads, batch, (HEIGHT, width), **keys)
    step_s = seconds(step, args.steps, device)
    memory = f"{torch.cuda.max_memory_allocated() / 1e9:.1f}" if device.type == "cuda" else "-"
    model = ModelConfig(net=net, encoder=encoder, amp="fp32" if amp == "fp32" else "bf16")
    tflops = counted(model, Phase(batch=batch, width=width)) / step_s
    strips = "-"
    if not keys and width == WIDTH:
        strips = f"{batch / seconds(prediction(model, batch, device), args.steps, device):.1f}"
    cells = [
        f"{1 / step_s:.2f}",
        f"{batch * width / WIDTH / step_s:.1f}",
        f"{tflops:.1f}",
        f"{100 * tflops / rate:.0f} %",
    ]
    return [f"{name}, {way}", f"{batch} x {width}", *cells, memory, strips]


def row_or_why_not(name: str, way: str, width: int, *rest: Any) -> list[str]:
    """The row, or one that says that there is not enough memory."""
    try:
        return row(name, way, width, *rest)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return [f"{name}, {way}", f"? x {width}", "out of memory", *[""] * 5]


def main() -> None:
    """Print a row per net, arithmetic and width."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=NETS, action="append", help="only this net")
    parser.add_argument("--way", choices=WAYS, action="append", help="only this way")
    parser.add_argument("--width", type=int, action="append", help="only this width, px [512 and 1600]")
    parser.add_argument("--batch", type=int, help="[32 crops, 12 strips]")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each")
    parser.add_argument("--side", type=int, default=8192, help="of the square matrices")
    parser.add_argument("--threads", type=int, help="threads of torch; all cores by default")
    args = parser.parse_args()
    device = open_device(MachineConfig(threads=args.threads))
    if device.type == "cpu" and not args.batch:
        print("no GPU at hand; --batch, --width, --steps and --side say how small it shall be on a CPU")
        return
    rate = matrix_rate(args.side, device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else machine()
    print(f"{name}, torch {torch.__version__}; bf16 matrix products: {rate:.1f} TFLOP/s")
    rows = [["net", "batch", "steps/s", "strips/s", "TFLOP/s", "share", "GB", "predicted strips/s"]]
    for net in args.net or NETS:
        for width in args.width or (512, WIDTH):
            for way in args.way or WAYS:
                rows.append(row_or_why_not(net, way, width, rate, args, device))
                print(*rows[-1], sep="; ", flush=True)  # at once: minutes of a GPU are dear
    print(table(rows))


if __name__ == "__main__":
    main()
