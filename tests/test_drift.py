"""Drift: distances against scipy, the criterion by eye and under chance, and what `submit` makes of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
from scipy.stats import chi2_contingency, ttest_ind

from steel import rle
from steel.decide.decision import Decision
from steel.decide.table import Table
from steel.files import read_json
from steel.kaggle import submit
from steel.paths import Paths
from steel.report.drift import MIN_RATIO, MIN_Z, Part, drift, of_submission
from steel.report.outcomes import judge


def shown(n: int, k: int, area_px: int = 1000) -> np.ndarray:
    """Areas (n, 4): class 1 is shown on the first k strips."""
    areas = np.zeros((n, 4), np.int64)
    areas[:k, 0] = area_px
    return areas


def test_the_distance_of_two_shares_is_that_of_scipy() -> None:
    found = drift(shown(100, 50), shown(80, 16), "lofo").classes[0].share
    assert (found.held_out, found.test, found.warn) == (0.5, 0.2, True)
    assert found.z < 0
    assert found.z**2 == pytest.approx(chi2_contingency([[50, 50], [16, 64]], correction=False).statistic)


def test_the_distance_of_two_areas_is_that_of_their_logarithms() -> None:
    rng = np.random.default_rng(0)
    held_out, test = (np.exp(rng.normal(mean, 1, (n, 4))).astype(int) + 1 for mean, n in ((7, 400), (7.3, 200)))
    for k, one in enumerate(drift(held_out, test, "lofo").classes):
        a, b = np.log(held_out[:, k]), np.log(test[:, k])
        assert one.area_px.held_out == pytest.approx(np.exp(a.mean()))
        t = ttest_ind(b, a).statistic  # its spread is taken about two means, ours about one
        assert one.area_px.z == pytest.approx(t / (1 + t**2 / 598) ** 0.5 * (600 / 598) ** 0.5)
        assert one.share == Part(1.0, 1.0, 0.0, False)


@pytest.mark.parametrize(
    ("held_out", "test", "warns"),
    [
        ((1000, 400), (500, 50), True),  # 40 % and 10 %
        ((1000, 100), (500, 200), True),
        ((100_000, 41_000), (50_000, 22_000), False),  # sure, but 41 % and 44 % are alike
        ((100, 2), (40, 3), False),  # thrice as often, but that may be chance
        ((1000, 0), (500, 50), True),
        ((1000, 200), (500, 0), True),
        ((1000, 0), (500, 0), False),
    ],
)
def test_the_criterion_by_eye(held_out: tuple[int, int], test: tuple[int, int], warns: bool) -> None:
    found = drift(shown(*held_out), shown(*test), "lofo")
    one = found.classes[0].share
    assert one.warn == warns
    assert len(found.warnings()) == warns
    assert one.held_out is not None and one.test is not None
    parted = max(one.held_out, one.test) > MIN_RATIO * min(one.held_out, one.test)
    assert warns == (abs(one.z) > MIN_Z and parted)


def test_the_lines() -> None:
    rng = np.random.default_rng(0)
    held_out, test = shown(1000, 400), shown(500, 50)
    held_out[:, 2], test[:, 2] = rng.integers(900, 1100, 1000), rng.integers(2700, 3300, 500)
    lines = drift(held_out, test, "lofo").warnings()
    assert lines[0] == "class 1 is shown on 10.0 % of the test strips, but on 40.0 % of the held-out"
    areas = [round(float(np.exp(np.log(one[:, 2]).mean()))) for one in (test, held_out)]
    assert lines[1] == f"class 3 is typically shown on {areas[0]} px of a test strip, on {areas[1]} px held out"
    assert areas == pytest.approx([3000, 1000], rel=0.01)
    assert len(lines) == 2


def test_one_lucky_mask_is_no_drift_of_area() -> None:
    held_out = np.exp(np.random.default_rng(0).normal(8, 1, (60, 4))).astype(int)
    assert drift(held_out, shown(40, 1, area_px=30_000), "lofo").classes[0].area_px.warn is False
    nothing = drift(held_out, shown(40, 0), "lofo").classes[0].area_px
    assert (nothing.test, nothing.z, nothing.warn) == (None, 0.0, False)


def test_chance_hardly_ever_warns() -> None:
    rng = np.random.default_rng(0)
    warned = 0
    for _ in range(300):
        held_out, test = (
            np.where(rng.random((n, 4)) < [0.07, 0.02, 0.41, 0.064], np.exp(rng.normal(8, 1.1, (n, 4))), 0).astype(int)
            for n in (400, 100)
        )
        warned += bool(drift(held_out, test, "lofo").warnings())
    assert warned <= 12  # 2 % of 300, and room for chance


def test_submit_compares_what_it_shows_with_the_honest_masks(finished: Path) -> None:
    folder = finished / "runs/tiny/decide"
    table, decision = Table.load(folder / "table.npy"), Decision.load(folder / "rules.json")
    rows = pd.read_csv(finished / "submissions/tiny/submission.csv", keep_default_na=False).EncodedPixels
    areas = np.array([rle.area(text) if text else 0 for text in rows]).reshape(-1, 4)
    found = of_submission(table, decision, areas)
    assert found.kind == "lofo"
    held_out = judge(table, decision)["lofo"].pred_px
    assert [one.share.held_out for one in found.classes] == pytest.approx((held_out > 0).mean(0))
    assert [one.share.test for one in found.classes] == pytest.approx((areas > 0).mean(0))
    manifest = read_json(finished / "submissions/tiny/manifest.json")
    assert manifest["drift"]["warnings"] == found.warnings()
    assert manifest["drift"]["kind"] == "lofo"
    assert [Part(**one["area_px"]) for one in manifest["drift"]["classes"]] == [one.area_px for one in found.classes]


def test_submit_warns(copied: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = submit.mask_strip

    def everywhere(*args: Any) -> np.ndarray:
        masks = real(*args)
        masks[:], masks[3] = False, True
        return masks

    monkeypatch.setattr(submit, "mask_strip", everywhere)
    submit.make(Paths(tiny.solution()), (0, 1, 2))
    out = capsys.readouterr().out
    assert "submit: warning: class 4 is shown on 100.0 % of the test strips, but on " in out
    warnings = read_json(copied / "submissions/tiny/manifest.json")["drift"]["warnings"]
    assert [line.removeprefix("submit: warning: ") for line in out.splitlines() if "warning" in line] == warnings
