"""The report in a real browser: it opens in silence, asks for nothing, and answers the pointer and the keyboard."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from opened_page import CONTRAST, Opened

pytestmark = pytest.mark.browser

PHONE, WIDE = {"width": 360, "height": 740}, {"width": 1600, "height": 1000}
PAPER = {"width": 718, "height": 1000}  # A4 less its margins
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
# Without these Chromium looks for its maker's servers, and where there is no sandbox it does not start.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="`make test-browser` installs Playwright")
    own = next(filter(None, map(shutil.which, NAMES)), None)
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=own, args=QUIET)
        yield found
        found.close()


@pytest.fixture(scope="module", params=["report", "eda"])
def path(request: pytest.FixtureRequest, finished: Path) -> Path:
    return finished / {"report": "runs/tiny/report", "eda": "data/tiny/eda"}[request.param] / "index.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, WIDE], ids=["phone", "wide"])
def test_it_opens_and_all_charts_are_drawn(browser: Any, path: Path, size: dict[str, int], scheme: str) -> None:
    opened = Opened(browser, path, size, scheme)
    opened.open_folds()
    height = opened.page.evaluate("document.documentElement.scrollHeight")
    opened.draw_all()
    assert opened.page.locator("[data-chart]").count() > 3
    for box in opened.page.locator("[data-chart] svg").all():
        assert box.bounding_box()["width"] > 200
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= size["width"]  # no scrolling sideways
    assert abs(opened.page.evaluate("document.documentElement.scrollHeight") - height) < 20  # their places were kept
    shades = opened.page.evaluate(
        "['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number))"
    )
    light = [sum(shade) / 3 for shade in shades]
    assert (light[0] > 200 > 60 > light[1]) if scheme == "light" else (light[0] < 60 < 200 < light[1])
    opened.close()


def test_hover_shows_values(browser: Any, path: Path) -> None:
    opened = Opened(browser, path, WIDE)
    opened.draw_all()
    silent = []
    for place in opened.page.locator("[data-chart]").all():
        place.scroll_into_view_if_needed()
        marks = place.locator("svg [role=graphics-symbol]").all()
        if not any(_tells(opened.page, mark) for mark in marks[:12]):
            silent.append(place.get_attribute("data-chart"))
    assert silent == []
    opened.close()


def _tells(page: Any, mark: Any) -> bool:
    """Whether a tooltip with a number comes up over a mark."""
    box = mark.bounding_box()
    if box is None:
        return False
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = page.locator("#vg-tooltip-element.visible")
    page.wait_for_timeout(30)
    return tip.count() > 0 and re.search(r"\d", tip.inner_text()) is not None


@pytest.fixture
def gallery(browser: Any, finished: Path) -> Iterator[Any]:
    opened = Opened(browser, finished / "runs/tiny/report/index.html", WIDE)
    opened.page.locator("#gallery").scroll_into_view_if_needed()
    yield opened.page
    opened.close()


def cards(page: Any) -> list[str]:
    return list(page.locator("#gallery-cards > li").all_inner_texts())


def numbers(page: Any, pattern: str) -> list[float]:
    """A number of each card that is shown."""
    return [float(found.group(1).replace(",", "")) for text in cards(page) if (found := re.search(pattern, text))]


def test_filters_change_what_is_shown(gallery: Any) -> None:
    everything = cards(gallery)
    assert len(everything) > 4
    for name, value, pattern in (("kind", "worst", "worst"), ("class", "3", "class 3"), ("fold", "1", "fold 1")):
        gallery.locator(f"#gallery select[name={name}]").select_option(value)
        shown = cards(gallery)
        assert 0 < len(shown) < len(everything) and all(pattern in text for text in shown)
        assert gallery.locator("#gallery-count").inner_text().startswith(f"{len(shown)} of ")
        gallery.get_by_role("button", name="reset").click()
        gallery.wait_for_function(
            "n => document.querySelectorAll('#gallery-cards > li').length === n", arg=len(everything)
        )
        assert cards(gallery) == everything


def test_sorting_changes_the_order(gallery: Any) -> None:
    pattern = r"Dice ([\d.]+)"
    gallery.locator("#gallery select[name=sort]").select_option("Dice")
    up = numbers(gallery, pattern)
    gallery.locator("#gallery select[name=order]").select_option("descending")
    down = numbers(gallery, pattern)
    assert len(up) == len(cards(gallery)) and len(set(up)) > 1
    assert up == sorted(up) and down == sorted(down, reverse=True)


def test_a_card_shows_probabilities_and_their_scale(gallery: Any) -> None:
    card = gallery.locator("#gallery-cards > li").first
    button, scale = card.locator(".about button"), card.locator(".scale")
    for shown in (1, 0):
        button.press("Enter")
        assert card.locator("img.heat").count() == shown
        assert scale.is_visible() == bool(shown)
    assert re.fullmatch(r"0\s*1", scale.inner_text() or scale.text_content())


def test_cards_are_leafed_through_enlarged(gallery: Any) -> None:
    """By buttons and arrow keys, in the order and within the filters of the list, around its ends."""
    gallery.locator("#gallery select[name=kind]").select_option("best")
    gallery.locator("#gallery select[name=sort]").select_option("Dice")
    gallery.locator("#gallery select[name=order]").select_option("descending")
    names = gallery.locator("#gallery-cards > li .about b").all_inner_texts()
    dice = numbers(gallery, r"Dice ([\d.]+)")
    assert len(names) > 2
    dialog = gallery.locator("dialog")

    def check(at: int) -> None:
        assert gallery.locator("#gallery-place").inner_text() == f"{at + 1} of {len(names)}"
        assert dialog.locator(".about b").inner_text() == names[at]
        assert f"Dice {dice[at]:.2f}" in dialog.locator(".about").inner_text()

    gallery.locator("#gallery-cards > li button.open").nth(1).press("Enter")
    check(1)
    gallery.keyboard.press("ArrowRight")
    check(2)
    dialog.get_by_role("button", name="probabilities").click()
    dialog.get_by_role("button", name="previous").click()
    check(1)
    assert dialog.locator("img.heat").count() == 1  # the choice stays
    for at in (0, len(names) - 1):
        gallery.keyboard.press("ArrowLeft")
        check(at)
    gallery.keyboard.press("Escape")
    assert dialog.is_hidden()
    gallery.wait_for_function("document.activeElement.closest('li')")
    assert gallery.evaluate("document.activeElement.closest('li').querySelector('b').textContent") == names[-1]


def test_outlines_are_switched_off_in_the_list_and_enlarged(gallery: Any) -> None:
    gallery.locator("#gallery select[name=kind]").select_option("best")
    truth = gallery.locator("#gallery-cards path.truth").first
    assert truth.is_visible()
    gallery.locator("#gallery-cards button.open").first.press("Enter")
    box = gallery.locator("dialog input[name=truth]")
    box.uncheck()
    assert gallery.locator("dialog path.truth").first.is_hidden()
    assert gallery.locator("dialog path.shown").first.is_visible()
    gallery.keyboard.press("Escape")
    assert truth.is_hidden()
    gallery.locator(".bar input[name=truth]").check()
    assert truth.is_visible() and box.is_checked()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_can_be_chosen(browser: Any, path: Path, scheme: str) -> None:
    """The button says what it does, also where the system is dark."""
    opened = Opened(browser, path, WIDE, scheme)
    button = opened.page.locator("#theme")
    other = {"light": "dark", "dark": "light"}
    for now in (scheme, other[scheme], scheme):
        assert opened.page.evaluate("document.documentElement.dataset.theme") == now
        assert button.inner_text() == f"Switch to {other[now]}"
        button.press("Enter")
    opened.draw_all()
    opened.close()


@pytest.mark.parametrize("size", [PHONE, WIDE], ids=["phone", "wide"])
def test_an_address_within_the_page_is_met(browser: Any, finished: Path, size: dict[str, int]) -> None:
    opened = Opened(browser, finished / "runs/tiny/report/index.html", size, at="#gallery")
    top = "document.querySelector('#gallery').getBoundingClientRect().top"
    opened.page.wait_for_function(f"0 <= {top} && {top} < 80")  # below the sticky bar
    opened.page.evaluate("location.hash = '#training'")
    opened.page.locator("#training .fold[open] svg").first.wait_for()
    opened.close()


def test_values_unfold(browser: Any, path: Path) -> None:
    """Every chart has its values without a pointer, and those of the heat maps are thinned."""
    opened = Opened(browser, path, PHONE)
    opened.page.evaluate("document.querySelectorAll('.fold, .values').forEach((one) => one.open = true)")
    opened.page.wait_for_function("document.querySelector('.values table')")
    rows = opened.page.locator(".values").evaluate_all(  # a table per set of marks, of 100 rows at most
        "(all) => all.map((one) => one.querySelectorAll('tbody tr').length)"
    )
    assert len(rows) > 3 and min(rows) > 0 and max(rows) < 300
    text = opened.page.locator("figure:has([data-chart=counts]) .values").inner_text()
    assert re.search(r"class 3\s+\d+\s+\d+\.\d%", text)  # as the pointer shows it
    assert re.search(
        r"100 of 400, evenly spaced", opened.page.locator("figure:has([data-chart=positions-3])").inner_text()
    )
    opened.close()


def test_wide_tables_show_that_they_go_on(browser: Any, finished: Path) -> None:
    """A shade at the edge as long as more lies behind it; the keyboard stops where there is something to scroll."""
    opened = Opened(browser, finished / "runs/tiny/report/index.html", PHONE)
    opened.open_folds()
    all_places = "[...document.querySelectorAll('.numbers .scroll')]"
    wide = "(one) => one.scrollWidth > one.clientWidth"
    opened.page.wait_for_function(f"{all_places}.every((one) => ({wide})(one) === (one.tabIndex === 0))")
    n_wide, first = opened.page.evaluate(f"[{all_places}.filter({wide}).length, {all_places}.findIndex({wide})]")
    places = opened.page.locator(".numbers .scroll")
    assert 0 < n_wide < places.count()
    table = places.nth(first)

    def edge() -> float:
        picture = cv2.imdecode(np.frombuffer(table.screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
        assert picture is not None
        return float(np.median(picture[:, -3:]))

    assert edge() < 215
    table.evaluate("(one) => { one.scrollLeft = one.scrollWidth; }")
    assert edge() > 250
    opened.close()


def test_on_paper_all_is_light_drawn_open_and_within(browser: Any, finished: Path) -> None:
    opened = Opened(browser, finished / "runs/tiny/report/index.html", PAPER, "dark")
    page, theme = opened.page, "document.documentElement.dataset.theme"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(theme) == "light"
    assert page.locator("[data-chart]").count() == page.locator("[data-chart] > svg").count() > 10
    page.emulate_media(media="print")
    right = page.locator("table, svg").evaluate_all("(all) => all.map((one) => one.getBoundingClientRect().right)")
    assert len(right) > 30 and max(right) <= PAPER["width"]
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(theme) == "dark"
    opened.close()


def test_words_stand_out_from_the_ground(browser: Any, path: Path) -> None:
    """Contrast of 4.5 or more, as WCAG 2.2 asks for, between text and what lies behind it."""
    for scheme in ("light", "dark"):
        opened = Opened(browser, path, WIDE, scheme)
        worst = opened.page.evaluate(CONTRAST)
        assert worst["ratio"] >= 4.5, worst
        opened.close()
