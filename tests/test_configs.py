"""Every solution that comes with the kit: it loads, and each of its models takes a step at reduced size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import toy

from steel import cli
from steel.config import ModelConfig, Solution
from steel.data.cache import open_strips
from steel.fit.trainer import Trainer

CONFIGS = sorted((tiny.ROOT / "configs").glob("*.yaml"))


def load(path: Path) -> Solution:
    return cli.parse("status", "", [str(path)])[0]


def reduced(model: ModelConfig) -> ModelConfig:
    """The model, to be trained for a step in each of its phases, at a quarter of the size."""
    phases = [replace(phase, epochs=1, width=128, batch=2, samples=2) for phase in model.phases]
    small = replace(model, phases=phases, downscale=4, weights=None, seed=0, validate_every=len(phases))
    small = replace(small, amp="fp32")  # see toy.PHASES
    return replace(small, average_epochs=min(model.average_epochs, 1), best_epochs=min(model.best_epochs, 1))


# Of models that differ in length and size of their training alone, the first.
MODELS: dict[str, tuple[ModelConfig, str]] = {}
for _path in CONFIGS:
    for _name, _model in load(_path).models.items():
        MODELS.setdefault(repr(reduced(_model)), (reduced(_model), f"{_path.stem}-{_name}"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.fresh(tmp_path_factory.mktemp("configs")) / "data/toy/cache"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_file_has_the_name_of_its_solution(path: Path) -> None:
    assert load(path).name == path.stem


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("model", [model for model, _ in MODELS.values()], ids=[name for _, name in MODELS.values()])
def test_each_model_takes_a_step(model: ModelConfig, cache: Path) -> None:
    trainer = Trainer(
        model, toy.solution({}).machine, open_strips(cache, "train"), np.arange(8), seed=0, inner=np.arange(8, 9)
    )
    before = [value.clone() for value in trainer.net.parameters()]
    for epoch in range(len(model.phases)):
        report = trainer.epoch(epoch, "x")
        assert report.steps == 1 and np.isfinite(report.loss)
    assert any(not now.equal(then) for now, then in zip(trainer.net.parameters(), before, strict=True))
