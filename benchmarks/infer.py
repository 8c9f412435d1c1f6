"""Prediction as the stages `oof` and `predict` do it: strips per second, against the forward pass alone.

    python benchmarks/infer.py [--net resnet34-Unet] [--strips 24] [--batch 8] [--views identity,hflip] [--n 5]

The sides, in turn and in changing order, with one net of random weights on strips of steel:

- floor: the forward pass alone, all views, again and again on one batch in memory;
- ours: strips read, predicted, reduced to a uint8 map and its sums, written to the disk, one beside the other;
- in turn: the same one after the other, as usual, the store written by zarr;
- a process writes: as ours, but the maps are sent to a process that packs and writes them;
- views at once: the floor with all views in one pass of the net; or view after view, where more at once are the usual:
  on a GPU with batches of less than 16.

On a GPU take more strips, such as --strips 2000 --batch 16. The last layer is toned down: the maps of random weights
would be of noise, and take longer to pack than real ones. The strips come from the system's memory: what reading from a
disk adds is not in the figures.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from harness import machine, table
from numpy.typing import NDArray

from steel import files
from steel.competition import HEIGHT, WIDTH
from steel.config import MachineConfig, ModelConfig
from steel.data.cache import Strips
from steel.data.texture import surface
from steel.device import amp_dtype, open_device
from steel.infer.predict import AHEAD, _fill
from steel.infer.predictor import FULL, Answer, Predictor
from steel.infer.store import DONE, MAPS, VALUES, Builder, create_maps
from steel.nets.build import build, place
from steel.overlap import overlap
from steel.stage import Spec

DEMO = {"decoder_pyramid_channels": 64, "decoder_segmentation_channels": 32, "decoder_dropout": 0.0}
NETS = {
    "the demo's FPN": ModelConfig(
        net="FPN", encoder="tu-mobilenetv4_conv_small_050", weights=None, options=DEMO, downscale=2
    ),
    "resnet18-Unet": ModelConfig(net="Unet", encoder="resnet18", weights=None),
    "resnet34-Unet": ModelConfig(net="Unet", encoder="resnet34", weights=None),
    "efficientnet-b3-FPN": ModelConfig(net="FPN", encoder="efficientnet-b3", weights=None),
}
N_DRAWN = 24
Side = Callable[[], object]
Times = tuple[float, float]  # that passed, and of this process on all cores, s


def some_strips(folder: Path, n: int) -> Strips:
    """Steel without defects, memory-mapped."""
    rng = np.random.default_rng(0)
    steel = [surface(rng, 0.3, 0.5).image.clip(0, 255).astype(np.uint8) for _ in range(min(n, N_DRAWN))]
    images = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=(n, HEIGHT, WIDTH))
    for i in range(n):
        images[i] = np.roll(steel[i % len(steel)], i, axis=1)
    images.flush()
    index = pd.DataFrame({"image_id": [f"{i:09x}.jpg" for i in range(n)]})
    return Strips(index, np.load(folder / "images.npy", mmap_mode="r"), None)


def a_predictor(model: ModelConfig, args: argparse.Namespace) -> Predictor:
    """One net of random weights on the device."""
    torch.manual_seed(0)
    device = open_device(MachineConfig(device=args.device, threads=args.threads))
    net = build(model, pretrained=False)
    last = [layer for layer in net.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
    torch.nn.init.normal_(last.weight, std=0.01)
    assert last.bias is not None
    torch.nn.init.constant_(last.bias, -4.0)
    net = place(net, device).eval()
    at_once = max(1, FULL // args.batch) if device.type == "cuda" else 1  # as `Predictor.of` has it
    return Predictor(True, [net], args.views, args.batch, device, amp_dtype(args.amp, device), at_once)


def sides(predictor: Predictor, strips: Strips, folder: Path, writer: Executor) -> dict[str, Side]:
    """All of them, each a call that deals with every strip."""
    rows, n = np.arange(len(strips.index)), len(strips.index)
    batch = predictor.pad(list(strips.images[: predictor.batch]))
    starts = range(0, n, predictor.batch)

    def floor(one: Predictor) -> None:
        for _ in starts:
            one._forward(batch, one.batch)
        if one.device.type == "cuda":
            torch.cuda.synchronize()

    found: dict[str, Side] = {
        "floor": lambda: floor(predictor),
        "ours": lambda: _fill(Spec("infer", folder / "ours", {}, {}, ()), predictor, strips, rows),
        "in turn": lambda: in_turn(folder / "in turn", predictor, strips),
        "a process writes": lambda: by_process(folder / "process", writer, predictor, strips),
    }
    if len(predictor.views) > 1:
        changed = replace(predictor, at_once=len(predictor.views) if predictor.at_once == 1 else 1)
        found["view after view" if changed.at_once == 1 else "views at once"] = lambda: floor(changed)
    return found


def in_turn(folder: Path, predictor: Predictor, strips: Strips) -> None:
    """Read, compute, reduce, write and sync, one after the other."""
    work, n = folder / "building", len(strips.index)
    shutil.rmtree(folder, ignore_errors=True)
    work.mkdir(parents=True)
    maps = create_maps(work / MAPS, n)
    kept = []
    for start in range(0, n, predictor.batch):
        prob = predictor(strips.images[start : start + predictor.batch]).main
        assert torch.isfinite(prob).all()
        for row, value in enumerate((prob * 255).round().to(torch.uint8).cpu().numpy(), start):
            maps[row] = value
            files.sync(work / MAPS / f"c.{row}.0.0.0")
        kept.append((prob.double() * 2**32).long().flatten(2).sum(2).double().cpu().numpy() / 2**32)
        with (work / DONE).open("ab") as done:
            done.write(kept[-1].tobytes())
        files.sync(work / DONE)
    with files.atomic(folder / VALUES) as temporary, temporary.open("wb") as file:
        np.savez(file, image_ids=np.array(strips.image_ids), sums=np.concatenate(kept))
    files.publish(work / MAPS, folder / MAPS)


BUILDERS: list[Builder] = []  # of a process that writes


def by_process(folder: Path, writer: Executor, predictor: Predictor, strips: Strips) -> None:
    """As `_fill`, but for a process that packs and writes."""
    n = len(strips.index)
    batches = [range(s, min(s + predictor.batch, n)) for s in range(0, n, predictor.batch)]
    writer.submit(_open, folder, strips.image_ids).result()
    read = overlap(lambda places: (places, predictor.pad([strips.images[row] for row in places])), batches, AHEAD)
    computed = ((places, predictor.start(batch, len(places))) for places, batch in read)

    def send(one: tuple[range, Answer]) -> None:
        writer.submit(_write, one[0], *one[1].wait()).result()

    for _ in overlap(send, computed, AHEAD):
        pass
    writer.submit(_finish).result()


def _open(folder: Path, image_ids: list[str]) -> None:
    BUILDERS[:] = [Builder(folder, "key", image_ids, True)]


def _write(places: range, maps: NDArray[np.uint8] | None, sums: NDArray | None, gate: NDArray | None) -> None:
    BUILDERS[0].write(places, maps, sums, gate)


def _finish() -> None:
    BUILDERS[0].finish()


def time_sides(called: dict[str, Side], n: int) -> dict[str, list[Times]]:
    """Times of n calls of each, in turn and in changing order, after one that does not count."""
    times: dict[str, list[Times]] = {name: [] for name in called}
    for i in range(n + 1):
        for name, side in called.items() if i % 2 else reversed(called.items()):
            start, cpu = time.perf_counter(), time.process_time()
            side()
            times[name].append((time.perf_counter() - start, time.process_time() - cpu))
    return {name: found[1:] for name, found in times.items()}


def rows_of(net: str, times: dict[str, list[Times]], n_strips: int) -> list[list[str]]:
    """A row for each side: strips per second, median and range; the median ratio to the floor's of the same round."""
    rows = []
    for name, found in times.items():
        rates = [n_strips / s for s, _ in found]
        share = statistics.median(floor / s for (floor, _), (s, _) in zip(times["floor"], found, strict=True))
        cpu_ms = 1e3 * statistics.median(cpu for _, cpu in found) / n_strips
        spread = f"{min(rates):.3g}–{max(rates):.3g}"
        rows.append([f"{net}, {name}", f"{statistics.median(rates):.3g}", spread, f"{share:.3f}", f"{cpu_ms:.0f}"])
    return rows


