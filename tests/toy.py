"""A toy data set: a cache and a split as the stages before training leave them, and trainings on it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from steel import files
from steel.config import DataConfig, MachineConfig, ModelConfig, Phase, PredictConfig, Solution, SplitConfig
from steel.data.cache import AREAS
from steel.data.folds import write_folds
from steel.paths import Paths

N_TRAIN, N_TEST = 12, 3
TINY = "tu-test_resnet"
SHOWN = {0: (1,), 1: (2,), 2: (3,), 3: (4,), 4: (1, 3), 5: (3,), 6: (3,)}  # classes by row; the other strips are clean
FOLD = 1

# Of both kinds, with all that draws random numbers: crops, augmentation, dropout. 5 batches of 3 strips in epochs 1 and
# 2, then 2 in epochs 3 and 4; the segmenter adds up the gradients of 2 batches. In fp32: where maps are one pixel wide,
# as of such narrow crops, oneDNN's bf16 convolutions for AMX read memory that nobody has written, and find NaN there.
PHASES = [
    Phase(epochs=2, width=64, batch=3, lr=3e-3, samples=15),
    Phase(epochs=2, width=96, batch=3, lr=1e-3, samples=7),
]
SEGMENTER = ModelConfig(
    net="FPN",
    encoder=TINY,
    options={"decoder_dropout": 0.4, "decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
    downscale=4,
    loss={"bce": 1.0, "dice": 0.5},
    phases=PHASES,
    accumulate=2,
    warmup_steps=2,
    ema=0.9,
    augment="medium",
    validate_every=4,
    amp="fp32",
)
CLASSIFIER = ModelConfig(
    kind="classifier",
    net="test_resnet",
    options={"drop_rate": 0.4},
    downscale=4,
    phases=PHASES,
    ema=0.9,
    validate_every=3,
    amp="fp32",
)
MODELS = {"unet": SEGMENTER, "gate": CLASSIFIER}


def solution(models: dict[str, ModelConfig], workers: int = 0, batch: int = 2) -> Solution:
    """A solution on the toy data set, on one thread."""
    machine = MachineConfig(device="cpu", jobs=1, threads=1, workers=workers)
    predict = PredictConfig(tta=["identity", "hflip"], batch=batch)
    return Solution("toy", models, DataConfig("toy"), SplitConfig(n_folds=3), predict, machine=machine)


def areas_of(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Area of each class, px: (n, 4)."""
    return np.stack([((masks >> k) & 1).sum((1, 2), dtype=np.int64) for k in range(4)], axis=1)


def write(root: Path, spoil: int | None = None) -> None:
    """Write cache and split (strip r is held out by fold r % 3) below `root`; `spoil`: a fold whose strips differ."""
    paths = Paths(solution({}))
    folder = root / paths.cache
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = rng.integers(60, 100, (N_TRAIN + N_TEST, 256, 1600), np.uint8)
    masks = np.zeros((N_TRAIN, 256, 1600), np.uint8)
    for row, classes in SHOWN.items():
        for c in classes:
            left = (row * 397 + c * 301) % 1520
            images[row, 60:160, left : left + 80] += np.uint8(30 * c)
            masks[row, 60:160, left : left + 80] = 1 << (c - 1)
    fold = np.arange(N_TRAIN) % 3
    if spoil is not None:
        images[:N_TRAIN][fold == spoil] = 255
        masks[fold == spoil] = 0b1111
    ids = [f"{row:09x}.jpg" for row in range(N_TRAIN + N_TEST)]
    for part, rows in (("train", slice(0, N_TRAIN)), ("test", slice(N_TRAIN, None))):
        np.save(folder / f"{part}_images.npy", images[rows])
        index = pd.DataFrame({"row": range(len(ids[rows])), "image_id": ids[rows], "sha256": "-"})
        if part == "train":
            index[AREAS] = areas_of(masks)
        index.to_csv(folder / f"{part}.csv", index=False)
    np.save(folder / "train_masks.npy", masks)
    write_folds(root / paths.folds, ids[:N_TRAIN], fold, ids[:N_TRAIN])


def fresh(root: Path, spoil: int | None = None) -> Path:
    """`root`, with the data set in it."""
    write(root, spoil)
    return root


def numbers(root: Path) -> dict[str, Any]:
    """What `eda` finds in the data set, written into `root`."""
    from steel.report.eda.measure import measure

    write(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        return measure(Paths(solution({})))


def run(root: Path, name: str, given: Solution | None = None, fold: int = FOLD) -> Path:
    """Train as the stage does, in `root`; the folder of the training."""
    from steel.fit import train  # 4 s to import: not for every test session

    paths = Paths(given or solution(MODELS))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        outputs = train.make(paths, name, fold)
        assert outputs == {p: files.sha256(p) for p in outputs}
    return root / paths.fold(name, fold)


def weights(folder: Path) -> bytes:
    """What a training ships."""
    return (folder / "weights.safetensors").read_bytes()


def log(folder: Path) -> list[dict[str, Any]]:
    """Its rows, a dict each."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: step and value by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
