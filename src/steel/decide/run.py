"""Stage `decide`: from the held-out probabilities to the table, the rules and their honest score."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from steel import files
from steel.config import Solution
from steel.decide.families import FAMILIES, PLAIN, default_grid
from steel.decide.held_out import build_table
from steel.decide.rules import Rules, fixed_rules
from steel.decide.search import in_sample, lofo
from steel.errors import UserError
from steel.paths import Paths
from steel.stage import Spec, recorded

CODE = ("decide", "infer/store", "data/cache", "data/folds", "metrics", "competition")


def spec(paths: Paths, folds: Sequence[int]) -> Spec:
    """What table and rules are made from."""
    inputs = {f"{name} fold {k}": recorded(paths.oof(name, k)) for name in paths.solution.models for k in folds}
    inputs["masks"] = recorded(paths.cache, "train_masks.npy", "train.csv")
    inputs["folds"] = recorded(paths.folds_record)
    return Spec("decide", paths.decide, {**asdict(paths.solution.decide), "folds": list(folds)}, inputs, CODE)


@dataclass(frozen=True)
class Decision:
    """What a finished solution needs to turn probabilities into masks.

    Attributes:
        segmenters, gates: names of the models that give maps and class probabilities, in the order of averaging.
        folds: folds whose models vote.
        tuned: the rules that ship, tuned on all held-out images.
        fixed: the usual rules, for comparison.
        lofo: value of `Table.fold` to the rules tuned on the others.
        plain: the same where no family of rules may be adopted over the plain one, for comparison.
    """

    segmenters: list[str]
    gates: list[str]
    folds: list[int]
    tuned: Rules
    fixed: Rules
    lofo: dict[int, Rules]
    plain: dict[int, Rules] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        rules = {"tuned": self.tuned.to_json(), "fixed": self.fixed.to_json()}
        names = {"segmenters": self.segmenters, "gates": self.gates, "folds": self.folds}
        rotations = {
            way: {str(k): rules.to_json() for k, rules in found.items()}
            for way, found in (("lofo", self.lofo), ("plain", self.plain))
        }
        files.write_json(path, {**names, **rules, **rotations})

    @classmethod
    def load(cls, path: Path) -> "Decision":
        """Read what `save` wrote."""
        try:
            found = files.read_json(path)
            rotations = [
                {int(k): Rules.from_json(rules, str(path)) for k, rules in found[way].items()}
                for way in ("lofo", "plain")
            ]
            tuned, fixed = (Rules.from_json(found[key], str(path)) for key in ("tuned", "fixed"))
            return cls(found["segmenters"], found["gates"], found["folds"], tuned, fixed, *rotations)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is not a rules file ({error}): run `steel decide CONFIG --force`") from None


def make(paths: Paths, folds: Sequence[int]) -> dict[Path, str]:
    """Build the table, search the rules; the digests of both."""
    solution = paths.solution
    table = build_table(paths, folds)
    table.save(paths.decide / "table.npy")
    grid = default_grid(table, solution.decide.n_area, solution.decide.n_gate)
    parts = len(np.unique(table.fold))
    rotations, plain = (lofo(table, grid, names).rules if parts > 1 else {} for names in (tuple(FAMILIES), (PLAIN,)))
    decision = Decision(
        solution.segmenters,
        solution.gates,
        list(folds),
        in_sample(table, grid).rules,
        _fixed(solution),
        rotations,
        plain,
    )
    decision.save(paths.decide / "rules.json")
    files.write_json(paths.decide / "solution.json", asdict(solution))
    return {
        paths.decide / name: files.sha256(paths.decide / name) for name in ("table.npy", "rules.json", "solution.json")
    }


def _fixed(solution: Solution) -> Rules:
    decide = solution.decide
    return fixed_rules(decide.fixed_threshold, decide.fixed_min_area_px, decide.fixed_gate)
