"""`steel show`: a picture, or one line."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
from numpy.typing import NDArray

from steel.__main__ import main
from steel.data.cache import open_strips
from steel.decide import run
from steel.decide.rule import NEVER_PX, Rule
from steel.decide.rules import Rules
from steel.paths import Paths
from steel.report.outcomes import judge
from steel.report.overlay import outline
from steel.report.strip_sheet import classes_that_matter, numbers, verdicts
from steel.report.strips import View, of_test, of_training, true_masks


@pytest.mark.usefixtures("copied")
def test_a_sheet_of_an_augmentation(capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", "augment", tiny.CONFIG, "--recipe", "heavy", "--versions", "2", "--out", "sheet.png"])
    assert "show: sheet.png: each row a crop as it is, then 2 versions of it under heavy" in capsys.readouterr().out
    picture = cv2.imread("sheet.png")
    assert picture is not None
    assert picture.shape == (5 * 256 + 4 * 4, 3 * 448 + 2 * 4, 3)  # four classes and a clean strip, gaps of 4 px
    before = Path("sheet.png").read_bytes()
    main(["show", "augment", tiny.CONFIG, "--recipe", "heavy", "--versions", "2", "--out", "sheet.png"])
    assert Path("sheet.png").read_bytes() == before


@pytest.mark.usefixtures("copied")
def test_a_sheet_of_a_training_strip(capsys: pytest.CaptureFixture[str]) -> None:
    """Truth, prediction and maps below each other, as they are in the run; the numbers are the table's."""
    paths = Paths(tiny.solution())
    table, _, decision = run.load(paths.decide)
    outcome = judge(table, decision)["lofo"]
    i = int(((table.true_px > 0) & (outcome.pred_px > 0)).any(1).argmax())
    image_id = str(table.image_ids[i])
    main(["show", image_id, "--config", tiny.CONFIG, "--out", "one.png"])
    text = capsys.readouterr().out
    assert f"{image_id}: held out in fold {table.fold[i]}; models fpn, gate\n" in text
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")][1:]
    found = [[cell.strip() for cell in row] for row in rows if not row[0].strip().startswith("-")]
    assert [row[0] for row in found] == ["1", "2", "3", "4"]
    assert [int(row[1]) for row in found] == table.true_px[i].tolist()
    assert [int(row[2]) for row in found] == outcome.pred_px[i].tolist()
    assert [float(row[4]) for row in found] == pytest.approx(table.gate[i].tolist(), abs=6e-4)
    strips = open_strips(paths.cache, "train")
    view = of_training(paths, image_id)
    picture = cv2.imread("one.png")
    assert picture is not None
    check_size(picture, 2 + len(classes_that_matter(view)))
    assert all(line in text for line in verdicts(view))
    assert strips.masks is not None
    row = strips.image_ids.index(image_id)
    assert np.array_equal(picture[72 : 72 + 256], outline(strips.images[row], true_masks(strips.masks[row])))
    assert np.array_equal(picture[364 : 364 + 256], outline(strips.images[row], view.shown))


def check_size(picture: NDArray, n_strips: int) -> None:
    """A caption, strips with one each, the table's head and four rows, and four verdicts, of a line or two."""
    n_lines, rest = divmod(picture.shape[0] - n_strips * (36 + 256), 36)
    assert (9 < n_lines <= 14, rest, picture.shape[1:]) == (True, 0, (1600, 3))


def by_hand() -> View:
    """Class 1 is there, of 100 px; of class 2, 40 px are shown, 10 px on a true mask of 60; class 3 reaches even."""
    true = np.zeros((4, 256, 1600), bool)
    true[0, 0, :100] = true[1, 1, :60] = True
    prob = np.zeros((4, 256, 1600), np.uint8)
    prob[1, 1, 50:90] = 204
    prob[2, 0, 0], prob[3, 0, 1:4], prob[3, 1, 50:90] = 128, 51, 127
    strip, gate = np.zeros((256, 1600), np.uint8), np.array([0.1, 0.9, 0.5, 0.5], np.float32)
    rules = Rules((Rule(51, 600, 0.25), Rule(204, 0, 0.0), Rule(128, NEVER_PX, 0.0), Rule(51, 3, 1.0)))
    return View("a.jpg", "here", ["one"], strip, true, prob, np.zeros(4), gate, rules)


