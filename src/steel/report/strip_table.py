"""The held-out strips one by one, class by class: `strips.csv`, for whoever wants to look further."""

from pathlib import Path

import numpy as np
import pandas as pd

from steel import files
from steel.competition import CLASSES, N_CLASSES
from steel.decide.table import Table
from steel.errors import UserError
from steel.metrics import dice
from steel.report.outcomes import Outcome

FILE = "strips.csv"


def of_outcome(table: Table, outcome: Outcome) -> pd.DataFrame:
    """A row per strip and class: image_id, fold, class_id (1..4), true_px, shown_px, overlap_px, dice, gate."""
    n = len(table)
    return pd.DataFrame(
        {
            "image_id": np.repeat(table.image_ids, N_CLASSES),
            "fold": np.repeat(table.fold, N_CLASSES),
            "class_id": np.tile(CLASSES, n),
            "true_px": table.true_px.ravel(),
            "shown_px": outcome.pred_px.ravel(),
            "overlap_px": outcome.overlap_px.ravel(),
            "dice": dice(outcome.pred_px, table.true_px, outcome.overlap_px).ravel(),
            "gate": table.gate.ravel(),
        }
    )


def save(frame: pd.DataFrame, path: Path) -> None:
    """Write it, whole or not at all."""
    with files.atomic(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")


def load(path: Path) -> pd.DataFrame:
    """Read what `save` wrote."""
    try:
        found = pd.read_csv(path, dtype={"image_id": str})
        return found[["image_id", "class_id", "true_px", "shown_px", "overlap_px"]]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: is no table of strips ({error}): delete it, and run `steel report` again") from None
