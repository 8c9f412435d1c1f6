"""A training killed anywhere and started again ends with the bytes of the undisturbed one."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy

from steel import files
from steel.data.cache import open_strips
from steel.fit import train
from steel.fit.trainer import Trainer
from steel.paths import Paths

pytestmark = pytest.mark.usefixtures("one_thread")


class Killed(BaseException):
    """Stands for a kill: nothing in the package catches it."""


def kill_at(patch: pytest.MonkeyPatch, owner: object, name: str, call: int, after: bool = False) -> None:
    """Let the given call (from 1) of a function not return."""
    true: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def function(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != call:
            return true(*args, **kwargs)
        if after:
            true(*args, **kwargs)
        raise Killed

    patch.setattr(owner, name, function)


KILLS: dict[str, tuple[object, str, int, bool]] = {
    "in the first epoch": (Trainer, "_backward", 2, False),
    "in the middle of epoch 3": (Trainer, "_backward", 12, False),
    "before a step": (Trainer, "_step", 3, False),
    "while it validates": (Trainer, "validate", 1, False),
    "before the log is written": (train, "_write_log", 2, False),
    "after the log, before the checkpoint": (Trainer, "save", 2, False),
    "before the checkpoint gets its name": (files, "publish", 4, False),
    "after the checkpoint": (Trainer, "save", 3, True),
    "before the weights": (train, "save_weights", 1, False),
    "after the weights": (train, "save_weights", 1, True),
}


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what differs from run to run: seconds, memory, and where it was resumed."""
    varied = ("train_s", "seconds", "peak_mb", "resumed")
    return [{key: value for key, value in row.items() if key not in varied} for row in rows]


@pytest.mark.parametrize("kill", KILLS)
def test_killed_and_started_again_it_ends_with_the_same_bytes(
    kill: str, tmp_path: Path, trained: dict[str, Path]
) -> None:
    toy.fresh(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, *KILLS[kill])
        with pytest.raises(Killed):
            toy.run(tmp_path, "unet")
    torch.manual_seed(12345)  # whatever the state of the new process
    np.random.default_rng(5).random(99)
    folder = toy.run(tmp_path, "unet")
    assert toy.weights(folder) == toy.weights(trained["unet"])
    assert timeless(toy.log(folder)) == timeless(toy.log(trained["unet"]))
    assert {p.name for p in folder.iterdir()} == {p.name for p in trained["unet"].iterdir()}


def test_killed_after_every_epoch(tmp_path: Path, trained: dict[str, Path]) -> None:
    toy.fresh(tmp_path)
    for _ in range(3):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, Trainer, "save", 1, after=True)
            with pytest.raises(Killed):
                toy.run(tmp_path, "gate")
    folder = toy.run(tmp_path, "gate")
    assert toy.weights(folder) == toy.weights(trained["gate"])
    assert [row.get("resumed") for row in toy.log(folder)] == [None, True, True, True]
    assert toy.scalars(folder / "events") == toy.scalars(trained["gate"] / "events")


def test_a_real_kill(tmp_path: Path, trained: dict[str, Path]) -> None:
    toy.fresh(tmp_path)
    script = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import toy
from steel.fit import train
true, calls = train.Trainer._backward, 0
def backward(*args):
    global calls
    calls += 1
    if calls == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return true(*args)
train.Trainer._backward = backward
toy.run(toy.Path("."), "unet")
"""
    command = [sys.executable, "-c", script, str(Path(__file__).parent)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == -signal.SIGKILL, result.stderr
    folder = tmp_path / Paths(toy.solution(toy.MODELS)).fold("unet", toy.FOLD)
    assert len(toy.log(folder)) == 2 and (folder / "last.pt").exists()
    assert toy.weights(toy.run(tmp_path, "unet")) == toy.weights(trained["unet"])
    assert [row["epoch"] for row in toy.log(folder)] == [1, 2, 3, 4]


def test_workers_change_nothing(tmp_path: Path, trained: dict[str, Path]) -> None:
    folder = toy.run(toy.fresh(tmp_path), "unet", toy.solution(toy.MODELS, workers=2))
    assert toy.weights(folder) == toy.weights(trained["unet"])


def test_a_checkpoint_of_another_config_is_not_continued(tmp_path: Path) -> None:
    toy.fresh(tmp_path)
    strips = open_strips(tmp_path / "data/toy/cache", "train")
    trainer = Trainer(toy.CLASSIFIER, toy.solution({}).machine, strips, np.arange(8), seed=1)
    trainer.save(tmp_path / "last.pt", "key", 2, [{"epoch": 1}, {"epoch": 2}])
    assert trainer.restore(tmp_path / "last.pt", "key") == (2, [{"epoch": 1}, {"epoch": 2}])
    assert trainer.restore(tmp_path / "last.pt", "other") == (0, [])
    assert trainer.restore(tmp_path / "none.pt", "key") == (0, [])
    assert trainer.restore(None, "key") == (0, [])
