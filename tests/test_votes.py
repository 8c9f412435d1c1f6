"""The report's section on votes."""

from steel.decide.decision import Decision
from steel.decide.ensemble import Blend
from steel.decide.rules import fixed_rules
from steel.report.votes import tables, told

ONE = {"kind": "root", "counts": [2, 1], "gain": 0.00123, "error": 0.0004, "is_adopted": True}
EVEN = {"kind": "mean", "counts": [1, 1], "gain": 0.0001, "error": 0.0004, "is_adopted": False}
VOTES = {
    "masks": {"1": ONE, "2": EVEN, "3": EVEN, "4": EVEN},
    "gates": {str(c): {**EVEN, "counts": [1]} for c in range(1, 5)},
    "correlations": {"segmenters": {"all": [[1.0, 0.25], [0.25, None]]}, "gates": {"all": [[1.0]]}},
    "equal_mean": 0.9,
    "mean": 0.91,
    "gap": {"value": 0.01, "low": -0.002, "high": 0.021},
}


def decision() -> Decision:
    rules = fixed_rules()
    return Decision(["fpn", "unet"], ["gate"], [0, 1], Blend.equal(2, 1), rules, rules, {})


def test_searched_votes_by_eye() -> None:
    assert told(VOTES).endswith(
        "that gives 0.91000, equal votes 0.90000: +0.01000 (95 % interval -0.00200 to +0.02100)."
    )
    votes, correlation = tables(VOTES, decision())  # of a single classifier there is nothing to weigh
    assert votes.head == ["class", "mean of", "fpn", "unet", "gain left out", "standard error", "used"]
    assert votes.rows[0] == ["1", "root", "2", "1", "+0.00123", "0.00040", "yes"]
    assert votes.rows[3] == ["4", "mean", "1", "1", "+0.00010", "0.00040", "no: equal"]
    assert correlation.rows == [["fpn", "1.0000", "0.2500"], ["unet", "0.2500", "–"]]
