"""Expected Dice against exact sums and by hand, and the rules made of it."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steel.decide.evidence import Evidence
from steel.decide.expected import (
    CHUNK,
    ONE,
    Calibration,
    ExpectedRule,
    defect_logit,
    expected_dice,
    gate_logit,
    least_dice,
)
from steel.errors import UserError

IDENTITY = Calibration(tuple(257 * v for v in range(256)), tail=0.0, bias=0.0, gate=1.0, area=0.0)  # 257 * 255 = 65,535


def at_least(values: np.ndarray) -> np.ndarray:
    """Pixels of value >= t, (256,), of uint8 values of any shape."""
    return np.bincount(values.ravel(), minlength=256)[::-1].cumsum()[::-1].astype(np.int32)


def evidence_of(*images: np.ndarray, gate: float | np.ndarray = 1.0, tail_px: float | np.ndarray = 0.0) -> Evidence:
    """Of images given by their uint8 values, of any number of pixels."""
    n = len(images)
    gates, tails = np.broadcast_to(np.float32(gate), n), np.broadcast_to(np.float64(tail_px), n)
    return Evidence(np.stack([at_least(image) for image in images]), gates.copy(), tails.copy())


def image_of(**pixels: int) -> np.ndarray:
    """Pixels by value: image_of(v200=30) has 30 of value 200."""
    return np.repeat([int(name[1:]) for name in pixels], list(pixels.values())).astype(np.uint8)


def meaning(**p: float) -> Calibration:
    """A calibration in which values from v on mean probability p, and lower ones nothing: meaning(v100=.5, v200=1)."""
    pixel = np.zeros(256, int)
    for name, prob in p.items():
        pixel[int(name[1:]) :] = round(prob * ONE)
    return replace(IDENTITY, pixel=tuple(pixel.tolist()))


def by_enumeration(p: np.ndarray, shown: np.ndarray) -> float:
    """Expected Dice of the pixels shown (n,) bool, over all 2 ** n true masks."""
    total = 0.0
    for outcome in product((0, 1), repeat=len(p)):
        y = np.array(outcome)
        dice = 2 * (y @ shown) / (shown.sum() + y.sum()) if shown.any() else 0
        total += dice * np.where(y == 1, p, 1 - p).prod()
    return total


def by_convolution(p: np.ndarray, shown: np.ndarray) -> float:
    """The same from the exact distributions of the hits shown, x, and of those not shown, z."""
    x, z = (_count_distribution(p[part]) for part in (shown, ~shown))
    xs, zs = np.arange(len(x))[:, None], np.arange(len(z))[None]
    return float((x[:, None] * z * 2 * xs / np.maximum(shown.sum() + xs + zs, 1)).sum())


def _count_distribution(p: np.ndarray) -> np.ndarray:
    distribution = np.ones(1)
    for one in p:
        distribution = np.convolve(distribution, [1 - one, one])
    return distribution


def test_the_two_exact_ways_agree() -> None:
    p, shown = np.array([0.9, 0.6, 0.5, 0.1, 0.02]), np.array([True, True, False, True, False])
    assert by_convolution(p, shown) == pytest.approx(by_enumeration(p, shown), abs=1e-12)
    assert by_enumeration(np.array([0.5]), np.array([True])) == 0.5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=7, max_size=9), st.integers(1, 255))
def test_tiny_images_come_near_to_enumeration(values: list[int], t: int) -> None:
    image = np.array(values, np.uint8)
    found = expected_dice(IDENTITY, evidence_of(image))[0, t - 1]
    assert found == pytest.approx(by_enumeration(image / 255, image >= t), abs=0.06)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 255))
def test_some_hundred_pixels_come_close_to_convolution(seed: int, t: int) -> None:
    image = (255 * np.random.default_rng(seed).beta(0.3, 0.6, 300)).astype(np.uint8)
    found = expected_dice(IDENTITY, evidence_of(image))[0, t - 1]
    assert found == pytest.approx(by_convolution(image / 255, image >= t), abs=3e-4)


def test_the_tail_counts_as_many_unlikely_pixels() -> None:
    """40 px of tail: 40 more mask pixels expected, none of which can be shown."""
    image, t = image_of(v0=20_000, v100=50, v255=100), 200
    p = np.concatenate([np.full(8000, 0.0025), np.full(50, 100 / 255), np.ones(100)])
    found = expected_dice(replace(IDENTITY, tail=0.5), evidence_of(image, tail_px=40))[0, t - 1]
    assert found == pytest.approx(by_convolution(p, p == 1), abs=1e-3)
    assert found < expected_dice(IDENTITY, evidence_of(image))[0, t - 1] - 0.05


def test_the_tail_by_hand() -> None:
    """1 px is sure, and 2 more are somewhere: |Y| is 3, with a variance of 2 as of many small probabilities."""
    evidence = evidence_of(image_of(v0=99, v255=1), tail_px=4)
    found = expected_dice(replace(IDENTITY, tail=0.5), evidence)[0]
    assert found == pytest.approx(2 * (1 / 4 + 2 / 4**3), abs=1e-12)


def test_expected_dice_by_hand() -> None:
    """1 px is sure, 2 px are as likely as not: |Y| is 2 +- .71."""
    calibration, evidence = meaning(v100=0.5, v200=1), evidence_of(image_of(v0=97, v100=2, v200=1))
    dice = expected_dice(calibration, evidence)[0]
    half = round(0.5 * ONE) / ONE  # no whole number is half of 65,535
    m, s = 1 + 2 * half, 2 * half * (1 - half)
    assert dice[200:].tolist() == [0] * 55  # t = 201..255: nothing is shown
    assert dice[100:200] == pytest.approx(2 * (1 / (1 + m) + s / (1 + m) ** 3), abs=1e-12)  # .704; exactly .708
    assert dice[:100] == pytest.approx(2 * (m / (3 + m) - s / (3 + m) ** 2 + m * s / (3 + m) ** 3), abs=1e-12)
    assert by_enumeration(np.array([1, 0.5, 0.5]), np.array([True, False, False])) == pytest.approx(17 / 24)


def test_nothing_expected_scores_nothing() -> None:
    assert expected_dice(meaning(v200=1), evidence_of(np.zeros(100, np.uint8))).tolist() == [[0] * 255]


@pytest.mark.parametrize(
    ("likely", "expected"),
    [
        # 80 of 100 px of value 200 are in the mask. Showing these alone scores 160 / (100 + 80 + likely).
        (0.3, 200),  # 160 / 210 = .762; with the others 220 / 310 = .710: .3 is below half of .762
        (0.5, 100),  # 160 / 230 = .696; with the others 260 / 330 = .788: .5 is above half of both
    ],
)
def test_each_image_has_its_own_threshold_by_hand(likely: float, expected: int) -> None:
    calibration = meaning(v100=likely, v200=0.8)
    rule = ExpectedRule(calibration, threshold=0, by_score=False)
    image = image_of(v0=300_000, v100=10_000, v200=10_000)
    level = rule.level(evidence_of(image))
    assert at_least(image)[level].tolist() == at_least(image)[[expected]].tolist()
    assert level == expected - 99  # of the levels of the same mask the lowest


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_best_threshold_is_half_the_attainable_dice(seed: int) -> None:
    """Source: Dai and Li, 2023. Large maps: what a single pixel adds to the variance is nothing."""
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0.1, 2, 2)
    image = (255 * rng.beta(a, b, 100_000)).round().astype(np.uint8)
    image[: rng.integers(1, 80_000)] = 0
    evidence = evidence_of(image)
    best = float(expected_dice(IDENTITY, evidence).max())
    level = int(ExpectedRule(IDENTITY, threshold=0, by_score=False).level(evidence)[0])
    shown, hidden = image[image >= level].min() / 255, image[image < level].max() / 255  # nothing lies between them
    assert hidden - 0.001 <= best / 2 <= shown + 0.001


@pytest.mark.parametrize(
    ("gate", "shown"),
    [
        (0.5, False),  # .5 * anything below 1 is below .5
        (0.55, False),  # .55 * .762 = .419 < .45
        (0.6, True),  # .6 * .762 = .457 > .4
        (1.0, True),
    ],
)
def test_show_or_empty_by_hand(gate: float, shown: bool) -> None:
    """Expected Dice, given a defect, is 160 / 210 = .762 as above; here P(defect) is the gate."""
    calibration = meaning(v100=0.3, v200=0.8)
    evidence = evidence_of(image_of(v0=300_000, v100=10_000, v200=10_000), gate=gate)
    assert expected_dice(calibration, evidence).max() == pytest.approx(160 / 210, abs=1e-4)
    for threshold in (0, 150):
        level = ExpectedRule(calibration, threshold, by_score=True).level(evidence)
        assert level.tolist() == [(threshold or 101) if shown else 256]


def test_an_empty_mask_is_never_worth_showing() -> None:
    rule = ExpectedRule(meaning(v200=1), threshold=0, by_score=True)
    assert rule.level(evidence_of(np.zeros(100, np.uint8))).tolist() == [256]


def test_minima_are_asked_of_the_own_area() -> None:
    calibration = meaning(v100=0.3, v200=0.8)
    evidence = evidence_of(*[image_of(v0=300_000, v100=10_000, v200=n) for n in (9_999, 10_000, 10_000)], gate=0.7)
    evidence.gate[2] = 0.69
    rule = ExpectedRule(calibration, 0, by_score=False, min_area_px=10_000, min_gate=0.7)
    assert rule.level(evidence).tolist() == [256, 101, 256]


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 77, 200]), st.sampled_from([(True, 0, 0.0), (False, 300, 0.4)])
)
def test_many_images_or_one_give_the_same(seed: int, threshold: int, show: tuple[bool, int, float]) -> None:
    evidence = random_evidence(300, seed)  # more than are computed at a time
    assert CHUNK < 300
    calibration = replace(IDENTITY, tail=0.3, bias=-1.0, gate=0.7, area=0.3)
    rule = ExpectedRule(calibration, threshold, *show)
    level = rule.level(evidence)
    for i in (0, 1, 255, 256, 299):
        alone = take(evidence, slice(i, i + 1))
        assert rule.level(alone)[0] == level[i]
        assert (expected_dice(calibration, alone)[0] == expected_dice(calibration, evidence)[i]).all()
        assert defect_logit(calibration, alone)[0] == defect_logit(calibration, evidence)[i]
    assert (level < 256).sum() > 0


def random_evidence(n: int, seed: int) -> Evidence:
    """Of n maps of 2,000 px; the second is empty."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, rng.integers(1, 257, n)[:, None], (n, 2000)).astype(np.uint8)
    images[1] = 0
    return evidence_of(*images, gate=rng.random(n), tail_px=rng.random(n) * 30)


