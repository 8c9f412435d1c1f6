"""`steel predict CONFIG --images DIR|ADDRESS --executor ray --out DIR`: a finished solution on an archive of any size.

The list of the strips is cut into parts, a part into slices. What is found on a slice comes back to this program, which
writes a part when its slices are complete: no other machine needs to see OUT.
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steel import files
from steel.cli import Options
from steel.cluster.archive import Archive
from steel.cluster.connect import connect, nodes
from steel.cluster.crew import Crew
from steel.cluster.flow import Flow, quiet
from steel.cluster.parts import SUMMARY, Counts, Out, Run, opened
from steel.cluster.pieces import Assembly, cut
from steel.cluster.share import share_of
from steel.config import Solution, digest
from steel.decide import run as decided
from steel.decide.decision import Decision
from steel.kaggle.apply import STORED, finished, weights_of
from steel.kaggle.ensemble import chunk_of
from steel.kaggle.layout import RULES, weights_name
from steel.paths import Paths
from steel.progress import LINE_EVERY_S, counted, say


def run(paths: Paths, options: Options) -> None:
    """Predict every strip of an archive with all folds, views and rules of the run; write what is found as parts."""
    assert options.images is not None and options.out is not None
    archive = Archive.at(options.images)
    files.check_writable(options.out, "--out")
    solution, decision = finished(paths)
    sources = _sources(paths, solution, decision)
    this = Run(archive.address, solution.name, _made_by(solution, sources), solution.ray.part_strips)
    with opened(options.out, this, archive.list_strips, options.force) as out:
        missing = out.missing()
        progress = Progress(len(out.strips), out.counts(set(range(out.n_parts)) - set(missing)))
        if missing:
            with quiet(), connect(solution.ray):
                _fill(out, missing, archive, solution, sources, progress)
        if missing or not (out.folder / SUMMARY).exists():
            out.finish(progress.counts, progress.rate())
    counts = progress.counts
    found = f"{counts.with_a_defect} with a defect shown, {len(counts.corrupt)} corrupt"
    say(f"predict: {counts.strips} strips, {found}; {out.n_parts} parts in {out.folder}")


class Progress:
    """What has been done, told now and then.

    Attributes:
        total: strips in all.
        counts: what was found so far, by earlier runs too.
    """

    def __init__(self, total: int, counts: Counts) -> None:
        self.total, self.counts, self._before = total, counts, counts.strips
        self._start = self._last = time.monotonic()

    def add(self, part: Counts) -> None:
        """Count a part that was written."""
        self.counts.add(part)
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_S:
            self._last, rate = now, self.rate()["strips_per_s"]
            left_s = (self.total - self.counts.strips) / rate
            done = f"{self.counts.strips}/{self.total} strips, {rate:.3g} strips/s"
            say(f"predict: {done}, {len(self.counts.corrupt)} corrupt, {left_s:.0f} s left")

    def rate(self) -> dict[str, Any]:
        """Strips and seconds of this run."""
        n, seconds = self.counts.strips - self._before, time.monotonic() - self._start
        return {"strips_of_this_run": n, "seconds": round(seconds, 1), "strips_per_s": round(n / seconds, 2)}


def _fill(
    out: Out, missing: list[int], archive: Archive, solution: Solution, sources: dict[str, Path], progress: Progress
) -> None:
    """Have the connected cluster predict the parts that are missing; write them."""
    known = nodes()
    crew = Crew.of(share_of(solution, "predict", known), solution.machine, known)
    standing = f"{out.n_parts - len(missing)} of {out.n_parts} parts stand, " if len(missing) < out.n_parts else ""
    n_left = progress.total - progress.counts.strips
    crewed = f"{counted(crew.workers, 'worker')} and {counted(crew.readers, 'reader')} on {counted(len(known), 'node')}"
    say(f"predict: {standing}{counted(n_left, 'strip')} for {crewed}")
    shipped = {name: path.read_bytes() for name, path in sources.items()}
    flow, assembly = Flow(archive, out.strips, solution, shipped, crew), Assembly(out.bounds)
    for told in flow.told(cut(missing, out.bounds, chunk_of(solution.predict.batch))):
        for part, rows, corrupt in assembly.add(told):
            progress.add(out.write(part, rows, corrupt))


def _sources(paths: Paths, solution: Solution, decision: Decision) -> dict[str, Path]:
    """Rules and weights, by the names that they have in a kernel's dataset."""
    weights = weights_of(solution, decision).items()
    named = {
        weights_name(name, k): path for name, each in weights for k, path in zip(decision.folds, each, strict=True)
    }
    return {RULES: paths.decide / decided.RULES, **named}


def _made_by(solution: Solution, sources: dict[str, Path]) -> dict[str, str]:
    """Digests of all that decides what is found on a strip."""
    config = asdict(solution)
    digests = {name: files.sha256(path) for name, path in sources.items()}
    return {"solution": digest({key: config[key] for key in STORED}), **digests}
