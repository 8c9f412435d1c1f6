"""The search against brute force, planted optima, and poisoned labels of the fold that is scored."""

from dataclasses import replace

import make_table
import numpy as np
import pytest
from make_table import mean_of

from steel.competition import N_PIXELS
from steel.decide.adopt import NOTHING, choose, gains_of, is_sure, smooth
from steel.decide.grid import Grid, default_grid, surface
from steel.decide.rule import NEVER_PX, Rule
from steel.decide.rules import Rules, apply_to_table
from steel.decide.search import apply_rotated, lofo, search
from steel.decide.table import Table
from steel.errors import UserError
from steel.metrics import score


def random_table(n: int, seed: int = 0, areas_up_to_px: int = 5000) -> Table:
    """Areas fall with the threshold, overlaps stay below area and truth; 6 in 10 pairs are empty."""
    rng = np.random.default_rng(seed)
    true_px = np.where(rng.random((n, 4)) < 0.4, rng.integers(1, areas_up_to_px, (n, 4)), 0).astype(np.int32)
    area_px = np.sort(rng.integers(0, areas_up_to_px, (n, 4, 256), np.int32))[..., ::-1].copy()
    area_px[rng.random((n, 4)) < 0.2, 100:] = 0
    share = np.sort(rng.random((n, 4, 256)))[..., ::-1]
    overlap_px = (np.minimum(area_px, true_px[..., None]) * share).astype(np.int32)
    return make_table.of_areas(
        np.array([f"{i}.jpg" for i in range(n)]),
        (np.arange(n) % 5).astype(np.int16),
        true_px,
        area_px,
        overlap_px,
        rng.integers(0, 11, (n, 4)).astype(np.float32) / np.float32(10),
    )


