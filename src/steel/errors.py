"""The one exception that a user is meant to see."""


class UserError(Exception):
    """Bad input or a missing step: one clear line (what, where, which value, what is allowed); the program exits 2."""


def shorten(values: list[str], n: int = 3) -> str:
    """Join at most `n` values for a message, and count the rest: ``a, b, c and 7 more``."""
    more = f" and {len(values) - n} more" if len(values) > n else ""
    return ", ".join(values[:n]) + more
