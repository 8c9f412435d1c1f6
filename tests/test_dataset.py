"""Training samples: crops hold what they should, and are a pure function of (seed, epoch, position)."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from steel.data.cache import AREAS, Strips, open_strips
from steel.data.dataset import Crops, Sampling, presence, unpack

N = 12  # strips: 0..3 show class 1..4 each, 4 shows 1 and 3, the rest are clean
SHOWN = {0: (1,), 1: (2,), 2: (3,), 3: (4,), 4: (1, 3)}
PLAIN = Sampling(np.arange(N), width=256, n_samples=N, defect_share=0.0, augment="none", seed=7)


def areas_of(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.stack([((masks >> k) & 1).sum((1, 2), dtype=np.int64) for k in range(4)], axis=1)


def write_cache(folder: Path) -> None:
    """A cache as `prepare` writes it: column x of strip r holds (x + 7 r) % 251; a defect is a small square."""
    columns = (np.arange(1600)[None] + 7 * np.arange(N)[:, None]) % 251  # (n, 1600)
    images = np.repeat(columns[:, None].astype(np.uint8), 256, axis=1)
    masks = np.zeros((N, 256, 1600), np.uint8)
    for row, classes in SHOWN.items():
        for c in classes:
            left = (row * 397 + c * 301) % 1580
            masks[row, 100:120, left : left + 20] |= 1 << (c - 1)
    np.save(folder / "train_images.npy", images)
    np.save(folder / "train_masks.npy", masks)
    np.save(folder / "test_images.npy", images[:3])
    index = pd.DataFrame({"row": range(N), "image_id": [f"{r:09x}.jpg" for r in range(N)]})
    index[AREAS] = areas_of(masks)
    index["sha256"] = "-"
    index.to_csv(folder / "train.csv", index=False)
    index.loc[:2, ["row", "image_id", "sha256"]].to_csv(folder / "test.csv", index=False)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    write_cache(folder)
    return folder


@pytest.fixture(scope="session")
def strips(cache: Path) -> Strips:
    return open_strips(cache, "train")


def test_open_strips(cache: Path, strips: Strips) -> None:
    assert isinstance(strips.images, np.memmap) and strips.images.shape == (N, 256, 1600)
    assert strips.masks is not None and strips.masks.dtype == np.uint8
    assert strips.image_ids[10] == "00000000a.jpg"
    assert strips.areas.dtype == np.int64 and strips.areas[4].tolist() == [400, 0, 400, 0]
    test = open_strips(cache, "test")
    assert test.masks is None and len(test.image_ids) == len(test.images) == 3


def test_ids_of_digits_stay_texts(tmp_path: Path) -> None:
    write_cache(tmp_path)
    index = pd.read_csv(tmp_path / "train.csv").assign(image_id=[f"0{r}" for r in range(N)])
    index.to_csv(tmp_path / "train.csv", index=False)
    assert open_strips(tmp_path, "train").image_ids[:2] == ["00", "01"]


def test_a_sample_is_a_slice_of_its_strip(strips: Strips) -> None:
    assert strips.masks is not None
    crops = Crops(strips, PLAIN, epoch=0)
    assert len(crops) == N
    lefts = set()
    for position in range(N):
        image, mask = crops[position]
        row = int(crops.rows[position])
        assert image.shape == mask.shape == (256, 256) and image.dtype == mask.dtype == np.uint8
        left = next(x for x in range(1345) if np.array_equal(strips.images[row, 0, x : x + 256], image[0]))
        lefts.add(left)
        assert np.array_equal(image, strips.images[row, :, left : left + 256])
    assert len(lefts) > 6


def test_crops_hold_the_wanted_class_wherever_it_lies(strips: Strips) -> None:
    assert strips.masks is not None
    crops = Crops(strips, replace(PLAIN, width=32, n_samples=400, defect_share=1.0), epoch=3)
    assert (crops.classes >= 0).all()
    for position in range(400):
        assert (crops[position][1] & (1 << int(crops.classes[position]))).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1599), st.integers(1, 50).map(lambda n: 32 * n), st.integers(0, 2**31 - 1))
def test_a_single_column_is_always_within_the_crop(column: int, width: int, seed: int) -> None:
    from steel.data.dataset import _left_edge

    bits = np.zeros((4, 1600), np.uint8)
    bits[2, column] = 4
    left = _left_edge(bits, 2, width, seed)
    assert 0 <= left <= column < left + width <= 1600


def test_a_defect_appears_all_over_the_crop() -> None:
    from steel.data.dataset import _left_edge

    bits = np.zeros((4, 1600), np.uint8)
    bits[:, 800] = 1
    places = np.array([800 - _left_edge(bits, 0, 256, seed) for seed in range(2000)])
    assert places.min() < 3 and places.max() > 252 and abs(places.mean() - 127.5) < 6


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_defect_share_and_classes_alike(strips: Strips, share: float) -> None:
    n = 4000
    crops = Crops(strips, replace(PLAIN, n_samples=n, defect_share=share), epoch=0)
    found = Counter(crops.classes.tolist())
    assert found[-1] == pytest.approx(n * (1 - share), abs=4 * (n * share * (1 - share)) ** 0.5)
    for k in range(4):
        assert found[k] == pytest.approx(n * share / 4, abs=120 if share else 0)
    for row, k in zip(crops.rows, crops.classes, strict=True):
        assert k < 0 or k + 1 in SHOWN[int(row)]
    with_class_1 = crops.rows[crops.classes == 0]
    assert set(with_class_1.tolist()) == ({0, 4} if share else set())


def test_every_row_is_met_equally_often_without_a_wanted_class(strips: Strips) -> None:
    crops = Crops(strips, replace(PLAIN, n_samples=3 * N), epoch=0)
    assert sorted(crops.rows) == sorted([*range(N)] * 3)
    assert sorted(crops.rows[:N]) == [*range(N)] and list(crops.rows[:N]) != [*range(N)]
    crops = Crops(strips, replace(PLAIN, n_samples=1000, defect_share=0.7), epoch=0)
    counts = np.bincount(crops.rows[crops.classes < 0], minlength=N)
    assert counts.max() - counts.min() <= 1


def test_only_the_given_rows(strips: Strips) -> None:
    rows = np.array([1, 2, 8])
    crops = Crops(strips, replace(PLAIN, rows=rows, n_samples=300, defect_share=0.5), epoch=0)
    assert set(crops.rows.tolist()) == {1, 2, 8} and set(crops.classes.tolist()) == {-1, 1, 2}
    clean = Crops(strips, replace(PLAIN, rows=np.array([8, 9]), n_samples=10, defect_share=1.0), epoch=0)
    assert (clean.classes == -1).all()  # no defect anywhere: nothing to favour


def test_full_width_is_the_whole_strip(strips: Strips) -> None:
    assert strips.masks is not None
    crops = Crops(strips, replace(PLAIN, width=1600, defect_share=1.0), epoch=0)
    image, mask = crops[0]
    row = int(crops.rows[0])
    assert np.array_equal(image, strips.images[row]) and np.array_equal(mask, strips.masks[row])


def test_the_cache_is_never_written_to(strips: Strips) -> None:
    image, mask = Crops(strips, PLAIN, epoch=0)[0]
    image[:], mask[:] = 1, 1  # a copy: the memory map is read-only
    assert not strips.images.flags.writeable


def samples(strips: Strips, sampling: Sampling, epoch: int, workers: int) -> list[torch.Tensor]:
    loader = DataLoader(Crops(strips, sampling, epoch), batch_size=5, num_workers=workers)
    return [torch.stack(batch) for batch in loader]


def test_the_same_samples_for_any_number_of_workers(strips: Strips) -> None:
    sampling = replace(PLAIN, width=128, n_samples=24, defect_share=0.5, augment="medium")
    torch.manual_seed(1)
    alone = samples(strips, sampling, 4, workers=0)
    torch.manual_seed(2)
    shared = samples(strips, sampling, 4, workers=2)
    assert len(alone) == 5 and all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


def test_other_epochs_and_seeds_give_other_samples(strips: Strips) -> None:
    def first(seed: int, epoch: int) -> tuple[list[int], list[int]]:
        crops = Crops(strips, replace(PLAIN, seed=seed), epoch)
        return crops.rows.tolist(), crops.seeds.tolist()

    assert first(7, 0) == first(7, 0)
    assert len({str(first(*pair)) for pair in [(7, 0), (7, 1), (8, 0), (8, 1)]}) == 4


def test_unpack_by_eye() -> None:
    bits = torch.tensor([[[0, 1, 2], [4, 8, 15]]], dtype=torch.uint8)
    maps = unpack(bits)
    assert maps.dtype == torch.float32
    assert maps[0].tolist() == [
        [[0, 1, 0], [0, 0, 1]],
        [[0, 0, 1], [0, 0, 1]],
        [[0, 0, 0], [1, 0, 1]],
        [[0, 0, 0], [0, 1, 1]],
    ]
    assert presence(bits).tolist() == [[1, 1, 1, 1]]
    assert presence(torch.tensor([[[0, 4]], [[0, 0]]], dtype=torch.uint8)).tolist() == [[0, 0, 1, 0], [0, 0, 0, 0]]


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 15)))
def test_unpack_against_numpy(bits: NDArray[np.uint8]) -> None:
    expected = np.stack([(bits >> k) & 1 for k in range(4)], axis=1)
    assert np.array_equal(unpack(torch.from_numpy(bits)).numpy(), expected)
    assert np.array_equal(presence(torch.from_numpy(bits)).numpy(), expected.any((2, 3)))
