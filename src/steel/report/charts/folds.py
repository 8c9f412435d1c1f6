"""Section `folds`: what each fold scores, how alike the folds are, and where duplicates went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steel.competition import CLASSES
from steel.data.cache import AREAS
from steel.data.folds import read_folds
from steel.paths import Paths
from steel.report import cv
from steel.report.charts.draw import DARK, GREY, by_class, figure
from steel.report.outcomes import WAYS
from steel.report.section import Figure, Numbers, Section
from steel.report.uncertainty import PERCENT

ALL = "all"  # beside the classes, on their axis
SCORES = {"mean": "mean Dice", "positive": "positive-only Dice"}  # keys of a score, and of its intervals


def read_split(paths: Paths) -> pd.DataFrame:
    """The split with the areas of the true masks: columns image_id, fold, group and AREAS, a row per training strip."""
    index = pd.read_csv(paths.cache / "train.csv", dtype={"image_id": str})
    return read_folds(paths.folds).merge(index[["image_id", *AREAS]], on="image_id")


def section(numbers: Mapping[str, Any], split: pd.DataFrame) -> Section:
    """Dice per fold and class with its spread, the balance of the split, and its duplicates.

    `numbers` as in cv.json, `split` as `read_split` gives it.
    """
    kind = numbers["headline"]["kind"]
    one = len(numbers["headline"]["folds"]) == 1
    lead = [f"Scores are {WAYS[kind]}; numbered points are folds, bars all strips together, lines the {PERCENT}."]
    if one:
        lead.append("One fold alone was held out: a fold of the scores is a random part of it.")
    count, area_px = _totals(split)
    return Section(
        "folds",
        "Folds",
        lead,
        [
            *(_spread(numbers, key) for key in SCORES),
            cv.fold_table(numbers),
            _balance("masks", "masks", count),
            _balance("area", "area, px", area_px),
            _balance_table(split, count, area_px),
            duplicates(split),
        ],
    )


def duplicates(split: pd.DataFrame) -> Numbers:
    """How many strips have duplicates, and whether any group of them is torn between folds."""
    groups = split.groupby("group").fold.agg(["size", "nunique"])
    several = groups[groups["size"] > 1]
    torn = int((several["nunique"] > 1).sum())
    rows = [
        ["groups of two or more strips", str(len(several))],
        ["strips in them", str(int(several["size"].sum()))],
        ["strips in the largest", str(int(several["size"].max())) if len(several) else "–"],
        ["groups torn between folds (allowed: none)", str(torn)],
    ]
    return Numbers("Duplicates, held out together", ["", "number"], rows)


def _spread(numbers: Mapping[str, Any], key: str) -> Figure:
    """One kind of score: of each fold, of all strips, and the interval of that."""
    kind, title = numbers["headline"]["kind"], SCORES[key]
    points = [row for fold, score in numbers["by_fold"][kind].items() for row in _points(fold, score, key)]
    whole = _whole(numbers["all"][kind], numbers["intervals"], key)
    told = ", ".join(f"{_name(row['class'])} {row['dice']:.4f}" for row in whole)
    upper = f"{title[0].upper()}{title[1:]}"
    layers = [*_of_all(whole, title), *_of_folds(points, title, list(numbers["by_fold"][kind]))]
    return figure(
        f"folds-{key}",
        f"{upper} of each fold (numbered), and of all strips with the {PERCENT}",
        f"{upper} by class: a point per fold, and of all strips with the {PERCENT}: {told}.",
        alt.layer(*layers).properties(width="container", height=260),
    )


def _of_all(whole: list[dict[str, Any]], title: str) -> list[alt.Chart]:
    """A bar at the score of all strips, and a line as far as its interval."""
    tooltip = [alt.Tooltip("class:N"), alt.Tooltip("dice:Q", title=f"{title} of all strips", format=".4f")]
    tooltip += [alt.Tooltip(f"{end}:Q", title=f"{PERCENT}, {end}", format=".4f") for end in ("low", "high")]
    x, y = _axes(title)
    base = alt.Chart({"values": whole}).encode(x=x, tooltip=tooltip)
    bounded = base.transform_filter("datum.low != null && datum.high != null")
    line = bounded.mark_rule(color=GREY, strokeWidth=2).encode(y=alt.Y("low:Q", title=title), y2="high:Q")
    return [line, base.mark_tick(color=GREY, thickness=3, width=26).encode(y=y)]


def _of_folds(points: list[dict[str, Any]], title: str, folds: list[str]) -> list[alt.Chart]:
    """A point for each fold, in its order, with its number."""
    tooltip = [alt.Tooltip("fold:N"), alt.Tooltip("class:N"), alt.Tooltip("dice:Q", title=title, format=".4f")]
    tooltip += [alt.Tooltip("strips:Q"), alt.Tooltip("masks:Q")]
    x, y = _axes(title)
    base = alt.Chart({"values": points}).encode(x=x, y=y, xOffset=alt.XOffset("fold:N", sort=folds), tooltip=tooltip)
    colour = alt.condition(f"datum.class == '{ALL}'", alt.value(GREY), by_class().legend(None))
    numbers = base.mark_text(fontSize=10, fontWeight="bold", color=DARK).encode(text="fold:N")
    return [base.mark_circle(size=190, opacity=1).encode(color=colour), numbers]


def _axes(title: str) -> tuple[alt.X, alt.Y]:
    """Classes, all together first; a score as far as it goes."""
    x = alt.X("class:N", title="class", sort=[ALL, *map(str, CLASSES)], axis=alt.Axis(labelAngle=0))
    return x, alt.Y("dice:Q", title=title, scale=alt.Scale(zero=False, nice=False, padding=12))


def _points(fold: str, score: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """What one fold scores: a point for all classes and for each; none for what does not exist."""
    values = [score[key], *score[f"class_{key}"]]
    masks = [sum(score["n_positive"]), *score["n_positive"]]
    names = (ALL, *map(str, CLASSES))
    return [
        {"class": name, "fold": fold, "dice": round(value, 5), "strips": score["n_images"], "masks": n}
        for name, value, n in zip(names, values, masks, strict=True)
        if value is not None
    ]


def _whole(score: Mapping[str, Any], intervals: Mapping[str, Any] | None, key: str) -> list[dict[str, Any]]:
    """The score of all strips, for all classes and for each, with its bounds where they are known."""
    values = [score[key], *score[f"class_{key}"]]
    found = [intervals[key], *intervals[f"class_{key}"]] if intervals else [{"low": None, "high": None}] * len(values)
    return [
        {"class": name, "dice": value, "low": bounds["low"], "high": bounds["high"]}
        for name, value, bounds in zip((ALL, *map(str, CLASSES)), values, found, strict=True)
        if value is not None
    ]


def _totals(split: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Masks and area of each fold and class: two tables, folds ascending, columns "1".."4"."""
    area_px = split.groupby("fold")[AREAS].sum()
    count = split[AREAS].gt(0).groupby(split.fold).sum()
    columns = [str(c) for c in CLASSES]
    return count.set_axis(columns, axis=1), area_px.set_axis(columns, axis=1)


