"""The command line: a solution's YAML, overridden by ``--key value``, and the options of a stage."""

import argparse
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace, set_parsing_settings  # type: ignore[attr-defined]

from steel import config, help_page
from steel.config import ModelConfig, Phase, Solution, SynthConfig
from steel.config_check import check
from steel.config_file import model_names, one_line
from steel.errors import UserError, unknown_option

set_parsing_settings(docstring_parse_attribute_docstrings=True)

PARTS: dict[str, type] = {
    "data": config.DataConfig,
    "split": config.SplitConfig,
    "predict": config.PredictConfig,
    "decide": config.DecideConfig,
    "kernel": config.KernelConfig,
    "report": config.ReportConfig,
    "machine": config.MachineConfig,
    "ray": config.RayConfig,
}
HELP_PARTS = {
    "data": config.DataConfig,
    "data.synth": SynthConfig,
    **PARTS,
    "models.NAME": ModelConfig,
    "models.NAME.phases[i]": Phase,
}
WORDS = {"int": "a whole number", "float": "a number", "str": "text", "list": "a list", "dict": "a mapping"}
WORDS |= {"bool": "true or false", "NoneType": "null"}
SYNTH_KEYS = {"n_train": "training strips (>= 10)", "n_test": "test strips (>= 1)", "seed": "seed (>= 0)"}
FANNED_OUT = ("train", "oof", "predict")  # stages whose jobs a cluster can run
# Options that are short for a key, by what they stand for.
LONG = {f"--{key}": f"--data.synth.{key}" for key in SYNTH_KEYS}
LONG |= {"--devices": "--machine.devices", "--executor": "--machine.executor"}
SHORT_FOR = "short for --data.synth.{}, which later stages need as well"
# Options of some stages alone: of which, type, what help calls a value, and what it says.
OWN: dict[str, tuple[tuple[str, ...], type, str | None, str]] = {
    "--fold": (("train",), str, "K", "only this fold, from 0 on [all]"),
    "--devices": (("train",), int, "N", "devices that train one model together; short for --machine.devices"),
    "--executor": (FANNED_OUT, str, "serial|ray", "who runs the jobs; short for --machine.executor [serial]"),
    "--model": (FANNED_OUT, str, "NAME", "only this model [all]"),
    **{f"--{key}": (("synth",), int, None, f"{what}; {SHORT_FOR.format(key)}") for key, what in SYNTH_KEYS.items()},
    "--images": (
        ("predict",),
        str,
        "DIR",
        "predict the strips of this folder, not the test set; with --executor ray "
        "all below it, or below an address such as s3://bucket/path",
    ),
    "--out": (
        ("predict",),
        Path,
        "FILE.csv|DIR",
        "with --images: where to write the submission form; with --executor ray the folder for parquet parts",
    ),
    "--overlay": (("predict",), Path, "DIR", "with --images: write pictures with the outlines here [none]"),
}


@dataclass(frozen=True)
class Options:
    """Options of a stage, beside the solution itself.

    Attributes:
        force: redo what stands.
        folds: the folds that count; empty: all.
        model: the one model to train or predict; empty: all.
        images: folder of strips to predict instead of the test set; for a cluster also an address of fsspec.
        out: file for their submission; of a cluster a folder for the parts.
        overlay: folder for pictures of them with outlines.
    """

    force: bool = False
    folds: tuple[int, ...] = ()
    model: str = ""
    images: str | None = None
    out: Path | None = None
    overlay: Path | None = None


def parse(
    stage: str, about: str, args: list[str], commands: Mapping[str, Collection[str]] | None = None
) -> tuple[Solution, Options]:
    """Read ``CONFIG [--key value ...]``; anything unknown, mistyped or out of range is a UserError.

    `commands`: options that the caller reads itself, such as ``--owner``, by command, and those of the commands beside
    it [those of the stages]: an unknown one may be meant for them.
    """
    if {"-h", "--help"} & set(args):
        print(help_page.page(stage, about, _parser(stage, []), HELP_PARTS))
        raise SystemExit(0)
    if not args or args[0].startswith("-"):
        raise UserError(f"CONFIG is missing: it comes first, as in `steel {stage} configs/demo.yaml`")
    path, line = args[0], _with_long_keys(stage, args[1:])
    names = model_names(Path(path))
    parser = _parser(stage, names)
    try:
        found = parser.instantiate(parser.parse_args([f"--CONFIG={path}", *line]))
    except (argparse.ArgumentError, TypeError, ValueError, KeyError) as error:
        where = f"{path}: " if _fails(parser, path) else ""
        raise UserError(where + _plain(one_line(error), parser, names, commands or _of_stages())) from None
    models = {name: found["models." + name.replace("-", "_")] for name in names}
    solution = Solution(found.name, models, **{part: found[part] for part in PARTS})
    check(solution)
    return solution, _options(found, solution)


def _parser(stage: str, model_names: list[str]) -> ArgumentParser:
    """The options of a stage, and every key of a solution with these models."""
    parser = ArgumentParser(prog=f"steel {stage}", exit_on_error=False, allow_abbrev=False, print_config=None)
    add = parser.add_argument
    add("--CONFIG", action=ActionConfigFile, help=argparse.SUPPRESS)
    add("--force", action="store_true", help="redo what is up to date")
    add("--folds", type=str, default="", metavar="0,1", help="only these folds, from 0 on [all]")
    for option, (stages, kind, metavar, text) in OWN.items():
        if stage in stages:
            add(option, type=kind, default="" if kind is str else None, metavar=metavar, help=text)
    add("--name", type=str, required=True, help="Name of the solution: its results lie in runs/NAME, submissions/NAME.")
    for part, kind in PARTS.items():
        add(f"--{part}", type=kind, default=kind())
    for name in model_names:
        add(f"--models.{name}", type=ModelConfig, default=ModelConfig())
    return parser


