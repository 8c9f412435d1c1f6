"""A solution so small that its whole pipeline runs in seconds, and what the tests of the whole need to look at it."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from steel import cli, rle
from steel.__main__ import main
from steel.config import Solution
from steel.data.dataset import Crops

ROOT = Path(__file__).parents[1]
CONFIG = "tiny.yaml"
RAW = Path("raw")  # of a data set that a test writes itself
ON_RAW = ("--data.synth", "null", "--data.raw", str(RAW), "--data.name", "flat")
YAML = """
name: tiny
data: {name: tiny, synth: {n_train: 32, n_test: 6, seed: 1}}
split: {n_folds: 3}
models:
  fpn:
    kind: segmenter
    net: FPN
    encoder: tu-test_resnet
    options: {decoder_pyramid_channels: 32, decoder_segmentation_channels: 32, decoder_dropout: 0.0}
    downscale: 4
    augment: flips
    phases: [{epochs: 2, width: 256, batch: 4, lr: 4.0e-3, samples: 72}]
    warmup_steps: 4
    ema: 0.6
    amp: fp32
    validate_every: 2
  gate:
    kind: classifier
    net: test_resnet
    downscale: 4
    augment: flips
    phases: [{epochs: 2, width: 1600, batch: 4, lr: 4.0e-3}]
    warmup_steps: 4
    ema: 0.6
    amp: fp32
    validate_every: 2
predict: {batch: 4, tta: [identity, hflip]}
decide: {n_area: 8, n_gate: 8}
machine: {device: cpu, jobs: 1, threads: 1, workers: 0}
"""
STAGES = ("synth", "prepare", "folds", "train", "oof", "decide", "report", "predict", "submit")
LEVELS = (215, 0, 255, 175)  # grey of each class in the easy data; rolled steel lies around 80


def write_config(folder: Path, text: str = YAML) -> str:
    """Put the solution's YAML into a folder; its name."""
    (folder / CONFIG).write_text(text)
    return CONFIG


def solution(*args: str) -> Solution:
    """The solution, read in the working directory, with overrides."""
    return cli.parse("status", "", [CONFIG, *args])[0]


@contextmanager
def within(folder: Path) -> Iterator[None]:
    """Work in a folder, on one thread of torch."""
    import torch

    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield
    torch.set_num_threads(before)


def run(*stages: str, args: tuple[str, ...] = ()) -> None:
    """Run some stages of the solution in the working directory, each as the program does."""
    for stage in stages:
        main([stage, CONFIG, *args])


def finish(folder: Path) -> Path:
    """Take the solution through all stages in `folder`; `seen.json` there gets the rows each fold was trained on."""
    from steel.fit import loading

    seen: dict[int, set[int]] = {}

    class Watched(Crops):
        def __getitem__(self, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            seen.setdefault(self.sampling.seed % 100, set()).add(int(self.rows[position]))  # the seed ends in the fold
            return super().__getitem__(position)

    write_config(folder)
    with within(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "Crops", Watched)
        for stage in STAGES:
            run(stage)
            if stage == "synth":
                ease(Path("data/tiny/raw"))
    (folder / "seen.json").write_text(json.dumps({k: sorted(rows) for k, rows in seen.items()}))
    return folder


def fault(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What the program says when it refuses: one line on stderr, exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as leaving:
        main(list(argv))
    assert leaving.value.code == 2
    return one_line(capsys.readouterr().err)


def refused(capsys: pytest.CaptureFixture[str], stage: str, *args: str) -> str:
    """What a stage says when it refuses; nothing that stood may have changed, and nothing half may be left."""
    before = contents(Path())
    message = fault(capsys, stage, CONFIG, *args)
    assert contents(Path()) == before
    return message


def one_line(stderr: str) -> str:
    """The single line of a message, without the program's name."""
    assert stderr.startswith("steel: ")
    assert stderr.endswith("\n")
    assert stderr.count("\n") == 1, stderr
    return stderr.removeprefix("steel: ").strip()


def runner(folder: Path) -> Path:
    """run_all.sh for this Python: itself where .venv is set up, else a copy without the set-up."""
    script = ROOT / "run_all.sh"
    if Path(sys.prefix) == ROOT / ".venv" and (ROOT / ".venv" / ".installed").exists():
        return script
    text = script.read_text()
    for old, new in (('"$here/scripts/setup.sh"\n', ""), ('"$here/.venv/bin/steel"', f'"{sys.executable}" -m steel')):
        assert old in text
        text = text.replace(old, new)
    copy = folder / "run_all.sh"
    copy.write_text(text)
    copy.chmod(0o755)
    return copy


def ease(raw: Path) -> None:
    """Paint the defects of a synthetic data set in one flat grey per class, so that two epochs teach to find them."""
    for part, labels in (("train", "train.csv"), ("test", "test_labels.csv")):
        for image_id, rows in pd.read_csv(raw / labels).groupby("ImageId"):
            path = raw / f"{part}_images" / str(image_id)
            image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            assert image is not None
            for row in rows.itertuples():
                image[rle.decode(str(row.EncodedPixels)) > 0] = LEVELS[int(str(row.ClassId)) - 1]
            path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())


def write_raw(folder: Path, n_train: int = 6, n_test: int = 2) -> Path:
    """A data set in the competition's layout, flat grey, a mask of class 1 on each of the first two strips."""
    for part, n in (("train", n_train), ("test", n_test)):
        (folder / f"{part}_images").mkdir(parents=True)
        for i in range(n):
            write_strip(folder / f"{part}_images" / f"{part[:2]}{i}.jpg", np.full((256, 1600), 60 + i, np.uint8))
    (folder / "train.csv").write_text("ImageId,ClassId,EncodedPixels\ntr0.jpg,1,1 9\ntr1.jpg,1,257 3\n")
    rows = "".join(f"te{i}.jpg,1 1,1\n" for i in range(n_test))
    (folder / "sample_submission.csv").write_text(f"ImageId,EncodedPixels,ClassId\n{rows}")
    return folder


def write_strip(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an image as JPEG."""
    path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file below a folder, but for locks and marks of begun runs."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", ".begun")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def copy(source: Path, target: Path) -> Path:
    """A copy of a finished run to do harm to; times of change are kept, since they count."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    return target


def change_maps(folder: Path, change: Callable[[int, NDArray[np.uint8]], NDArray[np.uint8]]) -> None:
    """Replace each map (4, 256, 1600) of a store by what a function makes of its place and it; the sums follow."""
    import zarr

    maps = zarr.open_array(str(folder / "maps.zarr"), mode="r+").with_config({"write_empty_chunks": True})
    with np.load(folder / "values.npz") as found:
        values = dict(found)
    for place in range(maps.shape[0]):
        old = np.asarray(maps[place])
        maps[place] = change(place, old)
        new = np.asarray(maps[place])
        values["sums"][place] += (new.sum((1, 2), dtype=np.int64) - old.sum((1, 2), dtype=np.int64)) / 255
    np.savez(folder / "values.npz", **values)


def remove(path: Path) -> None:
    """Delete a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def write(path: Path, *lines: str) -> None:
    """Write lines of text."""
    path.write_text("".join(f"{line}\n" for line in lines if line))


def logs(path: str) -> bool:
    """Whether a file of a training may grow before its weights are replaced."""
    return "/events/" in path or path.endswith(("log.jsonl", "last.pt"))


def link(source: Path, target: Path) -> None:
    """A copy of a file."""
    shutil.copy(source, target)
