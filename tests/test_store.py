"""The store of probabilities: coverage is read from the done-index, whatever is killed when."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from steel import files
from steel.errors import UserError
from steel.infer import store
from steel.infer.store import DONE, MAPS, RECORD, VALUES, Builder, open_store

IDS = ["a.jpg", "b.jpg", "c.jpg"]
KEY = "0123456789abcdef"


class Killed(BaseException):
    """Stands for a kill: nothing in the package catches it."""


def some_maps(row: int) -> NDArray[np.uint8]:
    """Distinct maps; those of row 1 are all zero, which zarr does not store."""
    maps = np.zeros((4, 256, 1600), np.uint8)
    if row != 1:
        maps[:, :10] = np.random.default_rng(row).integers(0, 256, (4, 10, 1600))
    return maps


def sums(row: int) -> NDArray:
    return (some_maps(row) / 255).sum((1, 2))


def write(builder: Builder, *rows: int) -> None:
    builder.write(list(rows), np.stack([some_maps(row) for row in rows]), np.stack([sums(row) for row in rows]), None)


def opened(folder: Path, key: str = KEY) -> Builder:
    return Builder(folder, key, IDS, maps=True)


def check_whole(folder: Path) -> None:
    """The store holds all three, and nothing is left over."""
    found = open_store(folder)
    assert found.image_ids == IDS
    for row in range(3):
        assert np.array_equal(found.map(row), some_maps(row))
        assert found.sums is not None and np.array_equal(found.sums[row], sums(row))
    assert {p.name for p in folder.iterdir()} == {MAPS, VALUES}


def test_round_trip_in_any_order(tmp_path: Path) -> None:
    builder = opened(tmp_path)
    assert builder.done == set()
    write(builder, 2)
    write(builder, 0, 1)
    assert builder.done == {0, 1, 2}
    outputs = builder.finish()
    assert set(outputs) == {tmp_path / MAPS, tmp_path / VALUES}
    check_whole(tmp_path)


def test_same_content_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    for folder, batches in ((tmp_path / "a", [(0, 1), (2,)]), (tmp_path / "b", [(2, 1), (0,), (1,)])):
        builder = opened(folder)
        for rows in batches:
            write(builder, *rows)
        builder.finish()
    contents = [
        {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        for folder in (tmp_path / "a", tmp_path / "b")
    ]
    assert contents[0] == contents[1]


def test_layout_on_disk(tmp_path: Path) -> None:
    builder = opened(tmp_path)
    write(builder, 0, 1, 2)
    builder.finish()
    array = zarr.open_array(str(tmp_path / MAPS), mode="r")
    assert array.shape == (3, 4, 256, 1600) and array.dtype == np.uint8 and array.chunks == (1, 4, 256, 1600)
    chunks = {path.name for path in (tmp_path / MAPS).iterdir() if path.name != "zarr.json"}
    assert chunks == {"c.0.0.0.0", "c.1.0.0.0", "c.2.0.0.0"}  # the place where `write` syncs; all-zero chunks too


def test_a_chunk_has_the_bytes_that_zarr_gives_it(tmp_path: Path) -> None:
    builder = opened(tmp_path)
    write(builder, 0, 1)  # row 1 is all zero
    assert builder.maps is not None
    theirs = store.create_maps(tmp_path / "zarr", 2)
    for row in range(2):
        theirs[row] = some_maps(row)
        chunk = store.chunk_name(row)
        assert (builder.maps / chunk).read_bytes() == (tmp_path / "zarr" / chunk).read_bytes()


def test_a_restart_goes_on_where_it_stopped(tmp_path: Path) -> None:
    write(opened(tmp_path), 0, 1)
    again = opened(tmp_path)
    assert again.done == {0, 1}  # row 1 is all zero and nowhere on disk, but done
    write(again, 2)
    again.finish()
    check_whole(tmp_path)


@pytest.mark.parametrize("torn", [1, RECORD.itemsize - 1])
def test_a_torn_record_is_dropped_and_its_row_rewritten(torn: int, tmp_path: Path) -> None:
    builder = opened(tmp_path)
    write(builder, 0)
    write(builder, 1)
    index = builder.work / DONE
    index.write_bytes(index.read_bytes()[: RECORD.itemsize + torn])
    again = opened(tmp_path)
    assert again.done == {0} and index.stat().st_size == RECORD.itemsize
    write(again, 2, 1)
    assert opened(tmp_path).done == {0, 1, 2}
    opened(tmp_path).finish()
    check_whole(tmp_path)


def test_maps_without_a_record_are_written_again(tmp_path: Path) -> None:
    builder = opened(tmp_path)
    write(builder, 0)
    assert builder.maps is not None
    maps = zarr.open_array(str(builder.maps), mode="r+")
    maps[1], maps[2] = 77, 77  # another value under row 1, killed before its record
    again = opened(tmp_path)
    assert again.done == {0}
    write(again, 1, 2)  # row 1 is all zero
    again.finish()
    check_whole(tmp_path)


def test_killed_before_the_first_record(tmp_path: Path) -> None:
    builder = opened(tmp_path)
    (builder.work / MAPS / "zarr.json").write_text("{")  # metadata torn
    again = opened(tmp_path)
    assert again.done == set()
    write(again, 0, 1, 2)
    again.finish()
    check_whole(tmp_path)


def test_leftovers_of_another_key_are_removed(tmp_path: Path) -> None:
    write(opened(tmp_path, "other"), 0, 1, 2)
    builder = opened(tmp_path)
    assert builder.done == set() and [p.name for p in tmp_path.iterdir()] == [f"building-{KEY}"]


def test_a_finished_store_stays_until_the_next_is_finished(tmp_path: Path) -> None:
    builder = opened(tmp_path)
    write(builder, 0, 1, 2)
    builder.finish()
    newer = opened(tmp_path, "newer")
    newer.write([0], some_maps(2)[None], sums(2)[None], None)
    assert np.array_equal(open_store(tmp_path).map(0), some_maps(0))
    newer.write([1, 2], np.stack([some_maps(2)] * 2), np.stack([sums(2)] * 2), None)
    newer.finish()
    found = open_store(tmp_path)
    assert np.array_equal(found.map(0), some_maps(2))
    assert found.sums is not None and np.array_equal(found.sums, [sums(2)] * 3)
    assert {p.name for p in tmp_path.iterdir()} == {MAPS, VALUES}


def test_a_missing_row_is_named(tmp_path: Path) -> None:
    builder = opened(tmp_path)
    write(builder, 1)
    with pytest.raises(UserError, match=r"no prediction of a\.jpg, c\.jpg$"):
        builder.finish()
    assert not (tmp_path / VALUES).exists()


@pytest.mark.parametrize("step", ["publish", "_discard", "remove"])
def test_killed_while_it_finishes(step: str, tmp_path: Path) -> None:
    """At worst the maps are made again; never are all-zero maps taken for them."""
    builder = opened(tmp_path)
    write(builder, 0, 1, 2)
    owner = store if step == "_discard" else files
    true = getattr(owner, step)

    def killed(path: Path, *rest: Path) -> None:
        if (step == "publish" and path.name != MAPS) or (step == "remove" and path != builder.work):
            true(path, *rest)
            return
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, step, killed)
        with pytest.raises(Killed):
            builder.finish()
    again = opened(tmp_path)
    missing = sorted(set(range(3)) - again.done)
    assert missing == ([] if step == "publish" else [0, 1, 2])
    if missing:
        write(again, *missing)
    again.finish()
    check_whole(tmp_path)


def test_killed_while_leftovers_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of an old store is gone: going back to its key starts anew."""
    write(opened(tmp_path, "old"), 0, 1, 2)

    true = files.remove

    def half(path: Path) -> None:
        true(path / MAPS / "c" / "0" if path.name == "building-old" else path)
        if path.name == "building-old":
            raise Killed

    monkeypatch.setattr(files, "remove", half)
    with pytest.raises(Killed):
        opened(tmp_path, "new")
    monkeypatch.undo()
    assert opened(tmp_path, "old").done == set()


