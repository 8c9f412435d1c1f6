"""The ensemble's weights: time of every step, and whether the short cut of the lattice keeps the choice.

    python benchmarks/ensemble.py --n_images 60 --workers 2

Synthetic maps of six models: two good ones, two fair, two poor, whose errors are partly common; of class 2 the third
model is the only good one. First the whole path on a few strips, with the search on the lattice and on all pixels, and
the exact score of what both find. Then the search alone at the size of the train set, on drawn strips that are repeated
with other noise: for its time, since repeated strips make standard errors too small.
"""

import argparse
import resource
import time
from collections.abc import Sequence
from unittest.mock import patch

import cv2
import numpy as np
from harness import machine, table
from numpy.typing import NDArray

from steel.competition import HEIGHT, N_CLASSES, N_TRAIN, WIDTH
from steel.decide import sample as room
from steel.decide.combine import Outputs
from steel.decide.ensemble import TRANSFORMS, Blend, mean_gate
from steel.decide.families import PLAIN
from steel.decide.grid import default_grid
from steel.decide.measure import measure
from steel.decide.rules import apply_to_table
from steel.decide.sample import Points, Sample, correlations, reduce_strip
from steel.decide.search import lofo, search
from steel.decide.table import LARGE, Table
from steel.decide.weights import Found, search_blends
from steel.metrics import score

