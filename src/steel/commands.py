"""The commands beside the stages: score, show, compare, submission, kernel. The rooms that do it load when called."""

import argparse
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from steel.errors import UserError, meant, unknown_option


class Parser(argparse.ArgumentParser):
    """argparse, but a fault is a UserError, and says what may be meant.

    Attributes:
        siblings: parsers of the commands beside it, with its own.
    """

    siblings: Iterable["Parser"] = ()

    def options(self) -> dict[str, list[str]]:
        """All that it and its siblings know, by command as it is called."""
        parsers = (self, *self.siblings)
        return {one.prog: [name for action in one._actions for name in action.option_strings] for one in parsers}

    def error(self, message: str) -> NoReturn:
        if found := re.match(r"argument \S+: invalid choice: '(.*)' \(choose from (.*)\)", message):
            allowed = found[2].replace("'", "")
            message = f"unknown {found[1]!r}{meant(found[1], allowed.split(', '))}; allowed: {allowed}"
        elif found := re.match(r"unrecognized arguments: (-[^\s=]+)", message):
            message = unknown_option(found[1], self.options()[self.prog], self.options())
        raise UserError(f"{message} (`{self.prog} --help` lists the options)")


class _Command(Parser):
    """One of several commands of a parser: what it does not know is its own fault, and not the parser's."""

    def parse_known_args(self, *args: Any, **options: Any) -> Any:
        found, unknown = super().parse_known_args(*args, **options)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def _commands(parser: Parser, about: Mapping[str, str], kind: type[Parser]) -> dict[str, Parser]:
    """Parsers of a parser's commands by name, each with what it is about; they know each other."""
    found = parser.add_subparsers(dest="what", required=True, metavar="|".join(about), parser_class=kind)
    each = {n: found.add_parser(n, help=text, description=text, allow_abbrev=False) for n, text in about.items()}
    for one in each.values():
        one.siblings = each.values()
    return each


def score(args: list[str]) -> None:
    """`steel score`."""
    about = "Score a submission file against a label file; each is read in both forms that the competition has used."
    parser = Parser("steel score", description=about, allow_abbrev=False)
    add = partial(parser.add_argument, type=Path)
    add("--truth", metavar="A.csv", required=True, help="label file, such as train.csv")
    add("--submission", metavar="B.csv", required=True, help="submission file")
    add("--images", metavar="DIR|LIST.csv", help="images to score: a folder or a csv list [those of the submission]")
    found = parser.parse_args(args)
    from steel.kaggle.score import format_score, score_files

    print(format_score(score_files(found.truth, found.submission, found.images)))


def show(args: list[str]) -> None:
    """`steel show` and `steel show augment`."""
    strip, augment = _show_parsers()
    is_strip = args[:1] != ["augment"]
    parser = strip if is_strip else augment
    found, overrides = parser.parse_known_args(args if is_strip else args[1:])
    from steel.cli import parse
    from steel.paths import Paths

    solution, _ = parse(parser.prog.removeprefix("steel "), "", [found.config, *overrides], parser.options())
    from steel.report import show as room

    if is_strip:
        room.strip(Paths(solution), found.image_id, found.out or Path(f"{Path(found.image_id).stem}.png"))
    else:
        recipe = found.recipe or next(iter(solution.models.values())).augment
        room.augmentation(Paths(solution), recipe, found.versions, found.seed, found.out)


def _show_parsers() -> tuple[Parser, Parser]:
    """Those of a strip, and of an augmentation."""
    about = (
        "Draw one training or test strip with truth, prediction, probabilities and numbers. Of the other form, which "
        "draws what an augmentation makes of some strips, `steel show augment --help` tells."
    )
    strip = Parser("steel show", description=about, allow_abbrev=False)
    strip.add_argument("image_id", metavar="IMAGE_ID", help="name of the strip, such as 0002cc93b.jpg")
    strip.add_argument("--config", metavar="CONFIG", required=True, help="YAML of a finished solution")
    strip.add_argument("--out", type=Path, metavar="FILE.png", help="[IMAGE_ID.png, in this folder]")
    about = "Draw what an augmentation recipe makes of some training strips."
    augment = Parser("steel show augment", description=about, allow_abbrev=False)
    augment.add_argument("config", metavar="CONFIG", help="YAML of a solution; --key value overrides as in a stage")
    augment.add_argument("--recipe", help="name of a recipe [that of the solution's first model]")
    augment.add_argument("--versions", type=int, default=4, metavar="N", help="versions of each crop, >= 1 [4]")
    augment.add_argument("--seed", type=int, default=0, help="seed of crops and versions, >= 0 [0]")
    augment.add_argument("--out", type=Path, default=Path("augment.png"), metavar="FILE.png", help="[augment.png]")
    strip.siblings = augment.siblings = (strip, augment)
    return strip, augment


