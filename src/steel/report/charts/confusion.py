"""The report's section on confusion: which classes are shown where others are, missed, or seen on clean strips."""

from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES, N_CLASSES
from steel.decide.table import Table
from steel.report.charts.draw import DARK, LIGHT, figure, seamless
from steel.report.outcomes import Outcome
from steel.report.section import Figure, Numbers, Section

ROWS = (*(f"class {c}" for c in CLASSES), "clean")
COLUMNS = (*(f"class {c}" for c in CLASSES), "nothing")
DARK_SHARE = 0.72  # above it a cell is darker than its text would be


@dataclass(frozen=True)
class Confusion:
    """Strips by what is on them and what is shown of them.

    Attributes:
        n: (5, 5) strips with the class of the row (the last: with none) where the class of the column is shown (the
            last: nothing). Off the diagonal, those alone that have no true mask of the column's class.
        n_strips: (5,) strips with the class of the row.
    """

    n: NDArray[np.int64]
    n_strips: NDArray[np.int64]

    @property
    def share(self) -> NDArray[np.float64]:
        """Of the strips of the row, (5, 5) 0..1; 0 where there are none."""
        return self.n / np.maximum(self.n_strips, 1)[:, None]


def confusion(table: Table, outcome: Outcome) -> Confusion:
    """Count the strips of a table under an outcome."""
    true, shown = _with_none(table.true_px > 0), _with_none(outcome.pred_px > 0)
    # A strip may have several classes: one that is there is no confusion, whatever else is.
    wrong = shown & ~np.column_stack([true[:, :N_CLASSES], np.zeros(len(true), bool)])
    n = true.T.astype(np.int64) @ wrong
    right = (true & shown).sum(0)
    np.fill_diagonal(n, right)
    return Confusion(n, true.sum(0))


def section(table: Table, outcome: Outcome) -> Section:
    """The section: the largest confusions in words, a heat map, a table."""
    found = confusion(table, outcome)
    lead = [
        " ".join(_largest(found)),
        "Counted are strips, not pixels. A strip with two classes counts in both rows; a class that is shown where it "
        "belongs is never a confusion.",
    ]
    return Section("confusion", "Confusion between classes", lead, [_chart(found), _numbers(found)])


def _with_none(present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Classes of each strip (n, 4) with a last column where there is none, (n, 5)."""
    return np.column_stack([present, ~present.any(1)])


def _largest(found: Confusion) -> list[str]:
    """Sentences on the cells off the diagonal with most strips: between classes, missed, on clean strips."""

    def strips(i: int, j: int) -> str:
        return f"{found.n[i, j]} of {found.n_strips[i]} strips ({found.share[i, j]:.1%})"

    between = np.where(np.eye(N_CLASSES, dtype=bool), 0, found.n[:-1, :-1])
    i, j = divmod(int(between.argmax()), N_CLASSES)
    missed, vain = int(found.n[:-1, -1].argmax()), int(found.n[-1, :-1].argmax())
    return [
        f"Most often confused: {COLUMNS[j]} is shown on {strips(i, j)} with {ROWS[i]} and none of {COLUMNS[j]}."
        if between.any()
        else "No class is shown where only others are.",
        f"Most often missed: nothing is shown on {strips(missed, -1)} with {ROWS[missed]}."
        if found.n[:-1, -1].any()
        else "No strip with a defect is left without any.",
        f"Most often seen in vain: {COLUMNS[vain]} is shown on {strips(-1, vain)} without a defect."
        if found.n[-1, :-1].any()
        else "Nothing is shown on a strip without a defect.",
    ]


def _chart(found: Confusion) -> Figure:
    rows = _named_rows(found)
    cells = [
        {
            "true": row,
            "shown": column,
            "share": round(float(found.share[i, j]), 4),
            "strips": int(found.n[i, j]),
            "label": f"{found.share[i, j]:.0%}\n{found.n[i, j]}" if found.n[i, j] else "0",
        }
        for i, row in enumerate(rows)
        for j, column in enumerate(COLUMNS)
    ]
    diagonal = ", ".join(f"{row} {found.share[i, i]:.0%}" for i, row in enumerate(ROWS))
    return figure(
        "confusion",
        "What is shown on the strips of each class: their share, and how many",
        f"Share of the strips with a class on which a class is shown. Rightly: {diagonal}. {' '.join(_largest(found))}",
        _matrix(cells, rows).properties(width="container", height=42 * (N_CLASSES + 1)),
    )


def _matrix(cells: list[dict[str, Any]], rows: list[str]) -> Any:
    """Cells, darker the larger their share, and what stands in them."""
    base = alt.Chart(alt.InlineData(values=cells)).encode(
        x=alt.X("shown:N", sort=list(COLUMNS), title="shown", axis=alt.Axis(orient="top", labelAngle=0)),
        y=alt.Y("true:N", sort=rows, title="on the strip (strips)"),
        tooltip=[
            alt.Tooltip("true:N", title="on the strip (strips)"),
            alt.Tooltip("shown:N", title="shown"),
            alt.Tooltip("strips:Q", title="strips", format=","),
            alt.Tooltip("share:Q", title="share of them", format=".1%"),
        ],
    )
    colour = alt.Color("share:Q", title="share", scale=alt.Scale(domain=[0, 1], scheme="blues"), legend=None)
    # The cells bring their own ground, light or dark as the share is, in both looks of the page.
    ink = alt.when(f"datum.share > {DARK_SHARE}").then(alt.value(LIGHT)).otherwise(alt.value(DARK))
    middle = alt.expr("datum.strips ? -7 : 0")  # of two lines
    text = base.mark_text(fontSize=12, lineBreak="\n", dy=middle).encode(text="label:N", color=ink)
    return alt.layer(base.mark_rect(**seamless("share")).encode(color=colour), text)


def _named_rows(found: Confusion) -> list[str]:
    return [f"{row} ({n})" for row, n in zip(ROWS, found.n_strips, strict=True)]


def _numbers(found: Confusion) -> Numbers:
    rows = [
        [
            f"{row}, {found.n_strips[i]} strips",
            *(f"{found.n[i, j]} ({found.share[i, j]:.1%})" for j in range(len(COLUMNS))),
        ]
        for i, row in enumerate(ROWS)
    ]
    return Numbers("Strips with the class of the row on which that of the column is shown", ["", *COLUMNS], rows)
