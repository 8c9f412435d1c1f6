"""Progress of long loops: a bar on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from steel.workers import is_worker

tqdm.set_lock(threading.RLock())  # its own is shared by processes: a killed one leaves it behind, with a warning

T = TypeVar("T")
LINE_EVERY_S = 15.0


def counted(n: int, what: str) -> str:
    """A number and what it counts: 1 node, 2 nodes."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def say(text: str) -> None:
    """Print one line at once, above a running bar if there is one."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def track(items: Iterable[T], what: str, unit: str, total: int | None = None, done: int = 0) -> Iterator[T]:
    """Yield the items and show rate and time left; `done` items of `total` were finished by an earlier run.

    Bars are for a terminal that one process has to itself: workers print lines.
    """
    n = total if total is not None else len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty() and not is_worker():
        yield from tqdm(items, desc=what, unit=f" {unit}", total=n, initial=done, leave=False)
        return
    start = last = time.monotonic()
    for i, item in enumerate(items, done + 1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_EVERY_S and i < n:
            rate = (i - done) / (now - start)
            say(f"{what}: {i}/{n} {unit}, {rate:.3g} {unit}/s, {(n - i) / rate:.0f} s left")
            last = now
