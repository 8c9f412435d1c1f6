"""Learning rate as a pure function of the step and of the past: a resumed training has nothing to restore."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steel.config import Phase
from steel.tables import choose


@dataclass(frozen=True)
class Place:
    """Where a global epoch lies: the phase, and the epoch within it."""

    phase: Phase
    epoch: int


def place_of(epoch: int, phases: Sequence[Phase]) -> Place:
    """The place of global epoch 0, 1, ... in the phases."""
    for phase in phases:
        if epoch < phase.epochs:
            return Place(phase, epoch)
        epoch -= phase.epochs
    raise IndexError(epoch)


def cosine(step: int, n_steps: int, _past: Sequence[float] = ()) -> float:
    """Half a cosine from 1 to .01 (Loshchilov and Hutter, SGDR, 2017, without restarts)."""
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / n_steps))


def one_cycle(step: int, n_steps: int, _past: Sequence[float] = ()) -> float:
    """Half a cosine up from 1/25 over the first 30 % of the steps, another down to 1e-4 (Smith and Topin, 2018).

    The form of fastai and torch; it is a warm-up by itself.
    """
    top = max(0.0, 0.3 * n_steps - 1)
    low, share = (1 / 25, 1 - step / top) if step < top else (1e-4, (step - top) / max(1.0, n_steps - 1 - top))
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * share))


def poly(step: int, n_steps: int, _past: Sequence[float] = ()) -> float:
    """(1 - share of the steps done) ** .9, from 1 to almost 0 (Chen et al., DeepLab, 2017)."""
    return (1 - step / n_steps) ** 0.9


def constant(_step: int, _n_steps: int, _past: Sequence[float] = ()) -> float:
    """1 throughout."""
    return 1.0


def plateau(values: Sequence[float], patience: int = 3, factor: float = 0.5, min_delta: float = 1e-4) -> float:
    """The share of the peak after epochs with these losses: `factor` for each time that they stopped falling.

    An epoch counts as idle unless its value is less than the best before by more than `min_delta`; after `patience`
    idle epochs the rate falls, and the count begins anew. Source: the adaptive rate of the study, which is Keras's
    ReduceLROnPlateau.
    """
    best, idle, falls = math.inf, 0, 0
    for value in values:
        if value < best - min_delta:
            best, idle = value, 0
            continue
        idle += 1
        if idle == patience:
            idle, falls = 0, falls + 1
    return factor**falls


def on_plateau(_step: int, _n_steps: int, past: Sequence[float] = ()) -> float:
    """The same rate for a whole epoch, halved whenever the training loss did not fall for three epochs."""
    return plateau(past)


# Schedule by name: f(step, n_steps, past) -> share of the peak, in (0, 1], at step 0 .. n_steps - 1; `past` holds the
# training losses of the phase's finished epochs. The held-out fold is not asked: it would choose what it scores.
SCHEDULES: dict[str, Callable[[int, int, Sequence[float]], float]] = {
    "cosine": cosine,
    "one_cycle": one_cycle,
    "poly": poly,
    "constant": constant,
    "plateau": on_plateau,
}


def lr_at(
    step: int, n_steps: int, peak: float, warmup_steps: int, schedule: str = "cosine", past: Sequence[float] = ()
) -> float:
    """Learning rate of a step of a phase of `n_steps`: a linear warm-up to where the schedule begins, then it.

    The warm-up is at most half of the phase. `past`: training losses of the phase's finished epochs. Raises UserError
    for an unknown schedule.
    """
    share = choose(SCHEDULES, schedule, "schedule")
    warmup_steps = min(warmup_steps, n_steps // 2)
    n_left = n_steps - warmup_steps
    if step < warmup_steps:
        return peak * share(0, n_left, past) * (step + 1) / (warmup_steps + 1)
    return peak * share(step - warmup_steps, n_left, past)
