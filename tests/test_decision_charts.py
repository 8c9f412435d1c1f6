"""The section of the decisions: surfaces thinned and marked, gates judged, what ships, what families add."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import drawn
import make_table
import numpy as np
import pytest
from numpy.typing import NDArray

from steel.decide.adopt import NOTHING
from steel.decide.decision import Decision
from steel.decide.ensemble import Blend
from steel.decide.expected import Calibration, ExpectedRule
from steel.decide.rule import NEVER_PX, Rule
from steel.decide.rules import Rules, apply_to_table
from steel.decide.surfaces import Surfaces
from steel.decide.table import Table
from steel.report.charts import decisions as decision_charts
from steel.report.charts import surfaces as surface_charts
from steel.report.outcomes import Outcome
from steel.report.section import Figure, Section

N = 40
FAMILIES: dict[str, Any] = {
    "plain": {"mean": 0.9},
    "hysteresis": {"gain": -0.001, "low": -0.002, "high": 0.0005, "adopted_in": 0, "n_rotations": 20},
    "soft_gate": {"gain": 0.002, "low": 0.0005, "high": 0.004, "adopted_in": 7, "n_rotations": 20},
}


def peak(t: int, a: int, n_area: int = 64) -> NDArray[np.float32]:
    """A surface (255, n_area) that falls from 1 at a point, by .001 for each step."""
    return (1 - 0.001 * (abs(np.arange(255)[:, None] - t) + abs(np.arange(n_area) - a))).astype(np.float32)


@pytest.fixture(scope="module")
def surfaces() -> Surfaces:
    """Choices in the middle, in a corner, at the far edges, and none: a class that is never shown."""
    chosen = np.array([[101, 30], [0, 1], [254, 63], [-1, -1]])
    score = np.stack([*(peak(t, a) for t, a in chosen[:3]), np.full((255, 64), 0.75, np.float32)])
    score[1, 200, 0] = 0.1  # far below all else
    areas_px = np.array([0, *range(32, 32 + 62), NEVER_PX])
    smoothed = score - np.float32(0.01)
    return Surfaces(np.arange(1, 256), areas_px, np.array([0.5, 0.25, 0, 0]), score, smoothed, chosen)


@pytest.fixture(scope="module")
def table() -> Table:
    """Masks of class 1 on the first 10 strips, of class 3 on the even ones; sure gates, but for two of class 3."""
    true_px = np.zeros((N, 4), np.int32)
    true_px[:10, 0], true_px[::2, 2] = 500, 900
    area_px = np.zeros((N, 4, 256), np.int32)
    area_px[:, :, :129] = true_px[:, :, None]
    gate = np.where(true_px > 0, 0.9, 0.2).astype(np.float32)
    gate[1, 2], gate[0, 2] = 0.95, 0.1
    fold = (np.arange(N) % 2).astype(np.int16)
    return make_table.of_areas(np.array([f"{i}.jpg" for i in range(N)]), fold, true_px, area_px, area_px, gate)


def decision(gates: list[str]) -> Decision:
    rules = Rules((Rule(100, 400, 0.5), Rule(128, NEVER_PX, 0.0), Rule(64, 800, 0.7), Rule(128, 0, 1.0)))
    return Decision(["fpn"], gates, [0, 1], Blend.equal(1, len(gates)), rules, rules, {})


def section_of(surfaces: Surfaces, table: Table, gates: list[str], families: dict[str, Any] | None) -> Section:
    made = decision(gates)
    return decision_charts.section(surfaces, table, made, Outcome(*apply_to_table(made.tuned, table)), families)


@pytest.fixture(scope="module")
def gated(surfaces: Surfaces, table: Table) -> Section:
    return section_of(surfaces, table, ["gate"], FAMILIES)


@pytest.fixture(scope="module")
def ungated(surfaces: Surfaces, table: Table) -> Section:
    """Without a gate, and without any family but the plain one."""
    return section_of(surfaces, replace(table, gate=np.ones((N, 4), np.float32)), [], {"plain": {"mean": 0.9}})


def test_it_can_be_drawn(gated: Section, ungated: Section, tmp_path: Path) -> None:
    drawn.check(gated, tmp_path)
    names = {"precision-recall", *(f"surface-class{c}" for c in (1, 2, 3, 4))}
    assert set(drawn.named(gated)) == {*names, "calibration", "families"}
    assert set(drawn.named(ungated)) == names
    drawn.check(replace(ungated, blocks=[drawn.named(ungated)["precision-recall"]]), tmp_path)


def test_a_surface_is_thinned_and_keeps_its_choice(surfaces: Surfaces, gated: Section) -> None:
    figures = drawn.named(gated)
    names = ["any", *map(str, range(32, 94)), "never"]
    for k in range(4):
        cells = drawn.rows(figures[f"surface-class{k + 1}"])
        found = {(round(cell["t"] * 255) - 1, names.index(cell["area"])): cell["dice"] for cell in cells}
        thresholds, areas = ({place[axis] for place in found} for axis in (0, 1))
        assert len(cells) == len(found) == len(thresholds) * len(areas)
        assert 45 <= len(thresholds) <= 64 and 28 <= len(areas) <= 32 and areas >= {0, 63} and thresholds >= {0, 254}
        assert all(dice == pytest.approx(surfaces.score[k][place], abs=1e-5) for place, dice in found.items())
        assert k == 3 or tuple(surfaces.chosen[k]) in found
        edges = sorted({(cell["from"], cell["to"]) for cell in cells})
        assert edges[0][0] == 0 and edges[-1][1] == 1
        assert all(low[1] == high[0] for low, high in pairwise(edges))  # no gap, no overlap
        assert all(cell["from"] <= cell["t"] <= cell["to"] for cell in cells)


def test_the_plateau_is_outlined(gated: Section) -> None:
    """7 thresholds and 2 areas to either side, cut off at the edges; the ring has the values of the choice."""
    figures = drawn.named(gated)
    boxes = []
    for c in (1, 2, 3):
        corners = drawn.rows(figures[f"surface-class{c}"], 1)
        levels = [round(corner["t"] * 255) for corner in corners]
        areas = list(dict.fromkeys(corner["area"] for corner in corners))
        assert len(corners) == 5 and corners[0] | {"place": 4} == corners[4]
        assert len({(level, corner["area"]) for level, corner in zip(levels, corners, strict=True)}) == 4
        assert len(set(levels)) == len(areas) == 2
        boxes.append((min(levels), max(levels), *areas))
    assert boxes == [(95, 109, "59", "63"), (1, 8, "any", "34"), (248, 255, "92", "never")]
    (ring,) = drawn.rows(figures["surface-class1"], 2)
    assert ring["area"] == "61" and ring["t"] == pytest.approx(0.4)
    assert (ring["dice"], ring["mean"]) == (pytest.approx(1), pytest.approx(0.99))
    assert "best plateau at threshold 0.400, area 61 px (ring): 1.0000;" in figures["surface-class1"].title
    assert len(drawn.layers(figures["surface-class2"])) == 3
    assert "Class 4, mean Dice of plain rules: no plain rule gains over nothing;" in figures["surface-class4"].title


OF_THE_CHOICE = Rule(102, 61, 0.5)
HYSTERESIS = Rule(51, 40, 0.5, trigger=204, trigger_px=300)
CALIBRATION = Calibration((0,) * 256, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("k", "rule", "told", "place"),
    [
        (0, OF_THE_CHOICE, "this ships", None),
        (0, replace(OF_THE_CHOICE, min_gate=0.25), "another plain rule ships (diamond)", (0.4, "61")),
        (0, replace(OF_THE_CHOICE, threshold=103), "another plain rule ships (diamond)", (103 / 255, "61")),
        (0, replace(OF_THE_CHOICE, min_area_px=0), "another plain rule ships (diamond)", (0.4, "any")),
        (0, replace(OF_THE_CHOICE, min_area_px=5000), "another plain rule ships (it has no place here)", None),
        (0, HYSTERESIS, "hysteresis ships (diamond)", (0.2, "40")),
        (3, HYSTERESIS, "hysteresis ships (diamond)", (0.2, "40")),
        (0, NOTHING, "what ships shows nothing", None),
        (3, NOTHING, "what ships shows nothing", None),
        (0, ExpectedRule(CALIBRATION, 0, by_score=False), "rank dice ships (it has no place here)", None),
    ],
)
def test_what_ships_is_marked_where_it_has_a_place(
    surfaces: Surfaces, k: int, rule: Rule | ExpectedRule, told: str, place: tuple[float, str] | None
) -> None:
    figure = surface_charts.surface(surfaces, k, rule)
    assert figure.title.endswith(f"; {told}") and figure.description.endswith(f"; {told}.")
    marks = [layer for layer in drawn.layers(figure) if "shape" in layer["encoding"]]
    assert len(marks) == (k == 0) + (place is not None)
    assert all(mark["encoding"]["shape"]["scale"]["domain"] == seen(figure) for mark in marks)
    if place is not None:
        (row,) = drawn.rows(figure, -1)
        assert row["what"] == "what ships" and (row["t"], row["area"]) == (pytest.approx(place[0]), place[1])
        cells = [c for c in drawn.rows(figure) if c["area"] == place[1] and c["t"] == pytest.approx(place[0], abs=5e-4)]
        assert len(cells) == 1  # the surface is not thinned there
        assert row["more"] == ("hysteresis: 300 px reach 0.800" if rule == HYSTERESIS else "plain")


def seen(figure: Figure) -> list[str]:
    """The marks on a surface."""
    found = (row.get("what") for layer in range(len(drawn.layers(figure))) for row in drawn.rows(figure, layer))
    return list(dict.fromkeys(filter(None, found)))


def test_colours_reach_as_far_below_nothing_as_above(gated: Section) -> None:
    """The best is 1. Of class 1 the least is .814; of class 2 nothing shown scores .684, and one point .1."""
    figures = drawn.named(gated)
    one, two, four = (
        drawn.layers(figures[f"surface-class{c}"])[0]["encoding"]["color"]["scale"]["domain"] for c in (1, 2, 4)
    )
    assert one == [pytest.approx(1 - 0.153 - 0.033), 1]
    assert two == [pytest.approx(1 - 2 * (0.254 + 0.062)), 1]
    assert four[0] == 0.75 < four[1] < 0.7501  # a range even where all is the same


def test_what_ships(gated: Section) -> None:
    rows = drawn.tables(gated)[0].rows
    assert rows[0] == ["1", "0.392", "400", "0.500", "", "1.00000", "1.0000", "10", "0", "0"]
    assert rows[1] == ["2", "0.502", "never", "0.000", "", "1.00000", "–", "0", "0", "0"]
    assert rows[2] == ["3", "0.251", "800", "0.700", "", "0.97500", "0.9500", "20", "0", "1"]  # the gate of strip 0


def test_the_gate_is_judged(gated: Section) -> None:
    """Of class 3, strip 1 (clean) comes first, strip 0 (with a mask) last; 19 of 20 masks pass a gate of .7."""
    figures = drawn.named(gated)
    curve = [row for row in drawn.rows(figures["precision-recall"]) if row["class"] == "3"]
    assert [(row["recall"], row["precision"], row["at"]) for row in curve] == [
        (0, 0, 0.95),
        (0.95, 0.95, 0.9),
        (1, 0.5, 0.1),
    ]
    marks = {row["class"]: row for row in drawn.rows(figures["precision-recall"], 1)}
    what = {"what": "what the rule that ships asks of it"}
    assert marks["3"] == what | {"class": "3", "precision": 0.95, "recall": 0.95, "at": pytest.approx(0.7)}
    assert marks["1"] == what | {"class": "1", "precision": 1, "recall": 1, "at": 0.5}
    assert set(marks) == {"1", "3"}  # there are no masks of the others
    bins = [row for row in drawn.rows(figures["calibration"], 1) if row["class"] == "1"]
    assert [(row["prob"], row["share"], row["n"]) for row in bins] == [(0.2, 0, 30), (0.9, 1, 10)]
    assert drawn.layers(figures["calibration"])[2]["encoding"]["size"]["field"] == "n"
    assert "class 1: expected 37.5 %, found 25.0 %" in figures["calibration"].description


@pytest.mark.parametrize(
    ("gates", "rule", "precision", "recall"),
    [
        (["gate"], Rule(64, 0, 0.9), 0.95, 0.95),  # 19 of the 20 masks of class 3, and a clean strip
        (["gate"], Rule(64, 0, 0.1), 0.5, 1),  # all strips
        ([], Rule(64, 900, 0.0), 1, 1),  # all masks have 900 px
        ([], ExpectedRule(CALIBRATION, 0, by_score=False, min_area_px=900), 1, 1),  # at a threshold of 128
    ],
)
def test_what_is_just_reached_passes(
    surfaces: Surfaces, table: Table, gates: list[str], rule: Rule | ExpectedRule, precision: float, recall: float
) -> None:
    made = replace(decision(gates), tuned=Rules((NOTHING, NOTHING, rule, NOTHING)))
    section = decision_charts.section(surfaces, table, made, Outcome(table.true_px, table.true_px), None)
    (mark,) = drawn.rows(drawn.named(section)["precision-recall"], 1)
    assert (mark["class"], mark["precision"], mark["recall"]) == ("3", precision, recall)


def test_without_a_gate_the_area_tells(ungated: Section) -> None:
    """All areas are right: precision 1 up to the last mask, and half the strips have one."""
    figure = drawn.named(ungated)["precision-recall"]
    curve = [row for row in drawn.rows(figure) if row["class"] == "3"]
    assert [(row["recall"], row["precision"], row["at"]) for row in curve] == [(1, 1, 900)]
    assert {row["class"]: row["at"] for row in drawn.rows(figure, 1)} == {"1": 400, "3": 800}
    assert "area" in figure.title


def test_families_by_their_gain(gated: Section, ungated: Section) -> None:
    rows = drawn.rows(drawn.named(gated)["families"], 1)
    assert [(row["family"], row["gain"], row["low"]) for row in rows] == [
        ("soft gate", 0.002, 0.0005),
        ("hysteresis", -0.001, -0.002),
    ]
    asks = "the minimum area grows as the gate closes"
    assert rows[0]["value"] == 0.002
    assert drawn.rows(drawn.named(gated)["families"], 3)[0]["words"] == f"soft gate: {asks}"
    assert drawn.tables(gated)[1].rows[0] == ["soft gate", "+0.00200", "+0.00050 to +0.00400", "7 of 20", asks]
    assert len(drawn.tables(ungated)) == 1
