"""Decisions: the table and the exact search on it, against counting by threshold and against the usual kit's loop.

    python benchmarks/decide.py --n_images 24 --rounds 3

Synthetic maps, one core, each rule against a reference that gives the same numbers (asserted). Total area: table and
search over 256 thresholds x 64 minimum areas, against counting pixels at every threshold. Components: areas without
the small ones at 7 thresholds x 7 sizes, against the loop of the public kits (per grid point: threshold, label, drop
the small, Dice). Then the search on a table of the train set's size.
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from harness import Comparison, compare, machine, table
from numpy.typing import NDArray

from steel.competition import HEIGHT, N_CLASSES, N_TRAIN, WIDTH
from steel.decide.adopt import ClassSearch
from steel.decide.components import COMPONENT_LEVELS, measure_large
from steel.decide.ensemble import largest_class
from steel.decide.evidence import N_LEVELS
from steel.decide.families import FAMILIES, PLAIN
from steel.decide.grid import Grid, default_grid, surface
from steel.decide.measure import measure
from steel.decide.search import lofo
from steel.decide.table import LARGE, Table
from steel.metrics import dice

KIT_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
KIT_SIZES_PX = (100, 300, 600, 1000, 1500, 2000, 3000)
N_AREAS = 64


def draw(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A map (4, 256, 1600) uint8 with soft blobs, some of them defects, and its mask bits (256, 1600) uint8."""
    prob = np.zeros((N_CLASSES, HEIGHT, WIDTH), np.uint8)
    mask_bits = np.zeros((HEIGHT, WIDTH), np.uint8)
    for k in range(N_CLASSES):
        soft = np.zeros((HEIGHT, WIDTH), np.float32)
        for _ in range(rng.integers(0, 6)):
            centre, axes = rng.integers((0, 0), (WIDTH, HEIGHT)), rng.integers(5, 60, 2)
            cv2.ellipse(soft, centre.tolist(), axes.tolist(), 0, 0, 360, float(rng.uniform(0.1, 1.2)), -1)
        noise = cv2.GaussianBlur(rng.normal(0, 0.5, soft.shape).astype(np.float32), (0, 0), 3)
        soft = cv2.GaussianBlur(soft, (0, 0), float(rng.uniform(3, 12))) + noise * (soft > 0)
        prob[k] = (soft.clip(0, 1) * 255).round()
        if rng.random() < 0.5:
            mask_bits[(mask_bits == 0) & (np.roll(soft, 5, axis=1) > 0.45)] = 1 << k
    return prob, mask_bits


def build(maps: NDArray[np.uint8], bits: NDArray[np.uint8]) -> Table:
    """The table of n maps (n, 4, 256, 1600) and masks (n, 256, 1600), without components."""
    area, overlap, true_px = (np.stack(parts) for parts in zip(*map(measure, maps, bits), strict=True))
    n = len(maps)
    ids, fold, large = np.arange(n).astype(str), np.zeros(n, np.int16), np.zeros((n, *LARGE), np.int32)
    tail_px, gate = np.zeros((n, N_CLASSES)), np.ones((n, N_CLASSES), np.float32)
    return Table(ids, fold, true_px, area, overlap, large, large, tail_px, gate)


def ours(maps: NDArray[np.uint8], bits: NDArray[np.uint8], grid: Grid) -> NDArray[np.float64]:
    """Mean score of every class, threshold and minimum area, (4, 256, 64), by table and search."""
    built = build(maps, bits)
    return np.stack([surface(built, k, grid)[:, :, 0] for k in range(N_CLASSES)])


def by_counting(maps: NDArray[np.uint8], bits: NDArray[np.uint8], grid: Grid) -> NDArray[np.float64]:
    """The same numbers: at every threshold, count the pixels shown and those under the mask."""
    scores = np.zeros((N_CLASSES, N_LEVELS, len(grid.areas_px)))
    for prob, mask_bits in zip(maps, bits, strict=True):
        owned = largest_class(prob)
        for k in range(N_CLASSES):
            true = mask_bits == 1 << k
            true_px = np.count_nonzero(true)
            for t in range(N_LEVELS):
                shown = owned[k] >= t
                area = np.count_nonzero(shown)
                dice = 2 * np.count_nonzero(shown & true) / (area + true_px) if area + true_px else 1.0
                scores[k, t] += np.where(area >= np.array(grid.areas_px), dice, float(true_px == 0))
    return scores / len(maps)


