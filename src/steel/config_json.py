"""A solution from JSON, where the parser of the command line is not to be had: what `asdict` wrote, read back."""

from dataclasses import is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def from_json(kind: type[T], data: dict[str, Any]) -> T:
    """A dataclass of `steel.config` from plain values; a key that it has not is a TypeError."""
    hints = get_type_hints(kind)
    return kind(**{key: _value(hints.get(key, Any), value) for key, value in data.items()})


def _value(hint: Any, value: Any) -> Any:
    """A value of a field: what is or holds dataclasses is built, the rest stays as it is."""
    if is_dataclass(hint) and isinstance(hint, type):
        return from_json(hint, value)
    if value is None or not get_args(hint):
        return value
    if get_origin(hint) is list:
        return [_value(get_args(hint)[0], item) for item in value]
    if get_origin(hint) is dict:
        return {key: _value(get_args(hint)[1], item) for key, item in value.items()}
    inner = [kind for kind in get_args(hint) if is_dataclass(kind)]  # of `SynthConfig | None`
    return _value(inner[0], value) if inner else value
