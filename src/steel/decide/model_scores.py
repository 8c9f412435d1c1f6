"""What is known of every model of a solution alone, under the metrics of the study and of the competition."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steel import files
from steel.competition import N_CLASSES
from steel.config import DecideConfig, ModelConfig, Solution
from steel.decide.bootstrap import Interval, intervals_of_models
from steel.decide.combine import Outputs
from steel.decide.ensemble import mean_gate
from steel.decide.evidence import N_LEVELS
from steel.decide.families import PLAIN
from steel.decide.grid import default_grid
from steel.decide.measure import measure_each
from steel.decide.rules import Rules, apply_to_table
from steel.decide.search import apply_rotated, lofo
from steel.decide.table import Table
from steel.errors import UserError
from steel.metrics import Score, dice, score
from steel.progress import track
from steel.study_metrics import SUMS, StudyClassification, StudySegmentation, classification, segmentation, strip_sums

Role = Literal["segmenter", "gate"]

MODELS = "models.json"
STUDY: dict[Role, type[StudySegmentation] | type[StudyClassification]] = {
    "segmenter": StudySegmentation,
    "gate": StudyClassification,
}
# Soft Dice that the study reports, by the name of the net: on a split of its own.
STUDY_FIGURES = {"fcn": 0.5672, "unet_modified": 0.69}


class Alone(NamedTuple):
    """What the maps of m segmenters show of one strip, each alone.

    Attributes:
        sums: (m,) records of SUMS; zeros for a strip without a defect.
        counts: of each its `area_px` and `overlap_px` as in `Table`, packed: dense, those of six models of all training
            strips would take 620 MB. None of a single segmenter, whose map is the ensemble's.
    """

    sums: NDArray
    counts: list[bytes]


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
        rules: how the masks were decided on: "plain", tuned leaving one fold out, or "fixed" where none can be.
        score: the competition's score, on all strips.
        intervals: of its "mean" and its "positive", a bootstrap over the strips; empty: not known.
    """

    name: str
    role: Role
    net: str
    study_figure: float | None
    study: StudySegmentation | StudyClassification
    n_defect: int
    rules: str
    score: Score
    intervals: dict[str, Interval] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain Python values for JSON."""
        bounds = {key: one.as_json() for key, one in self.intervals.items()}
        return {**vars(self), "study": self.study.as_dict(), "score": self.score.as_dict(), "intervals": bounds}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> ModelRow:
        """What `as_dict` gave, through JSON."""
        study, own = ({key: _number(value) for key, value in data[name].items()} for name in ("study", "score"))
        bounds = {
            key: Interval(**{end: _number(value) for end, value in one.items()})
            for key, one in data["intervals"].items()
        }
        parts = {"study": STUDY[data["role"]](**study), "score": Score(**own), "intervals": bounds}
        return ModelRow(**{**data, **parts})


class Judged(NamedTuple):
    """One model alone, and the Dice of each strip and class that its score is the mean of, (n, 4)."""

    row: ModelRow
    dice: NDArray[np.float64]


@dataclass(frozen=True)
class Models:
    """What is known of the models of a solution, beside the score of all.

    Attributes:
        rows: each alone: the segmenters and then the gates, in the order of the solution.
        left_out: what is lost without each, estimated (`left_out.estimate`); None where nothing can be left out.
        correlations: how alike they are (`sample.correlations`); None where there are no two of a kind.
    """

    rows: list[ModelRow]
    left_out: dict[str, Any] | None = None
    correlations: dict[str, Any] | None = None

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        files.write_json(path, {**vars(self), "rows": [row.as_dict() for row in self.rows]})

    @staticmethod
    def load(folder: Path) -> Models:
        """Read what `decide` has written into its folder."""
        path = folder / MODELS
        try:
            found = files.read_json(path)
            return Models(**{**found, "rows": [ModelRow.from_dict(row) for row in found["rows"]]})
        except (FileNotFoundError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} does not tell of the models ({error}): run `steel decide CONFIG --force`"
            ) from None


def look_alone(outputs: Outputs, mask_bits: NDArray[np.uint8]) -> Alone:
    """In a worker: all that is ever asked of each segmenter's own maps, so that they are read once.

    Args:
        outputs: of the m segmenters.
        mask_bits: (256, 1600) uint8.
    """
    maps = outputs.maps
    sums = strip_sums(maps, mask_bits, outputs.levels) if mask_bits.any() else np.zeros(len(maps), SUMS)
    several = measure_each(maps, mask_bits) if len(maps) > 1 else []
    return Alone(sums, [zlib.compress(np.stack(counts[:2]).tobytes(), 1) for counts in several])


def judge_models(
    solution: Solution,
    table: Table,
    alone: Sequence[Alone],
    probs: Sequence[NDArray[np.float64]],
    fixed: Rules,
    group: Sequence[str],
) -> list[Judged]:
    """Judge every model alone, the segmenters and then the gates, each in the order of the solution.

    Args:
        solution: whose models they are.
        table: of all segmenters together, n held-out strips.
        alone: of these, what each segmenter shows.
        probs: (n, 4) class probabilities of each gate.
        fixed: the rules where there is no other fold to tune them on.
        group: duplicate group of each strip.
    """
    defect = table.true_px.any(1)

    def judged(name: str, role: Role, own: Table, study: StudySegmentation | StudyClassification) -> Judged:
        model = solution.models[name]
        rules, (pred_px, overlap_px) = _decide(own, fixed, solution.decide)
        figure = STUDY_FIGURES.get(model.net) if role == "segmenter" else None
        shown = score(pred_px, own.true_px, overlap_px)
        row = ModelRow(name, role, _net(model), figure, study, int(defect.sum()), rules, shown)
        return Judged(row, dice(pred_px, own.true_px, overlap_px))

    found, everywhere = [], np.ones_like(table.gate)
    for i, name in enumerate(track(solution.segmenters, "decide: each segmenter alone", "models")):
        area_px, overlap_px = _counts(alone, i) if alone[0].counts else (table.area_px, table.overlap_px)
        own = replace(table, area_px=area_px, overlap_px=overlap_px, gate=everywhere)
        sums = np.stack([one.sums[i] for one in alone])  # (n,)
        found.append(judged(name, "segmenter", own, segmentation(sums[defect])))
    for name, prob in zip(solution.gates, probs, strict=True):
        own = replace(table, gate=mean_gate([prob], len(table)))
        found.append(judged(name, "gate", own, classification(own.gate[defect], table.true_px[defect] > 0)))
    bounds = intervals_of_models([one.dice for one in found], table.true_px > 0, group)
    return [one._replace(row=replace(one.row, intervals=own)) for one, own in zip(found, bounds, strict=True)]


def _counts(alone: Sequence[Alone], i: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """`area_px` and `overlap_px` (n, 4, 256) of segmenter i."""
    area_px, overlap_px = np.empty((2, len(alone), N_CLASSES, N_LEVELS), np.int32)
    for place, one in enumerate(alone):
        counts = np.frombuffer(zlib.decompress(one.counts[i]), np.int32).reshape(2, N_CLASSES, N_LEVELS)
        area_px[place], overlap_px[place] = counts
    return area_px, overlap_px


def _decide(
    table: Table, fixed: Rules, config: DecideConfig
) -> tuple[str, tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """How it was decided, and the pixels shown and their overlap, each (n, 4)."""
    if len(np.unique(table.fold)) < 2:
        return "fixed", apply_to_table(fixed, table)
    rules = lofo(table, default_grid(table, config.n_area, config.n_gate), (PLAIN,))
    return "plain", apply_rotated(rules, table)


def _net(model: ModelConfig) -> str:
    from steel.nets.study_segmenters import WITHOUT_ENCODER  # torch takes a second to import

    has_encoder = model.kind == "segmenter" and model.net not in WITHOUT_ENCODER
    return f"{model.net}, {model.encoder}" if has_encoder else model.net


def _number(value: Any) -> Any:
    """A value as it was before JSON, which knows neither NaN nor tuples."""
    if isinstance(value, list):
        return tuple(_number(item) for item in value)
    return math.nan if value is None else value
