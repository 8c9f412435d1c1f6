"""What a kernel short of time falls back to: fewer views, then fewer models, then fewer nets of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steel import files
from steel.decide.decision import Decision
from steel.errors import UserError


@dataclass(frozen=True)
class Fallback:
    """A cheaper way to masks, with the rules tuned for it.

    Attributes:
        views: those of `predict.tta` that are left.
        decision: names the models and folds that are left, their votes and rules.
        mean: held-out mean Dice, leaving one fold out; None with fewer folds, since a held-out strip has one net alone.
    """

    views: list[str]
    decision: Decision
    mean: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"views": self.views, "mean": self.mean, "decision": self.decision.to_json()}


def told(fallback: Fallback) -> str:
    """In words: models, views, folds."""
    decision, views = fallback.decision, len(fallback.views)
    names = ", ".join(dict.fromkeys([*decision.segmenters, *decision.gates]))
    n_folds = len(decision.folds)
    return f"{names}; {views} view{'s' * (views > 1)}; {n_folds} fold{'s' * (n_folds > 1)}"


def scored(fallback: Fallback) -> str:
    """Its score in words."""
    return "CV not measurable" if fallback.mean is None else f"CV {fallback.mean:.5f}"


def save(path: Path, fallbacks: Sequence[Fallback]) -> None:
    """Write them, from the best to the quickest, whole or not at all."""
    files.write_json(path, [one.to_json() for one in fallbacks])


def load(path: Path) -> list[Fallback]:
    """Read what `save` wrote."""
    try:
        return [
            Fallback(
                list(one["views"]),
                Decision.from_json(one["decision"], str(path)),
                None if one["mean"] is None else float(one["mean"]),
            )
            for one in files.read_json(path)
        ]
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} holds no fallbacks ({error}): run `steel kernel bundle CONFIG --force`") from None
