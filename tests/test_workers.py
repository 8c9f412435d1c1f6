"""Workers do their calls in order, stay silent on Ctrl-C and end with the program."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from steel.workers import Workers

SLEEPY = """
import time
from pathlib import Path
def nap(i):
    Path(f"pid{i}").write_text(str(__import__("os").getpid()))
    time.sleep(.3)
    return i
def main():
    from steel import __main__, stages
    from steel.workers import Workers
    def status(c):
        with Workers(2) as pool:
            print("begun", flush=True)
            print(list(pool.map(nap, range(200))))
    stages.STAGES["status"] = status
    __main__.main(["status", "x.yaml"])
if __name__ == "__main__":
    main()
"""


def start(folder: Path) -> subprocess.Popen[str]:
    """A stage of the program that keeps two workers busy for half a minute."""
    (folder / "x.yaml").write_text("name: x\nmodels: {unet: {}}\n")
    (folder / "sleepy.py").write_text(SLEEPY)
    pipe = subprocess.PIPE
    program = subprocess.Popen(
        [sys.executable, "sleepy.py"], stdout=pipe, stderr=pipe, text=True, start_new_session=True, cwd=folder
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


@pytest.mark.parametrize("after_s", [0.1, 0.8])
def test_ctrl_c_is_one_line_even_while_workers_start(tmp_path: Path, after_s: float) -> None:
    with start(tmp_path) as program:
        time.sleep(after_s)
        os.killpg(program.pid, signal.SIGINT)
        out, err = program.communicate(timeout=10)
    assert (program.returncode, out, err) == (130, "", "steel: interrupted; start it again and it continues\n")


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
