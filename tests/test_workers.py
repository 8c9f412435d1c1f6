"""Workers do their calls in order, stay silent on Ctrl-C and end with the program."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from steel.errors import UserError
from steel.workers import Workers, each

SLEEPY = """
import multiprocessing, sys, time
from pathlib import Path
from time import sleep
from steel.errors import UserError
def hold(name):
    global lock
    lock = multiprocessing.Lock()  # as libraries do when they are imported
    Path(f"held {name}").touch()
    while len(list(Path().glob("held *"))) < 2:
        sleep(.02)
    if name == "bad":
        raise UserError("bad strip")
    sleep(60)
def nap(i):
    Path(f"pid{i}").write_text(str(__import__("os").getpid()))
    time.sleep(.3)
    return i
def main():
    from steel import __main__, stages
    from steel.workers import Workers, each
    def status(c):
        with Workers(2) as pool:
            print("begun", flush=True)
            print(list(pool.map(nap, range(200))))
    def predict(c):
        print("begun", flush=True)
        each(sleep, [(60,), (60,)], 2)
    def oof(c, names=("bad", "good")):
        with Workers(2) as pool:
            print("begun", flush=True)
            list(pool.map(hold, names))
    def train(c):
        oof(c, ("fair", "good"))
    stages.STAGES.update(status=status, predict=predict, oof=oof, train=train)
    __main__.main([sys.argv[1], "x.yaml"])
if __name__ == "__main__":
    main()
"""


def start(folder: Path, stage: str = "status") -> subprocess.Popen[str]:
    """A stage of the program that keeps two workers busy for half a minute or more."""
    (folder / "x.yaml").write_text("name: x\nmodels: {unet: {}}\n")
    (folder / "sleepy.py").write_text(SLEEPY)
    pipe = subprocess.PIPE
    program = subprocess.Popen(
        [sys.executable, "sleepy.py", stage], stdout=pipe, stderr=pipe, text=True, start_new_session=True, cwd=folder
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "begun\n"
    return program


def running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_results_in_order() -> None:
    with Workers(2) as pool:
        assert list(pool.map(abs, [-3, 2, -1])) == [3, 2, 1]


@pytest.mark.parametrize(("stage", "after_s"), [("status", 0.1), ("status", 0.8), ("predict", 2.0)])
def test_ctrl_c_is_one_line_whatever_the_workers_do(tmp_path: Path, stage: str, after_s: float) -> None:
    """While they start, between short calls, and in the middle of a long one."""
    with start(tmp_path, stage) as program:
        time.sleep(after_s)
        os.killpg(program.pid, signal.SIGINT)
        out, err = program.communicate(timeout=10)
    assert (program.returncode, out, err) == (130, "", "steel: interrupted; start it again and it continues\n")


@pytest.mark.parametrize(
    ("stage", "code", "line"),
    [("oof", 2, "steel: bad strip\n"), ("train", 130, "steel: interrupted; start it again and it continues\n")],
)
def test_no_warning_of_semaphores_that_workers_hold(tmp_path: Path, stage: str, code: int, line: str) -> None:
    """One refuses its call, or both are interrupted; killed outright, they would leave their semaphores behind."""
    with start(tmp_path, stage) as program:
        deadline = time.monotonic() + 15
        while len(list(tmp_path.glob("held *"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        if code == 130:
            os.killpg(program.pid, signal.SIGINT)
        begin = time.monotonic()
        out, err = program.communicate(timeout=20)
    assert (program.returncode, out, err) == (code, "", line)
    assert time.monotonic() - begin < 10


def test_each_call_is_made_once_at_most_n_at_once(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    each(Path.mkdir, [(path,) for path in paths], 2)
    assert all(path.is_dir() for path in paths)
    here: list[int] = []
    each(here.append, [(3,), (1,)], 1)  # one at once needs no other process
    assert here == [3, 1]


def test_the_first_error_ends_the_others() -> None:
    begin = time.monotonic()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        each(wait_or_fail, [(Path("nowhere"),), (None,)], 2)
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize("n", [1, 2])
def test_what_is_refused_does_not_stop_the_others(n: int, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "bad", "c")]
    faults = each(make_unless_bad, [(path,) for path in paths], n)
    assert [str(fault) for fault in faults] == ["bad is not to be had"]
    assert [path.exists() for path in paths] == [True, False, True]


def make_unless_bad(path: Path) -> None:
    """Make a folder; refuse one name."""
    if path.name == "bad":
        raise UserError("bad is not to be had")
    path.mkdir()


def wait_or_fail(path: Path | None) -> None:
    """Fail on a missing file, or keep busy for a minute."""
    time.sleep(60 if path is None else path.stat().st_size)


def test_workers_end_when_the_program_is_killed(tmp_path: Path) -> None:
    with start(tmp_path) as program:
        deadline = time.monotonic() + 15
        while len(list(tmp_path.glob("pid*"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        pids = {int(path.read_text()) for path in tmp_path.glob("pid*") if path.read_text()}
        assert pids
        program.kill()
    deadline = time.monotonic() + 5
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(running, pids))
