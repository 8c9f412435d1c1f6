"""What limits the score: by eye on four strips, and against plain loops."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import make_table
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steel.decide.decision import Decision
from steel.decide.ensemble import Blend
from steel.decide.rule import NEVER_PX, Rule
from steel.decide.rules import Rules
from steel.decide.table import Table
from steel.files import read_json
from steel.metrics import dice
from steel.report.limits import AreaBin, Limits, Potential, area_bins, limits, tables, told
from steel.report.outcomes import Outcome, judge
from steel.report.section import Section
from steel.report.text import of_section

NOT = Rule(128, NEVER_PX, 0.0)
SHOW = Rules((NOT, NOT, Rule(128, 50, 0.5), NOT))


def table() -> Table:
    """Class 3 alone: a mask of 100 px on strips 0 to 2; the map shows 100 px on 0 and 3, 40 px on 1, all at 200.

    Of the map 80 px of strip 0 and all of strip 1 lie on the mask. The gate is open but for strip 2.
    """
    true, area, overlap = (np.zeros(shape, np.int32) for shape in ((4, 4), (4, 4, 256), (4, 4, 256)))
    true[:3, 2] = 100
    area[[0, 1, 3], 2, :201] = np.array([100, 40, 100], np.int32)[:, None]
    overlap[[0, 1], 2, :201] = np.array([80, 40], np.int32)[:, None]
    gate = np.array([0.9, 0.9, 0.1, 0.9], np.float32)[:, None].repeat(4, 1)
    return make_table.of_areas(np.array(list("abcd")), np.array([0, 0, 1, 1], np.int16), true, area, overlap, gate)


def decision(rules: Rules = SHOW) -> Decision:
    return Decision(["fpn"], ["gate"], [0, 1], Blend.equal(1, 1), rules, rules, {0: rules, 1: rules})


@pytest.mark.parametrize("kind", ["lofo", "fixed", "in_sample"])
def test_by_eye(kind: str) -> None:
    """As it is .8, 0 (too small), 0 (no map), 0 (in vain)."""
    found = limits(table(), decision(), kind)
    # A perfect gate shows strips 0 and 1 (2 * 40 / 140) but finds nothing of 2, and is silent on 3; perfect masks make
    # strip 0 whole and change nothing else, for there nothing is shown, or in vain.
    expected = [0.8 / 4, (0.8 + 4 / 7 + 0 + 1) / 4, 1 / 4]
    assert list(vars(found.classes[2]).values()) == pytest.approx(expected)
    assert found.classes[0] == Potential(0.75 + 0.25, 1.0, 1.0)
    assert list(vars(found.whole).values()) == pytest.approx([(3 + x) / 4 for x in expected])
    (one,) = found.areas
    assert replace(one, positive=0) == AreaBin(3, 100, 100, 3, 0, 2)
    assert one.positive == pytest.approx(0.8 / 3)


def test_a_rule_that_shows_nothing_still_has_a_threshold() -> None:
    hidden = limits(table(), decision(Rules((NOT,) * 4)), "lofo").classes[2]
    assert list(vars(hidden).values()) == pytest.approx([0.25, (0.8 + 4 / 7 + 1) / 4, 0.25])


def test_each_fold_has_the_threshold_of_its_own_rules() -> None:
    blind = Rules((NOT, NOT, Rule(201, 0, 0.0), NOT))  # above all of the map
    one = replace(decision(), lofo={0: blind, 1: SHOW})
    assert limits(table(), one, "lofo").classes[2].perfect_gate == pytest.approx(1 / 4)  # strip 3 alone, left clean
    assert limits(table(), replace(one, lofo={0: SHOW, 1: blind}), "lofo").classes[2].perfect_gate == pytest.approx(
        (0.8 + 4 / 7 + 1) / 4
    )


def random_table(seed: int, n: int = 30) -> Table:
    rng = np.random.default_rng(seed)
    area = np.sort(rng.integers(0, 500, (n, 4, 256), np.int32))[..., ::-1].copy()
    true = rng.integers(0, 400, (n, 4), np.int32) * rng.integers(0, 2, (n, 4), np.int32)
    overlap = np.minimum(area // 2, true[..., None])
    fold = np.arange(n).astype(np.int16) % 3
    return make_table.of_areas(np.arange(n).astype(str), fold, true, area, overlap, rng.random((n, 4), np.float32))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 255), st.integers(0, 300), st.floats(0, 1))
def test_limits_equal_a_plain_loop(seed: int, threshold: int, min_area_px: int, min_gate: float) -> None:
    found_in, rules = random_table(seed), Rules((Rule(threshold, min_area_px, min_gate),) * 4)
    found = limits(found_in, replace(decision(rules), lofo=dict.fromkeys(range(3), rules)), "lofo")
    shown = judge(found_in, decision(rules))["fixed"]
    for k in range(4):
        sums = np.zeros(3)
        for i in range(len(found_in)):
            true, pred = int(found_in.true_px[i, k]), int(shown.pred_px[i, k])
            area, both = (int(px[i, k, threshold]) for px in (found_in.area_px, found_in.overlap_px))
            as_it_is = 1.0 if true + pred == 0 else 2 * int(shown.overlap_px[i, k]) / (true + pred)
            sums += [as_it_is, 2 * both / (true + area) if true else 1.0, 1.0 if true and pred else as_it_is]
        assert list(vars(found.classes[k]).values()) == pytest.approx(sums / 30)
        assert min(found.classes[k].perfect_masks, found.classes[k].perfect_gate) >= found.classes[k].as_it_is - 1e-12
    assert found.whole.perfect_gate == pytest.approx(np.mean([p.perfect_gate for p in found.classes]))


def test_terciles_by_eye() -> None:
    true = np.zeros((7, 4), np.int32)
    true[:6, 0] = [60, 10, 50, 20, 40, 30]
    true[:4, 3] = 5
    pred = np.where(true > 20, true, 0)
    outcome = Outcome(pred, pred)
    assert area_bins(true, outcome, dice(pred, true, pred)) == (
        AreaBin(1, 10, 20, 2, 0.0, 2),
        AreaBin(1, 30, 40, 2, 1.0, 0),
        AreaBin(1, 50, 60, 2, 1.0, 0),
        AreaBin(4, 5, 5, 4, 0.0, 4),  # equal areas make one bin
    )


@given(st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_every_true_mask_is_in_one_bin(seed: int) -> None:
    found_in = random_table(seed)
    found = limits(found_in, decision(), "fixed").areas
    outcome = judge(found_in, decision())["fixed"]
    whole = outcome.score(found_in)
    for k in range(4):
        bins = [b for b in found if b.class_id == k + 1]
        assert sum(b.n_masks for b in bins) == whole.n_positive[k]
        assert sum(b.fn for b in bins) == whole.fn[k]
        assert sum(b.n_masks * b.positive for b in bins) == pytest.approx(whole.class_positive[k] * whole.n_positive[k])
        assert all(a.largest_px < b.smallest_px for a, b in pairwise(bins))


@pytest.mark.parametrize(
    ("gate", "masks", "expected"),
    [
        (0.95, 0.92, "a perfect gate would add +0.0500, perfect masks +0.0200; most of it in class 2 (+0.0800 of its"),
        (0.92, 0.95, "perfect masks would add +0.0500, a perfect gate +0.0200; most of it in class 4 (+0.0900 of its"),
    ],
)
def test_one_line_tells_what_limits_the_score(gate: float, masks: float, expected: str) -> None:
    """Class 2 would gain .08 by a perfect gate, class 4 .09 by perfect masks."""
    classes = (
        Potential(0.9, 0.9, 0.9),
        Potential(0.9, 0.98, 0.9),
        Potential(0.9, 0.91, 0.9),
        Potential(0.9, 0.9, 0.99),
    )
    found = told(Limits(Potential(0.9, gate, masks), classes, ()))
    assert found == f"What limits it: {expected} own mean)."


def test_the_tables_hold_the_numbers() -> None:
    potentials, areas = tables(limits(table(), decision(), "lofo"))
    assert ["class 3", "0.20000", "0.59286", "+0.39286", "0.25000", "+0.05000"] in potentials.rows
    assert ["all", "0.80000", "0.89821", "+0.09821", "0.81250", "+0.01250"] in potentials.rows
    assert areas.rows == [["class 3", "100", "3", "0.2667", "2"]]
    assert len(tables(Limits(Potential(1, 1, 1), (Potential(1, 1, 1),) * 4, ()))) == 1  # no mask has no area


def test_the_report_of_a_run_has_them(finished: Path) -> None:
    folder = finished / "runs/tiny"
    found = limits(Table.load(folder / "decide/table.npy"), Decision.load(folder / "decide/rules.json"), "lofo")
    written = read_json(folder / "report/cv.json")
    assert Potential(**written["limits"]["whole"]) == found.whole
    assert [AreaBin(**one) for one in written["limits"]["areas"]] == list(found.areas)
    assert found.whole.as_it_is == pytest.approx(written["headline"]["mean"])
    text = "\n\n".join(of_section(Section("", "", [], tables(found))))
    assert text.removeprefix("## ") in (folder / "report/cv.md").read_text()
