"""Whether a node is fit for the work: what it must have and see, and what is said if it does not."""

import platform
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steel.cluster import footing as room
from steel.cluster.footing import Footing, sealed, versions
from steel.cluster.storage import Storage

RUN, RECORD = Path("runs/x"), Path("record.json")


class NoCredentials(Exception):
    """As those of an object store: no OSError."""


def out_of_reach(*_args: object) -> None:
    raise NoCredentials("Unable to locate\nthem")


@pytest.fixture
def footing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Footing]:
    monkeypatch.chdir(tmp_path)
    RECORD.write_text("made once")
    with sealed(RUN, [RECORD, Path("absent")]) as found:
        yield found


def test_a_node_that_shares_the_folder_is_fit(
    footing: Footing, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert footing.fault() == ""
    assert Path.cwd() == tmp_path
    assert footing.seals[str(RECORD)] == "made once"
    assert "absent" not in footing.seals


def test_a_node_with_a_folder_of_its_own_is_told(footing: Footing, tmp_path: Path) -> None:
    its = f"its folder {tmp_path} is not that of the program that asks"
    RECORD.write_text("made anew")
    assert footing.fault() == f"{its} ({RECORD} is another or missing)"
    footing.token.unlink()
    assert footing.fault() == f"{its} ({footing.token} is another or missing)"


def test_a_node_without_the_folder_is_told(footing: Footing, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert replace(footing, folder=gone).fault() == f"it cannot reach folder {gone} (No such file or directory)"


@pytest.mark.parametrize("what", ["Python", "torch", "timm", "steel"])
def test_another_version_is_told(footing: Footing, what: str) -> None:
    other = replace(footing, versions=footing.versions | {what: "0.1"})
    assert other.fault() == f"it has {what} {footing.versions[what]}, and the program that asks has 0.1"


def test_versions_are_those_that_run() -> None:
    assert versions()["Python"] == platform.python_version()
    assert versions()["numpy"] == np.__version__
    assert len(versions()["steel"]) == 16


def test_the_token_does_not_outlive_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with sealed(RUN, []) as one, sealed(RUN, []) as other:
        assert {one.token, other.token} == set(RUN.iterdir())
    assert list(RUN.iterdir()) == []


def test_a_reply_that_does_not_show_is_told(footing: Footing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert room._visit(footing, "a1") == ""
    assert room._unseen(footing, "a1") == ""
    assert not footing.answer("a1").exists()
    monkeypatch.setattr(room, "SEEN_WITHIN_S", 0.0)
    assert room._unseen(footing, "a1") == f"what it writes to its folder {tmp_path} does not show here"


def test_with_a_storage_each_node_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage(f"file://{tmp_path}/there")
    with sealed(RUN, [], storage) as footing:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
        assert footing.fault() == ""
        assert Path.cwd() == storage.folder
        assert storage.folder.parent == tmp_path / "node"
        assert room._visit(footing, "a1") == ""
        monkeypatch.chdir(tmp_path)
        assert room._unseen(footing, "a1") == ""
        assert [path.name for path in tmp_path.rglob(".shared*") if path.parent != tmp_path / RUN] == [
            footing.token.name
        ]
        (tmp_path / "there" / footing.token).unlink()
        assert (
            footing.fault()
            == f"{storage.address} is not that of the program that asks ({footing.token} is another or missing)"
        )
        monkeypatch.chdir(tmp_path)


def test_jobs_of_a_node_look_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
    with sealed(RUN, [], Storage(f"file://{tmp_path}/there")) as footing, ThreadPoolExecutor(8) as jobs:
        assert [*jobs.map(lambda _: footing.fault(), range(64))] == [""] * 64
        monkeypatch.chdir(tmp_path)


def test_a_storage_out_of_reach_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
    storage = Storage(f"file://{tmp_path}/there")
    with sealed(RUN, [], storage) as footing:
        monkeypatch.setattr(type(storage.fs), "exists", out_of_reach)
        told = f"ray.storage: {storage.address}: NoCredentials: Unable to locate"
        assert footing.fault() == f"it cannot reach the files ({told})"
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