def test_the_classes_that_matter() -> None:
    view = by_hand()
    assert classes_that_matter(view) == [0, 1, 2]
    assert classes_that_matter(replace(view, true=None)) == [1, 2]
    faint = replace(view, true=None, prob=view.prob // 2)
    assert classes_that_matter(faint) == [1]  # the likeliest, 102 / 255


def test_the_numbers_of_a_strip() -> None:
    view = by_hand()
    assert numbers(view) == [
        ["1", "100", "0", "0.0000", "0.100", "0.000", "0.200", "600", "0.250"],
        ["2", "60", "40", "0.2000", "0.900", "0.800", "0.800", "0", "0.000"],  # 2 * 10 / (60 + 40)
        ["3", "0", "0", "1.0000", "0.500", "0.502", "0.502", "never", "0.000"],
        ["4", "0", "0", "1.0000", "0.500", "0.498", "0.200", "3", "1.000"],
    ]
    assert [row[:4] for row in numbers(replace(view, true=None))][1] == ["2", "–", "40", "–"]


def test_what_hides_a_class_is_told() -> None:
    view = by_hand()
    assert verdicts(view) == [
        "class 1 not shown: gate 0.100 < 0.250 and area 0 < 600 px at prob 0.200",
        "class 2 shown: area 40 >= 1 px at prob 0.800",
        "class 3 not shown: its rule shows nothing on any strip",
        "class 4 not shown: gate 0.500 < 1.000; met: area 3 >= 3 px at prob 0.200",
    ]
    overlaid = replace(view, rules=Rules((Rule(51, 4, 0.25),) * 4))
    assert verdicts(overlaid)[3] == (  # class 2 has the other 40 px
        "class 4 not shown: area 3 < 4 px at prob 0.200; met: gate 0.500 >= 0.250; "
        "its map alone would be shown, but another class is likelier there"
    )
    soft = replace(view, rules=Rules((Rule(51, 4, 0.25, gate_power=1.0),) * 4))
    assert verdicts(soft)[1] == (
        "class 2 shown: gate 0.900 >= 0.250 and area 40 px x gate ** 1 = 36 >= 4 px at prob 0.200 "
        "(soft_gate: min area / gate ** 1)"
    )


@pytest.mark.usefixtures("copied")
def test_a_sheet_of_a_test_strip(capsys: pytest.CaptureFixture[str]) -> None:
    """What is shown is what was submitted; there is no truth."""
    paths = Paths(tiny.solution())
    strips = open_strips(paths.cache, "test")
    submitted = (paths.submission / "submission.csv").read_text().splitlines()[1:]
    for image_id in strips.image_ids:
        shown = of_test(paths, image_id).shown
        rows = [line.partition(",")[2] for line in submitted if line.startswith(image_id)]
        areas = [sum(map(int, row.split()[1::2])) for row in rows]
        assert shown.sum((1, 2)).tolist() == areas
    image_id = strips.image_ids[0]
    main(["show", image_id, "--config", tiny.CONFIG])
    assert f"{image_id}: test set; models fpn, gate\n" in capsys.readouterr().out
    picture = cv2.imread(f"{Path(image_id).stem}.png")
    assert picture is not None
    check_size(picture, 1 + len(classes_that_matter(of_test(paths, image_id))))


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("augment tiny.yaml --recipe strong", "augment: unknown name 'strong'; allowed: none, flips, light, "),
        ("augment tiny.yaml --out sheet.jpg", "--out: sheet.jpg is not a PNG; allowed: a name that ends in .png"),
        ("augment tiny.yaml --data.name other", "show needs the cache data/other/cache, which is missing: run `st"),
        ("augment tiny.yaml --versions 0", "sheet: 5 strips and 0 versions; allowed: at least one of each"),
        ("augment tiny.yaml --seed -4", "--seed: -4 is out of range; allowed: >= 0"),
        ("nets tiny.yaml", "the following arguments are required: --config"),
        ("augment tiny.yaml --recipee x", "unknown option --recipee"),
        ("nets --config tiny.yaml", "show: no strip 'nets' in data/tiny/cache; allowed: a training or test strip"),
        ("TRAIN --config tiny.yaml --out a.jpg", "--out: a.jpg is not a PNG"),
        (
            "TRAIN --config tiny.yaml --name other",
            "show: runs/other/decide has no table.npy, rules.json: run ",
        ),
        ("TRAIN --config tiny.yaml --data.name other", "show needs the cache data/other/cache, which is missing"),
        ("TRAIN --config tiny.yaml --outt a.png", "unknown option --outt"),
        ("TRAIN --config none.yaml", "no config file none.yaml"),
    ],
)
def test_one_line_on_what_is_wrong(args: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = open_strips(Path("data/tiny/cache"), "train").image_ids[0]
    assert tiny.fault(capsys, "show", *args.replace("TRAIN", first).split()).startswith(message)
    assert not list(Path().glob("*.png"))


@pytest.mark.usefixtures("copied")
def test_stores_that_are_gone_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    paths = Paths(tiny.solution())
    train, test = (open_strips(paths.cache, part).image_ids[0] for part in ("train", "test"))
    near = tiny.fault(capsys, "show", test.removesuffix(".jpg"), "--config", tiny.CONFIG)
    assert near.endswith(f"; is {test} meant?")
    tiny.remove(paths.test("gate"))
    message = tiny.fault(capsys, "show", test, "--config", tiny.CONFIG)
    assert message == "show: runs/tiny/gate/test has no values.npz: run `steel predict CONFIG` first"
    for fold in range(3):
        tiny.remove(paths.oof("fpn", fold) / "values.npz")
    assert "run `steel oof CONFIG" in tiny.fault(capsys, "show", train, "--config", tiny.CONFIG)


def test_what_was_retrained_since_is_told(changed: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    image_id = open_strips(changed.cache, "train").image_ids[0]
    main(["show", image_id, "--config", tiny.CONFIG, "--out", "one.png"])
    assert "stale" not in capsys.readouterr().out
    record = changed.oof("fpn", 0) / "stage.json"
    record.write_text(record.read_text().replace('"weights": "', '"weights": "0'))
    main(["show", image_id, "--config", tiny.CONFIG, "--out", "one.png"])
    told = "show: stale: oof fpn fold 0; the picture is of what stands (`steel status CONFIG` says more)\n"
    assert told in capsys.readouterr().out


def test_where_nothing_can_be_written(changed: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    image_id = open_strips(changed.cache, "train").image_ids[0]
    with pytest.raises(SystemExit) as left:
        main(["show", image_id, "--config", tiny.CONFIG, "--out", f"{tiny.CONFIG}/one.png"])
    assert left.value.code == 2
    line = f"steel: --out {tiny.CONFIG}/one.png: cannot be written there (a file stands where a folder is wanted)\n"
    assert capsys.readouterr().err == line
