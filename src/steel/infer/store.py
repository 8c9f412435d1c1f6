"""Probabilities on disk: maps as a chunked uint8 array, sums and classifier outputs beside them, resumable by batch.

A store under construction lies in a folder named after the key of what it is made from. Each batch of maps is written
and synced before its records are appended to the done-index, so that the index never claims what is not there:
coverage is read from it, since an array's missing chunks read as zeros.
"""

import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
import zarr
from numcodecs import blosc
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.array_spec import ArrayConfigLike

from steel import files
from steel.competition import HEIGHT, N_CLASSES, N_PIXELS, WIDTH
from steel.errors import UserError, shorten
from steel.metrics import sum_levels
from steel.workers import cores

# One record per image: the sum over its pixels of the probability (segmenter; nan from a classifier), and the
# probability that a class is there (nan from a net that gives maps only).
RECORD = np.dtype([("row", "<i8"), *((name, "<f8", N_CLASSES) for name in ("sums", "gate"))])
SHAPE = (N_CLASSES, HEIGHT, WIDTH)
CRC_BYTES = 4  # of the checksum at a chunk's end
LEVEL = 1  # of zstd
BLOCK_BYTES = 1 << 18  # read in two thirds of the time that blosc's own choice takes, and no larger
COMPLETE: ArrayConfigLike = {"write_empty_chunks": True}  # of zarr: a chunk that is not there is one that was lost
MAPS, VALUES, DONE = "maps.zarr", "values.npz", f"done-{RECORD.itemsize}.bin"

# How far the sum of a class's probabilities may lie from that of its map: half a level, 1/510, in every pixel, 803 px;
# and one more for the last bits of both.
MOST_LOST_PX = N_PIXELS / 510 + 1


blosc.use_threads = False  # strips are read by as many processes as there are cores


class Builder:
    """A store being written: open it under a key, write what is not done, finish."""

    def __init__(self, folder: Path, key: str, image_ids: list[str], maps: bool) -> None:
        self.folder, self.image_ids = folder, image_ids
        self.work = folder / f"{files.BUILDING}{key}"
        for other in folder.glob(f"{files.BUILDING}*"):
            if other != self.work:
                _discard(other)
        self.work.mkdir(parents=True, exist_ok=True)
        self.maps = self._prepare_maps() if maps else None
        self.records = _read_records(self.work / DONE)

    @property
    def done(self) -> set[int]:
        """Rows that are written."""
        return {int(row) for row in self.records["row"]}

    def write(
        self, rows: Sequence[int], maps: NDArray[np.uint8] | None, sums: NDArray | None, gate: NDArray | None
    ) -> None:
        """Write some images: maps (b, 4, 256, 1600) uint8 and sums (b, 4) of a segmenter; gate (b, 4) float."""
        if self.maps is not None:
            assert maps is not None
            paths = [self.maps / chunk_name(row) for row in rows]
            with ThreadPoolExecutor(min(cores(), len(rows))) as threads:  # which neither codec nor disk makes wait
                list(threads.map(_write_chunk, paths, maps))
        records = np.zeros(len(rows), RECORD)
        records["row"] = rows
        records["sums"] = np.nan if sums is None else sums
        records["gate"] = np.nan if gate is None else gate
        with (self.work / DONE).open("ab") as done:
            done.write(records.tobytes())
            done.flush()
            os.fsync(done.fileno())
        self.records = np.concatenate([self.records, records])

    def finish(self) -> dict[Path, str]:
        """Check that every image is there once, give the parts their names; their digests."""
        missing = sorted(set(range(len(self.image_ids))) - self.done)
        if missing:
            raise UserError(f"{self.folder}: no prediction of {shorten([self.image_ids[row] for row in missing])}")
        _, first = np.unique(self.records["row"], return_index=True)
        records = self.records[first]  # in row order
        with files.atomic(self.folder / VALUES) as temporary, temporary.open("wb") as file:
            ids = np.array(self.image_ids)
            np.savez(file, image_ids=ids, sums=records["sums"], gate=records["gate"])
        values = files.sha256(self.folder / VALUES)  # the sums tell maps apart as well as the maps' own bytes would
        outputs = {self.folder / VALUES: values}
        if self.maps is not None:
            files.publish(self.work / MAPS, self.folder / MAPS)
            outputs[self.folder / MAPS] = values
        _discard(self.work)
        return outputs

    def _prepare_maps(self) -> Path:
        path = self.work / MAPS
        if path.exists() and not (self.work / DONE).exists():
            files.remove(path)  # killed before its first batch: perhaps before its metadata was whole
        if not path.exists():
            files.remove(self.work / DONE)  # killed after its maps were published: the index speaks of those
            create_maps(path, len(self.image_ids))
        return path


def create_maps(path: Path, n: int) -> zarr.Array:
    """An empty array (n, 4, 256, 1600) uint8, a compressed chunk with a checksum per image: blosc's own knows none."""
    return zarr.create_array(
        str(path),
        shape=(n, *SHAPE),
        chunks=(1, *SHAPE),
        chunk_key_encoding={"name": "default", "separator": "."},  # a file per image, no folders
        dtype="uint8",
        config=COMPLETE,
        compressors=[
            BloscCodec(cname="zstd", clevel=LEVEL, shuffle="bitshuffle", typesize=1, blocksize=BLOCK_BYTES),
            Crc32cCodec(),
        ],
        fill_value=0,
    )


