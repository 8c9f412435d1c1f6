"""`steel status` of a kernel: not made, its bundle, its dry run, what was sent of it."""

from pathlib import Path

import pytest
import tiny

from steel import files, stage
from steel.__main__ import main
from steel.kaggle import parts, remote

KERNEL = Path("kernels/tiny")
MADE_FROM = "stale (what it is made from does not stand)"


@pytest.fixture(autouse=True)
def folder(bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.copy(bundled, tmp_path)
    monkeypatch.chdir(tmp_path)


def status(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """How each output stands, by its name."""
    capsys.readouterr()
    main(["status", tiny.CONFIG])
    return {line[:28].strip(): line[29:] for line in capsys.readouterr().out.splitlines()}


def test_a_bundle_and_its_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert {how for name, how in status(capsys).items() if name != "kernel"} == {"done"}
    assert list(status(capsys))[-3:] == ["submit", "fallbacks", "kernel"]
    assert status(capsys)["kernel"] == "done; no dry run yet"
    record = KERNEL / parts.DRY_RUN
    files.write_json(record, {"bundle": "other"})
    assert status(capsys)["kernel"] == "done; dry run of an older bundle"
    files.write_json(record, {"bundle": stage.recorded(KERNEL)})
    assert status(capsys)["kernel"] == "done; dry run passed"
    (KERNEL / "kernel.py").write_text("other")
    assert status(capsys)["kernel"] == "stale (kernels/tiny/kernel.py is gone or was changed); dry run passed"


def test_what_was_sent(capsys: pytest.CaptureFixture[str]) -> None:
    metadata = files.read_json(KERNEL / parts.KERNEL)
    remote.note(KERNEL, kernel={**remote._kernel(KERNEL), "id": metadata["id"], "before": 2})
    assert status(capsys)["kernel"] == "done; no dry run yet"  # it is on its way
    remote.note(KERNEL, kernel={**remote._kernel(KERNEL), "before": 2, "version": 3})
    assert status(capsys)["kernel"] == "done; no dry run yet; version 3 pushed; not compared yet"
    ours = files.sha256(Path("submissions/tiny/submission.csv"))
    for version, submission, how in ((2, ours, "not compared yet"), (3, "", "not compared yet"), (3, ours, "compared")):
        remote.note(KERNEL, output={"version": version, "submission": submission, "dice": 1.0})
        assert status(capsys)["kernel"].endswith(f"; version 3 pushed; {how}")
    (KERNEL / "kernel.py").write_text("other")
    assert status(capsys)["kernel"].endswith("; no dry run yet; version 3 pushed of an older bundle")
    (KERNEL / "kernel.py").unlink()
    assert status(capsys)["kernel"].endswith("; no dry run yet; version 3 pushed of an older bundle")


@pytest.mark.parametrize("lost", ["runs/tiny/decide", "runs/tiny/fpn/test", "submissions/tiny"])
def test_what_it_is_made_from_is_gone(lost: str, capsys: pytest.CaptureFixture[str]) -> None:
    files.remove(Path(lost))
    assert status(capsys)["kernel"] == f"{MADE_FROM}; no dry run yet"


def test_fallbacks_that_are_gone(capsys: pytest.CaptureFixture[str]) -> None:
    files.remove(Path("runs/tiny/fallbacks"))
    found = status(capsys)
    assert found["fallbacks"] == "missing"
    assert found["kernel"] == "stale (input changed: fallbacks); no dry run yet"


def test_no_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    files.remove(KERNEL)
    found = status(capsys)
    assert found["kernel"] == "missing (`steel kernel bundle CONFIG` makes it)" and "fallbacks" not in found
