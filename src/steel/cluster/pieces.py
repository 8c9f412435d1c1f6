"""Slices of parts: how a list is cut into them, what is told of each, and how they become parts again."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from steel.cluster.parts import SCHEMA
from steel.competition import CLASSES
from steel.kaggle.ensemble import Found

# What is told of a slice: the rows of its part, and whose they are; a strip that could not be read has one of class 0.
TOLD = pa.schema([("part", pa.int32()), ("place", pa.int64()), *SCHEMA, ("fault", pa.string())])
Bounds = Callable[[int], tuple[int, int]]


def cut(parts: Sequence[int], bounds: Bounds, size: int) -> NDArray[np.int64]:
    """Slices of at most `size` strips of some parts: rows of part, and where in the list it begins and ends (n, 3)."""
    found = [
        (part, start, min(start + size, end)) for part in parts for begin, end in [bounds(part)]
        for start in range(begin, end, size)
    ]  # fmt: skip
    return np.array(found, np.int64).reshape(-1, 3)


def tell(whose: Iterable[tuple[int, int, str, str]], found: Iterable[Found]) -> pa.Table:
    """What is found on some strips, as TOLD.

    Args:
        whose: of each strip its part, its place in the list, its name, and why it could not be read, or ''.
        found: of each that could, in their order.
    """
    rows: list[tuple] = []
    each = iter(found)
    for part, place, image_id, fault in whose:
        if fault:
            rows.append((part, place, image_id, 0, "", 0, None, fault))
            continue
        one = next(each)
        values = zip(CLASSES, one.rles, one.areas_px, one.gate.tolist(), strict=True)
        rows += [(part, place, image_id, *row, "") for row in values]
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), TOLD, strict=True)]
    return pa.table(columns, TOLD)


class Assembly:
    """Slices that came back, in any order, until their parts are complete; one that comes twice counts once."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._waiting: dict[int, dict[int, pa.Table]] = {}

    def add(self, told: pa.Table) -> Iterator[tuple[int, pa.Table, list[tuple[str, str]]]]:
        """Take what is told of some strips: each part that is complete now, its rows, its corrupt strips and why."""
        for part in pc.unique(told["part"]).to_pylist():
            own = told.filter(pc.equal(told["part"], part))
            pieces = self._waiting.setdefault(part, {})
            pieces[own["place"][0].as_py()] = own
            begin, end = self.bounds(part)
            if sum(n_strips(piece) for piece in pieces.values()) < end - begin:
                continue
            del self._waiting[part]
            # Ray Data may put the ends of slices together, so that a piece has gaps.
            whole = pa.concat_tables(pieces.values()).sort_by([("place", "ascending"), ("class_id", "ascending")])
            bad = whole.filter(pc.equal(whole["class_id"], 0))
            reasons = list(zip(bad["image_id"].to_pylist(), bad["fault"].to_pylist(), strict=True))
            yield part, whole.filter(pc.greater(whole["class_id"], 0)), reasons


def n_strips(told: pa.Table) -> int:
    """Strips of which rows tell, each by its first row."""
    return pc.sum(pc.less_equal(told["class_id"], 1)).as_py()
