"""What the ensemble loses without each of its models: an estimate, on the points that votes are searched on."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from steel.decide.ensemble import Blend
from steel.decide.grid import Grid
from steel.decide.sample import Bag, Part, Sample, Shown
from steel.decide.weights import AREAS_PX, GATES, BagSearch
from steel.progress import track

HOW = (
    "on a sixteenth of the pixels, each class by itself, by plain rules on coarse axes, leaving one fold out; "
    "the votes are those chosen on all folds"
)
Votes = tuple[Bag, tuple[int, ...]]  # in one class: of the segmenters, and how often each gate counts


def estimate(sample: Sample, votes: Blend, segmenters: Sequence[str], gates: Sequence[str]) -> dict[str, Any] | None:
    """Estimate the mean Dice with all models and without each, on the same points: exact tables would take a pass each.

    The votes are those that ship, less those of the model that is missing; where no other has any, all others count
    alike. Without the only gate nothing is hidden; the only segmenter cannot be missing.

    Args:
        sample: of all held-out strips.
        votes: of the models.
        segmenters, gates: names of the models, in the order of their votes.

    Returns:
        "estimated", how; the "mean" with all; and in "segmenters" and "gates" by name the "mean" without it and the
        "gain", what it adds to the others. None where the strips have a single fold, and none can be left out.
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
    gains = []
    for k in track(range(len(votes.kinds)), "decide: models left out", "classes"):
        parts = {fold: sample.parts[k, fold] for fold in sample.folds}
        gains.append(_gains(parts, [of_class[k] for of_class in ways.values()]))
    nothing = float((sample.true_px == 0).mean())
    means = dict(zip(ways, (nothing + np.mean(gains, axis=0)).tolist(), strict=True))
    mean = means.pop(("", ""))
    found: dict[str, Any] = {"estimated": HOW, "mean": mean, "segmenters": {}, "gates": {}}
    for (role, name), without in means.items():
        found[role][name] = {"mean": without, "gain": mean - without}
    return found


def _by_class(votes: Blend) -> list[Votes]:
    classes = zip(votes.kinds, votes.counts, votes.gate_counts, strict=True)
    return [(Bag(kind, counts), gates) for kind, counts, gates in classes]


def _gains(parts: Mapping[int, Part], ways: Sequence[Votes]) -> list[float]:
    """What some ways of voting gain over showing nothing, in the mean over one class of the images, by its folds."""
    show: Callable[[Bag, int], Shown] = cache(lambda bag, fold: parts[fold].show(bag))
    known = {votes: _gain(parts, show, votes) for votes in dict.fromkeys(ways)}
    return [known[votes] for votes in ways]


def _gain(parts: Mapping[int, Part], show: Callable[[Bag, int], Shown], votes: Votes) -> float:
    masks, gates = votes
    search = BagSearch(
        {fold: part.n_images for fold, part in parts.items()},
        lambda bag, fold: (show(bag, fold), parts[fold].gate(gates)),
        len(masks.counts),
        (masks.kind,),
        Grid(AREAS_PX, GATES if gates else (0.0,)),
    )
    folds = frozenset(parts)
    return float(np.concatenate([search.left_out(masks, folds - {fold}, fold) for fold in sorted(folds)]).mean())
