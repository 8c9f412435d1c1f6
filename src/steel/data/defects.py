"""The four kinds of defect: where they lie, what outline an annotator would draw, and how they look.

A defect is made outline first: loose polygons of a wanted area are placed on the steel, then each is inked a little
inside its outline, so that the mask fits the defect and yet is as loose as one drawn by hand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.competition import HEIGHT, WIDTH
from steel.data.texture import Grey, Surface, blur, noise

# Mask area in px per class at the probabilities AREA_STEPS, rounded from the real distribution.
AREA_STEPS = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
AREA_PX = {
    1: (400, 800, 1_060, 1_760, 3_330, 5_800, 9_000, 15_700, 25_000),
    2: (500, 990, 1_210, 1_950, 2_940, 4_340, 5_860, 10_500, 13_000),
    3: (500, 1_830, 2_790, 5_050, 12_000, 29_000, 62_000, 193_000, 300_000),
    4: (1_500, 5_100, 7_090, 13_100, 25_400, 45_200, 75_000, 130_000, 170_000),
}
TRIES = 24  # places tried for one polygon
GAP_PX = 6  # wanted between two polygons
SEAM_PX = 150  # zone at either end that scratches (class 3) leave to thin marks (class 2)

Mask = NDArray[np.bool_]
Polygon = NDArray[np.float32]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Defect:
    """One class's mask on one strip: polygons of (v, 2) float32 points (x, y) in px."""

    class_id: int
    polygons: tuple[Polygon, ...]


def sample_area(rng: np.random.Generator, class_id: int) -> float:
    """Draw a mask's area in px from the class's distribution."""
    return float(np.exp(np.interp(rng.random(), AREA_STEPS, np.log(AREA_PX[class_id]))))


def add_defects(rng: np.random.Generator, strip: Surface, areas: dict[int, float]) -> list[Defect]:
    """Paint one defect per class into `strip.image`, in place; `areas` maps the class to its wanted area in px."""
    occupied = np.zeros((HEIGHT, WIDTH), np.bool_)
    defects = []
    # Small ones first: what overlaps in the end is taken from the larger mask, which can spare it.
    for class_id, area_px in sorted(areas.items(), key=lambda item: item[1]):
        before = occupied.copy()
        style = rng.random()  # one cause, one look: shared by all polygons of a mask
        polygons = _place(rng, strip, class_id, area_px, occupied)
        for polygon in polygons:
            _ink(rng, strip.image, class_id, style, polygon, before)
        defects.append(Defect(class_id, tuple(polygons)))
    return defects


def draw_masks(defects: Sequence[Defect]) -> dict[int, Mask]:
    """Fill the outlines: class -> (256, 1600) bool; a pixel belongs to the first defect that claims it."""
    taken = np.zeros((HEIGHT, WIDTH), np.bool_)
    masks = {}
    for defect in defects:
        canvas = np.zeros((HEIGHT, WIDTH), np.uint8)
        for polygon in defect.polygons:
            cv2.fillPoly(canvas, [np.rint(polygon).astype(np.int32)], (1,))
        masks[defect.class_id] = canvas.astype(np.bool_) & ~taken
        taken |= masks[defect.class_id]
    return masks


def redraw(rng: np.random.Generator, defects: Sequence[Defect]) -> list[Defect]:
    """Outline the same defects again as another annotator would: looser, and each corner a few px elsewhere."""

    def again(polygon: Polygon) -> Polygon:
        centre = polygon.mean(0)
        away = np.sign(polygon - centre) * rng.uniform(1, 4)
        moved = polygon + away + rng.normal(0, 1.5, polygon.shape)
        return np.clip(moved, 0, (WIDTH - 1, HEIGHT - 1)).astype(np.float32)

    return [Defect(d.class_id, tuple(again(p) for p in d.polygons)) for d in defects]


def _place(rng: np.random.Generator, strip: Surface, class_id: int, area_px: float, occupied: Mask) -> list[Polygon]:
    """Split an area into polygons and find room for each; marks them in `occupied`."""
    shares = _split(rng, class_id, area_px)
    centre_x = _centre(rng, strip, class_id)
    polygons: list[Polygon] = []
    for part_px in shares:
        polygon = _outline(rng, class_id, part_px, 0.92 * (strip.right - strip.left))
        size = np.ptp(polygon, 0)
        best = None
        for _ in range(TRIES):
            corner = _corner(rng, strip, class_id, size, centre_x)
            x, y = corner.astype(int)
            x1, y1 = (corner + size + GAP_PX).astype(int)
            clash = int(np.count_nonzero(occupied[max(y - GAP_PX, 0) : y1, max(x - GAP_PX, 0) : x1]))
            if best is None or clash < best[0]:
                best = (clash, corner)
            if not clash:
                break
        assert best is not None
        polygon = polygon + best[1]
        canvas = occupied.view(np.uint8)
        cv2.fillPoly(canvas, [np.rint(polygon).astype(np.int32)], (1,))
        polygons.append(polygon)
    return polygons


