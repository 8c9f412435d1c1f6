"""Stage `train`: one model on one fold, from the cache to weights; killed at any moment, it ends with the same bits."""

import json
import math
import re
import resource
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from steel import files, specs
from steel.data import on_device
from steel.data.augment import augmenter
from steel.data.cache import Strips, open_strips
from steel.data.folds import draw_groups, fold_of, group_of
from steel.device import amp_dtype, check_training, for_training, open_device
from steel.errors import UserError, shorten
from steel.fit import dist
from steel.fit.checkpoint import save_weights
from steel.fit.recompute import recompute_blocks
from steel.fit.schedules import lr_at
from steel.fit.trainer import Trainer, loss_of, optimizer_of
from steel.nets.build import build
from steel.paths import Paths
from steel.progress import say, track
from steel.stage import THEN, Spec, source_digest

HIGH_WATER = Path("/proc/self/clear_refs")  # on Linux

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class OutOfTime(Exception):
    """A training stopped before its deadline; its checkpoint stands, and it goes on from there."""


@dataclass
class Deadline:
    """When trainings must have ended, s of `time.monotonic`; each of them notes here how long its epochs last.

    What one training has shown counts for the next, whose first epoch would else begin unjudged.
    """

    end_s: float = math.inf
    longest_s: float = 0.0

    def note(self, epoch_s: float) -> None:
        """Take in how long an epoch has lasted, with all that follows it."""
        self.longest_s = max(self.longest_s, epoch_s)

    def allows_epoch(self) -> bool:
        """Whether another epoch, as long as the longest yet, would end in time."""
        return time.monotonic() + self.longest_s <= self.end_s


def check(paths: Paths, name: str) -> None:
    """Refuse a model whose names or options do not exist, before other models are trained for hours."""
    model, machine = paths.solution.models[name], paths.solution.machine
    check_training(machine)
    try:
        dist.check_batches(model, sys.maxsize, machine.devices)
        amp_dtype(model.amp, open_device(machine))
        loss_of(model, 4, [1, 1, 1, 1])
        augmenter(model.augment)
        if machine.sampling == "device":
            on_device.check(model)
        lr_at(0, 1, 1.0, 0, model.schedule)
        net = build(model)
        if machine.checkpoint_gradients:
            recompute_blocks(net)
        optimizer_of(net, model)
    except UserError as error:
        raise UserError(f"models.{name}: {error}") from None


def make(paths: Paths, name: str, fold: int, deadline: Deadline | None = None) -> dict[Path, str]:
    """Train, or go on training; give the digest of the weights.

    Raises OutOfTime after the checkpoint of an epoch if the deadline allows no other. One epoch is always trained.
    """
    check_training(paths.solution.machine)
    title, weights = f"train {name} fold {fold}", paths.fold(name, fold) / "weights.safetensors"
    dist.launch(paths.solution.machine, title, fit, paths, name, fold, deadline or Deadline())
    return {weights: files.sha256(weights)}


def fit(paths: Paths, name: str, fold: int, deadline: Deadline) -> None:
    """The training itself, in one process or in each of several, of which the first writes what is left behind."""
    job = specs.of_training(paths, name, fold)
    model, machine = paths.solution.models[name], for_training(paths.solution)
    strips = open_strips(paths.cache, "train")
    held = fold_of(paths.folds, strips.image_ids) == fold
    rows, inner = _rows(paths, name, fold, strips, held)
    trainer = Trainer(model, machine, strips, rows, model.seed * 100 + fold, inner)
    done, log = trainer.restore(job.partial, job.key)
    n_epochs = sum(phase.epochs for phase in model.phases)
    if done:
        say(f"{job.name}: continues after epoch {done} of {n_epochs}{_changed(trainer.origin, job)}")
    trainer.origin = _joined(trainer.origin, _origin(job))
    first = dist.rank() == 0
    with _events(job.folder / "events", done) if first else nullcontext() as events:
        for epoch in track(range(done, n_epochs), job.name, "epochs", n_epochs, done):
            begun = time.monotonic()
            look_at = np.flatnonzero(held) if trainer.looks(epoch) else None
            log.append(_run_epoch(trainer, job.name, epoch, look_at, log))
            if done and epoch == done:
                log[-1]["resumed"] = True
            if events:
                _write_log(job.folder, log)
                _write_events(events, log[-1])
            if first and epoch + 1 < n_epochs:
                trainer.save(job.folder / "last.pt", job.key, epoch + 1, log)
            deadline.note(time.monotonic() - begun)
            if epoch + 1 < n_epochs and not dist.agreed(deadline.allows_epoch(), trainer.device):
                raise OutOfTime(f"{job.name}: stopped after epoch {epoch + 1} of {n_epochs}, for want of time")
    if first:
        save_weights(job.folder / "weights.safetensors", trainer.average.values)
        files.write_json(job.folder / "config.json", job.config)
        assert job.made_by is not None
        files.write_json(job.made_by, trainer.origin)


