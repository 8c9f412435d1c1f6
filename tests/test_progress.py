"""A bar on a terminal, few plain lines elsewhere."""

import sys
from collections.abc import Iterator

import pytest

from steel.progress import say, track


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by 10 s at each look."""
    ticks = iter(range(0, 10_000, 10))
    monkeypatch.setattr("steel.progress.time.monotonic", lambda: next(ticks))


def test_say_writes_a_line_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    say("hello")
    assert capsys.readouterr().out == "hello\n"


def test_items_pass_unchanged_and_a_short_loop_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track("abc", "copy", "files")) == ["a", "b", "c"]
    assert list(track([], "copy", "files")) == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("clock")
def test_a_line_every_15_s_with_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(6), "copy", "files")) == list(range(6))
    assert capsys.readouterr().out.splitlines() == [
        "copy: 2/6 files, 0.1 files/s, 40 s left",
        "copy: 4/6 files, 0.1 files/s, 20 s left",  # the last one needs no line
    ]


@pytest.mark.usefixtures("clock")
def test_what_was_done_before_counts_but_not_for_the_rate(capsys: pytest.CaptureFixture[str]) -> None:
    def rest() -> Iterator[int]:
        yield from range(3)

    list(track(rest(), "copy", "files", total=103, done=100))
    assert capsys.readouterr().out == "copy: 102/103 files, 0.1 files/s, 10 s left\n"


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(track(range(5), "copy", "files", total=9, done=4)) == list(range(5))
    out, err = capsys.readouterr()
    assert out == ""
    assert "copy:" in err
    assert "4/9" in err
