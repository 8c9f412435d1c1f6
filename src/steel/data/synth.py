"""Stage `synth`: a made data set in the competition's own layout, for demos, tests and pictures.

`write_dataset` plans which strip shows which classes, then renders each strip from a random generator of its own
(seed, split, index): strips are made in any order by any number of processes, and come out byte for byte the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steel import rle
from steel.competition import CLASSES, N_PIXELS
from steel.data.defects import add_defects, draw_masks, redraw, sample_area
from steel.data.texture import surface
from steel.errors import UserError
from steel.progress import track
from steel.workers import Workers, cores

MASK_SHARES = {1: 897 / 12_568, 2: 247 / 12_568, 3: 5_150 / 12_568, 4: 801 / 12_568}  # masks per train strip
DEFECT_SHARE = 6_666 / 12_568  # strips with any mask
PAIR_WEIGHTS = {(3, 4): 284, (1, 3): 91, (1, 2): 35, (2, 3): 14}  # train strips that show both classes
RARE_FLOOR = 0.08
N_TRUE_SHARES = 2_000
STRIPS_PER_DUPLICATE, N_FIRST_DUPLICATE = 60, 30
JPEG_QUALITY = 92
N_SERIAL = 50  # starting processes costs more than this many strips

TRAIN, TEST = "train", "test"
PLACEHOLDER = f"1 {N_PIXELS}"
SPLITS = (TRAIN, TEST)
Classes = tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """One strip to render: all that a worker needs.

    Attributes:
        path: the JPEG to write.
        key: (seed, split, index) of the picture; a duplicate carries its original's.
        classes: defect kinds in the picture.
        copy_key: None for an original; a duplicate's own (seed, split, index).
        redrawn: whether this duplicate's outlines were drawn anew.
    """

    path: Path
    key: tuple[int, int, int]
    classes: Classes
    copy_key: tuple[int, int, int] | None = None
    redrawn: bool = False


def write_dataset(out: Path, n_train: int, n_test: int, seed: int) -> None:
    """Write a synthetic data set into the existing folder `out`, in the competition's layout.

    Files: `train_images/*.jpg`, `test_images/*.jpg` (256x1600, grey as three equal channels), `train.csv` and
    `test_labels.csv` (ImageId,ClassId,EncodedPixels: one row per mask), `sample_submission.csv`. The csv are sorted.

    Shares of clean strips, classes and mask areas are those of the real train set, with one exception: below 2,000
    training strips each class gets masks on at least 8 % of them, or the rare classes 1, 2 and 4 could be neither
    learned nor split into folds. The test strips follow the same shares. About one training strip in 60 (at least
    one from 30 strips on) is a duplicate: another's picture under its own id, re-encoded and slightly brighter or
    darker; the outlines of one such pair differ.

    Same arguments, same bytes, whatever the number of processors.
    """
    for name, value, least in (("n_train", n_train, 1), ("n_test", n_test, 0), ("seed", seed, 0)):
        if value < least:
            raise UserError(f"synth: {name} is {value}, but must be at least {least}")
    for split in SPLITS:
        (out / f"{split}_images").mkdir()
    tasks = _plan(out, n_train, n_test, seed)
    masks = [row for rows in track(_render_all(tasks), "synth", "strips", len(tasks)) for row in rows]
    for split, name in ((TRAIN, "train.csv"), (TEST, "test_labels.csv")):
        rows = sorted((p.name, class_id, text) for p, class_id, text in masks if p.parent.name == f"{split}_images")
        _write_csv(out / name, ["ImageId", "ClassId", "EncodedPixels"], rows)
    names = sorted(task.path.name for task in tasks if task.path.parent.name == "test_images")
    _write_csv(
        out / "sample_submission.csv",
        ["ImageId", "EncodedPixels", "ClassId"],
        [(name, PLACEHOLDER, 0) for name in names],
    )


def mask_counts(n: int, n_train: int) -> dict[int, int]:
    """Masks per class among `n` strips of a data set with `n_train` training strips; see `write_dataset`."""
    floor = 0.0 if n_train >= N_TRUE_SHARES else RARE_FLOOR
    return {k: round(n * max(share, floor)) for k, share in MASK_SHARES.items()}


def plan_classes(rng: np.random.Generator, n: int, n_train: int) -> list[Classes]:
    """Classes on each of `n` strips, shuffled: the counts of `mask_counts`, and 53 % of strips with any.

    Where there are more masks than strips to show them, some strips show two classes; no class shares more than half
    of its strips, so that each is seen alone too.
    """
    left = mask_counts(n, n_train)
    may_share = {k: (count + 1) // 2 for k, count in left.items()}
    strips: list[Classes] = []
    for _ in range(sum(left.values()) - round(n * DEFECT_SHARE)):
        pairs = {pair: w for pair, w in PAIR_WEIGHTS.items() if min(may_share[k] for k in pair) > 0}
        if not pairs:
            break
        weights = np.array(list(pairs.values()), np.float64)
        pair = list(pairs)[rng.choice(len(pairs), p=weights / weights.sum())]
        for k in pair:
            left[k] -= 1
            may_share[k] -= 1
        strips.append(pair)
    strips += [(k,) for k in CLASSES for _ in range(left[k])]
    strips += [()] * (n - len(strips))
    return [strips[i] for i in rng.permutation(n)]


def plan_duplicates(rng: np.random.Generator, strips: Sequence[Classes]) -> dict[int, int]:
    """Pairs {copy: original} of indices with equal classes, so that the plan's counts stand; the first has a defect."""
    n = max(1, len(strips) // STRIPS_PER_DUPLICATE) if len(strips) >= N_FIRST_DUPLICATE else 0
    free = [int(i) for i in rng.permutation(len(strips))]
    pairs: dict[int, int] = {}
    while len(pairs) < n:
        wanted = free if pairs else [i for i in free if strips[i]]
        original, copy = next((a, b) for a in wanted for b in wanted if a != b and strips[a] == strips[b])
        free = [i for i in free if i not in (original, copy)]
        pairs[copy] = original
    return pairs


def render(task: Task) -> list[tuple[Path, int, str]]:
    """Write one strip's JPEG and return its masks as (path, class, run lengths)."""
    rng = np.random.default_rng(task.key)
    areas = {k: sample_area(rng, k) for k in task.classes}
    chance = 0.9 if 2 in areas else 0.4 if 1 in areas else 0.28
    strip = surface(rng, chance, max_border=0.9 - 2.5 * sum(areas.values()) / N_PIXELS)
    defects = add_defects(rng, strip, areas)
    image = strip.image
    if task.copy_key is not None:
        rng = np.random.default_rng(task.copy_key)
        image = image * np.float32(rng.uniform(0.985, 1.015))
        if task.redrawn:
            defects = redraw(rng, defects)
    _write_jpeg(task.path, np.clip(image, 0, 255).astype(np.uint8))
    return [(task.path, k, rle.encode(mask)) for k, mask in sorted(draw_masks(defects).items())]


def _plan(out: Path, n_train: int, n_test: int, seed: int) -> list[Task]:
    """All strips of both splits; everything random here is drawn from the seed alone."""
    rng = np.random.default_rng((seed, len(SPLITS)))
    tasks = []
    ids = _draw_ids(rng, n_train + n_test)
    for split, n in enumerate((n_train, n_test)):
        strips = plan_classes(rng, n, n_train)
        pairs = plan_duplicates(rng, strips) if SPLITS[split] == TRAIN else {}
        redrawn = next(iter(pairs), None)
        for i, classes in enumerate(strips):
            path = out / f"{SPLITS[split]}_images" / f"{next(ids)}.jpg"
            if i in pairs:
                tasks.append(Task(path, (seed, split, pairs[i]), classes, (seed, split, i), i == redrawn))
            else:
                tasks.append(Task(path, (seed, split, i), classes))
    return tasks


def _draw_ids(rng: np.random.Generator, n: int) -> Iterator[str]:
    """Distinct ids of nine hex digits, as the real ones."""
    ids: dict[str, None] = {}
    while len(ids) < n:
        ids[f"{int(rng.integers(16**9)):09x}"] = None
    return iter(ids)


def _render_all(tasks: list[Task]) -> Iterator[list[tuple[Path, int, str]]]:
    """Render in order: here when few, else on all processors."""
    if len(tasks) <= N_SERIAL:
        yield from map(render, tasks)
        return
    with Workers(cores()) as pool:
        yield from pool.map(render, tasks, chunksize=8)


def _write_jpeg(path: Path, grey: NDArray[np.uint8]) -> None:
    """Encode in memory and write as bytes, so that a full disk is an OSError and not a silent False of cv2."""
    ok, data = cv2.imencode(".jpg", cv2.merge([grey] * 3), (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    assert ok
    path.write_bytes(data.tobytes())


def _write_csv(path: Path, columns: list[str], rows: list) -> None:
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False, lineterminator="\n")
