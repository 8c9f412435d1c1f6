"""What the processes of one training do in the tests of `steel.fit.dist`; they import it by its name."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from steel.config import MachineConfig
from steel.errors import UserError
from steel.fit import dist

TWO = MachineConfig("cpu", devices=2, jobs=1, threads=1, workers=0)


def exchange(folder: Path) -> None:
    """Add up numbers for ever, after a file that holds the process's number has been written."""
    (folder / f"pid{dist.rank()}").write_text(str(os.getpid()))
    while True:
        dist.total(torch.ones(1))
        time.sleep(0.01)


def refuse(folder: Path) -> None:
    """The second process refuses, while the first waits for it."""
    if dist.rank() == 1:
        raise UserError("bad strip")
    exchange(folder)


def learn(root: Path) -> None:
    """What each process finds in training and validation, into `root/found<rank>.pt`."""
    torch.save(found(root), root / f"found{dist.rank()}.pt")


def found(root: Path) -> dict[str, Any]:
    """Gradients of two batches, the score of weights that all have, weights and statistics after an epoch."""
    import numpy as np
    import toy

    from steel.config import ModelConfig, Phase
    from steel.data.cache import open_strips
    from steel.fit.trainer import Trainer

    strips, rows = open_strips(root / "data/toy/cache", "train"), np.arange(8)
    phase = Phase(epochs=1, width=64, batch=4, lr=1e-2, samples=11)
    vit = ModelConfig(  # without batch norm
        kind="classifier",
        net="timm.models:vit_tiny_patch16_224",
        options={"img_size": (256, 64), "depth": 1, "dynamic_img_size": True},
        phases=[phase],
        accumulate=2,
        amp="fp32",
    )
    trainer = Trainer(vit, TWO, strips, rows, seed=1)
    batches = list(trainer._loader(0))
    for i, (image, bits) in enumerate(batches):
        with dist.adding_up(trainer.parallel, last=i == 1):
            trainer._backward(image, bits)
    answer: dict[str, Any] = {
        "n": [len(image) for image, _ in batches],
        "grads": {name: p.grad for name, p in trainer.net.named_parameters()},
        "score": trainer.validate(np.arange(11), "all").as_dict(),  # 3 batches, the last one smaller
    }
    changes: dict[str, dict[str, Any]] = {"ema": {"ema": 0.5}, "swa": {"average_epochs": 1}, "best": {"best_epochs": 1}}
    for name, change in changes.items():
        model = replace(toy.CLASSIFIER, phases=[phase], validate_every=1, **change)
        trainer = Trainer(model, TWO, strips, rows, seed=1, inner=np.arange(8, 12))
        answer[f"{name} loss"] = trainer.epoch(0, "toy").loss
        answer[name] = trainer.average.values
    return answer


def die(root: Path) -> None:
    """Train the toy's gate; the second process is killed when the first has written a checkpoint."""
    import toy

    from steel.fit import train
    from steel.paths import Paths

    true = train._run_epoch

    def run_epoch(*args: Any) -> Any:
        if (root / "runs/toy/gate/fold1/last.pt").exists() and dist.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return true(*args)

    setattr(train, "_run_epoch", run_epoch)  # noqa: B010 (mypy would not have it assigned)
    os.chdir(root)
    train.fit(Paths(even()), "gate", toy.FOLD, train.Deadline())


def even(machine: MachineConfig = TWO) -> Any:
    """The toy's gate with batches that two can share."""
    import toy

    model = replace(toy.CLASSIFIER, phases=[replace(toy.PHASES[0], epochs=4, batch=4)])
    return replace(toy.solution({"gate": model}), machine=machine)
