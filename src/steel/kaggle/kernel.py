"""What runs inside the Kaggle kernel: from a bundle and a folder of strips to `submission.csv`, the bytes of `submit`.

The classifiers are asked first. A strip on which the rules then show nothing, whatever its maps (`closed`), skips the
segmenters: half of them do. The others wait until they fill a batch. A strip's bytes do not depend on its company.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from steel import files, rle
from steel.competition import N_CLASSES
from steel.config import MachineConfig, Solution
from steel.config_json import from_json
from steel.data.images import list_images, read_strip
from steel.data.labels import read_image_list
from steel.decide import fallback
from steel.decide.closed import closed
from steel.decide.combine import Outputs
from steel.decide.decision import Decision
from steel.decide.ensemble import mean_gate
from steel.decide.fallback import Fallback
from steel.decide.rules import apply_to_map
from steel.errors import UserError
from steel.infer.predictor import Predictor, quantise, sum_pixels
from steel.kaggle.budget import Budget, Work
from steel.kaggle.layout import FALLBACKS, HURRIED, RULES, SOLUTION, weights_name
from steel.kaggle.submission import check_submission, write_submission
from steel.nets.build import Outputs as NetOutputs
from steel.progress import say, track

WRITE_EVERY_S = 60.0
Labels = dict[str, NDArray[np.float64]]  # class probabilities of some models, by name


def run(competition: Path, dataset: Path, working: Path) -> None:
    """Write `working/submission.csv` for the test strips of a competition's folder, by the bundle's dataset.

    A complete submission stands there from the start: all empty at first, then with more and more strips filled in.
    When the time is too short for what is left, that is done by the first of the bundle's fallbacks that fits.
    """
    image_ids = list_strips(competition)
    rows = {image_id: [""] * N_CLASSES for image_id in image_ids}
    target = working / "submission.csv"
    publish(target, rows)
    solution = on_this_machine(from_json(Solution, files.read_json(dataset / SOLUTION)))
    budget = Budget(solution.kernel.time_limit_s - solution.kernel.margin_s)
    whole, fallbacks = Ensemble.load(dataset, solution), fallback.load(dataset / FALLBACKS)
    queue = Queue([whole, *(whole.reduced(one) for one in fallbacks)], budget)
    threads = f"{torch.get_num_threads()} threads"
    say(f"kernel: {len(image_ids)} strips; torch {torch.__version__} on {whole.device}, {threads}")
    written, n_batches = time.monotonic(), -(-len(image_ids) // whole.batch)
    batches = read_ahead(competition / "test_images", image_ids, whole.batch)
    budget.begin()
    for done, strips in enumerate(track(batches, "kernel", "batches", n_batches), 1):
        queue.add(strips)
        rows |= queue.run()
        if budget.is_over:
            say(f"{HURRIED}{budget.limit_s:.0f} s are over; the strips that are left stay empty")
            break
        if queue.hurry(done, n_batches - done):
            one = fallbacks[queue.way - 1]
            say(f"{HURRIED}after {done} of {n_batches} batches on with {fallback.told(one)}; {fallback.scored(one)}")
        if time.monotonic() - written > WRITE_EVERY_S:
            publish(target, rows)
            written = time.monotonic()
    else:
        rows |= queue.run(to_the_end=True)
    publish(target, rows)
    n_unread = max(len(image_ids) - done * whole.batch, 0)
    say(f"kernel: {len(rows)} strips, {summary(rows, queue, n_unread)}; {budget.spent_s:.1f} s")


def on_this_machine(solution: Solution) -> Solution:
    """The solution with home's count of threads, on which a CPU's numbers depend; on a GPU with all that there are."""
    return replace(solution, machine=MachineConfig()) if torch.cuda.is_available() else solution


def summary(rows: Mapping[str, Sequence[str]], queue: "Queue", n_unread: int) -> str:
    """What became of the strips, of which some were not even read."""
    n_left = n_unread + len(queue.waiting)
    counts = {
        "with a defect shown": sum(any(row) for row in rows.values()),
        "closed by the gate": queue.n_closed,
        "unreadable": len(rows) - n_left - queue.n_closed - queue.n_encoded - queue.n_failed,
        "failed": queue.n_failed,
        "not reached": n_left,
    }
    return ", ".join(f"{n or 'none'} {what}" for what, n in counts.items())


def list_strips(competition: Path) -> list[str]:
    """The test strips in the order of the sample submission; sorted by name, those of the folder, if there is none."""
    folder = competition / "test_images"
    try:
        return read_image_list(competition / "sample_submission.csv")
    except UserError as fault:
        say(f"kernel: warning: {fault}; the files of {folder} are taken instead")
        return list_images(folder)


def publish(target: Path, rows: Mapping[str, Sequence[str]]) -> None:
    """Write and check a submission, then give it its name: image id to the run-length codes of the four classes."""
    with files.atomic(target) as temporary:
        write_submission(temporary, list(rows), list(rows.values()))
        check_submission(temporary, list(rows))


def read_ahead(folder: Path, image_ids: Sequence[str], size: int) -> Iterator[dict[str, NDArray[np.uint8]]]:
    """Strips (256, 1600) by id, `size` files at a time, of which those that cannot be read are left out.

    A thread reads the next while the caller is at work on the last.
    """
    parts = [image_ids[start : start + size] for start in range(0, len(image_ids), size)]
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(_read, folder, parts[0])
        for part in [*parts[1:], []]:
            found = ahead.result()
            ahead = reader.submit(_read, folder, part)
            yield found


def _read(folder: Path, image_ids: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
    strips = {}
    for image_id in image_ids:
        try:
            strips[image_id] = read_strip(folder / image_id)
        except UserError as fault:
            say(f"kernel: warning: {fault}; nothing is shown on it")
    return strips


@dataclass(frozen=True)
class Ensemble:
    """Models of a bundle on their device, and what is decided on what they say."""

    predictors: dict[str, Predictor]
    decision: Decision
    batch: int

    @classmethod
    def load(cls, dataset: Path, solution: Solution) -> "Ensemble":
        """Read rules and weights: all models, all folds, all views."""
        decision = Decision.load(dataset / RULES, solution)
        weights = {name: [dataset / weights_name(name, fold) for fold in decision.folds] for name in solution.models}
        predictors = {name: Predictor.of(solution, name, found) for name, found in weights.items()}
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

    def classify(self, strips: NDArray[np.uint8], budget: Budget) -> Labels:
        """Class probabilities (b, 4) of some strips (b, 256, 1600) by the classifiers."""
        names = [name for name in self.decision.gates if not self.predictors[name].gives_maps]
        return {name: _labels(self._ask(name, strips, budget).labels) for name in names}

    def may_show(self, labels: Labels, n: int) -> NDArray[np.bool_]:
        """Which of n strips need maps (n,), by what the classifiers say: all, if joint heads have still to vote."""
        if len(labels) < len(self.decision.gates):
            return np.ones(n, np.bool_)
        return ~closed(self.decision.tuned, self._gate(labels, n))

    def encode(self, strips: NDArray[np.uint8], labels: Labels, budget: Budget) -> list[list[str]]:
        """Run-length codes of the four masks of each strip (b, 256, 1600), of which the classifiers gave the labels."""
        found = {name: self._ask(name, strips, budget) for name in self.decision.segmenters}
        joint = {name: _labels(one.labels) for name, one in found.items() if one.labels is not None}
        gate = self._gate(labels | joint, len(strips))
        maps = [quantise(one.main) for one in found.values()]  # each (b, 4, 256, 1600)
        sums = np.stack([sum_pixels(one.main) for one in found.values()], axis=1)  # (b, m, 4)
        rows = []
        for i in range(len(strips)):
            prob, tail_px = Outputs([one[i] for one in maps], sums[i]).combine(self.decision.blend)
            rows.append([rle.encode(mask) for mask in apply_to_map(self.decision.tuned, prob, gate[i], tail_px)])
        return rows

    def _ask(self, name: str, strips: NDArray[np.uint8], budget: Budget) -> NetOutputs:
        one = self.predictors[name]
        return budget.timed(name, one.n_passes, lambda: one(strips))

    def _gate(self, labels: Labels, n: int) -> NDArray[np.float32]:
        """The gates (n, 4) of n strips, by the votes of all models that give any."""
        return mean_gate([labels[name] for name in self.decision.gates], n, self.decision.blend.gate_counts)


class Queue:
    """Strips that wait, with what the classifiers say of them, until they fill a batch for the segmenters.

    Args:
        ways: the whole ensemble, then its fallbacks from the best to the quickest.
        budget: the time that there is.
    """

    def __init__(self, ways: Sequence[Ensemble], budget: Budget) -> None:
        self.ways, self.way, self.budget = ways, 0, budget
        self.waiting: list[tuple[str, NDArray[np.uint8], Labels]] = []
        self.n_closed, self.n_encoded, self.n_failed = 0, 0, 0

    def add(self, strips: Mapping[str, NDArray[np.uint8]]) -> None:
        """Ask the classifiers about at most a batch of strips by id; those that they close need not wait."""
        if not strips:
            return
        ensemble = self.ways[self.way]
        try:
            labels = ensemble.classify(np.stack(list(strips.values())), self.budget)
        except Exception as error:
            self._lose(list(strips), error)
            return
        may_show = ensemble.may_show(labels, len(strips))
        for i, (image_id, strip) in enumerate(strips.items()):
            if may_show[i]:
                self.waiting.append((image_id, strip, {name: prob[i] for name, prob in labels.items()}))
        self.n_closed += len(strips) - int(may_show.sum())

    def run(self, to_the_end: bool = False) -> dict[str, list[str]]:
        """Run the segmenters on full batches, at the end on the rest too; run-length codes by id."""
        rows: dict[str, list[str]] = {}
        ensemble = self.ways[self.way]
        while len(self.waiting) >= (1 if to_the_end else ensemble.batch):
            image_ids, strips, each = zip(*self.waiting[: ensemble.batch], strict=True)
            del self.waiting[: ensemble.batch]
            labels = {name: np.stack([one[name] for one in each]) for name in each[0]}
            try:
                rows |= zip(image_ids, ensemble.encode(np.stack(strips), labels, self.budget), strict=True)
            except Exception as error:
                self._lose(image_ids, error)
            else:
                self.n_encoded += len(image_ids)
        return rows

    def _lose(self, image_ids: Sequence[str], error: Exception) -> None:
        """Go on without a batch that a model cannot do: a kernel that ends badly has no score at all."""
        self.n_failed += len(image_ids)
        what = " ".join(str(error).split())[:200]
        say(f"kernel: warning: {', '.join(image_ids)}: {type(error).__name__}: {what}; nothing is shown on them")

    def hurry(self, n_done: int, n_left: int) -> bool:
        """Change to the first way that is quick enough for what is left; whether it did. Both in batches."""
        n_waiting = len(self.waiting)
        share = (n_waiting + self.n_encoded) / max(n_waiting + self.n_encoded + self.n_closed, 1)
        n_open = n_left * share + n_waiting / self.ways[0].batch
        before = self.way
        self.way = self.budget.choose([way.work for way in self.ways], before, n_done, n_left, n_open)
        return self.way > before


def _labels(prob: torch.Tensor | None) -> NDArray[np.float64]:
    assert prob is not None
    return prob.double().cpu().numpy()
