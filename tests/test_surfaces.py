"""Surfaces for the report: the score of each rule, and the point that the search takes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_search import planted_table, random_table

from steel.decide.adopt import smooth
from steel.decide.families import PLAIN
from steel.decide.grid import default_grid, surface
from steel.decide.rule import Rule
from steel.decide.rules import Rules, apply_to_table
from steel.decide.search import search
from steel.decide.surfaces import Surfaces
from steel.metrics import score


def test_each_point_is_the_score_of_its_rule() -> None:
    table = random_table(40)
    grid = default_grid(table, 8, 4)
    found = Surfaces.of(table, grid)
    assert found.score.shape == found.smoothed.shape == (4, 255, 8) and found.areas_px.tolist() == list(grid.areas_px)
    for t, a in ((0, 0), (99, 3), (254, 7)):
        rules = [Rule(int(found.thresholds[t]), int(found.areas_px[a]), float(gate)) for gate in found.min_gate]
        pred_px, overlap_px = apply_to_table(Rules(tuple(rules)), table)
        expected = score(pred_px, table.true_px, overlap_px).class_mean
        assert found.score[:, t, a] == pytest.approx(expected, abs=1e-6)


def test_the_chosen_point_is_that_of_the_search() -> None:
    table = planted_table()
    grid = default_grid(table, 16, 8)
    found = Surfaces.of(table, grid)
    rules = search(table, grid, (PLAIN,))
    for k, rule in enumerate(rules.classes):
        assert isinstance(rule, Rule)
        t, a = found.chosen[k]
        assert (found.thresholds[t], found.areas_px[a], found.min_gate[k]) == (
            rule.threshold,
            rule.min_area_px,
            rule.min_gate,
        )
        assert found.smoothed[k, t, a] == found.smoothed[k].max()
        g = grid.gates.index(found.min_gate[k])
        assert found.smoothed[k] == pytest.approx(smooth(surface(table, k, grid)[1:])[..., g], abs=1e-6)
        assert np.abs(found.smoothed[k] - found.score[k]).max() > 0.01


def test_nothing_is_chosen_where_nothing_gains() -> None:
    table = planted_table()
    clean = replace(table, true_px=np.zeros_like(table.true_px), overlap_px=np.zeros_like(table.overlap_px))
    found = Surfaces.of(clean, default_grid(clean, 8, 4))
    assert (found.chosen == -1).all() and found.score.max() == 1
    hidden = replace(clean, gate=np.full_like(clean.gate, 0.5))  # by a gate of 3/4: the first best point
    assert Surfaces.of(hidden, default_grid(hidden, 8, 4)).min_gate.tolist() == [0.75] * 4


def test_saved_and_loaded(tmp_path: Path) -> None:
    found = Surfaces.of(random_table(20), default_grid(random_table(20), 8, 4))
    for name in ("a.npz", "b.npz"):
        found.save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = Surfaces.load(tmp_path / "a.npz")
    assert all((a == b).all() for a, b in zip(vars(found).values(), vars(again).values(), strict=True))
