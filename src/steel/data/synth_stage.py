"""Stage `synth`: the synthetic data set of a solution, made once."""

from dataclasses import asdict
from pathlib import Path

import cv2

from steel import files
from steel.data.synth import write_dataset
from steel.errors import UserError
from steel.paths import Paths
from steel.stage import Spec

MARK = "synthetic.json"  # says that the folder beside it may be written anew
CODE = ("data/synth", "data/texture", "data/defects", "rle", "competition")


def spec(paths: Paths) -> Spec:
    """What the data set is made from: its sizes and its seed."""
    return Spec("synth", paths.data, asdict(paths.solution.data)["synth"], {}, CODE, {"opencv": cv2.__version__})


def make(paths: Paths) -> dict[Path, str]:
    """Write the data set in the competition's layout; the digest of its labels."""
    synth = paths.solution.data.synth
    assert synth is not None
    if paths.solution.data.raw is not None:
        raise UserError(
            f"data.raw: {paths.raw} would be overwritten by the synthetic data; set one of data.raw and data.synth"
        )
    if paths.raw.exists() and not (paths.raw / MARK).exists():
        raise UserError(f"{paths.raw} holds data that synth did not write: delete it, or choose another data.name")
    with files.atomic(paths.raw) as temporary:
        temporary.mkdir()
        write_dataset(temporary, synth.n_train, synth.n_test, synth.seed)
        files.write_json(temporary / MARK, asdict(synth))
    train = paths.raw / "train.csv"
    return {train: files.sha256(train)}
