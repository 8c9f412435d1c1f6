"""Tables of things by name, open to code outside the package."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
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
    here = str(Path.cwd())
    if here not in sys.path:  # the installed program does not look for modules in the working directory
        sys.path.append(here)
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError, TypeError) as error:  # the last two: ":f" and ".x:f"
        raise UserError(f"{where}: cannot import {name!r}: {error}") from None
