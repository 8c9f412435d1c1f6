"""A working directory that travels: files at an address of fsspec such as s3://bucket/path, each whole or absent."""

import fcntl
import getpass
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from steel import files
from steel.config import digest
from steel.errors import UserError, in_a_line
from steel.progress import say
from steel.stage import RECORD

NESTED = "oof"  # begins the names of folders of other outputs inside that of a training
AT_ONCE = 8  # files on their way
MIRROR_S = 1.0  # a look at what has changed, which asks nobody else


class Storage:
    """Files of the working directory at an address. The record of a folder comes last, so that what it names is there.

    A file is sent under another name and moved; where there is no renaming (S3), that is a copy which shows when whole.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        try:
            self.fs, self.root = fsspec.url_to_fs(address)
        except Exception as error:  # each of fsspec's systems has errors of its own
            reason = in_a_line(error)
            raise UserError(
                f"ray.storage: {address!r} cannot be opened ({reason}); allowed: an address of fsspec, null"
            ) from None
        self.address = address
        self.sent: dict[Path, tuple[int, int]] = {}

    @property
    def folder(self) -> Path:
        """A machine's own working directory for what lies at the address; TMPDIR says where such folders are."""
        return Path(tempfile.gettempdir()) / f"steel-{getpass.getuser()}-{digest(self.address)}"

    def offer(self, path: Path) -> None:
        """Send a file or a folder, unless there is one with this record already."""
        record = path / RECORD
        with self._reached():
            same = record.is_file() and self._same(record)
        if not same:
            self.push(path)

    def push(self, path: Path) -> None:
        """Send a file, or what lies in a folder, as far as it has changed since this object last sent it."""
        with self._reached():
            self._push(path)

    def drop(self, path: Path) -> None:
        """Delete a file there, if it is there."""
        with self._reached(), suppress(FileNotFoundError):
            self.fs.rm(self._name(path))

    def pull(self, path: Path) -> None:
        """Fetch a file or a folder, unless it is here with the same record; nothing if it is not there."""
        with self._reached():
            self._pull(path)

    def text(self, path: Path) -> str | None:
        """What a file there says; None if it is not there."""
        self.fs.invalidate_cache()  # others write there
        with self._reached():
            return self.fs.cat_file(self._name(path)).decode() if self.fs.exists(self._name(path)) else None

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """A UserError for whatever goes wrong there."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # each of fsspec's systems has errors of its own
            raise UserError(f"ray.storage: {self.address}: {in_a_line(error)}") from error

    def _push(self, path: Path) -> None:
        marks = {file: (file.stat().st_size, file.stat().st_mtime_ns) for file in _files_in(path)}
        self._each(self._put, [file for file, mark in marks.items() if self.sent.get(file) != mark])
        for file in [file for file in self.sent if file.is_relative_to(path) and file not in marks]:
            self.drop(file)  # such as a checkpoint that the weights have replaced
            del self.sent[file]
        self.sent |= marks

    def _pull(self, path: Path) -> None:
        self.fs.invalidate_cache()  # others write there
        found = self.fs.find(self._name(path), detail=True) if self.fs.exists(self._name(path)) else {}
        there = {path / Path(name).relative_to(self._name(path)): info["size"] for name, info in found.items()}
        there = {file: size for file, size in there.items() if _is_own(file.relative_to(path))}
        record = path / RECORD
        whole = all(file.is_file() and file.stat().st_size == size for file, size in there.items())
        if not (whole and record in there and self._same(record)):
            self._each(self._get, there)

    def _same(self, file: Path) -> bool:
        name = self._name(file)
        return file.is_file() and self.fs.exists(name) and self.fs.cat_file(name) == file.read_bytes()

    def _each(self, call: Callable[[Path], None], paths: Collection[Path]) -> None:
        """Call for files, several at once; for records when that is done."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(call, [path for path in paths if path.name != RECORD]))
        for path in paths:
            if path.name == RECORD:
                call(path)

    def _put(self, path: Path) -> None:
        part = self._name(path.with_name(f".{path.name}.part"))
        self.fs.makedirs(part.rpartition("/")[0], exist_ok=True)
        self.fs.put_file(str(path), part)
        self.fs.mv(part, self._name(path))

    def _get(self, path: Path) -> None:
        with files.atomic(path) as temporary:
            self.fs.get_file(self._name(path), str(temporary))

    def _name(self, path: Path) -> str:
        return f"{self.root.rstrip('/')}/{path.as_posix()}"


@contextmanager
def carried(storage: Storage, inputs: Collection[Path], outputs: Collection[Path]) -> Iterator[None]:
    """In a node's own folder: have what lies at the storage of the inputs; send outputs there as they change."""
    with Path(".fetching").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the jobs of a node share its folder
        for path in inputs:
            storage.pull(path)
    over = threading.Event()

    def mirror() -> None:
        while not over.wait(MIRROR_S):
            try:
                for path in outputs:
                    storage.push(path)
            except UserError as error:  # a file replaced meanwhile, or a network that is down
                say(f"{error}; tried again in {MIRROR_S:g} s")

    thread = threading.Thread(target=mirror, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for path in outputs:
            storage.push(path)


def _files_in(path: Path) -> list[Path]:
    """A file, or those in a folder that are its own, and no temporary ones."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if _is_own(file.relative_to(path)) and file.is_file())


def _is_own(path: Path) -> bool:
    """Whether a path below a folder is part of the folder's output.

    A store that is being built is not: its index could travel ahead of the maps that it claims.
    """
    in_the_making = any(part.startswith((".", files.BUILDING)) for part in path.parts)
    return not path.as_posix().startswith(NESTED) and not in_the_making
