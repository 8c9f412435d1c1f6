"""Ways of deciding: each with the rules and the table that are its own."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from test_cv import DECISION, rules, table
from test_families import for_hysteresis

from steel.decide import run
from steel.decide.families import PLAIN
from steel.decide.grid import default_grid
from steel.decide.rules import apply_to_table
from steel.decide.search import lofo
from steel.decide.table import Table
from steel.metrics import score
from steel.paths import Paths
from steel.report import run as report_run
from steel.report.outcomes import judge


def perfect(found: Table) -> Table:
    """The same strips under votes whose maps lie on their masks to the pixel."""
    return replace(found, overlap_px=np.minimum(found.area_px, found.true_px[..., None]))


def test_in_sample_is_what_ships_on_its_own_table() -> None:
    """Strips 0 and 2 show 100 px of class 3, 80 on the mask under one kind of votes, 100 under those that ship."""
    found = table()
    ways = judge(found, DECISION, perfect(found))
    assert ways["in_sample"].score(found).mean == 15 / 16
    assert ways["in_sample"].overlap_px[:, 2].tolist() == [100, 0, 100, 0]
    alone = judge(found, DECISION)
    assert alone["in_sample"].overlap_px[:, 2].tolist() == [80, 0, 80, 0]
    for way in ("empty", "fixed", "lofo"):  # nothing else knows of what ships
        assert (ways[way].overlap_px == alone[way].overlap_px).all()
    assert ways["lofo"].overlap_px[:, 2].tolist() == [80, 0, 0, 0]


def test_plain_rules_have_a_score_of_their_own() -> None:
    """By the plain rules fold 0 shows nothing and fold 1 strip 2: the other way round than by those adopted."""
    decision = replace(DECISION, plain={0: rules(201, 0.0), 1: rules(128, 0.0)})
    ways = judge(table(), decision)
    assert list(ways) == ["empty", "fixed", "plain", "lofo", "in_sample"]
    assert ways["plain"].pred_px[:, 2].tolist() == [0, 0, 100, 0]
    assert ways["lofo"].pred_px[:, 2].tolist() == [100, 100, 0, 0]


def test_the_report_reads_what_ships(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotation has votes of its own: the optimistic score is that of the other table."""
    paths = Paths(tiny.solution())
    found, _, decision = run.load(paths.decide)
    other = replace(decision.blend, kinds=("root",) * 4)
    replace(decision, blends={0: other}).save(paths.decide / run.RULES)
    ships = perfect(found)
    ships.save(paths.decide / run.SHIPS)
    before = json.loads((paths.report / "cv.json").read_text())["all"]
    monkeypatch.setattr(report_run, "draw_all", lambda *_: [])
    report_run.make(paths)
    after = json.loads((paths.report / "cv.json").read_text())["all"]
    pred_px, overlap_px = apply_to_table(decision.tuned, ships)
    shipped = score(pred_px, ships.true_px, overlap_px).mean
    assert before.pop("in_sample")["mean"] < shipped == after.pop("in_sample")["mean"]
    assert after == before
    assert copied.is_dir()


def test_plain_rules_fall_short_where_others_are_adopted() -> None:
    """The comparison in cv.json, where hysteresis is adopted in every rotation."""
    planted = for_hysteresis()
    grid = default_grid(planted, 8, 8)
    adopted, plain = lofo(planted, grid), lofo(planted, grid, (PLAIN,))
    ways = judge(planted, replace(DECISION, lofo=adopted, plain=plain))
    assert ways["plain"].score(planted).mean < 0.9 < ways["lofo"].score(planted).mean
