"""Search of the rules on the table: every pixel threshold x minimum area x gate, exactly, in a fraction of a second."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel.competition import N_CLASSES, N_PIXELS
from steel.decide.rules import NEVER_PX, Rule, Rules, apply_to_table
from steel.decide.table import N_LEVELS, Table
from steel.errors import UserError
from steel.metrics import dice

SMALLEST_PX, LARGEST_PX = 32, 30_000  # of the default minimum areas between "any" and "never"
CHUNK = 64  # thresholds at a time: bounds memory to some 50 MB at 12,568 images
TIE = 1e-12  # scores nearer than this are equal: far above rounding, far below one image in a million
NOTHING = Rule(threshold=128, min_area_px=NEVER_PX, min_gate=0.0)


@dataclass(frozen=True)
class Grid:
    """The minimum areas and gates to try, each strictly ascending; the thresholds are always all 256.

    Attributes:
        areas_px: minimum areas, 0..409,601 px (the last is never reached: show nothing).
        gates: minimum gate probabilities, 0..1.
    """

    areas_px: tuple[int, ...]
    gates: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse empty, unsorted or out-of-range axes."""
        for name, axis, high in (("areas_px", self.areas_px, NEVER_PX), ("gates", self.gates, 1)):
            gaps = np.diff(np.asarray(axis, np.float32 if name == "gates" else np.int64))
            if not axis or not (gaps > 0).all() or not 0 <= axis[0] <= axis[-1] <= high:
                raise UserError(f"grid: {name} is {axis}, allowed: ascending values 0..{high}, at least one")


@dataclass(frozen=True)
class InSample:
    """Rules tuned on all images and applied to the same images: optimistic, the rules that ship.

    Attributes:
        rules: the rules.
        pred_px, overlap_px: (n, 4) int32 under them.
    """

    rules: Rules
    pred_px: NDArray[np.int32]
    overlap_px: NDArray[np.int32]


@dataclass(frozen=True)
class LofoResult:
    """Every image under the rules that did not see it: the honest score.

    Attributes:
        rules: fold to the rules searched on all other folds.
        pred_px, overlap_px: (n, 4) int32, in the order of the table.
    """

    rules: dict[int, Rules]
    pred_px: NDArray[np.int32]
    overlap_px: NDArray[np.int32]


def default_grid(table: Table, n_area: int = 64, n_gate: int = 64) -> Grid:
    """Areas 0, evenly spaced in the logarithm from 32 to 30,000 px, and never; gates 0, 1/64, 2/64 ...

    Without a classifier (all gates 1) there is one gate, 0. Beyond some 100 areas the small ones merge: they are whole.
    """
    if n_area < 3 or n_gate < 1:
        raise UserError(f"grid: n_area {n_area} and n_gate {n_gate}, allowed: at least 3 and 1")
    middle = np.unique(np.geomspace(SMALLEST_PX, LARGEST_PX, n_area - 2).round().astype(int))
    gates = (0.0,) if (table.gate == 1).all() else tuple(i / n_gate for i in range(n_gate))
    return Grid((0, *(int(a) for a in middle), NEVER_PX), gates)


def surface(table: Table, k: int, grid: Grid) -> NDArray[np.float64]:
    """Mean score of class index k (0..3) at every point of the grid, over all images of the table.

    What an image gains by being shown does not depend on minimum area and gate; whether it is shown, does. So the
    gains are binned by (area, gate) and summed from the top: all points of one threshold cost one histogram.

    Returns:
        (256, n_area, n_gate) float64; threshold 0 (the whole strip) is there for completeness.
    """
    if len(table) == 0:
        raise UserError("search: the table has no images, allowed: at least one")
    n_area, n_gate = len(grid.areas_px), len(grid.gates)
    shape = (n_area + 1, n_gate + 1)  # bin j holds what passes exactly the first j values of the axis
    passes = np.bincount(grid.areas_px, minlength=NEVER_PX + 1)[: N_PIXELS + 1].cumsum().astype(np.intp)
    gate_bin = np.searchsorted(np.asarray(grid.gates, np.float32), table.gate[:, k], side="right")  # (n,)
    true_px = table.true_px[:, k]
    nothing = (true_px == 0).mean()
    scores = np.empty((N_LEVELS, n_area, n_gate))
    for low in range(0, N_LEVELS, CHUNK):
        levels = slice(low, low + CHUNK)
        area_px = np.ascontiguousarray(table.area_px[:, k, levels].T)  # (CHUNK, n)
        gain = dice(area_px, true_px, table.overlap_px[:, k, levels].T) - (true_px == 0)
        cell = passes[area_px] * shape[1] + gate_bin
        cell += np.arange(len(area_px))[:, None] * (shape[0] * shape[1])
        sums = np.bincount(cell.ravel(), gain.ravel(), len(area_px) * shape[0] * shape[1])
        sums = sums.reshape(-1, *shape)[:, :0:-1, :0:-1].cumsum(1).cumsum(2)[:, ::-1, ::-1]
        scores[levels] = sums / len(table) + nothing
    return scores


