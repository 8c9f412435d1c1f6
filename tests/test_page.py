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
                Numbers("Some numbers", ["", "n"], [["a", "1"], [EVIL, "2"]]),
                Picture("A picture", "a grey field", np.full((8, 16, 3), 99, np.uint8)),
            ],
        ),
        Section("second", "Second", folded=True),
    ]
    made = Page("run: report", "on 3 strips", [Fact("Mean Dice", "0.9", "good")], ["It rose."], sections, "the end")
    return page.write(tmp_path / "index.html", made, '<section id="gallery">cards</section>').read_text()


def test_what_it_is_given_stands_in_it_escaped(written: str) -> None:
    found = Reader(written)
    scripts = [attributes for tag, attributes in found.tags if tag == "script"]
    assert len(scripts) == 3  # Vega, the charts, the page's own: none that came with a text
    for text in ("run: report", "on 3 strips", "Mean Dice", "0.9", "good", "It rose.", "First &", "A lead.", "the end"):
        assert text in found.words
    assert "alert(1)" in found.words  # as text
    assert [attributes.get("id") for tag, attributes in found.tags if tag == "section"] == [
        "top",
        "first",
        "second",
        "gallery",
    ]
    links = [attributes["href"] for tag, attributes in found.tags if tag == "a"]
    assert links == ["#main", "#first", "#second", "#gallery"]


def test_charts_are_there_in_words_and_as_data(written: str) -> None:
    (place,) = [attributes for _, attributes in Reader(written).tags if "data-chart" in attributes]
    assert place["aria-label"] == "Two points: They rise from 0.5 to 0.7"
    (text,) = re.findall(r'<script type="application/json" id="charts">(.*?)</script>', written, re.DOTALL)
    spec = json.loads(text)[str(place["data-chart"])]
    (values,) = spec["datasets"].values()
    assert [value["note"] for value in values] == ["a", EVIL]


def test_pictures_are_within(written: str) -> None:
    (image,) = [attributes for tag, attributes in Reader(written).tags if tag == "img"]
    assert image["alt"] == "a grey field" and str(image["src"]).startswith("data:image/webp;base64,")


def test_it_asks_for_nothing_beside_itself(written: str) -> None:
    addresses = [
        str(value)
        for tag, attributes in Reader(written).tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster")
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
