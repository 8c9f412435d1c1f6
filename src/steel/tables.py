"""Tables of things by name, open to code outside the package."""

import importlib
from collections.abc import Mapping
from typing import Any, TypeVar

from steel.errors import UserError

T = TypeVar("T")


def choose(table: Mapping[str, T], name: str, where: str) -> T | Any:
    """An entry of a table by name, or what ``package.module:function`` names; a UserError lists the choices."""
    if name in table:
        return table[name]
    if ":" not in name:
        raise UserError(f"{where}: unknown name {name!r}; allowed: {', '.join(table)}, or package.module:function")
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{where}: cannot import {name!r}: {error}") from None