def _split(rng: np.random.Generator, class_id: int, area_px: float) -> list[float]:
    """Areas of a mask's polygons, px: usual size of one polygon and the most there are, per class."""
    usual_px, most = {1: (1_100, 12), 2: (2_300, 3), 3: (max(3_500.0, area_px / 5), 8), 4: (14_000, 5)}[class_id]
    n = int(np.clip(round(area_px / (usual_px * rng.uniform(0.6, 1.8))), 1, most))
    weights = rng.uniform(0.5, 1.5, n)
    return list(area_px * weights / weights.sum())


def _centre(rng: np.random.Generator, strip: Surface, class_id: int) -> float:
    """Column around which a mask's polygons gather: for classes 1 and 2 not far from the coil's edge."""
    if class_id == 3 or (class_id == 4 and rng.random() < 0.7):
        return float(rng.uniform(strip.left, strip.right))
    reach = {1: rng.uniform(30, 600), 2: rng.uniform(25, 110), 4: 600.0}[class_id]
    on_left = strip.left > 0 or (strip.right == WIDTH and rng.random() < 0.5)
    return float(strip.left + reach if on_left else strip.right - reach)


def _corner(
    rng: np.random.Generator, strip: Surface, class_id: int, size: NDArray[np.float32], centre_x: float
) -> NDArray[np.float32]:
    """Upper left corner (x, y) in px for a polygon of `size` (w, h); now and then flush with the strip's rim."""
    spread = {1: 90, 2: 25, 3: 420, 4: 260}[class_id]
    highest = np.array([strip.right - 1 - size[0], HEIGHT - 1 - size[1]])
    x = rng.normal(centre_x, spread) - size[0] / 2
    left = strip.left
    if class_id == 3 and highest[0] - left > 3 * SEAM_PX:  # the edge is class 2's, which looks alike
        left, highest[0] = left + SEAM_PX, highest[0] - SEAM_PX
    y = rng.uniform(-0.15, 1.15) * highest[1]
    return np.clip([x, y], [left, 0], np.maximum(highest, [left, 0])).astype(np.float32)


def _outline(rng: np.random.Generator, class_id: int, area_px: float, room_px: float) -> Polygon:
    """A polygon of `area_px` with its upper left at (0, 0), at most `room_px` wide and a strip high."""
    if class_id == 1:
        height, polygon = np.sqrt(area_px * rng.uniform(1.2, 3.5)), _box(rng, int(rng.integers(4, 8)))
    elif class_id == 2:
        height, polygon = np.sqrt(area_px * rng.uniform(6, 14)), _box(rng, 4)
    elif class_id == 3 and rng.random() < 0.7:  # a streak: as tall as the strip if it can be
        height, polygon = min(HEIGHT * rng.uniform(0.3, 1.3), area_px / 12), _box(rng, int(rng.integers(4, 6)))
    elif class_id == 3:
        height, polygon = np.sqrt(area_px * rng.uniform(0.4, 2.0)), _box(rng, int(rng.integers(5, 10)))
    else:
        height, polygon = np.sqrt(area_px * rng.uniform(0.6, 1.4)), _blob(rng, int(rng.integers(10, 20)))
    height = min(float(height), HEIGHT - 2.0)
    width = area_px / height / float(cv2.contourArea(polygon))
    scaled = polygon * np.array([min(width, room_px), height], np.float32)
    return np.clip(scaled - scaled.min(0), 0, (room_px, HEIGHT - 1)).astype(np.float32)


def _box(rng: np.random.Generator, n_corners: int) -> Polygon:
    """A convex outline in the unit square, from a few clicks around it."""
    turn = np.sort((np.arange(n_corners) + rng.uniform(-0.2, 0.2, n_corners)) / n_corners + 0.125) * 2 * np.pi
    points = np.stack([np.cos(turn), np.sin(turn)], 1)
    points /= np.abs(points).max(1, keepdims=True) ** 0.8  # nearly out to the square
    points += rng.uniform(-0.12, 0.12, points.shape)
    return _to_unit(points)


def _blob(rng: np.random.Generator, n_corners: int) -> Polygon:
    """A ragged round outline in the unit square."""
    turn = np.arange(n_corners) / n_corners * 2 * np.pi
    phase = rng.uniform(0, 2 * np.pi, 3)
    radius = 1 + 0.22 * np.sin(2 * turn + phase[0]) + 0.14 * np.sin(3 * turn + phase[1])
    radius += 0.1 * np.sin(5 * turn + phase[2]) + rng.uniform(-0.07, 0.07, n_corners)
    return _to_unit(np.stack([np.cos(turn), np.sin(turn)], 1) * radius[:, None])


def _to_unit(points: NDArray) -> Polygon:
    return ((points - points.min(0)) / np.ptp(points, 0)).astype(np.float32)


