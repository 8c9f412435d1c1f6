"""`steel kernel train` with the real client against a server of ours: stopped, continued, taken over."""

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
import there
import tiny
from kaggle_push_server import PushServer, Run, taking
from kaggle_server import TOKEN, USER, Fault

from steel.__main__ import main
from steel.kaggle import remote, train_bundle, train_kernel, train_there, train_trial

BUNDLE = Path("kernels/tiny-train-gate-f0-1")
NAME = "steel-tiny-train-gate-f0-1"
COMMAND = ["kernel", "train", tiny.CONFIG, "--model", "gate", "--folds", "0,1"]


pytestmark = pytest.mark.usefixtures("waited")


@pytest.fixture
def server(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PushServer]:
    """With a copy of the prepared solution as the working directory; the dry run has tests of its own."""
    tiny.copy(prepared, tmp_path)
    monkeypatch.setattr(train_trial, "run", there.Kaggle(tmp_path).try_out)
    monkeypatch.setattr(train_bundle, "wheel", there.wheel)
    with tiny.within(tmp_path), taking(monkeypatch, tmp_path / "home") as found:
        monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
        yield found


def run_of(folder: Path, limit_s: float) -> Run:
    """What the kernel leaves of the bundle that the command makes next."""
    main(COMMAND)
    dataset, working = tiny.copy(BUNDLE / "dataset", folder / "dataset"), folder / "working"
    there.set_limit(dataset, limit_s)
    train_kernel.run(there.RAW, dataset, working)
    left = [path for path in working.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return Run({str(path.relative_to(working)): path.read_bytes() for path in left})


def test_stopped_continued_and_taken_over(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.runs.append(run_of(Path("first"), limit_s=0.0))
    main([*COMMAND, "--yes"])
    assert "the time was up; the folds 0, 1 are not finished: run it again, it continues" in capsys.readouterr().out
    server.runs.append(run_of(Path("second"), limit_s=1e6))
    server.faults["SaveKernel"] = [Fault(503)]
    main([*COMMAND, "--yes"])
    assert capsys.readouterr().out.endswith("train gate fold 0: done\ntrain gate fold 1: done\n")
    versions = server.datasets[f"{USER}/{NAME}-data"].versions
    assert [("fold0.last.pt" in version) for version in versions] == [False, True]
    assert len(zipfile.ZipFile(BytesIO(versions[1]["wheels.zip"])).namelist()) == 4
    assert len(server.kernels[f"{USER}/{NAME}"]) == 2
    for k in (0, 1):
        assert there.weights("runs", k) == there.weights("trained_here", k)


def test_killed_before_the_push_is_noted_it_is_not_pushed_again(
    server: PushServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is what was taken over, or has failed, taken for what runs."""
    server.runs.append(run_of(Path("first"), limit_s=1e6))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train_there, "_collect", killed)
        with pytest.raises(SystemExit):
            main([*COMMAND, "--yes"])
    (BUNDLE / train_there.UNDER_WAY).unlink()  # as if killed a moment earlier
    main([*COMMAND, "--yes"])
    assert len(server.kernels[f"{USER}/{NAME}"]) == 1
    assert capsys.readouterr().out.endswith("train gate fold 0: done\ntrain gate fold 1: done\n")
    assert "kernel" not in remote.sent(BUNDLE)


def test_what_has_failed_is_pushed_again(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    """And of the next, which is stopped, all that it had finished is taken over."""
    left = run_of(Path("first"), limit_s=1e6)
    server.runs += [Run(states=("ERROR",)), replace(left, states=("RUNNING", "CANCEL_ACKNOWLEDGED"))]
    assert tiny.fault(capsys, *COMMAND, "--yes") == f"kernel {USER}/{NAME}/1 failed: it left no log"
    assert not Path("runs/tiny/gate/fold0/weights.safetensors").exists()
    assert tiny.fault(capsys, *COMMAND, "--yes") == f"kernel {USER}/{NAME}/2 was cancelled: it left no log"
    assert len(server.kernels[f"{USER}/{NAME}"]) == 2
    for k in (0, 1):
        assert there.weights("runs", k) == there.weights("trained_here", k)
    main([*COMMAND, "--yes"])
    assert capsys.readouterr().out.endswith("gate stands on the folds 0, 1; nothing is to be trained there\n")
