"""What each output was made from: skip it when nothing changed, say what changed, let one process at a time make it."""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

from steel import files
from steel.config import digest
from steel.errors import UserError, shorten
from steel.progress import say

RECORD, LOCK, BEGUN = "stage.json", ".lock", ".begun"
THEN = ", then "  # between the codes, devices or versions by which an output was made in several goes
SMALL_BYTES, SHA256_LENGTH = 4 << 20, 64
PATIENCE_S, LOCK_WAIT_S = 0.4, 0.02  # longer than a `look` of another process holds the lock
SOURCES = (".py", ".html", ".css", ".js")  # that a stage's output depends on: pages have templates
Leaf = tuple[str, Any, Any]  # where a value lies, as in ``models.unet.ema``, and what it was and is; None: absent
Kind = Literal["done", "kept", "stale", "interrupted", "running", "missing"]


@dataclass(frozen=True)
class Spec:
    """An output and all it depends on.

    Attributes:
        name: how messages call it; the first word is the stage, as in ``train unet fold 0``.
        folder: holds the record ``stage.json``, the lock and usually the outputs.
        config: its part of the configuration, as JSON can say it.
        inputs: digest of each upstream output (of its content, so that an upstream redone alike changes nothing).
        code: rooms or modules of the package that it runs, such as ``data`` or ``rle``.
        env: versions, device, threads.
        keep: dear to make: a change of code or environment alone is told but does not redo it.
        keep_env: the same for a change of environment alone; one of code redoes it.
        partial: a file that an interrupted run leaves and the next one continues from.
        made_by: a file in which `make` says on what code and environment it ran from the first go on; None: on these.
    """

    name: str
    folder: Path
    config: Any
    inputs: dict[str, str]
    code: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    keep: bool = False
    keep_env: bool = False
    partial: Path | None = None
    made_by: Path | None = None

    @property
    def key(self) -> str:
        """Digest of config and inputs: progress of an interrupted run counts only under the same key."""
        return digest([self.config, self.inputs])

    def parts(self) -> dict[str, Any]:
        """What the record keeps of it."""
        return {"config": self.config, "inputs": self.inputs, "code": source_digest(self.code), "env": self.env}


@dataclass(frozen=True)
class State:
    """How an output stands, and why; what was never made is missing."""

    kind: Kind
    why: str = ""

    @property
    def usable(self) -> bool:
        """Whether later stages may read it."""
        return self.kind in ("done", "kept")

    def __str__(self) -> str:
        return f"{self.kind} ({self.why})" if self.why else self.kind


def look(spec: Spec) -> State:
    """How the output stands, without touching it."""
    holder = _holder(spec.folder)
    if not holder:
        return _look_unlocked(spec)
    begun_s = (spec.folder / LOCK).stat().st_mtime  # its holder has written its number there
    return State("running", f"process {holder}, since {time.strftime('%Y-%m-%d %H:%M', time.localtime(begun_s))}")


def ensure(
    spec: Spec, make: Callable[[], dict[Path, str]], force: bool = False, patience_s: float = PATIENCE_S
) -> None:
    """Make the output unless it stands as specified; who holds its lock is waited for, s.

    `make` writes every file whole or not at all (`files.atomic`) and returns the digest of each. What an earlier run
    made stays until it is replaced, so that a failure loses nothing.
    """
    with locked(spec, patience_s):
        state = _look_unlocked(spec)
        if state.usable and not force:
            warning = f"; kept, though {state.why} (--force redoes it)" if state.why else ""
            say(f"{spec.name}: up to date{warning}")
            return
        say(f"{spec.name}: {'forced' if force else 'new' if state.kind == 'missing' else state}")
        start = time.monotonic()
        begun = spec.folder / BEGUN
        record_path = spec.folder / RECORD
        if begun.exists() and record_path.exists() and begun.stat().st_mtime_ns <= record_path.stat().st_mtime_ns:
            begun.unlink()  # killed after its record was written: that run did finish
        if force and spec.partial is not None and not (begun.exists() and record_path.exists()):
            files.remove(spec.partial)  # from the start again; but a forced run that was interrupted continues
        _begin(begun, spec.key)
        outputs = make()
        sizes = {str(path): _size(path) for path in outputs}
        record = {"stage": spec.name, **spec.parts(), "sizes": sizes}
        if spec.made_by is not None and spec.made_by.exists():
            env = files.read_json(spec.made_by)
            record |= {"code": env.pop("code"), "env": env}
        record["outputs"] = {str(path): value for path, value in outputs.items()}
        files.write_json(spec.folder / RECORD, record)
        begun.unlink()
        if spec.partial is not None:
            files.remove(spec.partial)
        say(f"{spec.name}: done in {time.monotonic() - start:.1f} s")


def need(spec: Spec, reader: str) -> None:
    """Refuse to go on unless an upstream output stands; the error says which stage to run first, or to wait for."""
    state = look(spec)
    if not state.usable:
        remedy = "wait for it" if state.kind == "running" else f"run `steel {spec.name.split()[0]} CONFIG` first"
        raise UserError(f"{reader} needs '{spec.name}', which is {state}: {remedy}")


