"""Every recipe: a pure function of the seed, the mask goes where the image goes."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from steel.data.augment import AUGMENTATIONS, augmenter
from steel.errors import UserError

SHAPE = (64, 96)


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
    for seed in range(60):
        found, bits = augment(image, mask, seed)
        bright = found.astype(int) > (int(found.min()) + int(found.max())) / 2
        overlap = np.count_nonzero(bright & (bits > 0)) / np.count_nonzero(bright | (bits > 0))
        assert overlap == 1 if name != "medium" else overlap > 0.85  # blur, noise and rotation touch its rim
        assert set(np.unique(bits)) <= {0, 0b1001}  # bit fields are never interpolated


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


def test_unknown_name() -> None:
    with pytest.raises(UserError, match=r"augment: unknown name 'heavy'; allowed: none, flips, light, medium, or pack"):
        augmenter("heavy")


def test_code_outside_the_package() -> None:
    assert augmenter("steel.data.augment:none")(*corner(), 0)[0].shape == SHAPE


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
