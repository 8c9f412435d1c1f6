"""Schedules at points checkable by eye, against torch's own, and what holds for every entry of the table."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from steel.config import Phase
from steel.errors import UserError
from steel.fit.schedules import SCHEDULES, lr_at, place_of, plateau

LOSSES = st.lists(st.floats(0, 1), max_size=40)


def rates(schedule: str, n_steps: int, peak: float = 1.0, warmup: int = 0, past: Sequence[float] = ()) -> list[float]:
    """The learning rates of a whole phase."""
    return [lr_at(step, n_steps, peak, warmup, schedule, past) for step in range(n_steps)]


def torch_sgd() -> torch.optim.SGD:
    """Something whose rate a scheduler of torch can move, from 1."""
    return torch.optim.SGD([torch.zeros(1)], lr=1.0)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cosine", [0.25, 0.5, 0.75, 1.0, 0.9701, 0.8842, 0.7525, 0.591, 0.419, 0.2575, 0.1258, 0.0399]),
        ("poly", [0.25, 0.5, 0.75, 1.0, 0.8994, 0.7976, 0.6943, 0.5892, 0.4820, 0.3720, 0.2583, 0.1384]),
        ("constant", [0.25, 0.5, 0.75] + [1.0] * 9),
        ("plateau", [0.25, 0.5, 0.75] + [1.0] * 9),
    ],
)
def test_warm_up_of_3_steps_then_9_by_eye(schedule: str, expected: list[float]) -> None:
    assert rates(schedule, 12, warmup=3) == pytest.approx(expected, abs=6e-5)


def test_the_middle_by_eye() -> None:
    assert lr_at(50, 100, 2.0, 0, "cosine") == pytest.approx(2 * (0.01 + 0.99 / 2))
    assert lr_at(50, 100, 2.0, 0, "poly") == pytest.approx(2 * 0.5**0.9)
    cycle = [lr_at(step, 24, 2.0, 4, "one_cycle") for step in (3, 4, 9, 16, 23)]  # begins, peaks, halves, ends
    assert cycle == pytest.approx([0.8 * 2 / 25, 2 / 25, 2, 2 * 0.50005, 2e-4])
    assert lr_at(50, 100, 2.0, 0, "plateau", [1.0] * 4) == 1.0


@pytest.mark.parametrize("n_steps", [4, 10, 101])
def test_one_cycle_is_that_of_torch(n_steps: int) -> None:
    optimizer = torch_sgd()
    scheduler = lr_scheduler.OneCycleLR(
        optimizer, 1.0, n_steps, pct_start=0.3, div_factor=25, final_div_factor=400, cycle_momentum=False
    )
    expected = []
    for _ in range(n_steps):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        if len(expected) < n_steps:
            scheduler.step()
    assert rates("one_cycle", n_steps) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(st.integers(1, 200), st.floats(1e-6, 1), st.integers(0, 100), LOSSES)
def test_within_the_peak_and_warmed_up(
    schedule: str, n_steps: int, peak: float, warmup: int, past: Sequence[float]
) -> None:
    found = rates(schedule, n_steps, peak, warmup, past)
    top = min(warmup, n_steps // 2)
    assert min(found) > 0 and max(found) <= peak * (1 + 1e-9)
    assert all(low < high for low, high in pairwise(found[: top + 1]))  # up to where the schedule begins
    steps = [high - low for low, high in pairwise(found[: top + 1])]
    assert steps == pytest.approx([found[0]] * top)  # and in equal steps, the first of them from zero


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if name != "one_cycle"])
@given(st.integers(1, 200), st.integers(0, 100))
def test_falls_from_the_peak(schedule: str, n_steps: int, warmup: int) -> None:
    top = min(warmup, n_steps // 2)
    found = rates(schedule, n_steps, 0.5, warmup)[top:]
    assert found[0] == 0.5 and found == sorted(found, reverse=True)


@pytest.mark.parametrize(("n_steps", "expected"), [(1, [1]), (2, [1, 1e-4]), (3, [1, 0.50005, 1e-4])])
def test_a_cycle_too_short_to_rise_only_falls(n_steps: int, expected: list[float]) -> None:
    assert rates("one_cycle", n_steps) == pytest.approx(expected)


@given(st.integers(4, 200))
def test_one_cycle_rises_for_a_third_then_falls(n_steps: int) -> None:
    found = rates("one_cycle", n_steps)
    top = found.index(max(found))
    assert found == sorted(found[:top]) + sorted(found[top:], reverse=True)
    assert abs(top - (0.3 * n_steps - 1)) <= 1


def test_plateau_by_hand() -> None:
    losses = [5, 4, 4, 4, 4, 3, 3, 3.5, 3, 3, 3, 3]
    #         idle:  1  2  3        1  2    3  1  2  3
    shares = [plateau(losses[:n]) for n in range(len(losses) + 1)]
    assert shares == [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]
    assert plateau([3, 3, 3], patience=1, factor=0.1) == pytest.approx(0.01)
    assert plateau([1, 0.9, 0.8, 0.7, 0.6], min_delta=0.15) == 1  # .9 and .7 are idle, each alone
    assert plateau([1, 0.9, 0.9, 0.9], min_delta=0.15) == 0.5


@given(LOSSES, st.integers(1, 5), st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([0.0, 1e-4, 0.1]))
def test_plateau_is_that_of_torch(losses: list[float], patience: int, factor: float, min_delta: float) -> None:
    optimizer = torch_sgd()
    # torch waits for more than `patience` epochs
    scheduler = lr_scheduler.ReduceLROnPlateau(
        optimizer, "min", factor, patience - 1, min_delta, threshold_mode="abs", eps=0
    )
    for n, loss in enumerate(losses, 1):
        scheduler.step(loss)
        assert plateau(losses[:n], patience, factor, min_delta) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_unknown_schedule() -> None:
    with pytest.raises(UserError, match="schedule: unknown name 'cosin'; allowed: cosine, one_cycle, poly, constant, "):
        lr_at(0, 10, 1.0, 0, "cosin")


def test_places_by_eye() -> None:
    phases = [Phase(epochs=2), Phase(epochs=1, width=512)]
    places = [place_of(epoch, phases) for epoch in range(3)]
    assert [(place.phase.width, place.epoch) for place in places] == [(1600, 0), (1600, 1), (512, 0)]
    with pytest.raises(IndexError):
        place_of(3, phases)
