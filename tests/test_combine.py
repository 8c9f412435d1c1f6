"""The ensemble of one strip: its map, and what uint8 has lost of it."""

from dataclasses import replace

import numpy as np
import pytest

from steel.decide.combine import Outputs
from steel.decide.components import COMPONENT_LEVELS, COMPONENTS_PX
from steel.decide.ensemble import TRANSFORMS, Blend, blended
from steel.decide.held_out import measure_strip

SHAPE = (4, 20, 30)


def faint(level: int, lost_px: float) -> tuple[np.ndarray, np.ndarray]:
    """A map of one value throughout, and the sums of probabilities of which uint8 has lost some pixels' worth."""
    maps = np.full(SHAPE, level, np.uint8)
    return maps, np.full(4, 600 * level / 255 + lost_px)


def outputs(*models: tuple[np.ndarray, np.ndarray]) -> Outputs:
    return Outputs([maps for maps, _ in models], np.stack([sums for _, sums in models]))


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_the_tail_is_what_the_models_own_maps_have_lost(kind: str) -> None:
    """Two models of values 0 and 1: their mean is rounded up everywhere, which loses nothing and finds nothing."""
    blend = replace(Blend.equal(2, 0), kinds=(kind,) * 4)
    _, tail_px = outputs(faint(0, 145), faint(1, 5)).combine(blend)
    assert tail_px == pytest.approx([75] * 4)


def test_the_tail_follows_the_votes() -> None:
    blend = replace(Blend.equal(2, 0), counts=((1, 1), (1, 0), (0, 1), (3, 1)))
    prob, tail_px = outputs(faint(200, 40), faint(7, 8)).combine(blend)
    assert tail_px == pytest.approx([24, 40, 8, 32])
    assert prob[:, 0, 0].tolist() == [104, 200, 7, 152]  # 103.5 goes up; 607 / 4 = 151.75


def test_a_tail_is_never_negative() -> None:
    _, tail_px = outputs(faint(3, -6)).combine(Blend.equal(1, 0))
    assert tail_px.tolist() == [0] * 4


def test_a_second_blend_of_the_same_strip_is_as_if_it_were_the_first() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 256, SHAPE, np.uint8) for _ in range(3)]
    both, sums = Outputs(maps, np.zeros((3, 4))), np.zeros((3, 4))
    even = Blend.equal(3, 0)
    other_counts = replace(even, counts=((1, 1, 1), (0, 2, 1), (1, 0, 0), (1, 1, 1)))
    blends = [even, other_counts, replace(even, kinds=("logit", "mean", "root", "square"))]
    for blend in blends:
        classes = zip(blend.kinds, blend.counts, zip(*maps, strict=True), strict=True)
        expected = np.stack([blended(planes, kind, counts) for kind, counts, planes in classes])
        assert (both.combine(blend)[0] == expected).all() and (Outputs(maps, sums).combine(blend)[0] == expected).all()


def test_components_of_a_second_blend_are_its_own() -> None:
    """The second sees the whole map of class 2, of which class 1 takes the better half in the first."""
    first, second = np.zeros((2, *SHAPE), np.uint8)
    first[1] = second[1] = 200
    first[0, :, 15:] = 250
    blends = [replace(Blend.equal(2, 0), counts=(counts, (1, 0), (1, 0), (1, 0))) for counts in ((1, 0), (0, 1))]
    outputs, bits = Outputs([first, second], np.zeros((2, 4))), np.full(SHAPE[1:], 2, np.uint8)
    large = [record["large_area_px"][0, 1, 1, 4] for record in measure_strip(outputs, bits, blends)]
    assert (COMPONENTS_PX[1], COMPONENT_LEVELS[4], large) == (300, 128, [300, 600])