def smooth(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of every point's neighbourhood: a box of 1/32 of each axis to either side, cut off at the edges.

    For 256 x 64 x 64 that is 8 thresholds, 2 areas and 2 gates to either side; an axis shorter than 32 is left alone.
    """
    for axis, n in enumerate(scores.shape):
        radius = n // 32
        if radius == 0:
            continue
        sums = np.insert(scores.cumsum(axis), 0, 0.0, axis)
        first, end = np.maximum(np.arange(n) - radius, 0), np.minimum(np.arange(n) + radius + 1, n)
        size = (end - first).reshape([-1 if a == axis else 1 for a in range(scores.ndim)])
        scores = (sums.take(end, axis) - sums.take(first, axis)) / size
    return scores


def choose(scores: NDArray[np.float64], nothing: float, grid: Grid) -> Rule:
    """The rule of one class: the highest plateau of its surface, not its highest spike.

    The best smoothed point wins. Ties go to the tied point nearest to the centre of all tied ones (as a share of each
    axis), so that the rule keeps its distance from every edge. If no smoothed point beats showing nothing, nothing is
    shown.

    Args:
        scores: (256, n_area, n_gate) of `surface`.
        nothing: the score of showing nothing.
        grid: that of `surface`.
    """
    gains = smooth(scores[1:] - nothing)  # threshold 0 is no rule, and must not be a neighbour of one
    if gains.max() <= TIE:
        return NOTHING
    tied = np.argwhere(gains >= gains.max() - TIE)
    offset = (tied - tied.mean(0)) / gains.shape
    t, a, g = tied[np.argmin((offset**2).sum(1))]
    return Rule(int(t) + 1, grid.areas_px[a], float(grid.gates[g]))


def pays(table: Table, k: int, rule: Rule) -> bool:
    """Whether a rule of class index k gains more than its standard error over showing nothing, on the table's images.

    The rule of one standard error (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3): a few
    lucky masks on few images are no reason to show a class.
    """
    area_px, true_px = table.area_px[:, k, rule.threshold], table.true_px[:, k]
    shown = rule.shows(area_px, table.gate[:, k])
    gain = np.where(shown, dice(area_px, true_px, table.overlap_px[:, k, rule.threshold]) - (true_px == 0), 0.0)
    return bool(gain.mean() > gain.std() / np.sqrt(len(table)))


def search(table: Table, grid: Grid) -> Rules:
    """The best rules on all images of the table, each class on its own (see `choose`), shown only where that `pays`."""
    rules = []
    for k in range(N_CLASSES):
        rule = choose(surface(table, k, grid), float((table.true_px[:, k] == 0).mean()), grid)
        rules.append(rule if pays(table, k, rule) else NOTHING)
    return Rules(tuple(rules))


def in_sample(table: Table, grid: Grid) -> InSample:
    """Search on all images and apply to the same ones."""
    rules = search(table, grid)
    return InSample(rules, *apply_to_table(rules, table))


def lofo(table: Table, grid: Grid) -> LofoResult:
    """Leave one fold out: search on the other folds, apply on the one left out, for every fold in turn."""
    folds = np.unique(table.fold)
    if len(folds) < 2:
        raise UserError(f"lofo: the table has the folds {folds.tolist()}, allowed: at least two")
    rules: dict[int, Rules] = {}
    pred_px = np.zeros((len(table), N_CLASSES), np.int32)
    overlap_px = np.zeros_like(pred_px)
    for fold in folds:
        held_out = table.fold == fold
        rules[int(fold)] = search(table.subset(~held_out), grid)
        pred_px[held_out], overlap_px[held_out] = apply_to_table(rules[int(fold)], table.subset(held_out))
    return LofoResult(rules, pred_px, overlap_px)
