"""Every recipe: a pure function of the seed, the mask goes where the image goes."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import steel
from steel.data.augment import AUGMENTATIONS, Augment, BlackEnd, augmenter
from steel.errors import UserError

SHAPE = (64, 96)
RECIPES = {name: augmenter(name) for name in AUGMENTATIONS}


def strip(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, SHAPE, np.uint8)


def corner() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A dark image with a bright patch, and the mask bits of just that patch (classes 1 and 4)."""
    image, mask = np.full(SHAPE, 20, np.uint8), np.zeros(SHAPE, np.uint8)
    image[8:24, 10:40], mask[8:24, 10:40] = 220, 0b1001
    return image, mask


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_shape_type_and_input_left_alone(name: str) -> None:
    augment, image, (_, mask) = augmenter(name), strip(), corner()
    before = image.copy(), mask.copy()
    for seed in range(20):
        for found in augment(image, mask, seed):
            assert found.shape == SHAPE and found.dtype == np.uint8 and found.flags.c_contiguous
    assert np.array_equal(image, before[0]) and np.array_equal(mask, before[1])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_pure_function_of_the_seed(name: str) -> None:
    one, other, (_, mask) = augmenter(name), augmenter(name), corner()
    first = [one(strip(), mask, seed) for seed in range(30)]
    np.random.default_rng(9).random()
    again = [other(strip(), mask, seed) for seed in reversed(range(30))][::-1]  # another order, another object
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])
    if name != "none":
        assert len({image.tobytes() for image, _ in first}) > 3


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_mask_follows_the_image(name: str) -> None:
    augment, (image, mask) = augmenter(name), corner()
    least = {"medium": 0.85, "heavy": 0.8}.get(name, 1)  # blur, noise and rotation touch its rim
    n_seen = 0
    for seed in range(100):
        found, bits = augment(image, mask, seed)
        assert set(np.unique(bits)) <= {0, 0b1001}  # bit fields are never interpolated
        if np.count_nonzero(bits) < 100:  # nearly all of it lies behind a black end or a hole
            continue
        bright = found.astype(int) > (int(found.min()) + int(found.max())) / 2
        overlap = np.count_nonzero(bright & (bits > 0)) / np.count_nonzero(bright | (bits > 0))
        assert overlap >= least
        n_seen += 1
    assert n_seen == 100 if name != "heavy" else n_seen > 85


@pytest.mark.parametrize("name", AUGMENTATIONS)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.lists(st.integers(0, 15), min_size=1, max_size=8))
def test_bits_are_never_invented(name: str, seed: int, values: list[int]) -> None:
    mask = np.random.default_rng(seed).choice(np.array(values, np.uint8), SHAPE)
    assert set(np.unique(RECIPES[name](strip(), mask, seed)[1])) <= {0, *values}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[1] - 1), st.integers(0, 2**31 - 1))
def test_a_marked_pixel_travels(y: int, x: int, seed: int) -> None:
    image, mask = np.full(SHAPE, 20, np.uint8), np.zeros(SHAPE, np.uint8)
    image[y, x], mask[y, x] = 220, 0b0010
    for name in ("none", "flips", "light"):
        found, bits = RECIPES[name](image, mask, seed)
        assert np.argwhere(bits).tolist() == np.argwhere(found == found.max()).tolist() and bits.max() == 0b0010


def test_heavy_clears_the_mask_just_where_it_blackens() -> None:
    image, mask = np.full(SHAPE, 230, np.uint8), np.full(SHAPE, 0b0101, np.uint8)
    n_dark = 0
    for seed in range(200):
        found, bits = RECIPES["heavy"](image, mask, seed)
        steel = np.median(found)
        assert not bits[found < 0.1 * steel].any() and (bits[found > 0.75 * steel] == 0b0101).all()
        n_dark += bool((bits == 0).any())
    assert 50 < n_dark < 95  # of 200: .15 black ends, .25 holes, independent: 72


def test_black_ends() -> None:
    image, mask = np.full(SHAPE, 200, np.uint8), np.full(SHAPE, 0b1000, np.uint8)
    compose, sides = A.Compose([BlackEnd(p=1)], seed=3), Counter[str]()
    for _ in range(200):
        found = compose(image=image, mask=mask)
        level, bits = found["image"], found["mask"]
        assert level.dtype == np.uint8 and (level[(level > 6) & (bits == 0)] < 105).all()  # half of the soft edge
        assert not bits[level < 100].any() and (bits[level > 104] == 0b1000).all()
        assert (level == 200).any(axis=1).all()  # steel is left in each row
        dark = (level <= 6).any(axis=0)
        sides["left" if dark[0] else "right"] += 1
        assert dark[0] != dark[-1] and np.diff(dark.astype(int)).tolist().count(1) <= 1
    assert 70 < sides["left"] < 130


