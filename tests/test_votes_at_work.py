"""Votes and tails at work on new strips, by mental arithmetic: in `predict --images`, in the kernel, in `submit`.

Maps hold blocks of 1,000 px, one per class. A class's rule shows its block by what gates or tails say.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from numpy.typing import NDArray
from torch import Tensor

from steel import rle
from steel.competition import N_CLASSES, N_PIXELS
from steel.decide.decision import Decision
from steel.decide.ensemble import Blend
from steel.decide.evidence import AnyRule
from steel.decide.expected import Calibration, ExpectedRule
from steel.decide.rule import Rule
from steel.decide.rules import Rules
from steel.infer.predictor import Predictor
from steel.kaggle import kernel, submit
from steel.kaggle.budget import Budget
from steel.kaggle.ensemble import Ensemble
from steel.nets.build import Outputs
from steel.paths import Paths

FOLDS = (0, 1, 2)
BY_GATE = Rule(128, 600, 0.5)
# P(defect) is over a half where more than 1,199 px are expected: the block, and 200 px more of the tail. The block's
# expected Dice, given a defect, is then 2 * 1000 / 2200: too little until the tail is a few pixels longer still.
BY_TAIL = ExpectedRule(Calibration((0,) * 255 + (65_535,), 1.0, -10 * math.log(1200), 0.0, 10.0), 255, by_score=True)


def blocks() -> NDArray[np.uint8]:
    """(4, 256, 1600): 10 x 100 px of 255 in each class, apart from each other."""
    maps = np.zeros((N_CLASSES, 256, 1600), np.uint8)
    for k in range(N_CLASSES):
        maps[k, 100:110, 200 * k : 200 * k + 100] = 255
    return maps


def segmenter(*tails_px: float, probs: Sequence[float] = ()) -> "Fake":
    """Blocks on every strip; around them probabilities too low for uint8, which sum up to so many pixels.

    With `probs` it has a joint head.
    """
    maps = torch.from_numpy(blocks()).double() / 255
    return Fake([torch.where(maps == 0, px / (N_PIXELS - 1000), maps) for px in tails_px], _labels(probs))


def classifier(*probs: float) -> "Fake":
    """The same probability for all classes of a strip."""
    return Fake([], _labels(probs))


def _labels(probs: Sequence[float]) -> list[Tensor]:
    return [torch.full((N_CLASSES,), p, dtype=torch.float64) for p in probs]


class Fake:
    """A model with maps, class probabilities or both for every strip, by the strip's grey: 0, 1 ..."""

    def __init__(self, maps: Sequence[Tensor], labels: Sequence[Tensor]) -> None:
        self.answers, self.gives_maps, self.n_passes = (maps, labels), bool(maps), 1

    def __call__(self, strips: NDArray[np.uint8]) -> Outputs:
        greys = [int(strip[0, 0]) for strip in strips]
        return Outputs(*(torch.stack([one[grey] for grey in greys]) if one else None for one in self.answers))


Fakes = dict[str, Fake]
Way = Callable[[Fakes, Decision, int], NDArray[np.bool_]]


def by_apply(fakes: Fakes, decision: Decision, n: int) -> NDArray[np.bool_]:
    """Which classes (n, 4) of n strips are shown by `predict --images`."""
    strips = np.stack([np.full((256, 1600), i, np.uint8) for i in range(n)])
    found = Ensemble(cast(dict[str, Predictor], fakes), decision, 2)(strips)
    return np.stack([_shown(np.stack([rle.decode(code) for code in one.rles])) for one in found])


def by_kernel(fakes: Fakes, decision: Decision, n: int) -> NDArray[np.bool_]:
    """The same by the kernel."""
    queue = kernel.Queue([Ensemble(cast(dict[str, Predictor], fakes), decision, n)], Budget(60))
    queue.add({f"{i}.jpg": np.full((256, 1600), i, np.uint8) for i in range(n)})
    rows = queue.run(to_the_end=True)
    codes = [rows.get(f"{i}.jpg", [""] * N_CLASSES) for i in range(n)]
    return np.stack([_shown(np.stack([rle.decode(code) for code in one])) for one in codes])


def _shown(masks: NDArray) -> NDArray[np.bool_]:
    """Whether each class is shown, (4,): the whole block or nothing."""
    found: NDArray[np.bool_] = np.any(masks, axis=(1, 2))
    assert np.array_equal(masks > 0, (blocks() > 0) & found[:, None, None])
    return found


