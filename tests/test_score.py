"""Scoring files: by eye, in every mix of forms, and on the real labels."""

from pathlib import Path

import numpy as np
import pytest

from steel.errors import UserError
from steel.kaggle.score import format_score, score_files
from steel.kaggle.submission import format_rows, write_submission

IDS = ["a.jpg", "b.jpg"]
TRUE = [["1 4", "", "", "100 10"], ["", "", "", ""]]
PRED = [["3 4", "", "7 1", ""], ["", "", "", ""]]  # Dice .5 1 0 0, then ones: mean 5.5 / 8


def per_mask(ids: list[str], rles: list[list[str]]) -> str:
    rows = [f"{i},{t},{k}" for i, texts in zip(ids, rles, strict=True) for k, t in enumerate(texts, 1) if t]
    return "ImageId,EncodedPixels,ClassId\n" + "".join(row + "\n" for row in rows)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.csv"
    path.write_text(per_mask(IDS, TRUE), encoding="utf-8")
    return path


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    path = tmp_path / "submission.csv"
    path.write_text(format_rows(IDS, PRED), encoding="utf-8")
    return path


def test_by_eye(truth: Path, submission: Path) -> None:
    score = score_files(truth, submission, None)
    assert score.n_images == 2
    assert score.mean == 5.5 / 8
    assert score.class_mean == (0.75, 1.0, 0.5, 0.5)
    assert score.positive == 0.25
    assert score.n_positive == (1, 0, 0, 1)
    assert score.fp == (0, 0, 1, 0)
    assert score.fn == (0, 0, 0, 1)
    assert format_score(score).splitlines() == [
        "2 images",
        "                     all  class 1  class 2  class 3  class 4",
        "mean Dice        0.68750  0.75000  1.00000  0.50000  0.50000",
        "positive only    0.25000  0.50000        -        -  0.00000",
        "true masks             2        1        0        0        1",
        "false positives        1        0        0        1        0",
        "missed                 1        0        0        0        1",
    ]


def test_forms_do_not_matter(tmp_path: Path, truth: Path, submission: Path) -> None:
    expected = repr(score_files(truth, submission, None))
    truth.write_text(format_rows(IDS, TRUE), encoding="utf-8")
    assert repr(score_files(truth, submission, None)) == expected
    submission.write_text(per_mask(IDS, PRED) + "b.jpg,,1\n", encoding="utf-8")
    assert repr(score_files(truth, submission, None)) == expected
    (tmp_path / "strips").mkdir()
    for image_id in IDS:
        (tmp_path / "strips" / image_id).touch()
    assert repr(score_files(truth, submission, tmp_path / "strips")) == expected
    (tmp_path / "list.csv").write_text("ImageId\nb.jpg\na.jpg\n", encoding="utf-8")
    assert repr(score_files(truth, submission, tmp_path / "list.csv")) == expected


def test_a_list_gives_the_scored_images(tmp_path: Path, truth: Path, submission: Path) -> None:
    images = tmp_path / "list.csv"
    images.write_text("image_id,fold\nb.jpg,0\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"unknown image a\.jpg"):
        score_files(truth, submission, images)
    submission.write_text(format_rows(["b.jpg"], [["", "", "", "5 1"]]), encoding="utf-8")
    score = score_files(truth, submission, images)
    assert (score.n_images, score.mean, sum(score.n_positive)) == (1, 0.75, 0)


def test_faults(tmp_path: Path, truth: Path, submission: Path) -> None:
    images = tmp_path / "list.csv"
    images.write_text("ImageId\na.jpg\nb.jpg\nc.jpg\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no row for c\.jpg_1, c\.jpg_2, c\.jpg_3 and 1 more"):
        score_files(truth, submission, images)
    submission.write_text(format_rows(["b.jpg"], [[""] * 4]), encoding="utf-8")
    with pytest.raises(
        UserError, match=r"submission\.csv has no row for a\.jpg, labelled in .*truth\.csv: .* as --images"
    ):
        score_files(truth, submission, None)
    submission.write_text(per_mask(IDS, PRED), encoding="utf-8")
    images.write_text("ImageId\na.jpg\nb.jpg\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no row for b\.jpg:"):
        score_files(truth, submission, images)
    submission.write_text("ImageId,EncodedPixels,ClassId\na.jpg,1 4,1\na.jpg,4 1,2\n", encoding="utf-8")
    with pytest.raises(UserError, match="share px 4"):
        score_files(truth, submission, None)
    submission.write_text("ImageId_ClassId,EncodedPixels\n", encoding="utf-8")
    with pytest.raises(UserError, match="no rows"):
        score_files(truth, submission, None)


def test_real_labels_score_one_and_empties_their_share(tmp_path: Path, severstal: Path) -> None:
    truth = severstal / "sample" / "train.csv"
    images = severstal / "sample" / "train_images"
    ids = sorted(path.name for path in images.iterdir())
    submission = tmp_path / "submission.csv"
    write_submission(submission, ids, [[""] * 4] * len(ids))
    score = score_files(truth, submission, images)
    assert score.n_positive == (25, 20, 62, 19)
    assert score.fn == score.n_positive
    np.testing.assert_allclose(score.mean, 1 - 126 / (4 * 182))
    submission.write_text(truth.read_text(encoding="utf-8"), encoding="utf-8")
    assert score_files(truth, submission, None).mean == 1.0
