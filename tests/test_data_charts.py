"""The data as a section: every chart says what the numbers say, in marks, tooltips and words."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import toy

from steel.paths import Paths
from steel.report.charts import draw
from steel.report.charts.data import section
from steel.report.eda import measure as eda
from steel.report.eda.words import leads, verdict
from steel.report.section import Figure, Numbers

TELLING = {"statistic": "mean level", "auc": 0.79, "train": 90.5, "test": 102.25}


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of the toy data set: 12 training strips, 7 of them with squares of 8,000 px, and 3 test strips."""
    return toy.numbers(tmp_path_factory.mktemp("numbers"))


@pytest.fixture(scope="module")
def shown(numbers: dict[str, Any]) -> dict[str, Figure]:
    """Its figures by name."""
    return figures(numbers)


@pytest.fixture(scope="module")
def tabled(numbers: dict[str, Any]) -> dict[str, Numbers]:
    """Its tables by the first words of their captions."""
    return tables(numbers)


def figures(numbers: dict[str, Any]) -> dict[str, Figure]:
    return {block.name: block for block in section(numbers).blocks if isinstance(block, Figure)}


def tables(numbers: dict[str, Any]) -> dict[str, Numbers]:
    """By their captions' first word."""
    return {block.caption.split()[0]: block for block in section(numbers).blocks if isinstance(block, Numbers)}


def values(figure: Figure) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = figure.spec["data"]["values"]
    return found


def marks(figure: Figure) -> Iterator[dict[str, Any]]:
    yield from figure.spec.get("layer", [figure.spec])


def test_every_figure_answers_the_pointer_and_is_small(shown: dict[str, Figure]) -> None:
    assert list(shown) == [
        *("counts", "together", "areas", "positions-1", "positions-2", "positions-3", "positions-4"),
        *("levels-mean", "levels-std"),
    ]
    for figure in shown.values():
        assert figure.spec["width"] == "container"
        assert len(json.dumps(figure.spec)) < 30_000
        for mark in marks(figure):
            assert mark["encoding"]["tooltip"], figure.name
            assert all("title" in mark["encoding"][axis] for axis in "xy"), figure.name
        assert figure.description == figure.spec["description"]


def test_counts(shown: dict[str, Figure]) -> None:
    figure = shown["counts"]
    n = {row["strips"]: row["n"] for row in values(figure)}
    assert n == {"class 1": 2, "class 2": 1, "class 3": 4, "class 4": 1, "clean": 5}
    assert figure.description == "Bars of strips. class 1: 2; class 2: 1; class 3: 4; class 4: 1; clean: 5."


def test_classes_together(shown: dict[str, Figure], tabled: dict[str, Numbers]) -> None:
    figure = shown["together"]
    pairs = {(row["class"], row["also"]): (row["n"], row["share"]) for row in values(figure)}
    assert len(pairs) == 16
    assert (pairs["1", "3"], pairs["3", "1"], pairs["3", "3"]) == ((1, 0.5), (1, 0.25), (4, 1.0))
    assert figure.description.startswith(
        "Strips that show two classes: 1 and 2: 0; 1 and 3: 1; 1 and 4: 0; 2 and 3: 0;"
    )
    rows = tabled["Strips"].rows
    assert list(rows[:2]) == [["none", "5", "41.7 %"], ["3", "3", "25.0 %"]]
    assert ["1 and 3", "1", "8.3 %"] in list(rows)


def test_areas(shown: dict[str, Figure], tabled: dict[str, Numbers]) -> None:
    figure = shown["areas"]
    assert [(row["class"], row["n"], row["share"]) for row in values(figure) if row["n"]] == [
        *(("1", 2, 1.0), ("2", 1, 1.0), ("3", 4, 1.0), ("4", 1, 1.0))
    ]
    assert {(row["bin"], row["px"]) for row in values(figure)} == {("6,310 to 10,000 px", 7943.3)}  # in the middle
    assert "class 3: median 8,000 px" in figure.description
    assert list(tabled["Areas"].rows[2]) == ["class 3", "4", *["8000"] * 7]
    assert list(tabled["Components"].rows[2]) == ["class 3", "1.00", "1", "100.0 %", "0.0 %", "0.0 %"]


def test_positions(shown: dict[str, Figure]) -> None:
    figure = shown["positions-2"]
    covered = [(row["x"], row["y"]) for row in values(figure) if row["share"]]
    assert len(values(figure)) == 400
    assert {x for x, _ in covered} == {992, 1024, 1056}
    assert {y for _, y in covered} == {32, 64, 96, 128}
    assert figure.title == "Class 2: share of its 1 masks that cover each 32x32 px"
    assert [one["calculate"] for one in figure.spec["transform"]] == ["datum.x + 32", "datum.y + 32"]


def test_positions_and_areas_in_words(numbers: dict[str, Any]) -> None:
    """Of class 1, a tenth of the masks at the left end, all others further right; five quantiles of the areas."""
    cells = np.linspace(0.1, 0.59, 50).round(4)
    positions = [np.tile(cells, (8, 1)).tolist(), *numbers["positions"][1:]]
    classes = [numbers["areas"]["classes"][0] | {"quantiles_px": [1, 2, 3, 4, 5]}, *numbers["areas"]["classes"][1:]]
    shown = figures(numbers | {"positions": positions, "areas": numbers["areas"] | {"classes": classes}})
    told = "covered by 10.0 % of them at the left end, by 35.0 % in the middle, by 59.0 % at the right end."
    assert shown["positions-1"].description.endswith(told)
    assert "class 1: median 3 px;" in shown["areas"].description


