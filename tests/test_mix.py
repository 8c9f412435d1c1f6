"""Mixup and cutmix: the target says what the image shows."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from steel.data.mix import cutmix, mixup
from steel.errors import UserError

Mix = Callable[..., tuple[Tensor, Tensor]]


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Image i shows the level 10 i everywhere, and its target the class i."""
    image = torch.arange(4, dtype=dtype).view(4, 1, 1, 1) * 10
    return image.expand(4, 1, 16, 50).contiguous(), torch.eye(4)


@pytest.mark.parametrize("seed", range(8))
def test_mixup_mixes_levels_and_targets_alike(seed: int) -> None:
    image, target = mixup(*batch(), np.random.default_rng(seed))
    levels = target @ torch.tensor([0.0, 10.0, 20.0, 30.0])
    assert torch.allclose(image, levels.view(4, 1, 1, 1).expand_as(image), atol=1e-4)
    assert torch.allclose(target.sum(1), torch.ones(4)) and torch.allclose(target.sum(0), torch.ones(4))
    assert len({round(float(x), 5) for x in target.flatten()} - {0.0, 1.0}) <= 2  # one share, and one minus it


def test_mixup_shares_come_from_beta() -> None:
    def shares(alpha: float) -> NDArray[np.float32]:
        targets = [mixup(*batch(), np.random.default_rng(seed), alpha)[1] for seed in range(500)]
        return np.array([float(t.diagonal().min()) for t in targets if not torch.equal(t, torch.eye(4))], np.float32)

    assert stats.kstest(shares(0.4), stats.beta(0.4, 0.4).cdf).pvalue > 0.05
    assert stats.kstest(shares(2.0), stats.beta(2.0, 2.0).cdf).pvalue > 0.05


def test_mixup_rounds_uint8() -> None:
    pair = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    for seed in range(12):
        image, target = mixup(pair, torch.eye(4)[:2], np.random.default_rng(seed))
        assert image.dtype == torch.uint8 and image.flatten().tolist() == (255 * target[:, 1]).round().tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("seed", range(20))
def test_cutmix_targets_are_the_shares_of_the_area(seed: int, dtype: torch.dtype) -> None:
    image, target = cutmix(*batch(dtype), np.random.default_rng(seed))
    assert image.dtype == dtype
    shares = torch.stack([(image == 10 * k).float().mean((1, 2, 3)) for k in range(4)], dim=1)  # (4, 4)
    assert torch.allclose(target, shares, atol=1e-6)
    for i, picture in enumerate(image[:, 0]):
        y, x = torch.nonzero(picture != 10 * i, as_tuple=True)
        if len(y):
            assert len(y) == (y.max() - y.min() + 1) * (x.max() - x.min() + 1)  # one full box


def test_cutmix_boxes_lie_everywhere_and_in_any_size() -> None:
    seen, sizes = torch.zeros(16, 50), []
    for seed in range(300):
        other = cutmix(*batch(), np.random.default_rng(seed))[0][0, 0] != 0
        seen += other
        sizes.append(float(other.float().mean()))
    assert seen.min() > 0 and min(s for s in sizes if s) < 0.02 and max(sizes) > 0.6


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_a_pure_function_of_the_generator(mix: Mix) -> None:
    image, target = batch()
    one, other = np.random.default_rng(7), np.random.default_rng(7)
    first, second = mix(image, target, one), mix(image, target, one)
    torch.manual_seed(1)
    again = mix(image, target, other), mix(image, target, other)
    for a, b in zip((*first, *second), (*again[0], *again[1]), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first[0], second[0])
    assert torch.equal(image, batch()[0]) and torch.equal(target, batch()[1])  # the input is left alone


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_alpha_out_of_range(mix: Mix) -> None:
    with pytest.raises(UserError, match=rf"^{mix.__name__}: alpha is 0; allowed: > 0$"):
        mix(*batch(), np.random.default_rng(0), 0)
