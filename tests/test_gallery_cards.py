"""The gallery's cards: what is drawn of a strip, and that the page holds it safely."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
from numpy.typing import NDArray

from steel.decide import run
from steel.decide.rule import NEVER_PX, Rule
from steel.decide.rules import Rules
from steel.paths import Paths
from steel.report.gallery import cards as gallery_cards
from steel.report.gallery.cards import Card, Picture, draw, fragment, path_data, pictures
from steel.report.gallery.choose import Entry, choose
from steel.report.outcomes import best_known, judge
from steel.report.overlay import heat
from steel.report.sheets import SCALE_X, caption
from steel.report.strips import HeldOut, View


def no_doubt(_row: int, _k: int) -> float:
    return 0.0


def points_of(path: str) -> list[NDArray[np.int32]]:
    """The polygons of path data of the form Mx yldx dy ...z."""
    found = []
    for x, y, steps in re.findall(r"M(\d+) (\d+)(?:l([-\d ]+))?z", path):
        moves = np.array(steps.split(), int).reshape(-1, 2)
        found.append(np.concatenate([[[int(x), int(y)]], moves]).cumsum(0).astype(np.int32))
    return found


def test_an_outline_is_a_polygon_in_px_of_the_strip() -> None:
    mask = np.zeros((256, 1600), bool)
    assert path_data(mask) == ""
    mask[10:21, 100:141] = True
    (corners,) = points_of(path_data(mask))
    assert sorted(map(tuple, corners.tolist())) == [(100, 10), (100, 20), (140, 10), (140, 20)]


def test_polygons_filled_give_the_mask_back_but_for_its_rim() -> None:
    y, x = np.ogrid[:256, :1600]
    mask = ((x - 300) ** 2 / 4 + (y - 120) ** 2 < 80**2) | ((x - 900) ** 2 + (y - 60) ** 2 < 30**2)
    polygons = points_of(path_data(mask))
    drawn = cv2.fillPoly(np.zeros(mask.shape, np.uint8), polygons, 1).astype(bool)
    assert len(polygons) == 2
    assert 2 * (mask & drawn).sum() / (mask.sum() + drawn.sum()) > 0.98
    assert len(path_data(mask)) < 500


def test_of_a_mask_of_specks_the_largest_are_drawn() -> None:
    mask = np.zeros((256, 1600), bool)
    mask[::4, ::4] = True  # 25,600 specks
    mask[100:150, 100:200] = True
    polygons = points_of(path_data(mask))
    assert len(polygons) == gallery_cards.N_OUTLINES
    assert polygons[0].min(0).tolist() == [100, 100]


def test_a_picture_is_small_and_true(severstal_like: NDArray[np.uint8]) -> None:
    masks = np.zeros((4, 256, 1600), bool)
    masks[2, 50:150, 400:800] = True
    prob = np.where(masks, 200, 10).astype(np.uint8)
    rules, names = Rules((Rule(255, NEVER_PX, 0.0),) * 4), ["one"]
    view = View("a.jpg", "", names, severstal_like, masks, prob, np.zeros(4), np.ones(4, np.float32), rules)
    found = draw(view, [2])
    assert len(found.strip) < 14_000
    strip = cv2.imdecode(np.frombuffer(found.strip, np.uint8), cv2.IMREAD_GRAYSCALE)
    expected = cv2.resize(severstal_like, (1120, 179), interpolation=cv2.INTER_AREA)
    assert strip is not None
    assert np.abs(strip.astype(int) - expected).mean() < 8
    assert list(found.probs) == [2]
    assert len(found.probs[2]) < 2000
    heat = cv2.imdecode(np.frombuffer(found.probs[2], np.uint8), cv2.IMREAD_GRAYSCALE)
    assert heat is not None
    assert heat.shape == (51, 320)
    assert abs(int(heat[20, 120]) - 200) < 10 > abs(int(heat[20, 20]) - 10)
    assert found.truth[2] and not any(found.shown)


@pytest.fixture
def severstal_like() -> NDArray[np.uint8]:
    """Grey of rolled steel: streaks along the strip, and noise."""
    rng = np.random.default_rng(0)
    streaks = cv2.GaussianBlur(rng.normal(80, 60, (256, 1600)), (0, 0), sigmaX=20, sigmaY=1)
    return np.clip(streaks + rng.normal(0, 4, (256, 1600)), 0, 255).astype(np.uint8)


def test_cards_show_the_run(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of the cache, masks under the held-out rules; by processes as without."""
    paths = Paths(tiny.solution())
    table, _, decision = run.load(paths.decide)
    outcomes = judge(table, decision)
    outcome = outcomes[best_known(outcomes)]
    entries = choose(table, outcome, no_doubt, 3)
    cards = pictures(paths, table, decision, entries)
    assert [card.entry for card in cards] == entries
    for card in cards:
        e, view = card.entry, HeldOut(paths, decision).of_row(table, card.entry.row)
        assert (card.image_id, card.fold) == (table.image_ids[e.row], table.fold[e.row])
        assert view.shown.sum((1, 2)).tolist() == outcome.pred_px[e.row].tolist()
        drawn = draw(view, [e.k])
        assert card.picture.probs[e.k] == drawn.probs[e.k]
        assert replace(card.picture, probs=drawn.probs) == drawn
        assert bool(card.picture.truth[e.k]) == (e.true_px > 0)
        assert bool(card.picture.shown[e.k]) == (e.shown_px > 0)
    monkeypatch.setattr(gallery_cards, "CHUNK", 2)
    machine = replace(paths.solution.machine, workers=2)
    parallel = Paths(replace(paths.solution, machine=machine))
    assert pictures(parallel, table, decision, entries) == cards
    assert copied.is_dir()


