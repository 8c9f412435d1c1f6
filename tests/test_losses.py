"""Losses against values worked out by hand, and what images without a class do to them."""

from itertools import pairwise
from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steel.errors import UserError
from steel.nets import losses
from steel.nets.losses import LOSSES, Loss, mixed
from steel.nets.lovasz import lovasz_hinge, lovasz_symmetric
from steel.nets.torchvision_shim import ensure_torchvision_imports

ensure_torchvision_imports()
from segmentation_models_pytorch import losses as smp_losses  # noqa: E402 (after the shim)

SMOOTHED = -0.025 * log(0.025) - 0.975 * log(0.975)  # entropy of a label smoothed by .05
SHAPES = st.sampled_from([(1, 4, 1, 1), (2, 4, 3, 5), (3, 4)])


def logit(p: float) -> float:
    return log(p / (1 - p))


def maps(*values: float) -> Tensor:
    """One image (1, 4, 1, n) with the same row of values for each class."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1).expand(1, 4, 1, -1).clone()


def random_case(seed: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Outputs of some size and a hard target; every second seed leaves class 4 out."""
    generator = torch.Generator().manual_seed(seed)
    target = (torch.rand(shape, generator=generator) < 0.4).float()
    if seed % 2:
        target[:, 3] = 0
    return torch.randn(shape, generator=generator) * 3, target


def wrong_set_loss(wrong: set[int], mask: set[int]) -> float:
    """Jaccard loss of the prediction that is wrong at these pixels; no loss where both masks are empty."""
    pred = wrong ^ mask
    return 1 - len(pred & mask) / len(pred | mask) if pred | mask else 0.0


def choquet(errors: list[float], mask: set[int]) -> float:
    """Lovasz extension of the Jaccard loss: its integral over all heights of the set of errors above the height."""
    heights = sorted({0.0, *(e for e in errors if e > 0)})
    total = 0.0
    for low, high in pairwise(heights):
        total += (high - low) * wrong_set_loss({i for i, e in enumerate(errors) if e > low}, mask)
    return total


def brute_hinge(logits: Tensor, target: Tensor) -> float:
    rows, truths = logits.flatten(0, 1).reshape(-1, logits[0, 0].numel()), target.reshape(-1, target[0, 0].numel())
    found = []
    for row, truth in zip(rows.tolist(), truths.tolist(), strict=True):
        mask = {i for i, t in enumerate(truth) if t >= 0.5}
        found.append(choquet([1 - x if i in mask else 1 + x for i, x in enumerate(row)], mask))
    return sum(found) / len(found)


# p = .5 and .8 in one true and one false pixel: overlap .5, predicted 1.3, true 1, false positives .8, negatives .5
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bce", (log(2) + log(5)) / 2),  # -ln .5, -ln .2
        ("soft_bce", (log(2) + -0.025 * log(0.8) + 0.975 * log(5)) / 2),
        ("focal", (0.25 * log(2) + 0.64 * log(5)) / 2),
        ("dice", 1 - 2 / 3.3),
        ("dice_image", 1 - 2 / 3.3),
        ("jaccard", 1 - 1.5 / 2.8),
        ("tversky", 1 - 1.5 / (0.5 + 0.3 * 0.8 + 0.7 * 0.5 + 1)),
        ("focal_tversky", (1 - 1.5 / 2.09) ** 0.75),
        # errors 1 (true) and 1 + ln 4 (false): the false pixel first takes Jaccard from 1 to 1/2, the true one to 0
        ("lovasz_hinge", (1 + log(4)) / 2 + 1 / 2),
        ("lovasz_symmetric", (1 + log(4)) * (1 / 2 + 1) / 2 + 1 / 2 / 2),  # complement: first 1 to 0, then no more
        ("bce_dice", (log(2) + log(5)) / 2 + 1 - 2 / 3.3),
        ("batch_dice_flat", 1 - (4 * 2 * 0.5 + 1) / (4 * 2.3 + 1)),
    ],
)
def test_by_hand(name: str, expected: float) -> None:
    assert float(LOSSES[name](maps(logit(0.5), logit(0.8)), maps(1, 0))) == pytest.approx(expected, rel=1e-5)