N_MODELS, N_GATES, N_FOLDS = 6, 3, 5
LOW = (HEIGHT // 4, WIDTH // 4)  # fields are drawn small and enlarged
TRAIN_SHARES = (0.071, 0.020, 0.410, 0.064)  # of the train set's strips that show each class
OWN = np.array([1.0, 1.0, 1.5, 1.5, 3.0, 3.0])[:, None] * np.ones(N_CLASSES)  # (6, 4) spread of a model's own error
OWN[:, 1] = 4.0
OWN[2, 1] = 0.5
GATE_ERROR = (1.0, 1.0, 3.0)

Strip = tuple[list[NDArray[np.uint8]], NDArray[np.uint8]]


def draw(rng: np.random.Generator, shares: tuple[float, ...]) -> Strip:
    """Maps (4, 256, 1600) of the models and mask bits (256, 1600), uint8; `shares` of the strips show each class."""
    maps = [np.zeros((N_CLASSES, HEIGHT, WIDTH), np.uint8) for _ in range(N_MODELS)]
    bits = np.zeros((HEIGHT, WIDTH), np.uint8)
    for k in range(N_CLASSES):
        defect = _blobs(rng) if rng.random() < shares[k] else np.zeros(LOW, np.float32)
        look_alike = _blobs(rng) * np.float32(rng.uniform(0, 1.5)) if rng.random() < 0.25 else np.zeros(LOW, np.float32)
        truth = cv2.resize(cv2.GaussianBlur(defect, (0, 0), 2), (WIDTH, HEIGHT)) > 0.5
        bits[truth & (bits == 0)] = 1 << k
        seen = cv2.GaussianBlur(np.maximum(defect, look_alike), (0, 0), 2)
        common = _noise(rng)
        for m in range(N_MODELS):
            error = common + OWN[m, k] * (_noise(rng) + np.float32(1.5 * rng.normal()))
            logit = -6 + 10 * seen + error * (0.2 + cv2.GaussianBlur(seen, (0, 0), 4))
            prob = 255 / (1 + np.exp(-cv2.resize(logit, (WIDTH, HEIGHT))))
            maps[m][k] = prob.round()
    return maps, bits


def draw_gates(rng: np.random.Generator, has_class: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Probabilities (n, 4) of three classifiers."""
    logits = [np.where(has_class, 2.5, -2.5) + rng.normal(0, error, has_class.shape) for error in GATE_ERROR]
    return [1 / (1 + np.exp(-logit)) for logit in logits]


def whole_path(rng: np.random.Generator, n: int, workers: int) -> None:
    """Print the times of all steps on n strips, and what the searches on the lattice and on all pixels find."""
    drawn = [draw(rng, (0.5,) * N_CLASSES) for _ in range(n)]
    start = time.perf_counter()
    exact = [measure(_mean(maps, Blend.equal(len(maps), 0)), bits) for maps, bits in drawn]
    equal_ms = 1e3 * (time.perf_counter() - start) / n
    true_px = np.stack([px for _, _, px in exact])
    fold = (np.arange(n) % N_FOLDS).astype(np.int16)
    gates = draw_gates(rng, true_px > 0)
    lattice, rows = _search_on(drawn, fold, true_px, gates, workers)
    with patch.multiple(room, EVERY=1, LATTICE=slice(None), MAX_POINTS=HEIGHT * WIDTH):
        pixels, more = _search_on(drawn, fold, true_px, gates, workers)
    print(f"{n} strips of {N_MODELS} models; equal mean and measuring: {equal_ms:.1f} ms per strip")
    print(table([["", "reduce, ms per strip", "points per strip", "search, s"], ["lattice", *rows], ["pixels", *more]]))
    for kind in TRANSFORMS:
        blend = Blend((kind,) * N_CLASSES, ((3, 2, 1, 1, 2, 3),) * N_CLASSES, ((),) * N_CLASSES)
        start = time.perf_counter()
        for maps, _ in drawn[:10]:
            _mean(maps, blend)
        print(f"mean of kind {kind}: {100 * (time.perf_counter() - start):.1f} ms per strip")
    blends = {"equal": {f: Blend.equal(N_MODELS, N_GATES) for f in (*range(N_FOLDS), None)}}
    blends |= {name: {None: one.ships, **one.rotations} for name, one in (("lattice", lattice), ("pixels", pixels))}
    head = ["exact score of", "in sample", "leaving one fold out"]
    print(table([head, *([name, *_exact(drawn, fold, gates, found)] for name, found in blends.items())]))
    for name, one in (("lattice", lattice), ("pixels", pixels)):
        for part, adoptions in one.evidence().items():
            print(name, part, *(f"class {c}: {evidence}" for c, evidence in adoptions.items()), sep="\n  ")


def _search_on(
    drawn: list[Strip],
    fold: NDArray[np.int16],
    true_px: NDArray[np.int32],
    gates: list[NDArray[np.float64]],
    workers: int,
) -> tuple[Found, list[str]]:
    """What the search finds, and its times."""
    start = time.perf_counter()
    strips = [reduce_strip(*strip) for strip in drawn]
    reduce_s = time.perf_counter() - start
    one = Sample.of(strips, fold, true_px, gates)
    start = time.perf_counter()
    found = search_blends(one, workers)
    search_s = time.perf_counter() - start
    n_points = sum(len(points.under) for points in strips)
    return found, [f"{1e3 * reduce_s / len(drawn):.1f}", f"{n_points / len(drawn):.0f}", f"{search_s:.1f}"]


def _exact(
    drawn: list[Strip], fold: NDArray[np.int16], gates: list[NDArray[np.float64]], blends: dict[int | None, Blend]
) -> list[str]:
    """The exact score of a blend with plain rules: in sample, and each fold under blend and rules of the others."""
    tables = {blend: _table(drawn, fold, gates, blend) for blend in set(blends.values())}
    ships = tables[blends[None]]
    grid = default_grid(ships)
    pred_px, overlap_px = np.zeros_like(ships.true_px), np.zeros_like(ships.true_px)
    for f in range(N_FOLDS):
        table = tables[blends[f]].subset(fold == f)
        rules = lofo(tables[blends[f]], grid, (PLAIN,), [f])[f]
        pred_px[fold == f], overlap_px[fold == f] = apply_to_table(rules, table)
    pairs = (apply_to_table(search(ships, grid, (PLAIN,)), ships), (pred_px, overlap_px))
    return [f"{score(pred, ships.true_px, overlap).mean:.5f}" for pred, overlap in pairs]


def _mean(maps: Sequence[NDArray[np.uint8]], blend: Blend) -> NDArray[np.uint8]:
    return Outputs(maps, np.zeros((len(maps), N_CLASSES))).combine(blend)[0]


def _table(drawn: list[Strip], fold: NDArray[np.int16], gates: list[NDArray[np.float64]], blend: Blend) -> Table:
    parts = [measure(_mean(maps, blend), bits) for maps, bits in drawn]
    area, overlap, true_px = (np.stack(arrays) for arrays in zip(*parts, strict=True))
    gate = mean_gate(gates, len(drawn), blend.gate_counts)
    ids, none = np.array([f"{i}.jpg" for i in range(len(drawn))]), np.zeros((len(drawn), *LARGE), np.int32)
    return Table(ids, fold, true_px, area, overlap, none, none, tail_px=np.zeros((len(drawn), N_CLASSES)), gate=gate)


def full_size(rng: np.random.Generator, n_drawn: int, workers: int) -> None:
    """Print time and memory of the search on a sample of the train set's size."""
    drawn, true = [], []
    reduce_s = 0.0
    for _ in range(n_drawn):
        maps, bits = draw(rng, TRAIN_SHARES)
        start = time.perf_counter()
        drawn.append(reduce_strip(maps, bits))
        reduce_s += time.perf_counter() - start
        true.append([np.count_nonzero(bits == 1 << k) for k in range(N_CLASSES)])
    strips = [_vary(drawn[i % n_drawn], rng) for i in range(N_TRAIN)]
    true_px = np.array([true[i % n_drawn] for i in range(N_TRAIN)], np.int32)
    fold = rng.integers(0, N_FOLDS, N_TRAIN).astype(np.int16)
    start = time.perf_counter()
    full = Sample.of(strips, fold, true_px, draw_gates(rng, true_px > 0))
    gather_s = time.perf_counter() - start
    size = sum(a.nbytes for part in full.parts.values() for a in (part.values, part.cell, part.px, part.gates))
    per_class = [sum(full.parts[k, f].values.shape[1] for f in range(N_FOLDS)) for k in range(N_CLASSES)]
    print(f"{N_TRAIN} strips: {1e3 * reduce_s / n_drawn:.2f} ms each to reduce, {gather_s:.1f} s to gather")
    print(f"points of each class {[f'{n / 1e6:.2f} M' for n in per_class]}; {size / 1e6:.0f} MB")
    start = time.perf_counter()
    found = search_blends(full, workers)
    print(f"search with {workers} processes: {time.perf_counter() - start:.0f} s")
    here, children = (
        resource.getrusage(who).ru_maxrss / 1e6 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"largest memory: {here:.1f} GB here (with the strips), {children:.1f} GB of a worker")
    for part, adoptions in found.evidence().items():
        print(part, *(f"class {c}: {evidence}" for c, evidence in adoptions.items()), sep="\n  ")
    start = time.perf_counter()
    correlations(full)
    print(f"correlations: {time.perf_counter() - start:.1f} s")


def _vary(points: Points, rng: np.random.Generator) -> Points:
    """The same points with a shift of each model's values, and noise."""
    values = points.values + rng.integers(-15, 16, (N_MODELS, 1)) + rng.integers(-3, 4, points.values.shape, np.int8)
    return points._replace(values=values.clip(0, 255).astype(np.uint8))


def _blobs(rng: np.random.Generator) -> NDArray[np.float32]:
    """Some ellipses of ones on a field of zeros, (64, 400)."""
    field = np.zeros(LOW, np.float32)
    for _ in range(rng.integers(1, 4)):
        centre, axes = rng.integers((0, 0), LOW[::-1]), rng.integers((4, 3), (26, 14))
        cv2.ellipse(field, centre.tolist(), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
    return field


def _noise(rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise with a spread of about 1, (64, 400)."""
    return cv2.GaussianBlur(rng.normal(0, 9, LOW), (0, 0), 2.5).astype(np.float32)


def main() -> None:
    """Print the machine, the whole path on a few strips, and the search at full size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n_images", type=int, default=60, help="strips of the whole path, 10 MB each; 0: none")
    parser.add_argument("--n_drawn", type=int, default=300, help="different strips of the search at full size; 0: none")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(args.seed)
    print(machine())
    if args.n_images:
        whole_path(rng, args.n_images, args.workers)
    if args.n_drawn:
        full_size(rng, args.n_drawn, args.workers)


if __name__ == "__main__":
    main()
