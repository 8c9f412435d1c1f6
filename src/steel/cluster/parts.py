"""What `steel predict --executor ray` leaves: the list of the strips, a parquet file for each part of it, a summary.

    OUT/run.json               the archive, the solution, the size of a part
    OUT/strips.parquet         the list, sorted: image_id
    OUT/parts/part-000000.parquet ...  four rows for each strip that could be read
    OUT/corrupt.csv            image_id, reason of those that could not
    OUT/summary.json           counts, seconds, strips per second; written last

A part is written once, whole or not at all; in its footer lie its counts and its corrupt strips.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from steel import files, stage
from steel.competition import CLASSES
from steel.errors import UserError, shorten

RUN, LIST, PARTS, CORRUPT, SUMMARY = "run.json", "strips.parquet", "parts", "corrupt.csv", "summary.json"
FOOTER = b"steel"
# A part's columns, in the order of image_id and class_id; rle is '' where nothing is shown.
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("class_id", pa.int8()),  # 1..4
        ("rle", pa.string()),
        ("area_px", pa.int32()),
        ("gate", pa.float32()),  # the probability that the class is there; 1 where no model gives one
    ]
)


@dataclass(frozen=True)
class Run:
    """What a folder of parts is made from.

    Attributes:
        images: address of the archive.
        solution: name of the solution.
        made_by: digests of what decides: configuration, rules and weights.
        part_strips: strips of a part.
    """

    images: str
    solution: str
    made_by: dict[str, str]
    part_strips: int


@dataclass
class Counts:
    """What was found on the strips of some parts.

    Attributes:
        strips: all, with those that could not be read.
        shown: strips that show each class.
        with_a_defect: strips that show any.
        corrupt: image_id and reason of those that could not be read.
    """

    strips: int = 0
    shown: dict[str, int] = field(default_factory=lambda: dict.fromkeys(map(str, CLASSES), 0))
    with_a_defect: int = 0
    corrupt: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, rows: pa.Table, corrupt: Sequence[tuple[str, str]]) -> "Counts":
        """Those of a part's rows, four for each strip that was read."""
        found = rows.filter(pc.greater(rows["area_px"], 0))
        classes = found["class_id"].to_pylist()
        shown = {str(k): classes.count(k) for k in CLASSES}
        n_read = rows.num_rows // len(CLASSES)
        return cls(n_read + len(corrupt), shown, len(found["image_id"].unique()), list(corrupt))

    def add(self, other: "Counts") -> None:
        """Count another's strips too."""
        self.strips += other.strips
        self.shown = {k: n + other.shown[k] for k, n in self.shown.items()}
        self.with_a_defect += other.with_a_defect
        self.corrupt += other.corrupt


class Out:
    """A folder of parts, begun or to be continued.

    Attributes:
        folder: where it lies.
        run: what it is made from.
        strips: the list, (n,) strings.
    """

    def __init__(self, folder: Path, run: Run, strips: pa.ChunkedArray) -> None:
        self.folder, self.run, self.strips = folder, run, strips

    @property
    def n_parts(self) -> int:
        """Parts in all."""
        return -(-len(self.strips) // self.run.part_strips)

    def bounds(self, part: int) -> tuple[int, int]:
        """Places in the list at which a part begins and ends."""
        begin = part * self.run.part_strips
        return begin, min(begin + self.run.part_strips, len(self.strips))

    def path(self, part: int) -> Path:
        """File of a part."""
        return self.folder / PARTS / f"part-{part:06d}.parquet"

    def missing(self) -> list[int]:
        """Parts that do not stand yet."""
        standing = {path.name for path in (self.folder / PARTS).glob("part-*.parquet")}
        return [part for part in range(self.n_parts) if self.path(part).name not in standing]

    def write(self, part: int, rows: pa.Table, corrupt: Sequence[tuple[str, str]]) -> Counts:
        """Write a part, whole or not at all."""
        counts = Counts.of(rows, corrupt)
        table = rows.select(SCHEMA.names).cast(SCHEMA).replace_schema_metadata({FOOTER: json.dumps(asdict(counts))})
        with files.atomic(self.path(part)) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        return counts

    def counts(self, parts: Iterable[int]) -> Counts:
        """What was found on parts that stand, from their footers."""
        total = Counts()
        for part in parts:
            found = json.loads((pq.read_schema(self.path(part)).metadata or {})[FOOTER])
            total.add(Counts(**{**found, "corrupt": [tuple(one) for one in found["corrupt"]]}))
        return total

    def finish(self, counts: Counts, of_this_run: Mapping[str, Any]) -> None:
        """Write corrupt.csv, then the summary."""
        with files.atomic(self.folder / CORRUPT) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([("image_id", "reason"), *sorted(counts.corrupt)])
        told = {**asdict(counts), "corrupt": len(counts.corrupt), "parts": self.n_parts, **of_this_run}
        files.write_json(self.folder / SUMMARY, told)


@contextmanager
def opened(folder: Path, run: Run, list_strips: Callable[[], list[str]], force: bool = False) -> Iterator[Out]:
    """Begin a folder of parts, or go on with the one that stands; no other program may meanwhile.

    A list that stands is kept, and `list_strips` not called: strips that came since are not seen. With `force` all is
    done again. Raises UserError if the folder holds what another run made, or anything else.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file; with --executor ray a folder for the parts is wanted")
    with stage.locked(stage.Spec("predict", folder, None, {}, ())):
        if (folder / RUN).exists():
            _need_same(folder, run)
            for name in (PARTS, SUMMARY, CORRUPT, RUN) if force else ():
                files.remove(folder / name)
        if not (folder / RUN).exists():
            _begin(folder, run, list_strips)
        yield Out(folder, run, pq.read_table(folder / LIST)["image_id"])


def _begin(folder: Path, run: Run, list_strips: Callable[[], list[str]]) -> None:
    others = sorted(path.name for path in folder.iterdir() if path.name not in (stage.LOCK, LIST))
    if others:
        raise UserError(f"--out {folder} holds other things ({shorten(others)}): give a new or an empty folder")
    names = list_strips()
    try:
        table = pa.table({"image_id": pa.array(names, pa.string())})
    except UnicodeEncodeError as error:
        raise UserError(f"{run.images}: the name {error.object!r} is not UTF-8: rename the file") from None
    with files.atomic(folder / LIST) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    files.write_json(folder / RUN, asdict(run))


def _need_same(folder: Path, run: Run) -> None:
    """Refuse to go on with what another run began."""
    begun, now = files.read_json(folder / RUN), asdict(run)
    for key, value in now.items():
        if begun.get(key) != value:
            what = "the solution has been decided anew since" if key == "made_by" else f"{begun.get(key)}, not {value}"
            raise UserError(f"--out {folder} was begun with {key}: {what}; go on as it was begun, or give a new folder")
