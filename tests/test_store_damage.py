"""A store that has suffered: what is read is what was written, or one line says which strip and what to do."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from steel.competition import N_PIXELS
from steel.decide.held_out import outputs_of
from steel.errors import UserError
from steel.infer.store import MAPS, VALUES, Builder, open_store

IDS = ["a.jpg", "b.jpg"]
CHUNK = Path(MAPS) / "c.0.0.0.0"
AGAIN = r": run `steel oof CONFIG --model fpn --folds 0 --force`$"


def some_maps() -> NDArray[np.uint8]:
    """(2, 4, 256, 1600): 16,000 px of class 2 and noise of class 3 on the first strip, nothing on the second."""
    maps = np.zeros((2, 4, 256, 1600), np.uint8)
    maps[0, 1, :10] = 255
    maps[0, 2, 100:140] = np.random.default_rng(0).integers(0, 256, (40, 1600))
    return maps


def stored(folder: Path, maps: NDArray[np.uint8], sums: NDArray[np.float64] | None = None) -> Path:
    """A finished store of two strips; its folder."""
    builder = Builder(folder, "key", IDS, maps=True)
    builder.write([0, 1], maps, maps.sum((2, 3)) / 255 if sums is None else sums, None)
    builder.finish()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder of a store."""
    return stored(tmp_path / "fpn/fold0/oof", some_maps())


def fault(folder: Path, row: int = 0) -> str:
    """What reading a map says: one line, which names the store, and what to do."""
    with pytest.raises(UserError, match=AGAIN) as error:
        open_store(folder).map(row)
    text = str(error.value)
    assert text.startswith(f"{folder}: ") and "\n" not in text
    return text


def test_a_lost_map_that_showed_next_to_nothing_is_told_too(tmp_path: Path) -> None:
    """The sums cannot tell it; that its file is gone can."""
    folder = tmp_path / "fpn/fold0/oof"
    builder = Builder(folder, "key", IDS, maps=True)
    builder.write([0, 1], np.zeros((2, 4, 256, 1600), np.uint8), np.zeros((2, 4)), None)
    builder.finish()
    assert open_store(folder).map(1).max() == 0
    (folder / "maps.zarr/c.1.0.0.0").unlink()
    assert "the maps of b.jpg are gone" in fault(folder, 1)


def test_a_lost_map_is_told(store: Path) -> None:
    """As when another strip's, here one without anything, lies in its place."""
    (store / CHUNK).unlink()
    assert "the maps of a.jpg are gone" in fault(store)
    assert not open_store(store).map(1).any()  # that of the other strip is all zero, and was never stored


@pytest.mark.parametrize("size", [0, 3, 16, 100, 20_000])
def test_a_map_cut_short_is_told(store: Path, size: int) -> None:
    chunk = store / CHUNK
    assert chunk.stat().st_size > 20_000
    chunk.write_bytes(chunk.read_bytes()[:size])
    assert "the maps of a.jpg " in fault(store)


def test_a_map_whose_bytes_were_overwritten_is_told(store: Path) -> None:
    """A block of a disk that is gone, at any place: the codec or the sums notice."""
    chunk = store / CHUNK
    whole = chunk.read_bytes()
    for start in range(0, len(whole), 4096):
        chunk.write_bytes(whole[:start] + bytes(len(whole[start : start + 4096])) + whole[start + 4096 :])
        assert "the maps of a.jpg " in fault(store)


def test_maps_of_another_strip_are_told(store: Path) -> None:
    (store / CHUNK).rename(store / MAPS / "c.1.0.0.0")
    assert "the maps of b.jpg are not those that were written (class 3 sums up to " in fault(store, row=1)


@pytest.mark.parametrize("level", [0, 7, 255])
@pytest.mark.parametrize("sign", [1, -1])
def test_as_much_as_rounding_may_lose_is_no_damage(level: int, sign: int, tmp_path: Path) -> None:
    """Half a level in each pixel, 803 px in all, but not 5 px more."""
    maps = np.full((2, 4, 256, 1600), level, np.uint8)
    lost_px = sign * N_PIXELS / 510
    sums = maps.sum((2, 3)) / 255 + lost_px
    sums[1, 3] += sign * 5
    folder = stored(tmp_path / "fpn/fold0/oof", maps, sums)
    assert np.array_equal(open_store(folder).map(0), maps[0])
    assert f"(class 4 sums up to {level * N_PIXELS / 255:.0f} px, not {sums[1, 3]:.0f})" in fault(folder, row=1)


def test_sums_that_are_no_numbers_are_no_excuse(tmp_path: Path) -> None:
    sums = some_maps().sum((2, 3)) / 255
    sums[0, 1] = np.nan
    assert "not nan)" in fault(stored(tmp_path / "fpn/fold0/oof", some_maps(), sums))


def test_every_reader_goes_through_the_check(store: Path) -> None:
    (store / CHUNK).unlink()
    with pytest.raises(UserError, match=AGAIN):
        outputs_of([open_store(store)], 0)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("fpn/fold12/oof", "run `steel oof CONFIG --model fpn --folds 12 --force`"),
        ("fpn/test", "run `steel predict CONFIG --model fpn --force`"),
        ("fpn/fold1/oof-views2", "delete this folder and run `steel kernel bundle CONFIG`"),
    ],
)
def test_the_command_that_makes_just_this_store_anew(name: str, remedy: str, tmp_path: Path) -> None:
    folder = stored(tmp_path / name, some_maps())
    (folder / CHUNK).unlink()
    with pytest.raises(UserError) as error:
        open_store(folder).map(0)
    assert str(error.value) == f"{folder}: the maps of a.jpg are gone: {remedy}"


@pytest.mark.parametrize("name", [VALUES, f"{MAPS}/zarr.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "half", "other"])
def test_values_or_layout_that_cannot_be_read_are_told(store: Path, name: str, damage: str) -> None:
    path = store / name
    whole = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "other": b"{}"}[damage])
    assert f"{VALUES} or {MAPS} cannot be read (" in fault(store)


def test_maps_of_another_number_of_strips_are_told(store: Path) -> None:
    path = store / MAPS / "zarr.json"
    path.write_text(path.read_text().replace("    2,\n    4,", "    3,\n    4,", 1))
    assert "cannot be read (maps (3, 4, 256, 1600), allowed: (2, 4, 256, 1600))" in fault(store)


@pytest.mark.parametrize("place", [0.01, 0.3, 0.6, 0.99])
def test_a_single_bit_is_told(store: Path, place: float) -> None:
    """Half of them would leave other maps of nearly the same sums."""
    chunk = store / CHUNK
    data = bytearray(chunk.read_bytes())
    data[int(place * len(data))] ^= 8
    chunk.write_bytes(data)
    assert "the maps of a.jpg cannot be read (its checksum is another" in fault(store)