def take(evidence: Evidence, rows: slice | np.ndarray) -> Evidence:
    return Evidence(evidence.area_px[rows], evidence.gate[rows], evidence.tail_px[rows])


def test_the_largest_numbers_stay_exact() -> None:
    """A whole strip of value 254, 1/255 below certainty: sums of whole numbers near 2 ** 49, which float64 holds."""
    found = expected_dice(IDENTITY, evidence_of(np.full(409_600, 254, np.uint8)))[0, 0]
    p, n = 254 / 255, 409_600
    v = n * p * (1 - p)
    assert found == pytest.approx(
        2 * (n * p / (n + n * p) - v / (n + n * p) ** 2 + n * p * v / (n + n * p) ** 3), 1e-15
    )


def test_least_dice_by_hand() -> None:
    """P(defect) is the gate: .8 has odds of 4 to 1, .5 of 1 to 1, .2 of 1 to 4."""
    evidence = evidence_of(*[image_of(v0=10)] * 3, gate=np.array([0.8, 0.5, 0.2]))
    assert least_dice(IDENTITY, evidence) == pytest.approx([0.25, 1, 4], rel=1e-6)  # the gates are float32


def test_gate_logit_by_eye() -> None:
    assert gate_logit(np.array([0, 0.5, 1], np.float32)) == pytest.approx([-math.log(1023), 0, math.log(1023)])


