"""Views and the way back."""

import pytest
import torch

from steel.config import TTA_VIEWS
from steel.infer.tta import VIEWS, from_view, to_view


def test_views_by_eye() -> None:
    image = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)
    seen = {view: to_view(image, view).flatten().tolist() for view in VIEWS}
    assert seen == {"identity": [1, 2, 3, 4], "hflip": [2, 1, 4, 3], "vflip": [3, 4, 1, 2], "hvflip": [4, 3, 2, 1]}


def test_the_config_knows_the_same_views() -> None:
    assert tuple(VIEWS) == TTA_VIEWS


@pytest.mark.parametrize("view", VIEWS)
def test_there_and_back(view: str) -> None:
    maps = torch.rand(2, 4, 6, 10)
    assert torch.equal(from_view(to_view(maps, view), view), maps)
    probs = torch.rand(2, 4)
    assert torch.equal(from_view(probs, view), probs)
