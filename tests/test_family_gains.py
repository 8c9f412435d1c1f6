"""Rules of all rotations from one search, against a search of each; and the gain of each family against its score."""

import json
from dataclasses import replace

import numpy as np
import pytest
from make_table import mean_of
from test_families import for_hysteresis, for_product

from steel.decide.blends import Ensemble
from steel.decide.bootstrap import interval, resample
from steel.decide.ensemble import Blend
from steel.decide.families import FAMILIES, PLAIN, family_of
from steel.decide.family_gains import ALL, Searched, gains_of_families, search_all
from steel.decide.grid import default_grid
from steel.decide.rules import Rules
from steel.decide.search import apply_rotated, lofo, search
from steel.decide.table import Table
from steel.metrics import dice

EVEN, ODD = Blend.equal(1, 1), replace(Blend.equal(1, 1), kinds=("root",) * 4)
BY_PRODUCT, BY_HYSTERESIS = for_product(), for_hysteresis()
GRID = default_grid(BY_PRODUCT, 8, 8)


@pytest.fixture(scope="module")
def searched() -> Searched:
    """Folds 0 and 3 vote in their own way, and need another family than what ships."""
    return search_all(ensemble(), GRID)


def ensemble() -> Ensemble:
    rotations = {fold: EVEN if fold in (0, 3) else ODD for fold in range(5)}
    return Ensemble(ODD, rotations, {EVEN: BY_HYSTERESIS, ODD: BY_PRODUCT})


def test_one_search_gives_what_many_give(searched: Searched) -> None:
    assert searched.tuned == search(BY_PRODUCT, GRID)
    assert list(searched.rotated) == [ALL, *FAMILIES]
    for way, names in {ALL: tuple(FAMILIES), PLAIN: (PLAIN,), "hysteresis": (PLAIN, "hysteresis")}.items():
        expected = lofo(BY_HYSTERESIS, GRID, names, [0, 3]) | lofo(BY_PRODUCT, GRID, names, [1, 2, 4])
        assert searched.rotated[way] == expected
    assert searched.rotated[ALL] != searched.rotated["hysteresis"] != searched.rotated[PLAIN]


def test_a_way_adopts_its_own_family_or_none(searched: Searched) -> None:
    for name in FAMILIES:
        found = {family_of(rule) for rules in searched.rotated[name].values() for rule in rules.classes}
        assert found <= {name, PLAIN}


def mean_and_interval(rules: dict[int, Rules], table: Table, group: list[str]) -> np.ndarray:
    pred_px, overlap_px = apply_rotated(rules, table)
    return resample(dice(pred_px, table.true_px, overlap_px), table.true_px > 0, group).mean


def test_gains_are_paired_differences(searched: Searched) -> None:
    table = ensemble().honest
    group = [str(i // 2) for i in range(len(table))]
    found = gains_of_families(searched.rotated, table, group)
    assert found is not None and list(found) == list(FAMILIES)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found[PLAIN] == {"mean": pytest.approx(mean_of(searched.rotated[PLAIN], table))}
    plain = mean_and_interval(searched.rotated[PLAIN], table, group)
    for name in ("hysteresis", "product", "soft_gate"):
        expected = interval(mean_and_interval(searched.rotated[name], table, group) - plain)
        numbers = [found[name][key] for key in ("gain", "low", "high")]
        assert numbers == pytest.approx([expected.value, expected.low, expected.high], abs=1e-12)
    assert found["hysteresis"]["low"] > 0
    families = [family_of(rule) for rules in searched.rotated[ALL].values() for rule in rules.classes]
    assert len(families) == 20 and families.count("hysteresis") >= 8
    for name in FAMILIES:
        if name != PLAIN:
            assert (found[name]["adopted_in"], found[name]["n_rotations"]) == (families.count(name), 20)


def test_with_a_single_part_there_is_nothing_to_tell() -> None:
    """What ships is plain: no fold can judge another family."""
    one = replace(BY_HYSTERESIS, fold=np.zeros_like(BY_HYSTERESIS.fold))
    alone = search_all(Ensemble(EVEN, {0: EVEN}, {EVEN: one}), default_grid(one, 8, 8))
    assert alone.tuned == search(one, default_grid(one, 8, 8))
    assert alone.rotated == {way: {} for way in (ALL, *FAMILIES)}
    assert gains_of_families(alone.rotated, one, ["a"] * len(one)) is None
