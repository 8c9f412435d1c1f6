"""Families of rules by expected score: their sums, planted advantages, poisoned folds, maps and files."""

import json
from dataclasses import replace
from typing import Any

import make_table
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from make_table import families_of, mean_of
from test_search import random_table

from steel.competition import N_PIXELS
from steel.decide import calibrate
from steel.decide.adopt import NOTHING, ClassSearch, gains_of
from steel.decide.expected import ONE, Calibration, Expectation, ExpectedRule
from steel.decide.families import FAMILIES, LEVELS, PLAIN, CalibratedFamily, family_of
from steel.decide.grid import Column, Grid, default_grid
from steel.decide.held_out import MEASURED
from steel.decide.rule import NEVER_PX, Rule
from steel.decide.rules import Rules, apply_to_map, apply_to_table
from steel.decide.search import lofo, search
from steel.decide.table import LARGE, Table
from steel.errors import UserError

GRID = Grid((0, 1, 700, 1500, 4999, NEVER_PX), (0.0, 0.1, 0.3, 0.7, 1.0))
CALIBRATED = {name: family for name, family in FAMILIES.items() if isinstance(family, CalibratedFamily)}
RANDOM = random_table(60)
Kind = dict[int, tuple[int, int]]  # value to its pixels, and how many of them are in the mask of a strip that has one

# Of both, 95 of 100 px of value 200 are in the mask, and 1 of 5 of value 60. The Dice of a strip that has one:
# a sharp one's core scores 5700 / 6450 = .884, with its halo 6900 / 9450 = .730;
# a faint one's core scores 570 / 6585 = .087, with all that is faint 12570 / 36585 = .344.
SHARP: Kind = {200: (3000, 2850), 60: (3000, 600)}
FAINT: Kind = {200: (300, 285), 60: (30_000, 6000)}
# A clear one's core scores 5700 / 5850 = .974. A veiled one's scores 9500 / 21750 = .437, as most of its mask is in the
# veil, of which 12 in 100 px are: too few to show.
CLEAR: Kind = {200: (3000, 2850)}
VEILED: Kind = {200: (5000, 4750), 20: (100_000, 12_000)}


