"""One training: net, loss, optimizer and average, and how they advance by an epoch, the same bits every time."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from steel import metrics
from steel.competition import N_CLASSES
from steel.config import MachineConfig, ModelConfig
from steel.data.balance import positive_weights
from steel.data.cache import Strips
from steel.data.dataset import Sampling, presence, unpack
from steel.data.mix import MIXES
from steel.data.on_device import Batches, OnDevice
from steel.device import amp_dtype, open_device
from steel.errors import UserError
from steel.fit import dist
from steel.fit.average import Best, Ema, Swa, update_batch_norm
from steel.fit.checkpoint import load_checkpoint, save_checkpoint
from steel.fit.loading import loader
from steel.fit.optim import optimizer_for
from steel.fit.recompute import recompute_blocks
from steel.fit.schedules import lr_at, place_of
from steel.nets.build import Net, build, place
from steel.nets.losses import Loss, bce, mixed
from steel.overlap import overlap
from steel.progress import track

LOOK_EVERY = 50  # steps between two looks at whether the loss is still a number
VALIDATION_BATCH = {"cpu": 4, "cuda": 16}  # strips
AHEAD = 2  # batches of held-out strips that are read while the net is at work


def loss_of(model: ModelConfig, n_images: int, n_positive: Sequence[int]) -> Loss:
    """The model's loss; class weights by the number of training images, and of these with each class."""
    weights = None if model.pos_weight is None else positive_weights(model.pos_weight, n_images, n_positive)
    return mixed(model.loss, weights)


def optimizer_of(net: nn.Module, model: ModelConfig) -> torch.optim.Optimizer:
    """The model's optimizer; what `encoder_lr` 0 freezes is out of it."""
    lr, options = model.phases[0].lr, model.optimizer_options
    return optimizer_for(net, model.optimizer, lr, model.weight_decay, model.encoder_lr, options)


@dataclass
class Report:
    """What one epoch of training gave."""

    loss: float
    lr: float
    steps: int
    inner: float | None = None  # mean score on the strips kept from training, after epochs that are looked at