def main() -> None:
    """Print a table of strips per second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=NETS, action="append", help="only this net")
    parser.add_argument("--strips", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--views", type=lambda text: text.split(","), default=["identity", "hflip"])
    parser.add_argument("--amp", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, help="of torch; all cores by default")
    parser.add_argument("--n", type=int, default=3, help="timed rounds")
    args = parser.parse_args()
    rows = [["strips per second", "median", "range", "of the floor", "CPU ms per strip"]]
    print(machine(), flush=True)
    here = tempfile.TemporaryDirectory(dir=Path.cwd())  # a disk, where /tmp may be memory
    with here as name, ProcessPoolExecutor(1, get_context("spawn")) as writer:
        strips = some_strips(Path(name), args.strips)
        for net in args.net or NETS:
            predictor = a_predictor(NETS[net], args)
            rows += rows_of(net, time_sides(sides(predictor, strips, Path(name), writer), args.n), args.strips)
            print(*rows[-5:], sep="\n", flush=True)
        size = sum(path.stat().st_size for path in (Path(name) / "ours" / MAPS).iterdir()) / args.strips / 1024
    what = f"{args.n} rounds of {args.strips} strips, batch {args.batch}, {' and '.join(args.views)}"
    print(f"torch {torch.__version__} on {predictor.device}, {predictor.dtype}; {what}; {size:.0f} KiB per strip")
    print(table(rows))


if __name__ == "__main__":
    main()
