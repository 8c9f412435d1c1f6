"""The section on every model of a solution alone, under the study's metrics and under the competition's."""

from collections.abc import Sequence

from steel.decide.model_scores import ModelRow, Role
from steel.report.outcomes import WAYS
from steel.report.text import number, text_table

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
