"""A list in parts: how it is cut, what is told of a slice, what a folder of parts accepts and gives back."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tiny

from steel import rle
from steel.cluster.parts import Counts, Out, Run, opened
from steel.cluster.pieces import TOLD, Assembly, cut, n_strips, tell
from steel.errors import UserError
from steel.kaggle.ensemble import Found

pytestmark = pytest.mark.cluster  # which brings pyarrow

RUN = Run("/archive", "tiny", {"rules.json": "0"}, 4)
NAMES = [f"{i // 3}/{i % 3}.jpg" for i in range(10)]


def begin(folder: Path, run: Run = RUN) -> Out:
    with opened(folder, run, lambda: NAMES) as out:
        return out


def found(i: int) -> Found:
    """Strip i shows class i % 5, if that is one, on the first i + 1 px."""
    if i % 5 == 0:
        return Found(np.full(4, i / 10, np.float32))
    masks = np.zeros((4, 256, 1600), np.bool_)
    masks[i % 5 - 1, : i + 1, 0] = True
    return Found(np.full(4, i / 10, np.float32), masks)


def told(part: int, begin: int, end: int, bad: tuple[int, ...] = ()) -> pa.Table:
    whose = [(part, i, NAMES[i], "cut off" if i in bad else "") for i in range(begin, end)]
    return tell(whose, [found(i) for i in range(begin, end) if i not in bad])


def test_a_list_is_cut_without_gap_or_overlap(tmp_path: Path) -> None:
    out = begin(tmp_path / "out")
    assert out.n_parts == 3
    assert [out.bounds(part) for part in range(3)] == [(0, 4), (4, 8), (8, 10)]
    assert cut([0, 2], out.bounds, 3).tolist() == [[0, 0, 3], [0, 3, 4], [2, 8, 10]]
    assert cut([1], out.bounds, 64).tolist() == [[1, 4, 8]]
    assert cut([], out.bounds, 3).shape == (0, 3)


def test_slices_in_any_order_make_a_part(tmp_path: Path) -> None:
    out = begin(tmp_path / "out")
    assembly = Assembly(out.bounds)
    late, early = told(0, 2, 4, bad=(3,)), told(0, 0, 2)
    assert (n_strips(late), n_strips(early)) == (2, 2)
    assert not list(assembly.add(late))
    assert not list(assembly.add(late))  # a second time, since its worker was lost
    (other,) = assembly.add(told(2, 8, 10))
    assert other[0] == 2 and other[2] == []
    ((part, rows, corrupt),) = assembly.add(early)
    assert part == 0
    assert rows["image_id"].to_pylist() == [name for name in NAMES[:3] for _ in range(4)]
    assert corrupt == [(NAMES[3], "cut off")]
    both = pa.concat_tables([told(0, 0, 4), told(1, 4, 8)])  # as if they had travelled together
    assert [part for part, _, _ in assembly.add(both)] == [0, 1]
    ends = pa.concat_tables([told(0, 1, 2), told(0, 3, 4)])  # Ray Data may put the ends of slices together
    assert not [*assembly.add(ends), *assembly.add(told(0, 2, 3))]
    ((_, rows, _),) = assembly.add(told(0, 0, 1))
    assert rows["image_id"].to_pylist() == [name for name in NAMES[:4] for _ in range(4)]
    assert rows["class_id"].to_pylist() == [1, 2, 3, 4] * 4


def write(out: Out, part: int, bad: tuple[int, ...] = ()) -> Counts:
    ((_, rows, corrupt),) = Assembly(out.bounds).add(told(part, *out.bounds(part), bad))
    return out.write(part, rows, corrupt)


def test_a_part_holds_four_rows_of_each_strip(tmp_path: Path) -> None:
    out = begin(tmp_path / "out")
    counts = write(out, 1, bad=(7,))
    assert counts == Counts(4, {"1": 1, "2": 0, "3": 0, "4": 1}, 2, [(NAMES[7], "cut off")])
    table = pd.read_parquet(out.path(1))
    assert list(table) == ["image_id", "class_id", "rle", "area_px", "gate"]
    assert table.class_id.tolist() == [1, 2, 3, 4] * 3
    assert table.gate.tolist() == pytest.approx([0.4] * 4 + [0.5] * 4 + [0.6] * 4)
    shown = table[table.area_px > 0]
    assert shown[["image_id", "class_id", "rle", "area_px"]].to_numpy().tolist() == [
        [NAMES[4], 4, "1 5", 5],
        [NAMES[6], 1, "1 7", 7],
    ]
    assert [rle.area(text) for text in table.rle] == table.area_px.tolist()


def test_a_folder_goes_on_where_it_stands(tmp_path: Path) -> None:
    out = begin(tmp_path / "out")
    write(out, 0)
    first = write(out, 2, bad=(9,))
    (out.folder / "parts" / ".part-000001.parquet.tmp").touch()  # of a run that was killed while it wrote

    def fail() -> list[str]:
        raise AssertionError("the list stands")

    with opened(out.folder, RUN, fail) as again:
        assert again.strips.to_pylist() == NAMES
        assert again.missing() == [1]
        counts = again.counts([0, 2])
        assert (counts.strips, counts.corrupt) == (6, first.corrupt)
        counts.add(write(again, 1))
        again.finish(counts, {"seconds": 1.5})
    assert json.loads((out.folder / "summary.json").read_text()) == {
        "strips": 10,
        "shown": {"1": 2, "2": 2, "3": 2, "4": 1},
        "with_a_defect": 7,
        "corrupt": 1,
        "parts": 3,
        "seconds": 1.5,
    }
    assert (out.folder / "corrupt.csv").read_text().splitlines() == ["image_id,reason", f"{NAMES[9]},cut off"]
    whole = pd.read_parquet(out.folder / "parts")  # as the documentation has it
    assert sorted({*whole.image_id, NAMES[9]}) == NAMES and len(whole) == 4 * 9


def test_forced_it_begins_again(tmp_path: Path) -> None:
    out = begin(tmp_path / "out")
    out.finish(write(out, 0), {})
    with opened(out.folder, RUN, lambda: ["new.jpg"], force=True) as again:
        assert (again.strips.to_pylist(), again.missing()) == (["new.jpg"], [0])
    assert sorted(path.name for path in out.folder.iterdir()) == [".lock", "run.json", "strips.parquet"]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (replace(RUN, images="/other"), "was begun with images: /archive, not /other"),
        (replace(RUN, part_strips=5), "was begun with part_strips: 4, not 5"),
        (replace(RUN, made_by={"rules.json": "1"}), "was begun with made_by: the solution has been decided anew since"),
    ],
)
def test_the_folder_of_another_run_is_refused(run: Run, message: str, tmp_path: Path) -> None:
    begin(tmp_path / "out")
    before = tiny.contents(tmp_path)
    with pytest.raises(UserError, match=message):
        begin(tmp_path / "out", run)
    assert tiny.contents(tmp_path) == before


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/letter.txt").touch()
    with pytest.raises(UserError, match=r"holds other things \(letter.txt\): give a new or an empty folder"):
        begin(tmp_path / "out")
    with pytest.raises(UserError, match=r"letter.txt is a file; with --executor ray a folder for the parts is wanted"):
        begin(tmp_path / "out/letter.txt")


def test_one_program_at_a_time(tmp_path: Path) -> None:
    with opened(tmp_path / "out", RUN, lambda: NAMES), pytest.raises(UserError, match="is at work on"):
        begin(tmp_path / "out")


def test_what_is_told_has_its_schema_even_of_corrupt_strips_alone() -> None:
    table = tell([(0, 0, "a.jpg", "cut off")], [])
    assert table.schema == TOLD
    assert table.to_pylist()[0] | {"gate": None} == {
        "part": 0,
        "place": 0,
        "image_id": "a.jpg",
        "class_id": 0,
        "rle": "",
        "area_px": 0,
        "gate": None,
        "fault": "cut off",
    }
