"""An archive of strips: a folder of this machine, of a shared file system, or any address of fsspec."""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from steel.data.images import SUFFIXES, decode_strip
from steel.errors import UserError, in_a_line

READS = 16  # at once: an object store answers each after some hundredths of a second
TRIES, WAIT_S = 3, 1.0
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError)  # what another try will not mend


@dataclass(frozen=True)
class Archive:
    """Where strips lie.

    Attributes:
        address: such as s3://bucket/prefix; of a folder its absolute path.
    """

    address: str

    @classmethod
    def at(cls, text: str) -> "Archive":
        """A folder, by its path, or an address."""
        return cls(text.rstrip("/") if "://" in text else str(Path(text).absolute()))

    def list_strips(self) -> list[str]:
        """Sorted names of all .jpg, .jpeg and .png files below it, as paths that begin there: `2024/05/coil7/a.jpg`.

        Raises UserError if there is none, or it cannot be reached.
        """
        fs, root = self._open()
        try:
            found = _find(fs, root) if fs.isdir(root) else None
        except Exception as error:  # each of fsspec's systems has errors of its own
            raise UserError(f"{self.address}: cannot be listed ({in_a_line(error)})") from None
        if found is None:
            raise UserError(f"{self.address}: no such folder: expected a folder of images, or an address of fsspec")
        begin = len(root.rstrip("/")) + 1
        names = sorted(path[begin:] for path in found if PurePosixPath(path).suffix.lower() in SUFFIXES)
        if not names:
            raise UserError(f"{self.address}: no images at any depth: expected files that end in {', '.join(SUFFIXES)}")
        return names

    def read(self, names: Sequence[str]) -> Iterator[NDArray[np.uint8] | str]:
        """Each strip (256, 1600), or in one line why it cannot be had; some files are fetched at once.

        Raises UserError if the archive itself cannot be reached any more: then nothing is wrong with the strips.
        """
        fs, root = self._open()  # here: each thread would open one of its own
        with ThreadPoolExecutor(READS) as pool:
            for data in pool.map(partial(self._fetch, fs, root), names):
                yield data if isinstance(data, str) else _decoded(data)

    def _fetch(self, fs: fsspec.AbstractFileSystem, root: str, name: str) -> bytes | str:
        """The bytes of a file, or why they cannot be read."""
        for i in range(TRIES):
            time.sleep(WAIT_S * i)
            try:
                return fs.cat_file(f"{root}/{name}")
            except Exception as error:  # see above
                fault = error
            if isinstance(fault, FINAL):
                break
        self._need(fs, root)
        return f"cannot be read ({in_a_line(fault)})"

    def _need(self, fs: fsspec.AbstractFileSystem, root: str) -> None:
        """Refuse to go on if the archive itself is gone, or not to be seen from this node."""
        fs.invalidate_cache()  # else the listing answers
        try:
            is_there, why = fs.isdir(root), "no such folder here"
        except Exception as error:  # see above
            is_there, why = False, in_a_line(error)
        if not is_there:
            raise UserError(f"{self.address} cannot be reached ({why}): every node must see it")

    def _open(self) -> tuple[fsspec.AbstractFileSystem, str]:
        """The file system, which fsspec keeps, and the path there."""
        if "://" not in self.address:
            return fsspec.filesystem("file"), self.address
        try:
            return fsspec.core.url_to_fs(self.address)
        except Exception as error:  # see above: a key that is wrong, a package that is missing
            raise UserError(f"{self.address}: {in_a_line(error)}") from None


def _find(fs: fsspec.AbstractFileSystem, root: str) -> list[str]:
    """Paths of all files below a folder; of a local one fsspec would ask for each file's size, which takes its time."""
    if not isinstance(fs, LocalFileSystem):
        return fs.find(root)
    folders = os.walk(root, onerror=_refuse)
    return [f"{folder}/{name}" for folder, _, names in folders for name in names]


def _refuse(error: OSError) -> None:
    raise error


def _decoded(data: bytes) -> NDArray[np.uint8] | str:
    try:
        return decode_strip(data)
    except UserError as fault:
        return str(fault)
