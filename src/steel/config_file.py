"""The YAML of a solution: repeated, unknown and misplaced keys are refused here, wrong values by the parser."""

from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from steel.config import Solution
from steel.config_check import check_name
from steel.errors import UserError


def model_names(path: Path) -> list[str]:
    """Names of the models that a YAML gives, after a check of all its keys."""
    if not path.is_file():
        known = ", ".join(str(p) for p in sorted(Path("configs").glob("*.yaml")))
        raise UserError(f"no config file {path}" + (f"; there are: {known}" if known else ""))
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        reason = one_line(error).replace('in "<unicode string>", ', "at ")
        raise UserError(f"{path}: not valid YAML: {reason}") from None
    _check_mapping(path, "", content, Solution)
    models = content.get("models")
    if not models:
        raise UserError(f"{path}: models: at least one model is needed, as in `models: {{unet: {{net: Unet}}}}`")
    for name in models:
        check_name(f"{path}: models", name)
        if name.replace("-", "_") in models and "-" in name:  # the parser takes the two signs for one
            raise UserError(f"{path}: models: {name!r} and {name.replace('-', '_')!r} are too alike; rename one")
    return list(models)


def one_line(error: Exception) -> str:
    """The message of an error on one line."""
    return " ".join(str(error).split())


def _check_mapping(path: Path, where: str, value: Any, kind: type) -> None:
    """Compare the keys of a mapping with the fields of a dataclass, down to the leaves."""
    hints = get_type_hints(kind)
    allowed = f"allowed keys: {', '.join(hints)}"
    if not isinstance(value, dict):
        raise UserError(f"{path}: {where or 'the file'} must be `key: value` lines, got {value!r}; {allowed}")
    for key, item in value.items():
        if key not in hints:
            raise UserError(f"{path}: unknown key {_join(where, key)}; {allowed}")
        _check_item(path, _join(where, key), item, hints[key])


def _check_item(path: Path, where: str, value: Any, hint: Any) -> None:
    if value is None and NoneType in get_args(hint):
        return
    if get_origin(hint) is dict and is_dataclass(get_args(hint)[1]):
        if not isinstance(value, dict):
            raise UserError(f"{path}: {where} must be `name: {{key: value}}` lines, got {value!r}")
        for name, item in value.items():
            _check_mapping(path, _join(where, name), item, get_args(hint)[1])
    elif get_origin(hint) is list and is_dataclass(get_args(hint)[0]):
        if not isinstance(value, list):
            raise UserError(f"{path}: {where} must be a list, as in `[{{key: value}}]`, got {value!r}")
        for i, item in enumerate(value):
            _check_mapping(path, f"{where}[{i}]", item, get_args(hint)[0])
    else:
        for kind in (hint, *get_args(hint)):
            if isinstance(kind, type) and is_dataclass(kind):
                _check_mapping(path, where, value, kind)


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but a key given twice is an error: plain YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: list[Any] = []
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} appears twice", key_node.start_mark)
            seen.append(key)
        return super().construct_mapping(node, deep)
