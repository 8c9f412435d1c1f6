"""What a calibration learns: what was planted, by eye, and not too much from little."""

from dataclasses import replace

import numpy as np
import pytest
from test_expected import at_least, evidence_of, image_of

from steel.decide import calibrate
from steel.decide.evidence import Evidence
from steel.decide.expected import ONE, defect_logit


def drawn(
    n: int, seed: int, p_of: np.ndarray, has: np.ndarray, lost: float = 0.0
) -> tuple[Evidence, np.ndarray, np.ndarray]:
    """Evidence, true_px and overlap_px of n images of 20,000 px: a pixel of value v is in the mask with p_of[v]."""
    rng = np.random.default_rng(seed)
    values = [rng.integers(0, 256, 20_000) * (rng.random(20_000) < 0.1) for _ in range(n)]
    masks = [
        (rng.random(20_000) < np.where(v > 0, p_of[v], lost)) & is_true for v, is_true in zip(values, has, strict=True)
    ]
    evidence = evidence_of(*values)
    overlap = np.stack([at_least(v[mask]) for v, mask in zip(values, masks, strict=True)])
    return evidence, np.array([mask.sum() for mask in masks]), overlap


def test_pixels_mean_what_they_have_meant() -> None:
    p_of = (np.arange(256) / 255) ** 2
    evidence, true_px, overlap_px = drawn(200, 0, p_of, np.arange(200) % 2 == 0, lost=0.01)
    found = calibrate.fit(evidence, true_px, overlap_px)
    assert found is not None
    assert np.abs(np.array(found.pixel[1:]) / ONE - p_of[1:]).mean() < 0.01  # 800 px of each value
    assert found.pixel[0] / ONE == pytest.approx(0.01, rel=0.05)
    assert found.tail == 0


def test_a_calibration_by_eye() -> None:
    """Ten images of 100 px: of value 100 two of four are in the mask, of 200 all four, of 150 none, and 3 px are lost.

    150 is worse than 100: both mean 2/8. Between 150 and 200 lies what was never seen, beyond 200 nothing was.
    """
    area = at_least(image_of(v0=88, v100=4, v150=4, v200=4))
    overlap = at_least(image_of(v0=3, v100=2, v200=4))
    evidence = Evidence(np.stack([area] * 10), np.ones(10, np.float32), np.zeros(10))
    has = np.arange(10) < 5
    found = calibrate.fit(evidence, 9 * has, overlap * has[:, None])
    assert found is not None
    p = np.array(found.pixel) / ONE
    assert p[[0, 100, 125, 150, 200, 255]] == pytest.approx([3 / 88, 0.25, 0.25, 0.25, 1, 1], abs=1e-5)
    assert p[175] == pytest.approx(0.625, abs=1e-5)
    of_no_use = np.arange(256) == 0
    assert calibrate.fit(evidence, 9 * has, np.where(of_no_use, 5, overlap * has[:, None])) == found
    assert p[50] == pytest.approx((3 / 88 + 0.25) / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("tail_px", "tail", "background"),
    [
        (0.0, 0.0, 3 / 88),  # without a tail the 3 px lost are anywhere
        (6.0, 0.5, 0.0),  # half of the tail
        (0.1, 510 * (3 / 88), (3 - 51 * 3 / 88) / 88),  # 30 times the tail: more than a pixel of value 1 would have
    ],
)
def test_what_the_map_has_lost_by_eye(tail_px: float, tail: float, background: float) -> None:
    """As above with value 1 in place of 100: its 4 px have 2 in the mask, or, for the last case, none with the rest."""
    few = background > 0 and tail > 0
    area = at_least(image_of(v0=88, v1=88 if few else 4, v200=4))
    overlap = at_least(image_of(v0=3, v1=3 if few else 2, v200=4))
    evidence = Evidence(np.stack([area] * 10), np.ones(10, np.float32), np.full(10, tail_px))
    has = np.arange(10) < 5
    found = calibrate.fit(evidence, (10 if few else 9) * has, overlap * has[:, None])
    assert found is not None
    assert found.tail == pytest.approx(tail, rel=1e-5)
    assert found.pixel[0] == round(background * ONE)


def test_expected_and_true_areas_agree_over_all_images_with_a_mask() -> None:
    has = np.arange(60) % 3 > 0
    evidence, true_px, overlap_px = drawn(60, 1, np.arange(256) / 300, has, lost=0.003)
    evidence = replace(evidence, tail_px=np.random.default_rng(2).random(60) * 100)
    found = calibrate.fit(evidence, true_px, overlap_px)
    assert found is not None and found.tail > 0
    at_all = replace(found, tail=0.0)  # 2 / (1 + m) of a single sure pixel would tell m; the sums tell it directly
    p = np.array(at_all.pixel) / ONE
    count = evidence.area_px[has] - np.pad(evidence.area_px[has, 1:], ((0, 0), (0, 1)))
    expected = (count @ p + found.tail * evidence.tail_px[has]).sum()
    assert expected == pytest.approx(true_px.sum(), rel=1e-3)


