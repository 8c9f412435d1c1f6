"""The page as a file: what it holds stands in it once, escaped; it asks for nothing beside itself."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import altair as alt
import cv2
import numpy as np
import pandas as pd
import pytest

from steel.errors import UserError
from steel.report import page
from steel.report.charts import draw
from steel.report.page import Fact, Page
from steel.report.section import Numbers, Picture, Section

EVIL = "</script><script>alert(1)</script>"


class Reader(HTMLParser):
    """Elements with their attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        self.words += data if self.inside not in ("script", "style") else ""


@pytest.fixture
def written(tmp_path: Path) -> str:
    points = pd.DataFrame({"x": [1, 2], "y": [0.5, 0.7], "note": ["a", EVIL]})
    chart = alt.Chart(points).mark_point().encode(x=alt.X("x:Q", title="x, px"), y="y:Q", tooltip=["note"])
    sections = [
        Section(
            "first",
            f"First & {EVIL}",
            ["A lead."],
            [
                draw.figure("points", "Two points", "They rise from 0.5 to 0.7", chart),
                Numbers("Some numbers", ["", "n"], [["a", "1"], [EVIL, "2"]], "What they are."),
                Picture("A picture", "a grey field", np.full((8, 16, 3), 99, np.uint8)),
            ],
        ),
        Section("second", "Second", folded=True),
    ]
    facts = [Fact("Mean Dice", "0.9", "good")]
    made = Page("run: report", "on 3 strips", facts, ["It rose."], sections, "the end", ["cv.md", "cv.json"])
    return page.write(tmp_path / "index.html", made, '<section id="gallery">cards</section>').read_text()


def test_what_it_is_given_stands_in_it_escaped(written: str) -> None:
    found = Reader(written)
    scripts = [attributes for tag, attributes in found.tags if tag == "script"]
    assert len(scripts) == 3  # Vega, the charts, the page's own: none that came with a text
    for text in ("run: report", "on 3 strips", "Mean Dice", "0.9", "good", "It rose.", "First &", "A lead.", "the end"):
        assert text in found.words
    assert "What they are." in found.words
    assert "alert(1)" in found.words  # as text
    assert [attributes.get("id") for tag, attributes in found.tags if tag == "section"] == [
        "top",
        "first",
        "second",
        "gallery",
    ]
    links = [attributes["href"] for tag, attributes in found.tags if tag == "a"]
    files = ["cv.md", "cv.json"]  # at the top, and at the foot
    assert links == ["#main", *files, "#first", "#second", "#gallery", *files]


def test_tables_stand_apart_from_charts_and_pictures(written: str) -> None:
    found = [str(attributes.get("class")) for _, attributes in Reader(written).tags]
    names = ["charts", "vega", "tables", "numbers", "picture"]
    assert [name for name in found if name in names] == ["charts", "vega", "tables", "numbers", "charts", "picture"]


def test_charts_are_there_in_words_and_as_data(written: str) -> None:
    (place,) = [attributes for _, attributes in Reader(written).tags if "data-chart" in attributes]
    assert place["aria-label"] == "Two points: They rise from 0.5 to 0.7"
    (text,) = re.findall(r'<script type="application/json" id="charts">(.*?)</script>', written, re.DOTALL)
    spec = json.loads(text)[str(place["data-chart"])]
    (values,) = spec["datasets"].values()
    assert [value["note"] for value in values] == ["a", EVIL]


def test_a_chart_has_its_place_before_it_is_drawn(written: str) -> None:
    """Marks of 240 px, the labels and the title of the axis below them."""
    (place,) = [attributes for _, attributes in Reader(written).tags if "data-chart" in attributes]
    found = re.fullmatch(r"min-height: (\d+)px", str(place["style"]))
    assert found and 270 <= int(found[1]) <= 300


def test_the_files_beside_a_report_are_there(finished: Path) -> None:
    for folder, names in (("runs/tiny/report", {"cv.md", "cv.json", "strips.csv"}), ("data/tiny/eda", {"eda.json"})):
        tags = Reader((finished / folder / "index.html").read_text()).tags
        links = {str(attributes["href"]) for tag, attributes in tags if tag == "a"}
        assert {link for link in links if not link.startswith("#")} == names
        assert all((finished / folder / name).is_file() for name in names)


def test_the_page_has_the_tables_of_the_text(finished: Path) -> None:
    """Every cell of cv.md's tables on the score and on each model alone."""
    folder = finished / "runs/tiny/report"
    words = Reader((folder / "index.html").read_text()).words
    text = (folder / "cv.md").read_text()
    cells = [
        cell.strip()
        for title in ("Score", "Models, each alone")
        for line in text.split(f"## {title}\n")[1].split("\n## ")[0].splitlines()
        if line[:2] == "| " and not line.startswith("| --")
        for cell in line.strip("|").split("|")
    ]
    assert len(cells) > 150 and [cell for cell in cells if cell not in words] == []


def test_pictures_are_within(written: str) -> None:
    (image,) = [attributes for tag, attributes in Reader(written).tags if tag == "img"]
    assert (image["width"], image["height"]) == ("16", "8")  # its place is kept before it is there
    assert image["alt"] == "a grey field" and str(image["src"]).startswith("data:image/webp;base64,")


def test_it_asks_for_nothing_beside_itself(written: str) -> None:
    addresses = [
        str(value)
        for tag, attributes in Reader(written).tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster") and tag != "a"
    ]
    assert addresses and all(address.startswith(("#", "data:")) for address in addresses)
    assert "default-src 'none'" in written  # and the browser holds it to that
    assert "@import" not in written and "url(" not in written.partition("</style>")[0]


def test_too_large_a_page_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match=r"index.html: \d+ bytes; allowed: 1000$"):
        page.write(tmp_path / "index.html", Page("a", "b"))
    assert list(tmp_path.iterdir()) == []


def test_data_in_a_script_comes_back_as_it_was() -> None:
    value = {"a": [1, 0.5, None, EVIL, "<!--", "\u2028"], "é": "€"}
    text = str(page.embedded(value))
    assert json.loads(text) == value
    assert "<" not in text and "\u2028" not in text
    with pytest.raises(ValueError, match="not JSON compliant"):
        page.embedded(float("nan"))


def test_a_picture_is_kept_nearly_as_it_is() -> None:
    import base64

    ramp = np.tile(np.arange(0, 250, 2, dtype=np.uint8), (40, 1))
    address = page.data_address(ramp)
    data = np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8)
    found = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    assert found is not None
    assert np.abs(found.astype(int) - ramp).mean() < 4


def test_a_figure_is_drawn_on_white(tmp_path: Path) -> None:
    chart = (
        alt.Chart(pd.DataFrame({"class": ["1", "4"], "y": [1, 2]})).mark_bar().encode(y="y:Q", color=draw.by_class())
    )
    path = draw.write_png(draw.figure("bars", "Bars", "two", chart), tmp_path)
    assert path == tmp_path / "bars.png"
    picture = cv2.imread(str(path))
    assert picture is not None and (picture[0, 0] == 255).all() and (picture < 255).any()
    shown = {tuple(colour) for colour in picture.reshape(-1, 3)[:, ::-1].tolist()}
    assert {(230, 159, 0), (204, 121, 167)} <= shown  # classes 1 and 4
