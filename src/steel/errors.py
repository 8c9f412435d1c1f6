"""The one exception that a user is meant to see."""

import difflib
from collections.abc import Iterable, Mapping

NEAR, VERY_NEAR = 0.66, 0.9  # likeness of two words: of three letters, two are right; of ten, nine


class UserError(Exception):
    """Bad input or a missing step: one clear line (what, where, which value, what is allowed); the program exits 2."""


def shorten(values: list[str], n: int = 3) -> str:
    """Join at most `n` values for a message, and count the rest: ``a, b, c and 7 more``."""
    more = f" and {len(values) - n} more" if len(values) > n else ""
    return ", ".join(values[:n]) + more


def in_a_line(error: BaseException) -> str:
    """What another library's error says, in one line that begins with its kind."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def meant(word: str, allowed: Iterable[str], near: float = NEAR) -> str:
    """`` (did you mean x?)`` after an unknown word, x being the allowed one most like it; nothing if none is."""
    found = difflib.get_close_matches(word, list(allowed), 1, near)
    return f" (did you mean {found[0]}?)" if found else ""


def unknown_option(option: str, known: Iterable[str], commands: Mapping[str, Iterable[str]]) -> str:
    """What to say of an option that a command does not have: whose it is among some `commands`, and what is meant."""
    owners = ", ".join(f"`{command}`" for command, options in commands.items() if option in options)
    whose = f", which belongs to {owners}" if owners else ""
    return f"unknown option {option}{whose}{meant(option, known, VERY_NEAR if owners else NEAR)}"