def test_dice_of_batch_image_and_all() -> None:
    """Two images of two pixels: every class everywhere and found in the first, absent and predicted in the second."""
    logits, target = torch.full((2, 4, 1, 2), 99.0), torch.zeros(2, 4, 1, 2)
    target[0] = 1
    assert float(losses.dice(logits, target)) == pytest.approx(1 - 5 / 7)  # overlap 2, areas 4 + 2
    assert float(losses.dice_image(logits, target)) == pytest.approx((0 + 2 / 3) / 2)
    assert float(losses.batch_dice_flat(logits, target)) == pytest.approx(1 - 17 / 25)  # overlap 8, areas 16 + 8


def test_flat_dice_does_not_tell_classes_apart() -> None:
    logits, target = random_case(0, (2, 4, 3, 5))
    swapped = logits.transpose(0, 1).reshape(2, 4, 3, 5), target.transpose(0, 1).reshape(2, 4, 3, 5)
    assert float(losses.batch_dice_flat(*swapped)) == pytest.approx(float(losses.batch_dice_flat(logits, target)))
    assert float(losses.dice(*swapped)) != pytest.approx(float(losses.dice(logits, target)), abs=1e-3)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (losses.soft_bce, smp_losses.SoftBCEWithLogitsLoss(smooth_factor=0.025)),
        (losses.focal, smp_losses.FocalLoss("multilabel")),
        (losses.dice, smp_losses.DiceLoss("multilabel", smooth=0.5)),  # theirs adds it to the overlap, not to twice it
        (losses.jaccard, smp_losses.JaccardLoss("multilabel", smooth=1.0)),
        (losses.tversky, smp_losses.TverskyLoss("multilabel", alpha=0.3, beta=0.7, smooth=1.0)),
    ],
)
def test_as_smp_where_every_class_is_present(ours: Loss, theirs: Loss) -> None:
    logits, target = random_case(0, (3, 4, 8, 9))
    assert float(ours(logits, target)) == pytest.approx(float(theirs(logits, target)), rel=1e-5)


def test_lovasz_as_smp_on_one_class_at_a_time() -> None:
    logits, target = random_case(1, (3, 4, 40, 50))
    logits.requires_grad_()
    theirs = smp_losses.LovaszLoss("binary", per_image=True)(logits.flatten(0, 1), target.flatten(0, 1))
    ours = lovasz_hinge(logits, target)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-4)
    slope, expected = (torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs))
    assert torch.allclose(slope, expected, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), SHAPES, st.booleans())
def test_lovasz_against_the_integral(seed: int, shape: tuple[int, ...], ties: bool) -> None:
    logits, target = random_case(seed, shape)
    logits = logits.round() if ties else logits
    assert float(lovasz_hinge(logits, target)) == pytest.approx(brute_hinge(logits, target), rel=1e-4, abs=1e-6)
    both = (brute_hinge(logits, target) + brute_hinge(-logits, 1 - target)) / 2
    assert float(lovasz_symmetric(logits, target)) == pytest.approx(both, rel=1e-4, abs=1e-6)


def test_symmetric_lovasz_is_symmetric() -> None:
    logits, target = random_case(1, (2, 4, 3, 5))
    mirrored = lovasz_symmetric(-logits, 1 - target)
    assert float(mirrored) == pytest.approx(float(lovasz_symmetric(logits, target)))
    assert float(lovasz_hinge(-logits, 1 - target)) != pytest.approx(float(lovasz_hinge(logits, target)), abs=1e-3)


@pytest.mark.parametrize("loss", [lovasz_hinge, lovasz_symmetric])
def test_lovasz_takes_shares_from_a_half_on(loss: Loss) -> None:
    logits = maps(0.5, -1, 2, 0.1)
    assert float(loss(logits, maps(0.5, 0.49, 0.51, 0))) == float(loss(logits, maps(1, 0, 1, 0)))


