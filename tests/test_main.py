"""What the program says and how it ends: codes 0, 2 and 130, one line, never a traceback."""

import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from steel import __version__
from steel.__main__ import main
from steel.stages import STAGES

YAML = "name: x\ndata: {name: x, synth: {n_train: 400}}\nmodels: {unet: {}}\nmachine: {workers: 1}\n"
STEEL = f"{shlex.quote(sys.executable)} -m steel"

KNOWN = f"{', '.join(STAGES)}, score, show, compare, submission, kernel"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(YAML)
    return "x.yaml"


def steel(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "steel", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def with_stage(body: str) -> subprocess.CompletedProcess[str]:
    """Run the program with a stage `status` of this body."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    code = f"""
import sys
from pathlib import Path
from steel import files, stages
from steel.__main__ import main
def status(c):
{lines}
stages.STAGES["status"] = status
main(["status", "x.yaml"])
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


def test_the_overview_lists_the_stages_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    text = capsys.readouterr().out
    names = re.findall(r"^  (\w+) +[A-Z].*\.$", text, re.M)
    assert names == [*STAGES, "score", "show", "compare", "submission", "kernel"]
    stages = ["download", "synth", "prepare", "folds", "eda", "train", "oof", "decide", "report", "predict", "submit"]
    assert names[: len(stages)] == stages
    assert max(map(len, text.splitlines())) <= 120
    main([])
    assert capsys.readouterr().out == text


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"steel {__version__}\n"


def test_help_is_quick_and_light() -> None:
    code = """
import sys, time
start = time.perf_counter()
import steel.stages
from steel.__main__ import main
main(["--help"])
try:
    main(["train", "--help"])
except SystemExit as leaving:
    assert leaving.code == 0
heavy = [name for name in ("torch", "altair", "pandas", "cv2", "zarr", "albumentations") if name in sys.modules]
print(heavy, time.perf_counter() - start)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, seconds = run.stdout.splitlines()[-1].rsplit(" ", 1)
    assert heavy == "[]"
    assert float(seconds) < 3  # .3 s on an idle machine


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["trian"], f"unknown stage 'trian' (did you mean train?); allowed: {KNOWN}"),
        (["scoer"], f"unknown stage 'scoer' (did you mean score?); allowed: {KNOWN}"),
        (["x"], f"unknown stage 'x'; allowed: {KNOWN}"),
        (["--frobnicate"], f"unknown stage '--frobnicate'; allowed: {KNOWN}"),
        (["train"], "CONFIG is missing: it comes first, as in `steel train configs/demo.yaml`"),
        (["train", "y.yaml"], "no config file y.yaml"),
        (["train", "x.yaml", "--split.n_folds", "1"], "split.n_folds: 1 is out of range; allowed: 2..20"),
    ],
)
@pytest.mark.usefixtures("config")
def test_a_fault_is_one_line_and_code_2(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(args)
    assert leaving.value.code == 2
    assert capsys.readouterr() == ("", f"steel: {message}\n")


@pytest.mark.usefixtures("config")
def test_the_same_as_a_program() -> None:
    run = steel("trian")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("steel: unknown stage 'trian' (did you mean train?); allowed: download, synth, ")
    assert run.stderr.count("\n") == 1
    assert steel("train", "x.yaml", "--help").returncode == 0


@pytest.mark.usefixtures("config")
def test_a_missing_file_is_named() -> None:
    run = with_stage("Path('nowhere/a.csv').read_text()")
    assert (run.returncode, run.stderr) == (2, "steel: No such file or directory (nowhere/a.csv)\n")


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize("write", ["files.create_array(part, (100, 256, 1600))", "part.write_bytes(bytes(2**21))"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(write: str) -> None:
    Path("out").write_text("old")
    run = with_stage(f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
with files.atomic(Path("out")) as part:
    {write}""")
    advice = "free some space and start it again, it continues"
    assert re.fullmatch(rf"steel: File too large.*; {advice}\n", run.stderr), run.stderr
    assert run.returncode == 2
    assert Path("out").read_text() == "old"
    assert sorted(path.name for path in Path().iterdir()) == ["out", "x.yaml"]


@pytest.mark.usefixtures("config")
def test_an_interrupt_inside_a_stage() -> None:
    run = with_stage("print('begun')\nraise KeyboardInterrupt")
    assert (run.returncode, run.stdout) == (130, "begun\n")
    assert run.stderr == "steel: interrupted; start it again and it continues\n"


@pytest.mark.usefixtures("config")
def test_what_an_interrupt_finds_half_built_keeps_quiet() -> None:
    """As a DataLoader does whose first lines it cuts short; without an interrupt, such a complaint is heard."""
    half_built = """
class Half:
    def __del__(self):
        raise AttributeError("no workers yet")
"""
    run = with_stage(
        f"{half_built}\nimport os, signal\nhalf = Half()\nos.kill(os.getpid(), signal.SIGINT)\nhalf.wait()"
    )
    assert (run.returncode, run.stderr) == (130, "steel: interrupted; start it again and it continues\n")
    run = with_stage(f"{half_built}\nhalf = Half()\ndel half")
    assert run.returncode == 0 and "no workers yet" in run.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_stage_at_work_promptly(number: int, code: int, config: str) -> None:
    """Ctrl-C, or what a batch system sends, to the program alone; to its workers too: tests/test_workers.py."""
    command = [sys.executable, "-m", "steel", "synth", config]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "synth: new\n"
        time.sleep(0.5)
        run.send_signal(number)
        start = time.monotonic()
        out, err = run.communicate(timeout=30)
    assert time.monotonic() - start < 10  # .3 s on an idle machine
    assert (run.returncode, out, err) == (code, "", "steel: interrupted; start it again and it continues\n")
    assert not Path("data/x/raw").exists()


