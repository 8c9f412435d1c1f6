"""Training: what it leaves, held-out strips left alone, the true metric, what a NaN does."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
from torch import Tensor

from steel import metrics
from steel.config import ModelConfig, Phase
from steel.data.cache import open_strips
from steel.data.dataset import Crops
from steel.errors import UserError
from steel.fit import checkpoint
from steel.fit.checkpoint import load_weights
from steel.fit.trainer import Trainer
from steel.nets.build import build, place

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", toy.MODELS)
def test_what_a_training_leaves(name: str, trained: dict[str, Path]) -> None:
    folder = trained[name]
    assert {p.name for p in folder.iterdir()} == {
        "weights.safetensors",
        "last.pt",  # until the record of the stage is written: `ensure` removes it
        "log.jsonl",
        "config.json",
        "env.json",
        "events",
    }
    rows = toy.log(folder)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert all(np.isfinite(row["loss"]) and row["train_s"] >= 0 for row in rows)
    held_mb = 4096 * int(Path("/proc/self/statm").read_text().split()[1]) / 1e6  # by this process, which trained it
    assert all(0.1 * held_mb < row["peak_mb"] < 10 * held_mb and "resumed" not in row for row in rows)
    looked = {"unet": [False, False, False, True], "gate": [False, False, True, True]}[name]  # every 4, every 3
    assert ["score" in row for row in rows] == looked
    assert json.loads((folder / "config.json").read_text())["model"]["phases"][1]["width"] == 96
    assert json.loads((folder / "env.json").read_text())["threads"] == "1"
    assert [row["steps"] for row in rows] == {"unet": [3, 3, 1, 1], "gate": [5, 5, 2, 2]}[name]
    assert rows[1]["lr"] < rows[0]["lr"] and rows[2]["lr"] <= 1e-3


def test_the_seed_and_the_fold_decide(trained: dict[str, Path], tmp_path: Path) -> None:
    other = replace(toy.CLASSIFIER, seed=1)
    folder = toy.run(toy.fresh(tmp_path), "gate", toy.solution({"gate": other}))
    assert toy.weights(folder) != toy.weights(trained["gate"])


def test_held_out_strips_have_no_influence(tmp_path: Path, trained: dict[str, Path]) -> None:
    """Other pixels and masks on the held-out strips: the same weights, another score."""
    folder = toy.run(toy.fresh(tmp_path, spoil=toy.FOLD), "unet")
    assert toy.weights(folder) == toy.weights(trained["unet"])
    assert toy.log(folder)[-1]["score"] != toy.log(trained["unet"])[-1]["score"]


def test_held_out_strips_are_never_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    true = Crops.__getitem__

    def spy(self: Crops, position: int) -> Any:
        seen.append(int(self.rows[position]))
        return true(self, position)

    monkeypatch.setattr(Crops, "__getitem__", spy)
    toy.run(toy.fresh(tmp_path), "gate")
    assert {row % 3 for row in seen} == {0, 2} and len(seen) == 2 * 15 + 2 * 6


@pytest.mark.parametrize("name", toy.MODELS)
def test_validation_is_the_metric_by_brute_force(name: str, trained: dict[str, Path]) -> None:
    """Strip by strip, class by class, from the shipped weights."""
    model = toy.MODELS[name]
    net = place(build(model), torch.device("cpu"))
    load_weights(net, trained[name] / "weights.safetensors")
    strips = open_strips(trained[name].parents[3] / "data/toy/cache", "train")
    assert strips.masks is not None
    values, positive = [], []
    for row in range(toy.FOLD, toy.N_TRAIN, 3):
        with torch.inference_mode():
            prob = net.eval()(torch.from_numpy(strips.images[row].copy())[None, None]).main[0].sigmoid().numpy()
        for k in range(4):
            true = (strips.masks[row] >> k) & 1 == 1
            if model.kind == "classifier":
                true = true.any()
            pred = prob[k] > 0.5
            total = int(pred.sum()) + int(true.sum())
            values.append(2 * int((pred & true).sum()) / total if total else 1.0)
            if true.any():
                positive.append(values[-1])
    score = toy.log(trained[name])[-1]["score"]
    assert score["n_images"] == 4
    assert score["mean"] == pytest.approx(np.mean(values), abs=1e-3)
    assert score["positive"] == pytest.approx(np.mean(positive), abs=1e-3)


def test_validation_of_a_known_net(tmp_path: Path) -> None:
    """Maps that say class 3 everywhere: Dice of class 3 is 2a / (a + all), of the others 0 or 1."""
    toy.fresh(tmp_path)
    strips = open_strips(tmp_path / "data/toy/cache", "train")
    trainer = Trainer(toy.SEGMENTER, toy.solution({}).machine, strips, np.arange(12), seed=1)
    head = "body.segmentation_head.0"
    trainer.average.values[f"{head}.weight"].zero_()
    trainer.average.values[f"{head}.bias"].copy_(torch.tensor([-1.0, -1, 1, -1]))
    score = trainer.validate(np.arange(7), "all")  # not a multiple of the batch
    area = 100 * 80
    expected = 2 * area / (area + 256 * 1600)
    assert score.n_images == 7 and score.n_positive == (2, 1, 4, 1)
    assert score.class_positive[2] == pytest.approx(expected)
    assert score.class_mean[2] == pytest.approx(4 * expected / 7)
    assert score.class_mean[0] == pytest.approx(5 / 7)
    assert score.fp == (0, 0, 3, 0) and score.fn == (2, 1, 0, 1)


def test_validation_leaves_the_training_alone(tmp_path: Path) -> None:
    toy.fresh(tmp_path)
    strips = open_strips(tmp_path / "data/toy/cache", "train")
    trainer = Trainer(toy.CLASSIFIER, toy.solution({}).machine, strips, np.arange(12), seed=1)
    trainer.epoch(0, "toy")
    before = [value.clone() for value in (*trainer.net.state_dict().values(), *trainer.average.values.values())]
    assert isinstance(trainer.validate(np.arange(4), "toy"), metrics.Score)
    after = [*trainer.net.state_dict().values(), *trainer.average.values.values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)) and trainer.net.training


def test_a_nan_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.fresh(tmp_path)
    true, calls = Trainer._backward, 0

    def backward(self: Trainer, image: Tensor, bits: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return true(self, image, bits) * (float("nan") if calls == 11 else 1)  # the first batch of epoch 3

    monkeypatch.setattr(Trainer, "_backward", backward)
    with pytest.raises(UserError, match=r"train unet fold 1 epoch 3/4: the loss is nan; the last good .*lr") as caught:
        toy.run(tmp_path, "unet")
    assert "\n" not in str(caught.value)
    folder = tmp_path / "runs/toy/unet/fold1"
    state = checkpoint.load_checkpoint(folder / "last.pt", torch.device("cpu"))
    assert state is not None and state["done"] == 2
    assert all(value.isfinite().all() for value in state["net"].values())
    assert not (folder / "weights.safetensors").exists()


def test_a_hopeless_learning_rate_is_told(tmp_path: Path) -> None:
    wild = replace(toy.CLASSIFIER, phases=[Phase(epochs=3, width=64, batch=3, lr=1e30)])
    with pytest.raises(UserError, match=r"epoch \d/3: the (loss|sum of the weights) is (nan|inf|-inf)"):
        toy.run(toy.fresh(tmp_path), "gate", toy.solution({"gate": wild}))


def test_weights_that_are_no_numbers_never_ship(tmp_path: Path) -> None:
    toy.fresh(tmp_path)
    strips = open_strips(tmp_path / "data/toy/cache", "train")
    trainer = Trainer(toy.CLASSIFIER, toy.solution({}).machine, strips, np.arange(12), seed=1)
    next(iter(trainer.average.values.values())).fill_(float("nan"))
    with pytest.raises(UserError, match="toy: the sum of the weights is nan"):
        trainer.epoch(0, "toy")


def test_gradients_are_added_up_as_in_one_large_batch(tmp_path: Path) -> None:
    """Without batch norm's statistics, 2 batches of 2 give the step of one batch of 4."""
    toy.fresh(tmp_path)
    strips = open_strips(tmp_path / "data/toy/cache", "train")
    found = []
    for batch, accumulate in ((4, 1), (2, 2)):
        model = ModelConfig(
            kind="classifier",
            net="timm.models:vit_tiny_patch16_224",
            options={"img_size": (256, 64), "depth": 1, "dynamic_img_size": True},
            phases=[Phase(epochs=1, width=64, batch=batch, samples=4)],
            accumulate=accumulate,
            ema=0.0,
        )
        trainer = Trainer(model, toy.solution({}).machine, strips, np.arange(12), seed=1)
        assert trainer.epoch(0, "toy").steps == 1
        found.append(trainer.optimizer.state_dict()["state"][0]["exp_avg"])
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-6)


