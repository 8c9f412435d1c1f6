"""Ways of deciding, from nothing shown to rules tuned in sample, and what each gives on the held-out strips."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES, N_CLASSES, PUBLIC_SHARES
from steel.decide.decision import Decision
from steel.decide.rule import NEVER_PX, Rule
from steel.decide.rules import Rules, apply_to_table
from steel.decide.search import apply_rotated
from steel.decide.table import Table
from steel.metrics import Score, dice, score

WAYS = {
    "empty": "nothing shown",
    "fixed": "fixed rules",
    "plain": "plain rules, leaving one fold out",
    "lofo": "tuned, leaving one fold out",
    "in_sample": "tuned, in sample (optimistic)",
}


@dataclass(frozen=True)
class Outcome:
    """What one way of deciding gives on all held-out images: pred_px and overlap_px, (n, 4) int32."""

    pred_px: NDArray[np.int32]
    overlap_px: NDArray[np.int32]

    def score(self, table: Table, rows: NDArray[np.bool_] | slice = slice(None)) -> Score:
        """Score on all or some rows of the table."""
        return score(self.pred_px[rows], table.true_px[rows], self.overlap_px[rows])


def judge(table: Table, decision: Decision, ships: Table | None = None) -> dict[str, Outcome]:
    """All ways of deciding: empty, fixed, tuned leaving one fold out (plain, and with what is adopted), in sample.

    Args:
        table: every strip under the votes that did not see it.
        decision: votes and rules.
        ships: every strip under the votes that ship; None where these are the same.
    """
    nothing = Rules(tuple(Rule(255, NEVER_PX, 1.0) for _ in CLASSES))
    outcomes = {
        "empty": Outcome(*apply_to_table(nothing, table)),
        "fixed": Outcome(*apply_to_table(decision.fixed, table)),
    }
    for way, rotations in (("plain", decision.plain), ("lofo", decision.lofo)):
        if rotations:
            outcomes[way] = Outcome(*apply_rotated(rotations, table))
    outcomes["in_sample"] = Outcome(*apply_to_table(decision.tuned, table if ships is None else ships))
    return outcomes


def public_mean(table: Table, outcome: Outcome) -> float:
    """The mean Dice re-weighted to the class shares of the public test set; a class without positives counts as found.

    Source: the shares were probed on the leaderboard in 2019, see `competition.PUBLIC_SHARES`.
    """
    values = dice(outcome.pred_px, table.true_px, outcome.overlap_px)
    positive = table.true_px > 0
    total = 0.0
    for k, share in enumerate(PUBLIC_SHARES):
        with_mask = values[positive[:, k], k].mean() if positive[:, k].any() else 1.0
        without = values[~positive[:, k], k].mean() if (~positive[:, k]).any() else 1.0
        total += share * with_mask + (1 - share) * without
    return float(total / N_CLASSES)


def best_known(outcomes: dict[str, Outcome]) -> str:
    """The honest way of deciding: tuned leaving one fold out, or with a single fold the fixed rules."""
    return "lofo" if "lofo" in outcomes else "fixed"
