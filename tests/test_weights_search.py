"""The search of weights: planted optima, brute force, folds that disagree, and poisoned folds."""

from dataclasses import replace

import numpy as np
import pytest

from steel.decide.adopt import smooth
from steel.decide.ensemble import Blend
from steel.decide.grid import Grid
from steel.decide.sample import LEVELS, Bag, Points, Sample, Shown
from steel.decide.weights import AREAS_PX, GATES, Adoption, BagSearch, Found, equal, search_blends
from steel.errors import UserError

N = 100  # strips, of which every other one has a defect in all classes
IS_TRUE = np.arange(N) % 2 == 0
FOLD = (np.arange(N) // 2 % 5).astype(np.int16)
TRUE_PX = np.where(IS_TRUE[:, None], 16 * 50, 0).repeat(4, 1).astype(np.int32)
UNDER = np.arange(100) < 50  # of a strip's 100 points in each class
UNSURE = np.full((N, 4), 0.5)


def strip(classes: list[np.ndarray], under: np.ndarray) -> Points:
    """A strip from the values (m, 100) of each class."""
    n = [one.shape[1] for one in classes]
    return Points(np.concatenate(classes, 1).astype(np.uint8), np.tile(under, 4), np.array(n), np.full(4, 16.0))


def where(truth: int, left: int, right: int) -> np.ndarray:
    """Values (100,): under the mask, and in both halves of the rest."""
    return np.repeat([truth, left, right], [50, 25, 25])


def planted() -> Sample:
    """Three models and two classifiers, with another best blend in each class.

    1: the second finds the mask, the others all but the mask.
    2: the first two find it with false alarms each of its own, the third finds all but the mask.
    3: each of the first two is faint on the mask, sure of false alarms and blind to those of the other; the third says
       little. Means of roots are near those that see nothing: of 100, 100, 20 and of 255, 0, 20 they make 67 and 46.
    4: the three are equal and see a defect in every strip; the first classifier knows better, the second is wrong.
    """
    alike = where(200, 0, 0)
    with_defect = [
        np.stack([where(20, 200, 200), alike, where(20, 200, 200)]),
        np.stack([where(200, 200, 20), where(200, 20, 200), where(20, 200, 200)]),
        np.stack([where(100, 255, 0), where(100, 0, 255), where(20, 20, 20)]),
        np.stack([alike] * 3),
    ]
    clean = [np.zeros((3, 100))] * 3 + [np.stack([alike] * 3)]
    strips = [strip(with_defect, UNDER) if one else strip(clean, UNDER & False) for one in IS_TRUE]
    knows, wrong = UNSURE.copy(), UNSURE.copy()
    knows[:, 3], wrong[:, 3] = np.where(IS_TRUE, 0.8, 0.3), np.where(IS_TRUE, 0.05, 0.95)
    return Sample.of(strips, FOLD, TRUE_PX, [knows, wrong])


def noisy(seed: int, n_gates: int = 2) -> Sample:
    """Three models of their own strength and noise in each class, and classifiers that know something."""
    rng = np.random.default_rng(seed)
    strength = rng.uniform(5, 40, (4, 3, 1))
    strips = []
    for one in IS_TRUE:
        signal = np.where(UNDER & one, 1, -1) * strength
        values = (110 + signal + rng.normal(0, 50, (4, 3, 100)) + rng.normal(0, 25, (4, 3, 1))).clip(0, 255)
        strips.append(strip(list(values), UNDER & one))
    gates = [(0.3 + 0.4 * IS_TRUE[:, None] + rng.normal(0, 0.3, (N, 4))).clip(0, 1) for _ in range(n_gates)]
    return Sample.of(strips, FOLD, TRUE_PX, gates)


def garbage(sample: Sample, fold: int) -> Sample:
    """The same sample, with other values, masks and gates in one fold."""
    rng = np.random.default_rng(99)
    parts = dict(sample.parts)
    for k in range(4):
        part = parts[k, fold]
        parts[k, fold] = replace(
            part,
            values=rng.integers(0, 256, part.values.shape).astype(np.uint8),
            cell=part.cell // 128 * 128 + 64 * rng.integers(0, 2, part.cell.shape),
            true_px=rng.integers(1, 5000, part.true_px.shape).astype(np.int32),
            gates=rng.random(part.gates.shape),
        )
    return replace(sample, parts=parts)


def test_search_finds_planted_optima() -> None:
    found = search_blends(planted())
    assert found.ships == Blend(
        ("mean", "mean", "root", "mean"),
        ((0, 1, 0), (1, 1, 0), (1, 1, 1), (1, 1, 1)),
        ((1, 1), (1, 1), (1, 1), (1, 0)),
    )
    assert found.rotations == dict.fromkeys(range(5), found.ships)
    assert [one.is_adopted for one in found.masks] == [True, True, True, False]
    assert [one.is_adopted for one in found.gates] == [False, False, False, True]
    # Class 3, plain mean: 73 and 92, so that all is shown: 2 * 50 / (100 + 50) = 2/3 in half of the strips, against 1.
    assert found.masks[2].gain == pytest.approx(1 / 6) and found.masks[2].error == pytest.approx(1 / 6 / 10)
    # Class 4, equal gates: .425 where a defect is, .625 where none is. Shown or not, half of the strips are wrong.
    assert found.gates[3].gain == pytest.approx(1 / 2) and found.gates[3].error == pytest.approx(1 / 2 / 10)
    evidence = found.evidence()
    assert evidence["masks"]["3"]["kind"] == "root" and evidence["gates"]["4"]["counts"] == (1, 0)
    assert evidence["masks"]["4"] == {**equal(3)._asdict(), "gain": 0.0, "error": 0.0, "is_adopted": False}


@pytest.fixture(scope="module")
def found() -> Found:
    """What is found in a sample by one process."""
    return search_blends(noisy(2))


def test_two_processes_find_the_same(found: Found) -> None:
    assert search_blends(noisy(2), workers=2) == found


@pytest.mark.parametrize("fold", [0, 3])
def test_no_rotation_looks_at_its_own_fold(fold: int, found: Found) -> None:
    poisoned = search_blends(garbage(noisy(2), fold))
    assert poisoned.rotations[fold] == found.rotations[fold]
    assert found.rotations[fold] != Blend.equal(3, 2)  # something was found there
    assert poisoned.rotations[(fold + 1) % 5] != found.rotations[(fold + 1) % 5]  # the others did look
    assert poisoned.ships != found.ships


def test_what_folds_disagree_about_is_not_adopted() -> None:
    sample = planted()
    parts = dict(sample.parts)
    for fold in (0, 1):  # here the first model is the good one of class 1, elsewhere the second
        parts[0, fold] = replace(parts[0, fold], values=parts[0, fold].values[[1, 0, 2]])
    two = replace(sample, folds=frozenset({0, 2}), parts=parts)
    found = search_blends(two)
    assert found.ships.counts[0] == (1, 1, 1) and found.masks[0].gain < 0 and not found.masks[0].is_adopted
    assert found.ships.counts[1] == (1, 1, 0)
    # A single fold that chooses can leave nothing out.
    assert found.rotations == dict.fromkeys((0, 2), Blend.equal(3, 2))


def test_nothing_to_weigh_is_equal() -> None:
    one = noisy(4, n_gates=0)
    alone = replace(one, n_models=1, parts={key: replace(p, values=p.values[:1]) for key, p in one.parts.items()})
    found = search_blends(alone)
    assert found.ships == Blend.equal(1, 0) and found.rotations == dict.fromkeys(range(5), Blend.equal(1, 0))


def test_one_fold_is_refused() -> None:
    with pytest.raises(UserError, match=r"folds \[3\], allowed: at least two"):
        search_blends(replace(noisy(0), folds=frozenset({3})))


def test_adoption_uses_what_it_found_or_equal_weights() -> None:
    bag = Bag("root", (2, 0, 1))
    assert Adoption(bag, 0.1, 0.01, True).used == bag
    assert Adoption(bag, 0.01, 0.1, False).used == Bag("mean", (1, 1, 1))


GRID = Grid(AREAS_PX, GATES)


def search_of(sample: Sample, k: int) -> BagSearch:
    """The search for the masks of class index k."""

    def show(bag: Bag, fold: int) -> tuple[Shown, np.ndarray]:
        return sample.parts[k, fold].show(bag), sample.parts[k, fold].gate((1, 1))

    n_images = {fold: sample.parts[k, fold].n_images for fold in sample.folds}
    return BagSearch(n_images, show, 3, ("mean", "logit"), GRID)


def test_a_score_is_the_best_plateau_of_all_rules_by_brute_force() -> None:
    sample, bag, folds = noisy(5), Bag("logit", (2, 1, 0)), frozenset({1, 4})
    gains = np.zeros((len(LEVELS), len(AREAS_PX), len(GATES)))
    for fold in folds:
        part = sample.parts[2, fold]
        shown, gate = part.show(bag), part.gate((1, 1))
        for a, area in enumerate(AREAS_PX):
            for g, least in enumerate(GATES):
                passes = (shown.area_px >= area) & (gate >= np.float32(least))
                gains[:, a, g] += (shown.gain * passes).sum(1) / np.count_nonzero(np.isin(FOLD, list(folds)))
    assert search_of(sample, 2).score(bag, folds) == pytest.approx(smooth(gains).max(), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_best_bag_beats_all_small_ones(seed: int) -> None:
    search, folds = search_of(noisy(seed), seed), frozenset({0, 1, 2})
    counts = [c for c in np.ndindex(4, 4, 4) if sum(c)]  # three votes of each at most
    highest = max(search.score(Bag(kind, c), folds) for kind in ("mean", "logit") for c in counts)
    best = search.score(search.best(folds), folds)
    assert best >= highest - 0.005
    assert best > search.score(equal(3), folds)
    assert sum(search.best(folds).counts) <= 12
