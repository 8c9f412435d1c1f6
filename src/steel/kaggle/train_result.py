"""What comes down from a training kernel: run folders, checked, and put where the local stages take them as trained."""

import shutil
from pathlib import Path

from steel import files, specs, stage
from steel.config_json import from_json
from steel.errors import UserError
from steel.kaggle.train_kernel import DONE, FAILED, RESULT, Result
from steel.paths import Paths
from steel.stage import RECORD, Spec

# In this order: the record last, so that it never stands beside files that it does not describe.
TAKEN = ("log.jsonl", "config.json", "env.json", "last.pt", "weights.safetensors", RECORD)


def adopt(paths: Paths, model: str, output: Path) -> Result:
    """Take over the run folders of a kernel's output; give how each fold ended.

    The record comes as it was written there, with the device, versions and code of there; the stage judges it as that
    of a training on any other machine. Nothing is taken of a fold that was trained from something else than the
    solution now asks for, that is being trained here, or of which a file is not the one that was written there.
    """
    if not (output / RESULT).exists():
        raise UserError(f"{output} has no {RESULT}: the kernel did not come to its end; its log lies there")
    result = from_json(Result, files.read_json(output / RESULT))
    for fold, how in result.ended.items():
        if how.startswith(FAILED):
            continue
        spec = specs.of_training(paths, model, int(fold))
        _check(spec, result, fold, output)
        _take(spec, result, int(fold), output)
    return result


def _check(spec: Spec, result: Result, fold: str, output: Path) -> None:
    """Refuse what is not this training's, or not whole."""
    if result.keys[fold] != spec.key:
        raise UserError(
            f"{output}: {spec.name} was trained from another configuration, cache or split than the solution has now; "
            "allowed: the same"
        )
    state = stage.look(spec)
    if state.kind == "running":
        raise UserError(f"{spec.name} is running here ({state.why}): stop it, and start this again")
    for name, value in result.files.items():
        path = output / name
        if Path(name).is_relative_to(spec.folder) and (not path.exists() or files.sha256(path) != value):
            raise UserError(f"{path} is not the file that the kernel wrote: start it again, it is fetched anew")


def _take(spec: Spec, result: Result, fold: int, output: Path) -> None:
    """Copy one run folder file by file; a kill leaves what was there, or what can be taken again."""
    found = output / spec.folder
    events = spec.folder / "events"
    if fold not in result.continued:
        files.remove(events)
    for path in sorted((found / "events").glob("*")):
        _copy(path, events / path.name)
    for name in TAKEN:
        if (found / name).exists():
            _copy(found / name, spec.folder / name)
    if result.ended[str(fold)] == DONE and spec.partial is not None:
        files.remove(spec.partial)


def _copy(source: Path, target: Path) -> None:
    with files.atomic(target) as temporary:
        shutil.copyfile(source, temporary)