def compare(args: list[str]) -> None:
    """`steel compare`."""
    about = "Say which of two finished runs is better, by how much and how surely, on the strips that both held out."
    parser = Parser("steel compare", description=about, allow_abbrev=False)
    for letter in "AB":
        parser.add_argument(letter, type=Path, help="YAML of a solution, or folder of a run, such as runs/demo")
    about_rules = (
        "how both are decided on, or A,B each: lofo (tuned leaving one fold out), plain (the same, no family adopted), "
        "fixed, empty (nothing shown), in_sample (tuned on the scored strips themselves) [lofo]"
    )
    parser.add_argument("--rules", default="lofo", metavar="WAY[,WAY]", help=about_rules)
    found = parser.parse_args(args)
    from steel.report import compare as room

    print(room.format_comparison(room.compare(found.A, found.B, found.rules.split(","))))


def submission(args: list[str]) -> None:
    """`steel submission check|diff`."""
    parser = Parser("steel submission", description="Look at submission files, in both forms.", allow_abbrev=False)
    about = {
        "check": "Say whether a submission is valid and complete, and what it shows.",
        "diff": "Say where two submissions of the same strips differ, and how much.",
    }
    check, diff = _commands(parser, about, _Command).values()
    check.add_argument("file", metavar="FILE", type=Path)
    listed = "strips that it must have: sample_submission.csv or another list, or a folder [those that it names]"
    check.add_argument("--images", metavar="LIST.csv|DIR", type=Path, help=listed)
    for letter in "AB":
        diff.add_argument(letter, type=Path, help="submission file")
    diff.add_argument("--images", metavar="DIR", type=Path, help="folder of the strips, to draw those that differ most")
    diff.add_argument("--out", metavar="FILE.png", type=Path, help="the drawing: A above, B below")
    found = parser.parse_args(args)
    from steel.kaggle.check import open_submission, summary

    if found.what == "check":
        print(summary(open_submission(found.file, found.images)))
        return
    if (found.images is None) != (found.out is None):
        raise UserError("--images DIR and --out FILE.png go together")
    from steel.kaggle import diff as room

    if found.out:
        room.check_gallery(found.images, found.out)
    difference = room.diff(open_submission(found.A), open_submission(found.B))
    print(room.format_difference(difference))
    if found.out:
        room.write_gallery(difference, found.images, found.out)


def kernel(args: list[str]) -> None:
    """`steel kernel bundle|test|push|submit|train`."""
    parser, commands = _kernel_parsers()
    found, overrides = parser.parse_known_args(args)
    from steel.cli import parse
    from steel.paths import Paths

    known = commands[found.what].options()
    solution, options = parse(f"kernel {found.what}", "", [found.config, *overrides], known)
    paths, folds = Paths(solution), options.folds or solution.folds
    if found.what == "bundle":
        from steel.kaggle.owner import owner_name

        owner = owner_name(found.owner, paths.kernel)  # before the libraries, which take seconds to import
        from steel.kaggle import bundle

        bundle.run(paths, folds, owner, options.force)
    elif found.what == "test":
        from steel.kaggle import dryrun

        dryrun.run(paths, folds, found.images)
    elif found.what == "push":
        from steel.kaggle import push

        push.run(paths, folds, found.yes, options.force)
    elif found.what == "submit":
        from steel.kaggle import leaderboard

        leaderboard.run(paths, folds, found.yes, found.message, options.force)
    else:
        from steel.kaggle.training import training_of

        training = training_of(paths, found.model, folds, found.owner)  # as above
        from steel.kaggle import train_there

        train_there.run(training, found.yes, options.force)


def _kernel_parsers() -> tuple[Parser, dict[str, Parser]]:
    """The parser of `steel kernel`, and those of its commands."""
    about = {
        "bundle": "Write kernels/SOLUTION/: the kernel, its dataset, their metadata. Nothing leaves the machine.",
        "test": "Run the bundle here as Kaggle would, and compare its submission with the local one, byte by byte.",
        "push": "Send the tested bundle to Kaggle, wait for its run there, and compare its submission with the local.",
        "submit": "Submit the version that was pushed and compared, wait for its score, and log it.",
        "train": "Train a model on Kaggle's GPU. Without --yes nothing leaves the machine: the kernel is tried here.",
    }
    parser = Parser("steel kernel", description="A finished solution as a Kaggle kernel.", allow_abbrev=False)
    each = _commands(parser, about, Parser)
    for one in each.values():
        one.add_argument("config", metavar="CONFIG", help="YAML of a solution; --key value overrides as in a stage")
    for name in ("bundle", "train"):
        each[name].add_argument("--owner", metavar="NAME", help="Kaggle user [that of the Kaggle token]")
    about_images = "strips to run on, and to predict here for comparison [the test set and its submission]"
    each["test"].add_argument("--images", type=Path, metavar="DIR", help=about_images)
    for name in ("push", "submit", "train"):
        each[name].add_argument("--yes", action="store_true", help="do it; without, only say what would be done")
    each["submit"].add_argument("--message", metavar="TEXT", help="description on Kaggle [solution, version, CV]")
    each["train"].add_argument("--model", metavar="NAME", required=True, help="the model to train")
    each["train"].epilog = (
        "As for a stage: --folds 0,1 trains on these folds alone, in one kernel [all]; --force sends it anew, though "
        "an earlier version, or another kernel of the same folds, may still run."
    )
    return parser, each


# By name.
BESIDE = {"score": score, "show": show, "compare": compare, "submission": submission, "kernel": kernel}
