"""Work beside other work: in order, bounded, and no error is lost."""

import threading
from collections.abc import Iterator

import pytest

from steel.overlap import overlap

PATIENCE_S = 20


def test_results_come_in_order() -> None:
    assert list(overlap(lambda x: x * x, range(5), 2)) == [0, 1, 4, 9, 16]
    assert list(overlap(str, [], 1)) == []


def test_it_works_ahead_of_who_takes_the_results() -> None:
    begun = [threading.Event() for _ in range(3)]

    def read(i: int) -> int:
        begun[i].set()
        return i

    found = overlap(read, range(3), 2)
    assert next(found) == 0
    assert begun[2].wait(PATIENCE_S)  # though nobody has asked for more than the first
    assert list(found) == [1, 2]


def test_the_call_runs_while_the_next_item_is_made() -> None:
    written, made = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        assert written.wait(PATIENCE_S)
        made.set()
        yield 1

    def write(i: int) -> bool:
        written.set()
        return i == 1 or made.wait(PATIENCE_S)

    assert list(overlap(write, items(), 1)) == [True, True]


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_no_more_items_are_taken_than_may_wait(ahead: int) -> None:
    taken, go = [], threading.Event()

    def items() -> Iterator[int]:
        for i in range(9):
            taken.append(i)
            if i == ahead:  # one is written, `ahead` wait: the next would have to wait for the first
                threading.Timer(0.05, go.set).start()
            yield i

    def write(i: int) -> int:
        assert go.wait(PATIENCE_S)
        return i

    found = overlap(write, items(), ahead)
    assert next(found) == 0
    assert len(taken) == ahead + 1
    assert list(found) == list(range(1, 9))


def test_an_error_of_the_call_comes_before_another_item_is_taken() -> None:
    taken, failed = [], threading.Event()

    def items() -> Iterator[int]:
        for i in range(9):
            taken.append(i)
            yield i
            assert failed.wait(PATIENCE_S)

    def write(_: int) -> None:
        threading.Timer(0.05, failed.set).start()
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        list(overlap(write, items(), 5))
    assert len(taken) <= 2  # the second was in the making


def test_what_has_begun_is_written_when_the_caller_fails_and_no_thread_is_left() -> None:
    before, written = threading.active_count(), list[int]()

    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(overlap(written.append, items(), 2))
    assert written == [0, 1]
    assert threading.active_count() == before