def planted(kinds: list[Kind], gates: list[float]) -> Table:
    """Of each kind and gate 100 strips, as many tenths with a mask as the gate says; each fold has its share of all."""
    strips = [(kind, gate, i) for kind in kinds for gate in gates for i in range(100)]
    has = np.array([i % 10 < round(10 * gate) for _, gate, i in strips])
    area, overlap = np.zeros((2, len(strips), 256), np.int64)
    for row, (kind, _, _) in enumerate(strips):
        for value, (n_px, n_hit) in kind.items():
            area[row, : value + 1] += n_px
            overlap[row, : value + 1] += n_hit * has[row]
    area[:, 0] = N_PIXELS
    true_px, area_px, overlap_px = (np.stack([px] * 4, 1).astype(np.int32) for px in (overlap[:, 0], area, overlap))
    gate_of = np.array([[gate] * 4 for _, gate, _ in strips], np.float32)
    ids, fold = np.array([str(i) for i in range(len(strips))]), np.array([i // 10 % 5 for *_, i in strips], np.int16)
    return make_table.of_areas(ids, fold, true_px, area_px, overlap_px, gate_of)


# What a strip gains by being shown is P * Dice - (1 - P). All figures per strip of one kind and one gate.
PLANTED = {
    # Each kind has a threshold of its own: sharp .9 * .884 - .1 = .695 and faint .209, in place of .557 and .209 at 60.
    "rank_dice": (planted([SHARP, FAINT], [0.1, 0.9]), 0.1381 / 4),
    # At a gate of .6 the clear ones are worth it, and the veiled ones are not: .6 * .437 - .4 = -.138.
    "expected": (planted([CLEAR, VEILED], [0.3, 0.6, 0.9]), 0.1379 / 6),
    # Both: at a gate of .6 sharp cores are worth .130, at .9 .695; faint ones are worth .209 at .9, and -.194 at .6.
    # The plain rule gets the first two alone.
    "rank_expected": (planted([SHARP, FAINT], [0.3, 0.6, 0.9]), 0.2092 / 6),
}


def calibration_of(table: Table, k: int = 3) -> Calibration:
    found = calibrate.fit(table.evidence(k), table.true_px[:, k], table.overlaps(k))
    assert found is not None
    return found


CALIBRATION = calibration_of(RANDOM)


def sums(name: str, rows: np.ndarray) -> np.ndarray:
    expected = Expectation.of(CALIBRATION, RANDOM.evidence(3)).subset(rows)
    return CALIBRATED[name].sums(Column.of(RANDOM, 3, rows), expected, GRID)


@pytest.mark.parametrize("name", CALIBRATED)
def test_sums_equal_applying_the_rule_to_the_table(name: str) -> None:
    found = sums(name, np.ones(60, bool))
    for point in np.ndindex(found.shape):
        rule = CALIBRATED[name].rule(CALIBRATION, GRID, point)
        assert found[point] == pytest.approx(gains_of(RANDOM, 3, rule).sum(), abs=1e-9)
        assert family_of(rule) == name
    assert found.shape == {"rank_dice": (1, 6, 5), "expected": (63,), "rank_expected": (1,)}[name]


@pytest.mark.parametrize("name", CALIBRATED)
def test_sums_of_one_calibration_add_up_over_folds(name: str) -> None:
    parts = [sums(name, RANDOM.fold == fold) for fold in range(5)]
    assert np.abs(sum(parts) - sums(name, np.ones(60, bool))).max() < 1e-9


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_advantage_is_found_adopted_and_worth_what_it_should(name: str) -> None:
    table, gain = PLANTED[name]
    grid = default_grid(table, 16, 8)
    found, plain = lofo(table, grid, (name,)), lofo(table, grid, (PLAIN,))
    assert {families_of(rules) for rules in found.values()} == {(name,) * 4}
    honest, before = (mean_of(rules, table) for rules in (found, plain))
    assert honest - before == pytest.approx(gain, abs=1e-4)


def test_what_was_planted_is_calibrated() -> None:
    found = calibration_of(PLANTED["expected"][0])
    p = np.array(found.pixel)[[0, 20, 60, 200]] / ONE
    assert p == pytest.approx([0, 0.12, 0.12 + 0.83 * 40 / 180, 0.95], abs=1e-5)
    gate, area = found.gate, found.area
    assert gate == pytest.approx(1, abs=0.05) and abs(area) < 0.05  # the gate is a probability, whatever the map shows


def test_own_thresholds_are_those_planted() -> None:
    table, _ = PLANTED["rank_dice"]
    rule = search(table, default_grid(table, 16, 8), ("rank_dice",)).classes[0]
    assert isinstance(rule, ExpectedRule)
    level = rule.level(table.evidence(0)).reshape(2, 2, 100)  # kind, gate, strip
    assert (level[:, 0] == 256).all()  # hidden by their gate
    assert (level[:, 1] == np.array([[61], [1]])).all()  # the lowest level of the same mask


@pytest.mark.parametrize("name", PLANTED)
def test_the_scored_fold_teaches_nothing(name: str) -> None:
    table, _ = PLANTED[name]
    grid = default_grid(table, 8, 4)
    honest, hit = lofo(table, grid, (name,)), table.fold == 2
    poisoned = replace(table, **{f: getattr(table, f).copy() for f in (*MEASURED, "gate")})
    rng, n = np.random.default_rng(9), hit.sum()
    poisoned.area_px[hit] = np.sort(rng.integers(0, 9000, (n, 4, 256)))[..., ::-1]
    poisoned.overlap_px[hit] = poisoned.area_px[hit] // 3
    poisoned.true_px[hit] = poisoned.overlap_px[hit, :, 0] * (rng.random((n, 4)) < 0.5)
    poisoned.large_area_px[hit], poisoned.large_overlap_px[hit] = rng.integers(0, 9000, (2, n, *LARGE))
    poisoned.tail_px[hit] = rng.random((n, 4)) * 9000
    poisoned.gate[hit] = rng.random((n, 4))
    changed = lofo(poisoned, grid, (name,))
    assert changed[2] == honest[2]
    assert families_of(honest[2]) == (name,) * 4
    assert all(changed[fold] != honest[fold] for fold in (0, 1, 3, 4))  # the poison does work
    before, after = (ClassSearch(of, 0, grid, (name,))._calibrate for of in (table, poisoned))
    for folds, touched in (({0, 1, 3, 4}, False), ({3, 4}, False), ({0, 1, 2, 3}, True), ({2}, True)):
        assert (after(frozenset(folds)) != before(frozenset(folds))) is touched


def test_a_rotation_equals_a_search_on_the_other_folds_alone() -> None:
    table, _ = PLANTED["rank_expected"]
    grid = default_grid(table, 8, 4)
    assert lofo(table, grid)[3] == search(table.subset(table.fold != 3), grid)


@pytest.mark.parametrize("name", CALIBRATED)
def test_what_is_hardly_ever_there_is_not_shown(name: str) -> None:
    table = planted([FAINT], [0.1])
    assert ClassSearch(table, 0, default_grid(table, 8, 4), (name,)).best(name, frozenset(range(5))) == NOTHING


@pytest.mark.parametrize("name", CALIBRATED)
def test_what_cannot_be_calibrated_shows_nothing(name: str) -> None:
    """A mask in each of five folds: four of them, without any one fold, are too few."""
    table, _ = PLANTED["rank_dice"]
    has = table.true_px[:, 0] > 0
    few = table.subset(np.concatenate([np.flatnonzero(~has)[:40], np.flatnonzero(has)[:5]]))
    few = replace(few, fold=(np.arange(45) % 5).astype(np.int16))
    search = ClassSearch(few, 0, default_grid(few, 8, 4), (name,))
    assert search._calibrate(frozenset(range(5))) is not None
    assert search._calibrate(frozenset(range(4))) is None
    assert search.best(name, frozenset(range(4))) == NOTHING


def calibrations(draw: st.DrawFn) -> Calibration:
    pixel = sorted(draw(st.lists(st.integers(0, ONE), min_size=256, max_size=256)))
    weights = st.floats(-2, 2)
    return Calibration(tuple(pixel), draw(st.floats(0, 3)), draw(weights), draw(weights), draw(weights))


@st.composite
def any_rule(draw: st.DrawFn) -> ExpectedRule:
    calibration, by_score = calibrations(draw), draw(st.booleans())
    minima = (0, 0.0) if by_score else (draw(st.integers(0, 40)), draw(st.sampled_from([0.0, 0.5, 0.7])))
    return ExpectedRule(calibration, draw(st.sampled_from([0, 0, 1, 100, 255])), by_score, *minima)


MAP = hnp.arrays(np.uint8, (4, 6, 10), elements=st.sampled_from([0, 1, 40, 99, 100, 180, 255]))


@settings(max_examples=40, deadline=None)
@given(MAP, hnp.arrays(np.uint8, (6, 10), elements=st.integers(0, 15)), st.data())
def test_table_and_map_agree(prob: np.ndarray, mask_bits: np.ndarray, data: st.DataObject) -> None:
    rule = data.draw(any_rule())
    rules = Rules((rule, Rule(100, 5, 0.5), replace(rule, threshold=0), rule.opened()))
    gate = np.array(data.draw(st.tuples(*[st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0])] * 4)), np.float32)
    tail_px = np.array(data.draw(st.tuples(*[st.floats(0, 50)] * 4)))
    masks = apply_to_map(rules, prob, gate, tail_px)
    true = np.stack([mask_bits >> k & 1 == 1 for k in range(4)])
    table = replace(make_table.of_map(prob, mask_bits, gate), tail_px=tail_px[None])
    pred_px, overlap_px = apply_to_table(rules, table)
    assert pred_px.tolist() == [masks.sum((1, 2)).tolist()]
    assert overlap_px.tolist() == [(masks & true).sum((1, 2)).tolist()]


