"""Run-length decoding and encoding of real strings, against the loop of the usual public kits.

The masks to encode are given in both memory orders: row-major as a net's output, column-major as decoded.
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from harness import Comparison, compare, machine, table
from numpy.typing import NDArray

from steel import rle
from steel.competition import HEIGHT, N_PIXELS, WIDTH


def reference_decode(text: str) -> NDArray[np.uint8]:
    """The usual kit: split, then a Python loop over the runs. Returns (256, 1600)."""
    words = text.split()
    starts, lengths = (np.asarray(part, dtype=int) for part in (words[0::2], words[1::2]))
    starts -= 1
    mask = np.zeros(N_PIXELS, dtype=np.uint8)
    for start, end in zip(starts, starts + lengths, strict=True):
        mask[start:end] = 1
    return mask.reshape((WIDTH, HEIGHT)).T


def reference_encode(mask: NDArray[np.uint8]) -> str:
    """The usual kit: pad the transposed mask, find its changes, join the numbers."""
    pixels = np.concatenate([[0], mask.T.flatten(), [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(x) for x in runs)


def main() -> None:
    """Print a table of microseconds per string."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=Path, default=Path("data/demo/raw/train.csv"), help="csv or csv.gz")
    parser.add_argument("--strings", type=int, default=500, help="strings drawn from it, with seed 0")
    parser.add_argument("--n", type=int, default=15, help="timed passes over them")
    args = parser.parse_args()
    if not args.labels.exists():
        parser.error(f"--labels {args.labels}: no such file; ./run_all.sh writes the default one")
    texts = pd.read_csv(args.labels)["EncodedPixels"].dropna()
    texts = texts.sample(min(args.strings, len(texts)), random_state=0).tolist()
    by_column = [rle.decode(text) for text in texts[:100]]
    by_row = [np.ascontiguousarray(mask) for mask in by_column]
    empty = [np.zeros((HEIGHT, WIDTH), np.uint8)] * 100
    jobs: list[tuple[str, Callable, Callable, list]] = [
        ("decode", rle.decode, reference_decode, texts),
        ("encode, row-major", rle.encode, reference_encode, by_row),
        ("encode, column-major", rle.encode, reference_encode, by_column),
        ("encode, empty", rle.encode, reference_encode, empty),
    ]
    for _, ours, reference, items in jobs:
        assert all(np.array_equal(ours(item), reference(item)) for item in items[:100])
    rows = [["us per string", "passes x strings", "ours", "IQR", "reference", "IQR", "ratio"]]
    for name, ours, reference, items in jobs:
        result = compare(_over(ours, items), _over(reference, items), args.n)
        rows.append(_row(name, result, len(items)))
    print(machine(), f"numpy {np.__version__}", table(rows), sep="\n")


def _over(function: Callable, items: Iterable) -> Callable[[], None]:
    """A pass over the items that drops each result, as a data set does."""

    def run() -> None:
        for item in items:
            function(item)

    return run


def _row(name: str, c: Comparison, n_items: int) -> list[str]:
    times = (c.ours_s, c.ours_iqr_s, c.reference_s, c.reference_iqr_s)
    return [name, f"{c.n} x {n_items}", *(f"{1e6 * t / n_items:.1f}" for t in times), f"{c.ratio:.1f}"]


if __name__ == "__main__":
    main()
