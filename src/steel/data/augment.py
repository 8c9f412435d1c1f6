"""Augmentation recipes by name, and strength by class; the only module that calls albumentations."""

import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.data.paste import is_steel
from steel.errors import UserError
from steel.tables import choose

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its newest version at import
import albumentations as A

Augment = Callable[[NDArray[np.uint8], NDArray[np.uint8], int], tuple[NDArray[np.uint8], NDArray[np.uint8]]]

# Classes from the rarest: 247, 801, 897 and 5,150 masks in train. Not the order in which a YAML names them, since the
# digest of a solution sorts its keys: two orders would train differently under one name.
RAREST_FIRST = ("2", "4", "1", "3")
DEFAULT = "default"


class BlackEnd(A.DualTransform):
    """One end of the strip lies beyond the coil's edge, as in many real ones: black, and no mask there.

    The black takes 3 % to 35 % of the width; its edge leans by up to 12 px from top to bottom, and is some px soft. A
    crop that has such an end already stays as it is: no strip has two.
    """

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the share of steel at each pixel, (H, W) float32 in [0, 1], and the level of the black."""
        height, width = params["shape"][:2]
        lean = self.random_generator.uniform(-12, 12) * np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
        inside_px = np.arange(width, dtype=np.float32) - width * self.random_generator.uniform(0.03, 0.35) + lean
        steel = np.clip(inside_px / self.random_generator.uniform(2, 6), 0, 1)
        if self.random_generator.random() < 0.5:
            steel = steel[:, ::-1]
        if not is_steel(data["image"][:, [0, -1]]).all():
            steel = np.ones_like(steel)
        return {"steel": steel, "black": self.random_generator.uniform(0, 6)}

    def apply(
        self, img: NDArray[np.uint8], steel: NDArray[np.float32], black: float, **_params: Any
    ) -> NDArray[np.uint8]:
        """The image (H, W) uint8 with one end black."""
        return np.rint(black + steel * (img - np.float32(black))).astype(np.uint8)

    def apply_to_mask(self, mask: NDArray[np.uint8], steel: NDArray[np.float32], **_params: Any) -> NDArray[np.uint8]:
        """The mask bits (H, W) uint8, none where less than half of the steel is left."""
        return np.where(steel < 0.5, np.uint8(0), mask)


def none() -> Sequence[A.BasicTransform]:
    """No augmentation."""
    return []


def flips() -> Sequence[A.BasicTransform]:
    """Horizontal and vertical flips, each of every second crop."""
    return [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]


def light() -> Sequence[A.BasicTransform]:
    """Flips, and brightness and contrast by up to 20 % (of the crop's own mean: many strips are dark)."""
    return [*flips(), A.RandomBrightnessContrast(0.2, 0.2, brightness_by_max=False, p=0.5)]


def medium() -> Sequence[A.BasicTransform]:
    """Light, and shifts by up to 6 %, scales by up to 10 %, blur and noise on some; mirrored at the edges."""
    mirror = cv2.BORDER_REFLECT_101
    shift = A.Affine(scale=(0.9, 1.1), translate_percent=(-0.06, 0.06), rotate=(-2, 2), border_mode=mirror, p=0.3)
    return [*light(), shift, A.OneOf([A.GaussianBlur(p=1), A.GaussNoise(std_range=(0.02, 0.06), p=1)], p=0.2)]


def heavy() -> Sequence[A.BasicTransform]:
    """Flips, shifts by up to 10 %, scales by up to 15 %, one of three lights, blur or noise, black ends, holes.

    A hole (cut-out: DeVries and Taylor 2017) and a black end clear the mask below them: what cannot be seen is not
    asked for. Nothing else removes a defect, but a shift may move one out of the crop.
    """
    move = {"x": (-0.1, 0.1), "y": (-0.06, 0.06)}
    shift = A.Affine(scale=(0.85, 1.15), translate_percent=move, rotate=(-4, 4), border_mode=cv2.BORDER_REFLECT, p=0.5)
    brightness = A.RandomBrightnessContrast(0.3, 0.3, brightness_by_max=False, p=1)
    lights = [brightness, A.RandomGamma((75, 130), p=1), A.CLAHE((1, 3), p=1)]
    grains = [A.GaussianBlur(sigma_limit=(0.5, 1.5), p=1), A.GaussNoise(std_range=(0.01, 0.04), p=1)]
    holes = A.CoarseDropout((1, 4), (0.08, 0.25), (0.02, 0.08), fill=0, fill_mask=0, p=0.25)
    return [*flips(), shift, BlackEnd(p=0.15), A.OneOf(lights, p=0.8), A.OneOf(grains, p=0.3), holes]


AUGMENTATIONS: dict[str, Callable[[], Sequence[A.BasicTransform]]] = {
    "none": none,
    "flips": flips,
    "light": light,
    "medium": medium,
    "heavy": heavy,
}


def augmenter(recipe: str | Mapping[str, str]) -> Augment:
    """A function (image (H, W) uint8, mask bits (H, W) uint8, seed) -> the same shapes, a pure function of its seed.

    The seed belongs to the sample, not to the worker: any number of workers, and a resumed run, give the same samples.

    A mapping gives a recipe by class, as in ``{"default": "light", "2": "heavy", "4": "medium"}``: a sample gets that
    of the rarest class in its mask that the mapping names (RAREST_FIRST, in whatever order they are named), else the
    default, which clean samples always get. Raises UserError for an unknown recipe or key, or without a default.
    """
    choose = chooser(recipe)
    names = {"augment": recipe} if isinstance(recipe, str) else {f"augment.{key}": recipe[key] for key in recipe}
    made = {name: _one(name, where) for where, name in names.items()}
    if len(made) == 1:
        return next(iter(made.values()))

    def augment(image: NDArray[np.uint8], mask: NDArray[np.uint8], seed: int) -> tuple[NDArray, NDArray]:
        return made[choose(int(np.bitwise_or.reduce(mask, axis=None)))](image, mask, seed)

    return augment


def chooser(recipe: str | Mapping[str, str]) -> Callable[[int], str]:
    """A function that gives the name of a sample's recipe by the bits of the classes in its mask; see `augmenter`."""
    if isinstance(recipe, str):
        return lambda _present: recipe
    allowed = (DEFAULT, *sorted(RAREST_FIRST))
    for key in recipe:
        if key not in allowed:
            raise UserError(f"augment: unknown key {key!r}; allowed: {', '.join(map(repr, allowed))}")
    if DEFAULT not in recipe:
        raise UserError(f"augment: {dict(recipe)} has no default, as in {{default: light, '2': heavy}}")
    by_class = [(1 << int(k) - 1, recipe[k]) for k in RAREST_FIRST if k in recipe]
    return lambda present: next((name for bit, name in by_class if present & bit), recipe[DEFAULT])


def _one(name: str, where: str) -> Augment:
    transforms = list(choose(AUGMENTATIONS, name, where)())
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
