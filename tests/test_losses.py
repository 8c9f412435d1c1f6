"""Losses against values worked out by hand, and what images without a class do to them."""

from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steel.errors import UserError
from steel.nets.losses import LOSSES, bce, dice, focal, mixed


def logit(p: float) -> float:
    return log(p / (1 - p))


def maps(*values: float) -> Tensor:
    """One image (1, 4, 1, n) with the same row of values for each class."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1).expand(1, 4, 1, -1).clone()


def test_bce_by_hand() -> None:
    loss = bce(maps(logit(0.5), logit(0.8)), maps(1, 0))
    assert float(loss) == pytest.approx((log(2) + log(5)) / 2)  # -ln .5, -ln .2


def test_focal_by_hand() -> None:
    loss = focal(maps(logit(0.5), logit(0.8)), maps(1, 0))
    assert float(loss) == pytest.approx((0.25 * log(2) + 0.64 * log(5)) / 2)
    assert float(focal(maps(0.3, -2), maps(1, 0), gamma=0)) == pytest.approx(float(bce(maps(0.3, -2), maps(1, 0))))


def test_dice_by_hand() -> None:
    half = dice(maps(0, 0, 0, 0), maps(1, 1, 0, 0))  # p = .5: overlap 1, areas 2 + 2
    assert float(half) == pytest.approx(1 - (2 * 1 + 1) / (2 + 2 + 1))
    sure = dice(maps(99, 99, -99, -99), maps(1, 1, 0, 0))
    assert float(sure) == pytest.approx(0)
    wrong = dice(maps(99, 99, -99, -99), maps(0, 0, 1, 1))
    assert float(wrong) == pytest.approx(1 - 1 / 5)


def test_dice_is_of_the_batch_and_the_mean_of_the_classes() -> None:
    prob, target = torch.rand(3, 4, 5, 6), (torch.rand(3, 4, 5, 6) < 0.3).float()
    expected = []
    for k in range(4):
        p, t = prob[:, k], target[:, k]
        expected.append(1 - (2 * float((p * t).sum()) + 1) / (float(p.sum()) + float(t.sum()) + 1))
    assert float(dice(prob.logit(), target)) == pytest.approx(sum(expected) / 4, rel=1e-4)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (3, 4)])
def test_gradients_are_finite_even_of_extreme_logits(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    logits = (torch.randn(shape) * 1000).requires_grad_()
    loss = LOSSES[name](logits, (torch.rand(shape) < 0.5).float())
    assert loss.shape == () and torch.isfinite(loss)
    loss.backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_less_is_better(name: str) -> None:
    target = (torch.rand(2, 4, 8, 8) < 0.5).float()
    good, random, bad = (LOSSES[name](x, target) for x in (target * 8 - 4, target * 0, 4 - target * 8))
    assert good < random < bad


@pytest.mark.parametrize("name", LOSSES)
def test_a_class_absent_from_the_batch_is_pushed_down(name: str) -> None:
    logits = torch.zeros(2, 4, 4, 4, requires_grad=True)
    target = torch.ones(2, 4, 4, 4)
    target[:, 3] = 0
    LOSSES[name](logits, target).backward()
    assert logits.grad is not None
    assert (logits.grad[:, 3] > 0).all() and (logits.grad[:, :3] < 0).all()


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 2), st.floats(0, 2), st.floats(0, 2))
def test_mixed_is_the_weighted_sum(a: float, b: float, c: float) -> None:
    logits, target = maps(0.5, -1, 2), maps(1, 0, 0)
    expected = a * bce(logits, target) + b * dice(logits, target) + c * focal(logits, target)
    assert float(mixed({"bce": a, "dice": b, "focal": c})(logits, target)) == pytest.approx(float(expected), abs=1e-6)


def test_names() -> None:
    outside = mixed({"torch.nn.functional:mse_loss": 2.0})
    assert float(outside(maps(3), maps(1))) == 8
    with pytest.raises(UserError, match=r"loss: unknown name 'lovas'; allowed: bce, focal, dice"):
        mixed({"lovas": 1.0})
