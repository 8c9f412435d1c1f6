"""Averages of weights against plain loops and numpy, batch-norm statistics against one big batch and torch's own."""

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from steel.errors import UserError
from steel.fit.average import Average, Best, Ema, Swa, keep, mean_of, update_batch_norm


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def walk(net: nn.Module) -> None:
    """Move the weights and the statistics at random."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p))
    net(torch.randn(4, 1, 8, 8))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_ema_against_a_plain_loop(decay: float) -> None:
    net = small_net()
    ema = Ema(net, decay)
    expected = {name: value.double().clone() for name, value in net.state_dict().items()}
    for t in range(30):
        walk(net)
        ema.update()
        d = min(decay, (1 + t) / (10 + t))
        for name, value in net.state_dict().items():
            expected[name] = d * expected[name] + (1 - d) * value.double()
    check(ema, expected, 30)


def test_swa_is_the_mean_of_all_epochs() -> None:
    net = small_net()
    walk(net)  # an early epoch, not to count
    swa = Swa(net)
    states = []
    for _ in range(7):
        walk(net)
        swa.update()
        states.append({name: value.double().clone() for name, value in net.state_dict().items()})
    check(swa, {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}, 8)
    assert swa.updates == 7


def check(average: Average, expected: dict[str, Tensor], n_batches: int) -> None:
    for name, value in average.values.items():
        if "num_batches" in name:
            assert value.item() == n_batches  # a counter is copied
        else:
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_without_decay_the_last_weights_ship() -> None:
    net = small_net()
    ema = Ema(net, 0.0)
    for _ in range(3):
        net.get_parameter("0.weight").data.add_(1.234567)
        ema.update()
    assert all(torch.equal(value, ema.values[name]) for name, value in net.state_dict().items())


def test_one_epoch_of_swa_is_that_epoch() -> None:
    net = small_net()
    swa = Swa(net)
    walk(net)
    swa.update()
    assert all(torch.equal(value, swa.values[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("make", [lambda net: Ema(net, 0.9), Swa])
def test_an_average_goes_on_from_its_state(make: Callable[[nn.Module], Ema | Swa]) -> None:
    net = small_net()
    whole = make(net)
    for epoch in range(4):
        if epoch == 2:
            second = make(net)
            second.values, second.updates = copy.deepcopy(whole.values), whole.updates
        walk(net)
        whole.update()
        if epoch >= 2:
            second.update()
    assert all(torch.equal(value, second.values[name]) for name, value in whole.values.items())


def test_a_statistic_that_is_replaced_counts() -> None:
    """A module may assign it anew, where those of torch change it in place."""

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(1))
            self.register_buffer("aside", torch.zeros(1), persistent=False)

    net = nn.Sequential(Mean())
    ema = Ema(net, 0.0)
    net[0].mean = torch.tensor([3.0])
    ema.update()
    assert {name: value.item() for name, value in ema.values.items()} == {"0.mean": 3.0}


@pytest.mark.parametrize("make", [lambda net: Ema(net, 0.9), Swa])
def test_the_average_does_not_touch_the_net(make: Callable[[nn.Module], Average]) -> None:
    net = small_net()
    before = copy.deepcopy(net.state_dict())
    for value in make(net).values.values():
        value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_mean_of_checkpoints_against_numpy() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(3, 5)).astype(np.float32) * 10.0**i for i in range(7)]
    states = [{"weight": torch.from_numpy(array), "counter": torch.tensor(i)} for i, array in enumerate(arrays)]
    found = mean_of(states)
    expected = np.stack(arrays).astype(np.float64).mean(0).astype(np.float32)
    assert np.array_equal(found["weight"].numpy(), expected) and found["weight"].dtype is torch.float32
    assert found["counter"].item() == 6 and found["counter"].dtype is torch.int64


def test_the_mean_is_taken_in_double_precision() -> None:
    values = [2.0**24, *[1.0] * 4]  # in float32 2 ** 24 + 1 is 2 ** 24
    found = mean_of([{"w": torch.tensor([value])} for value in values])["w"]
    assert found.item() == np.float32((2**24 + 4) / 5) != np.float32(2**24 / 5)


def test_the_mean_is_a_copy() -> None:
    state = {"w": torch.ones(2), "n": torch.tensor(3)}
    found = mean_of([state])
    for value in found.values():
        value.zero_()
    assert state["w"].tolist() == [1, 1] and state["n"].item() == 3


def test_states_that_do_not_fit_are_named() -> None:
    with pytest.raises(UserError, match="no weights to take the mean of"):
        mean_of([])
    states = [{"a": torch.zeros(2), "b": torch.zeros(1)}, {"a": torch.zeros(3), "c": torch.zeros(1)}]
    with pytest.raises(UserError, match="weights 1 differ from weights 0 in a, b, c;"):
        mean_of(states)


def test_the_best_epochs_are_averaged() -> None:
    best = Best(2)
    for score, weight in ((0.5, 1.0), (0.9, 2.0), (math.nan, 3.0), (0.7, 4.0), (0.6, 5.0)):
        best.offer(score, {"w": torch.tensor([weight])})
        assert len(best.states) <= 2
    assert list(best.states) == [1, 3]
    assert best.mean()["w"].tolist() == [3.0]


def test_what_a_gpu_read_goes_on_with_epochs_on_the_cpu() -> None:
    best = Best(2)
    best.offer(0.5, {"w": torch.tensor([1.0])})
    moved: list[str] = []

    class Elsewhere(torch.Tensor):
        def cpu(self, *_args: object, **_options: object) -> Tensor:
            moved.append("w")
            return torch.tensor([1.0])

    again = Best(2)
    again.restore(best.scores, {0: {"w": torch.zeros(1).as_subclass(Elsewhere)}})
    again.offer(0.4, {"w": torch.tensor([3.0])})
    assert moved == ["w"] and again.mean()["w"].tolist() == [2.0]


def test_what_is_kept_of_an_epoch_does_not_follow_the_weights() -> None:
    best, value = Best(1), torch.tensor([1.0])
    best.offer(0.5, {"w": value})
    value.fill_(7.0)
    assert best.mean()["w"].tolist() == [1.0]


def strips(*lengths: int) -> list[Tensor]:
    """Batches of images with a spread of brightness."""
    torch.manual_seed(1)
    return [torch.randn(n, 1, 12, 12) * (i + 1) + i for i, n in enumerate(lengths)]


def dropping_net() -> nn.Sequential:
    """A net whose first batch norm sees the images through a convolution, its second through dropout."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(3, 2, 3)]
    net = nn.Sequential(*layers, nn.BatchNorm2d(2, momentum=0.3))
    walk(net)
    return net


