"""The kernel of the tiny solution at work in this process, over folders as Kaggle has them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import tiny

from steel import files
from steel.decide.decision import Decision
from steel.decide.rule import Rule
from steel.decide.rules import Rules
from steel.kaggle import kernel
from steel.paths import Paths
from steel.stage import RECORD

RAW, SUBMISSION = Path("data/tiny/raw"), Path("submissions/tiny/submission.csv")
DATASET = Path("kernels/tiny/dataset")


@contextmanager
def place(bundled: Path, folder: Path) -> Iterator[Path]:
    """Work in a copy of the bundled run; in it the folders of the kernel."""
    tiny.copy(bundled, folder)
    with tiny.within(folder):
        Path("competition").mkdir()
        shutil.copytree(RAW / "test_images", "competition/test_images")
        shutil.copy(RAW / "sample_submission.csv", "competition")
        Path("working").mkdir()
        yield folder


def run() -> str:
    """What the kernel writes over the folder `competition`."""
    kernel.run(Path("competition"), DATASET, Path("working"))
    return Path("working/submission.csv").read_text()


def rows_of(text: str) -> dict[str, list[str]]:
    """The lines of each image of a submission."""
    rows: dict[str, list[str]] = {}
    for line in text.splitlines()[1:]:
        rows.setdefault(line.partition(",")[0].rpartition("_")[0], []).append(line)
    return rows


def set_rules(rule: Rule) -> None:
    """Put rules into the run and the bundle."""
    path = Paths(tiny.solution()).decide / "rules.json"
    replace(Decision.load(path), tuned=Rules((rule,) * 4)).save(path)
    record = files.read_json(path.parent / RECORD)
    record["outputs"][str(path)] = files.sha256(path)
    files.write_json(path.parent / RECORD, record)
    shutil.copy(path, DATASET / "rules.json")
