"""`steel submission check` and `diff`: by eye, against plain masks, and each fault in one line."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from steel import rle
from steel.__main__ import main
from steel.data.labels import read_image_list
from steel.errors import UserError
from steel.kaggle.check import Submission, open_submission, summary
from steel.kaggle.diff import diff, format_difference
from steel.kaggle.submission import format_rows

IDS = ["b.jpg", "a.jpg"]
A = format_rows(IDS, [["", "1 20", "", "101 10"], ["", "", "", ""]])
B = format_rows(IDS, [["", "11 20", "", "101 10"], ["5 7", "", "", ""]])
TODAY = "ImageId,EncodedPixels,ClassId\nb.jpg,1 20,2\nb.jpg,101 10,4\na.jpg,,1\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text(A)
    Path("b.csv").write_text(B)
    Path("today.csv").write_text(TODAY)
    Path("list.csv").write_text("ImageId,EncodedPixels,ClassId\na.jpg,1 409600,0\nb.jpg,1 409600,0\n")
    Path("strips").mkdir()
    for i, name in enumerate(IDS):
        tiny.write_strip(Path("strips") / name, np.full((256, 1600), 60 + 40 * i, np.uint8))


@pytest.mark.parametrize("images", [None, Path("list.csv"), Path("strips")])
def test_check_by_eye(images: Path | None) -> None:
    assert summary(open_submission(Path("a.csv"), images)).splitlines() == [
        "a.csv: valid, 8 rows in the form of 2019 (four rows per strip)",
        "2 strips, 1 of them with something shown",
        "| area, px | strips | share  | 10 % | median | 90 % | largest |",
        "| -------- | ------ | ------ | ---- | ------ | ---- | ------- |",
        "| class 1  | 0      | 0.0 %  | –    | –      | –    | –       |",
        "| class 2  | 1      | 50.0 % | 20   | 20     | 20   | 20      |",
        "| class 3  | 0      | 0.0 %  | –    | –      | –    | –       |",
        "| class 4  | 1      | 50.0 % | 10   | 10     | 10   | 10      |",
    ]


def test_todays_form_says_the_same() -> None:
    first, *rest = summary(open_submission(Path("today.csv"), Path("list.csv"))).splitlines()
    assert first == "today.csv: valid, 3 rows in today's form (one row per mask)"
    assert rest == summary(open_submission(Path("a.csv"))).splitlines()[1:]


def test_quantiles_of_the_areas() -> None:
    ids = [f"{n}.jpg" for n in range(1, 102)]
    Path("c.csv").write_text(format_rows(ids, [["", "", f"1 {n}", ""] for n in range(1, 102)]))
    assert "| class 3  | 101    | 100.0 % | 11   | 51     | 91   | 101     |" in summary(open_submission(Path("c.csv")))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a.jpg_4,\n", "", "a.csv: no row for a.jpg_4: expected each of the 2 images"),
        ("a.jpg_", "c.jpg_", "a.csv, line 6: unknown image c.jpg: expected names among the 2 images"),
        ("1 20", "1 20 30", "a.csv, line 3, image b.jpg, class 2: RLE has 3 numbers"),
        (
            "101 10",
            "409600 2",
            "a.csv, line 5, image b.jpg, class 4: RLE run of length 2 (number 2 of 2) ends at 409601",
        ),
        ("101 10", "15 10", "a.csv, line 5: the masks of classes 2 and 4 of image b.jpg share px 15"),
        ("a.jpg_4", "a.jpg_3", "a.csv, line 9: image a.jpg, class 3, stands in line 8 already: expected each once"),
        ("a.jpg_4", "a.jpg_5", "a.csv, line 9: class '5': expected one of 1, 2, 3, 4"),
        (
            "ImageId_ClassId",
            "Id",
            "a.csv: the columns are Id,EncodedPixels: expected ImageId_ClassId,EncodedPixels or ",
        ),
        (A.partition("\n")[2], "", "a.csv: no row for "),
    ],
)
def test_check_finds(old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert old in A
    Path("a.csv").write_text(A.replace(old, new))
    assert tiny.fault(capsys, "submission", "check", "a.csv", "--images", "list.csv").startswith(message)


def test_check_finds_a_strip_without_a_row_in_todays_form(capsys: pytest.CaptureFixture[str]) -> None:
    Path("today.csv").write_text(TODAY.replace("a.jpg,,1\n", ""))
    main(["submission", "check", "today.csv"])  # there is nothing to miss it by
    assert "1 strips" in capsys.readouterr().out
    expected = "today.csv: no row for a.jpg: expected each of the 2 images"
    assert tiny.fault(capsys, "submission", "check", "today.csv", "--images", "strips") == expected


def test_diff_by_eye() -> None:
    """Class 2: 20 px each, 10 in common, Dice .5; class 1: 7 px against none, Dice 0; the mean over two strips."""
    a, b = (open_submission(Path(name)) for name in ("a.csv", "b.csv"))
    assert format_difference(diff(a, b)).splitlines() == [
        "A: a.csv",
        "B: b.csv",
        "2 strips, 2 of them differ",
        "|         | A shows | B shows | rows differ | px differ | mean Dice |",
        "| ------- | ------- | ------- | ----------- | --------- | --------- |",
        "| class 1 | 0       | 1       | 1           | 7         | 0.50000   |",
        "| class 2 | 1       | 1       | 1           | 20        | 0.75000   |",
        "| class 3 | 0       | 0       | 0           | 0         | 1.00000   |",
        "| class 4 | 1       | 1       | 0           | 0         | 1.00000   |",
        "| all     | 2       | 3       | 2           | 27        | 0.81250   |",
        "the most different strips:",
        "  a.jpg  class 1: A 0 px, B 7 px, Dice 0.000",
        "  b.jpg  class 2: A 20 px, B 20 px, Dice 0.500",
    ]


def test_the_same_in_other_words_and_order_is_no_difference() -> None:
    Path("c.csv").write_text(format_rows(["a.jpg", "b.jpg"], [["", "", "", ""], ["", "1 5 6 15", "", "101 10"]]))
    a, *others = (open_submission(Path(name)) for name in ("a.csv", "c.csv", "today.csv"))
    for other in others:
        found = diff(a, other)
        assert found.rows == [] and (found.dice == 1).all()
        assert "most different" not in format_difference(found)


@pytest.mark.parametrize("args", ["a.csv c.csv", "c.csv a.csv"])
def test_other_strips(args: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.csv").write_text(format_rows(["b.jpg"], [[""] * 4]))
    expected = "c.csv has no row for a.jpg of a.csv: expected the same strips"
    assert tiny.fault(capsys, "submission", "diff", *args.split()) == expected


def random_submission(seed: int, n: int) -> tuple[Submission, np.ndarray]:
    """Blocks of each class beside each other, some absent; the submission and its masks (n, 4, 256, 1600)."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, 4, 256, 1600), np.bool_)
    for i, k in np.argwhere(rng.random((n, 4)) < 0.6):
        left, width = 400 * k + rng.integers(300), rng.integers(1, 100)
        masks[i, k, : rng.integers(1, 257), left : left + width] = True
    ids = [f"{i}.jpg" for i in range(n)]
    texts = {(ids[i], int(k) + 1): rle.encode(masks[i, k]) for i, k in np.argwhere(masks.any((2, 3)))}
    return Submission(Path(f"{seed}.csv"), True, 4 * n, ids, texts), masks


