"""What each model adds to the others: by eye, and against an ensemble that never had the model."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from steel.competition import HEIGHT, WIDTH
from steel.decide.ensemble import Blend
from steel.decide.left_out import estimate
from steel.decide.sample import Sample, reduce_strip

MAP = (4, HEIGHT, WIDTH)
N = 8  # strips in two folds; class 2 is in every other one
SPOT = (slice(100, 140), slice(200, 240))
FOLD = (np.arange(N) // 2 % 2).astype(np.int16)
HAS = np.arange(N) % 2 == 0
TRUE_PX = np.stack([np.zeros(N), 1600 * HAS, np.zeros(N), np.zeros(N)], 1).astype(np.int32)
GROUP = list("abcdefgh")  # no duplicates
NOTHING = 28 / 32  # mean Dice where nothing is shown: four of 32 pairs of strip and class have a mask


def spots(shown: NDArray[np.bool_], value: int = 200) -> list[NDArray[np.uint8]]:
    """Maps (4, 256, 1600) of each strip: the spot in class 2 where it is shown."""
    found = []
    for is_shown in shown:
        found.append(np.zeros(MAP, np.uint8))
        found[-1][1][SPOT] = value * is_shown
    return found


def sample_of(models: list[list[NDArray[np.uint8]]], gates: list[NDArray[np.float64]]) -> Sample:
    """Models' maps of every strip, and gates (n,) of class 2."""
    points = []
    for i in range(N):
        bits = np.zeros((HEIGHT, WIDTH), np.uint8)
        bits[SPOT] = 2 * HAS[i]
        points.append(reduce_strip([maps[i] for maps in models], bits))
    return Sample.of(points, FOLD, TRUE_PX, [gate[:, None].repeat(4, 1) for gate in gates])


def test_a_segmenter_that_finds_all_and_one_that_finds_nothing() -> None:
    sample = sample_of([spots(HAS), spots(np.zeros(N, bool))], [])
    found = estimate(sample, Blend.equal(2, 0), ["sees", "blind"], [], GROUP)
    assert found is not None
    assert found["how"].startswith("estimated on a sixteenth of the pixels")
    assert (found["mean"], found["gates"]) == (pytest.approx(1), {})
    sees, blind = (found["segmenters"][name] for name in ("sees", "blind"))
    assert (sees["mean"], sees["gain"]) == (pytest.approx(NOTHING), pytest.approx(1 - NOTHING))
    assert 0 <= sees["low"] < 1 - NOTHING < sees["high"] <= 0.25  # a quarter of a point in a strip with the class
    assert blind == {"mean": pytest.approx(1), "gain": 0, "low": 0, "high": 0}


def test_duplicates_are_drawn_together() -> None:
    """Each pair of duplicates has one mask, on which all is gained: whatever pairs are drawn, the gain is the same."""
    sample = sample_of([spots(HAS), spots(np.zeros(N, bool))], [])
    found = estimate(sample, Blend.equal(2, 0), ["sees", "blind"], [], list("aabbccdd"))
    assert found is not None
    sees = found["segmenters"]["sees"]
    assert (sees["low"], sees["high"]) == (pytest.approx(1 - NOTHING), pytest.approx(1 - NOTHING))


@pytest.mark.parametrize("n_gates", [1, 2])
def test_a_gate_that_knows_and_one_that_does_not(n_gates: int) -> None:
    """The spot is on all strips: without a gate that knows, showing it wins four masks and loses four clean strips."""
    gates = [HAS.astype(float), np.full(N, 0.5)][:n_gates]
    sample = sample_of([spots(np.ones(N, bool))], gates)
    found = estimate(sample, Blend.equal(1, n_gates), ["a"], ["b", "c"][:n_gates], GROUP)
    assert found is not None
    assert found["mean"] == pytest.approx(1)
    assert found["segmenters"] == {}
    b = found["gates"]["b"]
    assert (b["mean"], b["gain"]) == (pytest.approx(NOTHING), pytest.approx(1 - NOTHING))
    if n_gates == 2:
        c = found["gates"]["c"]
        assert (c["mean"], c["gain"]) == (pytest.approx(1), pytest.approx(0))


def noisy(rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Spots of other sizes and values, now and then on a clean strip."""
    found = []
    for has in HAS:
        found.append(np.zeros(MAP, np.uint8))
        top, left = rng.integers(90, 130), rng.integers(190, 230)
        level = int(rng.integers(120, 256)) if has else int(rng.integers(0, 200))
        found[-1][1, top : top + 40, left : left + 40] = level
        found[-1][3, :20, : rng.integers(20, 90)] = rng.integers(0, 256)
    return found


def test_without_a_model_it_is_as_if_it_had_never_been() -> None:
    rng = np.random.default_rng(0)
    models, gates = [noisy(rng) for _ in range(3)], [0.6 * HAS + 0.4 * rng.random(N) for _ in range(2)]
    votes = replace(Blend.equal(3, 2), kinds=("root",) * 4, counts=((2, 1, 3),) * 4, gate_counts=((1, 4),) * 4)
    found = estimate(sample_of(models, gates), votes, ["a", "b", "c"], ["d", "e"], GROUP)
    assert found is not None
    means = [found["mean"]]
    for i, name in enumerate("abc"):
        others = [j for j in range(3) if j != i]
        alone = estimate(
            sample_of([models[j] for j in others], gates), votes.of(others, [0, 1]), ["x", "y"], ["d", "e"], GROUP
        )
        assert alone is not None
        assert found["segmenters"][name]["mean"] == pytest.approx(alone["mean"], abs=1e-12)
        means.append(alone["mean"])
    for i, name in enumerate("de"):
        one_gate = sample_of(models, [gates[1 - i]])
        alone = estimate(one_gate, votes.of([0, 1, 2], [1 - i]), ["a", "b", "c"], ["x"], GROUP)
        assert alone is not None
        assert found["gates"][name]["mean"] == pytest.approx(alone["mean"], abs=1e-12)
        assert found["gates"][name]["gain"] == found["mean"] - found["gates"][name]["mean"]
        means.append(alone["mean"])
    assert len(set(means)) > 3  # they do differ


def test_a_model_without_votes_is_not_missed() -> None:
    sample = sample_of([spots(HAS), spots(~HAS)], [])
    votes = replace(Blend.equal(2, 0), counts=((1, 0),) * 4)
    found = estimate(sample, votes, ["sees", "errs"], [], GROUP)
    assert found is not None
    assert found["segmenters"]["errs"]["gain"] == 0
    assert found["segmenters"]["sees"]["mean"] == pytest.approx(NOTHING)  # the other one is heard then, and not shown


def test_with_a_single_fold_none_can_be_left_out() -> None:
    one = Sample.of(
        [reduce_strip([np.zeros(MAP, np.uint8)] * 2, np.zeros((HEIGHT, WIDTH), np.uint8))], FOLD[:1], TRUE_PX[:1], []
    )
    assert estimate(one, Blend.equal(2, 0), ["a", "b"], [], GROUP[:1]) is None
