"""The log of all submissions: each once, in a file that a spreadsheet reads."""

import csv
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steel.errors import UserError
from steel.kaggle import leaderboard

ROWS = st.lists(st.integers(1, 9), max_size=12)


@settings(max_examples=25, deadline=None)
@given(ROWS, st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=8))
def test_the_log_has_each_submission_once_as_it_was_told_last(numbers: list[int], solution: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        row = {**dict.fromkeys(leaderboard.COLUMNS, ""), "solution": solution}
        for place, number in enumerate(numbers):
            leaderboard.log(path, {**row, "submission_id": number, "public": place})
        if numbers:
            with path.open(newline="", encoding="utf-8") as file:
                found = list(csv.DictReader(file))
            assert [one["submission_id"] for one in found] == [str(n) for n in dict.fromkeys(numbers)]
            assert all(one["solution"] == solution for one in found)
            last = {number: place for place, number in enumerate(numbers)}
            assert [int(one["public"]) for one in found] == list(last.values())
            assert path.read_text(encoding="utf-8").startswith("date,solution,bundle,cv,expected_lb,state,public,")


def test_a_log_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("date,score\n")
    with pytest.raises(UserError, match=r"log.csv: other columns than date,solution,.*: move it away, and a new one"):
        leaderboard.log(path, dict.fromkeys(leaderboard.COLUMNS, ""))
    assert path.read_text() == "date,score\n"
