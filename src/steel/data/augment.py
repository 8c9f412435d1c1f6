"""Augmentation recipes by name; the only module that calls albumentations."""

import os
import random
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from steel.tables import choose

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its newest version at import
import albumentations as A

Augment = Callable[[NDArray[np.uint8], NDArray[np.uint8], int], tuple[NDArray[np.uint8], NDArray[np.uint8]]]


def none() -> Sequence[A.BasicTransform]:
    """No augmentation."""
    return []


def flips() -> Sequence[A.BasicTransform]:
    """Horizontal and vertical flips, each of every second crop."""
    return [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]


def light() -> Sequence[A.BasicTransform]:
    """Flips, and brightness and contrast by up to 20 %."""
    return [*flips(), A.RandomBrightnessContrast(0.2, 0.2, p=0.5)]


def medium() -> Sequence[A.BasicTransform]:
    """Light, and shifts by up to 6 %, scales by up to 10 %, blur and noise on some."""
    shift = A.Affine(scale=(0.9, 1.1), translate_percent=(-0.06, 0.06), rotate=(-2, 2), p=0.3)
    return [*light(), shift, A.OneOf([A.GaussianBlur(p=1), A.GaussNoise(std_range=(0.02, 0.06), p=1)], p=0.2)]


AUGMENTATIONS: dict[str, Callable[[], Sequence[A.BasicTransform]]] = {
    "none": none,
    "flips": flips,
    "light": light,
    "medium": medium,
}


def augmenter(name: str) -> Augment:
    """A function (image (H, W) uint8, mask bits (H, W) uint8, seed) -> the same shapes, a pure function of its seed.

    The seed belongs to the sample, not to the worker: any number of workers, and a resumed run, give the same samples.
    """
    transforms = list(choose(AUGMENTATIONS, name, "augment")())
    if not transforms:
        return lambda image, mask, _seed: (image, mask)
    compose = A.Compose(transforms)

    def augment(image: NDArray[np.uint8], mask: NDArray[np.uint8], seed: int) -> tuple[NDArray, NDArray]:
        # One generator for all: `set_random_seed` would give each transform the same draws, so that a strip is flipped
        # both ways or not at all.
        compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        found = compose(image=image, mask=mask)
        return np.ascontiguousarray(found["image"]), np.ascontiguousarray(found["mask"])

    return augment
