"""The store of probability maps: time to write and read, and size, against PNG planes and compressed npz.

    python benchmarks/store.py --images 12

A map is one image's (4, 256, 1600) uint8. All three write it durably (flushed to the disk) and read it back whole,
image by image. Two kinds of made maps: smooth as a net's (a sigmoid of smooth logits, faint nearly everywhere, blobs in
a third of the classes), and with noise of one level on top. With --store: the maps of a finished store, such as
runs/demo/unet/fold0/oof.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from harness import Comparison, compare, machine, table
from numpy.typing import NDArray

from steel import files
from steel.competition import HEIGHT, N_CLASSES, WIDTH
from steel.infer.store import Builder, open_store

Maps = NDArray[np.uint8]
BATCH = 8


def draw(rng: np.random.Generator, noisy: bool) -> Maps:
    """The map of one image."""
    maps = np.empty((N_CLASSES, HEIGHT, WIDTH), np.uint8)
    for k in range(N_CLASSES):
        texture = cv2.GaussianBlur(rng.normal(0, 12, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 6)
        logits = texture - 6
        if rng.random() < 0.3:
            blob = np.zeros((HEIGHT, WIDTH), np.float32)
            for _ in range(rng.integers(1, 5)):
                centre, axes = rng.integers((0, 0), (WIDTH, HEIGHT)), rng.integers(8, 70, 2)
                cv2.ellipse(blob, centre.tolist(), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, 10.0, -1)
            logits = logits + cv2.GaussianBlur(blob, (0, 0), 5)
        prob = 255 / (1 + np.exp(-logits))
        if noisy:
            prob = prob + rng.normal(0, 1, prob.shape)
        maps[k] = prob.clip(0, 255).round()
    return maps


class Ours:
    """The store of `steel oof`."""

    def __init__(self, folder: Path, maps: list[Maps]) -> None:
        self.folder, self.maps = folder, maps

    def write(self) -> None:
        """Write all, in batches as predicted."""
        shutil.rmtree(self.folder, ignore_errors=True)
        builder = Builder(self.folder, "key", [str(i) for i in range(len(self.maps))], maps=True)
        for start in range(0, len(self.maps), BATCH):
            part = self.maps[start : start + BATCH]
            sums = np.stack([[cv2.sumElems(plane)[0] / 255 for plane in one] for one in part])
            builder.write(list(range(start, start + len(part))), np.stack(part), sums, np.zeros_like(sums))
        builder.finish()

    def read(self) -> list[Maps]:
        """Read all, image by image."""
        store = open_store(self.folder)
        return [store.map(i) for i in range(len(self.maps))]


class Png(Ours):
    """Four grey PNG files per image."""

    def write(self) -> None:
        """Write all."""
        self.folder.mkdir(exist_ok=True)
        for i, maps in enumerate(self.maps):
            for k, plane in enumerate(maps):
                path = self.folder / f"{i}_{k}.png"
                cv2.imwrite(str(path), plane)
                files.sync(path)

    def read(self) -> list[Maps]:
        """Read all."""
        return [
            np.stack(
                [
                    np.asarray(cv2.imread(str(self.folder / f"{i}_{k}.png"), cv2.IMREAD_GRAYSCALE))
                    for k in range(N_CLASSES)
                ]
            )
            for i in range(len(self.maps))
        ]


class Npz(Ours):
    """One compressed npz per image."""

    def write(self) -> None:
        """Write all."""
        self.folder.mkdir(exist_ok=True)
        for i, maps in enumerate(self.maps):
            path = self.folder / f"{i}.npz"
            np.savez_compressed(path, maps=maps)
            files.sync(path)

    def read(self) -> list[Maps]:
        """Read all."""
        found = []
        for i in range(len(self.maps)):
            with np.load(self.folder / f"{i}.npz") as file:
                found.append(file["maps"])
        return found


def main() -> None:
    """Print a table for each kind of maps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--store", type=Path, help="a finished store to take the maps from")
    parser.add_argument("--n", type=int, default=5, help="timed passes of each")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    print(machine(), f"{args.n} passes over {args.images} maps of (4, {HEIGHT}, {WIDTH})", sep="\n")
    for name, maps in kinds(args.store, args.images).items():
        rows = [[name, "ours", "IQR", "reference", "IQR", "ratio"]]
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # a disk, where /tmp may be memory
            ours = Ours(Path(folder) / "ours", maps)
            for other, kind in (("PNG", Png), ("npz", Npz)):
                rows += against(other, ours, kind(Path(folder) / other, maps), args.n)
        print("", table(rows), sep="\n")


def kinds(store: Path | None, n: int) -> dict[str, list[Maps]]:
    """The maps to write, by kind."""
    if store is not None:
        found = open_store(store)
        return {f"maps of {store}": [found.map(i) for i in range(min(n, len(found.image_ids)))]}
    rng = np.random.default_rng(0)
    return {kind: [draw(rng, kind == "with noise") for _ in range(n)] for kind in ("smooth maps", "with noise")}


def against(name: str, ours: Ours, other: Ours, n: int) -> list[list[str]]:
    """Three rows: write, read, size."""
    n_maps = len(ours.maps)
    times = [row(f"write, ms per map, {name}", compare(ours.write, other.write, n), n_maps)]
    for side in (ours, other):
        assert all(np.array_equal(a, b) for a, b in zip(side.read(), side.maps, strict=True))
    times.append(row(f"read, ms per map, {name}", compare(_drop(ours.read), _drop(other.read), n), n_maps))
    sizes = [sum(p.stat().st_size for p in side.folder.rglob("*") if p.is_file()) / n_maps for side in (ours, other)]
    kib = [f"{size / 1024:.1f}" for size in sizes]
    return [*times, [f"size, KiB per map, {name}", kib[0], "", kib[1], "", f"{sizes[1] / sizes[0]:.2f}"]]


def _drop(read: Callable[[], list[Maps]]) -> Callable[[], None]:
    def run() -> None:
        read()

    return run


def row(name: str, c: Comparison, n_maps: int) -> list[str]:
    """One comparison, in ms per map."""
    times = (c.ours_s, c.ours_iqr_s, c.reference_s, c.reference_iqr_s)
    return [name, *(f"{1e3 * t / n_maps:.2f}" for t in times), f"{c.ratio:.1f}"]


if __name__ == "__main__":
    main()
