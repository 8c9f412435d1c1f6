"""Training samples per second in one worker: crops of the memory-mapped cache, against the usual public kit.

    python benchmarks/samples.py --raw data/severstal/raw

Both give an image and the masks of all four classes after flips, brightness and contrast. The reference reads the JPEG,
decodes four masks in a Python loop, augments the whole strip and crops it, as the public kernels of 2019 do in
`__getitem__`; its second form also normalises to float there, which this kit leaves to the device. Without --raw:
synthetic strips.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A
import cv2
import numpy as np
import pandas as pd
import torch
from harness import Comparison, compare, machine, table
from numpy.typing import NDArray

from steel import rle
from steel.competition import CLASSES, HEIGHT, N_CLASSES, N_PIXELS, WIDTH
from steel.data.cache import AREAS, Strips
from steel.data.dataset import Crops, Sampling
from steel.data.synth import write_dataset

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class KitDataset:
    """After the usual kit: one row per image with four strings, everything done anew for each sample."""

    def __init__(self, folder: Path, texts: pd.DataFrame, width: int, normalise: bool) -> None:
        self.folder, self.texts = folder, texts
        steps = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5), A.RandomBrightnessContrast(0.2, 0.2, p=0.5)]
        crop = [A.RandomCrop(HEIGHT, width)] if width < WIDTH else []
        self.transforms = A.Compose([*steps, *crop, *([A.Normalize(MEAN, STD)] if normalise else [])])
        self.normalise = normalise

    def __getitem__(self, i: int) -> tuple:
        image = cv2.imread(str(self.folder / str(self.texts.index[i])))
        found = self.transforms(image=image, mask=self.make_mask(i))
        if not self.normalise:
            return found["image"], found["mask"]
        return tuple(torch.from_numpy(found[key].transpose(2, 0, 1).copy()) for key in ("image", "mask"))

    def make_mask(self, i: int) -> NDArray[np.float32]:
        """Masks (256, 1600, 4)."""
        masks = np.zeros((HEIGHT, WIDTH, N_CLASSES), np.float32)
        for k, text in enumerate(self.texts.iloc[i].values):
            if isinstance(text, str):
                numbers = text.split(" ")
                mask = np.zeros(N_PIXELS, np.uint8)
                for start, length in zip(map(int, numbers[0::2]), map(int, numbers[1::2]), strict=True):
                    mask[start - 1 : start - 1 + length] = 1
                masks[:, :, k] = mask.reshape(HEIGHT, WIDTH, order="F")
        return masks


def texts_of(raw: Path) -> pd.DataFrame:
    """One row per image, a column of strings per class; NaN where it is clean."""
    names = sorted(path.name for path in (raw / "train_images").iterdir())
    masks = pd.read_csv(raw / "train.csv").pivot(index="ImageId", columns="ClassId", values="EncodedPixels")
    return masks.reindex(index=names, columns=list(CLASSES))


def strips_of(raw: Path, texts: pd.DataFrame, cache: Path) -> Strips:
    """The strips as memory-mapped arrays, as `steel prepare` leaves them."""
    images = np.lib.format.open_memmap(cache / "i.npy", "w+", np.uint8, (len(texts), HEIGHT, WIDTH))
    masks = np.lib.format.open_memmap(cache / "m.npy", "w+", np.uint8, (len(texts), HEIGHT, WIDTH))
    for row, name in enumerate(texts.index):
        image = cv2.imread(str(raw / "train_images" / str(name)), cv2.IMREAD_GRAYSCALE)
        assert image is not None, name
        images[row] = image
        for class_id, text in texts.iloc[row].items():
            if isinstance(text, str):
                rle.paint(masks[row], text, int(str(class_id)))
    index = pd.DataFrame({"image_id": texts.index})
    index[AREAS] = np.stack([((masks >> k) & 1).sum((1, 2), dtype=np.int64) for k in range(N_CLASSES)], axis=1)
    return Strips(index, np.load(cache / "i.npy", mmap_mode="r"), np.load(cache / "m.npy", mmap_mode="r"))


def take(items: Crops | KitDataset, n: int) -> Callable[[], None]:
    """A pass over n samples that drops each."""

    def run() -> None:
        for i in range(n):
            items[i]

    return run


def main() -> None:
    """Print a table of samples per second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, help="a folder in the competition's layout")
    parser.add_argument("--samples", type=int, default=48, help="samples per timed pass, at most the images")
    parser.add_argument("--n", type=int, default=7, help="timed passes of each")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    rows = [["samples per second, one worker", "passes x samples", "ours", "IQR", "reference", "IQR", "ratio"]]
    with tempfile.TemporaryDirectory() as folder:
        raw = args.raw or Path(folder)
        if args.raw is None:
            write_dataset(raw, args.samples, 0, 0)
        texts = texts_of(raw).sample(args.samples, random_state=0)
        strips = strips_of(raw, texts, Path(folder))
        for width in (512, WIDTH):
            sampling = Sampling(np.arange(len(texts)), width, args.samples, 0.7, "light", 0)
            ours = take(Crops(strips, sampling, 0), args.samples)
            for normalise in (False, True):
                kit = KitDataset(raw / "train_images", texts, width, normalise)
                name = f"256x{width}" + (", reference normalises too" if normalise else "")
                rows.append(row(name, compare(ours, take(kit, args.samples), args.n), args.samples))
        n_jpeg = sum((raw / "train_images" / str(name)).read_bytes()[:2] == b"\xff\xd8" for name in texts.index)
    print(machine(), f"{args.samples} {'real' if args.raw else 'synthetic'} strips, {n_jpeg} of them JPEG", sep="\n")
    print(table(rows))


def row(name: str, c: Comparison, samples: int) -> list[str]:
    """One comparison; the spread of a rate is its relative spread of time."""
    rates = [
        text
        for time_s, iqr_s in ((c.ours_s, c.ours_iqr_s), (c.reference_s, c.reference_iqr_s))
        for text in (f"{samples / time_s:.0f}", f"{100 * iqr_s / time_s:.0f} %")
    ]
    return [name, f"{c.n} x {samples}", *rates, f"{c.ratio:.1f}"]


if __name__ == "__main__":
    main()
