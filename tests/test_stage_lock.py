"""One process at a time works on a folder; the others are told which."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from steel.errors import UserError
from steel.stage import LOCK, Spec, ensure, look, need

HOLD = """
import sys, time
from pathlib import Path
from steel.stage import Spec, ensure
def make():
    print("held", flush=True)
    time.sleep(60)
ensure(Spec("prepare", Path(sys.argv[1]), {}, {}, ()), make)
"""


def test_a_second_process_is_told_who_is_at_work(tmp_path: Path) -> None:
    spec = Spec("prepare", tmp_path, {}, {}, ())
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert [other.stdout.readline() for _ in range(2)] == ["prepare: new\n", "held\n"]
        begun = time.strftime("%Y-%m-%d %H:%M", time.localtime((tmp_path / LOCK).stat().st_mtime))
        how = f"running (process {other.pid}, since {begun})"
        assert abs((tmp_path / LOCK).stat().st_mtime - time.time()) < 30
        assert str(look(spec)) == how
        with pytest.raises(UserError) as error:
            ensure(spec, dict)
        assert str(error.value) == f"prepare: process {other.pid} is at work on {tmp_path}; wait for it"
        with pytest.raises(UserError) as error:
            need(spec, "folds")
        assert str(error.value) == f"folds needs 'prepare', which is {how}: wait for it"
        other.kill()
    assert look(spec).kind == "missing"
    ensure(spec, dict)  # the lock went with the killed process
    assert look(spec).kind == "done"


def test_an_orphaned_worker_does_not_hold_the_lock(tmp_path: Path) -> None:
    code = HOLD.replace(
        'print("held", flush=True)', "import os\n    child = os.fork()\n    if child: print(child, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "prepare: new\n"
        child = int(other.stdout.readline())
        other.kill()
        other.wait()
        try:
            ensure(Spec("prepare", tmp_path, {}, {}, ()), dict)
        finally:
            os.kill(child, signal.SIGKILL)
