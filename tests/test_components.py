"""Components: areas without the small ones, against another library's labels; the rule the same on table and map."""

import make_table
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from steel.decide.components import COMPONENT_LEVELS, COMPONENTS_PX, measure_large, without_small
from steel.decide.ensemble import largest_class
from steel.decide.rule import Rule
from steel.decide.rules import Rules, apply_to_map, apply_to_table
from steel.errors import UserError

SHAPE = (48, 80)
EIGHT = np.ones((3, 3), int)


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A map (4, 48, 80) of soft blobs of some 10 to 1500 px and mask bits (48, 80)."""
    rng = np.random.default_rng(seed)
    soft = scipy.ndimage.gaussian_filter(rng.normal(size=(4, *SHAPE)), (0, 5, 5)) * rng.uniform(0, 15, (4, 1, 1))
    bits = 1 << rng.integers(0, 4) * (scipy.ndimage.gaussian_filter(rng.normal(size=SHAPE), 4) > 0.05)
    return (soft.clip(0, 1) * 255).astype(np.uint8), bits.astype(np.uint8)


def large_by_scipy(shown: np.ndarray, size_px: int) -> np.ndarray:
    label, n = scipy.ndimage.label(shown, EIGHT)
    return np.isin(label, [c for c in range(1, n + 1) if (label == c).sum() >= size_px])


@pytest.mark.parametrize("seed", range(6))
def test_areas_and_overlaps_equal_another_librarys(seed: int) -> None:
    prob, bits = blobs(seed)
    owned = largest_class(prob)
    levels, sizes = (1, 60, 128, 250), (1, 20, 300)
    shown = 0
    for k in range(4):
        true = bits >> k & 1 == 1
        area, overlap = measure_large(owned[k], true, levels, sizes)
        assert area.shape == overlap.shape == (3, 4) and area.dtype == overlap.dtype == np.int32
        for s, size in enumerate(sizes):
            for i, level in enumerate(levels):
                kept = large_by_scipy(owned[k] >= level, size)
                assert area[s, i] == kept.sum()
                assert overlap[s, i] == (kept & true).sum()
                assert ((without_small(owned[k], level, size) >= level) == kept).all()
        assert (area[2] <= area[0]).all()
        shown += area[2].sum()
    assert shown > 0


def test_components_by_eye() -> None:
    values = np.zeros(SHAPE, np.uint8)
    values[2:12, 2:12] = 200  # 100 px
    values[12:14, 12:14] = 150  # 4 px more, by a corner
    values[30:40, 40:49] = 200  # 90 px
    true = np.zeros(SHAPE, bool)
    true[:12], true[30:32] = True, True
    area, overlap = measure_large(values, true, (150, 151), (90, 100, 101))
    assert area.tolist() == [[194, 190], [104, 100], [104, 0]]
    assert overlap.tolist() == [[118, 118], [100, 100], [100, 0]]
    assert without_small(values, 151, 100).sum() == 100 * 200  # what is below the threshold goes too


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 50),
    st.sampled_from(COMPONENT_LEVELS),
    st.sampled_from(COMPONENTS_PX),
    st.integers(0, 2000),
    st.sampled_from([0.0, 0.5, 2.0]),
)
def test_the_rule_is_the_same_on_table_and_map(seed: int, level: int, size: int, area: int, power: float) -> None:
    prob, bits = blobs(seed)
    gate = np.array([0.2, 0.6, 0.9, 1.0], np.float32)
    table = make_table.of_map(prob, bits, gate)
    rules = Rules((Rule(level, area, 0.5, gate_power=power, component_px=size),) * 4)
    masks = apply_to_map(rules, prob, gate, np.zeros(4))
    pred_px, overlap = apply_to_table(rules, table)
    assert pred_px[0].tolist() == masks.sum((1, 2)).tolist()
    assert overlap[0].tolist() == [(mask & (bits >> k & 1 == 1)).sum() for k, mask in enumerate(masks)]


def test_a_table_knows_some_sizes_and_levels() -> None:
    prob, bits = blobs(0)
    table = make_table.of_map(prob, bits, np.ones(4, np.float32))
    with pytest.raises(UserError, match="component_px is 77, allowed: 0, 100, 300, 1000"):
        apply_to_table(Rules((Rule(128, 0, 0.0, component_px=77),) * 4), table)
    with pytest.raises(UserError, match="threshold is 100 with component_px, allowed on a table: 64, 80, 96"):
        apply_to_table(Rules((Rule(100, 0, 0.0, component_px=100),) * 4), table)


@pytest.mark.parametrize("more", [{"product": True}, {"trigger": 200, "trigger_px": 3}])
def test_components_go_with_no_other_map(more: dict) -> None:
    with pytest.raises(UserError, match="component_px is 100 beside trigger_px or product, allowed: 0"):
        Rule(128, 0, 0.0, component_px=100, **more)
