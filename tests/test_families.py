"""Families of rules: their sums against brute force, planted advantages that are adopted, and poisoned folds."""

import json
from dataclasses import asdict, replace

import make_table
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_table import families_of, mean_of
from test_search import planted_table, random_table

from steel.decide.adopt import NOTHING, ClassSearch, gains_of, is_sure
from steel.decide.components import COMPONENT_LEVELS
from steel.decide.families import FAMILIES, LEVELS, PLAIN, Family, family_of
from steel.decide.grid import Column, Grid, default_grid
from steel.decide.held_out import MEASURED
from steel.decide.rule import NEVER_PX, Rule
from steel.decide.rules import apply_to_map
from steel.decide.search import lofo, search
from steel.decide.table import LARGE, Table
from steel.errors import UserError

GRID = Grid((0, 1, 700, 1500, 4999, NEVER_PX), (0.0, 0.1, 0.3, 0.7, 1.0))
TABLE = random_table(60)
SEARCHED = {name: family for name, family in FAMILIES.items() if isinstance(family, Family)}
T = np.arange(256)


def table_of(true_px: np.ndarray, area_px: np.ndarray, gate: np.ndarray) -> Table:
    """A table of n images from true_px (n,), area_px (n, 256) and gate (n,), the same in all classes, in five folds.

    What is shown covers the true mask as far as it goes: overlap is the lesser of both areas.
    """
    n = len(true_px)
    area = np.stack([area_px] * 4, 1).astype(np.int32)
    true = np.stack([true_px] * 4, 1).astype(np.int32)
    overlap = np.minimum(area, true[..., None])
    ids, fold = np.array([f"{i}.jpg" for i in range(n)]), (np.arange(n) // 4 % 5).astype(np.int16)
    return make_table.of_areas(ids, fold, true, area, overlap, np.stack([gate] * 4, 1).astype(np.float32))


def for_hysteresis(n: int = 200) -> Table:
    """True masks of 3000 px are found below 120, 500 px of them up to 240; clean strips show as much, but faint."""
    is_true = np.arange(n) % 2 == 0
    area = np.where(T < 120, 3000, np.where(is_true[:, None], 500, 0) * (T < 240))
    return table_of(3000 * is_true, area, np.ones(n))


def for_soft_gate(n: int = 200) -> Table:
    """Large masks with a low gate and small ones with a high gate are true: area * gate is 900 to 1100 px, else 300."""
    gate = np.random.default_rng(5).uniform(0.1, 1, n)
    is_true = np.arange(n) % 2 == 0
    area = np.where(is_true, np.random.default_rng(6).uniform(900, 1100, n), 300) / gate
    return table_of(area.astype(int) * is_true, area.astype(int)[:, None] * (T < 200), gate)


def for_product(n: int = 200) -> Table:
    """All strips show their 2000 px where value * gate is 50 to 70: below, four times as much; above, a tenth."""
    gate = np.random.default_rng(7).uniform(0.3, 1, n)
    product = T * gate[:, None]
    return table_of(np.full(n, 2000), np.where(product < 50, 8000, np.where(product < 70, 2000, 200)), gate)


def for_component(n: int = 200) -> Table:
    """All strips show 3000 px: the true mask in one piece, or bits of 200 px beside it or where there is none."""
    is_true = np.arange(n) % 2 == 0
    table = table_of(3000 * is_true, np.where(is_true, 4000, 3000)[:, None] * (T < 200), np.ones(n))
    in_pieces = np.array([[4000, 3000], [3000, 0]])[(~is_true).astype(int)]  # (n, 2): without the bits, or with them
    levels = np.array(COMPONENT_LEVELS) < 200
    large = (in_pieces[:, [0, 1, 1]][:, None, :, None] * levels).repeat(4, 1).astype(np.int32)
    return replace(table, large_area_px=large, large_overlap_px=np.minimum(large, table.true_px[:, :, None, None]))


PLANTED = {
    "hysteresis": for_hysteresis,
    "soft_gate": for_soft_gate,
    "product": for_product,
    "component": for_component,
}


@pytest.mark.parametrize("name", SEARCHED)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_sums_equal_applying_the_rule_to_the_table(name: str, data: st.DataObject) -> None:
    sums = SUMS[name]
    point = tuple(data.draw(st.integers(0, size - 1)) for size in sums.shape)
    rule = SEARCHED[name].rule(GRID, point)
    assert sums[point] == pytest.approx(gains_of(TABLE, 3, rule).sum(), abs=1e-9)
    assert Rule(**json.loads(json.dumps(asdict(rule)))) == rule  # Python's numbers, not numpy's


SUMS = {name: family.sums(Column.of(TABLE, 3), GRID) for name, family in SEARCHED.items()}


@pytest.mark.parametrize("name", SEARCHED)
def test_sums_add_up_over_folds(name: str) -> None:
    parts = [SEARCHED[name].sums(Column.of(TABLE, 3, TABLE.fold == fold), GRID) for fold in range(5)]
    assert np.abs(sum(parts) - SUMS[name]).max() < 1e-9


@pytest.mark.parametrize("name", SEARCHED)
def test_a_rule_knows_its_family(name: str) -> None:
    point = tuple(size // 2 for size in SUMS[name].shape)
    assert family_of(SEARCHED[name].rule(GRID, point)) == name


def test_hysteresis_has_its_trigger_above_the_threshold() -> None:
    rules = [SEARCHED["hysteresis"].rule(GRID, (s, t, 2, 0)) for s in range(7) for t in range(len(LEVELS))]
    assert all(rule.threshold < rule.trigger < 255 or rule.threshold > 245 for rule in rules)
    assert (rules[0].threshold, rules[0].trigger) == (4, 4 + 251 // 8)


def test_axes_of_a_grid() -> None:
    grid = default_grid(TABLE)
    assert GRID.passes[[0, 1, 699, 700, 409_600]].tolist() == [1, 2, 2, 3, 5]
    assert grid.coarse.gates == tuple(i / 16 for i in range(16))
    assert grid.coarse.areas_px == grid.areas_px
    assert GRID.coarse == GRID


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_advantage_is_found_adopted_and_worth_it(name: str) -> None:
    table = PLANTED[name]()
    grid = default_grid(table, 16, 8)
    found, plain = lofo(table, grid), lofo(table, grid, (PLAIN,))
    assert {families_of(rules) for rules in found.values()} == {(name,) * 4}
    assert {families_of(rules) for rules in plain.values()} == {(PLAIN,) * 4}
    honest, before = (mean_of(rules, table) for rules in (found, plain))
    assert honest > 0.95  # what was planted separates all strips, at the resolution of the grid
    assert before < honest - 0.03


def test_hysteresis_finds_what_was_planted() -> None:
    table = for_hysteresis()
    rule = search(table, default_grid(table, 32)).classes[0]
    assert isinstance(rule, Rule)
    assert rule.threshold < 120 <= rule.trigger < 240
    assert rule.trigger_px <= 500


def test_what_the_plain_rule_does_perfectly_stays_plain() -> None:
    table = planted_table()
    rules = search(table, default_grid(table, 32, 8))
    assert mean_of(rules, table) == 1
    assert families_of(rules) == (PLAIN,) * 4


@pytest.mark.parametrize(("n_helped", "expected"), [(1, PLAIN), (40, "hysteresis")])
def test_a_gain_within_its_error_is_not_adopted(n_helped: int, expected: str) -> None:
    """Of 200 strips a few are of the kind that hysteresis helps; all others are clean, and show nothing."""
    helped = for_hysteresis()
    is_helped = np.arange(200) < 2 * n_helped  # a true and a clean one of each
    true_px, area_px = helped.true_px[:, 0] * is_helped, helped.area_px[:, 0] * is_helped[:, None]
    table = table_of(true_px, area_px, np.ones(200))
    assert family_of(ClassSearch(table, 0, default_grid(table, 16)).adopt(frozenset(range(5)))) == expected


def from_one_fold() -> Table:
    """Ten strips of fold 0 gain 1 by being shown, one strip of each other fold loses 1; the other 85 show nothing."""
    fold = np.arange(100) // 4 % 5
    first = np.array([np.flatnonzero(fold == f)[0] for f in range(1, 5)])
    is_true = np.isin(np.arange(100), np.flatnonzero(fold == 0)[:10])
    shown = is_true | np.isin(np.arange(100), first)
    return table_of(900 * is_true, np.where(shown[:, None], 900, 0) * (T < 200), np.ones(100))


def test_what_pays_in_one_fold_alone_shows_nothing() -> None:
    """In sample 6 +- 3.7 strips are gained; of those left out, fold 0 shows nothing by the others, and 4 lose."""
    table = from_one_fold()
    one, everywhere = ClassSearch(table, 0, default_grid(table, 16), (PLAIN,)), frozenset(range(5))
    assert gains_of(table, 0, one.best(PLAIN, everywhere)).sum() == 6
    assert one.best(PLAIN, everywhere - {0}) == NOTHING
    assert [gains_of(table, 0, one.best(PLAIN, everywhere - {f}))[table.fold == f].sum() for f in range(1, 5)] == [
        -1
    ] * 4
    assert one.adopt(everywhere) == NOTHING


def test_a_family_that_would_show_nothing_does_not_displace_the_plain_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    table = planted_table()
    one, everywhere = ClassSearch(table, 0, default_grid(table, 16)), frozenset(range(5))
    plain = one.best(PLAIN, everywhere)
    assert plain != NOTHING
    gains = {"empty": -np.ones(9), "hysteresis": np.full(9, 0.2), "component": np.full(9, 0.1)}
    monkeypatch.setattr(one, "_left_out", lambda _: gains)
    one._rules["hysteresis", everywhere] = NOTHING
    assert one.adopt(everywhere) == one.best("component", everywhere)
    one._rules["component", everywhere] = NOTHING
    assert one.adopt(everywhere) == plain


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ((1, 1, 1, 1), True),  # 1 +- 0
        ((1, 1, 0, 0), True),  # .5 +- .29: the deviation .58 by the root of 4
        ((1, 0, 0, 0), False),  # .25 +- .25, as it always is of one alone
        ((1, 1, -1, 0), False),  # .25 +- .48
        ((1,), False),
        ((0, 0, 0, 0), False),  # 0 is not above 0
    ],
)
def test_the_rule_of_one_standard_error(gains: tuple[int, ...], expected: bool) -> None:
    assert is_sure(np.array(gains, float)) is expected


@pytest.mark.parametrize("name", PLANTED)
def test_the_scored_fold_chooses_neither_family_nor_rule(name: str) -> None:
    table = PLANTED[name]()
    grid = default_grid(table, 16, 8)
    honest = lofo(table, grid)
    hit = table.fold == 2
    poisoned = replace(table, **{f: getattr(table, f).copy() for f in (*MEASURED, "gate")})
    rng = np.random.default_rng(9)
    poisoned.area_px[hit] = np.sort(rng.integers(0, 9000, (hit.sum(), 4, 256)))[..., ::-1]
    poisoned.large_area_px[hit] = rng.integers(0, 9000, (hit.sum(), *LARGE))
    poisoned.tail_px[hit] = rng.random((hit.sum(), 4)) * 9000
    for name_of_truth in ("true_px", "overlap_px", "large_overlap_px"):
        getattr(poisoned, name_of_truth)[hit] = 0
    poisoned.gate[hit] = rng.random((hit.sum(), 4))
    changed = lofo(poisoned, grid)
    assert changed[2] == honest[2]
    assert families_of(honest[2]) == (name,) * 4
    assert all(changed[fold] != honest[fold] for fold in (0, 1, 3, 4))  # the poison does work
    if name == "hysteresis":  # strong enough to change the family of others as well
        assert any(families_of(changed[fold]) != families_of(honest[fold]) for fold in (0, 1, 3, 4))


def test_two_folds_leave_nothing_to_choose_a_family_by() -> None:
    table = for_hysteresis()
    two = replace(table, fold=(table.fold % 2).astype(np.int16))
    grid = default_grid(two, 16)
    assert {fold: families_of(rules) for fold, rules in lofo(two, grid).items()} == {0: (PLAIN,) * 4, 1: (PLAIN,) * 4}
    assert families_of(search(two, grid)) == ("hysteresis",) * 4  # here each of the two is left out once
    one = replace(table, fold=np.zeros(len(table), np.int16))
    assert families_of(search(one, grid)) == (PLAIN,) * 4


def test_without_a_classifier_gates_are_not_tried() -> None:
    table = for_hysteresis()
    one = ClassSearch(table, 0, default_grid(table, 16))
    one.adopt(frozenset(range(5)))
    assert {name for name, _ in one._sums} == {PLAIN, "hysteresis", "component"}


def test_an_adopted_rule_shows_the_same_on_maps() -> None:
    """Three strips' maps in place of a table: 3000 px of 110, of which 500 reach 230, or all of them faint."""
    rules = search(for_hysteresis(), default_grid(for_hysteresis(), 32))
    prob = np.zeros((4, 256, 1600), np.uint8)
    prob[1, :30, :100] = 110
    gate = np.ones(4, np.float32)
    assert apply_to_map(rules, prob, gate, np.zeros(4)).sum() == 0
    prob[1, :5, :100] = 230
    assert apply_to_map(rules, prob, gate, np.zeros(4)).sum((1, 2)).tolist() == [0, 3000, 0, 0]


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(UserError, match=r"families: unknown name 'soft'; allowed: plain, hysteresis, soft_gate"):
        lofo(TABLE, GRID, ("soft",))
