"""Bad input and bad luck, through the program: one line that names the value, code 2, and what stood still stands."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny

RAW = Path("raw")
ON_RAW = ("--data.synth", "null", "--data.raw", str(RAW), "--data.name", "flat")
ADVICE = "free some space and start it again, it continues"


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with six flat strips and their cache."""
    folder = tmp_path_factory.mktemp("flat")
    tiny.write_config(folder)
    tiny.write_raw(folder / RAW)
    with tiny.within(folder):
        tiny.run("prepare", args=ON_RAW)
    return folder


@pytest.fixture
def prepared(flat: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, as the working directory."""
    tiny.copy(flat, tmp_path)
    with tiny.within(tmp_path):
        yield tmp_path


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the finished run, as the working directory."""
    tiny.copy(finished, tmp_path)
    with tiny.within(tmp_path):
        yield tmp_path


def refused(capsys: pytest.CaptureFixture[str], stage: str, *args: str) -> str:
    """What a stage says when it refuses; nothing that stood may have changed, and nothing half may be left."""
    before = tiny.contents(Path())
    message = tiny.fault(capsys, stage, tiny.CONFIG, *args)
    assert tiny.contents(Path()) == before
    return message


def no(name: str) -> Callable[[], None]:
    return lambda: tiny.remove(RAW / name)


def empty(name: str) -> Callable[[], None]:
    def change() -> None:
        tiny.remove(RAW / name)
        (RAW / name).mkdir()

    return change


def rows(*lines: str, head: str = "ImageId,ClassId,EncodedPixels") -> Callable[[], None]:
    return lambda: tiny.write(RAW / "train.csv", head, *lines)


def pixels(text: str) -> Callable[[], None]:
    return rows("tr0.jpg,1,1 9", f"tr1.jpg,3,{text}")


def sample(*names: str) -> Callable[[], None]:
    return lambda: tiny.write(
        RAW / "sample_submission.csv", "ImageId,EncodedPixels,ClassId", *(f"{i},1 1,1" for i in names)
    )


def strip(data: Callable[[bytes], bytes]) -> Callable[[], None]:
    def change() -> None:
        path = RAW / "train_images/tr3.jpg"
        path.write_bytes(data(path.read_bytes()))

    return change


def jpeg(shape: tuple[int, ...], red: int = 80) -> Callable[[bytes], bytes]:
    image = np.full(shape, 80, np.uint8)
    if len(shape) == 3:
        image[..., 2] = red
    return lambda _: cv2.imencode(".jpg", image)[1].tobytes()


TR3 = "raw/train_images/tr3.jpg: "
IN_ROW_3 = "raw/train.csv, line 3, image tr1.jpg, class 3: RLE "
RANGE = "expected a whole number from 1 to 409600"
OF_THE_DATA: dict[str, tuple[Callable[[], None], str]] = {
    "no train.csv": (no("train.csv"), "raw lacks train.csv: get the data with `kaggle competitions download"),
    "no train_images": (no("train_images"), "raw lacks train_images: get the data"),
    "no test_images": (no("test_images"), "raw lacks test_images: get the data"),
    "no sample": (no("sample_submission.csv"), "raw lacks sample_submission.csv: get the data"),
    "empty train_images": (empty("train_images"), "raw/train_images: no images: expected files that end in .jpg"),
    "empty test_images": (empty("test_images"), "raw/test_images: no images: expected files that end in .jpg"),
    "empty csv": (rows(head=""), "raw/train.csv: the file is empty: expected a csv with a header"),
    "other columns": (
        rows("tr0.jpg,1", head="image,mask"),
        "raw/train.csv: the columns are image,mask: expected ImageId_ClassId,EncodedPixels or ImageId,Cl",
    ),
    "short row": (rows("tr0.jpg,1"), "raw/train.csv, line 2: 2 values: expected 3, as in the header"),
    "image in the csv but not in the folder": (
        rows("tr0.jpg,1,1 9", "tr9.jpg,1,1 9"),
        "raw/train.csv, line 3: unknown image tr9.jpg: expected names among the 6 images",
    ),
    "image gone from the folder": (no("train_images/tr1.jpg"), "raw/train.csv, line 3: unknown image tr1.jpg"),
    "repeated row": (
        rows("tr0.jpg,1,1 9", "tr0.jpg,1,1 9"),
        "raw/train.csv, line 3: image tr0.jpg, class 1, stands in line 2 already: expected each once",
    ),
    "class 0": (rows("tr0.jpg,0,1 9"), "raw/train.csv, line 2: class '0': expected one of 1, 2, 3, 4"),
    "class 5": (rows("tr0.jpg,5,1 9"), "raw/train.csv, line 2: class '5': expected one of 1, 2, 3, 4"),
    "class 1.0": (rows("tr0.jpg,1.0,1 9"), "raw/train.csv, line 2: class '1.0': expected one of 1, 2, 3, 4"),
    "class NaN": (rows("tr0.jpg,NaN,1 9"), "raw/train.csv, line 2: class 'NaN': expected one of 1, 2, 3, 4"),
    "image NaN": (rows("NaN,1,1 9"), "raw/train.csv, line 2: image is empty: expected the file name of an image"),
    "mask NaN": (rows("tr0.jpg,1,NaN"), "raw/train.csv, line 2: EncodedPixels is empty: expected a mask in each row"),
    "mask missing": (rows("tr0.jpg,1,"), "raw/train.csv, line 2: EncodedPixels is empty: expected a mask in each row"),
    "odd count": (pixels("1 9 20"), f"{IN_ROW_3}has 3 numbers: expected pairs of start and length"),
    "not a number": (pixels("1 x"), f"{IN_ROW_3}has 'x' (number 2 of 2): {RANGE}"),
    "fraction": (pixels("1 2.5"), f"{IN_ROW_3}has '2.5' (number 2 of 2): {RANGE}"),
    "zero start": (pixels("0 9"), f"{IN_ROW_3}has 0 (number 1 of 2): {RANGE}"),
    "zero length": (pixels("1 0"), f"{IN_ROW_3}has 0 (number 2 of 2): {RANGE}"),
    "negative": (pixels("1 9 20 -3"), f"{IN_ROW_3}has '-3' (number 4 of 4): {RANGE}"),
    "beyond the strip": (pixels("409600 2"), f"{IN_ROW_3}run of length 2 (number 2 of 2) ends at 409601: expected at"),
    "far beyond": (pixels("99999999999999999999 1"), f"{IN_ROW_3}has 99999999999999999999 (number 1 of 2): {RANGE}"),
    "unsorted": (pixels("50 9 1 9"), f"{IN_ROW_3}run starts at 1 (number 3 of 4) but the run before ends at 58"),
    "overlapping": (pixels("1 9 5 9"), f"{IN_ROW_3}run starts at 5 (number 3 of 4) but the run before ends at 9"),
    "overlapping classes": (
        rows("tr0.jpg,1,1 9", "tr0.jpg,2,9 1"),
        "raw/train.csv, line 3: the masks of classes 1 and 2 of image tr0.jpg share px 9",
    ),
    "truncated": (strip(lambda data: data[:-40]), f"{TR3}JPEG cut off at "),
    "empty image": (strip(lambda _: b""), f"{TR3}the file is empty: expected an image"),
    "no image": (strip(lambda _: b"<html>not found"), f"{TR3}not an image (starts with b'<html>no'): expected JPEG"),
    "wrong size": (strip(jpeg((1600, 256))), f"{TR3}1600x256 px: expected 256x1600 (height x width)"),
    "colour": (strip(jpeg((256, 1600, 3), red=120)), f"{TR3}coloured, channels differ by "),
    "test image missing": (sample("te0.jpg", "te7.jpg", "te1.jpg"), "raw/test_images lacks te7.jpg, listed in raw/sam"),
    "test image not listed": (sample("te1.jpg"), "raw/sample_submission.csv does not list te0.jpg of raw/test_images"),
    "test image twice": (sample("te0.jpg", "te0.jpg"), "raw/sample_submission.csv, line 3: te0.jpg is listed twice"),
}


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("name", OF_THE_DATA)
def test_a_fault_of_the_data(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, expected = OF_THE_DATA[name]
    change()
    assert refused(capsys, "prepare", *ON_RAW).startswith(expected)


@pytest.mark.usefixtures("prepared")
def test_no_folder_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "prepare", *ON_RAW, "--data.raw", "nowhere", "--data.name", "other")
    assert message.startswith("nowhere lacks train.csv, train_images, test_images, sample_submission.csv: get the data")


def test_a_fault_met_by_a_worker_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny.write_config(tmp_path)
    tiny.write_raw(tmp_path / RAW, n_train=40)
    (tmp_path / RAW / "train_images/tr33.jpg").write_text("no")
    with tiny.within(tmp_path):
        message = tiny.fault(capfd, "prepare", tiny.CONFIG, *ON_RAW, "--machine.workers", "2")
    assert message.startswith("raw/train_images/tr33.jpg: not an image")
    assert [
        path.name for path in (tmp_path / "data/flat/cache").iterdir() if path.name[1:] not in ("lock", "begun")
    ] == []


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("train --modle gate", "unknown option --modle; is --model meant? (--help lists all)"),
        ("train --fold 3", "--fold: '3' is not a fold; allowed: 0..2, as in --fold 1"),
        ("decide --folds 0,7", "--folds: '7' is not a fold; allowed: 0..2, as in --folds 1"),
        ("train --models.fpn.net Unett", "models.fpn: net: unknown name 'Unett'; allowed: Unet, UnetPlusPlus, FPN"),
        ("train --models.fpn.encoder resnet19", "models.fpn: encoder: unknown name 'resnet19'; allowed: tu-NAME for"),
        ("train --models.gate.net resnet19", "models.gate: "),
        ("train --models.gate.loss {dise: 1}", "models.gate: loss: unknown name 'dise'; allowed: bce, "),
        ("train --models.fpn.augment none_", "models.fpn: augment: unknown name 'none_'; allowed: none, flips, "),
        ("train --models.fpn.options {x: 1}", "models.fpn: options: FPN has no option 'x'; allowed: encoder_name, "),
        ("train --models.gate.weights w.pt", "models.gate: weights: no file w.pt"),
        ("folds --split.n_folds 2", "folds/tiny.csv has 3 folds, split.n_folds is 2; `steel folds CONFIG --force` ov"),
        ("folds --split.seed 5", "folds/tiny.csv was made with seed 0, split.seed is 5; `steel folds CONFIG --force"),
        ("folds --split.known_duplicates d.csv", "folds/tiny.csv was made with known_duplicates None, split.known_d"),
        (
            "synth --force --data.raw elsewhere",
            "data.raw: elsewhere would be overwritten by the synthetic data; set one of",
        ),
        ("predict --images nowhere --out x.csv", "nowhere: no such folder: expected a folder of images"),
        ("predict --images runs --out x.csv", "runs: no images: expected files that end in .jpg, .jpeg, .png"),
    ],
)
@pytest.mark.usefixtures("copied")
def test_a_wrong_name_or_number(args: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, *(args.split(" ", 2) if "{" in args else args.split(" ")))
    assert message.startswith(expected), message


