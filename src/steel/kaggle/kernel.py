"""What runs inside the Kaggle kernel: from a bundle and a folder of strips to `submission.csv`, the bytes of `submit`.

Strips that the classifiers close skip the segmenters (`steel.kaggle.ensemble`); the others wait until a batch is full.
A strip's bytes do not depend on its company.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from steel import files
from steel.competition import N_CLASSES
from steel.config import MachineConfig, Solution
from steel.config_json import from_json
from steel.data.images import list_images, read_strip
from steel.data.labels import read_image_list
from steel.decide import fallback
from steel.errors import UserError
from steel.kaggle.budget import Budget
from steel.kaggle.ensemble import Ensemble, Labels
from steel.kaggle.layout import FALLBACKS, HURRIED, SOLUTION
from steel.kaggle.submission import check_submission, write_submission
from steel.progress import say, track

WRITE_EVERY_S = 60.0


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
                found = ensemble.find(np.stack(strips), labels, self.budget)
                rows |= {image_id: one.rles for image_id, one in zip(image_ids, found, strict=True)}
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
