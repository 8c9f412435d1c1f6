"""`steel kernel train` with the real client against a server of ours: stopped, continued, taken over."""

import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
import there
import tiny
from kaggle_push_server import PushServer, Run, taking
from kaggle_server import TOKEN, USER, Fault, waits

from steel.__main__ import main
from steel.kaggle import train_bundle, train_kernel, train_trial

NAME = "steel-tiny-train-gate-0-1"
COMMAND = ["kernel", "train", tiny.CONFIG, "--model", "gate", "--folds", "0,1"]


@pytest.fixture
def server(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PushServer]:
    """With a copy of the prepared solution as the working directory; the dry run has tests of its own."""
    tiny.copy(there.base_of(tmp_path_factory), tmp_path)
    monkeypatch.setattr(train_trial, "run", there.Kaggle(tmp_path).try_out)
    monkeypatch.setattr(train_bundle, "wheel", there.wheel)
    waits(monkeypatch)
    with tiny.within(tmp_path), taking(monkeypatch, tmp_path / "home") as found:
        monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
        yield found


def run_of(folder: Path, limit_s: float) -> Run:
    """What the kernel leaves of the bundle that the command makes next."""
    main(COMMAND)
    dataset, working = tiny.copy(Path("kernels/tiny-train-gate-0-1/dataset"), folder / "dataset"), folder / "working"
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
