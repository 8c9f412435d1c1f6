"""On a GPU: the samples are the same bytes, nets come near those of the CPU, and what was stopped goes on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy

from steel import specs
from steel.config import MachineConfig, ModelConfig, PredictConfig, Solution
from steel.data.cache import Strips, open_strips
from steel.data.dataset import Crops, Sampling
from steel.data.on_device import Batches, OnDevice
from steel.fit.loading import loader
from steel.fit.trainer import Trainer
from steel.infer import predict
from steel.infer.predictor import Predictor
from steel.infer.store import open_store
from steel.nets.build import build, place
from steel.paths import Paths

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU at hand"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's own, where it compiles
]
GPU = torch.device("cuda")
ON_GPU = MachineConfig("cuda", jobs=1)


@pytest.fixture(scope="module")
def strips(tmp_path_factory: pytest.TempPathFactory) -> Strips:
    return open_strips(toy.fresh(tmp_path_factory.mktemp("gpu")) / "data/toy/cache", "train")


def on_gpu(models: dict[str, ModelConfig]) -> Solution:
    """The toy solution on a GPU."""
    return replace(toy.solution(models), machine=ON_GPU)


@pytest.mark.parametrize("width", [96, 1600])
def test_samples_are_those_of_the_workers_to_the_byte(width: int, strips: Strips) -> None:
    rows = np.array([0, 2, 3, 4, 6, 9])
    sampling = Sampling(rows, width, 24, 0.7, "light", seed=3)
    here = Batches(OnDevice(strips, rows, GPU), Crops(strips, sampling, 1), range(24), 4)
    there = loader(strips, sampling, 1, 4, replace(ON_GPU, workers=2), GPU)
    assert len(here) == len(there) == 6
    for made, sent in zip(here, there, strict=True):
        for a, b in zip(made, sent, strict=True):
            assert a.is_cuda and b.is_pinned() and torch.equal(a.cpu(), b)


@pytest.mark.parametrize("kind", toy.MODELS)
@pytest.mark.parametrize("keys", [{"amp": "bf16"}, {"amp": "fp16"}, {"amp": "fp32"}], ids=str)
def test_a_training_learns(kind: str, keys: dict, strips: Strips) -> None:
    phases = [replace(toy.PHASES[0], epochs=8, samples=30)]
    model = replace(toy.MODELS[kind], phases=phases, augment="none", **keys)
    trainer = Trainer(model, ON_GPU, strips, np.arange(9), seed=1)
    losses = [trainer.epoch(epoch, "").loss for epoch in range(8)]
    assert np.isfinite(losses).all() and losses[-1] < 0.8 * losses[0]
    assert trainer.scaler.is_enabled() == (keys["amp"] == "fp16")


@pytest.mark.parametrize(
    "machine", [{}, {"checkpoint_gradients": True}, {"compile": True}, {"sampling": "device"}], ids=str
)
def test_every_way_of_training_comes_near_that_of_a_cpu(machine: dict, strips: Strips) -> None:
    """Two epochs in fp32 (TF32 on the GPU), without what draws random numbers on the device."""
    model = replace(toy.SEGMENTER, options={**toy.SEGMENTER.options, "decoder_dropout": 0.0}, augment="flips")
    trainers = [
        Trainer(model, one, strips, np.arange(9), seed=1)
        for one in (replace(ON_GPU, **machine), toy.solution({}).machine)
    ]
    losses = [[trainer.epoch(epoch, "").loss for epoch in range(2)] for trainer in trainers]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_held_out_strips_are_scored_as_on_a_cpu(strips: Strips) -> None:
    """In fp32 (TF32 on the GPU) and in many batches, the last not full: few pixels fall on the other side."""
    model = replace(toy.SEGMENTER, ema=0.0)
    here, there = (Trainer(model, one, strips, np.arange(9), seed=1) for one in (ON_GPU, toy.solution({}).machine))
    for epoch in range(4):
        here.epoch(epoch, "")
    there.average.values = {name: value.cpu() for name, value in here.average.values.items()}
    rows = np.tile(np.arange(12), 7)
    found, expected = (trainer.validate(rows, "") for trainer in (here, there))
    assert 0 < expected.mean < 1
    assert found.class_mean == pytest.approx(expected.class_mean, abs=0.01)


@pytest.mark.parametrize("kind", toy.MODELS)
def test_probabilities_are_near_those_of_a_cpu(kind: str, strips: Strips) -> None:
    torch.manual_seed(0)
    net, images = build(toy.MODELS[kind]).eval(), strips.images[:5]
    here = Predictor(kind == "unet", [net], ["identity", "hflip"], 5, torch.device("cpu"), torch.float32)
    expected = here(images).main
    there = replace(here, nets=[place(net, GPU)], device=GPU, at_once=2)
    assert (there(images).main.cpu() - expected).abs().max() < 0.01
    assert (replace(there, dtype=torch.bfloat16)(images).main.cpu() - expected).abs().max() < 0.05


def test_a_store_is_written_twice_to_the_same_bytes(tmp_path: Path) -> None:
    """While one batch is computed others are read and written: none may be told before it is there."""
    solution = replace(on_gpu({"unet": replace(toy.SEGMENTER, amp="bf16")}), predict=PredictConfig(["identity"], 2))
    paths, root, found = Paths(solution), toy.fresh(tmp_path), []
    toy.run(root, "unet", solution)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        predictor, images = Predictor.load(paths, "unet", [toy.FOLD]), open_strips(paths.cache, "test").images
        for _ in range(2):
            found.append(predict.make_test(paths, "unet", [toy.FOLD]))
            store = open_store(specs.of_test(paths, "unet", [toy.FOLD]).folder)
            for row in range(len(images)):
                pair = list(images[row // 2 * 2 :][:2])
                maps, _, _ = predictor.start(predictor.pad(pair), len(pair)).wait()
                assert maps is not None and np.array_equal(store.map(row), maps[row % 2])
    assert found[0] == found[1]


def test_it_goes_on_after_its_last_checkpoint(tmp_path: Path, strips: Strips) -> None:
    """On a GPU sums may round in another order: near, not equal."""
    whole, cut = (Trainer(replace(toy.CLASSIFIER, amp="fp16"), ON_GPU, strips, np.arange(9), seed=1) for _ in range(2))
    losses = [whole.epoch(epoch, "").loss for epoch in range(4)]
    for epoch in range(2):
        cut.epoch(epoch, "")
    cut.save(tmp_path / "checkpoint.pt", "key", 2, [])
    other = Trainer(replace(toy.CLASSIFIER, amp="fp16"), ON_GPU, strips, np.arange(9), seed=1)
    assert other.restore(tmp_path / "checkpoint.pt", "key") == (2, [])
    assert other.scaler.get_scale() == cut.scaler.get_scale()
    assert [other.epoch(epoch, "").loss for epoch in (2, 3)] == pytest.approx(losses[2:], rel=0.05)
