"""Means over models against sums in Python and by eye, the blend's file, and the largest-class step."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from steel.decide import ensemble
from steel.decide.combine import Outputs
from steel.decide.ensemble import SCALE, TRANSFORMS, Blend, blended, largest_class, mean_gate, winner
from steel.errors import UserError

SHAPE = (4, 3, 5)
LEVELS = st.integers(0, 255)
maps_of_one_shape = st.lists(hnp.arrays(np.uint8, SHAPE, elements=LEVELS), min_size=1, max_size=5)
KINDS = st.sampled_from(list(TRANSFORMS))


def flat(*values: int) -> np.ndarray:
    """A map that holds these values, one per class, everywhere."""
    return np.broadcast_to(np.array(values, np.uint8)[:, None, None], SHAPE).copy()


def columns(maps: list[np.ndarray]) -> list[list[int]]:
    """The values of each pixel over the maps."""
    return [[int(v) for v in column] for column in np.stack([m.ravel() for m in maps], 1)]


def half_up(mean: Fraction) -> int:
    return int(mean + Fraction(1, 2))  # the part after the point is cut off


def mean_map(maps: list[np.ndarray], blend: Blend | None = None) -> np.ndarray:
    return Outputs(maps, np.zeros((len(maps), 4))).combine(blend or Blend.equal(len(maps), 0))[0]


def plane(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


def counts_for(n: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(0, 9), min_size=n, max_size=n).filter(any).map(tuple)


@given(maps_of_one_shape)
def test_the_mean_of_all_is_the_exact_mean_rounded_half_up(maps: list[np.ndarray]) -> None:
    expected = [half_up(Fraction(sum(column), len(maps))) for column in columns(maps)]
    assert mean_map(maps).ravel().tolist() == expected
    assert mean_map(maps, Blend.equal(len(maps), 2)).tobytes() == mean_map(maps).tobytes()
    assert (
        mean_map(maps, Blend(("mean",) * 4, ((3,) * len(maps),) * 4, ((),) * 4)).tobytes() == mean_map(maps).tobytes()
    )


@given(maps_of_one_shape, st.data())
def test_counts_give_the_exact_mean_rounded_half_up(maps: list[np.ndarray], data: st.DataObject) -> None:
    counts = data.draw(counts_for(len(maps)))
    sums = [sum(c * v for c, v in zip(counts, column, strict=True)) for column in columns(maps)]
    assert blended(maps, "mean", counts).ravel().tolist() == [half_up(Fraction(s, sum(counts))) for s in sums]


@given(maps_of_one_shape, st.data())
def test_squares_give_the_exact_root_mean_square_rounded_half_up(maps: list[np.ndarray], data: st.DataObject) -> None:
    counts = data.draw(counts_for(len(maps)))
    for column, found in zip(columns(maps), blended(maps, "square", counts).ravel().tolist(), strict=True):
        mean = Fraction(sum(c * v**2 for c, v in zip(counts, column, strict=True)), sum(counts))
        assert max(2 * found - 1, 0) ** 2 <= 4 * mean < (2 * found + 1) ** 2  # from found - 1/2 on, but from 0


@given(maps_of_one_shape, KINDS, st.data())
def test_every_kind_is_the_mean_of_its_whole_levels(maps: list[np.ndarray], kind: str, data: st.DataObject) -> None:
    counts = data.draw(counts_for(len(maps)))
    whole = [round(SCALE * TRANSFORMS[kind](v / 255)) for v in range(256)]
    middle = [SCALE * TRANSFORMS[kind]((u + 0.5) / 255) for u in range(255)]  # from it on, a mean is of level u + 1
    for column, found in zip(columns(maps), blended(maps, kind, counts).ravel().tolist(), strict=True):
        mean = Fraction(sum(c * whole[v] for c, v in zip(counts, column, strict=True)), sum(counts))
        assert found == 0 or mean >= middle[found - 1] - 1e-6
        assert found == 255 or mean < middle[found] + 1  # an edge is the next whole number


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_tables_are_the_same_on_every_machine_and_fine_enough(kind: str) -> None:
    transform = TRANSFORMS[kind]
    exact = [SCALE * transform(v / 255) for v in range(256)]
    # Logarithms may differ in their last bits between libraries: no level may be as near to where rounding turns.
    assert min(abs(value % 1 - 0.5) for value in exact) > 1e-4
    edges = [round(SCALE * transform((u - 0.5) / 255), 6) % 1 for u in range(1, 256)]
    assert all(rest == 0 or 1e-4 < rest < 1 - 1e-4 for rest in edges)
    levels, back = ensemble._tables(kind)
    assert (np.diff(levels) > 0).all() and levels[0] >= 0 and levels[-1] <= SCALE
    assert back[levels].tolist() == list(range(256))
    if kind in ("logit", "root"):  # exact in the others
        assert np.diff(levels).min() > 250  # so that half a unit is 1/500 of a level, and a whole one 1/250


def test_the_short_way_of_the_mean_is_that_of_its_table() -> None:
    planes = [np.arange(256, dtype=np.uint8)[None], np.arange(256, dtype=np.uint8)[None, ::-1] // 3]
    levels, back = ensemble._tables("mean")
    for counts in [(1, 1), (5, 2), (1, 11)]:
        total = sum(c * levels[p].astype(np.int64) for c, p in zip(counts, planes, strict=True))
        assert blended(planes, "mean", counts).tolist() == back[total // sum(counts)].tolist()


def test_means_by_eye() -> None:
    a, b = flat(0, 1, 100, 255), flat(1, 2, 200, 255)
    assert mean_map([a, b])[:, 0, 0].tolist() == [1, 2, 150, 255]  # .5 and 1.5 go up
    assert blended([a, b], "mean", (3, 1))[:, 0, 0].tolist() == [0, 1, 125, 255]
    assert blended([plane(0, 10, 30)] * 3 + [plane(0, 10, 40)], "mean", (1, 1, 1, 1)).tolist() == [[0, 10, 33]]
    assert blended([plane(30, 0), plane(40, 0)], "square", (1, 1)).tolist() == [[35, 0]]  # root of 1250 is 35.36
    assert blended([plane(0, 100), plane(144, 196)], "root", (1, 1)).tolist() == [[36, 144]]  # 6 squared, 12 squared
    # 51/255 is 1/5, odds of 1 to 4; 204/255 has odds of 4 to 1. Their middle is 1/2: 127.5, which goes up.
    assert blended([plane(51, 0, 0), plane(204, 255, 0)], "logit", (1, 1)).tolist() == [[128, 128, 0]]
    # Odds of 1 to 4 twice and of 16 to 1 once: the cube root of 1/4 * 1/4 * 16 is 1.
    assert blended([plane(51), plane(240)], "logit", (2, 1)).tolist() == [[128]]


def test_each_class_has_its_own_mean() -> None:
    a, b, c = flat(0, 10, 30, 0), flat(144, 20, 40, 100), flat(7, 99, 200, 100)
    blend = Blend(("root", "mean", "square", "mean"), ((1, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 3)), ((),) * 4)
    assert mean_map([a, b, c], blend)[:, 0, 0].tolist() == [36, 99, 35, 75]


@given(maps_of_one_shape.filter(len), KINDS, st.data())
def test_equal_maps_are_their_own_mean(maps: list[np.ndarray], kind: str, data: st.DataObject) -> None:
    counts = data.draw(counts_for(3))
    assert blended([maps[0]] * 3, kind, counts).tobytes() == maps[0].tobytes()


@given(maps_of_one_shape, KINDS, st.data())
def test_a_mean_lies_between_the_models_and_knows_no_order(
    maps: list[np.ndarray], kind: str, data: st.DataObject
) -> None:
    counts = data.draw(counts_for(len(maps)))
    used = [one for one, n in zip(maps, counts, strict=True) if n]
    found = blended(maps, kind, counts)
    assert (np.min(used, 0) <= found).all() and (found <= np.max(used, 0)).all()
    assert blended(maps[::-1], kind, counts[::-1]).tobytes() == found.tobytes()


def test_many_models_do_not_overflow() -> None:
    one = flat(255, 254, 1, 0)
    assert (mean_map([one] * 300) == one).all()
    for kind in TRANSFORMS:
        assert (blended([one, one], kind, (1, ensemble.MAX_SUM - 1)) == one).all()


def test_mean_leaves_its_input_alone() -> None:
    one = flat(1, 2, 3, 4)
    mean_map([one])[:] = 9
    mean_map([one, one], Blend(("logit",) * 4, ((1, 2),) * 4, ((),) * 4))[:] = 9
    mean_map([one, one], Blend(("logit",) * 4, ((0, 2),) * 4, ((),) * 4))[:] = 9
    assert (one == flat(1, 2, 3, 4)).all()


def test_gates_by_eye() -> None:
    a, b = np.full((2, 4), 0.25), np.full((2, 4), 0.75)
    assert mean_gate([a, b], 2).tolist() == [[0.5] * 4] * 2
    found = mean_gate([a, b], 2, ((1, 1), (3, 1), (1, 0), (0, 7)))
    assert found.tolist() == [[0.5, 0.375, 0.25, 0.75]] * 2 and found.dtype == np.float32
    assert mean_gate([], 2, ((),) * 4).tolist() == [[1.0] * 4] * 2
    with pytest.raises(UserError, match="counts of 3 models for the gates of 2"):
        mean_gate([a, b], 2, ((1, 1, 1),) * 4)


@given(hnp.arrays(np.float64, (5, 3, 4), elements=st.floats(0, 1)))
def test_gates_that_count_once_are_the_mean_in_order(probs: np.ndarray) -> None:
    expected = [[float(np.float32(sum(probs[:, i, k].tolist()) / 5)) for k in range(4)] for i in range(3)]
    assert mean_gate(list(probs), 3).tolist() == expected
    assert mean_gate(list(probs), 3, Blend.equal(1, 5).gate_counts).tolist() == expected


BLEND = Blend(("mean", "logit", "square", "root"), ((1, 0, 2), (1, 1, 1), (0, 0, 1), (4, 5, 6)), ((1, 2),) * 4)


def test_a_blend_survives_json() -> None:
    for blend in (BLEND, Blend.equal(2, 0), Blend.equal(1, 1)):
        assert Blend.from_json(json.loads(json.dumps(blend.to_json()))) == blend
    assert BLEND.to_json()["3"] == {"kind": "square", "counts": [0, 0, 1], "gate_counts": [1, 2]}
    assert len({BLEND, Blend.from_json(BLEND.to_json()), Blend.equal(2, 0)}) == 2  # hashable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "median"}, "kind of class 2 is 'median', allowed: mean, logit, square, root"),
        ({"kind": ["mean"]}, "kind of class 2 is"),
        ({"counts": [1, 1]}, r"counts of class 2 are \[1, 1\], allowed: 3 whole numbers"),
        ({"counts": [0, 0, 0]}, "counts of class 2"),
        ({"counts": [1, -1, 3]}, "counts of class 2"),
        ({"counts": [1, 1, 999]}, "of a sum 1..1000"),
        ({"counts": [1.0, 1, 1]}, "counts of class 2"),
        ({"counts": [True, 1, 1]}, "counts of class 2"),
        ({"counts": "111"}, "'111', allowed: a list"),
        ({"counts": None}, "None, allowed: a list"),
        ({"gate_counts": []}, "gate_counts of class 2"),
        ({"gate_counts": [0, 0]}, "gate_counts of class 2"),
        ({"weights": [1]}, r"class 2 has the fields \['counts', 'gate_counts', 'kind', 'weights'\]"),
    ],
)
def test_bad_blends_are_refused(change: dict, message: str) -> None:
    data = BLEND.to_json()
    with pytest.raises(UserError, match=message) as found:
        Blend.from_json({**data, "2": {**data["2"], **change}}, "rules.json")
    assert str(found.value).startswith("rules.json: ") and "\n" not in str(found.value)


@pytest.mark.parametrize("data", [None, [], {}, {"1": {}}, {**BLEND.to_json(), "5": {}}, {**BLEND.to_json(), "4": 7}])
def test_no_blend_at_all_is_refused(data: object) -> None:
    with pytest.raises(UserError, match="class"):
        Blend.from_json(data)


def test_a_blend_has_four_classes() -> None:
    with pytest.raises(UserError, match=r"\[3, 4, 4\] rows, allowed: 4"):
        Blend(("mean",) * 3, ((1,),) * 4, ((),) * 4)


@given(hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 3)))  # few levels: many ties
def test_largest_class_equals_argmax(prob: np.ndarray) -> None:
    first = prob.argmax(0)  # the first of equals
    expected = np.where(np.arange(4)[:, None, None] == first, prob, 0)
    assert (largest_class(prob) == expected).all()
    value, index = winner(prob)
    assert (value == prob.max(0)).all() and (index == first).all()


def test_ties_go_to_the_lower_class() -> None:
    assert largest_class(flat(7, 9, 9, 8))[:, 0, 0].tolist() == [0, 9, 0, 0]
    assert largest_class(flat(5, 5, 5, 5))[:, 0, 0].tolist() == [5, 0, 0, 0]
