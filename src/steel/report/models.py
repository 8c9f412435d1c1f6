"""Tables of every model of a solution alone, under the study's metrics and under the competition's."""

from collections.abc import Sequence

from steel.decide.model_scores import ModelRow, Role
from steel.report.outcomes import WAYS
from steel.report.section import Numbers
from steel.report.text import number

# By role, the caption of its table, and the head of the column for each of the study's metrics.
PARTS: dict[Role, tuple[str, dict[str, str]]] = {
    "segmenter": (
        "Segmenters under the study's metrics, each without a gate",
        {"soft_dice": "soft Dice", "iou": "mean IoU", "precision": "pixel precision", "recall": "pixel recall"},
    ),
    "gate": (
        "Gates under the study's metrics, each as the only one of all segmenters together",
        {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1"},
    ),
}


def tables(rows: Sequence[ModelRow]) -> list[Numbers]:
    """A table of the segmenters and one of the gates, where there are any."""
    found: list[Numbers] = []
    for role, (caption, columns) in PARTS.items():
        if chosen := [row for row in rows if row.role == role]:
            found.append(_table(chosen, caption, columns, "" if found else _note(chosen[0])))
    return found


def _table(rows: Sequence[ModelRow], caption: str, columns: dict[str, str], note: str) -> Numbers:
    """Rows of one role; the study's figure has a column where there is one."""
    told = any(row.study_figure is not None for row in rows)
    head = ["model", "net", *(["study's figure"] if told else []), *columns.values(), "mean Dice", "positive-only"]
    cells = []
    for row in rows:
        study, competition = row.study.as_dict(), row.score.as_dict()
        figure = [number(row.study_figure)] if told else []
        ours = [number(study[key]) for key in columns]
        cells.append([row.name, row.net, *figure, *ours, f"{row.score.mean:.5f}", number(competition["positive"])])
    return Numbers(caption, head, cells, note)


def _note(one: ModelRow) -> str:
    way = WAYS[one.rules] + (", as there is no other fold to tune them on" if one.rules == "fixed" else "")
    return (
        f"The study's metrics are taken on the {one.n_defect} held-out strips with a defect, at a cut of 0.5; they are "
        f"not the competition's. Mean Dice and positive-only are the competition's, on all {one.score.n_images} "
        f"held-out strips: {way}."
    )
