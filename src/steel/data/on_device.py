"""Training samples made in batches where the strips lie: in the memory of a GPU, or on a CPU from the memory maps.

The samples are those of `Crops`, to the byte, for the recipes of DRAWN.
"""

import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steel.competition import HEIGHT, WIDTH
from steel.config import ModelConfig
from steel.data.augment import chooser
from steel.data.cache import Strips
from steel.data.dataset import Crops
from steel.errors import UserError

# Recipes that can be made here: whether they flip, and whether they change brightness and contrast.
DRAWN = {"none": (False, False), "flips": (True, False), "light": (True, True)}
SHARE, LIMIT = 0.5, 0.2  # of the samples that each change is made to; of contrast and brightness
CHUNK = 256  # strips that are copied to a GPU at once


@dataclass(frozen=True)
class Change:
    """What is done to one sample; contrast None leaves brightness and contrast alone."""

    across: bool = False
    upside_down: bool = False
    contrast: float | None = None
    brightness: float = 0.0

    @property
    def flips(self) -> list[int]:
        """The axes of (H, W) along which it mirrors."""
        return [axis for axis, is_mirrored in ((0, self.upside_down), (1, self.across)) if is_mirrored]


def check(model: ModelConfig) -> None:
    """Refuse a model whose samples cannot be made here."""
    recipes = [model.augment] if isinstance(model.augment, str) else list(model.augment.values())
    for recipe in recipes:
        if recipe not in DRAWN:
            raise UserError(
                f"machine.sampling: device does not make the augmentation {recipe!r}; allowed: {', '.join(DRAWN)}, "
                f"or sampling: workers"
            )
    if model.paste:
        raise UserError("machine.sampling: device pastes no defects; allowed: paste: 0, or sampling: workers")


class OnDevice:
    """The strips and mask bits of some rows, where batches are made of them."""

    def __init__(self, strips: Strips, rows: NDArray[np.int64], device: torch.device) -> None:
        """Copy them to a GPU; on a CPU they stay where they are. A UserError if a GPU has no room for them."""
        assert strips.masks is not None
        self.masks_on_disk = strips.masks
        self.columns: dict[int, NDArray[np.uint8]] = {}  # row -> (1, WIDTH): mask bits anywhere in each column
        if device.type == "cpu":
            self.place = np.arange(len(strips.images))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nor does anybody write
                self.images, self.masks = torch.from_numpy(strips.images), torch.from_numpy(strips.masks)
            return
        _check_room(len(rows), device)
        self.place = np.full(len(strips.images), -1)
        self.place[rows] = np.arange(len(rows))
        self.images, self.masks = (_copied(source, rows, device) for source in (strips.images, strips.masks))

    def batch(self, crops: Crops, positions: range) -> tuple[Tensor, Tensor]:
        """Image and mask bits of some samples of an epoch, each (B, 256, width) uint8, on the device."""
        width, changes = crops.sampling.width, []
        windows: list[tuple[int, slice, list[int]]] = []
        choose = chooser(crops.sampling.augment)
        for position in positions:
            row, seed = int(crops.rows[position]), int(crops.seeds[position])
            left = crops.left(position, self._columns(row))
            window = slice(left, left + width)
            change = draw(choose(int(np.bitwise_or.reduce(self._columns(row)[0, window]))), seed)
            windows.append((int(self.place[row]), window, change.flips))
            changes.append(change)
        image, mask = (
            torch.stack([whole[place, :, window].flip(axes) for place, window, axes in windows])
            for whole in (self.images, self.masks)
        )
        return _lit(image, changes), mask

    def _columns(self, row: int) -> NDArray[np.uint8]:
        if row not in self.columns:
            self.columns[row] = np.bitwise_or.reduce(self.masks_on_disk[row], axis=0, keepdims=True)
        return self.columns[row]


class Batches:
    """The batches of an epoch, made when they are asked for; what is left over is left out."""

    def __init__(self, store: OnDevice, crops: Crops, positions: range, batch: int) -> None:
        self.store, self.crops, self.positions, self.batch = store, crops, positions, batch

    def __len__(self) -> int:
        return len(self.positions) // self.batch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        torch.empty((), dtype=torch.int64).random_()  # as a DataLoader does: dropout draws after it
        for i in range(len(self)):
            yield self.store.batch(self.crops, self.positions[i * self.batch : (i + 1) * self.batch])


def draw(recipe: str, seed: int) -> Change:
    """What a recipe of DRAWN does to the sample with this seed: the numbers that albumentations draws for it."""
    flips, lights = DRAWN[recipe]
    rng = random.Random(seed)
    rng.random()  # its Compose asks whether to do anything at all
    across, upside_down = (flips and rng.random() < SHARE for _ in range(2))
    if not lights or rng.random() >= SHARE:
        return Change(across, upside_down)
    contrast = 1.0 + rng.uniform(-LIMIT, LIMIT)
    return Change(across, upside_down, contrast, rng.uniform(-LIMIT, LIMIT))


def _lit(image: Tensor, changes: list[Change]) -> Tensor:
    """The images (B, H, W) uint8 with the changes' contrast, and brightness by a share of their mean."""
    chosen = [(i, c.contrast, c.brightness) for i, c in enumerate(changes) if c.contrast is not None]
    if not chosen:
        return image
    some = _sent([i for i, _, _ in chosen], torch.int64, image.device)
    contrast, brightness = _sent([pair for _, *pair in chosen], torch.float64, image.device).T
    x = image[some]
    mean = x.sum((1, 2), dtype=torch.int64).double() / x[0].numel()
    # As albumentations does: in float32, one operation after the other, then cut off.
    x = x.float().mul_(contrast.float().view(-1, 1, 1)).add_((brightness * mean).float().view(-1, 1, 1))
    image[some] = x.clamp_(0, 255).to(torch.uint8)
    return image


def _sent(values: list[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers on the device, which nobody waits for to have come there."""
    found = torch.tensor(values, dtype=dtype)
    return found.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else found


def _check_room(n_rows: int, device: torch.device) -> None:
    free, need = torch.cuda.mem_get_info(device)[0], 2 * n_rows * HEIGHT * WIDTH
    if need > free:
        raise UserError(
            f"machine.sampling: device needs {need / 1e9:.1f} GB of the GPU for {n_rows} strips and their masks, "
            f"{free / 1e9:.1f} GB are free; allowed: workers"
        )


def _copied(source: NDArray[np.uint8], rows: NDArray[np.int64], device: torch.device) -> Tensor:
    target = torch.empty((len(rows), HEIGHT, WIDTH), dtype=torch.uint8, device=device)
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        target[start : start + len(part)] = torch.from_numpy(source[part])
    return target
