"""Files that are either whole or absent: temporary name in the same folder, fsync, rename."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from steel.errors import UserError

BUILDING = "building-"  # begins the name of a folder that takes many steps to fill, and is not whole yet


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path to write a file or a folder at; it takes its name when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = path.with_name(f".{path.name}.tmp"), _aside(path)
    if old.exists() and not path.exists():  # killed between the two renames of `publish`
        old.rename(path)
    remove(temporary)
    try:
        yield temporary
        publish(temporary, path)
    finally:
        remove(temporary)


def check_writable(path: Path, option: str) -> None:
    """Refuse an option's file, or its folder, where nothing can be written, before work is done for it."""
    probe = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{option} {path}: cannot be written there (a file stands where a folder is wanted)") from None
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written there ({error.strerror or error})") from None


def publish(temporary: Path, path: Path) -> None:
    """Make a finished file or folder durable and give it its name, in place of what bore the name before."""
    for part in (temporary, *temporary.rglob("*")) if temporary.is_dir() else (temporary,):
        sync(part)
    old = _aside(path)
    if path.is_dir() and not temporary.is_dir():
        raise UserError(f"{path} is a folder; a file is to be written there")
    if path.is_dir():  # a folder cannot be replaced in one step: set the old one aside
        remove(old)
        path.rename(old)
    temporary.replace(path)
    sync(path.parent)
    remove(old)


def _aside(path: Path) -> Path:
    """Where a folder waits while its successor takes its name."""
    return path.with_name(f".{path.name}.old")


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def keep_only(folder: Path, pattern: str, kept: Iterable[Path]) -> None:
    """Remove the files of a folder that match a pattern, but for some."""
    for path in set(folder.glob(pattern)) - set(kept):
        path.unlink()


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a file that is not JSON is a UserError."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); delete it to have it made anew") from None


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def create_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike = "uint8") -> np.memmap:
    """A writable memory-mapped .npy, its space claimed at once: a full disk is an error here, not a crash later."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
