"""What has changed since another run: paired on the strips of both; and the report that was there before."""

from pathlib import Path

import numpy as np
import pytest
from make_table import of_areas

from steel import files
from steel.decide.table import Table
from steel.errors import UserError
from steel.report import change, strip_table
from steel.report.change import Change
from steel.report.outcomes import Outcome

N = 6


def table(n: int = N) -> Table:
    """Strips with a mask of 100 px in class 1."""
    true_px = np.zeros((n, 4), np.int32)
    true_px[:, 0] = 100
    areas = np.zeros((n, 4, 256), np.int32)
    ids = np.array([f"{i}.jpg" for i in range(n)])
    return of_areas(ids, np.arange(n).astype(np.int16) % 3, true_px, areas, areas, np.full((n, 4), 0.5, np.float32))


def outcome(overlap_px: list[int]) -> Outcome:
    """As many px of class 1 shown as lie under the mask."""
    px = np.zeros((len(overlap_px), 4), np.int32)
    px[:, 0] = overlap_px
    return Outcome(px, px)


def test_strips_have_a_row_per_class() -> None:
    found = strip_table.of_outcome(table(), outcome([100, 50, 0, 0, 0, 0]))
    assert list(found) == ["image_id", "fold", "class_id", "true_px", "shown_px", "overlap_px", "dice", "gate"]
    assert len(found) == 4 * N
    row = found[(found.image_id == "1.jpg") & (found.class_id == 1)].iloc[0]
    assert (row.fold, row.true_px, row.shown_px, row.overlap_px) == (1, 100, 50, 50)
    assert row.dice == pytest.approx(2 * 50 / 150) and row.gate == 0.5
    assert found[found.class_id == 4].dice.eq(1).all()  # nothing there, nothing shown


def test_the_gain_is_paired(tmp_path: Path) -> None:
    """Two of six strips rise from a Dice of 2/3 to 1: one class of four, so 1/36 of the mean; none falls."""
    before = strip_table.of_outcome(table(), outcome([50] * N))
    strip_table.save(before, tmp_path / "before.csv")
    now = strip_table.of_outcome(table(), outcome([100, 100, 50, 50, 50, 50]))
    group = [f"{i}" for i in range(N)]
    found = change.against(tmp_path / "before.csv", "runs/x", now, group)
    assert found is not None
    assert (found.other, found.n_strips) == ("runs/x", N)
    assert found.before == pytest.approx((2 / 3 + 3) / 4)
    assert found.gain == pytest.approx(2 / 6 / 3 / 4)
    assert 0 <= found.low < found.gain < found.high <= 1 / 12 + 1e-12
    as_one = change.against(tmp_path / "before.csv", "runs/x", now, ["a"] * N)  # all duplicates: nothing to resample
    assert as_one is not None and as_one.low == as_one.high == pytest.approx(as_one.gain)


def test_only_strips_of_both_with_the_same_masks_count(tmp_path: Path) -> None:
    before = strip_table.of_outcome(table(), outcome([50] * N))
    before.loc[(before.image_id == "2.jpg") & (before.class_id == 1), "true_px"] = 99  # other labels
    before = before[before.image_id != "5.jpg"]
    strip_table.save(before, tmp_path / "before.csv")
    now = strip_table.of_outcome(table(5), outcome([50] * 5))
    found = change.against(tmp_path / "before.csv", "x", now, list("abcde"))
    assert found is not None and found.n_strips == 4 and found.gain == 0
    strip_table.save(before[:0], tmp_path / "none.csv")
    assert change.against(tmp_path / "none.csv", "x", now, list("abcde")) is None


def test_the_report_of_before_is_kept_until_the_decision_is_another(tmp_path: Path) -> None:
    group = [f"{i}" for i in range(N)]

    def write(decided: str, overlap_px: int) -> Change | None:
        change.keep(tmp_path, decided)
        now = strip_table.of_outcome(table(), outcome([overlap_px] * N))
        found = change.since_previous(tmp_path, now, group)
        files.write_json(tmp_path / "cv.json", {"decided": decided})
        strip_table.save(now, tmp_path / strip_table.FILE)
        return found

    assert write("first", 50) is None
    assert write("first", 50) is None  # made again of the same
    for _ in range(2):
        found = write("second", 100)
        assert found is not None and found.gain == pytest.approx(1 / 12) and found.other == "the previous run"


def test_a_report_killed_between_its_numbers_and_its_strips_loses_nothing(tmp_path: Path) -> None:
    first, second = (strip_table.of_outcome(table(), outcome([px] * N)) for px in (50, 100))
    files.write_json(tmp_path / "cv.json", {"decided": "first"})
    strip_table.save(first, tmp_path / strip_table.FILE)
    for _ in range(2):  # killed after cv.json, and started again
        change.keep(tmp_path, "second")
        files.write_json(tmp_path / "cv.json", {"decided": "second"})
    found = change.since_previous(tmp_path, second, [f"{i}" for i in range(N)])
    assert found is not None and found.gain == pytest.approx(1 / 12)


def test_another_run_has_to_have_a_report_on_the_same_strips(tmp_path: Path) -> None:
    now = strip_table.of_outcome(table(), outcome([50] * N))
    run = tmp_path / "runs" / "x"
    with pytest.raises(
        UserError, match=r"^report.against: .*strips.csv does not exist: run `steel report` for .*/x first"
    ):
        change.since_other(run, tmp_path, now, ["a"] * N)
    strip_table.save(now.assign(image_id="other.jpg"), run / "report" / strip_table.FILE)
    with pytest.raises(UserError, match="holds out no strip of this run; allowed: runs on the same data"):
        change.since_other(run, tmp_path, now, ["a"] * N)
    with pytest.raises(UserError, match="is this very run; allowed: the folder of another one"):
        change.since_other(run, tmp_path / "runs" / "x", now, ["a"] * N)
    (run / "report" / strip_table.FILE).write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"is no table of strips .*: delete it, and run `steel report` again"):
        change.since_other(run, tmp_path, now, ["a"] * N)


@pytest.mark.parametrize(
    ("gain", "low", "high", "expected"),
    [
        (0.01, 0.005, 0.02, "better than runs/x (0.90000) on the 6 strips of both: +0.01000, 95 % interval "),
        (-0.01, -0.02, 0.001, "worse than runs/x (0.90000) on the 6 strips of both: -0.01000, 95 % interval "),
        (-0.01, -0.02, -0.001, "worse than runs/x (0.90000) on the 6 strips of both: -0.01000, 95 % interval "),
        (0.0, 0.0, 0.0, "the same as runs/x (0.90000) on the 6 strips of both."),
    ],
)
def test_in_words(gain: float, low: float, high: float, expected: str) -> None:
    found = change.told(Change("runs/x", 6, 0.9, gain, low, high))
    assert found.startswith(expected)
    luck = "within" if low < 0 < high else "beyond"
    assert found.endswith(f": {luck} the luck of the strips." if gain else "both.")
