"""What runs inside the training kernel: the stages from the competition's images to run folders, as at home.

Only the run folders lie in /kaggle/working, all of which becomes the kernel's output, at most 20 GB. The cache of all
strips, 12.4 GB, lies in /kaggle/temp beside it, which Kaggle forgets.
"""

import contextlib
import shutil
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2

from steel import files, specs, stage
from steel.config import Solution
from steel.config_json import from_json
from steel.data import prepare, split
from steel.errors import UserError, shorten
from steel.fit import train
from steel.kaggle.layout import SOLUTION
from steel.paths import Paths
from steel.progress import say
from steel.stage import RECORD

JOB, FOLDS, RESULT = "job.json", "folds.csv", "result.json"
DONE, STOPPED, FAILED = "done", "stopped", "failed"


@dataclass(frozen=True)
class Job:
    """What a kernel is to do.

    Attributes:
        model: the one to train.
        folds: on these, in order.
        limit_s: no epoch is to begin that would end later, after the kernel's start.
        cache: digest of each array and index that training reads, as prepared at home.
    """

    model: str
    folds: list[int]
    limit_s: float
    cache: dict[str, str]


@dataclass(frozen=True)
class Result:
    """What came of it until now: written after each fold, for what is stopped from outside comes to no end.

    Attributes:
        ended: how each fold that was begun ended: DONE, STOPPED, or FAILED and why.
        continued: the folds that went on from a checkpoint.
        keys: what each was trained from, as `stage.Spec.key`.
        files: digest of each file of the run folders, by its path.
    """

    ended: dict[str, str]
    continued: list[int]
    keys: dict[str, str]
    files: dict[str, str]


def checkpoint_name(fold: int) -> str:
    """File of a fold's unfinished training in the dataset."""
    return f"fold{fold}.last.pt"


def weights_name(weights: Path) -> str:
    """File of an encoder's pretrained weights in the dataset."""
    return f"encoder{weights.suffix}"


def run(competition: Path, dataset: Path, working: Path) -> None:
    """Train a model on some folds; leave `working/runs/`, and in `working/result.json` how each fold has ended.

    It ends in time to keep what it has: the time limit of the job stops it after an epoch, with a checkpoint.
    """
    start = time.monotonic()
    job = from_json(Job, files.read_json(dataset / JOB))
    solution = from_json(Solution, files.read_json(dataset / SOLUTION))
    paths = Paths(replace(solution, data=replace(solution.data, raw=str(competition.absolute()))))
    scratch = working.parent / "temp"
    working = working.absolute()
    continued = lay_out(paths, job, dataset.absolute(), working, scratch)
    ended: dict[str, str] = {}
    with contextlib.chdir(scratch):
        try:
            prepare_data(paths, job)
            keys = {str(fold): specs.of_training(paths, job.model, fold).key for fold in job.folds}
        except UserError as fault:
            raise SystemExit(f"kernel: {fault}") from None
        for fold, how in train_folds(paths, job, train.Deadline(start + job.limit_s)):
            ended[str(fold)] = how
            files.write_json(working / RESULT, vars(Result(ended, continued, keys, digests(working))))
    for name, how in ended.items():
        say(f"kernel: {job.model} fold {name} {how}")
    say(f"kernel: {time.monotonic() - start:.0f} s")
    if all(how.startswith(FAILED) for how in ended.values()):
        raise SystemExit(f"kernel: no fold of {job.model} could be trained; the reasons stand above")


def lay_out(paths: Paths, job: Job, dataset: Path, working: Path, scratch: Path) -> list[int]:
    """Make the working directory of the stages; give the folds of which a checkpoint is there to go on from."""
    (working / "runs").mkdir(parents=True, exist_ok=True)
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "runs").symlink_to(working / "runs")
    (scratch / paths.folds).parent.mkdir()
    shutil.copyfile(dataset / FOLDS, scratch / paths.folds)
    weights = paths.solution.models[job.model].weights
    if weights and (dataset / weights_name(Path(weights))).exists():
        (scratch / weights).parent.mkdir(parents=True, exist_ok=True)
        (scratch / weights).symlink_to(dataset / weights_name(Path(weights)))
    continued = [fold for fold in job.folds if (dataset / checkpoint_name(fold)).exists()]
    for fold in continued:
        folder = scratch / paths.fold(job.model, fold)
        folder.mkdir(parents=True)
        shutil.copyfile(dataset / checkpoint_name(fold), folder / "last.pt")
    return continued


def prepare_data(paths: Paths, job: Job) -> None:
    """Prepare images and split by their stages; a UserError unless they are those of home."""
    train.check(paths, job.model)  # it takes seconds, the images minutes
    stage.ensure(prepare.spec(paths), partial(prepare.make, paths, paths.solution.machine.workers))
    stage.ensure(split.spec(paths), partial(split.make, paths, False))
    here = prepared(paths)
    if differing := [name for name, value in job.cache.items() if here[name] != value]:
        raise UserError(
            f"{shorten(differing)} of {paths.raw} are not those of home: other images or labels, "
            f"or they are decoded otherwise (here by OpenCV {cv2.__version__}); allowed: equal ones"
        )


def prepared(paths: Paths) -> dict[str, str]:
    """Digest of each file of the cache that training reads, as its stage recorded them."""
    outputs = files.read_json(paths.cache / RECORD)["outputs"]
    return {name: outputs[str(paths.cache / name)] for name in specs.TRAIN_PARTS}


def digests(working: Path) -> dict[str, str]:
    """Digest of each file of the run folders, by its path."""
    found = sorted(path for path in (working / "runs").rglob("*") if path.is_file() and path.name[0] != ".")
    return {str(path.relative_to(working)): files.sha256(path) for path in found}


def train_folds(paths: Paths, job: Job, deadline: train.Deadline) -> Iterator[tuple[int, str]]:
    """Train fold after fold as long as there is time for an epoch; each that was begun, and how it ended."""
    for fold in job.folds:
        if fold != job.folds[0] and not deadline.allows_epoch():
            return
        how = _train(paths, job.model, fold, deadline)
        yield fold, how
        if how == STOPPED:
            return


def _train(paths: Paths, model: str, fold: int, deadline: train.Deadline) -> str:
    """Train on one fold as the stage does. Whatever fails must not take the hours of the other folds with it."""
    try:
        spec = specs.of_training(paths, model, fold)
        stage.ensure(spec, partial(train.make, paths, model, fold, deadline))
    except train.OutOfTime as stop:
        say(str(stop))
        return STOPPED
    except UserError as fault:
        return f"{FAILED}: {fault}"
    except Exception as error:
        traceback.print_exc()
        return f"{FAILED}: {type(error).__name__}: {shorten(str(error).splitlines(), 1)}"
    return DONE
