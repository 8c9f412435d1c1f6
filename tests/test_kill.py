"""A run killed with SIGKILL at 20 random moments, in every stage, ends with the bytes of an undisturbed one."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
import tiny

pytestmark = pytest.mark.slow

N_KILLS = 20
RESUMABLE = ("train", "oof", "predict")  # what a killed one of these has done is not done again
POLL_S = 0.02
CONFIG = tiny.ROOT / "configs/demo.yaml"
REDUCED = {
    "--name": "killed",
    "--data.name": "killed",
    "--data.synth.n_train": "40",
    "--data.synth.n_test": "12",
    "--split.n_folds": "2",
    "--models.fpn.downscale": "4",
    "--models.fpn.phases": "[{epochs: 6, width: 384, batch: 8, lr: 6.0e-3, samples: 96}]",
    "--models.fpn.validate_every": "3",
    "--models.gate.net": "mobilenetv4_conv_small_050",
    "--models.gate.phases": "[{epochs: 4, width: 1600, batch: 8, lr: 3.0e-3}]",
    "--models.gate.validate_every": "2",
    "--machine.device": "cpu",
    "--machine.threads": "1",
}


@dataclass
class Timing:
    """When a stage of a run was first seen, when it first spoke and when it was last seen, s."""

    begin: float
    spoke: float | None = None
    end: float = 0.0


@dataclass
class Run:
    """A run of all stages in a process group of its own."""

    process: subprocess.Popen[bytes]
    log: Path
    stages: dict[str, Timing] = field(default_factory=dict)

    def look(self) -> str | None:
        """The stage at work at this moment, if any."""
        stage, now = stage_of_group(self.process.pid), time.monotonic()
        if stage:
            timing = self.stages.setdefault(stage, Timing(now))
            timing.end = now
            if timing.spoke is None and f"\n{stage}" in "\n" + self.log.read_text():
                timing.spoke = now
        return stage

    def over(self) -> bool:
        return self.process.poll() is not None


@contextmanager
def started(folder: Path) -> Iterator[Run]:
    """Start run_all.sh; whatever happens, nothing of it outlives the block."""
    options = [text for option in REDUCED.items() for text in option]
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [tiny.runner(folder), CONFIG, *options], cwd=folder, stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield Run(process, log)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def stage_of_group(group: int) -> str | None:
    """The stage that a process of a group runs: `... steel STAGE CONFIG`."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[2]) != group:
                continue
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except (OSError, ValueError):  # it has just ended
            continue
        for program, stage in pairwise(words):
            if Path(program).name == "steel" and stage in tiny.STAGES:
                return stage
    return None


def plan(timings: dict[str, Timing], rng: random.Random) -> list[tuple[str, float]]:
    """N_KILLS pairs of stage and delay after its begin, s: each stage once, the rest by the time that stages take.

    A third of the moments fall while Python starts; the others within the work. A stage that continues where it
    stopped is advanced by each kill but the last, so that its moments together span the work.
    """
    stages = list(tiny.STAGES)
    times = [timings[stage].end - timings[stage].begin for stage in stages]
    counts = Counter(stages) + Counter(rng.choices(stages, times, k=N_KILLS - len(stages)))
    moments = []
    for stage in stages:
        timing = timings[stage]
        start_s = (timing.spoke or timing.end) - timing.begin
        work_s = timing.end - timing.begin - start_s
        for _ in range(counts[stage]):
            if rng.random() < 1 / 3:
                moments.append((stage, rng.uniform(0, start_s)))
            else:
                reach_s = work_s * (min(1, 1.5 / counts[stage]) if stage in RESUMABLE else 1)
                moments.append((stage, start_s + rng.uniform(0, 0.9 * reach_s)))
    return moments


def kill_once(folder: Path, target: str, delay_s: float) -> str | None:
    """Start the run again and kill it `delay_s` after the begin of a stage, or in the next stage if it ends sooner.

    Gives the stage that was hit; None if the run was over before.
    """
    order = tiny.STAGES.index(target)
    with started(folder) as run:
        while not run.over():
            stage = run.look()
            timing = run.stages.get(target)
            due = timing is not None and time.monotonic() - timing.begin >= delay_s
            if stage and (due or tiny.STAGES.index(stage) > order):
                os.killpg(run.process.pid, signal.SIGKILL)
                run.process.wait()
                return stage
            time.sleep(POLL_S)
        assert run.process.returncode == 0, run.log.read_text()
    return None


def results(folder: Path) -> dict[str, str]:
    """Digests of the submission, the weights, the rules and all probabilities."""
    kinds = ("submission.csv", "weights.safetensors", "rules.json", "values.npz", "table.npy", "killed.csv")
    found = tiny.contents(folder)
    return {path: value for path, value in found.items() if path.endswith(kinds) or "maps.zarr" in path}


def test_killed_at_random_moments_it_gives_the_same_bytes(tmp_path: Path) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    calm.mkdir()
    rough.mkdir()
    with started(calm) as run:
        while not run.over():
            run.look()
            time.sleep(POLL_S)
        assert run.process.returncode == 0, run.log.read_text()
    timings = run.stages
    assert list(timings) == list(tiny.STAGES)
    took = {stage: round(timing.end - timing.begin, 1) for stage, timing in timings.items()}
    lines = (calm / "submissions/killed/submission.csv").read_text().splitlines()[1:]
    n_masks = sum(not line.endswith(",") for line in lines)
    print(f"\nundisturbed, s: {took}; {n_masks} masks in the submission")

    seed = int(os.environ.get("KILL_SEED", random.randrange(10**6)))
    rng = random.Random(seed)
    print(f"KILL_SEED={seed}")
    hits: list[str] = []
    waiting = plan(timings, rng)
    while waiting or len(hits) < N_KILLS:
        target, delay_s = waiting.pop(0) if waiting else (rng.choice(tiny.STAGES), rng.uniform(0, 0.5))
        hit = kill_once(rough, target, delay_s)
        print(f"kill {len(hits) + 1}: aimed at {target} after {delay_s:.2f} s, hit {hit}", flush=True)
        hits += [hit] if hit else []
        if not waiting:  # a stage that was done sooner than planned is hit while it finds that it has nothing to do
            waiting = [(stage, rng.uniform(0, 0.5)) for stage in tiny.STAGES if stage not in hits]
    with started(rough) as run:
        assert run.process.wait() == 0, run.log.read_text()
    print(f"hits: {dict(Counter(hits))}")
    assert set(hits) == set(tiny.STAGES)
    assert results(rough) == results(calm)
    left = [path for path in tiny.contents(rough) if path.endswith((".tmp", ".old", "last.pt")) or "building-" in path]
    assert left == []