def ours_components(maps: NDArray[np.uint8], bits: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean score of every class, threshold and component size, (4, 7, 7): a component is kept above its size."""
    levels = [math.floor(255 * t) + 1 for t in KIT_THRESHOLDS]  # the first level above the threshold
    scores = np.zeros((N_CLASSES, len(KIT_SIZES_PX), len(KIT_THRESHOLDS)))
    for prob, mask_bits in zip(maps, bits, strict=True):
        for k, values in enumerate(largest_class(prob)):
            true = (mask_bits >> k & 1).view(np.bool_)
            area, overlap = measure_large(values, true, levels, [size + 1 for size in KIT_SIZES_PX])
            scores[k] += dice(area, np.full(area.shape, np.count_nonzero(true)), overlap)
    return scores.transpose(0, 2, 1) / len(maps)


def usual_loop(maps: NDArray[np.float32], bits: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The same as the public kits do it: at each grid point threshold, label components, drop the small ones, Dice."""
    scores = np.zeros((N_CLASSES, len(KIT_THRESHOLDS), len(KIT_SIZES_PX)))
    for prob, mask_bits in zip(maps, bits, strict=True):
        for k in range(N_CLASSES):
            true = (mask_bits == 1 << k).astype(np.float32)
            for i, threshold in enumerate(KIT_THRESHOLDS):
                for j, size in enumerate(KIT_SIZES_PX):
                    pred = _post_process(prob[k], threshold, size)
                    total = pred.sum(dtype=np.float64) + true.sum(dtype=np.float64)
                    scores[k, i, j] += 1.0 if total == 0 else 2 * (pred * true).sum(dtype=np.float64) / total
    return scores / len(maps)


def _post_process(prob: NDArray[np.float32], threshold: float, size: int) -> NDArray[np.float32]:
    """As it stands in dozens of public kernels of 2019."""
    binary = cv2.threshold(prob, threshold, 1, cv2.THRESH_BINARY)[1]
    n, component = cv2.connectedComponents(binary.astype(np.uint8))
    pred = np.zeros(prob.shape, np.float32)
    for c in range(1, n):
        p = component == c
        if p.sum() > size:
            pred[p] = 1
    return pred


def random_table(rng: np.random.Generator, n: int) -> Table:
    """A table of full size: every area different, so that no step has less to do than on real maps."""
    true_px = np.where(rng.random((n, N_CLASSES)) < 0.14, rng.integers(500, 40_000, (n, N_CLASSES)), 0).astype(np.int32)
    area_px = np.sort(rng.integers(0, 60_000, (n, N_CLASSES, N_LEVELS), np.int32))[..., ::-1].copy()
    large_px = area_px[:, :, None, list(COMPONENT_LEVELS)].repeat(LARGE[1], 2)
    overlap_px, large_overlap_px = (
        np.minimum(px, true_px.reshape(n, N_CLASSES, *[1] * (px.ndim - 2))) // 2 for px in (area_px, large_px)
    )
    ids, fold = np.array([f"{i}.jpg" for i in range(n)]), (np.arange(n) % 5).astype(np.int16)
    found = (true_px, area_px, overlap_px, large_px, large_overlap_px)
    tail_px, gate = np.zeros((n, N_CLASSES)), rng.random((n, N_CLASSES), np.float32)
    return Table(ids, fold, *found, tail_px=tail_px, gate=gate)


def row(name: str, result: Comparison, n_maps: int) -> list[str]:
    """One comparison, per (image, class) map, and what the whole train set would need."""
    per_map, reference = result.ours_s / n_maps, result.reference_s / n_maps
    spread = f"{1e3 * result.ours_iqr_s / n_maps:.2f} / {1e3 * result.reference_iqr_s / n_maps:.1f}"
    whole = N_TRAIN * N_CLASSES
    times = [f"{1e3 * per_map:.2f}", f"{1e3 * reference:.1f}", spread]
    return [
        name,
        str(result.n),
        *times,
        f"{per_map * whole:.0f} s / {reference * whole / 60:.0f} min",
        f"{result.ratio:.0f}x",
    ]


def compare_on_maps(rng: np.random.Generator, n_images: int, rounds: int) -> None:
    """Check the numbers, then print the table's time and both comparisons."""
    drawn = [draw(rng) for _ in range(n_images)]
    maps, bits = np.stack([prob for prob, _ in drawn]), np.stack([mask for _, mask in drawn])
    floats = np.stack([largest_class(prob) for prob in maps]).astype(np.float32) / np.float32(
        255
    )  # as the kits keep them
    n_maps = n_images * N_CLASSES
    grid = default_grid(build(maps[:1], bits[:1]), N_AREAS)
    assert len(grid.areas_px) == N_AREAS and grid.gates == (0.0,)
    differences = [
        np.abs(ours(maps, bits, grid) - by_counting(maps, bits, grid)).max(),
        np.abs(ours_components(maps, bits) - usual_loop(floats, bits)).max(),
    ]
    assert max(differences) < 1e-12, differences
    print(f"{n_images} synthetic images, {n_maps} maps; largest difference of a score: {max(differences):.1e}")

    alone = [_seconds_of(lambda: [measure(prob, mask) for prob, mask in zip(maps, bits, strict=True)])]
    print(f"all thresholds of the table: {1e3 * np.median(alone) / n_maps:.2f} ms per (image, class) map")
    counting = compare(lambda: ours(maps, bits, grid), lambda: by_counting(maps, bits, grid), rounds)
    loop = compare(lambda: ours_components(maps, bits), lambda: usual_loop(floats, bits), rounds)
    head = ["the same numbers", "n", "ours ms/map", "reference ms/map", "IQR ms", "train set", "ratio"]
    rows = [head, row("total area, 256 x 64, against counting", counting, n_maps)]
    print(table([*rows, row("components, 7 x 7, against the usual loop", loop, n_maps)]))


def search_full_size(rng: np.random.Generator, rounds: int) -> None:
    """Print the time of the whole search on a table of the train set's size."""
    full = random_table(rng, N_TRAIN)
    grid = default_grid(full)
    everywhere = frozenset(full.fold.tolist())
    times = [_seconds_of(lambda: ClassSearch(full, 0, grid).best(PLAIN, everywhere)) for _ in range(rounds)]
    points = f"{N_LEVELS} x {len(grid.areas_px)} x {len(grid.gates)}"
    print(f"search of {points} points on {N_TRAIN} images: {np.median(times):.2f} s per class (n={rounds})")
    for names, what in (((PLAIN,), "plain rules"), (tuple(FAMILIES), "all families, adopted in each rotation")):
        seconds = _seconds_of(partial(lofo, full, grid, names))
        print(f"leaving one fold out, {what}: {seconds:.1f} s (n=1)")


def main() -> None:
    """Print the machine, both comparisons, and the time of a full-size search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n_images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3, help="timed calls of each side, at least 2")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    print(machine())
    compare_on_maps(rng, args.n_images, args.rounds)
    search_full_size(rng, args.rounds)


def _seconds_of(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