def test_lovasz_pushes_only_the_worst_pixel_of_an_empty_image() -> None:
    logits = maps(0.5, -1, 2).requires_grad_()
    loss = lovasz_hinge(logits, maps(0, 0, 0))
    loss.backward()
    assert loss.item() == pytest.approx(1 + 2)
    assert logits.grad is not None and logits.grad[0, 0, 0].tolist() == [0, 0, 0.25]  # a quarter: mean of four classes


def test_lovasz_weights_keep_their_digits_on_whole_strips() -> None:
    """One true pixel among 409,599 that are falsely predicted with an error of .5 each."""
    logits, target = torch.full((1, 4, 256, 1600), -0.5), torch.zeros(1, 4, 256, 1600)
    logits[..., 0, 0], target[..., 0, 0] = -1, 1
    assert float(lovasz_hinge(logits, target)) == pytest.approx(2)  # it goes first: no overlap is left
    logits[..., 0, 0] = 0.75  # error .25, the last: each false pixel costs 1 / (n (n + 1)), the true one 1 / n
    n = 256 * 1600
    assert float(lovasz_hinge(logits, target)) == pytest.approx(0.5 * (1 - 1 / n) + 0.25 / n, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (3, 4)])
@pytest.mark.parametrize("size", [50, 1000])
def test_gradients_are_finite_even_of_extreme_logits(name: str, shape: tuple[int, ...], size: float) -> None:
    _, target = random_case(1, shape)
    for sign in (1, -1):  # all right, all wrong
        logits = ((2 * target - 1) * size * sign).requires_grad_()
        loss = LOSSES[name](logits, target)
        assert loss.shape == () and torch.isfinite(loss)
        loss.backward()
        assert logits.grad is not None and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(2, 4, 2, 3), (3, 4)])
def test_gradients_are_those_of_finite_differences(name: str, shape: tuple[int, ...]) -> None:
    logits, target = random_case(1, shape)
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, target.double()), logits.double().requires_grad_())


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), soft=st.booleans())
def test_pixels_have_no_order_and_no_loss_is_negative(name: str, seed: int, soft: bool) -> None:
    logits, target = random_case(seed, (2, 4, 3, 5))
    target = target * 0.7 if soft else target
    order = torch.randperm(15, generator=torch.Generator().manual_seed(seed))
    moved = [x.flatten(2)[:, :, order].view(2, 4, 3, 5) for x in (logits, target)]
    loss = float(LOSSES[name](logits, target))
    assert float(LOSSES[name](moved[0], moved[1])) == pytest.approx(loss, rel=1e-5)
    assert loss >= 0


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(2, 4, 6, 7), (3, 4)])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_perfect_prediction_costs_nothing(name: str, shape: tuple[int, ...], seed: int) -> None:
    _, target = random_case(seed, shape)
    best, floor = (logit(0.975), SMOOTHED) if name == "soft_bce" else (50, 0)
    assert float(LOSSES[name]((2 * target - 1) * best, target)) == pytest.approx(floor, abs=1e-4)


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
    empty, full = logits.grad[:, 3], logits.grad[:, :3]
    assert (full < 0).all() and (empty >= 0).all()
    worst_only = name == "lovasz_hinge"
    assert (empty > 0).flatten(1).sum(1).tolist() == ([1, 1] if worst_only else [16, 16])


@pytest.mark.parametrize(
    "name", ["bce", "soft_bce", "dice", "dice_image", "batch_dice_flat", "jaccard", "tversky", "focal_tversky"]
)
def test_shares_of_cells_stand_for_the_pixels_in_them(name: str) -> None:
    """With one logit per cell of 8 x 8 px, the shares of the cells cost what the pixels cost; smooth is in pixels."""
    cells = random_case(0, (2, 4, 2, 3))[0]
    fine = cells.repeat_interleave(8, 2).repeat_interleave(8, 3)
    _, target = random_case(1, (2, 4, 16, 24))
    shares = torch.nn.functional.avg_pool2d(target, 8)
    small: dict[str, float] = {} if "bce" in name else {"smooth": 1.0}
    large = dict.fromkeys(small, 64.0)
    function = getattr(losses, name)
    assert float(function(cells, shares, **small)) == pytest.approx(float(function(fine, target, **large)), rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 2), st.floats(0, 2), st.floats(0, 2))
