"""Every model of a solution alone, under the study's metrics and under the competition's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steel.config import DecideConfig, ModelConfig
from steel.data.cache import Strips, open_strips
from steel.data.folds import fold_of
from steel.decide import run
from steel.decide.combine import Outputs
from steel.decide.decision import Decision
from steel.decide.ensemble import Blend, mean_gate
from steel.decide.families import PLAIN
from steel.decide.grid import default_grid
from steel.decide.held_out import class_probs, map_strips
from steel.decide.measure import measure
from steel.decide.rules import apply_to_table
from steel.decide.search import apply_rotated, lofo
from steel.decide.table import Table
from steel.errors import UserError
from steel.infer.store import open_store
from steel.metrics import Score, score
from steel.paths import Paths
from steel.report.outcomes import WAYS
from steel.report.text import number, text_table
from steel.study_metrics import SUMS, StudyClassification, StudySegmentation, classification, segmentation, strip_sums

Role = Literal["segmenter", "gate"]

# Soft Dice that the study reports, by the name of the net: on a split of its own.
STUDY_FIGURES = {"fcn": 0.5672, "unet_modified": 0.69}

# By role, what is said above its table, and the head of the column for each of the study's metrics.
PARTS: dict[Role, tuple[str, dict[str, str]]] = {
    "segmenter": (
        "Segmenters, each without a gate:",
        {"soft_dice": "soft Dice", "iou": "mean IoU", "precision": "pixel precision", "recall": "pixel recall"},
    ),
    "gate": (
        "Gates, each as the only one of all segmenters together:",
        {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1"},
    ),
}


@dataclass(frozen=True)
class ModelRow:
    """One model alone on the held-out strips; a segmenter with a joint head is two: as segmenter, and as gate.

    Attributes:
        name: the model's name in the solution.
        role: segmenter: its masks without any gate; gate: all segmenters together, gated by this model alone.
        net: its net, and the encoder where it has one.
        study_figure: what the study reports for the net (soft Dice); None: nothing.
        study: ours under the study's metrics, on the strips with a defect.
        n_defect: their number.
        rules: how the masks were decided on, a key of WAYS: plain, or fixed where no fold can be left out.
        score: the competition's score, on all strips.
    """

    name: str
    role: Role
    net: str
    study_figure: float | None
    study: StudySegmentation | StudyClassification
    n_defect: int
    rules: str
    score: Score

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain Python values for JSON."""
        return {**vars(self), "study": self.study.as_dict(), "score": self.score.as_dict()}


def judge_models(paths: Paths, decision: Decision, folds: Sequence[int]) -> list[ModelRow]:
    """Judge every model alone, the segmenters and then the gates, each in the order of the solution.

    Every store of maps is read once. `folds` are those that the table of `decide` was made from.
    """
    held_out = _HeldOut.open(paths, decision, folds)
    segmenters = [held_out.segmenter(name) for name in decision.segmenters]
    return segmenters + [held_out.gate(name) for name in decision.gates]


def as_markdown(rows: Sequence[ModelRow]) -> list[str]:
    """The section of the report: a table of segmenters, and one of gates if there are any; nothing without rows."""
    if not rows:
        return []
    one = rows[0]
    way = WAYS[one.rules] + (", as there is no other fold to tune them on" if one.rules == "fixed" else "")
    lines = [
        "## Models, each alone",
        f"The study's metrics are taken on the {one.n_defect} held-out strips with a defect, at a cut of 0.5; they are "
        f"not the competition's. Mean Dice and positive-only are the competition's, on all {one.score.n_images} "
        f"held-out strips: {way}.",
    ]
    for role, (caption, columns) in PARTS.items():
        chosen = [row for row in rows if row.role == role]
        if chosen:
            lines += [caption, _model_table(chosen, columns)]
    return lines