def test_levels(shown: dict[str, Figure], tabled: dict[str, Numbers]) -> None:
    figure = shown["levels-mean"]  # noise of 60 to 99: all means are near 79.5, more with bright squares
    n = dict.fromkeys(("train, defect", "train, clean", "test"), 0)
    for row in values(figure):
        n[row["kind"]] += row["n"]
    assert n == {"train, defect": 7, "train, clean": 5, "test": 3}
    clean = [(row["bin"], row["share"]) for row in values(figure) if row["kind"] == "train, clean" and row["n"]]
    assert clean == [("70 to 80", 1.0)]
    n_at: dict[float, int] = {}
    for row in values(figure):
        n_at[row["level"]] = n_at.get(row["level"], 0) + row["n"]
    assert [level for level, n in n_at.items() if n] == [75, 85]
    assert list(n_at) == [65, 75, 85, 95]  # an empty bin at either end
    assert "train, clean: median 79.5; test: median 79.5" in figure.description
    assert list(tabled["Grey"].rows[1]) == ["train, clean", "5", "79.5", "11.5", "0.0 %", "0.0 %"]


def test_leads(numbers: dict[str, Any]) -> None:
    assert list(section(numbers).lead) == [
        "12 training strips: 7 with a defect (58.3 %), 5 clean. 1 (8.3 %) show more than one class. 3 test strips.",
        "8 masks: 50.0 % are of class 3, 12.5 % of class 2. The median area is smallest in class 1, 8,000 px, and "
        "largest in class 4, 8,000 px.",
        "By the split, no training strip repeats another one. 3 test files are also training files, byte by byte.",
        "Whether the test strips look like the training strips is not judged: 3 test strips are too few, each needs "
        "50.",
    ]


def test_leads_of_other_data(numbers: dict[str, Any]) -> None:
    groups = {"n_groups": 3, "n_strips": 7, "largest": 3, "n_other_classes": 1, "n_other_masks": 2}
    judged = {"auc": 0.7312, "error": 0.0051, "telling": [TELLING]}
    found = leads(numbers | {"n_test": 0, "n_test_in_train": 0, "duplicates": groups})
    assert found[0].endswith(" No test strips.")
    assert found[2] == (
        "By the split, 7 training strips form 3 groups of copies, the largest of 3. Groups whose labels contradict "
        "each other: 1 in the classes, 2 in the masks alone."
    )
    assert found[3].endswith("there are no test strips, each needs 50.")
    _, _, copies, test = leads(numbers | {"duplicates": None, "train_test": judged})
    assert copies.startswith("Duplicates are not known before there is a split")
    assert "with an AUC of 0.731 ± 0.005 (0.5 is guessing): they are somewhat different." in test
    assert list(tables(numbers | {"train_test": judged})["Statistics"].rows) == [
        ["mean level", "0.7900", "90.500", "102.250"]
    ]


@pytest.mark.parametrize(
    ("auc", "error", "words"),
    [
        (0.42, 0.03, "alike as far as this can tell"),
        (0.55, 0.03, "alike as far as this can tell"),
        (0.55, 0.01, "nearly alike"),
        (0.6, 0.01, "somewhat different"),
        (0.7, 0.01, "somewhat different"),
        (1.0, 0.0, "easily told apart"),
    ],
)
def test_verdict(auc: float, error: float, words: str) -> None:
    assert verdict(auc, error) == words


def test_data_without_masks_or_test_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    paths = Paths(toy.solution({}))
    masks = np.zeros((toy.N_TRAIN, 256, 1600), np.uint8)
    np.save(paths.cache / "train_masks.npy", masks)
    index = paths.cache / "train.csv"
    index.write_text(index.read_text().replace("8000", "0"))
    (paths.cache / "test.csv").unlink()
    found = eda.measure(paths)
    assert leads(found)[1] == "No masks."
    assert list(figures(found)) == ["counts", "together", "levels-mean", "levels-std"]
    assert [row[0] for row in tables(found)["Grey"].rows] == ["train, clean"]
    assert [picture.caption.split(":")[0] for picture in eda.examples(paths)] == ["clean", "clean"]
    draw.write_png(figures(found)["together"], tmp_path)  # its shares are of nothing


def test_pictures_show_something(shown: dict[str, Figure], tmp_path: Path) -> None:
    for figure in shown.values():
        image = cv2.imread(str(draw.write_png(figure, tmp_path)))
        assert image is not None
        assert image[0, 0].tolist() == [255, 255, 255]
        assert len(np.unique(image[..., 0])) > 40, figure.name


def test_a_long_title_makes_a_picture_higher_not_wider(shown: dict[str, Figure], tmp_path: Path) -> None:
    titles = ("Strips", "Strips of each class, and what they show. " * 5)
    pictures = [cv2.imread(str(draw.write_png(replace(shown["counts"], title=title), tmp_path))) for title in titles]
    (height, width, _), (higher, as_wide, _) = (picture.shape for picture in pictures if picture is not None)
    assert as_wide == width and higher > height
