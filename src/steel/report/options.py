"""In which options two solutions differ."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from steel.errors import shorten
from steel.report.section import Numbers
from steel.stage import Leaf, changes

OMITTED = ("name", "report")  # what a run is called, and what its report tells beside it
LONGEST = 60  # characters of a value


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Leaf]:
    """The options that two solutions, as plain values, do not share."""
    old, new = ({key: one[key] for key in one if key not in OMITTED} for one in (before, now))
    return changes(old, new)


def told(options: Sequence[Leaf]) -> str:
    """The first of them in a line, and how many more there are."""
    return shorten([f"{name} {_text(old)} → {_text(new)}" for name, old, new in options])


def table(options: Sequence[Leaf], first: str, second: str) -> Numbers:
    """All of them, under the names of the two solutions."""
    rows = [[name, _text(old), _text(new)] for name, old, new in options]
    return Numbers("Options that differ", ["option", first, second], rows)


def _text(value: Any) -> str:
    """A value as the YAML may say it; a dash where there is none."""
    text = "–" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