class Trainer:
    """Net, optimizer and moving average of one training, and how they advance by an epoch.

    Every random choice of epoch e is a pure function of (seed, e): samples, augmentation, dropout. A checkpoint after
    an epoch therefore holds no random state, and a resumed training equals an uninterrupted one. Of several processes
    (see `dist`) each has a trainer, on its share of the samples; all come to the same weights.
    """

    def __init__(
        self,
        model: ModelConfig,
        machine: MachineConfig,
        strips: Strips,
        rows: NDArray[np.int64],
        seed: int,
        inner: NDArray[np.int64] | None = None,
    ) -> None:
        """Train on `rows` of the cache; `inner`: rows that judge the epochs where the best ones ship."""
        self.model, self.machine, self.strips, self.rows, self.seed = model, machine, strips, rows, seed
        dist.check_batches(model, len(rows), dist.size())
        self.device = open_device(machine)
        torch.manual_seed(seed)
        self.net = place(build(model), self.device)
        if machine.checkpoint_gradients:
            recompute_blocks(self.net)
        if machine.compile:
            self.net.compile(dynamic=False)  # in place: names of weights stay those of the plain net
        self.optimizer = optimizer_of(self.net, model)
        self.parallel = dist.parallel(self.net, machine.sync_batch_norm)
        self.store = OnDevice(strips, rows, self.device) if machine.sampling == "device" else None
        self.loss = loss_of(model, len(rows), (strips.areas[rows] > 0).sum(0).tolist())
        self.dtype = amp_dtype(model.amp, self.device)
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.dtype is torch.float16)
        self.average = Swa(self.net) if model.average_epochs else Ema(self.net, model.ema)
        self.best, self.inner = Best(model.best_epochs) if model.best_epochs else None, inner
        self.n_epochs = sum(phase.epochs for phase in model.phases)
        self.rng = np.random.default_rng([seed, 0, 2])  # of mixtures; each epoch has its own
        self.origin: dict[str, str] = {}  # code and environment that checkpoints were made by

    def epoch(self, epoch: int, title: str, past: Sequence[float] = ()) -> Report:
        """Train one epoch (global number from 0); `past`: losses of all epochs before it."""
        at = place_of(epoch, self.model.phases)
        past = past[epoch - at.epoch :]
        batches = self._loader(epoch)
        n_steps = -(-len(batches) // self.model.accumulate)
        torch.manual_seed(self.seed * 100_003 + epoch + 1_000_000_007 * dist.rank())  # of dropout
        self.rng = np.random.default_rng([self.seed, epoch, 2])
        self.net.downscale = at.phase.downscale or self.model.downscale
        self.net.train()
        total, lr = torch.zeros((), device=self.device), 0.0
        for i, (image, bits) in enumerate(track(batches, title, "batches")):
            step = i // self.model.accumulate
            n_all, warmup = at.phase.epochs * n_steps, self.model.warmup_steps
            lr = lr_at(at.epoch * n_steps + step, n_all, at.phase.lr, warmup, self.model.schedule, past)
            last = (i + 1) % self.model.accumulate == 0 or i + 1 == len(batches)
            with dist.adding_up(self.parallel, last):
                total += self._backward(image, bits)
            if last:
                self._step(lr)
            if (i + 1) % LOOK_EVERY == 0 or i + 1 == len(batches):
                self._check("loss", dist.mean(total), title)
        inner = self._average_epoch(epoch, title)
        weights = [value.sum() for value in self.average.values.values() if value.is_floating_point()]
        self._check("sum of the weights", torch.stack(weights).sum(), title)
        return Report(float(dist.mean(total)) / len(batches), lr, n_steps, inner)

    def looks(self, epoch: int) -> bool:
        """Whether the weights after an epoch are looked at."""
        return (epoch + 1) % self.model.validate_every == 0 or epoch + 1 == self.n_epochs

    def _loader(self, epoch: int, whole: bool = False) -> DataLoader | Batches:
        phase, model = place_of(epoch, self.model.phases).phase, self.model
        sampling = Sampling(
            self.rows,
            phase.width,
            n_samples=phase.samples or len(self.rows),
            defect_share=model.defect_share,
            augment=model.augment,
            seed=self.seed,
            class_balance=model.class_balance,
            paste=model.paste,
        )
        return loader(self.strips, sampling, epoch, phase.batch, self.machine, self.device, self.store, whole)

    def _average_epoch(self, epoch: int, title: str) -> float | None:
        """Take in the weights after an epoch where means of epochs ship; give its score on the inner rows, if any."""
        inner = None
        if isinstance(self.average, Swa) and epoch >= self.n_epochs - self.model.average_epochs:
            self.average.update()
        if self.best:
            assert self.inner is not None
            inner = self.validate(self.inner, f"{title} inner").mean if self.looks(epoch) else None
            self.best.offer(math.nan if inner is None else inner, self.average.values)
        if epoch + 1 == self.n_epochs and (self.best or isinstance(self.average, Swa)):
            self._settle(epoch)
        return inner

    def _settle(self, epoch: int) -> None:
        """Make the mean of epochs what ships, with the batch norms' statistics that belong to it."""
        net = self._shadow()
        if self.best:
            net.load_state_dict(self.best.mean())
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            update_batch_norm(net, (image.to(self.device).unsqueeze(1) for image, _ in self._loader(epoch, whole=True)))
        self.average.values = {name: value.clone() for name, value in net.state_dict().items()}

    def _shadow(self) -> Net:
        """A net with the averaged weights; with the last ones as long as there is no average."""
        shadow = place(build(self.model, pretrained=False), self.device)
        begun = isinstance(self.average, Ema) or self.average.updates
        shadow.load_state_dict(self.average.values if begun else self.net.state_dict())
        return shadow.eval()

    def _backward(self, image: Tensor, bits: Tensor) -> Tensor:
        """Add the gradients of one batch; give its loss."""
        image, bits = image.to(self.device, non_blocking=True), bits.to(self.device, non_blocking=True)
        classes = presence(bits)
        target = unpack(bits, self.net.downscale) if self.model.kind == "segmenter" else classes
        image = image.unsqueeze(1)  # (B, 1, H, W)
        if self.model.mix != "none":
            image, target = MIXES[self.model.mix](image, target, self.rng)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            logits = self.parallel(image, full_size=False)  # maps (B, 4, H / downscale, W / downscale), labels (B, 4)
        loss = self.loss(logits.main.float(), target)
        if self.model.gate_weight:
            loss = loss + self.model.gate_weight * bce(logits.labels.float(), classes)
        self.scaler.scale(loss / self.model.accumulate).backward()
        return loss.detach()

    def _step(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.net.parameters(), self.model.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        dist.share_statistics(self.net)
        if isinstance(self.average, Ema):
            self.average.update()

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
        shadow = self._shadow()
        assert self.strips.masks is not None
        counts = torch.zeros(3, len(rows), N_CLASSES, dtype=torch.int64, device=self.device)
        # Whole batches are shared out, not strips: each meets the same arithmetic whatever the number of processes.
        size = VALIDATION_BATCH[self.device.type]
        starts = range(0, len(rows), size)[dist.rank() :: dist.size()]
        parts = overlap(partial(self._read, rows, size), starts, AHEAD)
        for start, (image, bits) in zip(track(starts, title, "batches"), parts, strict=True):
            image, bits = image.to(self.device, non_blocking=True), bits.to(self.device, non_blocking=True)
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
                pred = shadow(image.unsqueeze(1)).main > 0
            true = (unpack(bits) if self.model.kind == "segmenter" else presence(bits)) > 0
            pixels = [x.flatten(2).sum(2) if x.ndim == 4 else x.long() for x in (pred, true, pred & true)]
            counts[:, start : start + len(image)] = torch.stack(pixels)
        pred_px, true_px, overlap_px = dist.total(counts).cpu().numpy()  # each (n, 4)
        return metrics.score(pred_px, true_px, overlap_px)

    def _read(self, rows: NDArray[np.int64], size: int, start: int) -> tuple[Tensor, Tensor]:
        """Image and mask bits of `size` held-out rows, in memory that a GPU can fetch while it computes."""
        assert self.strips.masks is not None
        part, pinned = rows[start : start + size], self.device.type == "cuda"
        image, bits = (torch.from_numpy(source[part]) for source in (self.strips.images, self.strips.masks))
        return (image.pin_memory(), bits.pin_memory()) if pinned else (image, bits)

    def save(self, path: Path, key: str, done: int, log: list[dict[str, Any]]) -> None:
        """Write a checkpoint after `done` epochs."""
        state = {
            "key": key,
            "done": done,
            "log": json.dumps(log),
            "origin": json.dumps(self.origin),
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.values,
            "updates": self.average.updates,
            "best": vars(self.best) if self.best else None,
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
        for name, value in state["average"].items():
            self.average.values[name].copy_(value)
        self.average.updates = state["updates"]
        if self.best:
            self.best.restore(state["best"]["scores"], state["best"]["states"])
        self.origin = json.loads(state["origin"])
        return state["done"], json.loads(state["log"])
