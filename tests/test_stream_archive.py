"""An archive of strips: what is listed, what is read, and what is said of the rest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import fsspec
import numpy as np
import pytest
import tiny

from steel.cluster import archive as room
from steel.cluster.archive import Archive
from steel.errors import UserError

JPEG = cv2.imencode(".jpg", np.full((256, 1600), 80, np.uint8))[1].tobytes()


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(JPEG)
    return folder


def test_strips_are_listed_at_any_depth(tmp_path: Path) -> None:
    fill(tmp_path, "b.jpg", "2024/05/a.JPEG", "2024/a[1].png", "2024/note.txt", "a b.jpg", "c.jpg.part")
    expected = ["2024/05/a.JPEG", "2024/a[1].png", "a b.jpg", "b.jpg"]
    assert Archive.at(str(tmp_path)).list_strips() == expected
    assert Archive.at(f"{tmp_path}/").list_strips() == expected
    assert Archive.at(f"file://{tmp_path}").list_strips() == expected  # by fsspec
    assert all(isinstance(strip, np.ndarray) for strip in Archive.at(str(tmp_path)).read(expected))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere", "no such folder"),
        ("file", "no such folder"),
        ("empty", "no images at any depth: expected files that end in .jpg, .jpeg, .png"),
        ("abc://x", "abc://x: ValueError: Protocol not known: abc"),
        ("memory://none", "no such folder"),
    ],
)
def test_an_archive_that_is_none(address: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=message):
        Archive.at(address).list_strips()


def test_strips_that_cannot_be_read_have_a_reason(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").write_bytes(JPEG[:1000])
    tiny.write_strip(tmp_path / "c.jpg", np.full((128, 800), 80, np.uint8))
    (tmp_path / "d.jpg").mkdir()
    good, cut_off, small, folder, gone = Archive.at(str(tmp_path)).read([f"{name}.jpg" for name in "abcde"])
    assert isinstance(good, np.ndarray) and good.shape == (256, 1600)
    assert cut_off == "JPEG cut off at 1000 bytes: expected an end-of-image marker"
    assert small == "128x800 px: expected 256x1600 (height x width)"
    assert str(folder).startswith("cannot be read (IsADirectoryError") and "FileNotFoundError" in str(gone)


def test_an_archive_that_goes_away_is_no_fault_of_its_strips(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone cannot be reached .* every node must see it"):
        list(Archive.at(str(tmp_path / "gone")).read(["a.jpg"]))


@pytest.fixture
def shaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """An object store with the strips a and b that fails twice for each file, and always for b; the calls."""
    memory, calls = fsspec.filesystem("memory"), []
    for name in "ab":
        memory.pipe_file(f"/shaky/{name}.jpg", JPEG)

    def fetch(path: str, **_: Any) -> bytes:
        calls.append(path)
        if calls.count(path) < 3 or path.endswith("b.jpg"):
            raise TimeoutError("slow down")
        return JPEG

    monkeypatch.setattr(memory, "cat_file", fetch)
    monkeypatch.setattr(room, "WAIT_S", 0.0)
    yield calls
    memory.rm("/shaky", recursive=True)


def test_an_object_store_is_asked_whether_it_is_there(shaky: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the listing that fsspec keeps of it."""
    memory, kept = fsspec.filesystem("memory"), [True]
    monkeypatch.setattr(memory, "isdir", lambda _: bool(kept))
    monkeypatch.setattr(memory, "invalidate_cache", kept.clear)
    with pytest.raises(UserError, match="memory://shaky cannot be reached"):
        list(Archive.at("memory://shaky").read(["b.jpg"]))
    assert len(shaky) == 3


def test_what_fails_for_a_moment_is_tried_again(shaky: list[str]) -> None:
    store = Archive.at("memory://shaky/")
    assert store.list_strips() == ["a.jpg", "b.jpg"]
    first, second = store.read(["a.jpg", "b.jpg"])
    assert isinstance(first, np.ndarray)
    assert second == "cannot be read (TimeoutError: slow down)"
    assert len(shaky) == 6
