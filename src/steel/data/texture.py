"""The bare surface of a synthetic strip: rolled steel under uneven light, often with a black border.

Everything is made of one brick, smooth noise of a chosen grain (`noise`), since it costs a millisecond per strip.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.competition import HEIGHT, WIDTH

# Width of the black border as a share of the strip, at equal steps of probability (measured on real strips).
BORDER_SHARES = (0.04, 0.06, 0.15, 0.22, 0.25, 0.28, 0.38, 0.5, 0.67, 0.88)
EDGE_PX = 12  # columns beside the border that are too dark to show a defect
SHADE_PX = 300  # columns beside the border that its shade reaches

FULL, HALF = (HEIGHT, WIDTH), (HEIGHT // 2, WIDTH // 2)

Grey = NDArray[np.float32]


@dataclass(frozen=True)
class Surface:
    """A strip before its defects.

    Attributes:
        image: (256, 1600) float32 grey levels, not yet clipped to 0..255.
        left: first column that shows steel.
        right: one past the last such column.
    """

    image: Grey
    left: int
    right: int

    @property
    def has_border(self) -> bool:
        """Whether the coil's edge, and the black beyond it, is in the picture."""
        return self.left > 0 or self.right < WIDTH


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: tuple[float, float]) -> Grey:
    """Smooth noise of about unit deviation, `shape` float32; `cell` is the grain as (rows, columns) in px."""
    grid = [max(1, round(n / c)) + (n > c) for n, c in zip(shape, cell, strict=True)]
    values = rng.standard_normal(grid, dtype=np.float32)
    return cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)


def blur(image: Grey, sigma: float, sigma_down: float = 0.0, size: int = 0) -> Grey:
    """Gaussian blur by `sigma` px across and `sigma_down` px down (0: as across), kernel `size` px (0: wide enough)."""
    blurred = cv2.GaussianBlur(image, (size, size), sigma, sigmaY=sigma_down)
    return blurred.astype(np.float32, copy=False)  # only for the type checker: cv2 keeps float32


def surface(rng: np.random.Generator, border_chance: float, max_border: float) -> Surface:
    """Make a bare strip; `max_border` bounds the border's share of it in [0, 1], so that its defects find room."""
    relief = noise(rng, (1, WIDTH), (1, 3)) * 0.02 + noise(rng, FULL, (60, 3)) * np.float32(rng.uniform(0.015, 0.04))
    for chance, layer in ((0.75, _stains), (0.35, _mottle), (0.4, _ripples)):
        if rng.random() < chance:
            relief += layer(rng)
    relief += _grain(rng)
    relief += 1
    level = float(np.clip(rng.normal(100, 17), 58, 138))
    image = level * cv2.resize(_shading(rng), (WIDTH, HEIGHT)) * relief
    if rng.random() < 0.5:
        _add_glitter(rng, image)
    if rng.random() < 0.04:
        _add_splashes(rng, image)
    return _add_border(rng, image, border_chance, max_border)


def _shading(rng: np.random.Generator) -> Grey:
    """Uneven light and the soft streaks and bands of the rolls, about 1, at half size (128, 800) for speed."""
    rows, cols = HALF
    x = np.linspace(0, 1, cols, dtype=np.float32) - rng.uniform(0.25, 0.75)
    light = 1.08 - rng.uniform(0.1, 1.1) * x**2 + 0.08 * noise(rng, (1, cols), (1, 110))[0]
    tilt = np.linspace(-1, 1, rows, dtype=np.float32)[:, None] * rng.normal(0, 0.08)
    through = sum(a * noise(rng, (1, cols), (1, c)) for a, c in ((0.03, 35), (0.025, 8), (0.015, 2)))
    slope = rng.normal(0, 0.6)  # bands lean as if wiped
    lean = np.array([[1, slope, -slope * rows / 2], [0, 1, 0]], np.float32)
    bands = cv2.warpAffine(noise(rng, HALF, (100, rng.uniform(8, 45))), lean, HALF[::-1], borderMode=cv2.BORDER_REFLECT)
    relief = rng.uniform(0.02, 0.06) * bands + 0.025 * noise(rng, HALF, (90, 5)) + 0.02 * noise(rng, HALF, (50, 90))
    return np.clip(light + tilt, 0.35, 1.5) * (1 + relief + through)


