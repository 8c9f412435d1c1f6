"""The nets and the rules of a finished solution at work on any strips, in the kernel and elsewhere.

The classifiers are asked first. A strip on which the rules then show nothing, whatever its maps (`closed`), skips the
segmenters: half of the competition's do, and most of a mill's.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from steel import rle
from steel.competition import N_CLASSES
from steel.config import Solution
from steel.decide.closed import closed
from steel.decide.combine import Outputs
from steel.decide.decision import Decision
from steel.decide.ensemble import mean_gate
from steel.decide.fallback import Fallback
from steel.decide.rules import apply_to_map
from steel.infer.predictor import Predictor, quantise, sum_pixels
from steel.kaggle.budget import Budget, Work
from steel.kaggle.layout import RULES, weights_name
from steel.nets.build import Outputs as NetOutputs

CHUNK = 64  # strips, 26 MB: few enough to hold, enough that those which the gates leave open fill their batches
Labels = dict[str, NDArray[np.float64]]  # class probabilities of some models, by name


@dataclass(frozen=True)
class Found:
    """What is found on a strip.

    Attributes:
        gate: (4,) float32, the probability that the class is there; 1 where no model gives one.
        masks: (4, 256, 1600) bool, no pixel in two of them; None if nothing is shown, and no map was asked for.
    """

    gate: NDArray[np.float32]
    masks: NDArray[np.bool_] | None = None

    @property
    def rles(self) -> list[str]:
        """Run-length codes of the four masks; empty where nothing is shown."""
        return [""] * N_CLASSES if self.masks is None else [rle.encode(mask) for mask in self.masks]

    @property
    def areas_px(self) -> list[int]:
        """Areas of the four masks."""
        return [0] * N_CLASSES if self.masks is None else [int(np.count_nonzero(mask)) for mask in self.masks]


@dataclass(frozen=True)
class Ensemble:
    """The models on their device, and what is decided on what they say; `batch` strips at a time."""

    predictors: dict[str, Predictor]
    decision: Decision
    batch: int

    @classmethod
    def load(cls, folder: Path, solution: Solution) -> "Ensemble":
        """Read rules and weights, all folds, from a folder that holds them as a kernel's dataset does."""
        decision = Decision.load(folder / RULES, solution)
        weights = {name: [folder / weights_name(name, fold) for fold in decision.folds] for name in solution.models}
        return cls.of(solution, decision, weights)

    @classmethod
    def of(cls, solution: Solution, decision: Decision, weights: dict[str, list[Path]]) -> "Ensemble":
        """Load the models from files, for each model one for each fold."""
        predictors = {name: Predictor.of(solution, name, weights[name]) for name in solution.models}
        return cls(predictors, decision, solution.predict.batch)

    def reduced(self, fallback: Fallback) -> "Ensemble":
        """The part of it that a fallback asks for, under its rules."""
        decision, views = fallback.decision, fallback.views
        nets = [self.decision.folds.index(fold) for fold in decision.folds]
        predictors = {
            name: replace(one, nets=[one.nets[i] for i in nets], views=views)
            for name, one in self.predictors.items()
            if name in (*decision.segmenters, *decision.gates)
        }
        return Ensemble(predictors, decision, self.batch)

    @property
    def device(self) -> torch.device:
        """Where they run."""
        return next(iter(self.predictors.values())).device

    @property
    def work(self) -> Work:
        """What a batch costs, in passes."""
        passes = {name: one.n_passes for name, one in self.predictors.items()}
        return Work(
            {name: n for name, n in passes.items() if not self.predictors[name].gives_maps},
            {name: n for name, n in passes.items() if self.predictors[name].gives_maps},
        )

    def __call__(self, strips: NDArray[np.uint8]) -> Iterator[Found]:
        """What is found on each of any number of strips (n, 256, 1600), in their order; a batch of maps in memory."""
        budget, starts = Budget(math.inf), range(0, len(strips), self.batch)
        parts = [self.classify(strips[start : start + self.batch], budget) for start in starts]
        labels = {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}
        may_show = self.may_show(labels, len(strips))
        shown = self._find_in_batches(strips, labels, np.flatnonzero(may_show), budget)
        for i, is_open in enumerate(may_show):
            gate = {name: prob[i : i + 1] for name, prob in labels.items()}
            yield next(shown) if is_open else Found(self._gate(gate, 1)[0])

    def classify(self, strips: NDArray[np.uint8], budget: Budget) -> Labels:
        """Class probabilities (b, 4) of some strips (b, 256, 1600) by the classifiers."""
        names = [name for name in self.decision.gates if not self.predictors[name].gives_maps]
        return {name: _labels(self._ask(name, strips, budget).labels) for name in names}

    def may_show(self, labels: Labels, n: int) -> NDArray[np.bool_]:
        """Which of n strips need maps (n,), by what the classifiers say: all, if joint heads have still to vote."""
        if len(labels) < len(self.decision.gates):
            return np.ones(n, np.bool_)
        return ~closed(self.decision.tuned, self._gate(labels, n))

    def find(self, strips: NDArray[np.uint8], labels: Labels, budget: Budget) -> list[Found]:
        """What is found on at most a batch of strips (b, 256, 1600), of which the classifiers gave the labels."""
        given = {name: self._ask(name, strips, budget) for name in self.decision.segmenters}
        joint = {name: _labels(one.labels) for name, one in given.items() if one.labels is not None}
        gate = self._gate(labels | joint, len(strips))
        maps = [quantise(one.main) for one in given.values()]  # each (b, 4, 256, 1600)
        sums = np.stack([sum_pixels(one.main) for one in given.values()], axis=1)  # (b, m, 4)
        found = []
        for i in range(len(strips)):
            prob, tail_px = Outputs([one[i] for one in maps], sums[i]).combine(self.decision.blend)
            found.append(Found(gate[i], apply_to_map(self.decision.tuned, prob, gate[i], tail_px)))
        return found

    def _find_in_batches(
        self, strips: NDArray[np.uint8], labels: Labels, rows: NDArray[np.int64], budget: Budget
    ) -> Iterator[Found]:
        """`find` on some rows of the strips; the next batch when the last has been taken."""
        for start in range(0, len(rows), self.batch):
            part = rows[start : start + self.batch]
            yield from self.find(strips[part], {name: prob[part] for name, prob in labels.items()}, budget)

    def _ask(self, name: str, strips: NDArray[np.uint8], budget: Budget) -> NetOutputs:
        one = self.predictors[name]
        return budget.timed(name, one.n_passes, lambda: one(strips))

    def _gate(self, labels: Labels, n: int) -> NDArray[np.float32]:
        """The gates (n, 4) of n strips, by the votes of all models that give any."""
        return mean_gate([labels[name] for name in self.decision.gates], n, self.decision.blend.gate_counts)


def chunk_of(batch: int) -> int:
    """Strips to hand to an ensemble at once: whole batches."""
    return max(1, CHUNK // batch) * batch


def _labels(prob: torch.Tensor | None) -> NDArray[np.float64]:
    assert prob is not None
    return prob.double().cpu().numpy()
