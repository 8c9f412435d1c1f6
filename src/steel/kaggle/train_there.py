"""`steel kernel train`: a model trained on Kaggle's GPU; its run folders come back as if it had been trained here.

Nothing leaves the machine without --yes. Which version was sent, and what it trains from, is noted beside the bundle
until its run folders are taken over, so that a killed command goes on where it was: a version that runs is waited for,
and not sent again. Of a kernel that ended badly, what it had finished is taken over.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from steel import files, specs, stage
from steel.data import prepare, split
from steel.errors import UserError, shorten
from steel.fit import train
from steel.kaggle import client, parts, remote, train_bundle, train_result, train_trial
from steel.kaggle.train_kernel import FAILED, RESULT
from steel.kaggle.training import Training
from steel.paths import Paths
from steel.progress import say
from steel.stage import Spec

UNDER_WAY, OUTPUT = "under_way.json", "output"


def run(training: Training, yes: bool, force: bool = False) -> None:
    """Train a model on Kaggle, on those of some folds that do not stand here.

    Without `yes`: pack, try the kernel here, and say what would be sent. With it: send, wait, fetch, take over.
    `force`: send anew, though an earlier version, or another kernel of the same folds, may still run.
    """
    paths = training.paths
    if yes:
        remote.refuse_made_up(paths.solution)
    stage.need(prepare.spec(paths), "kernel train")
    stage.need(split.spec(paths), "kernel train")
    if force and yes:
        _forget(training)
    known = _under_way(training)
    left = _left(training)
    if not known and not left:
        stands = f"{training.model} stands on the folds {_numbers(training.folds)}"
        say(f"kernel train: {stands}; nothing is to be trained there")
        return
    if not known:
        if not force:
            _refuse_sent(training, left)
        _pack(training, left)
    if not yes:
        _tell(training, left, known)
        return
    if not known:
        _send(training, left)
    _collect(training)


def _left(training: Training) -> list[int]:
    """The folds that do not stand."""
    states = {k: stage.look(_spec(training, k)) for k in training.folds}
    if running := [str(state) for state in states.values() if state.kind == "running"]:
        raise UserError(f"kernel train: {training.model} is {running[0]} here; allowed: one place at a time")
    return [k for k, state in states.items() if not state.usable]


def _refuse_sent(training: Training, left: Sequence[int]) -> None:
    """A UserError if the kernel of another list of folds has one of these under way: it would be trained twice."""
    for path in sorted(training.folder.parent.glob(f"{training.stem}*/{UNDER_WAY}")):
        listed = path.parent.name.removeprefix(training.stem)
        if not re.fullmatch(r"\d+(-\d+)*", listed):  # of another model, whose name begins like this one's
            continue
        known = files.read_json(path)
        if sent := [k for k in left if str(k) in known["keys"]]:
            line = f"steel kernel train CONFIG --model {training.model} --folds {listed.replace('-', ',')} --yes"
            raise UserError(
                f"kernel train: {known['kernel']} is under way with the folds {_numbers(sent)}; "
                f"allowed: `{line}`, which waits for it, or --force to send them a second time"
            )


def _pack(training: Training, left: Sequence[int]) -> None:
    """Bring the bundle up to date, and its dry run."""
    solution, model = training.paths.solution, training.model
    train_bundle.weights_file(training.config)
    train.check(Paths(replace(solution, models={model: train_trial.reduced_model(training.config)})), model)
    stage.ensure(train_bundle.spec(training, left), lambda: train_bundle.make(training, left))
    if not parts.passed(training.folder):
        train_trial.run(training, left[0])


def _tell(training: Training, left: Sequence[int], known: dict[str, Any]) -> None:
    """Say what would be done."""
    kernel, dataset = training.names
    if known:
        say(f"kernel train: {known['kernel']} is under way; with --yes it is waited for and fetched")
        return
    sizes = [path.stat().st_size for path in (training.folder / "dataset").rglob("*") if path.is_file()]
    internet = "with internet, for the imagenet weights" if training.internet else "without internet"
    say(f"kernel train: would send the dataset {dataset} ({len(sizes)} files, {sum(sizes) / 1e6:.1f} MB)")
    say(f"kernel train: would send and run the kernel {kernel}, on a GPU T4 {internet}")
    say(f"kernel train: it trains {training.model} on the folds {_numbers(left)}")
    say(f"kernel train: all of it lies in {training.folder}; nothing has left this machine; with --yes it is sent")


def _send(training: Training, left: Sequence[int]) -> None:
    """Send dataset and kernel; note what was sent."""
    api = client.open_api()
    remote.send_dataset(api, training.folder / "dataset")
    # A version of these very files that was not taken over yet: the last command was killed before it noted it.
    version = remote.standing_kernel(api, training.folder) or remote.send_kernel(api, training.folder)
    keys = {str(k): _spec(training, k).key for k in left}
    kernel = f"{training.names[0]}/{version}"
    files.write_json(training.folder / UNDER_WAY, {"kernel": kernel, "keys": keys})


def _collect(training: Training) -> None:
    """Wait for the version that was sent, fetch what it left, take it over, and say what is left to do."""
    known = _under_way(training)
    kernel, output = known["kernel"], training.folder / OUTPUT
    for fold, key in known["keys"].items():
        if _spec(training, int(fold)).key != key:
            raise UserError(
                f"kernel {kernel} trains fold {fold} from another configuration, cache or split than the solution has "
                "now; allowed: the same, or --force to send it anew"
            )
    api = client.open_api()
    failure = None
    try:
        remote.wait_kernel(api, kernel)
    except remote.KernelFailed as fault:
        failure = fault
    files.remove(output)
    remote.fetch_output(api, kernel, output)
    ended = _take_over(training, output, failure)
    files.remove(output / "runs")
    _forget(training)
    if failure:
        raise failure
    if failed := [f"fold {fold} {how}" for fold, how in ended.items() if how.startswith(FAILED)]:
        raise UserError(f"kernel train: {shorten(failed)}; its log lies in {output}")
    if left := _left(training):
        say(f"kernel train: the time was up; the folds {_numbers(left)} are not finished: run it again, it continues")


def _take_over(training: Training, output: Path, failure: Exception | None) -> dict[str, str]:
    """Take over what a kernel left and tell how its folds stand now; how each ended there.

    A kernel that failed, or that Kaggle stopped, may have left nothing.
    """
    if failure and not (output / RESULT).exists():
        return {}
    if failure:
        say("kernel train: the kernel did not end well; the folds that it had ended before:")
    ended = train_result.adopt(training.paths, training.model, output, ended_well=not failure).ended
    for fold in ended:
        spec = _spec(training, int(fold))
        say(f"{spec.name}: {stage.look(spec)}")
    return ended


def _forget(training: Training) -> None:
    """Note that what was sent is waited for no more: the next time it is sent anew."""
    remote.note(training.folder, kernel=None)
    files.remove(training.folder / UNDER_WAY)


def _under_way(training: Training) -> dict[str, Any]:
    """What was sent and is not yet taken over: kernel and version, keys of its trainings by fold; empty for nothing."""
    path = training.folder / UNDER_WAY
    return files.read_json(path) if path.exists() else {}


def _spec(training: Training, fold: int) -> Spec:
    return specs.of_training(training.paths, training.model, fold)


def _numbers(folds: Sequence[int]) -> str:
    return ", ".join(map(str, folds))
