"""The gallery: which strips are chosen, and which labels are suspected."""

from dataclasses import replace

import make_table
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from steel.decide.table import Table
from steel.report.gallery.choose import KINDS, Entry, choose, granted, suspects
from steel.report.outcomes import Outcome


def table_of(true_px: NDArray, seen: NDArray | None = None, gate: NDArray | None = None) -> Table:
    """A table of true areas (n, 4), of 1,000 px at the levels `seen` (n, 4) 0..255, of gates (n, 4)."""
    n = len(true_px)
    level = np.zeros((n, 4)) if seen is None else seen
    area_px = (1000 * (np.arange(256) <= level[..., None])).astype(np.int32)
    gate = np.ones((n, 4)) if gate is None else gate
    ids, fold = np.array([f"{i}.jpg" for i in range(n)]), (np.arange(n) % 2).astype(np.int16)
    zeros = np.zeros_like(area_px)
    return make_table.of_areas(ids, fold, true_px.astype(np.int32), area_px, zeros, gate.astype(np.float32))


def column(*values: float, k: int = 0) -> NDArray[np.float64]:
    """(n, 4) with the values in the column of class index k, 0 elsewhere."""
    found = np.zeros((len(values), 4))
    found[:, k] = values
    return found


def no_doubt(_row: int, _k: int) -> float:
    """No map grants anything."""
    return 0.0


def test_each_kind_has_its_own_order() -> None:
    #            hit  hit  hit  hit  missed    in vain    clean
    true = column(100, 100, 100, 100, 500, 900, 0, 0, 0)
    shown = column(100, 100, 100, 100, 0, 0, 300, 800, 0)
    overlap = column(70, 10, 90, 50, 0, 0, 0, 0, 0)
    outcome = Outcome(shown.astype(np.int32), overlap.astype(np.int32))
    table = table_of(true, np.where(true > 0, 255, 0))
    found = choose(table, outcome, no_doubt)
    rows = {kind: [e.row for e in found if kind in e.kinds] for kind in KINDS}
    assert rows == {
        "label?": [],
        "worst": [1, 3],
        "false positive": [7, 6],
        "false negative": [5, 4],
        "best": [2, 0],
    }
    assert found[0] == Entry(1, 0, ("worst",), 0.1, 100, 100)
    assert [e.row for e in choose(table, outcome, no_doubt, 1)] == [1, 7, 5, 2]


#            bear the class, and look it  do not, and do not look it  look as if they had another label
TRUE = column(1000, 1000, 1000, 1000, 0, 0, 0, 0, 1000, 0, 0)
SEEN = column(250, 240, 230, 220, 5, 5, 5, 255, 3, 250, 255)
GATE = column(0.99, 0.95, 0.9, 0.9, 0.02, 0.01, 0.03, 0.1, 0.01, 0.99, 0.999)
SHOWN_PX = np.where(SEEN[:, 0] > 128, 1000, 0).astype(np.int32)


def suspected(
    true: NDArray, seen: NDArray, gate: NDArray | None, shown_px: NDArray, granted: dict[int, float] | None = None
) -> list[int]:
    """Suspects of class index 0; `granted`: what maps grant true masks, 0 where it is not said."""
    return list(suspects(table_of(true, seen, gate), shown_px, 0, lambda row, _: (granted or {}).get(row, 0.0)))


def test_a_label_is_suspected_where_gate_and_map_agree_on_the_contrary() -> None:
    # 10 is surer than 8 (.99 by the gate), then 9 (250 / 255); 7 has the map against its label, but not the gate.
    assert suspected(TRUE, SEEN, GATE, SHOWN_PX) == [10, 8, 9]
    # Without gates the map alone accuses: 7 and 10 by 1, 8 by 252 / 255, 9 by 250 / 255.
    assert suspected(TRUE, SEEN, None, SHOWN_PX) == [7, 10, 8, 9]
    # Nor does the gate alone: with the map of another strip that bears the class, 8 is no suspect.
    seen = SEEN.copy()
    seen[8] = 240
    assert suspected(TRUE, seen, GATE, SHOWN_PX) == [10, 9]


@pytest.mark.parametrize("row", [8, 9, 10])
def test_what_is_shown_must_contradict_the_label_as_well(row: int) -> None:
    shown_px = SHOWN_PX.copy()
    shown_px[row] = 1000 - shown_px[row]
    assert suspected(TRUE, SEEN, GATE, shown_px) == [one for one in (10, 8, 9) if one != row]


@pytest.mark.parametrize(
    ("granted", "expected"),
    [
        (0.01, [10, 8, 9]),  # .99 by the gate is less than 1 - .01 and 252 / 255
        (0.019, [10, 8, 9]),  # 1 - .019 is more than 9's 250 / 255 = .980
        (0.021, [10, 9, 8]),
        (0.49, [10, 9, 8]),
        (0.5, [10, 9]),  # no more than even
        (1.0, [10, 9]),
    ],
)
def test_a_map_that_grants_the_true_mask_speaks_for_its_label(granted: float, expected: list[int]) -> None:
    """Of 9 and 10, which have no true mask, nothing is asked."""
    assert suspected(TRUE, SEEN, GATE, SHOWN_PX, {8: granted, 9: 1.0, 10: 1.0}) == expected