def recorded(folder: Path, *names: str) -> str:
    """Digest of the outputs recorded in a folder, or of those of the given file names; ``missing`` without a record."""
    path = folder / RECORD
    if not path.exists():
        return "missing"
    outputs = files.read_json(path)["outputs"]
    return digest(sorted(value for output, value in outputs.items() if not names or Path(output).name in names))


def changes(old: Any, new: Any, where: str = "") -> list[Leaf]:
    """The leaves in which two JSON values differ; of lists of objects equally long, those of each object."""
    if _are_objects(old) and _are_objects(new) and len(old) == len(new):
        old, new = dict(enumerate(old)), dict(enumerate(new))
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*new, *(key for key in old if key not in new)]
        return [leaf for key in keys for leaf in changes(old.get(key), new.get(key), f"{where}.{key}")]
    return [] if old == new else [(where[1:], old, new)]


@cache
def source_digest(rooms: tuple[str, ...]) -> str:
    """Digest of the source of some rooms or modules of this package."""
    root = Path(__file__).parent
    hasher = hashlib.sha256()
    for room in sorted(rooms):
        path = root / room
        found = [source for source in path.rglob("*") if source.suffix in SOURCES]
        for source in sorted(found) if path.is_dir() else [root / f"{room}.py"]:
            hasher.update(f"{source.relative_to(root)}\n".encode() + source.read_bytes())
    return hasher.hexdigest()[:16]


def _look_unlocked(spec: Spec) -> State:
    path = spec.folder / RECORD
    if not path.exists():
        interrupted = spec.partial is not None and spec.partial.exists()
        return State("interrupted", "continues where it stopped") if interrupted else State("missing")
    record = files.read_json(path)
    begun = spec.folder / BEGUN
    unfinished = begun.exists() and begun.stat().st_mtime_ns > path.stat().st_mtime_ns
    if unfinished and spec.partial is not None and spec.partial.exists() and begun.read_text() == spec.key:
        return State("interrupted", "continues where it stopped")  # it was forced
    for output, size in record["sizes"].items():
        if _changed(Path(output), size, record["outputs"][output]):
            return State("stale", f"{output} is gone or was changed")
        if unfinished and Path(output).stat().st_mtime_ns >= begun.stat().st_mtime_ns:
            return State("stale", f"{output} was replaced by a run that did not finish")
    now = json.loads(json.dumps(spec.parts()))  # as the record has it: lists for tuples
    if found := changes(record["config"], now["config"]):  # a key that came since and is null changes nothing
        return State("stale", f"config changed: {_told(found)}")
    if record["inputs"] != now["inputs"]:
        names = [name for name, _, _ in changes(record["inputs"], now["inputs"])]
        return State("stale", f"input changed: {shorten(names)}")
    why = []
    if record["code"] != now["code"]:
        why.append("made by several versions of the code" if THEN in record["code"] else "the code changed")
    if record["env"] != now["env"]:
        why.append(f"the environment changed: {_told(changes(record['env'], now['env']))}")
    if not why:
        return State("done")
    kept = spec.keep or (spec.keep_env and record["code"] == now["code"])
    return State("kept" if kept else "stale", " and ".join(why))


def _begin(begun: Path, key: str) -> None:
    """Mark that a run under `key` has begun; of several failed ones the first moment counts, and the last key.

    What is older than the mark stands untouched.
    """
    times = (begun.stat().st_atime_ns, begun.stat().st_mtime_ns) if begun.exists() else None
    begun.write_text(key)
    if times:
        os.utime(begun, ns=times)


def _changed(path: Path, size: int | None, recorded_digest: str) -> bool:
    """Whether an output is gone or other than recorded: by its size, and if it is a small file by its bytes.

    So an edited split or rule is noticed, and a lost or cut file in a folder. Large files and folders are not read
    again; digests of other length are not of bytes. Records of before had no sizes of folders.
    """
    if not path.exists() or (size is not None and _size(path) != size):
        return True
    known = path.is_file() and size is not None and size <= SMALL_BYTES and len(recorded_digest) == SHA256_LENGTH
    return known and files.sha256(path) != recorded_digest


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder, which are looked at and not read."""
    if not path.is_dir():
        return path.stat().st_size
    with os.scandir(path) as entries:
        return sum(_size(Path(entry)) if entry.is_dir() else entry.stat().st_size for entry in entries)


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _told(found: list[Leaf]) -> str:
    return shorten([f"{name}: {old} -> {new}" for name, old, new in found])


@contextmanager
def locked(spec: Spec, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold the lock of a folder; the system drops it when the process ends, however it ends."""
    spec.folder.mkdir(parents=True, exist_ok=True)
    with (spec.folder / LOCK).open("a+") as lock:
        os.register_at_fork(after_in_child=lock.close)  # a worker that outlives a killed parent must not hold the lock
        end = time.monotonic() + patience_s
        while not _taken(lock):
            if time.monotonic() > end:
                raise UserError(f"{spec.name}: process {_holder(spec.folder)} is at work on {spec.folder}; wait for it")
            time.sleep(LOCK_WAIT_S)
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(folder: Path) -> str:
    """Process id that holds the lock of a folder; empty when it is free."""
    path = folder / LOCK
    if not path.exists():
        return ""
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return lock.read() or "unknown"
    return ""
