"""The report's numbers on a table small enough for mental arithmetic."""

import json
from dataclasses import replace
from pathlib import Path

import make_table
import numpy as np
import pytest

from steel.competition import PUBLIC_SHARES
from steel.config import DataConfig, Solution, SplitConfig
from steel.decide.decision import Decision
from steel.decide.ensemble import Blend
from steel.decide.expected import Calibration, ExpectedRule
from steel.decide.rule import NEVER_PX, Rule
from steel.decide.rules import Rules
from steel.decide.table import Table
from steel.paths import Paths
from steel.report.cv import as_json, as_markdown, class_table, fold_table, score_section
from steel.report.outcomes import judge, public_mean
from steel.report.rule_words import of_rule
from steel.report.section import Numbers, Section

# Four strips, two folds. Class 3: a true mask of 100 px on strips 0 and 2; class 1: one of 50 px on strip 1.
# The map shows 100 px of class 3 at level 200 on strips 0, 1 and 2, of which 80 px lie on the masks of 0 and 2.
NOT = Rule(128, NEVER_PX, 0.0)


def table() -> Table:
    true, area, overlap = (np.zeros(shape, np.int32) for shape in ((4, 4), (4, 4, 256), (4, 4, 256)))
    true[[0, 2], 2], true[1, 0] = 100, 50
    area[:3, 2, :201], overlap[[0, 2], 2, :201] = 100, 80
    gate = np.array([0.9, 0.2, 0.9, 0.1], np.float32)[:, None].repeat(4, 1)
    return make_table.of_areas(np.array(list("abcd")), np.array([0, 0, 1, 1], np.int16), true, area, overlap, gate)


def rules(threshold: int, gate: float) -> Rules:
    return Rules((NOT, NOT, Rule(threshold, 0, gate), NOT))


# In sample the gate keeps strip 1 out. Left out, fold 0 gets a rule that shows all, fold 1 one that shows nothing.
DECISION = Decision(
    ["fpn"],
    ["gate"],
    [0, 1],
    Blend.equal(1, 1),
    rules(128, 0.5),
    rules(128, 0.0),
    {0: rules(128, 0.0), 1: rules(201, 0.0)},
)


def report(n_folds: int = 2, decision: Decision = DECISION) -> dict:
    found, solution = table(), Solution("x", {}, DataConfig("x"), SplitConfig(n_folds))
    numbers = as_json(Paths(solution), found, decision, judge(found, decision))
    return json.loads(json.dumps(numbers, allow_nan=False))


def test_every_way_of_deciding() -> None:
    whole = report()["all"]
    assert list(whole) == ["empty", "fixed", "lofo", "in_sample"]
    # 16 pairs of strip and class; Dice of a shown mask: 2 * 80 / (100 + 100) = .8
    assert whole["empty"]["mean"] == 13 / 16
    assert whole["fixed"]["mean"] == pytest.approx((12 + 0.8 + 0.8) / 16)  # strips 0 and 2 found, 1 shown in vain
    assert whole["in_sample"]["mean"] == pytest.approx((13 + 0.8 + 0.8) / 16)
    assert whole["lofo"]["mean"] == pytest.approx((12 + 0.8) / 16)  # strip 0 found, 1 shown in vain, 2 missed
    assert whole["lofo"]["positive"] == pytest.approx(0.8 / 3)
    assert whole["lofo"]["class_positive"] == [0, None, pytest.approx(0.4), None]
    assert (whole["lofo"]["fp"], whole["lofo"]["fn"]) == ([0, 0, 1, 0], [1, 0, 1, 0])


def test_the_headline() -> None:
    head = report()["headline"]
    assert (head["kind"], head["folds"], head["n_folds"], head["n_images"], head["partial"]) == (
        "lofo",
        [0, 1],
        2,
        4,
        False,
    )
    assert head["mean"] == pytest.approx(12.8 / 16)
    assert head["empty_mean"] == 13 / 16
    assert head["optimism"] == pytest.approx((14.6 - 12.8) / 16)
    folds = ((5 + 0.8) / 8, 7 / 8)
    assert head["std_over_folds"] == pytest.approx(abs(folds[0] - folds[1]) / 2**0.5)


def test_a_fold_without_a_mask_of_a_class_has_no_value_there() -> None:
    fold_1 = report()["by_fold"]["lofo"]["1"]
    assert fold_1["n_images"] == 2
    assert fold_1["class_positive"] == [None, None, 0, None]


def test_the_public_mean_weighs_positives_and_negatives_by_their_public_shares() -> None:
    found = table()
    expected = [
        1 - PUBLIC_SHARES[0],  # class 1: its mask is missed, all clean strips are left clean
        1.0,
        PUBLIC_SHARES[2] * 0.8 + (1 - PUBLIC_SHARES[2]) / 2,  # class 3: one of two clean strips is marked
        1.0,
    ]
    assert public_mean(found, judge(found, DECISION)["fixed"]) == pytest.approx(np.mean(expected))


def test_some_folds_are_marked_as_partial() -> None:
    numbers = report(n_folds=5)
    assert numbers["headline"]["partial"] is True
    text = as_markdown("x", numbers, [])
    assert "**Partial:** only fold 0, 1 of 5; not comparable with a full cross-validation." in text
    whole = as_markdown("x", report(), [])
    assert "**Partial:**" not in whole and "With two folds a rotation has one to choose by" in whole
    more = report(decision=replace(DECISION, folds=[0, 1, 2]))
    assert "With two folds" not in as_markdown("x", more, [])


