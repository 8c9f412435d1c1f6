"""What comes down from a training kernel: run folders, checked, and put where the local stages take them as trained."""

import shutil
from pathlib import Path

from steel import files, specs, stage
from steel.config_json import from_json
from steel.errors import UserError
from steel.fit.checkpoint import epochs_done
from steel.kaggle.train_kernel import DONE, FAILED, RESULT, STOPPED, Result
from steel.paths import Paths
from steel.progress import say
from steel.stage import RECORD, Spec

# In this order: the record last, so that it never stands beside files that it does not describe.
TAKEN = ("log.jsonl", "config.json", "env.json", "last.pt", "weights.safetensors", RECORD)


def adopt(paths: Paths, model: str, output: Path, ended_well: bool = True) -> Result:
    """Take over the run folders of a kernel's output; give how each fold ended.

    The record comes as it was written there, with the device, versions and code of there; the stage judges it as that
    of a training on any other machine. Refused is a fold that was trained from something else than the solution now
    asks for, or that is being trained here; left, and told, one that was finished here meanwhile, or has come further
    here. A file that is not the one that was written there is refused, for it can be fetched again; but if the kernel
    has not `ended_well`, it may be torn there, and its fold is left.
    """
    if not (output / RESULT).exists():
        raise UserError(f"{output} has no {RESULT}: the kernel did not come to its end; its log lies there")
    result = from_json(Result, files.read_json(output / RESULT))
    for fold, how in result.ended.items():
        if how.startswith(FAILED):
            continue
        spec = specs.of_training(paths, model, int(fold))
        _check(spec, result, fold, output)
        torn = _torn(spec, result, output)
        if _stands_otherwise(spec, output):
            say(f"{spec.name}: finished here meanwhile, and kept; what the kernel has trained of it is left")
        elif torn and ended_well:
            raise UserError(f"{torn} is not the file that the kernel wrote: start it again, it is fetched anew")
        elif torn:
            say(f"{spec.name}: {torn} did not come whole from the kernel; nothing is taken over of this fold")
        elif how == STOPPED and (ahead := _ahead(spec, output)):
            say(f"{spec.name}: {ahead}")
        else:
            _take(spec, result, int(fold), output)
    return result


def _check(spec: Spec, result: Result, fold: str, output: Path) -> None:
    """Refuse what is not this training's, or is being trained here."""
    if result.keys[fold] != spec.key:
        raise UserError(
            f"{output}: {spec.name} was trained from another configuration, cache or split than the solution has now; "
            "allowed: the same"
        )
    state = stage.look(spec)
    if state.kind == "running":
        raise UserError(f"{spec.name} is running here ({state.why}): stop it, and start this again")


def _stands_otherwise(spec: Spec, output: Path) -> bool:
    """Whether it stands here, and not because this very output was taken over before a kill."""
    found, record = output / spec.folder / RECORD, spec.folder / RECORD
    return stage.look(spec).usable and not (found.exists() and found.read_bytes() == record.read_bytes())


def _ahead(spec: Spec, output: Path) -> str:
    """What to say of a training that has come further here than there; nothing if it has not."""
    assert spec.partial is not None
    here, there = (epochs_done(path, spec.key) for path in (spec.partial, output / spec.partial))
    return f"after epoch {here} here, and kept; the kernel has stopped after epoch {there}" if here > there else ""


def _torn(spec: Spec, result: Result, output: Path) -> Path | None:
    """A file of a fold that is not as the kernel wrote it."""
    for name, value in result.files.items():
        path = output / name
        if Path(name).is_relative_to(spec.folder) and (not path.exists() or files.sha256(path) != value):
            return path
    return None


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
