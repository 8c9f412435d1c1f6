"""`steel predict CONFIG --images DIR`: a finished solution on any folder of strips."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from steel import cli, files
from steel.cli import Options
from steel.config import Solution
from steel.data.images import list_images, read_strip
from steel.decide.combine import Outputs
from steel.decide.decision import Decision
from steel.decide.ensemble import mean_gate
from steel.decide.run import RULES, SOLUTION, check_whole
from steel.errors import UserError
from steel.infer.predictor import Predictor, quantise, sum_pixels
from steel.kaggle.submission import check_submission, write_submission
from steel.kaggle.submit import encode_strip, mask_strip
from steel.paths import Paths
from steel.progress import say, track
from steel.report.overlay import outline
from steel.stage import RECORD, recorded

STORED = ("models", "split", "predict", "decide")  # parts of a solution that an override cannot change any more


def run(paths: Paths, options: Options) -> None:
    """Predict every strip of a folder with all folds, views and rules of the run; write the submission form."""
    images, out = options.images, options.out
    assert images is not None and out is not None
    if out.is_dir() or not out.name:
        raise UserError(f"--out {out} is a folder; a file such as found.csv is wanted")
    if options.overlay and options.overlay.resolve() == images.resolve():
        raise UserError(f"--overlay {options.overlay} is the folder of the strips; pictures want one of their own")
    image_ids = list_images(images)
    solution, decision = _finished(paths)
    if differing := [key for key in STORED if getattr(solution, key) != getattr(paths.solution, key)]:
        say(f"predict: {', '.join(differing)} as the run stored it in {paths.decide / 'solution.json'}, not as given")
    predictors = {name: Predictor.load(Paths(solution), name, decision.folds) for name in solution.models}
    pictures = _picture_names(image_ids)
    rows: list[list[str]] = []
    starts = range(0, len(image_ids), solution.predict.batch)
    with files.atomic(out) as temporary:
        for start in track(starts, "predict", "batches"):
            part = image_ids[start : start + solution.predict.batch]
            strips = np.stack([read_strip(images / image_id) for image_id in part])
            for image_id, strip, masks in zip(part, strips, _masks(strips, predictors, decision), strict=True):
                rows.append(encode_strip(masks))
                if options.overlay:
                    _write_overlay(options.overlay / pictures[image_id], strip, masks)
        write_submission(temporary, image_ids, rows)
        check_submission(temporary, image_ids)
    shown = sum(any(row) for row in rows)
    say(f"predict: {len(image_ids)} strips, {shown} with a defect shown, written to {out}")


def _finished(paths: Paths) -> tuple[Solution, Decision]:
    """The configuration and the rules that a run ended with; only the machine is taken from the command."""
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
    return replace(solution, machine=paths.solution.machine), decision


def _masks(strips: NDArray[np.uint8], predictors: dict[str, Predictor], decision: Decision) -> list[NDArray[np.bool_]]:
    """Masks (4, 256, 1600) of each strip of a batch (b, 256, 1600)."""
    probs = [predictor(strips) for predictor in predictors.values()]
    maps = [(quantise(prob.maps), sum_pixels(prob.maps)) for prob in probs if prob.maps is not None]
    labels = [prob.labels.double().cpu().numpy() for prob in probs if prob.labels is not None]  # each (b, 4)
    gate = mean_gate(labels, len(strips), decision.blend.gate_counts)
    each = [Outputs([m[i] for m, _ in maps], np.stack([sums[i] for _, sums in maps])) for i in range(len(strips))]
    return [mask_strip(outputs, gate[i], decision) for i, outputs in enumerate(each)]


def _picture_names(image_ids: list[str]) -> dict[str, str]:
    """File name of each strip's picture: a.png for a.jpg, but a.jpg.png if there is another strip a.*."""
    times = Counter(Path(image_id).stem for image_id in image_ids)
    return {i: f"{Path(i).stem if times[Path(i).stem] == 1 else i}.png" for i in image_ids}


def _write_overlay(path: Path, strip: NDArray[np.uint8], masks: NDArray[np.bool_]) -> None:
    with files.atomic(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", outline(strip, masks))[1].tobytes())