@pytest.mark.usefixtures("config")
def test_who_is_told_twice_to_end_ends_once() -> None:
    """As where the signal goes to a whole process group, and run_all.sh passes its own on, be it late."""
    kill = "os.kill(os.getpid(), signal.SIGTERM)"
    run = with_stage(f"import atexit, os, signal\natexit.register(lambda: {kill})\ntry: {kill}\nfinally: {kill}")
    assert (run.returncode, run.stderr) == (143, "steel: interrupted; start it again and it continues\n")


@pytest.mark.parametrize("args", ["--help", "train --help"])
def test_nobody_reads_on(args: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`steel --help | head -1` is quiet, even if the reader is gone before the first line."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    for reader in ("head -1 > /dev/null", "true"):
        run = subprocess.run(["bash", "-c", f"{STEEL} {args} | {reader}"], capture_output=True, text=True, check=False)
        assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    late = f"({STEEL} {args}; echo $? >&2) | true"
    run = subprocess.run(["bash", "-c", late], capture_output=True, text=True, check=False)
    assert run.stderr == f"{128 + signal.SIGPIPE}\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("", "the following arguments are required: --truth, --submission"),
        ("--truth a.csv", "the following arguments are required: --submission"),
        ("--truth a.csv --submission b.csv --image c", "unknown option --image (did you mean --images?)"),
        ("--truth", "argument --truth: expected one argument"),
    ],
)
def test_a_fault_in_the_options_of_score(args: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["score", *args.split()])
    assert leaving.value.code == 2
    assert capsys.readouterr() == ("", f"steel: {message} (`steel score --help` lists the options)\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "kernel bundel x.yaml",
            "unknown 'bundel' (did you mean bundle?); allowed: bundle, test, push, submit, train "
            "(`steel kernel --help` lists the options)",
        ),
        ("kernel bundle x.yaml --ower me", "unknown option --ower (did you mean --owner?); --help lists all"),
        (
            "kernel push x.yaml --owner me",
            "unknown option --owner, which belongs to `steel kernel bundle`, `steel kernel train`; --help lists all",
        ),
        (
            "oof x.yaml --fold=1",
            "unknown option --fold, which belongs to `steel train` (did you mean --folds?); --help lists all",
        ),
        (
            "submit x.yaml --model unet",
            "unknown option --model, which belongs to `steel train`, `steel oof`, `steel predict`; --help lists all",
        ),
        (
            "show a.jpg --config x.yaml --recipe light",
            "unknown option --recipe, which belongs to `steel show augment`; --help lists all",
        ),
        ("show augment x.yaml --versoins 3", "unknown option --versoins (did you mean --versions?); --help lists all"),
        (
            "submission diff a b --imgaes c",
            "unknown option --imgaes (did you mean --images?) (`steel submission diff --help` lists the options)",
        ),
        (
            "submission check a --out=b.png",
            "unknown option --out, which belongs to `steel submission diff` (`steel submission check --help` lists the "
            "options)",
        ),
    ],
)
@pytest.mark.usefixtures("config")
def test_an_unknown_option_is_told_with_whose_it_is_and_what_may_be_meant(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(line.split())
    assert leaving.value.code == 2
    assert capsys.readouterr() == ("", f"steel: {message}\n")


def test_score_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, submission = tmp_path / "a.csv", tmp_path / "b.csv"
    truth.write_text("ImageId,ClassId,EncodedPixels\na.jpg,1,1 4\n")
    rows = [f"a.jpg_{k},{'1 2' if k == 1 else ''}\n" for k in (1, 2, 3, 4)]
    submission.write_text("ImageId_ClassId,EncodedPixels\n" + "".join(rows))
    main(["score", "--truth", str(truth), "--submission", str(submission)])
    assert "0.91667" in capsys.readouterr().out  # Dice 2 * 2 / (4 + 2) for one class, 1 for the other three
    with pytest.raises(SystemExit) as leaving:
        main(["score", "--truth", str(tmp_path / "c.csv"), "--submission", str(submission)])
    assert leaving.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_synth_without_a_synthetic_data_set_has_nothing_to_do(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["synth", config, "--data.synth", "null", "--data.raw", "real"])
    assert capsys.readouterr().out == "synth: nothing to do, x reads real data from real\n"


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), "lower batch or width"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "lower machine.jobs or"),
    ],
)
def test_exhausted_memory_is_one_line(
    error: Exception, advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_args: list[str]) -> None:
        raise error

    monkeypatch.setattr("steel.__main__._dispatch", fail)
    with pytest.raises(SystemExit) as leaving:
        main(["train"])
    assert leaving.value.code == 2
    err = capsys.readouterr().err
    assert advice in err and err.count("\n") == 1
