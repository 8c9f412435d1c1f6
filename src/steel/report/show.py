"""What `steel show` draws."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from steel import files
from steel.competition import N_CLASSES
from steel.data.cache import Strips, open_strips
from steel.errors import UserError
from steel.paths import Paths
from steel.progress import say
from steel.report.augment_sheet import sheet

CROP_PX = 448


def augmentation(paths: Paths, recipe: str | Mapping[str, str], n: int, seed: int, out: Path) -> None:
    """Write a sheet of a recipe as PNG: a crop around a defect of each class and a clean one, each in `n` versions.

    `n` >= 1, `seed` >= 0; what is out of range, an unknown recipe or a missing cache is a UserError.
    """
    if not paths.cache.exists():
        raise UserError(f"show needs the cache {paths.cache}, which is missing: run `steel prepare CONFIG` first")
    if out.suffix != ".png":
        raise UserError(f"--out: {out} is not a PNG; allowed: a name that ends in .png")
    if seed < 0:
        raise UserError(f"--seed: {seed} is out of range; allowed: >= 0")
    strips = open_strips(paths.cache, "train")
    picture = sheet(*_crops(strips, np.random.default_rng(seed)), recipe, n, seed)
    with files.atomic(out) as temporary:
        temporary.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    say(f"show: {out}: each row a crop as it is, then {n} versions of it under {recipe}")


def _crops(strips: Strips, rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A crop of each class, centred on a defect, then one of a clean strip; images and masks, (256, 448) uint8 each."""
    assert strips.masks is not None
    images, masks = [], []
    shows = [strips.areas[:, k] > 0 for k in range(N_CLASSES)] + [~strips.areas.any(1)]
    for k, found in enumerate(shows):
        if not found.any():
            continue
        row = int(rng.choice(np.flatnonzero(found)))
        bits = strips.masks[row]
        columns = np.flatnonzero((bits & (1 << k)).any(0)) if k < N_CLASSES else np.array([bits.shape[1] // 2])
        left = int(np.clip(np.median(columns) - CROP_PX // 2, 0, bits.shape[1] - CROP_PX))
        images.append(np.array(strips.images[row, :, left : left + CROP_PX]))
        masks.append(np.array(bits[:, left : left + CROP_PX]))
    return images, masks
