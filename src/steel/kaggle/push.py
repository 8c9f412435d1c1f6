"""`steel kernel push`: the proved bundle sent to Kaggle and run there, its submission compared with the local one."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from steel import files
from steel.errors import UserError
from steel.kaggle import bundle, client, parts, remote
from steel.kaggle.check import open_submission
from steel.kaggle.diff import diff
from steel.kaggle.layout import HURRIED
from steel.paths import Paths
from steel.progress import say

FILE = "submission.csv"
LEAST_DICE = 0.999  # mean Dice between the submissions of two machines: other devices round otherwise


def run(paths: Paths, folds: Sequence[int], yes: bool, force: bool = False) -> None:
    """Send what has changed, wait for the kernel, fetch and compare; without `yes` only say what would be sent.

    Each step is written down once it is done, so that a killed push goes on where it was. `force`: run the kernel
    again, though it was pushed as it is.
    """
    remote.refuse_made_up(paths.solution)
    bundle.need(paths, folds, "kernel push")
    if not parts.passed(paths.kernel):
        raise UserError(f"{paths.kernel} has not passed its dry run: run `steel kernel test CONFIG` first")
    if not yes:
        for line in plan(paths.kernel):
            say(f"kernel push: {line}")
        say("kernel push: nothing has left this machine; with --yes it is sent")
        return
    api = client.open_api()
    remote.send_dataset(api, paths.kernel / "dataset")
    if force:
        remote.note(paths.kernel, kernel=None, output=None)
    version = remote.standing_kernel(api, paths.kernel) or remote.send_kernel(api, paths.kernel)
    kernel = f"{kernel_id(paths)}/{version}"
    if not compared(paths, version):
        _prove(api, paths, kernel)
    dice = f"mean Dice {remote.sent(paths.kernel)['output']['dice']:.5f} between Kaggle's submission and the local one"
    say(f"kernel push: {kernel} stands, {dice}; `steel kernel submit CONFIG --yes` submits it")


def plan(folder: Path) -> list[str]:
    """What a push would send, as far as is known here: a line each for dataset and kernel."""
    held = [path.stat().st_size for path in remote.dataset_files(folder / "dataset")]
    size = f"{len(held)} files, {sum(held) / 1e6:.1f} MB"
    dataset = files.read_json(folder / "dataset" / parts.DATASET)["id"]
    kernel = files.read_json(folder / parts.KERNEL)["id"]
    known, same = remote.sent(folder), remote.sent_dataset(folder / "dataset")
    lines = [f"dataset {dataset}, {size}: {_news(known.get('dataset', {}), same)}"]
    pushed = remote.sent_kernel(folder) if same else None
    return [*lines, f"kernel {kernel}, to run on a T4 without internet: {_news(known.get('kernel', {}), pushed)}"]


def proved(paths: Paths) -> int:
    """The version of the kernel that runs this very bundle, and whose output was compared; a UserError without one."""
    dataset, version = remote.sent_dataset(paths.kernel / "dataset"), remote.sent_kernel(paths.kernel)
    if dataset is None or version is None or not compared(paths, version):
        raise UserError(
            f"{paths.kernel} was not pushed as it is, run on Kaggle and compared: "
            "run `steel kernel push CONFIG --yes` first"
        )
    return version


def compared(paths: Paths, version: int) -> bool:
    """Whether the output of a version was compared with the local submission as it is now."""
    return remote.sent(paths.kernel).get("output", {}).items() >= _comparison(paths, version).items()


def kernel_id(paths: Paths) -> str:
    """The bundle's kernel as "owner/slug"."""
    return files.read_json(paths.kernel / parts.KERNEL)["id"]


def compare(found: Path, local: Path) -> float:
    """Mean Dice between two submissions; a UserError if their rows differ, or the Dice is less than LEAST_DICE."""
    if not found.exists():
        raise UserError(f"the kernel left no {found.name}; its log lies in {found.parent}")
    theirs, ours = open_submission(found), open_submission(local)
    pairs = zip_longest(theirs.image_ids, ours.image_ids, fillvalue="nothing")
    for i, (there, here) in enumerate(pairs, 1):
        if there != here:
            raise UserError(f"{found}: strip {i} is {there}: expected {here}, as in {local}")
    if (theirs.per_class, theirs.n_rows) != (ours.per_class, ours.n_rows):
        raise UserError(f"{found}: {theirs.n_rows} rows: expected {ours.n_rows}, as in {local}")
    dice = float(diff(theirs, ours).dice.mean())
    if dice < LEAST_DICE:
        raise UserError(
            f"{found}: mean Dice {dice:.5f} with {local}: expected {LEAST_DICE} or more; "
            f"`steel submission diff {found} {local}` says where they differ, and --force has the kernel run again"
        )
    return dice


def _prove(api: Any, paths: Paths, kernel: str) -> None:
    """Wait for a version of the kernel, fetch what it left, compare it with the local submission, write that down."""
    try:
        remote.wait_kernel(api, kernel)
    except remote.KernelFailed:
        remote.note(paths.kernel, kernel=None)  # so that the next push runs it again
        raise
    output = paths.kernel / "output"
    files.remove(output)
    for path in remote.fetch_output(api, kernel, output):
        if path.suffix == ".log":
            for line in path.read_text(encoding="utf-8").splitlines():
                if HURRIED in line:
                    say(f"| {line}")
    dice = compare(output / FILE, paths.submission / FILE)
    remote.note(paths.kernel, output={**_comparison(paths, int(kernel.rpartition("/")[2])), "dice": dice})


def _comparison(paths: Paths, version: int) -> dict[str, Any]:
    """Of what a comparison is: the version, and the local submission's bytes, '' without one."""
    local = paths.submission / FILE
    return {"version": version, "submission": files.sha256(local) if local.exists() else ""}


def _news(known: dict[str, int], same: int | None) -> str:
    """How a part of the bundle stands to what was sent before."""
    if same is not None:
        return f"unchanged, version {same}"
    return f"a new version, after {known['version']}" if "version" in known else "new"
