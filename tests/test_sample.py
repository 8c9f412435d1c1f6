"""The lattice of points against counting every pixel, and the models' correlations by eye."""

import numpy as np
import pytest

from steel.competition import HEIGHT, N_PIXELS, WIDTH
from steel.decide.ensemble import TRANSFORMS, blended
from steel.decide.sample import (
    EVERY,
    LEVELS,
    MAX_POINTS,
    MAX_STRIPS,
    Bag,
    Part,
    Points,
    Sample,
    correlations,
    reduce_strip,
)
from steel.errors import UserError

MAP = (4, HEIGHT, WIDTH)
ONE = Bag("mean", (1,))


def sample_of(strips: list[Points], true_px: list[list[int]], gates: list[np.ndarray] | None = None) -> Sample:
    """All in one fold, 0."""
    return Sample.of(strips, np.zeros(len(strips), np.int16), np.array(true_px, np.int32), gates or [])


def part_of(maps: list[np.ndarray], bits: np.ndarray, k: int = 0) -> Part:
    """Class index k of a single strip."""
    true_px = [[int(np.count_nonzero(bits == 1 << c)) for c in range(4)]]
    return sample_of([reduce_strip(maps, bits)], true_px).parts[k, 0]


def blocks(seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Three models' random values in some blocks, zero elsewhere, and a mask of classes 1 and 3."""
    rng = np.random.default_rng(seed)
    maps = [np.zeros(MAP, np.uint8) for _ in range(3)]
    for one in maps:
        one[0, 50:143, 301:340] = rng.integers(0, 256, (93, 39))
        one[2, 3:17, 1500:] = rng.integers(0, 256, (14, 100))
    bits = np.zeros((HEIGHT, WIDTH), np.uint8)
    bits[60:171, 290:333] = 1
    bits[:9, 1571:] = 4
    return maps, bits


def test_over_all_positions_of_the_lattice_areas_and_overlaps_are_exact() -> None:
    maps, bits = blocks(0)
    area, overlap = np.zeros(len(LEVELS)), np.zeros(len(LEVELS))
    for shift in np.ndindex(EVERY, EVERY):
        moved = [np.roll(one, shift, (1, 2)) for one in maps[:1]]
        part = part_of(moved, np.roll(bits, shift, (0, 1)))
        shown = part.show(ONE)
        area += shown.area_px[:, 0] / EVERY**2
        true = 16 * np.count_nonzero(part.cell // 64 % 2)
        overlap += shown.gain[:, 0] * (shown.area_px[:, 0] + true) / 2 / EVERY**2  # Dice is 2 overlap / (area + true)
    at = maps[0][0] >= LEVELS[:, None, None]
    assert area.tolist() == at.sum((1, 2)).tolist()
    assert overlap == pytest.approx((at & (bits == 1)).sum((1, 2)), abs=1e-9)


@pytest.mark.parametrize("kind", TRANSFORMS)
@pytest.mark.parametrize("k", [0, 2])
def test_a_blend_shows_what_it_shows_on_the_whole_map(kind: str, k: int) -> None:
    maps, bits = blocks(1)
    counts = (3, 0, 2)
    shown = part_of(maps, bits, k).show(Bag(kind, counts))
    whole = blended([one[k] for one in maps], kind, counts)[2::4, 2::4]
    true = (bits == 1 << k)[2::4, 2::4]
    for t, level in enumerate(LEVELS):
        mask = whole >= level
        assert shown.area_px[t].tolist() == [16 * mask.sum()]
        assert shown.gain[t, 0] == pytest.approx(2 * (mask & true).sum() / (mask.sum() + true.sum()))


def test_crowded_strips_are_thinned_out_and_keep_their_area() -> None:
    full = np.full(MAP, 255, np.uint8)
    bits = np.zeros((HEIGHT, WIDTH), np.uint8)
    bits[:, : WIDTH // 2] = 2  # half of the strip
    points = reduce_strip([full], bits)
    assert (points.n <= MAX_POINTS).all() and (points.n > MAX_POINTS // 2).all()
    assert points.n * points.px == pytest.approx([N_PIXELS] * 4)
    shown = part_of([full], bits, 1).show(ONE)
    assert (shown.area_px == N_PIXELS).all()
    assert shown.gain == pytest.approx(2 / 3, abs=0.01)  # half of what is shown: 2 / (2 + 1)


def test_the_more_strips_the_fewer_points_of_each() -> None:
    full, bits = np.full(MAP, 255, np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    few = reduce_strip([full], bits, MAX_STRIPS)
    many = reduce_strip([full], bits, 4 * MAX_STRIPS)
    assert few.n.tolist() == reduce_strip([full], bits).n.tolist()
    assert (many.n <= MAX_POINTS // 4).all() and (many.n > MAX_POINTS // 8).all()
    assert many.n * many.px == pytest.approx([N_PIXELS] * 4)


def test_gains_by_eye() -> None:
    empty, spot = np.zeros(MAP, np.uint8), np.zeros(MAP, np.uint8)
    spot[:, 100:140, 200:240] = 200
    bits = np.zeros((HEIGHT, WIDTH), np.uint8)
    bits[100:140, 200:240] = 1
    clean = np.zeros_like(bits)
    tiny = np.zeros_like(bits)
    tiny[101, 201] = 1  # between the points of the lattice
    strips = [reduce_strip([one], mask) for one, mask in ((spot, bits), (empty, bits), (spot, clean), (spot, tiny))]
    part = sample_of(strips, [[1600, 0, 0, 0], [1600, 0, 0, 0], [0] * 4, [1, 0, 0, 0]]).parts[0, 0]
    shown = part.show(ONE)
    at = LEVELS <= 200
    assert (shown.gain[at] == [1, 0, -1, 0]).all()  # found, missed, false alarm, nothing gained
    assert (shown.gain[~at] == 0).all() and (shown.area_px[at] == [1600, 0, 1600, 1600]).all()


def test_faint_values_are_left_out_and_masks_are_not() -> None:
    faint = np.full(MAP, 7, np.uint8)
    bits = np.zeros((HEIGHT, WIDTH), np.uint8)
    bits[:40, :40] = 8
    assert reduce_strip([faint, faint], bits).n.tolist() == [0, 0, 0, 100]
    faint[1] = 8
    assert reduce_strip([faint, faint * 0], bits).n[:3].tolist() == [0, reduce_strip([faint], bits).n[1], 0]


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_strips_without_points_are_only_counted(kind: str) -> None:
    nothing = reduce_strip([np.zeros(MAP, np.uint8)] * 2, np.zeros((HEIGHT, WIDTH), np.uint8))
    part = sample_of([nothing] * 3, [[0] * 4] * 3, [np.ones((3, 4))]).parts[0, 0]
    assert part.n_images == 3 and part.gate((1,)).shape == (0,)
    assert [array.shape for array in part.show(Bag(kind, (1, 2)))] == [(len(LEVELS), 0)] * 2


def test_parts_hold_their_own_fold_in_order() -> None:
    def strip(value: int, n: int) -> Points:
        return Points(np.full((1, n), value, np.uint8), np.zeros(n, np.bool_), np.array([0, n, 0, 0]), np.full(4, 16.0))

    gate = np.arange(16).reshape(4, 4) / 100
    fold = np.array([3, 1, 3, 3], np.int16)
    one = Sample.of([strip(10, 2), strip(20, 1), strip(30, 0), strip(40, 3)], fold, np.zeros((4, 4), np.int32), [gate])
    assert one.folds == {1, 3} and sorted(one.parts) == [(k, f) for k in range(4) for f in (1, 3)]
    assert one.parts[1, 3].values.tolist() == [[10, 10, 40, 40, 40]]
    assert one.parts[1, 3].cell.tolist() == [0, 0, 128, 128, 128]  # the strip without a point has no place
    assert one.parts[1, 3].rows.tolist() == [0, 3, 2]  # it comes last
    assert one.parts[1, 3].gates.tolist() == [[0.01, 0.13]] and one.parts[1, 3].n_images == 3
    assert one.parts[1, 1].values.tolist() == [[20]] and one.parts[0, 3].values.shape == (1, 0)


def test_gates_by_eye() -> None:
    gates = np.array([[0.25, 0.5], [0.75, 1.0]])
    part = Part(
        np.arange(2), np.zeros((1, 0), np.uint8), np.zeros(0, np.int64), np.ones(2), np.zeros(2, np.int32), gates
    )
    assert part.gate((1, 1)).tolist() == [0.5, 0.75]
    assert part.gate((1, 3)).tolist() == [0.625, 0.875]
    assert part.gate(()).tolist() == [1, 1]


def test_what_does_not_fit_is_refused() -> None:
    one = reduce_strip([np.zeros(MAP, np.uint8)], np.zeros((HEIGHT, WIDTH), np.uint8))
    two = reduce_strip([np.zeros(MAP, np.uint8)] * 2, np.zeros((HEIGHT, WIDTH), np.uint8))
    with pytest.raises(UserError, match=r"strips of \[1, 2\] models"):
        sample_of([one, two], [[0] * 4] * 2)
    for strips, true_px, gates in [([one], [[0] * 4] * 2, []), ([one], [[0] * 4], [np.ones((2, 4))])]:
        with pytest.raises(UserError, match="1 strips for fold, true_px and gates"):
            sample_of(strips, true_px, gates)


def test_correlations_by_eye() -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[100:140, 200:240] = 2
    right, wrong = np.where(mask == 2, 128, 0).astype(np.uint8), np.where(mask == 2, 127, 0).astype(np.uint8)
    finds = [(1, 0, 1, 1), (0, 1, 1, 1), (1, 0, 0, 1), (0, 1, 0, 1)]  # of four models in four strips
    strips = [reduce_strip([np.stack([right if f else wrong] * 4) for f in row], mask) for row in finds]
    gate = np.tile(np.array([0.1, 0.9, 0.2, 0.8])[:, None], (1, 4))
    found = correlations(sample_of(strips, [[0, 1600, 0, 0]] * 4, [gate, 1 - gate, np.ones((4, 4))]))
    none = [[None] * 4] * 4
    by_hand = [[1, -1, 0, None], [-1, 1, 0, None], [0, 0, 1, None], [None] * 4]
    assert found["segmenters"] == {"1": none, "2": by_hand, "3": none, "4": none, "all": by_hand}
    expected = [[1, -1, None], [-1, 1, None], [None] * 3]
    for key in ("1", "2", "3", "4", "all"):
        for row, values in zip(found["gates"][key], expected, strict=True):
            assert [v if v is None else round(v, 12) for v in row] == values
    assert correlations(sample_of(strips, [[0, 1600, 0, 0]] * 4))["gates"]["all"] == []
