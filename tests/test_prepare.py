"""The cache holds what the raw files say, whatever the number of processes."""

import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tiny

from steel import files, rle, stage
from steel.config import DataConfig, Solution
from steel.data import prepare
from steel.data.cache import AREAS, open_strips
from steel.paths import Paths

PATHS = Paths(Solution("x", {}, DataConfig("x", "raw")))
CACHED = ("train_images.npy", "test_images.npy", "train_masks.npy", "train.csv", "test.csv", "meta.json")


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """40 flat strips, each its own grey: 60, 61, ..."""
    monkeypatch.chdir(tmp_path)
    return tiny.write_raw(Path("raw"), n_train=40, n_test=3)


def make(workers: int | None = 0, paths: Paths = PATHS) -> dict[str, str]:
    """Build the cache; the digests of its outputs by name."""
    return {path.name: value for path, value in prepare.make(paths, workers).items()}


def test_by_eye(raw: Path) -> None:
    (raw / "sample_submission.csv").write_text("ImageId,EncodedPixels,ClassId\nte2.jpg,,1\nte0.jpg,,1\nte1.jpg,,1\n")
    make()
    train, test = open_strips(PATHS.cache, "train"), open_strips(PATHS.cache, "test")
    ids = sorted(f"tr{i}.jpg" for i in range(40))
    assert train.image_ids == ids
    assert train.images[:, 100, 800].tolist() == [60 + int(i[2:-4]) for i in ids]
    assert test.image_ids == ["te2.jpg", "te0.jpg", "te1.jpg"]  # the order of the sample submission
    assert test.images[:, 0, 0].tolist() == [62, 60, 61]
    assert test.masks is None
    assert train.masks is not None
    assert np.argwhere(train.masks).tolist() == [[0, y, 0] for y in range(9)] + [[1, y, 1] for y in range(3)]
    assert train.areas[:2].tolist() == [[9, 0, 0, 0], [3, 0, 0, 0]]
    assert files.read_json(PATHS.cache / "meta.json") == {"n_train": 40, "n_test": 3, "n_masks": 2}


def test_the_masks_of_several_classes_share_a_field(raw: Path) -> None:
    (raw / "train.csv").write_text(
        "ImageId_ClassId,EncodedPixels\ntr0.jpg_1,1 2\ntr0.jpg_2,\ntr0.jpg_3,3 1\ntr0.jpg_4,409600 1\n"
    )
    make()
    masks = open_strips(PATHS.cache, "train").masks
    assert masks is not None
    assert masks[0, :4, 0].tolist() == [1, 1, 4, 0]
    assert masks[0, 255, 1599] == 8
    assert np.count_nonzero(masks) == 4


@pytest.mark.usefixtures("raw")
def test_more_processes_change_nothing() -> None:
    digests = make()
    one = {name: (PATHS.cache / name).read_bytes() for name in CACHED}
    assert make(workers=2) == digests
    assert {name: (PATHS.cache / name).read_bytes() for name in CACHED} == one


def test_what_a_change_of_the_raw_files_redoes(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> str:
        stage.ensure(prepare.spec(PATHS), lambda: prepare.make(PATHS, 0))
        return capsys.readouterr().out

    assert "prepare: new\n" in run()
    before = stage.recorded(PATHS.cache)
    os.utime(raw / "train_images/tr7.jpg")
    assert "stale (input changed: raw)" in run()  # looked at again, found the same: nothing downstream is redone
    assert stage.recorded(PATHS.cache) == before
    tiny.write_strip(raw / "train_images/tr7.jpg", np.full((256, 1600), 200, np.uint8))
    assert "stale (input changed: raw)" in run()
    assert stage.recorded(PATHS.cache) != before
    tiny.remove(raw)
    assert run() == "prepare: up to date\n"  # once the cache stands, the raw files may go


@pytest.mark.usefixtures("raw")
def test_an_edited_index_is_noticed() -> None:
    stage.ensure(prepare.spec(PATHS), lambda: prepare.make(PATHS, 0))
    index = PATHS.cache / "train.csv"
    index.write_text(index.read_text().replace(",9,", ",8,"))
    assert str(stage.look(prepare.spec(PATHS))) == f"stale ({index} is gone or was changed)"


def test_real_strips(severstal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sample = severstal / "sample"
    paths = Paths(Solution("x", {}, DataConfig("x", str(sample))))
    make(2, paths)
    strips = open_strips(paths.cache, "train")
    known = pd.read_csv(severstal / "labels/classes_12568.csv").set_index("ImageId").loc[strips.image_ids]
    assert strips.index[AREAS].to_numpy().tolist() == known[AREAS].to_numpy().tolist()
    assert strips.masks is not None
    labels = pd.read_csv(sample / "train.csv")
    for row in (0, 50, 181):
        image_id = strips.image_ids[row]
        plain = cv2.imread(str(sample / "train_images" / image_id), cv2.IMREAD_GRAYSCALE)
        assert plain is not None
        assert np.abs(strips.images[row].astype(int) - plain).max() <= 1
        for label in labels[labels.ImageId == image_id].itertuples():
            bit = strips.masks[row] >> (int(str(label.ClassId)) - 1) & 1
            assert (bit == rle.decode(str(label.EncodedPixels))).all()
    assert open_strips(paths.cache, "test").image_ids == pd.read_csv(sample / "sample_submission.csv").ImageId.tolist()
