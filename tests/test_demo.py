"""The demo as a user meets it: one command, a checked submission, a report with a score far above showing nothing."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import tiny

from steel.kaggle.score import format_score, score_files
from steel.kaggle.submission import check_submission

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder of the demo and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    command = [tiny.runner(folder), tiny.ROOT / "configs/demo.yaml"]
    begin = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    print(f"\n{done.stdout}\nthe demo took {(time.monotonic() - begin) / 60:.1f} minutes")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_score_is_clearly_above_nothing(demo: tuple[Path, str]) -> None:
    cv = json.loads((demo[0] / "runs/demo/report/cv.json").read_text())
    head, honest = cv["headline"], cv["all"]["lofo"]
    assert (head["kind"], head["partial"]) == ("lofo", False)
    assert honest["positive"] == head["positive"]
    assert sum(honest["class_positive"]) / 4 >= 0.5
    assert head["positive"] >= 0.5
    assert min(honest["class_positive"]) >= 0.3
    assert head["mean"] > head["empty_mean"]


def test_it_ends_with_the_table_and_where_all_lies(demo: tuple[Path, str]) -> None:
    folder, text = demo
    assert text.endswith("submission: submissions/demo/submission.csv\nreport: runs/demo/report/index.html\n")
    assert (folder / "runs/demo/report/cv.md").read_text().strip() in text
    names = {path.name for path in (folder / "runs/demo/report").iterdir()}
    assert {"cv.json", "cv.md", "index.html", "strips.csv", "best.png", "worst.png"} <= names


def test_the_submission_is_complete_and_good(demo: tuple[Path, str]) -> None:
    raw, submission = demo[0] / "data/demo/raw", demo[0] / "submissions/demo/submission.csv"
    images = pd.read_csv(raw / "sample_submission.csv").ImageId.drop_duplicates().tolist()
    check_submission(submission, images)
    score = score_files(raw / "test_labels.csv", submission, raw / "test_images")
    print(f"\nthe demo's test strips:\n{format_score(score)}")
    assert score.n_images == len(images) == 40
    assert score.mean > 1 - sum(score.n_positive) / (4 * score.n_images)  # what an empty submission scores


def test_its_kernel_passes_the_dry_run(demo: tuple[Path, str]) -> None:
    """The whole kernel on 40 strips in a clean environment: the bytes of the submission."""
    for command in (["bundle", "--owner", "me"], ["test"]):
        config = str(tiny.ROOT / "configs/demo.yaml")
        line = [sys.executable, "-m", "steel", "kernel", command[0], config, *command[1:]]
        done = subprocess.run(line, cwd=demo[0], capture_output=True, text=True, check=False)
        print(f"\n{done.stdout}")
        assert done.returncode == 0, done.stderr
    assert json.loads((demo[0] / "kernels/demo/dry_run.json").read_text())["rows"] == 160