@pytest.mark.parametrize("name", PLANTED)
def test_adopted_rules_show_on_maps_what_they_show_on_the_table(name: str) -> None:
    """A map of class 3 for one strip of each kind and gate, made of its areas."""
    table, _ = PLANTED[name]
    rules = search(table, default_grid(table, 16, 8), (name,))
    assert Rules.from_json(json.loads(json.dumps(rules.to_json()))) == rules  # Python's numbers, not numpy's
    pred_px, _ = apply_to_table(rules, table)
    assert len(set(pred_px[:, 2])) > 2  # nothing, and masks of both kinds
    for row in range(0, len(table), 100):
        prob = np.zeros((4, N_PIXELS), np.uint8)
        n_px = table.area_px[row, 2] - np.append(table.area_px[row, 2, 1:], 0)  # of each value
        prob[2] = np.repeat(np.arange(256, dtype=np.uint8), n_px)
        masks = apply_to_map(rules, prob.reshape(4, 256, 1600), table.gate[row], table.tail_px[row])
        assert masks.sum((1, 2)).tolist() == [0, 0, pred_px[row, 2], 0]


@settings(max_examples=15, deadline=None)
@given(any_rule())
def test_rules_survive_a_file(rule: ExpectedRule) -> None:
    rules = Rules((rule, NOTHING, rule.opened(), Rule(100, 5, 0.5, product=True)))
    assert Rules.from_json(json.loads(json.dumps(rules.to_json()))) == rules


RULE = ExpectedRule(CALIBRATION, 0, by_score=True)
GOOD: dict[str, dict[str, Any]] = Rules((RULE,) * 4).to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 300}, "rules.json: class 2: rule: threshold is 300, allowed: a whole number 0..255"),
        ({"trigger": 5}, r"rules.json: class 2: fields .*trigger.*allowed: \['calibration', 'threshold', 'by_score'"),
        ({"calibration": None}, "rules.json: class 2: calibration: fields NoneType, allowed"),
        ({"calibration": {"pixel": [1]}}, r"class 2: calibration: fields \['pixel'\], allowed: \['pixel', 'tail'"),
        ({"calibration": {**GOOD["2"]["calibration"], "pixel": [1]}}, r"pixel is \(1,\), allowed: 256 whole numbers"),
        ({"calibration": {**GOOD["2"]["calibration"], "tail": -1}}, "tail is -1, allowed: a number >= 0"),
    ],
)
def test_bad_files_are_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Rules.from_json({**GOOD, "2": {**GOOD["2"], **change}}, "rules.json")


def test_opened_hides_nothing() -> None:
    evidence = RANDOM.evidence(3)
    for rule in (
        RULE,
        ExpectedRule(CALIBRATION, 0, False, NEVER_PX, 1.0),
        ExpectedRule(CALIBRATION, 77, by_score=True),
    ):
        assert (rule.level(evidence) == 256).any()
        assert (rule.opened().level(evidence) < 256).all()
        assert rule.opened().threshold == rule.threshold


def test_thresholds_of_the_expected_family() -> None:
    rules = [CALIBRATED["expected"].rule(CALIBRATION, GRID, (i,)) for i in range(63)]
    assert [rule.threshold for rule in rules] == LEVELS.tolist()
    assert all(rule.by_score for rule in rules)
