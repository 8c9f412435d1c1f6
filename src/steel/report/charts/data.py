"""The data as a section of a page: what the strips and their masks look like, from the numbers of `eda.measure`."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from steel.competition import CLASSES, WIDTH
from steel.report.charts.draw import BLUE, DARK, GREY, LIGHT, RED, by_class, figure, seamless
from steel.report.eda.look import CELL_PX, QUANTILES
from steel.report.eda.words import leads, percent, ratio
from steel.report.section import Figure, Numbers, Section
from steel.report.text import number

TICKS_PX = [n * 10**k for k in range(6) for n in (1, 3)]  # of a logarithmic axis
KINDS = {"train, defect": RED, "train, clean": GREY, "test": BLUE}


def section(numbers: dict[str, Any]) -> Section:
    """All that `eda.measure` found, as charts, tables and words."""
    blocks: list[Figure | Numbers] = [_counts(numbers), _together(numbers), _sets(numbers)]
    if sum(numbers["n_masks"]):
        blocks += [_areas(numbers), _area_table(numbers), _component_table(numbers), *_positions(numbers)]
    blocks += [
        _levels(numbers, "mean", "Brightness of the strips", "mean grey level of a strip's steel (0–255)"),
        _levels(numbers, "std", "Contrast of the strips", "standard deviation of a strip's grey levels"),
        _level_table(numbers),
    ]
    if numbers["train_test"]["telling"]:
        blocks.append(_telling(numbers))
    return Section("data", f"Data: {numbers['data']}", leads(numbers), blocks)


def _counts(numbers: dict[str, Any]) -> Figure:
    counts = [*zip([f"class {c}" for c in CLASSES], numbers["n_masks"], strict=True), ("clean", numbers["n_clean"])]
    rows = [
        {"strips": name, "n": n, "share": ratio(n, numbers["n_train"]), "class": name.removeprefix("class ")}
        for name, n in counts
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("n:Q", title="training strips", scale=alt.Scale(domainMax=1.12 * max(n for _, n in counts))),
        y=alt.Y("strips:N", title=None, sort=None),
        tooltip=[
            alt.Tooltip("strips:N"),
            alt.Tooltip("n:Q", title="training strips", format=","),
            alt.Tooltip("share:Q", title="of all", format=".1%"),
        ],
    )
    colour = alt.when(alt.datum["class"] == "clean").then(alt.value(GREY)).otherwise(by_class().legend(None))
    bars = base.mark_bar().encode(color=colour)
    labels = base.mark_text(align="left", dx=4, fontSize=12).encode(text=alt.Text("n:Q", format=","))
    told = "; ".join(f"{name}: {n}" for name, n in counts)
    chart = (bars + labels).properties(width="container", height=28 * len(rows))
    return figure("counts", "Training strips that show each class, or none", f"Bars of strips. {told}.", chart)


def _together(numbers: dict[str, Any]) -> Figure:
    together = numbers["together"]
    rows = [
        {"class": str(a), "also": str(b), "n": together[i][j], "share": ratio(together[i][j], together[i][i])}
        for i, a in enumerate(CLASSES)
        for j, b in enumerate(CLASSES)
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("also:N", title="show this class too", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("class:N", title="strips of class"),
        tooltip=[
            alt.Tooltip("class:N", title="strips of class"),
            alt.Tooltip("also:N", title="that show class"),
            alt.Tooltip("n:Q", title="strips", format=","),
            alt.Tooltip("share:Q", title="of the class", format=".1%"),
        ],
    )
    # Few strips show two classes: on a plain scale all but the diagonal would look alike.
    scale, legend = alt.Scale(type="sqrt", domain=[0, 1], scheme="blues"), alt.Legend(format="%", orient="top")
    colour = alt.Color("share:Q", title="share of the class's strips", scale=scale, legend=legend)
    ink = alt.when(alt.datum.share > 0.52).then(alt.value(LIGHT)).otherwise(alt.value(DARK))  # on the cells
    labels = base.mark_text(fontSize=13).encode(text=alt.Text("n:Q", format=","), color=ink)
    chart = (base.mark_rect(**seamless("share")).encode(color=colour) + labels).properties(
        width="container", height=200
    )
    pairs = [f"{a} and {b}: {together[a - 1][b - 1]}" for a in CLASSES for b in CLASSES if a < b]
    title = "Strips of each class (row) that show another one, too (column)"
    return figure("together", title, f"Strips that show two classes: {'; '.join(pairs)}.", chart)


def _sets(numbers: dict[str, Any]) -> Numbers:
    rows = []
    for one in numbers["sets"]:
        name = " and ".join(map(str, one["classes"])) or "none"
        rows.append([name, str(one["n"]), percent(ratio(one["n"], numbers["n_train"]))])
    return Numbers("Strips by the classes that they show", ["classes", "training strips", "share"], rows)


def _areas(numbers: dict[str, Any]) -> Figure:
    edges, classes = numbers["areas"]["edges_px"], numbers["areas"]["classes"]
    rows = [
        {
            "class": str(c),
            "px": round((low * high) ** 0.5, 1),
            "bin": f"{low:,.0f} to {high:,.0f} px",
            "n": n,
            "share": ratio(n, sum(one["histogram"])),
        }
        for c, one in zip(CLASSES, classes, strict=True)
        if sum(one["histogram"])
        for low, high, n in zip(edges, edges[1:], one["histogram"], strict=False)
    ]
    scale = alt.Scale(type="log", domain=[edges[0], edges[-1]])
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("px:Q", title="area of the mask, px", scale=scale, axis=alt.Axis(values=TICKS_PX, format="~s")),
        y=alt.Y("share:Q", title="share of the class's masks", axis=alt.Axis(format="%")),
        color=by_class().legend(orient="top"),
    )
    tooltip = [
        alt.Tooltip("class:N"),
        alt.Tooltip("bin:N", title="area"),
        alt.Tooltip("n:Q", title="masks", format=","),
        alt.Tooltip("share:Q", title="of the class", format=".1%"),
    ]
    told = [
        f"class {c}: median {one['quantiles_px'][2]:,.0f} px"
        for c, one in zip(CLASSES, classes, strict=True)
        if one["quantiles_px"]
    ]
    description = f"Histogram by class, the axis logarithmic. {'; '.join(told)}."
    return figure("areas", "Areas of the masks", description, _lines(base, tooltip, alt.Tooltip("class:N")))


def _area_table(numbers: dict[str, Any]) -> Numbers:
    rows = []
    for c, n, one in zip(CLASSES, numbers["n_masks"], numbers["areas"]["classes"], strict=True):
        values = [one["min_px"], *(one["quantiles_px"] or [None] * len(QUANTILES)), one["max_px"]]
        rows.append([f"class {c}", str(n), *("–" if px is None else f"{px:.0f}" for px in values)])
    head = ["", "masks", "smallest", *(f"{100 * q:g} %" for q in QUANTILES), "largest"]
    return Numbers("Areas of the masks and their quantiles, px", head, rows)


def _component_table(numbers: dict[str, Any]) -> Numbers:
    rows = []
    for c, one in zip(CLASSES, numbers["components"], strict=True):
        cells = (
            [f"{one['mean']:.2f}", str(one["most"]), *(percent(one[key]) for key in ("one", "ends", "rims"))]
            if one
            else ["–"] * 5
        )
        rows.append([f"class {c}", *cells])
    head = ["", "components, mean", "most", "a single one", "touch a left or right end", "touch the upper or lower rim"]
    return Numbers("Components of the masks, and how many touch the border of the strip", head, rows)


def _positions(numbers: dict[str, Any]) -> list[Figure]:
    """A heat map for each class that has masks, each on a scale of its own."""
    each = zip(CLASSES, numbers["n_masks"], numbers["positions"], strict=True)
    return [_position(c, n, cells) for c, n, cells in each if n]


def _position(class_id: int, n_masks: int, cells: Sequence[Sequence[float]]) -> Figure:
    """Where the masks of a class lie: `cells` (8, 50) is the share of them that cover each."""
    rows = [
        {"x": j * CELL_PX, "y": i * CELL_PX, "share": share}
        for i, row in enumerate(cells)
        for j, share in enumerate(row)
    ]
    ends = [sum(row[j] for row in cells) / len(cells) for j in (0, len(cells[0]) // 2, -1)]
    description = (
        f"Heat map of {n_masks} masks. A cell is covered by {percent(ends[0])} of them at the left end, by "
        f"{percent(ends[1])} in the middle, by {percent(ends[2])} at the right end."
    )
    title = f"Class {class_id}: share of its {n_masks} masks that cover each {CELL_PX}x{CELL_PX} px"
    return figure(f"positions-{class_id}", title, description, _heat(rows, len(cells) * CELL_PX))


def _heat(rows: list[dict[str, Any]], height_px: int) -> alt.Chart:
    """The strip as a map of cells."""
    scale, legend = alt.Scale(scheme="viridis", domainMin=0), alt.Legend(format=".0%", tickCount=3, orient="top")
    return (
        alt.Chart(alt.Data(values=rows))
        .transform_calculate(x2=f"datum.x + {CELL_PX}", y2=f"datum.y + {CELL_PX}")
        .mark_rect(**seamless("share"))
        .encode(
            x=alt.X("x:Q", title="column, px", scale=alt.Scale(domain=[0, WIDTH], nice=False)),
            x2="x2:Q",
            y=alt.Y(
                "y:Q",
                title="row, px",
                scale=alt.Scale(domain=[height_px, 0], nice=False),
                axis=alt.Axis(values=list(range(0, height_px + 1, height_px // 2))),
            ),
            y2="y2:Q",
            color=alt.Color("share:Q", title="share of masks", scale=scale, legend=legend),
            tooltip=[
                alt.Tooltip("x:Q", title="column from, px"),
                alt.Tooltip("y:Q", title="row from, px"),
                alt.Tooltip("share:Q", title="masks that cover it", format=".1%"),
            ],
        )
        .properties(width="container", height=120)
    )


def _levels(numbers: dict[str, Any], key: str, title: str, axis: str) -> Figure:
    """Histogram of `mean` or `std` of the strips, by kind."""
    levels, edges = numbers["levels"], numbers["levels"][f"{key}_edges"]
    filled = [i for one in levels["kinds"].values() for i, n in enumerate(one[key]) if n]
    shown = slice(max(min(filled) - 1, 0), max(filled) + 2)  # an empty bin at either end
    rows = [
        {
            "kind": kind,
            "level": (low + high) / 2,
            "bin": f"{low:g} to {high:g}",
            "n": n,
            "share": ratio(n, one["n"]),
        }
        for kind, one in levels["kinds"].items()
        for low, high, n in list(zip(edges, edges[1:], one[key], strict=False))[shown]
    ]
    kinds = list(levels["kinds"])
    scale = alt.Scale(domain=list(KINDS), range=list(KINDS.values()))
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("level:Q", title=axis, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=8, labelSeparation=8)),
        y=alt.Y("share:Q", title="share of the strips", axis=alt.Axis(format="%")),
        color=alt.Color("kind:N", title=None, scale=scale, legend=alt.Legend(orient="top", values=kinds)),
    )
    tooltip = [
        alt.Tooltip("kind:N", title="strips"),
        alt.Tooltip("bin:N", title="levels"),
        alt.Tooltip("n:Q", title="strips", format=","),
        alt.Tooltip("share:Q", title="share", format=".1%"),
    ]
    told = "; ".join(f"{kind}: median {one[f'median_{key}']:.1f}" for kind, one in levels["kinds"].items())
    chart = _lines(base, tooltip, alt.Tooltip("kind:N", title="strips"))
    return figure(f"levels-{key}", title, f"Histogram by kind of strip. {told}.", chart)


def _level_table(numbers: dict[str, Any]) -> Numbers:
    rows = [
        [
            kind,
            str(one["n"]),
            *(f"{one[key]:.1f}" for key in ("median_mean", "median_std")),
            *(percent(one[key]) for key in ("has_black", "black")),
        ]
        for kind, one in numbers["levels"]["kinds"].items()
    ]
    head = ["", "strips", "median brightness", "median contrast", "strips with black columns", "columns that are black"]
    return Numbers("Grey levels, and columns that show no steel", head, rows)


def _telling(numbers: dict[str, Any]) -> Numbers:
    rows = [
        [one["statistic"], number(one["auc"]), f"{one['train']:.3f}", f"{one['test']:.3f}"]
        for one in numbers["train_test"]["telling"]
    ]
    caption = "Statistics that best tell test from train, each alone (AUC 0.5: not at all)"
    return Numbers(caption, ["statistic", "AUC", "median in train", "median in test"], rows)


def _lines(base: alt.Chart, tooltip: Sequence[alt.Tooltip], of_line: alt.Tooltip) -> alt.LayerChart:
    """A line with points that answer the pointer: all of a bin, where the line itself knows only what it is."""
    lines = base.mark_line(strokeWidth=2).encode(tooltip=[of_line])
    points = base.mark_point(filled=True, size=40, opacity=1).encode(tooltip=list(tooltip))
    return (lines + points).properties(width="container", height=260)
