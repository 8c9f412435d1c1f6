"""The dry run: what Kaggle's image has and no more, no network, limits; and the very bytes, or one line."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import tiny

from steel import files
from steel.__main__ import main
from steel.competition import SLUG
from steel.config import DataConfig, MachineConfig, ModelConfig, Solution
from steel.errors import UserError
from steel.kaggle import clean_run, dryrun, kernel, parts
from steel.kaggle.dryrun import Usage
from steel.kaggle.layout import HURRIED
from steel.paths import Paths

RECORD = Path("kernels/tiny/dry_run.json")


@pytest.fixture
def own(bundled: Path, tmp_path: Path) -> Iterator[Paths]:
    """A copy of the bundled run, to change: as the working directory."""
    tiny.copy(bundled, tmp_path)
    with tiny.within(tmp_path):
        yield Paths(tiny.solution())


def dry_run(*args: str) -> None:
    main(["kernel", "test", tiny.CONFIG, *args])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def in_process(monkeypatch: pytest.MonkeyPatch, spoil: str = "", log: Sequence[str] = ()) -> dict[str, list[str]]:
    """Let the kernel run in this process, and perhaps spoil what it writes; gives what lies in each of its folders."""
    seen: dict[str, list[str]] = {}

    def execute(root: Path, script: Path, environment: dict[str, str], limit_s: float) -> Usage:
        assert limit_s == 3600
        assert script.read_text().startswith('"""Kaggle kernel of the solution tiny')
        inputs, working = Path(environment["STEEL_INPUT"]), Path(environment["STEEL_WORKING"])
        assert (inputs, working) == (root / "input", root / "working")
        kernel.run(inputs / SLUG, inputs / "steel-tiny-weights", working)
        seen.update({folder.name: names(folder) for folder in (inputs, *inputs.iterdir(), working)})
        if spoil:
            path = working / "submission.csv"
            path.write_text(path.read_text().replace(spoil, "x"))
        return Usage(2.0, 2**30, "namespace", list(log))

    monkeypatch.setattr(dryrun, "execute", execute)
    return seen


