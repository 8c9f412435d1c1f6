"""Prediction: the mean over nets and views, bytes that do not depend on neighbours, stores that resume."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import toy
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from steel import specs
from steel.data.cache import open_strips
from steel.errors import UserError
from steel.infer import predict
from steel.infer.predictor import Answer, Predictor, quantise
from steel.infer.store import DONE, MAPS, VALUES, open_store
from steel.infer.tta import VIEWS
from steel.nets.build import Net, build
from steel.paths import Paths

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


class Ramp(nn.Module):
    """Outputs that grow from left to right and from top to bottom: flips matter."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        across = torch.linspace(-1, 1, x.shape[3]) + torch.linspace(-2, 0, x.shape[2])[:, None]
        classes = torch.tensor([1.0, -1, 2, 0.5]).view(1, 4, 1, 1)
        return self.slope * classes * (across + x)


def strips(n: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 64, 96), np.uint8)


def predictor(nets: list[Net], views: Sequence[str] = ("identity",), batch: int = 3) -> Predictor:
    return Predictor(True, nets, list(views), batch, CPU, torch.float32)


@pytest.mark.parametrize("views", [["identity"], ["hflip"], ["identity", "hflip"], [*VIEWS]])
def test_the_mean_over_nets_and_views_by_hand(views: list[str]) -> None:
    nets, images = [Net(Ramp(1), 1), Net(Ramp(-3), 1)], strips(2)
    parts = []
    flips: dict[str, tuple[int, ...]] = {"identity": (), "hflip": (2,), "vflip": (1,), "hvflip": (1, 2)}
    for net in nets:
        for view in views:
            seen = np.flip(images, flips[view]).copy()
            prob = net(torch.from_numpy(seen)[:, None]).main.sigmoid().numpy()
            parts.append(np.flip(prob, tuple(axis + 1 for axis in flips[view])))
    found = predictor(nets, views)(images).main
    assert found.shape == (2, 4, 64, 96) and found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), np.mean(parts, axis=0), atol=1e-6)


def test_values_that_are_no_numbers_are_refused() -> None:
    broken = predictor([Net(Ramp(1), 1), Net(Ramp(float("nan")), 1)])
    with pytest.raises(UserError, match=r"a net gives values that are no numbers; .*amp: fp32"):
        broken(strips(2))
    answer = broken.start(broken.pad(list(strips(2))), 2)
    with pytest.raises(UserError, match="no numbers"):
        answer.wait()


@pytest.mark.parametrize("n", [2, 3, 4, 9])
@pytest.mark.parametrize("body", [Ramp(2), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 4))])
def test_views_at_once_are_the_same_views(body: nn.Module, n: int) -> None:
    """To the last bit here, since this net treats each strip alone."""
    one_by_one = predictor([Net(body, 1)], [*VIEWS])
    at_once = replace(one_by_one, at_once=n)
    assert torch.equal(at_once(strips(2)).main, one_by_one(strips(2)).main)


def test_what_is_kept_of_a_batch() -> None:
    call = predictor([Net(Ramp(1), 1)], ["identity", "hflip"])
    prob = call(strips(2)).main
    maps, sums, labels = call.start(call.pad(list(strips(2))), 2).wait()
    assert labels is None and maps is not None and sums is not None
    assert np.array_equal(maps, quantise(prob))
    by_hand = [[sum(int(float(p) * 2**32) for p in plane.flatten()) / 2**32 for plane in one] for one in prob]
    assert sums.tolist() == by_hand


def test_a_classifier_too() -> None:
    body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 4))
    found = predictor([Net(body, 1)], [*VIEWS])(strips(2)).main
    expected = body((torch.from_numpy(strips(2))[:, None].float() / 255 - 0.449) / 0.226).sigmoid()
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_padded_batch_gives_the_bytes_of_a_full_one(n: int) -> None:
    torch.manual_seed(0)
    net = build(replace(toy.SEGMENTER, downscale=1)).eval()
    call, images = predictor([net], ["identity", "hflip"], batch=4), strips(4)
    assert torch.equal(call(images[:n]).main, call(images).main[:n])


def test_a_strip_does_not_depend_on_its_neighbours() -> None:
    net = build(toy.SEGMENTER).eval()
    call, images, others = predictor([net]), strips(3), strips(3, seed=1)
    others[1] = images[0]
    assert torch.equal(call(images).main[0], call(others).main[1])


def test_the_strips_are_not_changed() -> None:
    images = strips(3)
    before = images.copy()
    predictor([Net(Ramp(1), 1)], ["identity", "hflip"])(images)
    assert np.array_equal(images, before)


def test_quantise_by_eye() -> None:
    prob = torch.tensor([0.0, 1.0, 0.5, 0.0019, 0.002, 1 / 255, 254.5 / 255, 0.998])
    assert quantise(prob).tolist() == [0, 255, 128, 0, 1, 1, 254, 254]
    assert quantise(prob).dtype == np.uint8


