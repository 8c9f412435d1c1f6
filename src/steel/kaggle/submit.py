"""Stage `submit`: rules applied to the test probabilities, written in the competition's form and checked."""

import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steel import __version__, files, rle
from steel.competition import N_CLASSES
from steel.config import digest
from steel.data.cache import open_strips
from steel.decide import run
from steel.decide.combine import Outputs
from steel.decide.decision import Decision
from steel.decide.ensemble import mean_gate
from steel.decide.held_out import class_probs, outputs_of
from steel.decide.rules import apply_to_map
from steel.errors import UserError
from steel.infer.store import open_store
from steel.kaggle.submission import check_submission, write_submission
from steel.paths import Paths
from steel.progress import say, track
from steel.report import drift
from steel.stage import Spec, recorded, source_digest

CODE = ("kaggle/submit", "kaggle/submission", "decide", "infer/store", "report/drift", "report/outcomes", "rle")


def spec(paths: Paths, folds: Sequence[int]) -> Spec:
    """What the submission is made from."""
    inputs = {name: recorded(paths.test(name)) for name in paths.solution.models}
    inputs |= {"rules": recorded(paths.decide, run.RULES, run.TABLE), "test": recorded(paths.cache, "test.csv")}
    inputs["report"] = recorded(paths.report, "cv.json")
    return Spec("submit", paths.submission, {"folds": list(folds)}, inputs, CODE)


def make(paths: Paths, folds: Sequence[int]) -> dict[Path, str]:
    """Write submission.csv, checked before it gets its name, and manifest.json."""
    table, _, decision = run.load(paths.decide, paths.solution)
    image_ids = open_strips(paths.cache, "test").image_ids
    stores = {name: open_store(paths.test(name)) for name in paths.solution.models}
    for name, store in stores.items():
        if store.image_ids != image_ids:
            raise UserError(f"{paths.test(name)} holds predictions of other strips: run `steel predict CONFIG --force`")
    probs = class_probs([stores[name] for name in decision.gates])
    gate = mean_gate(probs, len(image_ids), decision.blend.gate_counts)
    segmenters = [stores[name] for name in decision.segmenters]
    rows, shown_px = [], np.zeros((len(image_ids), N_CLASSES), np.int64)
    for i in track(range(len(image_ids)), "submit", "strips"):
        masks = mask_strip(outputs_of(segmenters, i), gate[i], decision)
        rows.append(encode_strip(masks))
        shown_px[i] = [np.count_nonzero(mask) for mask in masks]
    parted = drift.of_submission(table, decision, shown_px)
    target = paths.submission / "submission.csv"
    with files.atomic(target) as temporary:
        write_submission(temporary, image_ids, rows)
        check_submission(temporary, image_ids)
    shown = sum(any(row) for row in rows)
    say(f"submit: {len(image_ids)} strips, {shown or 'none'} with a defect shown")
    for line in parted.warnings():
        say(f"submit: warning: {line}")
    manifest = paths.submission / "manifest.json"
    files.write_json(manifest, {**_manifest(paths, folds, target), "drift": parted.as_dict()})
    return {path: files.sha256(path) for path in (target, manifest)}


def mask_strip(outputs: Outputs, gate: NDArray[np.float32], decision: Decision) -> NDArray[np.bool_]:
    """The four masks of a strip, (4, 256, 1600), from its segmenters' outputs and its gates (4,)."""
    prob, tail_px = outputs.combine(decision.blend)
    return apply_to_map(decision.tuned, prob, gate, tail_px)


def encode_strip(masks: NDArray[np.bool_]) -> list[str]:
    """The four run-length codes of one strip's masks (4, 256, 1600); empty where nothing is shown."""
    return [rle.encode(mask) for mask in masks]


def _manifest(paths: Paths, folds: Sequence[int], submission: Path) -> dict[str, object]:
    """Where the submission comes from: code, data, models, rules, and the score to expect."""
    models = {f"{name} fold {k}": recorded(paths.fold(name, k)) for name in paths.solution.models for k in folds}
    return {
        "solution": paths.solution.name,
        "version": __version__,
        "commit": _commit(),
        "code": source_digest((".",)),
        "config": digest(asdict(paths.solution)),
        "data": {
            "train": recorded(paths.cache, "train.csv", "train_masks.npy"),
            "test": recorded(paths.cache, "test.csv"),
        },
        "folds": {"digest": recorded(paths.folds_record), "used": list(folds)},
        "models": models,
        "rules": files.sha256(paths.decide / run.RULES),
        "cv": files.read_json(paths.report / "cv.json")["headline"],
        "submission": files.sha256(submission),
    }


def _commit() -> str | None:
    """Commit of the source checkout; None where there is none."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