def _ink(rng: np.random.Generator, image: Grey, class_id: int, style: float, polygon: Polygon, taken: Mask) -> None:
    """Paint one polygon's inside into the image, in place, sparing what other classes have taken."""
    low, high = np.floor(polygon.min(0)).astype(int), np.ceil(polygon.max(0)).astype(int) + 1
    part = (slice(max(low[1], 0), high[1]), slice(max(low[0], 0), high[0]))
    canvas = np.zeros(image[part].shape, np.uint8)
    cv2.fillPoly(canvas, [np.rint(polygon).astype(np.int32) - low.astype(np.int32)], (1,))
    canvas &= ~taken[part]
    inset = int(np.clip(min(canvas.shape) // 10, 1, 5))
    inner = cv2.erode(canvas, np.ones((2 * inset + 1, 2 * inset + 1), np.uint8))
    core = canvas * blur(inner.astype(np.float32), 0.6 * inset + 0.4)
    patch = image[part]
    gain, shine = INKS[class_id](rng, core, style)
    # A defect on dim steel is dim too, so the shine is scaled by the light that falls there.
    patch += core * (gain * patch + shine * max(float(patch.mean()), 45.0))


def _pits(rng: np.random.Generator, core: Grey, _: float) -> tuple[Grey, Grey]:
    """Class 1: dark spots with a bright rim on their lee side, on slightly darker ground."""
    field = noise(rng, core.shape, (6, 4)) + 0.4 * noise(rng, core.shape, (2, 2)) + 1.2 * (core - 0.6)
    spots = np.clip((field - 0.5) * 1.2, 0, 1)
    rim = np.clip(blur(np.roll(spots, 2, 0) - spots, 0.7), 0, 1)
    return -0.2 - 0.65 * spots, 1.9 * rim


def _marks(rng: np.random.Generator, core: Grey, _: float) -> tuple[Grey, Grey]:
    """Class 2: one thin dark line down the middle of a greyish seam, with a bright lip on either side."""
    x = np.arange(core.shape[1], dtype=np.float32)
    weight = core + 1e-4
    middle = (weight * x).sum(1) / weight.sum(1)
    middle = middle + 0.8 * noise(rng, (1, core.shape[0]), (1, 30))[0]
    off = np.abs(x[None] - middle[:, None])
    line = np.exp(-((off / rng.uniform(1.4, 2.6)) ** 2))
    lip = np.exp(-(((off - rng.uniform(4.5, 6)) / 1.5) ** 2))
    broken = np.clip(0.7 + 0.4 * noise(rng, (core.shape[0], 1), (25, 1)), 0, 1)
    return -0.5 - 0.4 * line * broken, rng.uniform(0.3, 0.6) * lip


def _scratches(rng: np.random.Generator, core: Grey, style: float) -> tuple[Grey, Grey]:
    """Class 3: vertical scratches or smears, dark or bright, or bright splatter."""
    rows, cols = core.shape
    # Strokes thin out towards the outline at lengths of their own, rather than being cut off by it.
    depth = blur(core, max(1.0, cols / 14), max(2.0, rows / 14))
    inward = 1.7 * (depth - 0.7)
    if style < 0.15:  # splatter
        field = noise(rng, core.shape, (3, 3)) + 0.8 * noise(rng, core.shape, (22, 16)) + inward
        return 0.12 * core, 1.4 * np.clip(field - 0.35, 0, 1)
    length = min(rng.uniform(40, 200), 1.5 * rows)
    field = noise(rng, core.shape, (length, 2.5)) + 0.7 * noise(rng, core.shape, (length, 9)) + inward
    field += 0.5 * noise(rng, core.shape, (12, 3)) + 0.35
    strokes = np.clip(field * 0.8, 0, 1)
    if style < 0.55:
        return 0.12 * core, rng.uniform(0.5, 1.0) * strokes
    flecks = np.clip(noise(rng, core.shape, (4, 3)) - 1.6, 0, 1) if style > 0.8 else np.zeros_like(core)
    return -rng.uniform(0.35, 0.55) * strokes - 0.06, 1.8 * flecks


def _patches(rng: np.random.Generator, core: Grey, style: float) -> tuple[Grey, Grey]:
    """Class 4: torn, folded skin: a relief lit from above, mostly darker than the steel, its rim in shadow."""
    grain = 0.7 + 1.3 * style
    height = 1.4 * noise(rng, core.shape, (30 * grain, 50 * grain)) + 0.7 * noise(rng, core.shape, (11 * grain, 18))
    height += 0.3 * noise(rng, core.shape, (5, 7)) + 0.12 * noise(rng, core.shape, (2, 2))
    height = blur(height, 0.7)
    folds = 4 * np.abs(height) + 2.5 * core  # ridges where the smooth field crosses zero
    lit = cv2.Sobel(folds, cv2.CV_32F, 0, 1, scale=0.25) + 0.4 * cv2.Sobel(folds, cv2.CV_32F, 1, 0, scale=0.25)
    tone = np.clip(0.45 * lit, -0.5, 0.4) - rng.uniform(0.12, 0.4)
    return tone, 0.8 * np.clip(lit - 1.1, 0, 1)


# class -> function (rng, core in [0, 1] of a part's shape, style in [0, 1]) -> (gain, shine), float32 of that shape:
# the level v becomes v + core * (gain * v + shine * mean level).
INKS: dict[int, Callable[[np.random.Generator, Grey, float], tuple[Grey, Grey]]] = {
    1: _pits,
    2: _marks,
    3: _scratches,
    4: _patches,
}
