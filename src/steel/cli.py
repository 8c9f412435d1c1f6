"""The command line: a solution's YAML, overridden by ``--key value``, and the options of a stage."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace, set_parsing_settings

from steel import config
from steel.config import ModelConfig, Solution
from steel.errors import UserError

set_parsing_settings(docstring_parse_attribute_docstrings=True)

PARTS = {
    "data": config.DataConfig,
    "split": config.SplitConfig,
    "predict": config.PredictConfig,
    "decide": config.DecideConfig,
    "machine": config.MachineConfig,
}


@dataclass(frozen=True)
class Options:
    """Options of a stage, beside the solution itself.

    Attributes:
        force: redo what stands.
        folds: the folds that count; empty: all.
        model: the one model to train or predict; empty: all.
        images: folder of strips to predict instead of the test set.
        out: file for their submission.
        overlay: folder for pictures of them with outlines.
    """

    force: bool = False
    folds: tuple[int, ...] = ()
    model: str = ""
    images: Path | None = None
    out: Path | None = None
    overlay: Path | None = None


def parse(stage: str, about: str, args: list[str]) -> tuple[Solution, Options]:
    """Read ``CONFIG [--key value ...]``; anything unknown, mistyped or out of range is a UserError."""
    path = args[0] if args and not args[0].startswith("-") else None
    names = _model_names(Path(path)) if path else ["NAME"]
    parser = _parser(stage, about, names)
    if path is None:
        if {"-h", "--help"} & set(args):
            parser.print_help()
            raise SystemExit(0)
        raise UserError(f"steel {stage}: CONFIG is missing, such as configs/demo.yaml (`steel {stage} --help`)")
    try:
        found = parser.parse_args([f"--config={path}", *args[1:]])
        found = parser.instantiate(found)
    except (argparse.ArgumentError, TypeError, ValueError, KeyError) as error:
        raise UserError(f"{path}: {_one_line(error)}") from None
    solution = Solution(found.name, dict(vars(found.models)), **{part: getattr(found, part) for part in PARTS})
    config.check(solution)
    return solution, _options(found, solution)


def _parser(stage: str, about: str, model_names: list[str]) -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"steel {stage}",
        usage=f"steel {stage} CONFIG [--key value ...]",
        description=about,
        exit_on_error=False,
        formatter_class=argparse.HelpFormatter,
    )
    parser.add_argument("--config", action=ActionConfigFile, help=argparse.SUPPRESS)
    parser.add_argument("--force", action="store_true", help="redo what is up to date")
    parser.add_argument("--folds", type=str, default="", metavar="0,1", help="only these folds (default: all)")
    if stage == "train":
        parser.add_argument("--fold", type=str, default="", metavar="K", help="only this fold (default: all)")
    if stage in ("train", "oof", "predict"):
        parser.add_argument("--model", type=str, default="", metavar="M", help="only this model (default: all)")
    if stage == "synth":
        for name, what in (("n_train", "training strips"), ("n_test", "test strips"), ("seed", "seed")):
            parser.add_argument(f"--{name}", type=int, help=f"{what}; the same as --data.synth.{name}")
    if stage == "predict":
        parser.add_argument(
            "--images", type=Path, metavar="DIR", help="predict the strips of this folder instead of the test set"
        )
        parser.add_argument(
            "--out", type=Path, metavar="FILE.csv", help="with --images: where to write the submission form"
        )
        parser.add_argument(
            "--overlay", type=Path, metavar="DIR", help="with --images: write pictures with the outlines here"
        )
    parser.add_argument(
        "--name", type=str, required=True, help="name of the solution: results lie in runs/NAME and submissions/NAME"
    )
    for part, kind in PARTS.items():
        parser.add_argument(f"--{part}", type=kind, default=kind())
    for name in model_names:
        parser.add_argument(f"--models.{name}", type=ModelConfig, default=ModelConfig())
    return parser


def _options(found: Namespace, solution: Solution) -> Options:
    model = getattr(found, "model", "")
    if model and model not in solution.models:
        raise UserError(f"--model: the solution has no model {model!r}; allowed: {', '.join(solution.models)}")
    chosen = getattr(found, "fold", "") or found.folds
    values = {key: getattr(found, key, None) for key in ("images", "out", "overlay")}
    if (values["images"] is None) != (values["out"] is None):
        raise UserError("steel predict: --images DIR and --out FILE.csv go together")
    if values["overlay"] and not values["images"]:
        raise UserError("steel predict: --overlay DIR needs --images DIR and --out FILE.csv")
    return Options(found.force, _folds(chosen, solution.split.n_folds), model, **values)


def _folds(text: str, n_folds: int) -> tuple[int, ...]:
    """Fold numbers from ``0,1``; empty for all."""
    if not text:
        return ()
    parts = text.split(",")
    for part in parts:
        if not part.strip().isdigit() or int(part) >= n_folds:
            raise UserError(f"--folds: {part!r} is not a fold; allowed: 0..{n_folds - 1}, as in 0,1")
    return tuple(sorted({int(part) for part in parts}))


def _model_names(path: Path) -> list[str]:
    """Names of the models of a YAML: the parser gets options for each."""
    if not path.is_file():
        known = ", ".join(str(p) for p in sorted(Path("configs").glob("*.yaml")))
        raise UserError(f"no config file {path}" + (f"; there are: {known}" if known else ""))
    try:
        content: Any = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {_one_line(error)}") from None
    models = content.get("models") if isinstance(content, dict) else None
    if not isinstance(models, dict) or not models:
        raise UserError(f"{path}: `models` must name at least one model, as in `models: {{unet: {{net: Unet}}}}`")
    return [str(name) for name in models]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
