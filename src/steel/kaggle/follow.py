"""Follow what goes on at Kaggle, and read what it has left to say."""

import json
from collections.abc import Callable, Collection
from time import monotonic, sleep

from steel.errors import UserError
from steel.progress import say

POLL_S, TELL_EVERY_S = 30.0, 60.0  # between two looks, and between two lines about the same state
LONGEST_ABSENCE_S = 900.0  # of what was just made


def follow(what: str, look: Callable[[], str], ended: Collection[str], every_s: float) -> str:
    """Look until the state is one of `ended`, which it gives; a line at each change, and every minute.

    The state '' is that of what is not there yet; a UserError if that lasts.
    """
    start = told = monotonic()
    last = None
    while True:
        state, now = look(), monotonic()
        if state != last or now - told >= TELL_EVERY_S:
            say(f"{what}: {state or 'not there yet'}, {duration(now - start)}")
            last, told = state, now
        if state in ended:
            return state
        if not state and now - start > LONGEST_ABSENCE_S:
            raise UserError(f"{what}: not there after {duration(now - start)}: start it again, it looks on")
        sleep(every_s)


def log_text(log: str) -> str:
    """The text of a kernel's log, which Kaggle gives as JSON: what was printed, piece by piece."""
    pieces = [line.strip("[], ") for line in log.splitlines()]
    try:
        return "".join(piece["data"] for piece in json.loads(f"[{','.join(filter(None, pieces))}]"))
    except (ValueError, TypeError, KeyError):
        return log


def duration(seconds: float) -> str:
    """Such as 40 s, 3 min 20 s."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
