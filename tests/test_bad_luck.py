"""A full disk, two runs at once, Ctrl-C or another end: one line, and what stood still stands."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
from full_disk import files_of_at_most
from tiny import ON_RAW, RAW

ADVICE = "free some space and start it again, it continues"


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize(
    ("stage", "n_bytes"),
    [
        ("synth", 20_000),
        ("prepare", 2**20),
        ("folds", 500),
        ("train", 50_000),
        ("oof", 1000),
        ("decide", 50_000),
        ("report", 4000),
        ("predict", 1000),
        ("submit", 500),
    ],
)
def test_a_full_disk(stage: str, n_bytes: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Every stage is forced to write again, fails, leaves what stood, and completes once there is room."""
    whole = tiny.contents(Path())
    with files_of_at_most(n_bytes):
        message = tiny.fault(capsys, stage, tiny.CONFIG, "--force")
    assert message.startswith("File too large")
    assert message.endswith(ADVICE)
    left = tiny.contents(Path())
    assert {path: left.get(path) for path in whole if not tiny.logs(path)} == {
        path: value for path, value in whole.items() if not tiny.logs(path)
    }
    assert [path for path in left if path not in whole and not tiny.logs(path) and "building-" not in path] == []
    if stage not in ("synth", "train"):  # these take long; test_kill continues them
        tiny.run(stage)
        left = tiny.contents(Path())
        assert {path for path in whole if whole[path] != left.get(path)} <= {path for path in whole if tiny.logs(path)}


@pytest.mark.usefixtures("copied")
def test_a_full_disk_under_a_finished_solution(capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.csv").write_text("old")
    with files_of_at_most(200):
        message = tiny.refused(capsys, "predict", "--images", "data/tiny/raw/test_images", "--out", "x.csv")
    assert message.endswith(ADVICE)
    assert Path("x.csv").read_text() == "old"


def test_a_disk_that_is_really_full(finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        (disk / "data").symlink_to(finished / "data")
        (disk / "folds").symlink_to(finished / "folds")
        tiny.write_config(disk)
        fill = disk / "fill"
        fill.write_bytes(bytes(12_000_000))
        job, weights = ("--model", "gate", "--fold", "0"), Path("runs/tiny/gate/fold0/weights.safetensors")
        with tiny.within(disk):
            message = tiny.fault(capfd, "train", tiny.CONFIG, *job)
            assert message == f"No space left on device; {ADVICE}"
            assert not weights.exists()
            fill.unlink()
            tiny.run("train", args=job)
            assert capfd.readouterr().err == ""
            assert weights.read_bytes() == (finished / weights).read_bytes()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def start(folder: Path, *argv: str) -> subprocess.Popen[str]:
    """The program as a terminal starts it: in a process group of its own."""
    command = [sys.executable, "-m", "steel", *argv]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def interrupt(program: subprocess.Popen[str]) -> None:
    """Press Ctrl-C: the signal goes to the whole group; the end must be prompt, silent and one line."""
    os.killpg(program.pid, signal.SIGINT)
    begin = time.monotonic()
    _, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (130, "steel: interrupted; start it again and it continues\n")
    assert time.monotonic() - begin < 6  # .5 s on an idle machine


def test_two_runs_at_once_and_ctrl_c_in_a_training(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phases = "[{epochs: 8, width: 1600, batch: 4, samples: 12}]"
    changes = ("--models.gate.phases", phases, "--models.gate.validate_every", "1", "--machine.workers", "2")
    job = ("--model", "gate", "--fold", "1", *changes)
    with start(copied, "train", tiny.CONFIG, *job) as program:
        assert program.stdout is not None
        for line in program.stdout:
            if " epoch 2/8: " in line:
                break
        os.killpg(program.pid, signal.SIGSTOP)  # or it might be done before we are
        message = tiny.fault(capsys, "train", tiny.CONFIG, *job)
        folder = "runs/tiny/gate/fold1"
        assert message == f"train gate fold 1: process {program.pid} is at work on {folder}; wait for it"
        tiny.run("status", args=changes)
        assert f"train gate fold 1            running (process {program.pid}, since 20" in capsys.readouterr().out
        os.killpg(program.pid, signal.SIGCONT)
        interrupt(program)
    assert Path(folder, "last.pt").exists()
    tiny.run("train", args=(*job, "--machine.workers", "0"))
    assert "train gate fold 1: continues after epoch " in capsys.readouterr().out
    assert not Path(folder, "last.pt").exists()


def test_ctrl_c_in_prepare(tmp_path: Path) -> None:
    """While its workers decode; while they start: tests/test_workers.py."""
    tiny.write_config(tmp_path)
    images = tiny.write_raw(tmp_path / RAW) / "train_images"
    for i in range(3000):
        (images / f"more{i}.jpg").hardlink_to(images / "tr5.jpg")
    args = ("prepare", tiny.CONFIG, *ON_RAW, "--machine.workers", "2")
    with start(tmp_path, *args) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "prepare: new\n"
        time.sleep(1.5)
        interrupt(program)
    cache = tmp_path / "data/flat/cache"
    assert [path.name for path in cache.iterdir() if path.name not in (".lock", ".begun")] == []
    for i in range(40, 3000):
        (images / f"more{i}.jpg").unlink()
    with tiny.within(tmp_path):
        tiny.run("prepare", args=ON_RAW)
    assert np.load(cache / "train_images.npy", mmap_mode="r").shape == (46, 256, 1600)


@pytest.mark.parametrize(
    ("number", "tell"), [(signal.SIGTERM, os.kill), (signal.SIGTERM, os.killpg), (signal.SIGINT, os.killpg)]
)
def test_run_all_ends_with_its_stage(number: int, tell: Callable[[int, int], None], tmp_path: Path) -> None:
    """A batch system may tell the script alone; Ctrl-C reaches the whole group. The pipes close when both are gone."""
    tiny.write_config(tmp_path, tiny.YAML.replace("n_train: 32", "n_train: 4000"))
    pipe, command = subprocess.PIPE, [str(tiny.runner(tmp_path)), tiny.CONFIG]
    with subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as script:
        assert script.stdout is not None and script.stdout.readline() == "synth: new\n"
        tell(script.pid, number)
        begin = time.monotonic()
        told = script.communicate(timeout=60)
    assert (script.returncode, *told) == (128 + number, "", "steel: interrupted; start it again and it continues\n")
    assert time.monotonic() - begin < 6  # .5 s on an idle machine
