"""What a model's keys do to its training: each has its effect, and a killed training still ends with the same bytes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import toy
from numpy.typing import NDArray

from steel.config import ModelConfig
from steel.data.cache import AREAS, open_strips
from steel.errors import UserError
from steel.fit import train
from steel.fit.trainer import Trainer
from steel.metrics import Score
from steel.paths import Paths

NO_SCORE = Score(1, 0.0, 0.0, (), (), (), (), ())
pytestmark = pytest.mark.usefixtures("one_thread")

VARIED: dict[str, ModelConfig] = {
    "mixed": replace(
        toy.CLASSIFIER,
        mix="mixup",
        schedule="plateau",
        optimizer="rmsprop",
        average_epochs=2,
        pos_weight="inverse",
        rows="defects",
        augment={"default": "flips", "2": "heavy"},
    ),
    "best": replace(toy.CLASSIFIER, best_epochs=2, inner_share=0.25, validate_every=1, rows="defects"),
    "joint": replace(toy.SEGMENTER, gate_weight=0.5, dropout=0.3, best_epochs=1),
    "pasted": replace(
        toy.SEGMENTER,
        paste=0.5,
        class_balance=0.5,
        schedule="one_cycle",
        optimizer="lion",
        encoder_lr=0.1,
        average_epochs=1,
        phases=[replace(toy.PHASES[0], downscale=2), toy.PHASES[1]],
    ),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return toy.fresh(tmp_path)


def trainer_of(root: Path, model: ModelConfig, rows: range = range(8)) -> Trainer:
    strips = open_strips(root / "data/toy/cache", "train")
    return Trainer(model, toy.solution({}).machine, strips, np.array(rows), seed=1)


@pytest.mark.parametrize("name", VARIED)
def test_killed_after_every_epoch_it_ends_with_the_same_bytes(name: str, root: Path, tmp_path: Path) -> None:
    solution = toy.solution({name: VARIED[name]})
    whole = toy.weights(toy.run(root, name, solution))

    class Killed(BaseException):
        pass

    true = Trainer.save

    def save(*args: object) -> None:
        true(*args)  # type: ignore[arg-type]
        raise Killed

    other = toy.fresh(tmp_path / "other")
    for _ in range(3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "save", save)
            with pytest.raises(Killed):
                toy.run(other, name, solution)
    assert toy.weights(toy.run(other, name, solution)) == whole


def test_a_training_continued_on_another_footing_says_so(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    true = Trainer.save

    def stop(*args: object) -> None:
        true(*args)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    def go_on(threads: int) -> None:
        solution = toy.solution({"gate": toy.CLASSIFIER})
        toy.run(root, "gate", replace(solution, machine=replace(solution.machine, threads=threads)))

    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Trainer, "save", stop)
            go_on(threads=1)
    go_on(threads=2)
    found = [line for line in capsys.readouterr().out.splitlines() if " continues after " in line]
    name = f"train gate fold {toy.FOLD}: continues after epoch"
    assert found == [f"{name} 1 of 4", f"{name} 2 of 4, on another footing than before (threads: 1 -> 2)"]


def test_a_frozen_encoder_does_not_learn(root: Path) -> None:
    trainer = trainer_of(root, replace(toy.SEGMENTER, encoder_lr=0.0))
    before = {name: value.clone() for name, value in trainer.net.named_parameters()}
    trainer.epoch(0, "x")
    moved = {name for name, value in trainer.net.named_parameters() if not value.equal(before[name])}
    assert moved and not any(name.startswith("body.encoder.") for name in moved)


def test_the_encoder_has_its_share_of_the_rate(root: Path) -> None:
    trainer = trainer_of(root, replace(toy.SEGMENTER, encoder_lr=0.25, schedule="constant", warmup_steps=0))
    trainer.epoch(0, "x")
    assert {round(group["lr"], 9) for group in trainer.optimizer.param_groups} == {3e-3, 0.75e-3}


def test_a_plateau_lowers_the_rate(root: Path) -> None:
    model = replace(toy.CLASSIFIER, schedule="plateau", warmup_steps=0, phases=[replace(toy.PHASES[0], epochs=9)])
    trainer = trainer_of(root, model)
    assert trainer.epoch(4, "x", past=[1.0, 0.9, 0.8, 0.7]).lr == 3e-3
    assert trainer.epoch(4, "x", past=[1.0, 2.0, 2.0, 2.0]).lr == 1.5e-3
    assert trainer.epoch(0, "x", past=[]).lr == 3e-3


def test_the_mean_of_the_last_epochs_ships(root: Path) -> None:
    trainer = trainer_of(root, replace(toy.CLASSIFIER, average_epochs=2))
    ends = []
    for epoch in range(4):
        trainer.epoch(epoch, "x")
        ends.append({name: value.clone() for name, value in trainer.net.named_parameters()})
    for name in ends[0]:
        mean = (ends[2][name] + ends[3][name]) / 2
        torch.testing.assert_close(trainer.average.values[name], mean, atol=1e-6, rtol=1e-5)
    statistics = [name for name in trainer.average.values if "running_mean" in name]
    assert statistics  # computed anew, for the mean of the weights
    assert any(not trainer.average.values[n].equal(trainer.net.state_dict()[n]) for n in statistics)


def test_the_best_epochs_are_judged_on_strips_kept_from_training(root: Path) -> None:
    """The scored fold and the inner strips teach nothing; the log holds the scores that choose."""
    model = replace(toy.CLASSIFIER, best_epochs=2, inner_share=0.3, validate_every=1)
    seen: set[int] = set()
    inner: list[list[int]] = []
    make, validate = Trainer._loader, Trainer.validate

    def loader(*args: Any, **kwargs: Any) -> Any:
        found: Any = make(*args, **kwargs)
        seen.update(int(row) for row in found.dataset.rows)
        return found

    def looked(self: Trainer, rows: NDArray[np.int64], title: str) -> Score:
        if title.endswith("inner"):
            inner.append(sorted(int(row) for row in rows))
        return validate(self, rows, title)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_loader", loader)
        patch.setattr(Trainer, "validate", looked)
        folder = toy.run(root, "gate", toy.solution({"gate": model}))
    assert len(inner) == 4 and all(rows == inner[0] for rows in inner)
    assert len(inner[0]) == 3  # of 8 training strips: the least that is three tenths
    assert seen | set(inner[0]) == {row for row in range(toy.N_TRAIN) if row % 3 != toy.FOLD}
    assert not seen & set(inner[0])
    assert all(0 <= row["inner_mean"] <= 1 for row in toy.log(folder))


def test_strips_there_are_too_few_of_to_judge_epochs_on(root: Path) -> None:
    table = root / "folds/toy.csv"
    lines = [line.rsplit(",", 1)[0] for line in table.read_text().splitlines()]
    groups = ["group", *("one" if line.endswith(("0", "2")) else line[:9] for line in lines[1:])]
    other = [line.replace(",2", ",0") for line in lines]
    table.write_text("".join(f"{line},{group}\n" for line, group in zip(other, groups, strict=True)))
    with pytest.raises(UserError, match=r"models\.gate\.best_epochs: no strips to judge epochs on beside fold 1; all"):
        toy.run(root, "gate", toy.solution({"gate": replace(toy.CLASSIFIER, best_epochs=1)}))


def test_the_mean_of_the_best_epochs_ships(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strips = open_strips(root / "data/toy/cache", "train")
    model = replace(toy.CLASSIFIER, best_epochs=2, ema=0.0)
    trainer = Trainer(model, toy.solution({}).machine, strips, np.arange(8), seed=1, inner=np.arange(8, 12))
    scores = iter((0.2, 0.9, 0.1, 0.8))
    monkeypatch.setattr(Trainer, "validate", lambda *_: replace(NO_SCORE, mean=next(scores)))
    monkeypatch.setattr(Trainer, "looks", lambda *_: True)
    ends, reports = [], []
    for epoch in range(4):
        reports.append(trainer.epoch(epoch, "x").inner)
        ends.append({name: value.clone() for name, value in trainer.net.named_parameters()})
    assert reports == [0.2, 0.9, 0.1, 0.8]
    for name in ends[0]:
        mean = (ends[1][name] + ends[3][name]) / 2
        torch.testing.assert_close(trainer.average.values[name], mean, atol=1e-6, rtol=1e-5)


def test_the_joint_head_learns_beside_the_maps(root: Path) -> None:
    """Its gradient comes from its own loss alone, and grows with its weight."""
    grads: dict[float, torch.Tensor] = {}
    for weight in (0.5, 2.0):
        trainer = trainer_of(root, replace(toy.SEGMENTER, gate_weight=weight, accumulate=1))
        image, bits = next(iter(trainer._loader(0)))
        trainer._backward(image, bits)
        found = trainer.net.get_parameter("body.classification_head.3.weight").grad
        assert found is not None
        grads[weight] = found
    torch.testing.assert_close(grads[2.0], 4 * grads[0.5])
    assert grads[0.5].abs().sum() > 0


def test_until_there_is_a_mean_the_last_weights_are_looked_at(root: Path) -> None:
    trainer = trainer_of(root, replace(toy.CLASSIFIER, average_epochs=1))
    trainer.epoch(0, "x")
    shadow = trainer._shadow().state_dict()
    assert all(value.equal(shadow[name]) for name, value in trainer.net.state_dict().items())


def test_a_phase_at_another_size(root: Path) -> None:
    model = replace(toy.SEGMENTER, phases=[replace(toy.PHASES[0], downscale=2), toy.PHASES[1]])
    trainer = trainer_of(root, model)
    trainer.epoch(0, "x")
    assert trainer.net.downscale == 2
    trainer.epoch(2, "x")
    assert trainer.net.downscale == 4


def test_class_weights_reach_the_loss(root: Path) -> None:
    logits, target = torch.zeros(1, 4), torch.tensor([[1.0, 0, 0, 0]])
    plain = trainer_of(root, toy.CLASSIFIER).loss(logits, target)
    heavy = trainer_of(root, replace(toy.CLASSIFIER, pos_weight=[3.0, 1, 1, 1])).loss(logits, target)
    assert float(heavy) == pytest.approx(float(plain) * (3 + 1 + 1 + 1) / 4)


def test_only_strips_with_a_defect(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Stop(Exception):
        pass

    def stop(self: Trainer, *_args: object) -> None:
        seen.extend(int(row) for row in self.rows)
        raise Stop

    monkeypatch.setattr(Trainer, "epoch", stop)
    with pytest.raises(Stop):
        toy.run(root, "gate", toy.solution({"gate": replace(toy.CLASSIFIER, rows="defects")}))
    assert seen == [row for row in sorted(toy.SHOWN) if row % 3 != toy.FOLD]


def test_defect_strips_there_are_none_of(root: Path) -> None:
    index = root / "data/toy/cache/train.csv"
    frame = pd.read_csv(index)
    frame[AREAS] = 0
    frame.to_csv(index, index=False)
    with pytest.raises(UserError, match=r"models\.gate\.rows: defects leaves no strip to train on beside fold 1; all"):
        toy.run(root, "gate", toy.solution({"gate": replace(toy.CLASSIFIER, rows="defects")}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "adamx"}, "models.unet: optimizer: unknown name 'adamx'; allowed: adamw, adam, sgd, "),
        ({"optimizer_options": {"x": 1}}, "models.unet: optimizer_options: adamw has no option 'x'; allowed: "),
        ({"schedule": "cos"}, "models.unet: schedule: unknown name 'cos'; allowed: cosine, one_cycle, "),
        ({"pos_weight": "rare"}, "models.unet: pos_weight: unknown name 'rare'; allowed: inverse, effective"),
        ({"pos_weight": "inverse", "loss": {"dice": 1.0}}, "models.unet: pos_weight: not used by the loss dice"),
        ({"augment": {"2": "heavy"}}, "models.unet: augment: {'2': 'heavy'} has no default"),
    ],
)
def test_names_are_checked_before_any_work(change: dict, message: str) -> None:
    paths = Paths(toy.solution({"unet": replace(toy.SEGMENTER, **change)}))
    with pytest.raises(UserError) as error:
        train.check(paths, "unet")
    assert str(error.value).startswith(message)
