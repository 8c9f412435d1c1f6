"""The section on confusion, on six strips that can be counted by eye."""

import make_table
import numpy as np

from steel.decide.table import Table
from steel.report.charts.confusion import confusion, section
from steel.report.outcomes import Outcome
from steel.report.section import Figure, Numbers

# What is on each strip, and what is shown of it.
STRIPS = [({1}, {1}), ({1}, {3}), ({1, 3}, {3}), ({3}, set()), (set(), set()), (set(), {4})]


def seen(strips: list[tuple[set[int], set[int]]]) -> tuple[Table, Outcome]:
    """A table of strips with masks of 100 px, and an outcome of as many."""
    n = len(strips)
    true, shown = ([[100 * (c in of_strip[i]) for c in (1, 2, 3, 4)] for of_strip in strips] for i in (0, 1))
    true_px, shown_px = np.array(true, np.int32), np.array(shown, np.int32)
    levels = np.zeros((n, 4, 256), np.int32)
    ids, fold = np.array([f"{i}.jpg" for i in range(n)]), np.zeros(n, np.int16)
    table = make_table.of_areas(ids, fold, true_px, levels, levels, np.ones((n, 4), np.float32))
    return table, Outcome(shown_px, np.minimum(true_px, shown_px))


def test_strips_are_counted_by_what_is_on_them_and_what_is_shown() -> None:
    found = confusion(*seen(STRIPS))
    # Strip 2 has class 3 as well: that it is shown is no confusion with class 1.
    assert found.n.tolist() == [
        [1, 0, 1, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 1, 0, 1],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1],
    ]
    assert found.n_strips.tolist() == [3, 0, 2, 0, 2]
    assert found.share[0].tolist() == [1 / 3, 0, 1 / 3, 0, 0]
    assert found.share[1].tolist() == [0, 0, 0, 0, 0]


def test_the_lead_names_the_largest() -> None:
    lead = section(*seen(STRIPS)).lead[0]
    assert "class 3 is shown on 1 of 3 strips (33.3%) with class 1 and none of class 3." in lead
    assert "nothing is shown on 1 of 2 strips (50.0%) with class 3." in lead
    assert "class 4 is shown on 1 of 2 strips (50.0%) without a defect." in lead


def test_without_a_fault_it_says_so() -> None:
    faultless = seen([({2}, {2}), (set(), set())])
    assert confusion(*faultless).share.diagonal().tolist() == [0, 1, 0, 0, 1]
    assert section(*faultless).lead[0] == (
        "No class is shown where only others are. No strip with a defect is left without any. Nothing is shown on a "
        "strip without a defect."
    )


def test_chart_and_table_hold_the_counts() -> None:
    chart, numbers = section(*seen(STRIPS)).blocks
    assert isinstance(chart, Figure)
    assert isinstance(numbers, Numbers)
    (values,) = chart.spec["datasets"].values()
    assert len(values) == 25
    assert {"true": "class 3 (2)", "shown": "nothing", "share": 0.5, "strips": 1, "label": "50%\n1"} in values
    assert list(numbers.head) == ["", "class 1", "class 2", "class 3", "class 4", "nothing"]
    assert numbers.rows[0] == ["class 1, 3 strips", "1 (33.3%)", "0 (0.0%)", "1 (33.3%)", "0 (0.0%)", "0 (0.0%)"]
    assert "Rightly: class 1 33%, class 2 0%, class 3 50%, class 4 0%, clean 50%." in chart.description
