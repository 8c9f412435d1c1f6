"""Every solution that comes with the kit: it loads, and each of its models takes a step at reduced size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import toy

from steel import cli
from steel.config import Solution
from steel.data.cache import open_strips
from steel.fit.trainer import Trainer

CONFIGS = sorted((tiny.ROOT / "configs").glob("*.yaml"))


def load(path: Path) -> Solution:
    return cli.parse("status", "", [str(path)])[0]


MODELS = [(path, name) for path in CONFIGS for name in load(path).models]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.fresh(tmp_path_factory.mktemp("configs")) / "data/toy/cache"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_file_has_the_name_of_its_solution(path: Path) -> None:
    assert load(path).name == path.stem


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("path", "name"), MODELS, ids=[f"{path.stem}-{name}" for path, name in MODELS])
def test_each_model_takes_a_step(path: Path, name: str, cache: Path) -> None:
    model = load(path).models[name]
    phases = [replace(phase, epochs=1, width=64, batch=2, samples=2) for phase in model.phases]
    small = replace(model, phases=phases, weights=None, average_epochs=min(model.average_epochs, 1))
    small = replace(small, best_epochs=min(model.best_epochs, 1), validate_every=len(phases))
    trainer = Trainer(
        small, toy.solution({}).machine, open_strips(cache, "train"), np.arange(8), seed=0, inner=np.arange(8, 9)
    )
    before = [value.clone() for value in trainer.net.parameters()]
    for epoch in range(len(phases)):
        report = trainer.epoch(epoch, "x")
        assert report.steps == 1 and np.isfinite(report.loss)
    assert any(not now.equal(then) for now, then in zip(trainer.net.parameters(), before, strict=True))