def chunk_name(row: int) -> str:
    """File of one image's maps."""
    return f"c.{row}.0.0.0"


@dataclass(frozen=True)
class Store:
    """A finished store.

    Attributes:
        folder: where it lies.
        image_ids: (n,) names in row order.
        sums: (n, 4) float64: sum over the pixels of the probability, before it became uint8; None of a classifier.
        gate: (n, 4) float64: the probability that a class is there; None from a net that gives maps only.
        maps: (n, 4, 256, 1600) uint8, 255 = 1.0, to be read by `map`; None for a classifier.
    """

    folder: Path
    image_ids: list[str]
    sums: NDArray[np.float64] | None
    gate: NDArray[np.float64] | None
    maps: zarr.Array | None

    def map(self, row: int) -> NDArray[np.uint8]:
        """The maps of one image, (4, 256, 1600) uint8, read-only; a UserError if they are not what was written."""
        return self.read(row)[0]

    def read(self, row: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The maps of one image as `map` gives them, and their sums over the pixels, (4,).

        A damaged chunk fails its checksum, one that is lost would read as zeros, and one of another strip is whole. So
        what is read must have the sums that were kept, too. These are of the probabilities, not of their uint8, and
        cannot tell what changes each class by less than `MOST_LOST_PX`, 804 px.
        """
        assert self.maps is not None and self.sums is not None
        try:
            maps = _decoded((self.folder / MAPS / chunk_name(row)).read_bytes())
        except FileNotFoundError:
            raise _damaged(self.folder, f"the maps of {self.image_ids[row]} are gone") from None
        except (RuntimeError, ValueError, OSError) as error:  # of the codec, of the checks, of the disk
            raise _damaged(self.folder, f"the maps of {self.image_ids[row]} cannot be read ({error})") from None
        levels = sum_levels(maps)
        found_px = levels / 255
        apart_px = np.abs(self.sums[row] - found_px)
        if not (apart_px <= MOST_LOST_PX).all():
            k = int(apart_px.argmax())
            raise _damaged(
                self.folder,
                f"the maps of {self.image_ids[row]} are not those that were written (class {k + 1} sums up to "
                f"{found_px[k]:.0f} px, not {self.sums[row, k]:.0f})",
            )
        return maps, levels


def open_store(folder: Path) -> Store:
    """Open a finished store."""
    try:
        with (folder / VALUES).open("rb") as file, np.load(file) as values:
            image_ids, sums, gate = [str(i) for i in values["image_ids"]], values["sums"], values["gate"]
        maps = None if np.isnan(sums).all() else zarr.open_array(str(folder / MAPS), mode="r")
        if maps is not None and maps.shape != (shape := (len(image_ids), *SHAPE)):
            raise ValueError(f"maps {maps.shape}, allowed: {shape}")
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(folder, f"{VALUES} or {MAPS} cannot be read ({error})") from None
    return Store(folder, image_ids, None if maps is None else sums, None if np.isnan(gate).all() else gate, maps)


def _write_chunk(path: Path, maps: NDArray[np.uint8]) -> None:
    """Write and sync the chunk of one image: the bytes that zarr would give it, without its threads and copies."""
    body = blosc.compress(np.ascontiguousarray(maps), b"zstd", LEVEL, blosc.BITSHUFFLE, BLOCK_BYTES, 1)
    with path.open("wb") as file:
        file.write(body)
        file.write(google_crc32c.value(body).to_bytes(CRC_BYTES, "little"))
        file.flush()
        os.fsync(file.fileno())


def _decoded(chunk: bytes) -> NDArray[np.uint8]:
    """The maps in a chunk of `create_maps`. As zarr reads it, in a third of the time: no threads, no copies."""
    body = chunk[:-CRC_BYTES]
    if google_crc32c.value(body) != int.from_bytes(chunk[-CRC_BYTES:], "little"):
        raise ValueError("its checksum is another")
    return np.frombuffer(blosc.decompress(body), np.uint8).reshape(SHAPE)


def _damaged(folder: Path, what: str) -> UserError:
    """The error of a store that has suffered, and the command that makes it anew and nothing else.

    Its folder says what it holds: MODEL/test, MODEL/foldK/oof, or MODEL/foldK/oof-viewsN, see `Paths`.
    """
    fold, model = folder.parent.name.removeprefix("fold"), folder.parent.parent.name
    remedies = {
        "oof": f"run `steel oof CONFIG --model {model} --folds {fold} --force`",
        "test": f"run `steel predict CONFIG --model {folder.parent.name} --force`",
    }
    remedy = remedies.get(folder.name, "delete this folder and run `steel kernel bundle CONFIG`")
    return UserError(f"{folder}: {' '.join(what.split())}: {remedy}")


def _discard(work: Path) -> None:
    """Remove an unfinished store, its index first: an index without its maps must never be met, even after a kill."""
    files.remove(work / DONE)
    files.remove(work)


def _read_records(path: Path) -> NDArray:
    """Records of a done-index; one torn by a kill is dropped."""
    if not path.exists():
        return np.zeros(0, RECORD)
    data = path.read_bytes()
    whole = len(data) // RECORD.itemsize * RECORD.itemsize
    if whole < len(data):
        os.truncate(path, whole)
    return np.frombuffer(data[:whole], RECORD)
