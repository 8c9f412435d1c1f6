"""How surely copies of strips are told from other strips: by their hash, at a quarter of their size, at full size.

    python benchmarks/duplicates.py --raw data/severstal/raw

Every fourth strip is changed in ten ways (re-encoded, brighter, darker, noisier, moved by 2 px) and compared with
itself; all strips are compared with each other at a quarter of their size, and in pairs as `folds` does it.
"""

import argparse
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from harness import table
from numpy.typing import NDArray

from steel.data import duplicates
from steel.data.duplicates import COARSE, FINE, MIN_COARSE_CORRELATION, MIN_CORRELATION, SLACK_PX
from steel.data.images import list_images, read_strip

Strip = NDArray[np.uint8]  # (256, 1600)


def recoded(quality: int) -> Callable[[Strip], Strip]:
    """A trip through JPEG."""

    def change(image: Strip) -> Strip:
        data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)

    return change


def lit(factor: float, added: float) -> Callable[[Strip], Strip]:
    """Brighter or darker."""
    return lambda image: np.clip(image.astype(np.float32) * factor + added, 0, 255).astype(np.uint8)


def noisy(image: Strip) -> Strip:
    """Noise of 3 grey levels."""
    return np.clip(image + np.random.default_rng(0).normal(0, 3, image.shape), 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[Strip], Strip]] = {
    "brightness x .6 + 20": lit(0.6, 20),
    "brightness + 20": lit(1, 20),
    "brightness x .6": lit(0.6, 0),
    "brightness x 1.5": lit(1.5, 0),
    "gamma .7": lambda image: (255 * (image / 255) ** 0.7).astype(np.uint8),
    "JPEG quality 80": recoded(80),
    "JPEG quality 60": recoded(60),
    "noise": noisy,
    "2 px to the right": lambda image: np.roll(image, 2, axis=1),
    "2 px down and left": lambda image: np.roll(image, (2, -2), axis=(0, 1)),
}


def coarse(a: Strip, b: Strip) -> float:
    """Correlation at a quarter of the size."""
    first, second = (duplicates._detail(duplicates._small(image), COARSE) for image in (a, b))
    return duplicates._correlation(first, second, 1)


def fine(a: Strip, b: Strip) -> float:
    """Correlation at full size."""
    return duplicates._correlation(duplicates._detail(a, FINE), duplicates._detail(b, FINE), SLACK_PX)


def main() -> None:
    """Print a row for each change, and what other strips come to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, default=Path("data/demo/raw"), help="[data/demo/raw]")
    args = parser.parse_args()
    folders = [args.raw / f"{part}_images" for part in ("train", "test")]
    strips = np.stack([read_strip(folder / name) for folder in folders for name in list_images(folder)])
    rows = [["copies", "of", f"full size >= {MIN_CORRELATION}", "of these, least at a quarter"]]
    for name, change in CHANGES.items():
        pairs = [(image, change(image)) for image in strips[::4]]
        passing = [coarse(*pair) for pair in pairs if fine(*pair) >= MIN_CORRELATION]
        rows.append([name, f"{len(pairs)}", f"{len(passing)}", f"{min(passing, default=np.nan):.3f}"])
    rows.append(["all", *(f"{sum(int(row[i]) for row in rows[1:])}" for i in (1, 2)), min(row[3] for row in rows[1:])])
    print(table(rows))
    details = [duplicates._detail(duplicates._small(image), COARSE) for image in strips]
    others = max(duplicates._correlation(a, b, 1) for a, b in combinations(details, 2))
    print(f"other strips at a quarter: at most {others:.3f}; copies need {MIN_COARSE_CORRELATION}")
    print(f"pairs among the {len(strips)} strips: {len(duplicates.find_pairs(strips))}")


if __name__ == "__main__":
    main()
