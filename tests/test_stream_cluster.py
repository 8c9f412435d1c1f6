"""An archive streamed by a real Ray of this machine: what the local path finds, each strip once, whatever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import tiny

from steel.__main__ import main
from steel.data.images import list_images

pytestmark = pytest.mark.cluster

COILS = {"coil1": "train", "coil2": "test"}  # folders of the archive, and the part of the data in each
N_STRIPS, PART = 40, 4
PATIENCE_S = 100.0


@pytest.fixture(scope="module")
def archive(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run's strips in two folders, and in a third two that cannot be read."""
    folder = tmp_path_factory.mktemp("archive")
    for coil, part in COILS.items():
        (folder / coil).mkdir()
        for image_id in list_images(finished / f"data/tiny/raw/{part}_images"):
            tiny.link(finished / f"data/tiny/raw/{part}_images" / image_id, folder / coil / image_id)
    (folder / "coil3").mkdir()
    (folder / "coil3/note.jpg").write_bytes(b"hello")
    whole = next((folder / "coil1").iterdir()).read_bytes()
    (folder / "coil3/cut.jpg").write_bytes(whole[:5000])
    return folder


@contextmanager
def streaming(
    archive: Path, out: Path, log: Path, entry: tuple[str, ...] = ("-m", "steel")
) -> Iterator["subprocess.Popen[bytes]"]:
    """The program at work on the archive; nothing of it outlives the block."""
    line = ["predict", tiny.CONFIG, "--images", str(archive), "--executor", "ray", "--out", str(out)]
    command = [sys.executable, *entry, *line, "--ray.part_strips", str(PART), "--machine.jobs", "2"]
    environment = os.environ | {"PYTHONPATH": str(tiny.ROOT / "src")}
    with log.open("wb") as said:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        wait_for(lambda: not of_ray(), log)  # which ends with its driver


def of_ray(name: str = "") -> list[int]:
    """Ray's processes of this working directory, of which the title begins so."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_here = (process / "cwd").readlink() == Path.cwd()
            if is_here and (process / "cmdline").read_text().startswith(f"ray::{name}"):
                found.append(int(process.name))
        except OSError:  # it has just ended
            continue
    return found


def wait_for(met: Callable[[], object], log: Path) -> None:
    """Wait until a condition is met; else fail with what the program has said."""
    end = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)


def parts(out: Path) -> dict[str, str]:
    """Digest of each part that stands."""
    return {path: digest for path, digest in tiny.contents(out).items() if path.endswith(".parquet")}


@pytest.fixture(scope="module")
def streamed(finished: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed run leaves."""
    folder = tmp_path_factory.mktemp("streamed")
    out, log = folder / "new/out", folder / "log"
    with tiny.within(finished), streaming(archive, out, log) as process:
        assert process.wait() == 0, log.read_text()
    counts = json.loads((out / "summary.json").read_text())
    first, *between, last = log.read_text().splitlines()
    assert first == f"predict: {N_STRIPS} strips for 2 workers and 2 readers on 1 node"
    assert all(line.endswith(" s left") for line in between)
    found = f"{counts['with_a_defect']} with a defect shown, 2 corrupt"
    assert last == f"predict: {N_STRIPS} strips, {found}; 10 parts in {out}"
    return out


def test_what_the_local_path_finds(finished: Path, archive: Path, streamed: Path, tmp_path: Path) -> None:
    table, counts = pd.read_parquet(streamed / "parts"), json.loads((streamed / "summary.json").read_text())
    expected = []
    with tiny.within(finished):
        for coil in COILS:
            main(["predict", tiny.CONFIG, "--images", str(archive / coil), "--out", str(tmp_path / "x.csv")])
            local = pd.read_csv(tmp_path / "x.csv", keep_default_na=False)
            expected += (f"{coil}/" + local.ImageId_ClassId + "," + local.EncodedPixels).tolist()
    assert (table.image_id + "_" + table.class_id.astype(str) + "," + table.rle).tolist() == expected
    shown = table[table.area_px > 0]
    assert 0 < shown.image_id.nunique() == counts["with_a_defect"] < len(expected) / 4
    assert counts["shown"] == {str(k): int((shown.class_id == k).sum()) for k in range(1, 5)}
    assert (counts["strips"], counts["strips_of_this_run"], counts["corrupt"]) == (N_STRIPS, N_STRIPS, 2)
    assert (streamed / "corrupt.csv").read_text().splitlines() == [
        "image_id,reason",
        "coil3/cut.jpg,JPEG cut off at 5000 bytes: expected an end-of-image marker",
        "coil3/note.jpg,not an image (starts with b'hello'): expected JPEG or PNG data",
    ]


def test_killed_and_started_again_it_finds_the_same(
    finished: Path, archive: Path, streamed: Path, tmp_path: Path
) -> None:
    """First a worker, then the program itself is killed in the middle; nothing is lost, doubled or done again."""
    out, log = tmp_path / "out", tmp_path / "log"
    with tiny.within(finished):
        with streaming(archive, out, log) as process:
            wait_for(lambda: len(parts(out)) > 1, log)  # the list is a parquet file too
            os.kill(of_ray("MapWorker")[0], signal.SIGKILL)
            n = len(parts(out))
            wait_for(lambda: len(parts(out)) > n, log)
        half = parts(out)
        assert len(half) < len(parts(streamed)), "it was done before it was killed"
        times = {path: (out / path).stat().st_mtime_ns for path in half}
        with streaming(archive, out, log) as process:
            assert process.wait() == 0, log.read_text()
        assert parts(out) == parts(streamed)
        assert {path: (out / path).stat().st_mtime_ns for path in half} == times
        counts, whole = (json.loads((folder / "summary.json").read_text()) for folder in (out, streamed))
        assert counts.pop("strips_of_this_run") == N_STRIPS - PART * (len(half) - 1)
        same = ("strips", "shown", "with_a_defect", "corrupt", "parts")
        assert [counts[key] for key in same] == [whole[key] for key in same]
        assert (out / "corrupt.csv").read_bytes() == (streamed / "corrupt.csv").read_bytes()


def test_of_a_long_archive_ray_is_told_span_by_span(
    finished: Path, archive: Path, streamed: Path, tmp_path: Path
) -> None:
    spans_of_four = "from steel.cluster import flow; flow.SPAN = 4"  # there are ten slices
    entry = f"import sys; {spans_of_four}; from steel.__main__ import main; main(sys.argv[1:])"
    out, log = tmp_path / "out", tmp_path / "log"
    with tiny.within(finished), streaming(archive, out, log, ("-c", entry)) as process:
        assert process.wait() == 0, log.read_text()
    assert parts(out) == parts(streamed)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--images", "nowhere", "--out", "new"], "nowhere: no such folder"),
        (["--images", "runs/tiny/decide", "--out", "new"], "decide: no images at any depth"),
        (["--images", "data", "--out", tiny.CONFIG], f"--out {tiny.CONFIG} is a file; with --executor ray a folder"),
        (["--images", "data", "--out", "runs"], "--out runs holds other things (tiny): give a new or an empty folder"),
        (["--images", "s3://none/x", "--out", "new"], "s3://none/x: ImportError: Install s3fs to access S3"),
        (["--images", "data", "--out", "new", "--name", "other"], "runs/other holds no finished solution"),
        (
            ["--images", "data", "--out", "new", "--ray.address", "127.0.0.1:1"],
            "ray.address: no cluster at 127.0.0.1:1",
        ),
    ],
)
@pytest.mark.usefixtures("copied")
def test_refusals(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in tiny.fault(capsys, "predict", tiny.CONFIG, "--executor", "ray", *args)
