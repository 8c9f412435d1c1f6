"""A competition of three training and two test images on a Kaggle of our own, and what its download leaves."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from kaggle_server import KaggleServer, make_zip, serving

from steel import stages
from steel.cli import Options
from steel.competition import SLUG
from steel.config import DataConfig, ModelConfig, Solution
from steel.kaggle import download

RAW, RECORD, PART = (Path("data/x") / name for name in ("raw", "stage.json", "download.part"))
IMAGES = {
    f"{part}_images/{i}.jpg": np.random.default_rng((n, i)).bytes(9_000)
    for part, n in (("train", 3), ("test", 2))
    for i in range(n)
}
MEMBERS = {"train.csv": b"ImageId,ClassId,EncodedPixels\n", "sample_submission.csv": b"ImageId\n", **IMAGES}
ARCHIVE = make_zip(MEMBERS)
SOLUTION = Solution("x", {"unet": ModelConfig()}, DataConfig("x"))
WHAT = f"download of {SLUG}"


@contextmanager
def competition(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[KaggleServer]:
    """Work in a folder with x.yaml, whose download finds the server; 1,000 bytes are taken at a time."""
    patch.chdir(folder)
    Path("x.yaml").write_text("name: x\ndata: {name: x}\nmodels: {unet: {}}\n")
    patch.setattr(download, "CHUNK", 1000)
    patch.setattr(download, "COUNTS", {"train_images": 3, "test_images": 2})
    with serving(patch, folder) as server:
        server.archive = ARCHIVE
        yield server


def run(force: bool = False) -> None:
    """The stage, without the command line."""
    stages.download(stages.Context(SOLUTION, Options(force)))


def raw() -> dict[str, bytes]:
    """The published files by name, without the mark."""
    found = {str(path.relative_to(RAW)): path.read_bytes() for path in RAW.rglob("*") if path.is_file()}
    found.pop(download.MARK, None)
    return found


def left() -> list[str]:
    """What lies in the data folder beside the published files, but for the lock and the mark of a begun run."""
    return sorted(path.name for path in RAW.parent.iterdir() if path.name not in ("raw", ".lock", ".begun"))
