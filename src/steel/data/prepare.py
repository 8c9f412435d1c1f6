"""Stage `prepare`: check labels and images once, then keep them as arrays that every later stage only maps."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from steel import files, rle
from steel.competition import CLASSES, HEIGHT, WIDTH
from steel.config import Solution, digest
from steel.data.cache import AREAS
from steel.data.images import list_images, read_strip_and_digest
from steel.data.labels import read_image_list, read_labels
from steel.errors import UserError, shorten
from steel.paths import Paths
from steel.progress import track
from steel.stage import RECORD, Spec
from steel.workers import Workers, cores

CHUNK = 16  # strips per task of a worker
CODE = ("data/prepare", "data/images", "data/labels", "data/cache", "rle", "competition", "files")


def spec(paths: Paths) -> Spec:
    """What the cache is made from: the files of the raw folder, by name, size and time of change."""
    record, raw = paths.cache / RECORD, paths.raw
    inputs, env = {"raw": _listing(raw)}, {"opencv": cv2.__version__, "raw": str(raw)}
    if not raw.exists() and record.exists() and files.read_json(record)["env"].get("raw") == str(raw):
        inputs = files.read_json(record)["inputs"]  # raw files may be deleted once the cache stands
    return Spec("prepare", paths.cache, {}, inputs, CODE, env)


def make(paths: Paths, workers: int | None) -> dict[Path, str]:
    """Write the arrays and indexes of both parts; give their digests."""
    raw = paths.raw
    _check_layout(paths.solution, raw)
    train_ids = list_images(raw / "train_images")
    labels = read_labels(raw / "train.csv", train_ids)
    test_ids = _test_ids(raw)
    workers = cores() if workers is None else workers
    train = _write_part(_Part("train", raw / "train_images", train_ids, paths.cache), workers)
    test = _write_part(_Part("test", raw / "test_images", test_ids, paths.cache), workers)
    areas = _write_masks(paths.cache / "train_masks.npy", train_ids, labels)
    _write_index(paths.cache / "train.csv", train_ids, train, areas)
    _write_index(paths.cache / "test.csv", test_ids, test, None)
    files.write_json(
        paths.cache / "meta.json", {"n_train": len(train_ids), "n_test": len(test_ids), "n_masks": len(labels)}
    )
    return _outputs(paths.cache)


@dataclass(frozen=True)
class _Part:
    name: str
    folder: Path
    image_ids: list[str]
    cache: Path


def _check_layout(solution: Solution, raw: Path) -> None:
    missing = [
        name
        for name in ("train.csv", "train_images", "test_images", "sample_submission.csv")
        if not (raw / name).exists()
    ]
    if not missing:
        return
    if solution.data.synth:
        raise UserError(f"{raw} lacks {shorten(missing, 4)}: run `steel synth CONFIG` first")
    raise UserError(
        f"{raw} lacks {shorten(missing, 4)}: get the data with `steel download CONFIG`, or point --data.raw at the "
        "folder that holds it"
    )


def _test_ids(raw: Path) -> list[str]:
    """Test strips in the order of the sample submission, which must name every file of the folder."""
    listed = read_image_list(raw / "sample_submission.csv")
    present = set(list_images(raw / "test_images"))
    missing = [i for i in listed if i not in present]
    if missing:
        raise UserError(f"{raw / 'test_images'} lacks {shorten(missing)}, listed in {raw / 'sample_submission.csv'}")
    extra = sorted(present - set(listed))
    if extra:
        raise UserError(f"{raw / 'sample_submission.csv'} does not list {shorten(extra)} of {raw / 'test_images'}")
    return listed


def _write_part(part: _Part, workers: int) -> list[str]:
    """Decode the strips of one part in parallel into its array; give the sha256 of each file."""
    n = len(part.image_ids)
    with files.atomic(part.cache / f"{part.name}_images.npy") as temporary:
        array = files.create_array(temporary, (n, HEIGHT, WIDTH))
        tasks = [(temporary, part.folder, start, part.image_ids[start : start + CHUNK]) for start in range(0, n, CHUNK)]
        digests: list[str] = []
        for found in track(_parallel(tasks, workers), f"prepare {part.name}", "strips", n):
            digests.append(found)
        array.flush()
    return digests


def _parallel(tasks: list[tuple[Path, Path, int, list[str]]], workers: int) -> Iterator[str]:
    if workers < 2 or len(tasks) == 1:
        for task in tasks:
            yield from _decode(*task)
        return
    with Workers(min(workers, len(tasks))) as pool:
        for found in pool.map(_decode, *zip(*tasks, strict=True)):
            yield from found


def _decode(array_path: Path, folder: Path, start: int, image_ids: list[str]) -> list[str]:
    """Worker: decode some strips into their rows of the array."""
    array = np.load(array_path, mmap_mode="r+")
    digests = []
    for row, image_id in enumerate(image_ids, start):
        array[row], found = read_strip_and_digest(folder / image_id)
        digests.append(found)
    return digests


def _write_masks(path: Path, image_ids: list[str], labels: pd.DataFrame) -> np.ndarray:
    """Paint every mask into the bit fields; give the areas (n, 4) in px."""
    areas = np.zeros((len(image_ids), len(CLASSES)), np.int64)
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    with files.atomic(path) as temporary:
        masks = files.create_array(temporary, (len(image_ids), HEIGHT, WIDTH))
        for image_id, class_id, runs in track(list(labels.itertuples(index=False)), "prepare masks", "masks"):
            rle.paint(masks[row_of[image_id]], runs, class_id)
            areas[row_of[image_id], class_id - 1] = rle.area(runs)
        masks.flush()
    return areas


def _write_index(path: Path, image_ids: list[str], digests: list[str], areas: np.ndarray | None) -> None:
    index = pd.DataFrame({"row": range(len(image_ids)), "image_id": image_ids})
    if areas is not None:
        index[AREAS] = areas
    index["sha256"] = digests
    with files.atomic(path) as temporary:
        index.to_csv(temporary, index=False, lineterminator="\n")


def _outputs(cache: Path) -> dict[Path, str]:
    """Digests of what later stages read, of the very bytes: at a gigabyte a second they cost little beside decoding."""
    names = ("train.csv", "test.csv", "train_images.npy", "test_images.npy", "train_masks.npy")
    return {cache / name: files.sha256(cache / name) for name in names}


def _listing(raw: Path) -> str:
    """Digest of names, sizes and times of change of all files of the raw folder."""
    entries = []
    for part in ("", "train_images", "test_images"):
        if (raw / part).is_dir():
            with os.scandir(raw / part) as found:
                stats = [(entry.name, entry.stat()) for entry in found if entry.is_file()]
            entries += [[part, name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    return digest(sorted(entries))