def test_statistics_of_one_big_batch() -> None:
    net, (image,) = dropping_net(), strips(6)
    update_batch_norm(net, [image])
    with torch.no_grad():
        x = net[0](image)
        normed = F.batch_norm(x, None, None, net.get_parameter("1.weight"), net.get_parameter("1.bias"), training=True)
        hidden = net[4](normed.relu())
    for name, seen in (("1", x), ("5", hidden)):  # without dropout
        torch.testing.assert_close(net.get_buffer(f"{name}.running_mean"), seen.mean((0, 2, 3)))
        torch.testing.assert_close(net.get_buffer(f"{name}.running_var"), seen.var((0, 2, 3)))


def test_means_over_batches_weigh_each_image_alike() -> None:
    net, batches = dropping_net(), strips(4, 4, 2)
    update_batch_norm(net, batches)
    with torch.no_grad():
        seen = [net[0](image) for image in batches]
    torch.testing.assert_close(net.get_buffer("1.running_mean"), torch.cat(seen).mean((0, 2, 3)))
    variance = sum(len(x) * x.var((0, 2, 3)) for x in seen) / 10
    torch.testing.assert_close(net.get_buffer("1.running_var"), variance)


def test_without_dropout_and_with_equal_batches_it_is_that_of_torch() -> None:
    net, batches = dropping_net(), strips(3, 3, 3)
    net[3] = nn.Identity()
    other = copy.deepcopy(net)
    update_batch_norm(net, batches)
    update_bn(batches, other)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(net.state_dict()[name], value)


@pytest.mark.parametrize("training", [True, False])
def test_the_rest_of_the_net_stays_as_it_was(training: bool) -> None:
    net = dropping_net().train(training)
    net[0].train(not training)
    before, weights = [module.training for module in net.modules()], copy.deepcopy(dict(net.named_parameters()))
    batches, random = strips(3), torch.get_rng_state()
    update_batch_norm(net, batches)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in net.modules()] == before
    assert [net[1].momentum, net[5].momentum] == [0.1, 0.3]
    assert all(torch.equal(p, weights[name]) and p.grad is None for name, p in net.named_parameters())


def test_statistics_need_a_batch_only_where_there_are_any() -> None:
    with pytest.raises(UserError, match="no batch"):
        update_batch_norm(small_net(), [])
    update_batch_norm(nn.Conv2d(1, 1, 3), iter(lambda: pytest.fail("asked for a batch"), None))


@pytest.mark.parametrize(
    ("scores", "k", "expected"),
    [
        ([0.1, 0.5, 0.3, 0.4], 2, [1, 3]),
        ([0.5, 0.5, 0.5], 2, [1, 2]),  # ties: the later
        ([0.5, 0.4], 5, [0, 1]),
        ([float("nan"), 0.2, float("nan"), 0.1], 3, [1, 3]),
        ([], 1, []),
    ],
)
def test_the_best_are_kept(scores: list[float], k: int, expected: list[int]) -> None:
    assert keep(scores, k) == expected


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, float("nan")]), max_size=12), st.integers(1, 4))
def test_what_was_not_kept_is_never_wanted_again(scores: list[float], k: int) -> None:
    for n in range(1, len(scores) + 1):
        assert set(keep(scores[:n], k)) <= {*keep(scores[: n - 1], k), n - 1}