@pytest.mark.parametrize("black", [slice(0, 30), slice(-3, None)])
def test_no_second_black_end(black: slice) -> None:
    image, mask = np.full(SHAPE, 200, np.uint8), np.full(SHAPE, 0b1000, np.uint8)
    image[:, black] = 4
    compose = A.Compose([BlackEnd(p=1)], seed=0)
    for _ in range(10):
        found = compose(image=image, mask=mask)
        assert np.array_equal(found["image"], image) and np.array_equal(found["mask"], mask)


def test_flips_come_in_all_four_ways_alike() -> None:
    augment, image = augmenter("flips"), strip()
    ways = {v.tobytes(): n for n, v in enumerate((image, image[:, ::-1], image[::-1], image[::-1, ::-1]))}
    seen = Counter(ways[augment(image, image, seed)[0].tobytes()] for seed in range(800))
    assert all(150 < seen[n] < 250 for n in range(4))


def test_light_changes_the_brightness_of_about_half() -> None:
    augment, (image, mask) = augmenter("light"), corner()
    changed = [int(augment(image, mask, seed)[0].max()) != 220 for seed in range(400)]
    assert 150 < sum(changed) < 250


def test_none_gives_the_same_object() -> None:
    image, mask = corner()
    found = augmenter("none")(image, mask, 1)
    assert found[0] is image and found[1] is mask


def same(one: Augment, other: Augment, mask: NDArray[np.uint8]) -> bool:
    pairs = ((one(strip(), mask, seed), other(strip(), mask, seed)) for seed in range(12))
    return all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in pairs)


@pytest.mark.parametrize(
    ("classes", "name"),
    [
        ((), "flips"),
        ((1,), "flips"),
        ((2,), "heavy"),
        ((3,), "light"),
        ((4,), "medium"),
        ((2, 4), "heavy"),
        ((3, 4), "medium"),
        ((1, 3), "light"),
        ((1, 2, 3, 4), "heavy"),
    ],
)
def test_the_rarest_class_that_is_named_decides(classes: tuple[int, ...], name: str) -> None:
    recipe = {"default": "flips", "2": "heavy", "3": "light", "4": "medium"}
    mask = np.zeros(SHAPE, np.uint8)
    for k in classes:
        mask[10 * k : 10 * k + 5, :40] = 1 << (k - 1)
    for order in (list(recipe), list(recipe)[::-1]):  # that of the YAML does not matter
        augment = augmenter({key: recipe[key] for key in order})
        assert [other for other in AUGMENTATIONS if same(augment, RECIPES[other], mask)] == [name]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("heavier", "augment: unknown name 'heavier'; allowed: none, flips, light, medium, heavy, or package.module:f"),
        ({"default": "light", "5": "heavy"}, "augment: unknown key '5'; allowed: 'default', '1', '2', '3', '4'"),
        ({"default": "light", "all": "heavy"}, "augment: unknown key 'all'; allowed: 'default', '1', '2', '3', '4'"),
        ({"2": "heavy"}, "augment: {'2': 'heavy'} has no default, as in {default: light, '2': heavy}"),
        ({}, "augment: {} has no default, as in {default: light, '2': heavy}"),
        ({"default": "light", "2": "x"}, "augment.2: unknown name 'x'; allowed: none, flips, light, medium, heavy, or"),
        ({"default": "x"}, "augment.default: unknown name 'x'; allowed: none, flips, light, medium, heavy, or"),
    ],
)
def test_what_is_refused(recipe: str | dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        augmenter(recipe)


def test_code_outside_the_package() -> None:
    assert augmenter("steel.data.augment:none")(*corner(), 0)[0].shape == SHAPE


def test_albumentations_is_called_in_one_room_only() -> None:
    package = Path(steel.__file__).parent
    users = [path.name for path in package.rglob("*.py") if "import albumentations" in path.read_text()]
    assert users == ["augment.py"]


def test_no_network_at_import() -> None:
    script = """
import socket
def refuse(*_args, **_kwargs):
    print("asked the network")
    raise OSError
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import steel.data.augment
"""
    result = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
