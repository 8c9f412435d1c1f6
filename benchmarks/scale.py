"""Every stage for more and more strips: how time and memory grow.

    python benchmarks/scale.py --sizes 1000 4000 [--results scale.json] [--plot docs/scale.png]
    python benchmarks/scale.py --sizes [--plot docs/scale.png]        # only the table and the plot of what is known

For each size it makes up strips, two masks for every three of them, and a fifth as many test strips (.9 MB of disk per
strip), and runs the stages as the program does, each as a process of its own. A strip is the mean of two rendered ones,
each moved along and stretched by chance: all differ, as real ones do, and each has the masks of its first half. The
nets are two layers that see an eighth of each side: what is measured is all but the nets. There are five folds, and one
epoch with a twentieth as many samples as strips; it ends with a look at all strips that are held out. One training at a
time.

Memory is what no file lies behind (anonymous and shared pages of the stage's processes, looked at ten times a second):
maps of the cache, which the system may take back, do not count. Time is that of the processors, which other programs
disturb least; the time that passed stands beside it. Results are added to the file of --results, so that large sizes
may run on their own.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from harness import machine, table
from numpy.typing import NDArray

from steel import files, rle
from steel.competition import CLASSES, HEIGHT, N_PIXELS, WIDTH
from steel.data.synth import write_dataset
from steel.workers import Workers, cores

STAGES = ("prepare", "folds", "eda", "train", "oof", "decide", "report", "predict", "submit")
N_DRAWN, N_FOLDS, SAMPLED = 48, 5, 20
CONFIG = """
name: scale
data: {{name: scale, raw: raw}}
split: {{n_folds: {folds}}}
models:
  maps: {{net: "my_scale_nets:maps", downscale: 4, phases: [{{epochs: 1, width: 512, batch: 16, samples: {samples}}}]}}
  gate:
    kind: classifier
    net: "my_scale_nets:gate"
    downscale: 4
    phases: [{{epochs: 1, width: 1600, batch: 16, samples: {samples}}}]