def test_bf16_runs_and_fp16_needs_a_gpu(tmp_path: Path) -> None:
    toy.fresh(tmp_path)
    strips = open_strips(tmp_path / "data/toy/cache", "train")
    machine = toy.solution({}).machine
    wide = [Phase(epochs=1, width=256, batch=3, samples=6)]  # see toy.PHASES
    trainer = Trainer(replace(toy.CLASSIFIER, phases=wide, amp="bf16"), machine, strips, np.arange(12), seed=1)
    assert np.isfinite(trainer.epoch(0, "toy").loss)
    with pytest.raises(UserError, match="fp16 needs a GPU, the device is cpu"):
        Trainer(replace(toy.CLASSIFIER, amp="fp16"), machine, strips, np.arange(12), seed=1)


def test_names_are_checked_before_any_work(tmp_path: Path) -> None:
    toy.fresh(tmp_path)
    for change, message in (({"loss": {"bcee": 1.0}}, "loss: unknown name 'bcee'"), ({"net": "Unett"}, "net: ")):
        with pytest.raises(UserError, match=message):
            toy.run(tmp_path, "gate", toy.solution({"gate": replace(toy.SEGMENTER, **change)}))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_tensorboard_events(trained: dict[str, Path]) -> None:
    found, rows = toy.scalars(trained["unet"] / "events"), toy.log(trained["unet"])
    assert [step for step, _ in found["train/loss"]] == [1, 2, 3, 4]
    assert [value for _, value in found["train/loss"]] == pytest.approx([row["loss"] for row in rows], rel=1e-6)
    assert [step for step, _ in found["held_out/mean"]] == [4]
    assert set(found) == {"train/loss", "train/lr", "held_out/mean", "held_out/positive"}
