"""How the jobs of a cluster stand: a line per change, with the numbers of all."""

import pytest

from steel.cluster.board import Board, View


def test_the_board_tells_each_beginning_once() -> None:
    board = Board()
    for job, node_id in ((0, "a"), (1, "b"), (0, "b")):
        board.begin(job, node_id)
    assert board.news() == [(0, "a"), (1, "b"), (0, "b")]
    assert board.news() == []
    board.begin(1, "c")
    assert board.news() == [(1, "c")]


def test_the_view_says_what_changes(capsys: pytest.CaptureFixture[str]) -> None:
    view = View(["one", "two", "three"])
    view.begin("one", "a1", "a")
    view.begin("two", "b1", "b")
    view.lose({"a1", "b1"})
    view.lose({"a1"})
    view.lose({"a1"})
    view.end("one", "")
    view.begin("two", "a1", "a")
    view.end("two", "no weights")
    view.end("three", "")
    view.begin("three", "a1", "a")  # told late
    view.close()
    assert capsys.readouterr().out.splitlines() == [
        "one: running on a (0 done, 1 running, 2 waiting, 0 failed)",
        "two: running on b (0 done, 2 running, 1 waiting, 0 failed)",
        "two: node b is gone, waits for another (0 done, 1 running, 2 waiting, 0 failed)",
        "one: done (1 done, 0 running, 2 waiting, 0 failed)",
        "two: goes on on a, lost on b (1 done, 1 running, 1 waiting, 0 failed)",
        "two: failed: no weights (1 done, 0 running, 1 waiting, 1 failed)",
        "three: done (2 done, 0 running, 0 waiting, 1 failed)",
    ]