def _balance(name: str, what: str, totals: pd.DataFrame) -> Figure:
    """What share of each class's total a fold has: even folds have equal bars."""
    sums = totals.sum()
    shares = totals / sums.where(sums > 0) * 100  # a class without any has no share
    rows = [
        {"fold": str(fold), "class": c, "share": round(float(share), 2), "n": int(totals.at[fold, c])}
        for fold, row in shares.iterrows()
        for c, share in row.items()
        if not np.isnan(share)
    ]
    tooltip = [
        alt.Tooltip("fold:N"),
        alt.Tooltip("class:N"),
        alt.Tooltip("n:Q", title=what, format=","),
        alt.Tooltip("share:Q", title="share of the class, %", format=".1f"),
    ]
    bars = alt.Chart({"values": rows}).mark_bar()
    bars = bars.encode(
        x=alt.X("fold:N", title="fold", axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("class:N"),
        y=alt.Y("share:Q", title=f"share of the class's {name}, %"),
        color=by_class().legend(orient="bottom"),
        tooltip=tooltip,
    )
    even = alt.Chart({"values": [{"share": 100 / len(totals)}]}).mark_rule(color=GREY, strokeDash=[4, 4], strokeWidth=2)
    line = even.encode(y="share:Q", tooltip=[alt.Tooltip("share:Q", title="an equal share, %", format=".1f")])
    return figure(
        f"folds-{name}",
        f"Share of each class's {name} that lies in each fold; dashed: an equal share",
        f"Share of each class's {name} that lies in each fold: {_extremes(shares)}; an equal share is "
        f"{100 / len(totals):.1f} %.",
        alt.layer(bars, line).properties(width="container", height=220),
    )


def _extremes(shares: pd.DataFrame) -> str:
    found = [f"class {c} {column.min():.1f} to {column.max():.1f} %" for c, column in shares.items() if column.any()]
    return ", ".join(found) or "no masks"


def _balance_table(split: pd.DataFrame, count: pd.DataFrame, area_px: pd.DataFrame) -> Numbers:
    """Strips, clean ones, masks and area of each fold, and of all."""
    areas: NDArray[np.int64] = split[AREAS].to_numpy(np.int64)
    clean = pd.Series(~areas.any(1)).groupby(split.fold.to_numpy()).agg(["size", "sum"])
    found = pd.concat([clean, count, area_px], axis=1)
    rows = [[str(fold), *(f"{int(v):,}" for v in row)] for fold, row in zip(found.index, found.to_numpy(), strict=True)]
    rows.append([ALL, *(f"{int(v):,}" for v in found.to_numpy().sum(0))])
    head = ["fold", "strips", "clean"]
    head += [f"class {c}: masks" for c in CLASSES] + [f"class {c}: area, px" for c in CLASSES]
    return Numbers("What lies in each fold", head, rows)


def _name(label: str) -> str:
    return label if label == ALL else f"class {label}"
