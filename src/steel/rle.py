"""Column-major run-length encoding of masks, as the competition writes them.

A string holds ``start length`` pairs; starts count from 1, top to bottom, then left to right.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from steel.competition import HEIGHT, N_CLASSES, N_PIXELS, WIDTH

# A mask is filled in words of 8 px: a whole word of ones, and for r = 0..7 the word whose px r..7 are ones.
_WORD_PX = 8
_ONES = np.ones(_WORD_PX, np.uint8).view(np.uint64)[0]
_ONES_FROM = np.triu(np.ones((_WORD_PX, _WORD_PX), np.uint8)).view(np.uint64).ravel()  # (8,)
_N_BLOCKS = 50  # of 32 columns; edges are looked for only between the first and the last block that hold some


def _table(texts: Iterable[str]) -> NDArray[np.uint32]:
    """Four bytes for each text, filled up with zero bytes."""
    return np.frombuffer(b"".join(text.encode().rjust(4, b"\0") for text in texts), np.uint32)


# A number is written as two halves: its thousands ('' for none), then the rest, with zeros in front if there are any.
_THOUSANDS = _table(["", *(str(i) for i in range(1, N_PIXELS // 1000 + 1))])
_REST = _table([*(f"{i} " for i in range(1000)), *(f"{i:03d} " for i in range(1000))])


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
    edges = _changes_by_column(mask.T) if mask.flags.f_contiguous else _changes_by_row(mask)
    edges[1::2] -= edges[0::2]
    edges[0::2] += 1
    return _text(edges)


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


def _changes_by_column(columns: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Start, end, start, end, ... (2n,) as flat px of the runs of a mask that is not empty, (1600, 256) contiguous."""
    blocks = columns.reshape(_N_BLOCKS, -1)
    used = np.flatnonzero(blocks.max(axis=1))
    start, end = int(used[0]) * blocks.shape[1], (int(used[-1]) + 1) * blocks.shape[1]
    px = columns.reshape(-1)[start:end]
    differs = np.empty_like(px)  # from the px before
    differs[0] = px[0]
    np.bitwise_xor(px[1:], px[:-1], out=differs[1:])
    edges = _flatnonzero(differs) + start
    return np.append(edges, end) if px[-1] else edges


def _changes_by_row(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The same of a mask (256, 1600) contiguous; a few edges are sorted, no px is moved."""
    differs = np.empty_like(mask)  # from the px before, which is the one above
    differs[0, 0] = mask[0, 0]
    differs[0, 1:] = mask[0, 1:] ^ mask[-1, :-1]  # the head of a column against the foot of the last
    np.bitwise_xor(mask[1:], mask[:-1], out=differs[1:])
    row, column = np.divmod(_flatnonzero(differs.reshape(-1)), WIDTH)
    edges = np.sort(column * HEIGHT + row)
    return np.append(edges, N_PIXELS) if mask[-1, -1] else edges


def _flatnonzero(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """`np.flatnonzero` where nearly all is zero: look at words of 8 first. Raises ValueError for a value above 1."""
    words = values.view(np.uint64)
    word = np.flatnonzero(words != 0)
    found = words[word].view(np.uint8)
    at = np.flatnonzero(found)
    if at.size and found.max() > 1:
        raise ValueError("mask holds other values than 0 and 1: expected 0 and 1")
    return word[at >> 3] * _WORD_PX + (at & 7)


def _text(numbers: NDArray[np.int64]) -> str:
    """Decimal numbers from 0 to 409,600 parted by blanks, from a table of their halves (2 x as fast as a join)."""
    thousands = numbers // 1000
    halves = np.empty((numbers.size, 2), np.uint32)
    halves[:, 0] = _THOUSANDS[thousands]
    halves[:, 1] = _REST[numbers - 1000 * thousands + 1000 * (thousands > 0)]
    return halves.tobytes().translate(None, b"\0")[:-1].decode()


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
