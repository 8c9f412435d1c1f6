"""`steel predict CONFIG --images DIR`: a finished solution on any folder of strips."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from steel import cli, files
from steel.cli import Options
from steel.competition import N_CLASSES
from steel.config import Solution
from steel.data.images import list_images, read_strip
from steel.decide.decision import Decision
from steel.decide.run import RULES, SOLUTION, check_whole
from steel.errors import UserError
from steel.kaggle.ensemble import Ensemble, Found, chunk_of
from steel.kaggle.submission import check_submission, write_submission
from steel.overlap import overlap
from steel.paths import Paths
from steel.progress import say, track
from steel.report.overlay import outline
from steel.stage import RECORD, recorded

MOST_FAULTS = 8  # strips that are named when they cannot be read
STORED = ("models", "split", "predict", "decide")  # parts of a solution that an override cannot change any more


def run(paths: Paths, options: Options) -> None:
    """Predict every strip of a folder with all folds, views and rules of the run; write the submission form."""
    assert options.images is not None and options.out is not None
    images, out = Path(options.images), options.out
    if out.is_dir() or not out.name:
        raise UserError(f"--out {out} is a folder; a file such as found.csv is wanted (a folder with --executor ray)")
    if options.overlay and options.overlay.resolve() == images.resolve():
        raise UserError(f"--overlay {options.overlay} is the folder of the strips; pictures want one of their own")
    image_ids = list_images(images)
    _check_names(images, image_ids)
    files.check_writable(out, "--out")
    if options.overlay:
        files.check_writable(options.overlay / "x.png", "--overlay")
    solution, decision = finished(paths)
    ensemble = Ensemble.of(solution, decision, weights_of(solution, decision))
    pictures = _picture_names(image_ids)
    rows: list[list[str]] = []
    with files.atomic(out) as temporary:
        strips = look(ensemble, images, image_ids)
        for image_id, strip, found in track(strips, "predict", "strips", len(image_ids)):
            rows.append(found.rles)
            if options.overlay:
                _write_overlay(options.overlay / pictures[image_id], strip, found.masks)
        write_submission(temporary, image_ids, rows)
        check_submission(temporary, image_ids)
    shown = sum(any(row) for row in rows)
    say(f"predict: {len(image_ids)} strips, {shown} with a defect shown, written to {out}")


def look(ensemble: Ensemble, images: Path, image_ids: Sequence[str]) -> Iterator[tuple[str, NDArray[np.uint8], Found]]:
    """Read strips of a folder, and say what is found on each: its name, the strip (256, 1600), the finding."""
    chunk = chunk_of(ensemble.batch)
    parts = [image_ids[start : start + chunk] for start in range(0, len(image_ids), chunk)]

    def read(part: Sequence[str]) -> tuple[Sequence[str], NDArray[np.uint8]]:
        try:
            return part, np.stack([read_strip(images / image_id) for image_id in part])
        except UserError:
            raise UserError(_faults(images, image_ids[image_ids.index(part[0]) :])) from None

    for part, strips in overlap(read, parts, 1):  # the next ones are read while the nets are at work on these
        yield from zip(part, strips, ensemble(strips), strict=True)


def _faults(images: Path, image_ids: Sequence[str]) -> str:
    """What is wrong with those of the strips that cannot be read: all are named, so that all can be moved away."""
    faults = []
    for image_id in image_ids:
        try:
            read_strip(images / image_id)
        except UserError as fault:
            faults.append(str(fault))
    more = "; --executor ray lists such files and goes on" if len(faults) > 1 else ""
    return "; ".join(faults[:MOST_FAULTS]) + (f"; and {n} more" if (n := len(faults) - MOST_FAULTS) > 0 else "") + more


def _check_names(images: Path, image_ids: Sequence[str]) -> None:
    """Refuse names that the submission form cannot hold."""
    for image_id in image_ids:
        if set(image_id) & set(',"\r\n'):
            raise UserError(
                f"{images}: the name {image_id!r} has a comma, a quote or a line break, which a submission cannot "
                "hold: rename it, or use --executor ray"
            )


def finished(paths: Paths) -> tuple[Solution, Decision]:
    """The configuration and the rules that a run ended with; only machine and cluster are taken from the command.

    Raises UserError unless weights, held-out probabilities and rules stand and belong together.
    """
    stored, rules = paths.decide / SOLUTION, paths.decide / RULES
    if not stored.exists() or not rules.exists():
        raise UserError(
            f"{paths.run} holds no finished solution: run `./run_all.sh CONFIG`, or the stages up to decide"
        )
    solution, _ = cli.parse("predict", "", [str(stored)])
    check_whole(paths.decide)
    decision = Decision.load(rules, solution)
    for name in solution.models:
        for fold in decision.folds:
            held_out = paths.oof(name, fold) / RECORD
            if not held_out.exists() or files.read_json(held_out)["inputs"]["weights"] != recorded(
                paths.fold(name, fold)
            ):
                raise UserError(
                    f"{paths.fold(name, fold)} was trained anew since the rules were tuned: run oof and decide"
                )
    if differing := [key for key in STORED if getattr(solution, key) != getattr(paths.solution, key)]:
        say(f"predict: {', '.join(differing)} as the run stored it in {stored}, not as given")
    return replace(solution, machine=paths.solution.machine, ray=paths.solution.ray), decision


def weights_of(solution: Solution, decision: Decision) -> dict[str, list[Path]]:
    """Files of the weights of each model, one for each fold that votes."""
    paths = Paths(solution)
    return {name: [paths.fold(name, k) / "weights.safetensors" for k in decision.folds] for name in solution.models}


def _picture_names(image_ids: list[str]) -> dict[str, str]:
    """File name of each strip's picture: a.png for a.jpg, but a.jpg.png if there is another strip a.*."""
    times = Counter(Path(image_id).stem for image_id in image_ids)
    return {i: f"{Path(i).stem if times[Path(i).stem] == 1 else i}.png" for i in image_ids}


def _write_overlay(path: Path, strip: NDArray[np.uint8], masks: NDArray[np.bool_] | None) -> None:
    if masks is None:
        masks = np.zeros((N_CLASSES, *strip.shape), np.bool_)
    with files.atomic(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", outline(strip, masks))[1].tobytes())
