"""A page in a real browser, what goes wrong with it, and how its words stand out."""

from pathlib import Path
from typing import Any

# The text that stands out least from its ground, and the ratio of their luminance (WCAG 2.1, contrast ratio: 1..21).
CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const shine = (rgb) => {
    const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const [r, g, b] = rgb.slice(0, 3).map((v) => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const rgb = parse(getComputedStyle(e).backgroundColor);
      if (rgb.length === 3 || rgb[3] > .99) return rgb;
    }
    return [255, 255, 255];
  };
  let worst = {ratio: 99};
  for (const element of document.body.querySelectorAll("h1,h2,p,dt,dd,th,td,figcaption,a,button,label,summary,span")) {
    if (!element.textContent.trim() || element.closest("svg,.skip") || !element.getClientRects().length) continue;
    const [a, b] = [parse(getComputedStyle(element).color), ground(element)].map(shine).sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < worst.ratio) worst = {ratio, text: element.textContent.trim().slice(0, 40), tag: element.tagName};
  }
  return worst;
}"""


class Opened:
    """A page, and what went wrong or out of it."""

    def __init__(self, browser: Any, path: Path, size: dict[str, int], scheme: str = "light", at: str = "") -> None:
        self.page = browser.new_page(viewport=size, color_scheme=scheme)
        self.page.set_default_timeout(20_000)
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda line: self.faults.append(line.text) if line.type != "log" else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.resolve().as_uri() + at)

    def open_folds(self) -> None:
        """Open the sections that are shut."""
        self.page.evaluate("document.querySelectorAll('.fold').forEach((one) => one.open = true)")

    def draw_all(self) -> None:
        """Open what is shut, scroll to every chart, and wait until it is drawn."""
        self.open_folds()
        for place in self.page.locator("[data-chart]").all():
            place.scroll_into_view_if_needed()
            place.locator("svg").first.wait_for()

    def close(self) -> None:
        """Nothing must have gone wrong, and nothing out."""
        self.page.close()
        assert self.faults == []
        assert [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))] == []
        assert sum(url.startswith("file:") for url in self.requests) == 1
