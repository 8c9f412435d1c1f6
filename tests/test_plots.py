"""The report's gallery: the strips that are shown, and what is drawn on them."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray

from steel.data.cache import open_strips
from steel.decide.decision import Decision
from steel.decide.ensemble import Blend
from steel.decide.expected import Calibration, ExpectedRule
from steel.decide.rule import NEVER_PX, Rule
from steel.decide.rules import Rules
from steel.decide.table import Table
from steel.paths import Paths
from steel.report.overlay import compare
from steel.report.sheets import extremes, gallery

NAN = float("nan")
NEVER = Rule(128, NEVER_PX, 0.0)


def test_extremes_take_the_classes_in_turn_and_no_strip_twice() -> None:
    values = np.full((9, 4), NAN)
    values[[5, 0, 2], 0] = 0.1, 0.3, 0.2  # of class 1: strips 5, 2, 0
    values[[0, 5], 2] = 0.0, 0.5  # of class 3: strips 0, 5
    values[8, 3] = 0.9
    assert extremes(values) == [5, 0, 8, 2]
    assert extremes(-values) == [0, 5, 8, 2]


def test_extremes_are_six_at_most_and_ties_go_to_the_first() -> None:
    assert extremes(np.zeros((9, 4))) == [0, 1, 2, 3, 4, 5]
    assert extremes(np.full((9, 4), NAN)) == []


def block(k: int) -> NDArray[np.uint8]:
    """(4, 256, 1600): 1,000 px of value 200 in class k."""
    maps = np.zeros((4, 256, 1600), np.uint8)
    maps[k, 100:110, 200:300] = 200
    return maps


@pytest.fixture
def paths(finished: Path, tmp_path: Path) -> Iterator[Paths]:
    """A run of two segmenters, as the working directory.

    On every strip `fpn` sees a block of class 1 and has lost 400 px; `other` sees one of class 3.
    """
    tiny.copy(finished, tmp_path)
    with tiny.within(tmp_path):
        solution = tiny.solution()
        made = Paths(replace(solution, models={**solution.models, "other": solution.models["fpn"]}))
        tiny.copy(made.run / "fpn", made.run / "other")
        for name, k, tail_px in (("fpn", 0, 400), ("other", 2, 0)):
            for fold in range(3):
                folder = made.oof(name, fold)
                tiny.change_maps(folder, lambda *_, k=k: block(k))
                with np.load(folder / "values.npz") as found:
                    values = dict(found)
                sums = np.zeros_like(values["sums"]) + tail_px
                sums[:, k] += 200_000 / 255
                np.savez(folder / "values.npz", **{**values, "sums": sums})
        yield made


def only(k: int, rule: Rule | ExpectedRule) -> Rules:
    """A rule for class index k; the others are never shown."""
    return Rules(tuple(rule if i == k else NEVER for i in range(4)))


def drawn(paths: Paths, table: Table, decision: Decision, row: int) -> int | None:
    """The class index whose block the gallery draws below the truth on a strip; None: no block."""
    strips = open_strips(paths.cache, "train")
    at = strips.image_ids.index(str(table.image_ids[row]))
    assert strips.masks is not None
    true = np.stack([strips.masks[at] >> k & 1 == 1 for k in range(4)])
    picture = gallery(paths, table, decision, [row], np.full((len(table), 4), NAN))
    assert picture.shape == (2 * 36 + 2 * 256 + 4, 1600, 3)
    shows = {k: block(k) > 0 for k in range(4)} | {None: np.zeros((4, 256, 1600), bool)}
    found = [k for k, pred in shows.items() if np.array_equal(picture[72:], compare(strips.images[at], true, pred))]
    assert len(found) == 1
    return found[0]


def test_a_strip_is_drawn_under_the_votes_and_rules_that_did_not_see_it(paths: Paths) -> None:
    table = Table.load(paths.decide / "table.npy")
    fpn, other = (replace(Blend.equal(2, 1), counts=(counts,) * 4) for counts in ((1, 0), (0, 1)))
    anything = Rules((Rule(128, 0, 0.0),) * 4)
    # More than 1,199 px must be expected: the block is 1,000, the tail 400.
    calibration = Calibration((0,) * 200 + (65_535,) * 56, 1.0, -10 * math.log(1200), 0.0, 10.0)
    decision = Decision(
        segmenters=["fpn", "other"],
        gates=["gate"],
        folds=[0, 1, 2],
        blend=Blend.equal(2, 1),  # under which nothing reaches 128
        tuned=only(3, Rule(1, 0, 0.0)),
        fixed=only(3, Rule(1, 0, 0.0)),
        lofo={0: anything, 1: anything, 2: only(0, ExpectedRule(calibration, 200, by_score=True))},
        blends={0: fpn, 1: other, 2: fpn},
    )
    first = [int(np.flatnonzero(table.fold == fold)[0]) for fold in range(3)]
    assert [drawn(paths, table, decision, row) for row in first] == [0, 2, 0]
    shipped = replace(decision, blends={})
    assert [drawn(paths, table, shipped, row) for row in first] == [None, None, None]
    closed = replace(decision, lofo=dict.fromkeys(range(3), Rules((Rule(128, 0, 1.0),) * 4)))
    assert table.gate[first[0]].max() < 1
    assert drawn(paths, table, closed, first[0]) is None


def test_of_a_single_fold_the_parts_have_rules_of_their_own(paths: Paths) -> None:
    """The table's column `fold` names the parts; all strips come from the store of fold 1."""
    whole = Table.load(paths.decide / "table.npy")
    table = whole.subset(whole.fold == 1)
    table = replace(table, fold=(np.arange(len(table)) % 5).astype(np.int16))
    fpn = replace(Blend.equal(2, 1), counts=((1, 0),) * 4)
    shows, nothing = Rules((Rule(128, 0, 0.0),) * 4), Rules((NEVER,) * 4)
    rotated = {part: shows if part == 3 else nothing for part in range(5)}
    decision = Decision(["fpn", "other"], ["gate"], [1], fpn, nothing, shows, rotated)
    assert [drawn(paths, table, decision, row) for row in (2, 3, 4)] == [None, 0, None]
    assert drawn(paths, table, replace(decision, lofo={}), 2) == 0  # of one part, nothing can be left out: fixed rules
