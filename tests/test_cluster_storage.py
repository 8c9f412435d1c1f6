"""Files that travel: whole or absent, records last, sent once, and nothing of other outputs."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from steel.cluster import storage as room
from steel.cluster.storage import Storage, carried
from steel.errors import UserError
from steel.stage import RECORD


class ConnectionNotThere(Exception):
    """As those of an object store: no OSError."""


FOLDER = Path("runs/x/unet/fold0")
OUTPUT = {"weights": "w1", "events/e": "e1", RECORD: "r1"}


@pytest.fixture(params=["file", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """Both are as bare as S3: nobody tells when a file comes, and nothing is changed in place."""
    found = Storage(f"{request.param}://{tmp_path}/there/deep")
    yield found
    if request.param == "memory":
        found.fs.rm(found.root, recursive=True)


def write(texts: dict[str, str]) -> None:
    for name, text in texts.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def read() -> dict[str, str]:
    return {str(p.relative_to(FOLDER)): p.read_text() for p in FOLDER.rglob("*") if p.is_file()}


def on(node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to the folder of another machine."""
    (tmp_path / node).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / node)


def test_what_one_machine_sends_another_fetches(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on("a", tmp_path, monkeypatch)
    write(OUTPUT | {"oof/stage.json": "other", ".lock": "1", ".weights.tmp": "half", "building-0/done.bin": "half"})
    storage.push(FOLDER)
    on("b", tmp_path, monkeypatch)
    storage.pull(FOLDER)
    assert read() == OUTPUT
    storage.pull(Path("nothing/there"))
    assert not Path("nothing").exists()


def test_a_record_comes_last_and_what_is_same_does_not_travel(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    for name in ("_put", "_get"):
        plain = getattr(Storage, name)

        def noted(self: Storage, path: Path, plain: object = plain) -> None:
            moved.append(path.name)
            plain(self, path)  # type: ignore[operator]

        monkeypatch.setattr(Storage, name, noted)
    on("a", tmp_path, monkeypatch)
    write(OUTPUT)
    for call in (storage.offer, storage.push, storage.pull):
        call(FOLDER)
    assert sorted(moved[:2]) == ["e", "weights"]
    assert moved[2:] == [RECORD]
    Storage(storage.address).offer(FOLDER)  # another program finds the record there
    assert len(moved) == 3
    write({"weights": "w2"})
    storage.push(FOLDER)
    assert moved[3:] == ["weights"]
    on("b", tmp_path, monkeypatch)
    storage.pull(FOLDER)
    storage.pull(FOLDER)
    assert moved[6:] == [RECORD]
    (FOLDER / "weights").write_text("cut")
    storage.pull(FOLDER)
    assert read() == OUTPUT | {"weights": "w2"}


def test_a_checkpoint_goes_when_the_weights_are_there(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on("a", tmp_path, monkeypatch)
    write({"last.pt": "after epoch 1"})
    storage.push(FOLDER)
    (FOLDER / "last.pt").unlink()
    write(OUTPUT)
    storage.push(FOLDER)
    on("b", tmp_path, monkeypatch)
    storage.pull(FOLDER)
    assert read() == OUTPUT


def test_a_node_sends_what_it_has_while_it_works(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MIRROR_S", 0.02)
    on("a", tmp_path, monkeypatch)
    write({"last.pt": "after epoch 1"})
    storage.push(FOLDER)
    on("b", tmp_path, monkeypatch)
    with pytest.raises(ZeroDivisionError), carried(storage, [FOLDER], [FOLDER]):
        assert read() == {"last.pt": "after epoch 1"}
        write({"last.pt": "after epoch 2, longer"})
        name = f"{storage.root}/{FOLDER}/last.pt"
        while storage.fs.cat_file(name) != b"after epoch 2, longer":
            pass
        write({"log": "failed"})
        raise ZeroDivisionError
    assert storage.fs.cat_file(f"{storage.root}/{FOLDER}/log") == b"failed"


def test_a_network_that_is_down_is_tried_again(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(room, "MIRROR_S", 0.02)
    on("a", tmp_path, monkeypatch)
    put, tries = Storage._put, []

    def down_at_first(self: Storage, path: Path) -> None:
        tries.append(path)
        if len(tries) < 3:
            raise ConnectionNotThere("no route")
        put(self, path)

    monkeypatch.setattr(Storage, "_put", down_at_first)
    with carried(storage, [], [FOLDER]):
        write({"last.pt": "after epoch 1"})
        deadline = time.monotonic() + 60
        while not storage.fs.exists(f"{storage.root}/{FOLDER}/last.pt"):
            assert time.monotonic() < deadline
    line = f"ray.storage: {storage.address}: ConnectionNotThere: no route; tried again in 0.02 s"
    assert capsys.readouterr().out.splitlines() == [line] * 2


def test_every_address_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    one, other = Storage("memory://one").folder, Storage("memory://other").folder
    assert one.parent == other.parent == tmp_path
    assert one != other
    assert Storage("memory://one").folder == one


def test_an_unknown_kind_of_address_is_told() -> None:
    told = r"^ray\.storage: 'nfs7://x' cannot be opened \(ValueError: Protocol not known: nfs7"
    with pytest.raises(UserError, match=told):
        Storage("nfs7://x")
