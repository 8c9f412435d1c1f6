"""`steel kernel test`: the bundle run here as Kaggle would, and proved by the very bytes of the local submission.

The kernel runs over the folders that Kaggle has, and can import only what Kaggle's image is taken to have; there is no
network, and memory and time end where Kaggle's do.
"""

import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from steel import files, specs, stage
from steel.cli import Options
from steel.competition import SLUG
from steel.config import MachineConfig
from steel.errors import UserError, shorten
from steel.kaggle import apply, bundle, clean_run
from steel.kaggle.image import IMAGE, link_packages
from steel.kaggle.layout import HURRIED
from steel.kaggle.parts import DRY_RUN
from steel.paths import Paths
from steel.progress import say
from steel.stage import recorded

LIMIT_BYTES = 29 << 30  # memory of Kaggle's machines with a T4
KEPT = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")  # of the environment: what finds a GPU, and no more
ALONE = ("unshare", "--map-root-user", "--net")  # a network of its own, in which there is nobody


@dataclass(frozen=True)
class Usage:
    """What a run took, how the network was kept from it (``namespace`` or ``guard``), and the lines that it printed."""

    seconds: float
    peak_bytes: int
    network: str
    log: list[str]

    def __str__(self) -> str:
        return f"{self.seconds:.0f} s and {self.peak_bytes / 2**30:.1f} GiB of memory"

    def record(self, folder: Path, **found: Any) -> None:
        """Write down beside the bundle of a folder that its dry run has passed, and what it has shown."""
        taken = {"seconds": round(self.seconds, 1), "peak_bytes": self.peak_bytes, "network": self.network}
        files.write_json(folder / DRY_RUN, {"bundle": recorded(folder), **found, **taken})


def run(paths: Paths, folds: Sequence[int], images: Path | None) -> None:
    """Run the bundle on the test strips, and record that it gave the bytes that it must; or on those of a folder."""
    bundle.need(paths, folds, "kernel test")
    with tempfile.TemporaryDirectory(prefix="steel-kernel-") as folder:
        root = Path(folder)
        expected = _lay_out(root, paths, images)
        if images is None:  # from here on, what ends otherwise than well has not passed
            files.remove(paths.kernel / DRY_RUN)
        limit_s = paths.solution.kernel.time_limit_s
        usage = execute(
            root, (paths.kernel / "kernel.py").absolute(), environment(root, paths.solution.machine), limit_s
        )
        if any(HURRIED in line for line in usage.log):
            raise UserError(
                f"kernel test: on this machine {limit_s} s are too short for the whole ensemble, and less of it gives "
                "other bytes: test it with a GPU, or on fewer strips (--images DIR)"
            )
        _compare(root / "working/submission.csv", expected, _changes(paths, folds))
    n_rows = expected.count(b"\n") - 1
    if images is not None:
        say(f"kernel test: the bytes of `steel predict`, {n_rows} rows, in {usage}; only the test strips' are recorded")
        return
    usage.record(paths.kernel, rows=n_rows, submission=hashlib.sha256(expected).hexdigest())
    say(f"kernel test: passed; the bytes that it must give, {n_rows} rows, in {usage}")


