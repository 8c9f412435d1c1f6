"""The contact sheet of a recipe."""

import numpy as np
import pytest
from numpy.typing import NDArray

from steel.data.augment import AUGMENTATIONS
from steel.errors import UserError
from steel.report.augment_sheet import sheet
from steel.report.overlay import COLOURS

HEIGHT, WIDTH, GAP = 64, 96, 4


def crops(n: int = 2) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    rng = np.random.default_rng(0)
    images = [rng.integers(60, 140, (HEIGHT, WIDTH)).astype(np.uint8) for _ in range(n)]
    masks = [np.zeros((HEIGHT, WIDTH), np.uint8) for _ in range(n)]
    for k, mask in enumerate(masks):
        mask[20:40, 30:60] = 1 << k
    return images, masks


def tile(picture: NDArray[np.uint8], row: int, column: int) -> NDArray[np.uint8]:
    top, left = row * (HEIGHT + GAP), column * (WIDTH + GAP)
    return picture[top : top + HEIGHT, left : left + WIDTH]


@pytest.mark.parametrize("recipe", AUGMENTATIONS)
def test_layout(recipe: str) -> None:
    picture = sheet(*crops(), recipe, n=3, seed=0)
    assert picture.shape == (2 * HEIGHT + GAP, 4 * WIDTH + 3 * GAP, 3) and picture.dtype == np.uint8
    assert (picture[:, WIDTH : WIDTH + GAP] == 255).all() and (picture[HEIGHT : HEIGHT + GAP] == 255).all()
    assert np.array_equal(picture, sheet(*crops(), recipe, n=3, seed=0))
    assert np.array_equal(picture, sheet(*crops(), recipe, n=3, seed=1)) == (recipe == "none")


def test_the_first_column_is_the_strip_with_its_outline() -> None:
    (images, masks), picture = crops(), sheet(*crops(), "heavy", n=1, seed=0)
    for k in range(2):
        first = tile(picture, k, 0)
        coloured = (first == COLOURS[k][::-1]).all(2)
        rim = masks[k] > 0
        rim[21:39, 31:59] = False  # a box's outline is its outermost pixels
        assert np.array_equal(coloured, rim)
        assert np.array_equal(first[~coloured], np.repeat(images[k][~coloured][:, None], 3, axis=1))


def test_the_versions_are_what_training_sees() -> None:
    images, picture = crops(1)[0], sheet(*crops(1), "flips", n=8, seed=5)
    ways = {v.tobytes() for v in (images[0], images[0][:, ::-1], images[0][::-1], images[0][::-1, ::-1])}
    inside = [tile(picture, 0, column)[..., 0] for column in range(1, 9)]
    seen = {x[2:18].tobytes() for x in inside}  # rows above the defect, or below it
    assert (
        seen <= {np.frombuffer(way, np.uint8).reshape(HEIGHT, WIDTH)[2:18].tobytes() for way in ways} and len(seen) > 2
    )


def test_strength_by_class() -> None:
    picture = sheet(*crops(), {"default": "none", "2": "heavy"}, n=3, seed=0)
    same = [[np.array_equal(tile(picture, k, 0), tile(picture, k, column)) for column in (1, 2, 3)] for k in range(2)]
    assert all(same[0]) and not any(same[1])


def test_a_wide_sheet_is_reduced() -> None:
    images, masks = crops()
    picture = sheet(images, masks, "none", n=3, seed=0, max_width_px=4 * 48 + 3 * GAP)
    assert picture.shape == (2 * 32 + GAP, 4 * 48 + 3 * GAP, 3)
    assert (picture[10, 15] == COLOURS[0][::-1]).all()  # the corner of the mask's box, at half size
    assert abs(int(picture[2, 40, 0]) - images[0][4:6, 80:82].mean()) <= 1


@pytest.mark.parametrize(("strips", "n"), [(0, 1), (2, 0)])
def test_nothing_to_show(strips: int, n: int) -> None:
    with pytest.raises(UserError, match=rf"^sheet: {strips} strips and {n} versions; allowed: at least one of each$"):
        sheet(*crops(strips), "light", n, seed=0)