def test_defect_logit_by_hand() -> None:
    """Gate .8: odds 4. 30 px of value 255 and a fifth of 5 px of tail: 31 px; those of value 0 do not count."""
    calibration = Calibration((257, *IDENTITY.pixel[1:]), tail=0.2, bias=-1.0, gate=0.5, area=2.0)
    evidence = evidence_of(image_of(v0=1000, v255=30), gate=0.8, tail_px=5)
    assert defect_logit(calibration, evidence) == pytest.approx(-1 + 0.5 * math.log(4) + 2 * math.log(32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel": IDENTITY.pixel[:-1]}, "pixel is .*allowed: 256 whole numbers"),
        ({"pixel": (5, *IDENTITY.pixel[1:2], 1, *IDENTITY.pixel[3:])}, "allowed: from 0 to 65535, never falling"),
        ({"pixel": (0.5, *IDENTITY.pixel[1:])}, "256 whole numbers"),
        ({"pixel": (*IDENTITY.pixel[:-1], 65_536)}, "allowed: from 0 to 65535"),
        ({"pixel": 5}, "pixel is 5, allowed: 256 whole numbers"),
        ({"tail": -0.1}, "tail is -0.1, allowed: a number >= 0"),
        ({"bias": math.nan}, "bias is nan, allowed: a finite number"),
        ({"gate": "1"}, "gate is '1', allowed: a finite number"),
        ({"area": True}, "area is True, allowed: a finite number"),
    ],
)
def test_bad_calibrations_are_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(IDENTITY, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 256}, "threshold is 256, allowed: a whole number 0..255"),
        ({"threshold": 1.5}, "threshold is 1.5, allowed: a whole number"),
        ({"by_score": 1}, "by_score is 1, allowed: true, false"),
        ({"min_area_px": 5}, "min_area_px 5 and min_gate 0.0 with by_score; allowed: 0"),
        ({"by_score": False, "min_area_px": 409_602}, "min_area_px is 409602, allowed: a whole number 0..409601"),
        ({"by_score": False, "min_gate": 1.1}, "min_gate is 1.1, allowed: a number 0..1"),
    ],
)
def test_bad_rules_are_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(ExpectedRule(IDENTITY, 0, by_score=True), **change)