def test_mixed_is_the_weighted_sum(a: float, b: float, c: float) -> None:
    args = maps(0.5, -1, 2), maps(1, 0, 0)
    expected = a * losses.bce(*args) + b * losses.dice(*args) + c * losses.focal(*args)
    assert float(mixed({"bce": a, "dice": b, "focal": c})(*args)) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (2, 4)])
def test_positive_weights_by_hand(shape: tuple[int, ...]) -> None:
    """At p = .5 every pixel costs ln 2: the positive ones by their class's weight, here on average 2.5."""
    loss = mixed({"bce": 1.0}, pos_weight=[1, 2, 3, 4])
    assert float(loss(torch.zeros(shape), torch.ones(shape))) == pytest.approx(2.5 * log(2))
    assert float(loss(torch.zeros(shape), torch.zeros(shape))) == pytest.approx(log(2))
    third = torch.zeros(shape)
    third[:, 2] = 1
    assert float(loss(torch.zeros(shape), third)) == pytest.approx((3 + 3 * 1) / 4 * log(2))
    focal = mixed({"focal": 1.0}, pos_weight=[1, 2, 3, 4])
    assert float(focal(torch.zeros(shape), third)) == pytest.approx((3 + 3 * 1) / 4 * log(2) / 4)
    soft = mixed({"soft_bce": 1.0}, pos_weight=[3, 3, 3, 3])
    assert float(soft(torch.zeros(shape), torch.ones(shape))) == pytest.approx((3 * 0.975 + 0.025) * log(2))


@pytest.mark.parametrize("name", ["bce", "soft_bce", "focal", "bce_dice"])
def test_weights_of_one_change_nothing(name: str) -> None:
    args = random_case(1, (2, 4, 3, 5))
    assert float(mixed({name: 1.0}, pos_weight=[1, 1, 1, 1])(*args)) == pytest.approx(float(LOSSES[name](*args)))


def test_weights_go_to_those_that_use_them() -> None:
    args = random_case(0, (2, 4, 3, 5))
    weights = [5.0, 6.0, 7.0, 8.0]
    both = mixed({"bce": 0.5, "dice": 2.0}, weights)(*args)
    assert float(both) == pytest.approx(0.5 * float(mixed({"bce": 1}, weights)(*args)) + 2 * float(losses.dice(*args)))
    shortcut = mixed({"bce_dice": 1}, weights)(*args)
    assert float(shortcut) == pytest.approx(float(mixed({"bce": 1, "dice": 1}, weights)(*args)))
    outside = mixed({"torch.nn.functional:binary_cross_entropy_with_logits": 1}, weights)(*args)
    assert float(outside) == pytest.approx(float(mixed({"bce": 1}, weights)(*args)))


def test_weights_that_no_loss_uses_are_refused() -> None:
    with pytest.raises(UserError, match=r"not used by the loss dice, jaccard; allowed with .*: bce, soft_bce"):
        mixed({"dice": 1.0, "jaccard": 1.0}, pos_weight=[1, 2, 3, 4])
    with pytest.raises(UserError, match="not used by the loss torch:dist"):  # written in C: tells no signature
        mixed({"torch:dist": 1.0}, pos_weight=[1, 2, 3, 4])


def test_names() -> None:
    outside = mixed({"torch.nn.functional:mse_loss": 2.0})
    assert float(outside(maps(3), maps(1))) == 8
    with pytest.raises(UserError, match=r"loss: unknown name 'lovas'; allowed: bce, soft_bce, focal, dice"):
        mixed({"lovas": 1.0})
