"""The cache: strips checked, decoded and stored per second, against a plain loop of imread and Python RLE decoding."""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from harness import machine, table
from rle import reference_decode

from steel.competition import N_TEST, N_TRAIN
from steel.config import DataConfig, ModelConfig, Solution
from steel.data import prepare
from steel.paths import Paths

COPIES = 4  # links to every strip, so that starting the workers weighs as little as it does on the real data


def reference(raw: Path) -> int:
    """The usual kit: read strips in colour, decode their masks; keep nothing, check nothing. Gives the strips read."""
    labels = pd.read_csv(raw / "train.csv")
    paths = [path for part in ("train_images", "test_images") for path in sorted((raw / part).iterdir())]
    for path in paths:
        image = cv2.imread(str(path))
        assert image is not None
        masks = np.zeros((*image.shape[:2], 4), np.float32)
        for row in labels[labels.ImageId == path.name].itertuples():
            masks[..., row.ClassId - 1] = reference_decode(row.EncodedPixels)
    return len(paths)


def multiply(raw: Path, folder: Path) -> None:
    """A raw folder with `COPIES` names for every strip of another."""
    labels, sample = pd.read_csv(raw / "train.csv"), pd.read_csv(raw / "sample_submission.csv")
    for part in ("train_images", "test_images"):
        (folder / part).mkdir(parents=True)
        for path in (raw / part).iterdir():
            for i in range(COPIES):
                (folder / part / f"{i}{path.name}").symlink_to(path.resolve())
    for name, frame in (("train.csv", labels), ("sample_submission.csv", sample)):
        parts = [frame.assign(ImageId=str(i) + frame.ImageId) for i in range(COPIES)]
        pd.concat(parts).to_csv(folder / name, index=False)


def measure(raw: Path, n: int) -> list[Sequence[str]]:
    """Rows of the table: n runs of each, in turn."""
    ours, plain, strips = [], [], 0
    for i in range(n):
        with tempfile.TemporaryDirectory(dir=".") as name:
            data = DataConfig(name=Path(name).name, raw=str(Path(name) / "raw"))
            paths = Paths(Solution("bench", {"unet": ModelConfig()}, data=data))
            multiply(raw, paths.raw)
            start = time.perf_counter()
            prepare.make(paths, None)
            ours.append(time.perf_counter() - start)
            for path in paths.cache.iterdir():
                path.unlink()
            paths.cache.rmdir()
            paths.data.rmdir()
            start = time.perf_counter()
            strips = reference(paths.raw)
            plain.append(time.perf_counter() - start)
        print(f"run {i + 1} of {n}: {strips / ours[-1]:.0f} and {strips / plain[-1]:.0f} strips/s", flush=True)
    rows: list[Sequence[str]] = [("path", "strips/s, median", "spread", "minutes for all 18,074 strips")]
    for label, times in (("ours, all cores", ours), ("plain loop", plain)):
        rates = [strips / t for t in times]
        minutes = (N_TRAIN + N_TEST) / np.median(rates) / 60
        spread = f"{min(rates):.0f}–{max(rates):.0f}"
        rows.append((label, f"{np.median(rates):.0f}", spread, f"{minutes:.1f}"))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", type=Path, default=Path("data/demo/raw"), help="folder in the competition's layout")
    parser.add_argument("--n", type=int, default=3, help="runs of each (>= 1)")
    args = parser.parse_args()
    if not args.raw.exists():
        parser.error(f"--raw {args.raw}: no such folder; ./run_all.sh writes the default one")
    print(machine())
    print(table(measure(args.raw, args.n)))


if __name__ == "__main__":
    main()