@settings(max_examples=15, deadline=None)
@given(seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)))
def test_diff_against_plain_masks(seeds: tuple[int, int]) -> None:
    (a, true_a), (b, true_b) = (random_submission(seed, 3) for seed in seeds)
    found = diff(a, b)
    assert found.px.tolist() == (true_a ^ true_b).sum((2, 3)).tolist()
    total, both = (true_a.sum((2, 3)) + true_b.sum((2, 3))), (true_a & true_b).sum((2, 3))
    expected = np.array(
        [[2 * o / t if t else 1 for o, t in zip(*row, strict=True)] for row in zip(both, total, strict=True)]
    )
    assert found.dice == pytest.approx(expected)
    means = expected.mean(1)[found.rows]
    assert sorted(found.rows) == [i for i in range(3) if (true_a[i] != true_b[i]).any()]
    assert (np.diff(means) >= -1e-12).all()
    back = diff(b, a)
    assert np.array_equal(back.px, found.px) and back.rows == found.rows


def test_a_gallery(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["submission", "diff", "a.csv", "b.csv", "--images", "strips", "--out", "diff.png"]
    main(args)
    assert capsys.readouterr().out.startswith("A: a.csv\n")
    picture = cv2.imread("diff.png")
    assert picture is not None
    assert picture.shape == (36 + 2 * (36 + 256 + 4 + 256), 1600, 3)  # two strips, each above itself, under captions
    first = picture[72 : 72 + 516]
    assert first[200, 800].tolist() == first[400, 800].tolist() == [100] * 3  # a.jpg, grey 100, is the most different
    drawn = [(np.ptp(part, axis=2) > 30).any() for part in (first[:256], first[260:])]
    assert drawn == [False, True]  # only B shows something on it


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("diff a.csv b.csv --images strips", "--images DIR and --out FILE.png go together"),
        ("diff a.csv b.csv --out x.png", "--images DIR and --out FILE.png go together"),
        (
            "diff a.csv b.csv --images strips --out x.jpg",
            "--out: x.jpg is not a PNG; allowed: a name that ends in .png",
        ),
        (
            "diff a.csv a.csv --images strips --out x.png",
            "--out: x.png: nothing to draw, a.csv and a.csv show the same",
        ),
        ("diff a.csv b.csv --images nowhere --out x.png", "nowhere: no such folder: expected a folder of images"),
        ("diff a.csv", "the following arguments are required: B (`steel submission diff --help` lists the options)"),
        ("check c.csv", "c.csv: no such file: expected a csv"),
        ("check a.csv --images nowhere", "nowhere: no such file: expected a csv"),
        ("chekc a.csv", "unknown 'chekc' (did you mean check?); allowed: check, diff (`steel submission --help`"),
        ("", "the following arguments are required: check|diff (`steel submission --help` lists the options)"),
    ],
)
def test_one_line_on_what_is_wrong(args: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tiny.fault(capsys, "submission", *args.split()).startswith(message)
    assert not Path("x.png").exists() and not Path("x.jpg").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--images nowhere --out x.png", "nowhere: no such folder: expected a folder of images"),
        ("--images empty --out x.png", "empty: no images: expected files that end in .jpg, .jpeg, .png"),
        ("--images strips --out x.jpg", "--out: x.jpg is not a PNG; allowed: a name that ends in .png"),
        ("--images strips --out folder.png", "--out: folder.png is a folder; allowed: a file that ends in .png"),
    ],
)
def test_a_gallery_that_cannot_be_is_refused_before_the_long_work(
    args: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The submissions, which are not there, were not looked at."""
    for name in ("empty", "folder.png"):
        Path(name).mkdir()
    assert tiny.fault(capsys, "submission", "diff", "c.csv", "d.csv", *args.split()) == message


def test_the_real_labels_are_a_valid_submission_of_their_strips(severstal: Path) -> None:
    """Counts as in the published class flags of the strips whose masks are known."""
    found = open_submission(severstal / "labels" / "train_partial.csv.gz")
    assert not found.per_class and found.n_rows == len(found.masks)
    same = diff(found, found)
    assert same.rows == [] and (same.dice == 1).all()


def test_the_real_test_strips(severstal: Path) -> None:
    today, old = (severstal / "labels" / f"sample_submission{year}.csv" for year in ("", "_2019"))
    ids = read_image_list(today)
    Path("c.csv").write_text(format_rows(ids, [[""] * 4 for _ in ids]))
    first, second, *_ = summary(open_submission(Path("c.csv"), today)).splitlines()
    assert first == "c.csv: valid, 22024 rows in the form of 2019 (four rows per strip)"
    assert second == "5506 strips, 0 of them with something shown"
    with pytest.raises(UserError, match=r"line 2: class '0' \(0 is that of .*\): expected one of 1, 2, 3, 4"):
        open_submission(today)
    with pytest.raises(UserError, match=r"line 3: the masks of classes 1 and 2 of image 004f40c73.jpg share px 1"):
        open_submission(old)
