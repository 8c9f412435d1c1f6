"""Strips per second of one worker of `steel predict --executor ray` against the local path, on the same strips.

    python benchmarks/stream.py configs/demo.yaml --strips 192 --rounds 3

Both have the same finished run, strips, batch and threads, and are taken in turn. The local path is that of
`steel predict --images`: read, decode, predict and encode in one process. The stream has one worker, its reader, and
the program that writes the parts, on a Ray of this machine. Start-up is left out of both: of the stream the time before
its first part, which is printed beside. At the end the stream runs once more, over --times as many strips: what it
holds in memory (anonymous and shared pages of this program and of Ray's processes) should not have grown.
"""

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from pathlib import Path

from harness import machine, table
from scale import Peak

from steel import cli
from steel.cluster.connect import load_ray
from steel.data.images import list_images
from steel.errors import UserError
from steel.kaggle import apply
from steel.kaggle.ensemble import Ensemble, chunk_of
from steel.paths import Paths

PART = 64  # strips


def main() -> None:
    """Print a table of strips per second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/demo.yaml", help="a finished solution")
    parser.add_argument("--strips", type=int, default=192, help="strips of a round, made of those of the data set")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, default=4, help="strips of the last run, in rounds")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on both sides")
    args = parser.parse_args()
    try:
        load_ray()
    except UserError as error:  # the other benchmarks go on without it
        print(error)
        return
    overrides = ("--machine.threads", str(args.threads), "--machine.jobs", "1", "--machine.device", "cpu")
    line = [args.config, *overrides]
    rates: dict[str, list[float]] = {"the local path": [], "one worker of the stream": []}
    starts, peaks = [], []
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(cli.parse("status", "", line)[0])
        images = strips(Path(folder) / "images", paths, args.strips)
        for i in range(args.rounds):
            rates["the local path"].append(local(line, images))
            rate, start_s, peak_mb = stream(line, images, Path(folder) / f"out{i}")
            rates["one worker of the stream"].append(rate)
            starts.append(start_s)
            peaks.append(peak_mb)
        many = strips(Path(folder) / "many", paths, args.strips * args.times)
        rate, _, peak_mb = stream(line, many, Path(folder) / "out")
    print(machine(), f"{args.strips} strips, {args.threads} threads, {args.rounds} rounds", sep="\n")
    ratio = statistics.median(b / a for a, b in zip(*rates.values(), strict=True))
    rows = [["strips/s", "rounds x strips", "median", "spread"]]
    count = f"{args.rounds} x {args.strips}"
    rows += [[n, count, f"{statistics.median(v):.2f}", f"{min(v):.2f}–{max(v):.2f}"] for n, v in rates.items()]
    print(table(rows), f"ratio {ratio:.2f}; {statistics.median(starts):.1f} s before the first part", sep="\n")
    print(
        f"{args.strips} strips: at most {statistics.median(peaks):.0f} MB; {args.strips * args.times}: {peak_mb:.0f} MB"
    )


def strips(images: Path, paths: Paths, n: int) -> Path:
    """A folder of n links to the data set's strips."""
    images.mkdir()
    folders = [paths.raw / part for part in ("train_images", "test_images")]
    sources = [source / name for source in folders for name in list_images(source)]
    for i in range(n):
        (images / f"{i:06d}.jpg").symlink_to(sources[i % len(sources)].absolute())
    return images


def local(line: list[str], images: Path) -> float:
    """Strips per second of the local path, weights loaded and one chunk done before."""
    solution, decision = apply.finished(Paths(cli.parse("predict", "", line)[0]))
    ensemble, image_ids = Ensemble.of(solution, decision, apply.weights_of(solution, decision)), list_images(images)
    first = chunk_of(ensemble.batch)
    for _ in apply.look(ensemble, images, image_ids[:first]):
        pass
    start = time.perf_counter()
    n = sum(len(found.rles) > 0 for _, _, found in apply.look(ensemble, images, image_ids[first:]))
    return n / (time.perf_counter() - start)


def stream(line: list[str], images: Path, out: Path) -> tuple[float, float, float]:
    """Strips per second from the first part to the last, seconds until the first, and the most memory in MB."""
    from steel.cluster import stream as room

    line = [*line, "--executor", "ray", "--ray.part_strips", str(PART)]
    solution, options = cli.parse("predict", "", [*line, "--images", str(images), "--out", str(out)])
    peak, start = Peak(os.getpid()), time.time()
    peak.start()
    with contextlib.redirect_stdout(io.StringIO()):
        room.run(Paths(solution), options)
    peak.over.set()
    peak.join()
    done = sorted(path.stat().st_mtime for path in (out / "parts").iterdir())
    return (len(list_images(images)) - PART) / (done[-1] - done[0]), done[0] - start, peak.largest_kb / 1024


if __name__ == "__main__":
    main()
