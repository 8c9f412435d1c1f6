"""A finished solution with a bundle that has passed its dry run, to be pushed to a Kaggle of our own."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import tiny
from kaggle_push_server import PushServer, Run, taking
from kaggle_server import USER

from steel import files
from steel.__main__ import main
from steel.config import Solution
from steel.errors import UserError
from steel.kaggle import bundle, leaderboard, parts, push
from steel.paths import Paths
from steel.stage import recorded

FOLDER = Path("kernels/tiny")
LOCAL = Path("submissions/tiny/submission.csv")
DATASET, KERNEL = f"{USER}/steel-tiny-weights", f"{USER}/steel-tiny"
PACKED = bundle.packed
REAL = ("--data.synth", "null", "--data.raw", "data/tiny/raw")  # made-up strips are not pushed


def make(finished: Path, folder: Path) -> Path:
    """A copy of the finished run with the bundle; its dry run, which tests/test_dryrun.py is about, is only noted."""
    tiny.copy(finished, folder)
    with tiny.within(folder):
        main(["kernel", "bundle", tiny.CONFIG, "--owner", USER])
        files.write_json(FOLDER / parts.DRY_RUN, {"bundle": recorded(FOLDER)})
    return folder


@contextmanager
def place(patch: pytest.MonkeyPatch, made: Path, folder: Path) -> Iterator[PushServer]:
    """Work in a copy of it; the kernel's next run leaves the local submission. What is packed is found once."""
    for path in made.iterdir():
        if path.name in ("data", "folds", "runs"):  # read, and no more
            (folder / path.name).symlink_to(path)
        elif path.is_dir():
            tiny.copy(path, folder / path.name)
        else:
            tiny.link(path, folder / path.name)
    home = folder / "home"
    home.mkdir()
    with tiny.within(folder), taking(patch, home) as server:
        patch.setattr(bundle, "packed", lambda _: packed())
        server.runs = [Run({"submission.csv": LOCAL.read_bytes()}, log="well")]
        yield server


def kernel(what: str, yes: bool = True, message: str | None = None) -> None:
    """The command, without its command line: that alone takes longer than the rest."""
    paths = Paths(real())
    if what == "push":
        push.run(paths, paths.solution.folds, yes)
    else:
        leaderboard.run(paths, paths.solution.folds, yes, message)


def fault(what: str, yes: bool = True) -> str:
    """What the command says when it refuses: one line."""
    with pytest.raises(UserError) as refusal:
        kernel(what, yes)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@cache
def real() -> Solution:
    """The solution, said to be of real strips."""
    return tiny.solution(*REAL)


@cache
def packed() -> dict[str, Path]:
    """The modules that the kernel takes along."""
    return PACKED(real())