def decide(segmenters: list[str], gates: list[str], blend: Blend, rule: AnyRule) -> Decision:
    rules = Rules((rule,) * N_CLASSES)
    return Decision(segmenters, gates, list(FOLDS), blend, rules, rules, {})


# By class, how often each of two classifiers or segmenters counts.
VOTES = ((3, 1), (1, 3), (1, 1), (0, 1))


@pytest.mark.parametrize("way", [by_apply, by_kernel])
def test_classifiers_count_by_their_votes(way: Way) -> None:
    two = {"fpn": segmenter(0, 0), "a": classifier(0.7, 0.2), "b": classifier(0.2, 0.7)}
    joint = {"a": segmenter(0, 0, probs=(0.7, 0.2)), "b": classifier(0.2, 0.7)}  # the kernel asks the second first
    for fakes, name in ((two, "fpn"), (joint, "a")):
        decision = decide([name], ["a", "b"], replace(Blend.equal(1, 2), gate_counts=VOTES), BY_GATE)
        assert way(fakes, decision, 2).tolist() == [
            [True, False, False, False],  # .575, .325, .45, .2
            [False, True, False, True],  # .325, .575, .45, .7
        ]


@pytest.mark.parametrize("way", [by_apply, by_kernel])
def test_what_uint8_loses_of_a_strip_counts_for_it_alone(way: Way) -> None:
    decision = decide(["fpn"], [], Blend.equal(1, 0), BY_TAIL)
    found = way({"fpn": segmenter(400, 0, 400)}, decision, 3)
    assert found.tolist() == [[True] * 4, [False] * 4, [True] * 4]


@pytest.mark.parametrize("way", [by_apply, by_kernel])
def test_tails_count_by_the_votes_of_their_segmenters(way: Way) -> None:
    fakes = {"a": segmenter(800, 0), "b": segmenter(0, 800)}
    decision = decide(["a", "b"], [], replace(Blend.equal(2, 0), counts=VOTES), BY_TAIL)
    assert way(fakes, decision, 2).tolist() == [
        [True, False, True, False],  # 600, 200, 400 and 0 px
        [False, True, True, True],  # 200, 600, 400 and 800 px
    ]


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Iterator[Paths]:
    """A copy of the finished run with a second classifier, and blocks on all test strips: as the working directory."""
    tiny.copy(finished, tmp_path)
    with tiny.within(tmp_path):
        solution = tiny.solution()
        paths = Paths(replace(solution, models={**solution.models, "second": solution.models["gate"]}))
        tiny.copy(paths.run / "gate", paths.run / "second")
        tiny.change_maps(paths.test("fpn"), lambda *_: blocks())
        set_values(paths, "fpn", sums=[1000] * 6)
        yield paths


def set_values(paths: Paths, name: str, **columns: Sequence[float]) -> None:
    """Replace sums or gate of the test strips, a value for all classes of each."""
    path = paths.test(name) / "values.npz"
    with np.load(path) as found:
        values = dict(found)
    np.savez(path, **{**values, **{key: np.repeat(column, 4).reshape(-1, 4) for key, column in columns.items()}})


def by_submit(paths: Paths, rule: AnyRule, blend: Blend) -> list[list[bool]]:
    """Which classes of each test strip are shown by `submit`."""
    path = paths.decide / "rules.json"
    decision = replace(Decision.load(path), gates=["gate", "second"], blend=blend, tuned=Rules((rule,) * 4))
    decision.save(path)
    submit.make(paths, FOLDS)
    codes = pd.read_csv(paths.submission / "submission.csv", keep_default_na=False).EncodedPixels.tolist()
    masks = np.stack([rle.decode(code) for code in codes]).reshape(-1, N_CLASSES, 256, 1600)
    return [_shown(one).tolist() for one in masks]


def test_a_submission_weighs_its_classifiers(copied: Paths) -> None:
    set_values(copied, "gate", gate=[0.7, 0.2] * 3)
    set_values(copied, "second", gate=[0.2, 0.7] * 3)
    found = by_submit(copied, BY_GATE, replace(Blend.equal(1, 2), gate_counts=VOTES))
    assert found == [[True, False, False, False], [False, True, False, True]] * 3


def test_a_submission_heeds_what_uint8_has_lost(copied: Paths) -> None:
    set_values(copied, "fpn", sums=[1000, 1400, 1400, 1000, 1000, 1400])
    found = by_submit(copied, BY_TAIL, Blend.equal(1, 2))
    assert found == [[shown] * 4 for shown in (False, True, True, False, False, True)]
