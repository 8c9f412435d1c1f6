"""What `decide` leaves for all that follows: votes and rules, those that ship and those of every rotation."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steel import files
from steel.config import Solution
from steel.decide.ensemble import Blend
from steel.decide.rules import Rules
from steel.errors import UserError

# Fields with a JSON of their own, in the rules file; and those that have one for each fold.
WHOLE: dict[str, Any] = {"blend": Blend, "tuned": Rules, "fixed": Rules}
ROTATED: dict[str, Any] = {"lofo": Rules, "plain": Rules, "blends": Blend}


@dataclass(frozen=True)
class Decision:
    """What a finished solution needs to turn probabilities into masks.

    Attributes:
        segmenters, gates: names of the models that give maps and class probabilities, in the order of their votes.
        folds: folds whose models vote.
        blend: the votes that ship, chosen on all held-out images.
        tuned: the rules that ship, tuned on all held-out images.
        fixed: the usual rules, for comparison.
        lofo: value of `Table.fold` to the rules tuned on the others.
        plain: the same where no family of rules may be adopted over the plain one, for comparison.
        blends: value of `Table.fold` to the votes chosen on the others, where these are not `blend`.
    """

    segmenters: list[str]
    gates: list[str]
    folds: list[int]
    blend: Blend
    tuned: Rules
    fixed: Rules
    lofo: dict[int, Rules]
    plain: dict[int, Rules] = field(default_factory=dict)
    blends: dict[int, Blend] = field(default_factory=dict)

    def blend_of(self, fold: int) -> Blend:
        """The votes that did not see a value of `Table.fold`."""
        return self.blends.get(fold, self.blend)

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        names = {"segmenters": self.segmenters, "gates": self.gates, "folds": self.folds}
        whole = {key: getattr(self, key).to_json() for key in WHOLE}
        rotated = {key: {str(fold): found.to_json() for fold, found in getattr(self, key).items()} for key in ROTATED}
        return {**names, **whole, **rotated}

    @classmethod
    def from_json(cls, found: dict[str, Any], where: str) -> "Decision":
        """Read what `to_json` gave; `where` names the file in messages."""
        try:
            fields: dict[str, Any] = {key: list(found[key]) for key in ("segmenters", "gates", "folds")}
            fields |= {key: kind.from_json(found[key], where) for key, kind in WHOLE.items()}
            fields |= {
                key: {int(fold): kind.from_json(data, where) for fold, data in found[key].items()}
                for key, kind in ROTATED.items()
            }
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{where} is not a rules file ({error}): run `steel decide CONFIG --force`") from None
        decision = cls(**fields)
        shape = (len(decision.segmenters), len(decision.gates))
        if any((len(b.counts[0]), len(b.gate_counts[0])) != shape for b in (decision.blend, *decision.blends.values())):
            raise UserError(f"{where} has votes of other models than it names: run `steel decide CONFIG --force`")
        return decision

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        files.write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path, solution: Solution | None = None) -> "Decision":
        """Read what `save` wrote; rules of other models than the solution's are a UserError."""
        decision = cls.from_json(files.read_json(path), str(path))
        if solution and (decision.segmenters, decision.gates) != (solution.segmenters, solution.gates):
            found_names, own = ([*x.segmenters, *x.gates] for x in (decision, solution))
            raise UserError(
                f"{path} holds rules for the models {', '.join(found_names)}; allowed: {', '.join(own)}, those of the "
                "solution: run `steel decide CONFIG`"
            )
        return decision
