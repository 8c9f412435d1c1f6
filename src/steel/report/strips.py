"""One strip as the report looks at it: its true masks, its held-out map, and the masks that are shown of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel.competition import N_CLASSES
from steel.data.cache import Strips
from steel.decide import run
from steel.decide.decision import Decision
from steel.decide.ensemble import mean_gate
from steel.decide.held_out import class_probs, outputs_of
from steel.decide.rules import Rules, apply_to_map
from steel.decide.table import Table
from steel.errors import UserError, shorten
from steel.infer.store import VALUES, Store, open_store
from steel.paths import Paths


def true_masks(mask_bits: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The four masks of a bit field (H, W) uint8, (4, H, W)."""
    return np.stack([mask_bits >> k & 1 for k in range(N_CLASSES)]).astype(bool)


def stores_of(paths: Paths, decision: Decision, fold: int) -> list[Store]:
    """The segmenters' stores of the strips with a value of `Table.fold`, which of one fold alone names its parts."""
    held_out = fold if len(decision.folds) > 1 else decision.folds[0]
    return [open_store(paths.oof(name, held_out)) for name in decision.segmenters]


def rules_of(decision: Decision, fold: int) -> Rules:
    """The rules that did not see a value of `Table.fold`; the fixed ones where nothing could be left out."""
    return decision.lofo.get(fold, decision.fixed)


def held_out(
    stores: Sequence[Store], image_id: str, decision: Decision, fold: int, gate: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The ensemble's map (4, 256, 1600) uint8 of a strip and its masks, same bool, by votes and rules of other strips.

    Args:
        stores: as `stores_of` gives them.
        image_id: the strip.
        decision: votes and rules.
        fold: the strip's value of `Table.fold`.
        gate: (4,) its gates.
    """
    prob, tail_px = outputs_of(stores, stores[0].image_ids.index(image_id)).combine(decision.blend_of(fold))
    return prob, apply_to_map(rules_of(decision, fold), prob, gate, tail_px)


@dataclass(frozen=True)
class View:
    """All that is known of one strip.

    Attributes:
        image_id: its name.
        where: the fold that held it out, or the test set.
        models: names of those whose votes are in `prob` and `gate`.
        strip: (256, 1600) uint8.
        true: (4, 256, 1600) bool; None of a test strip.
        prob: (4, 256, 1600) uint8, the ensemble's map, 255 = probability 1.
        shown: (4, 256, 1600) bool.
        gate: (4,) float32.
        rules: those that were applied.
    """

    image_id: str
    where: str
    models: list[str]
    strip: NDArray[np.uint8]
    true: NDArray[np.bool_] | None
    prob: NDArray[np.uint8]
    shown: NDArray[np.bool_]
    gate: NDArray[np.float32]
    rules: Rules


def of_training(paths: Paths, strips: Strips, image_id: str) -> View:
    """A training strip as the nets, votes and rules see it that it was held out from."""
    table, _, decision = _decided(paths)
    if image_id not in table.image_ids:
        folds = ", ".join(map(str, decision.folds))
        raise UserError(f"show: {image_id} was not held out; allowed: a strip of the decided folds ({folds})")
    i, row = int(np.flatnonzero(table.image_ids == image_id)[0]), strips.image_ids.index(image_id)
    fold, gate = int(table.fold[i]), table.gate[i]
    prob, shown = held_out(stores_of(paths, decision, fold), image_id, decision, fold, gate)
    where = f"held out in fold {fold}"
    if len(decision.folds) == 1:
        where = f"held out in fold {decision.folds[0]}, part {fold}"
    assert strips.masks is not None
    true, rules = true_masks(strips.masks[row]), rules_of(decision, fold)
    return View(image_id, where, _models(decision), strips.images[row], true, prob, shown, gate, rules)


def of_test(paths: Paths, strips: Strips, image_id: str) -> View:
    """A test strip under the votes and rules that ship."""
    _, _, decision = _decided(paths)
    for name in _models(decision):
        if not (paths.test(name) / VALUES).exists():
            raise UserError(f"show: {paths.test(name)} has no {VALUES}: run `steel predict CONFIG` first")
    stores = {name: open_store(paths.test(name)) for name in _models(decision)}
    for name, store in stores.items():
        if store.image_ids != strips.image_ids:
            raise UserError(f"{paths.test(name)} holds predictions of other strips: run `steel predict CONFIG --force`")
    row = strips.image_ids.index(image_id)
    probs = class_probs([stores[name] for name in decision.gates])
    gate = mean_gate(probs, len(strips.image_ids), decision.blend.gate_counts)[row]
    prob, tail_px = outputs_of([stores[name] for name in decision.segmenters], row).combine(decision.blend)
    shown = apply_to_map(decision.tuned, prob, gate, tail_px)
    image, rules = strips.images[row], decision.tuned
    return View(image_id, "test set", _models(decision), image, None, prob, shown, gate, rules)


def _models(decision: Decision) -> list[str]:
    return list(dict.fromkeys([*decision.segmenters, *decision.gates]))


def _decided(paths: Paths) -> tuple[Table, Table, Decision]:
    """What `decide` wrote, if it is there."""
    if missing := [name for name in (run.TABLE, run.RULES) if not (paths.decide / name).is_file()]:
        raise UserError(f"show: {paths.decide} has no {shorten(missing)}: run `steel decide CONFIG` first")
    run.check_whole(paths.decide)
    return run.load(paths.decide, paths.solution)