def _rows(
    paths: Paths, name: str, fold: int, strips: Strips, held: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """The rows to train on, and those kept from it to judge the epochs on, if the best ones ship."""
    model = paths.solution.models[name]
    rows = np.flatnonzero(~held & (strips.areas.any(1) if model.rows == "defects" else True))
    if not len(rows):
        raise UserError(
            f"models.{name}.rows: {model.rows} leaves no strip to train on beside fold {fold}; allowed: all"
        )
    if not model.best_epochs:
        return rows, None
    group = np.array(group_of(paths.folds, strips.image_ids))[rows]
    if len(set(group)) < 2:
        raise UserError(f"models.{name}.best_epochs: no strips to judge epochs on beside fold {fold}; allowed: 0")
    chosen = draw_groups(group.tolist(), model.inner_share, model.seed * 100 + fold)
    return rows[~chosen], rows[chosen]


def _origin(job: Spec) -> dict[str, str]:
    """What a training runs on, beside what it is made from."""
    return {"code": source_digest(job.code), **job.env}


def _changed(before: Mapping[str, str], job: Spec) -> str:
    """A warning if a training is continued on another footing: it ends with other bits than an undisturbed one."""
    now, last = _origin(job), {key: value.split(THEN)[-1] for key, value in before.items()}
    found = [f"{key}: {last[key]} -> {now[key]}" for key in last.keys() & now if last[key] != now[key]]
    return f", on another footing than before ({shorten(sorted(found))})" if found else ""


def _joined(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """What a training has run on from its first epoch to now: where that changed, one after the other."""
    joined = {}
    for key, value in now.items():
        so_far = before.get(key, value)
        joined[key] = so_far if so_far.split(THEN)[-1] == value else so_far + THEN + value
    return joined


def _run_epoch(
    trainer: Trainer, name: str, epoch: int, held: NDArray[np.int64] | None, log: list[dict[str, Any]]
) -> dict[str, Any]:
    """Train one epoch and look at the held-out rows, if any; give the row of the log, which holds all epochs before."""
    start = time.monotonic()
    n_epochs = trainer.n_epochs
    _reset_peak(trainer.device)
    report = trainer.epoch(epoch, f"{name} epoch {epoch + 1}/{n_epochs}", [row["loss"] for row in log])
    row: dict[str, Any] = {"epoch": epoch + 1, "loss": report.loss, "lr": report.lr, "steps": report.steps}
    row["train_s"] = round(time.monotonic() - start, 3)
    if report.inner is not None:
        row["inner_mean"] = report.inner
    if held is None:
        return row | {"peak_mb": _peak_mb(trainer.device)}
    score = trainer.validate(held, f"{name} held out")
    row |= {"score": score.as_dict(), "seconds": round(time.monotonic() - start, 3)}
    row["peak_mb"] = _peak_mb(trainer.device)
    inner = "" if report.inner is None else f"inner mean {report.inner:.4f}, "
    say(
        f"{name} epoch {epoch + 1}/{n_epochs}: loss {report.loss:.4f}, {inner}held-out mean {score.mean:.4f}, "
        f"positive-only {score.positive:.4f}, {row['seconds']:.1f} s"
    )
    return row


def _reset_peak(device: torch.device) -> None:
    """Let the most memory held be that from now on, where the system allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif HIGH_WATER.exists():
        with suppress(OSError):  # where it may not be written, the peak is that of the whole process
            HIGH_WATER.write_text("5")  # see proc_pid_clear_refs(5): the peak becomes what is held now


def _peak_mb(device: torch.device) -> float:
    """Most memory held since `_reset_peak`, MB (10**6 bytes): on a GPU by tensors, on a CPU by this process."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
    status = HIGH_WATER.with_name("status")
    if found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None:
        return round(int(found[1]) * 1024 / 1e6, 1)
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def _write_log(folder: Path, log: list[dict[str, Any]]) -> None:
    with files.atomic(folder / "log.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in log))


def _events(folder: Path, done: int) -> "SummaryWriter":
    """A writer of TensorBoard events that goes on after `done` epochs."""
    from torch.utils.tensorboard import SummaryWriter  # 1 s to import: only where it is used

    if not done:
        files.remove(folder)
    return SummaryWriter(str(folder), purge_step=done + 1 if done else None)


def _write_events(events: "SummaryWriter", row: dict[str, Any]) -> None:
    events.add_scalar("train/loss", row["loss"], row["epoch"])
    events.add_scalar("train/lr", row["lr"], row["epoch"])
    if "inner_mean" in row:
        events.add_scalar("inner/mean", row["inner_mean"], row["epoch"])
    if "score" in row:
        events.add_scalar("held_out/mean", row["score"]["mean"], row["epoch"])
        if row["score"]["positive"] is not None:
            events.add_scalar("held_out/positive", row["score"]["positive"], row["epoch"])
    events.flush()