def _stains(rng: np.random.Generator) -> Grey:
    """Islands with crisp edges, dark or now and then light, in some parts of the strip only, (256, 1600)."""
    field = noise(rng, FULL, (rng.uniform(6, 70), rng.uniform(4, 14)))
    field += 0.5 * noise(rng, FULL, (5, 4))
    field += 1.3 * noise(rng, FULL, (300, 110)) - rng.uniform(1.1, 2.4)
    sign = -1.0 if rng.random() < 0.8 else 0.6
    return np.clip(field * 4, 0, 1).astype(np.float32, copy=False) * np.float32(sign * rng.uniform(0.08, 0.24))


def _mottle(rng: np.random.Generator) -> Grey:
    """Fine dark specks drawn out downwards, dense in some parts, (256, 1600)."""
    field = noise(rng, FULL, (5, 2))
    field += 0.6 * noise(rng, (1, WIDTH), (1, 60)) - rng.uniform(1.0, 1.8)
    return np.clip(field * 2, 0, 1).astype(np.float32, copy=False) * np.float32(-rng.uniform(0.08, 0.22))


def _ripples(rng: np.random.Generator) -> Grey:
    """Fine horizontal waves, dark in the troughs, strong in some parts, (256, 1600)."""
    waves = noise(rng, FULL, (rng.uniform(2, 4), rng.uniform(20, 70)))
    where = np.clip(noise(rng, (1, WIDTH), (1, 170)), 0, 1.5)
    return np.minimum(waves, 0.8) * (where * np.float32(rng.uniform(0.07, 0.16)))


def _grain(rng: np.random.Generator) -> Grey:
    """The camera's and the steel's grain: (256, 1600), deviation about 5 to 10 %."""
    # Bytes cost a tenth of normal deviates, and the blur makes them nearly normal.
    grain = blur(rng.integers(0, 256, FULL, np.uint8).astype(np.float32), rng.uniform(0.5, 0.75), size=3)
    return (grain - 127.5) * (rng.uniform(0.08, 0.175) / 74)


def _add_glitter(rng: np.random.Generator, image: Grey) -> None:
    """Bright points and short dashes where the steel mirrors the lamp, in place."""
    n = int(rng.integers(500, 9_000))
    y, x = rng.integers(0, HEIGHT, n), rng.integers(0, WIDTH - 3, n)
    shine = noise(rng, HALF, (60, 60))[y // 2, x // 2] + noise(rng, HALF, (2, 30))[y // 2, x // 2] - 0.8
    shine = np.clip(shine, 0, 1.5) * rng.exponential(60, n).astype(np.float32)
    for step, share in enumerate((1.0, 0.9, 0.4)):
        image[y, x + step] += share * shine


def _add_splashes(rng: np.random.Generator, image: Grey) -> None:
    """Overexposed drops of water, in place: bright, yet no defect."""
    where = noise(rng, FULL, (22, 14)) + 0.6 * noise(rng, FULL, (5, 5))
    centre = rng.uniform(300, 1300)
    near = np.exp(-(((np.arange(WIDTH, dtype=np.float32) - centre) / rng.uniform(40, 130)) ** 2))
    image += np.clip((where * near - 0.8) * 4, 0, 1) * 200


def _add_border(rng: np.random.Generator, image: Grey, chance: float, max_border: float) -> Surface:
    """Black out one end, in place, with the steel's bevelled edge beside it."""
    steps = np.linspace(0, 1, len(BORDER_SHARES))
    share = min(float(np.interp(rng.random(), steps, BORDER_SHARES)), max_border)
    if rng.random() >= chance or share < BORDER_SHARES[0]:
        return Surface(image, 0, WIDTH)
    on_left = rng.random() < 0.5
    slope, soft_px = rng.normal(0, 6) / HEIGHT, rng.uniform(2, 5)
    near = (image if on_left else image[:, ::-1])[:, : round(share * WIDTH) + SHADE_PX]  # all that changes; a view
    x = np.arange(near.shape[1], dtype=np.float32) - share * WIDTH
    inside = x + slope * (np.arange(HEIGHT, dtype=np.float32)[:, None] - HEIGHT / 2)  # px from the coil's edge
    bevel = float(rng.choice([-0.55, -0.35, 0.35])) * np.exp(-(((inside - 6) / rng.uniform(4, 14)) ** 2))
    shade = 1 - 0.35 * np.exp(-np.maximum(inside, 0) / rng.uniform(15, 60))
    black = noise(rng, (1, near.shape[1]), (1, 200)) + rng.uniform(1, 6)
    steel = np.clip(inside / soft_px, 0, 1)
    near *= shade * (1 + bevel) * steel
    near += black * (1 - steel)
    edge = round(share * WIDTH) + EDGE_PX
    return Surface(image, edge, WIDTH) if on_left else Surface(image, 0, WIDTH - edge)
