"""Samples made in batches on the device: byte for byte those of the workers, and so is the training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy

from steel.config import MachineConfig, ModelConfig
from steel.data import on_device
from steel.data.cache import open_strips
from steel.data.dataset import Crops, Sampling
from steel.data.on_device import Batches, Change, OnDevice
from steel.errors import UserError
from steel.fit import train
from steel.paths import Paths

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.fresh(tmp_path_factory.mktemp("on_device"))


@pytest.mark.parametrize("width", [64, 1600])
@pytest.mark.parametrize("augment", ["none", "flips", "light", {"default": "none", "1": "light", "3": "flips"}])
def test_every_sample_is_that_of_a_worker(augment: str | Mapping[str, str], width: int, root: Path) -> None:
    strips, rows = open_strips(root / "data/toy/cache", "train"), np.array([0, 2, 3, 4, 6, 9])
    crops = Crops(strips, Sampling(rows, width, 60, 0.7, augment, seed=3), epoch=1)
    positions = range(1, 60, 2)
    batches = list(Batches(OnDevice(strips, rows, CPU), crops, positions, 4))
    assert len(batches) == 7 and all(image.shape == (4, 256, width) for image, _ in batches)
    for i, (image, mask) in enumerate(batches):
        for k in range(4):
            expected = crops[positions[4 * i + k]]
            assert image[k].numpy().tobytes() == expected[0].tobytes()
            assert mask[k].numpy().tobytes() == expected[1].tobytes()
    assert image.dtype == mask.dtype == torch.uint8


def test_changes_are_drawn_as_often_as_the_recipe_says() -> None:
    found = [on_device.draw("light", seed) for seed in range(4000)]
    for chosen in ([c.across for c in found], [c.upside_down for c in found], [c.contrast is not None for c in found]):
        assert sum(chosen) == pytest.approx(2000, abs=130)  # 4 standard deviations
    contrasts = [c.contrast for c in found if c.contrast is not None]
    assert 0.8 <= min(contrasts) < 0.805 and 1.195 < max(contrasts) <= 1.2
    assert {on_device.draw("none", seed) for seed in range(9)} == {Change()}


@pytest.mark.parametrize("name", toy.MODELS)
def test_the_training_is_the_same_to_the_bit(name: str, tmp_path: Path) -> None:
    """Its averages need the samples twice."""
    model = replace(toy.MODELS[name], augment="light", average_epochs=1)
    solution, found = toy.solution({name: model}), []
    for sampling in ("workers", "device"):
        folder = toy.fresh(tmp_path / sampling)
        machine = replace(solution.machine, sampling=sampling)
        found.append(toy.weights(toy.run(folder, name, replace(solution, machine=machine))))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"augment": "medium"},
            "device does not make the augmentation 'medium'; allowed: none, flips, light, or sampl",
        ),
        ({"augment": {"default": "light", "2": "heavy"}}, "device does not make the augmentation 'heavy'; allowed: "),
        ({"augment": "light", "paste": 0.1}, "device pastes no defects; allowed: paste: 0, or sampling: workers"),
    ],
)
def test_what_it_cannot_make_is_refused(model: dict, message: str) -> None:
    solution = toy.solution({"unet": replace(toy.SEGMENTER, **model)})
    machine = MachineConfig("cpu", threads=1, sampling="device")
    with pytest.raises(UserError) as error:
        train.check(Paths(replace(solution, machine=machine)), "unet")
    assert str(error.value).startswith(f"models.unet: machine.sampling: {message}")


def test_strips_that_do_not_fit(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (5_000_000, 8_000_000))
    with pytest.raises(UserError) as error:
        OnDevice(open_strips(root / "data/toy/cache", "train"), np.arange(8), torch.device("cuda"))
    line = "machine.sampling: device needs 0.0 GB of the GPU for 8 strips and their masks, 0.0 GB are free; "
    assert str(error.value) == f"{line}allowed: workers"


def test_only_the_training_rows_are_copied(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a GPU, on torch's meta device, which has no values."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2**33, 2**34))
    store = OnDevice(open_strips(root / "data/toy/cache", "train"), np.array([7, 2]), torch.device("meta"))
    assert store.images.shape == store.masks.shape == (2, 256, 1600)
    assert (store.place[7], store.place[2], store.place[0]) == (0, 1, -1)
    assert ModelConfig().augment in on_device.DRAWN  # the default is made here
