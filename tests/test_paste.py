"""Pasted defects: at their height, on free steel, matched in brightness, and nothing else touched."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from steel.data.paste import FEATHER_PX, paste

Picture = tuple[NDArray[np.uint8], NDArray[np.uint8]]
HEIGHT, WIDTH = 64, 160


def plain(level: int, width: int = WIDTH) -> Picture:
    return np.full((HEIGHT, width), level, np.uint8), np.zeros((HEIGHT, width), np.uint8)


def with_box(level: int, ink: int, bits: int = 0b0100, left: int = 60) -> Picture:
    """A plain source with one defect of 20 x 30 px."""
    image, mask = plain(level)
    image[20:40, left : left + 30], mask[20:40, left : left + 30] = ink, bits
    return image, mask


def blobs(seed: int, n: int) -> Picture:
    """Rough steel with up to n defects of any class, some of which touch or are cut by an end."""
    rng = np.random.default_rng(seed)
    image, mask = rng.integers(60, 140, (HEIGHT, WIDTH)).astype(np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    for _ in range(n):
        y, x, h, w = rng.integers([0, 0, 2, 2], [HEIGHT, WIDTH, 40, 50])
        mask[y : y + h, x : x + w] = 1 << rng.integers(4)
    return image, mask


def test_brightness_follows_the_surroundings() -> None:
    image, mask = paste(*plain(150), *with_box(100, 60), seed=3)
    assert np.array_equal(image, np.where(mask > 0, 110, 150))  # 40 darker than its surroundings, there and here
    assert np.count_nonzero(mask) == 20 * 30 and set(np.unique(mask)) == {0, 0b0100}


def test_levels_are_clipped() -> None:
    assert paste(*plain(240), *with_box(100, 130), seed=0)[0].max() == 255
    assert paste(*plain(40), *with_box(100, 20), seed=0)[0].min() == 0


def test_surroundings_fade_out() -> None:
    source, bits = with_box(100, 60)
    source[30, 60 - 4] = 180  # halfway through the feather
    image, mask = paste(*plain(100), source, bits, seed=1)
    left = int(np.flatnonzero(mask.any(0))[0])
    assert int(image[30, left - 4]) == 140
    assert np.isin(np.delete(image[mask == 0], np.flatnonzero(image[mask == 0] == 140)), [99, 100]).all()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 4), st.integers(0, 6), st.integers(0, 99))
def test_one_whole_defect_at_its_height_and_nothing_else(data: int, n_here: int, n_there: int, seed: int) -> None:
    image, mask = blobs(data, n_here)
    source, source_bits = blobs(data + 1, n_there)
    kept = [x.copy() for x in (image, mask, source, source_bits)]
    found, bits = paste(image, mask, source, source_bits, seed)
    assert all(np.array_equal(a, b) for a, b in zip(kept, (image, mask, source, source_bits), strict=True))
    assert found.dtype == bits.dtype == np.uint8 and found.shape == bits.shape == (HEIGHT, WIDTH)
    new = (bits != mask).nonzero()
    assert not mask[new].any()  # no defect is overlapped
    assert np.array_equal(found[mask > 0], image[mask > 0])
    if not len(new[0]):
        assert found is image and bits is mask
        return
    top, bottom, left, right = new[0].min(), new[0].max() + 1, new[1].min(), new[1].max() + 1
    pasted = np.where(mask > 0, 0, bits)[top:bottom, left:right]
    labels, _ = ndimage.label(source_bits > 0, np.ones((3, 3)))
    boxes = ndimage.find_objects(labels)
    defects = [np.where(labels[box] == i, source_bits[box], 0) for i, box in enumerate(boxes, 1) if box[0].start == top]
    assert any(np.array_equal(pasted, defect) for defect in defects)
    y, x = (found != image).nonzero()
    assert y.min() > top - FEATHER_PX and y.max() < bottom - 1 + FEATHER_PX
    assert x.min() > left - FEATHER_PX and x.max() < right - 1 + FEATHER_PX


def test_every_free_column_is_drawn_and_no_other() -> None:
    image, mask = plain(100)
    image[:, 130:] = 3  # beyond the coil's edge
    mask[47:55, 70:80] = 1  # reaches into the feather below the defect
    mask[5:13, :4] = 1  # and above
    drawn = {int(np.flatnonzero(paste(image, mask, *with_box(90, 60), s)[1][20])[0]) for s in range(600)}
    assert drawn == {*range(4 + 8, 70 - 8 - 30 + 1), *range(80 + 8, 130 - 8 - 30 + 1)}


def test_a_defect_out_of_the_way_does_not_matter() -> None:
    image, mask = plain(100)
    mask[50:, :] = 1  # the pasted defect and its feather end at row 48
    assert np.count_nonzero(paste(image, mask, *with_box(90, 60), seed=5)[1] == 0b0100) == 600


def test_classes_that_touch_travel_together() -> None:
    source, bits = with_box(100, 60)
    bits[20:40, 75:90] = 0b1000
    found = paste(*plain(100), source, bits, seed=2)[1]
    columns = np.flatnonzero(found[30])
    assert found[30][columns].tolist() == [0b0100] * 15 + [0b1000] * 15


def test_a_neighbour_stays_behind() -> None:
    source, bits = with_box(100, 60)
    source[20:40, 94:97], bits[20:40, 94:97] = 0, 0b0001  # 4 px beside the defect, a crumb of 60 px
    image, mask = paste(*plain(100), source, bits, seed=2)
    assert np.array_equal(image, np.where(mask > 0, 60, 100)) and mask.max() == 0b0100


def dark_source() -> Picture:
    image, mask = with_box(100, 60)
    image[:, 95:] = 2
    return image, mask


@pytest.mark.parametrize(
    ("target", "source"),
    [
        (plain(100), plain(100)),
        (plain(5), with_box(100, 60)),
        ((plain(100)[0], np.full((HEIGHT, WIDTH), 2, np.uint8)), with_box(100, 60)),
        (plain(100, width=45), with_box(100, 60)),
        (plain(100), with_box(100, 60, left=0)),
        (plain(100), with_box(100, 60, left=WIDTH - 30)),
        (plain(100), dark_source()),
    ],
    ids=["clean source", "black target", "full target", "narrow target", "cut left", "cut right", "beside black"],
)
def test_where_nothing_fits_the_target_comes_back(target: Picture, source: Picture) -> None:
    for seed in range(20):
        image, mask = paste(*target, *source, seed)
        assert image is target[0] and mask is target[1]


def test_the_narrowest_target_that_fits() -> None:
    assert np.count_nonzero(paste(*plain(100, width=30 + 2 * FEATHER_PX), *with_box(100, 60), seed=0)[1]) == 600


def test_a_pure_function_of_the_seed_also_on_read_only_arrays() -> None:
    target, source = blobs(1, 0), blobs(2, 4)
    first = [paste(*target, *source, seed) for seed in range(30)]
    for x in (*target, *source):
        x.flags.writeable = False  # as a memory-mapped cache is
    again = [paste(*target, *source, seed) for seed in reversed(range(30))][::-1]
    assert all(
        np.array_equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True)
    )
    assert len({mask.tobytes() for _, mask in first}) > 15