@dataclass(frozen=True)
class _HeldOut:
    """All held-out strips: the table of all segmenters together, and the rows of the cache by fold."""

    paths: Paths
    decision: Decision
    table: Table
    strips: Strips
    rows: dict[int, NDArray[np.int64]]

    @classmethod
    def open(cls, paths: Paths, decision: Decision, folds: Sequence[int]) -> "_HeldOut":
        path = paths.decide / run.TABLE
        table, strips = Table.load(path), open_strips(paths.cache, "train")
        split = fold_of(paths.folds, strips.image_ids)
        held_out = np.flatnonzero(np.isin(split, folds))
        if [strips.image_ids[row] for row in held_out] != table.image_ids.tolist():
            raise UserError(f"{path} holds other strips than fold {list(folds)}: run `steel decide CONFIG --force`")
        return cls(paths, decision, table, strips, {k: np.flatnonzero(split == k) for k in folds})

    @property
    def order(self) -> NDArray[np.int64]:
        """Places in the order of the table, which is that of the cache, of what is listed fold after fold."""
        return np.argsort(np.concatenate(list(self.rows.values())))

    def segmenter(self, name: str) -> ModelRow:
        """Judge a segmenter: its own maps, every gate open."""
        found = map_strips(self.paths, [name], self.strips, self.rows, _measure, f"report: maps of {name}")
        area_px, overlap_px, sums = (np.stack(arrays)[self.order] for arrays in zip(*found, strict=True))
        everywhere = np.ones_like(self.table.gate)
        alone = replace(self.table, area_px=area_px, overlap_px=overlap_px, gate=everywhere)
        return self._row(name, "segmenter", alone, segmentation(sums[self.table.true_px.any(1)]))

    def gate(self, name: str) -> ModelRow:
        """Judge a gate: the maps of all segmenters together, as the table has them."""
        stores = {k: open_store(self.paths.oof(name, k)) for k in self.rows}
        prob = [mean_gate(class_probs([store]), len(store.image_ids)) for store in stores.values()]
        alone = replace(self.table, gate=np.concatenate(prob)[self.order])
        present = self.table.true_px > 0
        defect = present.any(1)
        return self._row(name, "gate", alone, classification(alone.gate[defect], present[defect]))

    def _row(self, name: str, role: Role, alone: Table, study: StudySegmentation | StudyClassification) -> ModelRow:
        model = self.paths.solution.models[name]
        rules, (pred_px, overlap_px) = _decide(alone, self.decision, self.paths.solution.decide)
        return ModelRow(
            name=name,
            role=role,
            net=_net(model),
            study_figure=STUDY_FIGURES.get(model.net) if role == "segmenter" else None,
            study=study,
            n_defect=int(self.table.true_px.any(1).sum()),
            rules=rules,
            score=score(pred_px, alone.true_px, overlap_px),
        )


def _measure(outputs: Outputs, bits: NDArray[np.uint8]) -> tuple[NDArray, NDArray, NDArray]:
    """In a worker: all that is ever asked of a strip's maps, so that they are read once."""
    prob, _ = outputs.combine(Blend.equal(len(outputs.maps), 0))
    area_px, overlap_px, _ = measure(prob, bits)
    return area_px, overlap_px, strip_sums(prob, bits) if bits.any() else np.zeros((), SUMS)


def _decide(
    table: Table, decision: Decision, config: DecideConfig
) -> tuple[str, tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """How it was decided, a key of WAYS, and the pixels shown and their overlap, each (n, 4)."""
    if len(np.unique(table.fold)) < 2:
        return "fixed", apply_to_table(decision.fixed, table)
    rules = lofo(table, default_grid(table, config.n_area, config.n_gate), (PLAIN,))
    return "plain", apply_rotated(rules, table)


def _net(model: ModelConfig) -> str:
    from steel.nets.study_segmenters import WITHOUT_ENCODER  # torch takes a second to import

    has_encoder = model.kind == "segmenter" and model.net not in WITHOUT_ENCODER
    return f"{model.net}, {model.encoder}" if has_encoder else model.net


def _model_table(rows: Sequence[ModelRow], columns: dict[str, str]) -> str:
    """Rows of one role; the study's figure has a column where there is one."""
    told = any(row.study_figure is not None for row in rows)
    head = ["model", "net", *(["study's figure"] if told else []), *columns.values(), "mean Dice", "positive-only"]
    cells = []
    for row in rows:
        study, competition = row.study.as_dict(), row.score.as_dict()
        figure = [number(row.study_figure)] if told else []
        ours = [number(study[key]) for key in columns]
        cells.append([row.name, row.net, *figure, *ours, f"{row.score.mean:.5f}", number(competition["positive"])])
    return text_table(head, cells)
