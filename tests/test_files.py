"""Files appear whole or not at all, whatever happens in between."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from steel import files
from steel.errors import UserError


def test_a_file_gets_its_name_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.txt"
    with files.atomic(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.parent == target.parent  # else the rename would copy
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_block_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), files.atomic(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "store"
    for content in ("one", "two"):
        with files.atomic(target) as temporary:
            (temporary / "deep").mkdir(parents=True)
            (temporary / "deep" / content).write_text(content)
    assert [path.name for path in (target / "deep").iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_block_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "store"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), files.atomic(target) as temporary:
        temporary.mkdir()
        (temporary / "half").write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_is_published_when_the_block_wrote_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), files.atomic(target):
        pass
    assert target.read_text() == "old"


@pytest.mark.parametrize("folder", [False, True])
def test_a_kill_leaves_the_old_and_no_obstacle(tmp_path: Path, folder: bool) -> None:
    target = tmp_path / "out"
    for content in ("old", "new"):
        code = f"""
import os, signal, sys
from pathlib import Path
from steel import files
with files.atomic(Path(sys.argv[1])) as temporary:
    if {folder}:
        temporary.mkdir()
    file = temporary / "part" if {folder} else temporary
    with file.open("w") as out:
        out.write({content!r})
        out.flush()
        if {content!r} == "new":
            os.kill(os.getpid(), signal.SIGKILL)
"""
        run = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
        assert run.returncode == (0 if content == "old" else -9)
    part = target / "part" if folder else target
    assert part.read_text() == "old"
    with files.atomic(target) as temporary:  # the next run is not hindered by what the killed one left
        assert not temporary.exists()
        if folder:
            temporary.mkdir()
        (temporary / "part" if folder else temporary).write_text("next")
    assert part.read_text() == "next"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_killed_between_its_two_renames_comes_back(tmp_path: Path) -> None:
    target, aside = tmp_path / "store", tmp_path / ".store.old"
    aside.mkdir()
    (aside / "old").write_text("old")
    with pytest.raises(RuntimeError), files.atomic(target):
        raise RuntimeError
    assert (target / "old").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_was_set_aside_is_cleared_by_the_next_publication(tmp_path: Path) -> None:
    target, aside = tmp_path / "store", tmp_path / ".store.old"
    for folder in (target, aside):  # killed after both renames, before the old one was deleted
        folder.mkdir()
    with files.atomic(target) as temporary:
        temporary.mkdir()
    assert list(tmp_path.iterdir()) == [target]


def test_json_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": [1, 2.5, None], "b": "é"})
    assert files.read_json(path) == {"a": [1, 2.5, None], "b": "é"}
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert files.read_json(path)["b"] == "é"


def test_damaged_json_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1')
    with pytest.raises(UserError, match=r"a\.json: not valid JSON .* delete it"):
        files.read_json(path)


def test_sha256_of_the_standard_example(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert files.sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_array_on_disk_is_a_plain_npy_with_its_space_claimed(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    array = files.create_array(path, (3, 256, 1600))
    array[1, 2, 3] = 7
    array.flush()
    found = np.load(path)
    assert (found.shape, found.dtype, int(found.sum()), found[1, 2, 3]) == ((3, 256, 1600), np.uint8, 7, 7)
    assert path.stat().st_blocks * 512 >= found.nbytes  # not sparse


@pytest.mark.parametrize("path", [Path("none"), Path()])
def test_remove_what_is_not_there(tmp_path: Path, path: Path) -> None:
    files.remove(tmp_path / path)
    assert not (tmp_path / "none").exists()


def test_remove_takes_the_link_and_not_its_goal(tmp_path: Path) -> None:
    (tmp_path / "goal").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "goal")
    files.remove(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["goal"]


def test_a_file_never_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.txt").write_text("mine")
    with pytest.raises(UserError, match="is a folder"), files.atomic(tmp_path / "results") as temporary:
        temporary.write_text("csv")
    assert (tmp_path / "results" / "a.txt").read_text() == "mine"