EVIL = Card(
    Entry(0, 2, ("worst", "label?"), 0.31234, 900, 40),
    "</script><script>alert(1)</script>.jpg",
    1,
    0.25,
    Picture(b"strip", ("", "", "M1 2l3 4z", ""), ("",) * 4, {0: b"zero", 2: b"two"}),
)


def data_of(html: str) -> dict:
    """The data within a fragment."""
    found = re.search(r'<script type="application/json" id="gallery-data">(.*?)</script>', html, re.S)
    assert found
    return json.loads(found[1])


def test_the_page_holds_the_data_and_nothing_breaks_out_of_it() -> None:
    other = replace(EVIL, entry=Entry(0, 0, ("false negative",), 0.0, 50, 0))
    html = str(fragment([EVIL, other]))
    assert html.count("<script") == html.count("</script>") == 2
    assert "alert(1)</script>" not in html
    data = data_of(html)
    assert [strip["id"] for strip in data["strips"]] == [EVIL.image_id]  # once for both entries
    assert base64.b64decode(data["strips"][0]["image"]) == b"strip"
    assert data["strips"][0]["truth"] == ["", "", "M1 2l3 4z", ""]
    first, second = data["entries"]
    assert (first["class"], first["kinds"], first["dice"]) == (3, ["worst", "label?"], 0.3123)
    assert [base64.b64decode(entry["prob"]) for entry in (first, second)] == [b"two", b"zero"]


def test_the_filters_offer_what_there_is() -> None:
    html = str(fragment([EVIL, replace(EVIL, image_id="b.jpg", fold=4)], "part"))
    assert re.findall(r'<option value="([a-z? ]+)" title=', html) == ["label?", "worst"]
    assert "label? (2)" in html
    assert re.findall(r'<label>part\s+<select name="fold">\s+<option value="">all</option>\s+<option>1<', html)
    assert data_of(html)["fold_name"] == "part"


def test_probabilities_have_the_colours_of_the_scale_on_page_and_sheet() -> None:
    """From black to a light yellow, ever brighter; 17 colours, between which the page interpolates."""
    level = np.arange(256, dtype=np.uint8)[None]
    colours = heat(level)[0]  # (256, 3) BGR
    light = colours @ [0.114, 0.587, 0.299]
    assert light[0] < 5 and light[-1] > 230 and (np.diff(light[::8]) > 0).all()
    html = str(fragment([EVIL]))
    values = [re.search(rf'<feFunc{c} type="table" tableValues="([^"]+)"', html) for c in "BGR"]
    stops = np.array([found[1].split() for found in values if found], float)
    assert stops.shape == (3, 17)
    between = np.stack([np.interp(level[0] / 255, np.linspace(0, 1, 17), stop) for stop in stops], 1)
    assert np.abs(255 * between - colours).max() < 10
    band = caption("", scale=True)
    assert (band[18, SCALE_X : SCALE_X + 256] == colours).all()


def test_an_empty_gallery_says_so() -> None:
    html = str(fragment([]))
    assert "there is nothing to look at" in html
    assert "<script" not in html