def execute(
    root: Path,
    script: Path,
    environment: dict[str, str],
    limit_s: float,
    limit_bytes: int = LIMIT_BYTES,
    packages: Iterable[str] = IMAGE,
) -> Usage:
    """Run a script in `root/working` as on Kaggle's image, its output shown; a UserError if it does not end well.

    `packages`: what it may import, beside what these need.
    """
    link_packages(root / "packages", packages)
    network = "namespace" if _may_be_alone() else "guard"
    python = [sys.executable, "-I", "-S", clean_run.__file__, str(root / "packages"), str(limit_bytes), network]
    peak = root / "peak"
    prefix = ALONE if network == "namespace" else ()
    start = time.monotonic()
    process = subprocess.Popen(
        [*prefix, *python, str(peak), str(script)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=root / "working",
        env=environment,
    )
    timer = threading.Timer(limit_s, process.kill)
    timer.start()
    log = []
    try:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                log.append(line.decode(errors="replace").rstrip())
                say(f"| {log[-1]}")
    except BaseException:
        process.kill()
        raise
    finally:
        process.wait()
        timer.cancel()
    seconds = time.monotonic() - start
    if process.returncode:
        why = f"was stopped after {limit_s:g} s" if seconds >= limit_s else f"ended with code {process.returncode}"
        raise UserError(f"kernel test: the kernel {why}; its log stands above")
    return Usage(seconds, int(peak.read_text()), network, log)


def environment(root: Path, machine: MachineConfig) -> dict[str, str]:
    """Variables of the kernel: where its folders below `root` are, and the device that is used here."""
    kept = {key: os.environ[key] for key in KEPT if key in os.environ}
    kind, _, number = machine.device.partition(":")
    if kind == "cpu":
        kept["CUDA_VISIBLE_DEVICES"] = ""
    elif number:  # among those that are visible here
        visible = kept.get("CUDA_VISIBLE_DEVICES")
        kept["CUDA_VISIBLE_DEVICES"] = visible.split(",")[int(number)] if visible else number
    folders = {"STEEL_INPUT": "input", "STEEL_WORKING": "working", "HOME": "tmp", "TMPDIR": "tmp"}
    return kept | {key: str(root / name) for key, name in folders.items()} | {"LC_ALL": "C.UTF-8"}


def _lay_out(root: Path, paths: Paths, images: Path | None) -> bytes:
    """Make the folders that Kaggle has; the submission that the kernel must write there."""
    competition, dataset = root / "input" / SLUG, root / "input" / bundle.slugs(paths.solution)[1]
    for folder in (root / "working", root / "tmp", competition):
        folder.mkdir(parents=True)
    dataset.symlink_to((paths.kernel / "dataset").absolute())
    if images is None:
        for name in ("test_images", "sample_submission.csv"):
            if not (paths.raw / name).exists():
                raise UserError(f"{paths.raw} lacks {name}: give --images DIR to test on other strips")
            (competition / name).symlink_to((paths.raw / name).absolute())
        return (paths.submission / "submission.csv").read_bytes()
    (competition / "test_images").symlink_to(images.absolute())
    machine = replace(paths.solution.machine, threads=bundle.shipped(paths).machine.threads)
    out = root / "expected.csv"
    apply.run(Paths(replace(paths.solution, machine=machine)), Options(images=str(images), out=out))
    return out.read_bytes()


def _may_be_alone() -> bool:
    """Whether this user may give a program a network of its own."""
    if shutil.which(ALONE[0]) is None:
        return False
    return subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0


def _changes(paths: Paths, folds: Sequence[int]) -> list[str]:
    """What has changed since the test strips were predicted, and may have changed their bytes."""
    states = [stage.look(specs.of_test(paths, name, folds)) for name in paths.solution.models]
    return sorted({state.why for state in states if state.why})


def _compare(found: Path, expected: bytes, changes: list[str]) -> None:
    """Refuse a submission of other bytes; the error names the first line that differs."""
    data = found.read_bytes() if found.exists() else b""
    if data == expected:
        return
    pairs = itertools.zip_longest(data.decode().split("\n"), expected.decode().split("\n"), fillvalue="no such line")
    differing = [(line, pair) for line, pair in enumerate(pairs, 1) if pair[0] != pair[1]]
    line, (got, wanted) = differing[0]
    since = f" (since the local prediction {shorten(changes)}: run `steel predict CONFIG --force`)" if changes else ""
    raise UserError(
        f"kernel test: {len(differing)} lines differ from the local submission, first line {line}: "
        f"{got[:60]!r}, expected {wanted[:60]!r}{since}"
    )