def test_a_single_fold_is_judged_by_the_fixed_rules() -> None:
    single = replace(DECISION, folds=[0], lofo={})
    found, paths = table().subset(np.array([0, 1])), Paths(Solution("x", {}, DataConfig("x"), SplitConfig(2)))
    numbers = as_json(paths, found, single, judge(found, single))
    assert numbers["headline"]["kind"] == "fixed"
    assert numbers["headline"]["optimism"] is None
    assert numbers["headline"]["std_over_folds"] is None
    assert "fixed rules" in as_markdown("x", numbers, [])


def rows(found: Numbers) -> dict[str, list[str]]:
    return {row[0]: list(row[1:]) for row in found.rows}


def test_the_tables_by_eye() -> None:
    numbers = report()
    (ways,) = score_section(numbers).blocks  # neither intervals nor limits are known
    assert isinstance(ways, Numbers) and "that of “tuned, leaving one fold out”" in ways.note
    assert rows(ways)["nothing shown"] == ["0.81250", "0.0000", "0", "3"]
    assert rows(ways)["tuned, leaving one fold out"] == ["0.80000", "0.2667", "1", "2"]
    classes = rows(class_table(numbers["all"]["lofo"], DECISION))
    assert classes["3"] == ["0.502", "0", "0.500", "", "0.45000", "0.4000", "2", "1", "1"]
    assert classes["2"] == ["0.502", "never", "0.000", "", "1.00000", "–", "0", "0", "0"]
    folds = rows(fold_table(numbers))
    # Fold 0: a mask of class 3 found, one of class 1 missed, class 3 shown in vain; fold 1: a mask of class 3 missed.
    assert folds["0"] == [
        *"211",
        "0.72500",
        "0.4000",
        "0.5000",
        "0.0000",
        "1.0000",
        "–",
        "0.4000",
        "0.8000",
        "1.0000",
        "–",
    ]
    assert folds["1"][:5] == [*"201", "0.87500", "0.0000"]
    assert folds["mean"][3:5] == ["0.80000", "0.2000"]
    assert folds["standard deviation"][3:7] == ["0.10607", "0.2828", "0.3536", "–"]


def test_words_and_tables_stand_below_each_other() -> None:
    found = Numbers("Things", ["thing", "n"], [["a", "1"], ["long one", "–"]], "What they are.")
    text = as_markdown("x", report(), [Section("one", "One", ["A lead."], [found, replace(found, note="")])])
    assert text.startswith("# x: cross-validation\n\n")
    assert "**Mean Dice 0.80000** (standard deviation over folds 0.1061), positive-only 0.2667, on 4 held-out" in text
    assert "Tuning and scoring on the same strips would claim +0.11250." in text
    lines = ["| thing    | n |", "| -------- | - |", "| a        | 1 |", "| long one | – |"]
    table = "\n".join(lines)
    assert text.endswith(f"\n\n## One\n\nA lead.\n\nThings:\n\nWhat they are.\n\n{table}\n\nThings:\n\n{table}\n")


def test_without_any_mask_there_is_no_positive_score() -> None:
    clean = table()
    clean = replace(clean, true_px=np.zeros_like(clean.true_px), overlap_px=np.zeros_like(clean.overlap_px))
    paths = Paths(Solution("x", {}, DataConfig("x"), SplitConfig(2)))
    numbers = as_json(paths, clean, DECISION, judge(clean, DECISION))
    assert numbers["headline"]["positive"] is None
    assert "positive-only –, on 4" in as_markdown("x", numbers, [])


def test_the_run_wrote_them(finished: Path) -> None:
    folder = finished / "runs/tiny/report"
    head = json.loads((folder / "cv.json").read_text())["headline"]
    assert f"**Mean Dice {head['mean']:.5f}**" in (folder / "cv.md").read_text()
    assert head["positive"] > 0.2


def test_what_a_rule_asks_beyond_the_plain_one() -> None:
    rules = (
        Rule(100, 0, 0.25, trigger=204, trigger_px=300),
        Rule(128, 600, 0.5, gate_power=1.5),
        Rule(128, 600, 0.0, product=True),
        Rule(128, 600, 0.5),
    )
    assert [of_rule(rule)[-1] for rule in rules] == [
        "hysteresis: 300 px reach 0.800",
        "soft_gate: min area / gate ** 1.5",
        "product: values times gate",
        "",
    ]


def test_what_a_rule_by_expected_score_asks() -> None:
    calibration = Calibration((0,) * 255 + (60_000,), tail=0.0, bias=0.0, gate=1.0, area=0.0)
    rules = (
        ExpectedRule(calibration, 0, by_score=False, min_area_px=600, min_gate=0.5),
        ExpectedRule(calibration, 102, by_score=True),
        ExpectedRule(calibration, 0, by_score=True),
        Rule(102, NEVER_PX, 0.0),
    )
    by_score = "shown where P(defect) x expected Dice > P(no defect)"
    assert [of_rule(rule) for rule in rules] == [
        ["each strip's own", "600", "0.500", "rank_dice: the threshold of best expected Dice"],
        ["0.400", "0", "0.000", f"expected: {by_score}"],
        ["each strip's own", "0", "0.000", f"rank_expected: the threshold of best expected Dice, {by_score}"],
        ["0.400", "never", "0.000", ""],
    ]