def test_a_gate_that_tells_is_learned() -> None:
    """Masks where the gate says so: the curve's probabilities are the gate's, whatever is on the map."""
    rng = np.random.default_rng(3)
    gate = rng.uniform(0.02, 0.98, 4000).astype(np.float32)
    has = rng.random(4000) < gate
    area = np.stack([at_least(image_of(v0=1000, v100=n)) for n in rng.integers(1, 500, 4000)])
    evidence = Evidence(area, gate, np.zeros(4000))
    found = calibrate.fit(evidence, 10 * has, (area * 0.02).astype(np.int32) * has[:, None])
    assert found is not None
    assert found.gate == pytest.approx(1, abs=0.1)
    assert abs(found.area) < 0.1


def test_without_a_gate_the_area_tells() -> None:
    rng = np.random.default_rng(4)
    n_px = rng.integers(1, 2000, 2000)
    has = rng.random(2000) < np.where(n_px > 1000, 0.9, 0.1)
    area = np.stack([at_least(image_of(v0=3000, v200=n)) for n in n_px])
    found = calibrate.fit(Evidence(area, np.ones(2000, np.float32), np.zeros(2000)), n_px * has, area * has[:, None])
    assert found is not None
    assert abs(found.gate) < 1e-9 and found.area > 0.5


@pytest.mark.parametrize("lies", ["gate", "area", "both"])
def test_a_feature_that_speaks_against_defects_is_left_out(lies: str) -> None:
    """Masks where the gate is low, or the map shows little: that weight is 0, and the other one is learned alone."""
    rng = np.random.default_rng(6)
    has = np.arange(1000) % 3 == 0
    told = 0.5 + np.where(has, 0.3, -0.3) * np.where(rng.random(1000) < 0.9, 1, -1)
    gate = 1 - told if lies in ("gate", "both") else told
    n_px = np.round(1000 * (1 - told if lies in ("area", "both") else told)).astype(int)
    area = np.stack([at_least(image_of(v0=3000, v200=n)) for n in n_px])
    found = calibrate.fit(Evidence(area, gate.astype(np.float32), np.zeros(1000)), n_px * has, area * has[:, None])
    assert found is not None
    assert (found.gate > 0.5, found.area > 0.2) == (lies == "area", lies == "gate")
    assert (found.gate == 0, found.area == 0) == (lies != "area", lies != "gate")
    if lies == "both":
        assert found.bias == pytest.approx(np.log(334 / 666), abs=1e-6)


def test_weights_have_six_digits() -> None:
    """What a solver gives after them depends on the processor."""
    has = np.arange(200) % 4 == 0
    evidence, true_px, overlap_px = drawn(200, 2, np.full(256, 0.4), has)
    found = calibrate.fit(replace(evidence, tail_px=np.linspace(0, 9, 200)), true_px, overlap_px)
    assert found is not None
    for value in (found.tail, found.bias, found.gate, found.area):
        assert value == float(f"{value:.5e}")
    assert found.bias != round(found.bias, 4)


@pytest.mark.parametrize("seed", range(5))
def test_ten_masks_in_150_strips_do_not_go_wild(seed: int) -> None:
    """Where gates and maps say nothing, probabilities stay low; where gates tell all, they part, but not for sure."""
    rng = np.random.default_rng(seed)
    has = np.arange(150) < 10
    noise = drawn(150, seed, np.full(256, 0.3), has)
    evidence = replace(noise[0], gate=rng.random(150, np.float32))
    found = calibrate.fit(evidence, *noise[1:])
    assert found is not None
    p = 1 / (1 + np.exp(-defect_logit(found, evidence)))
    assert p.mean() == pytest.approx(10 / 150, abs=1e-4)  # the bias is free of the penalty
    assert p.max() < 0.5
    told = replace(evidence, gate=np.where(has, 0.999, 0.001).astype(np.float32))
    found = calibrate.fit(told, *noise[1:])
    assert found is not None
    p = 1 / (1 + np.exp(-defect_logit(found, told)))
    assert p[has].min() > 0.5 and p[has].max() < 0.99 and p[~has].max() < 0.1


@pytest.mark.parametrize(("n_with", "n_without"), [(4, 50), (50, 4), (0, 10)])
def test_too_few_images_teach_nothing(n_with: int, n_without: int) -> None:
    has = np.arange(n_with + n_without) < n_with
    assert calibrate.fit(*drawn(len(has), 0, np.full(256, 0.5), has)) is None


def test_five_of_both_and_a_map_that_shows_something_teach() -> None:
    has = np.arange(10) < 5
    evidence, true_px, overlap_px = drawn(10, 0, np.full(256, 0.5), has)
    assert calibrate.fit(evidence, true_px, overlap_px) is not None
    evidence.area_px[has, 1:] = 0
    assert calibrate.fit(evidence, true_px, overlap_px * 0) is None
