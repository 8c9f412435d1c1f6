"""Outputs that are folders: what of them is looked at, and what is noticed."""

import json
from pathlib import Path

import pytest

from steel import stage
from steel.stage import Spec, ensure, look


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return Spec("oof unet fold 0", tmp_path / "out", {}, {}, ("rle",))


@pytest.mark.parametrize("harm", ["lost", "cut"])
def test_a_file_that_a_folder_lost_or_that_was_cut_is_noticed(spec: Spec, harm: str) -> None:
    store = spec.folder / "maps"

    def make() -> dict[Path, str]:
        for name in ("c.0", "c.1", "deep/c.2"):
            (store / name).parent.mkdir(parents=True, exist_ok=True)
            (store / name).write_text(name)
        return {store: "0" * stage.SHA256_LENGTH}  # as long as a digest of bytes, which a folder has none of

    ensure(spec, make)
    assert look(spec).kind == "done"
    assert json.loads((spec.folder / "stage.json").read_text())["sizes"] == {str(store): 3 + 3 + 8}
    chunk = store / "deep/c.2"
    chunk.unlink() if harm == "lost" else chunk.write_text("c")
    assert str(look(spec)) == f"stale ({store} is gone or was changed)"


def test_a_record_of_before_knows_no_sizes_of_folders(spec: Spec) -> None:
    store = spec.folder / "maps"
    ensure(spec, lambda: store.mkdir() or {store: "digest"})  # type: ignore[func-returns-value]
    record = json.loads((spec.folder / "stage.json").read_text())
    (spec.folder / "stage.json").write_text(json.dumps({**record, "sizes": {str(store): None}}))
    (store / "c.0").touch()
    assert look(spec).kind == "done"


def test_an_output_may_be_a_folder(spec: Spec) -> None:
    store = spec.folder / "oof.zarr"

    def make() -> dict[Path, str]:
        store.mkdir()
        return {store: "digest"}

    ensure(spec, make)
    assert look(spec).kind == "done"
    store.rmdir()
    assert look(spec).kind == "stale"
