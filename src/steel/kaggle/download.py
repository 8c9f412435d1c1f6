"""Stage `download`: the competition's files, fetched from Kaggle, continued after a break, unpacked and counted.

The official client gives the signed link; the bytes are fetched here. Its own download also continues after a break,
but takes the body of an error (such as that of an expired link) for the file, and cannot be told how to wait.
"""

import math
import shutil
import stat
import zipfile
import zlib
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import requests

from steel import files, stage
from steel.competition import N_TEST, N_TRAIN, SLUG
from steel.config import digest
from steel.errors import UserError
from steel.kaggle import client
from steel.paths import Paths
from steel.progress import say, track
from steel.stage import Spec

MARK = "download.json"  # says that the folder beside it may be written anew
ARCHIVE, NOTE = "files.zip", "zip.json"  # of an unfinished download: its bytes, and which zip they are of
CSV_FILES = ("train.csv", "sample_submission.csv")
COUNTS = {"train_images": N_TRAIN, "test_images": N_TEST}
CHUNK = 1 << 20  # bytes written at a time
SPARE_BYTES = 256 << 20  # each file takes whole blocks of the disk, and others write there too
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError)


def spec(paths: Paths) -> Spec:
    """What the files are: those of the competition. No code is among it, since none changes their bytes."""
    return Spec("download", paths.data, {"competition": SLUG}, {}, (), partial=paths.data / "download.part")


def concerns(paths: Paths) -> bool:
    """Whether the solution reads what `download` writes, and nobody else has put files there."""
    data = paths.solution.data
    return data.synth is None and data.raw is None and (not paths.raw.exists() or (paths.raw / MARK).exists())


def check(paths: Paths) -> None:
    """Refuse a solution that reads other files than those which `download` writes."""
    data = paths.solution.data
    if data.synth is not None:
        raise UserError(f"data.synth: {paths.solution.name} makes its own strips with `steel synth`; allowed: null")
    if data.raw is not None:
        raise UserError(f"data.raw: the solution reads {paths.raw}; leave it out to download into {paths.data / 'raw'}")
    if not concerns(paths):
        raise UserError(
            f"{paths.raw} holds files that download did not put there; `steel prepare CONFIG` reads them as they are; "
            "to download, move the folder away"
        )


def run(paths: Paths, force: bool) -> None:
    """Download, unless the files stand. The login comes first: without a token nothing is left on the disk."""
    check(paths)
    wanted = spec(paths)
    api = client.open_api() if force or not stage.look(wanted).usable else None
    stage.ensure(wanted, lambda: make(paths, api or client.open_api()), force)


def make(paths: Paths, api: Any) -> dict[Path, str]:
    """Fetch, unpack, count and publish; give the digests of what was published."""
    part = spec(paths).partial
    assert part is not None
    archive = part / ARCHIVE
    _fetch(archive, api)
    with files.atomic(paths.raw) as temporary:
        _unzip(archive, temporary)
        _check_counts(temporary)
        files.write_json(temporary / MARK, {"competition": SLUG})
    say(f"download: {', '.join(f'{n} files in {name}' for name, n in COUNTS.items())} of {paths.raw}")
    return _digests(paths.raw)


def _fetch(archive: Path, api: Any) -> None:
    """Bring the zip to its full size, from where an earlier run stopped."""
    while not client.call(f"download of {SLUG}", partial(_continue, api, archive)):
        say(f"download: the connection broke after {_size(archive) / 1e6:.0f} MB; it goes on from there")


def _continue(api: Any, archive: Path) -> bool:
    """Fetch on until the end, or until the connection breaks; whether it was the end."""
    link = client.archive_link(api)
    done = _fetched(archive, link)
    _check_space(archive.parent, 2 * link.size - done)  # the files are about as large as the zip
    if done < link.size:
        _append(archive, link, done)
    return _size(archive) == link.size


def _fetched(archive: Path, link: client.Link) -> int:
    """Bytes that an earlier try left of the very same zip; what it left of another one is removed."""
    note, known = archive.with_name(NOTE), {"size": link.size, "version": link.version}
    done = _size(archive)
    if done and (not link.version or not note.exists() or files.read_json(note) != known or done > link.size):
        say("download: the files on Kaggle are not those that it began with; from the start")
        files.remove(archive)
        done = 0
    files.write_json(note, known)
    return done


def _append(archive: Path, link: client.Link, done: int) -> None:
    """Fetch from byte `done` on. A break is a fault only where nothing was gained: else one may simply go on."""
    broken: Exception = requests.ConnectionError("the answer was shorter than announced")
    headers = {"Range": f"bytes={done}-", "Accept-Encoding": "identity"}
    try:
        with requests.get(link.url, headers=headers, stream=True, timeout=client.TIMEOUT_S) as response:
            response.raise_for_status()
            _write(response, archive, link.size, done)
    except client.BROKEN as error:
        broken = error
    if _size(archive) < min(done + CHUNK, link.size):
        raise broken


def _write(response: requests.Response, archive: Path, size: int, done: int) -> None:
    """Write the body of an answer, from byte `done` on if the server heeds the range, else from the start."""
    start = done if response.headers.get("Content-Range") == f"bytes {done}-{size - 1}/{size}" else 0
    with archive.open("ab") as file:
        file.truncate(start)
        chunks = response.iter_content(CHUNK)
        for data in track(chunks, "download", "MiB", math.ceil(size / CHUNK), start // CHUNK):
            file.write(data)


def _size(archive: Path) -> int:
    """Bytes that are there."""
    return archive.stat().st_size if archive.exists() else 0


def _unzip(archive: Path, folder: Path) -> None:
    """Unpack into a new folder; each file's CRC-32 is verified as it is read."""
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as found:
            members = found.infolist()
            for member in members:
                _check_member(member)
            _check_space(folder, sum(member.file_size for member in members))
            for member in track(members, "unzip", "files"):
                found.extract(member, folder)
    except DAMAGED as fault:
        files.remove(archive)
        raise UserError(f"{archive}: damaged ({fault}); it was deleted: start it again") from None


def _check_member(member: zipfile.ZipInfo) -> None:
    """Refuse a member that would be written outside the folder, or is a link."""
    name = member.filename
    path = PurePosixPath(name)
    outside = path.is_absolute() or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive
    if outside or stat.S_ISLNK(member.external_attr >> 16):
        raise UserError(f"{SLUG}.zip: member {name!r} leads out of the folder or is a link; allowed: files below it")


def _check_counts(folder: Path) -> None:
    """Refuse files that are not the competition's: missing ones, or another number of images."""
    for name in CSV_FILES:
        if not (folder / name).is_file():
            raise UserError(f"{SLUG}.zip: there is no {name} in it: expected {', '.join((*CSV_FILES, *COUNTS))}")
    for name, expected in COUNTS.items():
        n = len(list((folder / name).glob("*")))
        if n != expected:
            raise UserError(f"{SLUG}.zip: {n} files in {name}: expected {expected}")


def _check_space(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < n_bytes + SPARE_BYTES:
        wanted = f"{(n_bytes + SPARE_BYTES) / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
        raise UserError(f"{folder}: {wanted}: free some space and start it again, it continues")


def _digests(raw: Path) -> dict[Path, str]:
    """Digest of each csv, and of each folder of images: of the names and digests of its files."""
    found = {raw / name: files.sha256(raw / name) for name in CSV_FILES}
    for name in COUNTS:
        found[raw / name] = digest([[path.name, files.sha256(path)] for path in sorted((raw / name).iterdir())])
    return found
