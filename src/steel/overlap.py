"""Work beside other work: reading and writing while a net computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def overlap(call: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Make a call for each item in a thread of its own; give the results in order.

    Reading, the items are known, and up to `ahead` results wait for who is at work on the last. Writing, it takes work
    to make an item, and up to `ahead` wait to be written meanwhile. Either way no more are in memory. An error of the
    call is raised before another item is taken; one of the caller, or Ctrl-C, first lets calls that have begun end.

    Args:
        call: what is done with one item.
        items: taken one at a time, by the caller's own thread.
        ahead: 1 or more.
    """
    begun: deque[Future[R]] = deque()
    with ThreadPoolExecutor(1) as thread:
        for item in items:
            begun.append(thread.submit(call, item))
            for one in begun:
                if one.done():
                    one.result()  # its error, if there is one
            if len(begun) > ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
