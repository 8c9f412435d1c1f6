"""What the gallery draws of its entries, small enough for one page, and the fragment of the page that shows it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from steel.competition import CLASSES, HEIGHT, WIDTH
from steel.decide.decision import Decision
from steel.decide.table import Table
from steel.paths import Paths
from steel.progress import track
from steel.report.gallery.choose import KINDS, Entry
from steel.report.overlay import heat_stops
from steel.report.page import environment
from steel.report.strips import HeldOut, View
from steel.workers import Workers, cores

STRIP_SIZE, PROB_SIZE = (1120, 179), (320, 51)  # (width, height) px
STRIP_QUALITY, PROB_QUALITY = 50, 40  # of WebP, 0..100
TOLERANCE_PX = 1.5  # between an outline and its polygon, on the strip of 1600 px
N_OUTLINES = 40  # largest outlines of a mask that are drawn: maps may be full of specks
CHUNK = 16  # strips per task of a worker


@dataclass(frozen=True)
class Picture:
    """What is drawn of a strip.

    Attributes:
        strip: WebP, grey, 1120 x 179.
        truth, shown: outlines of the four masks as SVG path data, in px of the strip of 1600 x 256.
        probs: class index to the ensemble's map of the class: WebP, 255 = probability 1, 320 x 51.
    """

    strip: bytes = field(repr=False)
    truth: tuple[str, ...]
    shown: tuple[str, ...]
    probs: dict[int, bytes] = field(repr=False)


@dataclass(frozen=True)
class Card:
    """An entry with its picture, which the entries of a strip share; `fold` is its value of `Table.fold`."""

    entry: Entry
    image_id: str
    fold: int
    gate: float
    picture: Picture


@dataclass(frozen=True)
class _Task:
    """A strip to draw: its gates (4,), the class indices whose map is wanted."""

    image_id: str
    gate: NDArray[np.float32]
    classes: tuple[int, ...]


def pictures(paths: Paths, table: Table, decision: Decision, entries: Sequence[Entry]) -> list[Card]:
    """Draw the entries of the table under the rules that did not see them, in parallel when there are many."""
    classes: dict[int, list[int]] = {}
    for entry in entries:
        classes.setdefault(entry.row, []).append(entry.k)
    rows = sorted(classes, key=lambda i: int(table.fold[i]))
    tasks: dict[int, list[_Task]] = {}
    for i in rows:
        task = _Task(str(table.image_ids[i]), np.array(table.gate[i]), tuple(classes[i]))
        tasks.setdefault(int(table.fold[i]), []).append(task)
    chunks = [
        (paths, decision, fold, of_fold[s : s + CHUNK])
        for fold, of_fold in tasks.items()
        for s in range(0, len(of_fold), CHUNK)
    ]
    drawn = dict(zip(rows, _draw_all(chunks, paths.solution.machine.workers), strict=True))
    return [
        Card(e, str(table.image_ids[e.row]), int(table.fold[e.row]), float(table.gate[e.row, e.k]), drawn[e.row])
        for e in entries
    ]


def draw(view: View, classes: Sequence[int]) -> Picture:
    """The picture of a training strip, with the maps of some class indices."""
    assert view.true is not None
    truth, shown = (tuple(path_data(mask) for mask in masks) for masks in (view.true, view.shown))
    probs = {k: _webp(view.prob[k], PROB_SIZE, PROB_QUALITY) for k in classes}
    return Picture(_webp(view.strip, STRIP_SIZE, STRIP_QUALITY), truth, shown, probs)


def path_data(mask: NDArray[np.bool_]) -> str:
    """Outlines of a mask (H, W) as SVG path data: polygons in px, at most N_OUTLINES; empty for an empty mask."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    largest = sorted(contours, key=cv2.contourArea, reverse=True)[:N_OUTLINES]
    return "".join(_polygon(cv2.approxPolyDP(contour, TOLERANCE_PX, closed=True)[:, 0]) for contour in largest)


def fragment(cards: Sequence[Card], fold_name: str = "fold") -> Markup:
    """The section `gallery` of the page, with its style, its data and its script.

    `fold_name` is what a value of `Table.fold` is called: "part" where a single fold was held out.
    """
    counts = {kind: sum(kind in card.entry.kinds for card in cards) for kind in KINDS}
    return Markup(
        environment()
        .get_template("gallery.html")
        .render(
            data=as_data(cards, fold_name),
            n_cards=len(cards),
            kinds=[(kind, about, counts[kind]) for kind, about in KINDS.items() if counts[kind]],
            classes=CLASSES,
            folds=sorted({card.fold for card in cards}),
            fold_name=fold_name,
            heat=dict(zip("RGB", heat_stops(17).T.round(3).tolist(), strict=True)),
        )
    )


def as_data(cards: Sequence[Card], fold_name: str) -> dict[str, Any]:
    """The cards as plain values for the script: each strip once, and the entries, which name their strip by place."""
    places: dict[str, int] = {}
    strips: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    for card in cards:
        e, picture = card.entry, card.picture
        if card.image_id not in places:
            places[card.image_id] = len(strips)
            image = _base64(picture.strip)
            one = {"id": card.image_id, "fold": card.fold, "image": image, "truth": picture.truth}
            strips.append({**one, "shown": picture.shown})
        entries.append(
            {
                "strip": places[card.image_id],
                "class": e.k + 1,
                "kinds": e.kinds,
                "dice": round(e.dice, 4),
                "true_px": e.true_px,
                "shown_px": e.shown_px,
                "gate": round(card.gate, 3),
                "prob": _base64(picture.probs[e.k]),
            }
        )
    return {"width": WIDTH, "height": HEIGHT, "fold_name": fold_name, "strips": strips, "entries": entries}


def _draw_all(chunks: Sequence[tuple[Paths, Decision, int, list[_Task]]], wanted: int | None) -> list[Picture]:
    workers = wanted if wanted is not None else cores()
    if workers < 2 or len(chunks) < 4:  # starting processes takes longer than drawing some strips
        found = [_draw_some(*chunk) for chunk in track(chunks, "report: gallery", "chunks")]
    else:
        with Workers(min(workers, len(chunks))) as pool:
            done = pool.map(_draw_some, *zip(*chunks, strict=True))
            found = list(track(done, "report: gallery", "chunks", len(chunks)))
    return [picture for chunk in found for picture in chunk]


def _draw_some(paths: Paths, decision: Decision, fold: int, tasks: Sequence[_Task]) -> list[Picture]:
    """Worker: draw some strips with the same value of `Table.fold`."""
    held_out = HeldOut(paths, decision)
    return [draw(held_out.view(task.image_id, fold, task.gate), task.classes) for task in tasks]


def _polygon(points: NDArray) -> str:
    """A closed path through points (n, 2) int32 px, in steps: they are shorter than places."""
    x, y = points[0]
    steps = np.diff(points, axis=0).ravel()
    return f"M{x} {y}" + (f"l{' '.join(map(str, steps))}" if len(steps) else "") + "z"


def _webp(image: NDArray[np.uint8], size: tuple[int, int], quality: int) -> bytes:
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".webp", small, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