def test_values_of_a_classifier(tmp_path: Path) -> None:
    builder = Builder(tmp_path, KEY, IDS, maps=False)
    p = np.arange(12).reshape(3, 4) / 12
    builder.write([2, 0], None, None, p[[2, 0]])
    again = Builder(tmp_path, KEY, IDS, maps=False)
    assert again.done == {0, 2}
    again.write([1], None, None, p[[1]])
    assert set(again.finish()) == {tmp_path / VALUES}
    found = open_store(tmp_path)
    assert found.maps is None and found.sums is None
    assert found.gate is not None and np.array_equal(found.gate, p)
    assert {q.name for q in tmp_path.iterdir()} == {VALUES}


def test_gates_beside_maps(tmp_path: Path) -> None:
    builder = opened(tmp_path)
    gate = np.arange(12).reshape(3, 4) / 12
    for row in (2, 0, 1):
        builder.write([row], some_maps(row)[None], sums(row)[None], gate[[row]])
    builder.finish()
    check_whole(tmp_path)
    found = open_store(tmp_path).gate
    assert found is not None and np.array_equal(found, gate)


def test_maps_alone_gate_nothing(tmp_path: Path) -> None:
    builder = opened(tmp_path)
    write(builder, 0, 1, 2)
    builder.finish()
    assert open_store(tmp_path).gate is None


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    digests = []
    for n, value in enumerate((0.5, 0.5, 0.25)):
        builder = Builder(tmp_path / str(n), KEY, IDS, maps=False)
        builder.write([0, 1, 2], None, None, np.full((3, 4), value))
        digests.append(next(iter(builder.finish().values())))
    assert digests[0] == digests[1] != digests[2]
