"""The synthetic data set: its layout, its counts, and that it depends on nothing but its arguments."""

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from steel import rle
from steel.competition import CLASSES, HEIGHT, N_TRAIN, WIDTH
from steel.data import synth
from steel.data.defects import AREA_PX, Defect, add_defects, draw_masks, redraw, sample_area
from steel.data.texture import surface
from steel.errors import UserError

N_MADE, N_MADE_TEST = 64, 6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data set of more than N_SERIAL strips, so rendered by several processes."""
    out = tmp_path_factory.mktemp("made")
    assert N_MADE + N_MADE_TEST > synth.N_SERIAL
    synth.write_dataset(out, N_MADE, N_MADE_TEST, seed=3)
    yield out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def make(folder: Path, n_train: int, n_test: int, seed: int) -> Path:
    folder.mkdir()
    synth.write_dataset(folder, n_train, n_test, seed)
    return folder


def test_bytes_depend_on_arguments_and_not_on_the_number_of_processes(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synth, "N_SERIAL", 10**6)  # now in this process
    assert contents(make(tmp_path / "again", N_MADE, N_MADE_TEST, 3)) == contents(made)


def test_another_seed_shares_no_picture(tmp_path: Path) -> None:
    first, second = (contents(make(tmp_path / str(seed), 4, 2, seed)) for seed in (0, 1))
    assert not set(first.values()) & set(second.values())
    assert len({v for k, v in first.items() if k.endswith(".jpg")}) == 6


def test_layout(made: Path) -> None:
    for split, n in (("train", N_MADE), ("test", N_MADE_TEST)):
        files = sorted((made / f"{split}_images").iterdir())
        assert len(files) == n
        for file in files:
            assert re.fullmatch(r"[0-9a-f]{9}\.jpg", file.name)
            image = cv2.imread(str(file), cv2.IMREAD_COLOR)
            assert image is not None and image.shape == (HEIGHT, WIDTH, 3)
            assert (image == image[..., :1]).all()  # grey
            assert file.read_bytes()[:2] == b"\xff\xd8"  # JPEG


def test_sample_submission_has_the_placeholder_form(made: Path) -> None:
    lines = (made / "sample_submission.csv").read_text().splitlines()
    names = sorted(p.name for p in (made / "test_images").iterdir())
    assert lines == ["ImageId,EncodedPixels,ClassId"] + [f"{name},1 409600,0" for name in names]


@pytest.mark.parametrize(("csv", "folder"), [("train.csv", "train_images"), ("test_labels.csv", "test_images")])
def test_masks_are_canonical_disjoint_and_on_steel(made: Path, csv: str, folder: str) -> None:
    table = pd.read_csv(made / csv)
    assert list(table.columns) == ["ImageId", "ClassId", "EncodedPixels"]
    keys = list(zip(table.ImageId, table.ClassId, strict=True))
    assert keys == sorted(set(keys))
    for name, rows in table.groupby("ImageId"):
        image = cv2.imread(str(made / folder / str(name)), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        masks = np.stack([rle.decode(text) for text in rows.EncodedPixels])
        assert (masks.sum((1, 2)) > 100).all()
        assert masks.sum(0).max() == 1
        assert [rle.encode(mask) for mask in masks] == list(rows.EncodedPixels)
        assert all(image[mask > 0].mean() > 15 for mask in masks)  # not in the black border


def test_masks_mark_what_is_visible() -> None:
    """Inside its masks a painted strip differs from the bare one; elsewhere it is the same."""
    for index in range(12):
        kinds = [(k,) for k in CLASSES] + [(3, 4), (1, 3)]
        areas = {k: sample_area(np.random.default_rng((index, k)), k) for k in kinds[index % len(kinds)]}
        bare, painted = (surface(np.random.default_rng(index), 0.3, 0.2) for _ in range(2))
        masks = draw_masks(add_defects(np.random.default_rng(index), painted, areas))
        assert painted.image.dtype == np.float32
        change = np.abs(painted.image - bare.image)
        assert not change[~np.logical_or.reduce(list(masks.values()))].any()
        for class_id, mask in masks.items():
            assert (change[mask] > 5).mean() > 0.3, (index, class_id)


def test_counts_of_a_small_set(made: Path) -> None:
    """64 strips: 34 with a defect; 8 % = 5 masks of each rare class; class 3 as in the real data, 64 * .41 = 26."""
    table = pd.read_csv(made / "train.csv")
    assert table.ClassId.value_counts().to_dict() == {1: 5, 2: 5, 3: 26, 4: 5}
    assert table.ImageId.nunique() == 34
    assert (table.groupby("ImageId").size() == 2).sum() == 41 - 34


def test_counts_of_the_real_size_are_the_real_counts() -> None:
    strips = synth.plan_classes(np.random.default_rng(0), N_TRAIN, N_TRAIN)
    assert [sum(k in classes for classes in strips) for k in CLASSES] == [897, 247, 5150, 801]
    assert sum(not classes for classes in strips) == 5902
    assert max(map(len, strips)) == 2


@pytest.mark.parametrize("n", range(1, 40))
def test_tiny_plans(n: int) -> None:
    rng = np.random.default_rng(n)
    strips = synth.plan_classes(rng, n, n)
    assert len(strips) == n
    assert {k: sum(k in classes for classes in strips) for k in CLASSES} == synth.mask_counts(n, n)
    assert len(synth.plan_duplicates(rng, strips)) == (1 if n >= 30 else 0)


def test_duplicates_are_disjoint_pairs_of_equal_classes() -> None:
    rng = np.random.default_rng(0)
    strips = synth.plan_classes(rng, 600, 600)
    pairs = synth.plan_duplicates(rng, strips)
    assert len(pairs) == 10
    assert len(set(pairs) | set(pairs.values())) == 20
    assert all(strips[copy] == strips[original] for copy, original in pairs.items())
    assert strips[next(iter(pairs))]


def test_one_pair_is_one_picture_with_two_masks(made: Path) -> None:
    files = sorted((made / "train_images").iterdir())
    images = [cv2.imdecode(np.frombuffer(f.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE) for f in files]
    small = np.stack([image.reshape(64, 4, 400, 4).mean((1, 3)).ravel() for image in images if image is not None])
    alike = np.triu(np.corrcoef(small) > 0.999, 1)
    [[first], [second]] = np.nonzero(alike)
    assert files[first].read_bytes() != files[second].read_bytes()
    table = pd.read_csv(made / "train.csv")
    a, b = (table[table.ImageId == files[i].name].set_index("ClassId").EncodedPixels for i in (first, second))
    assert list(a.index) == list(b.index) and len(a)
    for k in a.index:
        one, other = rle.decode(a[k]), rle.decode(b[k])
        assert 0.6 < 2 * (one & other).sum() / (one.sum() + other.sum()) < 1


def test_a_pixel_belongs_to_the_first_defect() -> None:
    def square(low: int, high: int) -> np.ndarray:
        return np.array([[low, low], [high, low], [high, high], [low, high]], np.float32)

    masks = draw_masks([Defect(3, (square(10, 19),)), Defect(4, (square(15, 24),))])
    assert masks[3].sum() == 10 * 10
    assert masks[4].sum() == 10 * 10 - 5 * 5
    assert not (masks[3] & masks[4]).any()
    # Another annotator moves the outline outwards by some px, and keeps it on the strip.
    again = draw_masks(redraw(np.random.default_rng(0), [Defect(3, (square(0, 60),))]))[3]
    assert again[30, 30] and not again[:, 80:].any()


@pytest.mark.parametrize("class_id", CLASSES)
def test_areas_follow_their_table(class_id: int) -> None:
    rng = np.random.default_rng(0)
    areas = [sample_area(rng, class_id) for _ in range(4000)]
    assert np.quantile(areas, (0.1, 0.5, 0.9)) == pytest.approx([AREA_PX[class_id][i] for i in (2, 4, 6)], rel=0.1)


@pytest.mark.parametrize(
    ("n_train", "n_test", "seed", "message"),
    [(0, 1, 0, "n_train is 0"), (1, -1, 0, "n_test is -1"), (1, 1, -5, "seed is -5")],
)
def test_bad_numbers_are_named(tmp_path: Path, n_train: int, n_test: int, seed: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        synth.write_dataset(tmp_path, n_train, n_test, seed)


def test_without_test_strips(tmp_path: Path) -> None:
    out = make(tmp_path / "out", 1, 0, 0)
    assert (out / "sample_submission.csv").read_text() == "ImageId,EncodedPixels,ClassId\n"
    assert (out / "test_labels.csv").read_text() == "ImageId,ClassId,EncodedPixels\n"
