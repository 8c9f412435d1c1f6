"""The page of a run: what stands at its top, and its sections in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from steel import __version__
from steel.report import change, cv, strip_table, uncertainty
from steel.report.change import Change
from steel.report.limits import Limits, told
from steel.report.outcomes import WAYS
from steel.report.page import Fact, Page
from steel.report.section import Section
from steel.report.text import number


def page(numbers: dict[str, Any], limited: Limits, changes: Sequence[Change], sections: Sequence[Section]) -> Page:
    """The page of a run from `cv.json`, what limits its score, what has changed, and what follows below."""
    head = numbers["headline"]
    shown = numbers["all"][head["kind"]]
    facts = [
        Fact("Mean Dice, held out", f"{head['mean']:.5f}", _joined(uncertainty.within(head["mean_interval"], 5))),
        Fact("Expected LB", f"{head['public_mean']:.4f}", _joined(uncertainty.within(head["public_interval"], 4))),
        Fact(
            "Positive-only Dice",
            number(head["positive"]),
            _joined(uncertainty.within(head["positive_interval"], 3), f"{sum(shown['n_positive'])} true masks"),
        ),
        Fact(
            "False positives, negatives",
            f"{sum(shown['fp'])}, {sum(shown['fn'])}",
            "masks shown where there is none, true masks of which nothing is shown",
        ),
        Fact("Nothing shown scores", f"{head['empty_mean']:.5f}", f"on {head['n_images']} strips"),
    ]
    lead = [
        *cv.cautions(head),
        told(limited),
        *(f"This run is {change.told(one)}" for one in changes),
        "The expected LB is the mean at the class shares of the public test set, if its strips are otherwise like "
        "these; the intervals tell the luck of the strips alone, not what another training would change.",
    ]
    folds = ", ".join(map(str, head["folds"]))
    return Page(
        title=f"{numbers['solution']}: report",
        subtitle=f"{head['n_images']} held-out strips, folds {folds}; {WAYS[head['kind']]}",
        facts=facts,
        lead=lead,
        sections=sections,
        footer=f"Made by steel {__version__} from the decision {numbers['decided']}. The charts lie beside it as PNG.",
        beside=("cv.md", change.NUMBERS, strip_table.FILE),
    )


def _joined(*texts: str) -> str:
    return "; ".join(text for text in texts if text)