@given(st.integers(0, 255))
def test_quantise_and_back(level: int) -> None:
    assert quantise(torch.tensor(level / 255)).item() == level


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with both kinds of model trained on two folds."""
    folder = toy.fresh(tmp_path_factory.mktemp("predict"))
    torch.set_num_threads(1)
    for name in toy.MODELS:
        for fold in (0, 1):
            toy.run(folder, name, fold=fold)
    return folder


@pytest.fixture
def paths(root: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.chdir(root)
    return Paths(toy.solution(toy.MODELS, batch=3))


@pytest.mark.parametrize("name", toy.MODELS)
def test_held_out_strips_each_once_by_the_model_that_did_not_see_them(name: str, paths: Paths) -> None:
    train = open_strips(paths.cache, "train")
    seen: list[str] = []
    for fold in (0, 1):
        predict.make_oof(paths, name, fold)
        found = open_store(paths.oof(name, fold))
        rows = range(fold, toy.N_TRAIN, 3)
        assert found.image_ids == [train.image_ids[row] for row in rows]
        seen += found.image_ids
        call = Predictor.load(paths, name, [fold])
        for i, row in ((0, rows[0]), (3, rows[3])):  # of both batches
            prob = call(train.images[row : row + 1]).main[0]
            if name == "unet":
                assert np.array_equal(found.map(i), quantise(prob))
                assert found.sums is not None
                assert found.sums[i] == pytest.approx(prob.double().sum((1, 2)).numpy(), rel=1e-9)
            else:
                assert found.gate is not None
                assert found.gate[i] == pytest.approx(prob.numpy(), rel=1e-6)
    assert len(set(seen)) == 8


def test_test_strips_are_the_mean_over_the_folds(paths: Paths) -> None:
    predict.make_test(paths, "unet", [0, 1])
    found = open_store(paths.test("unet"))
    images = open_strips(paths.cache, "test").images
    alone = [Predictor.load(paths, "unet", [fold])(images[:1]).main[0] for fold in (0, 1)]
    expected = quantise((alone[0] + alone[1]) / 2).astype(int)
    assert np.abs(found.map(0).astype(int) - expected).max() <= 1
    assert len(found.image_ids) == toy.N_TEST


class Killed(BaseException):
    """Stands for a kill: nothing in the package catches it."""


@pytest.mark.parametrize(("name", "left", "n_calls"), [("unet", 3 * 72, 3), ("gate", 3 * 72, 3), ("gate", 72 + 5, 4)])
def test_killed_and_started_again_it_gives_the_same_bytes(name: str, left: int, n_calls: int, paths: Paths) -> None:
    """Killed in the second batch, perhaps with the index of the first torn: what is not whole is computed again."""
    predict.make_oof(paths, name, 1)
    folder = paths.oof(name, 1)
    whole = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    calls = 0

    def killed(self: Predictor, batch: Tensor, n: int) -> Answer:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Killed
        return true(self, batch, n)

    true = Predictor.start
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "start", killed)
        with pytest.raises(Killed):
            predict.make_oof(paths, name, 1)
        work = next(folder.glob("building-*"))
        assert (work / DONE).stat().st_size == 3 * 72  # one batch of 3: row, 4 sums, 4 gates of 8 bytes
        os.truncate(work / DONE, left)
        predict.make_oof(paths, name, 1)
    assert calls == n_calls
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == whole
    expected = {MAPS, VALUES} if name == "unet" else {VALUES}
    assert {p.name for p in folder.iterdir()} == expected


@pytest.mark.usefixtures("paths")
def test_weights_of_another_net_are_refused() -> None:
    other = Paths(toy.solution({"unet": replace(toy.SEGMENTER, net="Unet", options={})}))
    with pytest.raises(UserError, match=r"fold0/weights\.safetensors does not hold this net's weights"):
        Predictor.load(other, "unet", [0])


@pytest.mark.usefixtures("paths")
@pytest.mark.parametrize(("amp", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_it_computes_in_the_type_of_the_model(amp: Literal["fp32", "bf16"], dtype: torch.dtype) -> None:
    models = {"unet": replace(toy.SEGMENTER, amp=amp)}
    found = Predictor.load(Paths(toy.solution(models, batch=5)), "unet", [0, 1])
    assert (found.dtype, found.batch, len(found.nets), found.views) == (dtype, 5, 2, ["identity", "hflip"])


def test_other_weights_or_views_are_another_key(paths: Paths) -> None:
    key = specs.of_oof(paths, "unet", 0).key
    solution = paths.solution
    one_view = replace(solution, predict=replace(solution.predict, tta=["identity"]))
    assert specs.of_oof(Paths(one_view), "unet", 0).key != key
    assert specs.of_test(paths, "unet", [0]).key != specs.of_test(paths, "unet", [0, 1]).key
