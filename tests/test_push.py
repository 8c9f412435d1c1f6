"""`steel kernel push` with the real client against a server of ours: dry by default, once, and gone on with."""

import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import proved_bundle
import pytest
import tiny
from kaggle_push_server import PushServer, Run
from kaggle_server import UPLOAD
from proved_bundle import DATASET, FOLDER, KERNEL, LOCAL, REAL, fault, kernel

from steel import files
from steel.__main__ import main
from steel.kaggle import bundle, parts, push, remote

OUTPUT = FOLDER / "output/submission.csv"
STANDS = (
    f"kernel push: {KERNEL}/1 stands, mean Dice 1.00000 between Kaggle's submission and the local one; "
    "`steel kernel submit CONFIG --yes` submits it"
)


pytestmark = pytest.mark.usefixtures("waited")


@pytest.fixture(scope="module")
def made(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return proved_bundle.make(finished, tmp_path_factory.mktemp("proved"))


@pytest.fixture
def server(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PushServer]:
    with proved_bundle.place(monkeypatch, made, tmp_path) as found:
        yield found


def test_nothing_leaves_by_itself(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    before = tiny.contents(Path())
    main(["kernel", "push", tiny.CONFIG, *REAL])
    dataset, run, last = capsys.readouterr().out.splitlines()
    held = [path for path in (FOLDER / "dataset").rglob("*") if path.is_file() and path.suffix != ".json"]
    held += [FOLDER / f"dataset/{name}.json" for name in ("solution", "rules", "fallbacks")]
    size = sum(path.stat().st_size for path in held) / 1e6
    assert dataset == f"kernel push: dataset {DATASET}, {len(held)} files, {size:.1f} MB: new"
    assert run == f"kernel push: kernel {KERNEL}, to run on a T4 without internet: new"
    assert last == "kernel push: nothing has left this machine; with --yes it is sent"
    assert server.seen == [] and tiny.contents(Path()) == before


def test_the_first_push_and_the_second(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    main(["kernel", "push", tiny.CONFIG, *REAL, "--yes"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-7:] == [
        f"dataset {DATASET}: blobs received, 0 s",
        f"dataset {DATASET}: ready, 10 s",
        f"kernel {KERNEL}: version 1 is pushed, see https://www.kaggle.com/code/{KERNEL}",
        f"kernel {KERNEL}/1: queued, 0 s",
        f"kernel {KERNEL}/1: running, 30 s",
        f"kernel {KERNEL}/1: complete, 1 min 0 s",
        STANDS,
    ]
    (version,) = server.datasets[DATASET].versions
    archive = zipfile.ZipFile(BytesIO(version.pop("wheels.zip")))
    version |= {f"wheels/{name}": archive.read(name) for name in archive.namelist()}
    here = {str(path.relative_to(FOLDER / "dataset")): path.read_bytes() for path in bundle_files()}
    assert version == here
    ((request, _),) = server.kernels[KERNEL]
    assert request.text == (FOLDER / "kernel.py").read_text()
    assert server.names.count(UPLOAD) == len(server.datasets[DATASET].versions[0]) + 1 - 2  # two wheels in one zip
    assert OUTPUT.read_bytes() == LOCAL.read_bytes()
    assert (FOLDER / "output/steel-tiny.log").read_text() == "well"

    server.seen.clear()
    kernel("push")
    assert capsys.readouterr().out.splitlines() == [
        f"dataset {DATASET}: version 1 has these files; nothing is sent",
        STANDS,
    ]
    assert server.names == ["GetDataset", "GetKernel"]
    kernel("push", yes=False)
    dataset, run, _ = capsys.readouterr().out.splitlines()
    assert dataset.endswith(": unchanged, version 1") and run.endswith(": unchanged, version 1")


def bundle_files() -> list[Path]:
    return remote.dataset_files(FOLDER / "dataset")


def test_the_bundle_stands_after_a_push(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    kernel("push")
    capsys.readouterr()
    main(["kernel", "bundle", tiny.CONFIG, "--owner", "tester"])
    fallbacks, stands, told = capsys.readouterr().out.splitlines()
    assert (fallbacks, stands) == ("fallbacks: up to date", "kernel: up to date")
    assert told == "kernel: kernels/tiny; its dry run has passed"
    assert server.datasets


def test_without_its_dry_run_it_stays_here(server: PushServer) -> None:
    (FOLDER / parts.DRY_RUN).unlink()
    told = "kernels/tiny has not passed its dry run: run `steel kernel test CONFIG` first"
    assert fault("push") == fault("push", yes=False) == told
    assert server.seen == []


def test_made_up_strips_stay_here(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    told = tiny.fault(capsys, "kernel", "push", tiny.CONFIG, "--yes")
    assert told == (
        "tiny: its strips are made up (data.synth), and Kaggle has others; "
        "allowed: a solution on the competition's own, such as configs/baseline.yaml"
    )
    assert server.seen == []


def test_a_bundle_that_does_not_stand_stays_here(server: PushServer) -> None:
    (FOLDER / "kernel.py").write_text("import antigravity\n")
    state = "stale (kernels/tiny/kernel.py is gone or was changed)"
    told = f"needs kernels/tiny, which is {state}: run `steel kernel bundle CONFIG` first"
    assert fault("push") == f"kernel push {told}"
    assert fault("submit") == f"kernel submit {told}"
    assert server.seen == []


STEPS = ("send_dataset", "standing_kernel", "send_kernel", "wait_kernel", "fetch_output", "note")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_killed_between_steps(
    step: str, after: bool, server: PushServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    do = getattr(remote, step)

    def killed(*args: Any, **parts: Any) -> Any:
        if step == "note" and "output" not in parts:
            return do(*args, **parts)
        if after:
            do(*args, **parts)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(remote, step, killed)
        with pytest.raises(KeyboardInterrupt):
            kernel("push")
    kernel("push")
    assert capsys.readouterr().out.splitlines()[-1] == STANDS
    assert (len(server.datasets[DATASET].versions), len(server.kernels[KERNEL])) == (1, 1)


def test_a_kernel_that_fails_and_the_next(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.runs.insert(0, Run(states=("RUNNING", "ERROR"), log="so far\nMemoryError\n"))
    told = f"kernel {KERNEL}/1 failed: MemoryError; the end of its log stands above"
    assert fault("push") == told
    kernel("push")
    assert capsys.readouterr().out.splitlines()[-1] == STANDS.replace("/1", "/2")
    assert len(server.datasets[DATASET].versions) == 1


def test_a_new_version_is_run_on_a_new_dataset(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    kernel("push")
    del server.datasets[DATASET]
    server.runs = [Run({"submission.csv": LOCAL.read_bytes()})]
    capsys.readouterr()
    kernel("push")
    assert capsys.readouterr().out.splitlines()[-1] == STANDS.replace("/1", "/2")


def test_a_kernel_that_was_deleted_there_is_proved_anew(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    kernel("push")
    remote.note(FOLDER, submission={"version": 1, "state": "complete"})
    del server.kernels[KERNEL]
    server.runs = [Run({"submission.csv": rows(drop=4)})]
    assert fault("push").startswith(f"{OUTPUT}: strip 6 is nothing")
    assert f"kernel {KERNEL}: version 1 is pushed" in capsys.readouterr().out
    assert set(remote.sent(FOLDER)) == {"dataset", "kernel"}


def rows(drop: int = 0, swap: bool = False, empty: bool = False) -> bytes:
    """The local submission, spoilt."""
    head, *lines = LOCAL.read_text().splitlines()
    if swap:
        lines = lines[4:8] + lines[:4] + lines[8:]
    if empty:
        lines = [line.partition(",")[0] + "," for line in lines]
    return "\n".join([head, *lines[: len(lines) - drop], ""]).encode()


def strips() -> list[str]:
    return [line.partition("_")[0] for line in LOCAL.read_text().splitlines()[1::4]]


@pytest.mark.parametrize("how", ["fewer", "another order", "none", "another form", "other masks"])
def test_output_that_differs(how: str, server: PushServer) -> None:
    a, b, *_, last = strips()
    n = sum(line[-1] != "," for line in LOCAL.read_text().splitlines()[1:])
    form = "ImageId,ClassId,EncodedPixels\n" + "".join(f"{name},1,\n" for name in strips())
    output, told = {
        "fewer": ({"submission.csv": rows(drop=4)}, f"{OUTPUT}: strip 6 is nothing: expected {last}, as in {LOCAL}"),
        "another order": (
            {"submission.csv": rows(swap=True)},
            f"{OUTPUT}: strip 1 is {b}: expected {a}, as in {LOCAL}",
        ),
        "none": ({}, "the kernel left no submission.csv; its log lies in kernels/tiny/output"),
        "another form": ({"submission.csv": form.encode()}, f"{OUTPUT}: 6 rows: expected 24, as in {LOCAL}"),
        "other masks": (
            {"submission.csv": rows(empty=True)},
            f"{OUTPUT}: mean Dice {1 - n / 24:.5f} with {LOCAL}: expected 0.999 or more; "
            f"`steel submission diff {OUTPUT} {LOCAL}` says where they differ, and --force has the kernel run again",
        ),
    }[how]
    assert n
    server.runs = [Run(dict(output))]
    assert fault("push") == told
    assert OUTPUT.exists() == (how != "none") and (FOLDER / "output/steel-tiny.log").exists()
    assert fault("push") == told  # it is not pushed again by itself: it would give the same
    assert len(server.kernels[KERNEL]) == 1
    assert fault("submit").startswith("kernels/tiny was not pushed as it is")


def test_another_device_may_round_otherwise(server: PushServer) -> None:
    """One pixel less of the largest mask."""
    lines = LOCAL.read_text().splitlines()
    i = max(range(1, len(lines)), key=lambda i: len(lines[i]))
    *kept, start, length = lines[i].split(" ")
    lines[i] = " ".join([*kept, start, str(int(length) - 1)] if length != "1" else kept)
    shutil.copy(LOCAL, "theirs.csv")
    Path("theirs.csv").write_text("\n".join([*lines, ""]))
    assert 0.999 < push.compare(Path("theirs.csv"), LOCAL) < 1
    server.runs = [Run({"submission.csv": Path("theirs.csv").read_bytes()})]
    kernel("push")
    assert 0.999 < remote.sent(FOLDER)["output"]["dice"] < 1


def test_another_local_submission_is_compared_anew(
    server: PushServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel("push")
    n_shown = sum(line[-1] != "," for line in LOCAL.read_text().splitlines()[1:])
    LOCAL.write_bytes(rows(empty=True))
    monkeypatch.setattr(bundle, "need", lambda *_: None)  # of the stages that made it, nothing is the matter
    assert f"mean Dice {1 - n_shown / 24:.5f} with {LOCAL}" in fault("push")
    assert "1 is pushed" in capsys.readouterr().out and len(server.kernels[KERNEL]) == 1
    assert fault("submit").startswith("kernels/tiny was not pushed as it is")


def test_the_state_is_one_file(server: PushServer) -> None:
    kernel("push")
    assert {key: one["version"] for key, one in files.read_json(FOLDER / "sent.json").items()} == {
        "dataset": 1,
        "kernel": 1,
        "output": 1,
    }
    assert server.tokens.keys().isdisjoint((FOLDER / "sent.json").read_text().split('"'))


@pytest.mark.parametrize("how", ["", "0", "1"])
def test_run_all_sends_only_if_it_is_told_to(how: str, tmp_path: Path) -> None:
    text = (tiny.ROOT / "run_all.sh").read_text()
    for old, new in (('"$here/scripts/setup.sh"\n', ""), ('"$here/.venv/bin/steel"', "echo")):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "run_all.sh").write_text(text)
    command = ["env", *([f"PUSH={how}"] if how else ["-u", "PUSH"]), "bash", "run_all.sh", "x.yaml", "--folds", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = [f"{stage} x.yaml --folds 0" for stage in tiny.STAGES]
    if how == "1":
        kernel = ("bundle x.yaml", "test x.yaml", "push x.yaml --yes", "submit x.yaml --yes")
        expected += [f"kernel {step} --folds 0" for step in kernel]
    assert done.stdout.splitlines() == expected