def planted_table(n: int = 400) -> Table:
    """True masks of 3000 px are found exactly at thresholds 100..180, with gates of .6 and more.

    Lower thresholds add 3000 wrong pixels, higher ones lose half. Clean images show 800 wrong pixels at every
    threshold with a high gate, or 5000 with a low gate: it takes both an area above 800 and a gate above .4.
    """
    rng = np.random.default_rng(3)
    kind = np.arange(n) % 4  # 0 true, 1 clean and small, 2 clean and gate low, 3 clean and nothing found
    area = np.zeros((n, 256), np.int32)
    area[kind == 0] = np.select([np.arange(256) < 100, np.arange(256) <= 180], [6000, 3000], 1500)
    area[kind == 1], area[kind == 2] = 800, 5000
    gate = np.where(kind == 2, rng.uniform(0, 0.4, n), rng.uniform(0.6, 1, n)).astype(np.float32)
    true = np.where(kind == 0, 3000, 0).astype(np.int32)
    return make_table.of_areas(
        np.array([f"{i}.jpg" for i in range(n)]),
        (np.arange(n) // 4 % 5).astype(np.int16),
        np.stack([true] * 4, 1),
        np.stack([area] * 4, 1),
        np.minimum(np.stack([area] * 4, 1), true[:, None, None]),
        np.stack([gate] * 4, 1),
    )


def mean_of_class(table: Table, k: int, rule: Rule) -> float:
    return score(*_scored(table, Rules((rule,) * 4))).class_mean[k]


def _scored(table: Table, rules: Rules) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pred_px, overlap_px = apply_to_table(rules, table)
    return pred_px, table.true_px, overlap_px


@pytest.mark.parametrize(
    "grid",
    [
        Grid((0, 1, 700, 1500, 4999, NEVER_PX), (0.0, 0.1, 0.3, 0.7, 1.0)),  # .3 and .7 are no float32
        Grid((500,), (0.5,)),
        Grid((0, N_PIXELS), (0.0,)),
    ],
)
def test_surface_equals_brute_force(grid: Grid) -> None:
    table = random_table(40)
    for k in (0, 3):
        scores = surface(table, k, grid)
        assert scores.shape == (256, len(grid.areas_px), len(grid.gates))
        for t in (1, 2, 63, 64, 99, 100, 200, 255):
            for a, area in enumerate(grid.areas_px):
                for g, gate in enumerate(grid.gates):
                    assert scores[t, a, g] == pytest.approx(mean_of_class(table, k, Rule(t, area, gate)), abs=1e-12)


def test_surface_of_nothing_shown_is_the_share_of_clean_images() -> None:
    table = random_table(40)
    scores = surface(table, 1, Grid((0, NEVER_PX), (0.0,)))
    assert scores[:, 1] == pytest.approx((table.true_px[:, 1] == 0).mean(), abs=1e-12)


def test_smooth_equals_the_mean_over_existing_neighbours() -> None:
    scores = np.random.default_rng(0).random((70, 33, 31))  # radius 2, 1 and 0
    smoothed = smooth(scores)
    for t, a, g in [(0, 0, 0), (1, 32, 5), (35, 16, 30), (69, 31, 30), (68, 0, 7)]:
        box = scores[max(t - 2, 0) : t + 3, max(a - 1, 0) : a + 2, g]
        assert smoothed[t, a, g] == pytest.approx(box.mean(), abs=1e-12)


def test_search_finds_the_planted_optimum() -> None:
    table = planted_table()
    rules = search(table, default_grid(table), ("plain",))
    for rule in rules.classes:
        assert isinstance(rule, Rule)
        assert abs(rule.threshold - 140) <= 20  # the middle of 100..180
        assert 800 < rule.min_area_px <= 3000
        assert 0.4 < rule.min_gate <= 0.6
    assert mean_of(rules, table) == 1


def test_a_plateau_beats_a_higher_spike() -> None:
    gains = np.zeros((255, 64, 1))
    gains[200, 50] = 0.4
    gains[80:120, 20:40] = 0.3
    assert choose(gains) in [(99, 29, 0), (99, 30, 0), (100, 29, 0), (100, 30, 0)]  # its centre


@pytest.mark.parametrize("level", [0.0, -0.1, 1e-13])
def test_a_surface_without_a_gain_has_no_best_point(level: float) -> None:
    assert choose(np.full((255, 64, 8), level)) is None


def test_a_class_better_left_out_shows_nothing() -> None:
    table = planted_table()
    truth = ("true_px", "overlap_px", "large_overlap_px")
    clean = replace(table, **{name: np.zeros_like(getattr(table, name)) for name in truth})
    rules = search(clean, default_grid(clean, 16, 8))
    assert rules.classes == (NOTHING,) * 4
    assert not apply_to_table(rules, clean)[0].any()


@pytest.mark.parametrize(("n_found", "n_wrong", "expected"), [(4, 0, True), (2, 1, False), (9, 2, True), (9, 6, False)])
def test_a_few_lucky_masks_are_no_reason_to_show_a_class(n_found: int, n_wrong: int, expected: bool) -> None:
    """A right mask gains 1, a wrong one loses 1: .04 +- .0196, .01 +- .0173, .07 +- .0324, .03 +- .0386 on 100."""
    true_px, area_px = np.zeros((100, 4), np.int32), np.zeros((100, 4, 256), np.int32)
    true_px[:n_found], area_px[: n_found + n_wrong] = 600, 600
    table = replace(
        random_table(100),
        true_px=true_px,
        area_px=area_px,
        overlap_px=np.minimum(area_px, true_px[..., None]),
        gate=np.ones((100, 4), np.float32),
    )
    assert is_sure(gains_of(table, 2, Rule(100, 500, 0.5))) is expected
    assert not is_sure(gains_of(table, 2, NOTHING))


def test_classes_are_searched_on_their_own() -> None:
    table = random_table(60)
    grid = default_grid(table, 16, 8)
    other = table.true_px.copy()
    other[:, 1:] = 7
    assert search(replace(table, true_px=other), grid).classes[0] == search(table, grid).classes[0]


def test_lofo_never_sees_the_fold_it_scores() -> None:
    table = planted_table(100)
    grid = default_grid(table, 16, 8)
    honest = lofo(table, grid, ("plain",))  # more families: test_families
    rng = np.random.default_rng(9)
    for fold in range(5):
        hit = table.fold == fold
        shape = (hit.sum(), 4, 256)
        poisoned = replace(table, **{f: getattr(table, f).copy() for f in ("true_px", "area_px", "overlap_px", "gate")})
        poisoned.true_px[hit] = rng.integers(0, 9, shape[:2])
        poisoned.area_px[hit] = rng.integers(0, 400_000, shape)
        poisoned.overlap_px[hit] = 0
        poisoned.gate[hit] = 1
        changed = lofo(poisoned, grid, ("plain",))
        assert changed[fold] == honest[fold]
        assert all(changed[f] != honest[f] for f in range(5) if f != fold)  # the poison does work


def test_lofo_applies_each_rule_to_its_own_fold() -> None:
    table = random_table(100)
    rotated = lofo(table, default_grid(table, 16, 8))
    assert sorted(rotated) == [0, 1, 2, 3, 4]
    shown = apply_rotated(rotated, table)
    for fold, rules in rotated.items():
        rows = table.fold == fold
        for found, expected in zip(shown, apply_to_table(rules, table), strict=True):
            assert (found[rows] == expected[rows]).all()


def test_a_rotation_equals_a_search_on_the_other_folds_alone() -> None:
    table = random_table(100)
    grid = default_grid(table, 16, 8)
    found = lofo(table, grid)
    for fold in range(2):
        assert found[fold] == search(table.subset(table.fold != fold), grid)


def test_lofo_needs_two_folds() -> None:
    table = random_table(10)
    with pytest.raises(UserError, match=r"folds \[0\], allowed: at least two"):
        lofo(table.subset(table.fold == 0), default_grid(table))


def test_default_grid() -> None:
    table = random_table(10)
    grid = default_grid(table)
    assert (len(grid.areas_px), len(grid.gates)) == (64, 64)
    assert grid.areas_px[:2] == (0, 32) and grid.areas_px[-2:] == (30_000, NEVER_PX)
    assert (grid.gates[0], grid.gates[32]) == (0.0, 0.5)
    assert default_grid(replace(table, gate=np.ones((10, 4), np.float32))).gates == (0.0,)


@pytest.mark.parametrize(
    ("areas_px", "gates"),
    [
        ((), (0.0,)),
        ((0,), ()),
        ((5, 5), (0.0,)),
        ((-1, 3), (0.0,)),
        ((0, NEVER_PX + 1), (0.0,)),
        ((0,), (0.5, 0.2)),
        ((0,), (1.5,)),
    ],
)
def test_bad_grids_are_refused(areas_px: tuple, gates: tuple) -> None:
    with pytest.raises(UserError, match=r"grid: .*allowed"):
        Grid(areas_px, gates)


def test_an_empty_table_is_refused() -> None:
    table = random_table(10)
    with pytest.raises(UserError, match="no images"):
        search(table.subset(np.zeros(10, bool)), default_grid(table))