def test_maps_are_asked_late() -> None:
    """Of the three suspects, for the first one no map is read, for the first two one."""
    asked: list[int] = []

    def grants(row: int, _k: int) -> float:
        asked.append(row)
        return 0.0

    found = suspects(table_of(TRUE, SEEN, GATE), SHOWN_PX, 0, grants)
    assert (next(found), asked) == (10, [])
    assert (next(found), asked) == (8, [8])
    assert (list(found), asked) == ([9], [8])


def test_a_small_mask_is_one_that_a_tenth_of_true_masks_do_not_exceed() -> None:
    """Eleven true masks of 100, 200 .. 1,100 px, one of which nothing is seen: the small one has 200."""
    areas = [100 * (i + 1) for i in range(11)]
    true, n = column(*areas, 0, 0), 13
    area_px = np.zeros((n, 4, 256), np.int32)
    area_px[:10, 0, :251] = 1100
    for row, px in ((10, 0), (11, 199), (12, 200)):
        area_px[row, 0, :256] = px
    table = replace(table_of(true), area_px=area_px)
    shown_px = np.array([1] * 10 + [0, 1, 1], np.int32)
    assert list(suspects(table, shown_px, 0, no_doubt)) == [10, 12]  # 11, of 199 px, is not seen


def test_of_timid_models_none_is_suspected_unless_the_contrary_is_likelier_than_not() -> None:
    true, shown_px = column(1000, 1000, 0, 0, 0), np.array([1000] * 5, np.int32)
    # 120 / 255 and 127 / 255 are more than the 60 / 255 of true masks, but less than even.
    assert suspected(true, column(60, 60, 120, 127, 128), None, shown_px) == [4]
    gate = column(0.25, 0.25, 0.5, 0.51, 0.1)
    assert suspected(true, column(255, 255, 255, 255, 255), gate, shown_px) == [3]


def test_of_bold_models_the_contrary_must_be_as_likely_as_it_is_where_it_is_the_label() -> None:
    true, shown_px = column(1000, 1000, 0, 0, 0, 0), np.array([1000] * 6, np.int32)
    seen, gate = column(255, 255, 255, 255, 0, 0), column(1.0, 0.75, 0.875, 0.87, 0.1, 0.1)
    assert suspected(true, seen, gate, shown_px) == [2]  # .875 is the mean of 1 and .75
    # Of labels that it is there: .75 is the mean of .875 and .625.
    true, shown_px = column(1000, 1000, 0, 0, 1000, 1000), np.zeros(6, np.int32)
    seen, gate = column(0, 0, 0, 0, 255, 255), column(0.25, 0.26, 0.125, 0.375, 1.0, 1.0)
    assert suspected(true, seen, gate, shown_px) == [0]


def test_nothing_is_suspected_where_a_class_is_everywhere_or_nowhere() -> None:
    for true_px in (0, 50):
        found = table_of(np.full((5, 4), true_px), np.full((5, 4), 255))
        assert list(suspects(found, np.array([0, 9, 0, 9, 0], np.int32), 2, no_doubt)) == []


def test_a_map_grants_what_a_tenth_of_the_true_mask_reaches() -> None:
    """Of 30 px, 3 reach 153 and 2 reach 204; what lies beside the mask does not count."""
    prob, true = np.full((4, 20), 255, np.uint8), np.zeros((4, 20), bool)
    true[1, :15] = true[2, :15] = True
    prob[true] = 0
    prob[1, :3] = 204, 153, 204
    assert granted(prob, true) == 153 / 255
    assert granted(prob, true & (prob > 153)) == 204 / 255  # of 2 px, 1
    few = np.zeros_like(true)
    few[1, 1:12] = True
    assert granted(prob, few) == 153 / 255  # of 11 px, 2
    assert granted(prob, ~true) == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 255), st.integers(0, 10)),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 5),
)
def test_pairs_are_there_once_and_few(pairs: list[tuple[int, ...]], n_each: int) -> None:
    true, shown, seen, gate = (np.repeat(np.array(values)[:, None], 4, 1) for values in zip(*pairs, strict=True))
    table = table_of(true * 100, seen, gate / 10)
    outcome = Outcome((shown * 100).astype(np.int32), (np.minimum(true, shown) * 100).astype(np.int32))
    found = choose(table, outcome, no_doubt, n_each)
    assert len({(e.row, e.k) for e in found}) == len(found)
    for k in range(4):
        for kind in KINDS:
            assert sum(e.k == k and kind in e.kinds for e in found) <= n_each
    for e in found:
        assert e.kinds
        assert ("false positive" in e.kinds) <= (e.true_px == 0 < e.shown_px)
        assert ("false negative" in e.kinds) <= (e.shown_px == 0 < e.true_px)
        assert ("best" in e.kinds or "worst" in e.kinds) <= (e.true_px > 0 and e.shown_px > 0)
        assert not {"best", "worst"} <= set(e.kinds)
