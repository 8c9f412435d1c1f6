"""What a rule asks, in words."""

from steel.decide.evidence import AnyRule
from steel.decide.expected import ExpectedRule
from steel.decide.families import PLAIN, family_of
from steel.decide.rule import NEVER_PX, Rule


def of_rule(rule: AnyRule) -> list[str]:
    """What a rule asks: threshold, minimum area, gate, and what more."""
    assert isinstance(rule, Rule | ExpectedRule)
    threshold = f"{rule.threshold / 255:.3f}" if rule.threshold else "each strip's own"
    area = "never" if rule.min_area_px >= NEVER_PX else str(rule.min_area_px)
    more = "" if family_of(rule) == PLAIN else f"{family_of(rule)}: {_beyond_plain(rule)}"
    return [threshold, area, f"{rule.min_gate:.3f}", more]


def _beyond_plain(rule: Rule | ExpectedRule) -> str:
    """What a rule asks beside threshold, minimum area and gate."""
    if isinstance(rule, ExpectedRule):
        parts = {
            "the threshold of best expected Dice": not rule.threshold,
            "shown where P(defect) x expected Dice > P(no defect)": rule.by_score,
        }
    else:
        parts = {
            f"{rule.trigger_px} px reach {rule.trigger / 255:.3f}": rule.trigger_px > 0,
            f"min area / gate ** {rule.gate_power:g}": rule.gate_power > 0,
            "values times gate": rule.product,
            f"components of {rule.component_px} px": rule.component_px > 0,
        }
    return ", ".join(text for text, holds in parts.items() if holds)
