"""The decision table at the size of the train set, from the stores of some segmenters and a classifier.

    python benchmarks/table.py [--n_images 12568] [--models 3] [--search | --report]

Writes synthetic stores and masks into a temporary folder (some 6 GB at full size), builds the table from them as the
stage `decide` does, and prints what reading and averaging alone take, what the table takes beyond, and the memory.
The maps are those of `store.py`: smooth, faint nearly everywhere, with blobs in a third of the classes. Few are drawn
and the files of the stores are links to them, so reading comes from memory: what a disk adds is not in the figures.
With --search, the whole stage `decide` is timed instead, with the models' votes searched. Strips that repeat make
every gain look sure, so that each rotation adopts votes of its own: the most tables that there can be.
With --report, `decide`, `eda` and `report` are timed one after the other, on as many made-up strips (5.1 GB more).
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from harness import machine, table
from numpy.typing import NDArray
from store import draw

from steel.competition import HEIGHT, N_CLASSES, N_TRAIN, WIDTH
from steel.config import DataConfig, DecideConfig, MachineConfig, ModelConfig, Solution, SplitConfig
from steel.data.cache import AREAS, open_strips
from steel.data.folds import fold_of, write_folds
from steel.data.texture import surface
from steel.decide import run
from steel.decide.combine import Outputs
from steel.decide.decision import Decision
from steel.decide.ensemble import Blend
from steel.decide.held_out import build_tables, map_strips
from steel.decide.measure import measure
from steel.infer.store import MAPS, VALUES, create_maps
from steel.paths import Paths
from steel.report import run as report
from steel.report.eda import run as eda

N_FOLDS, N_DRAWN = 5, 48


def write_run(paths: Paths, n: int, rng: np.random.Generator) -> None:
    """Stores of all models and folds, masks, and the split."""
    drawn = [_drawn(rng) for _ in range(N_DRAWN)]
    ids, fold = [f"{i:09x}.jpg" for i in range(n)], np.arange(n) % N_FOLDS
    paths.cache.mkdir(parents=True)
    np.save(paths.cache / "train_images.npy", np.zeros((0, HEIGHT, WIDTH), np.uint8))
    masks = np.lib.format.open_memmap(
        paths.cache / "train_masks.npy", mode="w+", dtype=np.uint8, shape=(n, HEIGHT, WIDTH)
    )
    for i in range(n):
        masks[i] = drawn[i % N_DRAWN][1]
    masks.flush()
    index = pd.DataFrame({"row": range(n), "image_id": ids, "sha256": "-"})
    index[AREAS] = 0
    index.to_csv(paths.cache / "train.csv", index=False)
    paths.folds.parent.mkdir(parents=True)
    write_folds(paths.folds, ids, fold, ids)
    for name in paths.solution.models:
        shifted = [np.roll(maps, rng.integers(0, 12, 2), (1, 2)) for maps, _ in drawn]  # models are not all alike
        for k in range(N_FOLDS):
            rows = np.flatnonzero(fold == k)
            write_store(
                paths.oof(name, k), [ids[row] for row in rows], shifted, rows, name in paths.solution.segmenters
            )


def write_store(folder: Path, ids: list[str], drawn: list[NDArray], rows: NDArray, maps: bool) -> None:
    """A store whose chunks are links to those of its first strips."""
    folder.mkdir(parents=True)
    unknown = np.full((len(ids), N_CLASSES), np.nan)
    prob = np.random.default_rng(0).random((len(ids), N_CLASSES))
    sums = np.stack([drawn[row % N_DRAWN].sum((1, 2)) / 255 for row in rows]) if maps else unknown
    np.savez(folder / VALUES, image_ids=np.array(ids), sums=sums, gate=unknown if maps else prob)
    if not maps:
        return
    array = create_maps(folder / MAPS, len(ids))
    first: dict[int, int] = {}
    for place, row in enumerate(rows):
        source = first.setdefault(int(row) % N_DRAWN, place)
        if source == place:
            array[place] = drawn[row % N_DRAWN]
        else:
            os.link(folder / MAPS / f"c.{source}.0.0.0", folder / MAPS / f"c.{place}.0.0.0")


def write_images(paths: Paths, n: int, rng: np.random.Generator) -> None:
    """Strips of steel, a tenth of them as test strips, and the logs of all trainings: what a report reads besides."""
    steel = [surface(rng, 0.3, 0.5).image.clip(0, 255).astype(np.uint8) for _ in range(N_DRAWN)]
    for part, count in (("train", n), ("test", n // 10)):
        images = np.lib.format.open_memmap(
            paths.cache / f"{part}_images.npy", mode="w+", dtype=np.uint8, shape=(count, HEIGHT, WIDTH)
        )
        for i in range(count):
            images[i] = np.roll(steel[i % N_DRAWN], i, axis=1)
        images.flush()
    ids = [f"t{i:08x}.jpg" for i in range(n // 10)]
    pd.DataFrame({"row": range(len(ids)), "image_id": ids, "sha256": "-"}).to_csv(paths.cache / "test.csv", index=False)
    index = pd.read_csv(paths.cache / "train.csv")
    masks = np.load(paths.cache / "train_masks.npy", mmap_mode="r")
    areas = np.array([[int((masks[i] >> k & 1).sum()) for k in range(N_CLASSES)] for i in range(N_DRAWN)])
    index[AREAS] = areas[np.arange(n) % N_DRAWN]
    index.to_csv(paths.cache / "train.csv", index=False)
    common = {"lr": 1e-3, "steps": 100, "train_s": 55.0, "seconds": 60.0, "peak_mb": 900.0}
    epochs = [{"epoch": e, "loss": 1 / e, **common} for e in range(1, 41)]
    for name in paths.solution.models:
        for k in range(N_FOLDS):
            lines = "".join(f"{json.dumps(epoch)}\n" for epoch in epochs)
            (paths.fold(name, k) / "log.jsonl").write_text(lines)


def read_only(outputs: Outputs, mask_bits: NDArray[np.uint8]) -> int:
    """The floor: maps read and averaged, the mask read."""
    prob, _ = outputs.combine(Blend.equal(len(outputs.maps), 0))
    return int(prob[0, 0, 0]) + int(mask_bits.any())


def without_components(outputs: Outputs, mask_bits: NDArray[np.uint8]) -> tuple[NDArray[np.int32], ...]:
    """Areas and overlaps at all thresholds, and no more."""
    return measure(outputs.combine(Blend.equal(len(outputs.maps), 0))[0], mask_bits)


def time_table(paths: Paths) -> None:
    """Print what the table takes beyond reading."""
    strips, names = open_strips(paths.cache, "train"), paths.solution.segmenters
    split = fold_of(paths.folds, strips.image_ids)
    rows = {k: np.flatnonzero(split == k) for k in range(N_FOLDS)}
    seconds = [
        _seconds_of(partial(deque, map_strips(paths, names, strips, rows, call, call.__name__), 0))
        for call in (read_only, without_components)
    ]
    even = Blend.equal(len(names), 1)
    seconds.append(_seconds_of(lambda: build_tables(paths, range(N_FOLDS), [even]).tables[0].save(Path("table.npy"))))
    workers = paths.solution.machine.workers or 1
    beyond = [1e3 * (s - seconds[0]) * workers / (len(split) * N_CLASSES) for s in seconds]
    what = ("maps read and averaged", "areas and overlaps at all thresholds", "and of components: the table, saved")
    cells = [[a, f"{s:.0f}", f"{b:.2f}"] for a, s, b in zip(what, seconds, beyond, strict=True)]
    print(f"{machine()}; {len(split)} strips, {len(names)} segmenters, {workers} processes")
    print(table([["", "seconds", "ms beyond reading, per map and core"], *cells]))
    print(f"{Path('table.npy').stat().st_size / 1e6:.0f} MB on the disk; {_peaks()}")


def time_stage(paths: Paths) -> None:
    """Print what the whole stage takes."""
    seconds = _seconds_of(lambda: run.make(paths, range(N_FOLDS)))
    decision = Decision.load(paths.decide / run.RULES)
    n_blends = len({decision.blend, *(decision.blend_of(k) for k in range(N_FOLDS))})
    print(f"the stage decide with searched votes: {seconds:.0f} s, {n_blends} ways of voting adopted; {_peaks()}")


def time_report(paths: Paths) -> None:
    """Print what the stages from `decide` to `report` take."""
    seconds = {"decide": _seconds_of(lambda: run.make(paths, range(N_FOLDS)))}
    seconds["eda"] = _seconds_of(lambda: eda.make(paths))
    seconds["report"] = _seconds_of(lambda: report.make(paths))
    print(f"{machine()}; {len(paths.solution.segmenters)} segmenters; {_peaks()}")
    print(table([["stage", "seconds"], *([name, f"{s:.0f}"] for name, s in seconds.items())]))
    print(f"the page: {(paths.report / report.PAGE).stat().st_size / 1e6:.1f} MB")


def main() -> None:
    """Write the run, time the table and the stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n_images", type=int, default=500, help=f"{N_TRAIN} is the train set")
    parser.add_argument("--models", type=int, default=3, help="segmenters")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--search", action="store_true", help="time the whole stage instead, with searched votes")
    parser.add_argument("--report", action="store_true", help="time decide, eda and report instead")
    args = parser.parse_args()
    models = {f"net{m}": ModelConfig() for m in range(args.models)} | {"gate": ModelConfig(kind="classifier")}
    solution = Solution(
        "big",
        models,
        DataConfig("big"),
        SplitConfig(n_folds=N_FOLDS),
        decide=DecideConfig(ensemble="search" if args.search else "equal"),
        machine=MachineConfig(device="cpu", workers=args.workers),
    )
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_run(Paths(solution), args.n_images, np.random.default_rng(0))
        if args.report:
            write_images(Paths(solution), args.n_images, np.random.default_rng(0))
        (time_report if args.report else time_stage if args.search else time_table)(Paths(solution))
        os.chdir(here)


def _seconds_of(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _peaks() -> str:
    peaks = [resource.getrusage(who).ru_maxrss / 2**20 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return f"peak memory {peaks[0]:.2f} GiB, of a worker {peaks[1]:.2f} GiB, mapped files in both"


def _drawn(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Maps (4, 256, 1600), and masks that nearly fit them (256, 1600)."""
    maps, bits = draw(rng, noisy=True), np.zeros((HEIGHT, WIDTH), np.uint8)
    for k in range(N_CLASSES):
        bits[(bits == 0) & (np.roll(maps[k], 5, axis=1) > 127)] = 1 << k
    return maps, bits


if __name__ == "__main__":
    main()
