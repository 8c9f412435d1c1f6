"""The decision table at the size of the train set, from the stores of three segmenters and a classifier.

    python benchmarks/table.py [--n_images 12568]

Writes synthetic stores and masks into a temporary folder (some 6 GB at full size), builds the table from them as the
stage `decide` does, and prints what reading and averaging alone take, what the table takes beyond, and the memory.
The maps are those of `store.py`: smooth, faint nearly everywhere, with blobs in a third of the classes. Few are drawn
and the files of the stores are links to them, so reading comes from memory: what a disk adds is not in the figures.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from harness import machine, table
from numpy.typing import NDArray
from store import draw

from steel.competition import HEIGHT, N_CLASSES, N_TRAIN, WIDTH
from steel.config import DataConfig, MachineConfig, ModelConfig, Solution, SplitConfig
from steel.data.cache import AREAS, open_strips
from steel.data.folds import fold_of, write_folds
from steel.decide.combine import Outputs
from steel.decide.ensemble import Blend
from steel.decide.held_out import build_tables, map_strips
from steel.decide.measure import measure
from steel.infer.store import MAPS, VALUES, create_maps
from steel.paths import Paths

N_FOLDS, N_DRAWN = 5, 48
NAMES = ("a", "b", "c")
EVEN = Blend.equal(len(NAMES), 1)


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
        shifted = [np.roll(maps, rng.integers(0, 4, 2), (1, 2)) for maps, _ in drawn]  # models are not all alike
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


def read_only(outputs: Outputs, mask_bits: NDArray[np.uint8]) -> int:
    """The floor: maps read and averaged, the mask read."""
    return int(outputs.combine(EVEN)[0][0, 0, 0]) + int(mask_bits.any())


def without_components(outputs: Outputs, mask_bits: NDArray[np.uint8]) -> tuple[NDArray[np.int32], ...]:
    """Areas and overlaps at all thresholds, and no more."""
    return measure(outputs.combine(EVEN)[0], mask_bits)


def main() -> None:
    """Write the run, time the floor and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n_images", type=int, default=1000, help=f"{N_TRAIN} is the train set")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    models = {name: ModelConfig() for name in NAMES} | {"gate": ModelConfig(kind="classifier")}
    machine_config = MachineConfig(device="cpu", workers=args.workers)
    paths = Paths(Solution("big", models, DataConfig("big"), SplitConfig(n_folds=N_FOLDS), machine=machine_config))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_run(paths, args.n_images, np.random.default_rng(0))
        _time(paths, args.n_images, args.workers)
        os.chdir("/")


def _time(paths: Paths, n: int, workers: int) -> None:
    strips = open_strips(paths.cache, "train")
    split = fold_of(paths.folds, strips.image_ids)
    rows = {k: np.flatnonzero(split == k) for k in range(N_FOLDS)}
    seconds = []
    for call in (read_only, without_components):
        start = time.perf_counter()
        map_strips(paths, NAMES, strips, rows, call, call.__name__)
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    (built,), _ = build_tables(paths, range(N_FOLDS), [EVEN])
    seconds.append(time.perf_counter() - start)
    built.save(Path("table.npy"))
    beyond = [f"{1e3 * (s - seconds[0]) * workers / (n * N_CLASSES):.2f} ms" for s in seconds]
    peaks = [resource.getrusage(who).ru_maxrss / 2**20 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    rows_of = zip(
        ("maps read and averaged", "all thresholds", "and components: the table"), seconds, beyond, strict=True
    )
    print(f"{machine()}; {n} strips, {len(NAMES)} segmenters, {workers} processes")
    print(table([["", "seconds", "beyond reading, per map and core"], *([a, f"{s:.0f}", b] for a, s, b in rows_of)]))
    size = Path("table.npy").stat().st_size / 1e6
    print(
        f"table.npy {size:.0f} MB; peak memory {peaks[0]:.2f} GiB, of a worker {peaks[1]:.2f} GiB, masks mapped in both"
    )


def _drawn(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Maps (4, 256, 1600), and masks that nearly fit them (256, 1600)."""
    maps, bits = draw(rng, noisy=True), np.zeros((HEIGHT, WIDTH), np.uint8)
    for k in range(N_CLASSES):
        bits[(bits == 0) & (np.roll(maps[k], 5, axis=1) > 127)] = 1 << k
    return maps, bits


if __name__ == "__main__":
    main()
