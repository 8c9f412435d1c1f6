"""Column-major run-length encoding of masks, as the competition writes them.

A string holds ``start length`` pairs; starts count from 1, top to bottom, then left to right.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.competition import HEIGHT, N_CLASSES, N_PIXELS, WIDTH

# A mask is filled in words of 8 px: a whole word of ones, and for r = 0..7 the word whose px r..7 are ones.
_WORD_PX = 8
_ONES = np.ones(_WORD_PX, np.uint8).view(np.uint64)[0]
_ONES_FROM = np.triu(np.ones((_WORD_PX, _WORD_PX), np.uint8)).view(np.uint64).ravel()  # (8,)
_N_BLOCKS = 50  # of 32 columns, in the search for a mask in column-major memory


def parse(rle: str) -> NDArray[np.int64]:
    """Read and check a string: runs as rows (start from 0, length), (n, 2), in px; (0, 2) for an empty string.

    Raises ValueError with one line that names the faulty value and its place in the string.
    """
    runs = _edges(rle).reshape(-1, 2)
    runs[:, 1] -= runs[:, 0]
    return runs


def decode(rle: str) -> NDArray[np.uint8]:
    """Mask (256, 1600) of 0 and 1, in column-major memory order. Raises ValueError as `parse` does."""
    return _fill(_edges(rle), WIDTH)


def encode(mask: NDArray) -> str:
    """Canonical string (touching runs merged) of a mask (256, 1600) of bool or uint8 0/1; '' for an empty mask.

    Raises ValueError for another shape, type or value.
    """
    if mask.shape != (HEIGHT, WIDTH) or mask.dtype not in (np.bool_, np.uint8):
        raise ValueError(f"mask {mask.shape} of {mask.dtype}: expected ({HEIGHT}, {WIDTH}) of bool or uint8")
    if not mask.flags.f_contiguous:
        mask = np.ascontiguousarray(mask)
    if not mask.view(np.bool_).any():  # most masks of a submission
        return ""
    mask = mask.view(np.uint8)
    left, right = _used_columns(mask)
    # cv2's transpose is 3 x as fast as numpy's copy.
    columns = mask.T[left:right] if mask.flags.f_contiguous else cv2.transpose(mask[:, left:right])
    padded = np.zeros(columns.size + 2, np.uint8)
    padded[1:-1] = columns.reshape(-1)
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    edges[1::2] -= edges[0::2]
    edges[0::2] += left * HEIGHT + 1
    values = tuple(edges.tolist())
    return ("%d " * len(values))[:-1] % values  # faster than a join of strings


def paint(bits: NDArray[np.uint8], rle: str, class_id: int) -> None:
    """Set bit class_id - 1 of the bit field (256, 1600) uint8, in place, where the string has its mask.

    Raises ValueError as `parse` does, and for a class outside 1..4.
    """
    if not 1 <= class_id <= N_CLASSES:
        raise ValueError(f"class {class_id}: expected 1 to {N_CLASSES}")
    edges = _edges(rle)
    if not edges.size:
        return
    left, right = int(edges[0]) // HEIGHT, -(-int(edges[-1]) // HEIGHT)
    bits[:, left:right] |= _fill(edges - left * HEIGHT, right - left) << np.uint8(class_id - 1)


def area(rle: str) -> int:
    """Number of px of a mask. Raises ValueError as `parse` does."""
    return int(parse(rle)[:, 1].sum())


def _edges(rle: str) -> NDArray[np.int64]:
    """Checked runs as flat px: start, end, start, end, ... (2n,), from 0, ends exclusive."""
    if not rle:
        return np.empty(0, np.int64)
    if not rle.isascii() or rle.isspace() or rle.encode().translate(None, b"0123456789 "):
        raise ValueError(_fault(rle))
    edges = np.fromstring(rle, np.int64, sep=" ")  # only its binary mode is deprecated; 6 x as fast as split
    if edges.size % 2 or edges.max() > N_PIXELS:  # the largest first: what follows must not overflow
        raise ValueError(_fault(rle))
    edges[0::2] -= 1
    edges[1::2] += edges[0::2]
    steps = edges[1:] - edges[:-1]
    if edges[0] < 0 or edges[-1] > N_PIXELS or (steps < 0).any() or not steps[0::2].all():
        raise ValueError(_fault(rle))
    return edges


def _fill(edges: NDArray[np.int64], n_columns: int) -> NDArray[np.uint8]:
    """Mask (256, n_columns) of 0 and 1 from checked edges: a px is the parity of the edges at or before it.

    Whole words first, by the parity of the edges in the words before; then the words that hold an edge.
    """
    n_px = HEIGHT * n_columns
    word = np.empty(edges.size + 2, np.int64)
    word[0], word[-1] = -1, n_px // _WORD_PX
    np.right_shift(edges, 3, out=word[1:-1])
    values = np.zeros(edges.size + 1, np.uint64)
    values[1::2] = _ONES
    words = values.repeat(word[1:] - word[:-1])  # one word more than the mask: a run may end at its last px
    np.bitwise_xor.at(words, word[1:-1], _ONES_FROM[edges & 7])
    return words.view(np.uint8)[:n_px].reshape(n_columns, HEIGHT).T


def _used_columns(mask: NDArray[np.uint8]) -> tuple[int, int]:
    """First column and end (exclusive) of a stretch of columns that holds all of a mask; it may be a little wider."""
    if mask.flags.f_contiguous:
        top = mask.T.reshape(_N_BLOCKS, -1).max(axis=1)  # (50,), along memory
    else:
        top = np.bitwise_or.reduce(mask.view(np.uint64), axis=0).view(np.uint8)  # (1600,), 8 columns at a time
    if top.max() > 1:
        raise ValueError(f"mask holds {top.max()}: expected 0 and 1")
    used = np.flatnonzero(top)
    width = WIDTH // len(top)
    return int(used[0]) * width, (int(used[-1]) + 1) * width


def _fault(rle: str) -> str:
    """Name the first fault of a string that `_edges` refused."""
    tokens = [token for token in rle.split(" ") if token]
    end = 0  # of the run before, from 1, inclusive
    for i, token in enumerate(tokens, 1):
        where = f"(number {i} of {len(tokens)})"
        if not (token.isascii() and token.isdigit()):
            return f"RLE has {token[:20]!r} {where}: expected a whole number from 1 to {N_PIXELS}"
        value = int(token) if len(token) < 20 else N_PIXELS + 1
        if not 1 <= value <= N_PIXELS:
            return f"RLE has {token[:20]} {where}: expected a whole number from 1 to {N_PIXELS}"
        if i % 2 and value <= end:
            return f"RLE run starts at {value} {where} but the run before ends at {end}: expected sorted, apart"
        end = value if i % 2 else end + value - 1
        if end > N_PIXELS:
            return f"RLE run of length {value} {where} ends at {end}: expected at most {N_PIXELS}"
    return f"RLE has {len(tokens)} numbers: expected pairs of start and length"
