"""What `steel STAGE --help` prints: the options of the stage, then every key of CONFIG: unit, range, default."""

import argparse
import shutil
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from typing import Any, Literal, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser

TYPES = {str: "TEXT", int: "INT", float: "NUMBER", bool: "true|false", list: "LIST", dict: "MAPPING"}
COLUMN = 30  # where the help of an option begins, characters
KEYS = """\
Below: every key of CONFIG and its [default]. Each is an option too, which overrides CONFIG: `--split.seed 1` for
`split: {seed: 1}`. A list or a mapping is written as in YAML: --predict.tta '[identity, vflip]'."""


def page(stage: str, about: str, parser: ArgumentParser, parts: dict[str, type]) -> str:
    """The whole page; `parser` knows the options, `parts` are the dataclasses to show, by their key in CONFIG."""
    width = min(shutil.get_terminal_size().columns, 110)
    options = [action for action in parser._actions if action.dest not in ("help", "CONFIG")]
    own = [action for action in options if "." not in action.dest and action.dest not in (*parts, "name")]
    lines = [f"usage: steel {stage} CONFIG [--option value ...]", "", about, "", "options:"]
    lines += [line for action in own for line in _entry(_option(action), action.help or "", width)]
    lines += ["", *textwrap.wrap(KEYS, width)]
    name = next(action for action in options if action.dest == "name")
    lines += ["", *_entry(_option(name), f"{name.help} [required]", width)]
    for key, kind in parts.items():
        lines += ["", *textwrap.wrap(f"{key}: {(kind.__doc__ or '').strip()}", width)]
        lines += [line for action in _leaves(kind, key) for line in _entry(_option(action), _help(action), width)]
    return "\n".join(lines)


def _leaves(kind: type, key: str) -> Iterable[argparse.Action]:
    """One action per field of a dataclass, with the help of its docstring."""
    parser = ArgumentParser(add_help=False)
    parser.add_argument(f"--{key}", type=kind, default=kind())
    return [action for action in parser._actions if action.default != argparse.SUPPRESS]


def _entry(head: str, text: str, width: int) -> list[str]:
    """An option and its help, in two columns."""
    lines = textwrap.wrap(" ".join(text.split()), width - COLUMN, break_on_hyphens=False) or [""]
    if len(head) > COLUMN - 4:
        return [f"  {head}", *(" " * COLUMN + line for line in lines)]
    return [f"  {head}".ljust(COLUMN) + lines[0], *(" " * COLUMN + line for line in lines[1:])]


def _option(action: argparse.Action) -> str:
    """``--key TYPE``; an item of a list has no option of its own and stands as ``key TYPE``."""
    name = action.option_strings[0] if "[" not in action.dest else action.dest
    if action.nargs == 0:
        return name
    hint = getattr(action, "_typehint", None) or action.type or str
    given = action.metavar if isinstance(action.metavar, str) and action.metavar[0] not in "[{" else None
    return f"{name} {given or _type_name(hint)}"


def _type_name(hint: Any) -> str:
    """How a type is called in the help: TEXT, INT, a|b, ...; null is told by the help's text."""
    if get_origin(hint) is Literal:
        return "|".join(get_args(hint))
    kind = get_origin(hint) or hint
    if kind in TYPES:
        return TYPES[kind]
    inner = [arg for arg in get_args(hint) if arg is not type(None)]
    return _type_name(inner[0]) if inner else "MAPPING"


def _help(action: argparse.Action) -> str:
    default = asdict(action.default) if is_dataclass(action.default) else action.default  # type: ignore[arg-type]
    if isinstance(default, str):
        return f"{action.help} [{default}]"
    flow = yaml.safe_dump(default, default_flow_style=True, sort_keys=False, width=10**6)
    flow = flow.removesuffix("...\n").strip()
    return f"{action.help} {flow if flow.startswith('[') else f'[{flow}]'}"
