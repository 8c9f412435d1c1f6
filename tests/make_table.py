"""Tables for tests: of areas alone (every map one component, nothing lost by uint8), and of a map; what rules do."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from steel.decide.combine import Outputs
from steel.decide.components import COMPONENT_LEVELS, COMPONENTS_PX
from steel.decide.ensemble import Blend
from steel.decide.families import family_of
from steel.decide.held_out import MEASURED, measure_strip
from steel.decide.rules import Rules, apply_to_table
from steel.decide.search import apply_rotated
from steel.decide.table import Table
from steel.metrics import score


def of_areas(
    image_ids: NDArray, fold: NDArray, true_px: NDArray, area_px: NDArray, overlap_px: NDArray, gate: NDArray
) -> Table:
    """A table of maps that are one component each."""
    levels, sizes = list(COMPONENT_LEVELS), np.array(COMPONENTS_PX)[:, None]
    is_large = area_px[:, :, None, levels] >= sizes
    large_px, large_overlap_px = (np.where(is_large, px[:, :, None, levels], 0) for px in (area_px, overlap_px))
    dtype = np.int32
    return Table(
        image_ids=image_ids,
        fold=fold,
        true_px=true_px,
        area_px=area_px,
        overlap_px=overlap_px,
        large_area_px=large_px.astype(dtype),
        large_overlap_px=large_overlap_px.astype(dtype),
        tail_px=np.zeros(true_px.shape),
        gate=gate,
    )


def of_map(prob: NDArray[np.uint8], mask_bits: NDArray[np.uint8], gate: NDArray[np.float32]) -> Table:
    """A table of one image: map (4, H, W), mask bits (H, W) and gates (4,)."""
    record = measure_strip(Outputs([prob], prob.sum((1, 2))[None] / 255), mask_bits, [Blend.equal(1, 0)])[0]
    measured = {name: record[name] for name in MEASURED}
    return Table(np.array(["a.jpg"]), np.zeros(1, np.int16), gate=gate[None], **measured)


def families_of(rules: Rules) -> tuple[str, ...]:
    """The family of each class's rule."""
    return tuple(family_of(rule) for rule in rules.classes)


def mean_of(rules: Rules | Mapping[int, Rules], table: Table) -> float:
    """Mean Dice of a table under rules, or under those of each fold."""
    shown = apply_to_table(rules, table) if isinstance(rules, Rules) else apply_rotated(rules, table)
    return score(shown[0], table.true_px, shown[1]).mean
