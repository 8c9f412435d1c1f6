"""Stage `train`: one model on one fold, from the cache to weights; killed at any moment, it ends with the same bits."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from steel import files, metrics, specs
from steel.config import MachineConfig, ModelConfig
from steel.data.augment import augmenter
from steel.data.cache import Strips, open_strips
from steel.data.dataset import Crops, Sampling, presence, unpack
from steel.data.folds import fold_of
from steel.device import amp_dtype, for_training, open_device
from steel.errors import UserError
from steel.fit.checkpoint import load_checkpoint, save_checkpoint, save_weights
from steel.fit.optim import Ema, lr_at, optimizer_for, place_of
from steel.nets.build import build, place
from steel.nets.losses import mixed
from steel.paths import Paths
from steel.progress import say, track
from steel.workers import cores

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOOK_EVERY = 50  # steps between two looks at whether the loss is still a number
VALIDATION_BATCH = 4  # strips


def check(paths: Paths, name: str) -> None:
    """Refuse a model whose names or options do not exist, before other models are trained for hours."""
    model = paths.solution.models[name]
    try:
        amp_dtype(model.amp, open_device(paths.solution.machine))
        mixed(model.loss)
        augmenter(model.augment)
        build(model)
    except UserError as error:
        raise UserError(f"models.{name}: {error}") from None


def make(paths: Paths, name: str, fold: int) -> dict[Path, str]:
    """Train, or go on training; give the digest of the weights."""
    job = specs.of_training(paths, name, fold)
    model, machine = paths.solution.models[name], for_training(paths.solution)
    strips = open_strips(paths.cache, "train")
    held = fold_of(paths.folds, strips.image_ids) == fold
    trainer = Trainer(model, machine, strips, np.flatnonzero(~held), seed=model.seed * 100 + fold)
    done, log = trainer.restore(job.partial, job.key)
    n_epochs = sum(phase.epochs for phase in model.phases)
    if done:
        say(f"{job.name}: continues after epoch {done} of {n_epochs}")
    with _events(job.folder / "events", done) as events:
        for epoch in track(range(done, n_epochs), job.name, "epochs", n_epochs, done):
            look = (epoch + 1) % model.validate_every == 0 or epoch + 1 == n_epochs
            log.append(_run_epoch(trainer, job.name, epoch, np.flatnonzero(held) if look else None))
            _write_log(job.folder, log)
            _write_events(events, log[-1])
            if epoch + 1 < n_epochs:
                trainer.save(job.folder / "last.pt", job.key, epoch + 1, log)
    save_weights(job.folder / "weights.safetensors", trainer.ema.values)
    files.write_json(job.folder / "config.json", job.config)
    files.write_json(job.folder / "env.json", job.env)
    return {job.folder / "weights.safetensors": files.sha256(job.folder / "weights.safetensors")}


@dataclass
class Report:
    """What one epoch of training gave."""

    loss: float
    lr: float
    steps: int


class Trainer:
    """Net, optimizer and moving average of one training, and how they advance by an epoch.

    Every random choice of epoch e is a pure function of (seed, e): samples, augmentation, dropout. A checkpoint after
    an epoch therefore holds no random state, and a resumed training equals an uninterrupted one.
    """

    def __init__(
        self, model: ModelConfig, machine: MachineConfig, strips: Strips, rows: NDArray[np.int64], seed: int
    ) -> None:
        self.model, self.machine, self.strips, self.rows, self.seed = model, machine, strips, rows, seed
        self.device = open_device(machine)
        torch.manual_seed(seed)
        self.net = place(build(model), self.device)
        self.optimizer = optimizer_for(self.net, model)
        self.loss = mixed(model.loss)
        self.dtype = amp_dtype(model.amp, self.device)
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.dtype is torch.float16)
        self.ema = Ema(self.net, model.ema)

    def epoch(self, epoch: int, title: str) -> Report:
        """Train one epoch (global number from 0)."""
        at = place_of(epoch, self.model.phases)
        loader = self._loader(epoch)
        n_steps = -(-len(loader) // self.model.accumulate)
        torch.manual_seed(self.seed * 100_003 + epoch)
        self.net.train()
        total, lr = torch.zeros((), device=self.device), 0.0
        for i, (image, bits) in enumerate(track(loader, title, "batches")):
            step = i // self.model.accumulate
            lr = lr_at(at.epoch * n_steps + step, at.phase.epochs * n_steps, at.phase.lr, self.model.warmup_steps)
            total += self._backward(image, bits)
            if (i + 1) % self.model.accumulate == 0 or i + 1 == len(loader):
                self._step(lr)
            if (i + 1) % LOOK_EVERY == 0 or i + 1 == len(loader):
                self._check("loss", total, title)
        weights = [value.sum() for value in self.ema.values.values() if value.is_floating_point()]
        self._check("sum of the weights", torch.stack(weights).sum(), title)
        return Report(float(total) / len(loader), lr, n_steps)

    def _loader(self, epoch: int) -> DataLoader:
        phase, model = place_of(epoch, self.model.phases).phase, self.model
        n = phase.samples or len(self.rows)
        sampling = Sampling(self.rows, phase.width, n, model.defect_share, model.augment, self.seed)
        workers = (
            self.machine.workers
            if self.machine.workers is not None
            else 0
            if self.device.type == "cpu"
            else min(8, cores())
        )
        return DataLoader(
            Crops(self.strips, sampling, epoch),
            batch_size=min(phase.batch, n),
            drop_last=True,  # batch norm dislikes batches of one
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,  # shares the memory maps; nothing has to be pickled
            worker_init_fn=_pin_worker,
            pin_memory=self.device.type == "cuda",
        )

    def _backward(self, image: Tensor, bits: Tensor) -> Tensor:
        """Add the gradients of one batch; give its loss."""
        image, bits = image.to(self.device, non_blocking=True), bits.to(self.device, non_blocking=True)
        target = unpack(bits, self.model.downscale) if self.model.kind == "segmenter" else presence(bits)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            logits = self.net(image.unsqueeze(1), full_size=False)  # (B, 4, H / downscale, W / downscale) or (B, 4)
        loss = self.loss(logits.float(), target)
        self.scaler.scale(loss / self.model.accumulate).backward()
        return loss.detach()

    def _step(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.net.parameters(), self.model.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.net)

    def _check(self, what: str, total: Tensor, title: str) -> None:
        if not torch.isfinite(total):
            raise UserError(
                f"{title}: the {what} is {float(total)}; the last good checkpoint is kept. "
                f"Lower the learning rate (lr) or clip, or train in fp32 (amp: fp32)"
            )

    @torch.no_grad()
    def validate(self, rows: NDArray[np.int64], title: str) -> metrics.Score:
        """Score of the averaged weights on held-out rows at threshold 0.5, in row order, without padding or repeats.

        For a classifier a class is one pixel: the mean is its accuracy, the positive-only Dice its recall.
        """
        shadow = place(build(self.model, pretrained=False), self.device)
        shadow.load_state_dict(self.ema.values)
        shadow.eval()
        assert self.strips.masks is not None
        found: list[NDArray[np.int64]] = []
        for start in track(range(0, len(rows), VALIDATION_BATCH), title, "batches"):
            part = rows[start : start + VALIDATION_BATCH]
            image = torch.from_numpy(self.strips.images[part]).to(self.device).unsqueeze(1)  # (B, 1, H, W)
            bits = torch.from_numpy(self.strips.masks[part]).to(self.device)
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
                pred = shadow(image) > 0
            true = (unpack(bits) if self.model.kind == "segmenter" else presence(bits)) > 0
            pixels = [x.flatten(2).sum(2) if x.ndim == 4 else x.long() for x in (pred, true, pred & true)]
            found.append(torch.stack(pixels).cpu().numpy())
        pred_px, true_px, overlap_px = np.concatenate(found, axis=1)  # each (n, 4)
        return metrics.score(pred_px, true_px, overlap_px)

    def save(self, path: Path, key: str, done: int, log: list[dict[str, Any]]) -> None:
        """Write a checkpoint after `done` epochs."""
        state = {
            "key": key,
            "done": done,
            "log": json.dumps(log),
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.values,
            "updates": self.ema.updates,
        }
        save_checkpoint(path, state)

    def restore(self, path: Path | None, key: str) -> tuple[int, list[dict[str, Any]]]:
        """Go back to a checkpoint made under the same key; give the number of epochs done, and their log."""
        state = load_checkpoint(path, self.device) if path else None
        if state is None or state["key"] != key:
            return 0, []
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        for name, value in state["ema"].items():
            self.ema.values[name].copy_(value)
        self.ema.updates = state["updates"]
        return state["done"], json.loads(state["log"])


def _run_epoch(trainer: Trainer, name: str, epoch: int, held: NDArray[np.int64] | None) -> dict[str, Any]:
    """Train one epoch and look at the held-out rows, if any; give the row of the log."""
    start = time.monotonic()
    n_epochs = sum(phase.epochs for phase in trainer.model.phases)
    report = trainer.epoch(epoch, f"{name} epoch {epoch + 1}/{n_epochs}")
    row: dict[str, Any] = {"epoch": epoch + 1, "loss": report.loss, "lr": report.lr, "steps": report.steps}
    row["train_s"] = round(time.monotonic() - start, 3)
    if held is None:
        return row
    score = trainer.validate(held, f"{name} held out")
    row |= {"score": score.as_dict(), "seconds": round(time.monotonic() - start, 3)}
    say(
        f"{name} epoch {epoch + 1}/{n_epochs}: loss {report.loss:.4f}, held-out mean {score.mean:.4f}, "
        f"positive-only {score.positive:.4f}, {row['seconds']:.1f} s"
    )
    return row


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
    if "score" in row:
        events.add_scalar("held_out/mean", row["score"]["mean"], row["epoch"])
        if row["score"]["positive"] is not None:
            events.add_scalar("held_out/positive", row["score"]["positive"], row["epoch"])
    events.flush()


def _pin_worker(_worker: int) -> None:
    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