def _of_stages() -> dict[str, list[str]]:
    """The options of some stages alone, by stage as it is called."""
    found: dict[str, list[str]] = {}
    for option, (stages, *_) in OWN.items():
        for stage in stages:
            found.setdefault(f"steel {stage}", []).append(option)
    return found


def _with_long_keys(stage: str, args: list[str]) -> list[str]:
    """The short options of a stage as the keys they stand for."""
    parts = [arg.partition("=") for arg in args]
    own = {option for option in LONG if stage in OWN[option][0]}
    return [(LONG[option] if option in own else option) + equals + value for option, equals, value in parts]


def _options(found: Namespace, solution: Solution) -> Options:
    model, fold = found.get("model", ""), found.get("fold", "")
    if model and model not in solution.models:
        raise UserError(f"--model: the solution has no model {model!r}; allowed: {', '.join(solution.models)}")
    if fold and found.folds:
        raise UserError(f"give --fold {fold} or --folds {found.folds}, not both")
    folds = _folds("--fold" if fold else "--folds", fold or found.folds, len(solution.folds))
    values = {key: found.get(key) or None for key in ("images", "out", "overlay")}
    _check_images(**values, on_cluster=solution.machine.executor == "ray")
    if values["images"] and (model or found.folds):
        raise UserError("--images uses all models and folds of the finished run; leave out --model and --folds")
    return Options(found.force, folds, model, **values)


def _check_images(images: str | None, out: Path | None, overlay: Path | None, on_cluster: bool) -> None:
    """Refuse options of `predict --images` that do not go together."""
    if (images is None) != (out is None):
        raise UserError("--images DIR and --out FILE.csv go together (--out DIR with --executor ray)")
    if overlay and not images:
        raise UserError("--overlay DIR needs --images DIR and --out FILE.csv")
    if overlay and on_cluster:
        raise UserError("--overlay DIR goes with a folder that this program reads: leave it out, or --executor ray")
    if on_cluster and out and (out.suffix == ".csv" or ":/" in str(out)):
        raise UserError(f"--out {out}: with --executor ray a folder of this machine is wanted, such as found/")
    if not on_cluster and "://" in (images or ""):
        raise UserError(f"--images {images} is an address, which needs --executor ray and --out DIR")


def _folds(option: str, text: str, n_folds: int) -> tuple[int, ...]:
    """Fold numbers from ``0,1``; empty for all."""
    parts = text.split(",") if text else []
    allowed = f"0..{n_folds - 1}, as in {option} 1" if n_folds > 1 else "0"
    for part in parts:
        if not part.strip().isdecimal() or int(part) >= n_folds:
            raise UserError(f"{option}: {part!r} is not a fold; allowed: {allowed}")
    return tuple(sorted({int(part) for part in parts}))


def _fails(parser: ArgumentParser, path: str) -> bool:
    """Whether the YAML alone is already refused: then the fault lies there and not on the command line."""
    try:
        parser.parse_args([f"--CONFIG={path}"])
    except (argparse.ArgumentError, TypeError, ValueError, KeyError):
        return True
    return False


def _plain(message: str, parser: ArgumentParser, names: list[str], commands: Mapping[str, Collection[str]]) -> str:
    """A message of the parser in the words of this kit: key, value, what is allowed."""
    if found := re.match(r"[Uu]nrecognized arguments: (\S+)", message):
        return _unknown(found[1].partition("=")[0], parser, names, commands)
    if found := re.search(r"""Parser key "([^"]+)".*config\.(\w+)': Option '(.+)' is not accepted""", message):
        allowed = ", ".join(field.name for field in fields(getattr(config, found[2])))
        return f"unknown key {found[3]} in {found[1]}; allowed keys: {allowed}"
    key = re.search(r'Parser key "([^"]+)"', message)
    value = re.search(r"(?:Got value|Given value): (.*)", message)
    kinds = re.findall(r"Expected an? (?:<class '([\w.]+)'>|typing\.Literal\[([^\]]*)\])", message)
    if key and kinds and value:
        allowed = " or ".join(WORDS.get(kind, kind) or choices.replace("'", "") for kind, choices in kinds)
        nested = re.search(r"NestedArg\(key='(.+?)', val='(.*?)'\)", value[1])  # of a part that may be null
        where, given = (f"{key[1]}.{nested[1]}", nested[2]) if nested else (key[1], value[1])
        return f"{where}: {given} is not allowed; allowed: {allowed}"
    if key and "Unable to load config" in message:
        return f"--{key[1]} alone is no option; its keys are, as in --{key[1]}.KEY VALUE"
    if key and value and "Not a valid subclass" in message:
        return f"{key[1]}: {value[1].partition(' Subclass types')[0]} is not allowed; allowed: a list of {{key: value}}"
    if message.startswith("the following arguments are required: "):
        return f"the key {message.partition(': ')[2]} is missing"
    return message


def _unknown(option: str, parser: ArgumentParser, names: list[str], commands: Mapping[str, Collection[str]]) -> str:
    """What to say about an option that does not exist."""
    if not option.startswith("-"):
        return f"unexpected {option!r}; after CONFIG come only options, as in --key value"
    parts = option.split(".")
    if parts[0] == "--models" and len(parts) > 1 and parts[1] not in names:
        return f"unknown option {option}: the solution has no model {parts[1]!r}; allowed: {', '.join(names)}"
    known = [string for action in parser._actions for string in action.option_strings if string != "--CONFIG"]
    return f"{unknown_option(option, [*known, *commands.get(parser.prog, ())], commands)}; --help lists all"