def test_the_bundle_gives_the_very_bytes(own: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole of it, in another process: the clean environment, no network, the wheels, the packed code."""
    dry_run()
    out = capsys.readouterr().out
    assert "| kernel: 6 strips; torch " in out and " on cpu, 1 threads\n" in out
    assert "kernel test: passed; the bytes that it must give, 24 rows, in " in out
    record = json.loads(RECORD.read_text())
    assert record["submission"] == files.sha256(own.submission / "submission.csv")
    assert record["rows"] == 24
    assert 0 < record["seconds"] < 600 and 50 << 20 < record["peak_bytes"] < dryrun.LIMIT_BYTES
    assert record["network"] in ("namespace", "guard")
    assert parts.passed(own.kernel)


@pytest.mark.usefixtures("own")
def test_what_has_passed_stays_so_until_it_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fault on the command line and other strips leave the record alone."""
    RECORD.write_text("{}")
    assert tiny.fault(capsys, "kernel", "test", tiny.CONFIG, "--images", "nowhere").startswith("nowhere: no such")
    in_process(monkeypatch)
    dry_run("--images", "data/tiny/raw/test_images")
    assert "only the test strips' are recorded" in capsys.readouterr().out
    assert RECORD.read_text() == "{}"


@pytest.mark.usefixtures("own")
def test_what_is_no_part_of_the_bundle_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    stray = Path("kernels/tiny/dataset/wheels/notes.txt")
    stray.write_text("mine")
    told = f"{stray} is no part of the bundle, and would be sent with it: move it away"
    assert tiny.fault(capsys, "kernel", "test", tiny.CONFIG) == told


@pytest.mark.usefixtures("own")
def test_a_kernel_that_had_to_hurry_has_not_passed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_process(monkeypatch, log=["kernel: 6 strips", f"{HURRIED}after 3 of 9 batches on with fpn"])
    message = tiny.fault(capsys, "kernel", "test", tiny.CONFIG)
    assert message.startswith("kernel test: on this machine 3600 s are too short for the whole ensemble")
    assert not RECORD.exists()


@pytest.mark.usefixtures("own")
def test_other_bytes_are_one_line_and_no_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    RECORD.write_text("{}")  # of an earlier one that passed
    first = Path("submissions/tiny/submission.csv").read_text().splitlines()[1]
    seen = in_process(monkeypatch, spoil=first)
    message = tiny.fault(capsys, "kernel", "test", tiny.CONFIG)
    told = "kernel test: 1 lines differ from the local submission, first line 2: "
    assert message == f"{told}'x', expected {first[:60]!r}"
    assert not RECORD.exists()
    assert seen["input"] == [SLUG, "steel-tiny-weights"]  # the folders are those of Kaggle
    assert seen[SLUG] == ["sample_submission.csv", "test_images"]
    assert seen["steel-tiny-weights"] == names(Path("kernels/tiny/dataset"))
    assert seen["working"] == ["submission.csv"]


def test_what_has_changed_since_is_told(own: Paths, tmp_path: Path) -> None:
    assert dryrun._changes(own, (0, 1, 2)) == []
    path = own.test("fpn") / "stage.json"
    path.write_text(path.read_text().replace('"timm": "', '"timm": "0.'))
    (change,) = changes = dryrun._changes(own, (0, 1, 2))
    assert change.startswith("the environment changed: timm: 0.")
    with pytest.raises(UserError) as refusal:
        dryrun._compare(tmp_path / "none.csv", b"a\nb\n", changes)
    assert str(refusal.value) == (
        "kernel test: 3 lines differ from the local submission, first line 1: '', expected 'a' "
        f"(since the local prediction {change}: run `steel predict CONFIG --force`)"
    )


def test_on_other_strips(own: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seen = in_process(monkeypatch)
    shutil.copytree(own.raw / "train_images", "some", ignore=lambda _, names: sorted(names)[3:])
    dry_run("--images", "some")
    assert seen[SLUG] == ["test_images"]
    assert "12 rows" in capsys.readouterr().out and not RECORD.exists()


@pytest.mark.usefixtures("own")
def test_without_the_raw_test_images(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("data/tiny/raw/test_images")
    message = tiny.fault(capsys, "kernel", "test", tiny.CONFIG)
    assert message == "data/tiny/raw lacks test_images: give --images DIR to test on other strips"


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("lost", ["kernel.py", "."])
def test_a_bundle_that_does_not_stand_is_refused(lost: str, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.remove(Path("kernels/tiny") / lost)
    message = tiny.fault(capsys, "kernel", "test", tiny.CONFIG)
    state = "stale (kernels/tiny/kernel.py is gone or was changed)" if lost == "kernel.py" else "missing"
    assert message == f"kernel test needs kernels/tiny, which is {state}: run `steel kernel bundle CONFIG` first"


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cpu", "4,5", ""),
        ("auto", "4,5", "4,5"),
        ("auto", None, None),
        ("cuda:1", None, "1"),
        ("cuda:1", "4,GPU-5", "GPU-5"),  # the second of those that this program sees
    ],
)
def test_the_kernel_sees_the_device_of_here(
    device: str, visible: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = dryrun.environment(Path("root"), MachineConfig(device=device))
    assert found.get("CUDA_VISIBLE_DEVICES") == expected
    assert found["STEEL_INPUT"] == "root/input"


@pytest.mark.parametrize(("has_gpu", "threads"), [(False, 3), (True, None)])
def test_threads_of_home_are_for_a_cpu(has_gpu: bool, threads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)
    solution = Solution("any", {"unet": ModelConfig()}, DataConfig("any"), machine=MachineConfig(threads=3))
    assert kernel.on_this_machine(solution).machine.threads == threads


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "working").mkdir()
    return tmp_path


def execute(root: Path, *lines: str, limit_s: float = 60.0, limit_bytes: int = 8 << 30) -> Usage:
    """Run a script of some lines as a kernel is run."""
    tiny.write(root / "script.py", *lines)
    return dryrun.execute(root, root / "script.py", {"MARK": "7"}, limit_s, limit_bytes)


def test_it_can_import_the_image_and_no_more(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    execute(
        root,
        "import importlib.util, os, sys",
        "names = ['torch', 'torchvision', 'cv2', 'numpy', 'pandas', 'safetensors', 'tqdm', 'yaml', 'PIL']",
        "more = ['steel', 'segmentation_models_pytorch', 'timm', 'albumentations', 'zarr', 'sklearn', 'jsonargparse']",
        "print([name for name in [*names, *more] if not importlib.util.find_spec(name)])",
        "import numpy, pandas, cv2",
        "print(os.environ.get('MARK'), os.environ.get('HOME'), __name__, sys.argv[1:], os.getcwd())",
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "| ['steel', 'segmentation_models_pytorch', 'timm', 'albumentations', 'zarr', 'sklearn', 'jsonargparse']"
    )
    assert lines[1] == f"| 7 None __main__ [] {root / 'working'}"


@pytest.mark.parametrize("alone", [True, False])
def test_there_is_no_network(
    alone: bool, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody hears it, were it only a program of this machine."""
    import socket

    if alone and not dryrun._may_be_alone():
        pytest.skip("this user may not make a network namespace")
    monkeypatch.setattr(dryrun, "_may_be_alone", lambda: alone)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        usage = execute(
            root,
            "import socket",
            "try:",
            f"    socket.create_connection(('127.0.0.1', {port}), 5)",
            "except OSError as error:",
            "    print('refused', error)",
        )
    assert usage.network == ("namespace" if alone else "guard")
    assert capsys.readouterr().out.startswith("| refused ")


def test_time_is_limited(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"^kernel test: the kernel was stopped after 1 s; its log stands above$"):
        execute(root, "import time", "print('begun', flush=True)", "time.sleep(50)", limit_s=1.0)
    assert capsys.readouterr().out == "| begun\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells a program that its parent was killed")
def test_it_ends_with_the_program_that_runs_it(root: Path) -> None:
    tiny.write(root / "script.py", "import os, time", "print(os.getpid(), flush=True)", "time.sleep(50)")
    code = f"from pathlib import Path; from steel.kaggle import dryrun; root = Path({str(root)!r}); "
    code += "dryrun.execute(root, root / 'script.py', {}, 60.0)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        number = int(program.stdout.readline().removeprefix("| "))
        assert Path(f"/proc/{number}").exists()
        program.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{number}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{number}").exists()


def test_memory_is_limited(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="the kernel ended with code 1; its log stands above"):
        execute(root, "x = bytearray(300 << 20)", limit_bytes=200 << 20)
    assert capsys.readouterr().out.splitlines()[-1] == "| MemoryError"


def test_the_peak_of_memory_is_seen(root: Path) -> None:
    assert 300 << 20 < execute(root, "x = bytearray(300 << 20)").peak_bytes < 3 << 30


def test_a_kernel_that_fails_is_shown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="the kernel ended with code 3; its log stands above"):
        execute(root, "import sys", "print('so far')", "sys.exit(3)")
    assert capsys.readouterr().out == "| so far\n"


def test_the_runner_stands_alone() -> None:
    assert "steel" not in Path(clean_run.__file__).read_text().partition("import resource")[2]