@pytest.mark.usefixtures("copied")
def test_a_typo_in_the_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_config(Path(), tiny.YAML.replace("downscale: 4", "downscail: 4", 1))
    expected = "tiny.yaml: unknown key models.fpn.downscail; allowed keys: kind, net, encoder, "
    assert refused(capsys, "train").startswith(expected)
    tiny.write_config(Path(), tiny.YAML.replace("kind: segmenter", "kind: segmentor"))
    assert "segmentor is not allowed; allowed: segmenter, classifier" in refused(capsys, "train")
    tiny.write_config(Path(), tiny.YAML.replace("n_folds: 3", "n_folds: 1"))
    assert refused(capsys, "train") == "split.n_folds: 1 is out of range; allowed: 2..20"


@pytest.mark.parametrize(
    ("args", "missing", "first"),
    [
        ("prepare", "synth", "synth"),
        ("folds", "prepare", "prepare"),
        ("train", "prepare", "prepare"),
        ("oof", "train fpn fold 0", "train"),
        ("oof --model gate --folds 2", "train gate fold 2", "train"),
        ("decide", "oof fpn fold 0", "oof"),
        ("report", "decide", "decide"),
        ("predict", "train fpn fold 0", "train"),
        ("submit", "decide", "decide"),
    ],
)
def test_a_stage_before_its_input(
    args: str, missing: str, first: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_config(tmp_path)
    stage, *options = args.split()
    with tiny.within(tmp_path):
        message = refused(capsys, stage, *options)
    assert message == f"{stage} needs '{missing}', which is missing: run `steel {first} CONFIG` first"


def test_strips_before_there_is_a_solution(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_config(tmp_path)
    tiny.write_raw(tmp_path / RAW)
    with tiny.within(tmp_path):
        message = refused(capsys, "predict", "--images", "raw/test_images", "--out", "x.csv")
    assert message == "runs/tiny holds no finished solution: run `./run_all.sh CONFIG`, or the stages up to decide"


@contextmanager
def files_of_at_most(n_bytes: int) -> Iterator[None]:
    """No file can grow beyond this: the system refuses a write as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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
        message = refused(capsys, "predict", "--images", "data/tiny/raw/test_images", "--out", "x.csv")
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
    phases = "[{epochs: 16, width: 1600, batch: 4, samples: 12}]"
    changes = ("--models.gate.phases", phases, "--models.gate.validate_every", "1", "--machine.workers", "2")
    job = ("--model", "gate", "--fold", "1", *changes)
    with start(copied, "train", tiny.CONFIG, *job) as program:
        assert program.stdout is not None
        for line in program.stdout:
            if " epoch 2/16: " in line:
                break
        message = tiny.fault(capsys, "train", tiny.CONFIG, *job)
        folder = "runs/tiny/gate/fold1"
        assert message == f"train gate fold 1: process {program.pid} is at work on {folder}; wait for it"
        tiny.run("status", args=changes)
        assert f"train gate fold 1            running (process {program.pid})\n" in capsys.readouterr().out
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
        assert program.stdout.readline() == "prepare: missing\n"
        time.sleep(1.5)
        interrupt(program)
    cache = tmp_path / "data/flat/cache"
    assert [path.name for path in cache.iterdir() if path.name not in (".lock", ".begun")] == []
    for i in range(40, 3000):
        (images / f"more{i}.jpg").unlink()
    with tiny.within(tmp_path):
        tiny.run("prepare", args=ON_RAW)
    assert np.load(cache / "train_images.npy", mmap_mode="r").shape == (46, 256, 1600)
