"""What stage `download` publishes: the whole of a sound zip of the right files, or nothing; also when killed."""

import os
import signal
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
import tiny
from full_disk import files_of_at_most
from kaggle_server import Fault, KaggleServer, make_zip
from small_competition import ARCHIVE, IMAGES, MEMBERS, PART, RAW, competition, left, raw, run

from steel import files
from steel.__main__ import main
from steel.competition import SLUG
from steel.kaggle import client, download


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KaggleServer]:
    with competition(monkeypatch, tmp_path) as found:
        yield found


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside.txt", "a/../../outside.txt", "..\\outside.txt", "C:x.txt"])
@pytest.mark.usefixtures("server")
def test_a_member_outside_the_folder(name: str, server: KaggleServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.archive = make_zip({**MEMBERS, name: b"evil"})
    expected = f"{SLUG}.zip: member {name!r} leads out of the folder or is a link; allowed: files below it"
    assert tiny.fault(capsys, "download", "x.yaml") == expected
    assert left() == ["download.part"]
    assert not RAW.exists() and not list(Path().rglob("outside*"))


def test_a_link_in_the_zip(server: KaggleServer, capsys: pytest.CaptureFixture[str]) -> None:
    data = BytesIO(ARCHIVE)
    with zipfile.ZipFile(data, "a") as archive:
        link = zipfile.ZipInfo("train_images/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    server.archive = data.getvalue()
    assert "member 'train_images/link' leads out of the folder or is a link" in tiny.fault(capsys, "download", "x.yaml")
    assert not RAW.exists()


@pytest.mark.parametrize("harm", ["one bit", "cut off", "no zip"])
def test_a_damaged_zip(harm: str, server: KaggleServer, capsys: pytest.CaptureFixture[str]) -> None:
    at = ARCHIVE.index(IMAGES["train_images/1.jpg"]) + 5_000
    server.archive = {
        "one bit": ARCHIVE[:at] + bytes([ARCHIVE[at] ^ 1]) + ARCHIVE[at + 1 :],
        "cut off": ARCHIVE[:-30],
        "no zip": b"<html>" * 1000,
    }[harm]
    message = tiny.fault(capsys, "download", "x.yaml")
    assert message.startswith("data/x/download.part/files.zip: damaged (")
    assert message.endswith("); it was deleted: start it again")
    assert left() == ["download.part"] and not (PART / "files.zip").exists() and not RAW.exists()
    server.archive = ARCHIVE
    run()
    assert raw() == MEMBERS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images/9.jpg": b"x"}, "4 files in train_images: expected 3"),
        ({"test_images/1.jpg": None}, "1 files in test_images: expected 2"),
        ({"test_images/0.jpg": None, "test_images/1.jpg": None}, "0 files in test_images: expected 2"),
        ({"train.csv": None}, "there is no train.csv in it: expected train.csv, sample_submission.csv, train_images, "),
    ],
)
def test_other_files_than_the_competitions(
    change: dict[str, bytes | None], message: str, server: KaggleServer, capsys: pytest.CaptureFixture[str]
) -> None:
    members = {**MEMBERS, **change}
    server.archive = make_zip({name: data for name, data in members.items() if data is not None})
    assert tiny.fault(capsys, "download", "x.yaml").startswith(f"{SLUG}.zip: {message}")
    assert not RAW.exists()


def test_a_full_disk_while_unpacking(
    server: KaggleServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    extract = zipfile.ZipFile.extract

    def limited(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: str) -> str:
        with files_of_at_most(4_000):
            return extract(archive, member, folder)

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extract", limited)
        assert tiny.fault(capsys, "download", "x.yaml").startswith("File too large")
    assert left() == ["download.part"] and not RAW.exists()
    run()
    assert raw() == MEMBERS
    assert server.ranges == ["bytes=0-"]


def nth_call(n: int, function: Callable[..., object]) -> Callable[..., object]:
    """A function that kills the process when called for the n-th time."""
    calls = iter(range(1, n))

    def deadly(*args: object, **options: object) -> object:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **options)

    return deadly


KILLS: dict[str, tuple[object, str, int]] = {
    "login": (client, "open_api", 1),
    "first bytes": (download, "_write", 1),
    "some bytes": (download, "say", 1),  # that the connection broke
    "first file": (zipfile.ZipFile, "extract", 1),
    "fourth file": (zipfile.ZipFile, "extract", 4),
    "counting": (download, "_check_counts", 1),
    "publishing": (files, "publish", 3),  # the first is of the note on the zip, the second of the mark
    "published": (download, "_digests", 1),
    "recording": (files, "publish", 4),
}


AGAIN = ("first bytes", "some bytes", "fourth file", "published")


@pytest.mark.parametrize(
    ("moment", "force"), [*((moment, False) for moment in KILLS), *((moment, True) for moment in AGAIN)]
)
def test_killed_at_any_moment(moment: str, force: bool, server: KaggleServer) -> None:
    """Nothing half is published, what stood stands, and the next run completes it."""
    where, name, n = KILLS[moment]
    if force:
        run()
        server.archive = make_zip({**MEMBERS, "test_images/0.jpg": b"new"})
    stood = raw()
    server.faults["storage"] = [Fault(cut_after=20_500)] if moment == "some bytes" else []
    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(where, name, nth_call(n, getattr(where, name)))
            try:
                run(force)
            finally:
                os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    whole = {**MEMBERS, "test_images/0.jpg": b"new"} if force else MEMBERS
    published = moment in ("published", "recording")
    assert raw() == (whole if published else stood)
    n_before = len(server.ranges)
    run()
    assert raw() == whole
    assert left() == ["stage.json"]
    fetched = moment not in ("login", "first bytes", "some bytes")
    assert len(server.ranges) == n_before + (not fetched)


def test_files_put_there_by_hand(server: KaggleServer, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_raw(RAW)
    before = tiny.contents(RAW)
    message = tiny.fault(capsys, "download", "x.yaml", "--force")
    assert message.startswith("data/x/raw holds files that download did not put there; `steel prepare CONFIG` reads")
    assert tiny.contents(RAW) == before and server.seen == []
    main(["status", "x.yaml"])
    assert "download" not in capsys.readouterr().out
