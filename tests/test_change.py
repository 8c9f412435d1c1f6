"""What has changed since another run: paired on the strips of both; and the report that was there before."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from make_table import of_areas

from steel import files
from steel.decide.bootstrap import Interval
from steel.decide.table import Table
from steel.errors import UserError
from steel.report import change, options, strip_table
from steel.report.change import Change
from steel.report.outcomes import Outcome
from steel.report.paired import Difference, Paired
from steel.report.section import Numbers
from steel.stage import Leaf

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


def put(folder: Path, shown: Outcome, numbers: dict[str, Any] | None = None) -> None:
    """What a report leaves for the next one."""
    files.write_json(folder / "cv.json", numbers or {})
    strip_table.save(strip_table.of_outcome(table(), shown), folder / strip_table.FILE)


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
    put(tmp_path, outcome([50] * N))
    now = strip_table.of_outcome(table(), outcome([100, 100, 50, 50, 50, 50]))
    group = [f"{i}" for i in range(N)]
    found = change.against(tmp_path, "runs/x", now, group, {})
    assert found is not None
    assert (found.other, found.n_strips, found.found.n_masks) == ("runs/x", N, (N, 0, 0, 0))
    whole, first = found.found.whole, found.found.classes[0]
    assert (whole.a, whole.gap.value) == pytest.approx(((2 / 3 + 3) / 4, 2 / 6 / 3 / 4))
    assert (first.a, first.b) == pytest.approx((2 / 3, 2 / 3 + 2 / 6 / 3)) and found.found.classes[1].gap.value == 0
    assert 0 <= whole.gap.low < whole.gap.value < whole.gap.high <= 1 / 12 + 1e-12
    as_one = change.against(tmp_path, "runs/x", now, ["a"] * N, {})  # all duplicates: nothing to resample
    assert as_one is not None and as_one.found.whole.gap.low == as_one.found.whole.gap.high
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert told["gains"]["class 1"]["gain"] == first.gap.value and told["gains"]["class 1"]["n_masks"] == N


def test_duplicates_are_drawn_together_in_whatever_order_they_come(tmp_path: Path) -> None:
    """Strips 0 and 1 gain, 4 and 5 lose; the interval is that of a plain loop over resamples of their three groups."""
    put(tmp_path, outcome([50] * N))
    now = strip_table.of_outcome(table(), outcome([100, 100, 50, 50, 0, 0]))
    group = list("ccbaaa")
    gain = np.array([1 / 3, 1 / 3, 0, 0, -2 / 3, -2 / 3]) / 4  # one class of four
    members = [[i for i in range(N) if group[i] == name] for name in "abc"]
    drawn = np.random.default_rng(0).integers(3, size=(2000, 3))
    means = [gain[[i for one in row for i in members[one]]].mean() for row in drawn]
    for order in (range(N), [3, 1, 5, 0, 4, 2]):
        turned = pd.concat([now[4 * i : 4 * i + 4] for i in order])
        found = change.against(tmp_path, "x", turned, [group[i] for i in order], {})
        assert found is not None
        gap = found.found.whole.gap
        assert (gap.low, gap.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_only_strips_of_both_with_the_same_masks_count(tmp_path: Path) -> None:
    before = strip_table.of_outcome(table(), outcome([50] * N))
    before.loc[(before.image_id == "2.jpg") & (before.class_id == 1), "true_px"] = 99  # other labels
    before = before[before.image_id != "5.jpg"]
    strip_table.save(before, tmp_path / strip_table.FILE)
    now = strip_table.of_outcome(table(5), outcome([50] * 5))
    found = change.against(tmp_path, "x", now, list("abcde"), {})
    assert found is not None and found.n_strips == 4 and found.found.whole.gap.value == 0
    strip_table.save(before[:0], tmp_path / strip_table.FILE)
    assert change.against(tmp_path, "x", now, list("abcde"), {}) is None


def test_the_report_of_before_is_kept_until_the_decision_is_another(tmp_path: Path) -> None:
    group = [f"{i}" for i in range(N)]

    def write(decided: str, overlap_px: int) -> Change | None:
        change.keep(tmp_path, decided)
        config = {"name": "x", "models": {"m": {"ema": overlap_px / 100}}}
        now = strip_table.of_outcome(table(), outcome([overlap_px] * N))
        found = change.since_previous(tmp_path, now, group, config)
        put(tmp_path, outcome([overlap_px] * N), {"decided": decided, "config": config})
        return found

    assert write("first", 50) is None
    assert write("first", 50) is None  # made again of the same
    for _ in range(2):
        found = write("second", 100)
        assert found is not None and found.found.whole.gap.value == pytest.approx(1 / 12)
        assert found.other == "the previous run" and found.options == [("models.m.ema", 0.5, 1.0)]


def test_a_report_killed_between_its_numbers_and_its_strips_loses_nothing(tmp_path: Path) -> None:
    put(tmp_path, outcome([50] * N), {"decided": "first"})
    for _ in range(2):  # killed after cv.json, and started again
        change.keep(tmp_path, "second")
        files.write_json(tmp_path / "cv.json", {"decided": "second"})
    now = strip_table.of_outcome(table(), outcome([100] * N))
    found = change.since_previous(tmp_path, now, [f"{i}" for i in range(N)], {})
    assert found is not None and found.found.whole.gap.value == pytest.approx(1 / 12)


def test_another_run_has_to_have_a_report_on_the_same_strips(tmp_path: Path) -> None:
    now = strip_table.of_outcome(table(), outcome([50] * N))
    run = tmp_path / "runs" / "x"
    with pytest.raises(UserError, match=r"^report.against: there is no folder .*/x; allowed: that of a run"):
        change.since_other(run, tmp_path, now, ["a"] * N, {})
    run.mkdir(parents=True)
    with pytest.raises(
        UserError, match=r"^report.against: .*strips.csv does not exist: run `steel report` for .*/x first"
    ):
        change.since_other(run, tmp_path, now, ["a"] * N, {})
    strip_table.save(now.assign(image_id="other.jpg"), run / "report" / strip_table.FILE)
    with pytest.raises(UserError, match="holds out no strip of this run; allowed: runs on the same data"):
        change.since_other(run, tmp_path, now, ["a"] * N, {})
    with pytest.raises(UserError, match="is this very run; allowed: the folder of another one"):
        change.since_other(run, tmp_path / "runs" / "x", now, ["a"] * N, {})
    (run / "report" / strip_table.FILE).write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"is no table of strips .*: delete it, and run `steel report` again"):
        change.since_other(run, tmp_path, now, ["a"] * N, {})


@pytest.mark.parametrize(
    ("gain", "low", "high", "expected"),
    [
        (0.01, 0.005, 0.02, "better than runs/x (0.90000) on the 6 strips of both: +0.01000, 95 % interval "),
        (
            -0.01,
            -0.02,
            0.001,
            "not clearly better or worse than runs/x (0.90000) on the 6 strips of both: -0.01000, 95 ",
        ),
        (-0.01, -0.02, -0.001, "worse than runs/x (0.90000) on the 6 strips of both: -0.01000, 95 % interval "),
        (0.0, 0.0, 0.0, "the same as runs/x (0.90000) on the 6 strips of both."),
    ],
)
def test_in_words(gain: float, low: float, high: float, expected: str) -> None:
    found = change.told(changed(gain, low, high))
    assert found.startswith(expected)
    assert found.endswith(f"% interval {low:+.5f} to {high:+.5f}." if gain else "both.")


def changed(gain: float, low: float, high: float, options: Sequence[Leaf] | None = ()) -> Change:
    one = Difference(0.9, 0.9 + gain, Interval(gain, low, high), 0.8)
    none = Difference(0.9, 0.9, Interval(0.0, float("nan"), float("nan")), float("nan"))
    return Change("runs/x", 6, options, Paired((3, 2, 1, 0), one, (one, one, one, none), one, one))


def test_the_section_has_the_gains_and_the_options_that_differ() -> None:
    new = {"net": "FPN", "encoder": "x" * 60}
    options = [("models.m.ema", 0.5, None), ("models.n", None, new)]
    found = change.section([changed(0.01, -0.01, 0.02, options), changed(0.0, 0.0, 0.0), changed(0.1, 0, 1, None)])
    told = f"models.m.ema 0.5 → –, models.n – → {json.dumps(new)[:60]}…"
    assert found.lead[0].endswith(f" to +0.02000. What differs: {told}.")
    assert found.lead[1].endswith("of both. No option differs.")
    assert found.lead[2].endswith("Its options are not known.")
    gains, differing, *others = found.blocks
    assert isinstance(gains, Numbers) and isinstance(differing, Numbers) and len(others) == 2
    assert gains.rows[0] == ["mean Dice", "6", "0.90000", "0.91000", "+0.01000", "-0.01000 to +0.02000", "80.0 %"]
    assert gains.rows[4] == ["class 4", "0", "0.90000", "0.90000", "+0.00000", "–", "–"]
    assert differing.rows[0] == ["models.m.ema", "0.5", "–"]


def test_what_differs_between_two_solutions() -> None:
    before = {"name": "a", "models": {"m": {"phases": [{"lr": 1.0, "batch": 2}], "tta": ["id", "hflip"]}, "old": {}}}
    now = {"name": "b", "models": {"m": {"phases": [{"lr": 0.5, "batch": 2}], "tta": ["id", "vflip"]}, "new": {"k": 1}}}
    found = options.differing(before, {**now, "report": {"against": "runs/a"}})
    assert found == [
        ("models.m.phases.0.lr", 1.0, 0.5),
        ("models.m.tta", ["id", "hflip"], ["id", "vflip"]),
        ("models.new", None, {"k": 1}),
        ("models.old", {}, None),
    ]
    assert options.told(found).endswith(
        'models.m.tta ["id", "hflip"] → ["id", "vflip"], models.new – → {"k": 1} and 1 more'
    )
    longer = {"models": {"m": {"phases": [{"lr": 1.0, "batch": 2}] * 2}}}
    assert options.differing({"models": {"m": {"phases": []}}}, longer)[0][0] == "models.m.phases"
