"""One strip as the report looks at it: its true masks, its map, and the masks that are shown of it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from steel.competition import N_CLASSES
from steel.data.cache import Strips, open_strips
from steel.decide import run
from steel.decide.decision import Decision
from steel.decide.ensemble import mean_gate
from steel.decide.held_out import class_probs, outputs_of
from steel.decide.rules import Rules, apply_to_map
from steel.decide.table import Table
from steel.errors import UserError, shorten
from steel.infer.store import VALUES, Store, open_store
from steel.paths import Paths


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
        tail_px: (4,) float64, see `Table`.
        gate: (4,) float32.
        rules: those that are applied.
    """

    image_id: str
    where: str
    models: list[str]
    strip: NDArray[np.uint8]
    true: NDArray[np.bool_] | None
    prob: NDArray[np.uint8]
    tail_px: NDArray[np.float64]
    gate: NDArray[np.float32]
    rules: Rules

    @cached_property
    def shown(self) -> NDArray[np.bool_]:
        """The masks that are shown, (4, 256, 1600)."""
        return apply_to_map(self.rules, self.prob, self.gate, self.tail_px)


@dataclass(frozen=True)
class HeldOut:
    """The training strips of a run, as the nets, votes and rules see each of them that it was held out from."""

    paths: Paths
    decision: Decision

    def of_row(self, table: Table, row: int) -> View:
        """The strip of a row of the table."""
        return self.view(str(table.image_ids[row]), int(table.fold[row]), table.gate[row])

    def view(self, image_id: str, fold: int, gate: NDArray[np.float32]) -> View:
        """A strip by its name, its value of `Table.fold` and its gates (4,)."""
        decision, stores = self.decision, self._stores_of(fold)
        assert self._strips.masks is not None
        row = self._row_of[image_id]
        prob, tail_px = outputs_of(stores, stores[0].image_ids.index(image_id)).combine(decision.blend_of(fold))
        where = f"{fold_word(decision)} {fold}"
        if len(decision.folds) == 1:
            where = f"fold {decision.folds[0]}, {where}"
        return View(
            image_id,
            f"held out in {where}",
            models_of(decision),
            self._strips.images[row],
            true_masks(self._strips.masks[row]),
            prob,
            tail_px,
            gate,
            decision.lofo.get(fold, decision.fixed),  # nothing can be left out of a single part
        )

    @cached_property
    def _strips(self) -> Strips:
        return open_strips(self.paths.cache, "train")

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {image_id: row for row, image_id in enumerate(self._strips.image_ids)}

    @cached_property
    def _opened(self) -> dict[int, list[Store]]:
        return {}

    def _stores_of(self, fold: int) -> list[Store]:
        """The segmenters' stores of the strips with a value of `Table.fold`, which of one fold names its parts."""
        key = fold if len(self.decision.folds) > 1 else self.decision.folds[0]
        if key not in self._opened:
            self._opened[key] = [open_store(self.paths.oof(name, key)) for name in self.decision.segmenters]
        return self._opened[key]


def fold_word(decision: Decision) -> str:
    """What a value of `Table.fold` is called: where a single fold was held out, it names a part of that."""
    return "fold" if len(decision.folds) > 1 else "part"


def true_masks(mask_bits: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The four masks of a bit field (H, W) uint8, (4, H, W)."""
    return np.stack([mask_bits >> k & 1 for k in range(N_CLASSES)]).astype(bool)


def of_training(paths: Paths, image_id: str) -> View:
    """A training strip that was held out."""
    table, _, decision = decided(paths)
    if image_id not in table.image_ids:
        folds = ", ".join(map(str, decision.folds))
        raise UserError(f"show: {image_id} was not held out; allowed: a strip of the decided folds ({folds})")
    return HeldOut(paths, decision).of_row(table, int(np.flatnonzero(table.image_ids == image_id)[0]))


def of_test(paths: Paths, image_id: str) -> View:
    """A test strip under the votes and rules that ship."""
    _, _, decision = decided(paths)
    strips = open_strips(paths.cache, "test")
    for name in models_of(decision):
        if not (paths.test(name) / VALUES).exists():
            raise UserError(f"show: {paths.test(name)} has no {VALUES}: run `steel predict CONFIG` first")
    stores = {name: open_store(paths.test(name)) for name in models_of(decision)}
    for name, store in stores.items():
        if store.image_ids != strips.image_ids:
            raise UserError(f"{paths.test(name)} holds predictions of other strips: run `steel predict CONFIG --force`")
    row = strips.image_ids.index(image_id)
    probs = class_probs([stores[name] for name in decision.gates])
    gate = mean_gate(probs, len(strips.image_ids), decision.blend.gate_counts)[row]
    prob, tail_px = outputs_of([stores[name] for name in decision.segmenters], row).combine(decision.blend)
    names, image = models_of(decision), strips.images[row]
    return View(image_id, "test set", names, image, None, prob, tail_px, gate, decision.tuned)


def models_of(decision: Decision) -> list[str]:
    """Models that a decision asks, segmenters first."""
    return list(dict.fromkeys([*decision.segmenters, *decision.gates]))


def decided(paths: Paths) -> tuple[Table, Table, Decision]:
    """What `decide` wrote, if it is there."""
    if missing := [name for name in (run.TABLE, run.RULES) if not (paths.decide / name).is_file()]:
        raise UserError(f"show: {paths.decide} has no {shorten(missing)}: run `steel decide CONFIG` first")
    run.check_whole(paths.decide)
    return run.load(paths.decide, paths.solution)