predict: {{tta: [identity]}}
machine: {{jobs: 1}}
"""
NETS = '''
"""Nets of next to no work, whose maps are smooth and faint."""

from torch import nn


def maps(**_ignored: object) -> nn.Module:
    last = nn.Conv2d(8, 4, 1)
    nn.init.constant_(last.bias, -5.0)
    small = [nn.AvgPool2d(2), nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), last]
    return nn.Sequential(*small, nn.Upsample(scale_factor=2, mode="bilinear"))


def gate(in_chans: int, num_classes: int, **_ignored: object) -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(in_chans, 8, 5), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
                         nn.Linear(8, num_classes))
'''
Drawn = list[tuple[NDArray[np.uint8], dict[int, NDArray[np.uint8]]]]  # strips, and their masks by class


@dataclass(frozen=True)
class Result:
    """What one stage took for n training strips; CPU time is that of all its processes and threads."""

    n: int
    stage: str
    seconds: float
    cpu_s: float
    peak_mb: float


def make_up(folder: Path, n: int) -> None:
    """Write a data set of n training strips in the competition's layout, the nets and the configuration."""
    (folder / "drawn").mkdir()
    write_dataset(folder / "drawn", N_DRAWN, 0, seed=0)
    names = {"train": [f"{i:09x}.jpg" for i in range(n)], "test": [f"{n + i:09x}.jpg" for i in range(max(n // 5, 1))]}
    raw, rows = folder / "raw", []
    with Workers(cores()) as pool:
        for part, of_part in names.items():
            (raw / f"{part}_images").mkdir(parents=True)
            parts = [of_part[start : start + 64] for start in range(0, len(of_part), 64)]
            for found in pool.map(partial(_write_strips, folder / "drawn", raw / f"{part}_images"), parts):
                rows += found if part == "train" else []
    labels = pd.DataFrame(rows, columns=["ImageId", "ClassId", "EncodedPixels"])
    labels.to_csv(raw / "train.csv", index=False)
    sample = pd.DataFrame({"ImageId": names["test"], "EncodedPixels": f"1 {N_PIXELS}", "ClassId": 0})
    sample.to_csv(raw / "sample_submission.csv", index=False)
    (folder / "my_scale_nets.py").write_text(NETS)
    (folder / "scale.yaml").write_text(CONFIG.format(folds=N_FOLDS, samples=max(n // SAMPLED, 16)))


def _write_strips(drawn: Path, folder: Path, names: Sequence[str]) -> list[tuple[str, int, str]]:
    """Worker: write some strips; their masks as rows of train.csv."""
    sources, rows = _drawn(drawn), []
    for name in names:
        rng = np.random.default_rng(int(Path(name).stem, 16))
        (first, masks), (second, _) = (sources[k] for k in rng.integers(len(sources), size=2))
        here, there = (_columns(rng) for _ in range(2))
        strip = cv2.addWeighted(first[:, here], 0.5, second[::-1, there], 0.5, 0)
        data = cv2.imencode(".jpg", cv2.merge([strip] * 3), (cv2.IMWRITE_JPEG_QUALITY, 85))[1]
        (folder / name).write_bytes(data.tobytes())
        moved = {k: mask[:, here] for k, mask in masks.items()}
        rows += [(name, k, rle.encode(mask)) for k, mask in moved.items() if mask.any()]  # one may be stretched away
    return rows


def _columns(rng: np.random.Generator) -> NDArray[np.int64]:
    """Columns of a strip, moved along and stretched by chance.

    Were they only moved, two strips in some thousand would nearly be copies and be compared pixel by pixel, the more
    the more strips there are. Real ones differ.
    """
    return ((np.arange(WIDTH) * rng.uniform(0.75, 1.25) + rng.uniform(0, WIDTH)) % WIDTH).astype(np.int64)


def _drawn(folder: Path) -> Drawn:
    """The rendered strips and their masks."""
    labels = pd.read_csv(folder / "train.csv")
    found = []
    for path in sorted((folder / "train_images").iterdir()):
        own = labels[labels.ImageId == path.name]
        masks = {int(k): rle.decode(runs) for k, runs in zip(own.ClassId, own.EncodedPixels, strict=True)}
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert grey is not None and grey.shape == (HEIGHT, WIDTH) and set(masks) <= set(CLASSES)
        found.append((np.asarray(grey, np.uint8), masks))
    return found


def measure(n: int, folder: Path, known: Sequence[str]) -> Iterator[Result]:
    """Run the stages that are not known yet, one after the other, in a folder; what each took."""
    if not (folder / "scale.yaml").exists():
        files.remove(folder)
        folder.mkdir(parents=True)
        make_up(folder, n)
    for stage in STAGES:
        if stage in known:
            continue
        for left in folder.rglob("building-*"):  # by a stage that was killed: it would not be done from the start
            files.remove(left)
        yield Result(n, stage, *run(stage, folder))
        if stage == "prepare":
            shutil.rmtree(folder / "raw")  # the stages that follow read the cache


def run(stage: str, folder: Path) -> tuple[float, float, float]:
    """Run a stage: the seconds that passed, those of the processors, and the most memory in MB."""
    log, start = folder / f"{stage}.log", time.monotonic()
    command = [sys.executable, "-m", "steel", stage, "scale.yaml", "--force"]
    with log.open("w") as out:
        child = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    peak = Peak(child.pid)
    peak.start()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    peak.over.set()
    peak.join()
    if child.returncode:
        raise SystemExit(f"{stage} failed: {log.read_text()[-2000:]}")
    seconds, cpu_s = time.monotonic() - start, used.ru_utime + used.ru_stime
    return round(seconds, 2), round(cpu_s, 2), round(peak.largest_kb / 1024, 1)


class Peak(threading.Thread):
    """The most memory that a process and all below it hold at once, beyond mapped files."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.largest_kb, self.over = pid, 0, threading.Event()

    def run(self) -> None:
        """Look ten times a second, or as often as looking takes a twentieth of the time."""
        pause_s = 0.1
        while not self.over.wait(pause_s):
            start = time.monotonic()
            self.largest_kb = max(self.largest_kb, sum(_held_kb(pid) for pid in _tree(self.pid)))
            pause_s = max(0.1, 20 * (time.monotonic() - start))


def _tree(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below = children.read_text().split()
        except OSError:  # it has ended meanwhile
            continue
        for child in below:
            yield from _tree(int(child))


def _held_kb(pid: int) -> int:
    """Anonymous and shared pages of a process; of those that several hold, its part."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def add(path: Path, result: Result) -> None:
    """Keep a result, in place of an earlier one of the same stage and size."""
    kept = [one for one in load(path) if (one.n, one.stage) != (result.n, result.stage)]
    kept.sort(key=lambda one: one.n)
    files.write_json(path, [asdict(one) for one in [*kept, result]])


def load(path: Path) -> list[Result]:
    """All results that are known."""
    return [Result(**one) for one in files.read_json(path)] if path.exists() else []


def exponent(results: Sequence[Result]) -> float:
    """Slope of the logarithm of CPU time over that of n, least squares; NaN of a single size."""
    n, seconds = np.log([one.n for one in results]), np.log([one.cpu_s for one in results])
    return float(np.polyfit(n, seconds, 1)[0]) if len(results) > 1 else math.nan


def as_table(results: Sequence[Result]) -> str:
    """A row for each stage: CPU seconds (and those that passed) by size, how they grow, and the peaks of memory."""
    sizes = sorted({one.n for one in results})
    rows = [["CPU s (s)", *(f"{n:,}" for n in sizes), "exponent", "of the last two", "MB by size"]]
    for stage in STAGES:
        own = sorted((one for one in results if one.stage == stage), key=lambda one: one.n)
        took = {one.n: f"{one.cpu_s:.0f} ({one.seconds:.0f})" for one in own}
        memory = " / ".join(f"{one.peak_mb:.0f}" for one in own)
        cells = [took.get(n, "") for n in sizes]
        rows.append([stage, *cells, f"{exponent(own):.2f}", f"{exponent(own[-2:]):.2f}", memory])
    return table(rows)


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw time and memory over the number of strips, both axes logarithmic."""
    import altair as alt

    from steel.report.charts.draw import figure, write_png

    frame = pd.DataFrame([asdict(one) for one in results])
    sizes = alt.Axis(values=sorted({one.n for one in results}))
    across = alt.X("n:Q", title="training strips", scale=alt.Scale(type="log", nice=False), axis=sizes)
    marks = alt.Chart(frame).mark_line(point=True)
    colour = alt.Color("stage:N", title="stage", sort=list(STAGES))
    log = alt.Scale(type="log")
    time_chart = marks.encode(x=across, y=alt.Y("cpu_s:Q", title="CPU time, s", scale=log), color=colour)
    memory = marks.encode(x=across, y=alt.Y("peak_mb:Q", title="memory beyond maps, MB"), color=colour)
    limit = alt.Chart(pd.DataFrame({"peak_mb": [2048]})).mark_rule(strokeDash=[4, 4]).encode(y="peak_mb:Q")
    chart = time_chart | (memory + limit)
    title = "Time and memory of the stages by the number of strips"
    write_png(figure(path.stem, title, title, chart), path.parent)


def main() -> None:
    """Measure the sizes that are asked for; print the table of all that is known, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000], help="training strips")
    parser.add_argument("--results", type=Path, default=Path("scale.json"))
    parser.add_argument("--folder", type=Path, help="keep the data sets there, and go on where a killed run was")
    parser.add_argument("--plot", type=Path, help="a PNG to draw")
    args = parser.parse_args()
    print(machine(), flush=True)
    os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(part).absolute()) for part in sys.path if part)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as temporary:  # a disk, where /tmp may be memory
        for n in args.sizes:
            folder = (args.folder or Path(temporary)) / str(n)
            known = [one.stage for one in load(args.results) if one.n == n] if args.folder else []
            for result in measure(n, folder, known):
                add(args.results, result)
                print(result, flush=True)
            if not args.folder:
                files.remove(folder)
    results = load(args.results)
    print(as_table(results))
    if args.plot:
        draw(results, args.plot)


if __name__ == "__main__":
    main()
