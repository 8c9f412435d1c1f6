"""What the ensemble loses without each of its models, on the points that votes are searched on; or without its gate."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel.competition import N_CLASSES
from steel.decide.bootstrap import mean_intervals
from steel.decide.ensemble import Blend
from steel.decide.grid import Grid
from steel.decide.model_scores import Judged
from steel.decide.sample import Bag, Part, Sample, Shown
from steel.decide.weights import AREAS_PX, GATES, BagSearch
from steel.progress import track

HOW = (
    "estimated on a sixteenth of the pixels, each class by itself, by plain rules on coarse axes, leaving one fold "
    "out; the votes are those chosen on all folds"
)
HOW_OF_ONE_GATE = "exact, by plain rules, leaving one fold out"
Votes = tuple[Bag, tuple[int, ...]]  # in one class: of the segmenters, and how often each gate counts


def of_one_gate(judged: Sequence[Judged], group: Sequence[str]) -> dict[str, Any] | None:
    """What the only segmenter loses without the only gate; exact, since each of them alone is just that.

    Args:
        judged: what is known of either alone.
        group: duplicate group of each strip.

    Returns:
        As `estimate`; None where there is no gate, or no fold to be left out.
    """
    if len(judged) != 2 or judged[0].row.rules != "plain":
        return None
    without, gated = judged
    (gain,) = mean_intervals((gated.dice - without.dice).mean(1, keepdims=True), group)
    told = {"mean": without.row.score.mean, "gain": gain.value, "low": gain.low, "high": gain.high}
    return {"how": HOW_OF_ONE_GATE, "mean": gated.row.score.mean, "segmenters": {}, "gates": {gated.row.name: told}}


def estimate(
    sample: Sample, votes: Blend, segmenters: Sequence[str], gates: Sequence[str], group: Sequence[str]
) -> dict[str, Any] | None:
    """Estimate the mean Dice with all models and without each, on the same points: exact tables would take a pass each.

    The votes are those that ship, less those of the model that is missing; where no other has any, all others count
    alike. Without the only gate nothing is hidden; the only segmenter cannot be missing.

    Args:
        sample: of all held-out strips.
        votes: of the models.
        segmenters, gates: names of the models, in the order of their votes.
        group: duplicate group of each strip.

    Returns:
        "how"; the "mean" with all; and in "segmenters" and "gates" by name the "mean" without it and the "gain", what
        it adds to the others, with its bounds "low" and "high" (a bootstrap over the strips, paired). None where the
        strips have a single fold, and none can be left out.
    """
    if len(sample.folds) < 2:
        return None
    ways = {("", ""): _by_class(votes)}
    if len(segmenters) > 1:
        ways |= {("segmenters", name): _by_class(votes.without([i], [])) for i, name in enumerate(segmenters)}
    if len(gates) > 1:
        ways |= {("gates", name): _by_class(votes.without([], [i])) for i, name in enumerate(gates)}
    elif gates:
        ways["gates", gates[0]] = [(masks, ()) for masks, _ in _by_class(votes)]
    gains = np.zeros((len(ways), len(sample.true_px)))  # over showing nothing, of each strip
    for k in track(range(N_CLASSES), "decide: models left out", "classes"):
        parts = {fold: sample.parts[k, fold] for fold in sample.folds}
        gains += _gains(parts, [of_class[k] for of_class in ways.values()]) / N_CLASSES
    mean, *means = (float((sample.true_px == 0).mean()) + gains.mean(1)).tolist()
    found: dict[str, Any] = {"how": HOW, "mean": mean, "segmenters": {}, "gates": {}}
    bounds = mean_intervals((gains[0] - gains[1:]).T, group)
    for (role, name), without, one in zip(list(ways)[1:], means, bounds, strict=True):
        found[role][name] = {"mean": without, "gain": mean - without, "low": one.low, "high": one.high}
    return found


def _by_class(votes: Blend) -> list[Votes]:
    classes = zip(votes.kinds, votes.counts, votes.gate_counts, strict=True)
    return [(Bag(kind, counts), gates) for kind, counts, gates in classes]


def _gains(parts: Mapping[int, Part], ways: Sequence[Votes]) -> NDArray[np.float64]:
    """What each way of voting gains over showing nothing in each image, (n_ways, n), by the folds of one class."""
    show: Callable[[Bag, int], Shown] = cache(lambda bag, fold: parts[fold].show(bag))
    known = {votes: _gain(parts, show, votes) for votes in dict.fromkeys(ways)}
    return np.stack([known[votes] for votes in ways])


def _gain(parts: Mapping[int, Part], show: Callable[[Bag, int], Shown], votes: Votes) -> NDArray[np.float64]:
    """Of one way, (n,)."""
    masks, gates = votes
    search = BagSearch(
        {fold: part.n_images for fold, part in parts.items()},
        lambda bag, fold: (show(bag, fold), parts[fold].gate(gates)),
        len(masks.counts),
        (masks.kind,),
        Grid(AREAS_PX, GATES if gates else (0.0,)),
    )
    folds = frozenset(parts)
    gains = np.empty(sum(part.n_images for part in parts.values()))
    for fold, part in parts.items():
        gains[part.rows] = search.left_out(masks, folds - {fold}, fold)
    return gains
